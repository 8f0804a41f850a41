//! The settings of checkpoints and of what follows a failure, under the names that Flink's users know.

use pelton_control::checkpoint::{CheckpointSettings, Retention};
use pelton_control::failover::RestartStrategy;
use pelton_model::Result;
use pelton_model::barrier::BarrierMode;

use super::Key;
use super::value::Kind;

const MODES: [&str; 3] = ["exactly-once", "aligned", "at-least-once"];
const STRATEGIES: [&str; 4] = ["exponential-delay", "fixed-delay", "failure-rate", "none"];
/// Of exponential delays, as Flink has them.
const MULTIPLIER: f64 = 1.5;
const JITTER: f64 = 0.1;
const RETENTION: [&str; 2] = ["keep", "delete"];
/// More tasks than that would not be waited for by anybody.
const CONCURRENT_MAX: u64 = 16;
const RETAINED_MAX: u64 = 1_000;

/// Checkpoints, and what follows a failure.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct DurableSettings {
    /// Where checkpoints are kept; none: there are none.
    pub(crate) dir: Option<String>,
    /// Where savepoints go that say nothing else.
    pub(crate) savepoints: Option<String>,
    /// When they are made.
    pub(crate) checkpoints: CheckpointSettings,
    /// The mode, by its place in the choices.
    mode: usize,
    /// How long barriers wait for each other before they overtake what is in flight.
    alignment_ms: u64,
    /// What follows a failure, where there are checkpoints.
    pub(crate) restart: RestartSettings,
}

/// What follows a failure: all numbers, of which each strategy takes its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RestartSettings {
    /// By its place in the choices.
    strategy: usize,
    attempts: u32,
    delay_ms: u64,
    delay_ms_max: u64,
    interval_ms: u64,
    reset_ms: u64,
}

impl RestartSettings {
    /// The strategy that they say.
    pub(crate) fn strategy(&self) -> RestartStrategy {
        let delay_ms = self.delay_ms;
        match self.strategy {
            0 => RestartStrategy::ExponentialDelay {
                initial_ms: delay_ms,
                max_ms: self.delay_ms_max,
                multiplier: MULTIPLIER,
                jitter: JITTER,
                reset_ms: self.reset_ms,
                attempts: (self.attempts > 0).then_some(self.attempts),
            },
            1 => RestartStrategy::FixedDelay {
                attempts: self.attempts,
                delay_ms,
            },
            2 => RestartStrategy::FailureRate {
                failures_max: self.attempts,
                interval_ms: self.interval_ms,
                delay_ms,
            },
            _ => RestartStrategy::None,
        }
    }
}

