//! Values as text: plain, JSON and CSV, appended to a byte buffer.
//!
//! Timestamps are written as the [`TimeFormat`] says, or as plain milliseconds outside the years 0 to 9999; dates as
//! `yyyy-MM-dd`; decimals with all digits of their scale; floats with the fewest digits that read back the same;
//! bytes in base64. JSON has no NaN and no infinity: they become the texts `"NaN"`, `"Infinity"`, `"-Infinity"`.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_schema::{DataType, TimeUnit};
use pelton_model::batch::RowKind;
use pelton_model::time::civil;

/// How a timestamp is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum TimeFormat {
    /// `2024-03-09T06:00:00.000Z`
    #[default]
    Rfc3339,
    /// `2024-03-09 06:00:00.000`, UTC
    Sql,
    /// milliseconds since 1970
    Millis,
}

impl TimeFormat {
    /// The words of an option that chooses one.
    pub(crate) const CHOICES: [(&'static str, Self); 3] = [
        ("rfc3339", Self::Rfc3339),
        ("sql", Self::Sql),
        ("millis", Self::Millis),
    ];
}

/// A value as a person reads it: text unquoted, `null` for null, records and lists as JSON.
pub(crate) fn write_text_value(
    out: &mut Vec<u8>,
    column: &dyn Array,
    row: usize,
    times: TimeFormat,
) {
    if column.is_null(row) {
        out.extend_from_slice(b"null");
    } else if let Some(text) = column.as_string_opt::<i32>() {
        out.extend_from_slice(text.value(row).as_bytes());
    } else if is_nested(column.data_type()) {
        write_json_value(out, column, row, times);
    } else {
        write_plain(out, column, row, times);
    }
}

/// A value as a CSV field: empty for null, quoted only if it holds a comma, a quote or a line end; records and lists
/// are JSON in quotes.
pub(crate) fn write_csv_value(
    out: &mut Vec<u8>,
    column: &dyn Array,
    row: usize,
    times: TimeFormat,
) {
    if column.is_null(row) {
        return;
    }
    if let Some(text) = column.as_string_opt::<i32>() {
        return write_csv_text(out, text.value(row).as_bytes());
    }
    if is_nested(column.data_type()) {
        let mut json = Vec::new();
        write_json_value(&mut json, column, row, times);
        return write_csv_text(out, &json);
    }
    write_plain(out, column, row, times);
}

/// A text as a CSV field.
pub(crate) fn write_csv_text(out: &mut Vec<u8>, text: &[u8]) {
    if !text
        .iter()
        .any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r'))
    {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for part in text.split_inclusive(|b| *b == b'"') {
        out.extend_from_slice(part);
        if part.last() == Some(&b'"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

/// A row as a JSON object: the names in the order of the columns, nulls included.
pub(crate) fn write_json_row<'a>(
    out: &mut Vec<u8>,
    names: impl IntoIterator<Item = &'a str>,
    columns: &[ArrayRef],
    row: usize,
    times: TimeFormat,
) {
    out.push(b'{');
    for (i, (name, column)) in names.into_iter().zip(columns).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_json_text(out, name);
        out.push(b':');
        write_json_value(out, column.as_ref(), row, times);
    }
    out.push(b'}');
}

/// The same, with the kind of a row of a changelog in front, as the field `op`.
pub(crate) fn write_json_change<'a>(
    out: &mut Vec<u8>,
    op: Option<&str>,
    names: impl IntoIterator<Item = &'a str>,
    columns: &[ArrayRef],
    row: usize,
    times: TimeFormat,
) {
    let start = out.len();
    write_json_row(out, names, columns, row, times);
    if let Some(op) = op {
        let comma = if columns.is_empty() { "" } else { "," };
        let field = format!("{{\"op\":\"{op}\"{comma}");
        out.splice(start..=start, field.bytes());
    }
}

/// The word of a row's kind.
pub(crate) fn kind_word(kind: u8) -> &'static str {
    match kind {
        k if k == RowKind::UpdateBefore as u8 => "-U",
        k if k == RowKind::UpdateAfter as u8 => "+U",
        k if k == RowKind::Delete as u8 => "-D",
        _ => "+I",
    }
}

/// A value as JSON.
pub(crate) fn write_json_value(
    out: &mut Vec<u8>,
    column: &dyn Array,
    row: usize,
    times: TimeFormat,
) {
    if column.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match column.data_type() {
        DataType::Utf8 => write_json_text(out, column.as_string::<i32>().value(row)),
        DataType::Struct(_) => {
            let record: &StructArray = column.as_struct();
            write_json_row(
                out,
                record.fields().iter().map(|f| f.name().as_str()),
                record.columns(),
                row,
                times,
            );
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            out.push(b'[');
            for i in 0..items.len() {
                if i > 0 {
                    out.push(b',');
                }
                write_json_value(out, items.as_ref(), i, times);
            }
            out.push(b']');
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let ms = value::<TimestampMillisecondType>(column, row);
            quoted(
                out,
                times != TimeFormat::Millis && civil(ms).is_some(),
                |out| write_time(out, ms, times),
            );
        }
        DataType::Date32 => {
            let days = value::<Date32Type>(column, row);
            quoted(out, civil(i64::from(days) * DAY_MS).is_some(), |out| {
                write_date(out, days)
            });
        }
        DataType::Float32 => {
            let finite = value::<Float32Type>(column, row).is_finite();
            quoted(out, !finite, |out| write_plain(out, column, row, times));
        }
        DataType::Float64 => {
            let finite = value::<Float64Type>(column, row).is_finite();
            quoted(out, !finite, |out| write_plain(out, column, row, times));
        }
        DataType::Binary => quoted(out, true, |out| write_plain(out, column, row, times)),
        _ => write_plain(out, column, row, times),
    }
}

/// A text as JSON, in quotes.
pub(crate) fn write_json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|b| *b < 0x20 || matches!(b, b'"' | b'\\'))
    {
        let (clean, tail) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((special, after)) = tail.split_first() else {
            break;
        };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => put(out, format_args!("\\u{other:04x}")),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

const DAY_MS: i64 = 86_400_000;

fn is_nested(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(_) | DataType::List(_))
}

