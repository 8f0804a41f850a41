//! Lines of JSON that are refused, and with which words.

use pelton_model::ErrorCode;
use pelton_model::schema::{DataType, Field, Schema};

use super::{Reading, folder, schema};

/// A record with a field of each type.
fn every_type() -> Schema {
    let mut fields: Vec<Field> = [
        ("bool", DataType::Bool),
        ("i8", DataType::I8),
        ("i64", DataType::I64),
        ("u8", DataType::U8),
        ("u64", DataType::U64),
        ("f32", DataType::F32),
        ("f64", DataType::F64),
        ("string", DataType::String),
        ("bytes", DataType::Bytes),
        ("time", DataType::Timestamp),
        ("date", DataType::Date),
        ("decimal", DataType::Decimal { scale: 2 }),
        (
            "list",
            DataType::List(Box::new(Field::new("item", DataType::I64))),
        ),
        (
            "record",
            DataType::Struct(vec![
                Field::new("x", DataType::I64),
                Field::new("y", DataType::String).nullable(),
            ]),
        ),
    ]
    .into_iter()
    .map(|(n, t)| Field::new(n, t).nullable())
    .collect();
    fields.push(Field::new("id", DataType::I64));
    Schema::new(fields)
}

/// A line of JSON, what is wrong with it, and the column (from 1) where it shows.
#[track_caller]
fn check(line: impl AsRef<[u8]>, message: &str, column: usize) {
    let line = line.as_ref();
    let whole = [b"{\"id\":1}\n".as_slice(), line, b"\n{\"id\":3}\n"].concat();
    let dir = folder(&[("in.jsonl", &whole)]);
    let path = dir.path().join("in.jsonl");
    let mut reading = Reading::json(&path, every_type());
    let e = reading.error();
    let expected = format!(
        "{message}, column {column}, line 2, file {}",
        path.display()
    );
    assert_eq!(e.to_string(), expected, "{}", String::from_utf8_lossy(line));
    assert_eq!(e.code(), ErrorCode::BadRecord);
    // The others are there all the same, and one is counted.
    reading
        .options
        .insert("on_error".to_string(), "skip".to_string());
    let (batches, progress) = reading.batches().unwrap();
    assert_eq!((batches.len(), batches[0].rows()), (1, 2));
    assert_eq!((progress.rows, progress.skipped), (2, 1));
    reading.rows_max = 1;
    assert_eq!(reading.rows().unwrap().len(), 2);
}

#[test]
fn lines_that_are_not_objects() {
    check(
        "[1]",
        "not valid JSON: the line is an array, not an object",
        1,
    );
    check(
        " 12",
        "not valid JSON: the line is a number, not an object",
        2,
    );
    check("null", "not valid JSON: the line is null, not an object", 1);
    check(
        "\"x\"",
        "not valid JSON: the line is a string, not an object",
        1,
    );
    check(
        "hello",
        "not valid JSON: the line is no value, not an object",
        1,
    );
    check(
        "{\"id\":2} x",
        "not valid JSON: something stands behind the object",
        10,
    );
    check(
        "{\"id\":2}{\"id\":3}",
        "not valid JSON: something stands behind the object",
        9,
    );
}

#[test]
fn broken_syntax_anywhere_in_the_line() {
    check("{", "not valid JSON: a field name in quotes is expected", 2);
    check("{\"id\":2", "not valid JSON: a ',' or '}' is expected", 8);
    check(
        "{\"id\":2,}",
        "not valid JSON: a field name in quotes is expected",
        9,
    );
    check(
        "{id:2}",
        "not valid JSON: a field name in quotes is expected",
        2,
    );
    check("{\"id\" 2}", "not valid JSON: a ':' is expected", 7);
    check("{\"id\":}", "not valid JSON: a value is expected", 7);
    check(
        "{\"id\":",
        "not valid JSON: the line ends where a value is expected",
        7,
    );
    check(
        "{\"id\":2 \"x\":1}",
        "not valid JSON: a ',' or '}' is expected",
        9,
    );
    check(
        "{\"string\":\"abc",
        "not valid JSON: the line ends within a string",
        15,
    );
    check("{\"id\":-}", "not valid JSON: a value is expected", 7);
    check(
        "{\"id\":012}",
        "not valid JSON: a number may not begin with 0",
        7,
    );
    check("{\"f64\":1.}", "not valid JSON: a digit is expected", 10);
    check("{\"f64\":1e+}", "not valid JSON: a digit is expected", 11);
    check("{\"f64\":NaN}", "not valid JSON: a value is expected", 8);
    check("{\"bool\":tru}", "not valid JSON: a value is expected", 9);
    check("{\"bool\":nul}", "not valid JSON: a value is expected", 9);
    check(
        "{\"string\":\"a\tb\"}",
        "not valid JSON: a control character in a string must be escaped",
        13,
    );
    check(
        "{\"string\":\"\\x\"}",
        "not valid JSON: there is no such escape in JSON",
        12,
    );
    check(
        "{\"string\":\"\\u12g4\"}",
        "not valid JSON: four hexadecimal digits are expected",
        16,
    );
    check(
        "{\"string\":\"\\ud83d\"}",
        "not valid JSON: half of a surrogate pair stands alone",
        12,
    );
    check(
        "{\"string\":\"\\udc00\\ud800\"}",
        "not valid JSON: half of a surrogate pair stands alone",
        12,
    );
    check(
        b"{\"string\":\"a\xff\"}",
        "not valid JSON: the bytes are not UTF-8",
        13,
    );
    check(
        b"{\"string\":\"\xed\xa0\x80\"}",
        "not valid JSON: the bytes are not UTF-8",
        12,
    );
    check(
        "{\"list\":[1 2]}",
        "not valid JSON: a ',' or ']' is expected",
        12,
    );
    check("{\"list\":[1,]}", "not valid JSON: a value is expected", 12);
}

