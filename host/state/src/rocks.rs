//! Keyed state of one operator's task.
//!
//! Values are cached by slot: they are read from the store when their key is first met, and written to it when the
//! cache needs the room, many at once. So what fits the cache never reaches the store. Lists and maps are read from the
//! store each time, and what changes in them is written with the batch.
//!
//! The cache gives up what was not used since its hand last came by. A slot that a timer holds keeps its number, and
//! is passed over.

mod chain;
mod restore;
mod room;
mod snapshot;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use pelton_engine::function::{Entries, Lists, Slots, StateChange};
use pelton_engine::snapshot::{Restored, SnapshotWriter};
use pelton_engine::state::{
    Expiry, KeyIndex, KeyedState, StateOwner, StateTime, Touched, key_text,
};
use pelton_model::Result;
use pelton_model::barrier::SnapshotForm;
use pelton_model::encoding::decode;
use pelton_model::key::KeyGroup;
use rocksdb::WriteBatch;

use crate::backend::Shared;
use crate::entries::EntryState;
use crate::fault::{another_kind, misfit};
use crate::layout::{Place, Shape};
use crate::store::{Adopted, Store};
use crate::values::{StoreKeys, Values};
use chain::Chain;
use room::{TOUCHED, USED};
use snapshot::Snapshot;

/// The most entries that are looked at for the largest keys.
const LOOKED_AT: usize = 200_000;

/// Keyed state with RocksDB behind it.
pub(crate) struct RocksState {
    store: Arc<Store>,
    owner: StateOwner,
    place: Place,
    index: KeyIndex,
    /// By slot.
    used: Vec<u8>,
    states: Vec<State>,
    /// Where the search for slots to give up goes on.
    hand: u32,
    /// Whether values expire; where the search for them goes on, and keys touched since its last step.
    expires: bool,
    swept: u32,
    touched: usize,
    /// Bytes that the store has been told of.
    held: u64,
    /// Bytes in the store, and steps since they were asked for.
    stored: u64,
    steps: u32,
    time: Option<StateTime>,
    snapshot: Option<Snapshot>,
    /// There while nothing has reached the store since the last cut.
    chain: Option<Chain>,
    /// Deltas that were begun, and slots whose values are gone, of which there may be a value in one.
    deltas: u64,
    gone: Vec<u32>,
    /// Whether there ever was a snapshot, and what was written to caches since they were clean: slots and bytes.
    snapshots: bool,
    dirtied: (usize, usize),
    /// Kept for their memory.
    keys: StoreKeys,
    unknown: Vec<u32>,
    encoded: Vec<u8>,
}

enum State {
    Values(Box<Values>),
    Entries(Box<EntryState>),
}

impl RocksState {
    /// State in a database of its own, that begins empty or with these files.
    pub(crate) fn open(
        shared: Arc<Shared>,
        owner: StateOwner,
        adopted: Option<Adopted>,
    ) -> Result<Self> {
        let stored = adopted.is_some();
        let (store, families) = Store::open(&shared, &owner, adopted)?;
        let mut states = Vec::with_capacity(owner.states.len());
        for (spec, family) in owner.states.iter().zip(families) {
            states.push(if spec.kind.is_value_like() {
                let mut values = Values::new(spec, family);
                if stored {
                    values.set_stored();
                }
                State::Values(Box::new(values))
            } else {
                let mut entries = EntryState::new(spec, family);
                entries.number_from(store.sequence());
                State::Entries(Box::new(entries))
            });
        }
        shared.enter();
        // Lists and maps are written through.
        let through = states.iter().any(|s| matches!(s, State::Entries(_)));
        let chain = (!stored && !through).then(Chain::default);
        Ok(Self {
            store,
            place: match owner.key.is_empty() {
                true => Place::Task(owner.task),
                false => Place::Keyed {
                    max_parallelism: owner.max_parallelism,
                },
            },
            index: KeyIndex::new(owner.key.clone(), 0),
            used: Vec::new(),
            states,
            hand: 0,
            expires: owner.states.iter().any(|s| s.ttl.is_some()),
            owner,
            swept: 0,
            touched: 0,
            held: 0,
            stored: 0,
            steps: 0,
            time: None,
            snapshot: None,
            chain,
            deltas: 0,
            gone: Vec::new(),
            snapshots: false,
            dirtied: (0, 0),
            keys: StoreKeys::default(),
            unknown: Vec::new(),
            encoded: Vec::new(),
        })
    }

