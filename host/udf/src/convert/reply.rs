//! Whole answers, held against what the segment's functions can say and what was asked.
//! Errors: `BadReply` with what is wrong and where; `OutputLimit` for too many bytes.

use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use pelton_engine::function::{
    EntryChange, EntryChanges, KeyedReply, Mark, OutputRows, Reply, SegmentSpec, Slots,
    StateChange, TimerChange,
};
use pelton_model::batch::RowKind;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Schema;
use pelton_model::{Error, ErrorCode, Result};

use super::raise;
use super::wire::{
    ColumnOut, KeyedReplyOut, OutputOut, ReplyOut, SlotsOut, StateChangeOut, TimerChangesOut,
};

/// What an answer is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) spec: &'a SegmentSpec,
    /// Rows of the batch, or timers, or windows.
    pub(crate) rows: usize,
    /// Keys of the batch, or timers.
    pub(crate) keys: usize,
    pub(crate) bytes_max: u64,
}

/// An answer that breaks the contract; the message goes on from the name of a function.
fn bad(what: impl Into<String>) -> Error {
    Error::new(
        ErrorCode::BadReply,
        format!("gave an answer that {}", what.into()),
    )
}

/// The answer of functions without state, or of a window function.
pub(crate) fn reply(asked: Asked<'_>, reply: ReplyOut) -> Result<Reply> {
    let mut bytes = 0;
    reply.outputs.iter().for_each(|o| bytes += output_bytes(o));
    within(bytes, asked)?;
    let consumed = consumed(asked, reply.consumed)?;
    let steps = asked.spec.functions.len();
    if reply.step_rows.len() != steps {
        return Err(bad(format!(
            "counts the rows of {} functions where the segment has {steps}",
            reply.step_rows.len()
        )));
    }
    Ok(Reply {
        consumed,
        outputs: outputs(asked, consumed, reply.outputs)?,
        step_rows: reply.step_rows,
    })
}

/// The answer of a keyed function.
pub(crate) fn keyed_reply(asked: Asked<'_>, reply: KeyedReplyOut) -> Result<KeyedReply> {
    let mut bytes = 0;
    reply.outputs.iter().for_each(|o| bytes += output_bytes(o));
    for s in &reply.states {
        bytes += s.marks.len() + s.changes.len() + s.ordinals.len() + slot_bytes(&s.values);
        bytes += s.map_keys.as_ref().map_or(0, slot_bytes);
    }
    if let Some(t) = &reply.timers {
        bytes += t.ordinals.len() + t.times.len() + t.changes.len();
    }
    within(bytes, asked)?;
    let consumed = consumed(asked, reply.consumed)?;
    Ok(KeyedReply {
        consumed,
        outputs: outputs(asked, consumed, reply.outputs)?,
        states: states(asked, reply.states)?,
        timers: reply
            .timers
            .map_or(Ok(Vec::new()), |t| timers(asked.keys, t))?,
    })
}

/// As many accumulators as were asked for, all present. `asked.rows` is of the batch, `asked.keys` of accumulators.
pub(crate) fn accumulators(asked: Asked<'_>, slots: SlotsOut) -> Result<Slots> {
    within(slot_bytes(&slots), asked)?;
    let schema = asked
        .spec
        .accumulator
        .as_ref()
        .ok_or_else(|| Error::bug("the segment has no accumulator"))?;
    let slots = raise_slots(schema, slots, asked.keys, "accumulators")?;
    if let Some(p) = &slots.present
        && p.count_set_bits() != p.len()
    {
        return Err(bad("leaves an accumulator without a value"));
    }
    Ok(Slots {
        present: None,
        ..slots
    })
}

fn within(bytes: usize, asked: Asked<'_>) -> Result<()> {
    if bytes as u64 > asked.bytes_max {
        return Err(Error::new(
            ErrorCode::OutputLimit,
            format!(
                "returned {bytes} bytes where {} are allowed",
                asked.bytes_max
            ),
        ));
    }
    Ok(())
}

fn column_bytes(columns: &[ColumnOut]) -> usize {
    let of = |b: &Option<Vec<u8>>| b.as_ref().map_or(0, Vec::len);
    columns
        .iter()
        .map(|c| of(&c.validity) + of(&c.offsets) + of(&c.values))
        .sum()
}

fn output_bytes(o: &OutputOut) -> usize {
    let of = |b: &Option<Vec<u8>>| b.as_ref().map_or(0, Vec::len);
    column_bytes(&o.columns) + of(&o.parents) + of(&o.times) + of(&o.kinds) + of(&o.watermarks)
}

