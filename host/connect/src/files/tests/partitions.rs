//! Files by the values of columns.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, StringArray};
use pelton_engine::connector::Sink;
use pelton_model::batch::Batch;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Schema};
use pelton_model::{ErrorCode, Result};

use super::super::open_sink;
use super::{options, schema};
use crate::SinkRequest;

fn by_day() -> Schema {
    schema(&[
        ("dt", DataType::String),
        ("n", DataType::I64),
        ("hm", DataType::String),
    ])
}

fn rows(of: &[(&str, i64, &str)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(of.iter().map(|r| r.0))),
        Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.1))),
        Arc::new(StringArray::from_iter_values(of.iter().map(|r| r.2))),
    ];
    Batch::new(columns, of.len()).unwrap()
}

fn sink(path: &Path, more: &[(&str, &str)]) -> Result<Arc<dyn Sink>> {
    let mut options = options(more);
    options.insert("path".to_string(), path.display().to_string());
    let limits = Limits::default();
    open_sink(&SinkRequest {
        connector: "files",
        options: &options,
        schema: &by_day(),
        limits: &limits,
        parallelism: 1,
        batch: false,
        start: None,
        resumed: false,
        output: Arc::new(Mutex::new(Vec::new())),
    })
}

/// All files below a folder and what is in them, hidden ones too.
fn tree(root: &Path) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, &mut found);
    found.sort();
    let name = |p: &PathBuf| p.strip_prefix(root).unwrap().display().to_string();
    found
        .iter()
        .map(|p| (name(p), fs::read_to_string(p).unwrap()))
        .collect()
}

fn owned(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter()
        .map(|(a, b)| (a.to_string(), b.to_string()))
        .collect()
}

const BY: (&str, &str) = ("partition_by", "dt,hm");

#[test]
fn each_value_has_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path(), &[("format", "csv"), BY]).unwrap();
    let mut writer = sink.writer(3, 4).unwrap();
    let first = rows(&[("a", 1, "12:30"), ("b", 2, "12:30"), ("a", 3, "12:30")]);
    writer.write(&first).unwrap();
    writer.write(&rows(&[("a", 4, "12:30")])).unwrap();
    writer.finish().unwrap();
    assert!(
        tree(dir.path())
            .iter()
            .all(|(name, _)| name.ends_with(".inprogress"))
    );
    sink.finish().unwrap();
    assert_eq!(
        tree(dir.path()),
        owned(&[
            ("dt=a/hm=12%3A30/part-3-0.csv", "n\n1\n3\n4\n"),
            ("dt=b/hm=12%3A30/part-3-1.csv", "n\n2\n"),
        ])
    );
}

#[test]
fn rows_may_keep_the_columns_of_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let keep = ("partition_columns", "keep");
    let sink = sink(dir.path(), &[("format", "json"), BY, keep]).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&rows(&[("", 1, "x")])).unwrap();
    writer.finish().unwrap();
    sink.finish().unwrap();
    assert_eq!(
        tree(dir.path()),
        owned(&[(
            "dt=__HIVE_DEFAULT_PARTITION__/hm=x/part-0-0.jsonl",
            "{\"dt\":\"\",\"n\":1,\"hm\":\"x\"}\n"
        )])
    );
}

#[test]
fn only_so_many_files_are_open_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(dir.path(), &[("format", "csv"), BY, ("open_files", "2")]).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    for batch in [
        rows(&[("a", 1, "x"), ("b", 2, "x")]),
        rows(&[("a", 3, "x")]),
        rows(&[("c", 4, "x")]),
    ] {
        writer.write(&batch).unwrap();
    }
    // That of `b` has waited longest.
    let shown: Vec<_> = tree(dir.path());
    assert!(shown.contains(&("dt=b/hm=x/part-0-1.csv".to_string(), "n\n2\n".to_string())));
    assert_eq!(shown.len(), 3);
    writer.write(&rows(&[("b", 5, "x")])).unwrap();
    writer.finish().unwrap();
    sink.finish().unwrap();
    assert_eq!(
        tree(dir.path()),
        owned(&[
            ("dt=a/hm=x/part-0-0.csv", "n\n1\n3\n"),
            ("dt=b/hm=x/part-0-1.csv", "n\n2\n"),
            ("dt=b/hm=x/part-0-3.csv", "n\n5\n"),
            ("dt=c/hm=x/part-0-2.csv", "n\n4\n"),
        ])
    );
}

#[test]
fn a_failed_run_leaves_nothing_and_an_earlier_one_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let csv = ("format", "csv");
    let first = sink(dir.path(), &[csv, BY]).unwrap();
    let mut writer = first.writer(0, 1).unwrap();
    writer.write(&rows(&[("a", 1, "x")])).unwrap();
    drop((writer, first));
    assert_eq!(tree(dir.path()), []);
    for overwrite in ["false", "true"] {
        let whole = sink(dir.path(), &[csv, BY, ("overwrite", overwrite)]).unwrap();
        let mut writer = whole.writer(0, 1).unwrap();
        writer.write(&rows(&[("a", 1, "x")])).unwrap();
        writer.finish().unwrap();
        whole.finish().unwrap();
        let e = sink(dir.path(), &[csv, BY]).err().unwrap();
        assert_eq!(e.code(), ErrorCode::OutputFailed);
        assert!(
            e.to_string()
                .contains("dt=a/hm=x/part-0-0.csv' is there already"),
            "{e}"
        );
    }
}

#[test]
fn options_that_do_not_fit() {
    let refused = |more: &[(&str, &str)]| {
        let all = [&[("format", "csv")], more].concat();
        sink(Path::new("/nowhere"), &all).err().unwrap().to_string()
    };
    assert!(refused(&[("partition_by", "day")]).contains("the columns are: dt, n, hm"));
    assert_eq!(
        refused(&[("open_files", "5")]),
        "connector 'files' needs the option 'partition_by', as it has 'open_files'"
    );
    assert!(refused(&[BY, ("single", "true")]).contains("has no partitions"));
    assert_eq!(
        refused(&[("partition_by", "dt,hm,n")]),
        "the files of a sink have no column"
    );
}
