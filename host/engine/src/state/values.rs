//! Values by slot, of one schema.
//!
//! Where all fields are of fixed width and never null, values lie side by side in one buffer; otherwise each is kept
//! as its canonical encoding.

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer, ScalarBuffer};
use pelton_model::encoding::{decode, encode};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, Result};

use super::rows::{EncodedRows, misfit};
use crate::function::{Mark, Slots};

/// Values by slot.
#[derive(Clone, Debug)]
pub struct ValueStore {
    fields: Vec<Field>,
    layout: Layout,
    /// A bit a slot.
    present: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Layout {
    Fixed {
        stride: usize,
        widths: Vec<usize>,
        bytes: Vec<u8>,
    },
    Encoded {
        values: Vec<Box<[u8]>>,
        bytes: u64,
        blank: Vec<u8>,
    },
}

impl ValueStore {
    /// An empty store for values of this schema.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        let fixed = |f: &Field| f.data_type.fixed_width().filter(|_| !f.nullable);
        let layout = match schema.fields.iter().map(fixed).collect::<Option<Vec<_>>>() {
            Some(widths) => Layout::Fixed {
                stride: widths.iter().sum(),
                widths,
                bytes: Vec::new(),
            },
            None => Layout::Encoded {
                values: Vec::new(),
                bytes: 0,
                blank: Self::blank(schema),
            },
        };
        Self {
            fields: schema.fields.clone(),
            layout,
            present: Vec::new(),
        }
    }

    /// The encoding of the least value, which stands where there is none.
    #[must_use]
    pub fn blank(schema: &Schema) -> Vec<u8> {
        let mut blank = Vec::new();
        schema
            .fields
            .iter()
            .for_each(|f| write_blank(f, &mut blank));
        blank
    }

    /// Whether a slot has a value.
    #[must_use]
    #[inline]
    pub fn has(&self, slot: u32) -> bool {
        self.present
            .get(slot as usize / 64)
            .is_some_and(|w| w >> (slot % 64) & 1 == 1)
    }

