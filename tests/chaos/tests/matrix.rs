//! A part of the crash matrix: each job dies at each point once. `cargo xtask chaos --all` runs the whole of it.

use std::path::Path;

use anyhow::Result;
use pelton_chaos::case::Outcome;
use pelton_chaos::jobs::Job;
use pelton_chaos::{matrix, table};

/// Processes at once: they mostly wait.
const THREADS: usize = 3;

#[track_caller]
fn check(job: Job) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = Path::new(env!("CARGO_BIN_EXE_pelton-chaos"));
    let outcomes = matrix::run(&matrix::some(job), folder.path(), binary, THREADS)?;
    let text = table::text(&outcomes);
    assert!(outcomes.iter().all(Outcome::is_good), "\n{text}");
    Ok(())
}

#[test]
fn a_keyed_sum_survives() -> Result<()> {
    check(Job::Sum)
}

#[test]
fn a_keyed_sum_with_much_state_survives() -> Result<()> {
    check(Job::LargeSum)
}

#[test]
fn sessions_survive() -> Result<()> {
    check(Job::Sessions)
}

#[test]
fn a_join_survives() -> Result<()> {
    check(Job::Join)
}

#[test]
fn broadcast_rules_survive() -> Result<()> {
    check(Job::Rules)
}

#[test]
fn windows_over_files_survive() -> Result<()> {
    check(Job::Windows)
}
