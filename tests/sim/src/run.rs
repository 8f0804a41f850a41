//! The tasks of one start of a job, with the gates between them and the ends of their snapshots.
//! Needs: the engine, control's plan. Refuses: to run anything by itself; whoever has it says which task steps when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_control::checkpoint::{Event, StartedTask};
use pelton_control::execution::{ExecutionGraph, plan};
use pelton_engine::build::{JobParts, TaskParts, needs_functions, task};
use pelton_engine::connector::{Sink, Source};
use pelton_engine::function::Functions;
use pelton_engine::shuffle::local::gate;
use pelton_engine::shuffle::{Receiver, Sender};
use pelton_engine::snapshot::{Made, RestoreFrom, SnapshotOutput, SnapshotStore};
use pelton_engine::state::HeapBackend;
use pelton_engine::task::{Step, Task};
use pelton_model::barrier::{Barrier, SnapshotForm};
use pelton_model::checkpoint::{Committable, OperatorRecord, StoredFile, TaskRecord};
use pelton_model::graph::{Body, JobGraph, Needs, needs};
use pelton_model::id::{ChannelId, CheckpointId, OperatorId, TaskId};
use pelton_model::limits::Limits;
use pelton_model::protocol::{TaskCommand, TaskSpec};
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::{Error, Result};

use crate::chance::Chance;
use crate::connectors::{Numbered, TwoPhase};
use crate::functions::Native;
use crate::jobs::Job;
use crate::plan::Plant;
use crate::saved::{self, Saved};
use crate::world::Shared;

/// How a process runs a job.
#[derive(Clone)]
pub struct Setup {
    /// The job.
    pub job: Arc<Job>,
    /// Tasks of each operator.
    pub parallelism: u32,
    /// Key groups.
    pub max_parallelism: u32,
    /// Rows in a batch at most.
    pub batch_rows: usize,
    /// Bytes in a gate.
    pub channel_bytes: usize,
    /// A state file of at most so many bytes stands in the metadata.
    pub inline_bytes: usize,
    /// Which checkpoint folder: a job that moves has another.
    pub folder: u64,
    /// The savepoint that it begins from.
    pub saved: Option<Arc<Saved>>,
    /// A bug.
    pub plant: Option<Plant>,
}

/// What comes of a task's snapshots.
#[derive(Debug)]
pub enum Out {
    /// News for the coordinator.
    Event(Box<Event>),
    /// An object is to be put; after that, news for the coordinator.
    Upload(String, Vec<u8>, Box<Event>),
    /// A last snapshot could not be made.
    Lost(Error),
}

struct Slot {
    task: Option<Task>,
    spec: TaskSpec,
    commands: VecDeque<TaskCommand>,
    /// When it is stepped next, and the turn of that.
    at: Option<u64>,
    turn: u64,
}

/// The tasks of one start.
pub struct Run {
    slots: Vec<Slot>,
    outs: Arc<Mutex<Vec<Out>>>,
    woken: Arc<Mutex<BTreeSet<usize>>>,
}

