//! Long lines, CSV, text, inputs and options that are refused, and with which words.

use std::path::Path;

use pelton_model::ErrorCode;
use pelton_model::schema::{DataType, Field, Schema};

use super::{Reading, folder, schema};

#[test]
fn lines_that_are_too_long_are_refused_or_passed_over() {
    let long = format!("{{\"id\":2,\"other\":\"{}\"}}\n", "x".repeat(3_000_000));
    let content = format!(
        "{{\"id\":1}}\n{long}{{\"id\":3}}\n{long}{{\"id\":5}}\n{}",
        long.trim_end()
    );
    let dir = folder(&[("in.jsonl", content.as_bytes())]);
    let path = dir.path().join("in.jsonl");
    let mut reading = Reading::json(&path, schema(&[("id", DataType::I64)]));
    for (limit, chunk_bytes) in [
        (1_000, 1 << 20),
        (1_000, 10),
        (2_000_000, 1 << 30),
        (2_000_000, 4_000_000),
    ] {
        reading.limits.record_bytes = limit;
        reading.chunk_bytes = chunk_bytes.max(if limit == 1_000 { 100_000 } else { 0 });
        reading
            .options
            .insert("on_error".to_string(), "fail".to_string());
        let e = reading.error();
        assert_eq!(e.code(), ErrorCode::RecordTooLarge);
        assert_eq!(
            e.to_string(),
            format!(
                "a line is longer than {limit} bytes, line 2, file {}",
                path.display()
            )
        );
        reading
            .options
            .insert("on_error".to_string(), "skip".to_string());
        let (_, progress) = reading.batches().unwrap();
        assert_eq!(
            (progress.rows, progress.skipped),
            (3, 3),
            "{limit} {chunk_bytes}"
        );
        assert_eq!(
            reading.rows().unwrap(),
            ["{\"id\":1}", "{\"id\":3}", "{\"id\":5}"]
        );
    }
    // Exactly the limit is allowed.
    reading.limits.record_bytes = long.len() as u64 - 1;
    assert_eq!(reading.rows().unwrap().len(), 6);
    reading.limits.record_bytes -= 1;
    assert_eq!(reading.rows().unwrap().len(), 3);
}

#[test]
fn csv_is_as_strict() {
    let declared = Schema::new(vec![
        Field::new("id", DataType::I64),
        Field::new("name", DataType::String),
        Field::new("at", DataType::Timestamp).nullable(),
    ]);
    let check = |lines: &str, message: &str| {
        let dir = folder(&[(
            "in.csv",
            format!("at,id,name\n,1,a\n{lines}\n,3,b\n").as_bytes(),
        )]);
        let path = dir.path().join("in.csv");
        let mut reading = Reading::new(&path, &[("format", "csv")], declared.clone());
        let expected = format!("{message}, file {}", path.display());
        assert_eq!(reading.error().to_string(), expected);
        reading
            .options
            .insert("on_error".to_string(), "skip".to_string());
        assert_eq!(
            reading.rows().unwrap(),
            [
                "{\"id\":1,\"name\":\"a\",\"at\":null}",
                "{\"id\":3,\"name\":\"b\",\"at\":null}"
            ]
        );
    };
    check(
        ",2",
        "not valid CSV: the line has 2 fields, but must have 3, column 1, line 3",
    );
    check(
        ",2,b,c",
        "not valid CSV: the line has 4 fields, but must have 3, column 1, line 3",
    );
    check(",,b", "field 'id' is i64, but is empty, column 2, line 3");
    check(
        ",2.5,b",
        "field 'id' is i64, but has a number with a fraction, column 2, line 3",
    );
    check(",2x,b", "field 'id' is i64, but has '2x', column 2, line 3");
    check(", 2,b", "field 'id' is i64, but has ' 2', column 2, line 3");
    check(
        ",\"x\",b",
        "field 'id' is i64, but has 'x', column 3, line 3",
    );
    check(
        ",99999999999999999999,b",
        "field 'id' is i64, but the number is out of its range, column 2, line 3",
    );
    check(
        "soon,2,b",
        "field 'at' is a time such as 2024-03-09 05:59:50.000, but has 'soon', column 1, line 3",
    );
    check(
        ",2,b\"c",
        "not valid CSV: a quote stands within a field that does not begin with one, column 5, line 3",
    );
    check(
        ",2,\"b\"c",
        "not valid CSV: a delimiter is expected behind the closing quote, column 7, line 3",
    );
    check(
        ",2,\"b",
        "not valid CSV: the line ends within quotes; 'multiline = true' allows that, column 4, line 3",
    );
}

