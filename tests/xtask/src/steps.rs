//! A row of steps, each timed; the first that fails ends the row.
//!
//! Needs: `tally`. Invariant: whatever happens, the table of minutes and the sum of all tests are printed at the end.
//! A step that fails without a failed test counts as one failure, so that the last line never looks green.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::shell::{now, print, say};
use crate::tally::Tally;

/// What ran so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    timed: Vec<(&'static str, Duration)>,
    tally: Tally,
}

impl Steps {
    /// Runs one step; it adds the tests it ran to the tally.
    ///
    /// # Errors
    /// The step's own, named after it; and where one of its tests failed.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        run: impl FnOnce(&mut Tally) -> Result<()>,
    ) -> Result<()> {
        say(&format!("\n== {name}"));
        let started = now();
        let before = self.tally.failed;
        let mut outcome = run(&mut self.tally);
        self.timed.push((name, now().duration_since(started)));
        let failed = self.tally.failed - before;
        if outcome.is_err() && failed == 0 {
            self.tally.failed += 1;
        } else if outcome.is_ok() && failed > 0 {
            outcome = Err(anyhow!("{failed} tests failed"));
        }
        outcome.with_context(|| format!("step `{name}` failed"))
    }

    /// Prints the outcome, the table of minutes and, as the very last line, the sum of all tests.
    pub(crate) fn close(self, outcome: Result<()>) -> ExitCode {
        if let Err(error) = &outcome {
            say(&format!("\nerror: {error:#}"));
        }
        print(&self.table());
        print(&format!(
            "{} passed, {} failed",
            self.tally.passed, self.tally.failed
        ));
        if outcome.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn table(&self) -> String {
        let total = self.timed.iter().map(|(_, took)| *took).sum();
        let rows = self.timed.iter().copied().chain([("in all", total)]);
        let rows = rows.map(|(name, took): (_, Duration)| {
            format!("{:>7.1}  {name}", took.as_secs_f64() / 60.0)
        });
        std::iter::once("\nminutes  step".to_owned())
            .chain(rows)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_step_and_their_sum() {
        let timed = vec![
            ("format", Duration::from_secs(3)),
            ("tests", Duration::from_secs(90)),
        ];
        let steps = Steps {
            timed,
            tally: Tally::default(),
        };
        assert_eq!(
            steps.table(),
            "\nminutes  step\n    0.1  format\n    1.5  tests\n    1.6  in all"
        );
    }

    #[test]
    fn a_failed_step_without_tests_counts_as_a_failure() {
        let mut steps = Steps::default();
        let error = steps
            .step("format", |_| Err(anyhow!("3 files differ")))
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "step `format` failed: 3 files differ");
        assert_eq!(
            steps.tally,
            Tally {
                passed: 0,
                failed: 1
            }
        );
    }

    #[test]
    fn failed_tests_fail_the_step_and_are_counted_once() {
        let mut steps = Steps::default();
        let counted = |tally: &mut Tally| {
            *tally = Tally {
                passed: 5,
                failed: 2,
            };
            Ok(())
        };
        assert!(steps.step("tests", counted).is_err());
        assert_eq!(
            steps.tally,
            Tally {
                passed: 5,
                failed: 2
            }
        );
    }

    #[test]
    fn a_good_step_adds_its_tests() {
        let mut steps = Steps::default();
        let counted = |tally: &mut Tally| {
            tally.passed += 5;
            Ok(())
        };
        steps.step("tests", counted).unwrap();
        steps.step("more tests", counted).unwrap();
        assert_eq!(
            steps.tally,
            Tally {
                passed: 10,
                failed: 0
            }
        );
    }
}
