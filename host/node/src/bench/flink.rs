//! What Apache Flink 2.3.0 needed for the same jobs: CPU time of its TaskManager (warm, heap state, no checkpoints,
//! parallelism 2, two virtual cores, all columns of all events made) in the best of its measured runs.

/// One of Flink's jobs and how much better Pelton has to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flink {
    /// Events of the run.
    pub(super) events: u64,
    /// CPU microseconds an event, the best run.
    pub(super) cpu_us: f64,
    /// Flink's CPU over ours, at least.
    pub(super) factor: f64,
}

const fn flink(events: u64, cpu_us: f64, factor: f64) -> Flink {
    Flink {
        events,
        cpu_us,
        factor,
    }
}

pub(super) const Q0: Flink = flink(40_000_000, 0.615_25, 3.0);
pub(super) const Q1: Flink = flink(40_000_000, 0.647_00, 3.0);
pub(super) const Q2: Flink = flink(48_000_000, 0.602_71, 3.0);
pub(super) const Q5: Flink = flink(6_000_000, 1.818_33, 5.0);
pub(super) const Q7: Flink = flink(6_000_000, 5.891_67, 12.0);
pub(super) const Q22: Flink = flink(24_000_000, 1.149_58, 3.0);

/// A map and a filter over bids (`ds-mapfilter`); events are bids.
pub(super) const MAP_FILTER: Flink = flink(40_000_000, 0.295_50, 2.0);
/// A keyed function that counts (`ds-counter`), 1,000,000 distinct keys.
pub(super) const COUNTER: Flink = flink(30_000_000, 0.377_67, 3.0);
/// Bids per auction in windows of ten seconds by an accumulator (`ds-window`); events are bids.
pub(super) const WINDOW: Flink = flink(30_000_000, 0.446_00, 3.0);

impl Flink {
    /// The most CPU microseconds an event that hold the mark.
    pub(super) fn mark_us(&self) -> f64 {
        self.cpu_us / self.factor
    }
}
