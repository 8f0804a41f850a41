//! Keyed functions: rows or timers with the state of their keys, in one call.

use std::marker::PhantomData;
use std::rc::Rc;

use super::segment::side_output;
use super::transform::row_bytes;
use super::{Out, Port};
use crate::bindings::exports::pelton::job::function::{
    KeyedBatch, KeyedReply, Moment, Output, TimerBatch, TimerChanges,
};
use crate::bindings::pelton::job::types::Slots;
use crate::column::{Buffer, Cursor, Fixed, Row, from_bytes};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::place;
use crate::record::Record;
use crate::state::States;
use crate::time::Timestamp;
use crate::value::Value;

/// A keyed function over a call's rows or timers.
pub(crate) trait Keyed {
    fn process(
        &self,
        plan: &[u32],
        at: Moment,
        batch: KeyedBatch,
        budget: usize,
    ) -> Result<KeyedReply>;
    fn on_timers(&self, at: Moment, timers: TimerBatch, budget: usize) -> Result<KeyedReply>;
}

/// What a keyed function does with a row and with a timer.
pub(crate) trait Logic<V: Value, K: Key, O: Record>: 'static {
    fn row(&self, key: K::Ref<'_>, row: V::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>);
    fn timer(&self, key: K::Ref<'_>, time: Timestamp, cx: &mut Ctx, out: &mut Out<O>);
}

/// The time of a call, and the timers of the key at hand.
pub struct Ctx {
    watermark: i64,
    processing_time: i64,
    event_time: Option<i64>,
    key: u32,
    ordinals: Buffer,
    times: Buffer,
    changes: Buffer,
}

impl Ctx {
    fn new(at: Moment) -> Self {
        Self {
            watermark: at.watermark,
            processing_time: at.processing_time,
            event_time: None,
            key: 0,
            ordinals: Buffer::default(),
            times: Buffer::default(),
            changes: Buffer::default(),
        }
    }

    /// The current watermark; constant within a call. None before the first.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.watermark != i64::MIN).then_some(Timestamp(self.watermark))
    }

    /// The host's wall clock; constant within a call.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        Timestamp(self.processing_time)
    }

    /// The event time of the row at hand, or the time of the timer. None where the stream has no event times.
    #[must_use]
    pub fn event_time(&self) -> Option<Timestamp> {
        self.event_time.map(Timestamp)
    }

    /// Sets an event-time timer for the key at hand. One of the same key and time is the same timer.
    pub fn set_timer(&mut self, time: Timestamp) {
        self.change(time, 0);
    }

    /// Deletes an event-time timer of the key at hand; nothing happens if there is none.
    pub fn delete_timer(&mut self, time: Timestamp) {
        self.change(time, 1);
    }

    /// Sets a processing-time timer for the key at hand.
    pub fn set_processing_timer(&mut self, time: Timestamp) {
        self.change(time, 2);
    }

    /// Deletes a processing-time timer of the key at hand.
    pub fn delete_processing_timer(&mut self, time: Timestamp) {
        self.change(time, 3);
    }

    fn change(&mut self, time: Timestamp, change: u8) {
        self.ordinals.push(self.key);
        self.times.push(time.0);
        self.changes.push(change);
    }

    fn finish(mut self) -> Option<TimerChanges> {
        (!self.changes.is_empty()).then(|| TimerChanges {
            ordinals: self.ordinals.take(),
            times: self.times.take(),
            changes: self.changes.take(),
        })
    }
}

/// A keyed function with its states.
pub(crate) struct KeyedFunction<V, K, O, L> {
    logic: L,
    states: States,
    ports: Rc<[Port]>,
    of: PhantomData<fn() -> (V, K, O)>,
}

impl<V, K, O, L> KeyedFunction<V, K, O, L> {
    pub(crate) fn new(logic: L, mut states: States, ports: Rc<[Port]>) -> Self {
        states.register_metrics();
        Self {
            logic,
            states,
            ports,
            of: PhantomData,
        }
    }
}

fn times_of(times: Option<&[u8]>, rows: usize) -> Result<Option<Fixed<'_, i64>>> {
    times
        .map(|bytes| from_bytes::<i64>(bytes, rows))
        .transpose()
}

