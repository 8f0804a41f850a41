//! A job of real tasks in one thread: two sources, a keyed operator with two inputs, a sink that can be blocked. Its
//! coordinator is the test, its checkpoints stay in memory, and its rows are known by number, so that a lost, doubled or
//! disordered one is seen.

mod toys;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pelton_model::barrier::{Barrier, BarrierMode, SnapshotForm};
use pelton_model::checkpoint::{JobRecord, Metadata, OperatorRecord, StoredFile, TaskRecord};
use pelton_model::graph::{Body, Connector, Edge, JobGraph, Operator as Spec, Output, Partition};
use pelton_model::id::{ChainId, CheckpointId, OperatorId, TaskId};
use pelton_model::key::KeyGroupRange;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::snapshot::SectionKind;
use pelton_model::time::{Monotonic, ProcessingTime};

use super::super::*;
use crate::chain::{Entry, Node, Part, Target};
use crate::in_flight::{self, Way, is_pinned};
use crate::operator::{NoFunctions, Operator};
use crate::operators::sink::SinkOperator;
use crate::shuffle::Sender;
use crate::shuffle::local::gate;
use crate::shuffle::partition::Partitioner;
use crate::snapshot::memory::MemoryBlobs;
use crate::snapshot::{Made, RestoreFrom, SnapshotOutput, SnapshotStore};
use toys::{Count, Reader, Writer};

pub(super) const MAX: u32 = 16;
pub(super) const KEYS: i64 = 7;
const SPLITS: u32 = 3;
const UIDS: [&str; 4] = ["left", "right", "count", "sink"];

/// Key, source, split, number within the split.
pub(super) type Row = (i64, i64, i64, i64);

/// What outlives a crash, and what the test turns.
#[derive(Default)]
pub(super) struct World {
    pub(super) blocked: AtomicBool,
    pub(super) processed: AtomicUsize,
    /// Rows of complete checkpoints, with which one of its key each was.
    pub(super) committed: Mutex<Vec<(Row, i64)>>,
}

/// How large the job is.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) tasks: u32,
    /// Rows of each split of each source.
    pub(super) rows: [i64; 2],
    pub(super) channel_bytes: usize,
    pub(super) way: fn(Vec<String>) -> Partition,
}

pub(super) struct Job {
    pub(super) tasks: Vec<(TaskId, Task, bool)>,
    pub(super) parts: Parts,
    pub(super) world: Arc<World>,
    pub(super) now: Monotonic,
    size: Size,
    committed: BTreeSet<(TaskId, CheckpointId)>,
    pub(super) next: u64,
}

#[derive(Clone, Default)]
pub(super) struct Parts(Arc<Mutex<BTreeMap<PartOf, Written>>>);

/// Which task's, and of which checkpoint; without one it is its last.
type PartOf = (TaskId, Option<CheckpointId>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    made: Option<Made>,
}

pub(super) struct Store(pub(super) Parts);
struct PartOutput(Parts, PartOf);

impl SnapshotStore for Store {
    fn begin(&mut self, task: TaskId, barrier: Option<Barrier>) -> Box<dyn SnapshotOutput> {
        let of = (task, barrier.map(|b| b.checkpoint));
        self.0.0.lock().unwrap().insert(of, Written::default());
        Box::new(PartOutput(self.0.clone(), of))
    }
}

impl SnapshotOutput for PartOutput {
    fn has_room(&mut self) -> bool {
        true
    }
    fn write(&mut self, bytes: Vec<u8>) {
        let mut parts = self.0.0.lock().unwrap();
        parts.get_mut(&self.1).unwrap().bytes.extend(bytes);
    }
    fn finish(self: Box<Self>, made: Made) {
        self.0.0.lock().unwrap().get_mut(&self.1).unwrap().made = Some(made);
    }
    fn decline(self: Box<Self>, error: Error) {
        panic!("{error:?}");
    }
}

impl Parts {
    pub(super) fn finished(&self, task: TaskId, checkpoint: Option<CheckpointId>) -> bool {
        let parts = self.0.lock().unwrap();
        parts
            .get(&(task, checkpoint))
            .is_some_and(|w| w.made.is_some())
    }

    /// Entries in flight of a checkpoint, over all tasks.
    pub(super) fn in_flight(&self, checkpoint: CheckpointId) -> u64 {
        let parts = self.0.lock().unwrap();
        let of = parts.iter().filter(|((_, c), _)| *c == Some(checkpoint));
        let sections = of.flat_map(|(_, w)| w.made.iter().flat_map(|m| &m.sections));
        let them = sections.filter(|s| s.spec.kind == SectionKind::InFlight);
        them.map(|s| s.entries).sum()
    }
}

