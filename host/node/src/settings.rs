//! The settings of this binary: one small tree, and where each value comes from.
//! Needs: model's limits. Invariant: a flag beats `PELTON_SECTION__KEY`, beats the `--config` file, beats
//! `pelton.toml`, beats the user's file, beats the default. Refuses: a key that it does not know.

use std::fmt;
use std::path::{Path, PathBuf};

use pelton_model::graph::WATERMARK_INTERVAL_MS;
use pelton_model::limits::{BATCH_ROWS_MAX, KEY_GROUPS_MAX, Limits, PARALLELISM_MAX};
use pelton_model::{Error, ErrorCode, Result};

mod durable;
mod sources;
mod value;

pub(crate) use durable::DurableSettings;
pub(crate) use sources::{Flags, load};
pub(crate) use value::nearest;
use value::{Kind, parse};

/// Everything that can be set, as the rest of the node gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// Tasks of an operator that has no parallelism of its own.
    pub(crate) parallelism: u32,
    /// Key groups of a job.
    pub(crate) max_parallelism: u32,
    /// The most rows of a batch.
    pub(crate) batch_rows: usize,
    /// Whether a job runs as a batch: no watermark before the end, final results only.
    pub(crate) batch: bool,
    /// How often watermarks that follow from times are emitted, where the job does not say it; 0: not before the end.
    pub(crate) watermark_interval_ms: u64,
    /// Where state is kept.
    pub(crate) state: StateSettings,
    /// Checkpoints, and what follows a failure.
    pub(crate) durable: DurableSettings,
    /// What may be deleted at any time: compiled components, the SDK's sources.
    pub(crate) cache_dir: PathBuf,
    /// What a job may use.
    pub(crate) limits: Limits,
    /// Each value with its origin, in the order of the tree.
    pub(crate) entries: Vec<Entry>,
}

/// Where state is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StateSettings {
    /// In RocksDB, instead of the heap.
    pub(crate) rocksdb: bool,
    /// What all state of the process may take in memory; the heap has no such bound.
    pub(crate) memory_bytes: u64,
    /// Each job has a folder in this one as long as it runs.
    pub(crate) dir: PathBuf,
    /// RocksDB's own options.
    pub(crate) options: Vec<(String, String)>,
}

/// One value and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) origin: Origin,
    pub(crate) about: &'static str,
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Values of one origin, as text.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Layer {
    pairs: Vec<(String, String, Origin)>,
}

/// What holds where nobody says anything.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Defaults {
    parallelism: u32,
    cache_dir: PathBuf,
}

/// One row of the tree.
struct Key {
    name: String,
    about: &'static str,
    kind: Kind,
    default: String,
}

const MODES: [&str; 2] = ["streaming", "batch"];
const BACKENDS: [&str; 2] = ["heap", "rocksdb"];
/// Less memory for state is no use.
const STATE_MEMORY_MIN: u64 = 8 << 20;
/// What stands before the name of an option of RocksDB.
const ROCKSDB: &str = "state.rocksdb.";

