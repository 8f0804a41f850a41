//! The simulated jobs: small graphs without Wasm, each with the sources that it reads.
//! Needs: model's graph, connectors, functions. Invariant: what a job gives does not depend on the order in which its tasks
//! run, nor on its parallelism, but for the order of rows with different keys.

use std::collections::BTreeMap;

use pelton_model::graph::{
    Body, Connector, Edge, Emit, JobGraph, Operator, Output, Partition, Process, ProcessInput,
    StateKind, StateSpec, Times, Timestamps, Watermarks, WindowFunction, WindowSpec, WindowValue,
    check,
};
use pelton_model::id::{FunctionId, OperatorId};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::window::Assigner;
use pelton_model::{Error, Result};

use crate::chance::Chance;
use crate::connectors::Rows;
use crate::functions::{PAIRS, SUMS};

/// Times are out of order by less than this.
const BOUND_MS: i64 = 20;

/// A job and what it reads.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which one.
    pub name: &'static str,
    /// The checked graph.
    pub graph: JobGraph,
    /// By operator.
    pub sources: BTreeMap<OperatorId, Rows>,
    /// By the uid of the sink: how many columns a row's key has, within which rows are in order.
    pub keys: BTreeMap<String, usize>,
}

fn int(name: &str) -> Field {
    Field::new(name, DataType::I64)
}

fn input() -> Schema {
    let mut fields = ["k", "n", "v"].map(int).to_vec();
    fields.push(Field::new("t", DataType::Timestamp));
    Schema::new(fields)
}

fn output() -> Schema {
    Schema::new(["kind", "k", "n", "v"].map(int).to_vec())
}

/// Puts a graph together.
struct Builder {
    job: Job,
    chance: Chance,
}