fn quoted(out: &mut Vec<u8>, quotes: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if quotes {
        out.push(b'"');
    }
    write(out);
    if quotes {
        out.push(b'"');
    }
}

/// Writing to memory cannot fail.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn value<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> T::Native {
    column.as_primitive::<T>().value(row)
}

/// A value that is neither null, text nor nested.
fn write_plain(out: &mut Vec<u8>, column: &dyn Array, row: usize, times: TimeFormat) {
    match column.data_type() {
        DataType::Boolean => put(out, format_args!("{}", column.as_boolean().value(row))),
        DataType::Int8 => write_i64(out, i64::from(value::<Int8Type>(column, row))),
        DataType::Int16 => write_i64(out, i64::from(value::<Int16Type>(column, row))),
        DataType::Int32 => write_i64(out, i64::from(value::<Int32Type>(column, row))),
        DataType::Int64 => write_i64(out, value::<Int64Type>(column, row)),
        DataType::UInt8 => write_u64(out, u64::from(value::<UInt8Type>(column, row))),
        DataType::UInt16 => write_u64(out, u64::from(value::<UInt16Type>(column, row))),
        DataType::UInt32 => write_u64(out, u64::from(value::<UInt32Type>(column, row))),
        DataType::UInt64 => write_u64(out, value::<UInt64Type>(column, row)),
        DataType::Float32 => {
            let v = value::<Float32Type>(column, row);
            write_float(
                out,
                v.is_nan(),
                v.is_infinite(),
                v < 0.0,
                format_args!("{v:?}"),
            );
        }
        DataType::Float64 => {
            let v = value::<Float64Type>(column, row);
            write_float(
                out,
                v.is_nan(),
                v.is_infinite(),
                v < 0.0,
                format_args!("{v:?}"),
            );
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            write_time(out, value::<TimestampMillisecondType>(column, row), times);
        }
        DataType::Date32 => write_date(out, value::<Date32Type>(column, row)),
        DataType::Decimal128(_, scale) => {
            write_decimal(out, value::<Decimal128Type>(column, row), *scale)
        }
        DataType::Binary => write_base64(out, column.as_binary::<i32>().value(row)),
        // The types of a schema end here.
        other => put(out, format_args!("<{other}>")),
    }
}

