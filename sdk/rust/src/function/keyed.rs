//! Keyed functions: rows or timers with the state of their keys, in one call.

use std::marker::PhantomData;
use std::rc::Rc;

use super::segment::side_output;
use super::transform::row_bytes;
use super::{Open, Out, Port, RowKind};
use crate::bindings::exports::pelton::job::function::{
    KeyedBatch, KeyedReply, Moment, Output, TimerBatch, TimerChanges,
};
use crate::bindings::pelton::job::types::Slots;
use crate::column::{Buffer, Cursor, Fixed, Row, from_bytes};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::place;
use crate::record::Record;
use crate::state::{BroadcastCtx, States};
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
    kind: RowKind,
    is_batch: bool,
    key: u32,
    ordinals: Buffer,
    times: Buffer,
    changes: Buffer,
}

impl Ctx {
    fn new(at: Moment, is_batch: bool) -> Self {
        Self {
            watermark: at.watermark,
            processing_time: at.processing_time,
            event_time: None,
            kind: RowKind::Insert,
            is_batch,
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

    /// What the row at hand does to the table that its stream stands for.
    #[must_use]
    pub fn kind(&self) -> RowKind {
        self.kind
    }

    /// Whether the job runs as a batch: no watermark before the end, final results only.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.is_batch
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

    /// The earliest of the timers of one clock that were changed after so many changes.
    #[inline(always)]
    fn earliest_since(&self, changes: usize, processing_time: bool) -> Option<i64> {
        if self.changes.len() == changes {
            return None;
        }
        let clock = if processing_time { 2 } else { 0 };
        let all = self.changes.len();
        let times = from_bytes::<i64>(self.times.as_slice(), all).ok()?;
        let changed = self.changes.as_slice().iter().zip(times.iter());
        let of_clock = changed.skip(changes).filter(|(c, _)| **c & 2 == clock);
        of_clock.map(|(_, time)| time).min()
    }

    fn finish(mut self) -> Option<TimerChanges> {
        (!self.changes.is_empty()).then(|| TimerChanges {
            ordinals: self.ordinals.take(),
            times: self.times.take(),
            changes: self.changes.take(),
        })
    }
}

/// What functions with state have alike: their states, and the loops over rows and timers.
pub(crate) struct Shell<K, O> {
    states: States,
    ports: Rc<[Port]>,
    is_batch: bool,
    of: PhantomData<fn() -> (K, O)>,
}

impl<K: Key, O: Record> Shell<K, O> {
    pub(crate) fn new(mut states: States, open: &Open) -> Self {
        states.register_metrics();
        Self {
            states,
            ports: open.ports(),
            is_batch: open.is_batch(),
            of: PhantomData,
        }
    }

    /// Runs `f` over rows with their keys.
    #[inline(always)]
    pub(crate) fn rows<V: Value>(
        &self,
        plan: &[u32],
        at: Moment,
        batch: KeyedBatch,
        budget: usize,
        mut f: impl FnMut(K::Ref<'_>, V::Ref<'_>, &mut Ctx, &mut Out<O>),
    ) -> Result<KeyedReply> {
        let rows = batch.rows.rows as usize;
        let key_rows = batch.keys.rows as usize;
        self.states.load(key_rows, false, batch.states)?;
        let keys = keys_of::<K>(&batch.keys)?;
        let ordinals = from_bytes::<u32>(&batch.ordinals, rows)?;
        let times = times_of(batch.rows.times.as_deref(), rows)?;
        let kinds = kinds_of(batch.rows.kinds.as_deref(), rows)?;
        let columns = V::row_resolve(&mut Cursor::new(&batch.rows.columns, Some(plan)), rows)?;
        let mut cx = Ctx::new(at, self.is_batch);
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
            cx.event_time = times.as_ref().map(|t| t.read(row));
            if let Some(kinds) = &kinds {
                cx.kind = RowKind::of(kinds.read(row));
            }
            out.at(i);
            f(
                K::read(&keys, key_row),
                V::read(&columns, row),
                &mut cx,
                &mut out,
            );
            out.check().map_err(|e| e.at_row(i as u32))?;
            if i % 16 == 15 && out.bytes() + self.states.bytes() >= budget {
                consumed = i + 1;
                break;
            }
        }
        Ok(self.reply(consumed, cx.finish(), out, times, kinds))
    }

    /// Runs `f` over rows that all tasks get.
    pub(crate) fn broadcast<V: Value>(
        &self,
        plan: &[u32],
        at: Moment,
        batch: KeyedBatch,
        budget: usize,
        mut f: impl FnMut(V::Ref<'_>, &mut BroadcastCtx, &mut Out<O>),
    ) -> Result<KeyedReply> {
        let rows = batch.rows.rows as usize;
        self.states.load(0, false, batch.states)?;
        let times = times_of(batch.rows.times.as_deref(), rows)?;
        let kinds = kinds_of(batch.rows.kinds.as_deref(), rows)?;
        let columns = V::row_resolve(&mut Cursor::new(&batch.rows.columns, Some(plan)), rows)?;
        let mut cx = BroadcastCtx {
            watermark: at.watermark,
            processing_time: at.processing_time,
            event_time: None,
            is_batch: self.is_batch,
        };
        let mut out = Out::<O>::new(Rc::clone(&self.ports));
        place::enter(None);
        let mut consumed = rows;
        for (i, row) in (0..rows).filter_map(|i| Some((i, Row::below(i, rows)?))) {
            place::set(i);
            cx.event_time = times.as_ref().map(|t| t.read(row));
            out.at(i);
            f(V::read(&columns, row), &mut cx, &mut out);
            out.check().map_err(|e| e.at_row(i as u32))?;
            if i % 16 == 15 && out.bytes() + self.states.bytes() >= budget {
                consumed = i + 1;
                break;
            }
        }
        Ok(self.reply(consumed, None, out, times, kinds))
    }

    /// Runs `f` over timers that are due.
    #[inline(always)]
    pub(crate) fn timers(
        &self,
        at: Moment,
        timers: TimerBatch,
        budget: usize,
        mut f: impl FnMut(K::Ref<'_>, Timestamp, &mut Ctx, &mut Out<O>),
    ) -> Result<KeyedReply> {
        let rows = timers.ordinals.len() / 4;
        let key_rows = timers.keys.rows as usize;
        self.states.load(key_rows, true, timers.states)?;
        let keys = keys_of::<K>(&timers.keys)?;
        let ordinals = from_bytes::<u32>(&timers.ordinals, rows)?;
        let times = from_bytes::<i64>(&timers.times, rows)?;
        let mut cx = Ctx::new(at, self.is_batch);
        let mut out = Out::<O>::new(Rc::clone(&self.ports));
        place::enter(None);
        let mut consumed = rows;
        for i in 0..rows {
            let Some(row) = Row::below(i, rows) else {
                break;
            };
            let (ordinal, time) = (ordinals.read(row), times.read(row));
            let Some(key_row) = Row::below(ordinal as usize, key_rows) else {
                return Err(
                    Error::new("the host has shipped a timer without its key").at_row(i as u32)
                );
            };
            place::set(i);
            self.states.at(ordinal as usize);
            cx.key = ordinal;
            cx.event_time = (!timers.processing_time).then_some(time);
            out.at(i);
            let changes = cx.changes.len();
            f(K::read(&keys, key_row), Timestamp(time), &mut cx, &mut out);
            out.check().map_err(|e| e.at_row(i as u32))?;
            let changed = cx.earliest_since(changes, timers.processing_time);
            if changed.is_some_and(|from| fires_again(ordinal, from, i, &ordinals, &times)) {
                consumed = i + 1;
                break;
            }
            if i % 16 == 15 && out.bytes() + self.states.bytes() >= budget {
                consumed = i + 1;
                break;
            }
        }
        Ok(self.reply(consumed, cx.finish(), out, Some(times), None))
    }

    fn reply(
        &self,
        consumed: usize,
        timers: Option<TimerChanges>,
        mut out: Out<O>,
        times: Option<Fixed<'_, i64>>,
        kinds: Option<Fixed<'_, u8>>,
    ) -> KeyedReply {
        let parent_kind = |row: u32| kinds.and_then(|k| k.get(row as usize)).unwrap_or(0);
        let kinds = out.finish_kinds(parent_kind);
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
                kinds,
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
            timers,
        }
    }
}

/// Whether a key has another timer behind the one at hand, at this time or later.
fn fires_again(
    key: u32,
    from: i64,
    at: usize,
    ordinals: &Fixed<'_, u32>,
    times: &Fixed<'_, i64>,
) -> bool {
    // They ascend: most changes are for later than all of them.
    if times.len() == at + 1 || times.get(times.len() - 1).is_some_and(|last| last < from) {
        return false;
    }
    let rest = ordinals.iter().zip(times.iter()).skip(at + 1);
    rest.into_iter().any(|(o, time)| o == key && time >= from)
}

fn times_of(times: Option<&[u8]>, rows: usize) -> Result<Option<Fixed<'_, i64>>> {
    times
        .map(|bytes| from_bytes::<i64>(bytes, rows))
        .transpose()
}

fn kinds_of(kinds: Option<&[u8]>, rows: usize) -> Result<Option<Fixed<'_, u8>>> {
    kinds.map(|bytes| from_bytes::<u8>(bytes, rows)).transpose()
}

/// A keyed function with its states.
pub(crate) struct KeyedFunction<V, K, O, L> {
    logic: L,
    shell: Shell<K, O>,
    of: PhantomData<fn() -> V>,
}

impl<V, K: Key, O: Record, L> KeyedFunction<V, K, O, L> {
    pub(crate) fn new(logic: L, states: States, open: &Open) -> Self {
        Self {
            logic,
            shell: Shell::new(states, open),
            of: PhantomData,
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
        let row = |key: K::Ref<'_>, row: V::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>| {
            self.logic.row(key, row, cx, out);
        };
        self.shell.rows::<V>(plan, at, batch, budget, row)
    }

    fn on_timers(&self, at: Moment, timers: TimerBatch, budget: usize) -> Result<KeyedReply> {
        let timer = |key: K::Ref<'_>, time, cx: &mut Ctx, out: &mut Out<O>| {
            self.logic.timer(key, time, cx, out);
        };
        self.shell.timers(at, timers, budget, timer)
    }
}

pub(crate) fn keys_of<K: Key>(keys: &Slots) -> Result<K::Columns<'_>> {
    K::resolve(&mut Cursor::new(&keys.columns, None), keys.rows as usize)
}
