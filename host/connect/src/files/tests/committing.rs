//! The sink with checkpoints: each row once, whatever crashes in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, StringArray};
use pelton_engine::connector::{Delivery, Sink, SinkWriter};
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Schema};
use pelton_model::{ErrorCode, Result};
use proptest::prelude::*;

use super::super::open_sink;
use super::{Reading, options, schema};
use crate::{SinkRequest, StartId};

fn record() -> Schema {
    schema(&[("n", DataType::I64), ("d", DataType::String)])
}

fn rows(numbers: std::ops::Range<i64>) -> Batch {
    let days = numbers.clone().map(|n| format!("d{}", n % 3));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers.clone())),
        Arc::new(StringArray::from_iter_values(days)),
    ];
    Batch::new(columns, (numbers.end - numbers.start) as usize).unwrap()
}

/// In each log terms ascend: here, with each sink that is opened.
fn open(
    path: &Path,
    more: &[(&str, &str)],
    parallelism: u32,
    resumed: bool,
) -> Result<Arc<dyn Sink>> {
    static TERMS: AtomicU64 = AtomicU64::new(1);
    let term = TERMS.fetch_add(1, Ordering::Relaxed);
    open_at(path, more, parallelism, resumed, term)
}

fn open_at(
    path: &Path,
    more: &[(&str, &str)],
    parallelism: u32,
    resumed: bool,
    term: u64,
) -> Result<Arc<dyn Sink>> {
    let mut options = options(more);
    options.insert("path".into(), path.display().to_string());
    open_sink(&SinkRequest {
        connector: "files",
        options: &options,
        schema: &record(),
        limits: &Limits::default(),
        parallelism,
        batch: false,
        start: Some(StartId { log: 0xab, term }),
        resumed,
        output: Arc::new(Mutex::new(Vec::new())),
    })
}

/// The visible files below a folder with their content, by path.
fn visible(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    all(folder, &|name| !name.starts_with('.'))
}

fn hidden(folder: &Path) -> usize {
    all(folder, &|name| name.ends_with(".inprogress")).len()
}

fn all(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(folder).into_iter().flatten();
    for path in entries.map(|e| e.unwrap().path()) {
        if path.is_dir() {
            found.extend(all(&path, wanted));
        } else if wanted(path.file_name().unwrap().to_str().unwrap()) {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

/// A path without what tells the start.
fn below(folder: &Path, path: &Path) -> String {
    let path = path.strip_prefix(folder).unwrap().display().to_string();
    match path.split_once("-000000ab-") {
        Some((path, rest)) => format!(
            "{path}{}",
            rest.trim_start_matches(|c: char| c.is_numeric())
        ),
        None => path,
    }
}

/// The only file whose name begins so.
fn only(folder: &Path, begins: &str) -> PathBuf {
    let found = visible(folder).into_keys();
    let mut found = found.filter(|p| below(folder, p).starts_with(begins));
    let only = found.next().unwrap();
    assert_eq!(found.next(), None);
    only
}

fn names(folder: &Path) -> Vec<String> {
    visible(folder).keys().map(|p| below(folder, p)).collect()
}

#[test]
fn files_are_named_by_the_checkpoint_that_shows_them() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(
        dir.path(),
        &[("format", "csv"), ("roll_bytes", "10")],
        2,
        false,
    )
    .unwrap();
    assert_eq!(sink.delivery(), Delivery::Committed);
    let mut writer = sink.writer(1, 2).unwrap();
    writer.write(&rows(0..3)).unwrap();
    let third = writer.prepare(CheckpointId(3)).unwrap();
    assert_eq!(third.state, None);
    writer.write(&rows(3..4)).unwrap();
    let fifth = writer.prepare(CheckpointId(5)).unwrap();
    assert_eq!(names(dir.path()), Vec::<String>::new());
    sink.commit(&third.committables).unwrap();
    assert_eq!(names(dir.path()), ["part-1-3-0.csv", "part-1-3-1.csv"]);
    // Again, as after a crash.
    sink.commit(&third.committables).unwrap();
    sink.commit(&fifth.committables).unwrap();
    assert_eq!(names(dir.path()).len(), 3);
    assert_eq!(
        fs::read_to_string(only(dir.path(), "part-1-5-2")).unwrap(),
        "n,d\n3,d0\n"
    );
    // Nothing was written: nothing is handed over.
    writer.finish().unwrap();
    assert!(
        writer
            .prepare(CheckpointId(6))
            .unwrap()
            .committables
            .is_empty()
    );
    sink.finish().unwrap();
    assert_eq!(hidden(dir.path()), 0);
}

#[test]
fn a_start_goes_on_among_what_is_there_and_a_fresh_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let format = [("format", "json")];
    let first = open(dir.path(), &format, 1, false).unwrap();
    let mut writer = first.writer(0, 1).unwrap();
    writer.write(&rows(0..2)).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap().committables;
    writer.write(&rows(2..3)).unwrap();
    std::mem::forget(writer);
    assert_eq!(hidden(dir.path()), 2);
    let second = open(dir.path(), &format, 1, true).unwrap();
    second.recover(&prepared).unwrap();
    assert_eq!((names(dir.path()).len(), hidden(dir.path())), (1, 0));
    let e = open(dir.path(), &format, 1, false).err().unwrap();
    assert_eq!(e.code(), ErrorCode::OutputFailed);
    let cleared = [("format", "json"), ("overwrite", "true")];
    open(dir.path(), &cleared, 1, false).unwrap();
    assert!(names(dir.path()).is_empty());
}

/// A process that was passed does not know it: its files are its own, and those of the next start are not touched.
#[test]
fn a_process_that_was_passed_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let format = [("format", "json")];
    let first = open(dir.path(), &format, 1, false).unwrap();
    let mut stalled = first.writer(0, 1).unwrap();
    stalled.write(&rows(0..1)).unwrap();
    let second = open(dir.path(), &format, 1, true).unwrap();
    second.recover(&[]).unwrap();
    let mut writer = second.writer(0, 1).unwrap();
    writer.write(&rows(0..1)).unwrap();
    stalled.write(&rows(1..2)).unwrap();
    drop(stalled);
    let prepared = writer.prepare(CheckpointId(9)).unwrap().committables;
    second.commit(&prepared).unwrap();
    let files = visible(dir.path());
    assert_eq!(files.values().next().unwrap(), b"{\"n\":0,\"d\":\"d0\"}\n");
}

