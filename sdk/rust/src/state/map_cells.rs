//! The maps of a state, of all keys of a call: what is read of the host and when, and what goes back.
//!
//! Small maps are read whole, those of many keys at once; of large ones single entries, or page by page.

use std::cell::RefCell;
use std::ops::Bound;
use std::rc::Rc;

use super::fetched::{Chunk, slot, slots};
use super::lists::{CLEAR, PUT, REMOVE};
use super::maps::{Base, Bounds, Maps, Own, Rows, SCAN_ENTRIES, Whole, in_range};
use super::migrate::Moved;
use super::{Call, Cells, Spec, bytes_of};
use crate::bindings::exports::pelton::job::function::StateChange;
use crate::bindings::pelton::job::types::Slots;
use crate::column::{Row, from_bytes, to_bytes};
use crate::host;
use crate::value::{BitsBuilder, ColumnBuilder, Value};

/// What a map may have to be read whole.
const WHOLE_BYTES: u64 = 4096;
/// Stands for a map that has more.
const TOO_MANY: u32 = u32::MAX;

/// The maps of a state.
pub(super) struct MapCells<K: Value, V: Value> {
    pub(super) spec: Rc<Spec>,
    call: Rc<Call>,
    of: RefCell<Maps<K, V>>,
    /// Entries whose values are of former types.
    pub(super) moved: Moved<(K, V)>,
}

impl<K: Value, V: Value> MapCells<K, V> {
    pub(super) fn new(spec: Rc<Spec>, call: Rc<Call>) -> Self {
        Self {
            spec,
            call,
            of: RefCell::default(),
            moved: Moved::default(),
        }
    }

    /// What the key at hand has of former types is made its own.
    #[inline]
    fn settle(&self) {
        let key = || self.spec.key(&self.call);
        self.moved.settle(key, |(k, v)| self.set(k.lend(), v));
    }

    /// The key at hand; the first use in a call makes the state ready.
    #[inline]
    fn key(&self) -> usize {
        let key = self.spec.key(&self.call);
        let maps = &mut *self.of.borrow_mut();
        if !std::mem::replace(&mut maps.ready, true) {
            maps.reset(self.spec.keys(&self.call));
        }
        key
    }

