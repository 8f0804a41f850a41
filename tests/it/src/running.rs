//! Jobs that run: results, refusals, limits, signals, pipes, metrics.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::components::{component, repository};
use crate::pelton::{Ended, Place};

fn param(name: &str, value: &str) -> [String; 2] {
    ["--param".to_owned(), format!("{name}={value}")]
}

fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A run of `word-count` over the example's own data.
fn word_count(place: &Place, more: &[&str]) -> Ended {
    let input = param(
        "input",
        &repository("guest-examples/word-count/data/lines.jsonl"),
    );
    let mut args = vec!["run".to_owned(), component("word-count")];
    args.extend(input);
    args.extend(more.iter().map(|a| (*a).to_owned()));
    place.pelton(&args)
}

#[test]
fn words_are_counted_the_same_at_any_parallelism_and_batch_size() {
    let place = Place::new();
    let first = word_count(&place, &["-p", "1", "-q"]);
    let expected = sorted_lines(first.ok());
    let to = "{\"start\":\"2024-03-09T06:00:00.000Z\",\"word\":\"to\",\"count\":5}".to_owned();
    assert!(expected.contains(&to), "{expected:?}");
    for more in [
        ["-p", "2"],
        ["-p", "4"],
        ["--batch-rows", "1"],
        ["--batch-rows", "7"],
    ] {
        let ended = word_count(&place, &[more.as_slice(), &["-q"]].concat());
        assert_eq!(sorted_lines(ended.ok()), expected, "{more:?}");
    }
}

