//! What is known of the splits of a source: shared by the task that reads them, the operators that make watermarks of
//! them, and whoever explains what holds a watermark.
//! Needs: model. Values in atomics, each written by one thread, and read by anyone at any time.

use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_model::time::Monotonic;
use pelton_model::watermark::Watermark;

const RELAXED: Ordering = Ordering::Relaxed;

/// The splits of one reader; one without a name where nobody tells them apart.
#[derive(Debug)]
pub struct Splits {
    names: Vec<String>,
    /// Which one the rows at hand come from.
    current: AtomicUsize,
    ended: Vec<AtomicBool>,
    /// How many operators want it paused.
    paused: Vec<AtomicU32>,
    /// Nanoseconds in which the task could not go on for what is below, in all.
    stalled: AtomicU64,
    /// Since when it can't, if it can't: nanoseconds, or 0.
    blocked: AtomicU64,
}

impl Splits {
    /// Splits of these names.
    #[must_use]
    pub fn new(names: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            current: AtomicUsize::new(0),
            ended: names.iter().map(|_| AtomicBool::new(false)).collect(),
            paused: names.iter().map(|_| AtomicU32::new(0)).collect(),
            stalled: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            names,
        })
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The rows that follow are of this split.
    pub fn enter(&self, split: usize) {
        self.current.store(split, RELAXED);
    }

    /// Which split the rows at hand are of.
    #[must_use]
    pub fn current(&self) -> usize {
        self.current.load(RELAXED)
    }

    /// Nothing comes of this split any more.
    pub fn end(&self, split: usize) {
        if let Some(flag) = self.ended.get(split) {
            flag.store(true, RELAXED);
        }
    }

    /// Whether a split has ended.
    #[must_use]
    pub fn has_ended(&self, split: usize) -> bool {
        self.ended.get(split).is_some_and(|f| f.load(RELAXED))
    }

    /// An operator wants a split paused, or no longer.
    pub fn pause(&self, split: usize, paused: bool) {
        if let Some(count) = self.paused.get(split) {
            match paused {
                true => count.fetch_add(1, RELAXED),
                false => count.fetch_sub(1, RELAXED),
            };
        }
    }

    /// Whether a split is not to be read.
    #[must_use]
    pub fn is_paused(&self, split: usize) -> bool {
        self.paused.get(split).is_some_and(|c| c.load(RELAXED) > 0)
    }

    /// Whether no split is to be read, though not all have ended.
    #[must_use]
    pub fn all_paused(&self) -> bool {
        let mut left = (0..self.names.len())
            .filter(|s| !self.has_ended(*s))
            .peekable();
        left.peek().is_some() && left.all(|s| self.is_paused(s))
    }

    /// The task can't go on for what is below.
    pub fn block(&self, now: Monotonic) {
        if self.blocked.load(RELAXED) == 0 {
            self.blocked.store(now.0.max(1), RELAXED);
        }
    }

    /// The task goes on.
    pub fn unblock(&self, now: Monotonic) {
        let since = self.blocked.load(RELAXED);
        if since != 0 {
            self.blocked.store(0, RELAXED);
            self.stalled.fetch_add(now.0.saturating_sub(since), RELAXED);
        }
    }

    /// Since when the task can't go on for what is below.
    #[must_use]
    pub fn blocked_since(&self) -> Option<Monotonic> {
        match self.blocked.load(RELAXED) {
            0 => None,
            since => Some(Monotonic(since)),
        }
    }

    /// Nanoseconds in which the task could not go on, in all.
    #[must_use]
    pub fn stalled_ns(&self) -> u64 {
        self.stalled.load(RELAXED)
    }
}

/// What the job's own generators have said of each split: between the function that calls them and the operator below it
/// that passes their watermarks on, both of one task.
#[derive(Debug)]
pub struct Said {
    splits: Arc<Splits>,
    marks: Vec<AtomicI64>,
    /// The generator has said that the split is idle.
    idle: Vec<AtomicBool>,
    /// The operator below has found it without rows for too long.
    silent: Vec<AtomicBool>,
}

impl Said {
    /// Nothing said of any split.
    #[must_use]
    pub fn new(splits: Arc<Splits>) -> Arc<Self> {
        let flags = || splits.names.iter().map(|_| AtomicBool::new(false));
        Arc::new(Self {
            marks: splits
                .names
                .iter()
                .map(|_| AtomicI64::new(i64::MIN))
                .collect(),
            idle: flags().collect(),
            silent: flags().collect(),
            splits,
        })
    }

    /// The splits.
    #[must_use]
    pub fn splits(&self) -> &Arc<Splits> {
        &self.splits
    }

    /// The greatest watermark of a split's generator.
    #[must_use]
    pub fn mark(&self, split: usize) -> Watermark {
        let mark = self.marks.get(split).map(|m| m.load(RELAXED));
        mark.map_or(Watermark::MIN, Watermark)
    }

    /// A split's generator has said a watermark.
    pub fn set_mark(&self, split: usize, watermark: Watermark) {
        if let Some(mark) = self.marks.get(split) {
            mark.store(watermark.0, RELAXED);
        }
    }

    /// Whether a split's generator has said that it is idle.
    #[must_use]
    pub fn is_idle(&self, split: usize) -> bool {
        self.idle.get(split).is_some_and(|f| f.load(RELAXED))
    }

    /// A split's generator says that it is idle, or no longer.
    pub fn set_idle(&self, split: usize, idle: bool) {
        if let Some(flag) = self.idle.get(split) {
            flag.store(idle, RELAXED);
        }
    }

    /// A split is without rows for too long, or no longer.
    pub fn set_silent(&self, split: usize, silent: bool) {
        if let Some(flag) = self.silent.get(split) {
            flag.store(silent, RELAXED);
        }
    }

