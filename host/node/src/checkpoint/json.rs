//! Rows in the canonical encoding as JSON, and back: state is read without the code that wrote it.
//! Needs: model's schema. Refuses: bytes that are not of their fields.
//!
//! Times are RFC 3339, bytes are base64, decimals and what JSON has no number for are text. A row without fields is what
//! a connector or an operator wrote in its own words: text where it is such, else base64.

use pelton_model::schema::{DataType, Field};
use pelton_model::time::EventTime;
use pelton_model::{Error, ErrorCode, Result};
use serde_json::{Map, Value, json};

/// A row as an object. Errors: `Corrupt` for bytes that are not of these fields.
pub(crate) fn row(fields: &[Field], bytes: &[u8]) -> Result<Value> {
    if fields.is_empty() {
        return Ok(words(bytes));
    }
    let mut rest = bytes;
    let object = record(fields, &mut rest)?;
    match rest {
        [] => Ok(object),
        _ => Err(corrupt()),
    }
}

/// Bytes that only their writer understands.
fn words(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        _ if bytes.is_empty() => Value::Null,
        Ok(text) if !text.chars().any(char::is_control) => json!(text),
        _ => json!({"base64": base64(bytes)}),
    }
}

fn record(fields: &[Field], rest: &mut &[u8]) -> Result<Value> {
    let mut object = Map::new();
    for field in fields {
        object.insert(field.name.clone(), value(field, rest)?);
    }
    Ok(Value::Object(object))
}

fn value(field: &Field, rest: &mut &[u8]) -> Result<Value> {
    if field.nullable && cut(rest, 1)? == [0] {
        return Ok(Value::Null);
    }
    Ok(match &field.data_type {
        DataType::Bool => json!(cut(rest, 1)? != [0]),
        DataType::I8 => json!(signed(rest, 1)?),
        DataType::I16 => json!(signed(rest, 2)?),
        DataType::I32 => json!(signed(rest, 4)?),
        DataType::I64 => json!(signed(rest, 8)?),
        DataType::U8 => json!(unsigned(rest, 1)?),
        DataType::U16 => json!(unsigned(rest, 2)?),
        DataType::U32 => json!(unsigned(rest, 4)?),
        DataType::U64 => json!(unsigned(rest, 8)?),
        DataType::Timestamp => json!(EventTime(signed(rest, 8)?).to_string()),
        DataType::Date => {
            let time = EventTime(signed(rest, 4)?.saturating_mul(DAY_MS)).to_string();
            json!(time.split('T').next())
        }
        DataType::Decimal { scale } => {
            let bytes: [u8; 16] = cut(rest, 16)?.try_into().map_err(|_| corrupt())?;
            json!(decimal(i128::from_be_bytes(bytes) ^ i128::MIN, *scale))
        }
        DataType::F32 => {
            let bits = unsigned(rest, 4)? as u32;
            let bits = if bits >> 31 == 1 {
                bits & !(1 << 31)
            } else {
                !bits
            };
            float(f64::from(f32::from_bits(bits)), || {
                f32::from_bits(bits).to_string()
            })
        }
        DataType::F64 => {
            let bits = unsigned(rest, 8)?;
            let bits = if bits >> 63 == 1 {
                bits & !(1 << 63)
            } else {
                !bits
            };
            let number = f64::from_bits(bits);
            float(number, || number.to_string())
        }
        DataType::String => {
            let text = std::str::from_utf8(long(rest)?).map_err(|_| corrupt())?;
            json!(text)
        }
        DataType::Bytes => json!(base64(long(rest)?)),
        DataType::List(item) => {
            let count = length(rest)?;
            let items = (0..count).map(|_| value(item, rest));
            Value::Array(items.collect::<Result<_>>()?)
        }
        DataType::Struct(fields) => record(fields, rest)?,
    })
}

const DAY_MS: i64 = 86_400_000;

/// A number where JSON has it.
fn float(number: f64, text: impl Fn() -> String) -> Value {
    // The shortest text of 32 bits is not that of the same number in 64.
    let short = text().parse().unwrap_or(number);
    serde_json::Number::from_f64(short).map_or_else(|| json!(text()), Value::Number)
}

fn decimal(value: i128, scale: u8) -> String {
    let digits = value.unsigned_abs().to_string();
    let scale = usize::from(scale);
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = padded.split_at(padded.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    match part {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part}"),
    }
}

fn unsigned(rest: &mut &[u8], bytes: usize) -> Result<u64> {
    let bytes = cut(rest, bytes)?.iter();
    Ok(bytes.fold(0, |n, b| n << 8 | u64::from(*b)))
}

