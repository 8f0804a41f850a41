//! Several files as one stream, in ascending order of an integer field.
//!
//! Needs: a reader a file. One task reads all of them, each a batch ahead; the others have nothing. The order of a file's
//! own rows is kept: of the next row of each file the one with the least value goes first, of equal ones that of the file
//! named first, and a row without a value before all others. A batch has rows of one file.
//!
//! What is read ahead is not handed out: a file's position is that before the last batch, and how many rows of it are
//! out. The files must be the same after a restart, as their number is part of the order and of the rows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType, UInt32Type};
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, UInt32Array};
use pelton_engine::connector::{Poll, Position, Source, SourceProgress, SourceReader};
use pelton_model::batch::Batch;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, Result};

use super::listing::InputFile;
use super::positions::{OfLane, Owner, gone};
use super::turns;
use crate::options::Options;

/// Rows of each file that are read ahead.
const AHEAD_ROWS: usize = 1_024;

/// How files become one stream.
#[derive(Clone, Debug)]
pub(super) struct MergeBy {
    field: Field,
    file_field: Option<Field>,
}

impl MergeBy {
    /// None where the options do not ask for it. Errors: a field that the record does not have, or of another type.
    pub(super) fn new(options: &Options<'_>, declared: &Schema) -> Result<Option<Self>> {
        let find = |option: &str, types: &[DataType], wanted: &str| {
            let Some(name) = options.get(option) else {
                return Ok(None);
            };
            let field = declared
                .field(name)
                .filter(|f| types.contains(&f.data_type));
            let bad = || {
                options.bad(
                    option,
                    format!("{wanted} field of the record {{{declared}}}"),
                )
            };
            field.cloned().map(Some).ok_or_else(bad)
        };
        let keys = [
            DataType::I64,
            DataType::I32,
            DataType::U32,
            DataType::Timestamp,
        ];
        let numbers = [DataType::I64, DataType::I32, DataType::U32];
        let field = find("merge_by", &keys, "an i64, i32, u32 or timestamp")?;
        let file_field = find("file_field", &numbers, "an i64, i32 or u32")?;
        match field {
            Some(field) => Ok(Some(Self { field, file_field })),
            None if file_field.is_some() => {
                Err(options.missing("merge_by", "where 'file_field' is given"))
            }
            None => Ok(None),
        }
    }

    /// What the files' own readers make of a record: without the file's number, and with what decides the order.
    pub(super) fn read(&self, record: &Schema) -> Schema {
        let mut fields: Vec<Field> = record
            .fields
            .iter()
            .filter(|f| {
                self.file_field
                    .as_ref()
                    .is_none_or(|own| own.name != f.name)
            })
            .cloned()
            .collect();
        if fields.iter().all(|f| f.name != self.field.name) {
            fields.push(self.field.clone());
        }
        Schema::new(fields)
    }

    /// The source: `files` has a reader for each file, which makes rows of [`read`](Self::read) of `needed`.
    pub(super) fn source(
        &self,
        files: Vec<(InputFile, Arc<dyn Source>)>,
        needed: &Schema,
    ) -> Result<Arc<dyn Source>> {
        let read = self.read(needed);
        let missing = || Error::bug("a field of merged files is not read");
        let columns = needed
            .fields
            .iter()
            .map(|f| match &self.file_field {
                Some(own) if own.name == f.name => Ok(Column::File(own.data_type.clone())),
                _ => read.index_of(&f.name).map(Column::Read).ok_or_else(missing),
            })
            .collect::<Result<_>>()?;
        let key = read.index_of(&self.field.name).ok_or_else(missing)?;
        Ok(Arc::new(Merged {
            files,
            columns,
            key,
        }))
    }
}

/// Where a column of the merged rows comes from.
#[derive(Clone, Debug)]
enum Column {
    /// A column that was read.
    Read(usize),
    /// The number of the file.
    File(DataType),
}

struct Merged {
    files: Vec<(InputFile, Arc<dyn Source>)>,
    columns: Vec<Column>,
    key: usize,
}

impl Source for Merged {
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>> {
        self.reader_at(index, parallelism, &[])
    }

    fn reader_at(
        &self,
        index: u32,
        _parallelism: u32,
        positions: &[Position],
    ) -> Result<Box<dyn SourceReader>> {
        let fresh = positions.is_empty();
        let mut known = turns::lanes(positions)?;
        let mut lanes = Vec::new();
        for (file, source) in self.files.iter().filter(|_| index == 0) {
            let lane = known.remove(&file.name);
            if lane.is_none() && !fresh {
                let message = format!(
                    "input '{}' is new, but files that are merged must be the same after a restart",
                    file.path.display()
                );
                return Err(Error::new(ErrorCode::StateMismatch, message)
                    .help("take the file away, or begin anew with '--fresh'"));
            }
            let (positions, skip) = lane.map_or((Vec::new(), 0), |l| (l.positions, l.skip));
            let reader = source.reader_at(0, 1, &positions)?;
            lanes.push(Lane {
                name: file.name.clone(),
                before: reader.positions(),
                passed: skip,
                skip,
                again: 0,
                reader,
                rows: None,
                keys: Vec::new(),
                at: 0,
                ended: false,
            });
        }
        if let Some(name) = known.keys().next().filter(|_| index == 0) {
            return Err(gone(name));
        }
        Ok(Box::new(Reader {
            lanes,
            columns: self.columns.clone(),
            key: self.key,
        }))
    }

    fn replays(&self) -> bool {
        self.files.iter().all(|(_, file)| file.replays())
    }
}

struct Reader {
    lanes: Vec<Lane>,
    columns: Vec<Column>,
    key: usize,
}

