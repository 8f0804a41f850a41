//! The settings of checkpoints, under the names that Flink's users know.

use pelton_model::barrier::BarrierMode;
use pelton_model::{Error, ErrorCode, Result};

/// When checkpoints are made, and what is kept of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointSettings {
    /// From the beginning of one to that of the next. None: only when asked, and at the end.
    pub interval_ms: Option<u64>,
    /// How tasks with several inputs treat barriers. Savepoints are always aligned.
    pub mode: BarrierMode,
    /// From the end of one to the beginning of the next, at least. A user's wish does not wait for it.
    pub min_pause_ms: u64,
    /// One that is not acknowledged by all tasks in so long a time is given up.
    pub timeout_ms: u64,
    /// How many are under way at once, savepoints and commits of sinks included.
    pub max_concurrent: u32,
    /// So many failures in a row are borne; one more fails the job.
    pub tolerated_failures: u32,
    /// How many complete ones are kept.
    pub retained: u32,
    /// What becomes of them when the job is cancelled.
    pub on_cancel: Retention,
    /// What becomes of them when the job has failed for good.
    pub on_failure: Retention,
}

/// What becomes of complete checkpoints when a job ends before its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// They stay: a later start goes on from them.
    Keep,
    /// They are deleted.
    Delete,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval_ms: None,
            mode: BarrierMode::Aligned,
            min_pause_ms: 0,
            timeout_ms: 600_000,
            max_concurrent: 1,
            tolerated_failures: 3,
            retained: 2,
            on_cancel: Retention::Keep,
            on_failure: Retention::Keep,
        }
    }
}

impl CheckpointSettings {
    /// Errors: `Usage` for numbers that make no sense, alone or together.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(ErrorCode::Usage, what));
        if self.interval_ms == Some(0) {
            return wrong("the interval of checkpoints must be at least 1 ms");
        }
        if self.timeout_ms == 0 {
            return wrong("the timeout of checkpoints must be at least 1 ms");
        }
        if self.max_concurrent == 0 {
            return wrong("at least one checkpoint must be allowed at a time");
        }
        if self.retained == 0 {
            return wrong("at least one complete checkpoint must be kept");
        }
        if self.max_concurrent > 1 && matches!(self.mode, BarrierMode::Unaligned { .. }) {
            return wrong(
                "unaligned checkpoints are made one at a time: set max concurrent to 1, or the mode to aligned",
            );
        }
        Ok(())
    }
}
