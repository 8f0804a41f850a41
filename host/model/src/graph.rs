//! The job graph: what the user asked for, as operators and edges. How it is chained is `control::execution`'s affair.
//!
//! Columns are named, never numbered: streams are pruned to what is read, and names outlive that.

use std::collections::BTreeMap;

use crate::id::{FunctionId, OperatorId};
use crate::schema::Schema;
use crate::window::Assigner;

mod check;
mod need;

pub use check::check;
pub use need::{Needs, needs};

/// A job.
#[derive(Clone, PartialEq, Debug)]
pub struct JobGraph {
    /// Its name, unless the command line gives another.
    pub name: String,
    /// Nodes; an [`OperatorId`] is an index.
    pub operators: Vec<Operator>,
    /// Streams from node to node.
    pub edges: Vec<Edge>,
    /// The parameters that the job has asked for.
    pub params: Vec<String>,
}

/// One node.
#[derive(Clone, PartialEq, Debug)]
pub struct Operator {
    /// What its state is found by: unique in the job, stable over versions.
    pub uid: String,
    /// What people read.
    pub name: String,
    /// Overrides the job's parallelism.
    pub parallelism: Option<u32>,
    /// What it does.
    pub body: Body,
    /// The streams that leave it: the main one, then side outputs. None for sinks.
    pub outputs: Vec<Output>,
}

/// A stream that leaves an operator.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// Such as `late`.
    pub name: String,
    /// Its rows.
    pub schema: Schema,
}

/// What an operator does: a closed list, plus what only an adapter can read.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// Rows from outside.
    Source(Connector),
    /// Rows to outside.
    Sink(Connector),
    /// Event times and watermarks.
    Timestamps(Timestamps),
    /// A projection that the host does itself.
    Select(Select),
    /// A user's function without state.
    Transform(Transform),
    /// A user's function with keyed state and timers.
    Process(Process),
    /// Keyed event-time windows.
    Window(WindowSpec),
    /// An operator that only the adapter named by `kind` can read.
    Opaque {
        /// Which adapter.
        kind: String,
        /// Its own form.
        bytes: Vec<u8>,
    },
}

/// A source or a sink.
#[derive(Clone, PartialEq, Debug)]
pub struct Connector {
    /// Such as `files`.
    pub name: String,
    /// Its options as text.
    pub options: BTreeMap<String, String>,
    /// The record type that is read or written.
    pub schema: Schema,
}

/// Event times and watermarks.
#[derive(Clone, PartialEq, Debug)]
pub struct Timestamps {
    /// The timestamp field; none: the rows have their times from a function above.
    pub field: Option<String>,
    /// How watermarks follow.
    pub watermarks: Watermarks,
    /// Without a row for so long, the stream is idle.
    pub idle_ms: Option<u64>,
}

/// How watermarks follow from times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watermarks {
    /// Times never descend.
    Monotonous,
    /// Times are out of order by at most so many milliseconds.
    Bounded(i64),
    /// The function above gives them.
    Generated,
}

/// A native projection.
#[derive(Clone, PartialEq, Debug)]
pub struct Select {
    /// Keeps the rows in which this nested record is not null, and takes the columns from it.
    pub unnest: Option<String>,
    /// (name here, name in the output), one for each output field.
    pub columns: Vec<(String, String)>,
}

/// A user's function without state.
#[derive(Clone, PartialEq, Debug)]
pub struct Transform {
    /// Which function.
    pub function: FunctionId,
    /// What it reads.
    pub view: Schema,
    /// The fields of the main output that it makes; the others follow from the input by name.
    pub produces: Vec<String>,
    /// Whether it gives event times.
    pub times: bool,
}

/// A user's function with keyed state and timers.
#[derive(Clone, PartialEq, Debug)]
pub struct Process {
    /// Which function.
    pub function: FunctionId,
    /// One for each input.
    pub inputs: Vec<ProcessInput>,
    /// Its states.
    pub states: Vec<StateSpec>,
    /// Whether it sets timers.
    pub timers: bool,
}

/// One input of a [`Process`].
#[derive(Clone, PartialEq, Debug)]
pub struct ProcessInput {
    /// What the function reads.
    pub view: Schema,
    /// The key's fields.
    pub key: Vec<String>,
    /// Rows go to every task.
    pub broadcast: bool,
}

/// The kinds of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateKind {
    /// One value a key.
    Value,
    /// Any number of values a key.
    List,
    /// Values by map key, a key.
    Map,
    /// One value, into which others are reduced.
    Reducing,
    /// One accumulator.
    Aggregating,
    /// A map that every task has whole.
    Broadcast,
}

