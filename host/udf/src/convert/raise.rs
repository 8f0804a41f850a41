//! A guest's buffers as Arrow arrays, each checked first: lengths, offsets, UTF-8, nulls, digits.
//! Errors are sentences without a code; [`reply`](super::reply) puts them into `BadReply`.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DecimalType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use pelton_model::schema::{DataType, Field};

use super::wire::ColumnOut;

/// The digits of a decimal, as the model has it.
const DECIMAL_DIGITS: u8 = 38;

/// The columns of these fields, of `rows` rows. Errors: what is wrong, naming the field.
pub(crate) fn columns(
    fields: &[Field],
    nodes: Vec<ColumnOut>,
    rows: usize,
) -> Result<Vec<ArrayRef>, String> {
    let mut nodes = nodes.into_iter();
    let arrays = fields
        .iter()
        .map(|f| array(f, &mut nodes, rows).map_err(|why| format!("column '{}' has {why}", f.name)))
        .collect::<Result<_, _>>()?;
    match nodes.len() {
        0 => Ok(arrays),
        more => Err(format!("there are {more} more columns than agreed")),
    }
}

/// Values of a fixed width, `count` of them. Errors: another length.
pub(crate) fn scalars<T: ArrowNativeType>(
    bytes: Vec<u8>,
    count: usize,
) -> Result<ScalarBuffer<T>, String> {
    let width = size_of::<T>();
    if count.checked_mul(width) != Some(bytes.len()) {
        return Err(format!(
            "{} bytes where {count} values of {width} bytes belong",
            bytes.len()
        ));
    }
    let buffer = if bytes.as_ptr().align_offset(align_of::<T>()) == 0 {
        Buffer::from_vec(bytes)
    } else {
        // Allocators align by size class: only a few small buffers come here.
        Buffer::from(bytes.as_slice())
    };
    Ok(ScalarBuffer::new(buffer, 0, count))
}

/// A bit for each of `count` rows. Errors: too few bytes, or more than padding explains.
pub(crate) fn bits(bytes: Vec<u8>, count: usize) -> Result<BooleanBuffer, String> {
    let needed = count.div_ceil(8);
    // Writers fill whole words, of up to 64 bytes in Arrow's own implementations.
    if bytes.len() < needed || bytes.len() > needed.next_multiple_of(64) {
        return Err(format!(
            "{} bytes of bits where {count} rows need {needed}",
            bytes.len()
        ));
    }
    Ok(BooleanBuffer::new(Buffer::from_vec(bytes), 0, count))
}

fn array(
    field: &Field,
    nodes: &mut std::vec::IntoIter<ColumnOut>,
    rows: usize,
) -> Result<ArrayRef, String> {
    let node = nodes
        .next()
        .ok_or("no buffers: there are too few columns")?;
    let nulls = validity(field, node.validity, rows)?;
    match &field.data_type {
        DataType::String | DataType::Bytes | DataType::List(_) => {}
        _ if node.offsets.is_some() => return Err(format!("offsets, but is {}", field.data_type)),
        _ => {}
    }
    match &field.data_type {
        DataType::Bool => {
            let values = bits(present(node.values)?, rows)?;
            Ok(Arc::new(BooleanArray::new(values, nulls)))
        }
        DataType::String => {
            let values = Buffer::from_vec(present(node.values)?);
            let offsets = offsets(node.offsets, rows, Some(values.len()))?;
            StringArray::try_new(offsets.clone(), values.clone(), nulls)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| not_text(&values, &offsets).unwrap_or_else(|| e.to_string()))
        }
        DataType::Bytes => {
            let values = present(node.values)?;
            let offsets = offsets(node.offsets, rows, Some(values.len()))?;
            BinaryArray::try_new(offsets, Buffer::from_vec(values), nulls)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| e.to_string())
        }
        DataType::List(item) => {
            absent(node.values.as_ref(), field)?;
            let offsets = offsets(node.offsets, rows, None)?;
            let count = offsets.last().map_or(0, |o| o.as_usize());
            let values = array(item, nodes, count).map_err(|why| format!("an item with {why}"))?;
            ListArray::try_new(Arc::new(item.to_arrow()), offsets, values, nulls)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| e.to_string())
        }
        DataType::Struct(fields) => {
            absent(node.values.as_ref(), field)?;
            let children = fields
                .iter()
                .map(|f| array(f, nodes, rows).map_err(|why| format!("a '{}' with {why}", f.name)))
                .collect::<Result<Vec<_>, _>>()?;
            let fields = fields.iter().map(Field::to_arrow).collect();
            StructArray::try_new_with_length(fields, children, nulls, rows)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| e.to_string())
        }
        fixed => fixed_array(fixed, present(node.values)?, rows, nulls),
    }
}

