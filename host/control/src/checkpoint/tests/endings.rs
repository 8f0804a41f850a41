//! Tasks that end, jobs that are stopped, and savepoints.

use super::*;

fn savepoint(request: u64) -> Event {
    Event::SavepointRequested { request }
}

fn savepoint_stored(request: u64) -> Event {
    Event::SavepointStored {
        request,
        result: Ok(()),
    }
}

#[test]
fn a_task_that_has_ended_counts_with_its_last_record() {
    let mut m = Machine::new(every_second(), start(4));
    m.step(1_000, Event::Tick, &["trigger 2 at 0 2"]);
    // It ended before the barrier came.
    m.step(1_000, finished(2, None, record("end", &[], &[1])), &[]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, acked(1, 2), &[]);
    m.step(1_000, acked(3, 2), &["store 2: 2"]);
    m.step(1_000, created(2), &["commit 2 [1]"]);
    m.step(1_000, committed(2), &["completed 2"]);
    // It is asked no more, and what it prepared is committed already; its objects stay.
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    for i in [0, 1] {
        m.step(2_000, acked(i, 3), &[]);
    }
    m.step(2_000, acked(3, 3), &["store 3: 3"]);
    let gone = format!("delete {} data/1/2/0 data/1/2/1 data/1/2/3", log_name(2));
    m.step(2_000, created(3), &["completed 3", &gone]);
    let newest = m.0.kept().last().unwrap();
    let ended: Vec<bool> = newest.metadata.tasks.iter().map(|t| t.finished).collect();
    assert_eq!(ended, [false, false, true, false]);
}

#[test]
fn a_task_that_ended_after_the_barrier_still_owes_its_part() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    // Its part is still being uploaded: the last record has rows from after the barrier.
    m.step(1_000, finished(0, Some(2), record("end", &[], &[])), &[]);
    m.step(1_000, acked(1, 2), &[]);
    m.step(1_000, acked(0, 2), &["store 2: 2"]);
    let names = |m: &Machine| {
        let newest = m.0.kept().last().unwrap();
        let names = newest.metadata.objects().map(|f| f.name.clone().unwrap());
        names.collect::<Vec<_>>()
    };
    m.step(1_000, created(2), &["completed 2"]);
    assert_eq!(names(&m), ["data/1/2/0", "data/1/2/1"]);
    // Without sources that run, barriers have nowhere to begin.
    m.wakes(None);
    m.step(5_000, Event::Tick, &[]);
}

#[test]
fn a_job_whose_tasks_have_all_ended_has_a_final_checkpoint() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, finished(0, None, record("e0", &[], &[])), &[]);
    let wants = ["store 2: 2"];
    m.step(1_000, acked(1, 2), &wants);
    m.step(1_100, finished(1, Some(2), record("e1", &[], &[2, 3])), &[]);
    // The final one follows the one that is being put, and its commit.
    m.step(1_100, created(2), &["completed 2", "store 3: 3 final"]);
    let gone = format!("delete {} data/1/2/1", log_name(2));
    m.step(1_100, created(3), &["commit 3 [2 3]", &gone]);
    m.step(1_200, committed(3), &["finished"]);
    m.wakes(None);
    m.step(9_000, Event::Ended(Ending::Cancelled), &[]);
    assert!(m.0.kept().last().unwrap().metadata.finished);
}

#[test]
fn what_is_under_way_when_all_tasks_end_is_given_up_for_the_final_one() {
    let settings = CheckpointSettings {
        interval_ms: None,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(2));
    m.step(0, Event::TriggerNow, &["trigger 2 at 0"]);
    m.step(0, acked(0, 2), &[]);
    m.step(0, finished(0, Some(2), record("e0", &[], &[])), &[]);
    let wants = ["aborted 2", "delete data/1/2/0", "store 2: 3 final"];
    m.step(0, finished(1, None, record("e1", &[], &[])), &wants);
    m.step(0, created(3), &["finished"]);
}