/// A start takes its term and stands still; the next one passes it, writes, shows some of it; then the first goes on.
#[test]
fn a_start_that_is_passed_before_it_recovers_removes_nothing() {
    for (resumed, more) in [(true, &[][..]), (false, &[("overwrite", "true")])] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = vec![("format", "json"), ("partition_by", "d")];
        options.extend(more);
        let open = |term| open_at(dir.path(), &options, 1, resumed, term).unwrap();
        let recover = |sink: &Arc<dyn Sink>| {
            if resumed {
                sink.take_back(CheckpointId(1), CheckpointId(u64::MAX))
                    .unwrap();
                sink.recover(&[]).unwrap();
            }
        };
        let mut left = open(3).writer(0, 1).unwrap();
        left.write(&rows(0..1)).unwrap();
        std::mem::forget(left);
        let stalled = resumed.then(|| open(5));
        let next = open(7);
        recover(&next);
        assert_eq!(hidden(dir.path()), 0, "what an earlier start has left");
        let mut writer = next.writer(0, 1).unwrap();
        writer.write(&rows(0..3)).unwrap();
        let shown = writer.prepare(CheckpointId(9)).unwrap().committables;
        next.commit(&shown).unwrap();
        writer.write(&rows(3..6)).unwrap();
        let waiting = writer.prepare(CheckpointId(10)).unwrap().committables;
        writer.write(&rows(6..9)).unwrap();
        assert_eq!((names(dir.path()).len(), hidden(dir.path())), (3, 6));

        recover(&stalled.unwrap_or_else(|| open(5)));
        assert_eq!((names(dir.path()).len(), hidden(dir.path())), (3, 6));
        next.commit(&waiting).unwrap();
        let last = writer.prepare(CheckpointId(11)).unwrap().committables;
        next.commit(&last).unwrap();
        let mut found = numbers(dir.path(), &options);
        found.sort_unstable();
        assert_eq!(found, (0..9).collect::<Vec<_>>());
    }
}

