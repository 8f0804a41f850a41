//! The canonical encoding of rows: keys and state values as bytes, the same for ever.
//!
//! Frozen by golden tests, since savepoints outlive releases. Fields stand one after the other, each by its type:
//!
//! | type | bytes |
//! |---|---|
//! | a field that may be null | `00` for null, else `01` and the value |
//! | bool | `00` or `01` |
//! | signed integers, timestamp, date, decimal | big-endian, sign bit flipped (so that bytes sort as values) |
//! | unsigned integers | big-endian |
//! | f32, f64 | bits big-endian; negative: all bits flipped, else the sign bit; every NaN is the one quiet NaN, -0.0 is not 0.0 |
//! | string, bytes | length as u32 big-endian, then the bytes |
//! | list | count as u32 big-endian, then the items (an item that may be null as above) |
//! | record | its fields |

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ListArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};

use crate::error::{Error, ErrorCode, Result};
use crate::schema::{DataType, Field};

/// Appends the encoding of one row of `column` to `out`. Errors: an array that is not of the field's type.
pub fn encode(field: &Field, column: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if row >= column.len() {
        return Err(Error::bug("a row beyond its column was encoded"));
    }
    let null = column.is_null(row);
    if field.nullable {
        out.push(u8::from(!null));
        if null {
            return Ok(());
        }
    } else if null {
        return Err(Error::bug(format!(
            "field '{}' is null, and may not be",
            field.name
        )));
    }
    encode_value(&field.data_type, column, row, out)
        .ok_or_else(|| Error::bug(format!("field '{}' is not {}", field.name, field.data_type)))?
}

fn primitive<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> Option<T::Native> {
    Some(column.as_primitive_opt::<T>()?.value(row))
}

