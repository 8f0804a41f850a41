//! From keys to slots: small numbers under which values are kept, a batch at a time.
//!
//! A key of one 64-bit integer or timestamp that is never null stands in an open table of 16-byte entries. A chunk of
//! rows first copies the entry where each key would stand, so that cache misses overlap, and only then looks at them.
//! Any other key is kept as its canonical encoding. Slots are given in order of first appearance; a slot that is free
//! again is given to the next new key.

mod encoded;

use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, Int64Array, PrimitiveArray};
use pelton_model::encoding::decode;
use pelton_model::key::{encode_key, hash_bytes, plain_i64};
use pelton_model::schema::{DataType, Field};
use pelton_model::{Error, Result};

use std::sync::Arc;

use encoded::Encoded;

/// The keys of a batch.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// For each row, its key: an index into `slots`.
    pub ordinals: Vec<u32>,
    /// The slot of each key, in the order of first appearance.
    pub slots: Vec<u32>,
    /// The row in which each key first appears.
    pub first_rows: Vec<u32>,
}

/// Rows of columns: the first so many, or those named.
#[derive(Clone, Copy, Debug)]
pub enum RowSet<'a> {
    /// The first so many.
    First(usize),
    /// Those named, in this order.
    These(&'a [u32]),
}

impl RowSet<'_> {
    /// How many.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::First(n) => n,
            Self::These(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Keys and their slots.
#[derive(Clone, Debug)]
pub struct KeyIndex {
    fields: Vec<Field>,
    table: Table,
}

#[derive(Clone, Debug)]
enum Table {
    Integers(Integers),
    Encoded(Encoded),
}

impl KeyIndex {
    /// An index of keys with these fields, with room for so many.
    #[must_use]
    pub fn new(fields: Vec<Field>, room: usize) -> Self {
        let plain = matches!(fields.as_slice(), [f] if !f.nullable && matches!(f.data_type, DataType::I64 | DataType::Timestamp));
        let table = if plain {
            Table::Integers(Integers::new(room))
        } else {
            Table::Encoded(Encoded::default())
        };
        Self { fields, table }
    }

    /// Finds or makes the key of each row, and dedupes them.
    pub fn touch(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        touched: &mut Touched,
    ) -> Result<()> {
        touched.ordinals.clear();
        touched.slots.clear();
        touched.first_rows.clear();
        match &mut self.table {
            Table::Integers(t) => {
                let keys = integers(&self.fields, columns)?
                    .get(..rows)
                    .ok_or_else(short)?;
                t.touch(keys, touched);
            }
            Table::Encoded(t) => {
                t.encode(&self.fields, columns, RowSet::First(rows))?;
                t.touch(touched);
            }
        }
        Ok(())
    }

    /// Finds or makes the slot of each row's key.
    pub fn locate(
        &mut self,
        columns: &[ArrayRef],
        rows: RowSet<'_>,
        slots: &mut Vec<u32>,
    ) -> Result<()> {
        slots.clear();
        match &mut self.table {
            Table::Integers(t) => {
                let keys = integers(&self.fields, columns)?;
                match rows {
                    RowSet::First(n) => t.locate(keys.get(..n).ok_or_else(short)?, slots),
                    RowSet::These(rows) => {
                        let some: Option<Vec<i64>> = rows
                            .iter()
                            .map(|r| keys.get(*r as usize).copied())
                            .collect();
                        t.locate(&some.ok_or_else(short)?, slots);
                    }
                }
            }
            Table::Encoded(t) => {
                t.encode(&self.fields, columns, rows)?;
                t.locate(slots);
            }
        }
        Ok(())
    }

    /// The slot of one row's key, if it is there.
    pub fn find(&self, columns: &[ArrayRef], row: u32) -> Result<Option<u32>> {
        let mut found = Vec::with_capacity(1);
        self.seek(columns, RowSet::These(&[row]), &mut found)?;
        Ok(found.first().copied().flatten())
    }

    /// The slot of each row's key, where it is there.
    pub fn seek(
        &self,
        columns: &[ArrayRef],
        rows: RowSet<'_>,
        found: &mut Vec<Option<u32>>,
    ) -> Result<()> {
        found.clear();
        let mut one: Box<dyn FnMut(usize) -> Result<()>> = match &self.table {
            Table::Integers(t) => {
                let keys = integers(&self.fields, columns)?;
                Box::new(move |row| {
                    let key = *keys.get(row).ok_or_else(short)?;
                    let (_, entry) = t.find(key, spread(key) & t.mask);
                    found.push((!entry.is_none()).then_some(entry.slot));
                    Ok(())
                })
            }
            Table::Encoded(t) => {
                let mut key = Vec::new();
                Box::new(move |row| {
                    key.clear();
                    encode_key(&self.fields, columns, row, &mut key)?;
                    found.push(t.find(&key, hash_bytes(&key)));
                    Ok(())
                })
            }
        };
        match rows {
            RowSet::First(n) => (0..n).try_for_each(one),
            RowSet::These(rows) => rows.iter().try_for_each(|r| one(*r as usize)),
        }
    }

    /// The keys of slots, as columns.
    pub fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.table {
            Table::Integers(t) => {
                let keys: Vec<i64> = slots
                    .iter()
                    .map(|s| t.keys.get(*s as usize).copied().unwrap_or_default())
                    .collect();
                Ok(vec![match self.fields.first().map(|f| &f.data_type) {
                    Some(DataType::Timestamp) => Arc::new(
                        PrimitiveArray::<TimestampMillisecondType>::new(keys.into(), None),
                    ),
                    _ => Arc::new(Int64Array::new(keys.into(), None)) as ArrayRef,
                }])
            }
            Table::Encoded(t) => decode(&self.fields, slots.iter().map(|s| t.bytes_of(*s))),
        }
    }

    /// Whether each key is one 64-bit integer.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.table, Table::Integers(_))
    }

    /// The bytes of a slot's key, if it is one of variable length; else 0.
    #[must_use]
    pub fn size_of(&self, slot: u32) -> usize {
        match &self.table {
            Table::Integers(_) => 0,
            Table::Encoded(t) => t.bytes_of(slot).len(),
        }
    }

    /// Appends the canonical encoding of a slot's key.
    pub fn encoding(&self, slot: u32, out: &mut Vec<u8>) {
        match &self.table {
            Table::Integers(t) => {
                let key = t.keys.get(slot as usize).copied().unwrap_or_default();
                out.extend_from_slice(&(key ^ i64::MIN).to_be_bytes());
            }
            Table::Encoded(t) => out.extend_from_slice(t.bytes_of(slot)),
        }
    }

    /// Bytes that so many more keys would take beside those [held](Self::bytes): while a table is moved to a larger
    /// one, both are there.
    #[must_use]
    pub fn growth(&self, keys: usize) -> u64 {
        match &self.table {
            Table::Integers(t) => {
                let need = t.len + keys;
                let fresh = keys.saturating_sub(t.free.len()) * 8;
                if need * 4 <= t.entries.len() * 3 {
                    return fresh as u64;
                }
                ((need * 2).next_power_of_two() * 16 + fresh) as u64
            }
            Table::Encoded(_) => keys as u64 * 64,
        }
    }

    /// Frees the slot of a key that is there.
    pub fn remove(&mut self, slot: u32) {
        match &mut self.table {
            Table::Integers(t) => t.remove(slot),
            Table::Encoded(t) => t.remove(slot),
        }
    }

    /// A copy of what gives keys by their slots; none is found in it.
    #[must_use]
    pub fn names(&self) -> Self {
        let table = match &self.table {
            Table::Integers(t) => Table::Integers(Integers {
                entries: Vec::new(),
                mask: 0,
                len: 0,
                keys: t.keys.clone(),
                free: Vec::new(),
                base: 1,
            }),
            Table::Encoded(t) => Table::Encoded(t.names()),
        };
        Self {
            fields: self.fields.clone(),
            table,
        }
    }

    /// From now on the lowest of the slots that are free is given first.
    pub fn lowest_first(&mut self) {
        let free = match &mut self.table {
            Table::Integers(t) => &mut t.free,
            Table::Encoded(t) => &mut t.free,
        };
        // A stack, mostly in order already.
        free.sort_by(|a, b| b.cmp(a));
    }

    /// Makes room for slots below `slots`, of which these are free: the last is given first.
    pub fn offer(&mut self, slots: usize, free: Vec<u32>) {
        match &mut self.table {
            Table::Integers(t) => {
                t.keys.resize(slots.max(t.keys.len()), 0);
                t.free = free;
            }
            Table::Encoded(t) => t.offer(slots, free),
        }
    }

    /// Forgets all keys, and keeps the memory.
    pub fn clear(&mut self) {
        match &mut self.table {
            Table::Integers(t) => {
                t.entries.fill(Entry::NONE);
                t.keys.clear();
                t.free.clear();
                t.len = 0;
            }
            Table::Encoded(t) => *t = Encoded::default(),
        }
    }

    /// Keys held.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.table {
            Table::Integers(t) => t.len,
            Table::Encoded(t) => t.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Above all slots in use. Equal to [`len`](Self::len) where nothing was ever removed.
    #[must_use]
    pub fn slots(&self) -> usize {
        match &self.table {
            Table::Integers(t) => t.keys.len(),
            Table::Encoded(t) => t.slots(),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.table {
            Table::Integers(t) => (t.entries.len() * 16 + t.keys.len() * 8) as u64,
            Table::Encoded(t) => t.bytes(),
        }
    }
}

