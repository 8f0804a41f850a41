//! The state machine, move by move: what it is told on the left, what it wants done on the right.

mod chance;
mod endings;
mod objects;

use super::*;
use pelton_model::barrier::{Barrier, BarrierMode, SnapshotForm};
use pelton_model::checkpoint::{
    Committable, Metadata, NativeFile, NativeState, StoredFile, TaskRecord, log_name,
};
use pelton_model::id::{ChainId, CheckpointId, TaskId};
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode};
use std::sync::Arc;

/// Task 0 is a source, task 1 is not.
fn task(index: u32) -> TaskId {
    TaskId {
        chain: ChainId(index),
        index: 0,
    }
}

fn at(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn start(tasks: u32) -> Started {
    Started {
        tasks: (0..tasks)
            .map(|i| StartedTask {
                task: task(i),
                sources: i % 2 == 0,
            })
            .collect(),
        attempt: "a".into(),
        term: 1,
        at_ms: 1_000_000,
        ..Started::default()
    }
}

fn every_second() -> CheckpointSettings {
    CheckpointSettings {
        interval_ms: Some(1_000),
        timeout_ms: 10_000,
        retained: 1,
        tolerated_failures: 1,
        ..CheckpointSettings::default()
    }
}

fn file(name: &str) -> StoredFile {
    StoredFile {
        name: Some(name.into()),
        inline: None,
        length: 1,
        checksum: 1,
    }
}

/// A record with a state file, shared files by checkpoint and identity, and committables that were prepared at these
/// checkpoints.
fn record(state: &str, shared: &[&str], prepared: &[u64]) -> TaskRecord {
    let files = shared.iter().map(|name| NativeFile {
        name: name.rsplit_once('/').map_or(*name, |(_, name)| name).into(),
        file: file(&format!("shared/1/{name}")),
    });
    let native = NativeState {
        uid: "op".into(),
        format: "rocksdb-1".into(),
        sections: vec![],
        files: files.collect(),
    };
    TaskRecord {
        state: (!state.is_empty()).then(|| file(state)),
        native: if shared.is_empty() {
            vec![]
        } else {
            vec![native]
        },
        committables: prepared
            .iter()
            .map(|checkpoint| Committable {
                uid: "sink".into(),
                checkpoint: *checkpoint,
                payload: vec![*checkpoint as u8],
            })
            .collect(),
        ..TaskRecord::default()
    }
}

fn ack(index: u32, checkpoint: u64, record: TaskRecord) -> Event {
    Event::Acknowledged {
        task: task(index),
        checkpoint: CheckpointId(checkpoint),
        record,
        inline: vec![],
    }
}

fn acked(index: u32, checkpoint: u64) -> Event {
    ack(
        index,
        checkpoint,
        record(&format!("data/1/{checkpoint}/{index}"), &[], &[]),
    )
}

fn finished(index: u32, after: Option<u64>, record: TaskRecord) -> Event {
    Event::TaskFinished {
        task: task(index),
        after: after.map(CheckpointId),
        record,
        inline: vec![],
    }
}

fn stored(checkpoint: u64, outcome: StoreOutcome) -> Event {
    Event::Stored {
        checkpoint: CheckpointId(checkpoint),
        outcome,
    }
}

fn created(checkpoint: u64) -> Event {
    stored(checkpoint, StoreOutcome::Created)
}

fn committed(checkpoint: u64) -> Event {
    Event::Committed {
        checkpoint: CheckpointId(checkpoint),
    }
}

fn error(code: ErrorCode) -> Error {
    Error::new(code, "why")
}

fn declined(index: u32, checkpoint: u64) -> Event {
    Event::Declined {
        task: task(index),
        checkpoint: CheckpointId(checkpoint),
        error: error(ErrorCode::StateFailed),
    }
}

/// An action in a few words.
fn say(action: &Action) -> String {
    match action {
        Action::Trigger { barrier, tasks } => {
            let tasks: Vec<String> = tasks.iter().map(|t| t.chain.0.to_string()).collect();
            let kind = match (barrier.form, barrier.last) {
                (SnapshotForm::Canonical, _) => "savepoint ",
                (_, true) => "last ",
                _ => "",
            };
            format!(
                "trigger {kind}{} at {}",
                barrier.checkpoint.0,
                tasks.join(" ")
            )
        }
        Action::Store {
            number, metadata, ..
        } => {
            let last = if metadata.finished { " final" } else { "" };
            format!("store {number}: {}{last}", metadata.id)
        }
        Action::CommitSinks {
            checkpoint,
            committables,
        } => {
            let of: Vec<String> = committables
                .iter()
                .map(|c| c.checkpoint.to_string())
                .collect();
            format!("commit {} [{}]", checkpoint.0, of.join(" "))
        }
        Action::NotifyCompleted { checkpoint } => format!("completed {}", checkpoint.0),
        Action::NotifyAborted { checkpoint, .. } => format!("aborted {}", checkpoint.0),
        Action::DeleteObjects { names } => format!("delete {}", names.join(" ")),
        Action::DeleteAll { number, names } => format!("delete all {number}: {}", names.join(" ")),
        Action::StoreSavepoint {
            request,
            metadata,
            copies,
            ..
        } => {
            assert!(metadata.savepoint);
            format!("store savepoint {request} [{}]", copies.join(" "))
        }
        Action::SavepointCompleted { request } => format!("savepoint {request}"),
        Action::SavepointFailed { request, .. } => format!("no savepoint {request}"),
        Action::DeleteSavepointObjects { request, names } => {
            format!("delete of savepoint {request} {}", names.join(" "))
        }
        Action::FailJob { error } => format!("fail {}", error.code()),
        Action::Stopped { checkpoint } => format!("stopped {}", checkpoint.0),
        Action::StopFailed { error } => format!("stop failed {}", error.code()),
        Action::Finished => "finished".into(),
    }
}

struct Machine(Coordinator);

impl Machine {
    fn new(settings: CheckpointSettings, start: Started) -> Self {
        settings.check().unwrap();
        Self(Coordinator::new(settings, start, at(0)))
    }

    #[track_caller]
    fn step(&mut self, ms: u64, event: Event, wants: &[&str]) -> &mut Self {
        let actions = self.0.step(at(ms), event);
        let said: Vec<String> = actions.iter().map(say).collect();
        assert_eq!(said, wants, "at {ms} ms");
        self
    }

    #[track_caller]
    fn wakes(&mut self, ms: Option<u64>) -> &mut Self {
        assert_eq!(self.0.next_wake(), ms.map(at));
        self
    }

    /// Checkpoint `id` of two tasks, without anything to commit, triggered by a tick.
    fn completes(&mut self, ms: u64, id: u64, number: u64) {
        self.step(ms, Event::Tick, &[&format!("trigger {id} at 0")]);
        self.step(ms, acked(0, id), &[]);
        self.step(ms, acked(1, id), &[&format!("store {number}: {id}")]);
        let actions = self.0.step(at(ms), created(id));
        assert_eq!(say(&actions[0]), format!("completed {id}"));
    }
}

#[test]
fn a_checkpoint_from_trigger_to_completion() {
    let mut m = Machine::new(every_second(), start(2));
    m.wakes(Some(1_000));
    m.step(999, Event::Tick, &[]);
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.wakes(Some(11_000));
    m.step(1_010, ack(1, 2, record("d/1", &[], &[2])), &[]);
    let first = ack(0, 2, record("d/0", &[], &[]));
    m.step(1_020, first, &["store 2: 2"]);
    m.wakes(None);
    m.step(1_030, created(2), &["commit 2 [2]"]);
    m.step(1_040, committed(2), &["completed 2"]);
    m.wakes(Some(2_000));
    // The next one replaces it: entry first, then what it alone had.
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(2_000, acked(0, 3), &[]);
    m.step(2_000, acked(1, 3), &["store 3: 3"]);
    let gone = format!("delete {} d/0 d/1", log_name(2));
    m.step(2_000, created(3), &["completed 3", &gone]);
}

#[test]
fn the_metadata_has_everything() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_500, Event::Tick, &["trigger 2 at 0"]);
    let inline = |length| StoredFile {
        name: None,
        inline: Some(0),
        length,
        checksum: 0,
    };
    for (index, bytes) in [(1, b"two".to_vec()), (0, b"one!".to_vec())] {
        let record = TaskRecord {
            state: Some(inline(bytes.len() as u64)),
            ..TaskRecord::default()
        };
        let event = Event::Acknowledged {
            task: task(index),
            checkpoint: CheckpointId(2),
            record,
            inline: bytes,
        };
        let actions = m.0.step(at(1_600), event);
        let Some(Action::Store {
            number,
            metadata,
            inline,
        }) = actions.first()
        else {
            assert_eq!(index, 1);
            continue;
        };
        assert_eq!((*number, inline.as_slice()), (2, b"one!two".as_slice()));
        assert_eq!((metadata.id, metadata.term), (2, 1));
        assert_eq!(
            (metadata.at_ms, metadata.attempt.as_str()),
            (1_001_500, "a")
        );
        let places: Vec<_> = metadata.objects().map(|f| f.inline.unwrap()).collect();
        assert_eq!(places, [0, 4]);
        assert_eq!((metadata.tasks[1].chain, metadata.tasks[1].index), (1, 0));
    }
}

