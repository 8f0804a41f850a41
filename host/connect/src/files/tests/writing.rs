//! What the sink leaves behind, and when.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use pelton_engine::connector::{Sink, SinkWriter};
use pelton_model::batch::Batch;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{ErrorCode, Result};

use super::super::open_sink;
use super::{Reading, options, schema};
use crate::SinkRequest;

fn rows_schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::I64),
        Field::new("name", DataType::String).nullable(),
        Field::new("price", DataType::Decimal { scale: 3 }),
        Field::new("at", DataType::Timestamp).nullable(),
    ])
}

fn rows() -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, -2, 3])),
        Arc::new(StringArray::from(vec![Some("a,\"b\"\nc"), None, Some("é")])),
        Arc::new(
            Decimal128Array::from(vec![1_500, -1, 0])
                .with_precision_and_scale(38, 3)
                .unwrap(),
        ),
        Arc::new(TimestampMillisecondArray::from(vec![
            Some(1_709_963_990_000),
            Some(-1),
            None,
        ])),
    ];
    Batch::new(columns, 3).unwrap()
}

fn texts(lines: &[&str]) -> Batch {
    Batch::new(
        vec![Arc::new(StringArray::from(lines.to_vec()))],
        lines.len(),
    )
    .unwrap()
}

fn sink(
    path: &Path,
    more: &[(&str, &str)],
    schema: &Schema,
    parallelism: u32,
) -> Result<Arc<dyn Sink>> {
    let mut options = options(more);
    options.insert("path".to_string(), path.display().to_string());
    let limits = Limits::default();
    open_sink(&SinkRequest {
        connector: "files",
        options: &options,
        schema,
        limits: &limits,
        parallelism,
        batch: false,
        start: None,
        resumed: false,
        output: Arc::new(Mutex::new(Vec::new())),
    })
}

fn writer(sink: &Arc<dyn Sink>) -> Box<dyn SinkWriter> {
    sink.writer(0, 1).unwrap()
}

/// The names in a folder, sorted, hidden ones too.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_str().unwrap().to_string())
        .collect();
    names.sort();
    names
}

fn write_once(more: &[(&str, &str)], schema: &Schema, batches: &[Batch]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/for/it");
    let sink = sink(&path, more, schema, 1).unwrap();
    let mut writer = writer(&sink);
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.finish().unwrap();
    sink.finish().unwrap();
    let names = names(&path);
    assert_eq!(names.len(), 1, "{names:?}");
    fs::read_to_string(path.join(&names[0])).unwrap()
}

#[test]
fn csv_as_nexmark_has_it() {
    assert_eq!(
        write_once(&[("format", "csv")], &rows_schema(), &[rows()]),
        "id,name,price,at\n1,\"a,\"\"b\"\"\nc\",1.500,2024-03-09 05:59:50.000\n-2,,-0.001,1969-12-31 23:59:59.999\n3,é,0.000,\n"
    );
    let last = rows().select(vec![2].into()).unwrap();
    let options = [
        ("format", "csv"),
        ("header", "false"),
        ("timestamps", "millis"),
    ];
    assert_eq!(
        write_once(&options, &rows_schema(), &[last]),
        "3,é,0.000,\n"
    );
}

#[test]
fn json_in_the_order_of_the_schema() {
    assert_eq!(
        write_once(&[("format", "json")], &rows_schema(), &[rows().slice(0, 2)]),
        "{\"id\":1,\"name\":\"a,\\\"b\\\"\\nc\",\"price\":1.500,\"at\":1709963990000}\n\
         {\"id\":-2,\"name\":null,\"price\":-0.001,\"at\":-1}\n"
    );
    let times = [("format", "json"), ("timestamps", "sql")];
    assert!(
        write_once(&times, &rows_schema(), &[rows()])
            .contains("\"at\":\"2024-03-09 05:59:50.000\"}")
    );
}

#[test]
fn text_is_a_line_a_row() {
    assert_eq!(
        write_once(
            &[("format", "text")],
            &schema(&[("t", DataType::String)]),
            &[texts(&["a", "", "b,c"])]
        ),
        "a\n\nb,c\n"
    );
    let e = sink(Path::new("/x"), &[("format", "text")], &rows_schema(), 1)
        .err()
        .unwrap();
    assert_eq!(
        e.to_string(),
        "a sink of text lines takes rows of one string field, not {id: i64, name: string?, price: decimal(38, 3), at: timestamp?}"
    );
}