fn short() -> Error {
    Error::bug("a key column is too short")
}

fn integers<'a>(fields: &[Field], columns: &'a [ArrayRef]) -> Result<&'a [i64]> {
    match (fields, columns) {
        ([field], [column]) => plain_i64(field, column)
            .ok_or_else(|| Error::bug(format!("key '{}' is null, or not of its type", field.name))),
        _ => Err(Error::bug(
            "a key has another number of columns than fields",
        )),
    }
}

/// Rows whose entries are fetched before any is looked at.
const CHUNK: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: i64,
    /// `u32::MAX`: there is no key here.
    slot: u32,
    /// The base of the last batch that touched it, plus its ordinal there.
    mark: u32,
}

impl Entry {
    const NONE: Self = Self {
        key: 0,
        slot: u32::MAX,
        mark: 0,
    };

    fn is_none(self) -> bool {
        self.slot == u32::MAX
    }
}

/// Linear probing, at most 3/4 full; removal moves later entries back.
#[derive(Clone, Debug)]
struct Integers {
    entries: Vec<Entry>,
    mask: usize,
    len: usize,
    keys: Vec<i64>,
    free: Vec<u32>,
    /// Marks below belong to former batches.
    base: u32,
}

#[inline]
fn spread(key: i64) -> usize {
    let wide = u128::from(key as u64 ^ 0x2d35_8dcc_aa6c_78a5) * 0x9e37_79b9_7f4a_7c15_u128;
    (wide as u64 ^ (wide >> 64) as u64) as usize
}