#[test]
fn what_nobody_reads_is_checked_too() {
    check(
        "{\"other\":\"a\\q\",\"id\":2}",
        "not valid JSON: there is no such escape in JSON",
        12,
    );
    check(
        b"{\"other\":\"\xc0\xaf\",\"id\":2}",
        "not valid JSON: the bytes are not UTF-8",
        11,
    );
    check(
        "{\"other\":{\"a\":[1,{\"b\":tru}]},\"id\":2}",
        "not valid JSON: a value is expected",
        23,
    );
    check(
        "{\"other\":{\"a\":1,},\"id\":2}",
        "not valid JSON: a field name in quotes is expected",
        17,
    );
    check(
        "{\"other\":[1,2,\"id\":2}",
        "not valid JSON: a ',' or ']' is expected",
        19,
    );
    check(
        "{\"other\":00,\"id\":2}",
        "not valid JSON: a number may not begin with 0",
        10,
    );
    check(
        "{\"other\":.5,\"id\":2}",
        "not valid JSON: a value is expected",
        10,
    );
    let deep = format!(
        "{{\"other\":{}1{},\"id\":2}}",
        "[".repeat(64),
        "]".repeat(64)
    );
    check(
        deep,
        "not valid JSON: objects and arrays are nested deeper than 64",
        10 + 63,
    );
}

#[test]
fn values_of_another_type() {
    check("{\"id\":\"2\"}", "field 'id' is i64, but has a string", 7);
    check(
        "{\"id\":2.0}",
        "field 'id' is i64, but has a number with a fraction",
        7,
    );
    check(
        "{\"id\":2e3}",
        "field 'id' is i64, but has a number with an exponent",
        7,
    );
    check("{\"id\":true}", "field 'id' is i64, but has a boolean", 7);
    check("{\"id\":[2]}", "field 'id' is i64, but has an array", 7);
    check("{\"bool\":1}", "field 'bool' is bool, but has a number", 9);
    check(
        "{\"bool\":\"true\"}",
        "field 'bool' is bool, but has a string",
        9,
    );
    check(
        "{\"string\":7}",
        "field 'string' is string, but has a number",
        11,
    );
    check(
        "{\"f64\":\"NaN\"}",
        "field 'f64' is f64, but has a string",
        8,
    );
    check(
        "{\"bytes\":[1,2]}",
        "field 'bytes' is bytes, but has an array",
        10,
    );
    check(
        "{\"bytes\":\"a-b=\"}",
        "field 'bytes' is not standard base64",
        10,
    );
    check(
        "{\"time\":1.5}",
        "field 'time' is timestamp, but has a number with a fraction",
        9,
    );
    check(
        "{\"time\":\"yesterday\"}",
        "field 'time' is not a time such as 2024-03-09 05:59:50.000",
        9,
    );
    check(
        "{\"time\":\"2016-12-31 23:59:60\"}",
        "field 'time' is not a time such as 2024-03-09 05:59:50.000",
        9,
    );
    check(
        "{\"date\":\"2023-02-29\"}",
        "field 'date' is not a date such as 2024-03-09",
        9,
    );
    check(
        "{\"date\":19000}",
        "field 'date' is date, but has a number",
        9,
    );
    check(
        "{\"decimal\":1.255}",
        "field 'decimal' has more than 2 digits behind the point",
        12,
    );
    check(
        "{\"decimal\":\"1,2\"}",
        "field 'decimal' is not a decimal number",
        12,
    );
    check(
        "{\"decimal\":1e37}",
        "field 'decimal' has more than 38 digits",
        12,
    );
    check(
        "{\"list\":{}}",
        "field 'list' is a list, but has an object",
        9,
    );
    check(
        "{\"list\":[1,\"x\"]}",
        "field 'list' is i64, but has a string",
        12,
    );
    check(
        "{\"list\":[1,null]}",
        "field 'list' is null, but may not be",
        12,
    );
    check(
        "{\"record\":[]}",
        "field 'record' is a record, but has an array",
        11,
    );
    check(
        "{\"record\":{\"x\":\"a\"}}",
        "field 'record.x' is i64, but has a string",
        16,
    );
}