fn tree(defaults: &Defaults) -> Vec<Key> {
    let key = |name: &str, about, kind, default: String| Key {
        name: name.to_owned(),
        about,
        kind,
        default,
    };
    let parallelism = Kind::Count {
        max: u64::from(PARALLELISM_MAX),
    };
    let groups = Kind::Count {
        max: u64::from(KEY_GROUPS_MAX),
    };
    let rows = Kind::Count {
        max: BATCH_ROWS_MAX as u64,
    };
    let mut keys = vec![
        key(
            "run.parallelism",
            "tasks of an operator; by default the number of cores",
            parallelism,
            defaults.parallelism.to_string(),
        ),
        key(
            "run.max-parallelism",
            "key groups of a job",
            groups,
            "128".into(),
        ),
        key(
            "run.batch-rows",
            "the most rows of a batch",
            rows,
            "8192".into(),
        ),
        key(
            "run.mode",
            "streaming, or batch: no watermark before the end of the input, final results only",
            Kind::Choice(&MODES),
            MODES[0].into(),
        ),
        key(
            "run.watermark-interval",
            "how often watermarks are emitted, where the job does not say it; 0: not before the end of the input",
            Kind::Millis,
            WATERMARK_INTERVAL_MS.to_string(),
        ),
        key(
            "state.backend",
            "where state is kept: in memory, or in RocksDB on disk",
            Kind::Choice(&BACKENDS),
            BACKENDS[0].into(),
        ),
        key(
            "state.memory",
            "memory for all state in RocksDB",
            Kind::Bytes,
            (512 << 20).to_string(),
        ),
        key(
            "state.dir",
            "state in RocksDB, in a folder for each job that is removed at its end",
            Kind::Path,
            defaults.cache_dir.join("state").display().to_string(),
        ),
        key(
            "cache.dir",
            "compiled components and the SDK's sources",
            Kind::Path,
            defaults.cache_dir.display().to_string(),
        ),
    ];
    let limits = Limits::default();
    keys.extend(durable::keys());
    keys.extend(Limits::NAMES.iter().map(|(name, about)| {
        let default = limits.get(name).unwrap_or_default().to_string();
        let kind = if name.contains("-ms-") {
            Kind::Millis
        } else {
            Kind::Bytes
        };
        key(&format!("limits.{name}"), about, kind, default)
    }));
    keys
}

/// A duration such as `10s`, in milliseconds; none for text that is no duration.
pub(crate) fn millis(text: &str) -> Option<u64> {
    parse(Kind::Millis, text).ok()
}

/// Puts the layers together, the first one winning.
fn resolve(layers: &[Layer], defaults: &Defaults) -> Result<Settings> {
    let tree = tree(defaults);
    for (key, _, origin) in layers.iter().flat_map(|l| &l.pairs) {
        if !tree.iter().any(|k| k.name == *key) && option(key).is_none() {
            return Err(unknown(key, origin, &tree));
        }
    }
    let mut settings = Settings {
        parallelism: 0,
        max_parallelism: 0,
        batch_rows: 0,
        batch: false,
        watermark_interval_ms: 0,
        state: StateSettings {
            rocksdb: false,
            memory_bytes: 0,
            dir: PathBuf::new(),
            options: Vec::new(),
        },
        durable: DurableSettings::default(),
        cache_dir: PathBuf::new(),
        limits: Limits::default(),
        entries: Vec::new(),
    };
    for key in tree {
        let found = layers
            .iter()
            .flat_map(|l| &l.pairs)
            .find(|(name, ..)| *name == key.name);
        let (text, origin) = match found {
            Some((_, text, origin)) => (text.clone(), origin.clone()),
            None => (key.default.clone(), Origin::Default),
        };
        let bad = |why: String| {
            refused(&origin, format!("setting '{}' {why}", key.name))
                .help(format!("it takes {}", key.kind))
        };
        let value = settings.set(&key, &text).map_err(bad)?;
        settings.entries.push(Entry {
            key: key.name,
            value,
            origin,
            about: key.about,
        });
    }
    settings.take_options(layers);
    settings.durable.check()?;
    Ok(settings)
}

/// The name of an option of RocksDB.
fn option(key: &str) -> Option<&str> {
    key.strip_prefix(ROCKSDB).filter(|name| !name.is_empty())
}

impl Settings {
    /// Takes RocksDB's own options: it says itself which there are.
    fn take_options(&mut self, layers: &[Layer]) {
        for (key, value, origin) in layers.iter().flat_map(|l| &l.pairs) {
            let Some(name) = option(key) else { continue };
            if self.state.options.iter().any(|(n, _)| n == name) {
                continue;
            }
            self.state.options.push((name.to_owned(), value.clone()));
            self.entries.push(Entry {
                key: key.clone(),
                value: value.clone(),
                origin: origin.clone(),
                about: "an option of RocksDB, by its own name",
            });
        }
    }

