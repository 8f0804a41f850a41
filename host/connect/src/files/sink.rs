//! The sink: files that appear under their names only when they are complete.
//!
//! | option | value |
//! |---|---|
//! | `path` | a folder, made if it is not there; with `single`, one file |
//! | `format` | `text`, `json`, `csv` or `parquet` |
//! | `header` | of CSV: `true` (default): each file begins with the names of the columns |
//! | `timestamps` | `sql` (default of CSV): `yyyy-MM-dd HH:mm:ss.SSS`; `millis` (default of JSON); `rfc3339`; none of Parquet |
//! | `roll_bytes` | a file of at least so many bytes is closed and the next one begun; 128 MiB by default |
//! | `single` | `true`: one file, there when the job ends; for one task |
//! | `overwrite` | `true`: what an earlier run wrote here is removed first; else it is refused |
//! | `partition_by` | names of columns, with commas between: a folder for each of their values (see [`partition`](super::partition)) |
//! | `partition_columns` | `drop` (default): the folders' names alone have those columns; `keep`: the rows, too |
//! | `open_files` | of partitions: how many files a task writes at once, 64 by default; the one that waits longest is closed |
//! | `changelog` | `true`: rows get their kind (`+I`, `-U`, `+U`, `-D`) as a first column `op`; in batch mode, which has but results, they do not |
//!
//! A task writes `part-TASK-NUMBER.EXT`, under a hidden name until the file is full and synced, or all tasks have
//! finished; then it is renamed, and the folder synced. After an error, hidden files are removed; complete ones stay.
//! Without `changelog`, a row that changes an earlier one is refused. Text needs rows of one string: its lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_engine::connector::{Sink, SinkWriter};
use pelton_model::batch::{Batch, RowKind};
use pelton_model::schema::{DataType, Schema};
use pelton_model::{Error, ErrorCode, Result};

use super::parquet::Layout;
use super::part::{Encoding, Hidden, Part, sync_folder, unwritable};
use super::partition::Partitions;
use super::rows::{Lines, word};
use super::{Kind, kind, refuse_of};
use crate::options::Options;
use crate::text::TimeFormat;
use crate::{OptionMap, SinkRequest};

const ROLL_BYTES: u64 = 128 << 20;
const OPEN_FILES: usize = 64;
const OPEN_FILES_MAX: usize = 4_096;
/// What all files of a task may keep in memory.
const MEMORY_BYTES: usize = 64 << 20;
const SINK_OPTIONS: [&str; 11] = [
    "path",
    "format",
    "header",
    "timestamps",
    "roll_bytes",
    "single",
    "overwrite",
    "partition_by",
    "partition_columns",
    "open_files",
    "changelog",
];

/// Whether the options make a sink for rows of `schema`.
pub(crate) fn check_sink(options: &OptionMap, schema: &Schema) -> Result<()> {
    Plan::new(options, schema, false).map(|_| ())
}

/// Makes the folder. Errors: as [`check_sink`]; `OutputFailed` for a folder that can't be made or holds output already.
pub(crate) fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    let plan = Plan::new(request.options, request.schema, request.batch)?;
    if plan.single && request.parallelism != 1 {
        let message = format!(
            "a single file is written by one task, not by {}",
            request.parallelism
        );
        return Err(Error::new(ErrorCode::GraphInvalid, message)
            .help("give the sink the parallelism 1, or write to a folder"));
    }
    let folder = plan.folder();
    fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
    clear(&plan)?;
    Ok(Arc::new(FilesSink {
        plan: Arc::new(plan),
        waiting: Arc::default(),
    }))
}

/// The options of a sink, read.
struct Plan {
    path: PathBuf,
    kind: Kind,
    encoding: Encoding,
    roll_bytes: u64,
    single: bool,
    overwrite: bool,
    partitions: Option<Partitions>,
    open_files: usize,
    /// Whether rows have their kind in front.
    with_op: bool,
    /// Whether rows that change earlier ones are asked for, be it in another mode.
    changelog: bool,
    /// The columns that are written; none: all.
    columns: Option<Vec<usize>>,
}

