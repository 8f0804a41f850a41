//! The timers of one call: each with its key, each key once.
//! Needs: timer. Invariant: how many are taken at once follows from what happened since firing began, so that it is the
//! same after a restart.

use pelton_model::limits::BATCH_ROWS_MAX;

use crate::timer::Timer;

/// Timers that are taken at once where each changes what follows. Twice as many after each call that took all.
const MIN: usize = 8;

/// The timers of a call.
pub(super) struct Due {
    most: usize,
    times: Vec<i64>,
    ordinals: Vec<u32>,
    /// By slot: the last call that it was in, and its ordinal there.
    seen: Vec<(u32, u32)>,
    calls: u32,
}

impl Default for Due {
    fn default() -> Self {
        Self {
            most: BATCH_ROWS_MAX,
            times: Vec::new(),
            ordinals: Vec::new(),
            seen: Vec::new(),
            calls: 0,
        }
    }
}

impl Due {
    /// How many are taken at once.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// When each is due.
    pub(super) fn times(&self) -> &[i64] {
        &self.times
    }

    /// For each, its key: an index into the slots of the call.
    pub(super) fn ordinals(&self) -> &[u32] {
        &self.ordinals
    }

    /// Firing begins.
    pub(super) fn begin(&mut self) {
        self.most = BATCH_ROWS_MAX;
    }

    /// Takes these timers; `slots` gets each of their keys once.
    pub(super) fn take(&mut self, due: &[Timer], slots: &mut Vec<u32>) {
        self.times.clear();
        self.ordinals.clear();
        slots.clear();
        self.calls = self.calls.wrapping_add(1);
        if self.calls == 0 {
            self.seen.fill((0, 0));
            self.calls = 1;
        }
        for timer in due {
            let slot = timer.slot as usize;
            if self.seen.len() <= slot {
                self.seen.resize(slot + 1, (0, 0));
            }
            let mut ordinal = slots.len() as u32;
            match self.seen.get_mut(slot) {
                Some((call, first)) if *call == self.calls => ordinal = *first,
                Some(seen) => {
                    *seen = (self.calls, ordinal);
                    slots.push(timer.slot);
                }
                None => {}
            }
            self.times.push(timer.time);
            self.ordinals.push(ordinal);
        }
    }

    /// Leaves out the first timer of any other than the first so many keys, and all that follow.
    pub(super) fn keep(&mut self, keys: usize) {
        let other = self.ordinals.iter().position(|o| *o as usize >= keys);
        let rows = other.unwrap_or(self.ordinals.len());
        self.times.truncate(rows);
        self.ordinals.truncate(rows);
    }

    /// How many keys the first so many timers have: they are numbered as they appear.
    pub(super) fn keys(&self, rows: usize) -> usize {
        let ordinals = self.ordinals.iter().take(rows);
        ordinals.max().map_or(0, |o| *o as usize + 1)
    }

    /// So many were done.
    pub(super) fn done(&mut self, rows: usize) {
        let next = match rows < self.times.len() {
            true => rows,
            false => self.most,
        };
        self.most = (next * 2).clamp(MIN, BATCH_ROWS_MAX);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        (self.seen.len() * 8) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers(all: &[(i64, u32)]) -> Vec<Timer> {
        let timer = |(time, slot): &(i64, u32)| Timer {
            time: *time,
            slot: *slot,
            set: 0,
        };
        all.iter().map(timer).collect()
    }

    #[test]
    fn keys_are_numbered_as_they_appear() {
        let (mut due, mut slots) = (Due::default(), vec![99]);
        for calls in [0, 1, u32::MAX - 1, u32::MAX] {
            due.calls = calls;
            due.take(
                &timers(&[(1, 7), (1, 3), (2, 7), (5, 0), (6, 3)]),
                &mut slots,
            );
            assert_eq!(
                (slots.as_slice(), due.ordinals()),
                (&[7, 3, 0][..], &[0, 1, 0, 2, 1][..])
            );
            assert_eq!([0, 1, 3, 4].map(|rows| due.keys(rows)), [0, 1, 2, 3]);
            due.keep(2);
            assert_eq!(
                (due.times(), due.ordinals()),
                (&[1, 1, 2][..], &[0, 1, 0][..])
            );
        }
    }

    #[test]
    fn fewer_are_taken_where_many_come_back() {
        let (mut due, mut slots) = (Due::default(), Vec::new());
        let all = timers(&[(0, 0); 100]);
        let mut most = Vec::new();
        for done in [1, 8, 16, 20, 100] {
            due.take(&all, &mut slots);
            due.times.truncate(due.most);
            due.done(done.min(due.times.len()));
            most.push(due.most());
        }
        assert_eq!(most, [8, 16, 32, 40, 80]);
        due.begin();
        assert_eq!(due.most(), BATCH_ROWS_MAX);
    }
}
