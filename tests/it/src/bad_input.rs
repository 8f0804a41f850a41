//! Input that is not as it should be, through a whole job: lines that do not decode, lines that are far too long,
//! files that are none, odd times, odd numbers, sums that overflow.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::hostile::{bounded, command, finish, hostile, refused, visible};
use crate::pelton::{Ended, Place};

const MIB: u64 = 1 << 20;

/// A run of `hostile` over `in.jsonl`, one task, results on the standard output.
fn args(mode: &str, more: &[&str]) -> Vec<String> {
    let mut args = hostile("run", mode, &["--param", "input=in.jsonl"]);
    if !more.contains(&"-p") {
        args.extend(["-p".to_owned(), "1".to_owned()]);
    }
    args.extend(more.iter().map(|a| (*a).to_owned()));
    args
}

fn run(mode: &str, content: impl AsRef<[u8]>, more: &[&str]) -> Ended {
    let place = Place::new();
    place.file("in.jsonl", content);
    bounded(&place, &args(mode, more))
}

/// The rows that are printed, and the summary, of a run that ends well.
#[track_caller]
fn rows(mode: &str, content: impl AsRef<[u8]>, more: &[&str]) -> (Vec<Value>, Value) {
    let ended = run(mode, content, &[&["-o", "json"], more].concat());
    let lines = ended
        .ok()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    split(lines)
}

fn split(mut lines: Vec<Value>) -> (Vec<Value>, Value) {
    let summary = lines.pop().unwrap();
    assert_eq!(summary["kind"], "run-summary");
    (lines, summary)
}

// ---- lines

/// A line that is wrong, what is wrong with it, and in which column.
const WRONG: [(&[u8], &str, u32); 10] = [
    (
        b"[1]",
        "not valid JSON: the line is an array, not an object",
        1,
    ),
    (
        b"7",
        "not valid JSON: the line is a number, not an object",
        1,
    ),
    (b"{\"n\":1", "not valid JSON: a ',' or '}' is expected", 7),
    (b"{\"n\":\"2\"}", "field 'n' is i64, but has a string", 6),
    (
        b"{\"n\":2.5}",
        "field 'n' is i64, but has a number with a fraction",
        6,
    ),
    (
        b"{\"n\":9223372036854775808}",
        "field 'n' is i64, but the number is out of its range",
        6,
    ),
    (b"{\"n\":null}", "field 'n' is null, but may not be", 6),
    (b"{}", "field 'n' is missing", 1),
    (
        b"{\"n\":2,\"o\":\"\xff\"}",
        "not valid JSON: the bytes are not UTF-8",
        13,
    ),
    (
        b"\x00\x01\xfe",
        "not valid JSON: the line is no value, not an object",
        1,
    ),
];

#[test]
fn a_line_that_does_not_decode_fails_the_job_with_file_line_and_column() {
    for (line, what, column) in WRONG {
        let place = Place::new();
        place.file(
            "in.jsonl",
            [b"{\"n\":1}\n".as_slice(), line, b"\n{\"n\":3}\n"].concat(),
        );
        let ended = bounded(&place, &args("pass", &["-q", "--param", "output=out"]));
        let start =
            format!("error[PLT-0302]: {what}\n  --> column {column}, line 2, file in.jsonl");
        refused(&ended, 8, &start, &["operator 'rows'"]);
        assert!(visible(&place.work().join("out")).is_empty());
    }
}

#[test]
fn lines_that_do_not_decode_are_skipped_and_counted_on_request() {
    let mut content = b"{\"n\":1}\n".to_vec();
    for (at, (line, ..)) in WRONG.into_iter().enumerate() {
        content.extend_from_slice(line);
        content.extend_from_slice(format!("\n{{\"n\":{}}}\n", at + 2).as_bytes());
    }
    for more in [
        ["-p", "1"],
        ["-p", "2"],
        ["--batch-rows", "1"],
        ["--batch-rows", "7"],
    ] {
        let skip = ["--param", "on_error=skip"];
        let (rows, summary) = rows("pass", &content, &[skip, more].concat());
        assert_eq!(
            rows.iter()
                .map(|r| r["n"].as_u64().unwrap())
                .collect::<Vec<_>>(),
            (1..=11).collect::<Vec<_>>(),
            "{more:?}"
        );
        assert_eq!(
            (&summary["skipped"], &summary["rows_in"]),
            (&Value::from(10), &Value::from(11))
        );
    }
}

