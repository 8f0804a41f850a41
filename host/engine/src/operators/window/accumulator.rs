//! Accumulators of native aggregates, by slot, in one typed column each.
//!
//! Sums of integers and decimals are exact in 128 bits, and an error where they don't fit the output. Among floats -0.0
//! is below 0.0 and NaN above all, as in Java's `Double.compare`.

mod saved;
mod whole;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_buffer::NullBuffer;
use pelton_model::schema::{DataType, Field};
use pelton_model::{Error, ErrorCode, Result};

use crate::state::RowSet;

pub(super) use saved::fields;

/// How values become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Count,
    Sum,
    Min,
    Max,
}

/// What is computed of which column.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wanted {
    pub(super) op: Op,
    pub(super) column: usize,
    pub(super) field: Field,
}

/// One accumulator of each key, by slot.
#[derive(Clone)]
pub(in crate::operators) struct Acc {
    op: Op,
    numbers: Numbers,
    /// How many values were not null; none: the column never has nulls.
    seen: Option<Vec<u64>>,
}

#[derive(Clone)]
enum Numbers {
    Counts(Vec<u64>),
    /// Sums of integers; anything of decimals.
    Exact(Vec<i128>),
    /// Least and greatest, as integers that are ordered as the values.
    Ordered(Vec<i64>),
    /// Sums of floats.
    Floats(Vec<f64>),
}

/// Calls a macro with Arrow's type of an integer type and what it is widened by.
macro_rules! integers {
    ($data_type:expr, $go:ident, $other:expr) => {
        match $data_type {
            DataType::I8 => $go!(Int8Type),
            DataType::I16 => $go!(Int16Type),
            DataType::I32 => $go!(Int32Type),
            DataType::I64 => $go!(Int64Type),
            DataType::U8 => $go!(UInt8Type),
            DataType::U16 => $go!(UInt16Type),
            DataType::U32 => $go!(UInt32Type),
            DataType::U64 => $go!(UInt64Type),
            _ => $other,
        }
    };
}

impl Acc {
    pub(super) fn new(wanted: &Wanted) -> Self {
        let numbers = match (wanted.op, &wanted.field.data_type) {
            (Op::Count, _) => Numbers::Counts(Vec::new()),
            (_, DataType::Decimal { .. }) => Numbers::Exact(Vec::new()),
            (Op::Sum, DataType::F32 | DataType::F64) => Numbers::Floats(Vec::new()),
            (Op::Sum, _) => Numbers::Exact(Vec::new()),
            _ => Numbers::Ordered(Vec::new()),
        };
        let seen = (wanted.op != Op::Count && wanted.field.nullable).then(Vec::new);
        Self {
            op: wanted.op,
            numbers,
            seen,
        }
    }