/// One file.
struct Lane {
    /// Its name in positions.
    name: String,
    reader: Box<dyn SourceReader>,
    /// Where the reader stood before what was read ahead.
    before: Vec<Position>,
    /// Rows behind `before` that are handed out.
    passed: u64,
    /// Rows that an earlier start has handed out, and that are still to come.
    skip: u64,
    /// Those of them that have come.
    again: u64,
    /// What was read ahead, and its keys.
    rows: Option<Batch>,
    keys: Vec<i64>,
    /// Rows of it that are handed out.
    at: usize,
    ended: bool,
}

impl SourceReader for Reader {
    fn poll(&mut self, now: Monotonic, rows_max: usize) -> Result<Poll> {
        for lane in &mut self.lanes {
            if let Some(later) = lane.fill(now, self.key)? {
                return Ok(Poll::Later(later));
            }
        }
        let heads = || {
            let heads = self.lanes.iter().enumerate();
            heads.filter_map(|(file, lane)| Some((*lane.keys.get(lane.at)?, file)))
        };
        let Some((_, file)) = heads().min() else {
            return Ok(Poll::End);
        };
        let bound = heads().filter(|(_, other)| *other != file).min();
        let Some(lane) = self.lanes.get_mut(file) else {
            return Err(Error::bug("a file that is not there"));
        };
        let left = lane.keys.get(lane.at..).unwrap_or_default();
        let goes = |key: &&i64| bound.is_none_or(|bound| (**key, file) < bound);
        let count = left.iter().take(rows_max.max(1)).take_while(goes).count();
        let rows = lane.rows.as_ref().map(|rows| rows.slice(lane.at, count));
        let rows = rows.ok_or_else(|| Error::bug("a file without rows"))?;
        lane.at += count;
        lane.passed += count as u64;
        let columns = self
            .columns
            .iter()
            .map(|c| c.make(&rows, file))
            .collect::<Result<_>>()?;
        Ok(Poll::Rows(Batch::new(columns, count)?))
    }

    fn progress(&self) -> SourceProgress {
        let mut all = SourceProgress {
            total: Some(0),
            ..SourceProgress::default()
        };
        for lane in &self.lanes {
            let one = lane.reader.progress();
            all.rows += one.rows - lane.again - (lane.keys.len() - lane.at) as u64;
            all.bytes += one.bytes;
            all.skipped += one.skipped;
            all.total = all.total.zip(one.total).map(|(a, b)| a + b);
        }
        all
    }

    fn positions(&self) -> Vec<Position> {
        let lane = |lane: &Lane| {
            let of = OfLane {
                owner: Owner { reader: 0, of: 1 },
                skip: lane.passed,
                positions: lane.before.clone(),
            };
            of.write(&lane.name)
        };
        self.lanes.iter().map(lane).collect()
    }
}

impl Lane {
    /// Reads ahead where nothing is left. Returns when there may be more, where there is nothing for now.
    fn fill(&mut self, now: Monotonic, key: usize) -> Result<Option<Monotonic>> {
        while !self.ended && self.at >= self.keys.len() {
            if self.skip == 0 {
                self.before = self.reader.positions();
                self.passed = 0;
            }
            match self.reader.poll(now, AHEAD_ROWS)? {
                Poll::Rows(rows) => self.take(rows, key)?,
                Poll::Later(at) => return Ok(Some(at)),
                Poll::End => {
                    self.ended = true;
                    self.before = self.reader.positions();
                    self.passed = 0;
                    self.keys.clear();
                    self.at = 0;
                }
            }
        }
        Ok(None)
    }

    /// Takes rows, without those that an earlier start has handed out.
    fn take(&mut self, rows: Batch, key: usize) -> Result<()> {
        let column = rows.columns().get(key);
        let column = column.ok_or_else(|| Error::bug("rows without the field that orders them"))?;
        self.keys = keys(column)?;
        self.at = usize::try_from(self.skip).map_or(rows.rows(), |skip| skip.min(rows.rows()));
        self.skip -= self.at as u64;
        self.again += self.at as u64;
        self.rows = Some(rows);
        Ok(())
    }
}

/// What decides the order, a number a row; null before all others.
fn keys(column: &ArrayRef) -> Result<Vec<i64>> {
    let valid = |row: usize, value: i64| if column.is_null(row) { i64::MIN } else { value };
    let of = |values: &mut dyn Iterator<Item = i64>| {
        values.enumerate().map(|(i, v)| valid(i, v)).collect()
    };
    if let Some(c) = column.as_primitive_opt::<Int64Type>() {
        return Ok(of(&mut c.values().iter().copied()));
    }
    if let Some(c) = column.as_primitive_opt::<TimestampMillisecondType>() {
        return Ok(of(&mut c.values().iter().copied()));
    }
    if let Some(c) = column.as_primitive_opt::<Int32Type>() {
        return Ok(of(&mut c.values().iter().map(|v| i64::from(*v))));
    }
    match column.as_primitive_opt::<UInt32Type>() {
        Some(c) => Ok(of(&mut c.values().iter().map(|v| i64::from(*v)))),
        None => Err(Error::bug("files are merged by a field that is no number")),
    }
}

impl Column {
    fn make(&self, rows: &Batch, file: usize) -> Result<ArrayRef> {
        let count = rows.rows();
        Ok(match self {
            Self::Read(i) => {
                let column = rows.columns().get(*i).cloned();
                column.ok_or_else(|| Error::bug("a column of merged files is not there"))?
            }
            Self::File(DataType::I32) => Arc::new(Int32Array::from(vec![file as i32; count])),
            Self::File(DataType::U32) => Arc::new(UInt32Array::from(vec![file as u32; count])),
            Self::File(_) => Arc::new(Int64Array::from(vec![file as i64; count])),
        })
    }
}