#[test]
fn a_changelog_has_its_kinds_in_front() {
    let one = schema(&[("n", DataType::I64)]);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let changes = Batch::new(vec![column], 4)
        .unwrap()
        .with_kinds(Some(vec![0, 1, 2, 3].into()))
        .unwrap();
    assert_eq!(
        write_once(
            &[("format", "csv"), ("changelog", "true")],
            &one,
            std::slice::from_ref(&changes)
        ),
        "op,n\n+I,1\n-U,2\n+U,3\n-D,4\n"
    );
    let plain = Batch::new(vec![Arc::new(Int64Array::from(vec![5]))], 1).unwrap();
    assert_eq!(
        write_once(
            &[("format", "json"), ("changelog", "true")],
            &one,
            &[changes.slice(3, 1), plain]
        ),
        "{\"op\":\"-D\",\"n\":4}\n{\"op\":\"+I\",\"n\":5}\n"
    );
}

#[test]
fn a_row_that_changes_another_needs_a_changelog() {
    let one = schema(&[("n", DataType::I64)]);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let rows = Batch::new(vec![column], 2).unwrap();
    let kinds = |kinds: Vec<u8>| rows.clone().with_kinds(Some(kinds.into())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |more: &[(&str, &str)], batch: bool, rows: &Batch| {
        let mut map = options(more);
        map.insert("path".to_string(), dir.path().display().to_string());
        let limits = Limits::default();
        let sink = open_sink(&SinkRequest {
            connector: "files",
            options: &map,
            schema: &one,
            limits: &limits,
            parallelism: 1,
            batch,
            start: None,
            resumed: false,
            output: Arc::new(Mutex::new(Vec::new())),
        })?;
        let mut writer = writer(&sink);
        writer.write(rows)?;
        writer.finish()
    };
    let csv = [("format", "csv")];
    assert!(write(&csv, false, &kinds(vec![0, 0])).is_ok());
    let e = write(&csv, false, &kinds(vec![0, 3])).unwrap_err();
    assert_eq!(e.code(), ErrorCode::OutputFailed);
    assert!(
        e.to_string()
            .ends_with("changes an earlier one (-D), but the files are of rows that stay"),
        "{e}"
    );
    assert!(e.help_text().unwrap().contains("changelog = true"));
    let log = [("format", "csv"), ("changelog", "true")];
    let e = write(&log, true, &kinds(vec![2, 0])).unwrap_err();
    assert_eq!(
        e.help_text(),
        Some("in batch mode a function gives its final results only")
    );
    assert_eq!(names(dir.path()), [""; 0], "nothing is left behind");
    let e = write(&[("format", "text"), ("changelog", "true")], false, &rows).unwrap_err();
    assert!(e.to_string().contains("only for the format"), "{e}");
}

#[test]
fn what_is_written_reads_back() {
    let special: ArrayRef = Arc::new(Float64Array::from(vec![0.1, -0.0, 1e300]));
    let mut columns = rows().columns().to_vec();
    columns.push(special);
    let mut declared = rows_schema();
    declared.fields.push(Field::new("f", DataType::F64));
    let batch = Batch::new(columns, 3).unwrap();
    for (format, more) in [
        ("json", None),
        ("csv", Some(("multiline", "true"))),
        ("parquet", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let sink = sink(dir.path(), &[("format", format)], &declared, 1).unwrap();
        let mut writer = writer(&sink);
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        sink.finish().unwrap();
        let options: Vec<(&str, &str)> = [("format", format)].into_iter().chain(more).collect();
        let (batches, _) = Reading::new(dir.path(), &options, declared.clone())
            .batches()
            .unwrap();
        assert_eq!(batches[0].columns(), batch.columns(), "{format}");
    }
}

#[test]
fn files_appear_when_they_are_full_or_the_job_ends() {
    let dir = tempfile::tempdir().unwrap();
    let one = schema(&[("t", DataType::String)]);
    let sink = sink(
        dir.path(),
        &[("format", "text"), ("roll_bytes", "6")],
        &one,
        2,
    )
    .unwrap();
    let mut writers = [sink.writer(0, 2).unwrap(), sink.writer(1, 2).unwrap()];
    writers[0].write(&texts(&["abc", "de", "f"])).unwrap();
    assert_eq!(
        names(dir.path()),
        [".part-0-1.txt.inprogress", "part-0-0.txt"]
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("part-0-0.txt")).unwrap(),
        "abc\nde\n"
    );
    writers[1].write(&texts(&["g"])).unwrap();
    writers.iter_mut().for_each(|w| w.finish().unwrap());
    assert_eq!(
        names(dir.path()),
        [
            ".part-0-1.txt.inprogress",
            ".part-1-0.txt.inprogress",
            "part-0-0.txt"
        ]
    );
    sink.finish().unwrap();
    assert_eq!(
        names(dir.path()),
        ["part-0-0.txt", "part-0-1.txt", "part-1-0.txt"]
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("part-0-1.txt")).unwrap(),
        "f\n"
    );
}

