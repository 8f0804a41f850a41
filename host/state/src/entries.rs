//! Lists, maps and maps of lists: each item and each entry is one of the store's own.

use std::collections::{HashMap, HashSet};

use arrow_buffer::BooleanBuffer;
use pelton_engine::function::{Entries, EntryChange, EntryChanges, Lists, Slots, TOO_MANY};
use pelton_engine::state::{EncodedRows, Expiry, StateTime, ValueStore};
use pelton_model::encoding::decode;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Field;
use pelton_model::{Error, ErrorCode, Result};
use rocksdb::WriteBatch;

use crate::fault::{another_kind, misfit};
use crate::layout::{NUMBER, Shape, entry_prefix_of, group_of, key_of, unstamp};
use crate::store::{Family, Scan, Store};
use crate::values::StoreKeys;

/// The most bytes that one read gives: less than what an array of strings can hold.
const READ_BYTES_MAX: usize = 1 << 30;
/// The most bytes of one answer of entries, beyond the first.
const SCAN_BYTES_MAX: usize = 4 << 20;

/// Whatever has more than one value a key.
pub(crate) struct EntryState {
    key: Vec<Field>,
    value: Vec<Field>,
    /// Stands where there is no value.
    blank: Vec<u8>,
    shape: Shape,
    expiry: Option<Expiry>,
    family: Family,
    /// The number of the next item of any list.
    next: u64,
    /// Values with new stamps, because they were read.
    renewed: WriteBatch,
}

/// Rows one after the other.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Rows {
    fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn cut(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn slots(&self, fields: &[Field]) -> Result<Slots> {
        let rows = self.ends.iter().scan(0, |start, end| {
            let row = self.bytes.get(*start..*end).unwrap_or_default();
            *start = *end;
            Some(row)
        });
        Ok(Slots {
            rows: self.len(),
            present: None,
            columns: decode(fields, rows)?,
        })
    }
}

impl EntryState {
    pub(crate) fn new(spec: &StateSpec, family: Family) -> Self {
        let shape = match (&spec.map_key, spec.kind.is_list()) {
            (None, _) => Shape::List,
            (Some(_), false) => Shape::Map,
            (Some(_), true) => Shape::MapOfLists,
        };
        Self {
            key: spec
                .map_key
                .as_ref()
                .map_or_else(Vec::new, |k| k.fields.clone()),
            value: spec.schema.fields.clone(),
            blank: ValueStore::blank(&spec.schema),
            shape,
            expiry: spec.ttl.map(Expiry::new),
            family,
            next: 0,
            renewed: WriteBatch::default(),
        }
    }

    pub(crate) fn family(&self) -> &Family {
        &self.family
    }

    pub(crate) fn expiry(&self) -> Option<Expiry> {
        self.expiry
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Items from now on have this number and those that follow.
    pub(crate) fn number_from(&mut self, next: u64) {
        self.next = next;
    }

    /// Takes the next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The time from now on. While it is `held`, files keep what has expired since.
    pub(crate) fn at(&mut self, time: StateTime, held: bool) {
        if let Some(expiry) = &mut self.expiry {
            expiry.at(time);
            if !held {
                self.family.at(expiry.stamp());
            }
        }
    }

    /// Writes what reading has changed.
    pub(crate) fn flush(&mut self, store: &Store) -> Result<()> {
        store.write(std::mem::take(&mut self.renewed))
    }

    fn hides(&self, stamp: i64) -> bool {
        self.expiry.as_ref().is_some_and(|e| e.hides(stamp))
    }

    /// What stands before a value that is written now.
    fn stamped(&self, value: &[u8], out: &mut Vec<u8>) {
        out.clear();
        if let Some(expiry) = &self.expiry {
            out.extend_from_slice(&expiry.stamp().to_be_bytes());
        }
        out.extend_from_slice(value);
    }

    /// Notes that a value was read: it lives on from now, where that counts.
    fn renew(&self, key: &[u8], stamp: i64, value: &[u8], renewed: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        if let Some(expiry) = &self.expiry
            && expiry.renews()
            && stamp != expiry.stamp()
            && !expiry.is_over(stamp)
        {
            let mut bytes = Vec::with_capacity(value.len() + 8);
            self.stamped(value, &mut bytes);
            renewed.push((key.to_vec(), bytes));
        }
    }

    fn keep_renewed(&mut self, store: &Store, renewed: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        if renewed.is_empty() {
            return Ok(());
        }
        let handle = store.handle(&self.family)?;
        for (key, value) in renewed {
            self.renewed.put_cf(&handle, key, value);
        }
        Ok(())
    }

    fn split<'v>(&self, value: &'v [u8]) -> Result<(i64, &'v [u8])> {
        unstamp(self.expiry.is_some(), value).ok_or_else(damaged)
    }

