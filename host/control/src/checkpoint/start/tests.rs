use super::*;

fn asked(attempt: &str) -> Asked {
    Asked {
        job: JobRecord {
            name: "j".into(),
            ..JobRecord::default()
        },
        attempt: attempt.into(),
        fresh: false,
        savepoint: None,
        since: None,
        at_ms: 0,
    }
}

fn any(_: Option<&Metadata>) -> Result<()> {
    Ok(())
}

fn contents(entries: &[(u64, &[u8])]) -> StartEvent {
    let entries = entries.iter().map(|(n, bytes)| (*n, Ok(bytes.to_vec())));
    StartEvent::Read(Ok(Contents {
        entries: entries.collect(),
        objects: Vec::new(),
    }))
}

#[track_caller]
fn put(action: StartAction) -> (u64, Vec<u8>) {
    match action {
        StartAction::Put { number, bytes } => (number, bytes),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn begun(action: StartAction) -> u64 {
    match action {
        StartAction::Begin(term) => term.number,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(action: StartAction) -> ErrorCode {
    match action {
        StartAction::Refuse(error) => error.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_next_number_is_taken_and_read_back_where_something_stands_there() {
    let (mut one, first) = Starting::new(asked("one"), BTreeMap::new());
    assert!(matches!(first, StartAction::Read));
    let (number, ours) = put(one.step(contents(&[]), &any));
    assert_eq!(number, 1);
    // Another was faster.
    let (mut two, _) = Starting::new(asked("two"), BTreeMap::new());
    let (_, theirs) = put(two.step(contents(&[]), &any));
    let back = one.step(StartEvent::Put(Ok(PutNew::Exists)), &any);
    assert!(matches!(back, StartAction::ReadBack { number: 1 }));
    let again = one.step(StartEvent::ReadBack(Ok(theirs.clone())), &any);
    assert!(matches!(again, StartAction::Read));
    let (number, ours_then) = put(one.step(contents(&[(1, &theirs)]), &any));
    assert_eq!((number, &ours_then), (2, &ours));
    // The reply to a put was lost, and it was tried again.
    one.step(StartEvent::Put(Ok(PutNew::Exists)), &any);
    let look = one.step(StartEvent::ReadBack(Ok(ours)), &any);
    assert!(matches!(look, StartAction::Look));
    assert_eq!(begun(one.step(StartEvent::Last(Ok(2)), &any)), 2);
}

/// It stood still between reading and putting; the checkpoint that had the number is retired by now.
#[test]
fn a_number_that_was_taken_and_is_free_again_makes_no_term() {
    let (mut start, _) = Starting::new(asked("one"), BTreeMap::new());
    let (number, ours) = put(start.step(contents(&[]), &any));
    assert_eq!(number, 1);
    let look = start.step(StartEvent::Put(Ok(PutNew::Created)), &any);
    assert!(matches!(look, StartAction::Look));
    let again = start.step(StartEvent::Last(Ok(4)), &any);
    assert!(matches!(again, StartAction::Read));
    let (number, _) = put(start.step(contents(&[(1, &ours), (4, &ours)]), &any));
    assert_eq!(number, 5);
    start.step(StartEvent::Put(Ok(PutNew::Created)), &any);
    assert_eq!(begun(start.step(StartEvent::Last(Ok(5)), &any)), 5);
}

#[test]
fn an_entry_that_has_gone_before_it_is_read_back_was_not_ours() {
    let (mut start, _) = Starting::new(asked("one"), BTreeMap::new());
    put(start.step(contents(&[]), &any));
    start.step(StartEvent::Put(Ok(PutNew::Exists)), &any);
    let gone = Error::new(ErrorCode::NotFound, "gone");
    let next = start.step(StartEvent::ReadBack(Err(gone)), &any);
    assert!(matches!(next, StartAction::Read));
}

#[test]
fn what_the_store_or_the_job_refuses_ends_the_start() {
    let no = |code| Error::new(code, "no");
    let (mut start, _) = Starting::new(asked("one"), BTreeMap::new());
    let read = StartEvent::Read(Err(no(ErrorCode::StoreFailed)));
    assert_eq!(refused(start.step(read, &any)), ErrorCode::StoreFailed);
    let misfits = |_: Option<&Metadata>| Err(no(ErrorCode::StateMismatch));
    let refusal = start.step(contents(&[]), &misfits);
    assert_eq!(refused(refusal), ErrorCode::StateMismatch);
    put(start.step(contents(&[]), &any));
    let failed = StartEvent::Put(Err(no(ErrorCode::StoreUnavailable)));
    assert_eq!(
        refused(start.step(failed, &any)),
        ErrorCode::StoreUnavailable
    );
    // What nobody asked for is a bug, not a start.
    let (mut start, _) = Starting::new(asked("one"), BTreeMap::new());
    let early = start.step(StartEvent::Last(Ok(0)), &any);
    assert_eq!(refused(early), ErrorCode::Bug);
}

#[test]
fn what_stands_under_a_number_says_who_was_there() {
    let metadata = |attempt: &str, id| Metadata {
        id,
        attempt: attempt.into(),
        term: 1,
        job: JobRecord::default(),
        savepoint: false,
        finished: false,
        at_ms: 0,
        operators: Vec::new(),
        tasks: Vec::new(),
    };
    let entry = |attempt, id| {
        let entry = LogEntry::Checkpoint(Box::new(metadata(attempt, id)));
        encode(&entry, &[]).unwrap()
    };
    let found = |there: &[u8]| StoreOutcome::found(there, "one", CheckpointId(7));
    assert!(matches!(found(&entry("one", 7)), StoreOutcome::Created));
    assert!(matches!(found(&entry("one", 6)), StoreOutcome::Late));
    assert!(matches!(found(&entry("two", 7)), StoreOutcome::Fenced));
    assert!(matches!(found(b"torn"), StoreOutcome::Fenced));
}