type Ends = (
    BTreeMap<ChannelId, Box<dyn Sender>>,
    Vec<(Vec<ChannelId>, Box<dyn Receiver>)>,
);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// Makes the tasks. Errors: those of what they go on from.
    pub fn new(
        setup: &Setup,
        term: u64,
        restore: Option<RestoreFrom>,
        world: &Shared,
        chance: &Chance,
    ) -> Result<Self> {
        let graph = &setup.job.graph;
        let needs = needs(graph)?;
        let plan = plan(graph, setup.parallelism, setup.max_parallelism)?;
        let (outs, woken) = (Arc::default(), Arc::default());
        let mut ends = ends(&plan, setup.channel_bytes, &woken);
        let (sources, sinks) = (
            sources(setup, &needs, chance),
            sinks(setup, term, world, chance),
        );
        let limits = Limits::default();
        let parts = JobParts {
            graph,
            needs: &needs,
            sources: &sources,
            sinks: &sinks,
            limits: &limits,
            batch_rows: setup.batch_rows,
            backend: &HeapBackend,
            batch: false,
            alignment: Arc::default(),
            restore,
        };
        let mut slots = Vec::new();
        for spec in &plan.tasks {
            let (senders, gates) = ends.remove(&spec.task).unwrap_or_default();
            let snapshots = Snapshots {
                outs: Arc::clone(&outs),
                about: about(graph, spec),
                term,
                inline_bytes: setup.inline_bytes,
                plant: setup.plant,
                chance: chance.clone(),
                last: None,
            };
            let native = || Box::new(Native::new(chance.clone())) as Box<dyn Functions>;
            let made = TaskParts {
                metrics: &BTreeMap::new(),
                functions: needs_functions(graph, spec).then(native),
                senders,
                gates,
                snapshots: Some(Box::new(snapshots)),
            };
            slots.push(Slot {
                task: Some(task(&parts, spec, made)?),
                spec: spec.clone(),
                commands: VecDeque::new(),
                at: None,
                turn: 0,
            });
        }
        Ok(Self { slots, outs, woken })
    }

    /// How many tasks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The place of a task.
    #[must_use]
    pub fn index(&self, task: TaskId) -> Option<usize> {
        self.slots.iter().position(|s| s.spec.task == task)
    }

    /// The tasks, as the coordinator wants to know them.
    #[must_use]
    pub fn started(&self, graph: &JobGraph) -> Vec<StartedTask> {
        let is_source = |id: &OperatorId| {
            let operator = graph.operator(*id);
            operator.is_some_and(|op| matches!(op.body, Body::Source(_)))
        };
        let started = |slot: &Slot| StartedTask {
            task: slot.spec.task,
            sources: slot.spec.operators.iter().any(is_source),
        };
        self.slots.iter().map(started).collect()
    }

    /// The operators, for the metadata.
    #[must_use]
    pub fn operators(&self, graph: &JobGraph) -> Vec<OperatorRecord> {
        let parallelism = |id: OperatorId| {
            let slot = self.slots.iter().find(|s| s.spec.operators.contains(&id));
            slot.map_or(1, |s| s.spec.parallelism)
        };
        let ids = graph.ids();
        ids.filter_map(|id| {
            let operator = graph.operator(id)?;
            Some(OperatorRecord {
                uid: operator.uid.clone(),
                name: operator.name.clone(),
                parallelism: parallelism(id),
            })
        })
        .collect()
    }

    /// A command for a task; one that has ended does not hear it.
    pub fn command(&mut self, task: usize, command: TaskCommand) {
        if let Some(slot) = self.slots.get_mut(task).filter(|s| s.task.is_some()) {
            slot.commands.push_back(command);
        }
    }

    /// The turn under which the task is to be woken at this time, unless it is woken before anyway.
    pub fn schedule(&mut self, task: usize, at: u64) -> Option<u64> {
        let slot = self.slots.get_mut(task).filter(|s| s.task.is_some())?;
        if slot.at.is_some_and(|before| before <= at) {
            return None;
        }
        slot.at = Some(at);
        slot.turn += 1;
        Some(slot.turn)
    }

    /// Steps a task a few times, if this is its turn. Says when it is to be stepped again: nanoseconds.
    pub fn step(
        &mut self,
        task: usize,
        turn: u64,
        wall: ProcessingTime,
        now: Monotonic,
        chance: &Chance,
    ) -> Result<Option<u64>> {
        let Some(slot) = self.slots.get_mut(task).filter(|s| s.turn == turn) else {
            return Ok(None);
        };
        slot.at = None;
        let Some(task) = &mut slot.task else {
            return Ok(None);
        };
        while let Some(command) = slot.commands.pop_front() {
            task.command(command, wall, now)?;
        }
        let mut step = Step::Ready;
        for _ in 0..chance.between(1, 3) {
            if step == Step::Ready {
                step = task.step(wall, now)?;
            }
        }
        Ok(match step {
            Step::Ready => Some(now.0 + chance.between(10_000, 500_000)),
            Step::Waiting { until, wall } => {
                let wall = wall.map(|w| w.0.max(0) as u64 * 1_000_000);
                let at = until.map(|u| u.0).into_iter().chain(wall).min();
                at.map(|at| at.max(now.0 + 1_000))
            }
            Step::Done => {
                slot.task = None;
                None
            }
        })
    }

    /// What has come of snapshots, and which tasks have something to do.
    pub fn drain(&mut self) -> (Vec<Out>, BTreeSet<usize>) {
        let outs = std::mem::take(&mut *lock(&self.outs));
        (outs, std::mem::take(&mut *lock(&self.woken)))
    }
}