impl Plan {
    fn new(map: &OptionMap, schema: &Schema, batch: bool) -> Result<Self> {
        let options = Options::new("files", map, &SINK_OPTIONS)?;
        let path = PathBuf::from(options.require("path", "the folder to write to")?);
        let kind = kind(&options)?;
        let of_text: &[Kind] = &[Kind::Csv, Kind::Json, Kind::Text];
        refuse_of(&options, kind, &[Kind::Csv], &["header"])?;
        refuse_of(&options, kind, of_text, &["timestamps"])?;
        let not_lines = &[Kind::Csv, Kind::Json, Kind::Parquet];
        refuse_of(&options, kind, not_lines, &["changelog"])?;
        let partitions = options.get("partition_by");
        let partitions = partitions.map(|names| Partitions::new(names, schema));
        let partitions = partitions.transpose()?;
        let single = options.flag("single", false)?;
        if partitions.is_none() {
            for name in ["partition_columns", "open_files"] {
                if options.get(name).is_some() {
                    return Err(options.missing("partition_by", &format!("as it has '{name}'")));
                }
            }
        } else if single {
            return Err(Error::new(
                ErrorCode::UnknownConnector,
                "a single file has no partitions: leave out one of 'single' and 'partition_by'",
            ));
        }
        let keep = [("drop", false), ("keep", true)];
        let keep = options.choice("partition_columns", &keep, false)?;
        let dropped = partitions.as_ref().filter(|_| !keep);
        let columns: Option<Vec<usize>> = dropped.map(|p| {
            let all = 0..schema.fields.len();
            all.filter(|i| !p.holds(*i)).collect()
        });
        let written = match &columns {
            None => schema.clone(),
            Some(columns) => Schema::new(
                columns
                    .iter()
                    .filter_map(|i| schema.fields.get(*i))
                    .cloned()
                    .collect(),
            ),
        };
        let changelog = options.flag("changelog", false)?;
        let with_op = changelog && !batch;
        Ok(Self {
            encoding: encoding(&options, kind, &written, with_op)?,
            path,
            kind,
            roll_bytes: options
                .number("roll_bytes", 1, u64::MAX)?
                .unwrap_or(ROLL_BYTES),
            single,
            overwrite: options.flag("overwrite", false)?,
            partitions,
            open_files: options
                .number("open_files", 1, OPEN_FILES_MAX)?
                .unwrap_or(OPEN_FILES),
            with_op,
            changelog,
            columns,
        })
    }

