//! Users' aggregates: their accumulators are values under keys, a call for all keys that a batch touches in a pane.

use arrow_array::ArrayRef;
use pelton_model::batch::Batch;
use pelton_model::graph::WindowFunction;
use pelton_model::schema::{Field, Projection, Schema};
use pelton_model::{Error, ErrorCode, Result};

use super::function::Firing;
use crate::function::{Rows, Segment, SegmentSpec, Slots};
use crate::operator::Context;
use crate::operators::process::{SHIPPED_BYTES_MAX, emit_made};
use crate::state::{KeyIndex, RowSet, Touched, ValueStore};

/// Windows in one call at most.
const RESULTS_MAX: usize = 4096;

/// A user's aggregate.
pub(in crate::operators) struct User {
    spec: SegmentSpec,
    segment: Option<Segment>,
    view: Projection,
    accumulator: Schema,
    /// By port; the late output has none.
    outputs: Vec<Option<usize>>,
    /// The rows are accumulators.
    combined: bool,
    touched: Touched,
    /// By slot: the base of the last rows that touched it, plus its ordinal there.
    marks: Vec<u32>,
    base: u32,
}

impl User {
    pub(super) fn new(
        function: &WindowFunction,
        name: &str,
        input: &Schema,
        key: &[Field],
        declared: &[Schema],
        late_output: Option<u32>,
    ) -> Result<Self> {
        let WindowFunction::Aggregate {
            function,
            view,
            accumulator,
            combined,
            ..
        } = function
        else {
            return Err(Error::bug("a native window is not a user's"));
        };
        let is_late = |port: usize| late_output == Some(port as u32);
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
            combined: *combined,
            touched: Touched::default(),
            marks: Vec::new(),
            base: 1,
        })
    }

    /// The fields of an accumulator.
    pub(super) fn accumulator(&self) -> &Schema {
        &self.accumulator
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
        let mut columns = self.view.apply(batch.columns())?;
        let viewed = columns.len();
        columns.extend(key.iter().cloned());
        let batch = only(&batch.clone().with_columns(columns)?, rows)?;
        let mut touched = std::mem::take(&mut self.touched);
        let mut done = 0;
        while done < batch.len() {
            let rest = batch.slice(done, batch.len() - done);
            let (view, key) = rest
                .columns()
                .split_at_checked(viewed)
                .ok_or_else(|| Error::bug("a batch has too few columns"))?;
            index.touch(key, rest.len(), &mut touched)?;
            let rest = rest.clone().with_columns(view.to_vec())?;
            done += self.call(store, &rest, &touched, cx)?;
        }
        self.touched = touched;
        Ok(())
    }

    /// Adds each row to the accumulator in its slot.
    pub(super) fn accumulate(
        &mut self,
        store: &mut ValueStore,
        batch: &Batch,
        rows: RowSet<'_>,
        slots: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let columns = self.view.apply(batch.columns())?;
        let batch = only(&batch.clone().with_columns(columns)?, rows)?;
        let mut touched = std::mem::take(&mut self.touched);
        let mut done = 0;
        while done < batch.len() {
            self.touch(slots.get(done..).unwrap_or_default(), &mut touched);
            let rest = batch.slice(done, batch.len() - done);
            done += self.call(store, &rest, &touched, cx)?;
        }
        self.touched = touched;
        Ok(())
    }

    /// Dedupes slots.
    fn touch(&mut self, slots: &[u32], out: &mut Touched) {
        out.ordinals.clear();
        out.slots.clear();
        out.first_rows.clear();
        let most = slots.iter().max().map_or(0, |s| *s as usize + 1);
        if self.marks.len() < most {
            self.marks.resize(most, 0);
        }
        if self.base > u32::MAX / 2 {
            self.marks.fill(0);
            self.base = 1;
        }
        for (row, slot) in slots.iter().enumerate() {
            let Some(mark) = self.marks.get_mut(*slot as usize) else {
                continue;
            };
            if *mark < self.base {
                *mark = self.base + out.slots.len() as u32;
                out.slots.push(*slot);
                out.first_rows.push(row as u32);
            }
            out.ordinals.push(*mark - self.base);
        }
        self.base += out.slots.len() as u32;
    }

    /// Adds as many of the first rows as one call takes. Returns how many.
    fn call(
        &mut self,
        store: &mut ValueStore,
        rest: &Batch,
        touched: &Touched,
        cx: &mut Context<'_>,
    ) -> Result<usize> {
        let segment = self.segment(cx)?;
        if self.combined {
            return take_in(segment, store, rest, touched, cx);
        }
        let keys = affordable(store, &touched.slots);
        let rows = touched
            .first_rows
            .get(keys)
            .map_or(rest.len(), |r| *r as usize);
        let slots = touched.slots.get(..keys).unwrap_or_default();
        let view: Vec<ArrayRef> = rest.columns().iter().map(|c| c.slice(0, rows)).collect();
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
        let ordinals = touched.ordinals.get(..rows).unwrap_or_default();
        let accumulators = store.gather(slots)?;
        let new = cx
            .functions
            .accumulate(segment, cx.moment(), call, ordinals, &accumulators)?;
        put(store, slots, &new)?;
        Ok(rows)
    }

    /// Merges each accumulator of `from` into that of `into`; no slot stands twice.
    pub(super) fn join(
        &mut self,
        store: &mut ValueStore,
        into: &[u32],
        from: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let segment = self.segment(cx)?;
        let (mut into, mut from) = (into, from);
        while !into.is_empty() {
            let n = affordable(store, from)
                .min(affordable(store, into))
                .min(RESULTS_MAX);
            let (places, slots) = (into.get(..n), from.get(..n));
            let (places, slots) = (places.unwrap_or(into), slots.unwrap_or(from));
            let merged =
                cx.functions
                    .merge(segment, &store.gather(places)?, &store.gather(slots)?)?;
            put(store, places, &merged)?;
            into = into.get(n..).unwrap_or_default();
            from = from.get(n..).unwrap_or_default();
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

    /// Emits the results of windows.
    pub(super) fn emit(
        &mut self,
        store: &ValueStore,
        firing: Firing<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let segment = self.segment(cx)?;
        let times = firing.times();
        let mut first = 0;
        while let Some(rest) = firing.slots.get(first..).filter(|r| !r.is_empty()) {
            let n = affordable(store, rest).min(RESULTS_MAX);
            let slots = rest.get(..n).unwrap_or(rest);
            let (Some(starts), Some(ends)) = (
                firing.starts.get(first..first + n),
                firing.ends.get(first..first + n),
            ) else {
                return Err(Error::bug("windows without bounds"));
            };
            let keys = Slots {
                rows: n,
                present: None,
                columns: firing.keys.iter().map(|c| c.slice(first, n)).collect(),
            };
            let accumulators = store.gather(slots)?;
            let reply =
                cx.functions
                    .results(segment, cx.moment(), &keys, starts, ends, &accumulators)?;
            let done = reply.consumed;
            if done == 0 || done > n {
                return Err(Error::new(
                    ErrorCode::BadReply,
                    format!("a function consumed {done} of {n} windows"),
                ));
            }
            let parents = times.get(first..first + done).unwrap_or_default().to_vec();
            let parent = Batch::new(Vec::new(), done)?.with_times(Some(parents.into()))?;
            for rows in reply.outputs {
                let columns = self.outputs.get(rows.port as usize).copied().flatten();
                let columns = columns.ok_or_else(|| {
                    Error::new(ErrorCode::BadReply, "rows for an output that is not there")
                })?;
                emit_made(rows, columns, &parent, cx)?;
            }
            first += done;
        }
        Ok(())
    }
}

/// The rows of a set, in its order.
fn only(batch: &Batch, rows: RowSet<'_>) -> Result<Batch> {
    match rows {
        RowSet::First(n) if n == batch.len() => Ok(batch.clone()),
        RowSet::First(n) => Ok(batch.slice(0, n)),
        RowSet::These(rows) => batch.select(rows.to_vec().into())?.materialize(),
    }
}

/// Merges rows that are accumulators into those of their keys: the first rows of all keys in one call, then the second.
fn take_in(
    segment: Segment,
    store: &mut ValueStore,
    rows: &Batch,
    touched: &Touched,
    cx: &mut Context<'_>,
) -> Result<usize> {
    let mut rounds: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
    let mut next = vec![0usize; touched.slots.len()];
    for (row, ordinal) in touched.ordinals.iter().enumerate() {
        let (Some(round), Some(slot)) = (
            next.get_mut(*ordinal as usize),
            touched.slots.get(*ordinal as usize),
        ) else {
            continue;
        };
        // A key without an accumulator takes its first row as it is, in a round before all.
        *round = (*round).max(usize::from(store.has(*slot)));
        if rounds.len() <= *round {
            rounds.resize_with(*round + 1, Default::default);
        }
        if let Some((slots, rows)) = rounds.get_mut(*round) {
            slots.push(*slot);
            rows.push(row as u32);
        }
        *round += 1;
    }
    for (round, (slots, taken)) in rounds.into_iter().enumerate() {
        let taken = rows.select(taken.into())?.materialize()?;
        let (mut slots, mut first) = (slots.as_slice(), 0);
        while !slots.is_empty() {
            let n = affordable(store, slots).min(RESULTS_MAX);
            let places = slots.get(..n).unwrap_or(slots);
            let columns = taken.columns().iter().map(|c| c.slice(first, n)).collect();
            let other = Slots {
                rows: n,
                present: None,
                columns,
            };
            let merged = match round {
                0 => other,
                _ => cx
                    .functions
                    .merge(segment, &store.gather(places)?, &other)?,
            };
            put(store, places, &merged)?;
            slots = slots.get(n..).unwrap_or_default();
            first += n;
        }
    }
    Ok(rows.len())
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