#[test]
fn a_torn_last_line_is_an_error_unless_it_is_whole() {
    let torn = run("pass", "{\"n\":1}\n{\"n\":2", &["-q", "--batch-rows", "1"]);
    assert_eq!(torn.code, Some(8), "{}", torn.stderr);
    assert!(
        torn.stderr
            .starts_with("error[PLT-0302]: not valid JSON: a ',' or '}' is expected\n  --> column 7, line 2, file in.jsonl"),
        "{}",
        torn.stderr
    );
    let (whole, summary) = rows("pass", "{\"n\":1}\n{\"n\":2}", &[]);
    assert_eq!((whole.len(), &summary["skipped"]), (2, &Value::from(0)));
}

#[test]
fn a_line_of_a_hundred_megabytes_is_refused_or_passed_over_in_bounded_memory() {
    let place = Place::new();
    let mut file = File::create(place.work().join("in.jsonl")).unwrap();
    file.write_all(b"{\"n\":1}\n{\"other\":\"").unwrap();
    let text = vec![b'x'; MIB as usize];
    for _ in 0..100 {
        file.write_all(&text).unwrap();
    }
    file.write_all(b"\",\"n\":2}\n{\"n\":3}\n").unwrap();
    drop(file);
    let failed = bounded(&place, &args("pass", &["-q", "--param", "output=out"]));
    refused(
        &failed,
        8,
        "error[PLT-0303]: a line is longer than 16777216 bytes\n  --> line 2, file in.jsonl",
        &["operator 'rows'", "--limit record-bytes=N"],
    );
    assert!(visible(&place.work().join("out")).is_empty());
    let skip = args("pass", &["-o", "json", "--param", "on_error=skip"]);
    let skipped = bounded(&place, &skip);
    let lines = skipped.ok().lines();
    let (rows, summary) = split(lines.map(|l| serde_json::from_str(l).unwrap()).collect());
    assert_eq!(
        rows,
        [serde_json::json!({"n":1}), serde_json::json!({"n":3})]
    );
    assert_eq!(summary["skipped"], 1);
    let peak = summary["peak_memory_bytes"].as_u64().unwrap();
    assert!(
        peak < 120 * MIB,
        "{} MiB for a line that is passed over",
        peak / MIB
    );
}

// ---- files

#[test]
fn inputs_that_are_no_files_are_named() {
    let place = Place::new();
    std::fs::create_dir(place.work().join("empty")).unwrap();
    for (input, what) in [
        ("empty", "folder 'empty' has no file to read"),
        ("*.none", "no file matches '*.none'"),
        (
            "/dev/zero",
            "input '/dev/zero' is neither a file nor a folder",
        ),
        ("", "input '' cannot be read: No such file or directory"),
    ] {
        let param = format!("input={input}");
        let args = hostile("run", "pass", &["-q", "--param", &param]);
        refused(
            &bounded(&place, &args),
            8,
            &format!("error[PLT-0301]: {what}"),
            &["operator 'rows'"],
        );
    }
}

#[test]
fn an_empty_file_gives_an_empty_result_that_is_complete() {
    let place = Place::new();
    place.file("in.jsonl", "");
    let ended = bounded(&place, &args("pass", &["-q", "--param", "output=out"]));
    assert_eq!(ended.ok(), "");
    let left = visible(&place.work().join("out"));
    for name in &left {
        let text = std::fs::read_to_string(place.work().join("out").join(name)).unwrap();
        assert!(!text.contains('1'), "{name}: {text}");
    }
}

#[test]
fn a_policy_that_does_not_exist_is_refused() {
    let place = Place::new();
    let args = args("pass", &["--param", "on_error=shrug"]);
    refused(
        &bounded(&place, &args),
        7,
        "error[PLT-0113]: option 'on_error' of connector 'files' is 'shrug', but must be one of fail, skip\n",
        &["operator 'rows'"],
    );
}

