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
//! A harness runs what can be put between a stream and a stream (or [between two and one](TwoInputs)), except windows of the
//! host's own: an [`Aggregate`] is tested by [`aggregate`], and a whole job in the real engine by `pelton test`. It keeps
//! state of every kind, of which nothing ever expires: a `with_ttl` has no effect. Where a function fails, the harness panics
//! with its message, unless the call's name begins with `try`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::exports::pelton::job::function::Moment;
use crate::column::{Cursor, Row, from_bytes};
use crate::connectors::blackhole;
use crate::error::{Error, Result};
use crate::function::aggregate::{Aggregate, Window};
use crate::function::{Out, RowKind, SideTag};
use crate::host;
use crate::job::Job;
use crate::key::Key;
use crate::params::Params;
use crate::record::{Emit, Record};
use crate::runtime::{Body, Column, Instance, JobGraph, Param, TaskContext};
use crate::stream::Stream;
use crate::time::Timestamp;
use crate::value::Value;

mod columns;
mod keyed;
mod stages;
mod store;
mod two;

use keyed::KeyedStage;
use stages::{Made, Node, Rows};
pub use two::TwoInputs;

/// Runs the functions between a stream of `In` and a stream of `Out`.
pub struct Harness<In: Record, Out: Record> {
    instance: Rc<Instance>,
    nodes: Vec<Node>,
    /// Of which operators and ports the rows come out.
    ends: Vec<(u32, u32)>,
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
        Self::open(params, 1, u64::MAX, false, |job| {
            f(job.source::<I>("input", blackhole()))
        })
    }

    /// A harness in batch mode: functions emit final results only, once the watermark is the greatest time.
    #[track_caller]
    pub fn batch(f: impl FnOnce(Stream<I>) -> Stream<O>) -> Self {
        let source = |job: &mut Job| f(job.source::<I>("input", blackhole()));
        let opened = Self::open(&Params::default(), 1, u64::MAX, true, source);
        opened.unwrap_or_else(|e| panic!("{e}"))
    }

    /// A harness whose calls stop at a prefix of their rows when they have made so many bytes.
    #[cfg(test)]
    pub(crate) fn within(budget: u64, f: impl FnOnce(Stream<I>) -> Stream<O>) -> Self {
        let source = |job: &mut Job| f(job.source::<I>("input", blackhole()));
        Self::open(&Params::default(), 1, budget, false, source).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A harness around what `f` makes of the first so many operators, which are sources.
    fn open(
        params: &Params,
        sources: usize,
        output_budget: u64,
        batch: bool,
        f: impl FnOnce(&mut Job) -> Stream<O>,
    ) -> Result<Self> {
        host::forget();
        let mut ends = Vec::new();
        let context = TaskContext {
            params: params
                .pairs()
                .map(|(name, value)| Param { name, value })
                .collect(),
            job: "test".into(),
            task: 0,
            parallelism: 1,
            output_budget,
            batch,
        };
        let build = |job: &mut Job, _: &Params| {
            let output = f(job);
            ends.extend(output.ends.iter().map(|end| (end.operator, end.port)));
            Ok(())
        };
        let mut instance =
            Instance::open("test", build, &context).map_err(|f| Error::new(f.message))?;
        let nodes = stages::plan(&mut instance, sources)?;
        Ok(Self {
            instance: Rc::new(instance),
            nodes,
            ends,
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
        self.put(0, one_row(time, RowKind::Insert, row))
    }

    /// Puts in a row of a kind.
    #[track_caller]
    pub fn push_kind(&mut self, kind: RowKind, time: Option<Timestamp>, row: impl Emit<I>) {
        self.put(0, one_row(time, kind, row))
            .unwrap_or_else(|e| panic!("{e}"));
    }

    /// Puts in rows with event times, in one batch.
    #[track_caller]
    pub fn push_batch(&mut self, rows: impl IntoIterator<Item = (Timestamp, I)>) {
        let mut builder = I::Builder::default();
        let mut times = Vec::new();
        for (time, row) in rows {
            I::push(&mut builder, row.lend());
            times.push(time.0);
        }
        let mut columns = Vec::new();
        I::row_finish(&mut builder, &mut columns);
        let rows = Rows {
            rows: times.len(),
            columns,
            times: Some(times),
            kinds: None,
        };
        self.put(0, rows).unwrap_or_else(|e| panic!("{e}"));
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

    /// Puts rows in at a source.
    fn put(&mut self, source: usize, rows: Rows) -> Result<()> {
        self.hand_on(source, vec![(0, rows)])
    }

    /// Rows go where an operator's outputs lead.
    fn hand_on(&mut self, at: usize, made: Made) -> Result<()> {
        for (port, rows) in made {
            if rows.rows == 0 {
                continue;
            }
            if self.ends.contains(&(at as u32, port)) {
                self.output.push(rows.clone());
            }
            let Some(node) = self.nodes.get(at) else {
                continue;
            };
            if let (Some(name), true) = (node.outputs.get(port as usize), port > 0) {
                let side = self.sides.entry(name.clone()).or_default();
                side.push(rows.clone());
            }
            for (from, target, input) in node.targets.clone() {
                if from == port {
                    self.run(target, input, rows.clone())?;
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, at: usize, input: u32, rows: Rows) -> Result<()> {
        let stage = self.nodes.get_mut(at).and_then(|n| n.stage.as_mut());
        match stage {
            Some(stage) => {
                let made = stage.run(&self.instance, self.moment, input, rows)?;
                self.hand_on(at, made)
            }
            None => Ok(()),
        }
    }

    fn fire(&mut self, processing_time: bool) -> Result<()> {
        for at in 0..self.nodes.len() {
            while let Some(stage) = self.nodes.get_mut(at).and_then(|n| n.stage.as_mut()) {
                match stage.fire(&self.instance, self.moment, processing_time)? {
                    Some(made) => self.hand_on(at, made)?,
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn keyed(&self) -> impl Iterator<Item = &KeyedStage> {
        self.nodes.iter().filter_map(|n| n.stage.as_ref()?.keyed())
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

    /// As [`take`](Self::take), with what each row does to the table that the stream stands for.
    pub fn take_kinds(&mut self) -> Vec<(RowKind, O)> {
        let batches = std::mem::take(&mut self.output);
        batches
            .iter()
            .flat_map(|b| b.row_kinds().zip(rows_of::<O>(b)))
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
        let (stage, store) = self.store(name)?;
        let columns = store.value(name, &stage.key_of(&key_columns(key)))?.clone();
        one_of(&columns)
    }

    /// Puts a value under a key in a state, as if it had been there before; values of a former type of the state `visits`
    /// (see [`ValueState::migrate_from`](crate::ValueState::migrate_from)) stand in `visits@former`. Here and below:
    /// panics where there is no such state.
    pub fn set_state<T: Value, K: Key>(&mut self, name: &str, key: &K, value: T) {
        self.give(name, key, |store, key| store.put(name, key, row_of(&value)));
    }

    /// Appends a value to the list under a key, as if it had been there before.
    pub fn add_to_list<T: Value, K: Key>(&mut self, name: &str, key: &K, value: T) {
        self.give(name, key, |store, key| {
            store.put_entry(name, key, None, row_of(&value))
        });
    }

    /// Puts an entry into the map under a key, as if it had been there before.
    pub fn put_into_map<M: Value, V: Value, K: Key>(
        &mut self,
        name: &str,
        key: &K,
        map_key: M,
        value: V,
    ) {
        let map_key = Some(row_of(&map_key));
        self.give(name, key, |store, key| {
            store.put_entry(name, key, map_key, row_of(&value))
        });
    }

    fn give<K: Key>(&mut self, name: &str, key: &K, f: impl FnOnce(&mut store::Store, &[u8])) {
        let stage = self.keyed().find_map(|k| Some((k, k.store(name)?)));
        let Some((stage, store)) = stage else {
            panic!("there is no state '{name}'");
        };
        f(&mut store.borrow_mut(), &stage.key_of(&key_columns(key)));
    }

    /// The values of a list under a key; of a list of the operator, under `()`.
    #[must_use]
    pub fn list_state<T: Value, K: Key>(&self, name: &str, key: &K) -> Vec<T> {
        let Some((stage, store)) = self.store(name) else {
            return Vec::new();
        };
        let list = store.list(name, &stage.key_of(&key_columns(key)));
        list.iter().filter_map(|row| one_of(row)).collect()
    }

    /// The entries of a map under a key, ascending by map key; of a broadcast map, under `()`.
    #[must_use]
    pub fn map_state<M: Value, V: Value, K: Key>(&self, name: &str, key: &K) -> Vec<(M, V)> {
        let entries = self.list_map_state::<M, V, K>(name, key).into_iter();
        entries
            .filter_map(|(map_key, values)| Some((map_key, values.into_iter().next()?)))
            .collect()
    }

    /// The entries of a map of lists under a key, ascending by map key.
    #[must_use]
    pub fn list_map_state<M: Value, V: Value, K: Key>(
        &self,
        name: &str,
        key: &K,
    ) -> Vec<(M, Vec<V>)> {
        let Some((stage, store)) = self.store(name) else {
            return Vec::new();
        };
        let entries = store.entries(name, &stage.key_of(&key_columns(key)));
        let values = |rows: &[Vec<Column>]| rows.iter().filter_map(|row| one_of(row)).collect();
        entries
            .iter()
            .filter_map(|(map_key, rows)| Some((one_of(map_key)?, values(rows))))
            .collect()
    }

    fn store(&self, name: &str) -> Option<(&KeyedStage, std::cell::Ref<'_, store::Store>)> {
        self.keyed()
            .find_map(|k| Some((k, k.store(name)?.borrow())))
    }

    /// The event-time timers that are set, in order of time, over all keys.
    #[must_use]
    pub fn timers(&self) -> Vec<Timestamp> {
        let mut times: Vec<_> = self
            .keyed()
            .flat_map(KeyedStage::timers)
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

/// A row to be put in.
fn one_row<T: Record>(time: Option<Timestamp>, kind: RowKind, row: impl Emit<T>) -> Rows {
    let mut builder = T::Builder::default();
    row.push_to(&mut builder);
    let mut columns = Vec::new();
    T::row_finish(&mut builder, &mut columns);
    Rows {
        rows: 1,
        columns,
        times: time.map(|t| vec![t.0]),
        kinds: (kind != RowKind::Insert).then(|| vec![kind as u8]),
    }
}

/// The value of one row.
fn one_of<T: Value>(columns: &[Column]) -> Option<T> {
    let found = T::row_resolve(&mut Cursor::new(columns, None), 1).ok()?;
    Some(T::own(T::read(&found, Row::below(0, 1)?)))
}

fn row_of<T: Value>(value: &T) -> Vec<Column> {
    let mut builder = T::Builder::default();
    T::push(&mut builder, value.lend());
    let mut columns = Vec::new();
    T::row_finish(&mut builder, &mut columns);
    columns
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
        kinds: None,
    })
}

impl Rows {
    fn row_kinds(&self) -> impl Iterator<Item = RowKind> {
        (0..self.rows).map(|i| {
            let kind = self.kinds.as_ref().and_then(|k| k.get(i));
            kind.map_or(RowKind::Insert, |k| RowKind::of(*k))
        })
    }

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
