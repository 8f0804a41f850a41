//! Slices that do not fit in memory: a keyed state has them, a map for each slice and key group.
//!
//! A slice that has left memory begins anew there: what the state has under a key is read when the key comes again, and
//! is older than what memory has. So nothing is merged that would not be in memory. (Sums of floats over several slices
//! may differ in their last bits from those in memory, where what windows share is added up before.) In the state the key is the slice with a salt, chosen so that it is in the key group
//! of the keys below it: a task finds its share wherever it goes on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow_array::{ArrayRef, TimestampMillisecondArray, UInt32Array};
use arrow_select::take::take;
use pelton_model::encoding::decode;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::{KeyGroup, KeyGroupRange, hashes};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, Result};

use crate::function::{EntryChange, EntryChanges, Slots, StateChange};
use crate::operators::process::StatePlace;
use crate::operators::window::function::Pane;
use crate::operators::window::saved::{Codec, Form, SPILLED};
use crate::state::{KeyIndex, KeyedState, RowSet, StateOwner, Touched, salts};

/// Entries that are written or read at once.
const CHUNK: usize = 4096;
/// Entries that go into the state between two batches, and that are removed from it.
const ENTRIES_A_BATCH: usize = 4 * CHUNK;

/// Slices in a keyed state.
pub(super) struct Spill {
    pub(super) state: Box<dyn KeyedState>,
    key: Vec<Field>,
    codec: Codec,
    groups: KeyGroupRange,
    max_parallelism: u32,
    /// Slices that it has something of, with the salt of each of the task's key groups.
    slices: BTreeMap<i64, Arc<[u32]>>,
    /// A pane on its way from memory.
    leaving: Option<Leaving>,
    /// Slices that are over, and still to be removed.
    gone: VecDeque<Gone>,
    touched: Touched,
    /// The state's part of the snapshot at hand is written.
    pub(super) saved: bool,
}

struct Leaving {
    start: i64,
    pane: Arc<Pane>,
    /// The first slot that is not written.
    next: usize,
}

struct Gone {
    start: i64,
    salts: Arc<[u32]>,
    /// The place of the key group at hand, and the last key that was removed.
    group: usize,
    after: Option<Slots>,
}

/// The fields of the state's key.
pub(super) fn state_key() -> [Field; 2] {
    [
        Field::new("slice", DataType::Timestamp),
        Field::new("salt", DataType::U32),
    ]
}

impl Spill {
    /// None where the backend keeps all in memory. Errors: what the outside refuses.
    pub(super) fn open(place: &StatePlace<'_>, form: &Form) -> Result<Option<Self>> {
        let state = StateSpec {
            name: SPILLED.to_owned(),
            kind: StateKind::Map,
            map_key: Some(Schema::new(form.key.clone())),
            schema: Schema::new(form.codec.fields()),
            lazy: true,
            ttl: None,
            past: Default::default(),
        };
        let state = place.backend.keyed(&StateOwner {
            uid: place.uid.to_owned(),
            task: place.task,
            key: state_key().to_vec(),
            states: vec![state],
            key_groups: place.key_groups,
            max_parallelism: place.max_parallelism,
        })?;
        Ok(state.room().is_some().then(|| Self {
            state,
            key: form.key.clone(),
            codec: form.codec.clone(),
            groups: place.key_groups,
            max_parallelism: place.max_parallelism,
            slices: BTreeMap::new(),
            leaving: None,
            gone: VecDeque::new(),
            touched: Touched::default(),
            saved: true,
        }))
    }

    /// Bytes that may be in memory.
    pub(super) fn room(&self) -> u64 {
        self.state.room().unwrap_or(u64::MAX)
    }

    /// Bytes in memory that are on their way out of it.
    pub(super) fn leaving_bytes(&self) -> u64 {
        self.leaving.as_ref().map_or(0, |l| l.pane.bytes())
    }

    /// Whether something of slices between these times is here.
    pub(super) fn has(&self, start: i64, end: i64) -> bool {
        start < end && self.slices.range(start..end).next().is_some()
    }

