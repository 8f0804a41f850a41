//! Keys: which key group a row belongs to, and which task owns a key group.
//!
//! The hash is XXH3-64 (seed 0) of the key's [canonical encoding](crate::encoding), the key group its remainder by the
//! job's maximum parallelism. Frozen by golden tests.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use xxhash_rust::xxh3::xxh3_64;

use crate::encoding::encode;
use crate::error::{Error, Result};
use crate::schema::{DataType, Field};

/// The default of a job's maximum parallelism: how many key groups there are.
pub const MAX_PARALLELISM_DEFAULT: u32 = 128;

/// A share of the keys of a job; the unit in which state moves between tasks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyGroup(pub u32);

impl KeyGroup {
    /// The key group of a hash, of `max_parallelism` (at least 1).
    #[must_use]
    pub fn of(hash: u64, max_parallelism: u32) -> Self {
        Self((hash % u64::from(max_parallelism.max(1))) as u32)
    }

    /// The task that owns this key group, of `parallelism` ones.
    #[must_use]
    pub fn task(self, parallelism: u32, max_parallelism: u32) -> u32 {
        (u64::from(self.0) * u64::from(parallelism) / u64::from(max_parallelism.max(1))) as u32
    }
}

/// Key groups from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeyGroupRange {
    /// First key group.
    pub start: u32,
    /// First that no longer belongs.
    pub end: u32,
}

impl KeyGroupRange {
    /// The key groups of one task: those for which [`KeyGroup::task`] is `task`.
    #[must_use]
    pub fn of_task(task: u32, parallelism: u32, max_parallelism: u32) -> Self {
        let p = u64::from(parallelism.max(1));
        let first = |t: u64| (t * u64::from(max_parallelism)).div_ceil(p) as u32;
        Self {
            start: first(u64::from(task)),
            end: first(u64::from(task) + 1),
        }
    }

    /// Whether a key group belongs.
    #[must_use]
    pub fn contains(self, group: KeyGroup) -> bool {
        (self.start..self.end).contains(&group.0)
    }
}

/// The hash of each row's key. `fields` and `columns` are the key's, all of `len` rows.
pub fn hashes(fields: &[Field], columns: &[ArrayRef], len: usize) -> Result<Vec<u64>> {
    if let ([field], [column]) = (fields, columns)
        && let Some(values) = plain_i64(field, column)
    {
        return Ok(values.iter().map(|v| hash_i64(*v)).collect());
    }
    let mut bytes = Vec::new();
    (0..len)
        .map(|row| {
            bytes.clear();
            encode_key(fields, columns, row, &mut bytes)?;
            Ok(xxh3_64(&bytes))
        })
        .collect()
}

/// The values of a key that is one 64-bit integer or timestamp and is never null: the common case, made fast.
#[must_use]
pub fn plain_i64<'a>(field: &Field, column: &'a ArrayRef) -> Option<&'a [i64]> {
    if field.nullable || column.null_count() > 0 {
        return None;
    }
    match field.data_type {
        DataType::I64 => Some(column.as_primitive_opt::<Int64Type>()?.values()),
        DataType::Timestamp => Some(
            column
                .as_primitive_opt::<TimestampMillisecondType>()?
                .values(),
        ),
        _ => None,
    }
}

/// The hash of a key of one 64-bit integer: of its canonical encoding.
#[must_use]
#[inline]
pub fn hash_i64(value: i64) -> u64 {
    xxh3_64(&(value ^ i64::MIN).to_be_bytes())
}

/// The hash of a key's canonical encoding.
#[must_use]
pub fn hash_bytes(encoded: &[u8]) -> u64 {
    xxh3_64(encoded)
}

/// Appends the canonical encoding of one row's key.
pub fn encode_key(
    fields: &[Field],
    columns: &[ArrayRef],
    row: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    if fields.len() != columns.len() {
        return Err(Error::bug(
            "a key has another number of columns than fields",
        ));
    }
    fields
        .iter()
        .zip(columns)
        .try_for_each(|(f, c)| encode(f, c.as_ref(), row, out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};
    use std::sync::Arc;

    /// Frozen: key groups of savepoints depend on these numbers.
    #[test]
    fn golden_hashes() {
        let one = |f: Field, c: ArrayRef| hashes(&[f], &[c], 1).unwrap()[0];
        let int = one(
            Field::new("k", DataType::I64),
            Arc::new(Int64Array::from(vec![42])),
        );
        let text = one(
            Field::new("k", DataType::String),
            Arc::new(StringArray::from(vec!["pelton"])),
        );
        assert_eq!((int, text), GOLDEN);
        assert_eq!(hash_i64(42), int, "the fast way is the same way");
        let nullable = one(
            Field::new("k", DataType::I64).nullable(),
            Arc::new(Int64Array::from(vec![42])),
        );
        assert_ne!(nullable, int);
    }
    const GOLDEN: (u64, u64) = (17_300_280_778_767_952_076, 14_645_967_765_691_021_321);

    #[test]
    fn every_key_group_has_one_owner() {
        for max in [1, 2, 7, 128, 1000] {
            for p in 1..=max.min(130) {
                for g in 0..max {
                    let owner = KeyGroup(g).task(p, max);
                    for t in 0..p {
                        assert_eq!(
                            KeyGroupRange::of_task(t, p, max).contains(KeyGroup(g)),
                            t == owner
                        );
                    }
                }
            }
        }
    }
}