fn fixed_array(
    data_type: &DataType,
    bytes: Vec<u8>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    fn of<T: ArrowPrimitiveType>(
        bytes: Vec<u8>,
        rows: usize,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, String> {
        let values = scalars::<T::Native>(bytes, rows)?;
        Ok(Arc::new(PrimitiveArray::<T>::new(values, nulls)))
    }
    match data_type {
        DataType::I8 => of::<Int8Type>(bytes, rows, nulls),
        DataType::I16 => of::<Int16Type>(bytes, rows, nulls),
        DataType::I32 => of::<Int32Type>(bytes, rows, nulls),
        DataType::I64 => of::<Int64Type>(bytes, rows, nulls),
        DataType::U8 => of::<UInt8Type>(bytes, rows, nulls),
        DataType::U16 => of::<UInt16Type>(bytes, rows, nulls),
        DataType::U32 => of::<UInt32Type>(bytes, rows, nulls),
        DataType::U64 => of::<UInt64Type>(bytes, rows, nulls),
        DataType::F32 => of::<Float32Type>(bytes, rows, nulls),
        DataType::F64 => of::<Float64Type>(bytes, rows, nulls),
        DataType::Timestamp => of::<TimestampMillisecondType>(bytes, rows, nulls),
        DataType::Date => of::<Date32Type>(bytes, rows, nulls),
        DataType::Decimal { scale } => decimals(*scale, bytes, rows, nulls),
        DataType::Bool
        | DataType::String
        | DataType::Bytes
        | DataType::List(_)
        | DataType::Struct(_) => Err("no fixed width".into()),
    }
}

fn decimals(
    scale: u8,
    bytes: Vec<u8>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    let values = scalars::<i128>(bytes, rows)?;
    let fits = |v: &i128| Decimal128Type::is_valid_decimal_precision(*v, DECIMAL_DIGITS);
    let there = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
    let wide = |(row, v): (usize, &i128)| !fits(v) && there(row);
    if let Some(row) = values.iter().enumerate().position(wide) {
        return Err(format!("more than {DECIMAL_DIGITS} digits in row {row}"));
    }
    let scale = i8::try_from(scale).map_err(|_| "a scale above 38".to_string())?;
    PrimitiveArray::<Decimal128Type>::new(values, nulls)
        .with_precision_and_scale(DECIMAL_DIGITS, scale)
        .map(|a| Arc::new(a) as ArrayRef)
        .map_err(|e| e.to_string())
}

fn validity(
    field: &Field,
    bytes: Option<Vec<u8>>,
    rows: usize,
) -> Result<Option<NullBuffer>, String> {
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let nulls = NullBuffer::new(bits(bytes, rows)?);
    if nulls.null_count() > 0 && !field.nullable {
        return Err(format!("{} nulls, but may not be null", nulls.null_count()));
    }
    Ok((nulls.null_count() > 0).then_some(nulls))
}

fn present(bytes: Option<Vec<u8>>) -> Result<Vec<u8>, String> {
    bytes.ok_or_else(|| "no values".into())
}

fn absent(values: Option<&Vec<u8>>, field: &Field) -> Result<(), String> {
    match values {
        None => Ok(()),
        Some(_) => Err(format!("values, but is {}", field.data_type)),
    }
}

/// `rows + 1` offsets that begin with 0, never descend, and end at `end` where that is known.
fn offsets(
    bytes: Option<Vec<u8>>,
    rows: usize,
    end: Option<usize>,
) -> Result<OffsetBuffer<i32>, String> {
    let bytes = bytes.ok_or("no offsets")?;
    let offsets = scalars::<i32>(bytes, rows + 1).map_err(|why| format!("offsets with {why}"))?;
    if offsets.first() != Some(&0) {
        return Err("offsets that do not begin with 0".into());
    }
    // Compared without an early end, so that it runs as wide as the machine allows; the row is looked for on failure.
    let descends = offsets
        .iter()
        .zip(offsets.iter().skip(1))
        .fold(false, |found, (a, b)| found | (a > b));
    if descends {
        let row = offsets
            .iter()
            .zip(offsets.iter().skip(1))
            .position(|(a, b)| a > b);
        return Err(format!("offsets that descend at row {}", row.unwrap_or(0)));
    }
    let last = offsets.last().map_or(0, |o| o.as_usize());
    if end.is_some_and(|end| end != last) {
        return Err(format!(
            "offsets that end at {last} where there are {} bytes",
            end.unwrap_or(0)
        ));
    }
    Ok(OffsetBuffer::new(offsets))
}

/// Which row is to blame if the bytes as a whole are not UTF-8.
fn not_text(values: &[u8], offsets: &OffsetBuffer<i32>) -> Option<String> {
    let end = std::str::from_utf8(values).err()?.valid_up_to();
    let row = offsets.iter().skip(1).position(|o| o.as_usize() > end);
    Some(format!(
        "bytes that are not UTF-8 in row {}",
        row.unwrap_or(0)
    ))
}
