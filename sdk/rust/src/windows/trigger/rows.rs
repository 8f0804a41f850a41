//! Triggers that go by rows, and the one that purges.

use std::marker::PhantomData;

use super::{Merged, Trigger, TriggerCtx, TriggerResult, merge_states};
use crate::function::aggregate::Window;
use crate::record::RefOf;
use crate::time::Timestamp;
use crate::value::Value;

/// Fires with every so many rows; see [`every`].
#[derive(Clone, Copy, Debug)]
pub struct CountTrigger(i64);

/// Fires a window each time that it has got so many more rows, and not at its end; the rows are kept.
#[must_use]
pub fn every(rows: i64) -> CountTrigger {
    CountTrigger(rows)
}

impl<V: Value> Trigger<V> for CountTrigger {
    type State = i64;

    fn sets_timers(&self) -> bool {
        false
    }
    fn on_element(
        &self,
        _: RefOf<'_, V>,
        _: Timestamp,
        _: Window,
        cx: &mut TriggerCtx<'_, i64>,
    ) -> TriggerResult {
        let count = cx.state().copied().unwrap_or(0) + 1;
        if count >= self.0 {
            cx.clear_state();
            TriggerResult::Fire
        } else {
            cx.set_state(count);
            TriggerResult::Continue
        }
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, _: Window, merged: &mut [Merged<i64>], cx: &mut TriggerCtx<'_, i64>) {
        merge_states(merged, cx, |a, b| a + b);
    }
}

/// Fires when rows have moved far enough; see [`delta`].
pub struct DeltaTrigger<V, F> {
    threshold: f64,
    delta: F,
    of: PhantomData<fn() -> V>,
}

/// Fires when a row is further than `threshold` from the one that fired last, at first from the window's first row:
/// `delta(10.0, |last: BidRef, row: BidRef| (row.price - last.price) as f64)`. It cannot stand over sessions.
pub fn delta<V, F>(threshold: f64, delta: F) -> DeltaTrigger<V, F>
where
    V: Value,
    F: Fn(RefOf<'_, V>, RefOf<'_, V>) -> f64 + 'static,
{
    DeltaTrigger {
        threshold,
        delta,
        of: PhantomData,
    }
}

impl<V, F> Trigger<V> for DeltaTrigger<V, F>
where
    V: Value,
    F: Fn(RefOf<'_, V>, RefOf<'_, V>) -> f64 + 'static,
{
    type State = V;

    fn sets_timers(&self) -> bool {
        false
    }
    fn on_element(
        &self,
        row: RefOf<'_, V>,
        _: Timestamp,
        _: Window,
        cx: &mut TriggerCtx<'_, V>,
    ) -> TriggerResult {
        let moved = cx
            .state()
            .map(|last| (self.delta)(last.lend(), row) > self.threshold);
        match moved {
            Some(false) => TriggerResult::Continue,
            Some(true) => {
                cx.set_state(V::own(row));
                TriggerResult::Fire
            }
            None => {
                cx.set_state(V::own(row));
                TriggerResult::Continue
            }
        }
    }
}

/// Drops the rows with each firing; see [`purging`].
#[derive(Clone, Copy, Debug)]
pub struct Purging<T>(T);

/// As the trigger within, but the rows are dropped with each firing.
#[must_use]
pub fn purging<T>(trigger: T) -> Purging<T> {
    Purging(trigger)
}

fn with_purge(result: TriggerResult) -> TriggerResult {
    if result.fires() {
        TriggerResult::FireAndPurge
    } else {
        result
    }
}

impl<V: Value, T: Trigger<V>> Trigger<V> for Purging<T> {
    type State = T::State;

    fn sets_timers(&self) -> bool {
        self.0.sets_timers()
    }
    fn on_element(
        &self,
        row: RefOf<'_, V>,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, T::State>,
    ) -> TriggerResult {
        with_purge(self.0.on_element(row, time, window, cx))
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, T::State>,
    ) -> TriggerResult {
        with_purge(self.0.on_event_time(time, window, cx))
    }
    fn on_processing_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, T::State>,
    ) -> TriggerResult {
        with_purge(self.0.on_processing_time(time, window, cx))
    }
    fn can_merge(&self) -> bool {
        self.0.can_merge()
    }
    fn on_merge(
        &self,
        window: Window,
        merged: &mut [Merged<T::State>],
        cx: &mut TriggerCtx<'_, T::State>,
    ) {
        self.0.on_merge(window, merged, cx);
    }
    fn clear(&self, window: Window, cx: &mut TriggerCtx<'_, T::State>) {
        self.0.clear(window, cx);
    }
}
