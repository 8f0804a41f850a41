//! Triggers that go by time.

use super::{Merged, Trigger, TriggerCtx, TriggerResult, merge_states};
use crate::function::aggregate::Window;
use crate::record::RefOf;
use crate::time::{Duration, Timestamp};
use crate::value::Value;

/// Fires when the watermark passes the window's end, and at once for each row that comes later.
#[derive(Clone, Copy, Debug)]
pub struct EventTimeTrigger;

impl<V: Value> Trigger<V> for EventTimeTrigger {
    type State = bool;

    fn on_element(
        &self,
        _: RefOf<'_, V>,
        _: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        if cx.is_over() {
            return TriggerResult::Fire;
        }
        cx.set_timer(window.max_timestamp());
        TriggerResult::Continue
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        _: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            TriggerResult::Fire
        } else {
            TriggerResult::Continue
        }
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, window: Window, _: &mut [Merged<bool>], cx: &mut TriggerCtx<'_, bool>) {
        // Otherwise the row that merged them fires the window.
        if !cx.is_over() {
            cx.set_timer(window.max_timestamp());
        }
    }
    fn clear(&self, window: Window, cx: &mut TriggerCtx<'_, bool>) {
        cx.delete_timer(window.max_timestamp());
    }
}

/// Fires when the clock passes the window's end.
#[derive(Clone, Copy, Debug)]
pub struct ProcessingTimeTrigger;

impl<V: Value> Trigger<V> for ProcessingTimeTrigger {
    type State = bool;

    fn on_element(
        &self,
        _: RefOf<'_, V>,
        _: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        cx.set_processing_timer(window.max_timestamp());
        TriggerResult::Continue
    }
    fn on_processing_time(
        &self,
        _: Timestamp,
        _: Window,
        _: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        TriggerResult::Fire
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, window: Window, _: &mut [Merged<bool>], cx: &mut TriggerCtx<'_, bool>) {
        if window.max_timestamp().0 > cx.processing_time {
            cx.set_processing_timer(window.max_timestamp());
        }
    }
    fn clear(&self, window: Window, cx: &mut TriggerCtx<'_, bool>) {
        cx.delete_processing_timer(window.max_timestamp());
    }
}

/// Never fires; see [`never`].
#[derive(Clone, Copy, Debug)]
pub struct NeverTrigger;

/// Never fires: windows only take rows, until they are over.
#[must_use]
pub fn never() -> NeverTrigger {
    NeverTrigger
}

impl<V: Value> Trigger<V> for NeverTrigger {
    type State = bool;

    fn sets_timers(&self) -> bool {
        false
    }
    fn on_element(
        &self,
        _: RefOf<'_, V>,
        _: Timestamp,
        _: Window,
        _: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }
    fn can_merge(&self) -> bool {
        true
    }
}

/// The trigger of an assigner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultTrigger {
    /// [`EventTimeTrigger`]
    EventTime,
    /// [`ProcessingTimeTrigger`]
    ProcessingTime,
    /// [`NeverTrigger`]
    Never,
}

impl<V: Value> Trigger<V> for DefaultTrigger {
    type State = bool;

    fn sets_timers(&self) -> bool {
        *self != Self::Never
    }
    fn on_element(
        &self,
        row: RefOf<'_, V>,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        match self {
            Self::EventTime => Trigger::<V>::on_element(&EventTimeTrigger, row, time, window, cx),
            Self::ProcessingTime => {
                Trigger::<V>::on_element(&ProcessingTimeTrigger, row, time, window, cx)
            }
            Self::Never => TriggerResult::Continue,
        }
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        match self {
            Self::EventTime => Trigger::<V>::on_event_time(&EventTimeTrigger, time, window, cx),
            _ => TriggerResult::Continue,
        }
    }
    fn on_processing_time(
        &self,
        _: Timestamp,
        _: Window,
        _: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        match self {
            Self::ProcessingTime => TriggerResult::Fire,
            _ => TriggerResult::Continue,
        }
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, window: Window, merged: &mut [Merged<bool>], cx: &mut TriggerCtx<'_, bool>) {
        match self {
            Self::EventTime => Trigger::<V>::on_merge(&EventTimeTrigger, window, merged, cx),
            Self::ProcessingTime => {
                Trigger::<V>::on_merge(&ProcessingTimeTrigger, window, merged, cx);
            }
            Self::Never => {}
        }
    }
    fn clear(&self, window: Window, cx: &mut TriggerCtx<'_, bool>) {
        match self {
            Self::EventTime => Trigger::<V>::clear(&EventTimeTrigger, window, cx),
            Self::ProcessingTime => Trigger::<V>::clear(&ProcessingTimeTrigger, window, cx),
            Self::Never => {}
        }
    }
}

