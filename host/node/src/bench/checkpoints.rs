//! What exactly-once checkpoints cost: the same job with and without them, in turns, each in a process of its own.
//! Needs: the component `bench-jobs`, room for checkpoints in the system's folder for temporary files.

use pelton_model::{Error, ErrorCode, Result};

use super::jobs::run_with_args;
use super::measure::median;
use super::{Bench, Figure};

/// One comparison.
struct Case {
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

const CASES: [Case; 5] = [
    Case {
        job: "keyed-sum",
        about: "keyed sum, 1,000,000 keys",
        state: "heap",
        interval: "1s",
        events: 100_000_000,
        most: 1.10,
    },
    Case {
        job: "keyed-sum",
        about: "keyed sum, 1,000,000 keys",
        state: "rocksdb",
        interval: "10s",
        events: 250_000_000,
        most: 1.10,
    },
    Case {
        job: "keyed-sum",
        about: "keyed sum, 1,000,000 keys",
        state: "rocksdb",
        interval: "1s",
        events: 100_000_000,
        most: 1.25,
    },
    Case {
        job: "counter",
        about: "counter, 1,000,000 keys",
        state: "heap",
        interval: "10s",
        events: 250_000_000,
        most: 1.10,
    },
    Case {
        job: "window",
        about: "10 s window, accumulator in Wasm",
        state: "heap",
        interval: "10s",
        events: 250_000_000,
        most: 1.10,
    },
];

pub(super) fn checkpoints(bench: &mut Bench<'_>) -> Result<()> {
    for case in &CASES {
        if case.state == "heap" || cfg!(feature = "rocksdb") {
            compare(bench, case)?;
        }
    }
    Ok(())
}

fn compare(bench: &mut Bench<'_>, case: &Case) -> Result<()> {
    let file = bench.component("bench-jobs");
    let events = bench.scaled(case.events);
    let params = [
        ("job".to_owned(), case.job.to_owned()),
        ("events".to_owned(), events.to_string()),
    ];
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut slow, mut fast) = (Vec::new(), Vec::new());
    // Few rounds: each is long.
    for round in 1..=bench.rounds.min(3) {
        let name = format!("{}, {}, {}", case.about, case.state, case.interval);
        (bench.progress)(&format!("{name}, run {round}"));
        let ran = run_with_args(&file, &params, &["--state", case.state])?;
        without.push(ran.cpu_seconds_running);
        fast.push(ran.seconds_running);
        let folder = tempfile::tempdir().map_err(|e| {
            Error::new(ErrorCode::Io, format!("a folder for checkpoints cannot be made: {e}"))
        })?;
        let dir = folder.path().display().to_string();
        let args = [
            "--state",
            case.state,
            "--checkpoint-dir",
            &dir,
            "--checkpoint-interval",
            case.interval,
            "--allow-at-least-once",
        ];
        let ran = run_with_args(&file, &params, &args)?;
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
    bench.add(Figure::plain(format!("{name}: time against none"), ratio, "x"));
    Ok(())
}
