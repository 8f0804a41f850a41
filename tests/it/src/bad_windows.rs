//! Timers, triggers, evictors and accumulators that misbehave, and state that only grows, or is larger than it should be.

use crate::hostile::{bounded, hostile, refused, visible};
use crate::pelton::{Ended, Place};

const PANIC: &str = "error[PLT-0201]: function 'worker' panicked: 999 is more than this function can take, at fixtures/hostile/src/functions.rs:";

/// A run with one task over rows whose numbers, which are also their event times, are given.
fn run(mode: &str, numbers: impl Iterator<Item = i64>, more: &[&str]) -> (Place, Ended) {
    let place = Place::new();
    let rows: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
    place.file("rows.jsonl", rows);
    let mut args = hostile("run", mode, &["-p", "1", "-q"]);
    for param in ["input=rows.jsonl", "output=out"] {
        args.extend(["--param".to_owned(), param.to_owned()]);
    }
    args.extend(more.iter().map(|a| (*a).to_owned()));
    let ended = bounded(&place, &args);
    (place, ended)
}

/// The numbers that came out.
#[track_caller]
fn numbers((place, ended): (Place, Ended)) -> Vec<i64> {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let folder = place.work().join("out");
    let texts = visible(&folder)
        .iter()
        .map(|f| std::fs::read_to_string(folder.join(f)).unwrap())
        .collect::<String>();
    texts.lines().filter_map(|l| l.parse().ok()).collect()
}

#[test]
fn a_timer_that_traps_is_named() {
    let (_, ended) = run("timer-trap", 0..2_000, &[]);
    refused(
        &ended,
        8,
        PANIC,
        &["timer ", "operator 'worker'", "in misbehave"],
    );
}

#[test]
fn a_merge_that_traps_is_named() {
    let (_, ended) = run("merge-trap", 0..5_000, &[]);
    refused(&ended, 8, PANIC, &["accumulator 0", "operator 'worker'"]);
}

#[test]
fn a_trigger_that_traps_is_named_with_its_row() {
    let (_, ended) = run("trigger-trap", 0..2_000, &[]);
    refused(&ended, 8, PANIC, &["row 999", "operator 'worker'"]);
}

#[test]
fn a_gap_that_is_not_above_zero_is_refused_with_its_row() {
    let (_, ended) = run("bad-gap", 0..1_000, &[]);
    refused(
        &ended,
        8,
        "error[PLT-0207]: function 'worker' failed: ",
        &["row 500", "operator 'worker'", "gap"],
    );
}

#[test]
fn a_window_whose_rows_are_all_evicted_still_fires() {
    assert_eq!(numbers(run("evict-all", 0..2_000, &[])), [0, 0]);
}

#[test]
fn a_trigger_that_never_fires_ends_at_the_limit_of_state() {
    let (_, ended) = run(
        "never-fires",
        0..200_000,
        &["--limit", "state-bytes=256KiB"],
    );
    refused(
        &ended,
        9,
        "error[PLT-0",
        &["operator 'worker'", "largest keys", "state-bytes"],
    );
}

#[test]
fn a_trigger_that_never_fires_keeps_its_rows_to_itself() {
    assert_eq!(numbers(run("never-fires", 0..3_000, &[])), [0i64; 0]);
}

/// Half of the timers are before the watermark when they are set: those fire with the next one.
#[test]
fn a_million_timers_of_one_key_all_fire() {
    let fired = numbers(run("many-timers", 0..1_000, &[]));
    assert_eq!(fired, (1..=10).map(|n| n * 100_000).collect::<Vec<_>>());
}

#[test]
fn a_state_that_is_declared_with_two_types_is_refused() {
    let ended = bounded(&Place::new(), &hostile("check", "two-types", &[]));
    let start = "error[PLT-0111]: state 'same' is declared with two types: ";
    refused(&ended, 7, start, &["operator 'worker'"]);
}

#[test]
fn keyed_state_in_a_function_without_keys_is_refused() {
    let ended = bounded(&Place::new(), &hostile("check", "state-without-key", &[]));
    let start = "error[PLT-0111]: keyed state in a function whose rows have no key";
    refused(&ended, 7, start, &["state 'count'", "operator 'worker'"]);
}

const BACKENDS: [[&str; 2]; 2] = [["--state", "heap"], ["--state", "rocksdb"]];

#[test]
fn a_key_of_ten_megabytes_is_a_key_like_any_other() {
    for backend in BACKENDS {
        assert_eq!(numbers(run("large-key=10000000", 0..6, &backend)), [3, 3]);
    }
}

#[test]
fn a_value_of_a_hundred_megabytes_needs_limits_that_allow_it() {
    let (_, ended) = run("large-value=100000000", 0..2, &[]);
    refused(&ended, 9, "error[PLT-0", &["operator 'worker'", "--limit"]);
    for backend in BACKENDS {
        let limits = [
            "--limit",
            "memory-bytes=2GiB",
            "--limit",
            "output-bytes-max=256MiB",
        ];
        let more = [&backend[..], &limits].concat();
        assert_eq!(
            numbers(run("large-value=100000000", 0..2, &more)),
            [100_000_000]
        );
    }
}
