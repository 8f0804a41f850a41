//! JSON Lines straight to columns: one pass, no tree in between, no allocation a row.
//!
//! Needs: lines that end with a newline ([`super::lines`]), columns to write to. Strict: the whole line must be valid
//! JSON, also what nobody reads; a value must be of its field's very type. Of fields that stand twice the last wins.
//! Fields that the record does not name are passed over. A field that is missing, or null, is null where that may be.
//!
//! | type | accepts |
//! |---|---|
//! | bool | `true`, `false` |
//! | integers | numbers in range, without point and exponent |
//! | f32, f64 | numbers in range, to the nearest |
//! | string | strings |
//! | bytes | strings of standard base64 |
//! | timestamp | integers (ms since 1970), strings `yyyy-MM-dd HH:mm:ss[.SSS]`, RFC 3339 |
//! | date | strings `yyyy-MM-dd` |
//! | decimal | numbers and strings that it holds exactly |
//! | list, record | arrays, objects |

use super::columns::{Column, List, Record, Runs, Values};
use super::fault::{Fault, Step};
use super::scan::{Number, at, check_depth, key, number, skip, space, string, unescape, word};
use super::values::{self, BadDecimal};

/// What a line held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A row, and where the next line begins.
    Row(usize),
    /// Nothing but white space.
    Blank(usize),
}

/// Decodes the line that begins at `p` of `buf` as row `row`. After a fault the columns may hold a part of it:
/// [`Record::truncate`] takes it back.
pub(super) fn line(root: &mut Record, buf: &[u8], p: usize, row: usize) -> Step<Line> {
    let p = space(buf, p);
    match at(buf, p) {
        b'{' => {}
        b'\n' => return Ok(Line::Blank(p + 1)),
        _ => return Fault::syntax(p, format!("the line is {}, not an object", shown(buf, p))),
    }
    let p = space(buf, object(root, buf, p, row, 1)?);
    if at(buf, p) != b'\n' {
        return Fault::syntax(p, "something stands behind the object");
    }
    Ok(Line::Row(p + 1))
}

/// The object at `p` as row `row` of `record`.
fn object(record: &mut Record, buf: &[u8], p: usize, row: usize, depth: usize) -> Step {
    check_depth(p, depth)?;
    let begin = p;
    let mut p = space(buf, p + 1);
    let mut missing = record.required;
    let mut last = record.children.len();
    if at(buf, p) == b'}' {
        p += 1;
    } else {
        loop {
            let (field, value_at) = field(record, last, buf, p)?;
            match field {
                Some(i) => {
                    last = i;
                    let Some(child) = record.children.get_mut(i) else {
                        return Fault::syntax(p, "no such column");
                    };
                    missing -= usize::from(!child.nullable && child.len <= row);
                    p = match value(child, buf, value_at, row, depth) {
                        Ok(p) => p,
                        Err(fault) => return Err(fault.within(name_of(record, i))),
                    };
                }
                None => p = skip(buf, value_at, depth)?,
            }
            p = space(buf, p);
            match at(buf, p) {
                b',' => p = space(buf, p + 1),
                b'}' => break p += 1,
                _ => return Fault::syntax(p, "a ',' or '}' is expected"),
            }
        }
    }
    if missing > 0 {
        return absent(record, row, begin);
    }
    Ok(p)
}

/// Which field the key at `p` names, and where its value begins. Objects repeat the order of their keys: the field that
/// followed `last` before is tried first.
#[inline(always)]
fn field(record: &mut Record, last: usize, buf: &[u8], p: usize) -> Step<(Option<usize>, usize)> {
    let guess = record.next.get(last).copied().unwrap_or(0);
    if let Some(value_at) = record.names.get(guess).and_then(|n| n.behind(buf, p)) {
        return Ok((Some(guess), space(buf, value_at)));
    }
    let (text, value_at) = key(buf, p)?;
    let found = lookup(record, buf, p + 1, text.end, text.escaped)?;
    if let (Some(i), Some(next)) = (found, record.next.get_mut(last)) {
        *next = i;
    }
    Ok((found, value_at))
}

fn lookup(
    record: &Record,
    buf: &[u8],
    start: usize,
    end: usize,
    escaped: bool,
) -> Step<Option<usize>> {
    let raw = buf.get(start..end).unwrap_or_default();
    if !escaped {
        return Ok(record.names.iter().position(|n| n.plain.as_bytes() == raw));
    }
    let mut name = Vec::with_capacity(raw.len());
    unescape(buf, start, end, &mut name)?;
    Ok(record.names.iter().position(|n| n.plain.as_bytes() == name))
}

#[cold]
fn name_of(record: &Record, i: usize) -> &str {
    record.names.get(i).map_or("", |n| &n.plain)
}

