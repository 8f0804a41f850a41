//! A job's functions compiled natively, behind the same trait as those in Wasm: the SDK's own runtime on columns in
//! this process. What Wasm is measured against.
//! Needs: pelton's runtime. Refuses: nested columns, which no measured job has.

use std::cell::RefCell;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, ToByteSlice,
};
use pelton::runtime::{self as guest, Instance};
use pelton_engine::function::{
    DueTimers, EntryChanges, Functions, KeyedReply, KeyedRows, Lent, Moment, OutputRows, Reply,
    Rows, Segment, SegmentSpec, Slots, StateChange, TimerChange,
};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, Result};

use super::lent::lending;

thread_local! {
    /// Functions are not `Send`, as their counterparts in Wasm need not be; the trait is.
    static INSTANCES: RefCell<Vec<Instance>> = const { RefCell::new(Vec::new()) };
}

/// The functions of `bench-jobs`, for the thread that opens them.
pub(super) struct Native {
    place: usize,
    segments: Vec<(u32, SegmentSpec)>,
}

impl Native {
    /// Errors: what the job function refuses.
    pub(super) fn open(params: &[(String, String)], output_budget: u64) -> Result<Self> {
        let param = |(name, value): &(String, String)| guest::Param {
            name: name.clone(),
            value: value.clone(),
        };
        let context = guest::TaskContext {
            params: params.iter().map(param).collect(),
            job: "bench-jobs".into(),
            task: 0,
            parallelism: 1,
            output_budget,
            batch: false,
        };
        let opened =
            Instance::open("bench-jobs", bench_jobs::bench_jobs, &context).map_err(failed)?;
        let place = INSTANCES.with_borrow_mut(|all| {
            all.push(opened);
            all.len() - 1
        });
        Ok(Self {
            place,
            segments: Vec::new(),
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Instance) -> Result<T, guest::Failure>) -> Result<T> {
        INSTANCES.with_borrow_mut(|all| match all.get_mut(self.place) {
            Some(instance) => f(instance).map_err(failed),
            None => Err(Error::bug("native functions were called in another thread")),
        })
    }

    fn segment(&self, segment: Segment) -> Result<&(u32, SegmentSpec)> {
        let found = self.segments.get(segment.0 as usize);
        found.ok_or_else(|| Error::bug("there is no such segment"))
    }
}

fn failed(failure: guest::Failure) -> Error {
    Error::bug(format!("a native function failed: {}", failure.message))
}

impl Functions for Native {
    fn prepare(&mut self, spec: &SegmentSpec) -> Result<Segment> {
        let functions: Vec<u32> = spec.functions.iter().map(|f| f.0).collect();
        let input = spec.input.fields.iter().map(field).collect::<Result<_>>()?;
        let number = self.with(|i| i.prepare(&functions, spec.number, &input))?;
        self.segments.push((number, spec.clone()));
        Ok(Segment((self.segments.len() - 1) as u32))
    }

    fn transform(&mut self, segment: Segment, at: Moment, rows: Rows<'_>) -> Result<Reply> {
        let (number, spec) = self.segment(segment)?;
        let rows = lower_batch(&rows)?;
        let reply = self.with(|i| i.transform(*number, moment(at), rows))?;
        Ok(Reply {
            consumed: reply.consumed as usize,
            outputs: raise_outputs(spec, reply.outputs)?,
            step_rows: reply.step_rows,
        })
    }

    fn process(
        &mut self,
        segment: Segment,
        at: Moment,
        rows: &KeyedRows<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        let (number, spec) = self.segment(segment)?;
        let batch = guest::KeyedBatch {
            input: rows.input,
            rows: lower_batch(&rows.rows)?,
            ordinals: rows.ordinals.to_byte_slice().to_vec(),
            keys: lower_slots(rows.keys)?,
            states: rows.states.iter().map(lower_slots).collect::<Result<_>>()?,
        };
        let reply = lending(state, &spec.states, || {
            self.with(|i| i.process(*number, moment(at), batch))
        })?;
        keyed_reply(spec, reply)
    }

    fn on_timers(
        &mut self,
        segment: Segment,
        at: Moment,
        timers: &DueTimers<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        let (number, spec) = self.segment(segment)?;
        let states = timers.states.iter().map(lower_slots);
        let timers = guest::TimerBatch {
            ordinals: timers.ordinals.to_byte_slice().to_vec(),
            keys: lower_slots(timers.keys)?,
            times: timers.times.to_byte_slice().to_vec(),
            processing_time: timers.processing_time,
            states: states.collect::<Result<_>>()?,
        };
        let reply = lending(state, &spec.states, || {
            self.with(|i| i.on_timers(*number, moment(at), timers))
        })?;
        keyed_reply(spec, reply)
    }

