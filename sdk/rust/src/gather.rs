//! Rows of columns by their numbers: for columns that must follow a selection.

use crate::bindings::pelton::job::types::{Column, DataType, Field};
use crate::column::{Buffer, Plain};
use crate::column::{bits_of, from_bytes, to_bytes};
use crate::time::{Date, Timestamp};
use crate::value::{BitsBuilder, OffsetsBuilder};

/// The rows of a field's columns, in this order. Rows that are not there come out as nulls or zeros.
pub(crate) fn gather<'a>(
    schema: &[Field],
    columns: &mut impl Iterator<Item = &'a Column>,
    rows: &[u32],
    out: &mut Vec<Column>,
) -> usize {
    let (Some(field), Some(column)) = (schema.first(), columns.next()) else {
        return schema.len().max(1);
    };
    let validity = column.validity.as_deref().map(|bytes| bits(bytes, rows));
    let values = column.values.as_deref().unwrap_or(&[]);
    let at = out.len();
    out.push(Column {
        validity,
        offsets: None,
        values: None,
    });
    let mut used = 1;
    let made = match field.data_type {
        DataType::Boolean => Some(bits(values, rows)),
        DataType::Int8 | DataType::Uint8 => Some(fixed::<u8>(values, rows)),
        DataType::Int16 | DataType::Uint16 => Some(fixed::<u16>(values, rows)),
        DataType::Int32 | DataType::Uint32 | DataType::Float32 => Some(fixed::<u32>(values, rows)),
        DataType::Date => Some(fixed::<Date>(values, rows)),
        DataType::Int64 | DataType::Uint64 | DataType::Float64 => Some(fixed::<u64>(values, rows)),
        DataType::Timestamp => Some(fixed::<Timestamp>(values, rows)),
        DataType::Decimal(_) => Some(fixed::<i128>(values, rows)),
        DataType::Utf8 | DataType::Bytes => {
            let mut data = Buffer::default();
            let offsets = ranges(column, rows, |start, end| {
                data.extend(values.get(start..end).unwrap_or(&[]))
            });
            set_offsets(out, at, offsets);
            Some(data.take())
        }
        DataType::Sequence => {
            let mut items = Vec::new();
            let offsets = ranges(column, rows, |start, end| {
                items.extend(start as u32..end as u32)
            });
            set_offsets(out, at, offsets);
            used += gather(schema.get(1..).unwrap_or(&[]), columns, &items, out);
            None
        }
        DataType::Nested(fields) => {
            for _ in 0..fields {
                used += gather(schema.get(used..).unwrap_or(&[]), columns, rows, out);
            }
            None
        }
    };
    if let Some(column) = out.get_mut(at) {
        column.values = made;
    }
    used
}

fn set_offsets(out: &mut [Column], at: usize, offsets: Vec<u8>) {
    if let Some(column) = out.get_mut(at) {
        column.offsets = Some(offsets);
    }
}

/// Calls `each` with the range of each row, and answers the offsets of what was taken.
fn ranges(column: &Column, rows: &[u32], mut each: impl FnMut(usize, usize)) -> Vec<u8> {
    let bytes = column.offsets.as_deref().unwrap_or(&[]);
    let count = bytes.len() / 4;
    let mut out = OffsetsBuilder::default();
    out.reserve(rows.len());
    let mut end = 0;
    if let Ok(offsets) = from_bytes::<u32>(bytes, count) {
        for row in rows {
            let row = *row as usize;
            let (from, to) = (
                offsets.get(row).unwrap_or(0) as usize,
                offsets.get(row + 1).unwrap_or(0) as usize,
            );
            let to = to.max(from);
            each(from, to);
            end += to - from;
            out.push(end);
        }
    }
    out.take()
}

fn fixed<T: Plain>(bytes: &[u8], rows: &[u32]) -> Vec<u8> {
    match from_bytes::<T>(bytes, bytes.len() / size_of::<T>()) {
        Ok(column) => to_bytes(
            rows.iter()
                .map(|r| column.get(*r as usize).unwrap_or_default()),
        ),
        Err(_) => Vec::new(),
    }
}

fn bits(bytes: &[u8], rows: &[u32]) -> Vec<u8> {
    let mut out = BitsBuilder::default();
    if let Ok(column) = bits_of(bytes, bytes.len() * 8) {
        rows.iter()
            .for_each(|r| out.push(column.get(*r as usize).unwrap_or(false)));
    }
    out.take()
}
