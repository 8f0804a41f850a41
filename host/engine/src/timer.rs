//! Timers of one task's keys, by event time or by processing time.
//! Needs: nothing. A key is its slot in [`state`](crate::state); a slot with timers must not be forgotten.
//!
//! A timer is unique by (time, key): setting it again changes nothing. Timers fire by time, and those of one time in
//! the order in which they were set.
//!
//! For a snapshot they are *frozen*: those that are there then are handed out by and by, ascending; one that fires or is
//! deleted before its turn is kept aside. Its slot must not be forgotten until it is taken from there. One that is put
//! back may be handed out twice.
//!
//! Whoever has more than fit in memory takes those that are due last away, and enters them again before their time, with
//! the number that each has in the order of setting. For a snapshot the former are gone; one that is entered again may be
//! handed out, too.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// A timer that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// When, milliseconds.
    pub time: i64,
    /// Whose.
    pub slot: u32,
    /// When it was set, in the order of all.
    pub set: u64,
}

/// Timers that wait.
#[derive(Debug, Default)]
pub struct Timers {
    /// By time, in the order of setting: (when set, slot). Deleted ones stay until they are met or squeezed out.
    queue: BTreeMap<i64, VecDeque<(u64, u32)>>,
    /// Those that are really there, and when each was set.
    live: HashMap<(i64, u32), u64, BuildHasherDefault<Mixer>>,
    /// How many each slot has, and how many slots have some.
    counts: Vec<u32>,
    slots: usize,
    next: u64,
    queued: usize,
    frozen: Option<Frozen>,
}

/// Timers as they were at a snapshot.
#[derive(Debug)]
struct Frozen {
    /// Those that were set before this one.
    sets: u64,
    /// The last that was looked at: time, when set.
    at: Option<(i64, u64)>,
    /// Those that were not looked at and are not there any more.
    aside: Vec<Timer>,
}

impl Frozen {
    fn keep(&mut self, timer: Timer) {
        if timer.set < self.sets && self.at < Some((timer.time, timer.set)) {
            self.aside.push(timer);
        }
    }
}

impl Timers {
    /// Sets a timer, unless it is there.
    pub fn set(&mut self, time: i64, slot: u32) {
        let Entry::Vacant(entry) = self.live.entry((time, slot)) else {
            return;
        };
        entry.insert(self.next);
        self.queue
            .entry(time)
            .or_default()
            .push_back((self.next, slot));
        self.next += 1;
        self.queued += 1;
        self.grow(slot);
        self.count(slot, 1);
    }

    /// Deletes a timer, if it is there.
    pub fn delete(&mut self, time: i64, slot: u32) {
        let Some(set) = self.live.remove(&(time, slot)) else {
            return;
        };
        if let Some(frozen) = &mut self.frozen {
            frozen.keep(Timer { time, slot, set });
        }
        self.count(slot, -1);
        if self.queued > 2 * self.live.len() + 1024 {
            self.squeeze();
        }
    }

    /// Whether a timer is there.
    #[must_use]
    pub fn holds(&self, time: i64, slot: u32) -> bool {
        self.live.contains_key(&(time, slot))
    }