#[test]
fn the_pause_and_the_users_wish() {
    let settings = CheckpointSettings {
        min_pause_ms: 5_000,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(2));
    m.completes(1_000, 2, 2);
    m.wakes(Some(6_000));
    m.step(5_999, Event::Tick, &[]);
    m.step(5_999, Event::TriggerNow, &["trigger 3 at 0"]);
    m.step(6_000, Event::TriggerNow, &[]);
    m.step(6_000, acked(0, 3), &[]);
    m.step(6_000, acked(1, 3), &["store 3: 3"]);
    let gone = format!("delete {} data/1/2/0 data/1/2/1", log_name(2));
    // The wish that had to wait.
    m.step(6_000, created(3), &["completed 3", &gone, "trigger 4 at 0"]);
}

#[test]
fn several_at_once_are_put_one_by_one_and_later_ones_subsume() {
    let settings = CheckpointSettings {
        max_concurrent: 3,
        ..every_second()
    };
    let mut m = Machine::new(settings, start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(2_000, Event::Tick, &["trigger 3 at 0"]);
    m.step(3_000, Event::Tick, &["trigger 4 at 0"]);
    m.step(4_000, Event::Tick, &[]);
    m.step(4_000, acked(0, 2), &[]);
    for id in [3, 4] {
        m.step(4_000, acked(0, id), &[]);
    }
    // The later one is complete first; a third one waits for the end of its put.
    m.step(4_000, acked(1, 3), &["store 2: 3"]);
    m.step(4_000, acked(1, 4), &[]);
    let wants = [
        "aborted 2",
        "delete data/1/2/0",
        "completed 3",
        "trigger 5 at 0",
        "trigger 6 at 0",
        "store 3: 4",
    ];
    // What was due in the meantime is due once.
    m.step(
        4_000,
        created(3),
        &[wants[0], wants[1], wants[2], wants[3], wants[5]],
    );
    // What comes too late is deleted.
    m.step(4_000, acked(1, 2), &["delete data/1/2/1"]);
}

#[test]
fn failures_are_borne_up_to_a_number() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_100, declined(1, 2), &["aborted 2", "delete data/1/2/0"]);
    m.completes(2_000, 3, 2);
    m.step(3_000, Event::Tick, &["trigger 4 at 0"]);
    m.step(12_999, Event::Tick, &[]);
    m.step(13_000, Event::Tick, &["aborted 4", "trigger 5 at 0"]);
    m.step(13_000, declined(0, 5), &["aborted 5", "fail PLT-0406"]);
    m.wakes(None);
    m.step(20_000, Event::Tick, &[]);
    m.step(20_000, Event::Ended(Ending::Restart), &[]);
}

