//! The snapshot of state in memory, while it goes on changing.
//!
//! At the freeze only the number of slots is kept. What was there then is written state by state, slot by slot, a little
//! at a time. What changes before its turn is first set *aside*: encoded as it was, once, so that memory grows by no
//! more than what changes meanwhile. A slot of a state is through when it was written or set aside; keys of slots that
//! are not have not changed, since a slot is freed when it has nothing in any state, and what it had was set aside
//! before it was taken away.

use std::collections::VecDeque;

use pelton_model::key::{KeyGroup, hash_bytes};
use pelton_model::snapshot::{Entry, NO_GROUP};
use pelton_model::{Error, Result};

use super::{HeapState, Store};
use crate::function::{Mark, StateChange};
use crate::snapshot::SnapshotWriter;
use crate::state::{Expiry, KeyIndex, section_of};

/// How much one call writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Slots that are looked at, at most.
    pub(super) slots: u32,
    /// Bytes of entries, about.
    pub(super) bytes: usize,
    /// Slots that are encoded together, at most.
    pub(super) at_once: u32,
    /// Pieces of what was set aside, at most.
    pub(super) pieces: usize,
    /// Bytes of such a piece.
    pub(super) piece_bytes: usize,
}

/// A few milliseconds' worth.
const PACE: Pace = Pace {
    slots: 16 << 10,
    bytes: 1 << 20,
    at_once: 1 << 10,
    pieces: 16,
    piece_bytes: 256 << 10,
};

/// A snapshot that is being written.
#[derive(Debug)]
pub(super) struct Frozen {
    /// Slots below are part of it.
    slots: u32,
    parts: Vec<Part>,
    max_parallelism: Option<u32>,
    /// What comes next: which state, which slot.
    state: usize,
    slot: u32,
    aside: VecDeque<Vec<u8>>,
    pub(super) pace: Pace,
    /// Why it cannot be written.
    failed: Option<Error>,
    chosen: Vec<u32>,
}

/// One state's part.
#[derive(Debug)]
struct Part {
    section: u32,
    /// What has expired by this clock is left out.
    clock: Option<Expiry>,
    /// By slot: a bit for those that were set aside.
    aside: Vec<u64>,
}

