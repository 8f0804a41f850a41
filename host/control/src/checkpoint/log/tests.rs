use super::*;
use pelton_model::checkpoint::{StoredFile, TaskRecord, encode};

fn started(attempt: &str) -> Result<Vec<u8>> {
    encode(
        &LogEntry::Start(Start {
            attempt: attempt.into(),
            job: JobRecord::default(),
            from: None,
            savepoint: None,
            at_ms: 0,
        }),
        &[],
    )
}

/// A checkpoint with these objects, of a byte each.
fn checkpoint(id: u64, objects: &[&str]) -> Result<Vec<u8>> {
    let task = |name: &&str| TaskRecord {
        state: Some(StoredFile {
            name: Some((*name).to_owned()),
            inline: None,
            length: 1,
            checksum: 0,
        }),
        ..TaskRecord::default()
    };
    let metadata = Metadata {
        id,
        attempt: String::new(),
        term: 1,
        job: JobRecord::default(),
        savepoint: false,
        finished: false,
        at_ms: 0,
        operators: Vec::new(),
        tasks: objects.iter().map(task).collect(),
    };
    encode(&LogEntry::Checkpoint(Box::new(metadata)), &[])
}

fn log(entries: Vec<Result<Vec<u8>>>, objects: &[&str]) -> Log {
    let info = |name: &&str| BlobInfo {
        name: (*name).to_owned(),
        length: 1,
    };
    let contents = Contents {
        entries: (1..).zip(entries).collect(),
        objects: objects.iter().map(info).collect(),
    };
    Log::new(contents, &BTreeMap::new()).unwrap()
}

#[test]
fn what_no_entry_refers_to_is_nobodys_if_its_term_is_over() {
    let log = log(
        vec![
            started("one"),
            checkpoint(2, &["data/1/2/0-0", "shared/1/2/a", "shared/1/old"]),
            started("three"),
            checkpoint(9, &["data/3/9/0-0", "data/3/last/1-0", "data/3/9/1-0"]),
        ],
        &[
            "data/1/2/0-0",
            "data/1/3/0-0",
            "data/1/3/0-0-op/CURRENT",
            "data/1/last/1-0",
            // One of checkpoint 9 is missing: it is broken, and may be mended.
            "data/3/9/0-0",
            "data/3/last/1-0",
            "data/3/10/0-0",
            // Of starts that came while this was read, and of this one.
            "data/5/9/0-0",
            "data/6/9/0-0",
            "shared/1/2/a",
            "shared/1/3/b",
            "shared/1/old",
            "shared/1/older",
            "shared/1/last/c",
            "shared/5/9/d",
        ],
    );
    assert_eq!(log.broken[0].0, 4);
    let wants = [
        "data/1/3/0-0",
        "data/1/3/0-0-op/CURRENT",
        "data/1/last/1-0",
        "data/3/10/0-0",
        "shared/1/3/b",
        "shared/1/last/c",
        "shared/1/older",
    ];
    assert_eq!(log.orphans(5), wants);
    assert_eq!((log.identity(), log.last_checkpoint()), (Some("one"), 9));
}

#[test]
fn what_is_no_object_of_a_checkpoint_is_not_looked_at() {
    let strange = [
        "data/1/x",
        "data/one/2/x",
        "data/1/two/x",
        "data/0-0",
        "shared/1/2/3/4",
        // Savepoints that somebody has put here.
        "data/1/2/metadata",
        "data/1/2/0-0",
        "data/1/2/data/1/3/0-0",
        "shared/1/metadata",
        "shared/1/2/a",
    ];
    let log = log(vec![started("one"), started("two")], &strange);
    assert_eq!(log.orphans(3), Vec::<String>::new());
}

#[test]
fn an_entry_that_cannot_be_read_may_refer_to_all_that_is_older() {
    let mut torn = checkpoint(4, &["data/1/4/0-0"]).unwrap();
    torn.truncate(50);
    let objects = ["data/1/4/0-0", "data/1/5/0-0", "data/3/4/0-0"];
    let log = log(
        vec![started("one"), Ok(torn), started("three"), started("four")],
        &objects,
    );
    assert_eq!(log.orphans(5), ["data/3/4/0-0"]);
    assert_eq!(log.broken[0].0, 2);
}

#[test]
fn what_cannot_be_read_now_is_an_error_and_what_has_gone_is_not() {
    let error = |code| Err(Error::new(code, "why"));
    let read = |entry| {
        let contents = Contents {
            entries: vec![(1, started("one")), (2, entry)],
            objects: Vec::new(),
        };
        Log::new(contents, &BTreeMap::new())
    };
    let gone = read(error(ErrorCode::NotFound)).unwrap();
    assert_eq!((gone.last, gone.broken.len()), (2, 0));
    let code = read(error(ErrorCode::StoreUnavailable)).unwrap_err().code();
    assert_eq!(code, ErrorCode::StoreUnavailable);
}