    /// The bytes of each value, if all have the same.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        match &self.layout {
            Layout::Fixed { stride, .. } => Some(*stride),
            Layout::Encoded { .. } => None,
        }
    }

    /// Bytes of a slot's value.
    #[must_use]
    pub fn size_of(&self, slot: u32) -> usize {
        match &self.layout {
            Layout::Fixed { stride, .. } => *stride,
            Layout::Encoded { values, .. } => values.get(slot as usize).map_or(0, |v| v.len()),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let values = match &self.layout {
            Layout::Fixed { bytes, .. } => bytes.len() as u64,
            Layout::Encoded { values, bytes, .. } => bytes + values.len() as u64 * 16,
        };
        values + self.present.len() as u64 * 8
    }

    /// The values of slots.
    pub fn gather(&self, slots: &[u32]) -> Result<Slots> {
        let all = slots.iter().all(|s| self.has(*s));
        let present = (!all).then(|| {
            BooleanBuffer::collect_bool(slots.len(), |i| slots.get(i).is_some_and(|s| self.has(*s)))
        });
        let columns = match &self.layout {
            Layout::Fixed {
                stride,
                widths,
                bytes,
            } => {
                let mut offset = 0;
                let mut columns = Vec::with_capacity(widths.len());
                for (field, width) in self.fields.iter().zip(widths) {
                    columns.push(fixed_column(
                        field,
                        pick(*width, *stride, offset, bytes, slots),
                        slots.len(),
                    )?);
                    offset += width;
                }
                columns
            }
            Layout::Encoded { values, blank, .. } => {
                let value = |s: &u32| {
                    values
                        .get(*s as usize)
                        .filter(|_| self.has(*s))
                        .map_or(blank.as_slice(), |v| v)
                };
                decode(&self.fields, slots.iter().map(value))?
            }
        };
        Ok(Slots {
            rows: slots.len(),
            present,
            columns,
        })
    }

    /// The canonical encodings of the values of slots; of a slot without a value, that of the least.
    pub fn encodings(&self, slots: &[u32]) -> Result<EncodedRows> {
        let Layout::Encoded { values, blank, .. } = &self.layout else {
            let mut values = self.gather(slots)?;
            values.present = None;
            return EncodedRows::new(&self.fields, &values);
        };
        let mut rows = EncodedRows::default();
        for slot in slots {
            let value = values.get(*slot as usize).filter(|_| self.has(*slot));
            rows.push(value.map_or(blank.as_slice(), |v| v));
        }
        Ok(rows)
    }

    /// Sets and clears values: `marks` has one [`Mark`] a slot, `values` one row for each that is set.
    /// Errors: `BadReply` where they don't fit.
    pub fn scatter(&mut self, slots: &[u32], marks: &[u8], values: &Slots) -> Result<()> {
        let set = marks.iter().filter(|m| **m == Mark::Set as u8).count();
        if marks.len() != slots.len()
            || values.rows != set
            || values.columns.len() != self.fields.len()
        {
            return Err(misfit());
        }
        if set == slots.len() {
            return self.put(slots, values);
        }
        let chosen: Vec<u32> = slots
            .iter()
            .zip(marks)
            .filter(|(_, m)| **m == Mark::Set as u8)
            .map(|(s, _)| *s)
            .collect();
        self.put(&chosen, values)?;
        for (slot, _) in slots
            .iter()
            .zip(marks)
            .filter(|(_, m)| **m == Mark::Cleared as u8)
        {
            self.clear(*slot);
        }
        Ok(())
    }

    /// Sets the value of each slot. Errors: `BadReply` where the columns are not of the schema.
    pub fn put(&mut self, slots: &[u32], values: &Slots) -> Result<()> {
        let Some(greatest) = slots.iter().max() else {
            return Ok(());
        };
        self.grow(*greatest as usize + 1);
        for slot in slots {
            if let Some(word) = self.present.get_mut(*slot as usize / 64) {
                *word |= 1 << (slot % 64);
            }
        }
        if values.columns.len() != self.fields.len()
            || values.columns.iter().any(|c| c.len() < slots.len())
        {
            return Err(misfit());
        }
        match &mut self.layout {
            Layout::Fixed {
                stride,
                widths,
                bytes,
            } => {
                let mut offset = 0;
                for ((field, column), width) in self.fields.iter().zip(&values.columns).zip(widths)
                {
                    if column.data_type() != &field.data_type.to_arrow() || column.null_count() > 0
                    {
                        return Err(misfit());
                    }
                    let data = column.to_data();
                    let from = data
                        .buffers()
                        .first()
                        .and_then(|b| b.as_slice().get(data.offset() * *width..))
                        .ok_or_else(misfit)?;
                    place(*width, *stride, offset, bytes, slots, from);
                    offset += *width;
                }
            }
            Layout::Encoded {
                values: kept,
                bytes,
                ..
            } => {
                let mut row_bytes = Vec::new();
                for (row, slot) in slots.iter().enumerate() {
                    row_bytes.clear();
                    for (field, column) in self.fields.iter().zip(&values.columns) {
                        encode(field, column.as_ref(), row, &mut row_bytes)
                            .map_err(|_| misfit())?;
                    }
                    if let Some(v) = kept.get_mut(*slot as usize) {
                        *bytes = *bytes - v.len() as u64 + row_bytes.len() as u64;
                        *v = row_bytes.as_slice().into();
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a slot's value away.
    pub fn clear(&mut self, slot: u32) {
        if !self.has(slot) {
            return;
        }
        if let Some(word) = self.present.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
        match &mut self.layout {
            // What a former key had must not be seen under the next.
            Layout::Fixed { stride, bytes, .. } => {
                let start = slot as usize * *stride;
                if let Some(value) = bytes.get_mut(start..start + *stride) {
                    value.fill(0);
                }
            }
            Layout::Encoded { values, bytes, .. } => {
                if let Some(v) = values.get_mut(slot as usize) {
                    *bytes -= v.len() as u64;
                    *v = Box::default();
                }
            }
        }
    }

    /// Takes all values away.
    pub fn clear_all(&mut self) {
        self.present.clear();
        match &mut self.layout {
            Layout::Fixed { bytes, .. } => bytes.clear(),
            Layout::Encoded { values, bytes, .. } => {
                values.clear();
                *bytes = 0;
            }
        }
    }

    fn grow(&mut self, slots: usize) {
        if self.present.len() * 64 < slots {
            self.present.resize(slots.div_ceil(64), 0);
        }
        match &mut self.layout {
            Layout::Fixed { stride, bytes, .. } if bytes.len() < slots * *stride => {
                bytes.resize(slots * *stride, 0)
            }
            Layout::Encoded { values, .. } if values.len() < slots => {
                values.resize(slots, Box::default())
            }
            _ => {}
        }
    }
}

fn write_blank(field: &Field, out: &mut Vec<u8>) {
    if field.nullable {
        out.push(0);
        return;
    }
    match &field.data_type {
        DataType::Bool => out.push(0),
        DataType::String | DataType::Bytes | DataType::List(_) => out.extend_from_slice(&[0; 4]),
        DataType::Struct(fields) => fields.iter().for_each(|f| write_blank(f, out)),
        other => out.resize(out.len() + other.fixed_width().unwrap_or(0), 0),
    }
}

fn pick(width: usize, stride: usize, offset: usize, bytes: &[u8], slots: &[u32]) -> Buffer {
    fn of<const W: usize>(stride: usize, offset: usize, bytes: &[u8], slots: &[u32]) -> Buffer {
        let mut out = MutableBuffer::from_len_zeroed(slots.len() * W);
        for (to, slot) in out.as_slice_mut().chunks_exact_mut(W).zip(slots) {
            let start = *slot as usize * stride + offset;
            if let Some(from) = bytes.get(start..start + W) {
                to.copy_from_slice(from);
            }
        }
        out.into()
    }
    match width {
        1 => of::<1>(stride, offset, bytes, slots),
        2 => of::<2>(stride, offset, bytes, slots),
        4 => of::<4>(stride, offset, bytes, slots),
        8 => of::<8>(stride, offset, bytes, slots),
        _ => of::<16>(stride, offset, bytes, slots),
    }
}

fn place(width: usize, stride: usize, offset: usize, bytes: &mut [u8], slots: &[u32], from: &[u8]) {
    fn of<const W: usize>(
        stride: usize,
        offset: usize,
        bytes: &mut [u8],
        slots: &[u32],
        from: &[u8],
    ) {
        for (from, slot) in from.chunks_exact(W).zip(slots) {
            let start = *slot as usize * stride + offset;
            if let Some(to) = bytes.get_mut(start..start + W) {
                to.copy_from_slice(from);
            }
        }
    }
    match width {
        1 => of::<1>(stride, offset, bytes, slots, from),
        2 => of::<2>(stride, offset, bytes, slots, from),
        4 => of::<4>(stride, offset, bytes, slots, from),
        8 => of::<8>(stride, offset, bytes, slots, from),
        _ => of::<16>(stride, offset, bytes, slots, from),
    }
}

fn fixed_column(field: &Field, values: Buffer, len: usize) -> Result<ArrayRef> {
    macro_rules! of {
        ($t:ty) => {
            Arc::new(PrimitiveArray::<$t>::new(
                ScalarBuffer::new(values, 0, len),
                None,
            ))
        };
    }
    Ok(match &field.data_type {
        DataType::I8 => of!(Int8Type),
        DataType::I16 => of!(Int16Type),
        DataType::I32 => of!(Int32Type),
        DataType::I64 => of!(Int64Type),
        DataType::U8 => of!(UInt8Type),
        DataType::U16 => of!(UInt16Type),
        DataType::U32 => of!(UInt32Type),
        DataType::U64 => of!(UInt64Type),
        DataType::F32 => of!(Float32Type),
        DataType::F64 => of!(Float64Type),
        DataType::Timestamp => of!(TimestampMillisecondType),
        DataType::Date => of!(Date32Type),
        DataType::Decimal { scale } => {
            let array =
                PrimitiveArray::<Decimal128Type>::new(ScalarBuffer::new(values, 0, len), None);
            let scale = i8::try_from(*scale).unwrap_or(i8::MAX);
            Arc::new(
                array
                    .with_precision_and_scale(38, scale)
                    .map_err(|e| Error::bug(e.to_string()))?,
            )
        }
        _ => {
            return Err(Error::bug(
                "a field without a fixed width is not kept as one",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Decimal128Array, Float64Array, Int64Array, StringArray};
    use pelton_model::ErrorCode;

    fn check(schema: &Schema, first: Vec<ArrayRef>, second: Vec<ArrayRef>) {
        let mut store = ValueStore::new(schema);
        let values = |columns: Vec<ArrayRef>| Slots {
            rows: columns[0].len(),
            present: None,
            columns,
        };
        store
            .scatter(&[70, 0, 3], &[1, 0, 1], &values(first.clone()))
            .unwrap();
        let got = store.gather(&[3, 0, 70]).unwrap();
        assert_eq!(
            got.present.unwrap().iter().collect::<Vec<_>>(),
            [true, false, true]
        );
        for (g, f) in got.columns.iter().zip(&first) {
            assert_eq!(g.slice(0, 1).as_ref(), f.slice(1, 1).as_ref());
            assert_eq!(g.slice(2, 1).as_ref(), f.slice(0, 1).as_ref());
        }
        store
            .scatter(&[3, 70], &[2, 1], &values(second.clone()))
            .unwrap();
        assert!(!store.has(3) && store.has(70));
        let got = store.gather(&[70]).unwrap();
        assert!(got.present.is_none());
        assert_eq!(got.columns[0].as_ref(), second[0].as_ref());
        let bytes = store.bytes();
        assert!(
            store.scatter(&[1], &[1], &values(first)).is_err(),
            "two values for one slot"
        );
        store.clear(70);
        assert!(store.bytes() <= bytes);
    }

    #[test]
    fn values_come_back() {
        let ints = |v: &[i64]| Arc::new(Int64Array::from(v.to_vec())) as ArrayRef;
        check(
            &Schema::new(vec![Field::new("n", DataType::I64)]),
            vec![ints(&[7, 8])],
            vec![ints(&[9])],
        );
        let decimal = |v: &[i128]| {
            Arc::new(
                Decimal128Array::from(v.to_vec())
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ) as ArrayRef
        };
        let floats = |v: &[f64]| Arc::new(Float64Array::from(v.to_vec())) as ArrayRef;
        let fields = vec![
            Field::new("d", DataType::Decimal { scale: 2 }),
            Field::new("f", DataType::F64),
        ];
        check(
            &Schema::new(fields),
            vec![decimal(&[7, 8]), floats(&[0.5, -0.0])],
            vec![decimal(&[-1]), floats(&[1.0])],
        );
        let text = |v: &[Option<&str>]| Arc::new(StringArray::from(v.to_vec())) as ArrayRef;
        let fields = vec![
            Field::new("s", DataType::String).nullable(),
            Field::new("n", DataType::I64),
        ];
        check(
            &Schema::new(fields),
            vec![text(&[None, Some("x")]), ints(&[1, 2])],
            vec![text(&[Some("long")]), ints(&[3])],
        );
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let mut store = ValueStore::new(&Schema::new(vec![Field::new("n", DataType::I64)]));
        let values = Slots {
            rows: 1,
            present: None,
            columns: vec![Arc::new(Float64Array::from(vec![1.0]))],
        };
        assert_eq!(
            store.scatter(&[0], &[1], &values).unwrap_err().code(),
            ErrorCode::BadReply
        );
    }
}
