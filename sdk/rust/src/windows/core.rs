//! The window operator: a row or a timer at a time, over the windows of one key.
//!
//! It decides alone: what it knows is handed in, what it changes is left where it was handed in, and rows go out. Needs
//! an assigner, a trigger, a function, perhaps an evictor. Knows nothing of state, batches or the host.

use std::marker::PhantomData;

use super::Window;
use super::assigner::WindowAssigner;
use super::evictor::{Evictor, EvictorCtx};
use super::function::{Contents, WindowCtx, WindowFunction};
use super::merging::Merge;
use super::record::{Element, Pane, copy};
use super::timers::KeyTimers;
use super::trigger::{Merged, Trigger, TriggerCtx, TriggerResult};
use crate::error::{Error, Result};
use crate::function::Out;
use crate::key::Key;
use crate::record::Record;
use crate::time::Timestamp;
use crate::value::Value;

/// Where the rows of a key's windows are kept, for those functions that need them all.
pub(crate) trait ElementStore<V: Value> {
    fn add(&self, window: Window, element: Element<V>);
    fn get(&self, window: Window) -> Vec<Element<V>>;
    fn clear(&self, window: Window);
}

/// What a row or a timer is worked on with.
pub(crate) struct Turn<'a, V: Value, O: Record> {
    pub(crate) watermark: i64,
    pub(crate) processing_time: i64,
    pub(crate) timers: &'a mut KeyTimers,
    /// None where accumulators do.
    pub(crate) elements: Option<&'a dyn ElementStore<V>>,
    pub(crate) out: &'a mut Out<O>,
}

/// What a key's windows are kept in, ascending.
type Panes<S, A, P> = Vec<Pane<S, A, P>>;

pub(crate) struct WindowCore<V, K, O, T, F> {
    pub(crate) assigner: Box<dyn WindowAssigner<V>>,
    pub(crate) trigger: T,
    pub(crate) evictor: Option<Box<dyn Evictor<V>>>,
    pub(crate) lateness: i64,
    pub(crate) function: F,
    pub(crate) of: PhantomData<fn() -> (K, O)>,
}

