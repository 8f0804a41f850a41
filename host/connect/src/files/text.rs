//! Text lines: the whole line is one string field; further fields may say where it stands.
//! Needs: columns. Refuses: record types with anything else.

use pelton_model::schema::{DataType, Schema};
use pelton_model::{Error, ErrorCode, Result};

use super::columns::{Column, Record, Values};
use super::fault::{Fault, Step};
use super::json::Line;
use super::scan::at;

/// What the columns of a batch get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    fields: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// The line without its end.
    Line,
    /// The path of its file.
    File,
    /// The byte of the file where it begins.
    Offset,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) offset: u64,
}

impl Layout {
    /// What each field of `needed` gets, by the rules for the `declared` record: its one string field is the line; a
    /// second one is `file`; `offset: i64` may be there. Errors: another field.
    pub(super) fn new(declared: &Schema, needed: &Schema) -> Result<Self> {
        let strings = || {
            declared
                .fields
                .iter()
                .filter(|f| f.data_type == DataType::String)
        };
        let line = match strings().count() {
            1 => strings().next(),
            2 => strings()
                .find(|f| f.name != "file")
                .filter(|_| declared.field("file").is_some()),
            _ => None,
        };
        let Some(line) = line else {
            return Err(refused("must have exactly one string field for the line"));
        };
        let part = |name: &str, data_type: &DataType| match (name, data_type) {
            (name, _) if name == line.name => Some(Part::Line),
            ("file", DataType::String) => Some(Part::File),
            ("offset", DataType::I64) => Some(Part::Offset),
            _ => None,
        };
        if let Some(f) = declared
            .fields
            .iter()
            .find(|f| part(&f.name, &f.data_type).is_none())
        {
            return Err(refused(&format!(
                "cannot have the field '{}: {}'",
                f.name, f.data_type
            )));
        }
        Ok(Self {
            fields: needed
                .fields
                .iter()
                .filter_map(|f| part(&f.name, &f.data_type))
                .collect(),
        })
    }
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorCode::GraphInvalid,
        format!("the record of a source of text lines {why}"),
    )
    .help("beside the string field for the line there may be 'file: string' and 'offset: i64'")
}

/// Takes the line that begins at `p` of `buf` as row `row`.
pub(super) fn line(
    layout: &Layout,
    root: &mut Record,
    buf: &[u8],
    p: usize,
    row: usize,
    place: Place<'_>,
) -> Step<Line> {
    let rest = buf.get(p..).unwrap_or_default();
    let mut end = p + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    let next = end + 1;
    if end > p && at(buf, end - 1) == b'\r' {
        end -= 1;
    }
    let text = match std::str::from_utf8(buf.get(p..end).unwrap_or_default()) {
        Ok(text) => text,
        Err(e) => return Fault::syntax(p + e.valid_up_to(), "the bytes are not UTF-8"),
    };
    for (part, column) in layout.fields.iter().zip(&mut root.children) {
        match part {
            Part::Line => push(column, text, row),
            Part::File => push(column, place.file, row),
            Part::Offset => {
                column.align(row);
                if let Values::I64(v) = &mut column.values {
                    v.push(i64::try_from(place.offset).unwrap_or(i64::MAX));
                    column.set(row);
                }
            }
        }
    }
    Ok(Line::Row(next))
}

fn push(column: &mut Column, text: &str, row: usize) {
    column.align(row);
    if let Values::String(r) = &mut column.values {
        r.bytes.extend_from_slice(text.as_bytes());
        r.close();
        column.set(row);
    }
}
