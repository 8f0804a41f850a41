//! What sinks commit, and which objects are deleted when.

use super::*;

#[test]
fn sinks_commit_in_order_and_what_was_carried_along_once() {
    let settings = CheckpointSettings {
        max_concurrent: 2,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, ack(1, 2, record("a", &[], &[2])), &["store 2: 2"]);
    m.step(1_000, created(2), &["commit 2 [2]"]);
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(2_000, acked(0, 3), &[]);
    m.step(2_000, ack(1, 3, record("b", &[], &[2, 3])), &["store 3: 3"]);
    // The commit of the one before is under way, and it is kept for that long.
    m.step(2_000, created(3), &[]);
    m.step(3_000, Event::Tick, &[]);
    let gone = format!("delete {} data/1/2/0 a", log_name(2));
    let wants = ["completed 2", &gone, "commit 3 [3]", "trigger 4 at 0"];
    m.step(3_000, committed(2), &wants);
    m.step(3_000, committed(3), &["completed 3"]);
}

#[test]
fn a_commit_that_fails_fails_the_job_and_spares_everything() {
    let settings = CheckpointSettings {
        on_failure: Retention::Delete,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, ack(1, 2, record("a", &[], &[2])), &["store 2: 2"]);
    m.step(1_000, created(2), &["commit 2 [2]"]);
    let event = Event::CommitFailed {
        checkpoint: CheckpointId(2),
        error: error(ErrorCode::OutputFailed),
    };
    m.step(1_000, event, &["fail PLT-0401"]);
    m.step(1_000, Event::Ended(Ending::Failed), &[]);
}

#[test]
fn shared_files_go_with_the_last_that_has_them() {
    let mut m = Machine::new(every_second(), start(1));
    let files = |m: &Machine| {
        let known = |f: &&&str| m.0.known_file(f).is_some();
        ["x", "y", "z"]
            .iter()
            .filter(known)
            .copied()
            .collect::<String>()
    };
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(
        1_000,
        ack(0, 2, record("a", &["2/x", "2/y"], &[])),
        &["store 2: 2"],
    );
    assert_eq!(files(&m), "");
    m.step(1_000, created(2), &["completed 2"]);
    assert_eq!(files(&m), "xy");
    assert_eq!(
        m.0.known_file("x").unwrap().name.as_deref(),
        Some("shared/1/2/x")
    );
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(
        2_000,
        ack(0, 3, record("b", &["2/y", "3/z"], &[])),
        &["store 3: 3"],
    );
    let gone = format!("delete {} a shared/1/2/x", log_name(2));
    m.step(2_000, created(3), &["completed 3", &gone]);
    assert_eq!(files(&m), "yz");
}

#[test]
fn shared_files_of_one_that_was_given_up_go_at_once_and_no_later_one_has_them() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, ack(0, 2, record("a", &["2/x", "2/y"], &[])), &[]);
    let gone = "delete a shared/1/2/x shared/1/2/y";
    m.step(1_000, declined(1, 2), &["aborted 2", gone]);
    // The next one stores `y` again, under another name: the deletion cannot reach it, whenever it is carried out.
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(2_000, acked(1, 3), &[]);
    m.step(
        2_000,
        ack(0, 3, record("b", &["3/y"], &[])),
        &["store 2: 3"],
    );
    m.step(2_000, created(3), &["completed 3"]);
    let known = m.0.known_file("y").unwrap();
    assert_eq!(known.name.as_deref(), Some("shared/1/3/y"));
}

#[test]
fn a_part_that_refers_to_what_was_given_up_meanwhile_is_none() {
    let settings = CheckpointSettings {
        max_concurrent: 2,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(1));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(
        1_000,
        ack(0, 2, record("a", &["2/x"], &[])),
        &["store 2: 2"],
    );
    m.step(1_000, created(2), &["completed 2"]);
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(3_000, Event::Tick, &["trigger 4 at 0"]);
    // While 4 finds that `x` is stored already, 3 is complete without it.
    m.step(3_000, ack(0, 3, record("b", &[], &[])), &["store 3: 3"]);
    let gone = format!("delete {} a shared/1/2/x", log_name(2));
    m.step(3_000, created(3), &["completed 3", &gone]);
    let part = ack(0, 4, record("c", &["2/x", "4/y"], &[]));
    let gone = "delete c shared/1/2/x shared/1/4/y";
    m.step(3_000, part, &[gone, "aborted 4"]);
    // A last one cannot be made again.
    let last = finished(0, None, record("end", &["2/x"], &[]));
    m.step(3_000, last, &["delete end shared/1/2/x", "fail PLT-0406"]);
}

#[test]
fn what_is_nobodys_goes_at_the_start() {
    let held = Completed {
        number: 3,
        metadata: Arc::new(Metadata {
            id: 3,
            tasks: vec![record("old", &["3/x"], &[])],
            ..empty()
        }),
    };
    let started = Started {
        term: 7,
        previous: vec![held],
        orphans: vec!["data/1/4/0-0".into(), "old".into()],
        ..start(1)
    };
    let mut m = Machine::new(every_second(), started);
    m.step(0, Event::Tick, &["delete data/1/4/0-0"]);
}

#[test]
fn a_put_without_a_known_end_keeps_its_objects() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, acked(1, 2), &["store 2: 2"]);
    let lost = || StoreOutcome::Failed(error(ErrorCode::StoreUnavailable));
    m.step(1_000, stored(2, lost()), &["aborted 2"]);
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(2_000, acked(0, 3), &[]);
    // The same number again: only one of the two can ever have it.
    m.step(2_000, acked(1, 3), &["store 2: 3"]);
    let gone = "delete data/1/2/0 data/1/2/1";
    m.step(2_000, created(3), &[gone, "completed 3"]);
}

#[test]
fn a_put_that_comes_after_its_end_restarts_the_job_from_it() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, acked(1, 2), &["store 2: 2"]);
    let lost = StoreOutcome::Failed(error(ErrorCode::StoreUnavailable));
    m.step(1_000, stored(2, lost), &["aborted 2"]);
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(2_000, acked(0, 3), &[]);
    m.step(2_000, acked(1, 3), &["store 2: 3"]);
    m.step(2_000, stored(3, StoreOutcome::Late), &["fail PLT-0406"]);
    // Only what is surely not in the log goes.
    let gone = "delete data/1/3/0 data/1/3/1";
    m.step(2_000, Event::Ended(Ending::Restart), &[gone]);
}

#[test]
fn a_commit_in_work_outlives_the_tasks() {
    let settings = CheckpointSettings {
        max_concurrent: 2,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(2));
    for (ms, id, number) in [(1_000, 2, 2), (2_000, 3, 3)] {
        m.step(ms, Event::Tick, &[&format!("trigger {id} at 0")]);
        m.step(ms, acked(0, id), &[]);
        let store = format!("store {number}: {id}");
        m.step(ms, ack(1, id, record("", &[], &[id])), &[&store]);
        let commit = ["commit 2 [2]"];
        m.step(ms, created(id), if id == 2 { &commit } else { &[] });
    }
    m.step(2_000, Event::Ended(Ending::Restart), &[]);
    assert!(!m.0.is_settled());
    // The second is for the next start to commit.
    let gone = format!("delete {} data/1/2/0", log_name(2));
    m.step(2_000, committed(2), &[&gone]);
    assert!(m.0.is_settled());
}