#[test]
fn the_final_checkpoint_is_tried_again() {
    let mut m = Machine::new(every_second(), start(1));
    m.step(
        100,
        finished(0, None, record("e", &[], &[])),
        &["store 2: 2 final"],
    );
    let failed = || StoreOutcome::Failed(error(ErrorCode::StoreUnavailable));
    m.step(100, stored(2, failed()), &["aborted 2"]);
    m.wakes(Some(1_100));
    m.step(1_100, Event::Tick, &["store 2: 3 final"]);
    m.step(1_100, stored(3, failed()), &["aborted 3", "fail PLT-0406"]);
    m.step(1_100, Event::Ended(Ending::Restart), &[]);
}

#[test]
fn a_job_without_tasks_is_finished() {
    let mut m = Machine::new(every_second(), start(0));
    m.step(0, Event::Tick, &["store 2: 2 final"]);
    m.step(0, created(2), &["finished"]);
}

#[test]
fn a_stop_takes_a_last_checkpoint_at_once() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_100, Event::Stop, &["aborted 2", "trigger last 3 at 0"]);
    m.step(1_100, Event::Stop, &[]);
    m.step(2_500, Event::TriggerNow, &[]);
    m.step(2_500, savepoint(1), &["no savepoint 1"]);
    m.step(2_500, ack(0, 3, record("a", &[], &[3])), &[]);
    // It ended since it was told to: there is more to do after the next start.
    let event = finished(0, Some(3), record("end", &[], &[]));
    m.step(2_500, event, &["delete end"]);
    m.step(2_500, acked(1, 3), &["store 2: 3"]);
    m.step(2_500, created(3), &["commit 3 [3]"]);
    m.step(2_500, committed(3), &["completed 3", "stopped 3"]);
    assert!(!m.0.kept().last().unwrap().metadata.finished);
}

#[test]
fn a_stop_that_fails_says_so() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(100, Event::Stop, &["trigger last 2 at 0"]);
    m.step(100, declined(1, 2), &["aborted 2", "stop failed PLT-0403"]);
    m.step(100, Event::Ended(Ending::Cancelled), &[]);
    let mut m = Machine::new(every_second(), start(2));
    m.step(100, Event::Stop, &["trigger last 2 at 0"]);
    m.step(10_100, Event::Tick, &["aborted 2", "stop failed PLT-0406"]);
}

#[test]
fn a_job_that_ends_by_itself_while_it_is_stopped_is_finished() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(100, Event::Stop, &["trigger last 2 at 0"]);
    m.step(100, finished(0, None, record("e0", &[], &[])), &[]);
    let wants = ["aborted 2", "store 2: 3 final"];
    m.step(100, finished(1, None, record("e1", &[], &[])), &wants);
    m.step(100, created(3), &["finished"]);
    // Nobody runs who could begin a last one.
    let mut m = Machine::new(every_second(), start(2));
    m.step(100, finished(0, None, record("e0", &[], &[])), &[]);
    m.step(100, Event::Stop, &[]);
    let event = finished(1, None, record("e1", &[], &[]));
    m.step(100, event, &["store 2: 2 final"]);
}

#[test]
fn a_savepoint_stands_beside_the_checkpoints() {
    let mut m = Machine::new(every_second(), start(4));
    m.step(100, finished(2, None, record("end", &["last/x"], &[])), &[]);
    m.step(200, savepoint(7), &["trigger savepoint 2 at 0"]);
    m.step(200, ack(0, 2, record("s0", &[], &[2])), &[]);
    m.step(200, acked(3, 2), &[]);
    let copies = "store savepoint 7 [end shared/1/last/x]";
    m.step(200, acked(1, 2), &[copies]);
    // While it is written, checkpoints go on; nothing is committed, and nothing of it is deleted.
    m.step(1_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(1_000, savepoint_stored(7), &["savepoint 7"]);
    m.step(1_000, savepoint_stored(7), &[]);
    m.step(1_000, ack(0, 3, record("c0", &[], &[2, 3])), &[]);
    m.step(1_000, acked(3, 3), &[]);
    m.step(1_000, acked(1, 3), &["store 2: 3"]);
    m.step(1_000, created(3), &["commit 3 [2 3]"]);
}

#[test]
fn a_savepoint_waits_for_room_and_goes_first() {
    let mut m = Machine::new(every_second(), start(1));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_500, savepoint(1), &[]);
    m.step(1_500, savepoint(2), &[]);
    m.step(2_500, acked(0, 2), &["store 2: 2"]);
    let wants = ["completed 2", "trigger savepoint 3 at 0"];
    m.step(2_500, created(2), &wants);
    let wants = ["store savepoint 1 []", "trigger savepoint 4 at 0"];
    m.step(2_500, acked(0, 3), &wants);
    let wants = ["store savepoint 2 []", "trigger 5 at 0"];
    m.step(2_500, acked(0, 4), &wants);
}