fn write_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(out, value.unsigned_abs());
}

fn write_u64(out: &mut Vec<u8>, value: u64) {
    let mut digits = [b'0'; 20];
    let mut left = value;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
        used += 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

fn write_float(
    out: &mut Vec<u8>,
    nan: bool,
    infinite: bool,
    negative: bool,
    text: std::fmt::Arguments<'_>,
) {
    match (nan, infinite, negative) {
        (true, ..) => out.extend_from_slice(b"NaN"),
        (_, true, false) => out.extend_from_slice(b"Infinity"),
        (_, true, true) => out.extend_from_slice(b"-Infinity"),
        _ => put(out, text),
    }
}

fn write_time(out: &mut Vec<u8>, ms: i64, times: TimeFormat) {
    let Some(c) = civil(ms).filter(|_| times != TimeFormat::Millis) else {
        return write_i64(out, ms);
    };
    let (between, end): (u8, &[u8]) = if times == TimeFormat::Sql {
        (b' ', b"")
    } else {
        (b'T', b"Z")
    };
    write_digits(out, c.year.unsigned_abs(), 4);
    for (mark, number, width) in [
        (b'-', c.month, 2),
        (b'-', c.day, 2),
        (between, c.hour, 2),
        (b':', c.minute, 2),
        (b':', c.second, 2),
        (b'.', c.milli, 3),
    ] {
        out.push(mark);
        write_digits(out, number, width);
    }
    out.extend_from_slice(end);
}

fn write_date(out: &mut Vec<u8>, days: i32) {
    let Some(c) = civil(i64::from(days) * DAY_MS) else {
        return write_i64(out, i64::from(days));
    };
    write_digits(out, c.year.unsigned_abs(), 4);
    out.push(b'-');
    write_digits(out, c.month, 2);
    out.push(b'-');
    write_digits(out, c.day, 2);
}

/// The last `width` decimal digits, with leading zeros.
fn write_digits(out: &mut Vec<u8>, number: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10u32.pow(place) % 10) as u8);
    }
}

