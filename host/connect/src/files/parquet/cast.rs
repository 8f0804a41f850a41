//! From the types that a Parquet file has to those of a record: exactly, or refused.
//! Needs: Arrow arrays. Refuses what would have to be rounded or wrapped, but for digits of a second behind the
//! millisecond, which are dropped, as a time has none; and nulls where a field has none.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, StructArray};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use pelton_model::schema::{DataType, Field};

/// How a column gets its type.
#[derive(Clone, Debug)]
pub(super) enum Cast {
    /// It has it.
    Same,
    /// A wider number of the same kind.
    Wider(ArrowType, ArrowType),
    /// A time in another unit, or said to be UTC.
    Time(TimeUnit),
    /// The same digits, with another precision.
    Decimal(i8),
    /// By field: which of the file's it is, and how.
    Record(Vec<(usize, Field, Cast)>),
    /// By item.
    List(Box<Field>, Box<Cast>),
}

impl Cast {
    /// Errors: why the one does not serve as the other; goes on after "column 'x' ".
    pub(super) fn new(from: &ArrowType, to: &DataType) -> Result<Self, String> {
        let wanted = to.to_arrow();
        match (from, to) {
            (ArrowType::Struct(have), DataType::Struct(want)) => {
                let field = |field: &Field| {
                    let at = have.iter().position(|h| *h.name() == field.name);
                    // A projected record has only the fields that are read, in the file's order.
                    let projected = have
                        .iter()
                        .filter(|h| want.iter().any(|w| w.name == *h.name()));
                    let place = projected.clone().position(|h| *h.name() == field.name);
                    let (Some(at), Some(place)) = (at.and_then(|i| have.get(i)), place) else {
                        return Err(format!("has no field '{}'", field.name));
                    };
                    let cast = Self::new(at.data_type(), &field.data_type)
                        .map_err(|why| format!("field '{}' {why}", field.name))?;
                    Ok((place, field.clone(), cast))
                };
                Ok(Self::Record(
                    want.iter().map(field).collect::<Result<_, _>>()?,
                ))
            }
            (ArrowType::List(have), DataType::List(want)) => {
                let cast = Self::new(have.data_type(), &want.data_type)?;
                Ok(Self::List(want.clone(), Box::new(cast)))
            }
            (ArrowType::Timestamp(unit, _), DataType::Timestamp) if *from != wanted => {
                Ok(Self::Time(*unit))
            }
            (ArrowType::Decimal128(_, scale), DataType::Decimal { scale: want })
                if i16::from(*scale) == i16::from(*want) =>
            {
                Ok(Self::Decimal(*scale))
            }
            _ if *from == wanted => Ok(Self::Same),
            _ if widens(from, &wanted) => Ok(Self::Wider(from.clone(), wanted)),
            _ => Err(format!("is {from} in the file, but is read as {to}")),
        }
    }

    /// The column in its new type. Nulls of the column itself are its reader's to judge.
    fn values(&self, column: &ArrayRef) -> Result<ArrayRef, String> {
        let odd = || "is not of the type that the file says".to_owned();
        Ok(match self {
            Self::Same => column.clone(),
            Self::Wider(from, to) => wider(column, from, to).ok_or_else(odd)?,
            Self::Time(unit) => time(column, *unit).ok_or_else(odd)?,
            Self::Decimal(scale) => {
                let digits = column.as_primitive_opt::<Decimal128Type>();
                let digits = digits.ok_or_else(odd)?.clone();
                let digits = digits.with_precision_and_scale(38, *scale);
                Arc::new(digits.map_err(|e| e.to_string())?)
            }
            Self::Record(fields) => {
                let record = column.as_struct_opt().ok_or_else(odd)?;
                let inner = |(place, field, cast): &(usize, Field, Self)| {
                    let child = record.columns().get(*place).ok_or_else(odd)?;
                    let child = cast.values(child)?;
                    // Where the record is null, its fields are of no account.
                    let nulls = record.nulls();
                    let bare = |i| child.is_null(i) && nulls.is_none_or(|n| n.is_valid(i));
                    if !field.nullable && child.null_count() > 0 {
                        if (0..child.len()).any(bare) {
                            return Err(null(&field.name));
                        }
                        return Ok(without_nulls(&child));
                    }
                    Ok(child)
                };
                let children = fields.iter().map(inner).collect::<Result<Vec<_>, _>>()?;
                let types = fields.iter().map(|(_, field, _)| field.to_arrow());
                let nulls = record.nulls().cloned();
                let made = StructArray::try_new_with_length(
                    types.collect(),
                    children,
                    nulls,
                    record.len(),
                );
                Arc::new(made.map_err(|e| e.to_string())?)
            }
            Self::List(field, cast) => {
                let list = column.as_list_opt::<i32>().ok_or_else(odd)?;
                let items = cast.values(list.values())?;
                if !field.nullable && items.null_count() > 0 {
                    return Err(null(&field.name));
                }
                let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
                let made = ListArray::try_new(Arc::new(field.to_arrow()), offsets, items, nulls);
                Arc::new(made.map_err(|e| e.to_string())?)
            }
        })
    }

