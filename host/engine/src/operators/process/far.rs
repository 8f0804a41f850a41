//! Timers that do not fit in memory: those that are due last, of both clocks, are in the backend.
//!
//! What is in memory is not later than what is in the backend: [`TimeIndex::floor`] is the border between the two. A timer
//! that is set below it stays in memory, one at or above it goes to the backend with the call that sets it; where the
//! timers in memory pass their share of the room, the last of them go, and the border sinks. Where a clock comes to the
//! border, the next ones come back, and it rises. So while all fit, the backend has none, and is not even opened.
//!
//! A timer in the backend names its key: it holds no slot, and the key may leave the cache. One in memory holds its slot
//! with all that the key has there, so that counts, too.
//!
//! Timers of one time fire in the order in which they were set as far as they are in memory together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pelton_model::barrier::SnapshotForm;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Field;
use pelton_model::snapshot::SectionSpec;
use pelton_model::{Error, ErrorCode, Result};

use crate::snapshot::{Restored, SnapshotWriter};
use crate::state::{KeyedState, StateOwner, TimeIndex, Timed, Touched};
use crate::timer::{Timer, Timers};

/// By event time, by processing time: their maps in the backend.
pub const SPILLED_TIMERS: [&str; 2] = ["spilled event timers", "spilled processing timers"];

/// Timers in memory may have this part of the room, and with what their keys have, twice as much.
const SHARE: u64 = 4;
/// Bytes of one there, about.
const TIMER_BYTES: u64 = 64;
/// Timers that move at once.
const MOVED_MAX: usize = 8192;
const MOVED_MIN: usize = 16;

/// The timers of both clocks that are in the backend.
pub(super) struct Far {
    index: Option<TimeIndex>,
    /// Whose they are, to open it; `states` are none.
    owner: StateOwner,
    changes: [Changes; 2],
    touched: Touched,
}

/// What a call does to timers in the backend.
#[derive(Default)]
struct Changes {
    /// Each once, in the order of first change.
    order: Vec<(i64, u32)>,
    last: HashMap<(i64, u32), Change>,
}

#[derive(Clone, Copy)]
struct Change {
    /// The number with which it is set; none where it is deleted.
    set: Option<u64>,
    /// It was deleted before that.
    deleted: bool,
}

impl Changes {
    fn note(&mut self, time: i64, slot: u32, set: Option<u64>) {
        match self.last.entry((time, slot)) {
            Entry::Vacant(entry) => {
                self.order.push((time, slot));
                entry.insert(Change {
                    set,
                    deleted: set.is_none(),
                });
            }
            Entry::Occupied(mut entry) => {
                let change = entry.get_mut();
                change.deleted |= set.is_none();
                // Setting again changes nothing.
                change.set = set.and(change.set).or(set);
            }
        }
    }
}

impl Far {
    pub(super) fn new(owner: StateOwner) -> Self {
        Self {
            index: None,
            owner,
            changes: Default::default(),
            touched: Touched::default(),
        }
    }

    /// A time at which one of those may be due, below which none is. Clocks are those of [`SPILLED_TIMERS`], here and
    /// below.
    pub(super) fn floor(&self, clock: usize) -> Option<i64> {
        self.index.as_ref()?.floor(clock)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.index.as_ref().map_or(0, TimeIndex::bytes)
    }

    /// Sets a timer, unless it is there; in the backend it is with [`flush`](Self::flush).
    pub(super) fn set(&mut self, clock: usize, near: &mut Timers, time: i64, slot: u32) {
        match self.is_near(clock, near, time, slot) {
            true => near.set(time, slot),
            false => self.note(clock, time, slot, Some(near.number())),
        }
    }

    /// Deletes a timer, if it is there.
    pub(super) fn delete(&mut self, clock: usize, near: &mut Timers, time: i64, slot: u32) {
        match self.is_near(clock, near, time, slot) {
            true => near.delete(time, slot),
            false => self.note(clock, time, slot, None),
        }
    }

    /// Whether a timer is a matter of memory alone.
    fn is_near(&self, clock: usize, near: &Timers, time: i64, slot: u32) -> bool {
        self.floor(clock).is_none_or(|floor| time < floor) || near.holds(time, slot)
    }

    fn note(&mut self, clock: usize, time: i64, slot: u32, set: Option<u64>) {
        if let Some(changes) = self.changes.get_mut(clock) {
            changes.note(time, slot, set);
        }
    }