fn schema() -> Schema {
    let names = ["k", "source", "split", "n", "count"];
    Schema::new(names.map(|n| Field::new(n, DataType::I64)).to_vec())
}

fn graph(size: Size) -> JobGraph {
    let connector = Connector {
        name: "c".into(),
        options: Default::default(),
        schema: schema(),
    };
    let operators = UIDS.map(|uid| Spec {
        uid: uid.into(),
        name: uid.into(),
        parallelism: None,
        body: Body::Source(connector.clone()),
        outputs: vec![Output {
            name: "main".into(),
            schema: schema(),
        }],
    });
    let edge = |from, to, input, partition| Edge {
        source: (OperatorId(from), 0),
        target: (OperatorId(to), input),
        partition,
    };
    JobGraph {
        name: "j".into(),
        operators: operators.to_vec(),
        edges: vec![
            edge(0, 2, 0, Partition::Key(vec!["k".into()])),
            edge(1, 2, 1, Partition::Key(vec!["k".into()])),
            edge(2, 3, 0, (size.way)(vec!["k".into()])),
        ],
        params: vec![],
        parallelism: None,
        max_parallelism: None,
    }
}

impl Job {
    pub(super) fn new(size: Size, world: &Arc<World>, restore: Option<&RestoreFrom>) -> Self {
        let graph = graph(size);
        let mut senders: BTreeMap<TaskId, Sends> = BTreeMap::new();
        let mut receivers: BTreeMap<TaskId, Receives> = BTreeMap::new();
        let id = |chain, index| TaskId {
            chain: ChainId(chain),
            index,
        };
        let none = || Arc::new(|| {}) as crate::shuffle::Waker;
        let forward = |edge: usize| graph.edges[edge].partition == Partition::Forward;
        for (edge, (from, to)) in [(0, 2), (1, 2), (2, 3)].into_iter().enumerate() {
            for source in 0..size.tasks {
                let reached = (0..size.tasks).filter(|t| !forward(edge) || *t == source);
                let ends = reached.map(|target| {
                    let (mut tx, rx) = gate(1, size.channel_bytes, none(), none());
                    let gates = receivers.entry(id(to, target)).or_default();
                    gates.push((edge as u32, Box::new(rx)));
                    Box::new(tx.pop().unwrap()) as Box<dyn Sender>
                });
                senders
                    .entry(id(from, source))
                    .or_default()
                    .push(ends.collect());
            }
        }
        let parts = Parts::default();
        let mut tasks = Vec::new();
        for chain in 0..4 {
            for index in 0..size.tasks {
                let task = id(chain, index);
                let sends = senders.remove(&task).unwrap_or_default();
                let receives = receivers.remove(&task).unwrap_or_default();
                let durable = (parts.clone(), restore);
                let made = make(task, size, &graph, (sends, receives), durable, world);
                tasks.push((task, made, false));
            }
        }
        let next = restore.map_or(1, |r| r.metadata.id + 1);
        Self {
            tasks,
            parts,
            world: Arc::clone(world),
            now: Monotonic(0),
            size,
            committed: BTreeSet::new(),
            next,
        }
    }

    /// Steps one task; whether it has something to do at once.
    pub(super) fn step(&mut self, task: usize) -> bool {
        let (_, task, done) = &mut self.tasks[task];
        if *done {
            return false;
        }
        let step = task.step(ProcessingTime(0), self.now).unwrap();
        *done = step == Step::Done;
        step == Step::Ready
    }

    /// Until nobody has anything to do at this time.
    pub(super) fn settle(&mut self) {
        while (0..self.tasks.len()).fold(false, |any, t| self.step(t) | any) {}
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.settle();
    }

    /// Begins a checkpoint at the sources of these chains.
    pub(super) fn trigger(&mut self, mode: BarrierMode, chains: &[u32]) -> CheckpointId {
        let checkpoint = CheckpointId(self.next);
        self.next += 1;
        let barrier = Barrier {
            checkpoint,
            form: SnapshotForm::Native,
            mode,
            last: false,
        };
        let sources = |t: &TaskId| chains.contains(&t.chain.0);
        self.tell(TaskCommand::Checkpoint(barrier), sources);
        checkpoint
    }

