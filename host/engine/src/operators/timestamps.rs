//! Event times and watermarks. The watermarks that come from above are not passed on, but for the last; where a function
//! above generates them, those that it generated are.
//!
//! Each split of the source above has a watermark of its own, and the least of those that are neither idle nor ended
//! counts. A split is idle after a time without rows; the clock for that stands still while the task is held up by what
//! is below, or the split is paused. A watermark that would not rise is not emitted. In a batch job none is, before the end.
//!
//! At intervals, a watermark waits for the next tick of a clock that began with the first row, or for 65,536 rows
//! since the last: so that old rows that are read at full speed do not pile up in the windows below.

mod saved;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_buffer::ScalarBuffer;
use pelton_model::barrier::Barrier;
use pelton_model::batch::Batch;
use pelton_model::graph::{Emit, Times, Timestamps, WATERMARK_INTERVAL_MS, Watermarks};
use pelton_model::schema::{Projection, Schema};
use pelton_model::time::{EventTime, Monotonic};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

use crate::operator::{Context, Operator, Wakeup};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::splits::{Alignment, Said, SplitState, SplitWatch, Splits};

/// How soon it is seen that the others have caught up with a split that is paused.
const LOOK_MS: u64 = 10;
/// Rows of a task after which a watermark follows, whatever its interval.
const ROWS_MAX: usize = 64 << 10;
/// A timestamp this far beyond all before it, or beyond the clock, is told.
const LEAP_MS: i64 = 366 * 86_400_000;

/// The operator.
#[derive(Debug)]
pub struct TimestampsOperator {
    times: From,
    /// To the stream below, where nobody reads all that comes, such as the time as a field.
    narrow: Option<Projection>,
    /// How far watermarks stay behind the greatest time, but for the 1 ms; none: a function above generates them.
    bound_ms: Option<i64>,
    emit: Emit,
    idle_ns: Option<u64>,
    /// How far a split may be ahead, and of what.
    drift: Option<(i64, Arc<Alignment>)>,
    /// Nothing before the end.
    batch: bool,
    lanes: Vec<Lane>,
    /// What the function above says of each split, where it generates watermarks and runs in this task.
    said: Option<Arc<Said>>,
    watch: Arc<SplitWatch>,
    /// When paused splits are looked at again.
    look: Option<Monotonic>,
    /// All splits are without rows for too long.
    idle: bool,
    /// All splits were idle at the checkpoint that it goes on from, which is still to be said.
    say_idle: bool,
    /// What the function above says of itself.
    idle_above: bool,
    emitted: Watermark,
    /// At intervals: when the next watermark may be emitted.
    tick: Option<Monotonic>,
    /// Rows since the last one.
    rows: usize,
}

/// A split.
#[derive(Clone, Debug)]
struct Lane {
    greatest: i64,
    /// When the last row came, by a clock that stands still while the task is held up.
    last_row: Option<u64>,
    idle: bool,
    paused: bool,
    ended: bool,
}

/// Where times come from.
#[derive(Debug)]
enum From {
    Given,
    Field(usize, String),
    /// The clock, which never goes back: the last time that was given.
    Ingestion(i64),
}

impl TimestampsOperator {
    /// `input` and `output` are the pruned schemas of the streams; `splits` are those of the source above, or one;
    /// `batch` says that the job runs as a batch. Errors: a field that is not there.
    pub fn new(
        spec: &Timestamps,
        input: &Schema,
        output: &Schema,
        splits: Arc<Splits>,
        alignment: &Arc<Alignment>,
        batch: bool,
    ) -> Result<Self> {
        let times = match &spec.times {
            Times::Given => From::Given,
            Times::Ingestion => From::Ingestion(i64::MIN),
            Times::Field(name) => {
                let ordinal = input
                    .index_of(name)
                    .ok_or_else(|| Error::bug(format!("field '{name}' is not in the stream")))?;
                From::Field(ordinal, name.clone())
            }
        };
        let bound_ms = match spec.watermarks {
            Watermarks::Bounded(ms) => Some(ms),
            Watermarks::Monotonous => Some(0),
            Watermarks::Generated => None,
        };
        let narrow = (input != output)
            .then(|| Projection::new(input, output))
            .transpose()?;
        let lane = Lane {
            greatest: i64::MIN,
            last_row: None,
            idle: false,
            paused: false,
            ended: false,
        };
        let lanes = vec![lane; splits.names().len()];
        let watch = SplitWatch::new(splits);
        let drift_ms = spec.drift_ms.filter(|_| !batch);
        if drift_ms.is_some() {
            alignment.join(Arc::clone(&watch));
        }
        Ok(Self {
            times,
            narrow,
            bound_ms,
            emit: match spec.emit {
                Emit::Regular => Emit::Interval(WATERMARK_INTERVAL_MS),
                emit => emit,
            },
            idle_ns: spec
                .idle_ms
                .filter(|_| !batch)
                .map(|ms| ms.saturating_mul(1_000_000)),
            drift: drift_ms
                .map(|ms| (i64::try_from(ms).unwrap_or(i64::MAX), Arc::clone(alignment))),
            batch,
            lanes,
            said: None,
            watch,
            look: None,
            idle: false,
            say_idle: false,
            idle_above: false,
            emitted: Watermark::MIN,
            tick: None,
            rows: 0,
        })
    }