    pub(super) fn clear(&mut self) {
        match &mut self.numbers {
            Numbers::Counts(v) => v.clear(),
            Numbers::Exact(v) => v.clear(),
            Numbers::Ordered(v) => v.clear(),
            Numbers::Floats(v) => v.clear(),
        }
        if let Some(seen) = &mut self.seen {
            seen.clear();
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let numbers = match &self.numbers {
            Numbers::Counts(v) => v.len() * 8,
            Numbers::Exact(v) => v.len() * 16,
            Numbers::Ordered(v) => v.len() * 8,
            Numbers::Floats(v) => v.len() * 8,
        };
        (numbers + self.seen.as_ref().map_or(0, |s| s.len() * 8)) as u64
    }

    pub(super) fn grow(&mut self, slots: usize) {
        match (&mut self.numbers, self.op) {
            (Numbers::Counts(v), _) => v.resize(slots, 0),
            (Numbers::Exact(v), op) => v.resize(slots, empty_exact(op)),
            (Numbers::Ordered(v), op) => v.resize(slots, empty_ordered(op)),
            // The sum of nothing, to which anything, even -0.0, can be added unchanged.
            (Numbers::Floats(v), _) => v.resize(slots, -0.0),
        }
        if let Some(seen) = &mut self.seen {
            seen.resize(slots, 0);
        }
    }

    /// How many there are.
    pub(super) fn slots(&self) -> usize {
        match &self.numbers {
            Numbers::Counts(v) => v.len(),
            Numbers::Exact(v) => v.len(),
            Numbers::Ordered(v) => v.len(),
            Numbers::Floats(v) => v.len(),
        }
    }

    /// Makes the accumulator of a slot empty.
    pub(super) fn reset(&mut self, slot: u32) {
        let slot = slot as usize;
        match (&mut self.numbers, self.op) {
            (Numbers::Counts(v), _) => set(v, slot, 0),
            (Numbers::Exact(v), op) => set(v, slot, empty_exact(op)),
            (Numbers::Ordered(v), op) => set(v, slot, empty_ordered(op)),
            (Numbers::Floats(v), _) => set(v, slot, -0.0),
        }
        if let Some(seen) = &mut self.seen {
            set(seen, slot, 0);
        }
    }

    /// The accumulators of these slots alone, in this order.
    pub(super) fn pick(&self, slots: &[u32]) -> Self {
        fn of<T: Copy + Default>(from: &[T], slots: &[u32]) -> Vec<T> {
            let one = |s: &u32| from.get(*s as usize).copied().unwrap_or_default();
            slots.iter().map(one).collect()
        }
        let numbers = match &self.numbers {
            Numbers::Counts(v) => Numbers::Counts(of(v, slots)),
            Numbers::Exact(v) => Numbers::Exact(of(v, slots)),
            Numbers::Ordered(v) => Numbers::Ordered(of(v, slots)),
            Numbers::Floats(v) => Numbers::Floats(of(v, slots)),
        };
        Self {
            op: self.op,
            numbers,
            seen: self.seen.as_ref().map(|s| of(s, slots)),
        }
    }

    /// The sums, as numbers of rows.
    pub(super) fn whole_counts(&self) -> Result<Vec<u64>> {
        match &self.numbers {
            Numbers::Exact(v) => v
                .iter()
                .map(|n| u64::try_from(*n).map_err(|_| overflow()))
                .collect(),
            _ => Err(Error::bug("rows were counted in no integer")),
        }
    }

    pub(super) fn count(&mut self, slots: &[u32]) {
        let Numbers::Counts(counts) = &mut self.numbers else {
            return;
        };
        for slot in slots {
            if let Some(c) = counts.get_mut(*slot as usize) {
                *c += 1;
            }
        }
    }

    pub(super) fn add(
        &mut self,
        wanted: &Wanted,
        column: &ArrayRef,
        rows: RowSet<'_>,
        slots: &[u32],
    ) -> Result<()> {
        let (op, seen) = (self.op, &mut self.seen);
        let at = At { rows, slots };
        let data_type = &wanted.field.data_type;
        let wrong = || {
            Error::bug(format!(
                "field '{}' is not {}",
                wanted.field.name, wanted.field.data_type
            ))
        };
        match &mut self.numbers {
            Numbers::Counts(_) => Ok(()),
            Numbers::Exact(to) => {
                macro_rules! go {
                    ($t:ty) => {
                        at.exact(
                            op,
                            column.as_primitive_opt::<$t>().ok_or_else(wrong)?,
                            i128::from,
                            to,
                            seen,
                        )
                    };
                }
                integers!(data_type, go, go!(Decimal128Type))
            }
            Numbers::Floats(to) => match data_type {
                DataType::F32 => {
                    at.fold(
                        column.as_primitive_opt::<Float32Type>().ok_or_else(wrong)?,
                        to,
                        seen,
                        |to, v| *to += f64::from(v),
                    );
                    Ok(())
                }
                _ => {
                    at.fold(
                        column.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?,
                        to,
                        seen,
                        |to, v| *to += v,
                    );
                    Ok(())
                }
            },
            Numbers::Ordered(to) => {
                macro_rules! go {
                    ($t:ty, $widen:expr) => {{
                        let column = column.as_primitive_opt::<$t>().ok_or_else(wrong)?;
                        if op == Op::Min {
                            at.fold(column, to, seen, |to, v| *to = (*to).min($widen(v)));
                        } else {
                            at.fold(column, to, seen, |to, v| *to = (*to).max($widen(v)));
                        }
                        Ok(())
                    }};
                }
                match data_type {
                    DataType::I8 => go!(Int8Type, i64::from),
                    DataType::I16 => go!(Int16Type, i64::from),
                    DataType::I32 => go!(Int32Type, i64::from),
                    DataType::U8 => go!(UInt8Type, i64::from),
                    DataType::U16 => go!(UInt16Type, i64::from),
                    DataType::U32 => go!(UInt32Type, i64::from),
                    DataType::U64 => go!(UInt64Type, |v: u64| (v ^ 1 << 63) as i64),
                    DataType::Timestamp => go!(TimestampMillisecondType, |v: i64| v),
                    DataType::Date => go!(Date32Type, i64::from),
                    DataType::F32 => go!(Float32Type, |v: f32| order(f64::from(v))),
                    DataType::F64 => go!(Float64Type, order),
                    _ => go!(Int64Type, |v: i64| v),
                }
            }
        }
    }

    /// Takes in accumulators of another pane: `from[slots[i]]` into `places[i]`, of `total` ones.
    pub(super) fn merge(
        &mut self,
        from: &Self,
        places: &[u32],
        slots: &[u32],
        total: usize,
    ) -> Result<()> {
        fn each<T: Copy>(
            into: &mut [T],
            from: &[T],
            places: &[u32],
            slots: &[u32],
            mut f: impl FnMut(&mut T, T),
        ) {
            for (place, slot) in places.iter().zip(slots) {
                if let (Some(to), Some(v)) =
                    (into.get_mut(*place as usize), from.get(*slot as usize))
                {
                    f(to, *v);
                }
            }
        }
        self.grow(total);
        if let (Some(into), Some(from)) = (&mut self.seen, &from.seen) {
            each(into, from, places, slots, |a, b| *a += b);
        }
        let mut fits = true;
        match (&mut self.numbers, &from.numbers, self.op) {
            (Numbers::Counts(i), Numbers::Counts(f), _) => {
                each(i, f, places, slots, |a, b| *a += b)
            }
            (Numbers::Exact(i), Numbers::Exact(f), Op::Min) => {
                each(i, f, places, slots, |a, b| *a = b.min(*a))
            }
            (Numbers::Exact(i), Numbers::Exact(f), Op::Max) => {
                each(i, f, places, slots, |a, b| *a = b.max(*a))
            }
            (Numbers::Exact(i), Numbers::Exact(f), _) => {
                each(i, f, places, slots, |a, b| match a.checked_add(b) {
                    Some(sum) => *a = sum,
                    None => fits = false,
                })
            }
            (Numbers::Ordered(i), Numbers::Ordered(f), Op::Min) => {
                each(i, f, places, slots, |a, b| *a = b.min(*a))
            }
            (Numbers::Ordered(i), Numbers::Ordered(f), _) => {
                each(i, f, places, slots, |a, b| *a = b.max(*a))
            }
            (Numbers::Floats(i), Numbers::Floats(f), _) => {
                each(i, f, places, slots, |a, b| *a += b)
            }
            _ => return Err(Error::bug("accumulators of two kinds were merged")),
        }
        if fits { Ok(()) } else { Err(overflow()) }
    }

    /// Takes what is in `from` out again: of each `places[i]`, `from[i]`. Only counts and exact sums allow it.
    pub(super) fn take_out(&mut self, from: &Self, places: &[u32]) -> Result<()> {
        fn each<T: Copy>(into: &mut [T], from: &[T], places: &[u32], f: impl Fn(&mut T, T)) {
            for (place, v) in places.iter().zip(from) {
                if let Some(to) = into.get_mut(*place as usize) {
                    f(to, *v);
                }
            }
        }
        if let (Some(into), Some(from)) = (&mut self.seen, &from.seen) {
            each(into, from, places, |a, b| *a -= b);
        }
        match (&mut self.numbers, &from.numbers, self.op) {
            (Numbers::Counts(i), Numbers::Counts(f), _) => each(i, f, places, |a, b| *a -= b),
            // Both are sums of values that were added without overflow.
            (Numbers::Exact(i), Numbers::Exact(f), Op::Sum) => {
                each(i, f, places, |a, b| *a = a.wrapping_sub(b));
            }
            _ => return Err(Error::bug("what cannot be taken out of an accumulator")),
        }
        Ok(())
    }

    /// Values that went into each of `of`: what it saw, or all rows.
    pub(super) fn counts<'a>(&'a self, of: &'a Self) -> &'a [u64] {
        match (&of.seen, &self.numbers) {
            (Some(seen), _) => seen,
            (None, Numbers::Counts(counts)) => counts,
            _ => &[],
        }
    }

    fn is_empty(&self, slot: usize) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|s| s.get(slot).is_none_or(|n| *n == 0))
    }

    fn nulls(&self, field: &Field, rows: usize) -> Option<NullBuffer> {
        (field.nullable && self.seen.is_some())
            .then(|| (0..rows).map(|i| !self.is_empty(i)).collect::<NullBuffer>())
            .filter(|n| n.null_count() > 0)
    }

    pub(super) fn value(&self, wanted: &Wanted, field: &Field, rows: usize) -> Result<ArrayRef> {
        let nulls = self.nulls(field, rows);
        let input = &wanted.field.data_type;
        match &self.numbers {
            Numbers::Counts(v) => whole(field, v.iter().map(|n| i128::from(*n)), nulls),
            Numbers::Exact(v) if self.seen.is_none() => whole(field, v.iter().copied(), nulls),
            Numbers::Exact(v) => {
                let there = |(i, n): (usize, &i128)| if self.is_empty(i) { 0 } else { *n };
                whole(field, v.iter().enumerate().map(there), nulls)
            }
            Numbers::Floats(v) => {
                // Where nothing was added, the sum is plain 0.
                let sums = v
                    .iter()
                    .enumerate()
                    .map(|(i, n)| if self.is_empty(i) { 0.0 } else { *n });
                Ok(floats(field, sums.collect(), nulls))
            }
            Numbers::Ordered(v) if matches!(input, DataType::F32 | DataType::F64) => {
                let values = v.iter().map(|n| from_order(*n)).collect();
                Ok(floats(field, values, nulls))
            }
            Numbers::Ordered(v) => {
                let unsigned = *input == DataType::U64;
                let plain = |(i, n): (usize, &i64)| match (self.is_empty(i), unsigned) {
                    (true, _) => 0,
                    (false, true) => i128::from(*n as u64 ^ 1 << 63),
                    (false, false) => i128::from(*n),
                };
                whole(field, v.iter().enumerate().map(plain), nulls)
            }
        }
    }

    pub(super) fn average(
        &self,
        wanted: &Wanted,
        field: &Field,
        counts: &[u64],
        rows: usize,
    ) -> Result<ArrayRef> {
        self.quotient(wanted, field, counts, self.nulls(field, rows))
    }

    /// The sums by other sums; null where that is 0 and the field may be.
    pub(super) fn ratio(
        &self,
        wanted: &Wanted,
        field: &Field,
        counts: &[u64],
        rows: usize,
    ) -> Result<ArrayRef> {
        let is_there = |i: usize| counts.get(i).is_some_and(|n| *n > 0);
        let nulls = field
            .nullable
            .then(|| (0..rows).map(is_there).collect::<NullBuffer>())
            .filter(|n| n.null_count() > 0);
        self.quotient(wanted, field, counts, nulls)
    }

    fn quotient(
        &self,
        wanted: &Wanted,
        field: &Field,
        counts: &[u64],
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        let to_float = field.data_type == DataType::F64;
        match &self.numbers {
            Numbers::Floats(v) => {
                let averages = v
                    .iter()
                    .zip(counts)
                    .map(|(sum, n)| if *n == 0 { 0.0 } else { sum / *n as f64 });
                Ok(floats(field, averages.collect(), nulls))
            }
            Numbers::Exact(v) if to_float => {
                let unit = match wanted.field.data_type {
                    DataType::Decimal { scale } => 10f64.powi(i32::from(scale)),
                    _ => 1.0,
                };
                let averages = v.iter().zip(counts).map(|(sum, n)| {
                    if *n == 0 {
                        0.0
                    } else {
                        *sum as f64 / unit / *n as f64
                    }
                });
                Ok(floats(field, averages.collect(), nulls))
            }
            Numbers::Exact(v) => {
                let averages = v
                    .iter()
                    .zip(counts)
                    .map(|(sum, n)| sum / i128::from(*n).max(1));
                whole(field, averages, nulls)
            }
            _ => Err(Error::bug("an average of what was not summed")),
        }
    }
}

