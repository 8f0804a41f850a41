//! Times and keys that do not fit in memory, in the order of time: (time, key) -> number, kept by the backend.
//! Needs: keyed state with [room](KeyedState::room). Refuses: what the times mean, and which of them are in memory.
//!
//! One index has several *maps*, each a keyed state of its name, of kind map: below a salt for each of the task's key
//! groups stand the time and the key's fields, in the order of their encoding, which is that of time first; the value is
//! the number, which belongs to whoever uses the index. So a task finds its share wherever it goes on, and a savepoint
//! has the entries as a section that any backend reads ([`read_saved`](TimeIndex::read_saved)).
//!
//! What is known in memory is one bound for each key group, below which it has nothing: few bytes, however many entries
//! there are. [`floor`](TimeIndex::floor) is the least of them: nothing in the map is below it. It is not above the first
//! entry, and may be far below it: after a restart it is `i64::MIN` until the first [`take`](TimeIndex::take).
//!
//! An entry that is put where one is replaces its number. Calls take many rows at once: some thousand are best, since
//! each call is one write batch, or one multi-get. Nothing is kept in memory between calls, so that the barrier needs no
//! preparation: [`snapshot`](TimeIndex::snapshot) has exactly what was put before it.
//!
//! Entries that are taken leave the index at once. Whoever takes while a snapshot is being written has them in memory,
//! and the snapshot too: who also writes what it holds then, may write such an entry twice. Of two with one time and key
//! only one may be taken back after a restart; to put all again does that.

mod runs;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, Int64Array, UInt32Array, UInt64Array};
use pelton_model::barrier::SnapshotForm;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::{KeyGroup, KeyGroupRange, hashes};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::snapshot::{SectionKind, SectionSpec};
use pelton_model::{Error, Result};

use super::{
    EncodedRows, KeyedState, SectionReader, StateBackend, StateOwner, Touched, salts, section_of,
};
use crate::function::{EntryChange, EntryChanges, Slots, StateChange};
use crate::snapshot::{Restored, SnapshotWriter};
use runs::{Run, merged, one, timed};

/// The most entries that one scan of a key group reads, and the fewest that it asks for.
const SCANNED_MAX: usize = 4096;
const SCANNED_MIN: usize = 8;
/// Entries that are read at most for each that is to be taken: key groups have their earliest at different times.
const READ_FOR_ONE: usize = 4;
/// Bytes after which a [`take`](TimeIndex::take) has enough.
const TAKEN_BYTES: usize = 4 << 20;
/// Entries of a checkpoint that are decoded together.
const READ_AT_ONCE: usize = 1 << 10;

/// Entries: times in milliseconds, the columns of the keys' fields, numbers; all of one length.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    /// When.
    pub times: Vec<i64>,
    /// Whose: a column for each field of the key.
    pub keys: Vec<ArrayRef>,
    /// What is known of each.
    pub numbers: Vec<u64>,
}

impl Timed {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}

/// Sets of (time, key), each with a number.
pub struct TimeIndex {
    state: Box<dyn KeyedState>,
    key: Vec<Field>,
    groups: KeyGroupRange,
    max_parallelism: u32,
    /// By key group of the task.
    salts: Arc<[u32]>,
    maps: Vec<Map>,
    touched: Touched,
    /// Nothing of the snapshot at hand is left to write.
    saved: bool,
}

struct Map {
    name: String,
    /// By key group of the task.
    groups: Vec<Group>,
    floor: Option<i64>,
}

#[derive(Clone, Default)]
struct Group {
    /// There is nothing below; none where there is nothing at all.
    low: Option<i64>,
    /// The last that was taken, with its time: nothing is before it. So scans pass over what was removed.
    after: Option<(i64, Slots)>,
}