    pub(super) fn tell(&mut self, command: TaskCommand, to: impl Fn(&TaskId) -> bool) {
        for (_, task, _) in self.tasks.iter_mut().filter(|(id, ..)| to(id)) {
            task.command(command, ProcessingTime(0), self.now).unwrap();
        }
    }

    /// All have the checkpoint, or have ended.
    pub(super) fn is_complete(&self, checkpoint: CheckpointId) -> bool {
        let has =
            |t: TaskId| self.parts.finished(t, Some(checkpoint)) || self.parts.finished(t, None);
        self.tasks.iter().all(|(id, ..)| has(*id))
    }

    /// Commits a complete checkpoint, and returns it.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId) -> RestoreFrom {
        let mut inline = Vec::new();
        let mut records = Vec::new();
        let parts = self.parts.clone();
        let parts = parts.0.lock().unwrap();
        for (task, ..) in &self.tasks {
            let own = parts.get(&(*task, Some(checkpoint)));
            let part = own
                .filter(|p| p.made.is_some())
                .or(parts.get(&(*task, None)));
            let part = part.unwrap();
            let made = part.made.as_ref().unwrap();
            for (_, prepared, payload) in &made.committables {
                if self.committed.insert((*task, *prepared)) {
                    self.world.committed.lock().unwrap().extend(rows(payload));
                }
            }
            let range = KeyGroupRange::of_task(task.index, self.size.tasks, MAX);
            records.push(TaskRecord {
                chain: task.chain.0,
                index: task.index,
                operators: vec![UIDS[task.chain.0 as usize].to_owned()],
                key_groups: (range.start, range.end),
                state: Some(StoredFile {
                    name: None,
                    inline: Some(inline.len() as u64),
                    length: made.length,
                    checksum: made.checksum,
                }),
                sections: made.sections.clone(),
                ..TaskRecord::default()
            });
            inline.extend_from_slice(&part.bytes);
        }
        drop(parts);
        self.tell(TaskCommand::Completed(checkpoint), |_| true);
        let operators = UIDS.map(|uid| OperatorRecord {
            uid: uid.to_owned(),
            name: uid.to_owned(),
            parallelism: self.size.tasks,
        });
        let metadata = Metadata {
            id: checkpoint.0,
            attempt: String::new(),
            term: 1,
            job: JobRecord {
                max_parallelism: MAX,
                ..JobRecord::default()
            },
            savepoint: false,
            finished: false,
            at_ms: 0,
            operators: operators.to_vec(),
            tasks: records,
        };
        RestoreFrom {
            metadata: Arc::new(metadata),
            inline: Arc::new(inline),
            blobs: Arc::new(MemoryBlobs::default()),
        }
    }

    /// Lets it end, and commits what is left.
    pub(super) fn finish(mut self) {
        self.world.blocked.store(false, Ordering::SeqCst);
        for _ in 0..10_000 {
            self.pass_ms(1);
            if self.tasks.iter().all(|(.., done)| *done) {
                let last = CheckpointId(self.next);
                self.complete(last);
                return;
            }
        }
        panic!("the job does not end");
    }
}

fn rows(payload: &[u8]) -> Vec<(Row, i64)> {
    let (numbers, _) = payload.as_chunks::<8>();
    let numbers: Vec<i64> = numbers.iter().map(|n| i64::from_be_bytes(*n)).collect();
    let row = |r: &[i64]| ((r[0], r[1], r[2], r[3]), r[4]);
    numbers.chunks(5).map(row).collect()
}

/// By edge.
type Sends = Vec<Vec<Box<dyn Sender>>>;
/// With the edge of each.
type Receives = Vec<(u32, Box<dyn Receiver>)>;

