//! Users' aggregates: their accumulators are values under keys, a call for all keys that a batch touches in a pane.

use arrow_array::ArrayRef;
use pelton_model::batch::Batch;
use pelton_model::graph::{WindowFunction, WindowSpec};
use pelton_model::schema::{Field, Projection, Schema};
use pelton_model::window::Window;
use pelton_model::{Error, ErrorCode, Result};

use crate::function::{Rows, Segment, SegmentSpec, Slots};
use crate::operator::Context;
use crate::operators::process::{SHIPPED_BYTES_MAX, emit_made};
use crate::state::{KeyIndex, RowSet, Touched, ValueStore};

/// Windows in one call at most.
const RESULTS_MAX: usize = 4096;

/// A user's aggregate.
pub(super) struct User {
    spec: SegmentSpec,
    segment: Option<Segment>,
    view: Projection,
    accumulator: Schema,
    /// By port; the late output has none.
    outputs: Vec<Option<usize>>,
    touched: Touched,
}

impl User {
    pub(super) fn new(
        spec: &WindowSpec,
        name: &str,
        input: &Schema,
        key: &[Field],
        declared: &[Schema],
    ) -> Result<Self> {
        let WindowFunction::Aggregate {
            function,
            view,
            accumulator,
            ..
        } = &spec.function
        else {
            return Err(Error::bug("a native window is not a user's"));
        };
        let is_late = |port: usize| spec.late_output == Some(port as u32);
        let outputs = declared
            .iter()
            .enumerate()
            .map(|(i, s)| (!is_late(i)).then_some(s.fields.len()))
            .collect();
        let streams = declared
            .iter()
            .enumerate()
            .filter(|(i, _)| !is_late(*i))
            .map(|(i, s)| ((0, i as u32), s.clone()))
            .collect();
        let segment = SegmentSpec {
            functions: vec![*function],
            names: vec![name.to_owned()],
            number: 0,
            input: view.clone(),
            outputs: streams,
            key: key.to_vec(),
            states: Vec::new(),
            accumulator: Some(accumulator.clone()),
        };
        let view = Projection::new(input, view)?;
        Ok(Self {
            spec: segment,
            segment: None,
            view,
            accumulator: accumulator.clone(),
            outputs,
            touched: Touched::default(),
        })
    }

    /// No accumulators yet.
    pub(super) fn store(&self) -> ValueStore {
        ValueStore::new(&self.accumulator)
    }

    fn segment(&mut self, cx: &mut Context<'_>) -> Result<Segment> {
        match self.segment {
            Some(s) => Ok(s),
            None => Ok(*self.segment.insert(cx.functions.prepare(&self.spec)?)),
        }
    }

    /// Adds rows to the accumulators of their keys.
    pub(super) fn add(
        &mut self,
        index: &mut KeyIndex,
        store: &mut ValueStore,
        batch: &Batch,
        key: &[ArrayRef],
        rows: RowSet<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let segment = self.segment(cx)?;
        let mut columns = self.view.apply(batch.columns())?;
        let viewed = columns.len();
        columns.extend(key.iter().cloned());
        let mut rest = batch.clone().with_columns(columns)?;
        if let RowSet::These(rows) = rows {
            rest = rest.select(rows.to_vec().into())?.materialize()?;
        }
        while !rest.is_empty() {
            let (view, key) = rest
                .columns()
                .split_at_checked(viewed)
                .ok_or_else(|| Error::bug("a batch has too few columns"))?;
            index.touch(key, rest.len(), &mut self.touched)?;
            let keys = affordable(store, &self.touched.slots);
            let rows = self
                .touched
                .first_rows
                .get(keys)
                .map_or(rest.len(), |r| *r as usize);
            let slots = self.touched.slots.get(..keys).unwrap_or_default();
            let view: Vec<ArrayRef> = view.iter().map(|c| c.slice(0, rows)).collect();
            let (times, kinds) = (
                rest.times().map(|t| t.slice(0, rows)),
                rest.kinds().map(|k| k.slice(0, rows)),
            );
            let call = Rows {
                rows,
                columns: &view,
                times: times.as_ref(),
                kinds: kinds.as_ref(),
            };
            let ordinals = self.touched.ordinals.get(..rows).unwrap_or_default();
            let accumulators = store.gather(slots)?;
            let new =
                cx.functions
                    .accumulate(segment, cx.moment(), call, ordinals, &accumulators)?;
            put(store, slots, &new)?;
            rest = rest.slice(rows, rest.len() - rows);
        }
        Ok(())
    }

