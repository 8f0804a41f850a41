//! Sessions that do not all fit in memory: which keys leave it, which come back for rows or because something is due,
//! and how sessions fire of which only a part is in memory at a time.
//!
//! The order of results does not depend on what is where: what is due is brought in by time and by the coming of keys,
//! and what was in memory waits for its turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow_array::ArrayRef;
use pelton_model::watermark::Watermark;
use pelton_model::{Error, Result};

use super::SessionOperator;
use super::book::{Book, Due};
use super::spill::Spill;
use crate::operators::process::StatePlace;
use crate::operators::window::function::Values;
use crate::operators::window::saved::Codec;
use crate::state::RowSet;

/// The most keys that leave at once.
const KEYS_A_STEP: usize = 4096;
/// The most keys for which room is kept free: two batches with no key twice.
const SPARE_MAX: u64 = 16_384;

/// Sessions that are still to fire for the watermark.
pub(super) struct Overdue {
    /// The watermark before.
    from: Watermark,
    /// Those that have ended in memory, where others come before.
    ahead: BinaryHeap<Reverse<Due>>,
}

impl Overdue {
    pub(super) fn new(from: Watermark) -> Self {
        Self {
            from,
            ahead: BinaryHeap::new(),
        }
    }
}

impl SessionOperator {
    /// From now on keys may leave memory, where the task's backend keeps state elsewhere.
    pub(in crate::operators::window) fn with_room(
        mut self,
        place: &StatePlace<'_>,
    ) -> Result<Self> {
        if !self.frame.key.is_empty() {
            self.spill = Spill::open(place, &self.form)?.map(Box::new);
        }
        Ok(self)
    }

    /// Finds more of what fires, in order; whether there may be any. Returns in `keys` how many keys were brought in.
    pub(super) fn next_due(&mut self, keys: &mut u64) -> Result<bool> {
        if self.firing.is_none() {
            return Ok(false);
        }
        self.keep_to_room()?;
        let cut = self.bring_due(keys)?;
        let Some(firing) = &mut self.firing else {
            return Ok(false);
        };
        self.reached = cut.map_or(self.watermark, |(time, _)| Watermark(time));
        let mut gone = Vec::new();
        let mut due = self.book.due(firing.from, self.reached, &mut gone);
        match cut {
            Some((time, arrival)) => {
                firing.ahead.extend(due.drain(..).map(Reverse));
                let is_in = |d: &Due| (d.end - 1, d.arrival) <= (time, arrival);
                while firing.ahead.peek().is_some_and(|d| is_in(&d.0)) {
                    due.extend(firing.ahead.pop().map(|d| d.0));
                }
            }
            None => {
                if let Some(Overdue { mut ahead, .. }) = self.firing.take()
                    && !ahead.is_empty()
                {
                    ahead.extend(due.drain(..).map(Reverse));
                    due.extend(std::iter::from_fn(|| ahead.pop()).map(|d| d.0));
                }
            }
        }
        gone.into_iter().for_each(|session| self.forget(session));
        self.due = (due, 0);
        Ok(true)
    }

    /// Brings in some of the keys for which something is due. Returns up to where all are in memory; nothing where that
    /// is the watermark.
    fn bring_due(&mut self, count: &mut u64) -> Result<Option<(i64, u64)>> {
        let Some(spill) = &mut self.spill else {
            return Ok(None);
        };
        let Some(found) = spill.due(self.watermark.0)? else {
            return Ok(None);
        };
        let mut slots = Vec::new();
        self.index
            .locate(&found.keys, RowSet::First(found.rows), &mut slots)?;
        self.book.grow(self.index.slots());
        self.take_out(&found.keys, &slots, true)?;
        *count += found.rows as u64;
        Ok(found.cut)
    }

