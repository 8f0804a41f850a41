//! Which rows of a window are removed when it fires.

use std::marker::PhantomData;

use super::Window;
use super::record::Element;
use crate::record::RefOf;
use crate::time::{Duration, Timestamp};
use crate::value::Value;

/// Removes rows of a window that fires: before the function sees them, or after. What is removed is gone for later firings,
/// too. Where nothing is left, the function is called without rows.
pub trait Evictor<V: Value>: 'static {
    /// Before the function is called.
    fn before(&self, elements: &mut Vec<Element<V>>, window: Window, at: EvictorCtx) {
        let _ = (elements, window, at);
    }

    /// After it was called.
    fn after(&self, elements: &mut Vec<Element<V>>, window: Window, at: EvictorCtx) {
        let _ = (elements, window, at);
    }
}

/// When a window fires.
#[derive(Clone, Copy, Debug)]
pub struct EvictorCtx {
    /// The current watermark; none before the first.
    pub watermark: Option<Timestamp>,
    /// The host's clock.
    pub processing_time: Timestamp,
}

/// An evictor that works after the function; see [`afterwards`].
#[derive(Clone, Copy, Debug)]
pub struct After<E>(E);

/// Removes after the function was called what the evictor within removes before.
#[must_use]
pub fn afterwards<E>(evictor: E) -> After<E> {
    After(evictor)
}

impl<V: Value, E: Evictor<V>> Evictor<V> for After<E> {
    fn after(&self, elements: &mut Vec<Element<V>>, window: Window, at: EvictorCtx) {
        self.0.before(elements, window, at);
    }
}

/// Keeps the last rows; see [`keep_last`].
#[derive(Clone, Copy, Debug)]
pub struct CountEvictor(usize);

/// Keeps the last so many rows of a window.
#[must_use]
pub fn keep_last(rows: usize) -> CountEvictor {
    CountEvictor(rows)
}

impl<V: Value> Evictor<V> for CountEvictor {
    fn before(&self, elements: &mut Vec<Element<V>>, _: Window, _: EvictorCtx) {
        elements.drain(..elements.len().saturating_sub(self.0));
    }
}

/// Keeps the latest rows; see [`keep_time`].
#[derive(Clone, Copy, Debug)]
pub struct TimeEvictor(i64);

/// Keeps the rows whose event time is less than `span` before the latest of the window. Without event times all are kept.
#[must_use]
pub fn keep_time(span: Duration) -> TimeEvictor {
    TimeEvictor(span.millis())
}

impl<V: Value> Evictor<V> for TimeEvictor {
    fn before(&self, elements: &mut Vec<Element<V>>, _: Window, _: EvictorCtx) {
        if elements.first().is_none_or(|e| e.time.is_none()) {
            return;
        }
        let latest = elements.iter().filter_map(|e| e.time).max();
        if let Some(latest) = latest {
            let cutoff = Timestamp(latest.0.saturating_sub(self.0));
            elements.retain(|e| e.time.is_none_or(|t| t > cutoff));
        }
    }
}

/// Keeps what is near the last row; see [`keep_near`].
pub struct DeltaEvictor<V, F> {
    threshold: f64,
    delta: F,
    of: PhantomData<fn() -> V>,
}

/// Keeps the rows that are less than `threshold` from the window's last:
/// `keep_near(10.0, |row: BidRef, last: BidRef| (row.price - last.price) as f64)`.
pub fn keep_near<V, F>(threshold: f64, delta: F) -> DeltaEvictor<V, F>
where
    V: Value,
    F: Fn(RefOf<'_, V>, RefOf<'_, V>) -> f64 + 'static,
{
    DeltaEvictor {
        threshold,
        delta,
        of: PhantomData,
    }
}

impl<V, F> Evictor<V> for DeltaEvictor<V, F>
where
    V: Value,
    F: Fn(RefOf<'_, V>, RefOf<'_, V>) -> f64 + 'static,
{
    fn before(&self, elements: &mut Vec<Element<V>>, _: Window, _: EvictorCtx) {
        let Some(last) = elements.last() else {
            return;
        };
        let far = |e: &Element<V>| (self.delta)(e.row(), last.row()) >= self.threshold;
        let mut removed: Vec<bool> = elements.iter().map(far).collect();
        removed.reverse();
        elements.retain(|_| !removed.pop().unwrap_or(false));
    }
}
