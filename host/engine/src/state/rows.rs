//! Rows as their canonical encodings, many at once: how values and map keys are kept.

use pelton_model::encoding::encode;
use pelton_model::key::plain_i64;
use pelton_model::schema::{DataType, Field};
use pelton_model::{Error, ErrorCode, Result};

use crate::function::Slots;

/// Canonical encodings of rows, one after the other.
#[derive(Clone, Debug, Default)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl EncodedRows {
    /// The encodings of all of `values`; an empty slot has that of no bytes. Errors: `BadReply` where the columns are not
    /// of these fields.
    pub fn new(fields: &[Field], values: &Slots) -> Result<Self> {
        let mut rows = Self::default();
        let short = |c: &arrow_array::ArrayRef| c.len() < values.rows;
        if values.columns.len() != fields.len() || values.columns.iter().any(short) {
            return Err(misfit());
        }
        rows.ends.reserve(values.rows);
        if let ([field], [column], None) = (fields, values.columns.as_slice(), &values.present)
            && let Some(plain) = plain_i64(field, column)
        {
            rows.bytes.reserve(values.rows * 8);
            for value in plain.iter().take(values.rows) {
                rows.bytes
                    .extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
                rows.ends.push(rows.bytes.len());
            }
            return Ok(rows);
        }
        for row in 0..values.rows {
            if values.present.as_ref().is_none_or(|p| p.value(row)) {
                for (field, column) in fields.iter().zip(&values.columns) {
                    encode(field, column.as_ref(), row, &mut rows.bytes).map_err(|_| misfit())?;
                }
            }
            rows.ends.push(rows.bytes.len());
        }
        Ok(rows)
    }

    /// Adds a row that is encoded.
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// Forgets all rows, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The encoding of one row; of no bytes beyond the last.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|r| self.ends.get(r));
        let start = start.copied().unwrap_or(0);
        self.ends
            .get(row)
            .and_then(|end| self.bytes.get(start..*end))
            .unwrap_or_default()
    }
}

/// The bytes of every encoding of these fields, if they are all equally many.
pub(super) fn encoded_width(fields: &[Field]) -> Option<usize> {
    let width = |f: &Field| match &f.data_type {
        _ if f.nullable => None,
        DataType::Bool => Some(1),
        DataType::Struct(fields) => encoded_width(fields),
        other => other.fixed_width(),
    };
    fields.iter().map(width).sum()
}

/// Changes or map keys that are not of their state.
pub(super) fn misfit() -> Error {
    Error::new(
        ErrorCode::BadReply,
        "values of a state don't fit its schema or its keys",
    )
}
