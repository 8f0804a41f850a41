//! Accumulators in snapshots: a typed field for each, that of what it has come to, so that anybody can read it.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use pelton_model::schema::{DataType, Field};
use pelton_model::{Error, Result};

use super::{Acc, Numbers, Op, Wanted, from_order, set};
use crate::state::RowSet;

/// The fields of one accumulator: its value (null where no value went in), and how many went in if some may be null.
pub(in crate::operators::window) fn fields(wanted: &Wanted) -> Vec<Field> {
    let of = |op: &str| format!("{op}({})", wanted.field.name);
    let data_type = wanted.field.data_type.clone();
    let (name, data_type) = match (wanted.op, data_type) {
        (Op::Count, _) => return vec![Field::new("count", DataType::U64)],
        (Op::Sum, DataType::F32 | DataType::F64) => (of("sum"), DataType::F64),
        (Op::Sum, DataType::Decimal { scale }) => (of("sum"), DataType::Decimal { scale }),
        (Op::Sum, _) => (of("sum"), DataType::Decimal { scale: 0 }),
        (Op::Min, data_type) => (of("min"), data_type),
        (Op::Max, data_type) => (of("max"), data_type),
    };
    let value = Field::new(&name, data_type);
    if !wanted.field.nullable {
        return vec![value];
    }
    let seen = Field::new(format!("{name}.values"), DataType::U64);
    vec![value.nullable(), seen]
}

impl Acc {
    /// Appends the canonical encoding of a slot's fields.
    pub(in crate::operators::window) fn encode(
        &self,
        wanted: &Wanted,
        slot: u32,
        out: &mut Vec<u8>,
    ) {
        let slot = slot as usize;
        let seen = self
            .seen
            .as_ref()
            .map(|s| s.get(slot).copied().unwrap_or(0));
        match seen {
            Some(0) => out.push(0),
            _ => {
                if seen.is_some() {
                    out.push(1);
                }
                self.encode_value(wanted, slot, out);
            }
        }
        if let Some(seen) = seen {
            out.extend_from_slice(&seen.to_be_bytes());
        }
    }

    fn encode_value(&self, wanted: &Wanted, slot: usize, out: &mut Vec<u8>) {
        fn at<T: Copy + Default>(values: &[T], slot: usize) -> T {
            values.get(slot).copied().unwrap_or_default()
        }
        match &self.numbers {
            Numbers::Counts(v) => out.extend_from_slice(&at(v, slot).to_be_bytes()),
            Numbers::Exact(v) => {
                out.extend_from_slice(&(at(v, slot) ^ i128::MIN).to_be_bytes());
            }
            Numbers::Floats(v) => double(at(v, slot), out),
            Numbers::Ordered(v) => ordered(&wanted.field.data_type, at(v, slot), out),
        }
    }

    /// Takes in what was encoded: `columns` are those of the fields, from which it takes its own; slot by slot, each of
    /// which is empty. `total` is above all slots. Errors: columns of other fields.
    pub(in crate::operators::window) fn load(
        &mut self,
        wanted: &Wanted,
        columns: &mut impl Iterator<Item = ArrayRef>,
        slots: &[u32],
        total: usize,
    ) -> Result<()> {
        let gone = || Error::bug("an accumulator of a snapshot has too few columns");
        self.grow(total);
        let values = columns.next().ok_or_else(gone)?;
        let there = |row: usize| row < values.len() && values.is_valid(row);
        let rows = || (0..).zip(slots).filter(|(row, _)| there(*row));
        match &mut self.numbers {
            Numbers::Counts(to) => {
                let from = values.as_primitive_opt::<UInt64Type>().ok_or_else(gone)?;
                rows().for_each(|(row, slot)| set(to, *slot as usize, from.value(row)));
            }
            Numbers::Exact(to) => {
                let from = values
                    .as_primitive_opt::<Decimal128Type>()
                    .ok_or_else(gone)?;
                rows().for_each(|(row, slot)| set(to, *slot as usize, from.value(row)));
            }
            Numbers::Floats(to) => {
                let from = values.as_primitive_opt::<Float64Type>().ok_or_else(gone)?;
                rows().for_each(|(row, slot)| set(to, *slot as usize, from.value(row)));
            }
            Numbers::Ordered(_) => {
                self.add(wanted, &values, RowSet::First(slots.len()), slots)?;
            }
        }
        if let Some(seen) = &mut self.seen {
            let from = columns.next().ok_or_else(gone)?;
            let from = from.as_primitive_opt::<UInt64Type>().ok_or_else(gone)?;
            for (slot, n) in slots.iter().zip(from.values()) {
                set(seen, *slot as usize, *n);
            }
        }
        Ok(())
    }
}

