//! Maps by slot; their values are single ones, or lists.

use pelton_model::Result;
use pelton_model::encoding::decode;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Field;

use arrow_buffer::BooleanBuffer;

use super::lists::{Gathered, drop_expired, items, renew};
use super::packed::{CHUNK, Items, Map, STAMP, chunk, fetch, restamp, stamp_of};
use super::{READ_BYTES_MAX, too_large};
use crate::function::{Entries, Lists, Slots, TOO_MANY};
use crate::state::values::ValueStore;
use crate::state::{EncodedRows, Expiry};

/// Entries of a large map that are looked at in one go for what has expired.
const SWEPT_MAX: usize = 256;

/// Maps by slot.
#[derive(Debug)]
pub(super) struct MapStore {
    key: Vec<Field>,
    value: Vec<Field>,
    /// Stands where there is no value.
    blank: Vec<u8>,
    items: Items,
    /// Whether each value is a list.
    pub(super) of_lists: bool,
    pub(super) expiry: Option<Expiry>,
    maps: Vec<Map>,
    bytes: u64,
    /// Where the sweep through a large map goes on: behind this key.
    swept: Option<Box<[u8]>>,
}

impl MapStore {
    pub(super) fn new(spec: &StateSpec) -> Self {
        Self {
            key: spec
                .map_key
                .as_ref()
                .map_or_else(Vec::new, |k| k.fields.clone()),
            value: spec.schema.fields.clone(),
            blank: ValueStore::blank(&spec.schema),
            items: items(spec),
            of_lists: spec.kind.is_list(),
            expiry: spec.ttl.map(Expiry::new),
            maps: Vec::new(),
            bytes: 0,
            swept: None,
        }
    }

    /// The encodings of map keys. Errors: `BadReply` where they are not of the map's type.
    pub(super) fn keys(&self, keys: &Slots) -> Result<EncodedRows> {
        EncodedRows::new(&self.key, keys)
    }

    /// The fields of a value.
    pub(super) fn fields(&self) -> &[Field] {
        &self.value
    }

    pub(super) fn has(&self, slot: u32) -> bool {
        self.map(slot).is_some()
    }

    pub(super) fn size_of(&self, slot: u32) -> usize {
        self.map(slot).map_or(0, Map::size)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes + (self.maps.capacity() * size_of::<Map>()) as u64
    }

    fn map(&self, slot: u32) -> Option<&Map> {
        self.maps.get(slot as usize).filter(|m| !m.is_empty())
    }

    /// Fetches what will be looked at next.
    pub(super) fn fetch(&self, slots: &[u32]) {
        let maps = slots.iter().filter_map(|s| self.maps.get(*s as usize));
        fetch(maps.map(Map::run));
    }

    fn change(&mut self, slot: u32, change: impl FnOnce(&mut Map)) {
        if let Some(map) = self.maps.get_mut(slot as usize) {
            let before = map.cost() as u64;
            change(map);
            self.bytes = self.bytes - before + map.cost() as u64;
        }
    }

    /// Sets an entry, or adds to its list.
    pub(super) fn put(&mut self, slot: u32, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) {
        let stamp = self.expiry.as_ref().map_or(0, Expiry::stamp);
        self.put_stamped(slot, (key, value), stamp, scratch);
    }

    /// The same with a stamp of its own.
    pub(super) fn put_stamped(
        &mut self,
        slot: u32,
        (key, value): (&[u8], &[u8]),
        stamp: i64,
        scratch: &mut Vec<u8>,
    ) {
        if self.maps.len() <= slot as usize {
            self.maps.resize_with(slot as usize + 1, Map::default);
        }
        scratch.clear();
        if self.of_lists {
            self.items.push(scratch, value, stamp);
            self.change(slot, |map| map.extend(key, scratch));
        } else if self.expiry.is_some() {
            scratch.extend_from_slice(&stamp.to_le_bytes());
            scratch.extend_from_slice(value);
            self.change(slot, |map| map.set(key, scratch));
        } else {
            self.change(slot, |map| map.set(key, value));
        }
    }

    pub(super) fn remove(&mut self, slot: u32, key: &[u8]) {
        self.change(slot, |map| map.remove(key));
    }

    pub(super) fn clear(&mut self, slot: u32) {
        self.change(slot, |map| *map = Map::default());
    }

