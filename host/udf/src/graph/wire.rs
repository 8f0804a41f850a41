//! The records of `wit/graph.wit`, in the order of their fields there.

use wasmtime::component::{ComponentType, Lift};

use crate::convert::wire::Field;

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct JobGraph {
    pub(crate) name: String,
    pub(crate) operators: Vec<Operator>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) params: Vec<String>,
    pub(crate) parallelism: Option<u32>,
    #[component(name = "max-parallelism")]
    pub(crate) max_parallelism: Option<u32>,
    pub(crate) digest: u64,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Operator {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) parallelism: Option<u32>,
    pub(crate) body: Body,
    pub(crate) outputs: Vec<OutputStream>,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct OutputStream {
    pub(crate) name: String,
    pub(crate) schema: Vec<Field>,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(variant)]
pub(crate) enum Body {
    #[component(name = "source")]
    Source(Connector),
    #[component(name = "sink")]
    Sink(Connector),
    #[component(name = "timestamps")]
    Timestamps(Timestamps),
    #[component(name = "select")]
    Select(Select),
    #[component(name = "transform")]
    Transform(Transform),
    #[component(name = "process")]
    Process(Process),
    #[component(name = "window")]
    Window(Window),
    #[component(name = "combine")]
    Combine(Combine),
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Connector {
    pub(crate) name: String,
    pub(crate) options: Vec<Param>,
    pub(crate) schema: Vec<Field>,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Timestamps {
    pub(crate) times: Times,
    pub(crate) watermarks: Watermarks,
    pub(crate) emit: Emit,
    #[component(name = "idle-ms")]
    pub(crate) idle_ms: Option<u64>,
    #[component(name = "drift-ms")]
    pub(crate) drift_ms: Option<u64>,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(variant)]
pub(crate) enum Times {
    #[component(name = "field")]
    Field(String),
    #[component(name = "given")]
    Given,
    #[component(name = "ingestion")]
    Ingestion,
}

#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(variant)]
pub(crate) enum Emit {
    #[component(name = "regular")]
    Regular,
    #[component(name = "batch")]
    Batch,
    #[component(name = "interval")]
    Interval(u64),
    #[component(name = "row")]
    Row,
}

#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(variant)]
pub(crate) enum Watermarks {
    #[component(name = "monotonous")]
    Monotonous,
    #[component(name = "bounded")]
    Bounded(u64),
    #[component(name = "generated")]
    Generated,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Select {
    pub(crate) unnest: Option<String>,
    pub(crate) columns: Vec<(String, String)>,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Transform {
    pub(crate) function: u32,
    pub(crate) view: Vec<Field>,
    pub(crate) produces: Vec<String>,
    pub(crate) times: bool,
    pub(crate) watermarks: bool,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Process {
    pub(crate) function: u32,
    pub(crate) inputs: Vec<ProcessInput>,
    pub(crate) states: Vec<State>,
    pub(crate) timers: bool,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct ProcessInput {
    pub(crate) view: Vec<Field>,
    pub(crate) key: Vec<String>,
    pub(crate) broadcast: bool,
}

#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
#[expect(
    dead_code,
    reason = "lifted from the guest's memory, which rustc does not see"
)]
pub(crate) enum StateKind {
    #[component(name = "value")]
    Value,
    #[component(name = "sequence")]
    Sequence,
    #[component(name = "map")]
    Map,
    #[component(name = "reducing")]
    Reducing,
    #[component(name = "aggregating")]
    Aggregating,
    #[component(name = "broadcast")]
    Broadcast,
    #[component(name = "operator-list")]
    OperatorList,
    #[component(name = "union-list")]
    UnionList,
}

#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Ttl {
    pub(crate) ms: u64,
    #[component(name = "on-read")]
    pub(crate) on_read: bool,
    #[component(name = "return-expired")]
    pub(crate) return_expired: bool,
    #[component(name = "event-time")]
    pub(crate) event_time: bool,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) kind: StateKind,
    #[component(name = "map-key")]
    pub(crate) map_key: Option<Vec<Field>>,
    pub(crate) schema: Vec<Field>,
    pub(crate) lazy: bool,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) past: Vec<Past>,
    pub(crate) restores: Option<String>,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Past {
    pub(crate) field: u32,
    pub(crate) names: Vec<String>,
    pub(crate) default: Option<Vec<u8>>,
    pub(crate) tag: bool,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Window {
    pub(crate) key: Vec<String>,
    pub(crate) assigner: Assigner,
    #[component(name = "lateness-ms")]
    pub(crate) lateness_ms: u64,
    #[component(name = "late-output")]
    pub(crate) late_output: Option<u32>,
    pub(crate) function: WindowFunction,
}

#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(variant)]
pub(crate) enum Assigner {
    #[component(name = "tumbling")]
    Tumbling((i64, i64)),
    #[component(name = "sliding")]
    Sliding((i64, i64, i64)),
    #[component(name = "session")]
    Session(i64),
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Combine {
    pub(crate) key: Vec<String>,
    pub(crate) assigner: Assigner,
    pub(crate) function: WindowFunction,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(variant)]
pub(crate) enum WindowFunction {
    #[component(name = "columns")]
    Columns(Vec<WindowColumn>),
    #[component(name = "aggregate")]
    Aggregate(WindowAggregate),
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct WindowColumn {
    pub(crate) name: String,
    pub(crate) value: WindowValue,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(variant)]
pub(crate) enum WindowValue {
    #[component(name = "key")]
    Key(String),
    #[component(name = "start")]
    Start,
    #[component(name = "end")]
    End,
    #[component(name = "count")]
    Count,
    #[component(name = "sum")]
    Sum(String),
    #[component(name = "min")]
    Min(String),
    #[component(name = "max")]
    Max(String),
    #[component(name = "avg")]
    Avg(String),
    #[component(name = "ratio")]
    Ratio((String, String)),
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct WindowAggregate {
    pub(crate) function: u32,
    pub(crate) view: Vec<Field>,
    pub(crate) accumulator: Vec<Field>,
    #[component(name = "has-merge")]
    pub(crate) has_merge: bool,
    pub(crate) combined: bool,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Edge {
    pub(crate) source: (u32, u32),
    pub(crate) target: (u32, u32),
    pub(crate) partition: Partition,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(variant)]
pub(crate) enum Partition {
    #[component(name = "forward")]
    Forward,
    #[component(name = "key")]
    Key(Vec<String>),
    #[component(name = "rebalance")]
    Rebalance,
    #[component(name = "rescale")]
    Rescale,
    #[component(name = "shuffle")]
    Shuffle,
    #[component(name = "broadcast")]
    Broadcast,
    #[component(name = "global")]
    Global,
    #[component(name = "custom")]
    Custom(String),
}
