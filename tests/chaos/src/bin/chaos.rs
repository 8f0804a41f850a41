//! `cargo xtask chaos [--all] [JOB..] [POINT..]`: kills jobs and starts them again, as often as there are cases.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use pelton_chaos::case::Outcome;
use pelton_chaos::jobs::JOBS;
use pelton_chaos::{faults, matrix, table};
use pelton_node::checkpoint::points::ALL;

const USAGE: &str = "usage: chaos [--all] [--keep] [JOB..] [POINT..]

  --all   every case of the matrix, and every damaged file
  --keep  leave the folders of cases that went wrong
  JOB     only of these jobs; POINT: only cases that die at these points; `faults`: only damaged storage";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all went well.
fn run() -> Result<bool> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_job = |arg: &str| JOBS.iter().any(|j| j.name() == arg);
    let known = |arg: &String| {
        ["--all", "--keep", "faults"].contains(&arg.as_str())
            || is_job(arg)
            || ALL.contains(&arg.as_str())
    };
    if !args.iter().all(known) {
        bail!("{USAGE}");
    }
    let has = |arg: &str| args.iter().any(|a| a == arg);
    let (some_jobs, some_points) = (
        args.iter().any(|a| is_job(a)),
        args.iter().any(|a| ALL.contains(&a.as_str())),
    );
    let mut cases = match has("--all") {
        true => matrix::all(),
        false => JOBS.into_iter().flat_map(matrix::some).collect(),
    };
    cases.retain(|case| {
        (!some_jobs || has(case.job.name()))
            && (!some_points || case.kills.iter().any(|k| has(k.point)))
    });
    let this = std::env::current_exe()?;
    let binary = this.with_file_name("pelton-chaos");
    let folder = tempfile::Builder::new().prefix("pelton-chaos-").tempdir()?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    let mut good = true;
    if !has("faults") {
        let outcomes = matrix::run(&cases, folder.path(), &binary, threads)?;
        good &= outcomes.iter().all(Outcome::is_good);
        print(&table::text(&outcomes))?;
    }
    if has("faults") || !(some_jobs || some_points) {
        good &= storage(
            &folder.path().join("faults"),
            &binary,
            has("--all"),
            threads,
        )?;
    }
    if has("--keep") && !good {
        eprintln!("{}", folder.keep().display());
    }
    Ok(good)
}

fn storage(folder: &Path, binary: &Path, all: bool, threads: usize) -> Result<bool> {
    let outcomes = faults::run(folder, binary, all, threads).context("storage faults")?;
    print(&faults::text(&outcomes))?;
    Ok(outcomes.iter().all(faults::Outcome::is_good))
}

fn print(text: &str) -> Result<()> {
    Ok(write!(std::io::stdout(), "{text}")?)
}
