//! Components that look right and are not: graphs that no SDK makes, a description that never stops talking.

use std::process::{Command, Stdio};

use crate::components::component;
use crate::hostile::{bounded, command, finish, hostile, refused};
use crate::pelton::Place;

#[track_caller]
fn check(mode: &str, exit: i32, start: &str, words: &[&str]) {
    for verb in ["check", "run"] {
        let args = hostile(verb, mode, &["--limit", "cpu-ms-per-call=1000"]);
        refused(&bounded(&Place::new(), &args), exit, start, words);
    }
}

#[test]
fn a_graph_that_cannot_run_is_refused() {
    check(
        "graph-cycle",
        7,
        "error[PLT-0111]: the graph has a cycle\n",
        &[],
    );
    check(
        "graph-no-input",
        7,
        "error[PLT-0111]: input 0 has no stream\n",
        &["operator 'worker'"],
    );
    check("graph-no-operators", 7, "error[PLT-0111]: ", &[]);
    check(
        "graph-equal-uids",
        7,
        "error[PLT-0111]: operators 'worker' and 'result' have the same uid 'worker'\n",
        &[".uid(\"..\")"],
    );
    check(
        "graph-edge-nowhere=77",
        7,
        "error[PLT-0111]: an edge names operator 77 where there are 3\n",
        &[],
    );
}

#[test]
fn a_number_out_of_bounds_is_refused() {
    for parallelism in ["0", "1000000"] {
        check(
            &format!("graph-parallelism={parallelism}"),
            7,
            &format!("error[PLT-0111]: parallelism {parallelism} is not between 1 and 4096\n"),
            &["operator 'worker'"],
        );
    }
    check(
        "graph-operators=1000",
        7,
        "error[PLT-0111]: the job has 1003 operators",
        &["at most 1000"],
    );
    check(
        "graph-operators=100000",
        7,
        "error[PLT-0111]: the job's graph is too large: ",
        &["1000 operators"],
    );
    check(
        "operators=1200",
        7,
        "error[PLT-0111]: the job has 1202 operators",
        &[],
    );
    check(
        "graph-name=10000",
        7,
        "error[PLT-0111]: operator 'nnnn",
        &["over 256 bytes"],
    );
}

#[test]
fn windows_that_cannot_be_are_refused() {
    for (windows, what) in [
        (
            "0",
            "a window's size and slide must be above 0, not 0 ms and 0 ms",
        ),
        (
            "10,-1",
            "a window's size and slide must be above 0, not 10 ms and -1 ms",
        ),
        ("10,5,5", "a window's offset must be below 5 ms, not 5 ms"),
        (
            "10,5,-9223372036854775808",
            "a window's offset must be below 5 ms, not -9223372036854775808 ms",
        ),
        (
            "9223372036854775807,1",
            "each row would be in 9223372036854775807 windows, and at most 100000 are allowed",
        ),
    ] {
        let start = format!("error[PLT-0111]: {what}\n");
        check(
            &format!("window={windows}"),
            7,
            &start,
            &["operator 'summary'"],
        );
    }
}

#[test]
fn a_parallelism_that_one_process_cannot_hold_is_refused_at_once() {
    let place = Place::new();
    place.file("rows.jsonl", "{\"n\":1}\n");
    let run = |mode: &str, parallelism: &str| {
        let more = [
            "--param",
            "input=rows.jsonl",
            "-p",
            parallelism,
            "--max-parallelism",
            "32768",
        ];
        bounded(&place, &hostile("run", mode, &more))
    };
    refused(
        &run("keyed-trap", "4096"),
        2,
        "error[PLT-0001]: with this parallelism, tasks would have over 1048576 channels to one another\n",
        &["lower the parallelism"],
    );
    refused(
        &run("pass", "1000"),
        8,
        "error[PLT-0402]: no instance is left: too many tasks run in this process\n",
        &["lower the parallelism"],
    );
}

#[test]
fn a_machine_without_room_for_instances_is_no_fault_of_the_component() {
    let place = Place::new();
    let args = hostile("check", "pass", &[]);
    let inner = command(&place, &args);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -v 4000000; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    inner.get_envs().for_each(|(name, value)| {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    });
    let child = shell
        .current_dir(place.work())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    refused(
        &finish(child, &args),
        1,
        "error[PLT-0402]: the component cannot be started: ",
        &["Cannot allocate memory", "limit of virtual memory"],
    );
}

