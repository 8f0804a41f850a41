//! Parquet files as their users see them.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use ::parquet::file::properties::WriterProperties;
use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt16Array,
};
use arrow_schema::{DataType as ArrowType, Field as ArrowField};
use pelton_engine::connector::Poll;
use pelton_model::batch::Batch;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::Monotonic;
use pelton_model::{ErrorCode, Result};

use super::super::{open_sink, open_source};
use super::{Reading, options, schema};
use crate::{SinkRequest, SourceRequest};

const PARQUET: (&str, &str) = ("format", "parquet");

/// A file with these columns in row groups of so many rows.
pub(super) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, group: usize) {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

fn numbers(range: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(range))
}

fn read(path: &Path, declared: Schema) -> Result<Vec<Batch>> {
    Reading::new(path, &[PARQUET], declared)
        .batches()
        .map(|(batches, _)| batches)
}

#[test]
fn row_groups_are_dealt_in_order_to_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("b"), vec![("n", numbers(10..20))], 4);
    write(&dir.path().join("a"), vec![("n", numbers(0..10))], 4);
    let declared = schema(&[("n", DataType::I64)]);
    let mut options = options(&[PARQUET]);
    options.insert("path".into(), dir.path().display().to_string());
    let limits = Limits::default();
    let source = open_source(&SourceRequest {
        connector: "files",
        options: &options,
        declared: &declared,
        needed: &declared,
        limits: &limits,
        parallelism: 2,
    })
    .unwrap();
    let mut readers = [source.reader(0, 2).unwrap(), source.reader(1, 2).unwrap()];
    let mut found = Vec::new();
    let mut ended = 0;
    let mut turn = 0;
    while ended < 2 {
        match readers[turn % 2].poll(Monotonic(0), 3).unwrap() {
            Poll::Rows(rows) => {
                let values = rows.columns()[0].as_primitive::<arrow_array::types::Int64Type>();
                found.push((turn % 2, values.values().to_vec()));
                ended = 0;
            }
            _ => ended += 1,
        }
        turn += 1;
    }
    // Three rows, then the one that is left of the group, by each in turn.
    assert_eq!(found[0], (0, vec![0, 1, 2]));
    assert_eq!(found[1], (1, vec![4, 5, 6]));
    assert_eq!(found[2], (0, vec![3]));
    let mut all: Vec<i64> = found.into_iter().flat_map(|(_, rows)| rows).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
    let progress = readers.each_ref().map(|r| r.progress());
    let bytes: u64 = progress.iter().map(|p| p.bytes).sum();
    assert_eq!(Some(bytes), progress[0].total);
    assert_eq!(progress.iter().map(|p| p.rows).sum::<u64>(), 20);
}

#[test]
fn only_needed_columns_and_fields_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let field = |name, t| Arc::new(ArrowField::new(name, t, true));
    let inner = StructArray::from(vec![
        (field("a", ArrowType::Int64), numbers(0..3)),
        (field("b", ArrowType::Int64), numbers(10..13)),
        (field("c", ArrowType::Int64), numbers(20..23)),
    ]);
    write(
        &path,
        vec![
            ("first", numbers(0..3)),
            ("r", Arc::new(inner)),
            ("last", numbers(5..8)),
        ],
        10,
    );
    let record = |names: &[&str]| {
        let fields = names.iter().map(|n| Field::new(*n, DataType::I64));
        DataType::Struct(fields.collect())
    };
    let declared = schema(&[
        ("last", DataType::I64),
        ("r", record(&["c", "b", "a"])),
        ("first", DataType::I64),
    ]);
    let mut reading = Reading::new(&path, &[PARQUET], declared);
    reading.needed = schema(&[("last", DataType::I64), ("r", record(&["c", "a"]))]);
    let (batches, _) = reading.batches().unwrap();
    let [last, r] = batches[0].columns() else {
        panic!("two columns");
    };
    assert_eq!(last, &numbers(5..8));
    assert_eq!(
        r.data_type(),
        &reading.needed.fields[1].data_type.to_arrow()
    );
    assert_eq!(r.as_struct().columns(), [numbers(20..23), numbers(0..3)]);
    // Nobody reads a column: the rows are still counted.
    reading.needed = Schema::default();
    let (batches, _) = reading.batches().unwrap();
    assert_eq!(batches.iter().map(Batch::rows).sum::<usize>(), 3);
}