fn set<T>(values: &mut [T], slot: usize, value: T) {
    if let Some(v) = values.get_mut(slot) {
        *v = value;
    }
}

fn empty_exact(op: Op) -> i128 {
    match op {
        Op::Min => i128::MAX,
        Op::Max => i128::MIN,
        Op::Count | Op::Sum => 0,
    }
}

fn empty_ordered(op: Op) -> i64 {
    match op {
        Op::Min => i64::MAX,
        Op::Max | Op::Count | Op::Sum => i64::MIN,
    }
}

fn overflow() -> Error {
    Error::new(ErrorCode::Overflow, "a sum does not fit its type")
        .help("widen the output field, or filter the rows")
}

/// Rows of a column and the slot of each.
#[derive(Clone, Copy)]
struct At<'a> {
    rows: RowSet<'a>,
    slots: &'a [u32],
}

impl At<'_> {
    fn exact<T: ArrowPrimitiveType>(
        self,
        op: Op,
        column: &PrimitiveArray<T>,
        widen: impl Fn(T::Native) -> i128,
        to: &mut [i128],
        seen: &mut Option<Vec<u64>>,
    ) -> Result<()> {
        let mut fits = true;
        match op {
            Op::Min => self.fold(column, to, seen, |to, v| *to = widen(v).min(*to)),
            Op::Max => self.fold(column, to, seen, |to, v| *to = widen(v).max(*to)),
            _ => self.fold(column, to, seen, |to, v| match to.checked_add(widen(v)) {
                Some(sum) => *to = sum,
                None => fits = false,
            }),
        }
        if fits { Ok(()) } else { Err(overflow()) }
    }

    fn fold<T: ArrowPrimitiveType, A>(
        self,
        column: &PrimitiveArray<T>,
        to: &mut [A],
        seen: &mut Option<Vec<u64>>,
        mut f: impl FnMut(&mut A, T::Native),
    ) {
        let values = column.values();
        let mut one = |slot: u32, v: T::Native| {
            if let Some(to) = to.get_mut(slot as usize) {
                f(to, v);
            }
        };
        let Some(seen) = seen else {
            match self.rows {
                RowSet::First(_) => values.iter().zip(self.slots).for_each(|(v, s)| one(*s, *v)),
                RowSet::These(rows) => {
                    for (row, slot) in rows.iter().zip(self.slots) {
                        one(
                            *slot,
                            values.get(*row as usize).copied().unwrap_or_default(),
                        );
                    }
                }
            }
            return;
        };
        for (i, slot) in self.slots.iter().enumerate() {
            let row = match self.rows {
                RowSet::First(_) => i,
                RowSet::These(rows) => rows.get(i).map_or(i, |r| *r as usize),
            };
            if row < column.len() && column.is_valid(row) {
                one(*slot, column.value(row));
                if let Some(n) = seen.get_mut(*slot as usize) {
                    *n += 1;
                }
            }
        }
    }
}

