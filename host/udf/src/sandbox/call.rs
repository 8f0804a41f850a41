//! One call's arguments, whole or the first so many rows of them, and its answer before it is checked.

use pelton_engine::function::{DueTimers, KeyedRows, Moment, Rows, SegmentSpec, Slots};
use pelton_model::schema::Schema;
use pelton_model::{Error, Result};

use super::guest::Guest;
use super::trap::Stop;
use crate::convert::lower::{Columns, FlatSlots, batch, prefix};
use crate::convert::wire;

/// A call as the engine makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    Transform {
        at: Moment,
        rows: Rows<'a>,
    },
    Process {
        at: Moment,
        rows: &'a KeyedRows<'a>,
    },
    Timers {
        at: Moment,
        timers: &'a DueTimers<'a>,
    },
    Accumulate {
        at: Moment,
        rows: Rows<'a>,
        ordinals: &'a [u32],
        accumulators: &'a Slots,
    },
    Merge {
        into: &'a Slots,
        other: &'a Slots,
    },
    Results {
        at: Moment,
        keys: &'a Slots,
        starts: &'a [i64],
        ends: &'a [i64],
        accumulators: &'a Slots,
    },
}

/// An answer, not yet checked.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(wire::ReplyOut),
    Keyed(wire::KeyedReplyOut),
    Slots(wire::SlotsOut),
}

/// A segment, as far as calls need it.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// The guest's number of it.
    pub(crate) number: u32,
    pub(crate) spec: SegmentSpec,
    /// The key as a schema.
    pub(crate) key: Schema,
}

impl<'a> Call<'a> {
    /// What the call is about: rows of the batch, timers or windows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Transform { rows, .. } | Self::Accumulate { rows, .. } => rows.rows,
            Self::Process { rows, .. } => rows.rows.rows,
            Self::Timers { timers, .. } => timers.times.len(),
            Self::Merge { into, .. } => into.rows,
            Self::Results { keys, .. } => keys.rows,
        }
    }

    /// What its rows are, for messages: one, many.
    pub(crate) fn unit(&self) -> (&'static str, &'static str) {
        match self {
            Self::Transform { .. } | Self::Process { .. } | Self::Accumulate { .. } => {
                ("row", "rows")
            }
            Self::Timers { .. } => ("timer", "timers"),
            Self::Merge { .. } => ("accumulator", "accumulators"),
            Self::Results { .. } => ("window", "windows"),
        }
    }

    /// Constant within the call.
    pub(crate) fn at(&self) -> Option<Moment> {
        match self {
            Self::Transform { at, .. }
            | Self::Process { at, .. }
            | Self::Timers { at, .. }
            | Self::Accumulate { at, .. }
            | Self::Results { at, .. } => Some(*at),
            Self::Merge { .. } => None,
        }
    }

    /// Runs the call on the first `take` of its rows.
    pub(crate) fn send(
        &self,
        guest: &mut Guest,
        segment: &Prepared,
        take: usize,
    ) -> Result<Answer, Stop> {
        match *self {
            Self::Transform { at, rows } => transform(guest, segment, at, rows, take),
            Self::Process { at, rows } => process(guest, segment, at, rows, take),
            Self::Timers { at, timers } => on_timers(guest, segment, at, timers, take),
            Self::Accumulate {
                at,
                rows,
                ordinals,
                accumulators,
            } => {
                let input = Columns::new(&segment.spec.input, rows.columns, rows.rows, take)?;
                let input_wire = input.wire();
                let slots = FlatSlots::new(accumulator(segment)?, accumulators, accumulators.rows)?;
                let slots_wire = slots.columns().wire();
                let arguments = (
                    segment.number,
                    moment(at),
                    batch(&rows, take, &input, &input_wire)?,
                    prefix(ordinals, take)?,
                    slots.wire(&slots_wire),
                );
                guest
                    .call(|store, e| e.accumulate.call(store, arguments))
                    .map(Answer::Slots)
            }
            Self::Merge { into, other } => {
                let schema = accumulator(segment)?;
                let into = FlatSlots::new(schema, into, take)?;
                let other = FlatSlots::new(schema, other, take)?;
                let (into_wire, other_wire) = (into.columns().wire(), other.columns().wire());
                let arguments = (
                    segment.number,
                    into.wire(&into_wire),
                    other.wire(&other_wire),
                );
                guest
                    .call(|store, e| e.merge.call(store, arguments))
                    .map(Answer::Slots)
            }
            Self::Results {
                at,
                keys,
                starts,
                ends,
                accumulators,
            } => {
                let keys = FlatSlots::new(&segment.key, keys, take)?;
                let slots = FlatSlots::new(accumulator(segment)?, accumulators, take)?;
                let (keys_wire, slots_wire) = (keys.columns().wire(), slots.columns().wire());
                let arguments = (
                    segment.number,
                    moment(at),
                    keys.wire(&keys_wire),
                    prefix(starts, take)?,
                    prefix(ends, take)?,
                    slots.wire(&slots_wire),
                );
                guest
                    .call(|store, e| e.results.call(store, arguments))
                    .map(Answer::Reply)
            }
        }
    }
}

