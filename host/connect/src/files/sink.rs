//! The sink: files that appear under their names only when they are complete.
//!
//! | option | value |
//! |---|---|
//! | `path` | a folder, made if it is not there; with `single`, one file |
//! | `format` | `text`, `json` or `csv` |
//! | `header` | of CSV: `true` (default): each file begins with the names of the columns |
//! | `timestamps` | `sql` (default of CSV): `yyyy-MM-dd HH:mm:ss.SSS`; `millis` (default of JSON); `rfc3339` |
//! | `roll_bytes` | a file of at least so many bytes is closed and the next one begun; 128 MiB by default |
//! | `single` | `true`: one file, there when the job ends; for one task |
//! | `overwrite` | `true`: what an earlier run wrote here is removed first; else it is refused |
//!
//! A task writes `part-TASK-NUMBER.EXT`, under a hidden name until the file is full and synced, or all tasks have
//! finished; then it is renamed, and the folder synced. After an error, hidden files are removed; complete ones stay.
//! A changelog gets its kinds (`+I`, `-U`, `+U`, `-D`) as a first column `op`. Text needs rows of one string: its lines.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use pelton_engine::connector::{Sink, SinkWriter};
use pelton_model::batch::{Batch, RowKind};
use pelton_model::schema::{DataType, Schema};
use pelton_model::{Error, ErrorCode, Result};

use super::{Kind, kind, refuse_of_csv};
use crate::options::Options;
use crate::text::{TimeFormat, write_csv_text, write_csv_value, write_json_text, write_json_value};
use crate::{OptionMap, SinkRequest};

/// Bytes handed to the system at once.
const WRITE_BYTES: usize = 256 << 10;
const ROLL_BYTES: u64 = 128 << 20;
const SINK_OPTIONS: [&str; 7] = [
    "path",
    "format",
    "header",
    "timestamps",
    "roll_bytes",
    "single",
    "overwrite",
];

/// Whether the options make a sink for rows of `schema`.
pub(crate) fn check_sink(options: &OptionMap, schema: &Schema) -> Result<()> {
    Plan::new(options, schema).map(|_| ())
}

/// Makes the folder. Errors: as [`check_sink`]; `OutputFailed` for a folder that can't be made or holds output already.
pub(crate) fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    let plan = Plan::new(request.options, request.schema)?;
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
    header: bool,
    times: TimeFormat,
    roll_bytes: u64,
    single: bool,
    overwrite: bool,
    names: Vec<String>,
}

impl Plan {
    fn new(map: &OptionMap, schema: &Schema) -> Result<Self> {
        let options = Options::new("files", map, &SINK_OPTIONS)?;
        let path = PathBuf::from(options.require("path", "the folder to write to")?);
        let kind = kind(&options)?;
        if kind != Kind::Csv {
            refuse_of_csv(&options, &["header"])?;
        }
        if kind == Kind::Text
            && !matches!(schema.fields.as_slice(), [f] if f.data_type == DataType::String)
        {
            let message =
                format!("a sink of text lines takes rows of one string field, not {{{schema}}}");
            return Err(Error::new(ErrorCode::GraphInvalid, message)
                .help("map to one string before, or write json or csv"));
        }
        let times = if kind == Kind::Csv {
            TimeFormat::Sql
        } else {
            TimeFormat::Millis
        };
        Ok(Self {
            path,
            kind,
            header: options.flag("header", true)?,
            times: options.choice("timestamps", &TimeFormat::CHOICES, times)?,
            roll_bytes: options
                .number("roll_bytes", 1, u64::MAX)?
                .unwrap_or(ROLL_BYTES),
            single: options.flag("single", false)?,
            overwrite: options.flag("overwrite", false)?,
            names: schema.fields.iter().map(|f| f.name.clone()).collect(),
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

    /// The final name of a file, and the one that it has until then.
    fn names_of(&self, task: u32, number: u32) -> (PathBuf, PathBuf) {
        let extension = match self.kind {
            Kind::Text => "txt",
            Kind::Json => "jsonl",
            Kind::Csv => "csv",
        };
        let last = match self.path.file_name() {
            Some(name) if self.single => name.to_string_lossy().into_owned(),
            _ => format!("part-{task}-{number}.{extension}"),
        };
        let place = if self.single {
            self.path.clone()
        } else {
            self.path.join(&last)
        };
        (place, self.folder().join(format!(".{last}.inprogress")))
    }
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
        for entry in fs::read_dir(&plan.path).map_err(|e| unwritable(&plan.path, &e))? {
            let entry = entry.map_err(|e| unwritable(&plan.path, &e))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("part-") {
                old.push(entry.path());
            } else if plan.overwrite && name.starts_with(".part-") && name.ends_with(".inprogress")
            {
                // A run that was killed could not clean up.
                old.push(entry.path());
            }
        }
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

fn unwritable(path: &Path, reason: &io::Error) -> Error {
    Error::new(
        ErrorCode::OutputFailed,
        format!("output '{}' cannot be written: {reason}", path.display()),
    )
}

struct FilesSink {
    plan: Arc<Plan>,
    /// Complete files that get their names when all tasks have finished.
    waiting: Arc<Mutex<Vec<Hidden>>>,
}

impl Sink for FilesSink {
    fn writer(&self, index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            plan: self.plan.clone(),
            waiting: self.waiting.clone(),
            task: index,
            number: 0,
            part: None,
        }))
    }

    fn finish(&self) -> Result<()> {
        let files =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        files.into_iter().try_for_each(Hidden::show)?;
        sync_folder(self.plan.folder())
    }
}

/// A file under its hidden name; removed when it is dropped before it is shown.
struct Hidden {
    hidden: PathBuf,
    place: PathBuf,
    shown: bool,
}

impl Hidden {
    fn show(mut self) -> Result<()> {
        fs::rename(&self.hidden, &self.place).map_err(|e| unwritable(&self.place, &e))?;
        self.shown = true;
        Ok(())
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.shown {
            // There is nobody left to tell; the file is hidden.
            let _ = fs::remove_file(&self.hidden);
        }
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| unwritable(folder, &e))
}

struct Writer {
    plan: Arc<Plan>,
    waiting: Arc<Mutex<Vec<Hidden>>>,
    task: u32,
    number: u32,
    part: Option<Part>,
}

/// The file in work.
struct Part {
    file: File,
    hidden: Hidden,
    /// What the system has not got yet.
    buf: Vec<u8>,
    /// What it has got.
    bytes: u64,
    /// Whether rows have their kind in front.
    with_op: bool,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        if batch.is_empty() {
            return Ok(());
        }
        let changes = batch.kinds().is_some();
        // A file is a changelog from its beginning or not at all.
        if changes && self.part.as_ref().is_some_and(|p| !p.with_op) {
            if self.plan.single {
                return Err(Error::bug(
                    "a changelog follows plain rows in a single file",
                ));
            }
            self.roll()?;
        }
        let plan = self.plan.clone();
        for row in 0..batch.rows() {
            let part = self.part(changes)?;
            plan.write_row(&mut part.buf, part.with_op, &batch, row)?;
            if part.buf.len() >= WRITE_BYTES {
                part.drain()?;
            }
            if part.bytes + part.buf.len() as u64 >= plan.roll_bytes && !plan.single {
                self.roll()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.plan.single {
            self.part(false)?;
        }
        if let Some(hidden) = self.close()? {
            self.waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(hidden);
        }
        Ok(())
    }
}

impl Writer {
    /// The file in work, begun if there is none.
    fn part(&mut self, with_op: bool) -> Result<&mut Part> {
        if self.part.is_none() {
            let (place, hidden) = self.plan.names_of(self.task, self.number);
            self.number += 1;
            let file = File::create(&hidden).map_err(|e| unwritable(&hidden, &e))?;
            let hidden = Hidden {
                hidden,
                place,
                shown: false,
            };
            let mut part = Part {
                file,
                hidden,
                buf: Vec::with_capacity(WRITE_BYTES * 2),
                bytes: 0,
                with_op,
            };
            self.plan.write_header(&mut part.buf, with_op);
            self.part = Some(part);
        }
        self.part
            .as_mut()
            .ok_or_else(|| Error::bug("no file is open"))
    }

