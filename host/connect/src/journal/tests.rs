//! The journal as its readers see it, and what a crash at each byte leaves.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, StringArray};
use pelton_engine::connector::{Delivery, Sink};
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{ErrorCode, Result};

use super::{delivery, open_sink};
use crate::{OptionMap, SinkRequest, StartId};

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("k", DataType::String),
        Field::new("n", DataType::I64),
    ])
}

fn rows(pairs: &[(&str, i64)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(pairs.iter().map(|p| p.0))),
        Arc::new(Int64Array::from_iter_values(pairs.iter().map(|p| p.1))),
    ];
    Batch::new(columns, pairs.len()).unwrap()
}

fn map(path: &Path, more: &[(&str, &str)]) -> OptionMap {
    let mut options: OptionMap = more
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    options.insert("path".into(), path.display().to_string());
    options
}

fn open(
    path: &Path,
    more: &[(&str, &str)],
    checkpoints: bool,
    resumed: bool,
) -> Result<Arc<dyn Sink>> {
    open_sink(&SinkRequest {
        connector: "journal",
        options: &map(path, more),
        schema: &schema(),
        limits: &Limits::default(),
        parallelism: 2,
        batch: false,
        start: checkpoints.then_some(StartId { log: 1, term: 1 }),
        resumed,
        output: Arc::new(Mutex::new(Vec::new())),
    })
}

const FIRST: &str = "{\"k\":\"a\",\"n\":1}\n{\"op\":\"-D\",\"k\":\"b\",\"n\":2}\n#applied checkpoint=4 task=0 rows=2\n";
const SECOND: &str = "{\"k\":\"c\",\"n\":3}\n#applied checkpoint=4 task=1 rows=1\n";

/// Two tasks' results of one checkpoint.
fn prepare(sink: &Arc<dyn Sink>) -> Vec<Vec<u8>> {
    let mut writers = [0, 1].map(|i| sink.writer(i, 2).unwrap());
    writers[0].write(&rows(&[("a", 1)])).unwrap();
    let gone = rows(&[("b", 2)]).with_kinds(Some(vec![3].into())).unwrap();
    writers[0].write(&gone).unwrap();
    writers[1].write(&rows(&[("c", 3)])).unwrap();
    writers
        .iter_mut()
        .rev()
        .flat_map(|w| w.prepare(CheckpointId(4)).unwrap().committables)
        .collect()
}

#[test]
fn rows_are_there_once_wherever_the_apply_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/journal");
    let sink = open(&path, &[], true, false).unwrap();
    assert_eq!(sink.delivery(), Delivery::Committed);
    sink.recover(&[]).unwrap();
    let units = prepare(&sink);
    assert_eq!(fs::read(&path).unwrap(), b"", "nothing before the commit");
    sink.commit(&units).unwrap();
    let whole = format!("{FIRST}{SECOND}");
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let next = open(&path, &[], true, true).unwrap();
        next.recover(&units).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "{length}");
        next.commit(&units).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "{length}");
    }
    // Half of what no checkpoint has is cut off.
    fs::write(&path, format!("{whole}{{\"k\"")).unwrap();
    open(&path, &[], true, true).unwrap().recover(&[]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    assert!(open(&path, &[], true, false).is_err());
    open(&path, &[("overwrite", "true")], true, false).unwrap();
    assert!(!path.exists());
}

#[test]
fn what_came_with_a_damaged_checkpoint_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let sink = open(&path, &[], true, false).unwrap();
    sink.commit(&prepare(&sink)).unwrap();
    let whole = format!("{FIRST}{SECOND}");
    let later = "{\"k\":\"z\",\"n\":9}\n#applied checkpoint=6 task=0 rows=1\n";
    fs::write(&path, format!("{whole}{later}{{")).unwrap();
    sink.take_back(CheckpointId(4), CheckpointId(6)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    sink.take_back(CheckpointId(3), CheckpointId(4)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    sink.recover(&[]).unwrap();
    sink.commit(&prepare(&sink)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
}

#[test]
fn without_checkpoints_rows_are_appended_as_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let sink = open(&path, &[], false, false).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&rows(&[("a", 1)])).unwrap();
    writer.flush().unwrap();
    writer.write(&rows(&[("b", 2)])).unwrap();
    writer.finish().unwrap();
    sink.finish().unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2}\n"
    );
}

#[test]
fn results_that_are_too_large_for_a_checkpoint_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(&dir.path().join("j"), &[], true, false).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let long = "x".repeat(6 << 20);
    let mut write = || writer.write(&rows(&[(&long, 1)]));
    write().unwrap();
    write().unwrap();
    assert_eq!(write().unwrap_err().code(), ErrorCode::StateLimit);
}

#[test]
fn the_last_row_of_a_key_stands_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    let upsert = [("mode", "upsert"), ("keys", "k")];
    let first = open(&path, &upsert, true, false).unwrap();
    assert_eq!(first.delivery(), Delivery::Idempotent);
    let mut writers = [0, 1].map(|i| first.writer(i, 2).unwrap());
    writers[0].write(&rows(&[("a", 1), ("a", 2)])).unwrap();
    writers[1].write(&rows(&[("b", 1), ("c\t", 1)])).unwrap();
    let prepared = writers[0].prepare(CheckpointId(1)).unwrap();
    assert!(prepared.committables.is_empty());
    // These come again after a crash.
    let again = rows(&[("a", 3), ("b", 1), ("d", 4)])
        .with_kinds(Some(vec![2, 3, 0].into()))
        .unwrap();
    writers[0].write(&again).unwrap();
    writers[0].prepare(CheckpointId(2)).unwrap();
    drop(writers);
    let second = open(&path, &upsert, true, true).unwrap();
    second.recover(&[]).unwrap();
    let mut writer = second.writer(0, 1).unwrap();
    writer.write(&again).unwrap();
    writer.finish().unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "[\"a\"]\t{\"k\":\"a\",\"n\":3}\n[\"c\\t\"]\t{\"k\":\"c\\t\",\"n\":1}\n[\"d\"]\t{\"k\":\"d\",\"n\":4}\n"
    );
    fs::write(&path, "something\n").unwrap();
    let e = open(&path, &upsert, true, true).err().unwrap();
    assert_eq!(e.code(), ErrorCode::Corrupt);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let refused = |more: &[(&str, &str)]| {
        let options = map(Path::new("x"), more);
        super::check_sink(&options, &schema())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&[("keys", "k")]).contains("must be left out"));
    assert!(refused(&[("mode", "upsert")]).contains("needs the option 'keys'"));
    assert!(refused(&[("mode", "upsert"), ("keys", "k,x")]).contains("no column 'x'"));
    assert!(delivery(&map(Path::new("x"), &[("mode", "sideways")])).is_err());
}
