//! Which windows a row belongs to.

use std::marker::PhantomData;

use super::Window;
use super::merging::{Merge, merge_touching};
use super::trigger::DefaultTrigger;
use crate::bindings::exports::pelton::job::graph::Assigner;
use crate::error::{Error, Result};
use crate::record::RefOf;
use crate::time::{Duration, Timestamp};
use crate::value::Value;
use crate::window::Windows;

/// Windows that a row may be in: more are a mistake in the size or the slide.
const WINDOWS_A_ROW_MAX: i64 = 100_000;

/// Says which windows a row belongs to. Errors of its functions end the task and name the row.
pub trait WindowAssigner<V: Value>: 'static {
    /// Appends the windows of a row, in the order in which they are worked on. `time` is the row's event time, or the clock
    /// where the windows go by processing time.
    fn assign(&self, row: RefOf<'_, V>, time: Timestamp, windows: &mut Vec<Window>) -> Result<()>;

    /// Whether windows end by event time; otherwise they end by the clock, and no row is late.
    fn is_event_time(&self) -> bool {
        true
    }

    /// Whether windows end; where none does, rows need no event times.
    fn has_end(&self) -> bool {
        true
    }

    /// Whether windows of a key become one where [`merge`](Self::merge) says so.
    fn is_merging(&self) -> bool {
        false
    }

    /// Which of a key's windows become one: those that overlap or touch, unless said otherwise.
    fn merge(&self, windows: &[Window]) -> Vec<Merge> {
        merge_touching(windows)
    }

    /// When windows fire, unless a trigger is given.
    fn default_trigger(&self) -> DefaultTrigger {
        if self.is_event_time() {
            DefaultTrigger::EventTime
        } else {
            DefaultTrigger::ProcessingTime
        }
    }

    /// Errors: sizes that cannot be; the job is refused.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl<V: Value> WindowAssigner<V> for Windows {
    fn assign(&self, _: RefOf<'_, V>, time: Timestamp, windows: &mut Vec<Window>) -> Result<()> {
        let (size, slide, offset) = match self.assigner() {
            Assigner::Tumbling((size, offset)) => (size, size, offset),
            Assigner::Sliding(parts) => parts,
            Assigner::Session(gap) => {
                let end = time + Duration(gap);
                windows.push(Window { start: time, end });
                return Ok(());
            }
        };
        let step = slide.max(1);
        let shifted = i128::from(time.0) - i128::from(offset);
        let last = i128::from(time.0) - shifted.rem_euclid(i128::from(step));
        let mut start = i64::try_from(last).ok();
        while let Some(at) = start.filter(|s| s.saturating_add(size) > time.0) {
            // A window that does not fit into time is none.
            if let Some(end) = at.checked_add(size) {
                windows.push(Window {
                    start: Timestamp(at),
                    end: Timestamp(end),
                });
            }
            start = at.checked_sub(step);
        }
        Ok(())
    }

    fn is_merging(&self) -> bool {
        matches!(self.assigner(), Assigner::Session(_))
    }

    fn check(&self) -> Result<()> {
        let (size, step, offset) = match self.assigner() {
            Assigner::Tumbling((size, offset)) => (size, size, offset),
            Assigner::Sliding(parts) => parts,
            Assigner::Session(gap) if gap <= 0 => {
                return Err(Error::new(format_args!(
                    "a session's gap must be above 0, not {gap} ms"
                )));
            }
            Assigner::Session(_) => return Ok(()),
        };
        if size <= 0 || step <= 0 {
            return Err(Error::new(format_args!(
                "a window's size and slide must be above 0, not {size} ms and {step} ms"
            )));
        }
        if offset.unsigned_abs() >= step.unsigned_abs() {
            return Err(Error::new(format_args!(
                "a window's offset must be below {step} ms, not {offset} ms"
            )));
        }
        if size / step > WINDOWS_A_ROW_MAX {
            return Err(Error::new(format_args!(
                "each row would be in {} windows, and at most {WINDOWS_A_ROW_MAX} are allowed",
                size / step
            )));
        }
        Ok(())
    }
}

/// Windows by the clock instead of event time.
#[derive(Clone, Copy, Debug)]
pub struct ProcessingTime<A>(A);

/// The same windows by the clock: a row belongs where the host's clock stands when it comes, they end by the clock, and no
/// row is late. `.window_by(by_clock(tumbling(seconds(10))))`
#[must_use]
pub fn by_clock<A>(windows: A) -> ProcessingTime<A> {
    ProcessingTime(windows)
}

impl<V: Value, A: WindowAssigner<V>> WindowAssigner<V> for ProcessingTime<A> {
    fn assign(&self, row: RefOf<'_, V>, time: Timestamp, windows: &mut Vec<Window>) -> Result<()> {
        self.0.assign(row, time, windows)
    }
    fn is_event_time(&self) -> bool {
        false
    }
    fn is_merging(&self) -> bool {
        self.0.is_merging()
    }
    fn merge(&self, windows: &[Window]) -> Vec<Merge> {
        self.0.merge(windows)
    }
    fn default_trigger(&self) -> DefaultTrigger {
        DefaultTrigger::ProcessingTime
    }
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// Sessions whose gap each row gives.
pub struct DynamicSession<V, F> {
    gap: F,
    of: PhantomData<fn() -> V>,
}

/// Sessions that end when a row's own gap has passed without another row: `dynamic_session(|row: BidRef| row.gap)`. A gap
/// that is not above 0 ends the task and names the row.
pub fn dynamic_session<V, F>(gap: F) -> DynamicSession<V, F>
where
    V: Value,
    F: Fn(RefOf<'_, V>) -> Duration + 'static,
{
    DynamicSession {
        gap,
        of: PhantomData,
    }
}

impl<V, F> WindowAssigner<V> for DynamicSession<V, F>
where
    V: Value,
    F: Fn(RefOf<'_, V>) -> Duration + 'static,
{
    fn assign(&self, row: RefOf<'_, V>, time: Timestamp, windows: &mut Vec<Window>) -> Result<()> {
        let gap = (self.gap)(row);
        if gap.0 <= 0 {
            return Err(Error::new(format_args!(
                "the session's gap of this row is {} ms, and must be above 0",
                gap.0
            )));
        }
        windows.push(Window {
            start: time,
            end: time + gap,
        });
        Ok(())
    }
    fn is_merging(&self) -> bool {
        true
    }
}

/// One window for all rows of a key; see [`global`].
#[derive(Clone, Copy, Debug)]
pub struct Global;

/// One window for all rows of a key. It never ends: a trigger says when it fires, and none is set.
#[must_use]
pub fn global() -> Global {
    Global
}

impl<V: Value> WindowAssigner<V> for Global {
    fn assign(&self, _: RefOf<'_, V>, _: Timestamp, windows: &mut Vec<Window>) -> Result<()> {
        windows.push(Window::GLOBAL);
        Ok(())
    }
    fn is_event_time(&self) -> bool {
        false
    }
    fn has_end(&self) -> bool {
        false
    }
    fn default_trigger(&self) -> DefaultTrigger {
        DefaultTrigger::Never
    }
}