fn transform(
    guest: &mut Guest,
    segment: &Prepared,
    at: Moment,
    rows: Rows<'_>,
    take: usize,
) -> Result<Answer, Stop> {
    let columns = Columns::new(&segment.spec.input, rows.columns, rows.rows, take)?;
    let wired = columns.wire();
    let rows = batch(&rows, take, &columns, &wired)?;
    guest
        .call(|store, e| e.transform.call(store, (segment.number, moment(at), rows)))
        .map(Answer::Reply)
}

fn process(
    guest: &mut Guest,
    segment: &Prepared,
    at: Moment,
    rows: &KeyedRows<'_>,
    take: usize,
) -> Result<Answer, Stop> {
    let columns = Columns::new(&segment.spec.input, rows.rows.columns, rows.rows.rows, take)?;
    let wired = columns.wire();
    let keys = FlatSlots::new(&segment.key, rows.keys, rows.keys.rows)?;
    let keys_wire = keys.columns().wire();
    let states = flat_states(segment, rows.states, rows.keys.rows)?;
    let states_columns: Vec<_> = states.iter().map(|s| s.columns().wire()).collect();
    let states_wire: Vec<_> = states
        .iter()
        .zip(&states_columns)
        .map(|(s, c)| s.wire(c))
        .collect();
    // Rows of a broadcast input have no key.
    let keyed = match rows.keys.rows {
        0 => 0,
        _ => take,
    };
    let rows = wire::KeyedBatch {
        input: rows.input,
        rows: batch(&rows.rows, take, &columns, &wired)?,
        ordinals: prefix(rows.ordinals, keyed)?,
        keys: keys.wire(&keys_wire),
        states: &states_wire,
    };
    guest
        .call(|store, e| e.process.call(store, (segment.number, moment(at), rows)))
        .map(Answer::Keyed)
}

fn on_timers(
    guest: &mut Guest,
    segment: &Prepared,
    at: Moment,
    timers: &DueTimers<'_>,
    take: usize,
) -> Result<Answer, Stop> {
    let keys = FlatSlots::new(&segment.key, timers.keys, timers.keys.rows)?;
    let keys_wire = keys.columns().wire();
    let states = flat_states(segment, timers.states, timers.keys.rows)?;
    let states_columns: Vec<_> = states.iter().map(|s| s.columns().wire()).collect();
    let states_wire: Vec<_> = states
        .iter()
        .zip(&states_columns)
        .map(|(s, c)| s.wire(c))
        .collect();
    let timers = wire::TimerBatch {
        ordinals: prefix(timers.ordinals, take)?,
        keys: keys.wire(&keys_wire),
        times: prefix(timers.times, take)?,
        processing_time: timers.processing_time,
        states: &states_wire,
    };
    guest
        .call(|store, e| {
            e.on_timers
                .call(store, (segment.number, moment(at), timers))
        })
        .map(Answer::Keyed)
}

fn flat_states(segment: &Prepared, states: &[Slots], take: usize) -> Result<Vec<FlatSlots>> {
    let eager = || segment.spec.states.iter().filter(|s| s.is_eager());
    if states.len() != eager().count() {
        return Err(Error::bug(format!(
            "a call passes {} states where {} are declared",
            states.len(),
            eager().count()
        )));
    }
    eager()
        .zip(states)
        .map(|(state, slots)| FlatSlots::new(&state.schema, slots, take))
        .collect()
}

fn accumulator(segment: &Prepared) -> Result<&Schema> {
    segment
        .spec
        .accumulator
        .as_ref()
        .ok_or_else(|| Error::bug("the segment has no accumulator"))
}

fn moment(at: Moment) -> wire::Moment {
    wire::Moment {
        watermark: at.watermark.0,
        processing_time: at.processing_time.0,
    }
}