impl TimeIndex {
    /// An empty index with maps of these names, in a database of its own. `owner.key` are the fields of the keys of the
    /// entries; `owner.states` is not looked at. None where the backend keeps all in memory. Errors here and below: what
    /// the outside refuses.
    pub fn open(
        backend: &dyn StateBackend,
        owner: &StateOwner,
        names: &[&str],
    ) -> Result<Option<Self>> {
        let state = backend.keyed(&owner_of(owner, names))?;
        Ok(state
            .room()
            .is_some()
            .then(|| Self::over(state, owner, names)))
    }

    /// As [`open`](Self::open), where another state of the operator is: for those that need it late, or never.
    pub fn beside(
        state: &dyn KeyedState,
        owner: &StateOwner,
        names: &[&str],
    ) -> Result<Option<Self>> {
        let state = state.beside(&owner_of(owner, names))?;
        Ok(state.map(|state| Self::over(state, owner, names)))
    }

    fn over(state: Box<dyn KeyedState>, owner: &StateOwner, names: &[&str]) -> Self {
        let count = owner.key_groups.end.saturating_sub(owner.key_groups.start);
        let map = |name: &&str| Map {
            name: (*name).to_owned(),
            groups: vec![Group::default(); count as usize],
            floor: None,
        };
        Self {
            state,
            key: owner.key.clone(),
            groups: owner.key_groups,
            max_parallelism: owner.max_parallelism,
            salts: salts(&[], owner.key_groups, owner.max_parallelism),
            maps: names.iter().map(map).collect(),
            touched: Touched::default(),
            saved: true,
        }
    }

    /// The section of a map in snapshots, of keys with these fields.
    #[must_use]
    pub fn section(name: &str, key: &[Field]) -> SectionSpec {
        section_of(&state_key(), &map_state(name, key))
    }

    /// Whether a checkpoint has something of a map of this name.
    #[must_use]
    pub fn is_saved(from: &Restored<'_>, name: &str) -> bool {
        let is =
            |s: &SectionSpec| s.kind == SectionKind::Map && s.name == name && s.uid == from.uid;
        let filled = from
            .tasks()
            .any(|t| t.sections.iter().any(|s| s.entries > 0 && is(&s.spec)));
        filled || from.native().any(|(_, n)| n.sections.iter().any(&is))
    }

    /// Hands the task's entries of a map in a savepoint to `each`, some thousand at once, of any order; for who has no
    /// index. Errors: `StateMismatch` where its keys have other fields, `Corrupt`; those of `each`.
    pub fn read_saved(
        from: &Restored<'_>,
        name: &str,
        key: &[Field],
        mut each: impl FnMut(Timed) -> Result<()>,
    ) -> Result<()> {
        let section = Self::section(name, key).into();
        let is = |s: &SectionSpec| s.kind == SectionKind::Map && s.name == name;
        let Some(old) = from.sections().into_iter().find(|s| is(s)) else {
            return Ok(());
        };
        let reader = SectionReader::new(old, &section)?;
        let (mut subs, mut values) = (EncodedRows::default(), EncodedRows::default());
        let mut hand = |subs: &mut EncodedRows, values: &mut EncodedRows| -> Result<()> {
            if subs.is_empty() {
                return Ok(());
            }
            let some = timed(reader.subs(subs)?, &reader.values(values)?)?;
            subs.clear();
            values.clear();
            each(some)
        };
        from.entries(is, |_, _, entry| {
            subs.push(entry.sub);
            values.push(entry.value);
            match subs.len() < READ_AT_ONCE {
                true => Ok(()),
                false => hand(&mut subs, &mut values),
            }
        })?;
        hand(&mut subs, &mut values)
    }

    /// A time below which a map has nothing; none where it has nothing at all. Maps are named by their place in `names`,
    /// here and below.
    #[must_use]
    pub fn floor(&self, map: usize) -> Option<i64> {
        self.maps.get(map)?.floor
    }