/// The same with a single file, which even has been shown meanwhile.
#[test]
fn a_start_that_is_passed_does_not_take_a_single_file_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    let single = [("format", "csv"), ("single", "true"), ("overwrite", "true")];
    let open = |resumed, term| open_at(&path, &single, 1, resumed, term);
    let first = open(false, 1).unwrap();
    let mut writer = first.writer(0, 1).unwrap();
    writer.write(&rows(0..2)).unwrap();
    let state = writer.prepare(CheckpointId(2)).unwrap().state;
    drop(writer);
    let (stalled, next) = (open(true, 3).unwrap(), open(true, 4).unwrap());
    next.take_back(CheckpointId(2), CheckpointId(u64::MAX))
        .unwrap();
    next.recover(&[]).unwrap();
    let mut writer = next.writer(0, 1).unwrap();
    writer.restore(state.as_slice()).unwrap();
    writer.write(&rows(2..4)).unwrap();
    writer.finish().unwrap();
    let last = writer.prepare(CheckpointId(5)).unwrap().committables;
    drop(writer);
    next.commit(&last).unwrap();

    let fenced = |done: Result<()>| assert_eq!(done.unwrap_err().code(), ErrorCode::Fenced);
    fenced(stalled.take_back(CheckpointId(2), CheckpointId(u64::MAX)));
    fenced(stalled.recover(&[]));
    fenced(stalled.writer(0, 1).unwrap().restore(state.as_slice()));
    fenced(stalled.writer(0, 1).unwrap().write(&rows(7..8)));
    fenced(open(false, 3).map(drop));
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(content, "n,d\n0,d0\n1,d1\n2,d2\n3,d0\n");
    assert_eq!(hidden(dir.path()), 0);
}

#[test]
fn what_is_lost_or_strange_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open_at(dir.path(), &[("format", "json")], 1, false, 5).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let mut prepare = |id| {
        writer.write(&rows(0..1)).unwrap();
        writer.prepare(CheckpointId(id)).unwrap().committables
    };
    let place = |id, number| {
        dir.path()
            .join(format!("part-0-{id}-{number}-000000ab-5.jsonl"))
    };
    let refused = |committables: &[Vec<u8>], why: &str| {
        let e = sink.commit(committables).unwrap_err();
        assert_eq!(e.code(), ErrorCode::OutputFailed);
        assert!(e.to_string().ends_with(why), "{e}");
    };
    let first = prepare(1);
    fs::write(place(1, 0), "mine").unwrap();
    refused(&first, "is there already, and is not what this job wrote");
    assert_eq!(fs::read(place(1, 0)).unwrap(), b"mine");
    let second = prepare(2);
    sink.commit(&second).unwrap();
    fs::write(place(2, 1), "cut").unwrap();
    refused(&second, "has 3 bytes, but 17 were written");
    fs::remove_file(place(2, 1)).unwrap();
    refused(&second, "is gone: neither it nor its hidden file is there");
    // What no complete checkpoint has is undone by the next start.
    assert_eq!(hidden(dir.path()), 1);
    let next = open_at(dir.path(), &[("format", "json")], 1, true, 6).unwrap();
    next.recover(&[]).unwrap();
    assert_eq!(hidden(dir.path()), 0);
}

#[test]
fn a_single_file_goes_on_behind_what_the_checkpoint_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    let single = [("format", "csv"), ("single", "true")];
    let first = open(&path, &single, 1, false).unwrap();
    first.recover(&[]).unwrap();
    let mut writer = first.writer(0, 1).unwrap();
    assert_eq!(writer.prepare(CheckpointId(1)).unwrap().state, None);
    writer.write(&rows(0..2)).unwrap();
    let prepared = writer.prepare(CheckpointId(2)).unwrap();
    assert!(prepared.committables.is_empty());
    writer.write(&rows(5..9)).unwrap();
    // Somebody else still writes to it.
    let second = open(&path, &single, 1, true).unwrap();
    let e = second
        .writer(0, 1)
        .unwrap()
        .restore(prepared.state.as_slice())
        .unwrap_err();
    assert!(e.to_string().contains("another process"), "{e}");
    writer.prepare(CheckpointId(3)).unwrap();
    drop(writer);
    assert_eq!((names(dir.path()).len(), hidden(dir.path())), (0, 1));

    second.recover(&[]).unwrap();
    let mut writer = second.writer(0, 1).unwrap();
    writer.restore(prepared.state.as_slice()).unwrap();
    writer.write(&rows(2..3)).unwrap();
    writer.finish().unwrap();
    let last = writer.prepare(CheckpointId(4)).unwrap();
    assert_eq!(
        names(dir.path()).len(),
        0,
        "it is shown with the last checkpoint"
    );
    drop(writer);

    // The last checkpoint is complete, and nothing else.
    let third = open(&path, &single, 1, true).unwrap();
    third.recover(&last.committables).unwrap();
    let content = "n,d\n0,d0\n1,d1\n2,d2\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    let mut writer = third.writer(0, 1).unwrap();
    writer.restore(last.state.as_slice()).unwrap();
    writer.finish().unwrap();
    let again = writer.prepare(CheckpointId(6)).unwrap();
    assert!(again.committables.is_empty());
    assert_eq!(again.state, last.state);
    assert!(writer.write(&rows(0..1)).is_err());
    third.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    let parquet = [("format", "parquet"), ("single", "true")];
    let e = open(&path, &parquet, 1, false).err().unwrap();
    assert_eq!(e.code(), ErrorCode::GraphInvalid);
}

