//! A case: a job that is killed some times and then left alone.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};

use crate::jobs::Job;
use crate::output::{Difference, Output};
use crate::run::{Kill, Place, Stage, Start};

/// What is done to a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// What runs.
    pub job: Job,
    /// Whether state is kept in RocksDB.
    pub rocksdb: bool,
    /// Tasks of an operator, in the first run.
    pub parallelism: u32,
    /// The same in those that follow.
    pub then: u32,
    /// Where its runs die, one after the other; the one behind them comes to its end.
    pub kills: Vec<Kill>,
}

/// How a case ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub case: Case,
    /// What was wrong with the output; or why there is none.
    pub result: Result<Difference>,
}

impl Outcome {
    /// Whether the output was that of an undisturbed run.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.result.as_ref().is_ok_and(Difference::is_none)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.rocksdb { "rocksdb" } else { "heap" };
        write!(f, "{} on {state}, -p {}", self.job.name(), self.parallelism)?;
        if self.then != self.parallelism {
            write!(f, " then {}", self.then)?;
        }
        for kill in &self.kills {
            write!(f, ", {}:{}", kill.point, kill.nth)?;
            if let Some(after) = kill.after {
                write!(f, " after {after}")?;
            }
        }
        Ok(())
    }
}

impl Case {
    /// Does it all. The folder of a case that went wrong stays.
    pub fn run(&self, stage: &Stage, number: usize, expected: &Output) -> Outcome {
        let result = stage
            .place(&format!("case-{number}"))
            .and_then(|place| self.run_in(stage, &place, expected));
        Outcome {
            case: self.clone(),
            result,
        }
    }

    fn run_in(&self, stage: &Stage, place: &Place, expected: &Output) -> Result<Difference> {
        let start = |kill, run: usize| Start {
            job: self.job,
            rocksdb: self.rocksdb,
            parallelism: if run == 0 {
                self.parallelism
            } else {
                self.then
            },
            kill,
            full_speed: false,
            settings: &[],
        };
        for (run, kill) in self.kills.iter().enumerate() {
            stage.run(&start(Some(*kill), run), place)?.killed(*kill)?;
        }
        stage
            .run(&start(None, self.kills.len()), place)?
            .done()
            .context("the run that was left alone failed")?;
        let difference = Output::read(self.job, &place.output())?.against(expected);
        if difference.is_none() {
            fs::remove_dir_all(&place.folder)?;
        }
        Ok(difference)
    }
}

/// What an undisturbed run of a job writes, at full speed, without a crash. Errors: one that fails; output that no test
/// could learn from.
pub fn undisturbed(job: Job, stage: &Stage) -> Result<Output> {
    let place = stage.place(&format!("undisturbed-{}", job.name()))?;
    let start = Start {
        job,
        rocksdb: false,
        parallelism: 1,
        kill: None,
        full_speed: true,
        settings: &[],
    };
    stage.run(&start, &place)?.done()?;
    let output = Output::read(job, &place.output())?;
    let rows: u64 = output.lines.values().sum();
    let difference = output.against(&output);
    anyhow::ensure!(
        rows > 500 && difference.is_none(),
        "an undisturbed run of {} writes {rows} rows, {difference}",
        job.name()
    );
    fs::remove_dir_all(&place.folder)?;
    Ok(output)
}