    /// What was set and deleted takes effect; slots are those of `keyed`.
    pub(super) fn flush(&mut self, keyed: &dyn KeyedState) -> Result<()> {
        for clock in 0..SPILLED_TIMERS.len() {
            let Some(changes) = self.changes.get_mut(clock) else {
                continue;
            };
            if changes.order.is_empty() {
                continue;
            }
            let changes = std::mem::take(changes);
            for some in changes.order.chunks(MOVED_MAX) {
                self.flush_some(clock, some, &changes.last, keyed)?;
            }
        }
        Ok(())
    }

    fn flush_some(
        &mut self,
        clock: usize,
        some: &[(i64, u32)],
        last: &HashMap<(i64, u32), Change>,
        keyed: &dyn KeyedState,
    ) -> Result<()> {
        let index = self.index.as_mut().ok_or_else(no_index)?;
        let (mut gone, mut asked, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (time, slot) in some {
            let Some(Change { set, deleted }) = last.get(&(*time, *slot)) else {
                continue;
            };
            let timer = |set| Timer {
                time: *time,
                slot: *slot,
                set,
            };
            match (set, deleted) {
                (None, _) => gone.push(timer(0)),
                (Some(set), true) => new.push(timer(*set)),
                (Some(set), false) => asked.push(timer(*set)),
            }
        }
        if !asked.is_empty() {
            let Timed { times, keys, .. } = named(&asked, keyed)?;
            let found = index.get(clock, &times, &keys)?;
            let missing = asked.iter().zip(found).filter(|(_, f)| f.is_none());
            new.extend(missing.map(|(timer, _)| *timer));
        }
        let gone = named(&gone, keyed)?;
        index.remove(clock, &gone.times, &gone.keys)?;
        index.put(clock, &named(&new, keyed)?)
    }

    /// Where timers in memory have more than their share, the last of them go to the backend.
    pub(super) fn spill(&mut self, near: [&mut Timers; 2], keyed: &dyn KeyedState) -> Result<()> {
        let Some(share) = share(keyed) else {
            return Ok(());
        };
        let [event, processing] = near;
        let each = keyed.key_bytes();
        loop {
            let timers = event.queue_bytes() + processing.queue_bytes();
            let slots = event.slots() + processing.slots();
            if timers <= share && timers + slots as u64 * each <= 2 * share {
                return Ok(());
            }
            let (clock, most) = match processing.len() > event.len() {
                true => (1, &mut *processing),
                false => (0, &mut *event),
            };
            let last = most.take_last(moved(share, each));
            if last.is_empty() {
                return Ok(());
            }
            if self.index.is_none() {
                self.open(keyed)?;
            }
            let index = self.index.as_mut().ok_or_else(no_index)?;
            index.put(clock, &named(&last, keyed)?)?;
        }
    }

    /// Sees to it that the first timers of a clock are in memory, where some are due at `now`.
    pub(super) fn fetch(
        &mut self,
        clock: usize,
        now: i64,
        near: &mut Timers,
        keyed: &mut dyn KeyedState,
    ) -> Result<()> {
        while near.is_empty() && self.floor(clock).is_some_and(|floor| floor <= now) {
            let index = self.index.as_mut().ok_or_else(no_index)?;
            let each = keyed.key_bytes();
            let most = share(keyed).map_or(MOVED_MAX, |share| moved(share, each));
            let Timed {
                times,
                keys,
                numbers,
            } = index.take(clock, i64::MAX, most)?;
            if times.is_empty() {
                continue;
            }
            keyed.touch(&keys, times.len(), &mut self.touched)?;
            let slot = |ordinal: &u32| self.touched.slots.get(*ordinal as usize).copied();
            let slots: Option<Vec<u32>> = self.touched.ordinals.iter().map(slot).collect();
            let slots = slots.ok_or_else(|| Error::bug("a key was touched and has no slot"))?;
            let timers = times.into_iter().zip(slots).zip(numbers);
            near.enter(timers.map(|((time, slot), set)| Timer { time, slot, set }));
        }
        Ok(())
    }

    /// The barrier.
    pub(super) fn snapshot(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        match &mut self.index {
            Some(index) => index.snapshot(form, into),
            None => Ok(()),
        }
    }

    pub(super) fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        match &mut self.index {
            Some(index) => index.go_on_snapshot(into),
            None => Ok(true),
        }
    }

