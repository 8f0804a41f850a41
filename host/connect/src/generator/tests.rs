//! The data sets byte for byte, and that projecting, dealing and restarting change nothing of them.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, StructArray};
use pelton_model::batch::concat;
use pelton_model::schema::{DataType, Field};
use pelton_model::time::civil;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

const RECORDS: [(&str, &str); 3] = [
    (
        "person",
        "id name emailAddress creditCard city state dateTime extra",
    ),
    (
        "auction",
        "id itemName description initialBid reserve dateTime expires seller category extra",
    ),
    ("bid", "auction bidder price channel url dateTime extra"),
];

fn field(name: &str) -> Field {
    let data_type = match name {
        "dateTime" | "expires" | "ts" => DataType::Timestamp,
        "name" | "emailAddress" | "creditCard" | "city" | "state" | "extra" => DataType::String,
        "itemName" | "description" | "channel" | "url" => DataType::String,
        _ => DataType::I64,
    };
    Field::new(name, data_type)
}

fn event() -> Schema {
    let mut fields = vec![field("event_type"), field("ts")];
    for (record, names) in RECORDS {
        let inner = names.split(' ').map(field).collect();
        fields.push(Field::new(record, DataType::Struct(inner)).nullable());
    }
    Schema::new(fields)
}

fn bid() -> Schema {
    Schema::new(
        "auction bidder price channel url ts extra"
            .split(' ')
            .map(field)
            .collect(),
    )
}

