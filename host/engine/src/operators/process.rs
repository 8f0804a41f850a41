//! A user's function with keyed state and timers.
//!
//! A batch's keys are deduped, the values of their eager states shipped with the rows, all others lent for the time of
//! the call, and what the call returns is applied: states, timers, output. A call may consume a prefix of what it got;
//! the rest comes again. A key whose states are all empty and that has no timer is forgotten.
//!
//! Rows of an input without a key see the operator's state alone, those of a broadcast input change broadcast state
//! alone; neither sets timers.
//!
//! A timer that is set at or below the current watermark fires when the watermark advances next; one set by a timer
//! that fires now, before the watermark is forwarded. Processing-time timers do not fire at the end of the input.

mod due;
mod far;
mod snapshot;
mod stores;

use std::sync::atomic::Ordering;

use pelton_model::barrier::Barrier;
use pelton_model::batch::Batch;
use pelton_model::graph::Process;
use pelton_model::key::KeyGroupRange;
use pelton_model::limits::BATCH_ROWS_MAX;
use pelton_model::schema::{Field, Projection, Schema};
use pelton_model::time::ProcessingTime;
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

use super::output::{From, assemble};
use crate::function::{
    DueTimers, KeyedReply, KeyedRows, OutputRows, Rows, Segment, SegmentSpec, Slots, TimerChange,
};
use crate::operator::{Context, Operator, Wakeup};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::state::{StateBackend, StateOwner, StateTime, Touched};
use crate::timer::{Timer, Timers};
use due::Due;
use far::Far;
pub use far::SPILLED_TIMERS;
use snapshot::Saving;
pub use snapshot::{sections, spilled_sections};
use stores::{Stores, Way, split};

/// The most bytes of state that are shipped with one call, and of one answer to what it asks for; a single key's may be
/// more.
pub const SHIPPED_BYTES_MAX: usize = 4 << 20;

/// Calls of timers after which firing hands back to the task, so that what is in flight stays bounded and a stop is
/// noticed.
const CALLS_A_STEP: usize = 64;

/// The operator.
pub struct ProcessOperator {
    inputs: Vec<Input>,
    /// Away while it is lent to a call.
    stores: Option<Box<Stores>>,
    may_set_timers: bool,
    event: Timers,
    processing: Timers,
    /// Those that memory has no room for.
    far: Far,
    /// Event-time timers that the watermark has reached are still to fire.
    busy: bool,
    /// Output streams, and how many columns each has.
    outputs: Vec<usize>,
    touched: Touched,
    due: Due,
    key: Vec<Field>,
    max_parallelism: u32,
    /// The snapshot that is being written.
    saving: Option<Saving>,
}

/// Where an operator's state is kept.
#[derive(Clone, Copy)]
pub struct StatePlace<'a> {
    /// What makes it.
    pub backend: &'a dyn StateBackend,
    /// The operator's uid.
    pub uid: &'a str,
    /// Which task.
    pub task: u32,
    /// Those of the task.
    pub key_groups: KeyGroupRange,
    /// The job's number of key groups.
    pub max_parallelism: u32,
}

struct Input {
    way: Way,
    view: Projection,
    key: Vec<usize>,
    spec: SegmentSpec,
    segment: Option<Segment>,
}

impl Input {
    fn segment(&mut self, cx: &mut Context<'_>) -> Result<Segment> {
        match self.segment {
            Some(s) => Ok(s),
            None => Ok(*self.segment.insert(cx.functions.prepare(&self.spec)?)),
        }
    }
}