    /// Sets one field; returns the value as it is shown. The error is the end of a sentence about the setting.
    fn set(&mut self, key: &Key, text: &str) -> Result<String, String> {
        let name = key.name.as_str();
        match key.kind {
            Kind::Path if text.is_empty() => return Err("is empty".to_owned()),
            Kind::Path => {
                let path = PathBuf::from(text);
                match name {
                    "state.dir" => self.state.dir = path,
                    _ => self.cache_dir = path,
                }
                return Ok(text.to_owned());
            }
            Kind::Choice(choices) => {
                let chosen = choices.iter().position(|c| *c == text);
                let chosen = chosen.ok_or_else(|| format!("cannot be '{text}'"))?;
                match name {
                    "run.mode" => self.batch = chosen == 1,
                    "state.backend" => self.state.rocksdb = chosen == 1,
                    other => self.durable.choose(other, chosen),
                }
                return Ok(text.to_owned());
            }
            Kind::Url => {
                self.durable.set_url(name, text);
                return Ok(text.to_owned());
            }
            _ => {}
        }
        let number = parse(key.kind, text)?;
        match name {
            "run.parallelism" => self.parallelism = u32::try_from(number).unwrap_or(u32::MAX),
            "run.max-parallelism" => {
                self.max_parallelism = u32::try_from(number).unwrap_or(u32::MAX)
            }
            "run.batch-rows" => self.batch_rows = usize::try_from(number).unwrap_or(usize::MAX),
            "run.watermark-interval" => self.watermark_interval_ms = number,
            "state.memory" if number < STATE_MEMORY_MIN => {
                return Err(format!("is less than {STATE_MEMORY_MIN}"));
            }
            "state.memory" => self.state.memory_bytes = number,
            other if self.durable.set(other, number) => {}
            other => {
                let limit = other.strip_prefix("limits.").unwrap_or(other);
                self.limits
                    .set(limit, number)
                    .map_err(|e| format!("is not allowed: {}", e.message()))?;
            }
        }
        Ok(number.to_string())
    }
}

fn refused(origin: &Origin, message: String) -> Error {
    match origin {
        Origin::Flag(_) => Error::new(ErrorCode::Usage, message),
        Origin::File(path) => Error::new(ErrorCode::Settings, message).at("file", path.display()),
        Origin::Variable(name) => Error::new(ErrorCode::Settings, message).at("variable", name),
        Origin::Default => Error::bug(message),
    }
}

fn unknown(key: &str, origin: &Origin, tree: &[Key]) -> Error {
    let names: Vec<&str> = tree.iter().map(|k| k.name.as_str()).collect();
    if let (Origin::Flag(_), Some(limit)) = (origin, key.strip_prefix("limits.")) {
        let limits: Vec<&str> = Limits::NAMES.iter().map(|(n, _)| *n).collect();
        let near = nearest(limit, &limits)
            .map(|n| format!(", did you mean '{n}'?"))
            .unwrap_or_default();
        return refused(origin, format!("there is no limit '{limit}'{near}"))
            .help(format!("the limits are: {}", limits.join(", ")));
    }
    let near = nearest(key, &names)
        .map(|n| format!(", did you mean '{n}'?"))
        .unwrap_or_default();
    refused(origin, format!("there is no setting '{key}'{near}"))
        .help("`pelton config show` lists what there is")
}

/// The user's own folders; where there is no home, a temporary one stands in for the cache.
fn folders() -> (PathBuf, Option<PathBuf>) {
    use etcetera::BaseStrategy as _;
    match etcetera::choose_base_strategy() {
        Ok(base) => (
            base.cache_dir().join("pelton"),
            Some(base.config_dir().join("pelton").join("pelton.toml")),
        ),
        Err(_) => (std::env::temp_dir().join("pelton-cache"), None),
    }
}

/// The file that belongs to the folder one works in.
const PROJECT_FILE: &str = "pelton.toml";

fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(1).min(PARALLELISM_MAX)
}

fn is_file(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests;
