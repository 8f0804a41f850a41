//! Users' functions as the engine calls them: a batch at a time, in columns, with the state of its keys.
//! Needs: model. Implemented in `udf` by a Wasm instance; a test or a benchmark can put native code behind it.
//!
//! A call is a transaction: its effects are what it returns. Implementations check what a guest returns (lengths,
//! offsets, UTF-8, parent rows, ordinals), so that the engine can rely on the shapes stated here.

use std::any::Any;

use arrow_array::ArrayRef;
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use pelton_model::Result;
use pelton_model::graph::StateSpec;
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
    /// Which input of the first function the rows come by.
    pub number: u32,
    /// The columns that calls pass.
    pub input: Schema,
    /// For each stream that calls can return: (step, port) and the columns that are made for it.
    pub outputs: Vec<((u32, u32), Schema)>,
    /// The key's columns, for keyed functions and windows.
    pub key: Vec<Field>,
    /// All states, in the order of their declaration; calls pass the values of the eager ones.
    pub states: Vec<StateSpec>,
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
    /// Row kinds where the function gives them; none: those of the parents.
    pub kinds: Option<ScalarBuffer<u8>>,
    /// Where the function generates watermarks, what follows each row: a watermark, or [`NO_WATERMARK`], or [`GOES_IDLE`].
    pub watermarks: Option<ScalarBuffer<i64>>,
}

/// No watermark follows the row.
pub const NO_WATERMARK: i64 = i64::MIN;
/// The stream is idle after the row, until the next.
pub const GOES_IDLE: i64 = i64::MIN + 1;

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
    /// The key of each row: an index into `keys`. All 0 where the input has no key, empty for a broadcast input.
    pub ordinals: &'a [u32],
    /// Each key once, in the order of first appearance. One without columns where the input has no key, none for a
    /// broadcast input.
    pub keys: &'a Slots,
    /// For each eager state, the value of each key.
    pub states: &'a [Slots],
}

/// Timers that are due, a row each, in the order in which they fire.
///
/// A function that changes a timer of a key which has another one in the rest, at that time or later and by the same
/// clock, ends the call there: what is left comes again.
#[derive(Clone, Debug)]
pub struct DueTimers<'a> {
    /// The key of each: an index into `keys`.
    pub ordinals: &'a [u32],
    /// Each key once, in the order of first appearance.
    pub keys: &'a Slots,
    /// When each was due, milliseconds; ascending.
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

/// What is done to a list or a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EntryChange {
    /// A list gets one more value, or a map's entry its value.
    Put = 0,
    /// A map's entry is removed, or the whole list under a map key.
    Remove = 1,
    /// All that is under the key is removed.
    Clear = 2,
}

/// Changes of one state.
#[derive(Clone, Debug)]
pub struct StateChange {
    /// Which state, in the order of declaration.
    pub state: u32,
    /// Value-like states: one for each key of the call: 0, 1 or 2 as [`Mark`].
    pub marks: Vec<u8>,
    /// The new values, one for each [`Mark::Set`], in the order of the keys; or one for each [`EntryChange::Put`].
    pub values: Slots,
    /// What is done to a list or a map; none for value-like states.
    pub entries: Option<EntryChanges>,
}

/// Changes of a list or a map, in the order in which they were made; all parts are of one length.
#[derive(Clone, Debug)]
pub struct EntryChanges {
    /// Each 0, 1 or 2 as [`EntryChange`].
    pub changes: Vec<u8>,
    /// The key of each: its ordinal in the call; 0 for operator state.
    pub ordinals: Vec<u32>,
    /// The map key of each, where the state has map keys; a slot that is empty for those that clear.
    pub map_keys: Option<Slots>,
}

/// Lists of a prefix of the keys that were asked for.
#[derive(Clone, Debug)]
pub struct Lists {
    /// The length of each; at least one, if a key was asked for.
    pub lengths: Vec<u32>,
    /// All values, one list after the other.
    pub values: Slots,
}

/// Maps of a prefix of the keys that were asked for.
#[derive(Clone, Debug)]
pub struct Entries {
    /// How many entries each has; at least one, if a key was asked for. [`TOO_MANY`]: none of them is here.
    pub counts: Vec<u32>,
    /// Their map keys, those of one map ascending by canonical encoding.
    pub keys: Slots,
    /// Their values; without columns where a list's map keys were asked for.
    pub values: Slots,
}

/// Stands for the entries of a map that is too large to be read whole.
pub const TOO_MANY: u32 = u32::MAX;

/// What a call may read of its keys' state beside what is shipped. Reads see the state before the call.
///
/// Keys are ordinals of the call; operator state stands under 0. Errors: `BadReply` for a state of another kind, an
/// ordinal or a map key that is not the state's; whatever the backend has.
pub trait StateReader: Send {
    /// Values of a lazy value-like state.
    fn values(&mut self, state: u32, ordinals: &[u32]) -> Result<Slots>;

    /// Lists; with map keys, one for each ordinal, those under them.
    fn lists(&mut self, state: u32, ordinals: &[u32], map_keys: Option<&Slots>) -> Result<Lists>;

    /// The values under pairs of ordinal and map key.
    fn map_values(&mut self, state: u32, ordinals: &[u32], map_keys: &Slots) -> Result<Slots>;

    /// Whole maps, each of at most so many bytes.
    fn maps(&mut self, state: u32, ordinals: &[u32], bytes_max: usize) -> Result<Entries>;

    /// At most so many entries of one map, from the one after `after` on. Fewer where no more follow, or where they have
    /// some MiB.
    fn scan(
        &mut self,
        state: u32,
        ordinal: u32,
        after: Option<&Slots>,
        limit: usize,
    ) -> Result<Entries>;

    /// For the owner, who gets it back after the call.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// State that is lent to a call: taken for the time of it, and put back.
pub type Lent = Option<Box<dyn StateReader>>;

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

    /// Runs a keyed function over a batch. `state` is what it may read; it is there again when the call returns.
    fn process(
        &mut self,
        segment: Segment,
        at: Moment,
        rows: &KeyedRows<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply>;

    /// Runs a keyed function's timers.
    fn on_timers(
        &mut self,
        segment: Segment,
        at: Moment,
        timers: &DueTimers<'_>,
        state: &mut Lent,
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