    /// Whether a slot has a timer.
    #[must_use]
    pub fn has(&self, slot: u32) -> bool {
        self.counts.get(slot as usize).is_some_and(|c| *c > 0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// How many slots have one.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The time of the first.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        let is_live =
            |time: i64, (set, slot): &(u64, u32)| self.live.get(&(time, *slot)) == Some(set);
        self.queue
            .iter()
            .find(|(time, list)| list.iter().any(|t| is_live(**time, t)))
            .map(|(time, _)| *time)
    }

    /// How many were ever set: a bound for [`take_due`](Self::take_due).
    #[must_use]
    pub fn sets(&self) -> u64 {
        self.next
    }

    /// Takes the first timers at or below `now`, at most `max`, in the order in which they fire; none that was set as
    /// number `set_below` or later, nor any after that.
    pub fn take_due(&mut self, now: i64, max: usize, set_below: u64) -> Vec<Timer> {
        let mut due = Vec::new();
        while due.len() < max {
            let Some(mut entry) = self.queue.first_entry().filter(|e| *e.key() <= now) else {
                break;
            };
            let time = *entry.key();
            let Some((set, slot)) = entry.get().front().copied() else {
                entry.remove();
                continue;
            };
            if self.live.get(&(time, slot)) == Some(&set) {
                if set >= set_below {
                    break;
                }
                self.live.remove(&(time, slot));
                due.push(Timer { time, slot, set });
            }
            entry.get_mut().pop_front();
            self.queued -= 1;
        }
        due.iter().for_each(|t| self.count(t.slot, -1));
        if let Some(frozen) = &mut self.frozen {
            due.iter().for_each(|t| frozen.keep(*t));
        }
        due
    }

    /// A snapshot begins: those that are there now are what it will have. Costs nothing by timer.
    pub fn freeze(&mut self) {
        self.frozen = Some(Frozen {
            sets: self.next,
            at: None,
            aside: Vec::new(),
        });
    }

    /// The snapshot is complete, or not wanted any more.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Takes what is not there any more and was not handed out.
    pub fn take_aside(&mut self) -> Vec<Timer> {
        let aside = self.frozen.as_mut().map(|f| &mut f.aside);
        aside.map(std::mem::take).unwrap_or_default()
    }

    /// Hands out more of the frozen ones, looking at no more than `max`; none where all were looked at.
    pub fn next_frozen(&mut self, max: usize) -> Option<Vec<Timer>> {
        let frozen = self.frozen.as_mut()?;
        let (mut found, mut looked) = (Vec::new(), 0);
        let from = frozen.at.map_or(i64::MIN, |(time, _)| time);
        for (time, list) in self.queue.range(from..) {
            // Of one time they stand in the order of setting, also after some were put back.
            let at = frozen.at;
            let first = list.partition_point(|(set, _)| at >= Some((*time, *set)));
            for (set, slot) in list.range(first..) {
                if looked == max {
                    return Some(found);
                }
                looked += 1;
                frozen.at = Some((*time, *set));
                if *set < frozen.sets && self.live.get(&(*time, *slot)) == Some(set) {
                    found.push(Timer {
                        time: *time,
                        slot: *slot,
                        set: *set,
                    });
                }
            }
        }
        (looked > 0).then_some(found)
    }

    /// Puts back what was taken last and has not fired.
    pub fn put_back(&mut self, timers: &[Timer]) {
        for t in timers.iter().rev() {
            self.live.insert((t.time, t.slot), t.set);
            self.queue
                .entry(t.time)
                .or_default()
                .push_front((t.set, t.slot));
            self.queued += 1;
            self.count(t.slot, 1);
        }
    }

    /// The number of a timer that is set now, and is kept elsewhere.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Numbers from now on are above this one.
    pub fn number_after(&mut self, set: u64) {
        self.next = self.next.max(set.saturating_add(1));
    }

    /// Takes so many of those that are due last, the last first.
    pub fn take_last(&mut self, count: usize) -> Vec<Timer> {
        let mut last = Vec::with_capacity(count.min(self.live.len()));
        while last.len() < count
            && let Some(mut entry) = self.queue.last_entry()
        {
            let time = *entry.key();
            let Some((set, slot)) = entry.get_mut().pop_back() else {
                entry.remove();
                continue;
            };
            self.queued -= 1;
            if self.live.get(&(time, slot)) == Some(&set) {
                self.live.remove(&(time, slot));
                last.push(Timer { time, slot, set });
            }
        }
        last.iter().for_each(|t| self.count(t.slot, -1));
        if let Some(frozen) = &mut self.frozen {
            last.iter().for_each(|t| frozen.keep(*t));
        }
        last
    }

    /// Enters timers that were kept elsewhere, those that are not here. Ascending by time and number.
    pub fn enter(&mut self, timers: impl Iterator<Item = Timer>) {
        let mut unsorted = Vec::new();
        for Timer { time, slot, set } in timers {
            let Entry::Vacant(entry) = self.live.entry((time, slot)) else {
                continue;
            };
            entry.insert(set);
            let list = self.queue.entry(time).or_default();
            if list.back().is_some_and(|(last, _)| *last > set) {
                unsorted.push(time);
            }
            list.push_back((set, slot));
            self.queued += 1;
            self.number_after(set);
            self.grow(slot);
            self.count(slot, 1);
        }
        unsorted.dedup();
        for time in unsorted {
            if let Some(list) = self.queue.get_mut(&time) {
                list.make_contiguous().sort_by_key(|(set, _)| *set);
            }
        }
    }

    /// Bytes that go with timers that are taken: what each slot takes is not among them.
    #[must_use]
    pub fn queue_bytes(&self) -> u64 {
        (self.live.len() * 32 + self.queued * 16 + self.queue.len() * 48) as u64
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.queue_bytes() + self.counts.len() as u64 * 4
    }

    fn grow(&mut self, slot: u32) {
        if self.counts.len() <= slot as usize {
            self.counts.resize(slot as usize + 1, 0);
        }
    }

    fn count(&mut self, slot: u32, change: i32) {
        if let Some(c) = self.counts.get_mut(slot as usize) {
            let before = usize::from(*c > 0);
            *c = c.saturating_add_signed(change);
            self.slots = self.slots + usize::from(*c > 0) - before;
        }
    }

    fn squeeze(&mut self) {
        let live = &self.live;
        self.queue.retain(|time, list| {
            list.retain(|(set, slot)| live.get(&(*time, *slot)) == Some(set));
            !list.is_empty()
        });
        self.queued = live.len();
    }
}

/// Hashes times and slots: fast, and the same in each run.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }

    fn write_i64(&mut self, n: i64) {
        self.write_u64(n as u64);
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(self.0 ^ n ^ 0x2d35_8dcc_aa6c_78a5) * 0x9e37_79b9_7f4a_7c15_u128;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn take(t: &mut Timers, now: i64) -> Vec<(i64, u32)> {
        t.take_due(now, usize::MAX, u64::MAX)
            .iter()
            .map(|t| (t.time, t.slot))
            .collect()
    }

    #[test]
    fn timers_are_taken_in_order_whosoever_they_are() {
        let mut t = Timers::default();
        for (time, slot) in [(20, 0), (10, 1), (10, 0), (30, 2), (10, 1)] {
            t.set(time, slot);
        }
        assert_eq!((t.len(), t.first()), (4, Some(10)));
        let first: Vec<_> = t.take_due(30, 1, u64::MAX).iter().map(|t| t.slot).collect();
        assert_eq!(first, [1]);
        assert_eq!(take(&mut t, 29), [(10, 0), (20, 0)]);
        assert!(t.has(2) && !t.has(0));
        assert_eq!(take(&mut t, 30), [(30, 2)]);
        assert!(t.is_empty());
    }

    #[test]
    fn deleting_and_setting_again_moves_to_the_end() {
        let mut t = Timers::default();
        t.set(10, 0);
        t.set(10, 1);
        t.delete(10, 0);
        t.delete(10, 7);
        assert_eq!(t.first(), Some(10));
        t.set(10, 0);
        assert_eq!(take(&mut t, 10), [(10, 1), (10, 0)]);
        assert_eq!(t.first(), None);
    }

    #[test]
    fn what_is_put_back_fires_first() {
        let mut t = Timers::default();
        (0..4).for_each(|slot| t.set(10, slot));
        let due = t.take_due(10, usize::MAX, u64::MAX);
        t.put_back(&due[1..]);
        t.set(10, 9);
        t.delete(10, 2);
        assert_eq!(take(&mut t, 10), [(10, 1), (10, 3), (10, 9)]);
    }

    #[test]
    fn those_that_were_away_come_in_the_order_of_setting() {
        let mut t = Timers::default();
        for (time, slot) in [(10, 0), (20, 1), (20, 2), (30, 0), (20, 3)] {
            t.set(time, slot);
        }
        t.delete(20, 2);
        assert_eq!(t.slots(), 3);
        let mut last = t.take_last(3);
        assert_eq!((t.len(), t.slots(), t.first()), (1, 1, Some(10)));
        assert!(!t.has(1) && !t.holds(20, 1));
        t.set(20, 9);
        last.reverse();
        t.enter(last.into_iter());
        assert_eq!(
            take(&mut t, 30),
            [(10, 0), (20, 1), (20, 3), (20, 9), (30, 0)]
        );
        assert_eq!((t.slots(), t.number()), (0, 6));
        t.number_after(40);
        assert_eq!(t.number(), 41);
    }

    #[test]
    fn a_million_timers_of_one_key_and_deleted_ones_cost_no_more_than_they_must() {
        let mut t = Timers::default();
        (0..1_000_000).for_each(|time| t.set(time, 0));
        (500_000..1_000_000).for_each(|time| t.delete(time, 0));
        assert!(t.queued <= 2 * t.len() + 1025);
        let all: Vec<_> = (0..500_000).map(|time| (time, 0)).collect();
        assert_eq!(take(&mut t, i64::MAX), all);
        assert_eq!(t.queued, 0);
    }

    proptest! {
        #[test]
        fn frozen_timers_are_those_of_the_freeze(
            before in prop::collection::vec((0i64..20, 0u32..5, 0u8..4), 0..80),
            after in prop::collection::vec((0i64..20, 0u32..5, 0u8..7), 0..80),
            step in 1usize..4,
        ) {
            let mut t = Timers::default();
            let mut had = Vec::new();
            let mut given = BTreeSet::new();
            let key = |t: &Timer| (t.set, t.time, t.slot);
            let steps = before.len();
            for (n, (time, slot, what)) in before.into_iter().chain(after).enumerate() {
                if n == steps {
                    had = t.live.iter().map(|((time, slot), set)| (*set, *time, *slot)).collect();
                    t.freeze();
                }
                match what {
                    0 | 1 => t.set(time, slot),
                    2 => t.delete(time, slot),
                    3 => drop(t.take_due(time, usize::MAX, u64::MAX)),
                    4 => {
                        let due = t.take_due(time, usize::MAX, u64::MAX);
                        t.put_back(due.get(1..).unwrap_or_default());
                    }
                    5 => given.extend(t.next_frozen(step).unwrap_or_default().iter().map(key)),
                    _ => t.squeeze(),
                }
                given.extend(t.take_aside().iter().map(key));
            }
            while let Some(some) = t.next_frozen(step) {
                prop_assert!(some.len() <= step);
                given.extend(some.iter().map(key));
            }
            had.sort_unstable();
            prop_assert_eq!(given.into_iter().collect::<Vec<_>>(), had);
            t.thaw();
            prop_assert!(t.next_frozen(1).is_none());
        }

        #[test]
        fn timers_are_an_ordered_set(steps in prop::collection::vec((0i64..20, 0u32..5, 0u8..4), 0..200)) {
            let mut t = Timers::default();
            let mut model: Vec<(i64, u64, u32)> = Vec::new();
            for (n, (time, slot, what)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        t.set(time, slot);
                        if !model.iter().any(|m| (m.0, m.2) == (time, slot)) {
                            model.push((time, n as u64, slot));
                        }
                    }
                    2 => {
                        t.delete(time, slot);
                        model.retain(|m| (m.0, m.2) != (time, slot));
                    }
                    _ => {
                        model.sort_unstable();
                        let due = model.iter().take_while(|m| m.0 <= time);
                        let want: Vec<(i64, u32)> = due.map(|m| (m.0, m.2)).collect();
                        model.drain(..want.len());
                        prop_assert_eq!(take(&mut t, time), want);
                    }
                }
                prop_assert_eq!(t.len(), model.len());
                prop_assert_eq!(t.has(slot), model.iter().any(|m| m.2 == slot));
            }
        }
    }
}
