//! A task whose last barrier has passed waits to be told to end: its sources wake nobody.

use pelton_model::barrier::{Barrier, BarrierMode, SnapshotForm};
use pelton_model::id::{ChainId, CheckpointId, TaskId};
use pelton_model::key::KeyGroupRange;
use pelton_model::limits::Limits;
use pelton_model::protocol::TaskCommand;
use pelton_model::time::{Monotonic, ProcessingTime};

use super::super::*;
use super::job::{MAX, Parts, Store};
use crate::chain::{Node, Part};
use crate::connector::Position;
use crate::operator::NoFunctions;

/// Always to be asked again a millisecond later.
struct Quiet;

impl SourceReader for Quiet {
    fn poll(&mut self, now: Monotonic, _rows_max: usize) -> Result<Poll> {
        Ok(Poll::Later(now.plus_ms(1)))
    }
    fn progress(&self) -> SourceProgress {
        SourceProgress::default()
    }
    fn positions(&self) -> Vec<Position> {
        Vec::new()
    }
}

#[test]
fn after_the_last_barrier_sources_wake_nobody() {
    let task = TaskId {
        chain: ChainId(0),
        index: 0,
    };
    let head = Head {
        node: 0,
        uid: "source".into(),
        reader: Box::new(Quiet),
        splits: Splits::new(vec![String::new()]),
        paused: Vec::new(),
        metrics: OperatorMetrics::new(),
    };
    let node = Node {
        name: "source".into(),
        uid: "source".into(),
        metrics: OperatorMetrics::new(),
        channels: Vec::new(),
        targets: Vec::new(),
        operator: None,
    };
    let parts = Parts::default();
    let durable = Durable {
        task,
        part: Part {
            task: 0,
            parallelism: 1,
            key_groups: KeyGroupRange::of_task(0, 1, MAX),
        },
        store: Box::new(Store(parts.clone())),
        restore: None,
        in_flight: Default::default(),
    };
    let mut quiet = Task::new(
        Chain::new(vec![node], Vec::new()),
        (vec![head], Vec::new()),
        Vec::new(),
        Box::new(NoFunctions),
        Limits::default(),
        10,
        Some(durable),
    );
    let at = |ms| Monotonic(0).plus_ms(ms);
    let until = |until| Step::Waiting { until, wall: None };
    let step = quiet.step(ProcessingTime(0), at(0)).unwrap();
    assert_eq!(step, until(Some(at(1))));
    let barrier = Barrier {
        checkpoint: CheckpointId(1),
        form: SnapshotForm::Native,
        mode: BarrierMode::Aligned,
        last: true,
    };
    let command = TaskCommand::Checkpoint(barrier);
    quiet.command(command, ProcessingTime(0), at(5)).unwrap();
    let settled = (0..10).map(|_| quiet.step(ProcessingTime(0), at(5)).unwrap());
    assert_eq!(settled.last(), Some(until(None)));
    assert!(parts.finished(task, Some(CheckpointId(1))));
}
