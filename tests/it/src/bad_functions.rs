//! Functions with state, timers and accumulators that misbehave, chains, errors of the author's own, too much output.
//! What functions without state do wrong is in `misbehaving`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::hostile::{bounded, command, finish, hostile, refused, signal, visible};
use crate::pelton::{Ended, Place};

const ROWS: usize = 2_000;

fn place() -> Place {
    let place = Place::new();
    let rows: String = (0..ROWS).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    place.file("rows.jsonl", rows);
    place
}

/// A run with one task and narrow limits, whose output must not appear.
#[track_caller]
fn run(mode: &str, more: &[&str]) -> Ended {
    let place = place();
    let mut args = hostile("run", mode, &["-p", "1", "-q"]);
    for param in ["input=rows.jsonl", "output=out"] {
        args.extend(["--param".to_owned(), param.to_owned()]);
    }
    for limit in ["cpu-ms-per-call=200", "memory-bytes=32MiB"] {
        args.extend(["--limit".to_owned(), limit.to_owned()]);
    }
    args.extend(more.iter().map(|a| (*a).to_owned()));
    let ended = bounded(&place, &args);
    assert!(
        visible(&place.work().join("out")).is_empty(),
        "{mode}: something is left under a final name"
    );
    ended
}

const PANIC: &str = "error[PLT-0201]: function 'worker' panicked: 999 is more than this function can take, at fixtures/hostile/src/functions.rs:";

#[test]
fn a_keyed_function_that_traps_is_named_with_row_and_source_line() {
    let ended = run("keyed-trap", &[]);
    refused(
        &ended,
        8,
        PANIC,
        &["row 999", "operator 'worker'", "in misbehave"],
    );
    assert!(
        ended
            .stderr
            .lines()
            .any(|l| l.trim_start().starts_with("at ") && l.contains("functions.rs:")),
        "the backtrace has source lines: {}",
        ended.stderr
    );
}

#[test]
fn a_keyed_function_is_as_bounded_as_any() {
    refused(
        &run("keyed-loop", &[]),
        9,
        "error[PLT-0202]: function 'worker' used more than 200 ms of CPU time in one call\n",
        &["0 to 1999", "operator 'worker'"],
    );
    refused(
        &run("keyed-grow", &[]),
        9,
        "error[PLT-0203]: function 'worker' asked for ",
        &["row 999", "operator 'worker'", "in misbehave"],
    );
}

#[test]
fn an_accumulator_that_traps_is_named() {
    refused(
        &run("aggregate-trap", &[]),
        8,
        PANIC,
        &["row 999", "operator 'worker'"],
    );
}

#[test]
fn in_a_chain_the_function_and_its_operator_are_named() {
    refused(
        &run("chain", &[]),
        8,
        PANIC,
        &["row 999", "operator 'worker'"],
    );
}

#[test]
fn an_error_of_the_authors_own_is_quoted_with_its_row() {
    refused(
        &run("error", &[]),
        8,
        "error[PLT-0207]: function 'worker' failed: this row is not welcome\n",
        &["row 999", "operator 'worker'"],
    );
}

#[test]
fn a_function_cannot_end_the_process() {
    refused(
        &run("exit", &[]),
        8,
        "error[PLT-0201]: function 'worker' trapped: ",
        &["row 999", "operator 'worker'"],
    );
}

#[test]
fn one_row_that_makes_too_much_is_named() {
    refused(
        &run("emit-large", &["--limit", "output-bytes-max=1MiB"]),
        9,
        "error[PLT-0204]: function 'worker' returned ",
        &["1048576 are allowed", "row 999", "operator 'worker'"],
    );
}

#[test]
fn the_error_is_the_same_at_any_batch_size_and_parallelism() {
    for more in [
        ["--batch-rows", "1"],
        ["--batch-rows", "7"],
        ["-p", "4"],
        ["--batch-rows", "8192"],
    ] {
        let place = place();
        let mut args = hostile("run", "error", &["-q", "--param", "input=rows.jsonl"]);
        args.extend(["--param".to_owned(), "output=out".to_owned()]);
        args.extend(more.map(str::to_owned));
        refused(
            &bounded(&place, &args),
            8,
            "error[PLT-0207]: function 'worker' failed: this row is not welcome\n",
            &["operator 'worker'"],
        );
        assert!(visible(&place.work().join("out")).is_empty());
    }
}

/// As in Flink, a timer that sets itself again for the same time fires for ever. Stopping the job does not wait for it.
#[test]
fn timers_without_an_end_do_not_hold_up_a_stop() {
    let place = place();
    let args = hostile(
        "run",
        "timers",
        &[
            "-p",
            "1",
            "--metrics",
            "127.0.0.1:0",
            "--param",
            "input=rows.jsonl",
        ],
    );
    let mut child = command(&place, &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = first_line(&mut child);
    let address = line
        .trim()
        .strip_prefix("metrics: http://")
        .and_then(|l| l.strip_suffix("/metrics"))
        .unwrap()
        .to_owned();
    let all_read = (0..100_000).any(|_| rows_read(&address) == ROWS as u64);
    assert!(all_read, "the rows do not reach the function");
    signal(child.id(), "-INT");
    let ended = finish(child, &args);
    assert_eq!(ended.code, Some(130));
}

#[test]
fn a_call_without_an_end_does_not_hold_up_a_stop() {
    let place = place();
    let more = [
        "--param",
        "input=rows.jsonl",
        "--limit",
        "cpu-ms-per-call=3600000",
    ];
    let args = hostile("run", "keyed-told-loop", &more);
    let mut child = command(&place, &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(first_line(&mut child), "[worker] warn: here it goes\n");
    signal(child.id(), "-INT");
    assert_eq!(finish(child, &args).code, Some(130));
}

/// The first line on the standard error. What follows is not read.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    line
}

/// How many rows the function has taken, as the metrics say.
fn rows_read(address: &str) -> u64 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let counter =
        "\npelton_operator_records_in_total{job=\"hostile\",operator=\"worker\",task=\"0\"} ";
    let value = text.split_once(counter).map(|(_, rest)| rest);
    value
        .and_then(|rest| rest.lines().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}