fn slot_bytes(s: &SlotsOut) -> usize {
    column_bytes(&s.columns) + s.present.as_ref().map_or(0, Vec::len)
}

fn consumed(asked: Asked<'_>, consumed: u32) -> Result<usize> {
    let consumed = consumed as usize;
    if consumed > asked.rows {
        return Err(bad(format!(
            "says that {consumed} rows of {} are done",
            asked.rows
        )));
    }
    if consumed == 0 && asked.rows > 0 {
        return Err(bad("says that no row is done"));
    }
    Ok(consumed)
}

fn outputs(asked: Asked<'_>, consumed: usize, outputs: Vec<OutputOut>) -> Result<Vec<OutputRows>> {
    outputs
        .into_iter()
        .map(|o| {
            let (step, port) = (o.step, o.port);
            output(asked.spec, consumed, o).map_err(|why| {
                bad(format!(
                    "is wrong in stream {port} of function {step}: {why}"
                ))
            })
        })
        .collect()
}

fn output(spec: &SegmentSpec, consumed: usize, out: OutputOut) -> Result<OutputRows, String> {
    let schema = spec
        .outputs
        .iter()
        .find(|(at, _)| *at == (out.step, out.port))
        .map(|(_, schema)| schema)
        .ok_or("there is no such stream")?;
    let rows = out.rows as usize;
    let parents = match out.parents {
        Some(bytes) => {
            let parents =
                raise::scalars::<u32>(bytes, rows).map_err(|w| format!("parents: {w}"))?;
            // The greatest decides: a loop without an early end is the fast one.
            let greatest = parents.iter().copied().max().unwrap_or(0) as usize;
            if rows > 0 && greatest >= consumed {
                return Err(format!(
                    "parent row {greatest} where {consumed} rows are done"
                ));
            }
            Some(parents)
        }
        None if rows != consumed => {
            return Err(format!(
                "{rows} rows without parents where {consumed} rows are done"
            ));
        }
        None => None,
    };
    let times = out
        .times
        .map(|bytes| raise::scalars::<i64>(bytes, rows).map_err(|w| format!("times: {w}")))
        .transpose()?;
    let watermarks = out
        .watermarks
        .map(|bytes| raise::scalars::<i64>(bytes, rows).map_err(|w| format!("watermarks: {w}")))
        .transpose()?;
    let kinds = out
        .kinds
        .map(|bytes| raise::scalars::<u8>(bytes, rows).map_err(|w| format!("row kinds: {w}")))
        .transpose()?;
    let greatest = kinds.iter().flat_map(|k| k.iter()).copied().max();
    if greatest.is_some_and(|k| k > RowKind::Delete as u8) {
        return Err("a row kind above 3".into());
    }
    Ok(OutputRows {
        step: out.step,
        port: out.port,
        rows,
        parents,
        columns: raise::columns(&schema.fields, out.columns, rows)?,
        times,
        kinds,
        watermarks,
    })
}

fn states(asked: Asked<'_>, changes: Vec<StateChangeOut>) -> Result<Vec<StateChange>> {
    let mut seen = vec![false; asked.spec.states.len()];
    changes
        .into_iter()
        .map(|change| {
            let number = change.state as usize;
            let (Some(spec), Some(seen)) = (asked.spec.states.get(number), seen.get_mut(number))
            else {
                return Err(bad(format!("changes state {number}, which there is not")));
            };
            if std::mem::replace(seen, true) {
                return Err(bad(format!("changes state {number} twice")));
            }
            if spec.kind.is_value_like() {
                value_state(&spec.schema, asked.keys, change)
            } else {
                entry_state(spec, asked.keys, change)
            }
        })
        .collect()
}

