//! The records of `wit/types.wit` and `wit/function.wit` that calls pass, in the order of their fields there.
//! What goes in borrows the host's buffers; what comes out is copied once, out of the guest's memory.
//! wasmtime compares these with the component's types when an instance is made: a difference is `WrongWorld`.

use wasmtime::component::{ComponentType, Lift, Lower};

#[derive(ComponentType, Lift, Lower, Clone, Copy, PartialEq, Debug)]
#[component(variant)]
pub(crate) enum DataType {
    #[component(name = "boolean")]
    Boolean,
    #[component(name = "int8")]
    Int8,
    #[component(name = "int16")]
    Int16,
    #[component(name = "int32")]
    Int32,
    #[component(name = "int64")]
    Int64,
    #[component(name = "uint8")]
    Uint8,
    #[component(name = "uint16")]
    Uint16,
    #[component(name = "uint32")]
    Uint32,
    #[component(name = "uint64")]
    Uint64,
    #[component(name = "float32")]
    Float32,
    #[component(name = "float64")]
    Float64,
    #[component(name = "utf8")]
    Utf8,
    #[component(name = "bytes")]
    Bytes,
    #[component(name = "timestamp")]
    Timestamp,
    #[component(name = "date")]
    Date,
    #[component(name = "decimal")]
    Decimal(u8),
    #[component(name = "sequence")]
    Sequence,
    #[component(name = "nested")]
    Nested(u32),
}

#[derive(ComponentType, Lift, Lower, Clone, PartialEq, Debug)]
#[component(record)]
pub(crate) struct Field {
    pub(crate) name: String,
    #[component(name = "data-type")]
    pub(crate) data_type: DataType,
    pub(crate) nullable: bool,
}

#[derive(ComponentType, Lift, Clone, PartialEq, Debug)]
#[component(record)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) row: Option<u32>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Param<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct TaskContext<'a> {
    pub(crate) params: &'a [Param<'a>],
    pub(crate) job: &'a str,
    pub(crate) task: u32,
    pub(crate) parallelism: u32,
    #[component(name = "output-budget")]
    pub(crate) output_budget: u64,
    pub(crate) batch: bool,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Moment {
    pub(crate) watermark: i64,
    #[component(name = "processing-time")]
    pub(crate) processing_time: i64,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Column<'a> {
    pub(crate) validity: Option<&'a [u8]>,
    pub(crate) offsets: Option<&'a [u8]>,
    pub(crate) values: Option<&'a [u8]>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Batch<'a> {
    pub(crate) rows: u32,
    pub(crate) columns: &'a [Column<'a>],
    pub(crate) times: Option<&'a [u8]>,
    pub(crate) kinds: Option<&'a [u8]>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Slots<'a> {
    pub(crate) rows: u32,
    pub(crate) present: Option<&'a [u8]>,
    pub(crate) columns: &'a [Column<'a>],
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct KeyedBatch<'a> {
    pub(crate) input: u32,
    pub(crate) rows: Batch<'a>,
    pub(crate) ordinals: &'a [u8],
    pub(crate) keys: Slots<'a>,
    pub(crate) states: &'a [Slots<'a>],
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct TimerBatch<'a> {
    pub(crate) ordinals: &'a [u8],
    pub(crate) keys: Slots<'a>,
    pub(crate) times: &'a [u8],
    #[component(name = "processing-time")]
    pub(crate) processing_time: bool,
    pub(crate) states: &'a [Slots<'a>],
}

#[derive(ComponentType, Lift, Lower, Clone, Debug, Default)]
#[component(record)]
pub(crate) struct ColumnOut {
    pub(crate) validity: Option<Vec<u8>>,
    pub(crate) offsets: Option<Vec<u8>>,
    pub(crate) values: Option<Vec<u8>>,
}

#[derive(ComponentType, Lift, Lower, Clone, Debug, Default)]
#[component(record)]
pub(crate) struct SlotsOut {
    pub(crate) rows: u32,
    pub(crate) present: Option<Vec<u8>>,
    pub(crate) columns: Vec<ColumnOut>,
}

#[derive(ComponentType, Lift, Clone, Debug, Default)]
#[component(record)]
pub(crate) struct OutputOut {
    pub(crate) step: u32,
    pub(crate) port: u32,
    pub(crate) rows: u32,
    pub(crate) parents: Option<Vec<u8>>,
    pub(crate) columns: Vec<ColumnOut>,
    pub(crate) times: Option<Vec<u8>>,
    pub(crate) kinds: Option<Vec<u8>>,
    pub(crate) watermarks: Option<Vec<u8>>,
}

#[derive(ComponentType, Lift, Clone, Debug, Default)]
#[component(record)]
pub(crate) struct ReplyOut {
    pub(crate) consumed: u32,
    pub(crate) outputs: Vec<OutputOut>,
    #[component(name = "step-rows")]
    pub(crate) step_rows: Vec<u32>,
}

#[derive(ComponentType, Lift, Clone, Debug, Default)]
#[component(record)]
pub(crate) struct StateChangeOut {
    pub(crate) state: u32,
    pub(crate) marks: Vec<u8>,
    pub(crate) changes: Vec<u8>,
    pub(crate) ordinals: Vec<u8>,
    #[component(name = "map-keys")]
    pub(crate) map_keys: Option<SlotsOut>,
    pub(crate) values: SlotsOut,
}

/// Why a state cannot be read.
#[derive(ComponentType, Lower, Clone, Debug)]
#[component(variant)]
pub(crate) enum StateError {
    #[component(name = "unknown")]
    Unknown(String),
    #[component(name = "no-key")]
    NoKey,
    #[component(name = "invalid")]
    Invalid(String),
}

#[derive(ComponentType, Lower, Clone, Debug)]
#[component(record)]
pub(crate) struct ListsIn {
    pub(crate) done: u32,
    pub(crate) lengths: Vec<u8>,
    pub(crate) values: SlotsOut,
}

#[derive(ComponentType, Lower, Clone, Debug)]
#[component(record)]
pub(crate) struct EntriesIn {
    pub(crate) done: u32,
    pub(crate) counts: Vec<u8>,
    pub(crate) keys: SlotsOut,
    pub(crate) values: SlotsOut,
}

#[derive(ComponentType, Lift, Clone, Debug, Default)]
#[component(record)]
pub(crate) struct TimerChangesOut {
    pub(crate) ordinals: Vec<u8>,
    pub(crate) times: Vec<u8>,
    pub(crate) changes: Vec<u8>,
}

#[derive(ComponentType, Lift, Clone, Debug, Default)]
#[component(record)]
pub(crate) struct KeyedReplyOut {
    pub(crate) consumed: u32,
    pub(crate) outputs: Vec<OutputOut>,
    pub(crate) states: Vec<StateChangeOut>,
    pub(crate) timers: Option<TimerChangesOut>,
}