impl<V, K, O, T, F> WindowCore<V, K, O, T, F>
where
    V: Value,
    K: Key,
    O: Record,
    T: Trigger<V>,
    F: WindowFunction<V, K, O>,
{
    /// Adds a row to its windows. Answers whether it came too late for all of them. Errors: the row has no event time,
    /// or the assigner's own.
    pub(crate) fn row(
        &self,
        key: K::Ref<'_>,
        row: V::Ref<'_>,
        time: Option<Timestamp>,
        panes: &mut Panes<T::State, F::Acc, F::Own>,
        turn: &mut Turn<'_, V, O>,
    ) -> Result<bool> {
        let assigned_at = if self.assigner.is_event_time() {
            time.ok_or_else(|| {
                Error::new("a row without an event time came to windows by event time")
            })?
        } else {
            Timestamp(turn.processing_time)
        };
        let mut windows = Vec::new();
        self.assigner.assign(row, assigned_at, &mut windows)?;
        let mut skipped = true;
        for window in windows {
            let actual = match self.assigner.is_merging() {
                true => self.add_window(window, panes, turn)?,
                false => window,
            };
            if self.is_late(actual, turn.watermark) {
                remove(panes, actual);
                continue;
            }
            skipped = false;
            let pane = enter(panes, actual);
            match turn.elements {
                Some(elements) => elements.add(pane.home(), Element::new(time, V::own(row))),
                None => pane.contents = self.function.add(pane.contents.take(), row),
            }
            let time = time.unwrap_or(Timestamp(i64::MIN));
            let result = self
                .trigger
                .on_element(row, time, actual, &mut trigger_ctx(pane, turn));
            self.act(result, key, pane, turn);
            if let Some(cleanup) = self.cleanup_time(actual) {
                let by_clock = !self.assigner.is_event_time();
                turn.timers.set(actual, cleanup, by_clock);
            }
            self.forget_empty(panes, actual);
        }
        let is_late = |t: Timestamp| t.0.saturating_add(self.lateness) <= turn.watermark;
        Ok(skipped && self.assigner.is_event_time() && time.is_some_and(is_late))
    }

    /// Fires the timers of the key's windows that are due at `now`.
    pub(crate) fn timer(
        &self,
        key: K::Ref<'_>,
        now: Timestamp,
        by_clock: bool,
        panes: &mut Panes<T::State, F::Acc, F::Own>,
        turn: &mut Turn<'_, V, O>,
    ) {
        while let Some((time, window)) = turn.timers.take_due(now, by_clock) {
            if self.assigner.is_merging() && find(panes, window).is_err() {
                // A timer that was set before the window was merged into another.
                continue;
            }
            let pane = enter(panes, window);
            let mut cx = trigger_ctx(pane, turn);
            let result = match by_clock {
                true => self.trigger.on_processing_time(time, window, &mut cx),
                false => self.trigger.on_event_time(time, window, &mut cx),
            };
            self.act(result, key, pane, turn);
            let ends_windows = by_clock != self.assigner.is_event_time();
            if ends_windows && Some(time) == self.cleanup_time(window) {
                self.purge(pane, turn);
                self.trigger.clear(window, &mut trigger_ctx(pane, turn));
                remove(panes, window);
            } else {
                self.forget_empty(panes, window);
            }
        }
    }

    fn act(
        &self,
        result: TriggerResult,
        key: K::Ref<'_>,
        pane: &mut Pane<T::State, F::Acc, F::Own>,
        turn: &mut Turn<'_, V, O>,
    ) {
        if result.fires() {
            self.fire(key, pane, turn);
        }
        if result.purges() {
            self.purge(pane, turn);
        }
    }

    /// Calls the function, if the window has something.
    fn fire(
        &self,
        key: K::Ref<'_>,
        pane: &mut Pane<T::State, F::Acc, F::Own>,
        turn: &mut Turn<'_, V, O>,
    ) {
        let (window, home) = (pane.window(), pane.home());
        let at = EvictorCtx {
            watermark: (turn.watermark != i64::MIN).then_some(Timestamp(turn.watermark)),
            processing_time: Timestamp(turn.processing_time),
        };
        let mut elements = turn.elements.map(|e| e.get(home)).unwrap_or_default();
        let had = elements.len();
        if had == 0 && pane.contents.is_none() {
            return;
        }
        if let Some(evictor) = &self.evictor {
            evictor.before(&mut elements, window, at);
        }
        let contents = match &pane.contents {
            Some(kept) => Contents::One(Some(copy(kept))),
            None if F::NEEDS_ALL => Contents::All(&elements),
            None => Contents::One(
                elements
                    .iter()
                    .fold(None, |acc, e| self.function.add(acc, e.row())),
            ),
        };
        let mut cx = WindowCtx {
            window,
            watermark: turn.watermark,
            processing_time: turn.processing_time,
            own: &mut pane.own,
        };
        let first = turn.out.rows();
        self.function.fire(key, contents, &mut cx, turn.out);
        turn.out.stamp(first, window.max_timestamp());
        if let (Some(evictor), Some(store)) = (&self.evictor, turn.elements) {
            evictor.after(&mut elements, window, at);
            if elements.len() != had {
                store.clear(home);
                elements.into_iter().for_each(|e| store.add(home, e));
            }
        }
    }

    fn purge(&self, pane: &mut Pane<T::State, F::Acc, F::Own>, turn: &Turn<'_, V, O>) {
        pane.contents = None;
        if let Some(elements) = turn.elements {
            elements.clear(pane.home());
        }
    }

    fn forget_empty(&self, panes: &mut Panes<T::State, F::Acc, F::Own>, window: Window) {
        if !self.assigner.is_merging()
            && let Ok(at) = find(panes, window)
            && panes.get(at).is_some_and(Pane::is_empty)
        {
            panes.remove(at);
        }
    }

    /// When a window is over for good; none: never.
    fn cleanup_time(&self, window: Window) -> Option<Timestamp> {
        let last = window.max_timestamp().0;
        if !self.assigner.is_event_time() {
            return (last != i64::MAX).then_some(Timestamp(last));
        }
        let time = last.checked_add(self.lateness).filter(|t| *t != i64::MAX);
        time.map(Timestamp)
    }

    fn is_late(&self, window: Window, watermark: i64) -> bool {
        let over = self.cleanup_time(window).map_or(i64::MAX, |t| t.0);
        self.assigner.is_event_time() && over <= watermark
    }

    /// Adds a window to those of the key, which may merge some. Answers the window that stands for it from now on.
    fn add_window(
        &self,
        new: Window,
        panes: &mut Panes<T::State, F::Acc, F::Own>,
        turn: &mut Turn<'_, V, O>,
    ) -> Result<Window> {
        let mut windows: Vec<Window> = panes.iter().map(Pane::window).collect();
        windows.push(new);
        let merges = self.assigner.merge(&windows);
        let nothing_merged = merges.is_empty();
        let (mut actual, mut found) = (new, false);
        for mut merge in merges {
            if let Some(at) = merge.windows.iter().position(|w| *w == new) {
                merge.windows.remove(at);
                (actual, found) = (merge.into, true);
            }
            // A window that swallows the new one stays as it is.
            if merge.windows != [merge.into] {
                self.merge(&merge, panes, turn)?;
            }
        }
        if nothing_merged || (actual == new && !found) {
            let pane = enter(panes, actual);
            if pane.home() != actual {
                // A window that came about by merging, and now a row's own window is the same: Flink starts it anew.
                self.purge(pane, turn);
                pane.set_home(actual);
            }
        }
        Ok(actual)
    }

    /// Makes one window of those that are there.
    fn merge(
        &self,
        merge: &Merge,
        panes: &mut Panes<T::State, F::Acc, F::Own>,
        turn: &mut Turn<'_, V, O>,
    ) -> Result<()> {
        let into = merge.into;
        self.check_merged(into, turn)?;
        let mut gone: Vec<_> = merge
            .windows
            .iter()
            .filter_map(|w| find(panes, *w).ok().map(|at| panes.remove(at)))
            .collect();
        let mut states: Vec<_> = gone
            .iter_mut()
            .map(|pane| Merged {
                window: pane.window(),
                state: pane.trigger.take(),
            })
            .collect();
        let home = gone.first().map_or(into, Pane::home);
        let pane = enter(panes, into);
        pane.set_home(home);
        self.trigger
            .on_merge(into, &mut states, &mut trigger_ctx(pane, turn));
        for merged in &mut states {
            self.trigger.clear(
                merged.window,
                &mut TriggerCtx {
                    window: merged.window,
                    watermark: turn.watermark,
                    processing_time: turn.processing_time,
                    state: &mut merged.state,
                    timers: turn.timers,
                },
            );
            if let Some(cleanup) = self.cleanup_time(merged.window) {
                let by_clock = !self.assigner.is_event_time();
                turn.timers.delete(merged.window, cleanup, by_clock);
            }
        }
        let mut gone = gone.into_iter();
        pane.contents = gone.next().and_then(|first| first.contents);
        let mut others: Option<F::Acc> = None;
        for other in gone {
            if let Some(elements) = turn.elements.filter(|_| other.home() != home) {
                let moved = elements.get(other.home());
                elements.clear(other.home());
                moved.into_iter().for_each(|e| elements.add(home, e));
            }
            others = self.merge_contents(others, other.contents);
        }
        pane.contents = self.merge_contents(pane.contents.take(), others);
        Ok(())
    }

    fn merge_contents(&self, into: Option<F::Acc>, other: Option<F::Acc>) -> Option<F::Acc> {
        match (into, other) {
            (Some(into), Some(other)) => Some(self.function.merge(into, other)),
            (one, other) => one.or(other),
        }
    }

    /// Errors: the merged window would be over already.
    fn check_merged(&self, into: Window, turn: &Turn<'_, V, O>) -> Result<()> {
        let last = into.max_timestamp().0;
        if self.assigner.is_event_time() && last.saturating_add(self.lateness) <= turn.watermark {
            return Err(Error::new(format_args!(
                "windows were merged into one that ends before the watermark: its last millisecond is {last}, the watermark {}",
                turn.watermark
            )));
        }
        if !self.assigner.is_event_time() && last <= turn.processing_time {
            return Err(Error::new(format_args!(
                "windows were merged into one that is over by the clock: its last millisecond is {last}, the clock {}",
                turn.processing_time
            )));
        }
        Ok(())
    }
}

