//! A job whose author, or whose author's code, is no friend: it traps, loops, grows, recurses, emits and logs without end.
//! Each is stopped with its own code; none takes the process with it.

use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::components::repository;
use crate::pelton::{Ended, Place, built_in_common};

/// The component of `guests/odd-job`, built once.
fn odd_job() -> PathBuf {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let (place, out) = (Place::new(), tempfile::tempdir().unwrap());
        let args = [
            "build",
            &repository("tests/it/guests/odd-job"),
            "--out",
            out.path().to_str().unwrap(),
        ];
        let built = built_in_common(place.command(&args));
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        out
    });
    folder.path().join("odd-job.wasm")
}

fn describe(way: &str, more: &[&str]) -> Ended {
    let file = odd_job().display().to_string();
    let param = format!("describe={way}");
    Place::new().pelton(&[&["check", file.as_str(), "--param", &param], more].concat())
}

fn at_row(way: &str, more: &[&str]) -> Ended {
    let place = Place::new();
    let lines: String = (0..5_000).map(|i| format!("{i}\n")).collect();
    place.file("lines.txt", lines);
    let file = odd_job().display().to_string();
    let param = format!("row={way}");
    let args = [
        "run",
        file.as_str(),
        "-q",
        "-p",
        "1",
        "--param",
        "input=lines.txt",
        "--param",
        &param,
    ];
    place.pelton(&[args.as_slice(), more].concat())
}

#[track_caller]
fn is(ended: &Ended, exit: i32, first_line: &str) {
    assert_eq!(ended.code, Some(exit), "{}", ended.stderr);
    assert_eq!(
        ended.stderr.lines().next(),
        Some(first_line),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_description_that_fails_says_why() {
    is(
        &describe("error", &[]),
        7,
        "error[PLT-0110]: the author says no",
    );
    let panicked = describe("panic", &[]);
    is(
        &panicked,
        7,
        "error[PLT-0110]: the job function panicked: no graph today, at src/lib.rs:33",
    );
    assert!(
        panicked.stderr.contains("odd-job/src/lib.rs:33"),
        "the guest's backtrace: {}",
        panicked.stderr
    );
}

#[test]
fn a_description_without_an_end_is_stopped() {
    let line = "error[PLT-0202]: the job function used more than 200 ms of CPU time in one call";
    is(
        &describe("loop", &["--limit", "cpu-ms-per-call=200"]),
        9,
        line,
    );
    let grown = describe("grow", &["--limit", "memory-bytes=32MiB"]);
    assert_eq!(grown.code, Some(9), "{}", grown.stderr);
    assert!(
        grown
            .stderr
            .starts_with("error[PLT-0203]: the job function asked for "),
        "{}",
        grown.stderr
    );
    let recursed = describe("recurse", &[]);
    assert_eq!(recursed.code, Some(9), "{}", recursed.stderr);
    assert!(
        recursed.stderr.starts_with("error[PLT-0205]: "),
        "{}",
        recursed.stderr
    );
    let many = describe("many", &[]);
    assert!(matches!(many.code, Some(7 | 9)), "{}", many.stderr);
}

#[test]
fn a_graph_that_is_wrong_names_the_operator() {
    let bounds = |p: u32| format!("error[PLT-0111]: parallelism {p} is not between 1 and 4096");
    let zero = describe("zero", &[]);
    is(&zero, 7, &bounds(0));
    assert!(
        zero.stderr.contains("--> operator 'odd', file "),
        "{}",
        zero.stderr
    );
    is(&describe("million", &[]), 7, &bounds(1_000_000));
    is(
        &describe("uids", &[]),
        7,
        "error[PLT-0111]: operators 'lines' and 'odd' have the same uid 'lines'",
    );
    is(
        &describe("window", &[]),
        7,
        "error[PLT-0112]: 'count' works by event time, but rows from source 'lines' have no timestamps",
    );
    is(
        &describe("connector", &[]),
        7,
        "error[PLT-0113]: there is no connector 'prnt', did you mean 'print'?",
    );
    is(
        &describe("option", &[]),
        7,
        "error[PLT-0113]: connector 'print' has no option 'colour'",
    );
}

#[test]
fn a_trap_names_operator_row_and_line() {
    let ended = at_row("panic", &[]);
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with(
            "error[PLT-0201]: function 'odd' panicked: row 999 is odd, at src/lib.rs:"
        ),
        "{}",
        ended.stderr
    );
    let place = ended.stderr.lines().nth(1).unwrap_or_default();
    assert!(
        place.contains("row 999") && place.contains("operator 'odd'"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("in misbehave\n"),
        "the guest's backtrace: {}",
        ended.stderr
    );
}

#[test]
fn a_call_without_an_end_is_stopped_and_names_its_rows() {
    let looped = at_row("loop", &["--limit", "cpu-ms-per-call=200"]);
    is(
        &looped,
        9,
        "error[PLT-0202]: function 'odd' used more than 200 ms of CPU time in one call",
    );
    assert!(
        looped.stderr.contains("operator 'odd'"),
        "{}",
        looped.stderr
    );
    for (way, code) in [
        ("grow", "PLT-0203"),
        ("recurse", "PLT-0205"),
        ("emit", "PLT-0203"),
    ] {
        let ended = at_row(way, &["--limit", "memory-bytes=64MiB"]);
        assert_eq!(ended.code, Some(9), "{way}: {}", ended.stderr);
        assert!(
            ended
                .stderr
                .starts_with(&format!("error[{code}]: function 'odd' ")),
            "{way}: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_flood_of_log_lines_is_cut_and_hurts_nobody() {
    let ended = at_row("log", &["--limit", "log-bytes-per-second=4KiB"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 5_000);
    assert!(
        ended
            .stderr
            .starts_with("[odd] warn: line 0 of a million\n"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.len() < 64 << 10,
        "{} bytes of log",
        ended.stderr.len()
    );
}
