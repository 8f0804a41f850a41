//! The simulation over many seeds: nothing lost, nothing twice, whatever goes wrong; and it finds what is wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pelton_sim::plan::{Plan, Plant};
use pelton_sim::sim::{Report, run, simulate};

const SEEDS: u64 = 200;
const THREADS: u64 = 2;

/// Simulates seeds on a few threads; each simulation has one.
fn over(seeds: u64, each: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    each(seed);
                }
            });
        }
    });
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice_whatever_goes_wrong() {
    let reports = Mutex::new(Vec::<(u64, Report)>::new());
    over(SEEDS, |seed| {
        let report = simulate(seed, None).unwrap();
        reports.lock().unwrap().push((seed, report));
    });
    let reports = reports.into_inner().unwrap();
    let failed: Vec<String> = reports
        .iter()
        .filter(|(_, r)| !r.violations.is_empty())
        .map(|(seed, r)| {
            format!(
                "seed {seed} ({}): {}\n  alone: cargo run -p pelton-sim -- --seeds 1 --from {seed}",
                r.job,
                r.violations.join("; ")
            )
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // What never happens proves nothing.
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|(_, r)| of(r)).sum::<u64>();
    assert!(sum(|r| r.crashes) > SEEDS, "{} crashes", sum(|r| r.crashes));
    assert!(sum(|r| r.zombies) > SEEDS / 10);
    assert!(sum(|r| r.checkpoints) > SEEDS * 5);
    assert!(
        sum(|r| r.savepoints) > SEEDS,
        "{} savepoints",
        sum(|r| r.savepoints)
    );
    assert!(sum(|r| r.moves) > SEEDS / 8, "{} moves", sum(|r| r.moves));
    assert!(
        sum(|r| r.collected) > SEEDS,
        "{} collected",
        sum(|r| r.collected)
    );
    assert!(sum(|r| r.torn) > SEEDS / 20, "{} torn", sum(|r| r.torn));
    for job in ["sums", "pairs", "windows"] {
        assert!(reports.iter().any(|(_, r)| r.job == job), "{job}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=10 {
        let trace = || run(seed, Plan::of(seed)).unwrap().trace;
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn bugs_that_are_put_in_are_found() {
    let missed = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(plant) =
                    Plant::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize)
                {
                    let found = |seed| !simulate(seed, Some(*plant)).unwrap().violations.is_empty();
                    if !(1..=SEEDS).any(found) {
                        missed.lock().unwrap().push(*plant);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}