    /// Finds the values of slots in one state that are not cached.
    fn load(&mut self, state: usize, slots: &[u32]) -> Result<()> {
        let Some(State::Values(values)) = self.states.get_mut(state) else {
            return Err(another_kind());
        };
        values.unknown(slots, &mut self.unknown);
        if self.unknown.is_empty() {
            return Ok(());
        }
        store_keys(
            &self.index,
            self.place,
            &self.unknown,
            &mut self.encoded,
            &mut self.keys,
        );
        values.load(&self.keys, &self.store)
    }

    /// Before slots are read: what changes by that.
    fn save_stamps(&mut self, slots: &[u32]) -> Result<()> {
        let renews = |s: &State| matches!(s, State::Values(v) if v.renews());
        match self.expires && self.states.iter().any(renews) {
            true => self.save(slots),
            false => Ok(()),
        }
    }

    /// What keys of lists or maps begin with, for each slot.
    fn prefixes(&self, slots: &[u32]) -> Vec<Vec<u8>> {
        let mut key = Vec::new();
        let prefix = |slot: &u32| {
            key.clear();
            self.index.encoding(*slot, &mut key);
            let mut prefix = Vec::with_capacity(key.len() + 24);
            self.place.entry_prefix(&key, &mut prefix);
            prefix
        };
        slots.iter().map(prefix).collect()
    }

    fn entries(&mut self, state: u32) -> Result<&mut EntryState> {
        match self.states.get_mut(state as usize) {
            Some(State::Entries(e)) => Ok(e),
            _ => Err(another_kind()),
        }
    }
}

impl State {
    fn shape(&self) -> Shape {
        match self {
            Self::Values(_) => Shape::Value,
            Self::Entries(e) => e.shape(),
        }
    }

    fn expiry(&self) -> Option<Expiry> {
        match self {
            Self::Values(v) => v.expiry(),
            Self::Entries(e) => e.expiry(),
        }
    }

    fn values(&mut self) -> Option<&mut Values> {
        match self {
            Self::Values(v) => Some(v),
            Self::Entries(_) => None,
        }
    }
}

fn store_keys(
    index: &KeyIndex,
    place: Place,
    slots: &[u32],
    encoded: &mut Vec<u8>,
    keys: &mut StoreKeys,
) {
    put_keys(index, place, slots, encoded, keys);
    keys.sort();
}

/// As [`store_keys`], in the order of the slots.
fn put_keys(
    index: &KeyIndex,
    place: Place,
    slots: &[u32],
    encoded: &mut Vec<u8>,
    keys: &mut StoreKeys,
) {
    keys.clear();
    for slot in slots {
        encoded.clear();
        index.encoding(*slot, encoded);
        keys.push(*slot, |out| place.value_key(encoded, out));
    }
}

/// As many map keys as slots, none of them missing.
fn check_pairs(slots: &[u32], map_keys: &Slots) -> Result<()> {
    if slots.len() == map_keys.rows && map_keys.present.is_none() {
        return Ok(());
    }
    Err(misfit())
}

impl KeyedState for RocksState {
    fn snapshot(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        self.begin(form, into)
    }

    fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        self.go_on(into)
    }

    fn abort_snapshot(&mut self) {
        self.give_up();
    }

    fn restore(&mut self, from: &Restored<'_>) -> Result<()> {
        self.take_back(from)
    }

    fn at(&mut self, time: StateTime) {
        self.time = Some(time);
        // What a snapshot is to have must not be merged away: after a restart it is the time of the barrier again.
        let held = self.snapshot.is_some();
        for state in &mut self.states {
            match state {
                State::Values(v) => v.at(time, held),
                State::Entries(e) => e.at(time, held),
            }
        }
    }

    fn touch(&mut self, key: &[ArrayRef], rows: usize, touched: &mut Touched) -> Result<()> {
        self.index.touch(key, rows, touched)?;
        self.touched += touched.slots.len();
        let slots = self.index.slots();
        if self.used.len() < slots {
            self.used.resize(slots, 0);
        }
        for slot in &touched.slots {
            if let Some(used) = self.used.get_mut(*slot as usize) {
                *used = USED | TOUCHED;
            }
        }
        for state in 0..self.states.len() {
            let Some(State::Values(values)) = self.states.get_mut(state) else {
                continue;
            };
            values.grow(slots);
            if values.eager {
                self.load(state, &touched.slots)?;
            }
        }
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
        let eager = |state: &State, slot: u32| match state {
            State::Values(v) if v.eager => v.size_of(slot),
            _ => 0,
        };
        let mut sum = 0;
        let fits = |slot: &&u32| {
            sum += self.index.size_of(**slot);
            sum += self.states.iter().map(|s| eager(s, **slot)).sum::<usize>();
            sum <= bytes
        };
        let count = slots.iter().take_while(fits).count();
        count.max(1).min(slots.len())
    }

    fn read(&mut self, slots: &[u32]) -> Result<Vec<Slots>> {
        self.save_stamps(slots)?;
        // Keys of timers were touched in some former batch.
        for state in 0..self.states.len() {
            if matches!(self.states.get(state), Some(State::Values(v)) if v.eager) {
                self.load(state, slots)?;
            }
        }
        let values = self.states.iter_mut().filter_map(State::values);
        values.filter(|v| v.eager).map(|v| v.read(slots)).collect()
    }

    fn values(&mut self, state: u32, slots: &[u32]) -> Result<Slots> {
        self.save_stamps(slots)?;
        self.load(state as usize, slots)?;
        match self.states.get_mut(state as usize) {
            Some(State::Values(v)) => v.read(slots),
            _ => Err(another_kind()),
        }
    }

    fn lists(
        &mut self,
        state: u32,
        slots: &[u32],
        map_keys: Option<&Slots>,
        bytes: usize,
    ) -> Result<Lists> {
        if let Some(keys) = map_keys {
            check_pairs(slots, keys)?;
        }
        let prefixes = self.prefixes(slots);
        let store = self.store.clone();
        self.entries(state)?
            .lists(&store, prefixes, map_keys, bytes)
    }

    fn map_values(&mut self, state: u32, slots: &[u32], map_keys: &Slots) -> Result<Slots> {
        check_pairs(slots, map_keys)?;
        let prefixes = self.prefixes(slots);
        let store = self.store.clone();
        self.entries(state)?.map_values(&store, prefixes, map_keys)
    }

    fn maps(
        &mut self,
        state: u32,
        slots: &[u32],
        each_max: usize,
        bytes: usize,
    ) -> Result<Entries> {
        let prefixes = self.prefixes(slots);
        let store = self.store.clone();
        self.entries(state)?
            .maps(&store, &prefixes, each_max, bytes)
    }

    fn scan(
        &mut self,
        state: u32,
        slot: u32,
        after: Option<&Slots>,
        limit: usize,
    ) -> Result<Entries> {
        let prefixes = self.prefixes(&[slot]);
        let prefix = prefixes.first().map(Vec::as_slice).unwrap_or_default();
        let store = self.store.clone();
        self.entries(state)?.scan(&store, prefix, after, limit)
    }

    fn write(&mut self, slots: &[u32], changes: &[StateChange]) -> Result<()> {
        self.save(slots)?;
        if self.states.len() > 1 {
            self.note_dirty(slots);
        }
        let mut batch = WriteBatch::default();
        let mut prefixes = None;
        for change in changes {
            let entries = match self.states.get(change.state as usize) {
                Some(State::Entries(_)) => true,
                Some(State::Values(_)) => false,
                None => return Err(another_kind()),
            };
            if entries && prefixes.is_none() {
                prefixes = Some(self.prefixes(slots));
            }
            match (self.states.get_mut(change.state as usize), &change.entries) {
                (Some(State::Values(v)), None) => v.write(slots, change)?,
                (Some(State::Entries(e)), Some(entries)) => {
                    let prefixes = prefixes.as_deref().unwrap_or_default();
                    e.write(&self.store, prefixes, entries, &change.values, &mut batch)?;
                }
                (Some(State::Entries(_)), None) if change.marks.is_empty() => {}
                _ => return Err(misfit()),
            }
        }
        self.store.write(batch)
    }

    fn forget(&mut self, slots: &[u32], pinned: &dyn Fn(u32) -> bool) {
        slots
            .iter()
            .for_each(|slot| self.drop_if_vacant(*slot, pinned));
    }

    fn tidy(&mut self, pinned: &dyn Fn(u32) -> bool) -> Result<()> {
        self.sweep(pinned);
        self.free_gone(pinned);
        let mut entries = false;
        for state in &mut self.states {
            if let State::Entries(e) = state {
                e.flush(&self.store)?;
                entries = true;
            }
        }
        if self.snapshots && entries {
            self.keep_clean()?;
        }
        loop {
            let excess = self.excess();
            if excess == 0 {
                break;
            }
            let victims = self.victims(excess, pinned);
            if !victims.is_empty() {
                self.evict(&victims)?;
            } else if self.is_cleaning() {
                self.finish_cleaning()?;
            } else {
                break;
            }
        }
        self.measure()?;
        let held = self.cached_bytes();
        self.store.shared().hold(self.held, held);
        self.held = held;
        Ok(())
    }

    fn largest(&mut self, count: usize) -> Result<Vec<(String, u64)>> {
        let mut found: HashMap<Vec<u8>, u64> = HashMap::new();
        for slot in 0..self.index.slots() as u32 {
            let size = |s: &State| match s {
                State::Values(v) => v.size_of(slot) as u64,
                State::Entries(_) => 0,
            };
            let bytes = self.states.iter().map(size).sum::<u64>();
            if bytes > 0 {
                let mut key = Vec::new();
                self.index.encoding(slot, &mut key);
                *found.entry(key).or_default() += bytes;
            }
        }
        let own = |number: u32| match self.place {
            Place::Keyed { .. } => self.owner.key_groups.contains(KeyGroup(number)),
            Place::Task(task) => task == number,
        };
        for state in &self.states {
            if let State::Entries(e) = state {
                e.sizes(&self.store, LOOKED_AT, &own, &mut found)?;
            }
        }
        let mut all: Vec<(Vec<u8>, u64)> = found.into_iter().collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(count);
        let columns = decode(&self.owner.key, all.iter().map(|(key, _)| key.as_slice()))?;
        let text = |(row, (_, bytes)): (usize, &(Vec<u8>, u64))| {
            (key_text(&self.owner.key, &columns, row), *bytes)
        };
        Ok(all.iter().enumerate().map(text).collect())
    }

    fn room(&self) -> Option<u64> {
        Some(self.store.shared().share())
    }

    fn key_bytes(&self) -> u64 {
        self.cached_bytes() / (self.index.slots() as u64).max(1)
    }

    fn beside(&self, owner: &StateOwner) -> Result<Option<Box<dyn KeyedState>>> {
        let state = Self::open(self.store.shared().clone(), owner.clone(), None)?;
        Ok(Some(Box::new(state)))
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn bytes(&self) -> u64 {
        self.held + self.stored
    }
}

impl Drop for RocksState {
    fn drop(&mut self) {
        self.store.shared().leave(self.held);
    }
}