fn options(options: &[(&str, &str)]) -> OptionMap {
    options
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn generator(given: &[(&str, &str)], needed: &Schema) -> Generator {
    Generator::new(&options(given), &event(), needed).unwrap()
}

/// Reads to the end, and returns the batches.
fn drain(reader: &mut dyn SourceReader, rows_max: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut now = Monotonic(0);
    loop {
        match reader.poll(now, rows_max).unwrap() {
            Poll::Rows(batch) => {
                assert!((1..=rows_max).contains(&batch.rows()) && batch.times().is_none());
                batches.push(batch);
            }
            Poll::Later(at) => now = at,
            Poll::End => return batches,
        }
    }
}

fn all(given: &[(&str, &str)], needed: &Schema, rows_max: usize) -> Batch {
    concat(&drain(
        generator(given, needed).reader(0, 1).unwrap().as_mut(),
        rows_max,
    ))
    .unwrap()
}

fn ints(column: &ArrayRef) -> &[i64] {
    match column.data_type() {
        arrow_schema::DataType::Int64 => column.as_primitive::<Int64Type>().values(),
        _ => column.as_primitive::<TimestampMillisecondType>().values(),
    }
}

/// Writes a row of a record as the data set's own program does.
fn write_record(out: &mut Vec<u8>, record: &StructArray, row: usize) {
    for (i, (name, column)) in record
        .column_names()
        .into_iter()
        .zip(record.columns())
        .enumerate()
    {
        let begin = if i == 0 { "{" } else { "," };
        match column.data_type() {
            arrow_schema::DataType::Utf8 => {
                write!(
                    out,
                    "{begin}\"{name}\":\"{}\"",
                    column.as_string::<i32>().value(row)
                )
                .unwrap();
            }
            arrow_schema::DataType::Int64 => {
                write!(out, "{begin}\"{name}\":{}", ints(column)[row]).unwrap()
            }
            _ => {
                let c = civil(ints(column)[row]).unwrap();
                write!(
                    out,
                    "{begin}\"{name}\":\"{:04}-{:02}-{:02} ",
                    c.year, c.month, c.day
                )
                .unwrap();
                write!(
                    out,
                    "{:02}:{:02}:{:02}.{:03}\"",
                    c.hour, c.minute, c.second, c.milli
                )
                .unwrap();
            }
        }
    }
    out.push(b'}');
}

/// The sums of events.jsonl, person.jsonl, auction.jsonl and bid.jsonl.
fn sums(set: &str, rows_max: usize) -> Vec<String> {
    let mut sums: Vec<Sha256> = (0..4).map(|_| Sha256::new()).collect();
    for batch in drain(
        generator(&[("set", set)], &event())
            .reader(0, 1)
            .unwrap()
            .as_mut(),
        rows_max,
    ) {
        for row in 0..batch.len() {
            let (kind, ts) = (
                ints(&batch.columns()[0])[row],
                ints(&batch.columns()[1])[row],
            );
            for (i, (name, _)) in RECORDS.iter().enumerate() {
                let record = batch.columns()[2 + i].as_struct();
                assert_eq!(record.is_valid(row), i as i64 == kind);
                if i as i64 == kind {
                    let mut line = Vec::new();
                    write_record(&mut line, record, row);
                    sums[1 + i].update(&line);
                    sums[1 + i].update(b"\n");
                    sums[0].update(format!("{{\"event_type\":{kind},\"ts\":{ts},\"{name}\":"));
                    sums[0].update(&line);
                    sums[0].update(b"}\n");
                }
            }
        }
    }
    sums.into_iter()
        .map(|s| s.finalize().iter().map(|b| format!("{b:02x}")).collect())
        .collect()
}

#[test]
fn the_set_10k_is_the_reference() {
    let expected = [
        "1b1a19009087c71018ef1a9e9c3cf83948a97735123d7111dba549a5021e1c2d",
        "f3aa12070cd7e6edb96460df606e7a3ffda45d8b56b6a126c5de2be7d95b4f21",
        "621310f776847c7ff1b889164dfabe2bfd07dcd7430337fa82267b3e7df0dae6",
        "126235f62ac92af4aecfb450ee4179a3de9c936fe4043d7f15dd2ffc91bb6513",
    ];
    assert_eq!(sums("10k", 8_192), expected);
    assert_eq!(sums("10k", 7), expected);
}

#[test]
fn the_set_200k_is_the_reference() {
    let expected = [
        "a53995fe958aa2a10c56ca8204355d523f17b54e724bafe278469a22f879e6f5",
        "6680ec5815fcefdfc9faca7c1ead485bc5ece14a60a6c6de287d833dd5612d72",
        "0f6ffaddc66d7b85def4727a152c5e9f9115791038bfb51c05c982678565316a",
        "7eef8167eb459200ca7d50e9299c63e8fae2ecf7957d55ace80af8a725253f95",
    ];
    assert_eq!(sums("200k", 1_000), expected);
}

/// The bit of each field in a mask of what is needed: two plain fields, then those of the records.
fn subset(mask: u32) -> Schema {
    let mut bit = 0;
    let mut keep = || {
        bit += 1;
        mask >> (bit - 1) & 1 == 1
    };
    let mut fields = Vec::new();
    for f in event().fields {
        match &f.data_type {
            DataType::Struct(inner) => {
                let inner: Vec<Field> = inner.iter().filter(|_| keep()).cloned().collect();
                // A record of which nothing is needed but whether it is there.
                if !inner.is_empty() || f.name == "auction" {
                    fields.push(Field {
                        data_type: DataType::Struct(inner),
                        ..f
                    });
                }
            }
            _ if keep() => fields.push(f),
            _ => {}
        }
    }
    Schema::new(fields)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn projected_events_are_the_projection_of_all(mask in 0u32..1 << 27, rows_max in 1usize..700, seed in 0u64..5) {
        let needed = subset(mask);
        let seed = seed.to_string();
        let given = [("events", "1200"), ("seed", seed.as_str())];
        let full = all(&given, &event(), 8_192);
        let expected = Projection::new(&event(), &needed).unwrap().apply(full.columns()).unwrap();
        let made = all(&given, &needed, rows_max);
        prop_assert_eq!(made.len(), 1_200);
        prop_assert_eq!(made.columns(), &expected[..]);
        let dropped = all(&[given[0], given[1], ("all_columns", "true")], &needed, rows_max);
        prop_assert_eq!(dropped.columns(), &expected[..]);
    }

    #[test]
    fn a_restarted_reader_gives_the_rest(
        stop in 1usize..1_234, rows_max in 1usize..100, splits in 1u32..4, preload in any::<bool>(),
    ) {
        let (splits, preload) = (splits.to_string(), preload.to_string());
        let given = [("events", "1234"), ("splits", splits.as_str()), ("preload", preload.as_str())];
        let generator = generator(&given, &event());
        let whole = all(&given, &event(), 8_192);
        let mut first = generator.reader(0, 1).unwrap();
        let mut taken = 0;
        while taken < stop {
            let Poll::Rows(batch) = first.poll(Monotonic(0), rows_max.min(stop - taken)).unwrap() else { break };
            taken += batch.rows();
        }
        let mut second = generator.reader_at(0, 1, &first.positions()).unwrap();
        let rest = drain(second.as_mut(), rows_max);
        let left = whole.slice(taken, 1_234 - taken);
        let rest = if rest.is_empty() { left.slice(0, 0) } else { concat(&rest).unwrap() };
        prop_assert_eq!(rest.columns(), left.columns());
        prop_assert_eq!(second.progress().rows as usize, 1_234 - taken);
        prop_assert_eq!(second.progress().total, Some(1_234));
    }
}

#[test]
fn the_even_stream_steps_evenly_in_epochs() {
    let batch = all(&[("events", "100"), ("step_us", "1_500")], &event(), 64);
    let expected: Vec<i64> = (0..100).map(|n| 1_709_964_000_000 + n * 3 / 2).collect();
    assert_eq!(ints(&batch.columns()[1]), expected);
    let epoch = |_: i32| [0, 1, 1, 1].into_iter().chain([2; 46]);
    assert_eq!(
        ints(&batch.columns()[0]),
        (0..2).flat_map(epoch).collect::<Vec<i64>>()
    );
}

#[test]
fn two_readers_share_the_events_and_a_named_set_has_one() {
    let ids = |given: &[(&str, &str)], index| {
        let inner = DataType::Struct(vec![field("id")]);
        let needed = Schema::new(vec![field("ts"), Field::new("auction", inner).nullable()]);
        let generator = generator(given, &needed);
        drain(generator.reader(index, 2).unwrap().as_mut(), 333)
            .iter()
            .map(Batch::rows)
            .sum::<usize>()
    };
    let even = [("events", "1130"), ("splits", "3")];
    // Splits 0 and 2 of 22 whole blocks and one of 30: eight, seven, seven and the rest in split 1.
    assert_eq!((ids(&even, 0), ids(&even, 1)), (750, 380));
    assert_eq!(
        (ids(&[("set", "10k")], 0), ids(&[("set", "10k")], 1)),
        (10_000, 0)
    );
}

#[test]
fn bids_alone_are_the_bids_of_all_events() {
    let all_bids = all(&[("events", "1000")], &event(), 8_192);
    let rows: Vec<u32> = (0..1_000).filter(|n| n % 50 >= 4).collect();
    let expected = all_bids.select(rows.into()).unwrap().materialize().unwrap();
    let record: &StructArray = expected.columns()[4].as_struct();

    let given = options(&[("events", "920"), ("only", "bid")]);
    let flat = Generator::new(&given, &bid(), &bid()).unwrap();
    let flat = concat(&drain(flat.reader(0, 1).unwrap().as_mut(), 100)).unwrap();
    assert_eq!(
        flat.columns(),
        record.columns_by(&[
            "auction", "bidder", "price", "channel", "url", "dateTime", "extra"
        ])
    );

    let nested = all(&[("events", "920"), ("only", "bid")], &event(), 100);
    assert_eq!(nested.columns()[..2], expected.columns()[..2]);
    assert_eq!(nested.columns()[2].null_count(), 920);
    assert_eq!(nested.columns()[4].as_struct().columns(), record.columns());
    assert_eq!(nested.columns()[4].null_count(), 0);
}

trait ColumnsBy {
    fn columns_by(&self, names: &[&str]) -> Vec<ArrayRef>;
}

impl ColumnsBy for StructArray {
    fn columns_by(&self, names: &[&str]) -> Vec<ArrayRef> {
        names
            .iter()
            .map(|n| self.column_by_name(n).unwrap().clone())
            .collect()
    }
}

#[test]
fn keys_are_the_reference_and_each_split_has_its_range() {
    let key = Schema::new(vec![field("key")]);
    let given = options(&[("kind", "keys"), ("events", "1001"), ("keys", "1_000")]);
    check_source(&given, &key).unwrap();
    let generator = Generator::new(&given, &key, &key).unwrap();
    let read = |index| {
        let batches = drain(generator.reader(index, 2).unwrap().as_mut(), 128);
        batches
            .iter()
            .flat_map(|b| ints(&b.columns()[0]).to_vec())
            .collect::<Vec<i64>>()
    };
    let expected: Vec<i64> = (0..1_001)
        .map(|i| ((draws::mix(i + 1) >> 33) % 1_000) as i64)
        .collect();
    assert_eq!(
        (read(0), read(1)),
        (expected[..500].to_vec(), expected[500..].to_vec())
    );
    assert!(
        check_source(&given, &event())
            .unwrap_err()
            .message()
            .contains("makes only key: i64")
    );
}

#[test]
fn preloaded_keys_are_left_where_they_were_taken() {
    let key = Schema::new(vec![field("key")]);
    let given = [("kind", "keys"), ("events", "1001"), ("preload", "true")];
    let generator = Generator::new(&options(&given), &key, &key).unwrap();
    let mut whole = drain(generator.reader(0, 1).unwrap().as_mut(), 8_192);
    let mut reader = generator.reader(0, 1).unwrap();
    let Poll::Rows(begin) = reader.poll(Monotonic(0), 300).unwrap() else {
        panic!("it ends at once");
    };
    let mut rest = drain(
        generator
            .reader_at(0, 1, &reader.positions())
            .unwrap()
            .as_mut(),
        8_192,
    );
    let all = |batches: &mut Vec<Batch>| {
        let mut keys: Vec<i64> = batches
            .iter()
            .flat_map(|b| ints(&b.columns()[0]).to_vec())
            .collect();
        keys.sort_unstable();
        keys
    };
    rest.push(begin);
    assert_eq!(all(&mut rest), all(&mut whole));
}

#[test]
fn a_rate_makes_small_batches_and_loses_nothing() {
    let given = [("events", "10_000"), ("rate", "500_000")];
    let batches = drain(
        generator(&given, &Schema::new(vec![field("ts")]))
            .reader(0, 1)
            .unwrap()
            .as_mut(),
        8_192,
    );
    assert_eq!(batches.iter().map(Batch::rows).sum::<usize>(), 10_000);
    assert!(batches.iter().all(|b| b.rows() <= 5_000), "10 ms at most");
}

#[test]
fn record_types_are_checked_by_field() {
    let check = |fields: Vec<Field>| {
        let given = options(&[("events", "1")]);
        check_source(&given, &Schema::new(fields)).map_err(|e| e.to_string())
    };
    let record = |name: &str, f: Field| Field::new(name, DataType::Struct(vec![f]));
    for (field, message) in [
        (
            record("bid", Field::new("price", DataType::I32)).nullable(),
            "field 'bid.price' is declared as i32, but the generator makes i64",
        ),
        (
            record("bid", Field::new("prize", DataType::I64)).nullable(),
            "the generator makes no field 'bid.prize', did you mean 'price'?",
        ),
        (
            record("bid", field("price")),
            "field 'bid' must be nullable: an event is one of person, auction and bid",
        ),
        (
            Field::new("event_type", DataType::String),
            "field 'event_type' is declared as string, but the generator makes i64, i32 or u8",
        ),
        (
            Field::new("person", DataType::I64),
            "field 'person' is declared as i64, but the generator makes a record",
        ),
        (
            Field::new("word", DataType::String),
            "the generator makes no field 'word'",
        ),
    ] {
        assert_eq!(check(vec![field]).unwrap_err(), message);
    }
    for event_type in [DataType::I64, DataType::I32, DataType::U8] {
        check(vec![Field::new("event_type", event_type)]).unwrap();
    }
}

#[test]
fn nothing_to_make_ends_at_once_and_positions_beyond_the_end_are_refused() {
    let generator = generator(&[("events", "0")], &event());
    assert!(drain(generator.reader(0, 1).unwrap().as_mut(), 10).is_empty());
    let e = generator.reader_at(0, 1, &[position(1, 1)]).err().unwrap();
    assert_eq!(e.code(), ErrorCode::StateMismatch);
    let source: Arc<dyn Source> = Arc::new(generator);
    assert!(source.reader(2, 2).is_err());
}

fn position(split: u32, taken: u8) -> Position {
    Position {
        split: split.to_string(),
        at: vec![1, taken, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// These bytes are in checkpoints: a reader must understand them for ever.
#[test]
fn positions_of_the_first_version_are_read() {
    let generator = generator(&[("events", "200"), ("splits", "2")], &event());
    let mut reader = generator.reader(0, 2).unwrap();
    let Poll::Rows(_) = reader.poll(Monotonic(0), 7).unwrap() else {
        panic!("it ends at once");
    };
    assert_eq!(reader.positions(), [position(0, 7)]);
    for wrong in [
        position(2, 0),
        Position {
            at: vec![2, 0, 0, 0, 0, 0, 0, 0, 0],
            ..position(0, 0)
        },
        Position {
            at: vec![1, 0],
            ..position(0, 0)
        },
    ] {
        let e = generator.reader_at(0, 2, &[wrong]).err().unwrap();
        assert_eq!(e.code(), ErrorCode::StateMismatch);
    }
}

/// The numbers of the events that some readers give from these positions, at most `most` each, and where they stand then.
fn some(
    generator: &Generator,
    parallelism: u32,
    most: usize,
    at: &[Position],
) -> (Vec<i64>, Vec<Position>) {
    let (mut rows, mut positions) = (Vec::new(), Vec::new());
    for index in 0..parallelism {
        let mut reader = generator.reader_at(index, parallelism, at).unwrap();
        let mut taken = 0;
        while taken < most {
            let Poll::Rows(batch) = reader.poll(Monotonic(0), 17.min(most - taken)).unwrap() else {
                break;
            };
            taken += batch.rows();
            rows.extend(ints(&batch.columns()[1]));
        }
        positions.extend(reader.positions());
    }
    (rows, positions)
}

#[test]
fn readers_of_any_number_go_on_where_others_stood() {
    for (before, after) in [(1, 1), (2, 2), (3, 1), (1, 3), (2, 5)] {
        let given = [("events", "1234"), ("splits", "3"), ("step_us", "1000")];
        let generator = generator(&given, &event());
        let (mut rows, positions) = some(&generator, before, 200, &[]);
        let (more, positions) = some(&generator, after, 100, &positions);
        let (rest, end) = some(&generator, before, usize::MAX, &positions);
        rows.extend(more);
        rows.extend(rest);
        rows.sort_unstable();
        let expected: Vec<i64> = (0..1_234).map(|n| 1_709_964_000_000 + n).collect();
        assert_eq!(rows, expected, "{before} {after}");
        assert!(some(&generator, 2, usize::MAX, &end).0.is_empty());
    }
}
