use super::*;
use pelton_model::checkpoint::JobRecord;
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

/// A record with one object.
fn part(name: &str, length: u64) -> TaskRecord {
    TaskRecord {
        state: Some(StoredFile {
            name: Some(name.into()),
            inline: None,
            length,
            checksum: 0,
        }),
        ..TaskRecord::default()
    }
}

/// Removes what a start found to be nobody's, as its driver does.
fn collect(folder: &Folder, term: &Term) {
    for name in &term.orphans {
        folder.blobs().delete(name).unwrap();
    }
    for prefix in ["data", "shared"] {
        folder.blobs().sweep(prefix).unwrap();
    }
}

fn objects(folder: &Folder) -> Vec<String> {
    let all = folder.blobs().list("").unwrap().into_iter();
    let names = all.map(|info| info.name);
    names.filter(|name| !name.starts_with("log/")).collect()
}

/// Of two processes one dies, or stands still, in the middle of its uploads; the other one collects what is left, and
/// nothing that anybody may still show.
#[test]
fn what_a_process_has_stored_for_nothing_is_collected_by_the_next() {
    let local = tempfile::tempdir().unwrap();
    let url = format!("file://{}", local.path().display());
    for url in ["memory://orphans", url.as_str()] {
        let store = pelton_blob::open(url, &pelton_blob::Settings::default()).unwrap();
        let folder = Folder::new(store);
        let put = |name: &str| folder.blobs().put(name, b"x").unwrap();
        let one = folder.start(&asked("one"), &any).unwrap();
        put("data/1/2/0-0");
        put("shared/1/2/a");
        let mut complete = checkpoint(&one, 2);
        complete.tasks = vec![part("data/1/2/0-0", 1), part("shared/1/2/a", 1)];
        folder.complete(2, &complete, &[]).unwrap();
        // Of the next one some of it is stored when the second process takes over.
        put("data/1/3/0-0");
        put("shared/1/3/b");
        // A savepoint that somebody keeps in the same place.
        put("mine/metadata");
        put("mine/data/1/3/0-0");
        if url.starts_with("file") {
            let half = local.path().join("data/1/4");
            std::fs::create_dir_all(&half).unwrap();
            std::fs::write(half.join(".tmp-1-2"), b"half").unwrap();
        }
        let two = folder.start(&asked("two"), &any).unwrap();
        assert_eq!(two.orphans, ["data/1/3/0-0", "shared/1/3/b"]);
        put("data/3/4/0-0");
        // The first one goes on for a while: what it stores now is for the next start to collect.
        put("data/1/3/1-0");
        collect(&folder, &two);
        let mut passed = checkpoint(&one, 3);
        passed.tasks = vec![part("data/1/3/0-0", 1), part("data/1/3/1-0", 1)];
        let error = folder.complete(3, &passed, &[]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Fenced);
        let mut complete = checkpoint(&two, 4);
        complete.tasks = vec![part("data/3/4/0-0", 1), part("shared/1/2/a", 1)];
        folder.complete(4, &complete, &[]).unwrap();
        let left = [
            "data/1/2/0-0",
            "data/1/3/1-0",
            "data/3/4/0-0",
            "mine/data/1/3/0-0",
            "mine/metadata",
            "shared/1/2/a",
        ];
        assert_eq!(objects(&folder), left, "{url}");
        assert!(!local.path().join("data/1/4").exists());
        let three = folder.start(&asked("three"), &any).unwrap();
        assert_eq!(three.orphans, ["data/1/3/1-0"]);
        assert_eq!(three.earlier.len(), 2);
        assert_eq!((three.log.as_str(), two.log.as_str()), ("one", "one"));
    }
}
