//! When a window fires.

use std::marker::PhantomData;

use super::Window;
use super::record::copy;
use super::timers::KeyTimers;
use crate::record::RefOf;
use crate::time::{Duration, Timestamp};
use crate::value::Value;

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