    /// The function above notes here what it generates for each split.
    #[must_use]
    pub fn told_by(mut self, said: Arc<Said>) -> Self {
        self.said = Some(said).filter(|_| self.bound_ms.is_none());
        self
    }

    /// What others may know of it.
    #[must_use]
    pub fn watch(&self) -> Arc<SplitWatch> {
        Arc::clone(&self.watch)
    }

    /// The clock that stands still while the task is held up.
    fn running(&self, cx: &Context<'_>) -> u64 {
        cx.monotonic
            .0
            .saturating_sub(self.watch.splits.stalled_ns())
    }

    fn watermark_of(&self, split: usize, lane: &Lane) -> Watermark {
        match (self.bound_ms, &self.said) {
            (None, Some(said)) => said.mark(split),
            (None, None) => self.emitted,
            (Some(_), _) if lane.greatest == i64::MIN => Watermark::MIN,
            (Some(bound_ms), _) => Watermark::bounded(EventTime(lane.greatest), bound_ms),
        }
    }

    /// Whether a split's generator says that it is idle.
    fn is_said_idle(&self, split: usize) -> bool {
        self.said.as_ref().is_some_and(|said| said.is_idle(split))
    }

    /// The watermark that may follow what has been seen, if it is a new one.
    fn next(&self) -> Option<Watermark> {
        if self.batch || self.bound_ms.is_none() || self.emit == Emit::Interval(0) {
            return None;
        }
        let lanes = self.lanes.iter().enumerate();
        let holding = lanes.filter(|(_, l)| !l.idle && !l.ended);
        let next = holding
            .map(|(split, l)| self.watermark_of(split, l))
            .min()?;
        (next > self.emitted).then_some(next)
    }

    /// The watermark that may be emitted now that other splits hold, or fewer. It is generated where no row is under way.
    fn next_of_splits(&self) -> Option<Watermark> {
        match &self.said {
            Some(said) if !self.batch => said.least(None).filter(|w| *w > self.emitted),
            _ => self.next(),
        }
    }

    fn emit_watermark(&mut self, next: Option<Watermark>, cx: &mut Context<'_>) {
        if let Some(next) = next {
            self.emitted = next;
            self.rows = 0;
            self.go_to_next_tick(cx.monotonic);
            cx.metrics.watermark.store(next.0, Ordering::Relaxed);
            cx.emit_watermark(next);
        }
    }

    /// At intervals, when the next watermark is due.
    fn due(&self) -> Option<Monotonic> {
        let Emit::Interval(_) = self.emit else {
            return None;
        };
        self.next()?;
        match self.rows >= ROWS_MAX {
            true => Some(Monotonic::default()),
            false => self.tick,
        }
    }

    /// The first tick that is still to come.
    fn go_to_next_tick(&mut self, now: Monotonic) {
        let Emit::Interval(ms @ 1..) = self.emit else {
            return;
        };
        let tick = self.tick.unwrap_or(now);
        if tick <= now {
            let passed = now.since(tick) / ms.saturating_mul(1_000_000);
            self.tick = Some(tick.plus_ms(ms.saturating_mul(passed.saturating_add(1))));
        }
    }

    /// Emits rows of a split, and watermarks where they belong.
    fn emit_rows(&mut self, split: usize, batch: &Batch, cx: &mut Context<'_>) {
        let times = batch.times().map_or(&[][..], |t| t);
        let of_row = |row: usize| match batch.selection() {
            None => times.get(row).copied(),
            Some(s) => s.get(row).and_then(|r| times.get(*r as usize)).copied(),
        };
        let before = self.lanes.get(split).map_or(i64::MIN, |l| l.greatest);
        let mut greatest = before;
        if self.emit == Emit::Row && self.bound_ms.is_some() {
            let mut start = 0;
            for row in 0..batch.rows() {
                let time = of_row(row).unwrap_or(i64::MIN);
                if time > greatest {
                    greatest = time;
                    self.see(split, greatest);
                    if self.next().is_some() {
                        cx.emit(0, batch.slice(start, row + 1 - start));
                        self.emit_watermark(self.next(), cx);
                        start = row + 1;
                    }
                }
            }
            cx.emit(0, batch.slice(start, batch.rows() - start));
        } else {
            let most = match batch.selection() {
                None => times.iter().copied().max(),
                Some(_) => (0..batch.rows()).filter_map(of_row).max(),
            };
            greatest = greatest.max(most.unwrap_or(i64::MIN));
            self.see(split, greatest);
            self.rows = self.rows.saturating_add(batch.rows());
            cx.emit(0, batch.clone());
            let due = match self.emit {
                Emit::Batch | Emit::Row => true,
                Emit::Interval(_) | Emit::Regular => {
                    self.due().is_some_and(|at| at <= cx.monotonic)
                }
            };
            if due {
                self.emit_watermark(self.next(), cx);
            }
        }
        let far = |from: i64| greatest.saturating_sub(from) > LEAP_MS;
        if greatest > before && (before > i64::MIN && far(before) || far(cx.now.0)) {
            self.watch.leap(split, before, greatest);
        }
    }

