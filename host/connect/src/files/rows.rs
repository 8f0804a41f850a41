//! Rows as lines of text: CSV, JSON Lines, plain lines.
//! Needs: the kept columns of a batch. Refuses: a changelog as plain lines (its kinds have no place there).

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};

use super::Kind;
use crate::text::{
    TimeFormat, kind_word as word, write_csv_text, write_csv_value, write_json_text,
    write_json_value,
};

/// How rows are written as lines.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    pub(super) kind: Kind,
    pub(super) header: bool,
    pub(super) times: TimeFormat,
    /// The names of the columns.
    pub(super) names: Vec<String>,
}

impl Lines {
    /// What a file begins with. `with_op`: rows have their kind in front.
    pub(super) fn begin(&self, out: &mut Vec<u8>, with_op: bool) {
        if self.kind != Kind::Csv || !self.header {
            return;
        }
        let op = with_op.then_some("op").into_iter();
        for (i, name) in op.chain(self.names.iter().map(String::as_str)).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_csv_text(out, name.as_bytes());
        }
        out.push(b'\n');
    }

    /// One row, with its kind in front if that is given.
    pub(super) fn row(&self, out: &mut Vec<u8>, op: Option<u8>, columns: &[ArrayRef], row: usize) {
        match self.kind {
            Kind::Csv => self.csv(out, op, columns, row),
            Kind::Json => self.json(out, op, columns, row),
            Kind::Text | Kind::Parquet => {
                let lines = columns.first().and_then(|c| c.as_string_opt::<i32>());
                let line = lines
                    .filter(|l| l.is_valid(row))
                    .map_or("", |l| l.value(row));
                out.extend_from_slice(line.as_bytes());
            }
        }
        out.push(b'\n');
    }

    fn csv(&self, out: &mut Vec<u8>, op: Option<u8>, columns: &[ArrayRef], row: usize) {
        if let Some(kind) = op {
            out.extend_from_slice(word(kind).as_bytes());
        }
        for (i, column) in columns.iter().enumerate() {
            if i > 0 || op.is_some() {
                out.push(b',');
            }
            write_csv_value(out, column.as_ref(), row, self.times);
        }
    }

    fn json(&self, out: &mut Vec<u8>, op: Option<u8>, columns: &[ArrayRef], row: usize) {
        out.push(b'{');
        if let Some(kind) = op {
            out.extend_from_slice(b"\"op\":\"");
            out.extend_from_slice(word(kind).as_bytes());
            out.push(b'"');
        }
        for (i, (name, column)) in self.names.iter().zip(columns).enumerate() {
            if i > 0 || op.is_some() {
                out.push(b',');
            }
            write_json_text(out, name);
            out.push(b':');
            write_json_value(out, column.as_ref(), row, self.times);
        }
        out.push(b'}');
    }
}