/// The fault of an object that lacks a field which must have a value.
#[cold]
fn absent(record: &Record, row: usize, p: usize) -> Step {
    let i = record
        .children
        .iter()
        .position(|c| !c.nullable && c.len <= row)
        .unwrap_or(0);
    Fault::value(p, "is missing").map_err(|f| f.within(name_of(record, i)))
}

/// The value at `p` as row `row` of `column`.
#[inline]
pub(super) fn value(column: &mut Column, buf: &[u8], p: usize, row: usize, depth: usize) -> Step {
    if column.len != row {
        column.align(row);
    }
    if at(buf, p) == b'n' {
        let end = word(buf, p, b"null")?;
        // A nullable row that is not set is null.
        return if column.nullable {
            Ok(end)
        } else {
            Fault::value(p, "is null, but may not be")
        };
    }
    let end = match &mut column.values {
        Values::I64(v) => signed(v, "i64", buf, p)?,
        Values::String(r) => text(r, buf, p)?,
        Values::Timestamp(v) => timestamp(v, buf, p)?,
        Values::Record(r) => match at(buf, p) {
            b'{' => object(r, buf, p, row, depth + 1)?,
            _ => return wrong(buf, p, "a record"),
        },
        Values::I32(v) => signed(v, "i32", buf, p)?,
        Values::I16(v) => signed(v, "i16", buf, p)?,
        Values::I8(v) => signed(v, "i8", buf, p)?,
        Values::U64(v) => unsigned(v, "u64", buf, p)?,
        Values::U32(v) => unsigned(v, "u32", buf, p)?,
        Values::U16(v) => unsigned(v, "u16", buf, p)?,
        Values::U8(v) => unsigned(v, "u8", buf, p)?,
        Values::F64(v) => float(v, "f64", values::float64, buf, p)?,
        Values::F32(v) => float(v, "f32", values::float32, buf, p)?,
        Values::Bool(b) => {
            let (set, end) = match at(buf, p) {
                b't' => (true, word(buf, p, b"true")?),
                b'f' => (false, word(buf, p, b"false")?),
                _ => return wrong(buf, p, "bool"),
            };
            b.append(set);
            end
        }
        Values::Bytes(r) => with_text("bytes", buf, p, |t| {
            values::base64(t, &mut r.bytes)
                .map(|()| r.close())
                .ok_or("is not standard base64".into())
        })?,
        Values::Date(v) => with_text("date", buf, p, |t| {
            values::date(t)
                .map(|d| v.push(d))
                .ok_or("is not a date such as 2024-03-09".into())
        })?,
        Values::Decimal(scale, v) => decimal(v, *scale, buf, p)?,
        Values::List(l) => list(l, buf, p, depth + 1)?,
    };
    column.set(row);
    Ok(end)
}

/// The number at `p`, where an integer belongs.
#[inline(always)]
fn integer(type_name: &'static str, buf: &[u8], p: usize) -> Step<Number> {
    if !matches!(at(buf, p), b'0'..=b'9' | b'-') {
        return wrong(buf, p, type_name);
    }
    let n = number(buf, p)?;
    if n.point || n.exponent {
        return Fault::value(p, format!("is {type_name}, but has {}", shown(buf, p)));
    }
    Ok(n)
}

#[inline(always)]
fn signed<T: TryFrom<i64>>(v: &mut Vec<T>, type_name: &'static str, buf: &[u8], p: usize) -> Step {
    let n = integer(type_name, buf, p)?;
    let value = if n.digits < 19 {
        let magnitude = n.mantissa as i64;
        Some(if n.negative { -magnitude } else { magnitude })
    } else {
        whole(buf, p, n.end).and_then(|x| i64::try_from(x).ok())
    };
    match value.and_then(|x| T::try_from(x).ok()) {
        Some(x) => v.push(x),
        None => return out_of_range(type_name, p),
    }
    Ok(n.end)
}

#[inline(always)]
fn unsigned<T: TryFrom<u64>>(
    v: &mut Vec<T>,
    type_name: &'static str,
    buf: &[u8],
    p: usize,
) -> Step {
    let n = integer(type_name, buf, p)?;
    let value = if n.digits < 19 && (!n.negative || n.mantissa == 0) {
        Some(n.mantissa)
    } else {
        whole(buf, p, n.end).and_then(|x| u64::try_from(x).ok())
    };
    match value.and_then(|x| T::try_from(x).ok()) {
        Some(x) => v.push(x),
        None => return out_of_range(type_name, p),
    }
    Ok(n.end)
}

#[cold]
fn whole(buf: &[u8], p: usize, end: usize) -> Option<i128> {
    std::str::from_utf8(buf.get(p..end)?).ok()?.parse().ok()
}

#[cold]
fn out_of_range(type_name: &str, p: usize) -> Step {
    Fault::value(
        p,
        format!("is {type_name}, but the number is out of its range"),
    )
}

