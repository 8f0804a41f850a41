//! When to look at a session again: buckets of time, and a heap for the bucket at hand.
//!
//! Each session stands here about once, whatever the number of its rows: one that has grown meanwhile is put back when
//! it is looked at. Needs: nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Times and the sessions to look at then.
pub(super) struct Timers {
    /// Milliseconds in a bucket.
    width: i64,
    /// By time divided by the width.
    buckets: BTreeMap<i64, Vec<(i64, u32)>>,
    /// What is below `near`.
    heap: BinaryHeap<Reverse<(i64, u32)>>,
    /// The first bucket that has not gone into the heap.
    near: i64,
    len: usize,
}

impl Timers {
    /// `span_ms` is how far ahead times mostly are.
    pub(super) fn new(span_ms: i64) -> Self {
        Self {
            width: (span_ms / 64).max(1),
            buckets: BTreeMap::new(),
            heap: BinaryHeap::new(),
            near: i64::MIN,
            len: 0,
        }
    }

    pub(super) fn put(&mut self, time: i64, session: u32) {
        let bucket = time.div_euclid(self.width);
        if bucket < self.near {
            self.heap.push(Reverse((time, session)));
        } else {
            self.buckets
                .entry(bucket)
                .or_default()
                .push((time, session));
        }
        self.len += 1;
    }

    /// Takes everything at or below `now`, in no order.
    pub(super) fn take(&mut self, now: i64, mut each: impl FnMut(&mut Self, i64, u32)) {
        let at = now.div_euclid(self.width);
        while let Some(first) = self.buckets.first_entry() {
            let bucket = *first.key();
            if bucket > at {
                break;
            }
            let entries = first.remove();
            if bucket < at || now == i64::MAX {
                self.near = self.near.max(bucket.saturating_add(1));
                self.len -= entries.len();
                entries.into_iter().for_each(|(t, s)| each(self, t, s));
            } else {
                self.heap.extend(entries.into_iter().map(Reverse));
            }
        }
        self.near = self.near.max(at.saturating_add(1));
        while let Some(Reverse((time, session))) = self.heap.pop() {
            if time > now {
                self.heap.push(Reverse((time, session)));
                break;
            }
            self.len -= 1;
            each(self, time, session);
        }
    }

    /// How many entries there are, also of sessions that are gone.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
        self.heap.clear();
        self.len = 0;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.len as u64 * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_taken_once_and_can_be_put_back() {
        let mut timers = Timers::new(640);
        for time in [5, 15, 15, 1_000, -7, i64::MAX] {
            timers.put(time, time as u32);
        }
        let mut take = |now: i64| {
            let mut seen = Vec::new();
            timers.take(now, |timers, time, session| {
                assert_eq!(session, time as u32);
                seen.push(time);
                if time == 5 && now < 1_000 {
                    timers.put(17, 17);
                }
            });
            seen.sort_unstable();
            seen
        };
        assert!(take(-8).is_empty());
        assert_eq!(take(6), [-7, 5]);
        assert_eq!(take(16), [15, 15]);
        assert_eq!(take(17), [17]);
        assert!(take(999).is_empty());
        assert_eq!(take(i64::MAX), [1_000, i64::MAX]);
        assert_eq!(timers.bytes(), 0);
    }
}
