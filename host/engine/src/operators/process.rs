//! A user's function with keyed state and timers.
//!
//! A batch's keys are deduped, the values of their states shipped with the rows, and what the call returns is applied:
//! states, timers, output. A call may consume a prefix of what it got; the rest comes again. A key whose states are
//! all empty and that has no timer is forgotten.
//!
//! A timer that is set at or below the current watermark fires when the watermark advances next; one set by a timer
//! that fires now, before the watermark is forwarded. Processing-time timers do not fire at the end of the input.

use std::sync::atomic::Ordering;

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
    DueTimers, KeyedReply, KeyedRows, OutputRows, Rows, Segment, SegmentSpec, TimerChange,
};
use crate::operator::{Context, Operator, Wakeup};
use crate::state::{KeyedState, StateBackend, StateOwner, Touched, check_bytes};
use crate::timer::{Timer, Timers};

/// The most bytes of state that are shipped with one call; a single key's may be more.
pub const SHIPPED_BYTES_MAX: usize = 4 << 20;

/// Calls of timers after which firing hands back to the task, so that what is in flight stays bounded and a stop is
/// noticed.
const CALLS_A_STEP: usize = 64;

/// The operator.
pub struct ProcessOperator {
    inputs: Vec<Input>,
    state: Box<dyn KeyedState>,
    may_set_timers: bool,
    event: Timers,
    processing: Timers,
    /// Event-time timers that the watermark has reached are still to fire.
    busy: bool,
    /// Output streams, and how many columns each has.
    outputs: Vec<usize>,
    touched: Touched,
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
    /// state is kept. Errors: a field that is not there, a broadcast input.
    pub fn new(
        spec: &Process,
        name: &str,
        inputs: &[Schema],
        declared: &[Schema],
        place: &StatePlace<'_>,
    ) -> Result<Self> {
        let mut key: Vec<Field> = Vec::new();
        let mut all = Vec::new();
        for (input, schema) in spec.inputs.iter().zip(inputs) {
            if input.broadcast || input.key.is_empty() {
                let message = "a keyed function with a broadcast input is not served";
                return Err(Error::new(ErrorCode::GraphInvalid, message)
                    .help("send the broadcast rows through a keyed input"));
            }
            let ordinals = input
                .key
                .iter()
                .map(|k| {
                    schema
                        .index_of(k)
                        .ok_or_else(|| Error::bug(format!("key field '{k}' is not in the stream")))
                })
                .collect::<Result<Vec<_>>>()?;
            let fields: Vec<Field> = ordinals
                .iter()
                .filter_map(|o| schema.fields.get(*o))
                .cloned()
                .collect();
            // A key may be null where it may be in any of the inputs.
            if key.is_empty() {
                key = fields;
            } else {
                key.iter_mut()
                    .zip(&fields)
                    .for_each(|(k, f)| k.nullable |= f.nullable);
            }
            all.push((
                Projection::new(schema, &input.view)?,
                ordinals,
                input.view.clone(),
            ));
        }
        let streams = |schema: &(usize, &Schema)| ((0, schema.0 as u32), schema.1.clone());
        let outputs: Vec<_> = declared.iter().enumerate().map(|s| streams(&s)).collect();
        let inputs = all
            .into_iter()
            .zip(0..)
            .map(|((view, ordinals, schema), number)| Input {
                view,
                key: ordinals,
                spec: SegmentSpec {
                    functions: vec![spec.function],
                    names: vec![name.to_owned()],
                    number,
                    input: schema,
                    outputs: outputs.clone(),
                    key: key.clone(),
                    states: spec.states.clone(),
                    accumulator: None,
                },
                segment: None,
            })
            .collect();
        Ok(Self {
            inputs,
            state: place.backend.keyed(&StateOwner {
                uid: place.uid.to_owned(),
                task: place.task,
                key,
                states: spec.states.clone(),
                key_groups: place.key_groups,
                max_parallelism: place.max_parallelism,
            })?,
            may_set_timers: spec.timers,
            event: Timers::default(),
            processing: Timers::default(),
            busy: false,
            outputs: declared.iter().map(|s| s.fields.len()).collect(),
            touched: Touched::default(),
        })
    }

    /// Runs the function over rows of `part`; returns how many are done.
    fn call(&mut self, number: u32, part: &Batch, cx: &mut Context<'_>) -> Result<usize> {
        let input = self
            .inputs
            .get_mut(number as usize)
            .ok_or_else(|| Error::bug("a batch for an input that is not there"))?;
        let segment = input.segment(cx)?;
        let key = input
            .key
            .iter()
            .filter_map(|o| part.columns().get(*o))
            .cloned()
            .collect::<Vec<_>>();
        let columns = input.view.apply(part.columns())?;
        let mut touched = std::mem::take(&mut self.touched);
        self.state.touch(&key, part.len(), &mut touched)?;
        let keys = self.state.affordable(&touched.slots, SHIPPED_BYTES_MAX);
        let rows = touched
            .first_rows
            .get(keys)
            .map_or(part.len(), |r| *r as usize);
        let slots = touched.slots.get(..keys).unwrap_or_default();
        let states = self.state.read(slots)?;
        let part = part.slice(0, rows);
        let sliced: Vec<_> = columns
            .iter()
            .map(|c| {
                if c.len() == rows {
                    c.clone()
                } else {
                    c.slice(0, rows)
                }
            })
            .collect();
        let call = KeyedRows {
            input: number,
            rows: Rows {
                rows,
                columns: &sliced,
                times: part.times(),
                kinds: part.kinds(),
            },
            ordinals: touched.ordinals.get(..rows).unwrap_or_default(),
            keys: &self.state.keys(slots)?,
            states: &states,
        };
        let reply = cx.functions.process(segment, cx.moment(), &call, &mut None)?;
        let done = reply.consumed;
        if done == 0 || done > rows {
            return Err(Error::new(
                ErrorCode::BadReply,
                format!("a function consumed {done} of {rows} rows"),
            ));
        }
        let parent =
            Batch::new(Vec::new(), done)?.with_times(part.times().map(|t| t.slice(0, done)))?;
        self.apply(reply, slots, &parent, cx)?;
        self.forget(&touched.slots);
        self.touched = touched;
        Ok(done)
    }

