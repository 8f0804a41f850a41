//! Keyed upserts: the last row of a key stands for it; deleted ones are gone.
//!
//! Needs: rows of one key always in the same task. At a barrier what has changed is written, before the checkpoint has it:
//! to a hidden file, which then takes the place of the visible one. Rows that come again after a restart lead to the same
//! end; until they have come, the file may be ahead of the checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pelton_engine::connector::{Delivery, Prepared, Sink, SinkWriter};
use pelton_model::batch::{Batch, RowKind};
use pelton_model::id::CheckpointId;
use pelton_model::{Error, ErrorCode, Result};

use super::{Lines, content, replace};
use crate::text::{write_json_row, write_json_value};

/// Bytes of keys and rows.
const BYTES_MAX: usize = 256 << 20;

/// The sink.
pub(super) struct Upsert(Arc<Shared>);

struct Shared {
    path: PathBuf,
    lines: Lines,
    keys: Vec<usize>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    changed: bool,
}

impl Upsert {
    /// Goes on with the rows that are there. Errors: `Corrupt` for a file that is something else.
    pub(super) fn open(path: PathBuf, lines: Lines, keys: Vec<usize>) -> Result<Self> {
        let mut table = Table::default();
        for line in content(&path)?.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let tab = line.iter().position(|b| *b == b'\t');
            let Some((key, row)) = tab.and_then(|tab| line.split_at_checked(tab)) else {
                let message = format!("'{}' is no journal of keyed rows", path.display());
                return Err(Error::new(ErrorCode::Corrupt, message));
            };
            let row = row.get(1..).unwrap_or_default();
            table.set(key.to_vec(), Some(row.to_vec()));
        }
        // One that has no rows is there, too.
        table.changed = !path.exists();
        Ok(Self(Arc::new(Shared {
            path,
            lines,
            keys,
            table: Mutex::new(table),
        })))
    }
}

impl Table {
    fn set(&mut self, key: Vec<u8>, row: Option<Vec<u8>>) {
        let length = key.len();
        let added = row.as_ref().map_or(0, |row| length + row.len());
        let old = match row {
            Some(row) => self.rows.insert(key, row),
            None => self.rows.remove(&key),
        };
        self.bytes += added;
        self.bytes -= old.map_or(0, |old| length + old.len());
        self.changed = true;
    }
}

impl Shared {
    fn save(&self) -> Result<()> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.changed {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(table.bytes + 2 * table.rows.len());
        for (key, row) in &table.rows {
            bytes.extend_from_slice(key);
            bytes.push(b'\t');
            bytes.extend_from_slice(row);
            bytes.push(b'\n');
        }
        replace(&self.path, &bytes)?;
        table.changed = false;
        Ok(())
    }
}

impl Sink for Upsert {
    fn writer(&self, _index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer(self.0.clone())))
    }

    fn delivery(&self) -> Delivery {
        Delivery::Idempotent
    }
}

struct Writer(Arc<Shared>);

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        let lines = &self.0.lines;
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        for row in 0..batch.rows() {
            let kind = batch.kinds().and_then(|k| k.get(row)).copied();
            let is = |other: RowKind| kind == Some(other as u8);
            if is(RowKind::UpdateBefore) {
                continue;
            }
            let mut key = vec![b'['];
            for (i, column) in self.0.keys.iter().enumerate() {
                let column = batch.columns().get(*column);
                let column = column.ok_or_else(|| Error::bug("a batch has too few columns"))?;
                if i > 0 {
                    key.push(b',');
                }
                write_json_value(&mut key, column.as_ref(), row, lines.times);
            }
            key.push(b']');
            if is(RowKind::Delete) {
                table.set(key, None);
                continue;
            }
            let mut text = Vec::new();
            let names = lines.names.iter().map(String::as_str);
            write_json_row(&mut text, names, batch.columns(), row, lines.times);
            table.set(key, Some(text));
        }
        if table.bytes > BYTES_MAX {
            let message = format!("a journal of keyed rows holds at most {BYTES_MAX} bytes");
            return Err(Error::new(ErrorCode::StateLimit, message)
                .help("it is for tests and small results; write to files"));
        }
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: CheckpointId) -> Result<Prepared> {
        self.0.save()?;
        Ok(Prepared::default())
    }

    fn finish(&mut self) -> Result<()> {
        self.0.save()
    }
}
