//! Parquet: row groups as the unit that tasks take, columns read only where somebody needs them.
//!
//! Needs: the crate `parquet`; [`cast`] from the file's types to those of the record. Refuses, when the job starts: a file
//! that is not Parquet, lacks a field, or has it in a type that would have to be rounded. A column that the file calls
//! optional serves a field that is never null as long as no null comes. Compression: none, Snappy, LZ4, gzip.
//!
//! Row groups are dealt as chunks of lines are (see [`deal`](super::deal)); a position is a row group and a row of it.

mod cast;
mod write;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use ::parquet::schema::types::SchemaDescriptor;
use arrow_array::RecordBatch;
use pelton_engine::connector::{Poll, Position, Source, SourceProgress, SourceReader};
use pelton_model::batch::Batch;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, Result};

use self::cast::Cast;
use super::deal::{Dealer, Seat, Unit};
use super::listing::{InputFile, unreadable};

pub(super) use self::write::{Encoder, Layout};

/// The source of rows of `needed`. Reads the footers. Errors: `InputMissing`, `BadRecord` with the file.
pub(super) fn source(files: &[InputFile], needed: &Schema) -> Result<Arc<dyn Source>> {
    let open: Vec<OpenFile> = files
        .iter()
        .map(|file| OpenFile::new(&file.path, needed))
        .collect::<Result<_>>()?;
    let unit = |(file, open): (&InputFile, &OpenFile)| Unit {
        file: file.clone(),
        limit: open.metadata.metadata().num_row_groups() as u64,
        step: 1,
    };
    let units = files.iter().zip(&open).map(unit).collect();
    Ok(Arc::new(Shared(Arc::new(Groups {
        files: open,
        dealer: Dealer::new(units),
    }))))
}

/// A file, its footer read.
struct OpenFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// For each needed column: which of the file's projected ones it is, and how it gets its type.
    columns: Vec<(usize, Field, Cast)>,
}

impl OpenFile {
    fn new(path: &std::path::Path, needed: &Schema) -> Result<Self> {
        let file = File::open(path).map_err(|e| unreadable(path, &e))?;
        // The types are those of the format, not those that some writer had in memory.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata =
            ArrowReaderMetadata::load(&file, options).map_err(|e| invalid(path, &e.to_string()))?;
        let mask = mask(metadata.parquet_schema(), needed);
        let have = metadata.schema();
        let mut projected: Vec<usize> = Vec::new();
        for (i, field) in have.fields().iter().enumerate() {
            if needed.field(field.name()).is_some() {
                projected.push(i);
            }
        }
        let columns = needed
            .fields
            .iter()
            .map(|field| {
                let names = || have.fields().iter().map(|f| f.name().as_str());
                let missing = || {
                    let names: Vec<&str> = names().collect();
                    bad(
                        path,
                        format!(
                            "there is no column '{}'; the columns are: {}",
                            field.name,
                            names.join(", ")
                        ),
                    )
                };
                let at = names().position(|n| n == field.name).ok_or_else(missing)?;
                let from = have.fields().get(at).ok_or_else(missing)?;
                let place = projected
                    .iter()
                    .position(|i| *i == at)
                    .ok_or_else(missing)?;
                let cast = Cast::new(from.data_type(), &field.data_type)
                    .map_err(|why| bad(path, format!("column '{}' {why}", field.name)))?;
                Ok((place, field.clone(), cast))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            path: path.to_owned(),
            metadata,
            mask,
            columns,
        })
    }
}

/// The leaves that belong to needed fields.
fn mask(have: &SchemaDescriptor, needed: &Schema) -> ProjectionMask {
    let leaves = have.columns().iter().enumerate();
    let wanted = leaves.filter(|(_, leaf)| wants(&needed.fields, leaf.path().parts()));
    ProjectionMask::leaves(have, wanted.map(|(i, _)| i).collect::<Vec<_>>())
}

fn wants(fields: &[Field], path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return true;
    };
    match fields.iter().find(|f| f.name == *name) {
        None => false,
        Some(field) => match &field.data_type {
            DataType::Struct(inner) => wants(inner, rest),
            _ => true,
        },
    }
}

#[derive(Clone, Copy, Debug)]
struct Group {
    file: usize,
    group: usize,
    bytes: u64,
}

struct Groups {
    files: Vec<OpenFile>,
    dealer: Dealer,
}

struct Shared(Arc<Groups>);

impl Source for Shared {
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>> {
        self.reader_at(index, parallelism, &[])
    }

    fn reader_at(
        &self,
        index: u32,
        parallelism: u32,
        positions: &[Position],
    ) -> Result<Box<dyn SourceReader>> {
        let seat = self.0.dealer.seat(index, parallelism, positions)?;
        let before = seat.before().iter();
        let left = |(file, before): (&OpenFile, &super::positions::Ranges)| -> u64 {
            let gaps = before.gaps(file.metadata.metadata().num_row_groups() as u64);
            let groups = gaps.into_iter().flat_map(|(start, end)| start..end);
            groups.map(|group| file.bytes_of(group)).sum()
        };
        let total = self.0.files.iter().zip(before).map(left).sum();
        Ok(Box::new(Reader {
            progress: SourceProgress {
                total: Some(total),
                ..SourceProgress::default()
            },
            source: self.0.clone(),
            open: None,
            seat,
        }))
    }

