//! Which keys leave memory: those that no row has come for since the hand last came by.

use pelton_model::time::EventTime;
use pelton_model::watermark::Watermark;

use super::{Book, NONE, Open, Session, Sessions, UNTIMED};

/// Entries of the timers for sessions that are gone, which are borne beside as many as there are sessions.
const STALE_MAX: usize = 1024;

/// Keys that leave, with all that they have.
#[derive(Debug, Default)]
pub(in crate::operators::window::session) struct Leaving {
    /// Key by key.
    pub(in crate::operators::window::session) sessions: Vec<Open>,
    /// Of each key, how many of these.
    pub(in crate::operators::window::session) counts: Vec<u32>,
    /// Of each key, when it came.
    pub(in crate::operators::window::session) arrivals: Vec<u64>,
    /// Of each key, when something is first to be done.
    pub(in crate::operators::window::session) due: Vec<i64>,
}

impl Book {
    /// Bytes of a key, and of a session, whatever they have.
    pub(in crate::operators::window::session) const SLOT_BYTES: (u64, u64) = (
        size_of::<Sessions>() as u64,
        size_of::<Session>() as u64 + 4,
    );

    /// Slots of sessions that are free.
    pub(in crate::operators::window::session) fn free_slots(&self) -> usize {
        self.free.len()
    }

    /// Rows have come for these keys.
    pub(in crate::operators::window::session) fn touch(&mut self, keys: &[u32]) {
        for key in keys {
            if let Some(k) = self.keys.get_mut(*key as usize) {
                k.touched = true;
            }
        }
    }

    /// At most so many keys that were not touched since the hand came by, of which no session is just to fire.
    pub(in crate::operators::window::session) fn victims(&mut self, count: usize) -> Vec<u32> {
        let slots = self.keys.len();
        let mut victims = Vec::with_capacity(count.min(slots));
        // Once around takes the marks away, the second time finds what has none.
        for _ in 0..slots.saturating_mul(2) {
            if victims.len() >= count {
                break;
            }
            let key = self.hand;
            self.hand = if (key as usize + 1) < slots {
                key + 1
            } else {
                0
            };
            let all = &self.all;
            let Some(k) = self.keys.get_mut(key as usize) else {
                continue;
            };
            let waits = |s: &u32| all.get(*s as usize).is_some_and(|s| s.timer != UNTIMED);
            if k.touched {
                k.touched = false;
            } else if k.latest != NONE && waits(&k.latest) && k.older.iter().all(waits) {
                // Not twice, where the hand comes round.
                k.touched = true;
                victims.push(key);
            }
        }
        victims
    }

    /// What keys have; sessions that end at or before `reached` have fired.
    pub(in crate::operators::window::session) fn leaving(
        &self,
        keys: &[u32],
        reached: Watermark,
    ) -> Leaving {
        let mut leaving = Leaving::default();
        for key in keys {
            let (before, mut first) = (leaving.sessions.len(), i64::MAX);
            let arrival = self.keys.get(*key as usize).map_or(0, |k| k.arrival);
            if let Some(k) = self.keys.get(*key as usize) {
                let all = k.older.iter().chain(std::iter::once(&k.latest));
                for session in all {
                    let Some(s) = self.get(*session) else {
                        continue;
                    };
                    let fired = reached.has_passed(EventTime(s.end - 1));
                    first = first.min(self.due_at(s.end, fired));
                    leaving.sessions.push(Open {
                        key: *key,
                        session: *session,
                        start: s.start,
                        end: s.end,
                        arrival,
                    });
                }
            }
            let count = leaving.sessions.len() - before;
            leaving.counts.push(count as u32);
            leaving.arrivals.push(arrival);
            leaving.due.push(first);
        }
        leaving
    }

    /// Forgets when to look at sessions that are gone, where that has become much.
    pub(in crate::operators::window::session) fn squeeze(&mut self) {
        if self.timers.len() <= 2 * self.live + STALE_MAX {
            return;
        }
        self.timers.clear();
        for (slot, s) in (0..).zip(&self.all) {
            if s.key != NONE && s.timer != UNTIMED {
                self.timers.put(s.timer, slot);
            }
        }
    }
}