#[test]
fn types_of_other_writers_are_widened_and_never_rounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let micros = TimestampMicrosecondArray::from(vec![Some(1_999), Some(-1)]);
    write(
        &path,
        vec![
            ("i", Arc::new(Int32Array::from(vec![Some(1), Some(-2)]))),
            ("u", Arc::new(UInt16Array::from(vec![65_535, 0]))),
            ("f", Arc::new(Float32Array::from(vec![0.5, -1.5]))),
            ("t", Arc::new(micros.with_timezone("UTC"))),
            (
                "l",
                Arc::new(ListArray::from_iter_primitive::<
                    arrow_array::types::Int32Type,
                    _,
                    _,
                >([Some([Some(1)]), Some([Some(2)])])),
            ),
        ],
        10,
    );
    let list = DataType::List(Box::new(Field::new("item", DataType::I64)));
    let batches = read(
        &path,
        schema(&[
            ("i", DataType::I64),
            ("u", DataType::I32),
            ("f", DataType::F64),
            ("t", DataType::Timestamp),
            ("l", list.clone()),
        ]),
    )
    .unwrap();
    let columns = batches[0].columns();
    assert_eq!(
        &columns[0],
        &(Arc::new(Int64Array::from(vec![1, -2])) as ArrayRef)
    );
    assert_eq!(
        &columns[1],
        &(Arc::new(Int32Array::from(vec![65_535, 0])) as ArrayRef)
    );
    assert_eq!(
        columns[3].as_ref(),
        &TimestampMillisecondArray::from(vec![1, -1]) as &dyn Array
    );
    assert_eq!(columns[4].data_type(), &list.to_arrow());
    let e = read(&path, schema(&[("i", DataType::I16)])).unwrap_err();
    assert_eq!(e.code(), ErrorCode::BadRecord);
    let why = "column 'i' is Int32 in the file, but is read as i16, file ";
    assert!(e.to_string().starts_with(why), "{e}");
}

#[test]
fn what_cannot_be_read_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let shown = |e: &pelton_model::Error| format!("{e:?}").contains("x.parquet");
    write(
        &path,
        vec![("n", Arc::new(Int64Array::from(vec![Some(1), None])))],
        10,
    );
    let e = read(&path, schema(&[("m", DataType::I64)])).unwrap_err();
    let why = "there is no column 'm'; the columns are: n, file ";
    assert!(e.to_string().starts_with(why), "{e}");
    let e = read(&path, schema(&[("n", DataType::I64)])).unwrap_err();
    let why = "field 'n' is null, but may not be, row 1 or after, file ";
    assert!(e.to_string().starts_with(why), "{e}");
    assert!(shown(&e), "{e:?}");
    let nullable = Schema::new(vec![Field::new("n", DataType::I64).nullable()]);
    assert_eq!(read(&path, nullable.clone()).unwrap()[0].rows(), 2);
    let whole = fs::read(&path).unwrap();
    for bytes in [
        &b""[..],
        b"PAR1",
        b"no parquet at all",
        &whole[..whole.len() / 2],
    ] {
        fs::write(&path, bytes).unwrap();
        let e = read(&path, nullable.clone()).unwrap_err();
        assert_eq!(e.code(), ErrorCode::BadRecord);
        assert!(e.to_string().starts_with("not valid Parquet: "), "{e}");
        assert!(shown(&e), "{e:?}");
    }
    let skip = Reading::new(&path, &[PARQUET, ("on_error", "skip")], nullable);
    let e = skip.batches().unwrap_err();
    assert!(e.to_string().contains("only for the format"), "{e}");
}

#[test]
fn a_sink_rolls_and_a_changelog_has_its_column() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&[PARQUET, ("changelog", "true"), ("roll_bytes", "1000")]);
    options.insert("path".into(), dir.path().display().to_string());
    let schema = schema(&[("t", DataType::String)]);
    let limits = Limits::default();
    let sink = open_sink(&SinkRequest {
        connector: "files",
        options: &options,
        schema: &schema,
        limits: &limits,
        parallelism: 1,
        batch: false,
        start: None,
        resumed: false,
        output: Arc::new(Mutex::new(Vec::new())),
    })
    .unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(900), "b".repeat(900)]));
    let rows = Batch::new(vec![text], 2)
        .unwrap()
        .with_kinds(Some(vec![3, 0].into()))
        .unwrap();
    for _ in 0..2 {
        writer.write(&rows).unwrap();
    }
    writer.finish().unwrap();
    sink.finish().unwrap();
    for name in ["part-0-0.parquet", "part-0-1.parquet"] {
        let file = File::open(dir.path().join(name)).unwrap();
        let batches: Vec<RecordBatch> = ParquetRecordBatchReader::try_new(file, 10)
            .unwrap()
            .map(|b| b.unwrap())
            .collect();
        let op = batches[0].column_by_name("op").unwrap().as_string::<i32>();
        assert_eq!((op.value(0), op.value(1)), ("-D", "+I"));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