#[test]
fn text_must_be_utf8() {
    let dir = folder(&[("in.txt", b"fine\nab\xffc\nfine\n")]);
    let path = dir.path().join("in.txt");
    let e = Reading::new(
        &path,
        &[("format", "text")],
        schema(&[("text", DataType::String)]),
    )
    .error();
    assert_eq!(
        e.to_string(),
        format!(
            "the bytes are not UTF-8, column 3, line 2, file {}",
            path.display()
        )
    );
    assert_eq!(e.detail_text(), Some("ab\u{fffd}c\n  ^"));
}

#[test]
fn inputs_that_are_not_there() {
    let dir = folder(&[
        ("_hidden", b"x"),
        (".hidden", b"x"),
        ("broken.gz", b"\x1f\x8bnonsense"),
    ]);
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let read = |path: &Path| {
        let e = Reading::new(
            path,
            &[("format", "text")],
            schema(&[("text", DataType::String)]),
        )
        .error();
        assert_eq!(e.code(), ErrorCode::InputMissing);
        e.to_string().replace(dir.path().to_str().unwrap(), "D")
    };
    assert_eq!(
        read(&dir.path().join("none")),
        "input 'D/none' cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(read(&dir.path().join("*.txt")), "no file matches 'D/*.txt'");
    assert_eq!(
        read(&dir.path().join("empty")),
        "folder 'D/empty' has no file to read"
    );
    assert_eq!(
        read(Path::new("/dev/null")),
        "input '/dev/null' is neither a file nor a folder"
    );
    assert_eq!(
        read(&dir.path().join("broken.gz")),
        "input 'D/broken.gz' cannot be read: invalid gzip header"
    );
}

#[test]
fn options_and_records_that_do_not_fit() {
    let check = |options: &[(&str, &str)], declared: Schema, message: &str| {
        let e = super::super::check_source(&super::options(options), &declared).unwrap_err();
        assert_eq!(e.to_string(), message);
    };
    let line = || schema(&[("text", DataType::String)]);
    check(
        &[("format", "json")],
        line(),
        "connector 'files' needs the option 'path', a file, a folder or a glob",
    );
    check(
        &[("path", "x")],
        line(),
        "connector 'files' needs the option 'format', one of text, json, csv, parquet",
    );
    check(
        &[("path", "x"), ("format", "xml")],
        line(),
        "option 'format' of connector 'files' is 'xml', but must be one of text, json, csv, parquet",
    );
    check(
        &[("path", "x"), ("format", "json"), ("header", "true")],
        line(),
        "option 'header' of connector 'files' is only for the format csv",
    );
    check(
        &[("path", "x"), ("format", "csv"), ("delimiter", "::")],
        line(),
        "option 'delimiter' of connector 'files' is '::', but must be one ASCII character other than a quote or a line end",
    );
    check(
        &[("path", "x"), ("format", "text")],
        schema(&[("a", DataType::String), ("b", DataType::String)]),
        "the record of a source of text lines must have exactly one string field for the line",
    );
    check(
        &[("path", "x"), ("format", "text")],
        schema(&[("a", DataType::String), ("n", DataType::I64)]),
        "the record of a source of text lines cannot have the field 'n: i64'",
    );
}