impl Integers {
    fn new(room: usize) -> Self {
        let size = (room + room / 3 + 1).next_power_of_two().max(64);
        Self {
            entries: vec![Entry::NONE; size],
            mask: size - 1,
            len: 0,
            keys: Vec::with_capacity(room),
            free: Vec::new(),
            base: 1,
        }
    }

    fn at(&self, place: usize) -> Entry {
        self.entries.get(place).copied().unwrap_or(Entry::NONE)
    }

    fn reserve(&mut self, more: usize) {
        let need = self.len + more;
        if need * 4 <= self.entries.len() * 3 {
            return;
        }
        let size = (need * 2).next_power_of_two();
        let old = std::mem::replace(&mut self.entries, vec![Entry::NONE; size]);
        self.mask = size - 1;
        for e in old.into_iter().filter(|e| !e.is_none()) {
            let mut place = spread(e.key) & self.mask;
            while !self.at(place).is_none() {
                place = (place + 1) & self.mask;
            }
            self.put(place, e);
        }
    }

    fn put(&mut self, place: usize, entry: Entry) {
        if let Some(e) = self.entries.get_mut(place) {
            *e = entry;
        }
    }

    fn new_slot(&mut self, key: i64) -> u32 {
        self.len += 1;
        match self.free.pop() {
            Some(slot) => {
                if let Some(k) = self.keys.get_mut(slot as usize) {
                    *k = key;
                }
                slot
            }
            None => {
                self.keys.push(key);
                (self.keys.len() - 1) as u32
            }
        }
    }