impl ProcessOperator {
    /// `inputs` are the pruned schemas of the streams into it, `declared` those of its outputs; `place` is where its
    /// state is kept. Errors: a field that is not there; what the backend refuses.
    pub fn new(
        spec: &Process,
        name: &str,
        inputs: &[Schema],
        declared: &[Schema],
        place: &StatePlace<'_>,
    ) -> Result<Self> {
        let key = key_fields(spec, inputs)?;
        far::check_names(&spec.states)?;
        let streams = |schema: (usize, &Schema)| ((0, schema.0 as u32), schema.1.clone());
        let outputs: Vec<_> = declared.iter().enumerate().map(streams).collect();
        let mut all = Vec::new();
        for (number, (input, schema)) in spec.inputs.iter().zip(inputs).enumerate() {
            let segment = SegmentSpec {
                functions: vec![spec.function],
                names: vec![name.to_owned()],
                number: number as u32,
                input: input.view.clone(),
                outputs: outputs.clone(),
                // Calls by an input without a key pass none.
                key: if input.key.is_empty() {
                    Vec::new()
                } else {
                    key.clone()
                },
                states: spec.states.clone(),
                accumulator: None,
            };
            all.push(Input {
                way: match input.broadcast {
                    true => Way::Broadcast,
                    false if input.key.is_empty() => Way::Unkeyed,
                    false => Way::Keyed,
                },
                view: Projection::new(schema, &input.view)?,
                key: input
                    .key
                    .iter()
                    .filter_map(|k| schema.index_of(k))
                    .collect(),
                spec: segment,
                segment: None,
            });
        }
        let owner = StateOwner {
            uid: place.uid.to_owned(),
            task: place.task,
            key: key.clone(),
            states: split(&spec.states).0,
            key_groups: place.key_groups,
            max_parallelism: place.max_parallelism,
        };
        let keyed = place.backend.keyed(&owner)?;
        Ok(Self {
            inputs: all,
            stores: Some(Box::new(Stores::new(&spec.states, keyed)?)),
            may_set_timers: spec.timers,
            event: Timers::default(),
            processing: Timers::default(),
            far: Far::new(owner),
            busy: false,
            outputs: declared.iter().map(|s| s.fields.len()).collect(),
            touched: Touched::default(),
            due: Due::default(),
            key,
            max_parallelism: place.max_parallelism,
            saving: None,
        })
    }

    /// Runs the function over rows of `part`; returns how many are done.
    fn call(&mut self, number: u32, part: &Batch, cx: &mut Context<'_>) -> Result<usize> {
        let input = self
            .inputs
            .get_mut(number as usize)
            .ok_or_else(|| Error::bug("a batch for an input that is not there"))?;
        let (segment, way) = (input.segment(cx)?, input.way);
        let key: Vec<_> = input
            .key
            .iter()
            .filter_map(|o| part.columns().get(*o))
            .cloned()
            .collect();
        let mut columns = input.view.apply(part.columns())?;
        let stores = home(&mut self.stores)?;
        stores.keyed.at(time(cx));
        let mut rows = part.len();
        match way {
            Way::Keyed => {
                stores.keyed.touch(&key, rows, &mut self.touched)?;
                let slots = &self.touched.slots;
                let keys = stores.keyed.affordable(slots, SHIPPED_BYTES_MAX);
                let first = self.touched.first_rows.get(keys);
                rows = first.map_or(rows, |r| *r as usize);
            }
            Way::Unkeyed => set_one_key(&mut self.touched, rows),
            Way::Broadcast => set_one_key(&mut self.touched, 0),
        }
        if rows < part.len() {
            columns.iter_mut().for_each(|c| *c = c.slice(0, rows));
        }
        let part = part.slice(0, rows);
        let (keys, states) = self.shipped(way, rows)?;
        let call = KeyedRows {
            input: number,
            rows: Rows {
                rows,
                columns: &columns,
                times: part.times(),
                kinds: part.kinds(),
            },
            ordinals: self.touched.ordinals.get(..rows).unwrap_or_default(),
            keys: &keys,
            states: &states,
        };
        let moment = cx.moment();
        let reply = Stores::lend(&mut self.stores, |lent| {
            cx.functions.process(segment, moment, &call, lent)
        })?;
        let done = reply.consumed;
        if done == 0 || done > rows {
            return Err(Error::new(
                ErrorCode::BadReply,
                format!("a function consumed {done} of {rows} rows"),
            ));
        }
        let parent = Batch::new(Vec::new(), done)?
            .with_times(part.times().map(|t| t.slice(0, done)))?
            .with_kinds(part.kinds().map(|k| k.slice(0, done)))?;
        self.apply(way, reply, &parent, cx)?;
        if way == Way::Keyed {
            let is_done = |r: &u32| (*r as usize) < done;
            let seen = self.touched.first_rows.partition_point(is_done);
            self.forget(seen)?;
        }
        Ok(done)
    }