fn make(
    task: TaskId,
    size: Size,
    graph: &JobGraph,
    (sends, receives): (Sends, Receives),
    (parts, restore): (Parts, Option<&RestoreFrom>),
    world: &Arc<World>,
) -> Task {
    let chain = task.chain.0;
    let part = Part {
        task: task.index,
        parallelism: size.tasks,
        key_groups: KeyGroupRange::of_task(task.index, size.tasks, MAX),
    };
    let mut ways = Vec::new();
    let mut lines = BTreeMap::new();
    let into = graph.edges.iter().enumerate();
    for (edge, e) in into.filter(|(_, e)| e.target.0.0 == chain) {
        let channels = receives.iter().filter(|(of, _)| *of == edge as u32).count();
        let entry = |channel| Entry {
            node: 0,
            input: e.target.1 as usize,
            channel,
        };
        let entries: Vec<Entry> = (0..channels).map(entry).collect();
        let way = Way::new(graph, edge, &schema(), &entries).unwrap();
        let pinned = is_pinned(graph, e, size.tasks, channels);
        lines.insert(edge as u32, (way.lines().to_vec().into_iter(), pinned));
        ways.push(way);
    }
    let gates = receives.into_iter().map(|(edge, receiver)| {
        let (lines, pinned) = lines.get_mut(&edge).unwrap();
        Gate {
            lines: vec![lines.next().unwrap()],
            receiver,
            pinned: *pinned,
        }
    });
    let gates: Vec<Gate> = gates.collect();
    let uid = UIDS[chain as usize];
    let operator: Option<Box<dyn Operator>> = match chain {
        0 | 1 => None,
        2 => Some(Box::new(Count {
            counts: BTreeMap::new(),
            world: Arc::clone(world),
        })),
        _ => {
            let writer = Box::new(Writer {
                bytes: Vec::new(),
                world: Arc::clone(world),
            });
            Some(Box::new(
                SinkOperator::new(writer, &schema(), &schema()).unwrap(),
            ))
        }
    };
    let heads = match chain {
        0 | 1 => vec![head(chain, part, size, restore)],
        _ => Vec::new(),
    };
    let exits = sends
        .into_iter()
        .zip(graph.edges.iter().filter(|e| e.source.0.0 == chain));
    let exits: Vec<Partitioner> = exits
        .map(|(s, e)| Partitioner::new(&e.partition, &schema(), s, MAX, 0).unwrap())
        .collect();
    let mut channels = vec![0; if chain == 2 { 2 } else { 1 }];
    gates
        .iter()
        .for_each(|g| channels[g.lines[0].entry.input] += 1);
    let node = Node {
        name: uid.into(),
        uid: uid.into(),
        metrics: OperatorMetrics::new(),
        channels: if operator.is_some() {
            channels
        } else {
            Vec::new()
        },
        targets: vec![(0..exits.len()).map(Target::Exit).collect()],
        operator,
    };
    let in_flight = restore
        .map(|from| in_flight::restore(from, part, MAX, std::iter::once(uid), &ways).unwrap());
    let durable = Durable {
        task,
        part,
        store: Box::new(Store(parts)),
        restore: restore.cloned(),
        in_flight: in_flight.unwrap_or_default(),
    };
    Task::new(
        Chain::new(vec![node], exits),
        (heads, Vec::new()),
        gates,
        Box::new(NoFunctions),
        Limits::default(),
        10,
        Some(durable),
    )
}

fn head(chain: u32, part: Part, size: Size, restore: Option<&RestoreFrom>) -> Head {
    let mut at: BTreeMap<i64, i64> = (0..i64::from(SPLITS)).map(|s| (s, 0)).collect();
    let uid = UIDS[chain as usize];
    if let Some(from) = restore {
        let restored = from.operator(uid, (part.task, part.parallelism), part.key_groups);
        restored
            .entries(
                |s| s.kind == SectionKind::Positions,
                |_, _, e| {
                    let split = String::from_utf8_lossy(e.sub).parse().unwrap();
                    at.insert(split, i64::from_be_bytes(e.value.try_into().unwrap()));
                    Ok(())
                },
            )
            .unwrap();
    }
    let mine = |(s, _): &(i64, i64)| *s as u32 % part.parallelism == part.task;
    Head {
        node: 0,
        uid: uid.to_owned(),
        reader: Box::new(Reader {
            source: i64::from(chain),
            splits: at.into_iter().filter(mine).collect(),
            rows: size.rows[chain as usize],
        }),
        splits: Splits::new(vec![String::new()]),
        paused: Vec::new(),
        metrics: OperatorMetrics::new(),
    }
}

/// Each row once, the rows of a key counted without a gap, and in the order of their split.
pub(super) fn check(world: &World, rows: [i64; 2]) {
    let committed = world.committed.lock().unwrap();
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    let mut last: BTreeMap<(i64, i64, i64), i64> = BTreeMap::new();
    for ((key, source, split, n), count) in committed.iter() {
        let expected = counts.entry(*key).or_default();
        *expected += 1;
        assert_eq!(
            *count, *expected,
            "key {key}: rows are lost, twice or out of order"
        );
        let before = last.insert((*key, *source, *split), *n);
        assert!(
            before.is_none_or(|b| b < *n),
            "key {key}: split {split} is out of order"
        );
    }
    let splits = i64::from(SPLITS);
    assert_eq!(committed.len() as i64, (rows[0] + rows[1]) * splits);
}