/// The encoding of a least or greatest value, of the number by which it is ordered.
fn ordered(data_type: &DataType, n: i64, out: &mut Vec<u8>) {
    // All narrow types were widened.
    match data_type {
        DataType::I8 => out.extend_from_slice(&(n as i8 ^ i8::MIN).to_be_bytes()),
        DataType::I16 => out.extend_from_slice(&(n as i16 ^ i16::MIN).to_be_bytes()),
        DataType::I32 | DataType::Date => {
            out.extend_from_slice(&(n as i32 ^ i32::MIN).to_be_bytes());
        }
        DataType::U8 => out.push(n as u8),
        DataType::U16 => out.extend_from_slice(&(n as u16).to_be_bytes()),
        DataType::U32 => out.extend_from_slice(&(n as u32).to_be_bytes()),
        DataType::F32 => {
            let v = from_order(n) as f32;
            let bits = if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() };
            let flip = if bits >> 31 == 1 { u32::MAX } else { 1 << 31 };
            out.extend_from_slice(&(bits ^ flip).to_be_bytes());
        }
        DataType::F64 => double(from_order(n), out),
        // Unsigned ones have their first bit flipped already.
        _ => out.extend_from_slice(&(n ^ i64::MIN).to_be_bytes()),
    }
}

fn double(v: f64, out: &mut Vec<u8>) {
    let bits = if v.is_nan() {
        0x7ff8_0000_0000_0000
    } else {
        v.to_bits()
    };
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    out.extend_from_slice(&(bits ^ flip).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow_array::types::{Float32Type, Int8Type, Int64Type};
    use arrow_array::{Decimal128Array, PrimitiveArray};
    use pelton_model::encoding::decode;

    fn wanted(op: Op, data_type: DataType, nullable: bool) -> Wanted {
        let field = Field::new("v", data_type);
        Wanted {
            op,
            column: 0,
            field: if nullable { field.nullable() } else { field },
        }
    }

    /// Encodes each slot, takes it into a fresh one in the other order, and encodes it again.
    fn goes_around(wanted: &Wanted, values: ArrayRef) {
        let n = values.len();
        let slots: Vec<u32> = (0..n as u32).collect();
        let mut acc = Acc::new(wanted);
        acc.grow(n);
        if wanted.op == Op::Count {
            acc.count(&slots);
        } else {
            acc.add(wanted, &values, RowSet::First(n), &slots).unwrap();
        }
        let encoded = |acc: &Acc, slot: u32| {
            let mut out = Vec::new();
            acc.encode(wanted, slot, &mut out);
            out
        };
        let rows: Vec<Vec<u8>> = slots.iter().map(|s| encoded(&acc, *s)).collect();
        let columns = decode(&fields(wanted), rows.iter().map(Vec::as_slice)).unwrap();
        let mut other = Acc::new(wanted);
        let back: Vec<u32> = slots.iter().rev().copied().collect();
        other
            .load(wanted, &mut columns.into_iter(), &back, n)
            .unwrap();
        for (row, slot) in rows.iter().zip(back) {
            assert_eq!(*row, encoded(&other, slot), "{wanted:?}");
        }
    }

    #[test]
    fn every_accumulator_goes_around() {
        let ints = || Arc::new(PrimitiveArray::<Int64Type>::from(vec![3, -4, i64::MIN]));
        let some = || {
            Arc::new(PrimitiveArray::<Int64Type>::from(vec![
                Some(3),
                None,
                Some(-9),
            ]))
        };
        let bytes = || Arc::new(PrimitiveArray::<Int8Type>::from(vec![3, -4, i8::MIN]));
        let longs = || Arc::new(PrimitiveArray::<UInt64Type>::from(vec![0, 7, u64::MAX]));
        let doubles = || {
            let all = vec![-0.0, f64::NAN, f64::MIN_POSITIVE, -1.5, f64::NEG_INFINITY];
            Arc::new(PrimitiveArray::<Float64Type>::from(all))
        };
        let floats = || {
            Arc::new(PrimitiveArray::<Float32Type>::from(vec![
                -0.0,
                f32::NAN,
                1.25,
            ]))
        };
        let exact = || {
            let all = Decimal128Array::from(vec![5, -7, 0]);
            Arc::new(all.with_precision_and_scale(38, 2).unwrap())
        };
        goes_around(&wanted(Op::Count, DataType::I64, false), ints());
        for op in [Op::Sum, Op::Min, Op::Max] {
            goes_around(&wanted(op, DataType::I64, false), ints());
            goes_around(&wanted(op, DataType::I64, true), some());
            goes_around(&wanted(op, DataType::I8, false), bytes());
            goes_around(&wanted(op, DataType::U64, false), longs());
            goes_around(&wanted(op, DataType::F64, false), doubles());
            goes_around(&wanted(op, DataType::F32, true), floats());
            goes_around(&wanted(op, DataType::Decimal { scale: 2 }, false), exact());
        }
    }

    #[test]
    fn values_can_be_read_by_their_types() {
        let wanted = wanted(Op::Max, DataType::F64, false);
        let mut acc = Acc::new(&wanted);
        acc.grow(1);
        let column: ArrayRef = Arc::new(PrimitiveArray::<Float64Type>::from(vec![-2.5]));
        acc.add(&wanted, &column, RowSet::First(1), &[0]).unwrap();
        let mut out = Vec::new();
        acc.encode(&wanted, 0, &mut out);
        let read = decode(&fields(&wanted), std::iter::once(out.as_slice())).unwrap();
        assert_eq!(read[0].as_primitive::<Float64Type>().value(0), -2.5);
    }
}
