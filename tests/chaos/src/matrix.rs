//! Which cases there are: job, backend, parallelism, point and occurrence.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use pelton_node::checkpoint::points::{self, ALL};

use crate::case::{Case, Outcome, undisturbed};
use crate::jobs::{JOBS, Job};
use crate::pool;
use crate::run::{Kill, Stage};

/// After so many cases something is said.
const PROGRESS: usize = 100;

/// A first run that has two complete checkpoints dies here: what follows goes on from one.
const BEFORE: Kill = kill(points::NOTIFY, 2);

/// Points that a start passes once.
const STARTS: [&str; 4] = [
    points::START_TERM,
    points::START_RECOVER,
    points::START_RECOVERED,
    points::START_TASKS,
];

/// Points that a run cannot come to as often as the others, and why.
pub const RARE: [(&str, &str); 2] = [
    (
        points::LAST_SNAPSHOT,
        "each task ends once, and there are but two with one source and parallelism 1: the second time instead of the third",
    ),
    (
        "start-*",
        "a process starts once: it dies there in three starts in a row instead of the third time",
    ),
];

/// Points of the last checkpoint, which are passed again when tasks have ended.
const LAST: [&str; 9] = [
    points::UPLOAD_BEGUN,
    points::UPLOAD_STATE,
    points::UPLOAD_DONE,
    points::METADATA_BEFORE,
    points::METADATA_AFTER,
    points::COMMIT_BEFORE,
    points::COMMIT_SINK,
    points::COMMIT_AFTER,
    points::LAST_SNAPSHOT,
];

/// Whether state is in RocksDB; tasks of an operator in the first run, and in those that follow; whether barriers overtake
/// what is in flight.
const TURNS: [(bool, u32, u32, bool); 7] = [
    (false, 1, 1, false),
    (true, 2, 2, false),
    (false, 2, 2, true),
    (false, 2, 1, false),
    (true, 1, 2, false),
    (false, 2, 2, false),
    (true, 2, 1, true),
];

const fn kill(point: &'static str, nth: u32) -> Kill {
    Kill {
        point,
        nth,
        after: None,
    }
}

/// The ways to die at a point: the first time, the third time, and twice in a row.
fn ways(point: &'static str) -> Vec<Vec<Kill>> {
    if STARTS.contains(&point) {
        let start = kill(point, 1);
        let mut ways = vec![vec![BEFORE, start], vec![BEFORE, start, start, start]];
        if point == points::START_TERM || point == points::START_TASKS {
            // Also where there is nothing to go on from.
            ways.push(vec![start, start]);
        }
        return ways;
    }
    let third = match point {
        points::LAST_SNAPSHOT => 2,
        _ => 3,
    };
    vec![
        vec![kill(point, 1)],
        vec![kill(point, third)],
        vec![kill(point, third), kill(point, 1)],
    ]
}

/// Dying while tasks end, and then while what they left is recovered.
fn at_the_end(point: &'static str) -> Vec<Vec<Kill>> {
    let last = Kill {
        point,
        nth: 1,
        after: Some(points::LAST_SNAPSHOT),
    };
    vec![
        vec![last],
        vec![last, kill(points::START_RECOVER, 1)],
        vec![last, kill(points::START_RECOVERED, 1)],
    ]
}

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for job in JOBS {
        for (rocksdb, parallelism, then, overtakes) in TURNS {
            let case = |kills| Case {
                job,
                rocksdb,
                parallelism,
                then,
                overtakes,
                kills,
            };
            let ways = ALL.iter().flat_map(|point| ways(point));
            cases.extend(ways.map(case));
            let ends = LAST.iter().flat_map(|point| at_the_end(point));
            cases.extend(ends.map(case));
        }
    }
    cases
}

/// A part of them for one job: each point once, with backends and parallelisms in turn.
#[must_use]
pub fn some(job: Job) -> Vec<Case> {
    // Each job begins elsewhere, so that all ways are gone by one of them.
    let offset = JOBS.iter().position(|j| *j == job).unwrap_or(0);
    let points = ALL.iter().map(|point| ways(point));
    let ends = LAST.iter().skip(offset).step_by(5).map(|p| at_the_end(p));
    let picked = points.chain(ends).enumerate().filter_map(|(i, ways)| {
        let way = (i + offset).checked_rem(ways.len())?;
        let turn = TURNS.get((i + offset * 2).checked_rem(TURNS.len())?)?;
        let (rocksdb, parallelism, then, overtakes) = *turn;
        Some(Case {
            job,
            rocksdb,
            parallelism,
            then,
            overtakes,
            kills: ways.get(way)?.clone(),
        })
    });
    picked.collect()
}

/// Runs cases on so many threads, in a folder. Errors: no programs; a job that does not run undisturbed.
pub fn run(cases: &[Case], folder: &Path, binary: &Path, threads: usize) -> Result<Vec<Outcome>> {
    let stage = Stage::new(folder, binary)?;
    let mut expected = BTreeMap::new();
    for case in cases {
        if let Entry::Vacant(entry) = expected.entry(case.job) {
            entry.insert(undisturbed(case.job, &stage)?);
        }
    }
    let numbered: Vec<(usize, &Case)> = cases.iter().enumerate().collect();
    let empty = Default::default();
    let done = AtomicUsize::new(0);
    Ok(pool::each(&numbered, threads, |(number, case)| {
        let expected = expected.get(&case.job).unwrap_or(&empty);
        let outcome = case.run(&stage, *number, expected);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if !outcome.is_good() {
            eprintln!("case-{number} went wrong: {case}");
        }
        if done.is_multiple_of(PROGRESS) {
            eprintln!("{done} of {} cases", cases.len());
        }
        outcome
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_dies_at_each_point() {
        for job in JOBS {
            for cases in [all(), some(job)] {
                for point in ALL {
                    let dies = |c: &&Case| c.job == job && c.kills.iter().any(|k| k.point == point);
                    assert!(cases.iter().any(|c| dies(&c)), "{job:?} at {point}");
                }
            }
        }
    }

    #[test]
    fn what_is_rare_is_a_point() {
        let starts = RARE.map(|(point, _)| point.trim_end_matches('*'));
        assert!(starts.iter().all(|s| ALL.iter().any(|p| p.starts_with(s))));
    }
}