    /// Where the files are.
    fn folder(&self) -> &Path {
        if !self.single {
            return &self.path;
        }
        self.path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// The final name of a file in a partition's folder, and the one that it has until then.
    fn names_of(&self, partition: &str, task: u32, number: u32) -> (PathBuf, PathBuf) {
        let extension = match self.kind {
            Kind::Text => "txt",
            Kind::Json => "jsonl",
            Kind::Csv => "csv",
            Kind::Parquet => "parquet",
        };
        let last = match self.path.file_name() {
            Some(name) if self.single => name.to_string_lossy().into_owned(),
            _ => format!("part-{task}-{number}.{extension}"),
        };
        let folder = if partition.is_empty() {
            self.folder().to_owned()
        } else {
            self.path.join(partition)
        };
        let place = if self.single {
            self.path.clone()
        } else {
            folder.join(&last)
        };
        (place, folder.join(format!(".{last}.inprogress")))
    }

    /// Refuses rows that change earlier ones where nothing would say so.
    fn check_kinds(&self, batch: &Batch) -> Result<()> {
        let change = batch
            .kinds()
            .filter(|_| !self.with_op)
            .and_then(|kinds| kinds.iter().find(|k| **k != RowKind::Insert as u8));
        let Some(kind) = change else { return Ok(()) };
        let message = format!(
            "a row for '{}' changes an earlier one ({}), but the files are of rows that stay",
            self.path.display(),
            word(*kind)
        );
        let error = Error::new(ErrorCode::OutputFailed, message);
        Err(match (self.kind, self.changelog) {
            (Kind::Text, _) => error.help("write csv, json or parquet, which have a column for it"),
            (_, false) => error.help(
                "set the sink's option changelog = true, for a first column 'op' with +I, -U, +U, -D",
            ),
            (_, true) => error.help("in batch mode a function gives its final results only"),
        })
    }
}

fn encoding(
    options: &Options<'_>,
    kind: Kind,
    written: &Schema,
    with_op: bool,
) -> Result<Encoding> {
    let refused = |message| Error::new(ErrorCode::GraphInvalid, message);
    if written.fields.is_empty() {
        return Err(refused("the files of a sink have no column".to_owned()));
    }
    if with_op && written.field("op").is_some() {
        let message = "a changelog has a column 'op' of its own, but the rows have one, too";
        return Err(refused(message.to_owned()).help("give the rows' column another name"));
    }
    if kind == Kind::Text
        && !matches!(written.fields.as_slice(), [f] if f.data_type == DataType::String)
    {
        let message =
            format!("a sink of text lines takes rows of one string field, not {{{written}}}");
        return Err(refused(message).help("map to one string before, or write json or csv"));
    }
    if kind == Kind::Parquet {
        return Ok(Encoding::Parquet(Layout::new(written, with_op)));
    }
    let times = if kind == Kind::Csv {
        TimeFormat::Sql
    } else {
        TimeFormat::Millis
    };
    Ok(Encoding::Lines(Lines {
        kind,
        header: options.flag("header", true)?,
        times: options.choice("timestamps", &TimeFormat::CHOICES, times)?,
        names: written.fields.iter().map(|f| f.name.clone()).collect(),
    }))
}

/// Removes what an earlier run wrote, or refuses it.
fn clear(plan: &Plan) -> Result<()> {
    let mut old = Vec::new();
    if plan.single {
        if plan.path.is_dir() {
            let message = format!(
                "output '{}' is a folder, but is to be one file",
                plan.path.display()
            );
            return Err(Error::new(ErrorCode::OutputFailed, message));
        }
        old.extend(plan.path.exists().then(|| plan.path.clone()));
    } else {
        earlier(plan, &plan.path, &mut old)?;
    }
    old.sort();
    if !plan.overwrite
        && let Some(first) = old.first()
    {
        let message = format!("output '{}' is there already", first.display());
        return Err(Error::new(ErrorCode::OutputFailed, message)
            .help("write to another place, remove it, or set the option overwrite = true"));
    }
    old.iter()
        .try_for_each(|p| fs::remove_file(p).map_err(|e| unwritable(p, &e)))
}

/// What an earlier run wrote in a folder and those of its partitions.
fn earlier(plan: &Plan, folder: &Path, old: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| unwritable(folder, &e))? {
        let entry = entry.map_err(|e| unwritable(folder, &e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let partitions = plan.partitions.as_ref();
        if name.starts_with("part-") {
            old.push(entry.path());
        } else if plan.overwrite && name.starts_with(".part-") && name.ends_with(".inprogress") {
            // A run that was killed could not clean up.
            old.push(entry.path());
        } else if partitions.is_some_and(|p| p.names_folder(&name))
            && entry.file_type().is_ok_and(|t| t.is_dir())
        {
            earlier(plan, &entry.path(), old)?;
        }
    }
    Ok(())
}

struct FilesSink {
    plan: Arc<Plan>,
    /// Complete files that get their names when all tasks have finished.
    waiting: Arc<Mutex<Vec<Hidden>>>,
}

impl Sink for FilesSink {
    fn delivery(&self) -> pelton_engine::connector::Delivery {
        pelton_engine::connector::Delivery::AtLeastOnce
    }

    fn writer(&self, index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            plan: self.plan.clone(),
            waiting: self.waiting.clone(),
            task: index,
            number: 0,
            parts: BTreeMap::new(),
            writes: 0,
        }))
    }

    fn finish(&self) -> Result<()> {
        let files =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.plan.show(files)
    }
}