fn sources(setup: &Setup, needs: &Needs, chance: &Chance) -> BTreeMap<OperatorId, Arc<dyn Source>> {
    let open = |(id, rows): (&OperatorId, &crate::connectors::Rows)| {
        let source = Numbered {
            rows: rows.clone(),
            behind: setup.plant == Some(Plant::PositionBehind),
            schema: needs.stream(*id, 0).cloned().unwrap_or_default(),
            chance: chance.clone(),
        };
        (*id, Arc::new(source) as Arc<dyn Source>)
    };
    setup.job.sources.iter().map(open).collect()
}

fn sinks(
    setup: &Setup,
    term: u64,
    world: &Shared,
    chance: &Chance,
) -> BTreeMap<OperatorId, Arc<dyn Sink>> {
    let graph = &setup.job.graph;
    let open = |id: OperatorId| {
        let operator = graph.operator(id)?;
        let Body::Sink(_) = operator.body else {
            return None;
        };
        let sink = TwoPhase {
            uid: operator.uid.clone(),
            start: (setup.folder, term),
            world: Arc::clone(world),
            chance: chance.clone(),
        };
        Some((id, Arc::new(sink) as Arc<dyn Sink>))
    };
    graph.ids().filter_map(open).collect()
}

/// Both ends of each channel, by task. All channels from one task to another make a gate.
fn ends(
    plan: &ExecutionGraph,
    bytes: usize,
    woken: &Arc<Mutex<BTreeSet<usize>>>,
) -> BTreeMap<TaskId, Ends> {
    let mut pairs: BTreeMap<(TaskId, TaskId), Vec<ChannelId>> = BTreeMap::new();
    for (id, c) in plan.channels.iter().enumerate() {
        let channels = pairs.entry((c.source, c.target)).or_default();
        channels.push(ChannelId(id as u32));
    }
    let wake = |task: TaskId| -> pelton_engine::shuffle::Waker {
        let index = plan.tasks.iter().position(|t| t.task == task);
        let woken = Arc::clone(woken);
        Arc::new(move || {
            lock(&woken).extend(index);
        })
    };
    let mut ends: BTreeMap<TaskId, Ends> = BTreeMap::new();
    for ((source, target), channels) in pairs {
        let (senders, receiver) = gate(channels.len(), bytes, wake(target), wake(source));
        let out = &mut ends.entry(source).or_default().0;
        for (id, sender) in channels.iter().zip(senders) {
            out.insert(*id, Box::new(sender));
        }
        let gates = &mut ends.entry(target).or_default().1;
        gates.push((channels, Box::new(receiver)));
    }
    ends
}

/// What the records of a task's snapshots begin with.
fn about(graph: &JobGraph, spec: &TaskSpec) -> TaskRecord {
    let uids = spec.operators.iter().filter_map(|id| graph.operator(*id));
    TaskRecord {
        chain: spec.task.chain.0,
        index: spec.task.index,
        operators: uids.map(|op| op.uid.clone()).collect(),
        key_groups: (spec.key_groups.start, spec.key_groups.end),
        ..TaskRecord::default()
    }
}