fn write_decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = value.unsigned_abs().to_string();
    let scale = usize::try_from(scale).unwrap_or(0);
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| {
            bits << 8 | u32::from(group.get(i).copied().unwrap_or(0))
        });
        for i in 0..4usize {
            let letter = ALPHABET
                .get((bits >> (18 - 6 * i) & 63) as usize)
                .copied()
                .unwrap_or(b'=');
            out.push(if i <= group.len() { letter } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
        Int8Array, Int64Array, ListArray, StringArray, TimestampMillisecondArray, UInt64Array,
    };

    use super::*;

    fn show(
        write: fn(&mut Vec<u8>, &dyn Array, usize, TimeFormat),
        column: &dyn Array,
    ) -> Vec<String> {
        (0..column.len())
            .map(|row| {
                let mut out = Vec::new();
                write(&mut out, column, row, TimeFormat::Rfc3339);
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    #[test]
    fn numbers() {
        let json = |a: &dyn Array| show(write_json_value, a);
        assert_eq!(
            json(&Int64Array::from(vec![Some(0), Some(i64::MIN), None])),
            ["0", "-9223372036854775808", "null"]
        );
        assert_eq!(
            json(&UInt64Array::from(vec![u64::MAX, 10])),
            ["18446744073709551615", "10"]
        );
        assert_eq!(json(&Int8Array::from(vec![-128])), ["-128"]);
        assert_eq!(
            json(&BooleanArray::from(vec![true, false])),
            ["true", "false"]
        );
        assert_eq!(
            json(&Float32Array::from(vec![0.1, -0.0, 16_777_216.0])),
            ["0.1", "-0.0", "16777216.0"]
        );
        let odd = Float64Array::from(vec![
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e300,
            5e-324,
        ]);
        assert_eq!(
            json(&odd),
            [
                "\"NaN\"",
                "\"Infinity\"",
                "\"-Infinity\"",
                "1e300",
                "5e-324"
            ]
        );
        assert_eq!(
            show(write_csv_value, &odd)[..3],
            ["NaN", "Infinity", "-Infinity"]
        );
        let decimals = Decimal128Array::from(vec![0, -5, 12_345, -123_456, i128::MIN]);
        let scaled = decimals.clone().with_precision_and_scale(38, 3).unwrap();
        let least = "-170141183460469231731687303715884105.728";
        assert_eq!(
            json(&scaled),
            ["0.000", "-0.005", "12.345", "-123.456", least]
        );
        assert_eq!(
            json(&decimals.with_precision_and_scale(38, 0).unwrap())[1..3],
            ["-5", "12345"]
        );
    }

    #[test]
    fn times() {
        let times = TimestampMillisecondArray::from(vec![1_709_964_000_001, -1, i64::MAX]);
        let json = [
            "\"2024-03-09T06:00:00.001Z\"",
            "\"1969-12-31T23:59:59.999Z\"",
            "9223372036854775807",
        ];
        assert_eq!(show(write_json_value, &times), json);
        assert_eq!(
            show(write_text_value, &times)[0],
            "2024-03-09T06:00:00.001Z"
        );
        let with = |format| {
            let mut out = Vec::new();
            write_json_value(&mut out, &times, 0, format);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(with(TimeFormat::Sql), "\"2024-03-09 06:00:00.001\"");
        assert_eq!(with(TimeFormat::Millis), "1709964000001");
        let dates = Date32Array::from(vec![0, 19_791, i32::MIN]);
        assert_eq!(
            show(write_csv_value, &dates),
            ["1970-01-01", "2024-03-09", "-2147483648"]
        );
    }

    #[test]
    fn texts_are_escaped_as_each_format_asks() {
        let texts = StringArray::from(vec![Some("a"), Some("a,\"b\"\n\u{1}\\é"), Some(""), None]);
        assert_eq!(
            show(write_json_value, &texts),
            ["\"a\"", "\"a,\\\"b\\\"\\n\\u0001\\\\é\"", "\"\"", "null"]
        );
        assert_eq!(
            show(write_csv_value, &texts),
            ["a", "\"a,\"\"b\"\"\n\u{1}\\é\"", "", ""]
        );
        assert_eq!(
            show(write_text_value, &texts),
            ["a", "a,\"b\"\n\u{1}\\é", "", "null"]
        );
        let bytes = BinaryArray::from(vec![&b""[..], b"f", b"fo", b"foo", b"foob", b"\xff\xfe"]);
        assert_eq!(
            show(write_csv_value, &bytes),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "//4="]
        );
        assert_eq!(show(write_json_value, &bytes)[1], "\"Zg==\"");
    }

    #[test]
    fn nested_values_are_json_in_every_format() {
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([
            Some(1),
            None,
        ])]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let field = |name, a: &ArrayRef| {
            Arc::new(arrow_schema::Field::new(name, a.data_type().clone(), true))
        };
        let record = StructArray::from(vec![
            (field("n", &list), list.clone()),
            (field("t", &text), text.clone()),
        ]);
        assert_eq!(
            show(write_text_value, &record),
            ["{\"n\":[1,null],\"t\":\"x\"}"]
        );
        assert_eq!(
            show(write_csv_value, &record),
            ["\"{\"\"n\"\":[1,null],\"\"t\"\":\"\"x\"\"}\""]
        );
    }
}