/// Fires again and again; see [`continuous`].
#[derive(Clone, Copy, Debug)]
pub struct ContinuousTrigger(i64);

/// Fires as the watermark passes each multiple of `interval`, from the one after the window's first row on, and at the
/// window's end.
#[must_use]
pub fn continuous(interval: Duration) -> ContinuousTrigger {
    ContinuousTrigger(interval.millis().max(1))
}

/// The first multiple of `interval` after `time`. The remainder has the sign of `time`, as in Flink: before 1970 it is one later.
fn next_multiple(time: i64, interval: i64) -> i64 {
    (time - time % interval).saturating_add(interval)
}

impl ContinuousTrigger {
    fn plan(self, next: i64, window: Window, cx: &mut TriggerCtx<'_, i64>) {
        let next = next.min(window.max_timestamp().0);
        cx.set_state(next);
        cx.set_timer(Timestamp(next));
    }
}

impl<V: Value> Trigger<V> for ContinuousTrigger {
    type State = i64;

    fn on_element(
        &self,
        _: RefOf<'_, V>,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, i64>,
    ) -> TriggerResult {
        if cx.is_over() {
            return TriggerResult::Fire;
        }
        cx.set_timer(window.max_timestamp());
        if cx.state().is_none() {
            self.plan(next_multiple(time.0, self.0), window, cx);
        }
        TriggerResult::Continue
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, i64>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            return TriggerResult::Fire;
        }
        if cx.state() != Some(&time.0) {
            return TriggerResult::Continue;
        }
        self.plan(time.0.saturating_add(self.0), window, cx);
        TriggerResult::Fire
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, _: Window, merged: &mut [Merged<i64>], cx: &mut TriggerCtx<'_, i64>) {
        merge_states(merged, cx, i64::min);
        if let Some(next) = cx.state().copied() {
            cx.set_timer(Timestamp(next));
        }
    }
    fn clear(&self, _: Window, cx: &mut TriggerCtx<'_, i64>) {
        if let Some(next) = cx.state.take() {
            cx.delete_timer(Timestamp(next));
        }
    }
}

/// Fires again and again by the clock; see [`continuous_by_clock`].
#[derive(Clone, Copy, Debug)]
pub struct ContinuousClockTrigger(i64);

/// Fires as the clock passes each multiple of `interval` while the window has had a row, and at the window's end.
#[must_use]
pub fn continuous_by_clock(interval: Duration) -> ContinuousClockTrigger {
    ContinuousClockTrigger(interval.millis().max(1))
}

impl ContinuousClockTrigger {
    fn plan(self, next: i64, window: Window, cx: &mut TriggerCtx<'_, i64>) {
        let next = next.min(window.max_timestamp().0);
        // A timer of now would fire again and again.
        if cx.state.replace(next) != Some(next) {
            cx.set_processing_timer(Timestamp(next));
        }
    }
}

impl<V: Value> Trigger<V> for ContinuousClockTrigger {
    type State = i64;

    fn on_element(
        &self,
        _: RefOf<'_, V>,
        _: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, i64>,
    ) -> TriggerResult {
        if cx.state().is_none() {
            self.plan(next_multiple(cx.processing_time, self.0), window, cx);
        }
        TriggerResult::Continue
    }
    fn on_processing_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, i64>,
    ) -> TriggerResult {
        if cx.state() != Some(&time.0) {
            return TriggerResult::Continue;
        }
        self.plan(time.0.saturating_add(self.0), window, cx);
        TriggerResult::Fire
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&self, _: Window, merged: &mut [Merged<i64>], cx: &mut TriggerCtx<'_, i64>) {
        merge_states(merged, cx, i64::min);
        if let Some(next) = cx.state().copied() {
            cx.set_processing_timer(Timestamp(next));
        }
    }
    fn clear(&self, _: Window, cx: &mut TriggerCtx<'_, i64>) {
        if let Some(next) = cx.state.take() {
            cx.delete_processing_timer(Timestamp(next));
        }
    }
}
