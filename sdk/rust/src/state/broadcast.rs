//! A map that every task has whole, written by what comes on a broadcast input.

use std::rc::Rc;

use super::map::reads;
use super::map_cells::MapCells;
use crate::time::Timestamp;
use crate::value::Value;
use std::ops::Bound;

/// A map that every task has whole. All read it; only a [`BroadcastCtx`] lets it be written.
///
/// Map keys are ordered as in [`MapState`](super::MapState).
pub struct BroadcastState<K: Value, V: Value>(pub(super) Rc<MapCells<K, V>>);

impl<K: Value, V: Value> Clone for BroadcastState<K, V> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

reads!(BroadcastState);

impl<K: Value, V: Value> BroadcastState<K, V> {
    /// Sets the value under a map key, here as in all tasks.
    pub fn put(&self, _: &mut BroadcastCtx, map_key: K::Ref<'_>, value: V) {
        self.0.put(map_key, value);
    }

    /// Removes the value under a map key, here as in all tasks.
    pub fn remove(&self, _: &mut BroadcastCtx, map_key: K::Ref<'_>) {
        self.0.remove(map_key);
    }

    /// Removes all entries, here as in all tasks.
    pub fn clear(&self, _: &mut BroadcastCtx) {
        self.0.clear();
    }
}

/// The time of a broadcast row; and the right to write broadcast state, which only such a row gives, since it comes to all
/// tasks alike.
pub struct BroadcastCtx {
    pub(crate) watermark: i64,
    pub(crate) processing_time: i64,
    pub(crate) event_time: Option<i64>,
    pub(crate) is_batch: bool,
}

impl BroadcastCtx {
    /// The current watermark; constant within a call. None before the first.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.watermark != i64::MIN).then_some(Timestamp(self.watermark))
    }

    /// The host's wall clock; constant within a call. It differs from task to task.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        Timestamp(self.processing_time)
    }

    /// The event time of the row. None where the stream has no event times.
    #[must_use]
    pub fn event_time(&self) -> Option<Timestamp> {
        self.event_time.map(Timestamp)
    }

    /// Whether the job runs as a batch.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.is_batch
    }
}
