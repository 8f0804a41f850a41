//! Users' functions as the engine calls them: a batch at a time, in columns, with the state of its keys.
//! Needs: model. Implemented in `udf` by a Wasm instance; a test or a benchmark can put native code behind it.
//!
//! A call is a transaction: its effects are what it returns. Implementations check what a guest returns (lengths,
//! offsets, UTF-8, parent rows, ordinals), so that the engine can rely on the shapes stated here.

use arrow_array::ArrayRef;
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use pelton_model::Result;
use pelton_model::id::FunctionId;
use pelton_model::schema::{Field, Schema};
use pelton_model::time::ProcessingTime;
use pelton_model::watermark::Watermark;

/// Functions that run one after the other in one call, as prepared by [`Functions::prepare`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment(pub u32);

/// What a segment is and what its calls return; decided by the host.
#[derive(Clone, Debug, Default)]
pub struct SegmentSpec {
    /// One, or for stateless ones any number.
    pub functions: Vec<FunctionId>,
    /// For messages: the names of their operators, one each.
    pub names: Vec<String>,
    /// The columns that calls pass.
    pub input: Schema,
    /// For each stream that calls can return: (step, port) and the columns that are made for it.
    pub outputs: Vec<((u32, u32), Schema)>,
    /// The key's columns, for keyed functions and windows.
    pub key: Vec<Field>,
    /// The columns of each eager state, in the order of their declaration.
    pub states: Vec<Schema>,
    /// The columns of an accumulator.
    pub accumulator: Option<Schema>,
}

/// What is constant within a call.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The operator's current watermark.
    pub watermark: Watermark,
    /// The host's wall clock.
    pub processing_time: ProcessingTime,
}

/// Rows of a batch, nothing left out: all columns have `rows` rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// How many.
    pub rows: usize,
    /// In the order of the segment's input schema.
    pub columns: &'a [ArrayRef],
    /// Event times.
    pub times: Option<&'a ScalarBuffer<i64>>,
    /// Row kinds.
    pub kinds: Option<&'a ScalarBuffer<u8>>,
}

/// Values that may be missing: keys, states, accumulators.
#[derive(Clone, Debug)]
pub struct Slots {
    /// How many.
    pub rows: usize,
    /// Which have a value; none: all.
    pub present: Option<BooleanBuffer>,
    /// All of `rows` rows; the columns of an empty slot hold anything.
    pub columns: Vec<ArrayRef>,
}

/// Rows of one output stream.
#[derive(Clone, Debug)]
pub struct OutputRows {
    /// Which function of the segment.
    pub step: u32,
    /// Which of its streams.
    pub port: u32,
    /// How many.
    pub rows: usize,
    /// The row of the call's input that each comes from, below the rows of that input; none: the same rows in order.
    pub parents: Option<ScalarBuffer<u32>>,
    /// The made columns, of `rows` rows, in the order of the segment's output schema.
    pub columns: Vec<ArrayRef>,
    /// Event times where the function gives them; none: those of the parents.
    pub times: Option<ScalarBuffer<i64>>,
}

/// What a call without state answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Rows that are done, at least one if there was one: the caller comes again with the rest.
    pub consumed: usize,
    /// In any order; a stream may stand more than once.
    pub outputs: Vec<OutputRows>,
    /// Rows out of each function of the segment.
    pub step_rows: Vec<u32>,
}

/// Rows with the state of their keys.
#[derive(Clone, Debug)]
pub struct KeyedRows<'a> {
    /// Which input of the operator.
    pub input: u32,
    /// The rows.
    pub rows: Rows<'a>,
    /// The key of each row: an index into `keys`.
    pub ordinals: &'a [u32],
    /// Each key once, in the order of first appearance.
    pub keys: &'a Slots,
    /// For each eager state, the value of each key.
    pub states: &'a [Slots],
}

/// Timers that are due, a row each; no key twice.
#[derive(Clone, Debug)]
pub struct DueTimers<'a> {
    /// The key of each.
    pub keys: &'a Slots,
    /// When each was due, milliseconds.
    pub times: &'a [i64],
    /// Whether they are of processing time.
    pub processing_time: bool,
    /// For each eager state, the value of each key.
    pub states: &'a [Slots],
}

/// What became of a key's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mark {
    /// As it was.
    Unchanged = 0,
    /// It has the next of the new values.
    Set = 1,
    /// It is gone.
    Cleared = 2,
}

/// Changes of one state.
#[derive(Clone, Debug)]
pub struct StateChange {
    /// Which state.
    pub state: u32,
    /// One for each key of the call: 0, 1 or 2 as [`Mark`].
    pub marks: Vec<u8>,
    /// The new values, one for each [`Mark::Set`], in the order of the keys.
    pub values: Slots,
}

/// A timer set or deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerChange {
    /// Which key of the call.
    pub ordinal: u32,
    /// When, milliseconds.
    pub time: i64,
    /// Delete, instead of set.
    pub delete: bool,
    /// Of processing time, instead of event time.
    pub processing_time: bool,
}

/// What a call with state answers.
#[derive(Clone, Debug)]
pub struct KeyedReply {
    /// Rows that are done.
    pub consumed: usize,
    /// Parents are rows of the batch, or timers.
    pub outputs: Vec<OutputRows>,
    /// At most one for each state.
    pub states: Vec<StateChange>,
    /// In the order in which they were made.
    pub timers: Vec<TimerChange>,
}

/// A user's counter or gauge.
#[derive(Clone, PartialEq, Debug)]
pub struct UserMetric {
    /// As registered.
    pub name: String,
    /// A gauge has its last value, a counter its sum.
    pub gauge: bool,
    /// The value now.
    pub value: f64,
}

/// The functions of one instance of a component, for one task.
pub trait Functions: Send {
    /// Makes a segment. Errors: the guest refuses.
    fn prepare(&mut self, spec: &SegmentSpec) -> Result<Segment>;

    /// Runs stateless functions over a batch. Errors: a trap, a limit, an answer that breaks the contract; all name
    /// the function and, where it can be found, the row.
    fn transform(&mut self, segment: Segment, at: Moment, rows: Rows<'_>) -> Result<Reply>;

    /// Runs a keyed function over a batch.
    fn process(&mut self, segment: Segment, at: Moment, rows: &KeyedRows<'_>)
    -> Result<KeyedReply>;

    /// Runs a keyed function's timers.
    fn on_timers(
        &mut self,
        segment: Segment,
        at: Moment,
        timers: &DueTimers<'_>,
    ) -> Result<KeyedReply>;

    /// Adds rows to accumulators, `ordinals` naming that of each row. Returns all accumulators, all present.
    fn accumulate(
        &mut self,
        segment: Segment,
        at: Moment,
        rows: Rows<'_>,
        ordinals: &[u32],
        accumulators: &Slots,
    ) -> Result<Slots>;

    /// Makes one accumulator of two, row by row.
    fn merge(&mut self, segment: Segment, into: &Slots, other: &Slots) -> Result<Slots>;

    /// The results of windows, a row each: keys, bounds in milliseconds, accumulators. Parents are those rows.
    fn results(
        &mut self,
        segment: Segment,
        at: Moment,
        keys: &Slots,
        starts: &[i64],
        ends: &[i64],
        accumulators: &Slots,
    ) -> Result<Reply>;

    /// The user's metrics, by step name.
    fn metrics(&self) -> Vec<UserMetric> {
        Vec::new()
    }
}
