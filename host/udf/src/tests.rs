//! The crate as its users see it, against components written by hand.

mod admission;
mod calls;
mod conversion;
mod describing;
mod guest;

use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{Functions, Moment, Rows, Segment, SegmentSpec};
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::id::FunctionId;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::ProcessingTime;
use pelton_model::watermark::Watermark;

use crate::{Component, LogSink, NoLog, Runtime, RuntimeSettings, TaskContext};

/// One engine for all tests: each reserves the addresses of its pool.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Runtime::new(RuntimeSettings {
        instances_max: 64,
        ..RuntimeSettings::default()
    })
    .unwrap()
});

const AT: Moment = Moment {
    watermark: Watermark(5),
    processing_time: ProcessingTime(1_000),
};

fn load(guest: &guest::Guest) -> Arc<Component> {
    RUNTIME.load(&guest.build()).unwrap()
}

fn limits() -> Limits {
    Limits {
        memory_bytes: 16 << 20,
        cpu_ms_per_call: 20,
        ..Limits::default()
    }
}

fn context(limits: Limits) -> TaskContext {
    logged(limits, Arc::new(NoLog))
}

fn logged(limits: Limits, log: Arc<dyn LogSink>) -> TaskContext {
    TaskContext {
        params: vec![("input".into(), "a".into())],
        job: "job".into(),
        task: 0,
        parallelism: 1,
        batch: false,
        limits,
        graph_digest: 7,
        log,
        cancel: None,
    }
}

/// One function that reads an i64 and makes one.
fn spec() -> SegmentSpec {
    let schema = Schema::new(vec![Field::new("x", DataType::I64)]);
    SegmentSpec {
        functions: vec![FunctionId(0)],
        names: vec!["double".into()],
        input: schema.clone(),
        outputs: vec![((0, 0), schema)],
        ..SegmentSpec::default()
    }
}

/// A value state of one i64.
fn value_state(name: &str) -> StateSpec {
    StateSpec {
        name: name.into(),
        kind: StateKind::Value,
        map_key: None,
        schema: Schema::new(vec![Field::new(name, DataType::I64)]),
        lazy: false,
        ttl: None,
        past: Default::default(),
    }
}

fn open(guest: &guest::Guest, limits: Limits) -> (Box<dyn Functions>, Segment) {
    let mut functions = load(guest).instance(context(limits)).unwrap();
    let segment = functions.prepare(&spec()).unwrap();
    (functions, segment)
}

fn column(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn rows(columns: &[ArrayRef]) -> Rows<'_> {
    Rows {
        rows: columns.first().map_or(0, |c| c.len()),
        columns,
        times: None,
        kinds: None,
    }
}
