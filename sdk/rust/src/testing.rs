//! A harness for functions, without Wasm and without an engine: rows in, rows out, with state, timers and clocks.
//!
//! ```
//! use pelton::prelude::*;
//! use pelton::testing::Harness;
//!
//! #[derive(Record, Clone, Debug, PartialEq)]
//! struct Sale { shop: String, cents: i64 }
//!
//! fn big(sales: Stream<Sale>) -> Stream<Sale> {
//!     sales
//!         .filter("some", |s| s.cents > 0)
//!         .key_by(Sale::SHOP)
//!         .reduce("sum", |a, b| Sale { shop: a.shop.clone(), cents: a.cents + b.cents })
//! }
//!
//! let mut harness = Harness::new(big);
//! harness.push(SaleRef { shop: "north", cents: 5 });
//! harness.push(SaleRef { shop: "south", cents: 0 });
//! harness.push(SaleRef { shop: "north", cents: 7 });
//! let sums: Vec<i64> = harness.take().iter().map(|s| s.cents).collect();
//! assert_eq!(sums, [5, 12]);
//! assert_eq!(harness.state::<Sale, _>("reduced", &"north".to_owned()).unwrap().cents, 12);
//! ```
//!
//! A harness runs what can be put between a stream and a stream, except windows: an [`Aggregate`] is tested by
//! [`aggregate`], and a whole job in the real engine by `pelton test`. Where a function fails, the harness panics with
//! its message, unless the call's name begins with `try`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::exports::pelton::job::function::Moment;
use crate::column::{Cursor, Row, from_bytes};
use crate::connectors::blackhole;
use crate::error::{Error, Result};
use crate::function::aggregate::{Aggregate, Window};
use crate::function::{Out, SideTag};
use crate::host;
use crate::job::Job;
use crate::key::Key;
use crate::params::Params;
use crate::record::{Emit, Record};
use crate::runtime::{Body, Column, Instance, JobGraph, Param, TaskContext};
use crate::stream::Stream;
use crate::time::Timestamp;
use crate::value::Value;

mod keyed;
mod stages;

use stages::{Rows, Stage};

/// Runs the functions between a stream of `In` and a stream of `Out`.
pub struct Harness<In: Record, Out: Record> {
    instance: Rc<Instance>,
    stages: Vec<Stage>,
    moment: Moment,
    output: Vec<Rows>,
    sides: BTreeMap<String, Vec<Rows>>,
    of: PhantomData<fn() -> (In, Out)>,
}

impl<I: Record, O: Record> Harness<I, O> {
    /// A harness around what `f` makes of a stream. Panics if the functions cannot be opened.
    #[track_caller]
    pub fn new(f: impl FnOnce(Stream<I>) -> Stream<O>) -> Self {
        Self::try_new(&Params::default(), f).unwrap_or_else(|e| panic!("{e}"))
    }

    /// As [`new`](Self::new), with parameters of the job. Errors: the functions cannot be opened, or a harness cannot
    /// run what lies between the streams.
    pub fn try_new(params: &Params, f: impl FnOnce(Stream<I>) -> Stream<O>) -> Result<Self> {
        host::forget();
        let mut last = (0, 0);
        let context = TaskContext {
            params: params
                .pairs()
                .map(|(name, value)| Param { name, value })
                .collect(),
            job: "test".into(),
            task: 0,
            parallelism: 1,
            output_budget: u64::MAX,
            batch: false,
        };
        let build = |job: &mut Job, _: &Params| {
            let output = f(job.source::<I>("input", blackhole()));
            match output.ends.as_slice() {
                [end] => last = (end.operator, end.port),
                _ => return Err(Error::new("a harness cannot run a union")),
            }
            Ok(())
        };
        let mut instance =
            Instance::open("test", build, &context).map_err(|f| Error::new(f.message))?;
        let stages = stages::plan(&mut instance, last)?;
        Ok(Self {
            instance: Rc::new(instance),
            stages,
            moment: Moment {
                watermark: i64::MIN,
                processing_time: 0,
            },
            output: Vec::new(),
            sides: BTreeMap::new(),
            of: PhantomData,
        })
    }