    /// Bytes held, on disk for the most part.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes()
    }

    /// Puts entries, in place of those with the same time and key. Of several with the same, the last counts.
    pub fn put(&mut self, map: usize, entries: &Timed) -> Result<()> {
        let Timed {
            times,
            keys,
            numbers,
        } = entries;
        if times.is_empty() {
            return Ok(());
        }
        let places = self.touch(times, keys)?;
        if let Some(map) = self.maps.get_mut(map) {
            for (place, time) in places.into_iter().zip(times) {
                map.floor = Some(map.floor.map_or(*time, |f| f.min(*time)));
                if let Some(group) = map.groups.get_mut(place) {
                    group.low = Some(group.low.map_or(*time, |low| low.min(*time)));
                    group.after.take_if(|(after, _)| *time <= *after);
                }
            }
        }
        let numbers: ArrayRef = Arc::new(UInt64Array::from(numbers.clone()));
        self.change(map, EntryChange::Put, (times, keys), vec![numbers])
    }

    /// Removes entries, those that are there.
    pub fn remove(&mut self, map: usize, times: &[i64], keys: &[ArrayRef]) -> Result<()> {
        if times.is_empty() {
            return Ok(());
        }
        self.touch(times, keys)?;
        let none: ArrayRef = Arc::new(UInt64Array::from(Vec::<u64>::new()));
        self.change(map, EntryChange::Remove, (times, keys), vec![none])
    }

    /// The number of each, where it is there.
    pub fn get(
        &mut self,
        map: usize,
        times: &[i64],
        keys: &[ArrayRef],
    ) -> Result<Vec<Option<u64>>> {
        if times.is_empty() {
            return Ok(Vec::new());
        }
        self.touch(times, keys)?;
        let touched = &self.touched;
        let slot = |o: &u32| touched.slots.get(*o as usize).copied();
        let slots: Option<Vec<u32>> = touched.ordinals.iter().map(slot).collect();
        let slots = slots.ok_or_else(|| Error::bug("a key without a slot"))?;
        let map_keys = map_keys(times, keys);
        let found = self.state.map_values(map as u32, &slots, &map_keys)?;
        self.state.tidy(&|_| false)?;
        let numbers = found
            .columns
            .first()
            .map(|c| c.as_primitive::<UInt64Type>());
        let numbers = numbers.ok_or_else(|| Error::bug("an index without numbers"))?;
        let there = |row: usize| found.present.as_ref().is_none_or(|p| p.value(row));
        let number = |row: usize| there(row).then(|| numbers.value(row));
        Ok((0..times.len()).map(number).collect())
    }

    /// Takes the earliest entries up to a time, in the order of time, those of one time in the order of their numbers:
    /// about `most` or some more, less where they have many bytes or one key group has most of them; at least one, if
    /// there is one. No entry that is left is below the last that was taken (some may be at the same time), and none below
    /// [`floor`](Self::floor), which has risen to what is known now. Nothing taken: there is nothing up to that time.
    pub fn take(&mut self, map: usize, up_to: i64, most: usize) -> Result<Timed> {
        let Some(of) = self.maps.get(map) else {
            return Ok(Timed::default());
        };
        let lows = of.groups.iter().enumerate();
        let lows = lows.filter_map(|(place, g)| Some(Reverse((g.low?, place))));
        let mut open: BinaryHeap<Reverse<(i64, usize)>> = lows.collect();
        let first = (most / open.len().max(1)).clamp(SCANNED_MIN, SCANNED_MAX);
        // Where the scan of a key group goes on, and how many it asks for.
        let mut cursors: BTreeMap<usize, (Option<Slots>, usize)> = BTreeMap::new();
        let mut runs: Vec<Run> = Vec::new();
        let (mut rows, mut bytes, mut looked_at) = (0, 0, most);
        // What was not read is not below.
        let bound = loop {
            let Some(Reverse((low, place))) = open.peek().copied() else {
                break up_to;
            };
            if low > up_to {
                break up_to;
            }
            if rows >= looked_at || bytes >= TAKEN_BYTES {
                let below = |r: &Run| r.times.partition_point(|time| *time <= low);
                let found: usize = runs.iter().map(below).sum();
                let much = rows >= READ_FOR_ONE * most || bytes >= TAKEN_BYTES;
                if found >= most || found > 0 && much {
                    break low;
                }
                looked_at = rows + most / 4;
            }
            open.pop();
            let (after, limit) = match cursors.remove(&place) {
                Some((after, limit)) => (after, (limit * 2).min(SCANNED_MAX)),
                None => (self.after(map, place), first),
            };
            let run = self.scan(map, place, after, limit)?;
            let Some(last) = run.times.last().copied() else {
                // Nothing follows in this key group.
                self.set_low(map, place, None);
                continue;
            };
            self.set_low(map, place, Some(last));
            open.push(Reverse((last, place)));
            cursors.insert(place, (Some(one(&run.keys, run.keys.rows - 1)?), limit));
            rows += run.times.len();
            let columns = run.keys.columns.iter();
            bytes += columns.map(|c| c.get_buffer_memory_size()).sum::<usize>();
            runs.push(run);
        };
        self.settle(map, &runs, bound)?;
        let taken = merged(runs, bound)?;
        self.remove(map, &taken.times, &taken.keys)?;
        Ok(taken)
    }

    /// The barrier: what there is now is what the snapshot will have.
    pub fn snapshot(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        self.saved = false;
        self.state.snapshot(form, into)
    }

    /// Writes more of it; whether it is complete.
    pub fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        self.saved = self.saved || self.state.go_on_snapshot(into)?;
        Ok(self.saved)
    }

    /// It is not wanted any more.
    pub fn abort_snapshot(&mut self) {
        if !self.saved {
            self.state.abort_snapshot();
            self.saved = true;
        }
    }

    /// Takes what its maps had at a checkpoint, of the task's key groups; it is empty.
    pub fn restore(&mut self, from: &Restored<'_>) -> Result<()> {
        self.state.restore(from)?;
        for map in &mut self.maps {
            if Self::is_saved(from, &map.name) {
                map.floor = Some(i64::MIN);
                let unknown = Group {
                    low: map.floor,
                    after: None,
                };
                map.groups.fill(unknown);
            }
        }
        Ok(())
    }

    /// Touches the keys of the key groups of these rows; the places of those.
    fn touch(&mut self, times: &[i64], keys: &[ArrayRef]) -> Result<Vec<usize>> {
        let hashes = hashes(&self.key, keys, times.len())?;
        let place = |hash: u64| {
            let group = KeyGroup::of(hash, self.max_parallelism).0;
            group.checked_sub(self.groups.start).map(|p| p as usize)
        };
        let places: Option<Vec<usize>> = hashes.into_iter().map(place).collect();
        let places = places.ok_or_else(elsewhere)?;
        let salt = |place: &usize| self.salts.get(*place).copied();
        let salts: Option<Vec<u32>> = places.iter().map(salt).collect();
        self.touch_salts(salts.ok_or_else(elsewhere)?)?;
        Ok(places)
    }

    fn touch_salts(&mut self, salts: Vec<u32>) -> Result<()> {
        let rows = salts.len();
        let salts: ArrayRef = Arc::new(UInt32Array::from(salts));
        self.state.touch(&[salts], rows, &mut self.touched)
    }

    /// Changes entries of rows whose key groups were touched last.
    fn change(
        &mut self,
        map: usize,
        change: EntryChange,
        (times, keys): (&[i64], &[ArrayRef]),
        values: Vec<ArrayRef>,
    ) -> Result<()> {
        let rows = times.len();
        let change = StateChange {
            state: map as u32,
            marks: Vec::new(),
            values: Slots {
                rows: values.first().map_or(0, |c| c.len()),
                present: None,
                columns: values,
            },
            entries: Some(EntryChanges {
                changes: vec![change as u8; rows],
                ordinals: self.touched.ordinals.clone(),
                map_keys: Some(map_keys(times, keys)),
            }),
        };
        self.state.write(&self.touched.slots, &[change])?;
        self.state.tidy(&|_| false)
    }

    fn after(&self, map: usize, place: usize) -> Option<Slots> {
        let group = self.maps.get(map)?.groups.get(place)?;
        group.after.as_ref().map(|(_, after)| after.clone())
    }

    fn set_low(&mut self, map: usize, place: usize, low: Option<i64>) {
        let group = self.maps.get_mut(map).and_then(|m| m.groups.get_mut(place));
        if let Some(group) = group {
            group.low = low;
        }
    }

    /// More of one key group.
    fn scan(
        &mut self,
        map: usize,
        place: usize,
        after: Option<Slots>,
        limit: usize,
    ) -> Result<Run> {
        let salt = self.salts.get(place).copied().ok_or_else(elsewhere)?;
        self.touch_salts(vec![salt])?;
        let slot = self.touched.slots.first().copied().unwrap_or_default();
        let found = self.state.scan(map as u32, slot, after.as_ref(), limit)?;
        self.state.tidy(&|_| false)?;
        let rows = found.keys.rows;
        let Timed {
            times,
            keys,
            numbers,
        } = timed(found.keys.columns, &found.values.columns)?;
        let keys = Slots {
            rows,
            present: None,
            columns: keys,
        };
        Ok(Run {
            place,
            keys: map_keys_of(times.as_slice(), keys),
            times,
            numbers,
        })
    }

    /// What is known of key groups once all up to `bound` is taken out of these runs.
    fn settle(&mut self, map: usize, runs: &[Run], bound: i64) -> Result<()> {
        let Some(map) = self.maps.get_mut(map) else {
            return Ok(());
        };
        // The later of a key group come later, and say less of where it begins.
        for run in runs.iter().rev() {
            let Some(group) = map.groups.get_mut(run.place) else {
                continue;
            };
            let taken = run.times.partition_point(|time| *time <= bound);
            if let Some(left) = run.times.get(taken) {
                group.low = Some(*left);
            }
        }
        for run in runs {
            let taken = run.times.partition_point(|time| *time <= bound);
            let last = taken.checked_sub(1);
            let last = last.and_then(|row| Some((row, *run.times.get(row)?)));
            if let (Some((row, time)), Some(group)) = (last, map.groups.get_mut(run.place)) {
                group.after = Some((time, one(&run.keys, row)?));
            }
        }
        map.floor = map.groups.iter().filter_map(|g| g.low).min();
        Ok(())
    }
}