#[test]
fn a_parameter_is_missing_or_misspelt() {
    let place = Place::new();
    let missing = ["run".to_owned(), hostile("run", "pass", &[])[1].clone()];
    refused(
        &bounded(&place, &missing),
        7,
        "error[PLT-0114]: parameter 'mode' is missing: give it by --param mode=VALUE\n",
        &[],
    );
    let wrong = args("pass", &["--param", "outptu=x"]);
    refused(
        &bounded(&place, &wrong),
        7,
        "error[PLT-0114]: the job has no parameter 'outptu'\n",
        &["did you mean 'output'?"],
    );
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_job() {
    let place = Place::new();
    let rows: String = (0..200_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    place.file("in.jsonl", rows);
    let args = args("pass", &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = command(&place, &args);
    let child = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command still holds the end that is written to.
    drop(command);
    let mut first = String::new();
    let mut reader = std::io::BufReader::new(reader);
    std::io::BufRead::read_line(&mut reader, &mut first).unwrap();
    assert_eq!(first, "{\"n\":0}\n");
    drop(reader);
    let ended = finish(child, &args);
    refused(
        &ended,
        1,
        "error[PLT-0401]: standard output was closed\n",
        &[],
    );
    assert_eq!(ended.stderr.matches("error[").count(), 1);
}

// ---- times

fn entry(time: &str, key: &str, n: i64, x: &str) -> String {
    format!("{{\"time\":{time},\"key\":\"{key}\",\"n\":{n},\"x\":\"{x}\"}}\n")
}

#[test]
fn times_long_ago_and_far_ahead_have_their_windows() {
    let content: String = ["-62135596800000", "-1", "0", "\"9999-12-31 23:59:59.999\""]
        .iter()
        .map(|time| entry(time, "1", 1, "1"))
        .collect();
    let (windows, summary) = rows("window", &content, &[]);
    let bounds: Vec<_> = windows.iter().map(|w| (&w["start"], &w["end"])).collect();
    let text = |s: &str| Value::from(s);
    let after = Value::from(253_402_300_800_000_i64);
    assert_eq!(
        bounds,
        [
            (
                &text("0001-01-01T00:00:00.000Z"),
                &text("0001-01-01T00:00:10.000Z")
            ),
            (
                &text("1969-12-31T23:59:50.000Z"),
                &text("1970-01-01T00:00:00.000Z")
            ),
            (
                &text("1970-01-01T00:00:00.000Z"),
                &text("1970-01-01T00:00:10.000Z")
            ),
            // What RFC 3339 cannot write is in milliseconds.
            (&text("9999-12-31T23:59:50.000Z"), &after),
        ]
    );
    assert_eq!(summary["late"], 0);
    let (sliding, _) = rows("window=10000,5000", &content, &[]);
    // One of them has both -1 and 0.
    assert_eq!(sliding.len(), 7);
}

#[test]
fn times_at_the_very_ends_are_counted_as_late() {
    for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
        for mode in ["window", "window=10000,5000"] {
            let (windows, summary) = rows(mode, entry(&time.to_string(), "1", 1, "1"), &[]);
            assert_eq!(
                (windows.len(), &summary["late"]),
                (0, &Value::from(1)),
                "{mode} {time}"
            );
        }
    }
}

#[test]
fn a_time_that_is_missing_or_none_fails_with_its_line() {
    for (line, what) in [
        (
            "{\"key\":\"1\",\"n\":1,\"x\":\"1\"}\n".to_owned(),
            "field 'time' is missing",
        ),
        (
            entry("null", "1", 1, "1"),
            "field 'time' is null, but may not be",
        ),
        (
            entry("9223372036854775808", "1", 1, "1"),
            "field 'time' is timestamp, but the number is out of its range",
        ),
        (
            entry("\"10000-01-01 00:00:00.000\"", "1", 1, "1"),
            "field 'time' is not a time such as 2024-03-09 05:59:50.000",
        ),
    ] {
        let ended = run("window", entry("0", "1", 1, "1") + &line, &["-q"]);
        refused(
            &ended,
            8,
            &format!("error[PLT-0302]: {what}\n"),
            &["line 2, file in.jsonl", "operator 'entries'"],
        );
    }
}

// ---- numbers

#[test]
fn all_nan_are_one_key_and_negative_zero_is_a_key_of_its_own() {
    let content: String = [
        ("nan", 1),
        ("other-nan", 2),
        ("0.0", 3),
        ("-0.0", 4),
        ("0.0", 5),
        ("-0.0", 6),
    ]
    .iter()
    .map(|(key, n)| entry("0", key, *n, "1"))
    .collect();
    for more in [["-p", "1"], ["-p", "4"], ["--batch-rows", "1"]] {
        let (windows, _) = rows("window", &content, &more);
        let mut sums: Vec<_> = windows
            .iter()
            .map(|w| (w["key"].to_string(), w["sum"].as_i64().unwrap()))
            .collect();
        sums.sort();
        let expected =
            [("\"NaN\"", 3), ("-0.0", 10), ("0.0", 8)].map(|(key, sum)| (key.to_owned(), sum));
        assert_eq!(sums, expected, "{more:?}");
        let (counts, _) = rows("count", &content, &more);
        let counts: Vec<_> = counts
            .iter()
            .map(|c| (c["key"].to_string(), c["rows"].as_i64().unwrap()))
            .collect();
        let last = |key: &str| {
            let of_key = counts.iter().filter(|(k, _)| k == key);
            of_key.map(|(_, rows)| *rows).max()
        };
        assert_eq!(
            [last("\"NaN\""), last("0.0"), last("-0.0")],
            [Some(2); 3],
            "{more:?}"
        );
    }
}

#[test]
fn a_key_with_nearly_all_rows_is_counted_as_any_other() {
    let content: String = (0..20_000)
        .map(|i| {
            let key = if i % 100 == 0 {
                i.to_string()
            } else {
                "-1".into()
            };
            entry("0", &key, 1, "0")
        })
        .collect();
    let (rows, _) = rows("count", &content, &["-p", "4"]);
    assert_eq!(rows.len(), 20_000);
    let most = |of_one: bool| {
        let of = rows.iter().filter(|r| (r["key"] == -1.0) == of_one);
        of.map(|r| r["rows"].as_i64().unwrap()).max()
    };
    assert_eq!((most(true), most(false)), (Some(19_800), Some(1)));
}

#[test]
fn nan_is_above_all_and_negative_zero_below_zero() {
    for (values, least, greatest, sum) in [
        (["1", "nan"], "1.0", "\"NaN\"", "\"NaN\""),
        (["inf", "nan"], "\"Infinity\"", "\"NaN\"", "\"NaN\""),
        (["0.0", "-0.0"], "-0.0", "0.0", "0.0"),
        (["-0.0", "0.0"], "-0.0", "0.0", "0.0"),
        (["-inf", "inf"], "\"-Infinity\"", "\"Infinity\"", "\"NaN\""),
        (["1e308", "1e308"], "1e308", "1e308", "\"Infinity\""),
    ] {
        let content: String = values.iter().map(|x| entry("0", "1", 1, x)).collect();
        let ended = run("window", &content, &["-q"]);
        let expected = format!("\"sum_x\":{sum},\"min_x\":{least},\"max_x\":{greatest}}}\n");
        assert!(
            ended.ok().ends_with(&expected),
            "{values:?}: {}",
            ended.stdout
        );
    }
}

#[test]
fn a_sum_that_overflows_is_an_error_and_never_wraps() {
    for (first, second) in [(i64::MAX, 1), (i64::MIN, -1)] {
        let content = entry("0", "1", first, "1") + &entry("1", "1", second, "1");
        let ended = run("window", &content, &["-q"]);
        refused(
            &ended,
            8,
            "error[PLT-0209]: a sum does not fit its type\n",
            &["field 'sum'", "operator 'summary'"],
        );
        // What it comes to in the end counts, not what it was on the way.
        let content = content + &entry("2", "1", -second, "1");
        let (windows, _) = rows("window", &content, &[]);
        assert_eq!(windows[0]["sum"], first);
    }
}
