//! The decoder against two others, on random lines.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::ReaderBuilder;
use pelton_model::schema::{DataType, Field, Schema};
use proptest::prelude::*;
use serde_json::Value;

use super::super::columns::Record;
use super::super::json::{Line, line};

fn declared() -> Schema {
    let inner = vec![
        Field::new("a", DataType::I64),
        Field::new("b", DataType::String).nullable(),
        Field::new(
            "c",
            DataType::List(Box::new(Field::new("item", DataType::F64).nullable())),
        )
        .nullable(),
    ];
    Schema::new(vec![
        Field::new("id", DataType::I64),
        Field::new("small", DataType::I16).nullable(),
        Field::new("big", DataType::U64).nullable(),
        Field::new("f", DataType::F64).nullable(),
        Field::new("flag", DataType::Bool).nullable(),
        Field::new("text", DataType::String).nullable(),
        Field::new("r", DataType::Struct(inner.clone())).nullable(),
        Field::new(
            "rs",
            DataType::List(Box::new(
                Field::new("item", DataType::Struct(inner)).nullable(),
            )),
        )
        .nullable(),
    ])
}

/// A value of this type, as it might be written.
fn json_of(data_type: &DataType) -> BoxedStrategy<String> {
    match data_type {
        DataType::Bool => any::<bool>().prop_map(|b| b.to_string()).boxed(),
        DataType::I16 => any::<i16>().prop_map(|n| n.to_string()).boxed(),
        DataType::I64 => prop_oneof![any::<i64>(), -99..99_i64]
            .prop_map(|n| n.to_string())
            .boxed(),
        DataType::U64 => any::<u64>().prop_map(|n| n.to_string()).boxed(),
        DataType::F64 => prop_oneof![
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(|f| format!("{f:e}")),
            (any::<i32>(), 0..12_u32).prop_map(|(n, places)| format!(
                "{n}.{:0width$}",
                7,
                width = places as usize + 1
            )),
            any::<i64>().prop_map(|n| n.to_string()),
        ]
        .boxed(),
        DataType::String => prop_oneof![".{0,20}", "[ -~]{0,40}"]
            .prop_map(|s: String| serde_json::to_string(&s).unwrap())
            .boxed(),
        DataType::List(item) => prop::collection::vec(nullable(item), 0..4)
            .prop_map(|v| format!("[{}]", v.join(", ")))
            .boxed(),
        DataType::Struct(fields) => object_of(fields),
        other => panic!("{other} is not in the record"),
    }
}

fn nullable(field: &Field) -> BoxedStrategy<String> {
    let value = json_of(&field.data_type);
    if field.nullable {
        prop_oneof![1 => Just("null".to_string()), 4 => value].boxed()
    } else {
        value
    }
}

/// Fields in any order, some left out, some that nobody knows.
fn object_of(fields: &[Field]) -> BoxedStrategy<String> {
    let known: Vec<BoxedStrategy<Option<String>>> = fields
        .iter()
        .map(|f| {
            let name = serde_json::to_string(&f.name).unwrap();
            let written = nullable(f).prop_map(move |v| Some(format!("{name} :{v}")));
            if f.nullable {
                prop_oneof![1 => Just(None), 4 => written.clone()].boxed()
            } else {
                written.boxed()
            }
        })
        .collect();
    let unknown = prop::option::of(
        prop_oneof![
            Just("1e5"),
            Just("[[],{\"id\":[null]}]"),
            Just("\"\\u00e9\\\"}\""),
            Just("{}"),
            Just("false")
        ]
        .prop_map(|v| format!("\"unknown\":{v}")),
    );
    (known, unknown)
        .prop_map(|(known, unknown)| {
            known
                .into_iter()
                .chain([unknown])
                .flatten()
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(|parts| format!("{{{}}}", parts.join("\t,")))
        .boxed()
}

fn decode(schema: &Schema, lines: &[u8]) -> Option<RecordBatch> {
    let mut root = Record::new(&schema.fields);
    let (mut p, mut rows) = (0, 0);
    while p < lines.len() {
        p = match line(&mut root, lines, p, rows).ok()? {
            Line::Row(next) => {
                rows += 1;
                next
            }
            Line::Blank(next) => next,
        };
    }
    let columns = root.finish(rows).unwrap();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    Some(
        RecordBatch::try_new_with_options(
            Arc::new(arrow_schema::Schema::new(schema.to_arrow())),
            columns,
            &options,
        )
        .unwrap(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn valid_lines_decode_as_by_arrow_json(lines in prop::collection::vec(object_of(&declared().fields), 1..12)) {
        let bytes = (lines.join("\n") + "\n").into_bytes();
        let schema = Arc::new(arrow_schema::Schema::new(declared().to_arrow()));
        let mut decoder = ReaderBuilder::new(schema).build_decoder().unwrap();
        decoder.decode(&bytes).unwrap();
        let expected = decoder.flush().unwrap().unwrap();
        let ours = decode(&declared(), &bytes);
        prop_assert_eq!(ours.as_ref(), Some(&expected), "{}", lines.join("\n"));
    }

    #[test]
    fn a_line_is_valid_exactly_when_serde_json_says_so(
        text in object_of(&declared().fields),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(
            b"{}[]\",:\\ \t0123456789.-+eEtrufalsn\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xff".to_vec())), 0..4),
    ) {
        let mut bytes = text.into_bytes();
        for (place, kind, byte) in edits {
            let i = place.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                _ if bytes.is_empty() => bytes.push(byte),
                0 => drop(bytes.remove(i)),
                1 => bytes.insert(i, byte),
                2 => bytes.truncate(i),
                _ => bytes[i] = byte,
            }
        }
        bytes.push(b'\n');
        let theirs = serde_json::from_slice::<Value>(&bytes);
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        // That one stops at a number beyond binary64; a number that nobody reads has no range.
        if !theirs.as_ref().is_err_and(|e| e.to_string().starts_with("number out of range")) {
            let valid = matches!(theirs, Ok(Value::Object(_))) || blank;
            prop_assert_eq!(decode(&Schema::default(), &bytes).is_some(), valid, "{}", String::from_utf8_lossy(&bytes));
        }
        // Whatever the line is, decoding it with all columns says yes or no.
        let _ = decode(&declared(), &bytes);
    }

    #[test]
    fn a_bad_line_leaves_no_trace(
        lines in prop::collection::vec((object_of(&declared().fields), prop::option::of(any::<prop::sample::Index>())), 1..8),
    ) {
        let schema = declared();
        let mut root = Record::new(&schema.fields);
        let (mut rows, mut good) = (0, Vec::new());
        for (text, cut) in &lines {
            // A cut line is never valid: the last brace is missing.
            let cut = cut.map(|c| { let mut i = c.index(text.len()); while !text.is_char_boundary(i) { i -= 1 } i });
            let bytes = format!("{}\n", cut.map_or(text.as_str(), |i| &text[..i]));
            match line(&mut root, bytes.as_bytes(), 0, rows) {
                Ok(Line::Row(_)) => { rows += 1; good.extend_from_slice(bytes.as_bytes()); }
                Ok(Line::Blank(_)) => {}
                Err(_) => root.truncate(rows),
            }
        }
        let columns = root.finish(rows).unwrap();
        let alone = decode(&schema, &good).unwrap();
        prop_assert_eq!(columns.as_slice(), alone.columns());
    }
}