/// A keyed state.
#[derive(Clone, PartialEq, Debug)]
pub struct StateSpec {
    /// Unique in its operator.
    pub name: String,
    /// Which kind.
    pub kind: StateKind,
    /// For maps: what their keys are.
    pub map_key: Option<Schema>,
    /// What the values are.
    pub schema: Schema,
    /// Fetched by a host call instead of being shipped with the batch.
    pub lazy: bool,
    /// Milliseconds until a value expires.
    pub ttl_ms: Option<u64>,
}

/// Keyed event-time windows.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowSpec {
    /// The key's fields.
    pub key: Vec<String>,
    /// Which windows.
    pub assigner: Assigner,
    /// Rows so many milliseconds behind the watermark still count.
    pub lateness_ms: i64,
    /// Which output takes rows that are too late.
    pub late_output: Option<u32>,
    /// What comes out.
    pub function: WindowFunction,
}

/// What a window computes.
#[derive(Clone, PartialEq, Debug)]
pub enum WindowFunction {
    /// Native aggregates, one entry for each output field: (output field, value).
    Columns(Vec<(String, WindowValue)>),
    /// The user's accumulator.
    Aggregate {
        /// Which function.
        function: FunctionId,
        /// What it reads.
        view: Schema,
        /// What it accumulates into.
        accumulator: Schema,
        /// Whether two accumulators can become one.
        has_merge: bool,
    },
}

/// A field of a native window's result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WindowValue {
    /// A key field.
    Key(String),
    /// First millisecond.
    Start,
    /// First millisecond after.
    End,
    /// Rows.
    Count,
    /// Exact sum; overflow is an error.
    Sum(String),
    /// Least.
    Min(String),
    /// Greatest.
    Max(String),
    /// Average; truncated where the output is an integer.
    Avg(String),
}

/// A stream from an operator's output to an operator's input.
#[derive(Clone, PartialEq, Debug)]
pub struct Edge {
    /// Where from: operator, output.
    pub source: (OperatorId, u32),
    /// Where to: operator, input. Several edges into one input are its union.
    pub target: (OperatorId, u32),
    /// Which task gets a row.
    pub partition: Partition,
}

/// Which task of the operator below gets a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Partition {
    /// The task of the same number; rebalanced where the parallelisms differ.
    Forward,
    /// By key group of these fields.
    Key(Vec<String>),
    /// In turn.
    Rebalance,
    /// In turn, within the group of tasks that a task feeds.
    Rescale,
    /// By chance, seeded.
    Shuffle,
    /// All.
    Broadcast,
    /// The first.
    Global,
}

impl JobGraph {
    /// An operator by id.
    #[must_use]
    pub fn operator(&self, id: OperatorId) -> Option<&Operator> {
        self.operators.get(id.0 as usize)
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = OperatorId> + use<> {
        (0..self.operators.len() as u32).map(OperatorId)
    }

    /// Edges into an operator, in the order of the graph.
    pub fn edges_into(&self, id: OperatorId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.target.0 == id)
    }

    /// Edges out of an operator, in the order of the graph.
    pub fn edges_from(&self, id: OperatorId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.source.0 == id)
    }

    /// The schema of the stream that an edge carries.
    #[must_use]
    pub fn schema_of(&self, edge: &Edge) -> Option<&Schema> {
        Some(
            &self
                .operator(edge.source.0)?
                .outputs
                .get(edge.source.1 as usize)?
                .schema,
        )
    }

    /// Operators so that each comes after all above it; `None` if there is a cycle.
    #[must_use]
    pub fn topological(&self) -> Option<Vec<OperatorId>> {
        let mut waits = vec![0usize; self.operators.len()];
        for e in &self.edges {
            *waits.get_mut(e.target.0.0 as usize)? += 1;
        }
        let mut order: Vec<OperatorId> = self
            .ids()
            .filter(|id| waits.get(id.0 as usize) == Some(&0))
            .collect();
        let mut next = 0;
        while let Some(id) = order.get(next).copied() {
            next += 1;
            for e in self.edges_from(id) {
                let w = waits.get_mut(e.target.0.0 as usize)?;
                *w -= 1;
                if *w == 0 {
                    order.push(e.target.0);
                }
            }
        }
        (order.len() == self.operators.len()).then_some(order)
    }
}

impl Body {
    /// A word for people: `source files`, `window`.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Source(c) => format!("source {}", c.name),
            Self::Sink(c) => format!("sink {}", c.name),
            Self::Timestamps(_) => "timestamps".into(),
            Self::Select(_) => "select".into(),
            Self::Transform(_) => "function".into(),
            Self::Process(_) => "keyed process".into(),
            Self::Window(_) => "window".into(),
            Self::Opaque { kind, .. } => kind.clone(),
        }
    }
}