fn signed(rest: &mut &[u8], bytes: usize) -> Result<i64> {
    let flipped = unsigned(rest, bytes)? ^ 1 << (bytes * 8 - 1);
    let unused = 64 - bytes * 8;
    Ok(((flipped << unused) as i64) >> unused)
}

fn length(rest: &mut &[u8]) -> Result<usize> {
    Ok(unsigned(rest, 4)? as usize)
}

fn long<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = length(rest)?;
    cut(rest, length)
}

fn cut<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n).ok_or_else(corrupt)?;
    *rest = tail;
    Ok(head)
}

fn corrupt() -> Error {
    Error::new(
        ErrorCode::Corrupt,
        "an entry of the state is not of its fields",
    )
}

/// The encoding of a key as a user writes it: an object, or, where it has one field, its value alone. Errors: `Usage`.
pub(crate) fn key(fields: &[Field], text: &str) -> Result<Vec<u8>> {
    let parsed = serde_json::from_str::<Value>(text).ok();
    let object = match (&parsed, fields) {
        (Some(Value::Object(object)), _)
            if fields.iter().all(|f| object.contains_key(&f.name))
                && object.len() == fields.len() =>
        {
            object.clone()
        }
        (parsed, [field]) => {
            let is_text = matches!(
                field.data_type,
                DataType::String | DataType::Timestamp | DataType::Date | DataType::Decimal { .. }
            );
            let value = match parsed {
                Some(Value::String(s)) => json!(s),
                Some(Value::Null) if field.nullable => Value::Null,
                Some(value) if !is_text => value.clone(),
                _ => json!(text),
            };
            Map::from_iter([(field.name.clone(), value)])
        }
        _ => {
            let names: Vec<String> = fields.iter().map(shown).collect();
            let message = format!("'{text}' is not a key of this state");
            let help = format!(
                "a key is a JSON object with the fields {}",
                names.join(", ")
            );
            return Err(Error::new(ErrorCode::Usage, message).help(help));
        }
    };
    let mut out = Vec::new();
    for field in fields {
        let value = object.get(&field.name).unwrap_or(&Value::Null);
        put(field, value, &mut out).ok_or_else(|| {
            let message = format!("{value} is no value of the key's field {}", shown(field));
            Error::new(ErrorCode::Usage, message)
        })?;
    }
    Ok(out)
}

fn shown(field: &Field) -> String {
    format!("'{}' ({})", field.name, field.data_type)
}

fn put(field: &Field, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    if field.nullable {
        out.push(u8::from(!value.is_null()));
        if value.is_null() {
            return Some(());
        }
    }
    let mut integer = |bytes: usize, is_signed: bool| -> Option<()> {
        let number = match value {
            Value::Number(n) => n
                .as_i64()
                .map(i128::from)
                .or_else(|| n.as_u64().map(i128::from))?,
            _ => return None,
        };
        let half = 1_i128 << (bytes * 8 - 1);
        let number = if is_signed { number + half } else { number };
        let all = number.to_be_bytes();
        let fits = (0..half * 2).contains(&number);
        out.extend_from_slice(all.get(16 - bytes..).filter(|_| fits)?);
        Some(())
    };
    match &field.data_type {
        DataType::Bool => out.push(u8::from(value.as_bool()?)),
        DataType::I8 => integer(1, true)?,
        DataType::I16 => integer(2, true)?,
        DataType::I32 => integer(4, true)?,
        DataType::I64 => integer(8, true)?,
        DataType::U8 => integer(1, false)?,
        DataType::U16 => integer(2, false)?,
        DataType::U32 => integer(4, false)?,
        DataType::U64 => integer(8, false)?,
        DataType::Timestamp => {
            let ms = value.as_i64().or_else(|| time(value.as_str()?))?;
            out.extend_from_slice(&(ms ^ i64::MIN).to_be_bytes());
        }
        DataType::Date => {
            let day = value.as_str().and_then(days);
            let day = day.or_else(|| i32::try_from(value.as_i64()?).ok())?;
            out.extend_from_slice(&(day ^ i32::MIN).to_be_bytes());
        }
        DataType::String => put_long(value.as_str()?.as_bytes(), out),
        DataType::Bytes => put_long(&from_base64(value.as_str()?)?, out),
        DataType::Struct(fields) => {
            let object = value.as_object()?;
            for field in fields {
                put(field, object.get(&field.name).unwrap_or(&Value::Null), out)?;
            }
        }
        DataType::List(item) => {
            let items = value.as_array()?;
            out.extend_from_slice(&u32::try_from(items.len()).ok()?.to_be_bytes());
            items.iter().try_for_each(|i| put(item, i, out))?;
        }
        DataType::Decimal { scale } => {
            let number = from_decimal(value.as_str()?, *scale)?;
            out.extend_from_slice(&(number ^ i128::MIN).to_be_bytes());
        }
        // A float is no good key: nobody can write down which one is meant.
        DataType::F32 | DataType::F64 => return None,
    }
    Some(())
}