    /// The keys of a call over so many rows, and the values of their eager states. The stores remember the slots.
    fn shipped(&mut self, way: Way, rows: usize) -> Result<(Slots, Vec<Slots>)> {
        let stores = home(&mut self.stores)?;
        stores.slots.clear();
        if way == Way::Keyed {
            let first_rows = &self.touched.first_rows;
            let keys = first_rows.partition_point(|r| (*r as usize) < rows);
            let slots = self.touched.slots.get(..keys).unwrap_or_default();
            stores.slots.extend_from_slice(slots);
            return Ok((stores.keyed.keys(slots)?, stores.keyed.read(slots)?));
        }
        let rows = usize::from(way == Way::Unkeyed);
        let keys = Slots {
            rows,
            present: None,
            columns: Vec::new(),
        };
        Ok((keys, stores.nothing(rows)))
    }

    /// What a call returned takes effect.
    fn apply(
        &mut self,
        way: Way,
        reply: KeyedReply,
        parent: &Batch,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let stores = home(&mut self.stores)?;
        stores.write(way, reply.states)?;
        // The end of the input needs no event times: each function may wait for it.
        let at_end = |t: &TimerChange| t.time == i64::MAX && !t.processing_time;
        let may_set = self.may_set_timers || reply.timers.iter().all(at_end);
        if !reply.timers.is_empty() && (!may_set || way != Way::Keyed) {
            let why = if self.may_set_timers {
                "rows without a key set a timer"
            } else {
                "a function that declares no timers set one"
            };
            return Err(Error::new(ErrorCode::BadReply, why));
        }
        for TimerChange {
            ordinal,
            time,
            delete,
            processing_time,
        } in reply.timers
        {
            let slot = *stores.slots.get(ordinal as usize).ok_or_else(|| {
                Error::new(ErrorCode::BadReply, "a timer names a key that is not there")
            })?;
            let near = if processing_time {
                &mut self.processing
            } else {
                &mut self.event
            };
            let clock = usize::from(processing_time);
            if delete {
                self.far.delete(clock, near, time, slot)
            } else {
                self.far.set(clock, near, time, slot)
            }
        }
        self.far.flush(stores.keyed.as_ref())?;
        for rows in reply.outputs {
            let columns = self.outputs.get(rows.port as usize);
            let columns = *columns.ok_or_else(|| {
                Error::new(ErrorCode::BadReply, "rows for an output that is not there")
            })?;
            emit_made(rows, columns, parent, cx)?;
        }
        let timers =
            self.event.bytes() + self.processing.bytes() + self.far.bytes() + self.due.bytes();
        stores.check(timers, cx.limits)
    }

    /// Forgets the first so many keys of the call, as far as nothing is left of them.
    fn forget(&mut self, keys: usize) -> Result<()> {
        self.save_timers()?;
        let (stores, timers) = (home(&mut self.stores)?, (&self.event, &self.processing));
        let slots = stores.slots.get(..keys).unwrap_or_default();
        stores.keyed.forget(slots, &|slot| has_timer(timers, slot));
        Ok(())
    }

