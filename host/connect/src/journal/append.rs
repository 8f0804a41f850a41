//! Appending: rows, then a marker, each on the disk before the next.
//! Needs: one process that writes. Invariant: what stands behind the last marker counts for nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pelton_model::Result;
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;

use super::{Lines, content, refused, replace, sync_folder};
use crate::text::{kind_word, write_json_change};
use crate::write_ahead::{Target, Unit};

const MARKER: &str = "#applied ";

/// The file.
pub(super) struct Journal {
    path: PathBuf,
    lines: Lines,
    open: Mutex<Option<Open>>,
}

struct Open {
    file: File,
    /// Checkpoints and tasks.
    applied: BTreeSet<(u64, u32)>,
    /// Behind the last marker.
    end: u64,
}

impl Journal {
    pub(super) fn new(path: PathBuf, lines: Lines) -> Self {
        Self {
            path,
            lines,
            open: Mutex::new(None),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Open) -> Result<T>) -> Result<T> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some(Open::new(&self.path)?);
        }
        let done = match open.as_mut() {
            Some(open) => act(open),
            None => Err(pelton_model::Error::bug("a journal that is not open")),
        };
        if done.is_err() {
            // What is in it now is found out again.
            *open = None;
        }
        done
    }

    fn failed(&self, e: &std::io::Error) -> pelton_model::Error {
        refused(&self.path, e)
    }
}

impl Open {
    fn new(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| refused(path, &e);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let (applied, end) = applied(&content(path)?);
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let file = options.open(path).map_err(failed)?;
        sync_folder(path)?;
        Ok(Self { file, applied, end })
    }

    /// Writes behind what counts.
    fn put(&mut self, bytes: &[u8], from: u64) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(from))?;
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }
}

/// A journal without the units of these checkpoints, and without what is half applied.
fn without(bytes: &[u8], lost: impl Fn(u64) -> bool) -> Vec<u8> {
    let (mut kept, mut from, mut at) = (Vec::new(), 0, 0);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        if let Some((checkpoint, _)) = read_marker(line) {
            if !lost(checkpoint) {
                kept.extend_from_slice(bytes.get(from..at).unwrap_or_default());
            }
            from = at;
        }
    }
    kept
}

/// The markers in a journal, and where the last one ends.
fn applied(bytes: &[u8]) -> (BTreeSet<(u64, u32)>, u64) {
    let (mut all, mut end, mut at) = (BTreeSet::new(), 0, 0);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len() as u64;
        if let Some(marker) = read_marker(line) {
            all.insert(marker);
            end = at;
        }
    }
    (all, end)
}

fn marker(unit: &Unit<'_>) -> String {
    format!(
        "{MARKER}checkpoint={} task={} rows={}\n",
        unit.checkpoint.0, unit.task, unit.rows
    )
}

fn read_marker(line: &[u8]) -> Option<(u64, u32)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix(MARKER)?.strip_suffix('\n')?.split(' ');
    let checkpoint = words.next()?.strip_prefix("checkpoint=")?.parse().ok()?;
    let task = words.next()?.strip_prefix("task=")?.parse().ok()?;
    words.next()?.strip_prefix("rows=")?;
    Some((checkpoint, task))
}

impl Target for Journal {
    fn encode(&self, batch: &Batch, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let op = batch.kinds().and_then(|k| k.get(row));
        let names = self.lines.names.iter().map(String::as_str);
        let op = op.map(|kind| kind_word(*kind));
        write_json_change(out, op, names, batch.columns(), row, self.lines.times);
        out.push(b'\n');
        Ok(())
    }

    fn apply(&self, unit: &Unit<'_>) -> Result<()> {
        self.with(|open| {
            let key = (unit.checkpoint.0, unit.task);
            if open.applied.contains(&key) {
                return Ok(());
            }
            let failed = |e| self.failed(&e);
            open.file.set_len(open.end).map_err(failed)?;
            open.put(unit.bytes, open.end).map_err(failed)?;
            let from = open.end + unit.bytes.len() as u64;
            let marker = marker(unit);
            open.put(marker.as_bytes(), from).map_err(failed)?;
            open.end = from + marker.len() as u64;
            open.applied.insert(key);
            Ok(())
        })
    }

    fn append(&self, bytes: &[u8]) -> Result<()> {
        self.with(|open| {
            open.put(bytes, open.end).map_err(|e| self.failed(&e))?;
            open.end += bytes.len() as u64;
            Ok(())
        })
    }

    fn tidy(&self) -> Result<()> {
        self.with(|open| {
            let cut = open.file.set_len(open.end);
            cut.and_then(|()| open.file.sync_all())
                .map_err(|e| self.failed(&e))
        })
    }

    fn take_back(&self, after: CheckpointId, to: CheckpointId) -> Result<()> {
        let lost = |checkpoint| checkpoint > after.0 && checkpoint <= to.0;
        let kept = without(&content(&self.path)?, lost);
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        replace(&self.path, &kept)
    }
}
