//! Arrow arrays as the flat buffers that a guest reads: bitmaps begin at bit 0, offsets at 0.
//! An array that is not sliced costs a reference count a buffer; a slice costs a copy of its bitmaps and offsets alone.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{ArrowNativeType, Buffer, NullBuffer, OffsetBuffer, ToByteSlice};
use pelton_engine::function::{Rows, Slots};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, Result};

use super::wire;

/// One node of a schema, in preorder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flat {
    validity: Option<Buffer>,
    offsets: Option<Buffer>,
    values: Option<Buffer>,
}

/// The nodes of some columns, and how many rows they have.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    rows: u32,
    nodes: Vec<Flat>,
}

impl Columns {
    /// The first `take` rows of columns that have at least as many. Errors (bugs of the caller): another number of
    /// columns than the schema's, another type, too few rows.
    pub(crate) fn new(
        schema: &Schema,
        columns: &[ArrayRef],
        rows: usize,
        take: usize,
    ) -> Result<Self> {
        if columns.len() != schema.fields.len() {
            return Err(Error::bug(format!(
                "a call passes {} columns where {} are agreed",
                columns.len(),
                schema.fields.len()
            )));
        }
        let mut nodes = Vec::with_capacity(columns.len());
        for (field, column) in schema.fields.iter().zip(columns) {
            if column.len() != rows || take > rows {
                return Err(Error::bug(format!(
                    "column '{}' has {} rows where the call has {rows}",
                    field.name,
                    column.len()
                )));
            }
            if take < rows {
                flatten(field, &column.slice(0, take), &mut nodes)?;
            } else {
                flatten(field, column, &mut nodes)?;
            }
        }
        let rows = u32::try_from(take).map_err(|_| Error::bug("a call has over 2^32 rows"))?;
        Ok(Self { rows, nodes })
    }

    /// What is passed to the guest.
    pub(crate) fn wire(&self) -> Vec<wire::Column<'_>> {
        self.nodes
            .iter()
            .map(|n| wire::Column {
                validity: n.validity.as_ref().map(Buffer::as_slice),
                offsets: n.offsets.as_ref().map(Buffer::as_slice),
                values: n.values.as_ref().map(Buffer::as_slice),
            })
            .collect()
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }
}

/// A batch: the first `take` of its rows.
pub(crate) fn batch<'a>(
    rows: &Rows<'a>,
    take: usize,
    columns: &'a Columns,
    wired: &'a [wire::Column<'a>],
) -> Result<wire::Batch<'a>> {
    Ok(wire::Batch {
        rows: columns.rows(),
        columns: wired,
        times: rows.times.map(|t| prefix(t, take)).transpose()?,
        kinds: rows.kinds.map(|k| prefix(k, take)).transpose()?,
    })
}

/// The bytes of the first `take` of these values. Errors: there are fewer.
pub(crate) fn prefix<T>(values: &[T], take: usize) -> Result<&[u8]>
where
    [T]: ToByteSlice,
{
    values
        .get(..take)
        .map(ToByteSlice::to_byte_slice)
        .ok_or_else(|| Error::bug("a call has fewer times, kinds or ordinals than rows"))
}

/// Slots, flattened.
#[derive(Clone, Debug)]
pub(crate) struct FlatSlots {
    present: Option<Buffer>,
    columns: Columns,
}

impl FlatSlots {
    /// The first `take` slots. Errors: as [`Columns::new`].
    pub(crate) fn new(schema: &Schema, slots: &Slots, take: usize) -> Result<Self> {
        let columns = Columns::new(schema, &slots.columns, slots.rows, take)?;
        let present = match &slots.present {
            Some(p) if p.len() != slots.rows => {
                return Err(Error::bug("slots have another number of marks than rows"));
            }
            Some(p) => Some(p.slice(0, take).sliced()),
            None => None,
        };
        Ok(Self { present, columns })
    }