    /// Lists of a prefix of the slots, with map keys those under them.
    pub(crate) fn lists(
        &mut self,
        store: &Store,
        mut prefixes: Vec<Vec<u8>>,
        map_keys: Option<&Slots>,
        bytes_max: usize,
    ) -> Result<Lists> {
        match (self.shape, map_keys) {
            (Shape::List, None) => {}
            (Shape::MapOfLists, Some(keys)) => self.extend(&mut prefixes, keys)?,
            _ => return Err(another_kind()),
        }
        let (mut lengths, mut rows, mut renewed) = (Vec::new(), Rows::default(), Vec::new());
        let handle = store.handle(&self.family)?;
        let mut scan = store.scan(&handle);
        'lists: for prefix in &prefixes {
            let (before, start) = (rows.len(), rows.bytes.len());
            let renewed_before = renewed.len();
            scan.seek(prefix);
            while let Some((key, value)) = entry(&scan, prefix) {
                let (stamp, value) = self.split(value)?;
                if !self.hides(stamp) {
                    rows.push(value);
                    self.renew(key, stamp, value, &mut renewed);
                }
                if !lengths.is_empty() && rows.bytes.len() > bytes_max {
                    rows.cut(before);
                    renewed.truncate(renewed_before);
                    break 'lists;
                }
                if rows.bytes.len() - start > READ_BYTES_MAX {
                    return Err(too_large("a list"));
                }
                scan.next();
            }
            scan.status().map_err(|e| store.refused(&e))?;
            lengths.push((rows.len() - before) as u32);
        }
        drop(scan);
        self.keep_renewed(store, renewed)?;
        Ok(Lists {
            lengths,
            values: rows.slots(&self.value)?,
        })
    }

    /// Puts map keys behind prefixes.
    fn extend(&self, prefixes: &mut [Vec<u8>], map_keys: &Slots) -> Result<()> {
        let keys = EncodedRows::new(&self.key, map_keys)?;
        for (row, prefix) in prefixes.iter_mut().enumerate() {
            prefix.extend_from_slice(keys.row(row));
        }
        Ok(())
    }

    /// The values under pairs of slot and map key.
    pub(crate) fn map_values(
        &mut self,
        store: &Store,
        mut prefixes: Vec<Vec<u8>>,
        map_keys: &Slots,
    ) -> Result<Slots> {
        if self.shape != Shape::Map {
            return Err(another_kind());
        }
        self.extend(&mut prefixes, map_keys)?;
        let mut keys = StoreKeys::default();
        for (row, key) in prefixes.iter().enumerate() {
            keys.push(row as u32, |out| out.extend_from_slice(key));
        }
        keys.sort();
        let order: Vec<u32> = keys.iter().map(|(row, _)| row).collect();
        let (mut found, mut bytes) = (vec![None; prefixes.len()], Vec::new());
        let mut bad = false;
        store.read(
            &self.family,
            keys.iter().map(|(_, key)| key),
            |place, value| {
                let row = order
                    .get(place)
                    .and_then(|row| found.get_mut(*row as usize));
                match (row, unstamp(self.expiry.is_some(), value)) {
                    (Some(row), Some((stamp, value))) => {
                        if !self.hides(stamp) {
                            *row = Some((stamp, bytes.len(), value.len()));
                            bytes.extend_from_slice(value);
                        }
                    }
                    _ => bad = true,
                }
            },
        )?;
        if bad {
            return Err(damaged());
        }
        if bytes.len() > READ_BYTES_MAX {
            return Err(too_large("what a call asks of a map"));
        }
        let value = |start: usize, len: usize| bytes.get(start..start + len).unwrap_or_default();
        let mut renewed = Vec::new();
        for (key, found) in prefixes.iter().zip(&found) {
            if let Some((stamp, start, len)) = found {
                self.renew(key, *stamp, value(*start, *len), &mut renewed);
            }
        }
        self.keep_renewed(store, renewed)?;
        let rows = found
            .iter()
            .map(|f| f.map_or(self.blank.as_slice(), |(_, start, len)| value(start, len)));
        let columns = decode(&self.value, rows)?;
        let present = BooleanBuffer::from_iter(found.iter().map(Option::is_some));
        Ok(Slots {
            rows: found.len(),
            present: Some(present).filter(|p| p.count_set_bits() < p.len()),
            columns,
        })
    }

    /// The maps of a prefix of the slots.
    pub(crate) fn maps(
        &mut self,
        store: &Store,
        prefixes: &[Vec<u8>],
        each_max: usize,
        bytes_max: usize,
    ) -> Result<Entries> {
        if self.shape != Shape::Map {
            return Err(another_kind());
        }
        let (mut counts, mut keys, mut values) = (Vec::new(), Rows::default(), Rows::default());
        let mut renewed = Vec::new();
        let handle = store.handle(&self.family)?;
        let mut scan = store.scan(&handle);
        let held = |keys: &Rows, values: &Rows| keys.bytes.len() + values.bytes.len();
        'maps: for prefix in prefixes {
            let (before, start) = (keys.len(), held(&keys, &values));
            let renewed_before = renewed.len();
            let mut whole = true;
            scan.seek(prefix);
            while let Some((key, value)) = entry(&scan, prefix) {
                let (stamp, value) = self.split(value)?;
                if !self.hides(stamp) {
                    keys.push(key.get(prefix.len()..).unwrap_or_default());
                    values.push(value);
                    self.renew(key, stamp, value, &mut renewed);
                }
                let now = held(&keys, &values);
                whole = now - start <= each_max;
                let beyond = !counts.is_empty() && now > bytes_max;
                if !whole || beyond {
                    keys.cut(before);
                    values.cut(before);
                    renewed.truncate(renewed_before);
                    if whole {
                        break 'maps;
                    }
                    break;
                }
                scan.next();
            }
            scan.status().map_err(|e| store.refused(&e))?;
            counts.push(match whole {
                true => (keys.len() - before) as u32,
                false => TOO_MANY,
            });
        }
        drop(scan);
        self.keep_renewed(store, renewed)?;
        self.answer(counts, &keys, Some(&values))
    }

    fn answer(&self, counts: Vec<u32>, keys: &Rows, values: Option<&Rows>) -> Result<Entries> {
        let none = Slots {
            rows: keys.len(),
            present: None,
            columns: Vec::new(),
        };
        Ok(Entries {
            counts,
            keys: keys.slots(&self.key)?,
            values: values.map_or(Ok(none), |v| v.slots(&self.value))?,
        })
    }

    /// Some entries of one map; of lists, their map keys alone.
    pub(crate) fn scan(
        &mut self,
        store: &Store,
        prefix: &[u8],
        after: Option<&Slots>,
        limit: usize,
    ) -> Result<Entries> {
        if self.shape == Shape::List {
            return Err(another_kind());
        }
        let of_lists = self.shape == Shape::MapOfLists;
        let after = after
            .map(|a| EncodedRows::new(&self.key, a))
            .transpose()?
            .map(|a| [prefix, a.row(0)].concat());
        let (mut keys, mut values, mut renewed) = (Rows::default(), Rows::default(), Vec::new());
        let handle = store.handle(&self.family)?;
        let mut scan = store.scan(&handle);
        match &after {
            None => scan.seek(prefix),
            Some(after) if of_lists => seek_behind_list(&mut scan, after),
            Some(after) => {
                scan.seek(after);
                if scan.key() == Some(after.as_slice()) {
                    scan.next();
                }
            }
        }
        while keys.len() < limit
            && let Some((key, value)) = entry(&scan, prefix)
        {
            let (stamp, value) = self.split(value)?;
            if self.hides(stamp) {
                scan.next();
                continue;
            }
            let end = if of_lists {
                key.len().saturating_sub(NUMBER)
            } else {
                key.len()
            };
            let own = key.get(prefix.len()..end).ok_or_else(damaged)?;
            let more = own.len() + if of_lists { 0 } else { value.len() };
            if keys.len() > 0 && keys.bytes.len() + values.bytes.len() + more > SCAN_BYTES_MAX {
                break;
            }
            keys.push(own);
            if of_lists {
                let list = key.get(..end).unwrap_or_default().to_vec();
                seek_behind_list(&mut scan, &list);
            } else {
                values.push(value);
                self.renew(key, stamp, value, &mut renewed);
                scan.next();
            }
        }
        scan.status().map_err(|e| store.refused(&e))?;
        drop(scan);
        self.keep_renewed(store, renewed)?;
        let values = (!of_lists).then_some(&values);
        self.answer(vec![keys.len() as u32], &keys, values)
    }

    /// Adds changes to a batch. What is to be removed is looked for: a batch in which it may be is written before.
    pub(crate) fn write(
        &mut self,
        store: &Store,
        prefixes: &[Vec<u8>],
        changes: &EntryChanges,
        values: &Slots,
        batch: &mut WriteBatch,
    ) -> Result<()> {
        self.flush(store)?;
        let checked = Checked::new(self, prefixes.len(), changes, values)?;
        let handle = store.handle(&self.family)?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut next = 0;
        // Keys of which the batch has something.
        let mut fresh: HashSet<u32> = HashSet::new();
        for (row, (change, ordinal)) in changes.changes.iter().zip(&changes.ordinals).enumerate() {
            let prefix = prefixes.get(*ordinal as usize).ok_or_else(misfit)?;
            key.clear();
            key.extend_from_slice(prefix);
            if let Some(map_keys) = &checked.map_keys {
                key.extend_from_slice(map_keys.row(row));
            }
            if *change == EntryChange::Put as u8 {
                if self.shape != Shape::Map {
                    key.extend_from_slice(&self.number().to_be_bytes());
                }
                self.stamped(checked.values.row(next), &mut value);
                next += 1;
                batch.put_cf(&handle, &key, &value);
                fresh.insert(*ordinal);
            } else if *change == EntryChange::Remove as u8 && self.shape == Shape::Map {
                batch.delete_cf(&handle, &key);
            } else {
                let all = *change == EntryChange::Clear as u8;
                if fresh.remove(ordinal) {
                    store.write(std::mem::take(batch))?;
                    fresh.clear();
                }
                let start = if all { prefix } else { &key };
                let mut scan = store.scan(&handle);
                scan.seek(start);
                while let Some((key, _)) = entry(&scan, start) {
                    batch.delete_cf(&handle, key);
                    scan.next();
                }
                scan.status().map_err(|e| store.refused(&e))?;
            }
        }
        Ok(())
    }

    /// Adds the bytes of keys to `found`, of the first so many entries.
    pub(crate) fn sizes(
        &self,
        store: &Store,
        entries: usize,
        own: &dyn Fn(u32) -> bool,
        found: &mut HashMap<Vec<u8>, u64>,
    ) -> Result<()> {
        let handle = store.handle(&self.family)?;
        let mut scan = store.scan_all(&handle);
        scan.seek_to_first();
        let (mut left, mut last, mut bytes) = (entries, Vec::new(), 0);
        let mut done = |prefix: &[u8], bytes: u64| {
            if bytes > 0 {
                *found.entry(key_of(prefix).to_vec()).or_default() += bytes;
            }
        };
        while let (true, Some((key, value))) = (left > 0, scan.item()) {
            if own(group_of(key)) {
                let prefix = entry_prefix_of(key);
                if prefix != last.as_slice() {
                    done(&last, bytes);
                    (last, bytes) = (prefix.to_vec(), 0);
                }
                bytes += (key.len() - prefix.len() + value.len()) as u64;
                left -= 1;
            }
            scan.next();
        }
        done(&last, bytes);
        scan.status().map_err(|e| store.refused(&e))
    }
}