impl Builder {
    fn new(name: &'static str, chance: &Chance) -> Self {
        let graph = JobGraph {
            name: name.to_owned(),
            operators: Vec::new(),
            edges: Vec::new(),
            params: Vec::new(),
            parallelism: None,
            max_parallelism: None,
        };
        let job = Job {
            name,
            graph,
            sources: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        Self {
            job,
            chance: chance.clone(),
        }
    }

    fn add(&mut self, name: &str, body: Body, outputs: Vec<Schema>) -> OperatorId {
        let outputs = outputs.into_iter().enumerate().map(|(i, schema)| Output {
            name: format!("out{i}"),
            schema,
        });
        self.job.graph.operators.push(Operator {
            uid: name.to_owned(),
            name: name.to_owned(),
            parallelism: None,
            body,
            outputs: outputs.collect(),
        });
        OperatorId(self.job.graph.operators.len() as u32 - 1)
    }

    fn join(&mut self, from: OperatorId, to: (OperatorId, u32), partition: Partition) {
        self.job.graph.edges.push(Edge {
            source: (from, 0),
            target: to,
            partition,
        });
    }

    /// A source of so many rows a split at most, with its times.
    fn source(&mut self, name: &str, keys_of: u64, rows_max: u64) -> OperatorId {
        let connector = Connector {
            name: "numbered".to_owned(),
            options: BTreeMap::new(),
            schema: input(),
        };
        let source = self.add(name, Body::Source(connector), vec![input()]);
        let splits = self.chance.between(1, 4);
        // Some end early, or have nothing at all.
        let length = || match self.chance.between(0, 3) {
            0 => self.chance.between(0, rows_max / 10),
            _ => self.chance.between(rows_max / 2, rows_max),
        };
        let rows = Rows {
            lengths: (0..splits).map(|_| length()).collect(),
            keys_of,
            keys: self.chance.between(1, 8),
            step_ms: self.chance.between(1, 9) as i64,
            bound_ms: BOUND_MS,
            seed: self.chance.next(),
        };
        self.job.sources.insert(source, rows);
        let times = Timestamps {
            times: Times::Field("t".to_owned()),
            watermarks: Watermarks::Bounded(BOUND_MS),
            emit: Emit::Batch,
            idle_ms: None,
            drift_ms: None,
        };
        let stamped = self.add(
            &format!("{name}-times"),
            Body::Timestamps(times),
            vec![input()],
        );
        self.join(source, (stamped, 0), Partition::Forward);
        stamped
    }

    fn sink(&mut self, name: &str, from: OperatorId, schema: Schema, key: usize) {
        let connector = Connector {
            name: "two-phase".to_owned(),
            options: BTreeMap::new(),
            schema,
        };
        let sink = self.add(name, Body::Sink(connector), Vec::new());
        // Chained with what is above it, or in a task of its own.
        let partition = match self.chance.happens(300) {
            true => Partition::Key(vec!["k".to_owned()]),
            false => Partition::Forward,
        };
        self.join(from, (sink, 0), partition);
        self.job.keys.insert(name.to_owned(), key);
    }

    fn process(
        &mut self,
        function: FunctionId,
        inputs: &[bool],
        states: Vec<StateSpec>,
    ) -> OperatorId {
        let input = |broadcast: &bool| ProcessInput {
            view: Schema::new(["k", "n", "v"].map(int).to_vec()),
            key: match broadcast {
                true => Vec::new(),
                false => vec!["k".to_owned()],
            },
            broadcast: *broadcast,
        };
        let process = Process {
            function,
            inputs: inputs.iter().map(input).collect(),
            states,
            timers: true,
        };
        self.add("process", Body::Process(process), vec![output()])
    }

    fn window(&mut self, name: &str, assigner: Assigner, from: OperatorId) {
        let columns = Schema::new(["k", "n", "c", "v"].map(int).to_vec());
        let values = [
            ("k", WindowValue::Key("k".to_owned())),
            ("n", WindowValue::Start),
            ("c", WindowValue::Count),
            ("v", WindowValue::Sum("v".to_owned())),
        ];
        let window = WindowSpec {
            key: vec!["k".to_owned()],
            assigner,
            lateness_ms: 0,
            late_output: None,
            function: WindowFunction::Columns(
                values.map(|(n, v)| (n.to_owned(), v)).into_iter().collect(),
            ),
        };
        let window = self.add(name, Body::Window(window), vec![columns.clone()]);
        self.join(from, (window, 0), Partition::Key(vec!["k".to_owned()]));
        self.sink(&format!("{name}-sink"), window, columns, 1);
    }

    fn finish(self) -> Result<Job> {
        check(&self.job.graph)?;
        Ok(self.job)
    }
}

fn state(name: &str, kind: StateKind, fields: &[&str]) -> StateSpec {
    StateSpec {
        name: name.to_owned(),
        kind,
        map_key: (kind == StateKind::Broadcast).then(|| Schema::new(vec![int("m")])),
        schema: Schema::new(fields.iter().map(|f| int(f)).collect()),
        lazy: false,
        ttl: None,
        past: Default::default(),
    }
}

/// The job of a seed: one of the kinds, with sources by chance. Errors: a graph that is not valid, a bug.
pub fn job(chance: &Chance) -> Result<Job> {
    match chance.between(0, 3) {
        0 | 3 => sums(chance),
        1 => pairs(chance),
        2 => windows(chance),
        _ => Err(Error::bug("there is no such job")),
    }
}

fn sums(chance: &Chance) -> Result<Job> {
    let mut b = Builder::new("sums", chance);
    let sources: Vec<_> = (0..chance.between(1, 2))
        .map(|i| b.source(&format!("source{i}"), i, 1_500))
        .collect();
    let states = vec![state("sum", StateKind::Value, &["sum", "fired"])];
    let process = b.process(SUMS, &[false], states);
    for source in sources {
        b.join(source, (process, 0), Partition::Key(vec!["k".to_owned()]));
    }
    b.sink("sink", process, output(), 2);
    b.finish()
}

fn pairs(chance: &Chance) -> Result<Job> {
    let mut b = Builder::new("pairs", chance);
    let (left, right) = (b.source("left", 0, 1_200), b.source("right", 0, 1_200));
    let rules = b.source("rules", 2, 200);
    let states = vec![
        state("counts", StateKind::Value, &["left", "right"]),
        state("rules", StateKind::Broadcast, &["v"]),
    ];
    let process = b.process(PAIRS, &[false, false, true], states);
    let key = || Partition::Key(vec!["k".to_owned()]);
    b.join(left, (process, 0), key());
    b.join(right, (process, 1), key());
    b.join(rules, (process, 2), Partition::Broadcast);
    b.sink("sink", process, output(), 2);
    b.finish()
}

fn windows(chance: &Chance) -> Result<Job> {
    let mut b = Builder::new("windows", chance);
    let source = b.source("source", 0, 1_500);
    let tumbling = Assigner::Tumbling {
        size_ms: 50,
        offset_ms: 0,
    };
    b.window("tumbling", tumbling, source);
    let gap_ms = chance.between(3, 40) as i64;
    b.window("session", Assigner::Session { gap_ms }, source);
    if chance.happens(500) {
        let sliding = Assigner::Sliding {
            size_ms: 60,
            slide_ms: 20,
            offset_ms: 0,
        };
        b.window("sliding", sliding, source);
    }
    b.finish()
}
