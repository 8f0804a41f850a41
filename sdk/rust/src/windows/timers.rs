//! The timers of a key's windows: a heap for each kind of time.
//!
//! The host knows a timer by its key and time alone; here are the windows that wait for it. Timers of one time fire in
//! the order in which Flink's binary heap of timers gives them out, so that the heap is the same, step by step.

use std::marker::PhantomData;

use super::Window;
use super::record::Armed;
use crate::time::Timestamp;

/// What is to be said to the host of a key's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostTimer {
    pub(crate) time: Timestamp,
    pub(crate) processing: bool,
    /// Set, or deleted.
    pub(crate) set: bool,
}

/// The timers of a key while its windows are worked on.
#[derive(Default)]
pub(crate) struct KeyTimers {
    pub(crate) event: Vec<Armed>,
    pub(crate) processing: Vec<Armed>,
    /// What has changed for the host, in order.
    pub(crate) host: Vec<HostTimer>,
}

impl KeyTimers {
    fn heap(&mut self, processing: bool) -> &mut Vec<Armed> {
        if processing {
            &mut self.processing
        } else {
            &mut self.event
        }
    }

    /// Sets a window's timer; nothing happens if it is set.
    pub(crate) fn set(&mut self, window: Window, time: Timestamp, processing: bool) {
        let heap = self.heap(processing);
        if heap.iter().any(|a| a.is(window, time)) {
            return;
        }
        let is_new = heap.iter().all(|a| a.time != time);
        heap.push(Armed {
            time,
            start: window.start,
            end: window.end,
            of: PhantomData,
        });
        let last = heap.len() - 1;
        sift_up(heap, last);
        if is_new {
            self.host.push(HostTimer {
                time,
                processing,
                set: true,
            });
        }
    }

    /// Deletes a window's timer, if it is set.
    pub(crate) fn delete(&mut self, window: Window, time: Timestamp, processing: bool) {
        let heap = self.heap(processing);
        let Some(at) = heap.iter().position(|a| a.is(window, time)) else {
            return;
        };
        remove(heap, at);
        if heap.iter().all(|a| a.time != time) {
            self.host.push(HostTimer {
                time,
                processing,
                set: false,
            });
        }
    }

    /// Takes the next timer that is due at `now`.
    pub(crate) fn take_due(
        &mut self,
        now: Timestamp,
        processing: bool,
    ) -> Option<(Timestamp, Window)> {
        let heap = self.heap(processing);
        let first = heap.first().filter(|a| a.time <= now)?;
        let due = (first.time, first.window());
        remove(heap, 0);
        // The host's timer of `now` is spent; one before it would come to nothing later.
        if due.0 != now && heap.iter().all(|a| a.time != due.0) {
            self.host.push(HostTimer {
                time: due.0,
                processing,
                set: false,
            });
        }
        Some(due)
    }
}

impl Armed {
    fn is(&self, window: Window, time: Timestamp) -> bool {
        self.time == time && self.window() == window
    }

    fn window(&self) -> Window {
        Window {
            start: self.start,
            end: self.end,
        }
    }
}

fn is_before(heap: &[Armed], a: usize, b: usize) -> bool {
    matches!((heap.get(a), heap.get(b)), (Some(a), Some(b)) if a.time < b.time)
}

fn sift_up(heap: &mut [Armed], mut at: usize) {
    while at > 0 {
        let parent = (at - 1) / 2;
        if !is_before(heap, at, parent) {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

/// Answers where the timer came to stand.
fn sift_down(heap: &mut [Armed], mut at: usize) -> usize {
    loop {
        let mut child = 2 * at + 1;
        if is_before(heap, child + 1, child) {
            child += 1;
        }
        if !is_before(heap, child, at) {
            return at;
        }
        heap.swap(at, child);
        at = child;
    }
}

fn remove(heap: &mut Vec<Armed>, at: usize) {
    if at >= heap.len() {
        return;
    }
    heap.swap_remove(at);
    if at < heap.len() && sift_down(heap, at) == at {
        sift_up(heap, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64) -> Window {
        Window {
            start: Timestamp(start),
            end: Timestamp(start + 10),
        }
    }

    fn order(set: &[(i64, i64)], deleted: &[(i64, i64)]) -> (Vec<i64>, Vec<(i64, bool)>) {
        let mut timers = KeyTimers::default();
        for (start, time) in set {
            timers.set(window(*start), Timestamp(*time), false);
        }
        for (start, time) in deleted {
            timers.delete(window(*start), Timestamp(*time), false);
        }
        let fired = std::iter::from_fn(|| timers.take_due(Timestamp(100), false));
        let fired: Vec<_> = fired.map(|(_, w)| w.start.0).collect();
        (
            fired,
            timers.host.iter().map(|h| (h.time.0, h.set)).collect(),
        )
    }

    #[test]
    fn timers_of_one_time_fire_as_a_binary_heap_gives_them_out() {
        // Of four equals, the last takes the root's place when the first has gone.
        let (fired, host) = order(&[(1, 100), (2, 100), (3, 100), (4, 100)], &[]);
        assert_eq!(fired, [1, 4, 3, 2]);
        assert_eq!(host, [(100, true)]);
        let (fired, _) = order(&[(1, 50), (2, 40), (3, 30), (4, 20)], &[]);
        assert_eq!(fired, [4, 3, 2, 1]);
    }

    #[test]
    fn the_host_hears_of_the_first_and_the_last_of_a_time() {
        let (fired, host) = order(
            &[(1, 100), (2, 100), (1, 100), (3, 60)],
            &[(1, 100), (1, 100), (9, 100)],
        );
        assert_eq!(fired, [3, 2]);
        assert_eq!(host, [(100, true), (60, true), (60, false)]);
        let (fired, host) = order(&[(1, 100)], &[(1, 100)]);
        assert_eq!(fired, [] as [i64; 0]);
        assert_eq!(host, [(100, true), (100, false)]);
    }
}