    fn see(&mut self, split: usize, greatest: i64) {
        if let Some(lane) = self.lanes.get_mut(split) {
            lane.greatest = greatest;
        }
    }

    /// A split has rows: it is not idle, whatever it was.
    fn begin_rows(&mut self, split: usize, cx: &mut Context<'_>) {
        if self.next().is_none() {
            // Ticks that passed while there was nothing to say.
            self.go_to_next_tick(cx.monotonic);
        }
        let running = self.running(cx);
        if let Some(lane) = self.lanes.get_mut(split) {
            lane.last_row = Some(running);
            lane.idle = false;
        }
        self.set_idle(false, self.idle_above, cx);
    }

    /// Tells others of a split whose rows have come.
    fn tell(&self, split: usize, cx: &Context<'_>) {
        if let (Some(lane), Some(gauge)) = (self.lanes.get(split), self.watch.gauges.get(split)) {
            gauge.rows(self.watermark_of(split, lane), cx.monotonic);
            if self.is_said_idle(split) {
                gauge.set(SplitState::Idle);
            } else if !lane.paused {
                gauge.set(SplitState::Active);
            }
        }
    }

    /// Pauses what is too far ahead, and lets go what no longer is.
    fn align(&mut self, cx: &Context<'_>) {
        let Some((drift_ms, alignment)) = &self.drift else {
            return;
        };
        let most = alignment
            .least()
            .map_or(i64::MAX, |least| least.0.saturating_add(*drift_ms));
        let running = self.running(cx);
        let lanes = self.lanes.iter().enumerate();
        let ahead: Vec<bool> = lanes
            .map(|(split, l)| !l.ended && self.watermark_of(split, l).0 > most)
            .collect();
        for (split, (lane, paused)) in self.lanes.iter_mut().zip(ahead).enumerate() {
            if lane.paused == paused {
                continue;
            }
            lane.paused = paused;
            lane.last_row = lane.last_row.map(|_| running);
            self.watch.splits.pause(split, paused);
            if let Some(gauge) = self.watch.gauges.get(split) {
                gauge.set(match paused {
                    true => SplitState::Paused,
                    false => SplitState::Active,
                });
            }
        }
        let paused = self.lanes.iter().any(|l| l.paused);
        self.look = paused.then(|| cx.monotonic.plus_ms(LOOK_MS));
    }

    /// Sees which splits have ended, and which have been without rows for too long.
    fn look_at_splits(&mut self, cx: &mut Context<'_>) {
        let running = self.running(cx);
        let idle_ns = self.idle_ns;
        let silent = |lane: &mut Lane| {
            let last = *lane.last_row.get_or_insert(running);
            idle_ns.is_some_and(|ns| running >= last.saturating_add(ns))
                && !(lane.idle || lane.paused || lane.ended)
        };
        if self.lanes.iter_mut().any(silent) {
            // What its rows allow is still said.
            self.emit_watermark(self.next(), cx);
        }
        let mut changed = false;
        for (split, lane) in self.lanes.iter_mut().enumerate() {
            let ended = self.watch.splits.has_ended(split);
            let is_silent = silent(lane);
            let state = if ended && !lane.ended {
                lane.ended = true;
                SplitState::Ended
            } else if is_silent {
                lane.idle = true;
                self.said.iter().for_each(|s| s.set_silent(split, true));
                SplitState::Idle
            } else {
                continue;
            };
            changed = true;
            if let Some(gauge) = self.watch.gauges.get(split) {
                gauge.set(state);
            }
        }
        if changed || self.say_idle {
            self.say_idle = false;
            if self.said.is_some() || !matches!(self.emit, Emit::Interval(_)) {
                self.emit_watermark(self.next_of_splits(), cx);
            }
            let left = self.lanes.iter().enumerate();
            let mut left = left.filter(|(_, l)| !l.ended).peekable();
            let any_left = left.peek().is_some();
            if any_left && left.all(|(split, l)| l.idle || self.is_said_idle(split)) {
                self.set_idle(true, self.idle_above, cx);
            }
        }
    }