    /// The entries of slots, an item of a list each, with their stamps, but for those that are over by `clock`.
    pub(super) fn entries_of(
        &self,
        slots: &[u32],
        clock: Option<&Expiry>,
        mut each: impl FnMut(u32, &[u8], i64, &[u8]),
    ) {
        let over = |stamp: i64| clock.is_some_and(|c| c.is_over(stamp));
        for (row, slot) in slots.iter().enumerate() {
            if row % CHUNK == 0 {
                self.fetch(chunk(slots, row));
            }
            for (key, value) in self.map(*slot).into_iter().flat_map(|m| m.after(None)) {
                if self.of_lists {
                    for (_, stamp, value) in self.items.iter(value).filter(|i| !over(i.1)) {
                        each(*slot, key, stamp, value);
                    }
                } else if self.expiry.is_none() {
                    each(*slot, key, 0, value);
                } else if !over(stamp_of(value)) {
                    let plain = value.get(STAMP..).unwrap_or_default();
                    each(*slot, key, stamp_of(value), plain);
                }
            }
        }
    }

    /// Whether the next step of the sweep removes anything.
    pub(super) fn is_stale(&self, slot: u32) -> bool {
        let (Some(expiry), Some(map)) = (&self.expiry, self.map(slot)) else {
            return false;
        };
        let is_over = |value: &[u8]| match self.of_lists {
            true => {
                let first = self.items.iter(value).next();
                first.is_some_and(|(_, stamp, _)| expiry.is_over(stamp))
            }
            false => expiry.is_over(stamp_of(value)),
        };
        let mut next = map.after(self.swept.as_deref()).take(SWEPT_MAX);
        next.any(|(_, value)| is_over(value))
    }

    /// The lists under (slot, map key) pairs, of a prefix.
    pub(super) fn lists(&mut self, slots: &[u32], keys: &Slots, bytes: usize) -> Result<Lists> {
        let keys = self.keys(keys)?;
        if let Some(expiry) = self.expiry.filter(Expiry::renews) {
            for (row, slot) in slots.iter().enumerate() {
                let map = self.maps.get_mut(*slot as usize);
                if let Some(list) = map.and_then(|m| m.get_mut(keys.row(row))) {
                    renew(self.items, &expiry, list);
                }
            }
        }
        let mut answer = Gathered::new(bytes);
        for (row, slot) in slots.iter().enumerate() {
            if row % CHUNK == 0 {
                self.fetch(chunk(slots, row));
            }
            let list = self.map(*slot).and_then(|m| m.get(keys.row(row)));
            if !answer.list(self.items, self.expiry.as_ref(), list.unwrap_or_default())? {
                break;
            }
        }
        answer.finish(&self.value)
    }

    /// The values under (slot, map key) pairs.
    pub(super) fn values(&mut self, slots: &[u32], keys: &Slots) -> Result<Slots> {
        let keys = self.keys(keys)?;
        if let Some(expiry) = self.expiry.filter(Expiry::renews) {
            for (row, slot) in slots.iter().enumerate() {
                let map = self.maps.get_mut(*slot as usize);
                if let Some(value) = map.and_then(|m| m.get_mut(keys.row(row)))
                    && !expiry.is_over(stamp_of(value))
                {
                    restamp(value, 0, expiry.stamp());
                }
            }
        }
        let mut bytes = 0;
        let mut found = Vec::with_capacity(slots.len());
        for (row, slot) in slots.iter().enumerate() {
            if row % CHUNK == 0 {
                self.fetch(chunk(slots, row));
            }
            let value = self.map(*slot).and_then(|m| m.get(keys.row(row)));
            let value = value.and_then(|v| self.visible(v));
            bytes += value.map_or(0, <[u8]>::len);
            found.push(value);
        }
        if bytes > READ_BYTES_MAX {
            return Err(too_large("what a call asks of a map", bytes));
        }
        let all = found.iter().all(Option::is_some);
        let present = |i: usize| found.get(i).is_some_and(Option::is_some);
        Ok(Slots {
            rows: slots.len(),
            present: (!all).then(|| BooleanBuffer::collect_bool(found.len(), present)),
            columns: decode(
                &self.value,
                found.iter().map(|v| v.unwrap_or(self.blank.as_slice())),
            )?,
        })
    }

