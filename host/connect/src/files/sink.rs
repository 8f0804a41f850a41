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
//!
//! With checkpoints each row is there once, whatever crashes: at a barrier a task closes and syncs its files, which get
//! their names, `part-TASK-CHECKPOINT-NUMBER-LOG-TERM.EXT` (see [`names`](super::names)), when the checkpoint is complete
//! (see [`commit`](super::commit)). A single file is synced at a barrier; a later start cuts off what stands behind, and
//! goes on with it. It can't be Parquet then; a hidden file beside it says whose it is (see [`owner`](super::owner)).
//! A complete file must stay where it is until the next checkpoint is complete: a start asks for it once more.
//!
//! Without `changelog`, a row that changes an earlier one is refused. Text needs rows of one string: its lines.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_engine::connector::{Delivery, Sink, SinkWriter};
use pelton_model::batch::{Batch, RowKind};
use pelton_model::id::CheckpointId;
use pelton_model::schema::{DataType, Schema};
use pelton_model::{Error, ErrorCode, Result};

use super::commit::{self, sync_folders};
use super::names;
use super::owner::{Held, Owner};
use super::parquet::Layout;
use super::part::{Encoding, Hidden, unwritable};
use super::partition::Partitions;
use super::rows::Lines;
use super::writer::Writer;
use super::{Kind, kind, refuse_of};
use crate::options::Options;
use crate::text::{TimeFormat, kind_word as word};
use crate::{OptionMap, SinkRequest, StartId};

const ROLL_BYTES: u64 = 128 << 20;
const OPEN_FILES: usize = 64;
const OPEN_FILES_MAX: usize = 4_096;
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

pub(crate) fn delivery(_options: &OptionMap) -> Result<Delivery> {
    Ok(Delivery::Committed)
}

/// Makes the folder. Errors: as [`check_sink`]; `OutputFailed` for a folder that can't be made or holds output already.
pub(crate) fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    let mut plan = Plan::new(request.options, request.schema, request.batch)?;
    plan.start = request.start;
    if plan.single {
        plan.owner = plan.start.map(|start| Owner::new(&plan.path, start));
    }
    if plan.single && request.parallelism != 1 {
        let message = format!(
            "a single file is written by one task, not by {}",
            request.parallelism
        );
        return Err(Error::new(ErrorCode::GraphInvalid, message)
            .help("give the sink the parallelism 1, or write to a folder"));
    }
    if plan.single && plan.kind == Kind::Parquet && plan.start.is_some() {
        let message =
            "a single file of Parquet cannot be continued after a restart, as checkpoints ask for";
        return Err(Error::new(ErrorCode::GraphInvalid, message)
            .help("write to a folder, write csv or json, or run without checkpoints"));
    }
    let folder = plan.folder();
    fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
    if !request.resumed {
        let _held = plan.hold()?;
        clear(&plan)?;
        if plan.start.is_some() {
            // A start that was killed before its first checkpoint could not clean up.
            plan.remove_hidden()?;
        }
    }
    Ok(Arc::new(FilesSink {
        plan: Arc::new(plan),
        waiting: Arc::default(),
    }))
}

