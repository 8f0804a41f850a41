//! How watermarks follow from event times, and how often.

use crate::bindings::exports::pelton::job::graph::{Emit, Watermarks};
use crate::time::Duration;

/// How watermarks follow from event times.
///
/// One is emitted each 200 ms, if it has grown, or as often as [`Job::watermark_interval`](crate::Job::watermark_interval)
/// or the host's setting `run.watermark-interval` says; and sooner where a task has seen 65,536 rows since the last, so
/// that old rows that are read at full speed do not pile up in windows. [`every`](Self::every),
/// [`every_batch`](Self::every_batch) and [`every_row`](Self::every_row) say it for one stream.
#[derive(Clone, Copy, Debug)]
pub struct WatermarkStrategy {
    pub(super) watermarks: Watermarks,
    pub(super) emit: Emit,
    pub(super) idle_ms: Option<u64>,
    pub(super) drift_ms: Option<u64>,
}

/// Rows are out of order by at most this: the watermark is the greatest time less this, less 1 ms.
#[must_use]
pub fn bounded(delay: Duration) -> WatermarkStrategy {
    WatermarkStrategy::of(Watermarks::Bounded(delay.millis().max(0) as u64))
}

/// Times never descend: the watermark is the greatest time less 1 ms.
#[must_use]
pub fn monotonous() -> WatermarkStrategy {
    WatermarkStrategy::of(Watermarks::Monotonous)
}

/// The job's own generators say what follows: see [`Stream::assign_watermarks_with`]. How often is their affair.
#[must_use]
pub fn generated() -> WatermarkStrategy {
    WatermarkStrategy::of(Watermarks::Generated)
}

impl WatermarkStrategy {
    fn of(watermarks: Watermarks) -> Self {
        Self {
            watermarks,
            emit: Emit::Regular,
            idle_ms: None,
            drift_ms: None,
        }
    }

    /// A split without a row for so long no longer holds the watermark back, until its next row; so does a stream that has
    /// no splits. Time in which the split is not read does not count: paused by alignment, or held up by what is below.
    #[must_use]
    pub fn idle_after(mut self, duration: Duration) -> Self {
        self.idle_ms = Some(duration.millis().max(1) as u64);
        self
    }

    /// A watermark is emitted each time that so long has passed, in place of 200 ms: a longer one costs less, and windows
    /// close later. With zero there is none before the end of the input, as in Flink.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.emit = every(interval);
        self
    }

    /// A watermark follows each batch of rows that raises it, without waiting for its time: a few milliseconds after the
    /// row, whatever the clock.
    #[must_use]
    pub fn every_batch(mut self) -> Self {
        self.emit = Emit::Batch;
        self
    }

    /// A watermark follows each row that raises it, so that results do not depend on how rows are cut into batches.
    #[must_use]
    pub fn every_row(mut self) -> Self {
        self.emit = Emit::Row;
        self
    }

    /// Splits of sources stay together: one is not read while its watermark is more than this ahead of the least of all
    /// the job's streams that ask for this.
    #[must_use]
    pub fn align_within(mut self, drift: Duration) -> Self {
        self.drift_ms = Some(drift.millis().max(0) as u64);
        self
    }
}

pub(crate) fn every(interval: Duration) -> Emit {
    Emit::Interval(interval.millis().max(0) as u64)
}
