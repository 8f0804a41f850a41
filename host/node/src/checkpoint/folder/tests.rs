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

/// Takes whatever there is.
fn any(_: Option<&Metadata>) -> Result<()> {
    Ok(())
}

fn asked(attempt: &str) -> Asked {
    Asked {
        job: job("j"),
        attempt: attempt.into(),
        fresh: false,
        savepoint: None,
        since: None,
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
    let one = folder.start(&asked("one"), &any).unwrap();
    assert_eq!((one.number, one.from.is_none()), (1, true));
    folder.complete(2, &checkpoint(&one, 2), b"inline").unwrap();
    let two = folder.start(&asked("two"), &any).unwrap();
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
    folder.start(&asked("one"), &any).unwrap();
    let other = Asked {
        job: job("k"),
        ..asked("two")
    };
    let error = folder.start(&other, &any).err().unwrap();
    assert_eq!(error.code(), ErrorCode::WrongJob);
    let mut input = asked("three");
    input.job.sources[0].1 = "files {\"path\":\"b\"}".into();
    let error = folder.start(&input, &any).err().unwrap();
    assert_eq!(error.code(), ErrorCode::WrongJob);
    assert!(error.help_text().unwrap().contains("--fresh"));
    input.fresh = true;
    assert!(folder.start(&input, &any).unwrap().from.is_none());
}

#[test]
fn a_broken_checkpoint_is_set_aside_and_the_one_before_is_taken() {
    let folder = folder();
    let one = folder.start(&asked("one"), &any).unwrap();
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
    let two = folder.start(&asked("two"), &any).unwrap();
    assert_eq!(two.from.unwrap().0.id, 2);
    assert_eq!(two.broken[0].0, 3);
    folder.blobs().put("data/1/3/0-0", b"abc").unwrap();
    assert_eq!(
        folder
            .start(&asked("three"), &any)
            .unwrap()
            .from
            .unwrap()
            .0
            .id,
        3
    );
    folder.blobs().put("data/1/3/0-0", b"ab").unwrap();
    bytes[40] ^= 1;
    folder.blobs().put(&log_name(2), &bytes).unwrap();
    let error = folder.start(&asked("four"), &any).err().unwrap();
    assert_eq!(error.code(), ErrorCode::Corrupt);
    let fresh = Asked {
        fresh: true,
        ..asked("five")
    };
    assert!(folder.start(&fresh, &any).unwrap().from.is_none());
}

#[test]
fn a_checkpoint_that_was_tried_and_found_damaged_counts_as_broken() {
    let mut folder = folder();
    let one = folder.start(&asked("one"), &any).unwrap();
    folder.complete(2, &checkpoint(&one, 2), &[]).unwrap();
    folder.complete(3, &checkpoint(&one, 3), &[]).unwrap();
    let two = folder.start(&asked("two"), &any).unwrap();
    assert_eq!(two.chosen(), Some(3));
    let damaged = Error::new(ErrorCode::Corrupt, "a block is damaged");
    folder.set_aside(3, damaged.clone());
    let three = folder.start(&asked("three"), &any).unwrap();
    assert_eq!((three.chosen(), three.broken.len()), (Some(2), 1));
    folder.set_aside(2, damaged);
    let error = folder.start(&asked("four"), &any).err().unwrap();
    assert_eq!(error.code(), ErrorCode::Corrupt);
}

#[test]
fn a_start_from_a_savepoint_goes_on_with_its_own_checkpoints_when_it_is_repeated() {
    let folder = folder();
    let old = folder.start(&asked("old"), &any).unwrap();
    folder.complete(2, &checkpoint(&old, 2), &[]).unwrap();
    let from = |attempt: &str, savepoint: &str| Asked {
        savepoint: Some(savepoint.into()),
        ..asked(attempt)
    };
    // The folder's own checkpoint is of another history, also after a start that made none.
    for (attempt, term) in [("one", 3), ("two", 4)] {
        let term_of = folder.start(&from(attempt, "s/1"), &any).unwrap();
        assert_eq!((term_of.number, term_of.from.is_none()), (term, true));
    }
    let three = folder.start(&from("three", "s/1"), &any).unwrap();
    folder.complete(6, &checkpoint(&three, 7), &[]).unwrap();
    for attempt in ["four", "five"] {
        let term = folder.start(&from(attempt, "s/1"), &any).unwrap();
        assert_eq!(term.from.unwrap().0.id, 7, "{attempt}");
    }
    assert!(
        folder
            .start(&from("six", "s/2"), &any)
            .unwrap()
            .from
            .is_none()
    );
    assert_eq!(
        folder
            .start(&asked("seven"), &any)
            .unwrap()
            .from
            .unwrap()
            .0
            .id,
        7
    );
}

#[test]
fn other_inputs_are_accepted_with_a_savepoint_until_there_are_checkpoints() {
    let folder = folder();
    folder.start(&asked("one"), &any).unwrap();
    let mut other = asked("two");
    other.job.sources[0].1 = "files {\"path\":\"b\"}".into();
    other.savepoint = Some("s/1".into());
    let two = folder.start(&other, &any).unwrap();
    let mut made = checkpoint(&two, 3);
    made.job = other.job.clone();
    folder.complete(3, &made, &[]).unwrap();
    other.job.sources[0].1 = "files {\"path\":\"c\"}".into();
    let error = folder.start(&other, &any).err().unwrap();
    assert_eq!(error.code(), ErrorCode::WrongJob);
}

#[test]
fn a_restart_within_a_process_that_began_anew_does_not_go_back_before_it() {
    let folder = folder();
    let old = folder.start(&asked("old"), &any).unwrap();
    folder.complete(2, &checkpoint(&old, 2), &[]).unwrap();
    let mut fresh = Asked {
        fresh: true,
        ..asked("one")
    };
    let one = folder.start(&fresh, &any).unwrap();
    fresh.since = Some(one.number);
    let two = folder.start(&fresh, &any).unwrap();
    assert!(two.from.is_none());
    folder.complete(5, &checkpoint(&two, 5), &[]).unwrap();
    assert_eq!(folder.start(&fresh, &any).unwrap().from.unwrap().0.id, 5);
}

#[test]
fn nothing_is_taken_where_what_is_chosen_does_not_fit() {
    let folder = folder();
    let one = folder.start(&asked("one"), &any).unwrap();
    folder.complete(2, &checkpoint(&one, 2), &[]).unwrap();
    let refuse = |chosen: Option<&Metadata>| {
        assert_eq!(chosen.unwrap().id, 2);
        Err(Error::new(ErrorCode::StateMismatch, "no"))
    };
    assert!(folder.start(&asked("two"), &refuse).is_err());
    assert_eq!(folder.read().unwrap().last, 2);
}