/// Where a window stands, or where it would.
fn find<S: Value, A: Value, P: Value>(
    panes: &[Pane<S, A, P>],
    window: Window,
) -> std::result::Result<usize, usize> {
    panes.binary_search_by_key(&(window.start, window.end), |p| (p.start, p.end))
}

/// What is kept of a window, from now on if nothing was.
fn enter<S: Value, A: Value, P: Value>(
    panes: &mut Panes<S, A, P>,
    window: Window,
) -> &mut Pane<S, A, P> {
    let at = match find(panes, window) {
        Ok(at) => at,
        Err(at) => {
            panes.insert(at, Pane::new(window));
            at
        }
    };
    &mut panes[at]
}

fn remove<S: Value, A: Value, P: Value>(panes: &mut Panes<S, A, P>, window: Window) {
    if let Ok(at) = find(panes, window) {
        panes.remove(at);
    }
}

fn trigger_ctx<'a, S: Value, A: Value, P: Value, V: Value, O: Record>(
    pane: &'a mut Pane<S, A, P>,
    turn: &'a mut Turn<'_, V, O>,
) -> TriggerCtx<'a, S> {
    TriggerCtx {
        window: pane.window(),
        watermark: turn.watermark,
        processing_time: turn.processing_time,
        state: &mut pane.trigger,
        timers: turn.timers,
    }
}