    /// Between calls: the state makes room, and drops what has expired.
    fn tidy(&mut self, cx: &Context<'_>) -> Result<()> {
        let near = [&mut self.event, &mut self.processing];
        self.far
            .spill(near, home(&mut self.stores)?.keyed.as_ref())?;
        self.save_timers()?;
        let (stores, timers) = (home(&mut self.stores)?, (&self.event, &self.processing));
        stores.keyed.tidy(&|slot| has_timer(timers, slot))?;
        let entries = &cx.metrics.state_entries;
        entries.store(stores.keyed.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Fires timers at or below `now`, at most so many calls of them, until none remains (of processing time: none that was
    /// there before). Whether none is left.
    fn fire(
        &mut self,
        processing_time: bool,
        now: i64,
        calls_max: usize,
        cx: &mut Context<'_>,
    ) -> Result<bool> {
        if processing_time || !self.busy {
            self.due.begin();
        }
        self.fetch(processing_time, now, cx)?;
        // A function that sets a processing-time timer again for a time that has passed must not hold the task.
        let set_below = if processing_time {
            self.processing.sets()
        } else {
            u64::MAX
        };
        let mut calls = 0;
        loop {
            let timers = if processing_time {
                &mut self.processing
            } else {
                &mut self.event
            };
            if calls == calls_max {
                return Ok(timers.first().is_none_or(|time| time > now));
            }
            let due = timers.take_due(now, self.due.most(), set_below);
            if due.is_empty() {
                return Ok(true);
            }
            self.fire_some(processing_time, &due, cx)?;
            self.tidy(cx)?;
            self.fetch(processing_time, now, cx)?;
            calls += 1;
        }
    }

    /// Brings the first timers into memory, where some are due.
    fn fetch(&mut self, processing_time: bool, now: i64, cx: &Context<'_>) -> Result<()> {
        let near = if processing_time {
            &mut self.processing
        } else {
            &mut self.event
        };
        let keyed = home(&mut self.stores)?.keyed.as_mut();
        keyed.at(time(cx));
        self.far
            .fetch(usize::from(processing_time), now, near, keyed)
    }

    /// Fires event-time timers that the watermark has reached. Returns what is forwarded once none is left.
    fn fire_event_time(
        &mut self,
        calls_max: usize,
        cx: &mut Context<'_>,
    ) -> Result<Option<Watermark>> {
        self.busy = !self.fire(false, cx.watermark.0, calls_max, cx)?;
        Ok((!self.busy).then_some(cx.watermark))
    }

    fn fire_some(
        &mut self,
        processing_time: bool,
        due: &[Timer],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let keyed = self.inputs.iter_mut().find(|i| i.way == Way::Keyed);
        let segment = keyed
            .ok_or_else(|| Error::bug("timers without an input that has keys"))?
            .segment(cx)?;
        let stores = home(&mut self.stores)?;
        stores.keyed.at(time(cx));
        self.due.take(due, &mut stores.slots);
        let fit = stores.keyed.affordable(&stores.slots, SHIPPED_BYTES_MAX);
        stores.slots.truncate(fit);
        self.due.keep(fit);
        let fit = self.due.times().len();
        let states = stores.keyed.read(&stores.slots)?;
        let call = DueTimers {
            ordinals: self.due.ordinals(),
            keys: &stores.keyed.keys(&stores.slots)?,
            times: self.due.times(),
            processing_time,
            states: &states,
        };
        let moment = cx.moment();
        let reply = Stores::lend(&mut self.stores, |lent| {
            cx.functions.on_timers(segment, moment, &call, lent)
        })?;
        let done = reply.consumed;
        if done == 0 || done > fit {
            return Err(Error::new(
                ErrorCode::BadReply,
                format!("a function consumed {done} of {fit} timers"),
            ));
        }
        let timers = if processing_time {
            &mut self.processing
        } else {
            &mut self.event
        };
        timers.put_back(due.get(done..).unwrap_or_default());
        // Rows that come from a processing-time timer have no event time but what the function gives.
        let times =
            (!processing_time).then(|| self.due.times().iter().copied().take(done).collect());
        let parent = Batch::new(Vec::new(), done)?.with_times(times)?;
        self.apply(Way::Keyed, reply, &parent, cx)?;
        self.due.done(done);
        self.forget(self.due.keys(done))
    }
}

/// The key's fields; one may be null where it may be in any of the inputs. Errors: a field that is not there.
fn key_fields(spec: &Process, inputs: &[Schema]) -> Result<Vec<Field>> {
    let mut key: Vec<Field> = Vec::new();
    for (input, schema) in spec.inputs.iter().zip(inputs) {
        let field = |k: &String| {
            let field = schema.field(k).cloned();
            field.ok_or_else(|| Error::bug(format!("key field '{k}' is not in the stream")))
        };
        let fields = input.key.iter().map(field).collect::<Result<Vec<_>>>()?;
        if key.is_empty() {
            key = fields;
        } else {
            key.iter_mut()
                .zip(&fields)
                .for_each(|(k, f)| k.nullable |= f.nullable);
        }
    }
    Ok(key)
}

fn home(stores: &mut Option<Box<Stores>>) -> Result<&mut Stores> {
    stores
        .as_deref_mut()
        .ok_or_else(|| Error::bug("the state was lost in a call that failed"))
}

fn has_timer(timers: (&Timers, &Timers), slot: u32) -> bool {
    timers.0.has(slot) || timers.1.has(slot)
}

fn time(cx: &Context<'_>) -> StateTime {
    StateTime {
        processing_time: cx.now,
        watermark: cx.watermark,
    }
}

/// So many rows without a key: they stand under ordinal 0.
fn set_one_key(touched: &mut Touched, rows: usize) {
    touched.slots.clear();
    touched.first_rows.clear();
    touched.ordinals.clear();
    touched.ordinals.resize(rows, 0);
}

/// Emits rows of which a function made all columns.
pub(super) fn emit_made(
    rows: OutputRows,
    columns: usize,
    parent: &Batch,
    cx: &mut Context<'_>,
) -> Result<()> {
    let port = rows.port;
    let all: Vec<From> = (0..columns).map(From::Made).collect();
    let batch = assemble(rows, parent, &all)?.materialize()?;
    emit_sliced(port, &batch, cx);
    Ok(())
}

/// Emits a materialised batch as batches of at most [`BATCH_ROWS_MAX`] rows.
pub(super) fn emit_sliced(port: u32, batch: &Batch, cx: &mut Context<'_>) {
    let rows = batch.rows();
    for start in (0..rows).step_by(BATCH_ROWS_MAX) {
        cx.emit(port, batch.slice(start, BATCH_ROWS_MAX.min(rows - start)));
    }
}

impl Operator for ProcessOperator {
    fn batch(&mut self, input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        if self.busy
            && let Some(watermark) = self.fire_event_time(usize::MAX, cx)?
        {
            cx.emit_watermark(watermark);
        }
        let batch = batch.materialize()?;
        let (mut done, mut most) = (0, batch.len());
        while done < batch.len() {
            let rows = most.min(batch.len() - done);
            let consumed = self.call(input, &batch.slice(done, rows), cx)?;
            self.tidy(cx)?;
            done += consumed;
            // What stops early will stop early again: its keys' values are not shipped in vain.
            most = if consumed < rows {
                (consumed * 2).max(64)
            } else {
                batch.len()
            };
        }
        Ok(())
    }

    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        self.fire_event_time(CALLS_A_STEP, cx)
    }

    fn busy(&self) -> bool {
        self.busy
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.busy
            && let Some(watermark) = self.fire_event_time(CALLS_A_STEP, cx)?
        {
            cx.emit_watermark(watermark);
        }
        // One of this very millisecond waits until it has passed: rows that still come in it belong before.
        self.fire(true, cx.now.0.saturating_sub(1), usize::MAX, cx)?;
        Ok(())
    }

    fn next_wake(&self) -> Option<Wakeup> {
        let first = self.processing.first().or(self.far.floor(1));
        first.map(|t| Wakeup::Wall(ProcessingTime(t.saturating_add(1))))
    }

    fn snapshot(&mut self, barrier: Option<Barrier>, into: &mut SnapshotWriter) -> Result<()> {
        self.freeze(barrier, into)
    }

    fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        self.write_frozen(into)
    }

    fn abort_snapshot(&mut self) {
        self.thaw();
    }

    fn restore(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        self.take_back(from, cx)
    }
}

#[cfg(test)]
mod tests;