    /// A value without its stamp, unless it is not to be seen.
    fn visible<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        match &self.expiry {
            Some(e) if e.hides(stamp_of(value)) => None,
            Some(_) => value.get(STAMP..),
            None => Some(value),
        }
    }

    /// Whether an entry has anything to be seen.
    fn shows(&self, value: &[u8]) -> bool {
        match &self.expiry {
            Some(e) if self.of_lists => self.items.iter(value).any(|(_, stamp, _)| !e.hides(stamp)),
            Some(e) => !e.hides(stamp_of(value)),
            None => true,
        }
    }

    /// Renews the entries of a map that are read, at most so many behind `after`.
    fn renew(&mut self, slot: u32, after: Option<&[u8]>, limit: usize) {
        let Some(expiry) = self.expiry.filter(|e| e.renews() && !self.of_lists) else {
            return;
        };
        let Some(map) = self.maps.get_mut(slot as usize) else {
            return;
        };
        let live: Vec<Box<[u8]>> = map
            .after(after)
            .filter(|(_, value)| !expiry.is_over(stamp_of(value)))
            .take(limit)
            .map(|(key, _)| key.into())
            .collect();
        for key in &live {
            if let Some(value) = map.get_mut(key) {
                restamp(value, 0, expiry.stamp());
            }
        }
    }

    /// Whole maps of a prefix of slots.
    pub(super) fn whole(
        &mut self,
        slots: &[u32],
        each_max: usize,
        bytes_max: usize,
    ) -> Result<Entries> {
        let each_max = each_max.min(READ_BYTES_MAX);
        let (mut counts, mut bytes) = (Vec::new(), 0);
        for slot in slots {
            let size = self.size_of(*slot);
            if size > each_max {
                counts.push(TOO_MANY);
                continue;
            }
            if !counts.is_empty() && bytes + size > bytes_max {
                break;
            }
            bytes += size;
            counts.push(0);
            self.renew(*slot, None, usize::MAX);
        }
        let mut found = Vec::new();
        for (count, slot) in counts.iter_mut().zip(slots) {
            if let Some(map) = self.map(*slot).filter(|_| *count != TOO_MANY) {
                let before = found.len();
                found.extend(map.after(None).filter(|(_, value)| self.shows(value)));
                *count = (found.len() - before) as u32;
            }
        }
        self.answer(counts, &found)
    }

    /// Some entries of one map; of lists, their map keys alone.
    pub(super) fn scan(
        &mut self,
        slot: u32,
        after: Option<&Slots>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Entries> {
        let after = after.map(|a| self.keys(a)).transpose()?;
        let after = after.as_ref().map(|a| a.row(0));
        let mut bytes = 0;
        let fits = |(key, value): &(&[u8], &[u8])| {
            let first = bytes == 0;
            bytes += key.len() + if self.of_lists { 1 } else { value.len() + 1 };
            first || bytes <= bytes_max
        };
        let map = self.map(slot);
        let entries = map.into_iter().flat_map(|m| m.after(after));
        let count = entries
            .filter(|(_, value)| self.shows(value))
            .take(limit)
            .take_while(fits)
            .count();
        self.renew(slot, after, count);
        let entries = self.map(slot).into_iter().flat_map(|m| m.after(after));
        let found: Vec<_> = entries
            .filter(|(_, value)| self.shows(value))
            .take(count)
            .collect();
        self.answer(vec![found.len() as u32], &found)
    }

    fn answer(&self, counts: Vec<u32>, found: &[(&[u8], &[u8])]) -> Result<Entries> {
        let plain = |value| match &self.expiry {
            Some(_) => <[u8]>::get(value, STAMP..).unwrap_or_default(),
            None => value,
        };
        let values = if self.of_lists {
            Vec::new()
        } else {
            decode(&self.value, found.iter().map(|(_, value)| plain(*value)))?
        };
        let slots = |columns| Slots {
            rows: found.len(),
            present: None,
            columns,
        };
        Ok(Entries {
            counts,
            keys: slots(decode(&self.key, found.iter().map(|(key, _)| *key))?),
            values: slots(values),
        })
    }

    /// Removes some of what has expired under a slot; whether all of it was looked at. To be called again for the same
    /// slot until then.
    pub(super) fn sweep(&mut self, slot: u32) -> bool {
        let from = self.swept.take();
        self.swept = self.expire_some(slot, from.as_deref());
        self.swept.is_none()
    }

    /// Looks at some entries behind `from`; returns the last, if there are more.
    fn expire_some(&mut self, slot: u32, from: Option<&[u8]>) -> Option<Box<[u8]>> {
        let expiry = self.expiry?;
        let (items, of_lists) = (self.items, self.of_lists);
        let map = self.map(slot)?;
        let mut last = None;
        // Keys to remove, and what is left of lists.
        let (mut gone, mut shorter) = (Vec::<Box<[u8]>>::new(), Vec::new());
        let mut seen = 0;
        for (key, value) in map.after(from).take(SWEPT_MAX) {
            seen += 1;
            last = Some(key);
            if of_lists {
                let first = items.iter(value).next();
                if first.is_some_and(|(_, stamp, _)| expiry.is_over(stamp)) {
                    let mut list = value.to_vec();
                    drop_expired(items, &expiry, &mut list);
                    if list.is_empty() {
                        gone.push(key.into());
                    } else if list.len() < value.len() {
                        shorter.push((Box::<[u8]>::from(key), list));
                    }
                }
            } else if expiry.is_over(stamp_of(value)) {
                gone.push(key.into());
            }
        }
        let more = last.filter(|_| seen == SWEPT_MAX).map(Into::into);
        if !gone.is_empty() || !shorter.is_empty() {
            self.change(slot, |map| {
                shorter.iter().for_each(|(key, list)| map.set(key, list));
                gone.iter().for_each(|key| map.remove(key));
            });
        }
        more
    }
}
