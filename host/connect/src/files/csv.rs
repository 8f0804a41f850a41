//! CSV straight to columns, as RFC 4180 has it: fields in quotes where they must be, `""` for a quote.
//!
//! Needs: lines that end with a newline, columns to write to. Strict: each line has as many fields as the header (or the
//! record, without one); quotes stand only around whole fields; values are as in [`json`](super::json), without the quotes of JSON;
//! records and lists are JSON. An empty field without quotes is null where that may be; empty lines are passed over.
//! Only with `multiline` may a field in quotes hold a line end. Fields that nobody reads are not looked into.

use std::borrow::Cow;

use super::columns::{Column, Record, Values};
use super::fault::{Fault, Step};
use super::json::{self, Line};
use super::scan::at;
use super::values;

/// How CSV is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Dialect {
    pub(super) header: bool,
    pub(super) delimiter: u8,
    pub(super) multiline: bool,
}

/// Which fields of a line are read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Layout {
    /// By field of the line: the column that it goes to.
    pub(super) columns: Vec<Option<usize>>,
}

impl Layout {
    /// The fields named in a header line. Errors: a name that is not there, or stands twice, in words.
    pub(super) fn of_header(header: &[String], record: &Record) -> Result<Self, String> {
        let mut columns = vec![None; header.len()];
        for (i, name) in record.names.iter().enumerate() {
            let mut places = header
                .iter()
                .zip(&mut columns)
                .filter(|(h, _)| **h == name.plain);
            match (places.next(), places.next()) {
                (Some((_, place)), None) => *place = Some(i),
                (Some(_), Some(_)) => return Err(format!("the header has '{}' twice", name.plain)),
                (None, _) => {
                    return Err(format!(
                        "the header has no '{}'; it has: {}",
                        name.plain,
                        header.join(", ")
                    ));
                }
            }
        }
        Ok(Self { columns })
    }
}

/// A field of a line.
struct Field<'a> {
    content: Cow<'a, [u8]>,
    quoted: bool,
    /// Where it begins.
    at: usize,
}

/// Decodes the line that begins at `p` of `buf` as row `row`; `None` if it goes on behind the buffer.
pub(super) fn line(
    dialect: Dialect,
    layout: &Layout,
    root: &mut Record,
    buf: &[u8],
    p: usize,
    row: usize,
) -> Step<Option<Line>> {
    let mut count = 0;
    let next = each_field(dialect, buf, p, |i, field| {
        count = i + 1;
        match layout.columns.get(i) {
            Some(Some(column)) => take(root, *column, &field, row),
            Some(None) => Ok(()),
            None => Ok(()),
        }
    })?;
    let Some(next) = next else { return Ok(None) };
    if count == 0 {
        return Ok(Some(Line::Blank(next)));
    }
    let wanted = layout.columns.len();
    if count != wanted {
        return Fault::syntax(
            p,
            format!("the line has {count} fields, but must have {wanted}"),
        );
    }
    Ok(Some(Line::Row(next)))
}

/// The names in a header line; `None` if it goes on behind the buffer.
pub(super) fn header(dialect: Dialect, buf: &[u8], p: usize) -> Step<Option<(Vec<String>, usize)>> {
    let mut names = Vec::new();
    let next = each_field(dialect, buf, p, |_, field| {
        match std::str::from_utf8(&field.content) {
            Ok(name) => {
                names.push(name.to_string());
                Ok(())
            }
            Err(e) => Fault::syntax(field.at + e.valid_up_to(), "the bytes are not UTF-8"),
        }
    })?;
    Ok(next.map(|next| (names, next)))
}

/// Gives each field of the line at `p` to `take`, none for an empty line, and says where the next line begins; `None`
/// if the buffer ends within quotes.
fn each_field<'a>(
    dialect: Dialect,
    buf: &'a [u8],
    mut p: usize,
    mut take: impl FnMut(usize, Field<'a>) -> Step<()>,
) -> Step<Option<usize>> {
    let line_end = |p| match (at(buf, p), at(buf, p + 1)) {
        (b'\n', _) => Some(p + 1),
        (b'\r', b'\n') => Some(p + 2),
        _ => None,
    };
    if let Some(next) = line_end(p) {
        return Ok(Some(next));
    }
    for i in 0.. {
        let begin = p;
        if at(buf, p) == b'"' {
            let Some((content, end)) = quoted(dialect, buf, p + 1)? else {
                return Ok(None);
            };
            take(
                i,
                Field {
                    content,
                    quoted: true,
                    at: begin,
                },
            )?;
            p = end;
        } else {
            let rest = buf.get(p..).unwrap_or_default();
            let mut end =
                p + memchr::memchr3(dialect.delimiter, b'\n', b'"', rest).unwrap_or(rest.len());
            if at(buf, end) == b'"' {
                return Fault::syntax(
                    end,
                    "a quote stands within a field that does not begin with one",
                );
            }
            if at(buf, end) == b'\n' && end > p && at(buf, end - 1) == b'\r' {
                end -= 1;
            }
            let content = Cow::Borrowed(buf.get(p..end).unwrap_or_default());
            take(
                i,
                Field {
                    content,
                    quoted: false,
                    at: begin,
                },
            )?;
            p = end;
        }
        if let Some(next) = line_end(p) {
            return Ok(Some(next));
        }
        if at(buf, p) != dialect.delimiter {
            return Fault::syntax(p, "a delimiter is expected behind the closing quote");
        }
        p += 1;
    }
    Ok(None)
}

