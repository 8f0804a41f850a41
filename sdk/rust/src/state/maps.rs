//! Maps of a call: as the host has them, and what the call has put and removed since.
//!
//! Small maps are read whole, those of many keys at once; of large ones single entries, or page by page.

use std::cell::RefCell;
use std::ops::Bound;
use std::rc::Rc;

use super::ahead::Ahead;
use super::fetched::{Chunk, KEPT_BYTES, slot, slots};
use super::index::Index;
use super::lists::{CLEAR, PUT, REMOVE};
use super::{Call, Cells, Spec, bytes_of};
use crate::bindings::exports::pelton::job::function::StateChange;
use crate::bindings::pelton::job::types::Slots;
use crate::column::{Row, from_bytes, to_bytes};
use crate::host;
use crate::value::{BitsBuilder, ColumnBuilder, Value};

/// Entries of a large map that are read at once.
pub(super) const SCAN_ENTRIES: u32 = 1024;
/// From so many bytes on, an answer that has fewer entries need not be the last.
const SCAN_BYTES: usize = 256 << 10;

/// Whether more may follow a scan's answer.
pub(super) fn may_go_on(rows: usize, bytes: usize) -> bool {
    rows >= SCAN_ENTRIES as usize || bytes >= SCAN_BYTES
}
/// What a map may have to be read whole.
const WHOLE_BYTES: u64 = 4096;
/// Stands for a map that has more.
const TOO_MANY: u32 = u32::MAX;

/// Bounds of map keys.
pub(super) type Bounds<'a, K> = (Bound<<K as Value>::Ref<'a>>, Bound<<K as Value>::Ref<'a>>);

/// What the host has of one key's map.
#[derive(Clone, Copy, PartialEq)]
enum Whole {
    Unknown,
    /// It was read: from this row of this chunk on, so many entries; none of them is in the index.
    Here(u32, u32, u32),
    /// All its entries are in the index.
    Indexed,
    /// It is too large.
    TooMany,
}

/// What the host has under a map key.
#[derive(Clone, Copy, PartialEq)]
enum Base {
    Unknown,
    Absent,
    /// A row of a chunk.
    At(u32, u32),
}

/// What the call has done to an entry.
enum Own<V> {
    Nothing,
    Put(V),
    Removed,
}

struct Entry<K, V> {
    /// Where the map key is not in the chunk.
    map_key: Option<K>,
    base: Base,
    own: Own<V>,
}

/// Rows that were read: values, and for whole maps their map keys.
struct Rows {
    keys: Option<Chunk>,
    values: Chunk,
}

struct Maps<K: Value, V: Value> {
    ready: bool,
    index: Index,
    entries: Vec<Entry<K, V>>,
    whole: Vec<Whole>,
    /// One for each key: all that the host has is gone.
    cleared: Vec<bool>,
    rows: Vec<Rows>,
    kept: usize,
    /// Entries in the order of their first change.
    changed: Vec<u32>,
    ahead: Ahead,
    scratch: Vec<u8>,
}

impl<K: Value, V: Value> Default for Maps<K, V> {
    fn default() -> Self {
        Self {
            ready: false,
            index: Index::default(),
            entries: Vec::new(),
            whole: Vec::new(),
            cleared: Vec::new(),
            rows: Vec::new(),
            kept: 0,
            changed: Vec::new(),
            ahead: Ahead::default(),
            scratch: Vec::new(),
        }
    }
}

impl<K: Value, V: Value> Maps<K, V> {
    fn reset(&mut self, keys: usize) {
        self.index.reset(keys);
        self.entries.clear();
        self.whole.clear();
        self.whole.resize(keys, Whole::Unknown);
        self.cleared.clear();
        self.cleared.resize(keys, false);
        self.rows.clear();
        self.kept = 0;
        self.changed.clear();
    }

    fn is_cleared(&self, key: usize) -> bool {
        self.cleared.get(key) == Some(&true)
    }

    fn whole(&self, key: usize) -> Whole {
        self.whole.get(key).copied().unwrap_or(Whole::Indexed)
    }

    /// The entry of a map key, by its encoding in `scratch`.
    fn enter(&mut self, key: usize, map_key: impl FnOnce() -> Option<K>, base: Base) -> usize {
        let (entry, is_new) = self.index.enter(key, &self.scratch);
        if is_new {
            self.entries.push(Entry {
                map_key: map_key(),
                base,
                own: Own::Nothing,
            });
        } else if let Some(former) = self.entries.get_mut(entry)
            && former.base == Base::Unknown
        {
            former.base = base;
        }
        entry
    }

    fn encode(&mut self, map_key: K::Ref<'_>) {
        self.scratch.clear();
        K::encode(map_key, &mut self.scratch);
    }

    fn find(&self, key: usize) -> Option<(usize, &Entry<K, V>)> {
        let number = self.index.find(key, &self.scratch)?;
        Some((number, self.entries.get(number)?))
    }