    fn replays(&self) -> bool {
        true
    }
}

struct Reader {
    source: Arc<Groups>,
    open: Option<Open>,
    progress: SourceProgress,
    seat: Seat,
}

/// The row group in work.
struct Open {
    group: Group,
    rows: ParquetRecordBatchReader,
    /// What was read but not handed out yet.
    rest: Option<Batch>,
    read: u64,
    handed: u64,
    /// Rows of the group.
    of: u64,
}

impl SourceReader for Reader {
    fn poll(&mut self, _now: Monotonic, rows_max: usize) -> Result<Poll> {
        let source = self.source.clone();
        loop {
            let Some(mut open) = (match self.open.take() {
                Some(open) => Some(open),
                None => self.next_group(rows_max)?,
            }) else {
                return Ok(Poll::End);
            };
            let Some(file) = source.files.get(open.group.file) else {
                return Err(Error::bug("a row group of no file"));
            };
            let whole = match open.rest.take() {
                Some(rest) => Some(rest),
                None => open.next(file)?,
            };
            let Some(whole) = whole else { continue };
            let rows = whole.rows().min(rows_max.max(1));
            if rows < whole.rows() {
                open.rest = Some(whole.slice(rows, whole.rows() - rows));
            }
            let before = open.bytes();
            open.handed += rows as u64;
            self.progress.bytes += open.bytes() - before;
            self.progress.rows += rows as u64;
            self.seat.reached(open.handed);
            self.open = Some(open);
            if rows > 0 {
                return Ok(Poll::Rows(whole.slice(0, rows)));
            }
        }
    }

    fn progress(&self) -> SourceProgress {
        self.progress
    }

    fn positions(&self) -> Vec<Position> {
        self.seat.positions()
    }
}

impl Reader {
    fn next_group(&mut self, rows_max: usize) -> Result<Option<Open>> {
        let Some(piece) = self.seat.next() else {
            return Ok(None);
        };
        let Some(file) = self.source.files.get(piece.file) else {
            return Err(Error::bug("a row group of no file"));
        };
        let group = Group {
            file: piece.file,
            group: usize::try_from(piece.start).unwrap_or(usize::MAX),
            bytes: file.bytes_of(piece.start),
        };
        let behind = piece.at.unwrap_or(0);
        let content = File::open(&file.path).map_err(|e| unreadable(&file.path, &e))?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(content, file.metadata.clone());
        let rows = builder
            .with_row_groups(vec![group.group])
            .with_projection(file.mask.clone())
            .with_batch_size(rows_max.max(1))
            .with_offset(usize::try_from(behind).unwrap_or(usize::MAX))
            .build()
            .map_err(|e| invalid(&file.path, &e.to_string()))?;
        let meta = file.metadata.metadata().row_groups().get(group.group);
        let open = Open {
            group,
            rows,
            rest: None,
            read: behind,
            handed: behind,
            of: meta.map_or(0, |m| u64::try_from(m.num_rows()).unwrap_or(0)),
        };
        self.progress.bytes += open.bytes();
        Ok(Some(open))
    }
}

impl Open {
    /// The next rows of the group, in the record's types.
    fn next(&mut self, file: &OpenFile) -> Result<Option<Batch>> {
        let Some(rows) = self.rows.next() else {
            return Ok(None);
        };
        let rows: RecordBatch = rows.map_err(|e| invalid(&file.path, &e.to_string()))?;
        let located = |why: String| {
            let row = file.rows_before(self.group.group) + self.read + 1;
            Error::new(ErrorCode::BadRecord, why)
                .at("row", format!("{row} or after"))
                .at("file", file.path.display())
        };
        let columns = file
            .columns
            .iter()
            .map(|(place, field, cast)| match rows.columns().get(*place) {
                Some(column) => cast.apply(column, field),
                None => Err(format!("column '{}' is not there", field.name)),
            })
            .collect::<std::result::Result<Vec<_>, String>>()
            .map_err(located)?;
        self.read += rows.num_rows() as u64;
        Batch::new(columns, rows.num_rows()).map(Some)
    }

    /// Bytes of the group behind the rows that were handed out.
    fn bytes(&self) -> u64 {
        let part = u128::from(self.group.bytes) * u128::from(self.handed);
        u64::try_from(part / u128::from(self.of.max(1))).unwrap_or(self.group.bytes)
    }
}

impl OpenFile {
    /// Compressed bytes of a row group.
    fn bytes_of(&self, group: u64) -> u64 {
        let groups = self.metadata.metadata().row_groups();
        let meta = usize::try_from(group).ok().and_then(|g| groups.get(g));
        meta.map_or(0, |m| u64::try_from(m.compressed_size()).unwrap_or(0))
    }

    fn rows_before(&self, group: usize) -> u64 {
        let groups = self.metadata.metadata().row_groups().iter().take(group);
        groups
            .map(|m| u64::try_from(m.num_rows()).unwrap_or(0))
            .sum()
    }
}

fn invalid(path: &std::path::Path, why: &str) -> Error {
    bad(path, format!("not valid Parquet: {why}"))
}

fn bad(path: &std::path::Path, why: String) -> Error {
    Error::new(ErrorCode::BadRecord, why).at("file", path.display())
}