    fn accumulate(
        &mut self,
        segment: Segment,
        at: Moment,
        rows: Rows<'_>,
        ordinals: &[u32],
        accumulators: &Slots,
    ) -> Result<Slots> {
        let (number, spec) = self.segment(segment)?;
        let (rows, ordinals) = (lower_batch(&rows)?, ordinals.to_byte_slice());
        let accumulators = lower_slots(accumulators)?;
        let slots =
            self.with(|i| i.accumulate(*number, moment(at), rows, ordinals, accumulators))?;
        raise_slots(accumulator(spec)?, slots)
    }

    fn merge(&mut self, segment: Segment, into: &Slots, other: &Slots) -> Result<Slots> {
        let (number, spec) = self.segment(segment)?;
        let (into, other) = (lower_slots(into)?, lower_slots(other)?);
        let slots = self.with(|i| i.merge(*number, into, other))?;
        raise_slots(accumulator(spec)?, slots)
    }

    fn results(
        &mut self,
        segment: Segment,
        at: Moment,
        keys: &Slots,
        starts: &[i64],
        ends: &[i64],
        accumulators: &Slots,
    ) -> Result<Reply> {
        let (number, spec) = self.segment(segment)?;
        let (keys, accumulators) = (lower_slots(keys)?, lower_slots(accumulators)?);
        let (starts, ends) = (starts.to_byte_slice(), ends.to_byte_slice());
        let reply =
            self.with(|i| i.results(*number, moment(at), keys, starts, ends, accumulators))?;
        Ok(Reply {
            consumed: reply.consumed as usize,
            outputs: raise_outputs(spec, reply.outputs)?,
            step_rows: reply.step_rows,
        })
    }
}

fn accumulator(spec: &SegmentSpec) -> Result<&Schema> {
    let schema = spec.accumulator.as_ref();
    schema.ok_or_else(|| Error::bug("the segment has no accumulator"))
}

fn keyed_reply(spec: &SegmentSpec, reply: guest::KeyedReply) -> Result<KeyedReply> {
    let states = reply.states.into_iter().map(|change| {
        let state = spec.states.get(change.state as usize);
        let state = state.ok_or_else(|| Error::bug("a state that is not there"))?;
        let count = change.changes.len();
        let entries = match state.kind.is_value_like() {
            true => None,
            false => Some(EntryChanges {
                ordinals: scalars::<u32>(change.ordinals, count)?.to_vec(),
                changes: change.changes,
                map_keys: match (&state.map_key, change.map_keys) {
                    (Some(schema), Some(keys)) => Some(raise_slots(schema, keys)?),
                    _ => None,
                },
            }),
        };
        Ok(StateChange {
            state: change.state,
            marks: change.marks,
            values: raise_slots(&state.schema, change.values)?,
            entries,
        })
    });
    Ok(KeyedReply {
        consumed: reply.consumed as usize,
        outputs: raise_outputs(spec, reply.outputs)?,
        states: states.collect::<Result<_>>()?,
        timers: reply.timers.map_or_else(|| Ok(Vec::new()), timers)?,
    })
}

fn timers(changes: guest::TimerChanges) -> Result<Vec<TimerChange>> {
    let count = changes.changes.len();
    let ordinals = scalars::<u32>(changes.ordinals, count)?;
    let times = scalars::<i64>(changes.times, count)?;
    let all = ordinals.iter().zip(times.iter()).zip(&changes.changes);
    Ok(all
        .map(|((ordinal, time), change)| TimerChange {
            ordinal: *ordinal,
            time: *time,
            delete: change & 1 == 1,
            processing_time: change & 2 == 2,
        })
        .collect())
}

fn moment(at: Moment) -> guest::Moment {
    guest::Moment {
        watermark: at.watermark.0,
        processing_time: at.processing_time.0,
    }
}

fn nested() -> Error {
    Error::bug("native functions take numbers, truth values and texts alone")
}

fn field(field: &Field) -> Result<guest::Field> {
    let data_type = match field.data_type {
        DataType::Bool => guest::DataType::Boolean,
        DataType::I32 => guest::DataType::Int32,
        DataType::I64 => guest::DataType::Int64,
        DataType::String => guest::DataType::Utf8,
        DataType::Timestamp => guest::DataType::Timestamp,
        _ => return Err(nested()),
    };
    Ok(guest::Field {
        name: field.name.clone(),
        data_type,
        nullable: field.nullable,
    })
}

/// The buffers of a batch, as the guest gets them: a copy, since its own are vectors of bytes.
pub(super) fn lower_batch(rows: &Rows<'_>) -> Result<guest::Batch> {
    Ok(guest::Batch {
        rows: rows.rows as u32,
        columns: rows.columns.iter().map(lower).collect::<Result<_>>()?,
        times: rows.times.map(|t| t.inner().as_slice().to_vec()),
        kinds: rows.kinds.map(|k| k.to_vec()),
    })
}

pub(super) fn lower_slots(slots: &Slots) -> Result<guest::Slots> {
    Ok(guest::Slots {
        rows: slots.rows as u32,
        present: slots.present.as_ref().map(|p| p.sliced().to_vec()),
        columns: slots.columns.iter().map(lower).collect::<Result<_>>()?,
    })
}

fn lower(array: &ArrayRef) -> Result<guest::Column> {
    let nulls = array.nulls().filter(|n| n.null_count() > 0);
    let (offsets, values) = if let Some(a) = array.as_primitive_opt::<Int64Type>() {
        (None, a.values().inner().as_slice())
    } else if let Some(a) = array.as_primitive_opt::<Int32Type>() {
        (None, a.values().inner().as_slice())
    } else if let Some(a) = array.as_primitive_opt::<TimestampMillisecondType>() {
        (None, a.values().inner().as_slice())
    } else if let Some(a) = array.as_string_opt::<i32>() {
        if a.offsets().first() != Some(&0) {
            return Err(Error::bug("native functions take whole columns of texts"));
        }
        let offsets = a.offsets().inner().inner().as_slice();
        (Some(offsets.to_vec()), a.values().as_slice())
    } else {
        return Err(nested());
    };
    Ok(guest::Column {
        validity: nulls.map(|n| n.inner().sliced().to_vec()),
        offsets,
        values: Some(values.to_vec()),
    })
}

fn raise_outputs(spec: &SegmentSpec, outputs: Vec<guest::Output>) -> Result<Vec<OutputRows>> {
    let outputs = outputs.into_iter().map(|o| {
        let stream = spec.outputs.iter().find(|(s, _)| *s == (o.step, o.port));
        let (_, schema) = stream.ok_or_else(|| Error::bug("a stream that is not there"))?;
        let rows = o.rows as usize;
        Ok(OutputRows {
            step: o.step,
            port: o.port,
            rows,
            parents: o.parents.map(|p| scalars(p, rows)).transpose()?,
            columns: raise_columns(schema, o.columns, rows)?,
            times: o.times.map(|t| scalars(t, rows)).transpose()?,
            kinds: o.kinds.map(|k| scalars(k, rows)).transpose()?,
            watermarks: None,
        })
    });
    outputs.collect()
}

pub(super) fn raise_slots(schema: &Schema, slots: guest::Slots) -> Result<Slots> {
    let rows = slots.rows as usize;
    Ok(Slots {
        rows,
        present: slots.present.map(|p| bits(p, rows)).transpose()?,
        columns: raise_columns(schema, slots.columns, rows)?,
    })
}

fn raise_columns(
    schema: &Schema,
    columns: Vec<guest::Column>,
    rows: usize,
) -> Result<Vec<ArrayRef>> {
    if columns.len() != schema.fields.len() {
        return Err(Error::bug("another number of columns than agreed"));
    }
    let pairs = schema.fields.iter().zip(columns);
    pairs.map(|(f, column)| raise(f, column, rows)).collect()
}

fn raise(field: &Field, column: guest::Column, rows: usize) -> Result<ArrayRef> {
    let nulls = column.validity.map(|v| bits(v, rows)).transpose()?;
    let nulls = nulls.map(NullBuffer::new);
    let values = column
        .values
        .ok_or_else(|| Error::bug("a column without values"))?;
    Ok(match field.data_type {
        DataType::Bool => Arc::new(BooleanArray::new(bits(values, rows)?, nulls)),
        DataType::I32 => Arc::new(Int32Array::new(scalars(values, rows)?, nulls)),
        DataType::I64 => Arc::new(Int64Array::new(scalars(values, rows)?, nulls)),
        DataType::Timestamp => Arc::new(TimestampMillisecondArray::new(
            scalars(values, rows)?,
            nulls,
        )),
        DataType::String => {
            let offsets = column
                .offsets
                .ok_or_else(|| Error::bug("a text without offsets"))?;
            let offsets = OffsetBuffer::new(scalars(offsets, rows + 1)?);
            StringArray::try_new(offsets, Buffer::from_vec(values), nulls)
                .map(Arc::new)
                .map_err(|e| Error::bug(e.to_string()))?
        }
        _ => return Err(nested()),
    })
}

pub(super) fn scalars<T: ArrowNativeType>(bytes: Vec<u8>, rows: usize) -> Result<ScalarBuffer<T>> {
    if bytes.len() != rows * size_of::<T>() {
        return Err(Error::bug("a buffer of another length than agreed"));
    }
    let aligned = bytes.as_ptr().align_offset(align_of::<T>()) == 0;
    let buffer = match aligned {
        true => Buffer::from_vec(bytes),
        false => Buffer::from(bytes.as_slice()),
    };
    Ok(ScalarBuffer::new(buffer, 0, rows))
}

fn bits(bytes: Vec<u8>, rows: usize) -> Result<BooleanBuffer> {
    if bytes.len() < rows.div_ceil(8) {
        return Err(Error::bug("a bitmap of too few bytes"));
    }
    Ok(BooleanBuffer::new(Buffer::from_vec(bytes), 0, rows))
}