#[test]
fn missing_and_null() {
    check("{}", "field 'id' is missing", 1);
    check("{\"ID\":2}", "field 'id' is missing", 1);
    check("{\"id\":null}", "field 'id' is null, but may not be", 7);
    check(
        "{\"id\":2,\"record\":{\"y\":\"a\"}}",
        "field 'record.x' is missing",
        18,
    );
    check(
        "{\"id\":2,\"record\":{\"x\":1,\"x\":null}}",
        "field 'record.x' is null, but may not be",
        29,
    );
}

#[test]
fn numbers_out_of_range() {
    check(
        "{\"i8\":128}",
        "field 'i8' is i8, but the number is out of its range",
        7,
    );
    check(
        "{\"i64\":9223372036854775808}",
        "field 'i64' is i64, but the number is out of its range",
        8,
    );
    check(
        "{\"i64\":-99999999999999999999999999999999999999999}",
        "field 'i64' is i64, but the number is out of its range",
        8,
    );
    check(
        "{\"u8\":-1}",
        "field 'u8' is u8, but the number is out of its range",
        7,
    );
    check(
        "{\"u64\":18446744073709551616}",
        "field 'u64' is u64, but the number is out of its range",
        8,
    );
    check(
        "{\"f64\":1e309}",
        "field 'f64' is f64, but the number is out of its range",
        8,
    );
    check(
        "{\"f32\":-4e38}",
        "field 'f32' is f32, but the number is out of its range",
        8,
    );
    check(
        "{\"time\":9223372036854775808}",
        "field 'time' is timestamp, but the number is out of its range",
        9,
    );
}

#[test]
fn the_last_line_may_be_torn() {
    let read = |content: &str| {
        let dir = folder(&[("in.jsonl", content.as_bytes())]);
        let path = dir.path().join("in.jsonl");
        Reading::json(&path, schema(&[("id", DataType::I64)]))
            .rows()
            .map_err(|e| e.to_string().replace(path.to_str().unwrap(), "F"))
    };
    assert_eq!(
        read("{\"id\":1}\n{\"id\":2}").unwrap(),
        ["{\"id\":1}", "{\"id\":2}"]
    );
    assert_eq!(
        read("{\"id\":1}\n{\"id\":2").unwrap_err(),
        "not valid JSON: a ',' or '}' is expected, column 8, line 2, file F"
    );
    assert_eq!(read("").unwrap(), [""; 0]);
    assert_eq!(
        read("\n \t\r\n\u{feff}").unwrap_err(),
        "not valid JSON: the line is no value, not an object, column 1, line 3, file F"
    );
    assert_eq!(read("\u{feff}{\"id\":1}\r\n\r\n").unwrap(), ["{\"id\":1}"]);
}

#[test]
fn the_place_is_right_in_a_later_chunk() {
    let mut content = String::new();
    for i in 0..50 {
        content += &format!("{{\"id\":{i}}}\n\n");
    }
    content += "{\"id\":50.5}\n";
    let dir = folder(&[("in.jsonl", content.as_bytes())]);
    let mut reading = Reading::json(
        &dir.path().join("in.jsonl"),
        schema(&[("id", DataType::I64)]),
    );
    for chunk_bytes in [1, 7, 100, 1_000_000] {
        reading.chunk_bytes = chunk_bytes;
        let e = reading.error();
        assert_eq!(
            e.places()[..2],
            [("column", "7".to_string()), ("line", "101".to_string())]
        );
        assert_eq!(e.detail_text(), Some("{\"id\":50.5}\n      ^"));
    }
}

#[test]
fn a_long_line_shows_only_what_is_around_the_column() {
    let line = format!(
        "{{\"other\":\"{}\",\"id\":x,\"more\":\"{}\"}}",
        "a".repeat(500),
        "b".repeat(500)
    );
    let dir = folder(&[("in.jsonl", line.as_bytes())]);
    let e = Reading::json(
        &dir.path().join("in.jsonl"),
        schema(&[("id", DataType::I64)]),
    )
    .error();
    let detail = e.detail_text().unwrap();
    let (shown, mark) = detail.split_once('\n').unwrap();
    assert_eq!(shown.len(), 72 + 4);
    assert_eq!(&shown[mark.len() - 1..mark.len()], "x");
}
