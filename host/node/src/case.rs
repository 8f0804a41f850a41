//! A user's cases: a folder each, with what goes in, what is set, and what must come out.
//! Needs: wire_up, live. Invariant: a case runs in the real engine, and writes nothing into its own folder unless it is
//! told to take the new output as the expected one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use pelton_model::{Error, ErrorCode, Result};
use pelton_udf::NoLog;
use serde::Deserialize;

use crate::live::drive;
use crate::settings::Settings;
use crate::wire_up::{Beginning, Params, Surroundings, accept, open};

mod expected;

use expected::{Actual, Expected};

/// A folder below `tests/cases`.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    folder: PathBuf,
    file: CaseFile,
}

/// `case.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct CaseFile {
    /// `{case}` is the case's folder, `{out}` a new folder for output.
    params: BTreeMap<String, toml::Value>,
    /// One or several; by default 1 and 2.
    parallelism: Option<Parallelism>,
    batch_rows: Option<usize>,
    order: Order,
    /// The code of the error that the run must end with.
    fails: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Parallelism {
    One(u32),
    Many(Vec<u32>),
}

/// Whether the order of lines matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    #[default]
    Any,
    Exact,
}

/// One run of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) parallelism: u32,
    /// Take the output as the expected one.
    pub(crate) update: bool,
}

/// All cases of a package, ascending by name. Errors: `Settings` for a `case.toml` that is not understood.
pub(crate) fn find(package: &Path) -> Result<Vec<Case>> {
    let root = package.join("tests").join("cases");
    let Ok(entries) = fs::read_dir(&root) else {
        return Ok(Vec::new());
    };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect();
    folders.sort();
    folders.into_iter().map(Case::load).collect()
}

impl Case {
    fn load(folder: PathBuf) -> Result<Self> {
        let path = folder.join("case.toml");
        let bad =
            |message: String| Error::new(ErrorCode::Settings, message).at("file", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(bad(format!("the case cannot be read: {e}"))),
        };
        let file: CaseFile =
            toml::from_str(&text).map_err(|e| bad(e.message().replace('\n', ", ")))?;
        if file.params.values().any(|v| v.is_table() || v.is_array()) {
            return Err(bad(
                "a parameter is a text, a number or a boolean".to_owned()
            ));
        }
        if let Some(code) = file
            .fails
            .as_deref()
            .filter(|c| ErrorCode::parse(c).is_none())
        {
            return Err(bad(format!("there is no error code '{code}'")));
        }
        let name = folder
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Self { name, folder, file })
    }

    /// The parallelisms to run at.
    pub(crate) fn parallelisms(&self) -> Vec<u32> {
        match &self.file.parallelism {
            None => vec![1, 2],
            Some(Parallelism::One(p)) => vec![*p],
            Some(Parallelism::Many(many)) => many.clone(),
        }
    }

    /// Runs it once. `scratch` is a folder of this trial's own. The difference, if there is one.
    ///
    /// Errors: what the engine or the system refuses, unless the case expects that.
    pub(crate) fn run(
        &self,
        component: &Path,
        scratch: &Path,
        settings: &Settings,
        trial: Trial,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<String>> {
        let io = |e: std::io::Error| {
            Error::new(
                ErrorCode::Io,
                format!("the output of a case cannot be handled: {e}"),
            )
            .at("folder", scratch.display())
        };
        if scratch.exists() {
            fs::remove_dir_all(scratch).map_err(io)?;
        }
        fs::create_dir_all(scratch).map_err(io)?;
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let mut settings = settings.clone();
        settings.parallelism = trial.parallelism;
        settings.batch_rows = self.file.batch_rows.unwrap_or(settings.batch_rows);
        let around = Surroundings {
            output: stdout.clone(),
            log: Arc::new(NoLog),
            stop: stop.clone(),
        };
        let ran = accept(component, self.params(scratch)?, &settings, None)
            .and_then(|accepted| open(&accepted, &settings, &around, Beginning::Plain))
            .and_then(|job| drive(job, stop, &mut |_, _| {}));
        if let Some(difference) = self.compare_failure(ran.map(|_| ()))? {
            return Ok(Some(difference));
        }
        let stdout = std::mem::take(&mut *stdout.lock().unwrap_or_else(PoisonError::into_inner));
        let actual = Actual::read(&stdout, scratch).map_err(io)?;
        if trial.update {
            actual.write(&self.folder, self.file.order).map_err(io)?;
            return Ok(None);
        }
        let expected = Expected::read(&self.folder).map_err(io)?;
        if expected.is_nothing() && self.file.fails.is_none() {
            return Ok(Some(
                "neither expected.txt nor expected/ is there: `pelton test --update` makes them"
                    .into(),
            ));
        }
        Ok(expected.difference(&actual, self.file.order))
    }

    /// The difference in how it ended. Errors: one that the case does not speak of.
    fn compare_failure(&self, ran: Result<()>) -> Result<Option<String>> {
        let Some(wanted) = self.file.fails.as_deref().and_then(ErrorCode::parse) else {
            return ran.map(|()| None);
        };
        Ok(match ran {
            Ok(()) => Some(format!(
                "it should have failed with {wanted}, but did not fail"
            )),
            Err(e) if e.code() == wanted => None,
            Err(e) => Some(format!(
                "it should have failed with {wanted}, but failed with {}: {e}",
                e.code()
            )),
        })
    }

    fn params(&self, scratch: &Path) -> Result<Params> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map(|p| p.display().to_string())
                .map_err(|e| Error::new(ErrorCode::Io, e.to_string()))
        };
        let (case, out) = (absolute(&self.folder)?, absolute(scratch)?);
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => text.replace("{case}", &case).replace("{out}", &out),
            other => other.to_string(),
        };
        Ok(self
            .file
            .params
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(text: &str) -> Result<Case> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("case.toml"), text).unwrap();
        Case::load(folder.path().to_owned())
    }

    #[test]
    fn a_case_names_its_own_folder_and_its_output() {
        let case =
            case("parallelism = 4\n[params]\ninput = \"{case}/in.txt\"\noutput = \"{out}\"\nn = 3")
                .unwrap();
        assert_eq!(case.parallelisms(), [4]);
        let params = case.params(Path::new("/scratch")).unwrap();
        let input = format!("{}/in.txt", case.folder.display());
        let expected = [
            ("input", input.as_str()),
            ("n", "3"),
            ("output", "/scratch"),
        ];
        assert_eq!(params, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn by_default_a_case_runs_with_one_task_and_with_two() {
        assert_eq!(case("").unwrap().parallelisms(), [1, 2]);
        assert_eq!(case("parallelism = [1, 3]").unwrap().parallelisms(), [1, 3]);
    }

    #[test]
    fn what_a_case_does_not_know_is_refused() {
        for text in [
            "paralelism = 1",
            "order = \"some\"",
            "fails = \"PLT-9999\"",
            "[params]\na = [1]",
        ] {
            assert_eq!(
                case(text).unwrap_err().code(),
                ErrorCode::Settings,
                "{text}"
            );
        }
    }

    #[test]
    fn an_expected_failure_is_no_failure() {
        let case = case("fails = \"plt-0302\"").unwrap();
        let failed = |code| Err(Error::new(code, "x"));
        assert_eq!(
            case.compare_failure(failed(ErrorCode::BadRecord)).unwrap(),
            None
        );
        assert!(
            case.compare_failure(failed(ErrorCode::Io))
                .unwrap()
                .unwrap()
                .contains("failed with PLT-0402: x")
        );
        assert!(
            case.compare_failure(Ok(()))
                .unwrap()
                .unwrap()
                .contains("did not fail")
        );
    }
}
