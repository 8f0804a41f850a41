//! Several files as one stream.

use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::Monotonic;

use super::{Reading, folder, shown};
use pelton_engine::connector::Poll;

fn record() -> Schema {
    let field = |name: &str, data_type, nullable| {
        let mut field = Field::new(name, data_type);
        field.nullable = nullable;
        field
    };
    Schema::new(vec![
        field("input", DataType::I64, false),
        field("key", DataType::String, true),
        field("seq", DataType::I64, true),
        field("watermark", DataType::I64, true),
    ])
}

fn merged(left: &str, right: &str, declared: Schema) -> (tempfile::TempDir, Reading) {
    let dir = folder(&[("l.jsonl", left.as_bytes()), ("r.jsonl", right.as_bytes())]);
    let [l, r] = ["l.jsonl", "r.jsonl"].map(|n| dir.path().join(n).display().to_string());
    let mut reading = Reading::json(dir.path(), declared);
    let options = [
        // Not in the order of their names.
        ("path", format!("{r}\n{l}")),
        ("merge_by", "seq".into()),
        ("file_field", "input".into()),
    ];
    for (name, value) in options {
        reading.options.insert(name.into(), value);
    }
    (dir, reading)
}

fn rows(reading: &Reading) -> Vec<Vec<String>> {
    let (batches, _) = reading.batches().unwrap();
    let show = |b: &pelton_model::batch::Batch| shown(&reading.needed, b.columns(), b.rows());
    batches.iter().map(show).collect()
}

const LEFT: &str = r#"{"key":"a","seq":0}
{"key":"b","seq":1}
{"watermark":7,"seq":4}
"#;
const RIGHT: &str = r#"{"key":"c","seq":2}
{"key":"d","seq":3}
{"key":"e","seq":5}
{"key":"f","seq":6}
"#;

#[test]
fn lines_come_by_their_number_and_a_batch_is_of_one_file() {
    let (_dir, mut reading) = merged(LEFT, RIGHT, record());
    let row = |file: i32, key: &str, seq: i32| {
        format!(r#"{{"input":{file},"key":"{key}","seq":{seq},"watermark":null}}"#)
    };
    let expected = [
        vec![row(1, "a", 0), row(1, "b", 1)],
        vec![row(0, "c", 2), row(0, "d", 3)],
        vec![r#"{"input":1,"key":null,"seq":4,"watermark":7}"#.into()],
        vec![row(0, "e", 5), row(0, "f", 6)],
    ];
    assert_eq!(rows(&reading), expected);
    reading.rows_max = 1;
    assert_eq!(rows(&reading).concat(), expected.concat());
}

#[test]
fn the_number_is_read_even_if_nobody_else_does() {
    let (_dir, mut reading) = merged(LEFT, RIGHT, record());
    reading.needed = Schema::new(vec![Field::new("input", DataType::I64)]);
    let files: String = rows(&reading)
        .concat()
        .iter()
        .filter_map(|r| r.chars().find(char::is_ascii_digit))
        .collect();
    assert_eq!(files, "1100100");
}

#[test]
fn without_a_number_files_come_as_they_are_named() {
    let (left, right) = (LEFT.replace("seq", "x"), RIGHT.replace("seq", "x"));
    let (_dir, mut reading) = merged(&left, &right, record());
    reading.rows_max = 3;
    let sizes: Vec<usize> = rows(&reading).iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 1, 3]);
}

#[test]
fn one_task_reads_all() {
    let (_dir, reading) = merged(LEFT, RIGHT, record());
    let mut readers = reading.readers(2).unwrap();
    assert!(matches!(readers[1].poll(Monotonic(0), 10), Ok(Poll::End)));
    assert!(matches!(
        readers[0].poll(Monotonic(0), 10),
        Ok(Poll::Rows(_))
    ));
}

#[test]
fn the_fields_must_be_numbers() {
    let (_dir, mut reading) = merged(LEFT, RIGHT, record());
    for (option, value, message) in [
        (
            "file_field",
            "key",
            "option 'file_field' of connector 'files' is 'key', but must be an i64, i32 or u32 field",
        ),
        (
            "merge_by",
            "none",
            "option 'merge_by' of connector 'files' is 'none', but must be an i64, i32, u32 or timestamp field",
        ),
    ] {
        let was = reading.options.insert(option.into(), value.into()).unwrap();
        let e = reading.batches().unwrap_err();
        assert!(e.to_string().starts_with(message), "{e}");
        reading.options.insert(option.into(), was);
    }
}