#[test]
fn what_came_with_damaged_checkpoints_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(
        dir.path(),
        &[("format", "json"), ("partition_by", "d")],
        1,
        false,
    )
    .unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    for id in [3, 5, 7] {
        writer.write(&rows(0..2)).unwrap();
        let prepared = writer.prepare(CheckpointId(id)).unwrap();
        sink.commit(&prepared.committables).unwrap();
    }
    fs::write(dir.path().join("part-mine.jsonl"), "").unwrap();
    let next = open(
        dir.path(),
        &[("format", "json"), ("partition_by", "d")],
        1,
        true,
    )
    .unwrap();
    next.take_back(CheckpointId(3), CheckpointId(5)).unwrap();
    let left = [
        "d=d0/part-0-3-0.jsonl",
        "d=d0/part-0-7-4.jsonl",
        "d=d1/part-0-3-1.jsonl",
        "d=d1/part-0-7-5.jsonl",
        "part-mine.jsonl",
    ];
    assert_eq!(names(dir.path()), left);

    let path = dir.path().join("one.csv");
    let single = [("format", "csv"), ("single", "true")];
    let sink = open(&path, &single, 1, false).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&rows(0..1)).unwrap();
    let early = writer.prepare(CheckpointId(1)).unwrap();
    writer.write(&rows(1..2)).unwrap();
    writer.finish().unwrap();
    let last = writer.prepare(CheckpointId(2)).unwrap();
    drop(writer);
    sink.commit(&last.committables).unwrap();
    let sink = open(&path, &single, 1, true).unwrap();
    sink.take_back(CheckpointId(1), CheckpointId(2)).unwrap();
    sink.recover(&early.committables).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.restore(early.state.as_slice()).unwrap();
    assert!(!path.exists());
    writer.write(&rows(2..3)).unwrap();
    writer.finish().unwrap();
    let last = writer.prepare(CheckpointId(4)).unwrap();
    sink.commit(&last.committables).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "n,d\n0,d0\n2,d2\n");
}

#[test]
fn a_fresh_start_clears_what_nobody_will_show() {
    let dir = tempfile::tempdir().unwrap();
    let format = [("format", "json")];
    let sink = open(dir.path(), &format, 1, false).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&rows(0..1)).unwrap();
    std::mem::forget(writer);
    open(dir.path(), &format, 1, false).unwrap();
    assert_eq!(hidden(dir.path()), 0);
}

/// One start of a job: what it does before it crashes.
#[derive(Clone, Debug)]
struct Start {
    parallelism: u32,
    /// How many rows are written before each barrier.
    barriers: Vec<i64>,
    /// How many of the checkpoints become complete, and after how many files the commit of the last one is cut off.
    complete: usize,
    files: usize,
    /// Rows behind the last barrier.
    behind: i64,
}

fn start() -> impl Strategy<Value = Start> {
    let barriers = prop::collection::vec(0_i64..12, 0..4);
    (1_u32..4, barriers, 0_usize..5, 0_usize..4, 0_i64..5).prop_map(
        |(parallelism, barriers, complete, files, behind)| Start {
            parallelism,
            barriers,
            complete,
            files,
            behind,
        },
    )
}

/// What the last complete checkpoint has.
#[derive(Default)]
struct Complete {
    id: u64,
    next: i64,
    committables: Vec<Vec<u8>>,
    state: Option<Vec<u8>>,
}

/// Writes some rows, over all writers in turn.
fn write(writers: &mut [Box<dyn SinkWriter>], from: i64, count: i64) -> i64 {
    for n in from..from + count {
        let turn = usize::try_from(n).unwrap() % writers.len();
        writers[turn].write(&rows(n..n + 1)).unwrap();
    }
    from + count
}

