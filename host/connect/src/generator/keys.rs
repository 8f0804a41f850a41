//! `kind=keys`: records of one number each, evenly spread over some distinct ones.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use pelton_model::batch::Batch;
use pelton_model::schema::{DataType, Schema};
use pelton_model::{Error, ErrorCode, Result};

use super::draws::mix;
use super::split::Split;

/// Refuses a record type other than `key: i64`, or nothing of it.
pub(super) fn check(schema: &Schema) -> Result<()> {
    match schema
        .fields
        .iter()
        .find(|f| f.name != "key" || f.data_type != DataType::I64)
    {
        None => schema.check_names(),
        Some(f) => {
            let message = format!(
                "field '{}' is declared as {}, but the generator makes only key: i64",
                f.name, f.data_type
            );
            Err(Error::new(ErrorCode::GraphInvalid, message))
        }
    }
}

/// Splits are contiguous ranges; the last has what does not divide evenly.
pub(super) fn len(events: u64, splits: u32, split: u32) -> u64 {
    let each = events / u64::from(splits);
    if split + 1 == splits {
        events - each * u64::from(splits - 1)
    } else {
        each
    }
}

/// Takes up to `most` records of the split that is least far.
pub(super) fn take(
    events: u64,
    keys: u64,
    splits: u32,
    mine: &mut [Split],
    most: usize,
    schema: &Schema,
) -> Result<Batch> {
    let open = mine.iter_mut().filter(|s| s.position < s.end);
    let Some(split) = open.min_by_key(|s| s.position) else {
        return Batch::new(Vec::new(), 0);
    };
    let rows = (split.end - split.position).min(most as u64);
    let first = events / u64::from(splits) * u64::from(split.index) + split.position;
    split.position += rows;
    let make = || (first..first + rows).map(|i| ((mix(i + 1) >> 33) % keys) as i64);
    let columns = schema
        .fields
        .iter()
        .map(|_| Arc::new(Int64Array::from_iter_values(make())) as ArrayRef);
    Batch::new(columns.collect(), rows as usize)
}