fn owner_of(owner: &StateOwner, names: &[&str]) -> StateOwner {
    let states = names.iter().map(|name| map_state(name, &owner.key));
    StateOwner {
        key: state_key().to_vec(),
        states: states.collect(),
        ..owner.clone()
    }
}

/// The fields of the state's key.
fn state_key() -> [Field; 1] {
    [Field::new("salt", DataType::U32)]
}

fn map_state(name: &str, key: &[Field]) -> StateSpec {
    let time = [Field::new("time", DataType::I64)];
    StateSpec {
        name: name.to_owned(),
        kind: StateKind::Map,
        map_key: Some(Schema::new([&time[..], key].concat())),
        schema: Schema::new(vec![Field::new("number", DataType::U64)]),
        lazy: true,
        ttl: None,
        past: Default::default(),
    }
}

fn map_keys(times: &[i64], keys: &[ArrayRef]) -> Slots {
    let keys = Slots {
        rows: times.len(),
        present: None,
        columns: keys.to_vec(),
    };
    map_keys_of(times, keys)
}

fn map_keys_of(times: &[i64], mut keys: Slots) -> Slots {
    let times: ArrayRef = Arc::new(Int64Array::from(times.to_vec()));
    keys.columns.insert(0, times);
    keys
}

fn elsewhere() -> Error {
    Error::bug("an entry came to a task that has not its key group")
}

#[cfg(test)]
mod tests;