    /// What a call returned takes effect.
    fn apply(
        &mut self,
        reply: KeyedReply,
        slots: &[u32],
        parent: &Batch,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        self.state.write(slots, &reply.states)?;
        if !self.may_set_timers && !reply.timers.is_empty() {
            return Err(Error::new(
                ErrorCode::BadReply,
                "a function that declares no timers set one",
            ));
        }
        for TimerChange {
            ordinal,
            time,
            delete,
            processing_time,
        } in reply.timers
        {
            let slot = *slots.get(ordinal as usize).ok_or_else(|| {
                Error::new(ErrorCode::BadReply, "a timer names a key that is not there")
            })?;
            let timers = if processing_time {
                &mut self.processing
            } else {
                &mut self.event
            };
            if delete {
                timers.delete(time, slot)
            } else {
                timers.set(time, slot)
            }
        }
        for rows in reply.outputs {
            let columns = self.outputs.get(rows.port as usize);
            let columns = *columns.ok_or_else(|| {
                Error::new(ErrorCode::BadReply, "rows for an output that is not there")
            })?;
            emit_made(rows, columns, parent, cx)?;
        }
        check_bytes(
            self.state.bytes() + self.event.bytes() + self.processing.bytes(),
            cx.limits,
        )
    }

    fn forget(&mut self, slots: &[u32]) {
        let (event, processing) = (&self.event, &self.processing);
        self.state
            .forget(slots, &|slot| event.has(slot) || processing.has(slot));
    }

    /// Fires timers at or below `now` until none remains (of processing time: none that was there before).
    /// Fires due timers, at most so many calls of them. Whether none is left.
    fn fire(
        &mut self,
        processing_time: bool,
        now: i64,
        calls_max: usize,
        cx: &mut Context<'_>,
    ) -> Result<bool> {
        // A function that sets a processing-time timer again for a time that has passed must not hold the task.
        let set_below = if processing_time {
            self.processing.sets()
        } else {
            u64::MAX
        };
        let mut calls = 0;
        let done = loop {
            let timers = if processing_time {
                &mut self.processing
            } else {
                &mut self.event
            };
            if calls == calls_max {
                break timers.first().is_none_or(|time| time > now);
            }
            let due = timers.take_due(now, BATCH_ROWS_MAX, set_below);
            if due.is_empty() {
                break true;
            }
            self.fire_some(processing_time, &due, cx)?;
            calls += 1;
        };
        cx.metrics
            .state_entries
            .store(self.state.len() as u64, Ordering::Relaxed);
        Ok(done)
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
        let segment = self
            .inputs
            .first_mut()
            .ok_or_else(|| Error::bug("a keyed function without an input"))?
            .segment(cx)?;
        let slots: Vec<u32> = due.iter().map(|t| t.slot).collect();
        let fit = self.state.affordable(&slots, SHIPPED_BYTES_MAX);
        let slots = slots.get(..fit).unwrap_or_default();
        let times: Vec<i64> = due.iter().take(fit).map(|t| t.time).collect();
        let states = self.state.read(slots)?;
        let call = DueTimers {
            keys: &self.state.keys(slots)?,
            times: &times,
            processing_time,
            states: &states,
        };
        let reply = cx.functions.on_timers(segment, cx.moment(), &call, &mut None)?;
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
            (!processing_time).then(|| times.get(..done).unwrap_or_default().to_vec().into());
        let parent = Batch::new(Vec::new(), done)?.with_times(times)?;
        self.apply(reply, slots, &parent, cx)?;
        self.forget(slots.get(..done).unwrap_or_default());
        Ok(())
    }
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
            done += consumed;
            // What stops early will stop early again: its keys' values are not shipped in vain.
            most = if consumed < rows {
                (consumed * 2).max(64)
            } else {
                batch.len()
            };
        }
        cx.metrics
            .state_entries
            .store(self.state.len() as u64, Ordering::Relaxed);
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
        self.fire(true, cx.now.0, usize::MAX, cx)?;
        Ok(())
    }

    fn next_wake(&self) -> Option<Wakeup> {
        self.processing
            .first()
            .map(|t| Wakeup::Wall(ProcessingTime(t)))
    }
}

#[cfg(test)]
mod tests;
