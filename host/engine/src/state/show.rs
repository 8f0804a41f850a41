//! Keys as text, for messages.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use pelton_model::schema::{DataType, Field};
use pelton_model::time::EventTime;

/// Characters and bytes that are shown of one value.
const SHOWN: usize = 40;

/// One row of a key's columns as `[name=value, ..]`, what is long cut short.
#[must_use]
pub fn key_text(fields: &[Field], columns: &[ArrayRef], row: usize) -> String {
    let mut out = String::from("[");
    for (i, (field, column)) in fields.iter().zip(columns).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{}=", field.name);
        value(&field.data_type, column.as_ref(), row, &mut out);
    }
    out.push(']');
    out
}

fn value(data_type: &DataType, column: &dyn Array, row: usize, out: &mut String) {
    if row >= column.len() || column.is_null(row) {
        out.push_str("null");
    } else if known(data_type, column, row, out).is_none() {
        out.push('?');
    }
}

fn known(data_type: &DataType, column: &dyn Array, row: usize, out: &mut String) -> Option<()> {
    macro_rules! number {
        ($t:ty) => {
            write!(out, "{}", column.as_primitive_opt::<$t>()?.value(row)).ok()
        };
    }
    match data_type {
        DataType::Bool => write!(out, "{}", column.as_boolean_opt()?.value(row)).ok(),
        DataType::I8 => number!(Int8Type),
        DataType::I16 => number!(Int16Type),
        DataType::I32 => number!(Int32Type),
        DataType::I64 => number!(Int64Type),
        DataType::U8 => number!(UInt8Type),
        DataType::U16 => number!(UInt16Type),
        DataType::U32 => number!(UInt32Type),
        DataType::U64 => number!(UInt64Type),
        DataType::F32 => number!(Float32Type),
        DataType::F64 => number!(Float64Type),
        DataType::Timestamp => {
            let ms = column.as_primitive_opt::<TimestampMillisecondType>()?;
            write!(out, "{}", EventTime(ms.value(row))).ok()
        }
        DataType::Date => {
            let days = column.as_primitive_opt::<Date32Type>()?.value(row);
            let text = EventTime(i64::from(days) * 86_400_000).to_string();
            out.push_str(text.split('T').next().unwrap_or_default());
            Some(())
        }
        DataType::Decimal { .. } => {
            let decimal = column.as_primitive_opt::<Decimal128Type>()?;
            out.push_str(&decimal.value_as_string(row));
            Some(())
        }
        DataType::String => {
            let text = column.as_string_opt::<i32>()?.value(row);
            match text.char_indices().nth(SHOWN) {
                Some((cut, _)) => {
                    let head = text.get(..cut).unwrap_or_default();
                    write!(out, "{head:?}.. of {} bytes", text.len()).ok()
                }
                None => write!(out, "{text:?}").ok(),
            }
        }
        DataType::Bytes => {
            let bytes = column.as_binary_opt::<i32>()?.value(row);
            out.push_str("0x");
            for byte in bytes.iter().take(SHOWN) {
                write!(out, "{byte:02x}").ok()?;
            }
            if bytes.len() > SHOWN {
                write!(out, ".. of {} bytes", bytes.len()).ok()?;
            }
            Some(())
        }
        DataType::List(item) => {
            let items = column.as_list_opt::<i32>()?.value(row);
            out.push('[');
            for i in 0..items.len().min(SHOWN) {
                out.push_str(if i > 0 { ", " } else { "" });
                value(&item.data_type, items.as_ref(), i, out);
            }
            if items.len() > SHOWN {
                write!(out, ", .. of {}", items.len()).ok()?;
            }
            out.push(']');
            Some(())
        }
        DataType::Struct(fields) => {
            out.push_str(&key_text(fields, column.as_struct_opt()?.columns(), row));
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BinaryArray, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn a_key_is_shown_by_name_and_cut_short() {
        let fields = vec![
            Field::new("user", DataType::String).nullable(),
            Field::new("n", DataType::I64),
            Field::new("b", DataType::Bytes),
        ];
        let long = "x".repeat(10_000_000);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("ann"), None, Some(&long)])),
            Arc::new(Int64Array::from(vec![7, -1, 0])),
            Arc::new(BinaryArray::from(vec![&[1u8, 255][..], &[], &[0]])),
        ];
        assert_eq!(
            key_text(&fields, &columns, 0),
            "[user=\"ann\", n=7, b=0x01ff]"
        );
        assert_eq!(key_text(&fields, &columns, 1), "[user=null, n=-1, b=0x]");
        let shown = key_text(&fields, &columns, 2);
        assert!(shown.len() < 100 && shown.contains("\".. of 10000000 bytes"));
    }
}
