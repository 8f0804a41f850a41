//! The job graph: what the user asked for, as operators and edges. How it is chained is `control::execution`'s affair.
//!
//! Columns are named, never numbered: streams are pruned to what is read, and names outlive that.

use std::collections::BTreeMap;

use crate::id::{FunctionId, OperatorId};
use crate::schema::Schema;
use crate::window::Assigner;

mod check;
mod need;
mod past;

pub use check::check;
pub use need::{Needs, needs};
pub use past::{FieldPast, Past};

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
    /// Tasks of each operator that has no parallelism of its own.
    pub parallelism: Option<u32>,
    /// Key groups.
    pub max_parallelism: Option<u32>,
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
    /// Aggregation of each batch before it is exchanged.
    Combine(Combine),
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
    /// Where times come from.
    pub times: Times,
    /// How watermarks follow.
    pub watermarks: Watermarks,
    /// How often they are emitted.
    pub emit: Emit,
    /// Without a row for so long, a split is idle; or the stream, where it has no splits.
    pub idle_ms: Option<u64>,
    /// A split is paused while its watermark is more than this ahead of the least of all of the job.
    pub drift_ms: Option<u64>,
}

/// Where event times come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Times {
    /// A timestamp field.
    Field(String),
    /// A function above has given them.
    Given,
    /// The clock, when a row comes in.
    Ingestion,
}

/// How often watermarks are emitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emit {
    /// As often as the settings say: an interval.
    Regular,
    /// After each batch.
    Batch,
    /// Each time that so many milliseconds have passed, and sooner where many rows have come since the last; 0: not before
    /// the end.
    Interval(u64),
    /// After each row.
    Row,
}

/// How often watermarks are emitted where neither the job nor the settings say it: every so many milliseconds.
pub const WATERMARK_INTERVAL_MS: u64 = 200;

/// How watermarks follow from times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watermarks {
    /// Times never descend.
    Monotonous,
    /// Times are out of order by at most so many milliseconds.
    Bounded(i64),
    /// The function above gives them, row by row.
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
    /// Whether it gives watermarks.
    pub watermarks: bool,
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
    /// The key's fields. None: the rows have no key, and the function has no keyed state.
    pub key: Vec<String>,
    /// Rows go to every task; they may write broadcast state alone.
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
    /// A list of the operator, dealt out when the parallelism changes.
    OperatorList,
    /// A list of the operator, which every task has whole after the parallelism has changed.
    UnionList,
}

impl StateKind {
    /// Whether there is one value a key.
    #[must_use]
    pub fn is_value_like(self) -> bool {
        matches!(self, Self::Value | Self::Reducing | Self::Aggregating)
    }

    /// Whether it is a task's, and not a key's.
    #[must_use]
    pub fn is_operator(self) -> bool {
        matches!(self, Self::Broadcast | Self::OperatorList | Self::UnionList)
    }

    /// Whether values stand one after the other.
    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self, Self::List | Self::OperatorList | Self::UnionList)
    }
}

/// When a value is gone by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ttl {
    /// Milliseconds after it was last written.
    pub ms: u64,
    /// Reading it counts, too.
    pub on_read: bool,
    /// It is returned as long as it has not been cleaned up.
    pub return_expired: bool,
    /// By the watermark, instead of the clock.
    pub event_time: bool,
}

impl StateSpec {
    /// Whether its values are shipped with the batch.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        self.kind.is_value_like() && !self.lazy
    }
}

/// A state.
#[derive(Clone, PartialEq, Debug)]
pub struct StateSpec {
    /// Unique in its operator.
    pub name: String,
    /// Which kind.
    pub kind: StateKind,
    /// What a map's keys are. A list that has this is a map of lists.
    pub map_key: Option<Schema>,
    /// What the values are.
    pub schema: Schema,
    /// Fetched by a host call instead of being shipped with the batch.
    pub lazy: bool,
    /// When a value is gone by itself.
    pub ttl: Option<Ttl>,
    /// What it was in former versions of the job.
    pub past: Past,
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

/// Aggregation of the rows of each batch by key and slice, so that a key with most of the rows does not burden one task.
/// A row out has the key's fields, then the aggregates so far; its event time is the slice's start.
#[derive(Clone, PartialEq, Debug)]
pub struct Combine {
    /// The key's fields.
    pub key: Vec<String>,
    /// The windows below, of which slices are parts. No sessions.
    pub assigner: Assigner,
    /// What is aggregated: [`WindowValue::Key`] and aggregates that combine (no average), or a user's accumulator.
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
        /// The rows are accumulators that a [`Combine`] made: the view is the accumulator, and they are merged.
        combined: bool,
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
    /// The quotient of the sums of two fields, as an average is made of what was combined before.
    Ratio(String, String),
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
    /// The task of the number in this field (u32), modulo how many there are.
    Custom(String),
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
            Self::Combine(_) => "combine".into(),
            Self::Opaque { kind, .. } => kind.clone(),
        }
    }
}
