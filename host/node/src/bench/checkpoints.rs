//! What exactly-once checkpoints cost: the same job with and without them, in turns, each in a process of its own.
//! Needs: the components `bench-jobs` and `nexmark`, room for checkpoints in the system's folder for temporary files.

use std::path::Path;

use pelton_model::{Error, Result};

use super::jobs::{Ran, on_rocksdb, parameters, run_with_args};
use super::measure::median;
use super::{Bench, Figure};

/// One comparison.
struct Case {
    component: &'static str,
    job: &'static str,
    /// What it is, for people.
    about: &'static str,
    state: &'static str,
    interval: &'static str,
    /// So many that several checkpoints are made.
    events: u64,
    /// The most that they may cost, as a factor.
    most: f64,
}

impl Case {
    /// State in memory and checkpoints every ten seconds.
    const fn heap(component: &'static str, job: &'static str, about: &'static str) -> Self {
        Self {
            component,
            job,
            about,
            state: "heap",
            interval: "10s",
            events: 600_000_000,
            most: 1.10,
        }
    }

    const fn keyed_sum(
        state: &'static str,
        interval: &'static str,
        events: u64,
        most: f64,
    ) -> Self {
        Self {
            state,
            interval,
            events,
            most,
            ..Self::heap("bench-jobs", "keyed-sum", "keyed sum, 1,000,000 keys")
        }
    }
}

const CASES: [Case; 7] = [
    Case::keyed_sum("heap", "1s", 100_000_000, 1.10),
    Case::keyed_sum("rocksdb", "10s", 250_000_000, 1.10),
    Case::keyed_sum("rocksdb", "1s", 100_000_000, 1.25),
    Case::heap("bench-jobs", "counter", "counter, 1,000,000 keys"),
    Case::heap("bench-jobs", "window", "10 s window, accumulator in Wasm"),
    Case::heap("nexmark", "q5", "q5"),
    Case::heap("nexmark", "q7", "q7"),
];

/// Jobs that Flink was measured with in the same way, and how many times its events make several checkpoints.
const AGAINST_FLINK: [(&str, u64); 4] = [("counter", 40), ("window", 40), ("q5", 60), ("q7", 60)];
/// Flink's CPU over ours, at least.
const FLINK: f64 = 3.0;

pub(super) fn checkpoints(bench: &mut Bench<'_>) -> Result<()> {
    for case in &CASES {
        if case.state == "heap" || cfg!(feature = "rocksdb") {
            compare(bench, case)?;
        }
    }
    if cfg!(feature = "rocksdb") {
        for (job, times) in AGAINST_FLINK {
            against_flink(bench, job, times)?;
        }
    }
    Ok(())
}

fn compare(bench: &mut Bench<'_>, case: &Case) -> Result<()> {
    let file = bench.component(case.component);
    let params = parameters(case.component, case.job, bench.scaled(case.events));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut slow, mut fast) = (Vec::new(), Vec::new());
    // Few rounds: each is long.
    for round in 1..=bench.rounds.min(3) {
        let name = format!("{}, {}, {}", case.about, case.state, case.interval);
        (bench.progress)(&format!("{name}, run {round}"));
        let ran = run_with_args(&file, &params, &["--state", case.state])?;
        without.push(ran.cpu_seconds_running);
        fast.push(ran.seconds_running);
        let ran = with_checkpoints(&file, &params, case.state, case.interval)?;
        with.push(ran.cpu_seconds_running);
        slow.push(ran.seconds_running);
    }
    let name = format!(
        "{}, {}, checkpoints every {}",
        case.about, case.state, case.interval
    );
    let ratio = median(with) / median(without).max(1e-9);
    bench.add(Figure::bounded(
        format!("{name}: CPU against none"),
        ratio,
        "x",
        case.most,
    ));
    let ratio = median(slow) / median(fast).max(1e-9);
    bench.add(Figure::plain(
        format!("{name}: time against none"),
        ratio,
        "x",
    ));
    Ok(())
}

/// With RocksDB and checkpoints every ten seconds, as Flink ran.
fn against_flink(bench: &mut Bench<'_>, job: &str, times: u64) -> Result<()> {
    let times = if bench.quick {
        times.div_ceil(10)
    } else {
        times
    };
    let run = on_rocksdb(job, times)
        .ok_or_else(|| Error::bug(format!("Flink has no figure of '{job}'")))?;
    let file = bench.component(run.component);
    let mut cpu = Vec::new();
    for round in 1..=bench.rounds.min(3) {
        (bench.progress)(&format!("{job} as Flink ran it, run {round}"));
        let ran = with_checkpoints(&file, &run.params, "rocksdb", "10s")?;
        cpu.push(ran.cpu_seconds * 1e6 / run.events as f64);
    }
    let cpu = median(cpu);
    let name = format!("{job}, rocksdb, checkpoints every 10s");
    bench.add(Figure::plain(format!("{name}: CPU"), cpu, "us an event"));
    let ratio = run.flink_us / cpu.max(1e-9);
    bench.add(Figure {
        mark: format!(">= {FLINK} x"),
        holds: Some(ratio >= FLINK),
        ..Figure::plain(format!("{name}: Flink's CPU to ours"), ratio, "x")
    });
    Ok(())
}

/// A run that keeps its checkpoints in a folder of its own.
fn with_checkpoints(
    file: &Path,
    params: &[(String, String)],
    state: &str,
    interval: &str,
) -> Result<Ran> {
    let folder = super::json::folder()?;
    let dir = folder.path().display().to_string();
    let args = [
        "--state",
        state,
        "--checkpoint-dir",
        &dir,
        "--checkpoint-interval",
        interval,
    ];
    run_with_args(file, params, &args)
}