    /// Ends the file in work and shows it.
    fn roll(&mut self) -> Result<()> {
        if let Some(hidden) = self.close()? {
            hidden.show()?;
            sync_folder(self.plan.folder())?;
        }
        Ok(())
    }

    /// Ends the file in work: all its bytes are on the disk.
    fn close(&mut self) -> Result<Option<Hidden>> {
        let Some(mut part) = self.part.take() else {
            return Ok(None);
        };
        part.drain()?;
        part.file
            .sync_all()
            .map_err(|e| unwritable(&part.hidden.place, &e))?;
        Ok(Some(part.hidden))
    }
}

impl Part {
    fn drain(&mut self) -> Result<()> {
        self.file
            .write_all(&self.buf)
            .map_err(|e| unwritable(&self.hidden.place, &e))?;
        self.bytes += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
}

impl Plan {
    fn write_header(&self, out: &mut Vec<u8>, with_op: bool) {
        if self.kind != Kind::Csv || !self.header {
            return;
        }
        let names = with_op
            .then_some("op")
            .into_iter()
            .chain(self.names.iter().map(String::as_str));
        for (i, name) in names.enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_csv_text(out, name.as_bytes());
        }
        out.push(b'\n');
    }

    fn write_row(&self, out: &mut Vec<u8>, with_op: bool, batch: &Batch, row: usize) -> Result<()> {
        let kind = batch
            .kinds()
            .and_then(|k| k.get(row))
            .copied()
            .unwrap_or(RowKind::Insert as u8);
        match self.kind {
            Kind::Csv => {
                if with_op {
                    out.extend_from_slice(op(kind).as_bytes());
                }
                for (i, column) in batch.columns().iter().enumerate() {
                    if i > 0 || with_op {
                        out.push(b',');
                    }
                    write_csv_value(out, column.as_ref(), row, self.times);
                }
            }
            Kind::Json => {
                out.extend_from_slice(if with_op { b"{\"op\":\"" } else { b"{" });
                if with_op {
                    out.extend_from_slice(op(kind).as_bytes());
                    out.push(b'"');
                }
                for (i, (name, column)) in self.names.iter().zip(batch.columns()).enumerate() {
                    if i > 0 || with_op {
                        out.push(b',');
                    }
                    write_json_text(out, name);
                    out.push(b':');
                    write_json_value(out, column.as_ref(), row, self.times);
                }
                out.push(b'}');
            }
            Kind::Text => {
                if kind != RowKind::Insert as u8 {
                    return Err(Error::new(
                        ErrorCode::OutputFailed,
                        "text lines cannot hold a changelog",
                    )
                    .help("write json or csv, which have a column for it"));
                }
                let lines = batch
                    .columns()
                    .first()
                    .and_then(|c| c.as_string_opt::<i32>());
                let line = lines
                    .filter(|l| l.is_valid(row))
                    .map_or("", |l| l.value(row));
                out.extend_from_slice(line.as_bytes());
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

fn op(kind: u8) -> &'static str {
    match kind {
        k if k == RowKind::UpdateBefore as u8 => "-U",
        k if k == RowKind::UpdateAfter as u8 => "+U",
        k if k == RowKind::Delete as u8 => "-D",
        _ => "+I",
    }
}