/// `(component (import "wasi:cli/environment@0.2.0" (instance (export "f" (func)))))`
const FOREIGN: &[u8] = b"\0asm\x0d\0\x01\0\
    \x07\x0e\x01\x42\x02\x01\x40\0\x01\0\x04\0\x01f\x01\0\
    \x0a\x1f\x01\0\x1awasi:cli/environment@0.2.0\x05\0";

#[test]
fn an_import_that_is_not_granted_is_named() {
    let place = Place::new();
    place.file("foreign.wasm", FOREIGN);
    let args = ["run", "foreign.wasm"].map(str::to_owned);
    refused(
        &bounded(&place, &args),
        7,
        "error[PLT-0104]: the component imports wasi:cli/environment@0.2.0, which a job is not granted\n",
        &["file foreign.wasm"],
    );
}

#[test]
fn fields_and_types_must_match_across_an_edge() {
    check(
        "unknown-field",
        7,
        "error[PLT-0111]: there is no field 'missing'; the fields are: n\n",
        &["operator 'worker'"],
    );
    check(
        "other-type",
        7,
        "error[PLT-0111]: field 'n' is i64, but is read as string\n",
        &["operator 'worker'"],
    );
    check(
        "graph-type",
        7,
        "error[PLT-0111]: field 'n' is string, but is read as i64\n",
        &["operator 'result'"],
    );
    check(
        "graph-key",
        7,
        "error[PLT-0111]: there is no field 'nothing'; the fields are: n\n",
        &["operator 'worker'"],
    );
    check(
        "graph-view=500",
        7,
        "error[PLT-0111]: field 'n' has 500 fields, but the schema ends before\n",
        &["operator 'worker'"],
    );
}

#[test]
fn a_graph_that_is_not_that_of_the_functions_fails_where_they_are_opened() {
    let place = Place::new();
    place.file("rows.jsonl", "{\"n\":1}\n");
    let differs = bounded(&place, &hostile("run", "graph-digest", &[]));
    refused(
        &differs,
        8,
        "error[PLT-0115]: the job function built another graph for this instance than for the job\n",
        &["build the graph from the parameters alone"],
    );
    let nobody = bounded(&place, &hostile("run", "graph-function=99", &[]));
    refused(
        &nobody,
        8,
        "error[PLT-0207]: ",
        &["function 99", "'worker'"],
    );
}

#[test]
fn a_description_that_logs_for_ever_is_stopped_and_heard_a_little() {
    let args = hostile(
        "check",
        "describe-log",
        &[
            "--limit",
            "cpu-ms-per-call=200",
            "--limit",
            "log-bytes-per-second=4KiB",
        ],
    );
    let ended = bounded(&Place::new(), &args);
    assert_eq!(ended.code, Some(9), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("error[PLT-0202]: the job function used more than 200 ms of CPU time"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.len() < 64 << 10);
}

#[test]
fn a_damaged_component_is_refused_or_harmless() {
    let place = Place::new();
    let whole = std::fs::read(component("word-count")).unwrap();
    for cut in [9, 1_000, whole.len() / 2, whole.len() - 1] {
        place.file("cut.wasm", &whole[..cut]);
        let args = ["check", "cut.wasm", "--param", "input=x"].map(str::to_owned);
        let ended = bounded(&place, &args);
        assert_eq!(ended.code, Some(7), "cut at {cut}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with("error[PLT-0101]: ")
                || ended.stderr.starts_with("error[PLT-0103]: "),
            "cut at {cut}: {}",
            ended.stderr
        );
    }
    // The length of the first section, and a byte of code.
    for at in [9, whole.len() / 3] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        place.file("damaged.wasm", &damaged);
        let args = ["check", "damaged.wasm", "--param", "input=x"].map(str::to_owned);
        let ended = bounded(&place, &args);
        assert!(
            matches!(ended.code, Some(0 | 7 | 9)),
            "byte {at}: {:?} {}",
            ended.code,
            ended.stderr
        );
    }
}