    /// What is passed to the guest.
    pub(crate) fn wire<'a>(&'a self, wired: &'a [wire::Column<'a>]) -> wire::Slots<'a> {
        wire::Slots {
            rows: self.columns.rows(),
            present: self.present.as_ref().map(Buffer::as_slice),
            columns: wired,
        }
    }

    /// The same, copied: for an answer to the guest, which must own what it passes.
    pub(crate) fn owned(&self) -> wire::SlotsOut {
        let copy = |b: &Option<Buffer>| b.as_ref().map(|b| b.as_slice().to_vec());
        let nodes = self.columns.nodes.iter();
        wire::SlotsOut {
            rows: self.columns.rows(),
            present: copy(&self.present),
            columns: nodes
                .map(|n| wire::ColumnOut {
                    validity: copy(&n.validity),
                    offsets: copy(&n.offsets),
                    values: copy(&n.values),
                })
                .collect(),
        }
    }

    /// The columns.
    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }
}

fn flatten(field: &Field, array: &ArrayRef, out: &mut Vec<Flat>) -> Result<()> {
    let validity = array.nulls().and_then(bitmap);
    let mut node = Flat {
        validity,
        offsets: None,
        values: None,
    };
    let missed = || {
        Error::bug(format!(
            "column '{}' is agreed as {}, but is {}",
            field.name,
            field.data_type,
            array.data_type()
        ))
    };
    match &field.data_type {
        DataType::Bool => {
            let bits = array.as_boolean_opt().ok_or_else(missed)?;
            node.values = Some(bits.values().sliced());
        }
        DataType::String => {
            let text = array.as_string_opt::<i32>().ok_or_else(missed)?;
            let (offsets, first, last) = rebase(text.offsets());
            node.offsets = Some(offsets);
            node.values = Some(text.values().slice_with_length(first, last - first));
        }
        DataType::Bytes => {
            let bytes = array.as_binary_opt::<i32>().ok_or_else(missed)?;
            let (offsets, first, last) = rebase(bytes.offsets());
            node.offsets = Some(offsets);
            node.values = Some(bytes.values().slice_with_length(first, last - first));
        }
        DataType::List(item) => {
            let list = array.as_list_opt::<i32>().ok_or_else(missed)?;
            let (offsets, first, last) = rebase(list.offsets());
            node.offsets = Some(offsets);
            out.push(node);
            return flatten(item, &list.values().slice(first, last - first), out);
        }
        DataType::Struct(fields) => {
            let record = array.as_struct_opt().ok_or_else(missed)?;
            if record.num_columns() != fields.len() {
                return Err(missed());
            }
            out.push(node);
            return fields
                .iter()
                .zip(record.columns())
                .try_for_each(|(f, c)| flatten(f, c, out));
        }
        fixed => node.values = Some(fixed_values(fixed, array).ok_or_else(missed)?),
    }
    out.push(node);
    Ok(())
}

fn fixed_values(data_type: &DataType, array: &ArrayRef) -> Option<Buffer> {
    fn of<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<Buffer> {
        Some(array.as_primitive_opt::<T>()?.values().inner().clone())
    }
    match data_type {
        DataType::I8 => of::<Int8Type>(array),
        DataType::I16 => of::<Int16Type>(array),
        DataType::I32 => of::<Int32Type>(array),
        DataType::I64 => of::<Int64Type>(array),
        DataType::U8 => of::<UInt8Type>(array),
        DataType::U16 => of::<UInt16Type>(array),
        DataType::U32 => of::<UInt32Type>(array),
        DataType::U64 => of::<UInt64Type>(array),
        DataType::F32 => of::<Float32Type>(array),
        DataType::F64 => of::<Float64Type>(array),
        DataType::Timestamp => of::<TimestampMillisecondType>(array),
        DataType::Date => of::<Date32Type>(array),
        DataType::Decimal { .. } => of::<Decimal128Type>(array),
        DataType::Bool
        | DataType::String
        | DataType::Bytes
        | DataType::List(_)
        | DataType::Struct(_) => None,
    }
}

fn bitmap(nulls: &NullBuffer) -> Option<Buffer> {
    (nulls.null_count() > 0).then(|| nulls.inner().sliced())
}

/// Offsets from 0, and the span of values that they speak of.
fn rebase(offsets: &OffsetBuffer<i32>) -> (Buffer, usize, usize) {
    let first = offsets.first().copied().unwrap_or_default();
    let last = offsets.last().copied().unwrap_or_default();
    let bytes = if first == 0 {
        offsets.inner().inner().clone()
    } else {
        offsets.iter().map(|o| *o - first).collect()
    };
    (bytes, first.as_usize(), last.as_usize())
}