/// The options of a sink, read.
pub(super) struct Plan {
    path: PathBuf,
    kind: Kind,
    pub(super) encoding: Encoding,
    pub(super) roll_bytes: u64,
    pub(super) single: bool,
    overwrite: bool,
    pub(super) partitions: Option<Partitions>,
    pub(super) open_files: usize,
    /// Whether rows have their kind in front.
    pub(super) with_op: bool,
    /// Whether rows that change earlier ones are asked for, be it in another mode.
    changelog: bool,
    /// The columns that are written; none: all.
    pub(super) columns: Option<Vec<usize>>,
    /// The start of a job with checkpoints: files get their names with these.
    pub(super) start: Option<StartId>,
    /// Of a single file with checkpoints.
    owner: Option<Owner>,
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
            start: None,
            owner: None,
        })
    }

    /// Where the files are.
    pub(super) fn folder(&self) -> &Path {
        if !self.single {
            return &self.path;
        }
        self.path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// The final name of a file in a partition's folder, and the one that it has until then. With checkpoints the final one
    /// is [`committed_name`](Self::committed_name).
    pub(super) fn names_of(&self, partition: &str, task: u32, number: u32) -> (PathBuf, PathBuf) {
        if let (true, Some(name)) = (self.single, self.path.file_name()) {
            let hidden = format!(".{}.inprogress", name.to_string_lossy());
            return (self.path.clone(), self.folder().join(hidden));
        }
        let (extension, folder) = (self.extension(), self.path.join(partition));
        let name = names::visible((task, number), 0, None, extension);
        let hidden = names::hidden((task, number), self.start, extension);
        (folder.join(name), folder.join(hidden))
    }

    /// The right to do something with a single file. Errors: as [`Owner::hold`].
    pub(super) fn hold(&self) -> Result<Option<Held<'_>>> {
        self.owner.as_ref().map(Owner::hold).transpose()
    }

    /// The name of a file that is prepared at a checkpoint, below the folder.
    pub(super) fn committed_name(
        &self,
        partition: &str,
        file: (u32, u32),
        checkpoint: u64,
    ) -> String {
        if let (true, Some(name)) = (self.single, self.path.file_name()) {
            return name.to_string_lossy().into_owned();
        }
        let name = names::visible(file, checkpoint, self.start, self.extension());
        match partition {
            "" => name,
            _ => format!("{partition}/{name}"),
        }
    }

    fn extension(&self) -> &'static str {
        match self.kind {
            Kind::Text => "txt",
            Kind::Json => "jsonl",
            Kind::Csv => "csv",
            Kind::Parquet => "parquet",
        }
    }

    /// Refuses rows that change earlier ones where nothing would say so.
    pub(super) fn check_kinds(&self, batch: &Batch) -> Result<()> {
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
        let may_remove = !plan.overwrite || names::may_remove(&name, plan.start);
        if names::is_visible(&name) && may_remove {
            old.push(entry.path());
        } else if plan.overwrite && names::is_hidden(&name) && may_remove {
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

/// Files of some names in a folder and those of its partitions.
fn files_with(
    plan: &Plan,
    folder: &Path,
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| unwritable(folder, &e))? {
        let entry = entry.map_err(|e| unwritable(folder, &e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let partitions = plan.partitions.as_ref();
        if wanted(&name) {
            found.push(entry.path());
        } else if partitions.is_some_and(|p| p.names_folder(&name))
            && entry.file_type().is_ok_and(|t| t.is_dir())
        {
            files_with(plan, &entry.path(), wanted, found)?;
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
    fn writer(&self, index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer::new(
            self.plan.clone(),
            self.waiting.clone(),
            index,
        )))
    }

    fn finish(&self) -> Result<()> {
        let files =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.plan.show(files)
    }

    fn delivery(&self) -> Delivery {
        Delivery::Committed
    }

    fn commit(&self, committables: &[Vec<u8>]) -> Result<()> {
        let _held = self.plan.hold()?;
        commit::commit(self.plan.folder(), committables)
    }

    /// What earlier starts have left hidden is nobody's, but for a single file, which the writer goes on with. What is of a
    /// later start, which has passed this one, stays.
    fn recover(&self, committables: &[Vec<u8>]) -> Result<()> {
        self.commit(committables)?;
        self.plan.remove_hidden()
    }

    fn take_back(&self, after: CheckpointId, to: CheckpointId) -> Result<()> {
        let plan = &self.plan;
        let _held = plan.hold()?;
        if plan.single {
            // It is shown with the last checkpoint, and before that the writer goes on with it.
            let (place, hidden) = plan.names_of("", 0, 0);
            return match place.exists() && !hidden.exists() {
                true => fs::rename(&place, &hidden).map_err(|e| unwritable(&place, &e)),
                false => Ok(()),
            };
        }
        let lost = |name: &str| {
            let checkpoint = names::checkpoint(name);
            checkpoint.is_some_and(|checkpoint| checkpoint > after.0 && checkpoint <= to.0)
                && names::may_remove(name, plan.start)
        };
        let mut found = Vec::new();
        files_with(plan, plan.folder(), &lost, &mut found)?;
        found.iter().try_for_each(|path| commit::remove(path))?;
        sync_folders(plan.folder(), found.iter().map(PathBuf::as_path))
    }
}

impl Plan {
    fn remove_hidden(&self) -> Result<()> {
        if self.single {
            return Ok(());
        }
        let lost = |name: &str| names::is_hidden(name) && names::may_remove(name, self.start);
        let mut found = Vec::new();
        files_with(self, self.folder(), &lost, &mut found)?;
        found.iter().try_for_each(|path| commit::remove(path))
    }

    /// Gives complete files their names, and syncs their folders.
    pub(super) fn show(&self, files: Vec<Hidden>) -> Result<()> {
        let places = files.into_iter().map(Hidden::show);
        let places = places.collect::<Result<BTreeSet<_>>>()?;
        sync_folders(self.folder(), places.iter().map(PathBuf::as_path))
    }
}
