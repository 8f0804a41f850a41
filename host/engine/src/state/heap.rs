//! State in memory: an index of keys, and for each state what it has by slot.
//!
//! Where values expire, each has a stamp. What has expired is not read any more; values and lists are removed when their
//! key is next touched, all by a sweep through the slots that goes on a little at each [`tidy`](KeyedState::tidy).
//! Values that are shipped with a batch count as read.

mod changes;
mod lists;
mod maps;
mod packed;
mod restore;
mod snapshot;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use pelton_model::barrier::SnapshotForm;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Field;
use pelton_model::{Error, ErrorCode, Result};

use super::rows::misfit;
use super::{Expiry, KeyIndex, KeyedState, StateTime, Touched, ValueStore, key_text};
use crate::function::{Entries, Lists, Mark, Slots, StateChange};
use crate::snapshot::{Restored, SnapshotWriter};
use changes::{write_list, write_map};
use lists::ListStore;
use maps::MapStore;
use packed::CHUNK;
use snapshot::Frozen;

/// The most bytes that one read gives: less than what an array of strings can hold.
const READ_BYTES_MAX: usize = 1 << 30;
/// The most bytes of one answer of entries, beyond the first.
const SCAN_BYTES_MAX: usize = 4 << 20;
/// Slots that one step of the sweep looks at, beside one for every two that were touched.
const SWEPT: usize = 64;

/// State in memory.
#[derive(Debug)]
pub struct HeapState {
    key: Vec<Field>,
    specs: Vec<StateSpec>,
    max_parallelism: u32,
    index: KeyIndex,
    states: Vec<Store>,
    /// The snapshot that is being written.
    frozen: Option<Box<Frozen>>,
    /// Whether values expire in any state.
    expires: bool,
    /// Where the sweep goes on, and keys touched since its last step.
    swept: u32,
    touched: usize,
}

/// What a state has, by slot.
#[derive(Debug)]
enum Store {
    Values(Values),
    Lists(ListStore),
    Maps(MapStore),
}

impl Store {
    fn new(spec: &StateSpec) -> Self {
        if spec.map_key.is_some() {
            Self::Maps(MapStore::new(spec))
        } else if spec.kind.is_list() {
            Self::Lists(ListStore::new(spec))
        } else {
            Self::Values(Values {
                eager: spec.is_eager(),
                values: ValueStore::new(&spec.schema),
                expiry: spec.ttl.map(Expiry::new),
                stamps: Vec::new(),
            })
        }
    }

    fn has(&self, slot: u32) -> bool {
        match self {
            Self::Values(v) => v.values.has(slot),
            Self::Lists(l) => l.has(slot),
            Self::Maps(m) => m.has(slot),
        }
    }

    fn size_of(&self, slot: u32) -> usize {
        match self {
            Self::Values(v) if v.values.has(slot) => v.values.size_of(slot),
            Self::Values(_) => 0,
            Self::Lists(l) => l.size_of(slot),
            Self::Maps(m) => m.size_of(slot),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Values(v) => v.values.bytes() + v.stamps.capacity() as u64 * 8,
            Self::Lists(l) => l.bytes(),
            Self::Maps(m) => m.bytes(),
        }
    }

    fn expiry(&mut self) -> Option<&mut Expiry> {
        match self {
            Self::Values(v) => v.expiry.as_mut(),
            Self::Lists(l) => l.expiry.as_mut(),
            Self::Maps(m) => m.expiry.as_mut(),
        }
    }

    /// Removes what has expired under a slot; of a map, which would have to be walked, nothing.
    fn expire(&mut self, slot: u32) {
        match self {
            Self::Values(v) => v.expire(slot),
            Self::Lists(l) => l.expire(slot),
            Self::Maps(_) => {}
        }
    }

    /// Fetches what will be looked at next.
    fn fetch(&self, slots: &[u32]) {
        match self {
            Self::Values(_) => {}
            Self::Lists(l) => l.fetch(slots),
            Self::Maps(m) => m.fetch(slots),
        }
    }