/// An integer that is ordered as Java's `Double.compare` orders floats.
fn order(v: f64) -> i64 {
    let bits = if v.is_nan() {
        f64::NAN.to_bits() & i64::MAX as u64
    } else {
        v.to_bits()
    } as i64;
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn from_order(n: i64) -> f64 {
    f64::from_bits(if n < 0 { n ^ i64::MAX } else { n } as u64)
}

fn floats(field: &Field, values: Vec<f64>, nulls: Option<NullBuffer>) -> ArrayRef {
    if field.data_type == DataType::F32 {
        let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        return Arc::new(PrimitiveArray::<Float32Type>::new(values.into(), nulls));
    }
    Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls))
}

/// A column of an integer type, a time or a decimal. Errors: a value that does not fit.
fn whole(
    field: &Field,
    values: impl Iterator<Item = i128>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    fn of<T: ArrowPrimitiveType>(
        values: impl Iterator<Item = i128>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef>
    where
        T::Native: TryFrom<i128>,
    {
        let mut fits = true;
        let narrow = |v: i128| {
            T::Native::try_from(v).unwrap_or_else(|_| {
                fits = false;
                T::Native::default()
            })
        };
        let values: Vec<T::Native> = values.map(narrow).collect();
        if !fits {
            return Err(overflow());
        }
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls)))
    }
    macro_rules! go {
        ($t:ty) => {
            of::<$t>(values, nulls)
        };
    }
    match &field.data_type {
        DataType::Timestamp => go!(TimestampMillisecondType),
        DataType::Date => go!(Date32Type),
        DataType::F32 | DataType::F64 => {
            Ok(floats(field, values.map(|v| v as f64).collect(), nulls))
        }
        DataType::Decimal { scale } => {
            let values: Vec<i128> = values.collect();
            if values.iter().any(|v| v.unsigned_abs() >= 10u128.pow(38)) {
                return Err(overflow());
            }
            let array = PrimitiveArray::<Decimal128Type>::new(values.into(), nulls);
            let scale = i8::try_from(*scale).unwrap_or(i8::MAX);
            Ok(Arc::new(
                array
                    .with_precision_and_scale(38, scale)
                    .map_err(|e| Error::bug(e.to_string()))?,
            ))
        }
        other => integers!(
            other,
            go,
            Err(Error::bug(format!("a window does not give {other}")))
        ),
    }
}