#[test]
fn what_is_not_finished_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let one = schema(&[("t", DataType::String)]);
    let sink = sink(dir.path(), &[("format", "text")], &one, 2).unwrap();
    let mut done = sink.writer(0, 2).unwrap();
    done.write(&texts(&["a"])).unwrap();
    done.finish().unwrap();
    let mut failed = sink.writer(1, 2).unwrap();
    failed.write(&texts(&["b"])).unwrap();
    assert_eq!(names(dir.path()).len(), 2);
    drop(failed);
    assert_eq!(names(dir.path()), [".part-0-0.txt.inprogress"]);
    drop(done);
    drop(sink);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_single_file_is_there_when_the_job_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    let options = [("format", "csv"), ("single", "true"), ("roll_bytes", "1")];
    let e = sink(&path, &options, &rows_schema(), 2).err().unwrap();
    assert_eq!(
        e.to_string(),
        "a single file is written by one task, not by 2"
    );
    let open = sink(&path, &options, &rows_schema(), 1).unwrap();
    let mut writer = writer(&open);
    writer.finish().unwrap();
    assert!(!path.exists());
    open.finish().unwrap();
    // Without rows there is the header all the same.
    assert_eq!(fs::read_to_string(&path).unwrap(), "id,name,price,at\n");
    let e = sink(&path, &options, &rows_schema(), 1).err().unwrap();
    assert_eq!(
        e.to_string(),
        format!("output '{}' is there already", path.display())
    );
    assert!(
        sink(
            &path,
            &[options.as_slice(), &[("overwrite", "true")]].concat(),
            &rows_schema(),
            1
        )
        .is_ok()
    );
    let e = sink(dir.path(), &options, &rows_schema(), 1).err().unwrap();
    assert_eq!(
        e.to_string(),
        format!(
            "output '{}' is a folder, but is to be one file",
            dir.path().display()
        )
    );
}

#[test]
fn output_of_an_earlier_run_is_refused_or_removed() {
    let dir = super::folder(&[
        ("part-0-0.csv", b"old"),
        (".part-0-1.csv.inprogress", b"old"),
        ("other", b"mine"),
    ]);
    let open = |overwrite| {
        sink(
            dir.path(),
            &[("format", "json"), ("overwrite", overwrite)],
            &rows_schema(),
            1,
        )
    };
    let e = open("false").err().unwrap();
    assert_eq!(e.code(), ErrorCode::OutputFailed);
    assert_eq!(
        e.to_string(),
        format!(
            "output '{}' is there already",
            dir.path().join("part-0-0.csv").display()
        )
    );
    open("true").unwrap();
    assert_eq!(names(dir.path()), ["other"]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = super::folder(&[("file", b"")]);
    let path = dir.path().join("file/out");
    let e = sink(&path, &[("format", "json")], &rows_schema(), 1)
        .err()
        .unwrap();
    assert_eq!(e.code(), ErrorCode::OutputFailed);
    assert_eq!(
        e.to_string(),
        format!(
            "output '{}' cannot be written: Not a directory (os error 20)",
            path.display()
        )
    );
    // The folder goes away under the writer.
    let out = dir.path().join("out");
    let open = sink(&out, &[("format", "json")], &rows_schema(), 1).unwrap();
    fs::remove_dir(&out).unwrap();
    let e = writer(&open).write(&rows()).unwrap_err();
    assert_eq!(e.code(), ErrorCode::OutputFailed);
    assert!(
        e.to_string()
            .ends_with("No such file or directory (os error 2)"),
        "{e}"
    );
}
