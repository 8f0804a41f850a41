//! Reads the places where settings stand: flags, variables, files.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use pelton_model::{Error, ErrorCode, Result};

use super::{Defaults, Layer, Origin, PROJECT_FILE, Settings, cores, folders, is_file, resolve};

/// Settings that were given as flags: (key, value, flag).
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The `--config` file.
    pub(crate) config: Option<PathBuf>,
    /// (key, value, the flag's name)
    pub(crate) values: Vec<(String, String, String)>,
}

impl Flags {
    /// Notes a value, if the flag was given.
    pub(crate) fn set(&mut self, key: &str, flag: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.values
                .push((key.to_owned(), value.to_string(), flag.to_owned()));
        }
    }

    /// Notes `--limit NAME=VALUE`, each. Errors: no `=`.
    pub(crate) fn limits(&mut self, limits: &[String]) -> Result<()> {
        for text in limits {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Error::new(
                    ErrorCode::Usage,
                    format!("--limit takes NAME=VALUE, not '{text}'"),
                )
            })?;
            self.values.push((
                format!("limits.{name}"),
                value.to_owned(),
                "--limit".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Reads all places. Errors: `Settings` (`Usage` for flags), `NotFound` for a `--config` file that is not there.
pub(crate) fn load(flags: &Flags) -> Result<Settings> {
    let (cache_dir, user_file) = folders();
    let mut layers = vec![of_flags(flags), of_variables(std::env::vars_os())?];
    if let Some(path) = &flags.config {
        if !is_file(path) {
            return Err(Error::new(
                ErrorCode::NotFound,
                format!("there is no settings file '{}'", path.display()),
            ));
        }
        layers.push(of_file(path)?);
    }
    let project = Path::new(PROJECT_FILE);
    for path in [Some(project), user_file.as_deref()].into_iter().flatten() {
        if is_file(path) {
            layers.push(of_file(path)?);
        }
    }
    resolve(
        &layers,
        &Defaults {
            parallelism: cores(),
            cache_dir,
        },
    )
}

pub(super) fn of_flags(flags: &Flags) -> Layer {
    // Of a flag that stands twice, the later one holds.
    let pairs = flags.values.iter().rev();
    let pairs =
        pairs.map(|(key, value, flag)| (key.clone(), value.clone(), Origin::Flag(flag.clone())));
    Layer {
        pairs: pairs.collect(),
    }
}

/// `PELTON_RUN__BATCH_ROWS` is `run.batch-rows`, `PELTON_STATE__ROCKSDB__BLOCK_SIZE` is `state.rocksdb.block_size`: names
/// that are not ours keep their underscores. Names without two underscores in a row are no settings.
pub(super) fn of_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Layer> {
    let mut pairs = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some((section, key)) = name
            .strip_prefix("PELTON_")
            .and_then(|n| n.split_once("__"))
        else {
            continue;
        };
        let value = value.into_string().map_err(|_| {
            Error::new(ErrorCode::Settings, "the value is not UTF-8").at("variable", name)
        })?;
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        let key = match key.split_once("__") {
            Some((inner, name)) => format!("{section}.{inner}.{name}"),
            None => format!("{section}.{key}").replace('_', "-"),
        };
        pairs.push((key, value, Origin::Variable(name.to_owned())));
    }
    Ok(Layer { pairs })
}

fn of_file(path: &Path) -> Result<Layer> {
    let text = fs::read_to_string(path).map_err(|e| {
        Error::new(
            ErrorCode::Settings,
            format!("the settings file cannot be read: {e}"),
        )
        .at("file", path.display())
    })?;
    of_text(path, &text)
}

pub(super) fn of_text(path: &Path, text: &str) -> Result<Layer> {
    let at_file = |e: Error| e.at("file", path.display());
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map(|s| {
            text.as_bytes()
                .iter()
                .take(s.start)
                .filter(|b| **b == b'\n')
                .count()
                + 1
        });
        let error = Error::new(
            ErrorCode::Settings,
            format!("this is not TOML: {}", e.message().replace('\n', ", ")),
        );
        at_file(match line {
            Some(line) => error.at("line", line),
            None => error,
        })
    })?;
    let origin = || Origin::File(path.to_owned());
    let mut pairs = Vec::new();
    for (section, value) in &table {
        let toml::Value::Table(inner) = value else {
            pairs.push((section.clone(), String::new(), origin()));
            continue;
        };
        for (key, value) in inner {
            let name = format!("{section}.{key}");
            match value {
                toml::Value::Table(options) => {
                    for (option, value) in options {
                        pairs.push((format!("{name}.{option}"), plain(value), origin()));
                    }
                }
                toml::Value::String(_) | toml::Value::Integer(_) => {
                    pairs.push((name, plain(value), origin()));
                }
                other => {
                    let message = format!("setting '{name}' cannot be a {}", other.type_str());
                    return Err(at_file(Error::new(ErrorCode::Settings, message)));
                }
            }
        }
    }
    Ok(Layer { pairs })
}

/// A value as it would stand behind a flag.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