fn run(path: &Path, more: &[(&str, &str)], start: &Start, at: &mut Complete, term: u64) {
    let single = more.contains(&("single", "true"));
    let parallelism = if single { 1 } else { start.parallelism };
    let sink = open(path, more, parallelism, term > 0).unwrap();
    sink.recover(&at.committables).unwrap();
    let mut writers: Vec<_> = (0..parallelism)
        .map(|i| sink.writer(i, parallelism).unwrap())
        .collect();
    let states: Vec<Vec<u8>> = at.state.iter().cloned().collect();
    writers.iter_mut().for_each(|w| w.restore(&states).unwrap());
    let mut next = at.next;
    let mut waiting = Vec::new();
    for (i, count) in start.barriers.iter().enumerate() {
        next = write(&mut writers, next, *count);
        let id = term * 100 + i as u64 + 1;
        let mut state = None;
        for writer in &mut writers {
            let prepared = writer.prepare(CheckpointId(id)).unwrap();
            waiting.extend(prepared.committables);
            state = prepared.state;
        }
        // Those of checkpoints that fail go with the next one.
        if i % 2 == 1 || i >= start.complete {
            continue;
        }
        *at = Complete {
            id,
            next,
            committables: std::mem::take(&mut waiting),
            state,
        };
        let last = i + 2 >= start.complete;
        let files = if last {
            start.files.min(at.committables.len())
        } else {
            at.committables.len()
        };
        sink.commit(&at.committables[..files]).unwrap();
        if last {
            break;
        }
    }
    write(&mut writers, next, start.behind);
    // A process that is killed drops nothing; one whose task fails does.
    match start.behind % 2 {
        0 => drop(writers),
        // Its lock goes with the process.
        _ if single => drop(writers),
        _ => std::mem::forget(writers),
    }
}

/// Runs to the end, with the last checkpoint.
fn end(path: &Path, more: &[(&str, &str)], at: &Complete, rows: i64) {
    let sink = open(path, more, 1, true).unwrap();
    sink.recover(&at.committables).unwrap();
    let mut writers = [sink.writer(0, 1).unwrap()];
    let states: Vec<Vec<u8>> = at.state.iter().cloned().collect();
    writers[0].restore(&states).unwrap();
    let done = write(&mut writers, at.next, rows - at.next);
    assert_eq!(done, rows);
    writers[0].finish().unwrap();
    let last = writers[0].prepare(CheckpointId(at.id + 1_000)).unwrap();
    sink.commit(&last.committables).unwrap();
    sink.finish().unwrap();
}

proptest! {
    // Each case syncs many files.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn each_row_is_there_once(
        format in prop::sample::select(vec!["text", "json", "csv", "parquet"]),
        shape in 0..4,
        starts in prop::collection::vec(start(), 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("out");
        let mut more = vec![("format", format)];
        match shape {
            1 => more.push(("partition_by", "d")),
            2 => more.push(("roll_bytes", "20")),
            3 if format != "parquet" => more.push(("single", "true")),
            _ => {}
        }
        if format == "text" {
            // Text has one column, the other names the folder.
            more = vec![("format", "json"), ("partition_by", "d"), ("partition_columns", "keep")];
        }
        let single = more.contains(&("single", "true"));
        let path = if single { folder.join("one") } else { folder.clone() };
        let mut at = Complete::default();
        let mut rows = 0;
        for (term, start) in starts.iter().enumerate() {
            run(&path, &more, start, &mut at, term as u64 + u64::from(term > 0));
            rows += start.barriers.iter().sum::<i64>() + 5;
        }
        let rows = rows.max(at.next);
        end(&path, &more, &at, rows);
        prop_assert_eq!(hidden(&folder), 0);
        let mut found = numbers(&folder, &more);
        found.sort_unstable();
        prop_assert_eq!(found, (0..rows).collect::<Vec<_>>());
    }
}

/// The numbers of all rows below a folder.
fn numbers(folder: &Path, more: &[(&str, &str)]) -> Vec<i64> {
    let format = more.iter().find(|(name, _)| *name == "format").unwrap();
    let mut declared = record();
    declared.fields.truncate(1);
    let mut found = Vec::new();
    for path in visible(folder).keys() {
        let mut reading = Reading::new(path, &[*format], declared.clone());
        reading.rows_max = 100;
        for row in reading.rows().unwrap() {
            let number = row.trim_start_matches("{\"n\":").trim_end_matches('}');
            found.push(number.parse().unwrap());
        }
    }
    found
}