struct Snapshots {
    outs: Arc<Mutex<Vec<Out>>>,
    about: TaskRecord,
    term: u64,
    inline_bytes: usize,
    plant: Option<Plant>,
    chance: Chance,
    /// The last barrier whose snapshot was begun.
    last: Option<CheckpointId>,
}

impl SnapshotStore for Snapshots {
    fn begin(&mut self, task: TaskId, barrier: Option<Barrier>) -> Box<dyn SnapshotOutput> {
        let folder = match barrier {
            Some(b) => format!("data/{}/{}", self.term, b.checkpoint.0),
            None => format!("data/{}/last", self.term),
        };
        let snapshot = Snapshot {
            outs: Arc::clone(&self.outs),
            about: self.about.clone(),
            below: match barrier {
                Some(b) if b.form == SnapshotForm::Canonical => {
                    saved::folder(self.term, b.checkpoint)
                }
                _ => String::new(),
            },
            name: format!("{folder}/{}-{}", task.chain.0, task.index),
            inline_bytes: self.inline_bytes,
            plant: self.plant,
            chance: self.chance.clone(),
            task,
            barrier,
            after: self.last,
            bytes: Vec::new(),
        };
        self.last = barrier.map(|b| b.checkpoint).or(self.last);
        Box::new(snapshot)
    }
}

struct Snapshot {
    outs: Arc<Mutex<Vec<Out>>>,
    about: TaskRecord,
    /// What the object's name begins with in the store.
    below: String,
    name: String,
    inline_bytes: usize,
    plant: Option<Plant>,
    chance: Chance,
    task: TaskId,
    barrier: Option<Barrier>,
    after: Option<CheckpointId>,
    bytes: Vec<u8>,
}

impl Snapshot {
    fn event(&self, record: TaskRecord, inline: Vec<u8>) -> Box<Event> {
        let task = self.task;
        Box::new(match self.barrier {
            Some(barrier) => Event::Acknowledged {
                task,
                checkpoint: barrier.checkpoint,
                record,
                inline,
            },
            None => Event::TaskFinished {
                task,
                after: self.after,
                record,
                inline,
            },
        })
    }
}

impl SnapshotOutput for Snapshot {
    fn has_room(&mut self) -> bool {
        !self.chance.happens(200)
    }

    fn write(&mut self, bytes: Vec<u8>) {
        self.bytes.extend(bytes);
    }

    fn finish(mut self: Box<Self>, made: Made) {
        let is_inline = self.bytes.len() <= self.inline_bytes;
        let committables = made.committables.into_iter();
        let committables = committables.map(|(uid, id, payload)| Committable {
            uid,
            checkpoint: id.0,
            payload,
        });
        let newest = self.barrier.map_or(0, |b| b.checkpoint.0);
        let forgets = self.plant == Some(Plant::ForgetPrepared);
        let committables = committables.filter(|c| !forgets || c.checkpoint >= newest);
        let record = TaskRecord {
            finished: self.barrier.is_none(),
            state: Some(StoredFile {
                name: (!is_inline).then(|| self.name.clone()),
                inline: is_inline.then_some(0),
                length: made.length,
                checksum: made.checksum,
            }),
            sections: made.sections,
            committables: committables.collect(),
            ..self.about.clone()
        };
        let bytes = std::mem::take(&mut self.bytes);
        let out = match is_inline {
            true => Out::Event(self.event(record, bytes)),
            false => {
                let name = format!("{}{}", self.below, self.name);
                Out::Upload(name, bytes, self.event(record, Vec::new()))
            }
        };
        lock(&self.outs).push(out);
    }

    fn decline(self: Box<Self>, error: Error) {
        lock(&self.outs).push(match self.barrier {
            Some(barrier) => Out::Event(Box::new(Event::Declined {
                task: self.task,
                checkpoint: barrier.checkpoint,
                error,
            })),
            None => Out::Lost(error),
        });
    }
}