    /// The graph of what lies between the streams.
    #[must_use]
    pub fn graph(&self) -> &JobGraph {
        self.instance.graph()
    }

    /// Puts in a row without an event time.
    #[track_caller]
    pub fn push(&mut self, row: impl Emit<I>) {
        self.try_push(None, row).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Puts in a row with an event time.
    #[track_caller]
    pub fn push_at(&mut self, time: Timestamp, row: impl Emit<I>) {
        self.try_push(Some(time), row)
            .unwrap_or_else(|e| panic!("{e}"));
    }

    /// Puts in a row. Errors: those of the functions.
    pub fn try_push(&mut self, time: Option<Timestamp>, row: impl Emit<I>) -> Result<()> {
        let mut builder = I::Builder::default();
        row.push_to(&mut builder);
        let mut columns = Vec::new();
        I::row_finish(&mut builder, &mut columns);
        self.run(
            0,
            Rows {
                rows: 1,
                columns,
                times: time.map(|t| vec![t.0]),
            },
        )
    }

    /// Moves the watermark, which only ever rises, and fires the event-time timers that are due, in order of time.
    #[track_caller]
    pub fn watermark(&mut self, time: Timestamp) {
        self.moment.watermark = self.moment.watermark.max(time.0);
        self.fire(false).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Moves the clock, and fires the processing-time timers that are due.
    #[track_caller]
    pub fn processing_time(&mut self, time: Timestamp) {
        self.moment.processing_time = self.moment.processing_time.max(time.0);
        self.fire(true).unwrap_or_else(|e| panic!("{e}"));
    }

    fn run(&mut self, at: usize, rows: Rows) -> Result<()> {
        if rows.rows == 0 {
            return Ok(());
        }
        let Some(stage) = self.stages.get_mut(at) else {
            self.output.push(rows);
            return Ok(());
        };
        let made = stage.run(&self.instance, self.moment, rows, &mut self.sides)?;
        made.into_iter().try_for_each(|rows| self.run(at + 1, rows))
    }

    fn fire(&mut self, processing_time: bool) -> Result<()> {
        for at in 0..self.stages.len() {
            while let Some(stage) = self.stages.get_mut(at) {
                match stage.fire(
                    &self.instance,
                    self.moment,
                    processing_time,
                    &mut self.sides,
                )? {
                    Some(rows) => self.run(at + 1, rows)?,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// The rows that came out since it was last asked.
    pub fn take(&mut self) -> Vec<O> {
        std::mem::take(&mut self.output)
            .iter()
            .flat_map(rows_of::<O>)
            .collect()
    }

    /// As [`take`](Self::take), with event times.
    pub fn take_timed(&mut self) -> Vec<(Option<Timestamp>, O)> {
        let batches = std::mem::take(&mut self.output);
        batches
            .iter()
            .flat_map(|b| b.event_times().zip(rows_of::<O>(b)))
            .collect()
    }

    /// The rows that went into a side output since it was last asked. A function's side output exists only if its
    /// stream's [`side`](Stream::side) was taken between the streams.
    pub fn take_side<U: Record>(&mut self, tag: &SideTag<U>) -> Vec<U> {
        self.sides
            .remove(tag.name())
            .unwrap_or_default()
            .iter()
            .flat_map(rows_of::<U>)
            .collect()
    }

    /// The value of a state under a key.
    #[must_use]
    pub fn state<T: Value, K: Key>(&self, name: &str, key: &K) -> Option<T> {
        let columns = self
            .stages
            .iter()
            .find_map(|s| s.state(name, &key_columns(key)))?;
        let found = T::row_resolve(&mut Cursor::new(columns, None), 1).ok()?;
        Some(T::own(T::read(&found, Row::below(0, 1)?)))
    }

    /// The event-time timers that are set, in order of time, over all keys.
    #[must_use]
    pub fn timers(&self) -> Vec<Timestamp> {
        let mut times: Vec<_> = self
            .stages
            .iter()
            .flat_map(Stage::timers)
            .map(Timestamp)
            .collect();
        times.sort_unstable();
        times
    }

    /// The value of a counter or a gauge.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        host::metric(name)
    }

    /// The log lines since it was last asked.
    pub fn take_log(&mut self) -> Vec<(crate::log::Level, String)> {
        host::take_lines()
    }
}

fn key_columns<K: Key>(key: &K) -> Vec<Column> {
    let mut builder = K::Builder::default();
    key.push_key(&mut builder);
    let mut columns = Vec::new();
    K::finish(&mut builder, &mut columns);
    columns
}

fn rows_of<T: Record>(rows: &Rows) -> Vec<T> {
    let count = rows.rows;
    let Ok(columns) = T::row_resolve(&mut Cursor::new(&rows.columns, None), count) else {
        return Vec::new();
    };
    (0..count)
        .filter_map(|i| Some(T::own(T::read(&columns, Row::below(i, count)?))))
        .collect()
}

/// What an aggregate makes of the rows of one window. Where it has `merge`, the rows are also split at each place, and
/// both ways must come to as many results.
#[track_caller]
pub fn aggregate<A: Aggregate>(
    aggregate: &A,
    key: &A::Key,
    window: Window,
    rows: impl IntoIterator<Item = A::In>,
) -> Vec<A::Out> {
    let rows: Vec<A::In> = rows.into_iter().collect();
    let whole = window_result(aggregate, key, window, sum_of(aggregate, &rows));
    if A::HAS_MERGE {
        for (left, right) in (0..=rows.len()).map(|at| rows.split_at(at)) {
            let mut acc = sum_of(aggregate, left);
            aggregate.merge(&mut acc, sum_of(aggregate, right));
            let split = window_result(aggregate, key, window, acc);
            assert_eq!(
                whole.len(),
                split.len(),
                "merged at row {}, the window has other results",
                left.len()
            );
            for (a, b) in whole.iter().zip(&split) {
                assert_eq!(
                    a.lend(),
                    b.lend(),
                    "merged at row {}, the window has other results",
                    left.len()
                );
            }
        }
    }
    whole
}

fn sum_of<A: Aggregate>(aggregate: &A, rows: &[A::In]) -> A::Acc {
    let mut acc = aggregate.create();
    rows.iter()
        .for_each(|row| aggregate.add(&mut acc, row.lend()));
    acc
}

fn window_result<A: Aggregate>(
    aggregate: &A,
    key: &A::Key,
    window: Window,
    acc: A::Acc,
) -> Vec<A::Out> {
    let columns = key_columns(key);
    let mut out = Out::<A::Out>::new(Rc::from([]));
    if let (Ok(found), Some(row)) = (
        A::Key::resolve(&mut Cursor::new(&columns, None), 1),
        Row::below(0, 1),
    ) {
        aggregate.result(A::Key::read(&found, row), window, acc, &mut out);
    }
    out.check().unwrap_or_else(|e| panic!("{e}"));
    let (rows, _, columns, _) = out.finish(|_| 0);
    rows_of(&Rows {
        rows,
        columns,
        times: None,
    })
}

impl Rows {
    fn event_times(&self) -> impl Iterator<Item = Option<Timestamp>> {
        (0..self.rows).map(|i| Some(Timestamp(*self.times.as_ref()?.get(i)?)))
    }
}

/// Numbers of 8 bytes.
fn longs(bytes: &[u8]) -> Vec<i64> {
    from_bytes::<i64>(bytes, bytes.len() / 8)
        .map(|c| c.iter().collect())
        .unwrap_or_default()
}

/// Numbers of 4 bytes.
fn words(bytes: &[u8]) -> Vec<u32> {
    from_bytes::<u32>(bytes, bytes.len() / 4)
        .map(|c| c.iter().collect())
        .unwrap_or_default()
}

/// Whether a harness can run this.
fn unsupported(body: &Body) -> Option<&'static str> {
    match body {
        Body::Window(_) => {
            Some("a window: test its aggregate by testing::aggregate, and the job by `pelton test`")
        }
        Body::Sink(_) => Some("a sink"),
        Body::Source(_) => Some("a second source"),
        _ => None,
    }
}
