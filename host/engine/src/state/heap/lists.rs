//! Lists by slot.

use pelton_model::Result;
use pelton_model::encoding::decode;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Field;

use super::packed::{CHUNK, Items, chunk, fetch, restamp};
use super::{READ_BYTES_MAX, too_large};
use crate::function::{Lists, Slots};
use crate::state::Expiry;
use crate::state::rows::encoded_width;

/// A list up to this many bytes is moved at once when its first items expire; a longer one when half of it has.
const MOVED_MAX: usize = 4096;

/// Lists by slot.
#[derive(Debug)]
pub(super) struct ListStore {
    value: Vec<Field>,
    items: Items,
    pub(super) expiry: Option<Expiry>,
    lists: Vec<Vec<u8>>,
    bytes: u64,
}

impl ListStore {
    pub(super) fn new(spec: &StateSpec) -> Self {
        Self {
            value: spec.schema.fields.clone(),
            items: items(spec),
            expiry: spec.ttl.map(Expiry::new),
            lists: Vec::new(),
            bytes: 0,
        }
    }

    /// The fields of a value.
    pub(super) fn fields(&self) -> &[Field] {
        &self.value
    }

    pub(super) fn has(&self, slot: u32) -> bool {
        self.size_of(slot) > 0
    }

    pub(super) fn size_of(&self, slot: u32) -> usize {
        self.lists.get(slot as usize).map_or(0, Vec::len)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes + (self.lists.capacity() * size_of::<Vec<u8>>()) as u64
    }

    pub(super) fn push(&mut self, slot: u32, value: &[u8]) {
        let stamp = self.expiry.as_ref().map_or(0, Expiry::stamp);
        self.push_stamped(slot, value, stamp);
    }

    /// Adds a value that has a stamp of its own.
    pub(super) fn push_stamped(&mut self, slot: u32, value: &[u8], stamp: i64) {
        if self.lists.len() <= slot as usize {
            self.lists.resize_with(slot as usize + 1, Vec::new);
        }
        let items = self.items;
        self.change(slot, |list| items.push(list, value, stamp));
    }

    pub(super) fn clear(&mut self, slot: u32) {
        self.change(slot, |list| *list = Vec::new());
    }

    /// Fetches what will be looked at next.
    pub(super) fn fetch(&self, slots: &[u32]) {
        let lists = slots.iter().filter_map(|s| self.lists.get(*s as usize));
        fetch(lists.map(Vec::as_slice));
    }

    fn change(&mut self, slot: u32, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(list) = self.lists.get_mut(slot as usize) {
            let before = list.capacity() as u64;
            change(list);
            self.bytes = self.bytes - before + list.capacity() as u64;
        }
    }

    /// Removes what has expired under a slot.
    pub(super) fn expire(&mut self, slot: u32) {
        let (Some(expiry), items) = (self.expiry, self.items) else {
            return;
        };
        if self.has(slot) {
            self.change(slot, |list| drop_expired(items, &expiry, list));
        }
    }

    /// Whether anything under a slot has expired that is still there.
    pub(super) fn is_stale(&self, slot: u32) -> bool {
        let (Some(expiry), Some(list)) = (&self.expiry, self.lists.get(slot as usize)) else {
            return false;
        };
        let first = self.items.iter(list).next();
        first.is_some_and(|(_, stamp, _)| expiry.is_over(stamp))
    }

    /// The items of slots, with their stamps, but for those that are over by `clock`.
    pub(super) fn items_of(
        &self,
        slots: &[u32],
        clock: Option<&Expiry>,
        mut each: impl FnMut(u32, i64, &[u8]),
    ) {
        for (row, slot) in slots.iter().enumerate() {
            if row % CHUNK == 0 {
                self.fetch(chunk(slots, row));
            }
            let list = self.lists.get(*slot as usize);
            for (_, stamp, value) in self.items.iter(list.map_or(&[][..], Vec::as_slice)) {
                if !clock.is_some_and(|c| c.is_over(stamp)) {
                    each(*slot, stamp, value);
                }
            }
        }
    }

    pub(super) fn read(&mut self, slots: &[u32], bytes: usize) -> Result<Lists> {
        if let Some(expiry) = self.expiry.filter(Expiry::renews) {
            for slot in slots {
                if let Some(list) = self.lists.get_mut(*slot as usize) {
                    renew(self.items, &expiry, list);
                }
            }
        }
        let mut answer = Gathered::new(bytes);
        for (row, slot) in slots.iter().enumerate() {
            if row % CHUNK == 0 {
                self.fetch(chunk(slots, row));
            }
            let list = self
                .lists
                .get(*slot as usize)
                .map_or(&[][..], Vec::as_slice);
            if !answer.list(self.items, self.expiry.as_ref(), list)? {
                break;
            }
        }
        answer.finish(&self.value)
    }
}

/// How the lists of a state lie.
pub(super) fn items(spec: &StateSpec) -> Items {
    Items {
        // Values without any byte are told apart by their lengths.
        width: encoded_width(&spec.schema.fields).filter(|w| *w > 0),
        stamped: spec.ttl.is_some(),
    }
}

/// Gives the items that have not expired the stamp of now.
pub(super) fn renew(items: Items, expiry: &Expiry, list: &mut [u8]) {
    let live: Vec<usize> = items
        .iter(list)
        .filter(|(_, stamp, _)| !expiry.is_over(*stamp))
        .map(|(at, ..)| at)
        .collect();
    live.iter()
        .for_each(|at| restamp(list, *at, expiry.stamp()));
}

/// Removes expired items. They are at the front, since items are added and renewed in order; where a clock went back,
/// some stay until those before them go.
pub(super) fn drop_expired(items: Items, expiry: &Expiry, list: &mut Vec<u8>) {
    let first = items
        .iter(list)
        .find(|(_, stamp, _)| !expiry.is_over(*stamp))
        .map(|(at, ..)| at);
    match first {
        None => *list = Vec::new(),
        Some(at) if at > 0 && (at >= list.len() / 2 || list.len() <= MOVED_MAX) => {
            list.drain(..at);
        }
        Some(_) => {}
    }
}

/// Lists of an answer.
pub(super) struct Gathered<'a> {
    lengths: Vec<u32>,
    values: Vec<&'a [u8]>,
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            lengths: Vec::new(),
            values: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds a list, unless it is beyond the bound and not the first. Errors: `StateLimit` for one that no call can
    /// take.
    pub(super) fn list(
        &mut self,
        items: Items,
        expiry: Option<&Expiry>,
        list: &'a [u8],
    ) -> Result<bool> {
        if !self.lengths.is_empty() && self.bytes + list.len() > self.bytes_max {
            return Ok(false);
        }
        if list.len() > READ_BYTES_MAX {
            return Err(too_large("a list", list.len()));
        }
        self.bytes += list.len();
        let before = self.values.len();
        let seen = items
            .iter(list)
            .filter(|(_, stamp, _)| !expiry.is_some_and(|e| e.hides(*stamp)));
        self.values.extend(seen.map(|(_, _, value)| value));
        self.lengths.push((self.values.len() - before) as u32);
        Ok(true)
    }

    pub(super) fn finish(self, fields: &[Field]) -> Result<Lists> {
        Ok(Lists {
            lengths: self.lengths,
            values: Slots {
                rows: self.values.len(),
                present: None,
                columns: decode(fields, self.values.iter().copied())?,
            },
        })
    }
}
