//! A table of (key of the call, map key by its encoding), that keeps its memory from call to call.

use std::cell::Cell;

use crate::column::Buffer;

const NONE: u32 = u32::MAX;

/// Numbers its entries from 0 in the order in which they came.
#[derive(Default)]
pub(super) struct Index {
    /// Open addressing: 1 + the entry's number; as many as a power of two.
    buckets: Vec<u32>,
    entries: Vec<Entry>,
    bytes: Buffer,
    /// The entry that was found last: what is looked at is mostly changed next.
    latest: Cell<u32>,
    /// For each key of the call, its last entry.
    last: Vec<u32>,
}

struct Entry {
    key: u32,
    hash: u32,
    start: u32,
    end: u32,
    /// The entry of the same key that came before.
    before: u32,
}

impl Index {
    /// Forgets all, for a call of so many keys.
    pub(super) fn reset(&mut self, keys: usize) {
        if !self.entries.is_empty() {
            self.buckets.fill(0);
        }
        self.entries.clear();
        self.bytes.clear();
        self.last.clear();
        self.last.resize(keys, NONE);
    }

    #[inline]
    pub(super) fn find(&self, key: usize, map_key: &[u8]) -> Option<usize> {
        if let Some(number) = self.is_latest(key, map_key) {
            return Some(number);
        }
        let found = self.probe(key as u32, map_key, hash(key as u32, map_key));
        let number = found.ok()?;
        self.latest.set(number as u32);
        Some(number)
    }

    #[inline(always)]
    fn is_latest(&self, key: usize, map_key: &[u8]) -> Option<usize> {
        let number = self.latest.get() as usize;
        let entry = self.entries.get(number)?;
        (entry.key == key as u32 && same(self.map_key(number), map_key)).then_some(number)
    }

    /// The entry's number, and whether it is new.
    #[inline]
    pub(super) fn enter(&mut self, key: usize, map_key: &[u8]) -> (usize, bool) {
        if let Some(number) = self.is_latest(key, map_key) {
            return (number, false);
        }
        if (self.entries.len() + 1) * 4 > self.buckets.len() * 3 {
            self.grow();
        }
        let hash = hash(key as u32, map_key);
        match self.probe(key as u32, map_key, hash) {
            Ok(found) => (found, false),
            Err(bucket) => {
                let number = self.entries.len();
                let start = self.bytes.len() as u32;
                self.bytes.extend(map_key);
                let before = match self.last.get_mut(key) {
                    Some(last) => std::mem::replace(last, number as u32),
                    None => NONE,
                };
                self.entries.push(Entry {
                    key: key as u32,
                    hash,
                    start,
                    end: self.bytes.len() as u32,
                    before,
                });
                if let Some(bucket) = self.buckets.get_mut(bucket) {
                    *bucket = number as u32 + 1;
                }
                self.latest.set(number as u32);
                (number, true)
            }
        }
    }

    /// The key of the call that an entry is under.
    pub(super) fn key(&self, entry: usize) -> u32 {
        self.entries.get(entry).map_or(0, |e| e.key)
    }

    /// The encoding of an entry's map key.
    #[inline]
    pub(super) fn map_key(&self, entry: usize) -> &[u8] {
        self.entries
            .get(entry)
            .and_then(|e| self.bytes.as_slice().get(e.start as usize..e.end as usize))
            .unwrap_or(&[])
    }

    /// The entries under a key, the latest first.
    pub(super) fn under(&self, key: usize) -> impl Iterator<Item = usize> {
        let mut at = self.last.get(key).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let number = at as usize;
            at = self.entries.get(number)?.before;
            Some(number)
        })
    }

    /// The entry, or the bucket where it belongs.
    fn probe(&self, key: u32, map_key: &[u8], hash: u32) -> Result<usize, usize> {
        let mask = self.buckets.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let number = match self.buckets.get(at) {
                None | Some(0) => return Err(at),
                Some(number) => *number as usize - 1,
            };
            if let Some(e) = self.entries.get(number)
                && (e.hash, e.key) == (hash, key)
                && same(self.map_key(number), map_key)
            {
                return Ok(number);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let size = (self.buckets.len() * 2).max(64);
        self.buckets.clear();
        self.buckets.resize(size, 0);
        for (number, entry) in (1u32..).zip(&self.entries) {
            let mut at = entry.hash as usize & (size - 1);
            while self.buckets.get(at).is_some_and(|b| *b != 0) {
                at = (at + 1) & (size - 1);
            }
            if let Some(bucket) = self.buckets.get_mut(at) {
                *bucket = number;
            }
        }
    }
}

/// Whether they are equal. Short ones, as most map keys are, by words instead of a call that goes by bytes.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    let ends = |bytes: &[u8]| -> Option<(u64, u64)> {
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        Some((word(bytes.first_chunk()?), word(bytes.last_chunk()?)))
    };
    match (ends(a), ends(b)) {
        (Some(x), Some(y)) if a.len() <= 16 => a.len() == b.len() && x == y,
        _ => a == b,
    }
}

/// Eight bytes at a time: a multiplication each.
#[inline]
fn hash(key: u32, bytes: &[u8]) -> u32 {
    const BY: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |h: u64, v: u64| (h.rotate_left(5) ^ v).wrapping_mul(BY);
    let mut h = mix(bytes.len() as u64, u64::from(key));
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        h = mix(h, chunk.try_into().map_or(0, u64::from_le_bytes));
    }
    for byte in chunks.remainder() {
        h = mix(h, u64::from(*byte));
    }
    (h >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_where_each_is() {
        let text: Vec<u8> = (0..40).collect();
        for a in 0..text.len() {
            assert!(same(&text[..a], &Vec::from(&text[..a])));
            assert!((0..text.len()).all(|b| a == b || !same(&text[..a], &text[..b])));
            for at in 0..a {
                let mut other = text[..a].to_vec();
                other[at] ^= 1;
                assert!(!same(&text[..a], &other), "{a} bytes, another at {at}");
            }
        }
    }

    #[test]
    fn entries_are_found_by_key_and_map_key() {
        let mut index = Index::default();
        for round in 0..3usize {
            index.reset(100);
            assert_eq!(index.find(1, b"a"), None);
            for i in 0..1000usize {
                let text = format!("{}", i / 100 + round);
                assert_eq!(index.enter(i % 100, text.as_bytes()), (i, true));
                assert_eq!(index.enter(i % 100, text.as_bytes()), (i, false));
            }
            assert_eq!(
                index.find(7, format!("{}", 3 + round).as_bytes()),
                Some(307)
            );
            assert_eq!(
                (index.key(307), index.map_key(307)),
                (7, format!("{}", 3 + round).as_bytes())
            );
            let under: Vec<_> = index.under(7).collect();
            assert_eq!(under, [907, 807, 707, 607, 507, 407, 307, 207, 107, 7]);
        }
    }
}