#[test]
fn an_answer_counts_once() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, declined(0, 2), &[]);
    m.step(1_000, acked(1, 2), &["store 2: 2"]);
    m.step(1_000, acked(1, 2), &[]);
    m.step(1_000, created(2), &["completed 2"]);
    m.step(1_000, created(2), &[]);
    m.step(1_000, committed(2), &[]);
    m.step(1_000, acked(1, 2), &[]);
    m.step(1_000, acked(7, 2), &["delete data/1/2/7"]);
}

#[test]
fn a_process_that_was_passed_says_no_more() {
    let mut m = Machine::new(every_second(), start(2));
    m.step(1_000, Event::Tick, &["trigger 2 at 0"]);
    m.step(1_000, acked(0, 2), &[]);
    m.step(1_000, ack(1, 2, record("d", &[], &[2])), &["store 2: 2"]);
    m.step(1_000, stored(2, StoreOutcome::Fenced), &["fail PLT-0604"]);
    m.wakes(None);
    m.step(9_000, Event::Tick, &[]);
    m.step(9_000, created(2), &[]);
    m.step(9_000, Event::Ended(Ending::Cancelled), &[]);
    assert!(m.0.is_settled());
}

#[test]
fn ids_are_above_all_that_were_given() {
    let before = |id: u64, number: u64| Completed {
        number,
        metadata: Arc::new(Metadata {
            id,
            tasks: vec![record("old", &["6/x"], &[])],
            ..empty()
        }),
    };
    for (term, ids_above, wants) in [(7, 0, 41), (50, 0, 51), (7, 60, 61)] {
        let start = Started {
            term,
            ids_above,
            previous: vec![before(40, 6)],
            ..start(1)
        };
        let mut m = Machine::new(every_second(), start);
        assert!(m.0.known_file("x").is_some());
        m.step(1_000, Event::Tick, &[&format!("trigger {wants} at 0")]);
        let put = format!("store {}: {wants}", term + 1);
        m.step(1_000, ack(0, wants, record("a", &[], &[])), &[&put]);
        let gone = format!("delete {} old shared/1/6/x", log_name(6));
        m.step(
            1_000,
            created(wants),
            &[&format!("completed {wants}"), &gone],
        );
        assert_eq!(m.0.last_id(), wants);
    }
}

