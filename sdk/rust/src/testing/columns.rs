//! Columns row by row, by their schema: put together, made up, encoded.

use crate::column::{Plain, bits_of, from_bytes, to_bytes};
use crate::runtime::{Column, DataType, Field};
use crate::time::{Date, Timestamp};
use crate::value::encode::{Encode, bytes as encode_bytes};
use crate::value::{Schema, top_fields, width};

/// The rows of all parts, one after the other; each part has its columns and how many rows they have.
pub(super) fn concat(schema: &Schema, parts: &[(&[Column], usize)]) -> Vec<Column> {
    let mut out = Vec::new();
    for (start, nodes) in top_fields(schema) {
        let parts: Vec<_> = parts
            .iter()
            .map(|(columns, rows)| (columns.get(start..).unwrap_or(&[]), *rows))
            .collect();
        field(nodes, &parts, &mut out);
    }
    out
}

fn field(nodes: &[Field], parts: &[(&[Column], usize)], out: &mut Vec<Column>) {
    let Some(kind) = nodes.first().map(|f| f.data_type) else {
        return;
    };
    let first = |part: &(&[Column], usize)| part.0.first().cloned().unwrap_or_else(nothing);
    let heads: Vec<(Column, usize)> = parts.iter().map(|p| (first(p), p.1)).collect();
    let nullable = heads.iter().any(|(c, _)| c.validity.is_some());
    let validity = nullable.then(|| {
        let all = heads.iter().flat_map(|(c, rows)| {
            let bits = c.validity.clone();
            (0..*rows).map(move |i| bits.as_ref().is_none_or(|b| bit(b, i)))
        });
        pack(all)
    });
    let at = out.len();
    out.push(Column {
        validity,
        offsets: None,
        values: None,
    });
    let rest = |part: &(&[Column], usize)| part.0.get(1..).unwrap_or(&[]).to_vec();
    let (mut offsets, mut values) = (None, None);
    match kind {
        DataType::Boolean => {
            let all = heads.iter().flat_map(|(c, rows)| {
                let bits = c.values.clone().unwrap_or_default();
                (0..*rows).map(move |i| bit(&bits, i))
            });
            values = Some(pack(all));
        }
        DataType::Utf8 | DataType::Bytes => {
            offsets = Some(shifted(&heads));
            values = Some(
                heads
                    .iter()
                    .flat_map(|(c, _)| c.values.clone().unwrap_or_default())
                    .collect(),
            );
        }
        DataType::Sequence => {
            offsets = Some(shifted(&heads));
            let items: Vec<_> = parts
                .iter()
                .zip(&heads)
                .map(|(p, (c, rows))| (rest(p), end(c, *rows)))
                .collect();
            let items: Vec<_> = items.iter().map(|(c, n)| (c.as_slice(), *n)).collect();
            field(nodes.get(1..).unwrap_or(&[]), &items, out);
        }
        DataType::Nested(fields) => {
            let mut used = 1;
            for _ in 0..fields {
                let nodes = nodes.get(used..).unwrap_or(&[]);
                let inner: Vec<_> = parts
                    .iter()
                    .map(|(c, rows)| (c.get(used..).unwrap_or(&[]), *rows))
                    .collect();
                field(nodes, &inner, out);
                used += width(nodes);
            }
        }
        _ => {
            let wide = fixed_width(kind);
            let all = heads.iter().flat_map(|(c, rows)| {
                let mut bytes = c.values.clone().unwrap_or_default();
                bytes.resize(rows * wide, 0);
                bytes
            });
            values = Some(all.collect());
        }
    }
    if let Some(column) = out.get_mut(at) {
        column.offsets = offsets;
        column.values = values;
    }
}

fn nothing() -> Column {
    Column {
        validity: None,
        offsets: None,
        values: None,
    }
}

fn bit(bits: &[u8], i: usize) -> bool {
    bits_of(bits, bits.len() * 8)
        .ok()
        .and_then(|b| b.get(i))
        .unwrap_or(false)
}

pub(super) fn pack(bits: impl IntoIterator<Item = bool>) -> Vec<u8> {
    let mut out = crate::value::BitsBuilder::default();
    out.extend(bits);
    out.take()
}