impl<V: Value, K: Key, O: Record, L: Logic<V, K, O>> KeyedFunction<V, K, O, L> {
    fn reply(
        &self,
        consumed: usize,
        cx: Ctx,
        mut out: Out<O>,
        times: Option<Fixed<'_, i64>>,
    ) -> KeyedReply {
        let parent_time = |row: u32| times.and_then(|t| t.get(row as usize)).unwrap_or(i64::MIN);
        let (rows, parents, columns, times) = out.finish(parent_time);
        let mut outputs = Vec::new();
        if rows > 0 {
            let parents = Some(row_bytes(&parents));
            outputs.push(Output {
                step: 0,
                port: 0,
                rows: rows as u32,
                parents,
                columns,
                times,
                kinds: None,
                watermarks: None,
            });
        }
        outputs.extend(
            out.finish_sides()
                .into_iter()
                .filter_map(|s| side_output(0, s, consumed)),
        );
        KeyedReply {
            consumed: consumed as u32,
            outputs,
            states: self.states.changes(),
            timers: cx.finish(),
        }
    }
}

impl<V: Value, K: Key, O: Record, L: Logic<V, K, O>> Keyed for KeyedFunction<V, K, O, L> {
    fn process(
        &self,
        plan: &[u32],
        at: Moment,
        batch: KeyedBatch,
        budget: usize,
    ) -> Result<KeyedReply> {
        let rows = batch.rows.rows as usize;
        self.states.load(batch.states)?;
        let keys = keys_of::<K>(&batch.keys)?;
        let key_rows = batch.keys.rows as usize;
        let ordinals = from_bytes::<u32>(&batch.ordinals, rows)?;
        let times = times_of(batch.rows.times.as_deref(), rows)?;
        let columns = V::row_resolve(&mut Cursor::new(&batch.rows.columns, Some(plan)), rows)?;
        let mut cx = Ctx::new(at);
        let mut out = Out::<O>::new(Rc::clone(&self.ports));
        place::enter(None);
        let mut consumed = rows;
        for i in 0..rows {
            let Some(row) = Row::below(i, rows) else {
                break;
            };
            let ordinal = ordinals.read(row);
            let Some(key_row) = Row::below(ordinal as usize, key_rows) else {
                return Err(
                    Error::new("the host has shipped a row without its key").at_row(i as u32)
                );
            };
            place::set(i);
            self.states.at(ordinal as usize);
            cx.key = ordinal;
            let time = times.as_ref().map(|t| t.read(row));
            cx.event_time = time;
            out.at(i);
            self.logic.row(
                K::read(&keys, key_row),
                V::read(&columns, row),
                &mut cx,
                &mut out,
            );
            out.check().map_err(|e| e.at_row(i as u32))?;
            if i % 16 == 15 && out.bytes() >= budget {
                consumed = i + 1;
                break;
            }
        }
        Ok(self.reply(consumed, cx, out, times))
    }

    fn on_timers(&self, at: Moment, timers: TimerBatch, budget: usize) -> Result<KeyedReply> {
        let rows = timers.keys.rows as usize;
        self.states.load(timers.states)?;
        let keys = keys_of::<K>(&timers.keys)?;
        let times = from_bytes::<i64>(&timers.times, rows)?;
        let mut cx = Ctx::new(at);
        let mut out = Out::<O>::new(Rc::clone(&self.ports));
        place::enter(None);
        let mut consumed = rows;
        for i in 0..rows {
            let Some(row) = Row::below(i, rows) else {
                break;
            };
            let time = times.read(row);
            place::set(i);
            self.states.at(i);
            cx.key = i as u32;
            cx.event_time = (!timers.processing_time).then_some(time);
            out.at(i);
            self.logic
                .timer(K::read(&keys, row), Timestamp(time), &mut cx, &mut out);
            out.check().map_err(|e| e.at_row(i as u32))?;
            if i % 16 == 15 && out.bytes() >= budget {
                consumed = i + 1;
                break;
            }
        }
        Ok(self.reply(consumed, cx, out, Some(times)))
    }
}

pub(crate) fn keys_of<K: Key>(keys: &Slots) -> Result<K::Columns<'_>> {
    K::resolve(&mut Cursor::new(&keys.columns, None), keys.rows as usize)
}