#[test]
fn a_summary_is_for_people_or_for_programs() {
    let place = Place::new();
    let people = word_count(&place, &["-p", "1"]);
    assert_eq!(people.code, Some(0));
    assert!(
        people
            .stderr
            .starts_with("job 'word-count' finished\n  rows in "),
        "{}",
        people.stderr
    );
    let programs = word_count(&place, &["-p", "1", "-o", "json", "--name", "mine"]);
    let last = programs.ok().lines().last().unwrap();
    let summary: Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (summary["kind"].as_str(), summary["job"].as_str()),
        (Some("run-summary"), Some("mine"))
    );
    let data = repository("guest-examples/word-count/data/lines.jsonl");
    let lines = std::fs::read_to_string(data).unwrap().lines().count() as u64;
    assert_eq!(summary["rows_in"].as_u64(), Some(lines));
    let printed = programs.stdout.lines().count() as u64 - 1;
    assert_eq!(summary["rows_out"].as_u64(), Some(printed));
    assert!(summary["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn a_job_is_explained_chain_by_chain() {
    let place = Place::new();
    let mut args = vec![
        "explain".to_owned(),
        component("word-count"),
        "-p".into(),
        "2".into(),
    ];
    args.extend(param("input", "none.jsonl"));
    let text = place.pelton(&args);
    let chains: Vec<&str> = text
        .ok()
        .lines()
        .filter(|l| l.starts_with("chain "))
        .collect();
    assert_eq!(
        chains,
        [
            "chain 0 (parallelism 2): lines -> timestamps -> split",
            "chain 1 (parallelism 2): count -> result"
        ]
    );
    args.extend(["--format".into(), "json".into()]);
    let object = place.pelton(&args).json();
    assert_eq!(
        (
            object["kind"].as_str(),
            object["chains"].as_array().map(Vec::len)
        ),
        (Some("job-graph"), Some(2))
    );
    let last = args.len() - 1;
    args[last] = "dot".into();
    assert!(
        place
            .pelton(&args)
            .ok()
            .starts_with("digraph \"word-count\" {\n")
    );
}

#[test]
fn a_check_touches_nothing_outside() {
    let place = Place::new();
    let mut args = vec!["check".to_owned(), component("word-count")];
    args.extend(param("input", "none.jsonl"));
    args.extend(param("output", "out"));
    assert!(
        place
            .pelton(&args)
            .ok()
            .contains("job 'word-count' is accepted: ")
    );
    assert_eq!(std::fs::read_dir(place.work()).unwrap().count(), 0);
}

#[test]
fn a_parameter_that_is_missing_or_misspelt_is_refused() {
    let place = Place::new();
    let file = component("word-count");
    place.pelton(&["check", &file]).failed(
        7,
        &format!(
            "error[PLT-0114]: parameter 'input' is missing: give it by --param input=VALUE\n  --> file {file}\n  = help: `pelton explain-error PLT-0114` says more\n"
        ),
    );
    let wrong = place.pelton(&["run", &file, "--param", "inptu=x"]);
    assert_eq!(wrong.code, Some(7));
    assert!(
        wrong
            .stderr
            .contains("= help: 'inptu' was given: is it 'input' that was meant?"),
        "{}",
        wrong.stderr
    );
    let more = place.pelton(&["run", &file, "--param", "input=x", "--param", "zzz=1"]);
    assert_eq!(more.code, Some(7));
    assert!(
        more.stderr
            .starts_with("error[PLT-0114]: the job has no parameter 'zzz'\n"),
        "{}",
        more.stderr
    );
}

#[test]
fn an_input_that_is_not_there_fails_the_job_and_names_it() {
    let place = Place::new();
    let mut args = vec!["run".to_owned(), component("word-count")];
    args.extend(param("input", "none.jsonl"));
    let ended = place.pelton(&args);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(8), ""),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.starts_with("error[PLT-0301]: "),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("none.jsonl") && ended.stderr.contains("operator 'lines'"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_empty_input_is_no_error() {
    let place = Place::new();
    place.file("empty.jsonl", "");
    let mut args = vec!["run".to_owned(), component("word-count"), "-q".into()];
    args.extend(param("input", "empty.jsonl"));
    assert_eq!(place.pelton(&args).ok(), "");
}

#[test]
fn a_bad_record_names_file_and_line() {
    let place = Place::new();
    place.file(
        "bad.jsonl",
        "{\"time\":1,\"text\":\"a\"}\n{\"time\":2,\"text\":7}\n",
    );
    let mut args = vec!["run".to_owned(), component("word-count"), "-q".into()];
    args.extend(param("input", "bad.jsonl"));
    let ended = place.pelton(&args);
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("error[PLT-0302]: "),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("line 2") && ended.stderr.contains("bad.jsonl"),
        "{}",
        ended.stderr
    );
}

#[test]
fn parallelism_above_the_maximum_is_refused() {
    let place = Place::new();
    let ended = word_count(&place, &["-p", "4", "--max-parallelism", "2"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .stderr
            .starts_with("error[PLT-0001]: parallelism 4 is not between 1 and 2\n"),
        "{}",
        ended.stderr
    );
}

/// A run of `hot-items` that would take hours, and whose output is awaited before anything is done to it.
struct Endless {
    child: Child,
    stderr: Option<BufReader<std::process::ChildStderr>>,
    stdout: Option<BufReader<std::process::ChildStdout>>,
}

impl Endless {
    fn start(place: &Place, more: &[&str]) -> Self {
        let mut args = vec!["run".to_owned(), component("hot-items")];
        args.extend(param("events", "100000000000"));
        args.extend(param("rate", "2000000"));
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let mut command = place.command(&args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (
            child.stdout.take().map(BufReader::new),
            child.stderr.take().map(BufReader::new),
        );
        Self {
            child,
            stderr,
            stdout,
        }
    }

    /// Waits for the first line of results.
    fn first_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        if let Some(mut stdout) = self.stdout.take() {
            std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
        }
        self.stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

#[test]
fn a_signal_stops_a_job_cleanly() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let place = Place::new();
        let mut job = Endless::start(&place, &[]);
        assert!(job.first_line().contains("bids"));
        let killed = Command::new("kill")
            .args([signal, &job.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let (ended, stderr) = job.end();
        assert_eq!(ended, Some(code), "{stderr}");
        assert!(
            stderr.starts_with("job 'hot-items' cancelled\n"),
            "{stderr}"
        );
    }
}

#[test]
fn a_closed_pipe_ends_a_job_with_one_error() {
    let place = Place::new();
    let mut job = Endless::start(&place, &["-p", "1"]);
    assert!(job.first_line().contains("bids"));
    drop(job.stdout.take());
    let (ended, stderr) = job.end();
    assert_eq!(ended, Some(1), "{stderr}");
    assert!(stderr.starts_with("error[PLT-0401]: "), "{stderr}");
    assert_eq!(stderr.matches("error[").count(), 1, "{stderr}");
}

#[test]
fn counters_are_served_while_the_job_runs() {
    let place = Place::new();
    let mut job = Endless::start(&place, &["--metrics", "127.0.0.1:0"]);
    let mut line = String::new();
    job.stderr.as_mut().unwrap().read_line(&mut line).unwrap();
    let address = line
        .trim()
        .strip_prefix("metrics: http://")
        .and_then(|l| l.strip_suffix("/metrics"))
        .unwrap();
    assert!(job.first_line().contains("bids"));
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    for start in [
        "pelton_operator_records_in_total{job=\"hot-items\",operator=\"count\",task=\"0\"} ",
        "pelton_watermark_held_seconds{job=\"hot-items\",operator=\"timestamps\",source=\"events\",task=\"",
    ] {
        assert!(text.contains(&format!("\n{start}")), "{text}");
    }
    job.child.kill().unwrap();
    job.end();
}