impl Part {
    /// Marks a slot; whether it was not.
    fn mark(&mut self, slot: u32) -> bool {
        let Some(word) = self.aside.get_mut(slot as usize / 64) else {
            return false;
        };
        let bit = 1 << (slot % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn is_marked(&self, slot: u32) -> bool {
        let word = self.aside.get(slot as usize / 64);
        word.is_some_and(|w| w >> (slot % 64) & 1 == 1)
    }
}

impl HeapState {
    /// What there is now is what the snapshot will have. Costs nothing by key.
    pub(super) fn freeze(&mut self, into: &mut SnapshotWriter) -> Result<()> {
        if self.frozen.is_some() {
            return Err(Error::bug("a snapshot began before the last was written"));
        }
        let slots = self.index.slots();
        let mut parts = Vec::new();
        let of_operator = |s: &pelton_model::graph::StateSpec| s.kind.is_operator();
        for (spec, store) in self.specs.iter().zip(&mut self.states) {
            parts.push(Part {
                section: into.section(section_of(&self.key, spec)),
                clock: store.expiry().copied(),
                aside: vec![0; slots.div_ceil(64)],
            });
        }
        self.frozen = Some(Box::new(Frozen {
            slots: slots as u32,
            parts,
            max_parallelism: (!self.specs.iter().any(of_operator)).then_some(self.max_parallelism),
            state: 0,
            slot: 0,
            aside: VecDeque::new(),
            pace: PACE,
            failed: None,
            chosen: Vec::new(),
        }));
        Ok(())
    }

    /// Writes more of it; whether it is complete.
    pub(super) fn write_frozen(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        let Some(frozen) = &mut self.frozen else {
            return Ok(true);
        };
        let complete = frozen.go_on(&self.index, &self.states, into);
        if !matches!(complete, Ok(false)) {
            self.frozen = None;
        }
        complete
    }

    /// Before changes: sets aside what they change. Ordinals that are none are refused later.
    pub(super) fn save_changed(&mut self, slots: &[u32], changes: &[StateChange]) {
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        for change in changes {
            let number = change.state as usize;
            let Some(store) = self.states.get(number) else {
                continue;
            };
            let changed =
                |(slot, mark): (&u32, &u8)| (*mark != Mark::Unchanged as u8).then_some(*slot);
            match &change.entries {
                None => {
                    let changed = slots.iter().zip(&change.marks).filter_map(changed);
                    frozen.set_aside(&self.index, (number, store), changed);
                }
                Some(entries) => {
                    let slot = |o: &u32| slots.get(*o as usize).copied();
                    let changed = entries.ordinals.iter().filter_map(slot);
                    frozen.set_aside(&self.index, (number, store), changed);
                }
            }
        }
    }

    /// Before a read: sets aside what it renews.
    pub(super) fn save_renewed(&mut self, state: u32, slots: &[u32]) {
        let (Some(frozen), Some(store)) = (&mut self.frozen, self.states.get_mut(state as usize))
        else {
            return;
        };
        if store.expiry().is_some_and(|e| e.renews()) {
            let slots = slots.iter().copied();
            frozen.set_aside(&self.index, (state as usize, store), slots);
        }
    }

    /// Before what has expired under a slot is removed, by the sweep or otherwise: sets it aside.
    pub(super) fn save_stale(&mut self, slot: u32, sweep: bool) {
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        for (number, store) in self.states.iter().enumerate() {
            if store.is_stale(slot, sweep) {
                frozen.set_aside(&self.index, (number, store), [slot].into_iter());
            }
        }
    }
}

impl Store {
    /// Whether something under a slot has expired, and is removed next.
    fn is_stale(&self, slot: u32, sweep: bool) -> bool {
        match self {
            Self::Values(v) => v.is_stale(slot),
            Self::Lists(l) => l.is_stale(slot),
            Self::Maps(m) => sweep && m.is_stale(slot),
        }
    }

    /// Hands over the entries of slots as snapshots have them: slot, sub, value.
    fn entries(
        &self,
        slots: &[u32],
        clock: Option<&Expiry>,
        each: &mut impl FnMut(u32, &[u8], &[u8]),
    ) -> Result<()> {
        let mut value = Vec::new();
        let mut one = |slot: u32, sub: &[u8], stamp: i64, plain: &[u8]| match clock {
            Some(clock) => {
                value.clear();
                value.extend_from_slice(&clock.since(stamp).to_be_bytes());
                value.extend_from_slice(plain);
                each(slot, sub, &value);
            }
            None => each(slot, sub, plain),
        };
        match self {
            Self::Values(v) => {
                let stamp = |slot: u32| v.stamps.get(slot as usize).copied().unwrap_or(i64::MIN);
                let over = |slot: &u32| clock.is_some_and(|c| c.is_over(stamp(*slot)));
                let there = |slot: &u32| v.values.has(*slot) && !over(slot);
                let slots: Vec<u32> = slots.iter().copied().filter(there).collect();
                let rows = v.values.encodings(&slots)?;
                for (slot, row) in slots.iter().zip(rows.iter()) {
                    one(*slot, &[], stamp(*slot), row);
                }
            }
            Self::Lists(l) => {
                l.items_of(slots, clock, |slot, stamp, value| {
                    one(slot, &[], stamp, value)
                });
            }
            Self::Maps(m) => m.entries_of(slots, clock, one),
        }
        Ok(())
    }
}

impl Frozen {
    fn go_on(
        &mut self,
        index: &KeyIndex,
        states: &[Store],
        into: &mut SnapshotWriter,
    ) -> Result<bool> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        for _ in 0..self.pace.pieces {
            if self.aside.is_empty() || !into.has_room() {
                break;
            }
            let piece = self.aside.pop_front().unwrap_or_default();
            put_aside(&piece, into);
        }
        if !self.aside.is_empty() {
            return Ok(false);
        }
        let (mut slots, mut bytes) = (0, 0);
        while let (Some(part), Some(store)) = (self.parts.get(self.state), states.get(self.state)) {
            if self.slot >= self.slots {
                (self.state, self.slot) = (self.state + 1, 0);
                continue;
            }
            if slots >= self.pace.slots || bytes >= self.pace.bytes || !into.has_room() {
                return Ok(false);
            }
            self.chosen.clear();
            let end = self.slots.min(self.slot.saturating_add(self.pace.at_once));
            let mut size = 0;
            while self.slot < end && size < self.pace.bytes {
                if !part.is_marked(self.slot) {
                    self.chosen.push(self.slot);
                    size += store.size_of(self.slot);
                }
                self.slot += 1;
                slots += 1;
            }
            let mut key = KeyOf::new(index, self.max_parallelism);
            let mut each = |slot, sub: &[u8], value: &[u8]| {
                let (group, key) = key.of(slot);
                bytes += key.len() + sub.len() + value.len();
                into.put(part.section, group, Entry { key, sub, value });
            };
            store.entries(&self.chosen, part.clock.as_ref(), &mut each)?;
        }
        Ok(true)
    }

    /// Sets aside what these slots have in a state, as far as that is not through.
    fn set_aside(
        &mut self,
        index: &KeyIndex,
        (number, store): (usize, &Store),
        slots: impl Iterator<Item = u32>,
    ) {
        if number < self.state {
            return;
        }
        let Some(part) = self.parts.get_mut(number) else {
            return;
        };
        let written = if number == self.state { self.slot } else { 0 };
        let range = written..self.slots;
        self.chosen.clear();
        self.chosen
            .extend(slots.filter(|s| range.contains(s) && part.mark(*s)));
        if self.chosen.is_empty() {
            return;
        }
        let mut key = KeyOf::new(index, self.max_parallelism);
        let aside = &mut self.aside;
        let mut each = |slot, sub: &[u8], value: &[u8]| {
            let (group, key) = key.of(slot);
            let need = 20 + key.len() + sub.len() + value.len();
            let fits = |p: &&mut Vec<u8>| p.len() + need <= p.capacity();
            if aside.back_mut().filter(fits).is_none() {
                aside.push_back(Vec::with_capacity(need.max(self.pace.piece_bytes)));
            }
            let Some(piece) = aside.back_mut() else {
                return;
            };
            for n in [
                part.section,
                group,
                key.len() as u32,
                sub.len() as u32,
                value.len() as u32,
            ] {
                piece.extend_from_slice(&n.to_le_bytes());
            }
            for bytes in [key, sub, value] {
                piece.extend_from_slice(bytes);
            }
        };
        let done = store.entries(&self.chosen, part.clock.as_ref(), &mut each);
        self.failed = self.failed.take().or(done.err());
    }
}

/// Writes the entries of a piece.
fn put_aside(piece: &[u8], into: &mut SnapshotWriter) {
    let mut rest = piece;
    while let Some((head, tail)) = rest.split_first_chunk::<20>() {
        let mut numbers = head.chunks_exact(4).map(|n| {
            let four: Option<[u8; 4]> = n.try_into().ok();
            four.map_or(0, u32::from_le_bytes)
        });
        let mut next = || numbers.next().unwrap_or(0);
        let (section, group) = (next(), next());
        rest = tail;
        let mut cut = || {
            let (part, tail) = rest.split_at_checked(next() as usize)?;
            rest = tail;
            Some(part)
        };
        let (Some(key), Some(sub), Some(value)) = (cut(), cut(), cut()) else {
            return;
        };
        into.put(section, group, Entry { key, sub, value });
    }
}

/// Encodes the keys of slots, one that comes again at once not again.
struct KeyOf<'a> {
    index: &'a KeyIndex,
    max_parallelism: Option<u32>,
    last: Option<u32>,
    group: u32,
    key: Vec<u8>,
}

impl<'a> KeyOf<'a> {
    /// Without a maximum parallelism there is no key.
    fn new(index: &'a KeyIndex, max_parallelism: Option<u32>) -> Self {
        Self {
            index,
            max_parallelism,
            last: None,
            group: NO_GROUP,
            key: Vec::new(),
        }
    }

    fn of(&mut self, slot: u32) -> (u32, &[u8]) {
        if let (Some(max), true) = (self.max_parallelism, self.last != Some(slot)) {
            self.key.clear();
            self.index.encoding(slot, &mut self.key);
            self.group = KeyGroup::of(hash_bytes(&self.key), max).0;
            self.last = Some(slot);
        }
        (self.group, &self.key)
    }
}
