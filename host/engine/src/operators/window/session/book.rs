//! Which sessions each key has: how rows make, grow and merge them, and when they are due. Knows no accumulators.
//!
//! A row of time `t` makes `[t, t + gap)`, which merges with every session of its key that it touches or overlaps. Only
//! a row that touches none can be too late: a session that is kept ends late enough, and growing does not shorten it.

mod room;

use std::collections::VecDeque;

use pelton_model::time::EventTime;
use pelton_model::watermark::Watermark;

use super::timers::Timers;
pub(super) use room::Leaving;

const NONE: u32 = u32::MAX;
/// The session stands at no time.
const UNTIMED: i64 = i64::MIN;

/// Sessions by key.
pub(super) struct Book {
    gap_ms: i64,
    lateness_ms: i64,
    /// By the key's slot.
    keys: Vec<Sessions>,
    /// By the session's slot, which is also that of its accumulator.
    all: Vec<Session>,
    free: Vec<u32>,
    /// Sessions that are merged away, and whose accumulators are still needed.
    merged: Vec<u32>,
    live: usize,
    arrivals: u64,
    timers: Timers,
    /// Where the search for keys to give up goes on.
    hand: u32,
}

/// The sessions of a key, none touching another.
struct Sessions {
    latest: u32,
    /// Rows came since the hand last came by.
    touched: bool,
    /// All others, ascending.
    older: VecDeque<u32>,
    /// When the key came, counted in keys.
    arrival: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) key: u32,
    pub(super) start: i64,
    pub(super) end: i64,
    /// Where it stands among the timers.
    timer: i64,
    /// How many merges its accumulator waits for.
    pub(super) depth: u32,
}

/// What a row has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placed {
    /// Too late, or at the end of time.
    Late,
    /// It belongs to a session.
    In {
        session: u32,
        /// A session that was merged into that one, before the row is added.
        merged: Option<u32>,
        /// The session has fired, and fires again.
        fires: bool,
    },
}

/// A session that is to fire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Due {
    pub(super) end: i64,
    pub(super) arrival: u64,
    pub(super) session: u32,
}

/// A session as a snapshot has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) key: u32,
    pub(super) session: u32,
    pub(super) start: i64,
    pub(super) end: i64,
    /// When its key came, in the order of all.
    pub(super) arrival: u64,
}

impl Sessions {
    fn len(&self) -> usize {
        self.older.len() + usize::from(self.latest != NONE)
    }

    fn get(&self, at: usize) -> Option<u32> {
        match self.older.get(at) {
            Some(session) => Some(*session),
            None => Some(self.latest).filter(|s| at == self.older.len() && *s != NONE),
        }
    }

    fn insert(&mut self, at: usize, session: u32) {
        if at < self.len() {
            self.older.insert(at, session);
            return;
        }
        if self.latest != NONE {
            self.older.push_back(self.latest);
        }
        self.latest = session;
    }

    fn remove(&mut self, at: usize) {
        if at == self.older.len() {
            self.latest = self.older.pop_back().unwrap_or(NONE);
        } else {
            self.older.remove(at);
        }
    }
}

impl Book {
    pub(super) fn new(gap_ms: i64, lateness_ms: i64) -> Self {
        Self {
            gap_ms,
            lateness_ms,
            keys: Vec::new(),
            all: Vec::new(),
            free: Vec::new(),
            merged: Vec::new(),
            live: 0,
            arrivals: 0,
            timers: Timers::new(gap_ms),
            hand: 0,
        }
    }

    /// Makes room for keys up to this slot.
    pub(super) fn grow(&mut self, keys: usize) {
        if self.keys.len() < keys {
            self.keys.resize_with(keys, || Sessions {
                latest: NONE,
                touched: false,
                older: VecDeque::new(),
                arrival: 0,
            });
        }
    }

