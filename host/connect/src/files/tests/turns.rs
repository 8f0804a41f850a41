//! Files that are splits.

use pelton_engine::connector::{Poll, SourceReader};
use pelton_model::schema::{DataType, Schema};
use pelton_model::time::Monotonic;

use super::{Reading, folder, schema, shown};

fn number() -> Schema {
    schema(&[("n", DataType::I64)])
}

fn reading(dir: &tempfile::TempDir) -> Reading {
    let mut reading = Reading::json(dir.path(), number());
    reading.options.insert("splits".into(), "files".into());
    reading.rows_max = 2;
    reading
}

fn file(from: i64, rows: i64) -> String {
    (from..from + rows)
        .map(|n| format!("{{\"n\":{n}}}\n"))
        .collect()
}

/// `a: 1 2`, for what the next poll gives.
fn next(reader: &mut dyn SourceReader) -> String {
    match reader.poll(Monotonic(7), 2).unwrap() {
        Poll::Rows(rows) => {
            let split = reader.splits()[reader.split()].clone();
            let numbers = shown(&number(), rows.columns(), rows.rows()).join("");
            let name = split.rsplit('/').next().unwrap().to_owned();
            name + ":" + &numbers.replace("{\"n\":", " ").replace('}', "")
        }
        Poll::Later(at) => format!("later {}", at.0),
        Poll::End => "end".into(),
    }
}

#[test]
fn files_are_read_in_turn_and_may_be_paused() {
    let (a, b) = (file(0, 5), file(10, 3));
    let dir = folder(&[("a", a.as_bytes()), ("b", b.as_bytes())]);
    let mut reader = reading(&dir).readers(1).unwrap().remove(0);
    assert_eq!(next(&mut *reader), "b: 10 11");
    assert_eq!(next(&mut *reader), "a: 0 1");
    reader.pause(1, true);
    assert_eq!(next(&mut *reader), "a: 2 3");
    assert_eq!(next(&mut *reader), "a: 4");
    assert_eq!(next(&mut *reader), "later 7", "only what is paused is left");
    assert!(reader.has_ended(0) && !reader.has_ended(1));
    reader.pause(1, false);
    assert_eq!(next(&mut *reader), "b: 12");
    assert_eq!(next(&mut *reader), "end");
    assert!(reader.has_ended(1));
    assert_eq!(reader.progress().rows, 8);
}

#[test]
fn each_file_is_read_by_one_task() {
    let files = [file(0, 1), file(1, 1), file(2, 1)];
    let dir = folder(&[
        ("a", files[0].as_bytes()),
        ("b", files[1].as_bytes()),
        ("c", files[2].as_bytes()),
    ]);
    let readers = reading(&dir).readers(4).unwrap();
    let splits: Vec<usize> = readers.iter().map(|r| r.splits().len()).collect();
    assert_eq!(splits, [1, 1, 1, 0]);
    let seen: Vec<String> = readers.into_iter().map(|mut r| next(&mut *r)).collect();
    assert_eq!(seen, ["a: 0", "b: 1", "c: 2", "end"]);
}
