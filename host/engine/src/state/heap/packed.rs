//! Lists and maps of one key, packed into few allocations.
//!
//! A list is one run of bytes, an item after the other: its stamp if items expire, its length unless all have the same,
//! its encoding. A map is a run of entries ascending by encoded key as long as it is small, and a tree beyond that.

use std::collections::{BTreeMap, btree_map};
use std::hint::black_box;
use std::ops::Bound;

/// A small map has at most so many bytes: few enough to be walked and moved at each change.
const SMALL_MAX: usize = 1024;
/// What a tree's entry costs beside its key and value.
const TREE_ENTRY: usize = 72;
/// Bytes of a stamp.
pub(super) const STAMP: usize = 8;

/// How the items of lists lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Items {
    /// The bytes of each, if all have the same.
    pub(super) width: Option<usize>,
    /// Whether each has a stamp.
    pub(super) stamped: bool,
}

impl Items {
    /// Adds an item.
    pub(super) fn push(self, list: &mut Vec<u8>, value: &[u8], stamp: i64) {
        if self.stamped {
            list.extend_from_slice(&stamp.to_le_bytes());
        }
        if self.width.is_none() {
            put_length(list, value.len());
        }
        list.extend_from_slice(value);
    }

    /// The items in order: where each begins, its stamp (0 without stamps), its encoding.
    pub(super) fn iter(self, list: &[u8]) -> impl Iterator<Item = (usize, i64, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = at;
            let mut rest = list.get(at..).filter(|r| !r.is_empty())?;
            let stamp = if self.stamped {
                stamp_of(cut(&mut rest, STAMP)?)
            } else {
                0
            };
            let length = match self.width {
                Some(width) => width,
                None => take_length(&mut rest)?,
            };
            let value = cut(&mut rest, length)?;
            at = list.len() - rest.len();
            // An item without a byte of its own would be met for ever.
            (at > start).then_some((start, stamp, value))
        })
    }
}

/// Keys whose memory is fetched before any of it is looked at, so that cache misses overlap.
pub(super) const CHUNK: usize = 64;

/// The next slots from one on.
pub(super) fn chunk(slots: &[u32], from: usize) -> &[u32] {
    let end = slots.len().min(from + CHUNK);
    slots.get(from..end).unwrap_or_default()
}

/// Fetches the beginnings and the ends of runs of bytes.
pub(super) fn fetch<'a>(runs: impl Iterator<Item = &'a [u8]>) {
    let ends = |run: &[u8]| run.first().copied().unwrap_or(0) ^ run.last().copied().unwrap_or(0);
    black_box(runs.fold(0, |all, run| all ^ ends(run)));
}

/// The stamp before a value.
pub(super) fn stamp_of(bytes: &[u8]) -> i64 {
    let stamp = bytes.get(..STAMP).and_then(|b| b.try_into().ok());
    i64::from_le_bytes(stamp.unwrap_or_default())
}

/// Replaces the stamp that stands there.
pub(super) fn restamp(bytes: &mut [u8], at: usize, stamp: i64) {
    if let Some(old) = bytes.get_mut(at..at + STAMP) {
        old.copy_from_slice(&stamp.to_le_bytes());
    }
}

fn cut<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(head)
}

fn put_length(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (mut n, mut shift) = (0, 0);
    loop {
        let byte = *cut(rest, 1)?.first()?;
        n |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(n);
        }
        shift += 7;
    }
}

/// The map of one key.
#[derive(Debug)]
pub(super) enum Map {
    /// Entries ascending: the lengths of key and value, then both.
    Small(Vec<u8>),
    /// Beyond that.
    Large(Box<Large>),
}

/// A map beyond the small ones.
#[derive(Debug, Default)]
pub(super) struct Large {
    tree: BTreeMap<Box<[u8]>, Vec<u8>>,
    /// Of all keys and values.
    bytes: usize,
}

/// An entry of a small map: where it begins and ends, its key and where its value lies.
struct Place<'a> {
    start: usize,
    key: &'a [u8],
    value: std::ops::Range<usize>,
}

fn places(run: &[u8]) -> impl Iterator<Item = Place<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let mut rest = run.get(at..).filter(|r| !r.is_empty())?;
        let (key, value) = (take_length(&mut rest)?, take_length(&mut rest)?);
        let key = cut(&mut rest, key)?;
        let from = run.len() - rest.len();
        cut(&mut rest, value)?;
        at = from + value;
        Some(Place {
            start,
            key,
            value: from..at,
        })
    })
}

/// Where a key stands in a small map, or would: the bytes from there that are its own, and where its value lies.
fn find(run: &[u8], key: &[u8]) -> (std::ops::Range<usize>, Option<std::ops::Range<usize>>) {
    for place in places(run) {
        match place.key.cmp(key) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                return (place.start..place.value.end, Some(place.value));
            }
            std::cmp::Ordering::Greater => return (place.start..place.start, None),
        }
    }
    (run.len()..run.len(), None)
}