    /// Where the key stands, or where it would: from `place` on.
    #[inline]
    fn find(&self, key: i64, mut place: usize) -> (usize, Entry) {
        loop {
            let e = self.at(place);
            if e.key == key || e.is_none() {
                // A vacant entry has key 0: it is told apart by its slot.
                return (place, e);
            }
            place = (place + 1) & self.mask;
        }
    }

    fn locate(&mut self, keys: &[i64], slots: &mut Vec<u32>) {
        slots.reserve(keys.len());
        for chunk in keys.chunks(CHUNK) {
            self.reserve(chunk.len());
            let mut first = [Entry::NONE; CHUNK];
            for (f, key) in first.iter_mut().zip(chunk) {
                *f = self.at(spread(*key) & self.mask);
            }
            for (f, key) in first.iter().zip(chunk) {
                if f.key == *key && !f.is_none() {
                    slots.push(f.slot);
                } else {
                    let (place, found) = self.find(*key, spread(*key) & self.mask);
                    slots.push(if found.is_none() {
                        self.insert(place, *key, 0)
                    } else {
                        found.slot
                    });
                }
            }
        }
    }

    fn insert(&mut self, place: usize, key: i64, mark: u32) -> u32 {
        let slot = self.new_slot(key);
        self.put(place, Entry { key, slot, mark });
        slot
    }

    fn touch(&mut self, keys: &[i64], out: &mut Touched) {
        if self.base > u32::MAX / 2 || keys.len() > (u32::MAX / 2) as usize {
            self.entries.iter_mut().for_each(|e| e.mark = 0);
            self.base = 1;
        }
        out.ordinals.reserve(keys.len());
        let mut row = 0;
        for chunk in keys.chunks(CHUNK) {
            self.reserve(chunk.len());
            let mut places = [0usize; CHUNK];
            let mut first = [Entry::NONE; CHUNK];
            for ((place, f), key) in places.iter_mut().zip(&mut first).zip(chunk) {
                *place = spread(*key) & self.mask;
                *f = self.at(*place);
            }
            for ((place, f), key) in places.iter().zip(&first).zip(chunk) {
                let hit = f.key == *key && !f.is_none();
                let (place, found) = if hit {
                    (*place, self.at(*place))
                } else {
                    self.find(*key, *place)
                };
                let fresh = self.base.wrapping_add(out.slots.len() as u32);
                let mark = if found.is_none() {
                    let slot = self.insert(place, *key, fresh);
                    out.slots.push(slot);
                    out.first_rows.push(row);
                    fresh
                } else if found.mark < self.base {
                    if let Some(e) = self.entries.get_mut(place) {
                        e.mark = fresh;
                    }
                    out.slots.push(found.slot);
                    out.first_rows.push(row);
                    fresh
                } else {
                    found.mark
                };
                out.ordinals.push(mark.wrapping_sub(self.base));
                row += 1;
            }
        }
        self.base = self.base.wrapping_add(out.slots.len() as u32);
    }

    fn remove(&mut self, slot: u32) {
        let Some(key) = self.keys.get(slot as usize).copied() else {
            return;
        };
        let (mut hole, found) = self.find(key, spread(key) & self.mask);
        if found.slot != slot {
            return;
        }
        self.free.push(slot);
        self.len -= 1;
        let mut place = hole;
        loop {
            place = (place + 1) & self.mask;
            let e = self.at(place);
            if e.is_none() {
                break;
            }
            // It may move back unless its own place lies between the hole and where it stands.
            let home = spread(e.key) & self.mask;
            if place.wrapping_sub(home) & self.mask >= place.wrapping_sub(hole) & self.mask {
                self.put(hole, e);
                hole = place;
            }
        }
        self.put(hole, Entry::NONE);
    }
}

#[cfg(test)]
mod tests;
