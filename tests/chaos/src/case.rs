//! A case: a job that is killed some times and then left alone.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};

use crate::jobs::Job;
use crate::output::{Difference, Output};
use crate::run::{Kill, Place, Stage, Start};

/// Barriers do not wait for each other.
const AT_ONCE: [(&str, &str); 1] = [("CHECKPOINT__ALIGNMENT_TIMEOUT", "0ms")];

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
    /// Whether barriers overtake what is in flight, at once.
    pub overtakes: bool,
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
        if self.overtakes {
            write!(f, ", unaligned")?;
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
            .and_then(|place| self.run_slower(stage, &place, expected));
        Outcome {
            case: self.clone(),
            result,
        }
    }

    /// Where so few checkpoints were complete that a point was not passed as often as it should, all begins again, slower.
    fn run_slower(&self, stage: &Stage, place: &Place, expected: &Output) -> Result<Difference> {
        for slower in [1, 4] {
            if let Some(difference) = self.run_in(stage, place, expected, slower)? {
                return Ok(difference);
            }
            fs::remove_dir_all(&place.folder)?;
            fs::create_dir_all(&place.folder)?;
        }
        let last = self.run_in(stage, place, expected, 16)?;
        last.context("a point was never hit: the run comes to its end before")
    }

    /// None where a run came to its end too early.
    fn run_in(
        &self,
        stage: &Stage,
        place: &Place,
        expected: &Output,
        slower: u32,
    ) -> Result<Option<Difference>> {
        let start = |kill, run: usize| Start {
            job: self.job,
            rocksdb: self.rocksdb,
            parallelism: if run == 0 {
                self.parallelism
            } else {
                self.then
            },
            kill,
            slower,
            settings: if self.overtakes { &AT_ONCE } else { &[] },
        };
        for (run, kill) in self.kills.iter().enumerate() {
            let ended = stage.run(&start(Some(*kill), run), place)?;
            if ended.came_through() {
                return Ok(None);
            }
            ended.killed(*kill)?;
        }
        stage
            .run(&start(None, self.kills.len()), place)?
            .done()
            .context("the run that was left alone failed")?;
        let difference = Output::read(self.job, &place.output())?.against(expected);
        if difference.is_none() {
            fs::remove_dir_all(&place.folder)?;
        }
        Ok(Some(difference))
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
        slower: 0,
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
