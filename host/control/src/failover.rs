//! Whether a job that failed is started again, and when.
//! Needs: model. Refuses: clocks and chance, which are arguments; the restart itself.
//!
//! The strategies and their settings are those that Flink's users know. An error that no restart can mend is final under
//! each of them.

use std::collections::VecDeque;

use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, ErrorKind, Result};

/// When a job that failed is started again.
#[derive(Clone, PartialEq, Debug)]
pub enum RestartStrategy {
    /// Never.
    None,
    /// After a pause, so many times in all.
    FixedDelay {
        /// How many restarts.
        attempts: u32,
        /// The pause before each.
        delay_ms: u64,
    },
    /// After a pause, unless there are too many failures in a while.
    FailureRate {
        /// So many are borne within the interval.
        failures_max: u32,
        /// How long a failure counts.
        interval_ms: u64,
        /// The pause before each restart.
        delay_ms: u64,
    },
    /// After pauses that grow with each failure, until one run was quiet for long enough.
    ExponentialDelay {
        /// The first pause.
        initial_ms: u64,
        /// No pause is longer.
        max_ms: u64,
        /// Each pause is so many times the one before: at least 1.
        multiplier: f64,
        /// The part of a pause by which it is shortened or lengthened at random: 0 to 1.
        jitter: f64,
        /// A run of so long a time forgets the failures before it.
        reset_ms: u64,
        /// How many restarts since the last quiet run; none: any number.
        attempts: Option<u32>,
    },
}

impl Default for RestartStrategy {
    /// Exponential delay, as Flink's: from 1 s to 1 min by 1.5, jitter 0.1, reset after 1 h.
    fn default() -> Self {
        Self::ExponentialDelay {
            initial_ms: 1_000,
            max_ms: 60_000,
            multiplier: 1.5,
            jitter: 0.1,
            reset_ms: 3_600_000,
            attempts: None,
        }
    }
}

impl RestartStrategy {
    /// Errors: `Usage` for numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(ErrorCode::Usage, what));
        match *self {
            Self::FailureRate { interval_ms: 0, .. } => {
                wrong("the interval of the failure rate must be at least 1 ms")
            }
            Self::ExponentialDelay {
                initial_ms,
                max_ms,
                multiplier,
                jitter,
                ..
            } => {
                if initial_ms == 0 || initial_ms > max_ms {
                    return wrong(
                        "the first delay before a restart must be at least 1 ms and at most the longest",
                    );
                }
                if !multiplier.is_finite() || multiplier < 1.0 {
                    return wrong("the multiplier of restart delays must be at least 1");
                }
                if !(0.0..=1.0).contains(&jitter) {
                    return wrong("the jitter of restart delays must be between 0 and 1");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What becomes of a job that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is started again.
    Restart {
        /// After so many milliseconds.
        after_ms: u64,
    },
    /// It has failed for good.
    GiveUp {
        /// Half a sentence, such as `it was restarted 3 times`.
        why: String,
    },
}

/// The failures of one job, and what they lead to.
#[derive(Clone, Debug)]
pub struct Restarts {
    strategy: RestartStrategy,
    /// Restarts in all; with exponential delay, since the last quiet run.
    count: u32,
    /// When it failed, as far as it counts.
    recent: VecDeque<Monotonic>,
    /// The next pause without jitter, and when the last one was over.
    delay_ms: f64,
    restarted: Option<Monotonic>,
}

impl Restarts {
    /// No failure so far.
    #[must_use]
    pub fn new(strategy: RestartStrategy) -> Self {
        Self {
            strategy,
            count: 0,
            recent: VecDeque::new(),
            delay_ms: 0.0,
            restarted: None,
        }
    }

    /// How many times the job was started again, since the last quiet run where that counts.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The job has failed. `random`: any 64 bits.
    pub fn failed(&mut self, now: Monotonic, error: &Error, random: u64) -> Decision {
        if !mends(error.code()) {
            let why = format!("a restart does not mend '{}'", error.code().title());
            return Decision::GiveUp { why };
        }
        let decision = match self.strategy {
            RestartStrategy::None => Err("restarts are switched off".to_owned()),
            RestartStrategy::FixedDelay { attempts, delay_ms } => match self.count < attempts {
                true => Ok(delay_ms),
                false => Err(format!("it was restarted {attempts} times")),
            },
            RestartStrategy::FailureRate {
                failures_max,
                interval_ms,
                delay_ms,
            } => self.by_rate(now, failures_max, interval_ms, delay_ms),
            RestartStrategy::ExponentialDelay { .. } => self.by_growing_delay(now, random),
        };
        match decision {
            Ok(after_ms) => {
                self.count = self.count.saturating_add(1);
                self.restarted = Some(now.plus_ms(after_ms));
                Decision::Restart { after_ms }
            }
            Err(why) => Decision::GiveUp { why },
        }
    }

    fn by_rate(
        &mut self,
        now: Monotonic,
        failures_max: u32,
        interval_ms: u64,
        delay_ms: u64,
    ) -> std::result::Result<u64, String> {
        while self
            .recent
            .front()
            .is_some_and(|at| at.plus_ms(interval_ms) <= now)
        {
            self.recent.pop_front();
        }
        if self.recent.len() >= failures_max as usize {
            let count = self.recent.len() + 1;
            return Err(format!("it failed {count} times within {interval_ms} ms"));
        }
        self.recent.push_back(now);
        Ok(delay_ms)
    }

    fn by_growing_delay(
        &mut self,
        now: Monotonic,
        random: u64,
    ) -> std::result::Result<u64, String> {
        let RestartStrategy::ExponentialDelay {
            initial_ms,
            max_ms,
            multiplier,
            jitter,
            reset_ms,
            attempts,
        } = self.strategy
        else {
            return Ok(0);
        };
        let quiet = |at: Monotonic| at.plus_ms(reset_ms) <= now;
        if self.restarted.is_none_or(quiet) {
            self.count = 0;
            self.delay_ms = initial_ms as f64;
        }
        if attempts.is_some_and(|attempts| self.count >= attempts) {
            let count = self.count;
            return Err(format!(
                "it was restarted {count} times without {reset_ms} ms of quiet"
            ));
        }
        let delay = self.delay_ms;
        self.delay_ms = (delay * multiplier).min(max_ms as f64);
        // -1 to 1, by the upper 53 bits.
        let chance = (random >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let after = (delay * (1.0 + jitter * chance)).round();
        Ok((after as u64).clamp(1, max_ms.max(1)))
    }
}

/// Whether another run of the same job can end otherwise.
fn mends(code: ErrorCode) -> bool {
    match code.kind() {
        // Of what lies with the user or the machine, some may pass by itself: a disk, a store, a record that is skipped.
        ErrorKind::Usage | ErrorKind::BadJob => false,
        _ => !matches!(
            code,
            ErrorCode::Fenced
                | ErrorCode::GraphDiffers
                | ErrorCode::ComponentTooLarge
                | ErrorCode::Cancelled
        ),
    }
}

#[cfg(test)]
mod tests;