fn empty() -> Metadata {
    Metadata {
        id: 0,
        attempt: String::new(),
        term: 0,
        job: Default::default(),
        savepoint: false,
        finished: false,
        at_ms: 0,
        operators: vec![],
        tasks: vec![],
    }
}

#[test]
fn barriers_are_as_the_settings_say() {
    let barrier = |mode: BarrierMode, event: Event| {
        let settings = CheckpointSettings {
            mode,
            ..CheckpointSettings::default()
        };
        let mut m = Machine::new(settings, start(1));
        match m.0.step(at(0), event).first() {
            Some(Action::Trigger { barrier, .. }) => *barrier,
            other => panic!("{other:?}"),
        }
    };
    let mode = BarrierMode::Unaligned { after_ms: 9 };
    let wants = |form, mode, last| Barrier {
        checkpoint: CheckpointId(2),
        form,
        mode,
        last,
    };
    let (native, canonical) = (SnapshotForm::Native, SnapshotForm::Canonical);
    assert_eq!(barrier(mode, Event::TriggerNow), wants(native, mode, false));
    assert_eq!(barrier(mode, Event::Stop), wants(native, mode, true));
    assert_eq!(
        barrier(mode, Event::SavepointRequested { request: 1 }),
        wants(canonical, BarrierMode::Aligned, false)
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let ok = CheckpointSettings::default;
    for wrong in [
        CheckpointSettings {
            interval_ms: Some(0),
            ..ok()
        },
        CheckpointSettings {
            timeout_ms: 0,
            ..ok()
        },
        CheckpointSettings {
            max_concurrent: 0,
            ..ok()
        },
        CheckpointSettings {
            retained: 0,
            ..ok()
        },
        CheckpointSettings {
            max_concurrent: 2,
            mode: BarrierMode::Unaligned { after_ms: 0 },
            ..ok()
        },
    ] {
        assert_eq!(wrong.check().unwrap_err().code(), ErrorCode::Usage);
    }
    assert!(ok().check().is_ok());
}
