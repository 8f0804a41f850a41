//! The labs: jobs whose every knob is a parameter, against what another engine makes of the same input.
//! Needs: a folder a case in `tests/it/cases/labs/<lab>` (or in `PELTON_LAB_CASES/<lab>`, for more of them), with `case.json`,
//! the inputs, and the expected `out.jsonl` and `late.jsonl`; the labs' components. Cases called `..-random` were made by a seeded
//! generator and answered by the definition of their mode.
//!
//! A case runs at several sizes of a batch and with both kinds of state. Its results are compared as JSON: numbers as numbers, in
//! order or as a multiset, as the case says.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::components::repository;
use crate::examples::Run;

const BATCH_ROWS: [&str; 3] = ["1", "7", "8192"];
const STATE: [&str; 2] = ["heap", "rocksdb"];
/// What floats may differ by.
const EPSILON: f64 = 1e-9;

#[test]
fn windows_are_those_of_flink() {
    check_lab("window");
}

#[test]
fn joins_are_those_of_flink() {
    check_lab("join");
}

#[test]
fn keyed_functions_are_those_of_flink() {
    check_lab("process");
}

#[test]
fn watermarks_are_those_of_flink() {
    check_lab("watermark");
}

/// A case as its folder says.
struct Case {
    folder: PathBuf,
    name: String,
    params: Vec<(String, String)>,
    parallelism: String,
    ordered: bool,
}

impl Case {
    fn read(folder: PathBuf) -> Self {
        let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let params = case["params"].as_object().unwrap().iter();
        let params = params.map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            // An input is named relative to the folder.
            let file = folder.join(&value);
            let is_file = !value.is_empty() && file.is_file();
            let value = match is_file {
                true => file.display().to_string(),
                false => value,
            };
            (name.clone(), value)
        });
        Self {
            params: params.collect(),
            parallelism: case["parallelism"].as_u64().unwrap_or(1).to_string(),
            ordered: case["compare"] == "ordered",
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            folder,
        }
    }

    /// What is wrong with a run of the case.
    fn run(&self, run: &Run, lab: &str, batch_rows: &str, state: &str) -> Result<(), String> {
        let output = format!("{lab}-{}-{batch_rows}-{state}", self.name);
        let mut params: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &self.params {
            params.push((name, value));
        }
        params.push(("output", &output));
        let flags = [
            "-p",
            &self.parallelism,
            "--batch-rows",
            batch_rows,
            "--state",
            state,
        ];
        let ended = run.ended(&format!("lab-{lab}"), &params, &flags);
        if ended.code != Some(0) {
            return Err(ended.stderr);
        }
        let folder = run.place.work().join(&output);
        for file in ["out.jsonl", "late.jsonl"] {
            let (have, want) = (lines(&folder.join(file)), lines(&self.folder.join(file)));
            compare(&have, &want, self.ordered).map_err(|why| format!("{file}: {why}"))?;
        }
        Ok(())
    }
}

/// The objects of a file; none if it is not there.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What is wrong with results.
fn compare(have: &[Value], want: &[Value], ordered: bool) -> Result<(), String> {
    let mut left: Vec<&Value> = have.iter().collect();
    for (at, one) in want.iter().enumerate() {
        let found = match ordered {
            true => left.first().filter(|v| is_same(v, one)).map(|_| 0),
            false => left.iter().position(|v| is_same(v, one)),
        };
        match found {
            Some(i) => drop(left.remove(i)),
            None if ordered => {
                let have = left
                    .first()
                    .map_or_else(|| "nothing".to_owned(), |v| v.to_string());
                return Err(format!("line {}: {have} instead of {one}", at + 1));
            }
            None => return Err(format!("{one} is missing")),
        }
    }
    match left.first() {
        Some(more) => Err(format!(
            "{} lines instead of {}: {more} is too much",
            have.len(),
            want.len()
        )),
        None => Ok(()),
    }
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let whole = x.as_i64().zip(y.as_i64());
            whole.map_or_else(
                || match x.as_f64().zip(y.as_f64()) {
                    Some((x, y)) => (x - y).abs() <= EPSILON * x.abs().max(1.0),
                    None => false,
                },
                |(x, y)| x == y,
            )
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| is_same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len()
                && x.iter()
                    .all(|(name, x)| y.get(name).is_some_and(|y| is_same(x, y)))
        }
        _ => a == b,
    }
}

/// Runs all cases of a lab in every way.
#[track_caller]
fn check_lab(lab: &str) {
    let root = match std::env::var_os("PELTON_LAB_CASES") {
        Some(folder) => PathBuf::from(folder),
        None => repository("tests/it/cases/labs").into(),
    };
    let folders = std::fs::read_dir(root.join(lab)).unwrap();
    let mut folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "no case of {lab}");
    let run = Run::new();
    let mut wrong = Vec::new();
    for folder in folders {
        let case = Case::read(folder);
        for (batch_rows, state) in BATCH_ROWS.iter().flat_map(|b| STATE.map(|s| (*b, s))) {
            if let Err(why) = case.run(&run, lab, batch_rows, state) {
                let name = &case.name;
                wrong.push(format!(
                    "{name} at batches of {batch_rows} on {state}: {why}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{lab}:\n{}", wrong.join("\n"));
}

#[test]
fn results_are_compared_as_json() {
    let of = |lines: &[&str]| -> Vec<Value> {
        let lines = lines.iter().map(|l| serde_json::from_str(l).unwrap());
        lines.collect()
    };
    let want = of(&[r#"{"a":1,"b":[0.5]}"#, r#"{"a":2}"#]);
    let same = of(&[r#"{"a":2.0}"#, r#"{"b":[0.50000000001],"a":1}"#]);
    compare(&same, &want, false).unwrap();
    assert_eq!(
        compare(&same, &want, true).unwrap_err(),
        r#"line 1: {"a":2.0} instead of {"a":1,"b":[0.5]}"#
    );
    let more = of(&[r#"{"a":1,"b":[0.5]}"#, r#"{"a":2}"#, r#"{"a":3}"#]);
    assert_eq!(
        compare(&more, &want, true).unwrap_err(),
        r#"3 lines instead of 2: {"a":3} is too much"#
    );
    let large = of(&[r#"{"w":-9223372036854775808}"#]);
    let near = of(&[r#"{"w":-9223372036854775807}"#]);
    assert!(compare(&large, &near, false).is_err());
}