fn end(column: &Column, rows: usize) -> usize {
    let bytes = column.offsets.as_deref().unwrap_or(&[]);
    from_bytes::<u32>(bytes, bytes.len() / 4)
        .ok()
        .and_then(|o| o.get(rows))
        .unwrap_or(0) as usize
}

fn shifted(heads: &[(Column, usize)]) -> Vec<u8> {
    let mut all = vec![0u32];
    let mut base = 0;
    for (column, rows) in heads {
        let bytes = column.offsets.as_deref().unwrap_or(&[]);
        let own = from_bytes::<u32>(bytes, bytes.len() / 4).ok();
        let own = own
            .map(|o| o.iter().collect::<Vec<_>>())
            .unwrap_or_default();
        all.extend((1..=*rows).map(|i| base + own.get(i).copied().unwrap_or(0)));
        base = all.last().copied().unwrap_or(0);
    }
    to_bytes(all)
}

fn fixed_width(kind: DataType) -> usize {
    match kind {
        DataType::Int8 | DataType::Uint8 => 1,
        DataType::Int16 | DataType::Uint16 => 2,
        DataType::Int32 | DataType::Uint32 | DataType::Float32 | DataType::Date => 4,
        DataType::Decimal(_) => 16,
        _ => 8,
    }
}

/// The canonical encoding of a row.
pub(super) fn encoded(schema: &[Field], columns: &[Column], row: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (start, nodes) in top_fields(schema) {
        encode(nodes, columns.get(start..).unwrap_or(&[]), row, &mut out);
    }
    out
}

fn encode(nodes: &[Field], columns: &[Column], row: usize, out: &mut Vec<u8>) {
    let (Some(field), Some(column)) = (nodes.first(), columns.first()) else {
        return;
    };
    if field.nullable {
        let there = column.validity.as_ref().is_none_or(|v| bit(v, row));
        out.push(u8::from(there));
        if !there {
            return;
        }
    }
    let values = column.values.as_deref().unwrap_or(&[]);
    let rest = (
        nodes.get(1..).unwrap_or(&[]),
        columns.get(1..).unwrap_or(&[]),
    );
    match field.data_type {
        DataType::Boolean => out.push(u8::from(bit(values, row))),
        DataType::Int8 => plain::<i8>(values, row, out),
        DataType::Int16 => plain::<i16>(values, row, out),
        DataType::Int32 => plain::<i32>(values, row, out),
        DataType::Int64 => plain::<i64>(values, row, out),
        DataType::Uint8 => plain::<u8>(values, row, out),
        DataType::Uint16 => plain::<u16>(values, row, out),
        DataType::Uint32 => plain::<u32>(values, row, out),
        DataType::Uint64 => plain::<u64>(values, row, out),
        DataType::Float32 => plain::<f32>(values, row, out),
        DataType::Float64 => plain::<f64>(values, row, out),
        DataType::Timestamp => plain::<Timestamp>(values, row, out),
        DataType::Date => plain::<Date>(values, row, out),
        DataType::Decimal(_) => plain::<crate::time::Decimal<0>>(values, row, out),
        DataType::Utf8 | DataType::Bytes => {
            let range = end(column, row)..end(column, row + 1);
            encode_bytes(values.get(range).unwrap_or(&[]), out);
        }
        DataType::Sequence => {
            let range = end(column, row)..end(column, row + 1);
            out.extend_from_slice(&(range.len() as u32).to_be_bytes());
            range.for_each(|item| encode(rest.0, rest.1, item, out));
        }
        DataType::Nested(_) => out.extend(encoded(
            rest.0.get(..width(nodes) - 1).unwrap_or(&[]),
            rest.1,
            row,
        )),
    }
}

fn plain<T: Plain + Encode>(bytes: &[u8], row: usize, out: &mut Vec<u8>) {
    let column = from_bytes::<T>(bytes, bytes.len() / size_of::<T>());
    let value = column.ok().and_then(|c| c.get(row));
    value.unwrap_or_default().encode(out);
}