#[test]
fn a_savepoint_that_fails_is_cleaned_up_and_no_failure_of_checkpoints() {
    let mut m = Machine::new(every_second(), start(2));
    for (request, id) in [(1, 2), (2, 3), (3, 4)] {
        m.step(
            0,
            savepoint(request),
            &[&format!("trigger savepoint {id} at 0")],
        );
        m.step(0, ack(0, id, record("s0", &[], &[])), &[]);
        let aborted = format!("aborted {id}");
        let delete = format!("delete of savepoint {request} s0");
        let no = format!("no savepoint {request}");
        m.step(0, declined(1, id), &[&aborted, &delete, &no]);
        // A task that has not heard of it yet.
        let late = format!("delete of savepoint {request} s1");
        m.step(0, ack(1, id, record("s1", &[], &[])), &[&late]);
    }
    m.step(0, savepoint(4), &["trigger savepoint 5 at 0"]);
    m.step(0, ack(0, 5, record("s0", &[], &[])), &[]);
    let store = "store savepoint 4 []";
    m.step(0, ack(1, 5, record("s1", &[], &[])), &[store]);
    let event = Event::SavepointStored {
        request: 4,
        result: Err(error(ErrorCode::StoreFailed)),
    };
    m.step(0, event, &["delete of savepoint 4 s0 s1", "no savepoint 4"]);
    m.step(0, savepoint(5), &["trigger savepoint 6 at 0"]);
    let wants = ["aborted 6", "no savepoint 5", "trigger 7 at 0"];
    m.step(10_000, Event::Tick, &wants);
}

#[test]
fn the_end_leaves_what_is_complete_or_may_be() {
    let mut m = Machine::new(every_second(), start(2));
    m.completes(1_000, 2, 2);
    m.step(2_000, savepoint(1), &["trigger savepoint 3 at 0"]);
    m.step(2_000, ack(0, 3, record("s0", &[], &[])), &[]);
    let wants = ["delete of savepoint 1 s0", "no savepoint 1"];
    m.step(2_100, Event::Ended(Ending::Restart), &wants);
    m.step(2_100, savepoint(2), &["no savepoint 2"]);
    assert!(m.0.is_settled() && m.0.kept().count() == 1);
}

#[test]
fn cancelling_with_delete_waits_for_puts_and_commits() {
    let settings = CheckpointSettings {
        on_cancel: Retention::Delete,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(1));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    let part = ack(0, 2, record("a", &["2/x"], &[2]));
    m.step(1_000, part, &["store 2: 2"]);
    m.step(1_000, Event::Ended(Ending::Cancelled), &[]);
    assert!(!m.0.is_settled());
    m.step(1_000, created(2), &["commit 2 [2]"]);
    let all = format!("delete all 3: {} a shared/1/2/x", log_name(2));
    m.step(1_000, committed(2), &[&all]);
    assert!(m.0.is_settled());
}

#[test]
fn cancelling_keeps_by_default() {
    let mut m = Machine::new(every_second(), start(2));
    m.completes(1_000, 2, 2);
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(2_000, ack(0, 3, record("a", &["3/x"], &[])), &[]);
    let wants = ["delete a shared/1/3/x"];
    m.step(2_000, Event::Ended(Ending::Cancelled), &wants);
    m.step(
        2_000,
        ack(1, 3, record("b", &["3/y"], &[])),
        &["delete b shared/1/3/y"],
    );
    assert_eq!(m.0.kept().count(), 1);
}