    fn holds(&self, split: usize, at_hand: Option<usize>) -> bool {
        let silent = self.silent.get(split).is_some_and(|f| f.load(RELAXED));
        let ended = self.splits.has_ended(split) && at_hand != Some(split);
        !ended && !silent && !self.is_idle(split)
    }

    /// The least of the splits that are neither idle nor ended; none where there is no such split. One that has ended
    /// counts as long as its last rows are at hand.
    #[must_use]
    pub fn least(&self, at_hand: Option<usize>) -> Option<Watermark> {
        let holding = (0..self.marks.len()).filter(|s| self.holds(*s, at_hand));
        holding.map(|s| self.mark(s)).min()
    }
}

/// How a split stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SplitState {
    /// No row of it has come.
    NotStarted = 0,
    /// Rows come, or are waited for.
    Active = 1,
    /// Without rows for too long: it holds nothing back.
    Idle = 2,
    /// Too far ahead of others: it is not read.
    Paused = 3,
    /// It has ended.
    Ended = 4,
}

/// The watermark of one split.
#[derive(Debug)]
pub struct SplitGauge {
    watermark: AtomicI64,
    /// When it last rose.
    rose: AtomicU64,
    /// When the last row came.
    last_row: AtomicU64,
    state: AtomicU8,
}

impl SplitGauge {
    fn new() -> Self {
        Self {
            watermark: AtomicI64::new(i64::MIN),
            rose: AtomicU64::new(0),
            last_row: AtomicU64::new(0),
            state: AtomicU8::new(0),
        }
    }

    /// Rows have come, after which the watermark is this.
    pub fn rows(&self, watermark: Watermark, now: Monotonic) {
        self.last_row.store(now.0, RELAXED);
        if watermark.0 > self.watermark.load(RELAXED) {
            self.watermark.store(watermark.0, RELAXED);
            self.rose.store(now.0, RELAXED);
        }
    }

    /// It stands in another way.
    pub fn set(&self, state: SplitState) {
        self.state.store(state as u8, RELAXED);
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> SplitState {
        match self.state.load(RELAXED) {
            0 => SplitState::NotStarted,
            1 => SplitState::Active,
            2 => SplitState::Idle,
            3 => SplitState::Paused,
            _ => SplitState::Ended,
        }
    }

    /// Its watermark.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        Watermark(self.watermark.load(RELAXED))
    }

    /// When its watermark last rose; the start of the clock, if never.
    #[must_use]
    pub fn rose(&self) -> Monotonic {
        Monotonic(self.rose.load(RELAXED))
    }

    /// When its last row came.
    #[must_use]
    pub fn last_row(&self) -> Monotonic {
        Monotonic(self.last_row.load(RELAXED))
    }
}

/// The watermarks that one operator makes of the splits of its task.
#[derive(Debug)]
pub struct SplitWatch {
    /// The splits.
    pub splits: Arc<Splits>,
    /// One for each.
    pub gauges: Vec<SplitGauge>,
    /// When the operator was made.
    began: AtomicU64,
    leaps: AtomicU64,
    leap_split: AtomicUsize,
    leap_from: AtomicI64,
    leap_to: AtomicI64,
}

/// A timestamp far ahead of all before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leap {
    /// How many there were.
    pub count: u64,
    /// The split of the last.
    pub split: usize,
    /// The greatest time before it, if there was any; milliseconds.
    pub from: Option<i64>,
    /// Its time.
    pub to: i64,
}

impl SplitWatch {
    /// Nothing seen of any split.
    #[must_use]
    pub fn new(splits: Arc<Splits>) -> Arc<Self> {
        Arc::new(Self {
            gauges: splits.names.iter().map(|_| SplitGauge::new()).collect(),
            splits,
            began: AtomicU64::new(0),
            leaps: AtomicU64::new(0),
            leap_split: AtomicUsize::new(0),
            leap_from: AtomicI64::new(i64::MIN),
            leap_to: AtomicI64::new(i64::MIN),
        })
    }

    /// A timestamp far ahead of the greatest before it.
    pub fn leap(&self, split: usize, from: i64, to: i64) {
        self.leap_split.store(split, RELAXED);
        self.leap_from.store(from, RELAXED);
        self.leap_to.store(to, RELAXED);
        self.leaps.fetch_add(1, RELAXED);
    }

    /// The last such timestamp.
    #[must_use]
    pub fn last_leap(&self) -> Option<Leap> {
        let count = self.leaps.load(RELAXED);
        let from = self.leap_from.load(RELAXED);
        (count > 0).then(|| Leap {
            count,
            split: self.leap_split.load(RELAXED),
            from: (from > i64::MIN).then_some(from),
            to: self.leap_to.load(RELAXED),
        })
    }

    /// The job has started.
    pub fn begin(&self, now: Monotonic) {
        self.began.store(now.0, RELAXED);
    }

    /// When the job started.
    #[must_use]
    pub fn began(&self) -> Monotonic {
        Monotonic(self.began.load(RELAXED))
    }
}

/// The splits of a job that are to stay together.
#[derive(Debug, Default)]
pub struct Alignment {
    watches: Mutex<Vec<Arc<SplitWatch>>>,
}

impl Alignment {
    /// One more operator takes part.
    pub fn join(&self, watch: Arc<SplitWatch>) {
        self.watches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(watch);
    }

    /// The least watermark of all splits that are neither idle nor ended; none where there is no such split.
    #[must_use]
    pub fn least(&self) -> Option<Watermark> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let holding = |g: &&SplitGauge| !matches!(g.state(), SplitState::Idle | SplitState::Ended);
        let gauges = watches.iter().flat_map(|w| &w.gauges);
        gauges.filter(holding).map(SplitGauge::watermark).min()
    }
}