    pub(super) fn with<R>(
        &self,
        map_key: K::Ref<'_>,
        f: impl FnOnce(Option<V::Ref<'_>>) -> R,
    ) -> R {
        self.settle();
        let key = self.key();
        let found = {
            let maps = &mut *self.of.borrow_mut();
            maps.ahead.used();
            self.look_up(maps, key, map_key)
        };
        let maps = self.of.borrow();
        match found.and_then(|number| maps.entries.get(number)) {
            Some(entry) => maps.value(entry, f),
            None => f(None),
        }
    }

    /// The entry of a map key, of which it is known what the host has; none: it has nothing.
    fn look_up(&self, maps: &mut Maps<K, V>, key: usize, map_key: K::Ref<'_>) -> Option<usize> {
        maps.encode(map_key);
        if let Some((number, entry)) = maps.find(key)
            && (!matches!(entry.own, Own::Nothing) || entry.base != Base::Unknown)
        {
            return Some(number);
        }
        if maps.whole(key) == Whole::Unknown {
            self.fetch_whole(maps, key);
        }
        match maps.whole(key) {
            Whole::Here(..) => {
                maps.index_whole(key);
                maps.encode(map_key);
                maps.find(key).map(|(number, _)| number)
            }
            Whole::TooMany => Some(self.fetch_one(maps, key, map_key)),
            Whole::Indexed | Whole::Unknown => None,
        }
    }

    fn fetch_one(&self, maps: &mut Maps<K, V>, key: usize, map_key: K::Ref<'_>) -> usize {
        maps.make_room();
        let asked = slot::<K>(std::iter::once(map_key));
        let answer = host::state::map_get_many(self.spec.number, &to_bytes([key as u32]), asked);
        let values = Chunk::take::<V>(&self.spec, self.spec.answer(answer));
        let base = if values.is_present(0) {
            maps.kept += values.bytes();
            maps.rows.push(Rows { keys: None, values });
            Base::At((maps.rows.len() - 1) as u32, 0)
        } else {
            Base::Absent
        };
        maps.encode(map_key);
        maps.enter(key, || Some(K::own(map_key)), base)
    }

    /// Reads the maps of this key and of those to come.
    fn fetch_whole(&self, maps: &mut Maps<K, V>, key: usize) {
        maps.make_room();
        let most = maps.ahead.next();
        let keys = maps.whole.iter().skip(key).take(most);
        let end = key + keys.take_while(|w| **w == Whole::Unknown).count();
        let ordinals = to_bytes((key..end).map(|o| o as u32));
        let answer = host::state::map_entries_many(self.spec.number, &ordinals, WHOLE_BYTES);
        let answer = self.spec.answer(answer);
        let done = answer.done as usize;
        let counts = self.spec.shipped(from_bytes::<u32>(&answer.counts, done));
        let keys = Chunk::take::<K>(&self.spec, answer.keys);
        let values = Chunk::take::<V>(&self.spec, answer.values);
        let (rows, bytes) = (values.rows.min(keys.rows), keys.bytes() + values.bytes());
        let chunk = maps.rows.len() as u32;
        let mut start = 0;
        for (whole, count) in maps.whole.iter_mut().skip(key).zip(counts.iter()) {
            *whole = if count == TOO_MANY {
                Whole::TooMany
            } else {
                start += count;
                Whole::Here(chunk, start - count, count)
            };
        }
        if done == 0 || start as usize > rows {
            self.spec
                .refuse("was answered with entries that are not there");
        }
        maps.rows.push(Rows {
            keys: Some(keys),
            values,
        });
        maps.kept += bytes;
        maps.ahead.read(done, bytes);
        // The read that asks counts, too.
        maps.ahead.used();
    }

    #[inline]
    pub(super) fn put(&self, map_key: K::Ref<'_>, value: V) {
        self.settle();
        self.set(map_key, value);
    }

    fn set(&self, map_key: K::Ref<'_>, value: V) {
        let key = self.key();
        let maps = &mut *self.of.borrow_mut();
        let bytes = 16 + bytes_of::<V>(value.lend(), &mut maps.scratch);
        maps.set(key, map_key, Own::Put(value));
        let bytes = bytes + maps.scratch.len();
        self.call.bytes.update(|b| b + bytes);
    }

    pub(super) fn remove(&self, map_key: K::Ref<'_>) {
        self.settle();
        let key = self.key();
        let maps = &mut *self.of.borrow_mut();
        maps.set(key, map_key, Own::Removed);
        let bytes = 16 + maps.scratch.len();
        self.call.bytes.update(|b| b + bytes);
    }

    pub(super) fn clear(&self) {
        self.settle();
        let key = self.key();
        self.of.borrow_mut().clear(key);
        self.call.bytes.update(|b| b + 16);
    }

    /// Hands the entries within bounds to `f`, ascending by the encoding of their map keys, until it says no.
    pub(super) fn each(
        &self,
        bounds: &Bounds<'_, K>,
        f: impl FnMut(K::Ref<'_>, V::Ref<'_>) -> bool,
    ) {
        self.settle();
        let key = self.key();
        let (own, first) = self.prepare_scan(key, bounds);
        self.hand_out(key, bounds, &own, first, f);
        self.of.borrow_mut().shown = Some((key, own));
    }

    /// Hands all entries to `f`.
    pub(super) fn each_of_all(&self, mut f: impl FnMut(K::Ref<'_>, V::Ref<'_>)) {
        self.each(&(Bound::Unbounded, Bound::Unbounded), |k, v| {
            f(k, v);
            true
        });
    }

    /// Reads a map if it is small; answers its entries that are in the index, ascending, and where a scan of a large one
    /// begins.
    fn prepare_scan(&self, key: usize, bounds: &Bounds<'_, K>) -> (Vec<u32>, Option<Slots>) {
        let maps = &mut *self.of.borrow_mut();
        maps.ahead.used();
        if maps.whole(key) == Whole::Unknown {
            self.fetch_whole(maps, key);
        }
        maps.index_whole(key);
        let mut first = None;
        if maps.whole(key) == Whole::TooMany {
            first = match bounds.0 {
                Bound::Unbounded => None,
                Bound::Excluded(from) => Some(slot::<K>(std::iter::once(from))),
                // What is read alone is in the index then; the scan begins after it.
                Bound::Included(from) => {
                    self.look_up(maps, key, from);
                    Some(slot::<K>(std::iter::once(from)))
                }
            };
        }
        (maps.present(key), first)
    }

    fn hand_out(
        &self,
        key: usize,
        bounds: &Bounds<'_, K>,
        own: &[u32],
        first: Option<Slots>,
        mut f: impl FnMut(K::Ref<'_>, V::Ref<'_>) -> bool,
    ) {
        let maps = self.of.borrow();
        let range = in_range::<K>(bounds);
        let own = own.iter().map(|n| *n as usize);
        let mut own = own.filter(|n| range(maps.index.map_key(*n))).peekable();
        if maps.whole(key) == Whole::TooMany {
            let mut after = first;
            loop {
                let page = self.page(key, after.take());
                // What is in the index stands for the host's entries of the same map keys.
                let Some(entries) = page.readers::<K, V>() else {
                    break;
                };
                for row in (0..page.values.rows).filter_map(|r| Row::below(r, page.values.rows)) {
                    let map_key = K::read(&entries.0, row);
                    let mut bytes = Vec::new();
                    K::encode(map_key, &mut bytes);
                    while let Some(n) = own.next_if(|n| maps.index.map_key(*n) < bytes.as_slice()) {
                        if !maps.show(n, &mut f) {
                            return;
                        }
                    }
                    // Beyond the end, all of the index within bounds has been shown, too.
                    if !range(&bytes) {
                        return;
                    }
                    if !maps.is_known(key, &bytes) && !f(map_key, V::read(&entries.1, row)) {
                        return;
                    }
                }
                match page.last::<K>() {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
        }
        own.all(|n| maps.show(n, &mut f));
    }

    /// A page of a large map.
    fn page(&self, key: usize, after: Option<Slots>) -> Rows {
        let answer = host::state::map_scan(self.spec.number, key as u32, after, SCAN_ENTRIES);
        let answer = self.spec.answer(answer);
        let keys = Chunk::take::<K>(&self.spec, answer.keys);
        let values = Chunk::take::<V>(&self.spec, answer.values);
        if keys.rows != values.rows {
            self.spec.refuse("was answered with entries without values");
        }
        Rows {
            keys: Some(keys),
            values,
        }
    }
}

impl<K: Value, V: Value> Cells for MapCells<K, V> {
    fn begin(&self) {
        self.moved.begin();
        self.of.borrow_mut().ready = false;
    }

    fn changes(&self) -> Option<StateChange> {
        let maps = &mut *self.of.borrow_mut();
        if !std::mem::take(&mut maps.ready) {
            return None;
        }
        let (mut changes, mut ordinals) = (Vec::new(), Vec::new());
        let (mut keys, mut values) = (K::Builder::default(), V::Builder::default());
        let mut present = BitsBuilder::default();
        for (key, _) in (0u32..).zip(&maps.cleared).filter(|(_, c)| **c) {
            changes.push(CLEAR);
            ordinals.push(key);
            keys.push_default();
            present.push(false);
        }
        let clears = changes.len();
        let mut puts = 0;
        for number in std::mem::take(&mut maps.changed) {
            let number = number as usize;
            let Some(entry) = maps.entries.get(number) else {
                continue;
            };
            let change = match &entry.own {
                Own::Put(value) => {
                    V::push(&mut values, value.lend());
                    puts += 1;
                    PUT
                }
                // Nothing is there to be removed.
                _ if entry.base == Base::Absent => continue,
                _ => REMOVE,
            };
            changes.push(change);
            ordinals.push(maps.index.key(number));
            if let Some(map_key) = &entry.map_key {
                K::push(&mut keys, map_key.lend());
            }
            present.push(true);
        }
        if changes.is_empty() {
            return None;
        }
        let rows = changes.len() as u32;
        let present = (clears > 0).then(|| present.take());
        Some(StateChange {
            state: self.spec.number,
            marks: Vec::new(),
            changes,
            ordinals: to_bytes(ordinals),
            map_keys: Some(slots::<K>(&mut keys, rows, present)),
            values: slots::<V>(&mut values, puts, None),
        })
    }
}