/// The rows of the tree.
pub(super) fn keys() -> Vec<Key> {
    let key = |name: &str, about, kind, default: &str| Key {
        name: name.to_owned(),
        about,
        kind,
        default: default.to_owned(),
    };
    let count = |max| Kind::Count { max };
    vec![
        key(
            "checkpoint.dir",
            "the folder of a job's checkpoints, by URL; without one there are none",
            Kind::Url,
            "",
        ),
        key(
            "checkpoint.interval",
            "from the beginning of a checkpoint to that of the next; 0: only at the end",
            Kind::Millis,
            "10s",
        ),
        key(
            "checkpoint.mode",
            "whether barriers wait for each other, and overtake what is in flight after the timeout (exactly-once), or only wait (aligned), or neither",
            Kind::Choice(&MODES),
            MODES[0],
        ),
        key(
            "checkpoint.alignment-timeout",
            "under exactly-once, how long a barrier may take before what it overtakes becomes part of the checkpoint; 0: at once",
            Kind::Millis,
            "30s",
        ),
        key(
            "checkpoint.min-pause",
            "from the end of a checkpoint to the beginning of the next, at least",
            Kind::Millis,
            "0ms",
        ),
        key(
            "checkpoint.timeout",
            "a checkpoint that takes longer is given up",
            Kind::Millis,
            "10m",
        ),
        key(
            "checkpoint.max-concurrent",
            "checkpoints that are under way at once",
            count(CONCURRENT_MAX),
            "1",
        ),
        key(
            "checkpoint.tolerated-failures",
            "failed checkpoints in a row that a job survives",
            Kind::Number,
            "3",
        ),
        key(
            "checkpoint.retained",
            "complete checkpoints that are kept",
            count(RETAINED_MAX),
            "2",
        ),
        key(
            "checkpoint.on-cancel",
            "what becomes of checkpoints when a job is stopped",
            Kind::Choice(&RETENTION),
            RETENTION[0],
        ),
        key(
            "checkpoint.on-failure",
            "what becomes of checkpoints when a job has failed for good",
            Kind::Choice(&RETENTION),
            RETENTION[0],
        ),
        key(
            "savepoint.dir",
            "the folder in which savepoints get folders of their own, by URL",
            Kind::Url,
            "",
        ),
        key(
            "restart.strategy",
            "when a job with checkpoints that failed is started again",
            Kind::Choice(&STRATEGIES),
            STRATEGIES[0],
        ),
        key(
            "restart.attempts",
            "restarts in all, or failures in the interval; 0: of exponential delay, any number",
            Kind::Number,
            "10",
        ),
        key(
            "restart.delay",
            "the pause before a restart, or before the first of growing ones",
            Kind::Millis,
            "1s",
        ),
        key(
            "restart.max-delay",
            "the longest of growing pauses",
            Kind::Millis,
            "1m",
        ),
        key(
            "restart.interval",
            "how long a failure counts for the failure rate",
            Kind::Millis,
            "5m",
        ),
        key(
            "restart.reset",
            "a run of so long a time forgets the failures before it",
            Kind::Millis,
            "1h",
        ),
    ]
}

impl DurableSettings {
    /// Sets what is a number; whether there is such a setting.
    pub(super) fn set(&mut self, name: &str, number: u64) -> bool {
        let small = u32::try_from(number).unwrap_or(u32::MAX);
        let c = &mut self.checkpoints;
        match name {
            "checkpoint.interval" => c.interval_ms = (number > 0).then_some(number),
            "checkpoint.alignment-timeout" => {
                self.alignment_ms = number;
                self.set_mode();
            }
            "checkpoint.min-pause" => c.min_pause_ms = number,
            "checkpoint.timeout" => c.timeout_ms = number,
            "checkpoint.max-concurrent" => c.max_concurrent = small,
            "checkpoint.tolerated-failures" => c.tolerated_failures = small,
            "checkpoint.retained" => c.retained = small,
            "restart.attempts" => self.restart.attempts = small,
            "restart.delay" => self.restart.delay_ms = number,
            "restart.max-delay" => self.restart.delay_ms_max = number,
            "restart.interval" => self.restart.interval_ms = number,
            "restart.reset" => self.restart.reset_ms = number,
            _ => return false,
        }
        true
    }

    /// Sets what is one of several.
    pub(super) fn choose(&mut self, name: &str, chosen: usize) {
        let retention = match chosen {
            0 => Retention::Keep,
            _ => Retention::Delete,
        };
        match name {
            "checkpoint.on-cancel" => self.checkpoints.on_cancel = retention,
            "checkpoint.on-failure" => self.checkpoints.on_failure = retention,
            "restart.strategy" => self.restart.strategy = chosen,
            _ => {
                self.mode = chosen;
                self.set_mode();
            }
        }
    }

    fn set_mode(&mut self) {
        self.checkpoints.mode = match self.mode {
            0 => BarrierMode::Unaligned {
                after_ms: self.alignment_ms,
            },
            1 => BarrierMode::Aligned,
            _ => BarrierMode::AtLeastOnce,
        };
    }

    pub(super) fn set_url(&mut self, name: &str, text: &str) {
        let url = (!text.is_empty()).then(|| text.to_owned());
        match name {
            "savepoint.dir" => self.savepoints = url,
            _ => self.dir = url,
        }
    }

    /// Errors: `Usage` for what makes no sense together.
    pub(super) fn check(&self) -> Result<()> {
        self.checkpoints.check()?;
        self.restart.strategy().check()
    }
}