impl Plan {
    /// Gives complete files their names, and syncs their folders.
    fn show(&self, files: Vec<Hidden>) -> Result<()> {
        let root = self.folder();
        let mut folders = std::collections::BTreeSet::from([root.to_owned()]);
        for file in files {
            let place = file.show()?;
            let above = place.ancestors().skip(1);
            folders.extend(
                above
                    .take_while(|f| *f != root)
                    .filter(|f| f.starts_with(root))
                    .map(Path::to_owned),
            );
        }
        folders.iter().try_for_each(|f| sync_folder(f))
    }
}

struct Writer {
    plan: Arc<Plan>,
    waiting: Arc<Mutex<Vec<Hidden>>>,
    task: u32,
    number: u32,
    /// The files in work, by partition; without partitions the one of no name.
    parts: BTreeMap<String, Part>,
    writes: u64,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.plan.check_kinds(&batch)?;
        let plan = self.plan.clone();
        match &plan.partitions {
            None => self.write_part("", batch),
            Some(partitions) => {
                let parts = partitions.split(&batch)?;
                parts
                    .into_iter()
                    .try_for_each(|(partition, rows)| self.write_part(&partition, rows))
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        if self.plan.single {
            self.part("")?;
        }
        for part in std::mem::take(&mut self.parts).into_values() {
            let hidden = part.close()?;
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(hidden);
        }
        Ok(())
    }
}

impl Writer {
    /// Writes rows of one partition, into as many files as they fill.
    fn write_part(&mut self, partition: &str, rows: Batch) -> Result<()> {
        let plan = self.plan.clone();
        let rows = match &plan.columns {
            None => rows,
            Some(kept) => {
                let columns = kept.iter().filter_map(|i| rows.columns().get(*i)).cloned();
                let columns = columns.collect();
                Batch::new(columns, rows.len())?.with_kinds(rows.kinds().cloned())?
            }
        };
        let roll_bytes = if plan.single {
            u64::MAX
        } else {
            plan.roll_bytes
        };
        let mut from = 0;
        while from < rows.rows() {
            self.writes += 1;
            let used = self.writes;
            let part = self.part(partition)?;
            part.used = used;
            from += part.write(&plan.encoding, &rows, from, roll_bytes)?;
            if part.bytes() >= roll_bytes {
                self.roll(partition)?;
            }
        }
        let each = MEMORY_BYTES / self.parts.len().max(1);
        self.parts
            .get_mut(partition)
            .map_or(Ok(()), |part| part.bound(each))
    }

    /// The file in work of a partition, begun if there is none.
    fn part(&mut self, partition: &str) -> Result<&mut Part> {
        if !self.parts.contains_key(partition) {
            if self.parts.len() >= self.plan.open_files {
                let oldest = self.parts.iter().min_by_key(|(_, part)| part.used);
                if let Some(oldest) = oldest.map(|(partition, _)| partition.clone()) {
                    self.roll(&oldest)?;
                }
            }
            let (place, hidden) = self.plan.names_of(partition, self.task, self.number);
            self.number += 1;
            let own = !partition.is_empty();
            let part = Part::begin(place, hidden, own, &self.plan.encoding, self.plan.with_op)?;
            self.parts.insert(partition.to_owned(), part);
        }
        self.parts
            .get_mut(partition)
            .ok_or_else(|| Error::bug("no file is open"))
    }

    /// Ends the file in work of a partition and shows it.
    fn roll(&mut self, partition: &str) -> Result<()> {
        match self.parts.remove(partition) {
            None => Ok(()),
            Some(part) => self.plan.show(vec![part.close()?]),
        }
    }
}