/// Changes of a list or a map.
fn entry_state(spec: &StateSpec, keys: usize, change: StateChangeOut) -> Result<StateChange> {
    let number = change.state;
    let of = |why: String| bad(format!("is wrong in its changes of state {number}: {why}"));
    let count = change.changes.len();
    if !change.marks.is_empty() {
        return Err(of("it has marks, and is no value".into()));
    }
    let ordinals: ScalarBuffer<u32> = raise::scalars(change.ordinals, count).map_err(of)?;
    let bound = if spec.kind.is_operator() { 1 } else { keys };
    if let Some(o) = ordinals.iter().find(|o| **o as usize >= bound) {
        return Err(of(format!("key {o} where there are {bound}")));
    }
    if let Some(c) = change
        .changes
        .iter()
        .find(|c| **c > EntryChange::Clear as u8)
    {
        return Err(of(format!("the change {c}")));
    }
    let map_keys = match (&spec.map_key, change.map_keys) {
        (Some(schema), Some(slots)) => {
            let slots = raise_slots(schema, slots, count, "map keys")?;
            let missing = (0..count).any(|i| {
                change.changes.get(i) != Some(&(EntryChange::Clear as u8))
                    && slots.present.as_ref().is_some_and(|p| !p.value(i))
            });
            if missing {
                return Err(of("a change without its map key".into()));
            }
            Some(slots)
        }
        (None, None) => None,
        (Some(_), None) => return Err(of("its map keys are missing".into())),
        (None, Some(_)) => return Err(of("it has map keys, and is no map".into())),
    };
    if spec.map_key.is_none() && change.changes.contains(&(EntryChange::Remove as u8)) {
        return Err(of("an entry of a state without map keys is removed".into()));
    }
    let puts = change
        .changes
        .iter()
        .filter(|c| **c == EntryChange::Put as u8)
        .count();
    let values = all_present(
        raise_slots(&spec.schema, change.values, puts, "values")?,
        "values",
    )?;
    Ok(StateChange {
        state: number,
        marks: Vec::new(),
        values,
        entries: Some(EntryChanges {
            changes: change.changes,
            ordinals: ordinals.to_vec(),
            map_keys,
        }),
    })
}

fn all_present(slots: Slots, what: &str) -> Result<Slots> {
    if let Some(p) = &slots.present
        && p.count_set_bits() != p.len()
    {
        return Err(bad(format!("has empty {what}")));
    }
    Ok(Slots {
        present: None,
        ..slots
    })
}

fn value_state(schema: &Schema, keys: usize, change: StateChangeOut) -> Result<StateChange> {
    let what = format!("values of state {}", change.state);
    if !change.changes.is_empty() || change.map_keys.is_some() {
        return Err(bad(format!(
            "changes entries of state {}, which is a value",
            change.state
        )));
    }
    if change.marks.len() != keys {
        return Err(bad(format!(
            "has {} marks of state {} where there are {keys} keys",
            change.marks.len(),
            change.state
        )));
    }
    if let Some(mark) = change.marks.iter().find(|m| **m > Mark::Cleared as u8) {
        return Err(bad(format!(
            "has the mark {mark} for state {}",
            change.state
        )));
    }
    let set = change
        .marks
        .iter()
        .filter(|m| **m == Mark::Set as u8)
        .count();
    let values = all_present(raise_slots(schema, change.values, set, &what)?, &what)?;
    Ok(StateChange {
        state: change.state,
        marks: change.marks,
        values,
        entries: None,
    })
}

fn timers(keys: usize, changes: TimerChangesOut) -> Result<Vec<TimerChange>> {
    let count = changes.changes.len();
    let of = |why: String| bad(format!("is wrong in its timers: {why}"));
    let ordinals: ScalarBuffer<u32> = raise::scalars(changes.ordinals, count).map_err(of)?;
    let times: ScalarBuffer<i64> = raise::scalars(changes.times, count).map_err(of)?;
    let rows = ordinals.iter().zip(times.iter()).zip(&changes.changes);
    rows.map(|((ordinal, time), change)| {
        if *ordinal as usize >= keys {
            return Err(of(format!("key {ordinal} where there are {keys}")));
        }
        if *change > 3 {
            return Err(of(format!("the change {change}")));
        }
        Ok(TimerChange {
            ordinal: *ordinal,
            time: *time,
            delete: change & 1 == 1,
            processing_time: change & 2 == 2,
        })
    })
    .collect()
}

/// Slots of a schema. Errors: `BadReply`.
pub(crate) fn raise_slots(
    schema: &Schema,
    slots: SlotsOut,
    rows: usize,
    what: &str,
) -> Result<Slots> {
    if slots.rows as usize != rows {
        return Err(bad(format!(
            "has {} {what} where there should be {rows}",
            slots.rows
        )));
    }
    let of = |why: String| bad(format!("is wrong in its {what}: {why}"));
    let present: Option<BooleanBuffer> = slots
        .present
        .map(|bytes| raise::bits(bytes, rows).map_err(of))
        .transpose()?;
    // What an empty slot holds is nobody's affair, but it must still be a valid array.
    let columns = raise::columns(&schema.fields, slots.columns, rows).map_err(of)?;
    Ok(Slots {
        rows,
        present,
        columns,
    })
}