    /// The column in its new type, for a field.
    pub(super) fn apply(&self, column: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
        let made = self.values(column);
        let made = made.map_err(|why| match why.starts_with("field") {
            true => why,
            false => format!("column '{}' {why}", field.name),
        })?;
        if !field.nullable && made.null_count() > 0 {
            return Err(null(&field.name));
        }
        Ok(made)
    }
}

fn null(name: &str) -> String {
    format!("field '{name}' is null, but may not be")
}

/// The same values, with whatever stands in the place of nulls.
fn without_nulls(column: &ArrayRef) -> ArrayRef {
    let data = column.to_data().into_builder().nulls(None);
    // The buffers stay as they are.
    data.build()
        .map_or_else(|_| column.clone(), arrow_array::make_array)
}

fn widens(from: &ArrowType, to: &ArrowType) -> bool {
    use ArrowType as T;
    let signed = [T::Int8, T::Int16, T::Int32, T::Int64];
    let unsigned = [T::UInt8, T::UInt16, T::UInt32, T::UInt64];
    let rank = |types: &[T], t: &T| types.iter().position(|o| o == t);
    match (rank(&signed, from), rank(&signed, to)) {
        (Some(a), Some(b)) => return a <= b,
        (None, Some(b)) => return rank(&unsigned, from).is_some_and(|a| a < b),
        _ => {}
    }
    match (rank(&unsigned, from), rank(&unsigned, to)) {
        (Some(a), Some(b)) => a <= b,
        _ => *from == T::Float32 && *to == T::Float64,
    }
}

fn wider(column: &ArrayRef, from: &ArrowType, to: &ArrowType) -> Option<ArrayRef> {
    use ArrowType as T;
    let wide: PrimitiveArray<Int64Type> = match from {
        T::Float32 => {
            let narrow = column.as_primitive_opt::<Float32Type>()?;
            return Some(Arc::new(narrow.unary::<_, Float64Type>(f64::from)));
        }
        T::UInt8 => signed::<UInt8Type>(column)?,
        T::UInt16 => signed::<UInt16Type>(column)?,
        T::UInt32 => signed::<UInt32Type>(column)?,
        T::Int8 => signed::<Int8Type>(column)?,
        T::Int16 => signed::<Int16Type>(column)?,
        T::Int32 => signed::<Int32Type>(column)?,
        _ => return None,
    };
    // The value fits: that was settled by the types.
    Some(match to {
        T::Int16 => Arc::new(wide.unary::<_, Int16Type>(|v| v as i16)),
        T::Int32 => Arc::new(wide.unary::<_, Int32Type>(|v| v as i32)),
        T::Int64 => Arc::new(wide),
        T::UInt16 => Arc::new(wide.unary::<_, UInt16Type>(|v| v as u16)),
        T::UInt32 => Arc::new(wide.unary::<_, UInt32Type>(|v| v as u32)),
        T::UInt64 => Arc::new(wide.unary::<_, UInt64Type>(|v| v as u64)),
        _ => return None,
    })
}

fn signed<T: ArrowPrimitiveType>(column: &ArrayRef) -> Option<PrimitiveArray<Int64Type>>
where
    i64: From<T::Native>,
{
    let narrow = column.as_primitive_opt::<T>()?;
    Some(narrow.unary::<_, Int64Type>(i64::from))
}

fn time(column: &ArrayRef, unit: TimeUnit) -> Option<ArrayRef> {
    fn ms<T: ArrowPrimitiveType<Native = i64>>(
        column: &ArrayRef,
        to_ms: impl Fn(i64) -> i64,
    ) -> Option<ArrayRef> {
        let times = column.as_primitive_opt::<T>()?;
        Some(Arc::new(times.unary::<_, TimestampMillisecondType>(to_ms)))
    }
    match unit {
        TimeUnit::Second => ms::<TimestampSecondType>(column, |t| t.saturating_mul(1_000)),
        TimeUnit::Millisecond => ms::<TimestampMillisecondType>(column, |t| t),
        TimeUnit::Microsecond => ms::<TimestampMicrosecondType>(column, |t| t.div_euclid(1_000)),
        TimeUnit::Nanosecond => ms::<TimestampNanosecondType>(column, |t| t.div_euclid(1_000_000)),
    }
}