    fn set_idle(&mut self, by_time: bool, above: bool, cx: &mut Context<'_>) {
        let before = self.idle || self.idle_above;
        (self.idle, self.idle_above) = (by_time, above);
        if before != (by_time || above) {
            cx.emit_idle(!before);
        }
    }
}

impl From {
    fn times(&mut self, batch: &Batch, cx: &Context<'_>) -> Result<ScalarBuffer<i64>> {
        let (ordinal, name) = match self {
            Self::Given => {
                return batch
                    .times()
                    .cloned()
                    .ok_or_else(|| Error::bug("a timestamp function gave no times"));
            }
            Self::Ingestion(last) => {
                *last = cx.now.0.max(*last);
                return Ok(vec![*last; batch.len()].into());
            }
            Self::Field(ordinal, name) => (*ordinal, name),
        };
        let column = batch
            .columns()
            .get(ordinal)
            .and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>());
        let column = column.ok_or_else(|| Error::bug("a timestamp column is not there"))?;
        let null = |row: usize| column.is_null(row);
        let missing = match batch.selection() {
            _ if column.null_count() == 0 => None,
            None => (0..column.len()).find(|r| null(*r)),
            Some(s) => s.iter().map(|r| *r as usize).find(|r| null(*r)),
        };
        match missing {
            None => Ok(column.values().clone()),
            Some(row) => Err(Error::new(
                ErrorCode::BadTimestamp,
                format!("timestamp '{name}' is null"),
            )
            .at("row", row)
            .help("filter such rows before timestamps are assigned")),
        }
    }
}

impl Operator for TimestampsOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        let split = self.watch.splits.current();
        self.begin_rows(split, cx);
        let times = self.times.times(&batch, cx)?;
        let batch = match &self.narrow {
            None => batch,
            Some(narrow) => {
                let columns = narrow.apply(batch.columns())?;
                batch.with_columns(columns)?
            }
        };
        self.emit_rows(split, &batch.with_times(Some(times))?, cx);
        self.tell(split, cx);
        self.align(cx);
        Ok(())
    }

    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        if cx.watermark == Watermark::MAX {
            self.set_idle(false, false, cx);
            for (split, gauge) in self.watch.gauges.iter().enumerate() {
                gauge.set(SplitState::Ended);
                self.watch.splits.end(split);
            }
            return Ok(Some(Watermark::MAX));
        }
        let passes = self.bound_ms.is_none() && !self.batch && cx.watermark > self.emitted;
        if passes {
            self.emitted = cx.watermark;
            self.tell(self.watch.splits.current(), cx);
        }
        Ok(passes.then_some(cx.watermark))
    }

    fn idle(&mut self, idle: bool, cx: &mut Context<'_>) -> Result<bool> {
        if self.bound_ms.is_none() && !self.batch {
            self.set_idle(self.idle, idle, cx);
            for (split, gauge) in self.watch.gauges.iter().enumerate() {
                let told = self.said.is_some();
                let is_idle = self.is_said_idle(split) || !told && idle;
                match gauge.state() {
                    SplitState::Ended | SplitState::NotStarted if told => {}
                    _ if is_idle => gauge.set(SplitState::Idle),
                    SplitState::Idle => gauge.set(SplitState::Active),
                    _ => {}
                }
            }
        }
        Ok(false)
    }

    fn next_wake(&self) -> Option<Wakeup> {
        let stalled = self.watch.splits.stalled_ns();
        let idle = self.idle_ns.and_then(|ns| {
            let waits = self
                .lanes
                .iter()
                .filter(|l| !l.idle && !l.ended && !l.paused);
            let last = waits.filter_map(|l| l.last_row).min()?;
            Some(Monotonic(last.saturating_add(ns).saturating_add(stalled)))
        });
        let say = self.say_idle.then_some(Monotonic::default());
        let idle = idle.into_iter().chain(say);
        let all = idle.chain(self.due()).chain(self.look);
        all.min().map(Wakeup::Monotonic)
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.look_at_splits(cx);
        if self.look.is_some_and(|at| at <= cx.monotonic) {
            self.align(cx);
        }
        if self.due().is_some_and(|at| at <= cx.monotonic) {
            self.emit_watermark(self.next(), cx);
        }
        Ok(())
    }

    fn snapshot(&mut self, _barrier: Option<Barrier>, into: &mut SnapshotWriter) -> Result<()> {
        self.save(into);
        Ok(())
    }

    fn restore(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        self.take_back(from, cx)
    }
}

#[cfg(test)]
mod tests;
