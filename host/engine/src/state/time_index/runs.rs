//! Pieces of key groups, and how they become one in the order of time.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_select::concat::concat;
use arrow_select::take::take;
use pelton_model::{Error, ErrorCode, Result};

use super::Timed;
use crate::function::Slots;

/// A piece of one key group, in order.
pub(super) struct Run {
    pub(super) place: usize,
    pub(super) times: Vec<i64>,
    pub(super) keys: Slots,
    pub(super) numbers: Vec<u64>,
}

/// Map keys and values as entries.
pub(super) fn timed(mut map_keys: Vec<ArrayRef>, values: &[ArrayRef]) -> Result<Timed> {
    let misfit = || Error::new(ErrorCode::Corrupt, "an index of times is not of its schema");
    if map_keys.is_empty() {
        return Err(misfit());
    }
    let times = map_keys.remove(0);
    let times = times.as_primitive_opt::<Int64Type>().ok_or_else(misfit)?;
    let numbers = values
        .first()
        .and_then(|c| c.as_primitive_opt::<UInt64Type>());
    Ok(Timed {
        times: times.values().to_vec(),
        keys: map_keys,
        numbers: numbers.ok_or_else(misfit)?.values().to_vec(),
    })
}

/// One row, without what it was a part of.
pub(super) fn one(slots: &Slots, row: usize) -> Result<Slots> {
    Ok(Slots {
        rows: 1,
        present: None,
        columns: picked(&slots.columns, &UInt32Array::from(vec![row as u32]))?,
    })
}

fn picked(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    let one = |c: &ArrayRef| take(c, rows, None).map_err(|e| Error::bug(e.to_string()));
    columns.iter().map(one).collect()
}

/// What is up to `bound` in all runs, in order.
pub(super) fn merged(runs: Vec<Run>, bound: i64) -> Result<Timed> {
    let mut all = Timed::default();
    let mut columns: Vec<Vec<ArrayRef>> = Vec::new();
    for run in runs {
        let rows = run.times.partition_point(|time| *time <= bound);
        if rows == 0 {
            continue;
        }
        all.times.extend(run.times.iter().take(rows));
        all.numbers.extend(run.numbers.iter().take(rows));
        let keys = run.keys.columns.iter().skip(1);
        columns.resize(run.keys.columns.len() - 1, Vec::new());
        columns
            .iter_mut()
            .zip(keys)
            .for_each(|(all, c)| all.push(c.slice(0, rows)));
    }
    let mut order: Vec<u32> = (0..all.len() as u32).collect();
    let at = |row: &u32| {
        let row = *row as usize;
        let time = all.times.get(row).copied().unwrap_or_default();
        (time, all.numbers.get(row).copied().unwrap_or_default())
    };
    order.sort_by_key(at);
    let (times, numbers) = order.iter().map(at).unzip();
    let order = UInt32Array::from(order);
    let join = |parts: Vec<ArrayRef>| {
        let parts: Vec<&dyn Array> = parts.iter().map(|c| c.as_ref()).collect();
        concat(&parts).map_err(|e| Error::bug(e.to_string()))
    };
    let columns: Vec<ArrayRef> = columns.into_iter().map(join).collect::<Result<_>>()?;
    Ok(Timed {
        times,
        keys: picked(&columns, &order)?,
        numbers,
    })
}
