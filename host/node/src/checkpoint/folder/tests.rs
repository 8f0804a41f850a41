use super::*;
use pelton_model::checkpoint::{StoredFile, TaskRecord};

fn folder() -> Folder {
    Folder::new(Arc::new(pelton_blob::Memory::default()))
}

fn job(name: &str) -> JobRecord {
    JobRecord {
        name: name.into(),
        sources: vec![("in".into(), "files {\"path\":\"a\"}".into())],
        ..JobRecord::default()
    }
}

fn asked(attempt: &str) -> Asked {
    Asked {
        job: job("j"),
        attempt: attempt.into(),
        fresh: false,
        at_ms: 0,
    }
}

fn checkpoint(term: &Term, id: u64) -> Metadata {
    Metadata {
        id,
        attempt: term.attempt.clone(),
        term: term.number,
        job: job("j"),
        savepoint: false,
        finished: false,
        at_ms: 0,
        operators: Vec::new(),
        tasks: Vec::new(),
    }
}

#[test]
fn a_start_goes_on_from_the_last_checkpoint_and_passes_the_one_before() {
    let folder = folder();
    let one = folder.start(&asked("one")).unwrap();
    assert_eq!((one.number, one.from.is_none()), (1, true));
    folder.complete(2, &checkpoint(&one, 2), b"inline").unwrap();
    let two = folder.start(&asked("two")).unwrap();
    assert_eq!(two.number, 3);
    let (from, inline) = two.from.clone().unwrap();
    assert_eq!((from.id, inline.as_slice()), (2, b"inline".as_slice()));
    let error = folder.complete(3, &checkpoint(&one, 3), &[]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Fenced);
    folder.complete(4, &checkpoint(&two, 4), &[]).unwrap();
    folder.complete(4, &checkpoint(&two, 4), &[]).unwrap();
}

#[test]
fn another_job_and_another_input_are_refused_unless_it_is_fresh() {
    let folder = folder();
    folder.start(&asked("one")).unwrap();
    let other = Asked {
        job: job("k"),
        ..asked("two")
    };
    let error = folder.start(&other).err().unwrap();
    assert_eq!(error.code(), ErrorCode::WrongJob);
    let mut input = asked("three");
    input.job.sources[0].1 = "files {\"path\":\"b\"}".into();
    let error = folder.start(&input).err().unwrap();
    assert_eq!(error.code(), ErrorCode::WrongJob);
    assert!(error.help_text().unwrap().contains("--fresh"));
    input.fresh = true;
    assert!(folder.start(&input).unwrap().from.is_none());
}

#[test]
fn a_broken_checkpoint_is_set_aside_and_the_one_before_is_taken() {
    let folder = folder();
    let one = folder.start(&asked("one")).unwrap();
    folder.complete(2, &checkpoint(&one, 2), &[]).unwrap();
    let mut lacking = checkpoint(&one, 3);
    lacking.tasks.push(TaskRecord {
        state: Some(StoredFile {
            name: Some("data/1/3/0-0".into()),
            inline: None,
            length: 3,
            checksum: 0,
        }),
        ..TaskRecord::default()
    });
    folder.complete(3, &lacking, &[]).unwrap();
    let mut bytes = folder.blobs().get(&log_name(2)).unwrap();
    let two = folder.start(&asked("two")).unwrap();
    assert_eq!(two.from.unwrap().0.id, 2);
    assert_eq!(two.broken[0].0, 3);
    folder.blobs().put("data/1/3/0-0", b"abc").unwrap();
    assert_eq!(folder.start(&asked("three")).unwrap().from.unwrap().0.id, 3);
    folder.blobs().put("data/1/3/0-0", b"ab").unwrap();
    bytes[40] ^= 1;
    folder.blobs().put(&log_name(2), &bytes).unwrap();
    let error = folder.start(&asked("four")).err().unwrap();
    assert_eq!(error.code(), ErrorCode::Corrupt);
    let fresh = Asked {
        fresh: true,
        ..asked("five")
    };
    assert!(folder.start(&fresh).unwrap().from.is_none());
}