    /// Brings in those of these keys that are not in memory.
    pub(super) fn bring(&mut self, keys: &[u32]) -> Result<()> {
        let Some(spill) = &self.spill else {
            return Ok(());
        };
        self.book.touch(keys);
        if !spill.has_any() {
            return Ok(());
        }
        let missing = keys.iter().filter(|key| !self.book.has_sessions(**key));
        let mut missing: Vec<u32> = missing.copied().collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let columns = self.index.columns(&missing)?;
        self.take_out(&columns, &missing, false)
    }

    fn take_out(&mut self, columns: &[ArrayRef], keys: &[u32], due: bool) -> Result<()> {
        let Some(spill) = &mut self.spill else {
            return Ok(());
        };
        let Some(found) = spill.take(columns, keys.len(), due)? else {
            return Ok(());
        };
        let mut sessions = Vec::with_capacity(found.keys.len());
        let all = found.keys.iter().zip(&found.bounds);
        for ((row, bounds), (arrival, fired)) in all.zip(found.arrivals.iter().zip(&found.fired)) {
            let session = keys
                .get(*row as usize)
                .and_then(|key| self.book.take_back(*key, *bounds, *arrival, *fired))
                .ok_or_else(|| Error::bug("a key of a session is gone"))?;
            sessions.push(session);
        }
        let total = self.book.slots();
        self.form
            .codec
            .load_columns(&mut self.values, &sessions, total, found.values)
    }

    /// Bytes in memory.
    pub(in crate::operators::window) fn memory(&self) -> u64 {
        self.index.bytes() + self.book.bytes() + self.values.bytes()
    }

    /// Whether so many more keys might take more than the room.
    fn is_full(&self, room: u64, keys: u64) -> bool {
        let (key, session) = self.slot_bytes();
        let free_keys = self.index.slots().saturating_sub(self.index.len()) as u64;
        let free = free_keys * key + self.book.free_slots() as u64 * session;
        let grown = keys * (key + session) + self.index.growth(keys as usize);
        self.memory().saturating_sub(free) + grown > room
    }

    /// Bytes that a key takes whatever it is, and a session: what lies in slots that are free.
    fn slot_bytes(&self) -> (u64, u64) {
        let (key, session) = Book::SLOT_BYTES;
        let index = if self.index.is_plain() { 8 } else { 40 };
        let value = match (&self.values, &self.form.codec) {
            (Values::User(_), Codec::User(fields)) => {
                let widths = fields.iter().map(|f| match f.nullable {
                    true => None,
                    false => f.data_type.fixed_width(),
                });
                // What is not of one width lies elsewhere.
                widths.sum::<Option<usize>>().unwrap_or(16) as u64
            }
            _ => self.values.bytes() / self.book.slots().max(1) as u64,
        };
        (key + index, session + value)
    }

    /// Sees to it that memory is not used beyond the room that there is: when half of that is used, keys leave that were
    /// not touched lately. Those of which a session is just to fire stay.
    pub(super) fn keep_to_room(&mut self) -> Result<()> {
        let Some(spill) = &self.spill else {
            return Ok(());
        };
        let room = spill.room() / 2;
        let (key, session) = self.slot_bytes();
        let spare = (room / (key + session).max(1) / 8).min(SPARE_MAX);
        self.book.squeeze();
        if !self.is_full(room, spare) {
            return Ok(());
        }
        loop {
            let count = (self.index.len() / 8).clamp(1, KEYS_A_STEP);
            let keys = self.book.victims(count);
            if keys.is_empty() {
                return Ok(());
            }
            self.leave(&keys)?;
            if !self.is_full(room, 2 * spare) {
                return Ok(());
            }
        }
    }

    fn leave(&mut self, keys: &[u32]) -> Result<()> {
        let Some(spill) = &mut self.spill else {
            return Ok(());
        };
        let leaving = self.book.leaving(keys, self.reached);
        let slots: Vec<u32> = leaving.sessions.iter().map(|s| s.session).collect();
        let values = self.form.codec.columns(&self.values, &slots)?;
        let columns = self.index.columns(keys)?;
        spill.put(&columns, &leaving, values)?;
        slots.into_iter().for_each(|session| self.forget(session));
        Ok(())
    }
}