/// Changes of one call, found to fit.
struct Checked {
    map_keys: Option<EncodedRows>,
    values: EncodedRows,
}

impl Checked {
    /// Errors: `BadReply` where lengths don't agree, a map key is missing, or an ordinal or a change is none.
    fn new(
        state: &EntryState,
        keys: usize,
        entries: &EntryChanges,
        values: &Slots,
    ) -> Result<Self> {
        let values = EncodedRows::new(&state.value, values)?;
        let puts = |c: &&u8| **c == EntryChange::Put as u8;
        let changes = &entries.changes;
        if entries.ordinals.len() != changes.len()
            || changes.iter().filter(puts).count() != values.len()
            || changes.iter().any(|c| *c > EntryChange::Clear as u8)
            || entries.ordinals.iter().any(|o| *o as usize >= keys)
        {
            return Err(misfit());
        }
        let clears = |c: &u8| *c == EntryChange::Clear as u8;
        let map_keys = match (state.shape, &entries.map_keys) {
            (Shape::List, None) => {
                if changes.contains(&(EntryChange::Remove as u8)) {
                    return Err(misfit());
                }
                None
            }
            (Shape::Map | Shape::MapOfLists, Some(keys)) => {
                let has = |row: usize| keys.present.as_ref().is_none_or(|p| p.value(row));
                if keys.rows != changes.len()
                    || !changes
                        .iter()
                        .enumerate()
                        .all(|(row, c)| clears(c) || has(row))
                {
                    return Err(misfit());
                }
                Some(EncodedRows::new(&state.key, keys)?)
            }
            _ => return Err(misfit()),
        };
        Ok(Self { map_keys, values })
    }
}

/// Where the reader stands, as long as that begins with `start`.
fn entry<'s>(scan: &'s Scan<'_>, start: &[u8]) -> Option<(&'s [u8], &'s [u8])> {
    scan.item().filter(|(key, _)| key.starts_with(start))
}

/// Goes behind the list that lies under a map key.
fn seek_behind_list(scan: &mut Scan<'_>, list: &[u8]) {
    let last = [list, &u64::MAX.to_be_bytes()].concat();
    scan.seek(&last);
    if scan.key() == Some(last.as_slice()) {
        scan.next();
    }
}

fn damaged() -> Error {
    Error::new(
        ErrorCode::Corrupt,
        "an entry of the state is shorter than it can be",
    )
    .help("check the disk, and start the job again")
}

fn too_large(what: &str) -> Error {
    let message =
        format!("{what} has more than the {READ_BYTES_MAX} bytes that can be read at once");
    Error::new(ErrorCode::StateLimit, message)
        .help("keep less under each key, or a map, which is read in parts")
}
