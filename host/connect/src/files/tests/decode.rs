//! Values of all types, from JSON and CSV.

use pelton_model::schema::{DataType, Field, Schema};

use super::{Reading, folder, schema};

/// Reads one line of JSON as a record with the field `v`.
#[track_caller]
fn check(data_type: DataType, cases: &[(&str, &str)]) {
    let declared = Schema::new(vec![Field::new("v", data_type).nullable()]);
    let lines: String = cases
        .iter()
        .map(|(json, _)| format!("{{\"v\":{json}}}\n"))
        .collect();
    let dir = folder(&[("in.jsonl", lines.as_bytes())]);
    let mut reading = Reading::json(&dir.path().join("in.jsonl"), declared);
    let expected: Vec<String> = cases
        .iter()
        .map(|(_, value)| format!("{{\"v\":{value}}}"))
        .collect();
    assert_eq!(reading.rows().unwrap(), expected);
    reading.rows_max = 1;
    assert_eq!(reading.rows().unwrap(), expected);
}

#[test]
fn numbers() {
    check(
        DataType::Bool,
        &[("true", "true"), ("null", "null"), ("false", "false")],
    );
    check(
        DataType::I8,
        &[("-128", "-128"), ("127", "127"), ("-0", "0")],
    );
    check(DataType::I16, &[("-32768", "-32768"), ("32767", "32767")]);
    check(
        DataType::I32,
        &[("-2147483648", "-2147483648"), ("null", "null")],
    );
    check(
        DataType::I64,
        &[
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775807", "9223372036854775807"),
            ("0", "0"),
        ],
    );
    check(DataType::U8, &[("255", "255")]);
    check(DataType::U16, &[("65535", "65535")]);
    check(DataType::U32, &[("4294967295", "4294967295")]);
    check(
        DataType::U64,
        &[
            ("18446744073709551615", "18446744073709551615"),
            ("-0", "0"),
        ],
    );
    check(
        DataType::F32,
        &[
            ("1", "1.0"),
            ("0.1", "0.1"),
            ("3.4028235e38", "3.4028235e38"),
            ("-0", "-0.0"),
            ("16777217", "16777216.0"),
        ],
    );
    check(
        DataType::F64,
        &[
            ("1", "1.0"),
            ("-2.5e-3", "-0.0025"),
            ("1E2", "100.0"),
            ("5e-324", "5e-324"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("-0.0", "-0.0"),
        ],
    );
    check(
        DataType::Decimal { scale: 2 },
        &[
            ("1", "1.00"),
            ("\"-0.5\"", "-0.50"),
            ("1.500", "1.50"),
            ("12e-1", "1.20"),
            ("null", "null"),
        ],
    );
}

#[test]
fn texts_times_and_bytes() {
    check(
        DataType::String,
        &[
            ("\"\"", "\"\""),
            ("\"plain\"", "\"plain\""),
            (r#""\"\\\/\b\f\n\r\t""#, r#""\"\\/\u0008\u000c\n\r\t""#),
            (
                r#""\u00e9 \u20AC \ud83d\ude00 \u0000""#,
                "\"é € 😀 \\u0000\"",
            ),
            ("\"é € 😀\"", "\"é € 😀\""),
            ("null", "null"),
        ],
    );
    check(
        DataType::Bytes,
        &[
            ("\"\"", "\"\""),
            ("\"aGk=\"", "\"aGk=\""),
            ("\"\\u0061Gk=\"", "\"aGk=\""),
            ("null", "null"),
        ],
    );
    check(
        DataType::Timestamp,
        &[
            ("-1", "-1"),
            ("9223372036854775807", "9223372036854775807"),
            ("\"2024-03-09 05:59:50.000\"", "1709963990000"),
            ("\"2024-03-09T07:59:50+02:00\"", "1709963990000"),
            ("\"9999-12-31T23:59:59.999Z\"", "253402300799999"),
        ],
    );
    check(
        DataType::Date,
        &[
            ("\"1969-12-31\"", "\"1969-12-31\""),
            ("\"9999-12-31\"", "\"9999-12-31\""),
            ("null", "null"),
        ],
    );
}

#[test]
fn nested_records_and_lists() {
    let inner = DataType::Struct(vec![
        Field::new("a", DataType::I64),
        Field::new(
            "b",
            DataType::List(Box::new(Field::new("item", DataType::String).nullable())),
        )
        .nullable(),
    ]);
    check(
        inner.clone(),
        &[
            ("{\"a\":1}", "{\"a\":1,\"b\":null}"),
            ("null", "null"),
            (
                " { \"b\" : [ \"x\" , null ] ,\"z\":{}, \"a\" : 2 } ",
                "{\"a\":2,\"b\":[\"x\",null]}",
            ),
            ("{\"b\":[],\"a\":3}", "{\"a\":3,\"b\":[]}"),
        ],
    );
    let list = DataType::List(Box::new(Field::new("item", inner).nullable()));
    check(
        DataType::List(Box::new(Field::new("item", list))),
        &[
            ("[]", "[]"),
            ("[[],[null,{\"a\":1}]]", "[[],[null,{\"a\":1,\"b\":null}]]"),
            ("null", "null"),
            (
                "[[{\"a\":1,\"b\":[\"y\"]},null],[]]",
                "[[{\"a\":1,\"b\":[\"y\"]},null],[]]",
            ),
        ],
    );
}

#[test]
fn of_fields_that_stand_twice_the_last_wins() {
    let inner = DataType::Struct(vec![
        Field::new("x", DataType::I64).nullable(),
        Field::new("y", DataType::I64).nullable(),
    ]);
    let declared = Schema::new(vec![
        Field::new("id", DataType::I64),
        Field::new("r", inner).nullable(),
    ]);
    let lines = "{\"id\":1,\"id\":2,\"r\":{\"x\":1},\"r\":{\"y\":2}}\n{\"r\":{\"x\":1},\"id\":3,\"r\":null}\n{\"\\u0069d\":4,\"r\":{\"x\":9}}\n";
    let dir = folder(&[("in.jsonl", lines.as_bytes())]);
    assert_eq!(
        Reading::json(&dir.path().join("in.jsonl"), declared)
            .rows()
            .unwrap(),
        [
            "{\"id\":2,\"r\":{\"x\":null,\"y\":2}}",
            "{\"id\":3,\"r\":null}",
            "{\"id\":4,\"r\":{\"x\":9,\"y\":null}}"
        ]
    );
}

#[test]
fn only_needed_columns_are_made_nested_ones_too() {
    let inner = DataType::Struct(vec![
        Field::new("x", DataType::I64),
        Field::new("y", DataType::I64),
    ]);
    let declared = Schema::new(vec![
        Field::new("id", DataType::I64),
        Field::new("r", inner),
    ]);
    let dir = folder(&[(
        "in.jsonl",
        b"{\"id\":\"not read\",\"r\":{\"x\":{},\"y\":2}}\n",
    )]);
    let mut reading = Reading::json(&dir.path().join("in.jsonl"), declared.clone());
    assert_eq!(
        reading.error().message(),
        "field 'id' is i64, but has a string"
    );
    reading.needed = declared.restrict(&schema(&[(
        "r",
        DataType::Struct(vec![Field::new("y", DataType::I64)]),
    )]));
    assert_eq!(reading.rows().unwrap(), ["{\"r\":{\"y\":2}}"]);
    // No column at all: the rows are counted.
    reading.needed = Schema::default();
    assert_eq!(reading.rows().unwrap(), ["{}"]);
}

#[test]
fn nesting_is_allowed_up_to_its_limit() {
    let line = format!(
        "{{\"id\":1,\"other\":{}{}}}\n",
        "[".repeat(63),
        "]".repeat(63)
    );
    let dir = folder(&[("in.jsonl", line.as_bytes())]);
    assert_eq!(
        Reading::json(
            &dir.path().join("in.jsonl"),
            schema(&[("id", DataType::I64)])
        )
        .rows()
        .unwrap(),
        ["{\"id\":1}"]
    );
}

#[test]
fn csv_by_name_by_place_and_with_other_delimiters() {
    let declared = Schema::new(vec![
        Field::new("id", DataType::I64),
        Field::new("name", DataType::String).nullable(),
        Field::new("price", DataType::Decimal { scale: 2 }),
    ]);
    let expected = [
        "{\"id\":1,\"name\":\"a, \\\"b\\\"\",\"price\":1.50}",
        "{\"id\":2,\"name\":null,\"price\":-2.00}",
        "{\"id\":3,\"name\":\"\",\"price\":0.00}",
    ];
    let named = b"\xef\xbb\xbfprice,ignored,name,id\r\n1.5,,\"a, \"\"b\"\"\",1\r\n\r\n-2,x,,2\n0,\"\",\"\",3";
    let placed = b"1\t\"a, \"\"b\"\"\"\t1.5\n2\t\t-2\n3\t\"\"\t0\n";
    let dir = folder(&[("named.csv", named), ("placed.tsv", placed)]);
    let mut reading = Reading::new(
        &dir.path().join("named.csv"),
        &[("format", "csv")],
        declared.clone(),
    );
    for chunk_bytes in [1, 5, 1_000] {
        reading.chunk_bytes = chunk_bytes;
        assert_eq!(reading.rows().unwrap(), expected);
    }
    reading.needed = schema(&[("id", DataType::I64)]);
    assert_eq!(
        reading.rows().unwrap(),
        ["{\"id\":1}", "{\"id\":2}", "{\"id\":3}"]
    );

    let options = [("format", "csv"), ("header", "false"), ("delimiter", "\\t")];
    let mut reading = Reading::new(&dir.path().join("placed.tsv"), &options, declared);
    assert_eq!(reading.rows().unwrap(), expected);
    reading.needed = reading
        .declared
        .restrict(&schema(&[("price", DataType::Decimal { scale: 2 })]));
    assert_eq!(
        reading.rows().unwrap(),
        ["{\"price\":1.50}", "{\"price\":-2.00}", "{\"price\":0.00}"]
    );
}

#[test]
fn csv_of_each_type() {
    let declared = Schema::new(vec![
        Field::new("b", DataType::Bool),
        Field::new("n", DataType::U8),
        Field::new("f", DataType::F64),
        Field::new("t", DataType::Timestamp),
        Field::new("d", DataType::Date),
        Field::new("y", DataType::Bytes),
        Field::new(
            "l",
            DataType::List(Box::new(Field::new("item", DataType::I64))),
        ),
        Field::new(
            "r",
            DataType::Struct(vec![Field::new("x", DataType::String)]),
        ),
    ]);
    let lines = "true,7,1.5,1709963990000,2024-03-09,aGk=,\"[1,2]\",\"{\"\"x\"\":\"\"a\"\"}\"\n\
                 false,0,NaN,2024-03-09 05:59:50.001,1970-01-01,,[],{\"\"}\n";
    let dir = folder(&[("in.csv", lines.as_bytes())]);
    let options = [("format", "csv"), ("header", "false"), ("on_error", "skip")];
    let reading = Reading::new(&dir.path().join("in.csv"), &options, declared);
    let first = "{\"b\":true,\"n\":7,\"f\":1.5,\"t\":1709963990000,\"d\":\"2024-03-09\",\"y\":\"aGk=\",\"l\":[1,2],\"r\":{\"x\":\"a\"}}";
    // A quote within a field without quotes: the second line is passed over.
    assert_eq!(reading.rows().unwrap(), [first]);
    let lines = lines.replace("{\"\"}", "\"{\"\"x\"\":\"\"\"\"}\"");
    let dir = folder(&[("in.csv", lines.as_bytes())]);
    let reading = Reading::new(&dir.path().join("in.csv"), &options, reading.declared);
    let second = "{\"b\":false,\"n\":0,\"f\":\"NaN\",\"t\":1709963990001,\"d\":\"1970-01-01\",\"y\":\"\",\"l\":[],\"r\":{\"x\":\"\"}}";
    assert_eq!(reading.rows().unwrap(), [first, second]);
}

#[test]
fn csv_over_several_lines_if_allowed() {
    let declared = schema(&[("id", DataType::I64), ("text", DataType::String)]);
    let lines = [
        b"id,\"text\"\n".as_slice(),
        b"1,\"a\nb\n\nc\"\n2,x\n3,\"\n\"\n4x,y\n",
    ]
    .concat();
    let dir = folder(&[("in.csv", &lines)]);
    let path = dir.path().join("in.csv");
    let mut reading = Reading::new(&path, &[("format", "csv"), ("multiline", "true")], declared);
    reading.chunk_bytes = 1;
    let e = reading.error();
    assert_eq!(
        e.to_string(),
        format!(
            "field 'id' is i64, but has '4x', column 1, line 9, file {}",
            path.display()
        )
    );
    reading
        .options
        .insert("on_error".to_string(), "skip".to_string());
    assert_eq!(
        reading.rows().unwrap(),
        [
            "{\"id\":1,\"text\":\"a\\nb\\n\\nc\"}",
            "{\"id\":2,\"text\":\"x\"}",
            "{\"id\":3,\"text\":\"\\n\"}"
        ]
    );
    // Quotes that nothing closes end with the file.
    reading.options.remove("on_error");
    reading.rows_max = 1;
    std::fs::write(&path, b"id,text\n1,a\n2,\"b\n3,c\n").unwrap();
    assert_eq!(
        reading.error().to_string(),
        format!(
            "not valid CSV: the file ends within quotes, column 1, line 3, file {}",
            path.display()
        )
    );
    reading
        .options
        .insert("on_error".to_string(), "skip".to_string());
    assert_eq!(
        reading.rows().unwrap(),
        ["{\"id\":1,\"text\":\"a\"}", "{\"id\":3,\"text\":\"c\"}"]
    );
}