/// Sets or extends an entry of a small map.
fn write_small(run: &mut Vec<u8>, key: &[u8], value: &[u8], extend: bool) {
    let (own, old) = find(run, key);
    let old = match old {
        // The common case: nothing moves.
        Some(at) if !extend && at.len() == value.len() => {
            if let Some(place) = run.get_mut(at) {
                place.copy_from_slice(value);
            }
            return;
        }
        Some(at) if extend => at,
        _ => own.start..own.start,
    };
    let length = old.len() + value.len();
    let mut head = Head::default();
    head.put(key.len());
    head.put(length);
    let value_at = own.start + head.as_slice().len() + key.len();
    let (end, new_end) = (run.len(), value_at + length);
    let need = new_end + end - own.end;
    if need > run.capacity() {
        // Not twice as much: most maps never grow again.
        run.reserve_exact(need.next_multiple_of(32) - end);
    }
    // What stands behind moves; then what is kept of the old value, before its place is written over.
    run.resize(need.max(end), 0);
    run.copy_within(own.end..end, new_end);
    run.truncate(need);
    run.copy_within(old.clone(), value_at);
    let mut at = own.start;
    for part in [head.as_slice(), key] {
        if let Some(place) = run.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
        at += part.len();
    }
    if let Some(place) = run.get_mut(value_at + old.len()..new_end) {
        place.copy_from_slice(value);
    }
}

/// The two lengths before an entry.
#[derive(Default)]
struct Head {
    bytes: [u8; 20],
    len: usize,
}

impl Head {
    fn put(&mut self, mut n: usize) {
        loop {
            let more = n >= 0x80;
            if let Some(byte) = self.bytes.get_mut(self.len) {
                *byte = n as u8 & 0x7f | u8::from(more) << 7;
            }
            self.len += 1;
            n >>= 7;
            if !more {
                return;
            }
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Default for Map {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

impl Map {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Small(run) => run.is_empty(),
            Self::Large(large) => large.tree.is_empty(),
        }
    }

    /// The bytes of a small map.
    pub(super) fn run(&self) -> &[u8] {
        match self {
            Self::Small(run) => run,
            Self::Large(_) => &[],
        }
    }

    /// Bytes of all keys and values, about.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Small(run) => run.len(),
            Self::Large(large) => large.bytes,
        }
    }

    /// Bytes held.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Small(run) => run.capacity(),
            Self::Large(large) => large.bytes + large.tree.len() * TREE_ENTRY,
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Small(run) => run.get(find(run, key).1?),
            Self::Large(large) => large.tree.get(key).map(Vec::as_slice),
        }
    }

    /// A value, to be changed in place.
    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut [u8]> {
        match self {
            Self::Small(run) => {
                let value = find(run, key).1?;
                run.get_mut(value)
            }
            Self::Large(large) => large.tree.get_mut(key).map(Vec::as_mut_slice),
        }
    }

    /// Sets a value.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        self.write(key, value, false);
    }

    /// Adds bytes at the end of a value, which is empty before the first.
    pub(super) fn extend(&mut self, key: &[u8], more: &[u8]) {
        self.write(key, more, true);
    }

    fn write(&mut self, key: &[u8], value: &[u8], extend: bool) {
        match self {
            Self::Small(run) => {
                write_small(run, key, value, extend);
                if run.len() > SMALL_MAX {
                    *self = Self::Large(Box::new(Large::of(run)));
                }
            }
            Self::Large(large) => large.write(key, value, extend),
        }
    }

    /// Removes an entry, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) {
        match self {
            Self::Small(run) => {
                run.drain(find(run, key).0);
                if run.is_empty() {
                    *run = Vec::new();
                }
            }
            Self::Large(large) => {
                let removed = large.tree.remove(key);
                large.bytes -= removed.as_ref().map_or(0, |v| key.len() + v.len());
                if large.tree.is_empty() {
                    *self = Self::default();
                }
            }
        }
    }

    /// The entries behind `after`, ascending.
    pub(super) fn after<'a>(&'a self, after: Option<&'a [u8]>) -> Entries<'a> {
        match self {
            Self::Small(run) => {
                let start = after.map_or(0, |key| find(run, key).0.end);
                Entries::Small(run.get(start..).unwrap_or_default())
            }
            Self::Large(large) => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                Entries::Large(large.tree.range::<[u8], _>((from, Bound::Unbounded)))
            }
        }
    }
}

impl Large {
    fn of(run: &[u8]) -> Self {
        let mut large = Self::default();
        for place in places(run) {
            let value = run.get(place.value).unwrap_or_default();
            large.bytes += place.key.len() + value.len();
            large.tree.insert(place.key.into(), value.to_vec());
        }
        large
    }

    fn write(&mut self, key: &[u8], value: &[u8], extend: bool) {
        self.bytes += value.len();
        match self.tree.get_mut(key) {
            Some(old) if extend => old.extend_from_slice(value),
            Some(old) => {
                self.bytes -= old.len();
                *old = value.to_vec();
            }
            None => {
                self.bytes += key.len();
                self.tree.insert(key.into(), value.to_vec());
            }
        }
    }
}

/// Entries of a map, ascending by key.
pub(super) enum Entries<'a> {
    /// What is left of a run.
    Small(&'a [u8]),
    /// Of a tree.
    Large(btree_map::Range<'a, Box<[u8]>, Vec<u8>>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Small(rest) => {
                if rest.is_empty() {
                    return None;
                }
                let (key, value) = (take_length(rest)?, take_length(rest)?);
                Some((cut(rest, key)?, cut(rest, value)?))
            }
            Self::Large(range) => range.next().map(|(k, v)| (k.as_ref(), v.as_slice())),
        }
    }
}