fn put_long(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// As it is shown: `2024-03-09T06:00:00.000Z`, the milliseconds may lack.
fn time(text: &str) -> Option<i64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let (seconds, ms) = clock.split_once('.').unwrap_or((clock, "000"));
    let ms: i64 = (ms.len() == 3).then(|| ms.parse().ok())??;
    let mut parts = seconds.split(':').map(|p| p.parse::<i64>().ok());
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
    Some(i64::from(days(date)?) * DAY_MS + ((h * 60 + m) * 60 + s) * 1000 + ms)
}

fn days(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    pelton_model::time::days_from_civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
}

fn from_decimal(text: &str, scale: u8) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = (part.len() <= usize::from(scale)).then_some(part)?;
    format!("{whole}{part:0<width$}", width = usize::from(scale))
        .parse()
        .ok()
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * i)) as usize & 63);
            let letter = letter.filter(|_| i <= three.len());
            text.push(letter.map_or('=', |l| char::from(*l)));
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | LETTERS.iter().position(|l| *l == letter)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<Field> {
        vec![
            Field::new("user", DataType::String).nullable(),
            Field::new("n", DataType::I32),
            Field::new("at", DataType::Timestamp),
            Field::new("day", DataType::Date),
            Field::new("raw", DataType::Bytes),
            Field::new("big", DataType::U64),
            Field::new("price", DataType::Decimal { scale: 2 }),
            Field::new(
                "tags",
                DataType::List(Box::new(Field::new("item", DataType::I8).nullable())),
            ),
        ]
    }

    #[test]
    fn what_is_shown_is_what_is_written() {
        let text = r#"{"user":"ann","n":-7,"at":"2024-03-09T06:00:00.250Z","day":"1969-12-31","raw":"AP8H",
            "big":18446744073709551615,"price":"-0.05","tags":[1,null,-128]}"#;
        let bytes = key(&fields(), text).unwrap();
        let shown = row(&fields(), &bytes).unwrap();
        assert_eq!(shown, serde_json::from_str::<Value>(text).unwrap());
        assert!(row(&fields(), &bytes[..bytes.len() - 1]).is_err());
        assert!(row(&fields(), &[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_key_of_one_field_is_its_value_alone() {
        let text = [Field::new("user", DataType::String)];
        let ann = key(&text, "ann").unwrap();
        assert_eq!(ann, b"\0\0\0\x03ann");
        assert_eq!(key(&text, "\"ann\"").unwrap(), ann);
        assert_eq!(key(&text, "{\"user\":\"ann\"}").unwrap(), ann);
        assert_eq!(key(&text, "42").unwrap(), b"\0\0\0\x0242");
        let int = [Field::new("id", DataType::I64)];
        let five = (5_i64 ^ i64::MIN).to_be_bytes();
        assert_eq!(key(&int, "5").unwrap(), five);
        assert_eq!(key(&int, "{\"id\":5}").unwrap(), five);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let int = [Field::new("id", DataType::U8)];
        for text in ["256", "-1", "x", "1.5", "{\"it\":1}"] {
            assert_eq!(
                key(&int, text).unwrap_err().code(),
                ErrorCode::Usage,
                "{text}"
            );
        }
        let two = [int[0].clone(), Field::new("b", DataType::Bool)];
        let error = key(&two, "1").unwrap_err();
        assert!(error.help_text().unwrap().contains("'id'"));
    }

    #[test]
    fn floats_are_read_whatever_their_sign() {
        let fields = [
            Field::new("a", DataType::F64),
            Field::new("b", DataType::F32),
        ];
        for (a, b) in [(1.5_f64, 0.1_f32), (-2.25, -0.3), (f64::NAN, f32::INFINITY)] {
            let bits = |bits: u64, sign: u64| if bits & sign != 0 { !bits } else { bits | sign };
            let mut bytes = bits(a.to_bits(), 1 << 63).to_be_bytes().to_vec();
            let b_bits = bits(u64::from(b.to_bits()), 1 << 31) as u32;
            bytes.extend_from_slice(&b_bits.to_be_bytes());
            let shown = row(&fields, &bytes).unwrap();
            match a.is_nan() {
                true => assert_eq!(shown, json!({"a": "NaN", "b": "inf"})),
                false => assert_eq!(shown["b"].to_string(), b.to_string()),
            }
        }
    }

    #[test]
    fn words_of_connectors_are_text_where_they_can_be() {
        assert_eq!(row(&[], b"path=a;7").unwrap(), json!("path=a;7"));
        assert_eq!(row(&[], &[0, 255]).unwrap(), json!({"base64": "AP8="}));
    }
}
