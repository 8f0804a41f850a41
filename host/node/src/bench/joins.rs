//! Joins by interval and unique counts by window, each a job in a process of its own.
//! Needs: the component `bench-jobs`, a folder for results.

use std::path::Path;

use pelton_model::{Error, Result};

use super::jobs::{Ran, run};
use super::measure::median;
use super::{Bench, Figure};

/// Rows of both streams; ten to a millisecond, so that the last two thirds come while others go.
const JOINED: u64 = 9_000_000;
/// Rows that ten minutes have.
const KEPT: u64 = 6_000_000;
/// Visits: two hours of them.
const VISITS: u64 = 20_000_000;
const USERS: u64 = 100_000_000;
const USERS_COMPARED: u64 = 10_000_000;
/// The standard error that sketches are made for, times three.
const ERROR_MOST: f64 = 3.0 * 0.81;

/// Two streams over a million keys, ten minutes before and after.
pub(super) fn interval(bench: &mut Bench<'_>) -> Result<()> {
    let (mut rates, mut bytes) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        (bench.progress)(&format!("interval join, run {round}"));
        let whole = job(bench, "interval-join", JOINED, 100, None, None)?;
        let tenth = job(bench, "interval-join", JOINED / 10, 1_000, None, None)?;
        rates.push(whole.rows_in as f64 / whole.cpu_seconds_running.max(1e-9));
        let gained = whole
            .peak_memory_bytes
            .saturating_sub(tenth.peak_memory_bytes);
        bytes.push(gained as f64 / bench.scaled(KEPT - KEPT / 10) as f64);
    }
    let name = "interval join, 1,000,000 keys, ten minutes";
    let rate = Figure::plain(name, median(rates), "rows a CPU-second");
    bench.add(rate);
    let memory = Figure::plain(format!("{name}: memory"), median(bytes), "bytes a row");
    bench.add(memory);
    Ok(())
}

/// Users of the last hour, each ten seconds; and by hour against the exact count.
pub(super) fn unique(bench: &mut Bench<'_>) -> Result<()> {
    let step = 7_200_000_000 / VISITS;
    let (mut rates, mut peaks) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        (bench.progress)(&format!("unique users, run {round}"));
        let ran = job(bench, "unique-last-hour", VISITS, step, Some(USERS), None)?;
        rates.push(ran.rows_in as f64 / ran.cpu_seconds_running.max(1e-9));
        peaks.push(ran.peak_memory_bytes as f64 / f64::from(1 << 20));
    }
    let name = "unique users of the last hour, each ten seconds, of 100,000,000";
    bench.add(Figure::plain(name, median(rates), "rows a CPU-second"));
    let peak = Figure::plain(format!("{name}: peak memory"), median(peaks), "MiB");
    bench.add(peak);
    let folder = super::json::folder()?;
    let mut counts = Vec::new();
    for name in ["unique-by-hour", "unique-by-hour-exact"] {
        (bench.progress)(name);
        let output = folder.path().join(name);
        job(
            bench,
            name,
            VISITS,
            step,
            Some(USERS_COMPARED),
            Some(&output),
        )?;
        counts.push(users(&output)?);
    }
    let [about, exact] = counts.as_slice() else {
        return Err(Error::bug("two jobs were measured"));
    };
    if about.len() != exact.len() || exact.is_empty() {
        return Err(Error::bug("two jobs have given results of other windows"));
    }
    let errors = about
        .iter()
        .zip(exact)
        .map(|(a, b)| (a - b).abs() / b.max(1.0) * 100.0);
    let name = "unique users of 10,000,000 by hour: the greatest error";
    let error = errors.fold(0.0, f64::max);
    bench.add(Figure::bounded(name, error, "%", ERROR_MOST));
    Ok(())
}

/// Runs a job over so many events (a tenth, ten times as far apart, where it is to be quick).
fn job(
    bench: &Bench<'_>,
    name: &str,
    events: u64,
    step_us: u64,
    users: Option<u64>,
    output: Option<&Path>,
) -> Result<Ran> {
    let scaled = bench.scaled(events);
    let step_us = step_us * events / scaled.max(1);
    let mut params = vec![
        ("job".to_owned(), name.to_owned()),
        ("events".to_owned(), scaled.to_string()),
        ("step_us".to_owned(), step_us.to_string()),
    ];
    params.extend(users.map(|u| ("users".to_owned(), u.to_string())));
    params.extend(output.map(|o| ("output".to_owned(), o.display().to_string())));
    run(&bench.component("bench-jobs"), &params)
}

/// The second column of all files of a folder, in the order of the windows.
fn users(folder: &Path) -> Result<Vec<f64>> {
    let failed = |e: std::io::Error| Error::bug(format!("results cannot be read: {e}"));
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let text = std::fs::read_to_string(entry.map_err(failed)?.path()).map_err(failed)?;
        for line in text.lines() {
            let mut cells = line.split(',').skip(1);
            let (users, start) = (cells.next(), cells.next());
            if let (Some(Ok(users)), Some(start)) = (users.map(str::parse::<f64>), start) {
                rows.push((start.to_owned(), users));
            }
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(rows.into_iter().map(|(_, users)| users).collect())
}