fn encode_value(
    data_type: &DataType,
    column: &dyn Array,
    row: usize,
    out: &mut Vec<u8>,
) -> Option<Result<()>> {
    macro_rules! put {
        ($t:ty, $flip:expr) => {
            out.extend_from_slice(&(primitive::<$t>(column, row)? ^ $flip).to_be_bytes())
        };
    }
    match data_type {
        DataType::Bool => out.push(u8::from(column.as_boolean_opt()?.value(row))),
        DataType::I8 => put!(Int8Type, i8::MIN),
        DataType::I16 => put!(Int16Type, i16::MIN),
        DataType::I32 => put!(Int32Type, i32::MIN),
        DataType::I64 => put!(Int64Type, i64::MIN),
        DataType::U8 => put!(UInt8Type, 0),
        DataType::U16 => put!(UInt16Type, 0),
        DataType::U32 => put!(UInt32Type, 0),
        DataType::U64 => put!(UInt64Type, 0),
        DataType::Timestamp => put!(TimestampMillisecondType, i64::MIN),
        DataType::Date => put!(Date32Type, i32::MIN),
        DataType::Decimal { .. } => put!(Decimal128Type, i128::MIN),
        DataType::F32 => {
            let v = primitive::<Float32Type>(column, row)?;
            let bits = if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() };
            let ordered = if bits >> 31 == 1 {
                !bits
            } else {
                bits | 1 << 31
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        DataType::F64 => {
            let v = primitive::<Float64Type>(column, row)?;
            let bits = if v.is_nan() {
                0x7ff8_0000_0000_0000
            } else {
                v.to_bits()
            };
            let ordered = if bits >> 63 == 1 {
                !bits
            } else {
                bits | 1 << 63
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        DataType::String => put_bytes(column.as_string_opt::<i32>()?.value(row).as_bytes(), out),
        DataType::Bytes => put_bytes(column.as_binary_opt::<i32>()?.value(row), out),
        DataType::List(item) => {
            let items = column.as_list_opt::<i32>()?.value(row);
            out.extend_from_slice(&(items.len() as u32).to_be_bytes());
            for i in 0..items.len() {
                if let Err(e) = encode(item, items.as_ref(), i, out) {
                    return Some(Err(e));
                }
            }
        }
        DataType::Struct(fields) => {
            for (f, c) in fields.iter().zip(column.as_struct_opt()?.columns()) {
                if let Err(e) = encode(f, c.as_ref(), row, out) {
                    return Some(Err(e));
                }
            }
        }
    }
    Some(Ok(()))
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Columns of `fields` from encoded rows. Errors: `Corrupt` where the bytes are not of these fields.
pub fn decode<'a>(fields: &[Field], rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
    let mut builders: Vec<Builder> = fields.iter().map(Builder::new).collect();
    for row in rows {
        let mut rest = row;
        for b in &mut builders {
            b.take(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(corrupt());
        }
    }
    builders.into_iter().map(Builder::finish).collect()
}

fn corrupt() -> Error {
    Error::new(ErrorCode::Corrupt, "an encoded row is not of its schema")
}

fn cut<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n).ok_or_else(corrupt)?;
    *rest = tail;
    Ok(head)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    cut(rest, N)?.try_into().map_err(|_| corrupt())
}

struct Builder {
    field: Field,
    values: Values,
}

enum Values {
    Bool(BooleanBuilder),
    I8(PrimitiveBuilder<Int8Type>),
    I16(PrimitiveBuilder<Int16Type>),
    I32(PrimitiveBuilder<Int32Type>),
    I64(PrimitiveBuilder<Int64Type>),
    U8(PrimitiveBuilder<UInt8Type>),
    U16(PrimitiveBuilder<UInt16Type>),
    U32(PrimitiveBuilder<UInt32Type>),
    U64(PrimitiveBuilder<UInt64Type>),
    F32(PrimitiveBuilder<Float32Type>),
    F64(PrimitiveBuilder<Float64Type>),
    Timestamp(PrimitiveBuilder<TimestampMillisecondType>),
    Date(PrimitiveBuilder<Date32Type>),
    Decimal(PrimitiveBuilder<Decimal128Type>, u8),
    String(StringBuilder),
    Bytes(BinaryBuilder),
    List {
        item: Box<Builder>,
        offsets: Vec<i32>,
        valid: Vec<bool>,
    },
    Struct {
        fields: Vec<Builder>,
        valid: Vec<bool>,
    },
}

impl Builder {
    fn new(field: &Field) -> Self {
        let values = match &field.data_type {
            DataType::Bool => Values::Bool(BooleanBuilder::new()),
            DataType::I8 => Values::I8(PrimitiveBuilder::new()),
            DataType::I16 => Values::I16(PrimitiveBuilder::new()),
            DataType::I32 => Values::I32(PrimitiveBuilder::new()),
            DataType::I64 => Values::I64(PrimitiveBuilder::new()),
            DataType::U8 => Values::U8(PrimitiveBuilder::new()),
            DataType::U16 => Values::U16(PrimitiveBuilder::new()),
            DataType::U32 => Values::U32(PrimitiveBuilder::new()),
            DataType::U64 => Values::U64(PrimitiveBuilder::new()),
            DataType::F32 => Values::F32(PrimitiveBuilder::new()),
            DataType::F64 => Values::F64(PrimitiveBuilder::new()),
            DataType::Timestamp => Values::Timestamp(PrimitiveBuilder::new()),
            DataType::Date => Values::Date(PrimitiveBuilder::new()),
            DataType::Decimal { scale } => Values::Decimal(PrimitiveBuilder::new(), *scale),
            DataType::String => Values::String(StringBuilder::new()),
            DataType::Bytes => Values::Bytes(BinaryBuilder::new()),
            DataType::List(item) => Values::List {
                item: Box::new(Self::new(item)),
                offsets: vec![0],
                valid: Vec::new(),
            },
            DataType::Struct(fields) => Values::Struct {
                fields: fields.iter().map(Self::new).collect(),
                valid: Vec::new(),
            },
        };
        Self {
            field: field.clone(),
            values,
        }
    }

    fn take(&mut self, rest: &mut &[u8]) -> Result<()> {
        if self.field.nullable {
            match fixed::<1>(rest)? {
                [0] => return self.null(),
                [1] => {}
                _ => return Err(corrupt()),
            }
        }
        macro_rules! get {
            ($b:expr, $t:ty, $flip:expr) => {
                $b.append_value(<$t>::from_be_bytes(fixed(rest)?) ^ $flip)
            };
        }
        match &mut self.values {
            Values::Bool(b) => b.append_value(fixed::<1>(rest)? == [1]),
            Values::I8(b) => get!(b, i8, i8::MIN),
            Values::I16(b) => get!(b, i16, i16::MIN),
            Values::I32(b) => get!(b, i32, i32::MIN),
            Values::I64(b) => get!(b, i64, i64::MIN),
            Values::U8(b) => get!(b, u8, 0),
            Values::U16(b) => get!(b, u16, 0),
            Values::U32(b) => get!(b, u32, 0),
            Values::U64(b) => get!(b, u64, 0),
            Values::Timestamp(b) => get!(b, i64, i64::MIN),
            Values::Date(b) => get!(b, i32, i32::MIN),
            Values::Decimal(b, _) => get!(b, i128, i128::MIN),
            Values::F32(b) => {
                let o = u32::from_be_bytes(fixed(rest)?);
                b.append_value(f32::from_bits(if o >> 31 == 1 {
                    o & !(1 << 31)
                } else {
                    !o
                }));
            }
            Values::F64(b) => {
                let o = u64::from_be_bytes(fixed(rest)?);
                b.append_value(f64::from_bits(if o >> 63 == 1 {
                    o & !(1 << 63)
                } else {
                    !o
                }));
            }
            Values::String(b) => {
                let n = u32::from_be_bytes(fixed(rest)?) as usize;
                b.append_value(std::str::from_utf8(cut(rest, n)?).map_err(|_| corrupt())?);
            }
            Values::Bytes(b) => {
                let n = u32::from_be_bytes(fixed(rest)?) as usize;
                b.append_value(cut(rest, n)?);
            }
            Values::List {
                item,
                offsets,
                valid,
            } => {
                let n = u32::from_be_bytes(fixed(rest)?);
                for _ in 0..n {
                    item.take(rest)?;
                }
                let end = i64::from(offsets.last().copied().unwrap_or(0)) + i64::from(n);
                offsets.push(i32::try_from(end).map_err(|_| corrupt())?);
                valid.push(true);
            }
            Values::Struct { fields, valid } => {
                for f in fields {
                    f.take(rest)?;
                }
                valid.push(true);
            }
        }
        Ok(())
    }

    /// A null; below a null record each field has a null or a zero value of its own, so that lengths agree.
    fn null(&mut self) -> Result<()> {
        match &mut self.values {
            Values::Bool(b) => b.append_null(),
            Values::I8(b) => b.append_null(),
            Values::I16(b) => b.append_null(),
            Values::I32(b) => b.append_null(),
            Values::I64(b) => b.append_null(),
            Values::U8(b) => b.append_null(),
            Values::U16(b) => b.append_null(),
            Values::U32(b) => b.append_null(),
            Values::U64(b) => b.append_null(),
            Values::F32(b) => b.append_null(),
            Values::F64(b) => b.append_null(),
            Values::Timestamp(b) => b.append_null(),
            Values::Date(b) => b.append_null(),
            Values::Decimal(b, _) => b.append_null(),
            Values::String(b) => b.append_null(),
            Values::Bytes(b) => b.append_null(),
            Values::List { offsets, valid, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
                valid.push(false);
            }
            Values::Struct { fields, valid } => {
                for f in fields {
                    f.null()?;
                }
                valid.push(false);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef> {
        let bug = |e: arrow_schema::ArrowError| Error::bug(e.to_string());
        Ok(match self.values {
            Values::Bool(mut b) => Arc::new(b.finish()),
            Values::I8(mut b) => Arc::new(b.finish()),
            Values::I16(mut b) => Arc::new(b.finish()),
            Values::I32(mut b) => Arc::new(b.finish()),
            Values::I64(mut b) => Arc::new(b.finish()),
            Values::U8(mut b) => Arc::new(b.finish()),
            Values::U16(mut b) => Arc::new(b.finish()),
            Values::U32(mut b) => Arc::new(b.finish()),
            Values::U64(mut b) => Arc::new(b.finish()),
            Values::F32(mut b) => Arc::new(b.finish()),
            Values::F64(mut b) => Arc::new(b.finish()),
            Values::Timestamp(mut b) => Arc::new(b.finish()),
            Values::Date(mut b) => Arc::new(b.finish()),
            Values::Decimal(mut b, scale) => Arc::new(
                b.finish()
                    .with_precision_and_scale(38, i8::try_from(scale).unwrap_or(i8::MAX))
                    .map_err(bug)?,
            ),
            Values::String(mut b) => Arc::new(b.finish()),
            Values::Bytes(mut b) => Arc::new(b.finish()),
            Values::List {
                item,
                offsets,
                valid,
            } => {
                let field = Arc::new(item.field.to_arrow());
                let nulls = nulls(valid);
                Arc::new(
                    ListArray::try_new(
                        field,
                        OffsetBuffer::new(offsets.into()),
                        item.finish()?,
                        nulls,
                    )
                    .map_err(bug)?,
                )
            }
            Values::Struct { fields, valid } => {
                let arrow = fields.iter().map(|f| f.field.to_arrow()).collect();
                let len = valid.len();
                let columns = fields
                    .into_iter()
                    .map(Self::finish)
                    .collect::<Result<_>>()?;
                Arc::new(
                    StructArray::try_new_with_length(arrow, columns, nulls(valid), len)
                        .map_err(bug)?,
                )
            }
        })
    }
}

fn nulls(valid: Vec<bool>) -> Option<NullBuffer> {
    valid.contains(&false).then(|| NullBuffer::from(valid))
}

#[cfg(test)]
mod tests;
