//! Maps of a call: as the host has them, and what the call has put and removed since.
//!
//! An entry is known by its map key's encoding; what was read whole is entered when its key is first looked at.

use std::ops::Bound;

use super::ahead::Ahead;
use super::fetched::{Chunk, KEPT_BYTES, slot};
use super::index::Index;
use crate::bindings::pelton::job::types::Slots;
use crate::column::Row;
use crate::value::Value;

/// Entries of a large map that are read at once.
pub(super) const SCAN_ENTRIES: u32 = 1024;
/// From so many bytes on, an answer that has fewer entries need not be the last.
const SCAN_BYTES: usize = 256 << 10;

/// Whether more may follow a scan's answer.
pub(super) fn may_go_on(rows: usize, bytes: usize) -> bool {
    rows >= SCAN_ENTRIES as usize || bytes >= SCAN_BYTES
}

/// Bounds of map keys.
pub(super) type Bounds<'a, K> = (Bound<<K as Value>::Ref<'a>>, Bound<<K as Value>::Ref<'a>>);

/// What the host has of one key's map.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Whole {
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
pub(super) enum Base {
    Unknown,
    Absent,
    /// A row of a chunk.
    At(u32, u32),
}

/// What the call has done to an entry.
pub(super) enum Own<V> {
    Nothing,
    Put(V),
    Removed,
}

pub(super) struct Entry<K, V> {
    /// Where the map key is not in the chunk.
    pub(super) map_key: Option<K>,
    pub(super) base: Base,
    pub(super) own: Own<V>,
}

/// Rows that were read: values, and for whole maps their map keys.
pub(super) struct Rows {
    pub(super) keys: Option<Chunk>,
    pub(super) values: Chunk,
}

pub(super) struct Maps<K: Value, V: Value> {
    pub(super) ready: bool,
    pub(super) index: Index,
    pub(super) entries: Vec<Entry<K, V>>,
    pub(super) whole: Vec<Whole>,
    /// One for each key: all that the host has is gone.
    pub(super) cleared: Vec<bool>,
    pub(super) rows: Vec<Rows>,
    pub(super) kept: usize,
    /// Entries in the order of their first change.
    pub(super) changed: Vec<u32>,
    /// What [`present`](Self::present) last answered, and for which key, as long as nothing has changed.
    pub(super) shown: Option<(usize, Vec<u32>)>,
    pub(super) ahead: Ahead,
    pub(super) scratch: Vec<u8>,
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
            shown: None,
            ahead: Ahead::default(),
            scratch: Vec::new(),
        }
    }
}

impl<K: Value, V: Value> Maps<K, V> {
    pub(super) fn reset(&mut self, keys: usize) {
        self.index.reset(keys);
        self.entries.clear();
        self.whole.clear();
        self.whole.resize(keys, Whole::Unknown);
        self.cleared.clear();
        self.cleared.resize(keys, false);
        self.rows.clear();
        self.kept = 0;
        self.changed.clear();
        self.shown = None;
    }

    pub(super) fn is_cleared(&self, key: usize) -> bool {
        self.cleared.get(key) == Some(&true)
    }

    pub(super) fn whole(&self, key: usize) -> Whole {
        self.whole.get(key).copied().unwrap_or(Whole::Indexed)
    }

    /// The entry of a map key, by its encoding in `scratch`.
    pub(super) fn enter(
        &mut self,
        key: usize,
        map_key: impl FnOnce() -> Option<K>,
        base: Base,
    ) -> usize {
        self.shown = None;
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

    pub(super) fn encode(&mut self, map_key: K::Ref<'_>) {
        self.scratch.clear();
        K::encode(map_key, &mut self.scratch);
    }

    pub(super) fn find(&self, key: usize) -> Option<(usize, &Entry<K, V>)> {
        let number = self.index.find(key, &self.scratch)?;
        Some((number, self.entries.get(number)?))
    }

    pub(super) fn set(&mut self, key: usize, map_key: K::Ref<'_>, own: Own<V>) {
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

    pub(super) fn clear(&mut self, key: usize) {
        self.shown = None;
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
    pub(super) fn index_whole(&mut self, key: usize) {
        let Whole::Here(chunk, start, len) = self.whole(key) else {
            return;
        };
        // Out of the way, to be read while entries are made.
        let all = std::mem::take(&mut self.rows);
        let keys = all.get(chunk as usize).and_then(|rows| rows.keys.as_ref());
        let reader = keys.and_then(|keys| Some((keys.reader::<K>()?, keys.rows)));
        for row in start..start + len {
            self.scratch.clear();
            if let Some((reader, rows)) = &reader
                && let Some(row) = Row::below(row as usize, *rows)
            {
                K::encode(K::read(reader, row), &mut self.scratch);
            }
            self.enter(key, || None, Base::At(chunk, row));
        }
        self.rows = all;
        if let Some(whole) = self.whole.get_mut(key) {
            *whole = Whole::Indexed;
        }
    }

    pub(super) fn make_room(&mut self) {
        if self.kept <= KEPT_BYTES {
            return;
        }
        self.kept = 0;
        self.shown = None;
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

    pub(super) fn row_key(&self, chunk: u32, row: u32) -> Option<K> {
        let keys = self.rows.get(chunk as usize)?.keys.as_ref()?;
        let reader = keys.reader::<K>()?;
        Some(K::own(K::read(
            &reader,
            Row::below(row as usize, keys.rows)?,
        )))
    }

    /// Looks at the value of an entry.
    #[inline]
    pub(super) fn value<R>(
        &self,
        entry: &Entry<K, V>,
        f: impl FnOnce(Option<V::Ref<'_>>) -> R,
    ) -> R {
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
    pub(super) fn map_key<R>(
        &self,
        entry: &Entry<K, V>,
        f: impl FnOnce(K::Ref<'_>) -> R,
    ) -> Option<R> {
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
    pub(super) fn show(
        &self,
        number: usize,
        f: &mut impl FnMut(K::Ref<'_>, V::Ref<'_>) -> bool,
    ) -> bool {
        let Some(entry) = self.entries.get(number) else {
            return true;
        };
        let shown = self.map_key(entry, |k| self.value(entry, |v| v.is_none_or(|v| f(k, v))));
        shown.unwrap_or(true)
    }

    /// Whether the index says what is under a map key.
    pub(super) fn is_known(&self, key: usize, map_key: &[u8]) -> bool {
        let number = self.index.find(key, map_key);
        number
            .and_then(|n| self.entries.get(n))
            .is_some_and(|e| !matches!(e.own, Own::Nothing) || e.base != Base::Unknown)
    }

    /// The entries under a key that are in the index and have a value, ascending by map key.
    pub(super) fn present(&mut self, key: usize) -> Vec<u32> {
        if let Some((_, shown)) = self.shown.take_if(|shown| shown.0 == key) {
            return shown;
        }
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

impl Rows {
    pub(super) fn readers<K: Value, V: Value>(&self) -> Option<(K::Column<'_>, V::Column<'_>)> {
        Some((
            self.keys.as_ref()?.reader::<K>()?,
            self.values.reader::<V>()?,
        ))
    }

    /// The last map key of a page that need not be the last, after which the next begins.
    pub(super) fn last<K: Value>(&self) -> Option<Slots> {
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
