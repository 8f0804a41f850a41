//! When a window fires.

use super::Window;
use super::record::copy;
use super::timers::KeyTimers;
use crate::record::RefOf;
use crate::time::Timestamp;
use crate::value::Value;

mod rows;
mod time;

pub use rows::{CountTrigger, DeltaTrigger, Purging, delta, every, purging};
pub use time::{
    ContinuousClockTrigger, ContinuousTrigger, DefaultTrigger, EventTimeTrigger, NeverTrigger,
    ProcessingTimeTrigger, continuous, continuous_by_clock, never,
};

/// What becomes of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// The function is called; the rows are kept.
    Fire,
    /// The rows are dropped.
    Purge,
    /// The function is called, then the rows are dropped.
    FireAndPurge,
}

impl TriggerResult {
    pub(crate) fn fires(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    pub(crate) fn purges(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// Says when windows fire. What it must remember of a window is its `State`.
pub trait Trigger<V: Value>: 'static {
    /// What it remembers of a window: a record or a plain value; `bool` if nothing.
    type State: Value;

    /// A row has been added to a window.
    fn on_element(
        &self,
        row: RefOf<'_, V>,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, Self::State>,
    ) -> TriggerResult;

    /// An event-time timer of the window: one that the trigger has set, or the one that ends the window.
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, Self::State>,
    ) -> TriggerResult {
        let _ = (time, window, cx);
        TriggerResult::Continue
    }

    /// A processing-time timer of the window.
    fn on_processing_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, Self::State>,
    ) -> TriggerResult {
        let _ = (time, window, cx);
        TriggerResult::Continue
    }

    /// Whether it sets timers; then the stream must have event times.
    fn sets_timers(&self) -> bool {
        true
    }

    /// Whether it can stand over windows that are merged.
    fn can_merge(&self) -> bool {
        false
    }

    /// Windows have become `window`. It may take the states of `merged`; then each of those is cleared.
    fn on_merge(
        &self,
        window: Window,
        merged: &mut [Merged<Self::State>],
        cx: &mut TriggerCtx<'_, Self::State>,
    ) {
        let _ = (window, merged, cx);
    }

    /// The window is over: timers that are still set should be deleted. Its state goes by itself.
    fn clear(&self, window: Window, cx: &mut TriggerCtx<'_, Self::State>) {
        let _ = (window, cx);
    }
}

/// A window that was merged, and what a trigger remembered of it.
pub struct Merged<S> {
    /// Which.
    pub window: Window,
    /// To be taken.
    pub state: Option<S>,
}

/// What a trigger works with: the time, its state of the window, the window's timers.
pub struct TriggerCtx<'a, S> {
    pub(crate) window: Window,
    pub(crate) watermark: i64,
    pub(crate) processing_time: i64,
    pub(crate) state: &'a mut Option<S>,
    pub(crate) timers: &'a mut KeyTimers,
}

impl<S> TriggerCtx<'_, S> {
    /// The current watermark; none before the first.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.watermark != i64::MIN).then_some(Timestamp(self.watermark))
    }

    /// The host's clock; constant within a call.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        Timestamp(self.processing_time)
    }

    /// What is remembered of the window.
    #[must_use]
    pub fn state(&self) -> Option<&S> {
        self.state.as_ref()
    }

    /// Remembers something of the window.
    pub fn set_state(&mut self, state: S) {
        *self.state = Some(state);
    }

    /// Forgets what was remembered of the window.
    pub fn clear_state(&mut self) {
        *self.state = None;
    }

    /// Sets an event-time timer of the window.
    pub fn set_timer(&mut self, time: Timestamp) {
        self.timers.set(self.window, time, false);
    }

    /// Deletes an event-time timer of the window.
    pub fn delete_timer(&mut self, time: Timestamp) {
        self.timers.delete(self.window, time, false);
    }

    /// Sets a processing-time timer of the window.
    pub fn set_processing_timer(&mut self, time: Timestamp) {
        self.timers.set(self.window, time, true);
    }

    /// Deletes a processing-time timer of the window.
    pub fn delete_processing_timer(&mut self, time: Timestamp) {
        self.timers.delete(self.window, time, true);
    }

    fn is_over(&self) -> bool {
        self.window.max_timestamp().0 <= self.watermark
    }
}

/// Any trigger that remembers an `S`, chosen while the job is described.
impl<V: Value, S: Value> Trigger<V> for Box<dyn Trigger<V, State = S>> {
    type State = S;

    fn sets_timers(&self) -> bool {
        (**self).sets_timers()
    }
    fn on_element(
        &self,
        row: RefOf<'_, V>,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, S>,
    ) -> TriggerResult {
        (**self).on_element(row, time, window, cx)
    }
    fn on_event_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, S>,
    ) -> TriggerResult {
        (**self).on_event_time(time, window, cx)
    }
    fn on_processing_time(
        &self,
        time: Timestamp,
        window: Window,
        cx: &mut TriggerCtx<'_, S>,
    ) -> TriggerResult {
        (**self).on_processing_time(time, window, cx)
    }
    fn can_merge(&self) -> bool {
        (**self).can_merge()
    }
    fn on_merge(&self, window: Window, merged: &mut [Merged<S>], cx: &mut TriggerCtx<'_, S>) {
        (**self).on_merge(window, merged, cx);
    }
    fn clear(&self, window: Window, cx: &mut TriggerCtx<'_, S>) {
        (**self).clear(window, cx);
    }
}

impl<S: Value> Merged<S> {
    /// A copy of its state.
    #[must_use]
    pub fn copied(&self) -> Option<S> {
        self.state.as_ref().map(copy)
    }
}

/// Makes one state of those of merged windows and of the window's own.
fn merge_states<S: Copy>(
    merged: &mut [Merged<S>],
    cx: &mut TriggerCtx<'_, S>,
    one: impl Fn(S, S) -> S,
) {
    let own = cx.state.take();
    *cx.state = merged
        .iter_mut()
        .filter_map(|m| m.state.take())
        .chain(own)
        .reduce(one);
}