    /// Removes some of what has expired under a slot; whether all was looked at.
    fn sweep(&mut self, slot: u32) -> bool {
        match self {
            Self::Maps(m) => m.sweep(slot),
            other => {
                other.expire(slot);
                true
            }
        }
    }

    fn write(&mut self, slots: &[u32], change: &StateChange) -> Result<()> {
        match (self, &change.entries) {
            (Self::Values(v), None) => v.write(slots, change),
            (Self::Values(_), Some(_)) => Err(misfit()),
            (_, None) if change.marks.is_empty() => Ok(()),
            (_, None) => Err(misfit()),
            (Self::Lists(l), Some(entries)) => write_list(l, slots, entries, &change.values),
            (Self::Maps(m), Some(entries)) => write_map(m, slots, entries, &change.values),
        }
    }
}

/// Values, one a slot.
#[derive(Debug)]
struct Values {
    eager: bool,
    values: ValueStore,
    expiry: Option<Expiry>,
    /// By slot, where values expire.
    stamps: Vec<i64>,
}

impl Values {
    fn read(&mut self, slots: &[u32]) -> Result<Slots> {
        let Some(expiry) = self.expiry else {
            return self.values.gather(slots);
        };
        if expiry.renews() {
            for slot in slots {
                if let Some(stamp) = self.stamps.get_mut(*slot as usize)
                    && !expiry.is_over(*stamp)
                {
                    *stamp = expiry.stamp();
                }
            }
        }
        let mut got = self.values.gather(slots)?;
        let hidden = |slot: &u32| {
            let stamp = self.stamps.get(*slot as usize);
            stamp.is_some_and(|stamp| expiry.hides(*stamp))
        };
        if slots.iter().any(hidden) {
            let had = |i: usize| got.present.as_ref().is_none_or(|p| p.value(i));
            let seen = |i: usize| slots.get(i).is_some_and(|s| had(i) && !hidden(s));
            got.present = Some(BooleanBuffer::collect_bool(slots.len(), seen));
        }
        Ok(got)
    }

    fn write(&mut self, slots: &[u32], change: &StateChange) -> Result<()> {
        self.values.scatter(slots, &change.marks, &change.values)?;
        if let Some(expiry) = &self.expiry {
            let stamp = expiry.stamp();
            let set = |(_, mark): &(&u32, &u8)| **mark == Mark::Set as u8;
            let set = slots.iter().zip(&change.marks).filter(set);
            self.set_stamps(set.map(|(slot, _)| (slot, stamp)));
        }
        Ok(())
    }

    /// Sets the stamps of slots, where values expire.
    fn set_stamps<'a>(&mut self, stamps: impl Iterator<Item = (&'a u32, i64)>) {
        if self.expiry.is_none() {
            return;
        }
        for (slot, stamp) in stamps {
            let slot = *slot as usize;
            if self.stamps.len() <= slot {
                self.stamps.resize(slot + 1, i64::MIN);
            }
            if let Some(place) = self.stamps.get_mut(slot) {
                *place = stamp;
            }
        }
    }

    /// Whether what a slot has is over.
    fn is_stale(&self, slot: u32) -> bool {
        let stamp = self
            .stamps
            .get(slot as usize)
            .filter(|_| self.values.has(slot));
        let (Some(expiry), Some(stamp)) = (&self.expiry, stamp) else {
            return false;
        };
        expiry.is_over(*stamp)
    }

    fn expire(&mut self, slot: u32) {
        if let (Some(expiry), Some(stamp)) = (&self.expiry, self.stamps.get(slot as usize))
            && expiry.is_over(*stamp)
        {
            self.values.clear(slot);
        }
    }
}

fn another_kind() -> Error {
    Error::new(
        ErrorCode::BadReply,
        "a state that is not there, or of another kind",
    )
}

fn too_large(what: &str, bytes: usize) -> Error {
    let message = format!(
        "{what} has {bytes} bytes, more than the {READ_BYTES_MAX} that can be read at once"
    );
    Error::new(ErrorCode::StateLimit, message)
        .help("keep less under each key, or a map, which is read in parts")
}

