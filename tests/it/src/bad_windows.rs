//! Timers, triggers, evictors and accumulators that misbehave, and state that only grows.

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
