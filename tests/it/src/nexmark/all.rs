//! All queries over the golden events, in all ways that a job can run: the table that results is always the same, and that
//! of another system. A changelog is folded before.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::golden;
use crate::components::repository;
use crate::examples::Run;

/// Whether a query keeps state.
fn has_state(query: &str) -> bool {
    !matches!(query, "q0" | "q1" | "q2" | "q10" | "q14" | "q21" | "q22")
}

/// Whether its result changes as input comes.
fn is_changing(query: &str) -> bool {
    matches!(query, "q4" | "q9" | "q15" | "q16" | "q17" | "q18" | "q19")
}

/// The files below a folder.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            assert!(path.extension().is_some_and(|e| e == "csv"), "{path:?}");
            found.push(path);
        }
    }
}

/// The header and the sorted rows of the table that the files below a folder are, or that their changes come to. With
/// whether they are changes.
#[track_caller]
fn table(folder: &Path) -> (String, Vec<String>, bool) {
    let mut paths = Vec::new();
    files(folder, &mut paths);
    let mut header: Option<String> = None;
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let header = header.get_or_insert_with(|| first.to_owned());
        assert_eq!(header, first, "{path:?}");
        for line in lines {
            let (op, row) = match header.starts_with("op,") {
                true => line.split_once(',').unwrap(),
                false => ("+I", line),
            };
            let change = match op {
                "+I" | "+U" => 1,
                "-U" | "-D" => -1,
                _ => panic!("{path:?} has the change {op}"),
            };
            *rows.entry(row.to_owned()).or_default() += change;
        }
    }
    let header = header.unwrap_or_default();
    let mut all = Vec::new();
    for (row, count) in rows {
        assert!(count >= 0, "more was taken back of {row} than there was");
        all.extend((0..count).map(|_| row.clone()));
    }
    match header.strip_prefix("op,") {
        Some(rest) => (rest.to_owned(), all, true),
        None => (header, all, false),
    }
}

/// The table, in sorted rows, is that of another system.
#[track_caller]
pub(super) fn check_rows(query: &str, what: &str, header: &str, rows: &[String]) {
    let mut text = header.to_owned();
    text.push('\n');
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    let hash = Sha256::digest(text.as_bytes());
    let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    let line = format!("{hash}  {query}.csv");
    if golden("expected/sha256").lines().any(|l| l == line) {
        return;
    }
    let file = repository(&format!("tests/golden/nexmark/expected/{query}.csv"));
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    let differs = text.lines().zip(expected.lines()).find(|(a, b)| a != b);
    panic!(
        "{what}: {} rows are not those expected; first, where that is known: {differs:?}",
        rows.len()
    );
}

/// Runs a query on the golden events in one way, and compares.
#[track_caller]
fn check(run: &Run, query: &str, flags: &[&str]) {
    let output = format!("{query} {}", flags.join(" "));
    let side = repository("tests/golden/nexmark/side_input.csv");
    let mut params = vec![
        ("query", query),
        ("input", super::GENERATED),
        ("output", &output),
    ];
    if query == "q13" {
        params.push(("side_input", &side));
    }
    run.done("nexmark", &params, flags);
    let folder = run.place.work().join(&output);
    let (header, rows, is_changelog) = table(&folder);
    assert_eq!(
        is_changelog,
        is_changing(query) && !flags.contains(&"batch"),
        "{output}"
    );
    check_rows(query, &output, &header, &rows);
    std::fs::remove_dir_all(folder).unwrap();
}

const QUERIES: [&str; 22] = [
    "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10", "q11", "q13", "q14", "q15",
    "q16", "q17", "q18", "q19", "q20", "q21", "q22",
];

/// All queries with these flags, at parallelism 1, 2 and 4. One place for all: the component is compiled once.
#[track_caller]
fn check_all(queries: impl Iterator<Item = &'static str>, state: &str, mode: &str) {
    let run = Run::new();
    for query in queries {
        for parallelism in ["1", "2", "4"] {
            let flags = ["-p", parallelism, "--state", state, "--mode", mode];
            check(&run, query, &flags);
        }
    }
}

#[test]
fn streaming_with_state_in_memory() {
    check_all(QUERIES.into_iter(), "heap", "streaming");
}

#[test]
fn batch_with_state_in_memory() {
    check_all(QUERIES.into_iter(), "heap", "batch");
}

#[test]
fn streaming_with_state_on_disk() {
    let queries = QUERIES.into_iter().filter(|q| has_state(q));
    check_all(queries, "rocksdb", "streaming");
}

#[test]
fn batch_with_state_on_disk() {
    let queries = QUERIES.into_iter().filter(|q| has_state(q));
    check_all(queries, "rocksdb", "batch");
}

#[test]
fn batches_of_any_size_give_the_same() {
    let run = Run::new();
    for query in [
        "q3", "q4", "q6", "q8", "q9", "q11", "q13", "q16", "q18", "q19", "q20",
    ] {
        for rows in ["1", "7"] {
            check(&run, query, &["-p", "2", "--batch-rows", rows]);
        }
    }
}

#[test]
fn windows_by_the_clock_count_every_bid_at_most_once() {
    let run = Run::new();
    let params = [
        ("query", "q12"),
        ("input", super::GENERATED),
        ("output", "q12"),
    ];
    run.done("nexmark", &params, &["-p", "2"]);
    // A window that the input's end cuts short does not fire.
    let (_, rows, _) = table(&run.place.work().join("q12"));
    let bids: i64 = rows
        .iter()
        .map(|row| row.split(',').nth(1).unwrap().parse::<i64>().unwrap())
        .sum();
    assert!(bids <= 9_200, "{bids}");
}

#[test]
fn bids_lie_in_folders_of_their_day_and_minute() {
    let run = Run::new();
    let params = [
        ("query", "q10"),
        ("input", super::GENERATED),
        ("output", "q10"),
    ];
    run.done("nexmark", &params, &["-p", "2"]);
    let root = run.place.work().join("q10");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    assert!(paths.len() > 2);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let last = text.lines().last().unwrap();
        let mut fields = last.rsplit(',');
        let (hm, dt) = (fields.next().unwrap(), fields.next().unwrap());
        let folder = format!("dt={dt}/hm={}", hm.replace(':', "%3A"));
        assert_eq!(path.parent().unwrap(), root.join(folder));
    }
}