impl HeapState {
    /// No keys yet. `max_parallelism` is the job's number of key groups.
    #[must_use]
    pub fn new(key: Vec<Field>, states: &[StateSpec], max_parallelism: u32) -> Self {
        Self {
            index: KeyIndex::new(key.clone(), 0),
            key,
            specs: states.to_vec(),
            max_parallelism,
            states: states.iter().map(Store::new).collect(),
            frozen: None,
            expires: states.iter().any(|s| s.ttl.is_some()),
            swept: 0,
            touched: 0,
        }
    }

    fn map(&mut self, state: u32) -> Result<&mut MapStore> {
        match self.states.get_mut(state as usize) {
            Some(Store::Maps(m)) => Ok(m),
            _ => Err(another_kind()),
        }
    }
}

/// As many map keys as slots.
fn check_pairs(slots: &[u32], map_keys: &Slots) -> Result<()> {
    if slots.len() == map_keys.rows && is_full(map_keys) {
        return Ok(());
    }
    Err(misfit())
}

fn is_full(slots: &Slots) -> bool {
    let missing = |p: &BooleanBuffer| p.count_set_bits() < p.len();
    !slots.present.as_ref().is_some_and(missing)
}

impl KeyedState for HeapState {
    fn snapshot(&mut self, _: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        self.freeze(into)
    }

    fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        self.write_frozen(into)
    }

    fn abort_snapshot(&mut self) {
        self.frozen = None;
    }

    fn restore(&mut self, from: &Restored<'_>) -> Result<()> {
        self.take_back(from)
    }

    fn at(&mut self, time: StateTime) {
        if self.expires {
            let clocks = self.states.iter_mut().filter_map(Store::expiry);
            clocks.for_each(|e| e.at(time));
        }
    }

    fn touch(&mut self, key: &[ArrayRef], rows: usize, touched: &mut Touched) -> Result<()> {
        self.index.touch(key, rows, touched)?;
        self.touched += touched.slots.len();
        Ok(())
    }

    fn keys(&self, slots: &[u32]) -> Result<Slots> {
        Ok(Slots {
            rows: slots.len(),
            present: None,
            columns: self.index.columns(slots)?,
        })
    }

    fn affordable(&self, slots: &[u32], bytes: usize) -> usize {
        let eager: Vec<&ValueStore> = self.states.iter().filter_map(eager).collect();
        let each: Option<usize> = eager.iter().map(|s| s.width()).sum();
        if let Some(each) = each.filter(|_| self.index.is_plain()) {
            let most = bytes.checked_div(each).unwrap_or(slots.len());
            return most.max(1).min(slots.len());
        }
        let mut sum = 0;
        let fits = |slot: &&u32| {
            sum += self.index.size_of(**slot);
            sum += eager.iter().map(|s| s.size_of(**slot)).sum::<usize>();
            sum <= bytes
        };
        slots
            .iter()
            .take_while(fits)
            .count()
            .max(1)
            .min(slots.len())
    }

    fn read(&mut self, slots: &[u32]) -> Result<Vec<Slots>> {
        if self.frozen.is_some() {
            for state in 0..self.states.len() as u32 {
                self.save_renewed(state, slots);
            }
        }
        let values = self.states.iter_mut().filter_map(|s| match s {
            Store::Values(v) if v.eager => Some(v),
            _ => None,
        });
        values.map(|v| v.read(slots)).collect()
    }

    fn values(&mut self, state: u32, slots: &[u32]) -> Result<Slots> {
        self.save_renewed(state, slots);
        let Some(Store::Values(v)) = self.states.get_mut(state as usize) else {
            return Err(another_kind());
        };
        let bytes = slots.iter().map(|s| v.values.size_of(*s)).sum();
        if bytes > READ_BYTES_MAX {
            return Err(too_large("what a call asks of a state", bytes));
        }
        v.read(slots)
    }

    fn lists(
        &mut self,
        state: u32,
        slots: &[u32],
        map_keys: Option<&Slots>,
        bytes: usize,
    ) -> Result<Lists> {
        self.save_renewed(state, slots);
        match (self.states.get_mut(state as usize), map_keys) {
            (Some(Store::Lists(l)), None) => l.read(slots, bytes),
            (Some(Store::Maps(m)), Some(keys)) if m.of_lists => {
                check_pairs(slots, keys)?;
                m.lists(slots, keys, bytes)
            }
            _ => Err(another_kind()),
        }
    }

    fn map_values(&mut self, state: u32, slots: &[u32], map_keys: &Slots) -> Result<Slots> {
        self.save_renewed(state, slots);
        let map = self.map(state)?;
        if map.of_lists {
            return Err(another_kind());
        }
        check_pairs(slots, map_keys)?;
        map.values(slots, map_keys)
    }

    fn maps(
        &mut self,
        state: u32,
        slots: &[u32],
        each_max: usize,
        bytes: usize,
    ) -> Result<Entries> {
        self.save_renewed(state, slots);
        let map = self.map(state)?;
        if map.of_lists {
            return Err(another_kind());
        }
        map.whole(slots, each_max, bytes)
    }

    fn scan(
        &mut self,
        state: u32,
        slot: u32,
        after: Option<&Slots>,
        limit: usize,
    ) -> Result<Entries> {
        self.save_renewed(state, &[slot]);
        if let Some(after) = after {
            check_pairs(&[slot], after)?;
        }
        self.map(state)?.scan(slot, after, limit, SCAN_BYTES_MAX)
    }

    fn write(&mut self, slots: &[u32], changes: &[StateChange]) -> Result<()> {
        if self.frozen.is_some() {
            self.save_changed(slots, changes);
        }
        for change in changes {
            let state = self.states.get_mut(change.state as usize);
            state.ok_or_else(another_kind)?.write(slots, change)?;
        }
        Ok(())
    }

    fn forget(&mut self, slots: &[u32], pinned: &dyn Fn(u32) -> bool) {
        for slot in slots {
            if self.expires {
                self.save_stale(*slot, false);
                self.states.iter_mut().for_each(|s| s.expire(*slot));
            }
            if !self.states.iter().any(|s| s.has(*slot)) && !pinned(*slot) {
                self.index.remove(*slot);
            }
        }
    }

    fn tidy(&mut self, pinned: &dyn Fn(u32) -> bool) -> Result<()> {
        if !self.expires {
            return Ok(());
        }
        let (mut whole, mut steps) = (0, SWEPT + self.touched / 2);
        self.touched = 0;
        while steps > 0 && whole < self.index.slots() {
            steps -= 1;
            if self.swept as usize >= self.index.slots() {
                self.swept = 0;
            }
            let slot = self.swept;
            if whole % CHUNK == 0 {
                let next: [u32; CHUNK] = std::array::from_fn(|i| slot + i as u32);
                self.states.iter().for_each(|s| s.fetch(&next));
            }
            if self.states.iter().any(|s| s.has(slot)) {
                self.save_stale(slot, true);
                let mut all = true;
                for state in &mut self.states {
                    all &= state.sweep(slot);
                }
                if !all {
                    continue;
                }
                if !self.states.iter().any(|s| s.has(slot)) && !pinned(slot) {
                    self.index.remove(slot);
                }
            }
            self.swept += 1;
            whole += 1;
        }
        Ok(())
    }

    fn largest(&mut self, count: usize) -> Result<Vec<(String, u64)>> {
        let mut most = BinaryHeap::new();
        for slot in 0..self.index.slots() as u32 {
            let bytes: usize = self.states.iter().map(|s| s.size_of(slot)).sum();
            if bytes > 0 {
                most.push(Reverse((bytes + self.index.size_of(slot), slot)));
                if most.len() > count {
                    most.pop();
                }
            }
        }
        let most = most.into_sorted_vec();
        let key = |Reverse((bytes, slot)): &Reverse<(usize, u32)>| {
            let columns = self.index.columns(&[*slot])?;
            Ok((key_text(&self.key, &columns, 0), *bytes as u64))
        };
        most.iter().map(key).collect()
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn bytes(&self) -> u64 {
        self.index.bytes() + self.states.iter().map(Store::bytes).sum::<u64>()
    }
}

fn eager(store: &Store) -> Option<&ValueStore> {
    match store {
        Store::Values(v) if v.eager => Some(&v.values),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