    pub(super) fn abort_snapshot(&mut self) {
        if let Some(index) = &mut self.index {
            index.abort_snapshot();
        }
    }

    /// Takes what was in the backend at a checkpoint. `others` timers were in memory, about: where they do not fit, or
    /// may be some of those, [`put`](Self::put) takes them too; false where memory is to take all, also what
    /// [`read`](Self::read) gives. Errors: `StateMismatch` for timers in files that the job's backend does not read.
    pub(super) fn restore(
        &mut self,
        from: &Restored<'_>,
        others: u64,
        keyed: &dyn KeyedState,
    ) -> Result<bool> {
        let spilled = SPILLED_TIMERS.iter().any(|n| TimeIndex::is_saved(from, n));
        let fit = share(keyed).is_none_or(|share| others.saturating_mul(TIMER_BYTES) <= share);
        if fit && !spilled {
            return Ok(false);
        }
        if keyed.room().is_some() {
            self.open(keyed)?;
        }
        if let Some(index) = &mut self.index {
            index.restore(from)?;
            return Ok(true);
        }
        let of_timers = |s: &SectionSpec| SPILLED_TIMERS.contains(&s.name.as_str());
        match from
            .native()
            .find(|(_, n)| n.sections.iter().any(of_timers))
        {
            None => Ok(false),
            Some((_, native)) => {
                let message = format!(
                    "the timers of operator '{}' are in files of '{}', and the job keeps its state in memory",
                    native.uid, native.format
                );
                Err(Error::new(ErrorCode::StateMismatch, message)
                    .help("go on with the state backend that wrote them, or from a savepoint"))
            }
        }
    }

    /// Puts timers of a checkpoint.
    pub(super) fn put(&mut self, clock: usize, timers: &Timed) -> Result<()> {
        let index = self.index.as_mut().ok_or_else(no_index)?;
        index.put(clock, timers)
    }

    /// Hands over what was in a backend at a savepoint.
    pub(super) fn read(
        from: &Restored<'_>,
        clock: usize,
        key: &[Field],
        each: impl FnMut(Timed) -> Result<()>,
    ) -> Result<()> {
        let name = SPILLED_TIMERS.get(clock).copied().unwrap_or_default();
        TimeIndex::read_saved(from, name, key, each)
    }

    fn open(&mut self, keyed: &dyn KeyedState) -> Result<()> {
        self.index = TimeIndex::beside(keyed, &self.owner, &SPILLED_TIMERS)?;
        Ok(())
    }
}

/// The sections of timers that were in a backend, of keys with these fields.
pub(super) fn sections(key: &[Field]) -> [SectionSpec; 2] {
    SPILLED_TIMERS.map(|name| TimeIndex::section(name, key))
}

/// Refuses states whose names are those of timers. Errors: `GraphInvalid`.
pub(super) fn check_names(states: &[StateSpec]) -> Result<()> {
    let taken = |s: &&StateSpec| SPILLED_TIMERS.contains(&s.name.as_str());
    match states.iter().find(taken) {
        None => Ok(()),
        Some(state) => {
            let message = format!("a state cannot have the name '{}'", state.name);
            Err(Error::new(ErrorCode::GraphInvalid, message)
                .help("give it another name: timers have this one"))
        }
    }
}

/// Bytes that timers in memory may have.
fn share(keyed: &dyn KeyedState) -> Option<u64> {
    keyed.room().map(|room| room / SHARE)
}

/// How many timers move at once, of keys of so many bytes: a part of those that fit in memory.
fn moved(share: u64, each: u64) -> usize {
    let fit = (share / TIMER_BYTES).min(2 * share / (TIMER_BYTES + each));
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    (fit / 4).clamp(MOVED_MIN, MOVED_MAX)
}

/// Timers with their keys.
fn named(timers: &[Timer], keyed: &dyn KeyedState) -> Result<Timed> {
    let slots: Vec<u32> = timers.iter().map(|t| t.slot).collect();
    Ok(Timed {
        times: timers.iter().map(|t| t.time).collect(),
        keys: keyed.keys(&slots)?.columns,
        numbers: timers.iter().map(|t| t.set).collect(),
    })
}

fn no_index() -> Error {
    Error::bug("the backend has no place for timers, and some are there")
}