    fn set(&mut self, key: usize, map_key: K::Ref<'_>, own: Own<V>) {
        self.encode(map_key);
        let base = if self.is_cleared(key) {
            Base::Absent
        } else {
            Base::Unknown
        };
        let number = self.enter(key, || Some(K::own(map_key)), base);
        if let Some(entry) = self.entries.get_mut(number) {
            if matches!(entry.own, Own::Nothing) {
                self.changed.push(number as u32);
            }
            entry.own = own;
            if entry.map_key.is_none() {
                entry.map_key = Some(K::own(map_key));
            }
        }
    }

    fn clear(&mut self, key: usize) {
        for number in self.index.under(key) {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.base = Base::Absent;
                if matches!(entry.own, Own::Put(_)) {
                    entry.own = Own::Removed;
                }
            }
        }
        if let Some(cleared) = self.cleared.get_mut(key) {
            *cleared = true;
        }
        if let Some(whole) = self.whole.get_mut(key) {
            *whole = Whole::Indexed;
        }
    }

    /// Enters the entries of a map that was read whole.
    fn index_whole(&mut self, key: usize) {
        let Whole::Here(chunk, start, len) = self.whole(key) else {
            return;
        };
        for row in start..start + len {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            let keys = self
                .rows
                .get(chunk as usize)
                .and_then(|rows| rows.keys.as_ref());
            if let Some(keys) = keys
                && let Some(reader) = keys.reader::<K>()
                && let Some(row) = Row::below(row as usize, keys.rows)
            {
                K::encode(K::read(&reader, row), &mut scratch);
            }
            self.scratch = scratch;
            self.enter(key, || None, Base::At(chunk, row));
        }
        if let Some(whole) = self.whole.get_mut(key) {
            *whole = Whole::Indexed;
        }
    }

    fn make_room(&mut self) {
        if self.kept <= KEPT_BYTES {
            return;
        }
        self.kept = 0;
        for number in 0..self.entries.len() {
            let at = match self.entries.get(number) {
                Some(Entry {
                    base: Base::At(chunk, row),
                    map_key,
                    ..
                }) => Some((*chunk, *row, map_key.is_none())),
                _ => None,
            };
            if let Some((chunk, row, unnamed)) = at {
                let map_key = if unnamed {
                    self.row_key(chunk, row)
                } else {
                    None
                };
                if let Some(entry) = self.entries.get_mut(number) {
                    entry.base = Base::Unknown;
                    if unnamed {
                        entry.map_key = map_key;
                    }
                }
            }
        }
        for (whole, cleared) in self.whole.iter_mut().zip(&self.cleared) {
            if !cleared && *whole != Whole::TooMany {
                *whole = Whole::Unknown;
            }
        }
        self.rows.clear();
    }

    fn row_key(&self, chunk: u32, row: u32) -> Option<K> {
        let keys = self.rows.get(chunk as usize)?.keys.as_ref()?;
        let reader = keys.reader::<K>()?;
        Some(K::own(K::read(
            &reader,
            Row::below(row as usize, keys.rows)?,
        )))
    }

    /// Looks at the value of an entry.
    #[inline]
    fn value<R>(&self, entry: &Entry<K, V>, f: impl FnOnce(Option<V::Ref<'_>>) -> R) -> R {
        match (&entry.own, entry.base) {
            (Own::Put(value), _) => f(Some(value.lend())),
            (Own::Nothing, Base::At(chunk, row)) => {
                let found = self.rows.get(chunk as usize).and_then(|rows| {
                    let reader = rows.values.reader::<V>()?;
                    Some((reader, Row::below(row as usize, rows.values.rows)?))
                });
                match found {
                    Some((reader, row)) => f(Some(V::read(&reader, row))),
                    None => f(None),
                }
            }
            _ => f(None),
        }
    }

    /// Looks at the map key of an entry.
    fn map_key<R>(&self, entry: &Entry<K, V>, f: impl FnOnce(K::Ref<'_>) -> R) -> Option<R> {
        if let Some(map_key) = &entry.map_key {
            return Some(f(map_key.lend()));
        }
        let Base::At(chunk, row) = entry.base else {
            return None;
        };
        let keys = self.rows.get(chunk as usize)?.keys.as_ref()?;
        let reader = keys.reader::<K>()?;
        let row = Row::below(row as usize, keys.rows)?;
        Some(f(K::read(&reader, row)))
    }

    /// Hands an entry to `f`, if it has a value; answers whether to go on.
    fn show(&self, number: usize, f: &mut impl FnMut(K::Ref<'_>, V::Ref<'_>) -> bool) -> bool {
        let Some(entry) = self.entries.get(number) else {
            return true;
        };
        let shown = self.map_key(entry, |k| self.value(entry, |v| v.is_none_or(|v| f(k, v))));
        shown.unwrap_or(true)
    }

    /// Whether the index says what is under a map key.
    fn is_known(&self, key: usize, map_key: &[u8]) -> bool {
        let number = self.index.find(key, map_key);
        number
            .and_then(|n| self.entries.get(n))
            .is_some_and(|e| !matches!(e.own, Own::Nothing) || e.base != Base::Unknown)
    }

    /// The entries under a key that are in the index and have a value, ascending by map key.
    fn present(&self, key: usize) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .index
            .under(key)
            .filter(|number| {
                self.entries.get(*number).is_some_and(|e| {
                    matches!(
                        (&e.own, e.base),
                        (Own::Put(_), _) | (Own::Nothing, Base::At(..))
                    )
                })
            })
            .map(|number| number as u32)
            .collect();
        all.sort_unstable_by(|a, b| {
            let key = |n: &u32| self.index.map_key(*n as usize);
            key(a).cmp(key(b))
        });
        all
    }
}

