//! Users' window aggregates: accumulators as columns, many at once.

use std::rc::Rc;

use super::{Out, Port};
use crate::bindings::exports::pelton::job::function::{Output, Reply};
use crate::bindings::pelton::job::types::{Batch, Slots};
use crate::column::{Cursor, Row, bits_of, from_bytes};
use crate::error::{Error, Result};
use crate::function::keyed::keys_of;
use crate::function::segment::side_output;
use crate::function::transform::row_bytes;
use crate::key::Key;
use crate::place;
use crate::record::{Record, RefOf};
use crate::time::Timestamp;
use crate::value::{COLUMNS, Value};

/// A span of event time, `[start, end)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// First millisecond.
    pub start: Timestamp,
    /// First millisecond after.
    pub end: Timestamp,
}

/// A window's result by an accumulator of its own.
pub trait Aggregate: 'static {
    /// The rows: what it reads of them.
    type In: Record;
    /// The key.
    type Key: Key;
    /// What a window keeps; a record or a plain value, so that the host can keep and show it.
    type Acc: Value;
    /// The rows of results.
    type Out: Record;
    /// Whether `merge` is there; without it, sliding windows don't share their parts.
    const HAS_MERGE: bool = true;

    /// An empty accumulator.
    fn create(&self) -> Self::Acc;
    /// Adds a row.
    fn add(&self, acc: &mut Self::Acc, row: RefOf<'_, Self::In>);
    /// Adds the rows of another accumulator.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
    /// The rows of a window that fires.
    fn result(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        window: Window,
        acc: Self::Acc,
        out: &mut Out<Self::Out>,
    );
}

/// An aggregate over many accumulators.
pub(crate) trait Windowed {
    fn accumulate(
        &self,
        plan: &[u32],
        rows: Batch,
        ordinals: &[u8],
        accumulators: Slots,
    ) -> Result<Slots>;
    fn merge(&self, into: Slots, other: Slots) -> Result<Slots>;
    fn results(
        &self,
        keys: Slots,
        starts: &[u8],
        ends: &[u8],
        accumulators: Slots,
    ) -> Result<Reply>;
}

pub(crate) struct AggregateFunction<A> {
    aggregate: A,
    ports: Rc<[Port]>,
}

impl<A> AggregateFunction<A> {
    pub(crate) fn new(aggregate: A, ports: Rc<[Port]>) -> Self {
        Self { aggregate, ports }
    }
}

/// The values of slots, owned; none where a slot is empty.
fn values<T: Value>(slots: &Slots) -> Result<impl Iterator<Item = Option<T>>> {
    let rows = slots.rows as usize;
    let present = slots
        .present
        .as_deref()
        .map(|bytes| bits_of(bytes, rows))
        .transpose()?;
    let columns = T::row_resolve(&mut Cursor::new(&slots.columns, None), rows)?;
    Ok((0..rows).map(move |i| {
        let row = Row::below(i, rows).filter(|r| present.is_none_or(|p| p.read(*r)))?;
        Some(T::own(T::read(&columns, row)))
    }))
}

fn slots<T: Value>(values: &[T]) -> Slots {
    let mut builder = T::Builder::default();
    values.iter().for_each(|v| T::push(&mut builder, v.lend()));
    let mut columns = Vec::with_capacity(COLUMNS);
    T::row_finish(&mut builder, &mut columns);
    Slots {
        rows: values.len() as u32,
        present: None,
        columns,
    }
}

impl<A: Aggregate> Windowed for AggregateFunction<A> {
    fn accumulate(
        &self,
        plan: &[u32],
        batch: Batch,
        ordinals: &[u8],
        accumulators: Slots,
    ) -> Result<Slots> {
        let rows = batch.rows as usize;
        let mut all: Vec<A::Acc> = values::<A::Acc>(&accumulators)?
            .map(|v| v.unwrap_or_else(|| self.aggregate.create()))
            .collect();
        let ordinals = from_bytes::<u32>(ordinals, rows)?;
        let columns = A::In::row_resolve(&mut Cursor::new(&batch.columns, Some(plan)), rows)?;
        place::enter(None);
        for i in 0..rows {
            let Some(row) = Row::below(i, rows) else {
                break;
            };
            place::set(i);
            let Some(acc) = all.get_mut(ordinals.read(row) as usize) else {
                return Err(
                    Error::new("the host has shipped a row without its accumulator")
                        .at_row(i as u32),
                );
            };
            self.aggregate.add(acc, A::In::read(&columns, row));
        }
        Ok(slots(&all))
    }

    fn merge(&self, into: Slots, other: Slots) -> Result<Slots> {
        let pairs = values::<A::Acc>(&into)?.zip(values::<A::Acc>(&other)?);
        let merged: Vec<A::Acc> = pairs
            .map(|pair| match pair {
                (Some(mut a), Some(b)) => {
                    self.aggregate.merge(&mut a, b);
                    a
                }
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => self.aggregate.create(),
            })
            .collect();
        Ok(slots(&merged))
    }

    fn results(
        &self,
        keys: Slots,
        starts: &[u8],
        ends: &[u8],
        accumulators: Slots,
    ) -> Result<Reply> {
        let rows = keys.rows as usize;
        let (starts, ends) = (
            from_bytes::<i64>(starts, rows)?,
            from_bytes::<i64>(ends, rows)?,
        );
        let columns = keys_of::<A::Key>(&keys)?;
        let mut out = Out::<A::Out>::new(Rc::clone(&self.ports));
        place::enter(None);
        for (i, acc) in values::<A::Acc>(&accumulators)?.enumerate() {
            let Some(row) = Row::below(i, rows) else {
                break;
            };
            place::set(i);
            out.at(i);
            let acc = acc.unwrap_or_else(|| self.aggregate.create());
            let window = Window {
                start: Timestamp(starts.read(row)),
                end: Timestamp(ends.read(row)),
            };
            self.aggregate
                .result(A::Key::read(&columns, row), window, acc, &mut out);
            out.check().map_err(|e| e.at_row(i as u32))?;
        }
        let (count, parents, columns, times) = out.finish(|_| i64::MIN);
        if times.is_some() {
            return Err(Error::new(
                "the results of a window have the window's time: emit_at is for process functions",
            ));
        }
        let mut outputs = Vec::new();
        if count > 0 {
            let parents = Some(row_bytes(&parents));
            outputs.push(Output {
                step: 0,
                port: 0,
                rows: count as u32,
                parents,
                columns,
                times: None,
                kinds: None,
                watermarks: None,
            });
        }
        outputs.extend(
            out.finish_sides()
                .into_iter()
                .filter_map(|s| side_output(0, s, rows)),
        );
        Ok(Reply {
            consumed: rows as u32,
            outputs,
            step_rows: vec![count as u32],
        })
    }
}
