//! A part of the crash matrix: each job dies at each point once. `cargo xtask chaos --all` runs the whole of it.

use std::path::Path;

use pelton_chaos::case::Outcome;
use pelton_chaos::jobs::Job;
use pelton_chaos::{matrix, table};

/// Processes at once: they mostly wait.
const THREADS: usize = 3;

#[track_caller]
fn check(job: Job) {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_pelton-chaos"));
    let outcomes = matrix::run(&matrix::some(job), folder.path(), binary, THREADS).unwrap();
    let text = table::text(&outcomes);
    assert!(outcomes.iter().all(Outcome::is_good), "\n{text}");
    println!("{text}");
}

#[test]
fn a_keyed_sum_survives() {
    check(Job::Sum);
}

#[test]
fn a_keyed_sum_with_much_state_survives() {
    check(Job::LargeSum);
}

#[test]
fn sessions_survive() {
    check(Job::Sessions);
}

#[test]
fn a_join_survives() {
    check(Job::Join);
}

#[test]
fn broadcast_rules_survive() {
    check(Job::Rules);
}

#[test]
fn windows_over_files_survive() {
    check(Job::Windows);
}