/// The maps of a state.
pub(super) struct MapCells<K: Value, V: Value> {
    pub(super) spec: Rc<Spec>,
    call: Rc<Call>,
    of: RefCell<Maps<K, V>>,
}

impl<K: Value, V: Value> MapCells<K, V> {
    pub(super) fn new(spec: Rc<Spec>, call: Rc<Call>) -> Self {
        Self {
            spec,
            call,
            of: RefCell::default(),
        }
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

    pub(super) fn put(&self, map_key: K::Ref<'_>, value: V) {
        let key = self.key();
        let maps = &mut *self.of.borrow_mut();
        let bytes = 16 + bytes_of::<V>(value.lend(), &mut maps.scratch);
        maps.set(key, map_key, Own::Put(value));
        let bytes = bytes + maps.scratch.len();
        self.call.bytes.update(|b| b + bytes);
    }

    pub(super) fn remove(&self, map_key: K::Ref<'_>) {
        let key = self.key();
        let maps = &mut *self.of.borrow_mut();
        maps.set(key, map_key, Own::Removed);
        let bytes = 16 + maps.scratch.len();
        self.call.bytes.update(|b| b + bytes);
    }

    pub(super) fn clear(&self) {
        let key = self.key();
        self.of.borrow_mut().clear(key);
        self.call.bytes.update(|b| b + 16);
    }

    /// Hands the entries within bounds to `f`, ascending by the encoding of their map keys, until it says no.
    pub(super) fn each(
        &self,
        bounds: &Bounds<'_, K>,
        mut f: impl FnMut(K::Ref<'_>, V::Ref<'_>) -> bool,
    ) {
        let key = self.key();
        let mut first = None;
        {
            let maps = &mut *self.of.borrow_mut();
            maps.ahead.used();
            if maps.whole(key) == Whole::Unknown {
                self.fetch_whole(maps, key);
            }
            maps.index_whole(key);
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
        }
        let maps = self.of.borrow();
        let range = in_range::<K>(bounds);
        let own = maps.present(key);
        let own = own.into_iter().map(|n| n as usize);
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

impl Rows {
    fn readers<K: Value, V: Value>(&self) -> Option<(K::Column<'_>, V::Column<'_>)> {
        Some((
            self.keys.as_ref()?.reader::<K>()?,
            self.values.reader::<V>()?,
        ))
    }

    /// The last map key of a page that need not be the last, after which the next begins.
    fn last<K: Value>(&self) -> Option<Slots> {
        let keys = self.keys.as_ref()?;
        if !may_go_on(keys.rows, keys.bytes() + self.values.bytes()) {
            return None;
        }
        let row = Row::below(keys.rows.checked_sub(1)?, keys.rows)?;
        let reader = keys.reader::<K>()?;
        Some(slot::<K>(std::iter::once(K::read(&reader, row))))
    }
}

/// Whether an encoded map key lies within bounds.
pub(super) fn in_range<K: Value>(bounds: &Bounds<'_, K>) -> impl Fn(&[u8]) -> bool + use<K> {
    let encode = |bound: &Bound<K::Ref<'_>>| {
        bound.map(|k| {
            let mut bytes = Vec::new();
            K::encode(k, &mut bytes);
            bytes
        })
    };
    let bounds = (encode(&bounds.0), encode(&bounds.1));
    move |bytes| {
        let from = match &bounds.0 {
            Bound::Included(from) => bytes >= from.as_slice(),
            Bound::Excluded(from) => bytes > from.as_slice(),
            Bound::Unbounded => true,
        };
        let to = match &bounds.1 {
            Bound::Included(to) => bytes <= to.as_slice(),
            Bound::Excluded(to) => bytes < to.as_slice(),
            Bound::Unbounded => true,
        };
        from && to
    }
}

impl<K: Value, V: Value> Cells for MapCells<K, V> {
    fn begin(&self) {
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
