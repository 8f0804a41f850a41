//! What Apache Flink 2.3.0 needed for the same jobs: CPU time of its TaskManager (warm, parallelism 2, two virtual cores, all
//! columns of all events made) in the best of its measured runs; with heap state and no checkpoints, and with RocksDB and
//! incremental checkpoints every ten seconds.

/// One of Flink's jobs and how much better Pelton has to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flink {
    /// Where its state is kept.
    pub(super) state: State,
    /// Events of the run.
    pub(super) events: u64,
    /// CPU microseconds an event, the best run.
    pub(super) cpu_us: f64,
    /// Flink's CPU over ours, at least.
    pub(super) factor: f64,
}

/// A backend of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Heap,
    RocksDb,
}

impl State {
    /// Its name in the settings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::RocksDb => "rocksdb",
        }
    }
}

/// With heap state, without checkpoints.
const fn heap(events: u64, cpu_us: f64, factor: f64) -> Flink {
    Flink {
        state: State::Heap,
        events,
        cpu_us,
        factor,
    }
}

/// With RocksDB and checkpoints.
const fn rocks(events: u64, cpu_us: f64, factor: f64) -> Flink {
    Flink {
        state: State::RocksDb,
        events,
        cpu_us,
        factor,
    }
}

/// The queries of Nexmark.
pub(super) const NEXMARK: [(&str, Flink); 30] = [
    ("q0", heap(40_000_000, 0.615_25, 3.0)),
    ("q1", heap(40_000_000, 0.647_00, 3.0)),
    ("q2", heap(48_000_000, 0.602_71, 3.0)),
    ("q3", heap(40_000_000, 0.668_00, 3.0)),
    ("q3", rocks(8_000_000, 0.803_75, 5.0)),
    ("q4", heap(3_000_000, 4.633_33, 3.0)),
    ("q4", rocks(1_000_000, 9.160_00, 5.0)),
    ("q5", heap(6_000_000, 1.818_33, 5.0)),
    ("q5", rocks(3_000_000, 5.076_67, 5.0)),
    ("q7", heap(6_000_000, 5.891_67, 12.0)),
    ("q7", rocks(4_000_000, 10.905_00, 5.0)),
    ("q8", heap(30_000_000, 0.848_67, 3.0)),
    ("q8", rocks(8_000_000, 1.347_50, 5.0)),
    ("q9", heap(3_000_000, 5.850_00, 3.0)),
    ("q9", rocks(1_000_000, 12.300_00, 5.0)),
    ("q11", heap(5_000_000, 2.164_00, 3.0)),
    ("q11", rocks(2_000_000, 8.765_00, 5.0)),
    ("q15", heap(4_000_000, 2.877_50, 3.0)),
    ("q15", rocks(2_000_000, 3.390_00, 5.0)),
    ("q16", heap(3_000_000, 16.923_33, 3.0)),
    ("q16", rocks(1_000_000, 19.640_00, 5.0)),
    ("q17", heap(4_000_000, 1.812_50, 3.0)),
    ("q17", rocks(2_000_000, 2.445_00, 5.0)),
    ("q18", heap(3_000_000, 2.750_00, 3.0)),
    ("q18", rocks(1_500_000, 4.213_33, 5.0)),
    ("q19", heap(3_000_000, 3.523_33, 3.0)),
    ("q19", rocks(1_500_000, 4.733_33, 5.0)),
    ("q20", heap(3_000_000, 4.113_33, 3.0)),
    ("q20", rocks(1_000_000, 9.500_00, 5.0)),
    ("q22", heap(24_000_000, 1.149_58, 3.0)),
];

/// Jobs of users' functions: a map and a filter over bids (`ds-mapfilter`), a keyed function that counts (`ds-counter`,
/// 1,000,000 distinct keys), bids per auction in windows of ten seconds by an accumulator (`ds-window`). Events are bids.
pub(super) const DATASTREAM: [(&str, Flink); 5] = [
    ("mapfilter", heap(40_000_000, 0.295_50, 2.0)),
    ("counter", heap(30_000_000, 0.377_67, 3.0)),
    ("counter", rocks(5_000_000, 4.210_06, 5.0)),
    ("window", heap(30_000_000, 0.446_00, 3.0)),
    ("window", rocks(6_000_000, 3.766_69, 8.0)),
];

impl Flink {
    /// The most CPU microseconds an event that hold the mark.
    pub(super) fn mark_us(&self) -> f64 {
        self.cpu_us / self.factor
    }
}