fn float<T>(
    v: &mut Vec<T>,
    type_name: &'static str,
    nearest: fn(&Number, &[u8]) -> Option<T>,
    buf: &[u8],
    p: usize,
) -> Step {
    if !matches!(at(buf, p), b'0'..=b'9' | b'-') {
        return wrong(buf, p, type_name);
    }
    let n = number(buf, p)?;
    match nearest(&n, buf.get(p..n.end).unwrap_or_default()) {
        Some(x) => v.push(x),
        None => return out_of_range(type_name, p),
    }
    Ok(n.end)
}

#[inline]
fn text(r: &mut Runs, buf: &[u8], p: usize) -> Step {
    if at(buf, p) != b'"' {
        return wrong(buf, p, "string");
    }
    let t = string(buf, p + 1)?;
    if t.escaped {
        unescape(buf, p + 1, t.end, &mut r.bytes)?;
    } else {
        r.bytes
            .extend_from_slice(buf.get(p + 1..t.end).unwrap_or_default());
    }
    r.close();
    Ok(t.end + 1)
}

/// Gives the content of the string at `p` to `take`, which may refuse it.
fn with_text(
    type_name: &str,
    buf: &[u8],
    p: usize,
    take: impl FnOnce(&[u8]) -> Result<(), std::borrow::Cow<'static, str>>,
) -> Step {
    if at(buf, p) != b'"' {
        return wrong(buf, p, type_name);
    }
    let t = string(buf, p + 1)?;
    let taken = if t.escaped {
        let mut content = Vec::new();
        unescape(buf, p + 1, t.end, &mut content)?;
        take(&content)
    } else {
        take(buf.get(p + 1..t.end).unwrap_or_default())
    };
    match taken {
        Ok(()) => Ok(t.end + 1),
        Err(why) => Fault::value(p, why),
    }
}

fn timestamp(v: &mut Vec<i64>, buf: &[u8], p: usize) -> Step {
    if at(buf, p) != b'"' {
        return signed(v, "timestamp", buf, p);
    }
    with_text("timestamp", buf, p, |t| {
        values::timestamp(t)
            .map(|ms| v.push(ms))
            .ok_or("is not a time such as 2024-03-09 05:59:50.000".into())
    })
}

fn decimal(v: &mut Vec<i128>, scale: u8, buf: &[u8], p: usize) -> Step {
    let take = |t: &[u8]| {
        values::decimal(t, scale)
            .map(|d| v.push(d))
            .map_err(|bad| decimal_words(bad, scale).into())
    };
    match at(buf, p) {
        b'"' => with_text("decimal", buf, p, take),
        b'-' | b'0'..=b'9' => {
            let n = number(buf, p)?;
            match { take }(buf.get(p..n.end).unwrap_or_default()) {
                Ok(()) => Ok(n.end),
                Err(why) => Fault::value(p, why),
            }
        }
        _ => wrong(buf, p, "decimal"),
    }
}

/// What is wrong with a decimal.
pub(super) fn decimal_words(bad: BadDecimal, scale: u8) -> String {
    match bad {
        BadDecimal::Malformed => "is not a decimal number".to_string(),
        BadDecimal::TooFine => format!("has more than {scale} digits behind the point"),
        BadDecimal::TooLarge => "has more than 38 digits".to_string(),
    }
}

fn list(l: &mut List, buf: &[u8], p: usize, depth: usize) -> Step {
    if at(buf, p) != b'[' {
        return wrong(buf, p, "a list");
    }
    check_depth(p, depth)?;
    let mut items = l.items();
    let mut p = space(buf, p + 1);
    if at(buf, p) == b']' {
        l.close(items);
        return Ok(p + 1);
    }
    loop {
        p = space(buf, value(&mut l.item, buf, p, items, depth)?);
        items += 1;
        match at(buf, p) {
            b',' => p = space(buf, p + 1),
            b']' => break,
            _ => return Fault::syntax(p, "a ',' or ']' is expected"),
        }
    }
    l.close(items);
    Ok(p + 1)
}

/// The fault of a value of another type; of a broken one, if it is that.
#[cold]
fn wrong<T>(buf: &[u8], p: usize, type_name: &str) -> Step<T> {
    match shown(buf, p) {
        "nothing" => Fault::syntax(p, "the line ends where a value is expected"),
        "no value" => Fault::syntax(p, "a value is expected"),
        found => Fault::value(p, format!("is {type_name}, but has {found}")),
    }
}

/// What begins at `p`, in words.
fn shown(buf: &[u8], p: usize) -> &'static str {
    match at(buf, p) {
        b'"' => "a string",
        b'{' => "an object",
        b'[' => "an array",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        b'\n' => "nothing",
        b'-' | b'0'..=b'9' => match number(buf, p) {
            Ok(n) if n.exponent => "a number with an exponent",
            Ok(n) if n.point => "a number with a fraction",
            _ => "a number",
        },
        _ => "no value",
    }
}