    /// The task's key groups.
    pub(super) fn groups(&self) -> KeyGroupRange {
        self.groups
    }

    /// All slices that the state has something of, those that are over too.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> {
        let gone = self.gone.iter().map(|g| g.start);
        self.slices.keys().copied().chain(gone)
    }

    /// The state has something of a slice, now or soon.
    pub(super) fn enter(&mut self, start: i64) {
        if !self.slices.contains_key(&start) {
            let salts = self.salts(start);
            self.slices.insert(start, salts);
        }
    }

    /// A slice is over.
    pub(super) fn drop_slice(&mut self, start: i64) {
        self.leaving.take_if(|l| l.start == start);
        if let Some(salts) = self.slices.remove(&start) {
            self.drop_entered(start, salts);
        }
    }

    /// The state has something of a slice that is over.
    pub(super) fn enter_gone(&mut self, start: i64) {
        let salts = self.salts(start);
        self.drop_entered(start, salts);
    }

    fn drop_entered(&mut self, start: i64, salts: Arc<[u32]>) {
        self.gone.push_back(Gone {
            start,
            salts,
            group: 0,
            after: None,
        });
    }

    /// By key group of the task, the salt with which the slice is in it.
    fn salts(&self, start: i64) -> Arc<[u32]> {
        let slice = (start ^ i64::MIN).to_be_bytes();
        salts(&slice, self.groups, self.max_parallelism)
    }

    /// Touches the state's keys of rows of a slice, by the key groups that they are in.
    fn touch(
        &mut self,
        start: i64,
        salts: &[u32],
        groups: impl Iterator<Item = u32>,
    ) -> Result<()> {
        let salt = |group: u32| {
            let place = group.checked_sub(self.groups.start);
            let salt = place.and_then(|p| salts.get(p as usize)).copied();
            salt.ok_or_else(|| Error::bug("a row came to a task that has not its key group"))
        };
        let salts: Vec<u32> = groups.map(salt).collect::<Result<_>>()?;
        let rows = salts.len();
        let starts = TimestampMillisecondArray::from(vec![start; rows]);
        let columns: [ArrayRef; 2] = [Arc::new(starts), Arc::new(UInt32Array::from(salts))];
        self.state.touch(&columns, rows, &mut self.touched)
    }

    fn touch_keys(&mut self, start: i64, keys: &[ArrayRef], rows: usize) -> Result<()> {
        let salts = self.slices.get(&start).cloned();
        let salts = salts.ok_or_else(|| Error::bug("a slice is not in the state"))?;
        let groups = hashes(&self.key, keys, rows)?;
        let max_parallelism = self.max_parallelism;
        let groups = groups.into_iter();
        let groups = groups.map(|hash| KeyGroup::of(hash, max_parallelism).0);
        self.touch(start, &salts, groups)
    }

    /// What the state has under keys of a slice.
    fn read(&mut self, start: i64, keys: &[ArrayRef], rows: usize) -> Result<Slots> {
        self.touch_keys(start, keys, rows)?;
        let touched = &self.touched;
        let slot = |o: &u32| touched.slots.get(*o as usize).copied();
        let slots: Option<Vec<u32>> = touched.ordinals.iter().map(slot).collect();
        let slots = slots.ok_or_else(|| Error::bug("a key without a slot"))?;
        let keys = Slots {
            rows,
            present: None,
            columns: keys.to_vec(),
        };
        self.state.map_values(0, &slots, &keys)
    }

    fn write(&mut self, start: i64, pane: &Pane, slots: &[u32]) -> Result<()> {
        let keys = pane.index.columns(slots)?;
        self.touch_keys(start, &keys, slots.len())?;
        let values = self.codec.columns(&pane.values, slots)?;
        let change = EntryChange::Put;
        self.change(change, self.touched.ordinals.clone(), keys, values)
    }

    /// Changes entries under the keys that were touched last.
    fn change(
        &mut self,
        change: EntryChange,
        ordinals: Vec<u32>,
        keys: Vec<ArrayRef>,
        values: Vec<ArrayRef>,
    ) -> Result<()> {
        let rows = ordinals.len();
        let slots = |columns: Vec<ArrayRef>| Slots {
            rows: columns.first().map_or(0, |c| c.len()),
            present: None,
            columns,
        };
        let change = StateChange {
            state: 0,
            marks: Vec::new(),
            values: slots(values),
            entries: Some(EntryChanges {
                changes: vec![change as u8; rows],
                ordinals,
                map_keys: Some(Slots {
                    rows,
                    ..slots(keys)
                }),
            }),
        };
        self.state.write(&self.touched.slots, &[change])?;
        self.state.tidy(&|_| false)
    }

    /// Begins to write a pane; the one before is written to its end.
    pub(super) fn leave(&mut self, start: i64, pane: Arc<Pane>) -> Result<()> {
        self.finish_leaving()?;
        self.enter(start);
        self.leaving = Some(Leaving {
            start,
            pane,
            next: 0,
        });
        Ok(())
    }

    /// Writes what is on its way, to the end.
    pub(super) fn finish_leaving(&mut self) -> Result<()> {
        while self.leaving.is_some() {
            self.write_on(usize::MAX)?;
        }
        Ok(())
    }

    /// Does some of what is to be done between batches.
    pub(super) fn go_on(&mut self) -> Result<()> {
        self.write_on(ENTRIES_A_BATCH)?;
        self.clean(ENTRIES_A_BATCH)
    }

    fn write_on(&mut self, entries: usize) -> Result<()> {
        let Some(mut leaving) = self.leaving.take() else {
            return Ok(());
        };
        let slots = leaving.pane.index.slots();
        let end = leaving.next.saturating_add(entries).min(slots);
        while leaving.next < end {
            let to = (leaving.next + CHUNK).min(end);
            let some: Vec<u32> = (leaving.next as u32..to as u32).collect();
            self.write(leaving.start, &leaving.pane, &some)?;
            leaving.next = to;
        }
        if end < slots {
            self.leaving = Some(leaving);
        }
        Ok(())
    }

    /// Removes entries of slices that are over.
    fn clean(&mut self, mut entries: usize) -> Result<()> {
        while entries > 0 {
            let Some(mut gone) = self.gone.pop_front() else {
                break;
            };
            if gone.group >= gone.salts.len() {
                continue;
            }
            let group = self.groups.start + gone.group as u32;
            self.touch(gone.start, &gone.salts, std::iter::once(group))?;
            let slot = self.touched.slots.first().copied().unwrap_or_default();
            let limit = entries.min(CHUNK);
            let found = self.state.scan(0, slot, gone.after.as_ref(), limit)?;
            let rows = found.keys.rows;
            if rows == 0 {
                // The whole of a key group without entries counts as one.
                entries -= 1;
                self.state.forget(&self.touched.slots, &|_| false);
                (gone.group, gone.after) = (gone.group + 1, None);
            } else {
                entries = entries.saturating_sub(rows);
                gone.after = Some(last(&found.keys));
                let none = decode(&self.codec.fields(), std::iter::empty())?;
                self.change(EntryChange::Remove, vec![0; rows], found.keys.columns, none)?;
            }
            self.gone.push_front(gone);
        }
        Ok(())
    }

    /// Brings into a pane what is here under keys of rows that it has not.
    pub(super) fn bring(
        &mut self,
        start: i64,
        pane: &mut Arc<Pane>,
        key: &[ArrayRef],
        rows: RowSet<'_>,
    ) -> Result<()> {
        if !self.slices.contains_key(&start) {
            return Ok(());
        }
        let mut found = Vec::new();
        pane.index.seek(key, rows, &mut found)?;
        let row = |i: usize| match rows {
            RowSet::First(_) => i as u32,
            RowSet::These(rows) => rows.get(i).copied().unwrap_or_default(),
        };
        let missing = found.iter().enumerate().filter(|(_, f)| f.is_none());
        let missing: Vec<u32> = missing.map(|(i, _)| row(i)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let keys = picked(key, missing)?;
        let mut once = Touched::default();
        let mut index = KeyIndex::new(self.key.clone(), 0);
        index.touch(&keys, keys.first().map_or(0, |c| c.len()), &mut once)?;
        let mut keys = picked(&keys, once.first_rows)?;
        if let Some(leaving) = self.leaving.as_ref().filter(|l| l.start == start) {
            let rows = keys.first().map_or(0, |c| c.len());
            let from = &leaving.pane;
            from.index.seek(&keys, RowSet::First(rows), &mut found)?;
            let slots: Vec<u32> = found.iter().flatten().copied().collect();
            let values = self.codec.columns(&from.values, &slots)?;
            let there = |f: &&(u32, &Option<u32>)| f.1.is_some();
            let (yes, no): (Vec<_>, Vec<_>) = (0u32..).zip(&found).partition(|f| there(&f));
            let rows = |some: Vec<(u32, &Option<u32>)>| some.into_iter().map(|f| f.0).collect();
            put(&self.codec, pane, &picked(&keys, rows(yes))?, values)?;
            keys = picked(&keys, rows(no))?;
        }
        let rows = keys.first().map_or(0, |c| c.len());
        if rows == 0 {
            return Ok(());
        }
        let read = self.read(start, &keys, rows)?;
        let present = |r: &u32| read.present.as_ref().is_none_or(|p| p.value(*r as usize));
        let there: Vec<u32> = (0..rows as u32).filter(present).collect();
        let values = picked(&read.columns, there.clone())?;
        put(&self.codec, pane, &picked(&keys, there)?, values)?;
        self.state.tidy(&|_| false)
    }

    /// Hands all of a slice that is in one key group to `each`, as panes that have no key twice.
    pub(super) fn scan(
        &mut self,
        start: i64,
        group: u32,
        mut empty: impl FnMut() -> Pane,
        mut each: impl FnMut(Pane) -> Result<()>,
    ) -> Result<()> {
        let Some(salts) = self.slices.get(&start).cloned() else {
            return Ok(());
        };
        let mut after = None;
        loop {
            self.touch(start, &salts, std::iter::once(group))?;
            let slot = self.touched.slots.first().copied().unwrap_or_default();
            let found = self.state.scan(0, slot, after.as_ref(), CHUNK)?;
            if found.keys.rows == 0 {
                break;
            }
            after = Some(last(&found.keys));
            let mut pane = Arc::new(empty());
            put(
                &self.codec,
                &mut pane,
                &found.keys.columns,
                found.values.columns,
            )?;
            each(Arc::unwrap_or_clone(pane))?;
        }
        self.state.tidy(&|_| false)
    }
}

/// The last of some map keys.
fn last(keys: &Slots) -> Slots {
    let at = keys.rows.saturating_sub(1);
    Slots {
        rows: 1,
        present: None,
        columns: keys.columns.iter().map(|c| c.slice(at, 1)).collect(),
    }
}

fn picked(columns: &[ArrayRef], rows: Vec<u32>) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows);
    let one = |c: &ArrayRef| take(c, &rows, None).map_err(|e| Error::bug(e.to_string()));
    columns.iter().map(one).collect()
}

/// Puts accumulators under keys that a pane has not.
fn put(
    codec: &Codec,
    pane: &mut Arc<Pane>,
    keys: &[ArrayRef],
    values: Vec<ArrayRef>,
) -> Result<()> {
    let rows = keys.first().map_or(0, |c| c.len());
    if rows == 0 {
        return Ok(());
    }
    let pane = Arc::make_mut(pane);
    let mut slots = Vec::new();
    pane.index.locate(keys, RowSet::First(rows), &mut slots)?;
    let total = pane.index.slots();
    codec.load_columns(&mut pane.values, &slots, total, values)
}
