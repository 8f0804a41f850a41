//! `journal`: one file that stands for a system without transactions, for tests of what reaches such a system.
//!
//! | option | value |
//! |---|---|
//! | `path` | the file |
//! | `mode` | `append` (default): rows in the order in which they are applied; `upsert`: one row a key |
//! | `keys` | of `upsert`: the names of the columns that are the key, with commas between |
//! | `timestamps` | `millis` (default), `sql` or `rfc3339` |
//! | `overwrite` | `true`: what an earlier run wrote here is removed first; else it is refused |
//!
//! `append`: JSON Lines; rows of a changelog begin with their kind, as the field `op`. With checkpoints it is written to
//! through [`write_ahead`](crate::write_ahead): behind the rows of each task and checkpoint stands a marker, a line such as
//! `#applied checkpoint=7 task=0 rows=3`. Whoever reads the file passes over lines that begin with `#`. What stands behind
//! the last marker is half applied, and cut off before anything else is written. Each row is there once.
//!
//! `upsert`: a line a key, in the order of the keys: the key as a JSON array, a tab, and the row; see [`upsert`]. Rows that
//! come again after a restart replace what is there.
//!
//! It is for tests and small results: a file of its own for each sink, all markers and upserted rows in memory, no rolling.

mod append;
#[cfg(test)]
mod tests;
mod upsert;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pelton_engine::connector::{Delivery, Sink};
use pelton_model::schema::Schema;
use pelton_model::{Error, ErrorCode, Result};

use self::append::Journal;
use self::upsert::Upsert;
use crate::options::Options;
use crate::text::TimeFormat;
use crate::write_ahead::WriteAhead;
use crate::{OptionMap, SinkRequest};

const OPTIONS: [&str; 5] = ["path", "mode", "keys", "timestamps", "overwrite"];

/// How rows become lines.
#[derive(Clone, Debug)]
struct Lines {
    names: Vec<String>,
    times: TimeFormat,
}

struct Plan {
    path: PathBuf,
    /// The columns of the key; none to append.
    keys: Option<Vec<usize>>,
    lines: Lines,
    overwrite: bool,
}

impl Plan {
    fn new(map: &OptionMap, schema: &Schema) -> Result<Self> {
        let options = Options::new("journal", map, &OPTIONS)?;
        let path = PathBuf::from(options.require("path", "the file to write to")?);
        let keys = match (is_upsert(&options)?, options.get("keys")) {
            (false, None) => None,
            (false, Some(_)) => return Err(options.bad("keys", "left out, or 'mode = upsert'")),
            (true, None) => return Err(options.missing("keys", "the columns of the key")),
            (true, Some(names)) => {
                let column = |name: &str| {
                    let unknown = || {
                        let message = format!("the rows of a journal have no column '{name}'");
                        Error::new(ErrorCode::GraphInvalid, message)
                    };
                    schema.index_of(name).ok_or_else(unknown)
                };
                let columns = names.split(',').map(|name| column(name.trim()));
                Some(columns.collect::<Result<_>>()?)
            }
        };
        Ok(Self {
            path,
            keys,
            lines: Lines {
                names: schema.fields.iter().map(|f| f.name.clone()).collect(),
                times: options.choice("timestamps", &TimeFormat::CHOICES, TimeFormat::Millis)?,
            },
            overwrite: options.flag("overwrite", false)?,
        })
    }
}

fn is_upsert(options: &Options<'_>) -> Result<bool> {
    options.choice("mode", &[("append", false), ("upsert", true)], false)
}

pub(crate) fn check_sink(options: &OptionMap, schema: &Schema) -> Result<()> {
    Plan::new(options, schema).map(|_| ())
}

pub(crate) fn delivery(options: &OptionMap) -> Result<Delivery> {
    let options = Options::new("journal", options, &OPTIONS)?;
    Ok(match is_upsert(&options)? {
        true => Delivery::Idempotent,
        false => Delivery::Committed,
    })
}

pub(crate) fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    let plan = Plan::new(request.options, request.schema)?;
    if !request.resumed {
        clear(&plan)?;
    }
    Ok(match plan.keys {
        None => {
            let journal = Journal::new(plan.path, plan.lines);
            Arc::new(WriteAhead::new(journal, request.start.is_some()))
        }
        Some(keys) => Arc::new(Upsert::open(plan.path, plan.lines, keys)?),
    })
}

fn clear(plan: &Plan) -> Result<()> {
    if !plan.path.exists() {
        return Ok(());
    }
    if !plan.overwrite {
        let message = format!("output '{}' is there already", plan.path.display());
        return Err(Error::new(ErrorCode::OutputFailed, message)
            .help("write to another place, remove it, or set the option overwrite = true"));
    }
    fs::remove_file(&plan.path).map_err(|e| refused(&plan.path, &e))
}

/// The bytes of a file; none where it is not there.
fn content(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|e| refused(path, &e)),
    }
}

/// Puts a file in the place of the one that is there, and its folder if there is none.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e| refused(path, &e);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}.inprogress"));
    let mut file = fs::File::create(&hidden).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&hidden, path).map_err(failed)?;
    sync_folder(path)
}

/// Syncs the folder of a file.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| refused(folder, &e))
}

fn refused(path: &Path, reason: &io::Error) -> Error {
    let message = format!("output '{}' cannot be written: {reason}", path.display());
    Error::new(ErrorCode::OutputFailed, message)
}