    /// Merges accumulators: `from[slots[i]]` into `into[places[i]]`; places from `known` on are new.
    pub(super) fn merge(
        &mut self,
        into: &mut ValueStore,
        places: &[u32],
        known: usize,
        from: &ValueStore,
        slots: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let segment = self.segment(cx)?;
        let pairs = || places.iter().copied().zip(slots.iter().copied());
        let (new_places, new_slots): (Vec<u32>, Vec<u32>) =
            pairs().filter(|(p, _)| *p as usize >= known).unzip();
        put(into, &new_places, &from.gather(&new_slots)?)?;
        let (mut places, mut slots): (Vec<u32>, Vec<u32>) =
            pairs().filter(|(p, _)| (*p as usize) < known).unzip();
        while !places.is_empty() {
            let n = affordable(from, &slots)
                .min(affordable(into, &places))
                .min(RESULTS_MAX);
            let (later_places, later_slots) = (places.split_off(n), slots.split_off(n));
            let merged =
                cx.functions
                    .merge(segment, &into.gather(&places)?, &from.gather(&slots)?)?;
            put(into, &places, &merged)?;
            (places, slots) = (later_places, later_slots);
        }
        Ok(())
    }

    /// Emits the results of a window for all keys of a pane.
    pub(super) fn emit(
        &mut self,
        index: &KeyIndex,
        store: &ValueStore,
        window: Window,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let segment = self.segment(cx)?;
        let all: Vec<u32> = (0..index.slots() as u32).collect();
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let n = affordable(store, rest).min(RESULTS_MAX);
            let slots = rest.get(..n).unwrap_or(rest);
            let keys = Slots {
                rows: n,
                present: None,
                columns: index.columns(slots)?,
            };
            let reply = cx.functions.results(
                segment,
                cx.moment(),
                &keys,
                &vec![window.start; n],
                &vec![window.end; n],
                &store.gather(slots)?,
            )?;
            let done = reply.consumed;
            if done == 0 || done > n {
                return Err(Error::new(
                    ErrorCode::BadReply,
                    format!("a function consumed {done} of {n} windows"),
                ));
            }
            let times = vec![window.max_time().0; done];
            let parent = Batch::new(Vec::new(), done)?.with_times(Some(times.into()))?;
            for rows in reply.outputs {
                let columns = self.outputs.get(rows.port as usize).copied().flatten();
                let columns = columns.ok_or_else(|| {
                    Error::new(ErrorCode::BadReply, "rows for an output that is not there")
                })?;
                emit_made(rows, columns, &parent, cx)?;
            }
            rest = rest.get(done..).unwrap_or_default();
        }
        Ok(())
    }
}

fn put(store: &mut ValueStore, slots: &[u32], values: &Slots) -> Result<()> {
    if values.rows != slots.len() {
        return Err(Error::new(
            ErrorCode::BadReply,
            "another number of accumulators came back",
        ));
    }
    store.put(slots, values)
}

/// How many of the first slots can be shipped in one call; at least one.
fn affordable(store: &ValueStore, slots: &[u32]) -> usize {
    let mut sum = 0;
    let fits = |slot: &&u32| {
        sum += store.size_of(**slot);
        sum <= SHIPPED_BYTES_MAX
    };
    slots
        .iter()
        .take_while(fits)
        .count()
        .max(1)
        .min(slots.len())
}