    /// Above all slots of sessions.
    pub(super) fn slots(&self) -> usize {
        self.all.len()
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.keys.len() * size_of::<Sessions>() + self.all.len() * (size_of::<Session>() + 4))
            as u64
            + self.timers.bytes()
    }

    pub(super) fn get(&self, session: u32) -> Option<Session> {
        self.all.get(session as usize).copied()
    }

    pub(super) fn set_depth(&mut self, session: u32, depth: u32) {
        if let Some(s) = self.all.get_mut(session as usize) {
            s.depth = depth;
        }
    }

    pub(super) fn has_sessions(&self, key: u32) -> bool {
        self.keys
            .get(key as usize)
            .is_some_and(|k| k.latest != NONE)
    }

    /// Puts a row of a key into its session.
    pub(super) fn place(&mut self, key: u32, time: i64, watermark: Watermark) -> Placed {
        let (Some(end), Some(sessions)) =
            (time.checked_add(self.gap_ms), self.keys.get(key as usize))
        else {
            return Placed::Late;
        };
        let start_of = |s: u32| self.all.get(s as usize).map_or(i64::MAX, |s| s.start);
        let end_of = |s: u32| self.all.get(s as usize).map_or(i64::MIN, |s| s.end);
        // Behind all that start at or before the end. Of those at most the last two can touch.
        let at = if start_of(sessions.latest) <= end {
            sessions.len()
        } else {
            sessions.older.partition_point(|s| start_of(*s) <= end)
        };
        let touched = |at: Option<usize>| {
            let at = at?;
            let session = sessions.get(at).filter(|s| end_of(*s) >= time)?;
            Some((at, session))
        };
        match (touched(at.checked_sub(1)), touched(at.checked_sub(2))) {
            (None, _) => self.open(key, at, time, end, watermark),
            (Some((_, session)), None) => {
                self.extend(session, time, end);
                self.settle(session, None, watermark)
            }
            (Some((at, later)), Some((_, session))) => {
                let (start, last) = (start_of(later).min(time), end_of(later).max(end));
                if let Some(k) = self.keys.get_mut(key as usize) {
                    k.remove(at);
                }
                if let Some(s) = self.all.get_mut(later as usize) {
                    (s.key, s.timer) = (NONE, UNTIMED);
                }
                self.live -= 1;
                self.merged.push(later);
                self.extend(session, start, last);
                self.settle(session, Some(later), watermark)
            }
        }
    }

    fn extend(&mut self, session: u32, start: i64, end: i64) {
        if let Some(s) = self.all.get_mut(session as usize) {
            (s.start, s.end) = (s.start.min(start), s.end.max(end));
        }
    }

    fn open(&mut self, key: u32, at: usize, start: i64, end: i64, watermark: Watermark) -> Placed {
        if watermark.has_passed(EventTime(self.cleanup(end))) {
            return Placed::Late;
        }
        let session = Session {
            key,
            start,
            end,
            timer: UNTIMED,
            depth: 0,
        };
        let slot = self.enter(session);
        if let Some(k) = self.keys.get_mut(key as usize) {
            if k.latest == NONE {
                self.arrivals += 1;
                k.arrival = self.arrivals;
            }
            k.insert(at, slot);
        }
        self.settle(slot, None, watermark)
    }

    fn enter(&mut self, session: Session) -> u32 {
        self.live += 1;
        match self.free.pop() {
            Some(slot) => {
                if let Some(s) = self.all.get_mut(slot as usize) {
                    *s = session;
                }
                slot
            }
            None => {
                self.all.push(session);
                (self.all.len() - 1) as u32
            }
        }
    }

    /// All sessions that there are.
    pub(super) fn open_sessions(&self) -> Vec<Open> {
        let open = |(slot, s): (u32, &Session)| {
            let key = self.keys.get(s.key as usize)?;
            Some(Open {
                key: s.key,
                session: slot,
                start: s.start,
                end: s.end,
                arrival: key.arrival,
            })
        };
        (0u32..).zip(&self.all).filter_map(open).collect()
    }

    /// A session that was there before: its slot. It touches no other.
    pub(super) fn take_back(
        &mut self,
        key: u32,
        (start, end): (i64, i64),
        arrival: u64,
        fired: bool,
    ) -> Option<u32> {
        let all = &self.all;
        let k = self.keys.get(key as usize)?;
        let before = |s: u32| all.get(s as usize).is_some_and(|s| s.start < start);
        let at = if k.latest == NONE || before(k.latest) {
            k.len()
        } else {
            k.older.partition_point(|s| before(*s))
        };
        let slot = self.enter(Session {
            key,
            start,
            end,
            timer: UNTIMED,
            depth: 0,
        });
        let k = self.keys.get_mut(key as usize)?;
        k.insert(at, slot);
        k.arrival = arrival;
        self.count_from(arrival);
        self.time(slot, self.due_at(end, fired));
        Some(slot)
    }

    /// Keys that come from now on come after this one.
    pub(super) fn count_from(&mut self, arrival: u64) {
        self.arrivals = self.arrivals.max(arrival);
    }

    /// How many keys have come.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// When a session that ends here is to be looked at, whether it has fired or not.
    fn due_at(&self, end: i64, fired: bool) -> i64 {
        if fired { self.cleanup(end) } else { end - 1 }
    }

    /// Sees to it that a session that has changed is looked at in time.
    fn settle(&mut self, session: u32, merged: Option<u32>, watermark: Watermark) -> Placed {
        let mut fires = false;
        if let Some(s) = self.all.get(session as usize) {
            fires = watermark.has_passed(EventTime(s.end - 1));
            let at = self.due_at(s.end, fires);
            if s.timer == UNTIMED || at < s.timer {
                self.time(session, at);
            }
        }
        Placed::In {
            session,
            merged,
            fires,
        }
    }

    fn time(&mut self, session: u32, at: i64) {
        if let Some(s) = self.all.get_mut(session as usize) {
            s.timer = at;
            self.timers.put(at, session);
        }
    }

    /// From when on a session that ends here is gone.
    fn cleanup(&self, end: i64) -> i64 {
        (end - 1).saturating_add(self.lateness_ms)
    }

    /// Sessions that have ended between two watermarks, by end, then in the order in which their keys came. Those whose
    /// lateness is over go to `gone`.
    pub(super) fn due(&mut self, from: Watermark, to: Watermark, gone: &mut Vec<u32>) -> Vec<Due> {
        let mut due = Vec::new();
        let lateness = self.lateness_ms;
        let (all, keys) = (&mut self.all, &self.keys);
        self.timers.take(to.0, |timers, time, session| {
            let Some(s) = all.get_mut(session as usize).filter(|s| s.timer == time) else {
                return;
            };
            s.timer = UNTIMED;
            let last = s.end - 1;
            let cleanup = last.saturating_add(lateness);
            let mut later = |at: i64| {
                s.timer = at;
                timers.put(at, session);
            };
            if !to.has_passed(EventTime(last)) {
                later(last);
            } else if !from.has_passed(EventTime(last)) {
                due.push(Due {
                    end: s.end,
                    arrival: keys.get(s.key as usize).map_or(0, |k| k.arrival),
                    session,
                });
            } else if !to.has_passed(EventTime(cleanup)) {
                later(cleanup);
            } else {
                gone.push(session);
            }
        });
        due.sort_unstable();
        due
    }

    /// A session has fired. Whether it is gone with that.
    pub(super) fn fired(&mut self, session: u32, watermark: Watermark) -> bool {
        let Some(s) = self.get(session) else {
            return false;
        };
        let cleanup = self.cleanup(s.end);
        let gone = watermark.has_passed(EventTime(cleanup));
        if !gone {
            self.time(session, cleanup);
        }
        gone
    }

    /// Forgets a session. Returns its key if that has no other.
    pub(super) fn remove(&mut self, session: u32) -> Option<u32> {
        let (all, keys) = (&mut self.all, &mut self.keys);
        let s = all.get_mut(session as usize)?;
        let (key, start) = (s.key, s.start);
        (s.key, s.timer) = (NONE, UNTIMED);
        let k = keys.get_mut(key as usize)?;
        let at = if k.latest == session {
            k.older.len()
        } else {
            let before = |s: &u32| all.get(*s as usize).is_some_and(|s| s.start < start);
            k.older.partition_point(before)
        };
        k.remove(at);
        self.live -= 1;
        self.free.push(session);
        (k.latest == NONE).then_some(key)
    }

    /// Frees the slots of sessions that were merged away, each told to `each`.
    pub(super) fn free_merged(&mut self, mut each: impl FnMut(u32)) {
        for session in self.merged.drain(..) {
            self.free.push(session);
            each(session);
        }
    }
}