/// The content of the field whose opening quote is before `start`, and the place behind the closing one.
fn quoted(dialect: Dialect, buf: &[u8], start: usize) -> Step<Option<(Cow<'_, [u8]>, usize)>> {
    let mut content = Cow::Borrowed(&[][..]);
    let mut p = start;
    loop {
        let rest = buf.get(p..).unwrap_or_default();
        let found = if dialect.multiline {
            memchr::memchr(b'"', rest)
        } else {
            memchr::memchr2(b'"', b'\n', rest)
        };
        let Some(n) = found else {
            if dialect.multiline {
                return Ok(None);
            }
            return Fault::syntax(start - 1, "the file ends within quotes");
        };
        if at(buf, p + n) == b'\n' {
            return Fault::syntax(
                start - 1,
                "the line ends within quotes; 'multiline = true' allows that",
            );
        }
        let part = rest.get(..n).unwrap_or_default();
        let doubled = at(buf, p + n + 1) == b'"';
        if content.is_empty() && !doubled {
            content = Cow::Borrowed(part);
        } else {
            content.to_mut().extend_from_slice(part);
        }
        p += n + 1;
        if !doubled {
            return Ok(Some((content, p)));
        }
        content.to_mut().push(b'"');
        p += 1;
    }
}

fn take(root: &mut Record, i: usize, field: &Field<'_>, row: usize) -> Step<()> {
    let Some(column) = root.children.get_mut(i) else {
        return Fault::value(field.at, "has no column");
    };
    if column.len != row {
        column.align(row);
    }
    if field.content.is_empty() && !field.quoted && column.nullable {
        return Ok(());
    }
    match value(column, &field.content, row) {
        Ok(()) => Ok(()),
        Err(mut fault) => {
            fault.at += field.at + usize::from(field.quoted);
            Err(fault.within(root.names.get(i).map_or("", |n| &n.plain)))
        }
    }
}

/// The text of a field as row `row` of `column`.
fn value(column: &mut Column, text: &[u8], row: usize) -> Step<()> {
    match &mut column.values {
        Values::String(r) => {
            if let Err(e) = std::str::from_utf8(text) {
                return Fault::value(e.valid_up_to(), "is not UTF-8");
            }
            r.bytes.extend_from_slice(text);
            r.close();
        }
        Values::Bytes(r) => match values::base64(text, &mut r.bytes) {
            Some(()) => r.close(),
            None => return refuse("bytes in standard base64", text),
        },
        Values::Timestamp(v) if !text.iter().skip(1).all(u8::is_ascii_digit) => {
            match values::timestamp(text) {
                Some(ms) => v.push(ms),
                None => return refuse("a time such as 2024-03-09 05:59:50.000", text),
            }
        }
        Values::Date(v) => match values::date(text) {
            Some(d) => v.push(d),
            None => return refuse("a date such as 2024-03-09", text),
        },
        Values::Decimal(scale, v) => match values::decimal(text, *scale) {
            Ok(d) => v.push(d),
            Err(bad) => return Fault::value(0, json::decimal_words(bad, *scale)),
        },
        Values::F64(v) if not_finite(text).is_some() => {
            v.push(not_finite(text).unwrap_or(f64::NAN))
        }
        Values::F32(v) if not_finite(text).is_some() => {
            v.push(not_finite(text).unwrap_or(f64::NAN) as f32)
        }
        // The rest is written as in JSON.
        _ => return as_json(column, text, row),
    }
    column.set(row);
    Ok(())
}

fn as_json(column: &mut Column, text: &[u8], row: usize) -> Step<()> {
    let kind = column.values.name();
    let first = at(text, 0);
    let fits = match column.values {
        Values::List(_) => first == b'[',
        Values::Record(_) => first == b'{',
        Values::Bool(_) => text == b"true" || text == b"false",
        _ => first == b'-' || first.is_ascii_digit(),
    };
    if !fits {
        return refuse(kind, text);
    }
    match json::value(column, text, 0, row, 0) {
        Ok(end) if end == text.len() => Ok(()),
        Err(fault) if !fault.is_syntax() => Err(fault),
        _ => refuse(kind, text),
    }
}

/// The floats that JSON has no numbers for, as the sink writes them.
fn not_finite(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

#[cold]
fn refuse(kind: &str, text: &[u8]) -> Step<()> {
    if text.is_empty() {
        return Fault::value(0, format!("is {kind}, but is empty"));
    }
    let shown: String = String::from_utf8_lossy(text).chars().take(40).collect();
    let more = if shown.len() < text.len() { ".." } else { "" };
    Fault::value(0, format!("is {kind}, but has '{shown}{more}'"))
}
