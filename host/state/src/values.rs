//! Values of one value-like state: those that are cached, and how they come from the store and go there.

use arrow_buffer::BooleanBuffer;
use pelton_engine::function::{Mark, Slots, StateChange};
use pelton_engine::state::{EncodedRows, Expiry, StateTime, ValueStore};
use pelton_model::encoding::decode;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Field;
use pelton_model::{Error, ErrorCode, Result};
use rocksdb::WriteBatch;

use crate::canonical::{Chunk, Section};
use crate::delta::DeltaOut;
use crate::layout::unstamp;
use crate::store::{Family, Store};

/// The cache has what the slot's value is; or that there is none.
const KNOWN: u8 = 1;
/// The store has something else.
const DIRTY: u8 = 2;
/// A snapshot that has begun is to have what the cache has, which the store has not.
const FROZEN: u8 = 4;
/// It has changed since the last snapshot began.
const FRESH: u8 = 8;
/// Deltas of the chain have a value of it.
const CHAINED: u8 = 16;

/// Keys of slots as they stand in the store, ascending.
#[derive(Debug, Default)]
pub(crate) struct StoreKeys {
    bytes: Vec<u8>,
    /// Slot, and where its key is.
    spans: Vec<(u32, u32, u32)>,
}

impl StoreKeys {
    /// Takes all keys away.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Adds the key of a slot.
    pub(crate) fn push(&mut self, slot: u32, put: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len() as u32;
        put(&mut self.bytes);
        self.spans.push((slot, start, self.bytes.len() as u32));
    }

    /// Puts them in order, which reads and writes of the store need. Most are told apart by their first eight bytes.
    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |span: &(u32, u32, u32)| bytes.get(span.1 as usize..span.2 as usize);
        self.spans
            .sort_unstable_by(|a, b| key(a).unwrap_or_default().cmp(key(b).unwrap_or_default()));
    }

    /// Slots and keys in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> + Clone {
        self.spans.iter().map(|(slot, start, end)| {
            let key = self.bytes.get(*start as usize..*end as usize);
            (*slot, key.unwrap_or_default())
        })
    }
}

/// What frozen values are copied into.
pub(crate) enum Copies<'o> {
    /// A delta, in which the state has this number.
    Delta(usize, &'o mut DeltaOut),
    /// The canonical form.
    Canonical(&'o Section, &'o mut Chunk),
}

/// Values of one state.
pub(crate) struct Values {
    pub(crate) eager: bool,
    fields: Vec<Field>,
    cached: ValueStore,
    /// By slot.
    flags: Vec<u8>,
    /// By slot, where values expire.
    stamps: Vec<i64>,
    expiry: Option<Expiry>,
    family: Family,
    /// Whether the store may have anything: until the first value is written there, nothing is looked for.
    stored: bool,
}

impl Values {
    pub(crate) fn new(spec: &StateSpec, family: Family) -> Self {
        Self {
            eager: spec.is_eager(),
            fields: spec.schema.fields.clone(),
            cached: ValueStore::new(&spec.schema),
            flags: Vec::new(),
            stamps: Vec::new(),
            expiry: spec.ttl.map(Expiry::new),
            family,
            stored: false,
        }
    }

    pub(crate) fn family(&self) -> &Family {
        &self.family
    }

    pub(crate) fn expiry(&self) -> Option<Expiry> {
        self.expiry
    }

    /// The store has something from now on.
    pub(crate) fn set_stored(&mut self) {
        self.stored = true;
    }

    /// Whether reading changes stamps.
    pub(crate) fn renews(&self) -> bool {
        self.expiry.as_ref().is_some_and(Expiry::renews)
    }

    /// The cut of a snapshot: all that the store has otherwise is to be written as it is now.
    pub(crate) fn freeze(&mut self) {
        for flags in &mut self.flags {
            *flags = *flags & KNOWN | (*flags & DIRTY) << 1;
        }
    }

    /// There is no snapshot any more.
    pub(crate) fn thaw(&mut self) {
        for flags in &mut self.flags {
            *flags = *flags & !FROZEN | (*flags & FROZEN) >> 1;
        }
    }

    /// How many slots have changed since the last snapshot, and how many the store has otherwise.
    pub(crate) fn changed(&self) -> (u64, u64) {
        // Sums of bytes, some at a time, are what the processor adds up fastest.
        let count = |some: &[u8], what: u8| -> u64 {
            let ones = some.iter().map(|flags| u8::from(flags & what != 0));
            u64::from(ones.sum::<u8>())
        };
        self.flags.chunks(255).fold((0, 0), |(fresh, dirty), some| {
            (fresh + count(some, FRESH), dirty + count(some, DIRTY))
        })
    }

    /// The barrier of a delta: what has changed since the last one is to be copied as it is now; where deltas are
    /// `replaced`, all that the store has otherwise.
    pub(crate) fn freeze_changed(&mut self, replaced: bool) {
        let (taken, kept) = match replaced {
            true => (DIRTY, KNOWN | DIRTY),
            false => (FRESH, KNOWN | DIRTY | CHAINED),
        };
        for flags in &mut self.flags {
            let frozen = if *flags & taken == 0 { 0 } else { FROZEN };
            *flags = *flags & kept | frozen;
        }
    }

    /// The barrier of a snapshot that has all, while the store has nothing: deltas go on as if there were none.
    pub(crate) fn freeze_all(&mut self) {
        for flags in &mut self.flags {
            *flags |= (*flags & DIRTY) << 1;
        }
    }

    /// Nothing waits for being copied any more.
    pub(crate) fn thaw_changed(&mut self) {
        self.flags.iter_mut().for_each(|flags| *flags &= !FROZEN);
    }

    /// Copies those of the slots that are frozen. Those whose values are gone are added to `gone`.
    pub(crate) fn copy(
        &mut self,
        keys: &StoreKeys,
        to: Copies<'_>,
        gone: &mut Vec<u32>,
    ) -> Result<()> {
        match to {
            Copies::Delta(number, out) => self.copy_each::<true>(keys, gone, |key, value| {
                out.put(number, key, value);
                Ok(())
            }),
            Copies::Canonical(section, chunk) => {
                self.copy_each::<false>(keys, gone, |key, value| match value {
                    Some(value) => section.put(key, value, chunk),
                    None => Ok(()),
                })
            }
        }
    }

    /// Compiled for each kind, for it runs for each key. Only deltas mark what they have.
    fn copy_each<const DELTA: bool>(
        &mut self,
        keys: &StoreKeys,
        gone: &mut Vec<u32>,
        mut put: impl FnMut(&[u8], Option<[&[u8]; 2]>) -> Result<()>,
    ) -> Result<()> {
        let waits = keys.iter().map(|(slot, _)| slot);
        let waits = waits.filter(|slot| self.is_frozen(*slot));
        let set: Vec<u32> = waits.filter(|slot| self.cached.has(*slot)).collect();
        let values = self.cached.encodings(&set)?;
        let stamped = self.expiry.is_some();
        let mut next = 0;
        for (slot, key) in keys.iter() {
            let flags = self.flags(slot);
            if flags & FROZEN == 0 {
                continue;
            }
            let mut now = flags & !FROZEN;
            if DELTA {
                now &= !CHAINED;
            }
            if self.cached.has(slot) {
                let stamp = self.stamp(slot).to_be_bytes();
                let stamp = if stamped { stamp.as_slice() } else { &[] };
                put(key, Some([stamp, values.row(next)]))?;
                next += 1;
                if DELTA {
                    now |= CHAINED;
                }
            } else {
                if self.stored || flags & CHAINED != 0 {
                    put(key, None)?;
                }
                if !self.stored {
                    gone.push(slot);
                }
            }
            if let Some(flags) = self.flags.get_mut(slot as usize) {
                *flags = now;
            }
        }
        Ok(())
    }

    /// Whether the slot has something that a snapshot waits for.
    pub(crate) fn is_frozen(&self, slot: u32) -> bool {
        self.flags(slot) & FROZEN != 0
    }

    /// Whether the slot has changed since the store, or since the cut of a snapshot that waits.
    pub(crate) fn is_dirty(&self, slot: u32) -> bool {
        self.flags(slot) & DIRTY != 0
    }

    /// The store has what the cache has.
    pub(crate) fn settle(&mut self, slot: u32) {
        if let Some(flags) = self.flags.get_mut(slot as usize) {
            *flags &= KNOWN;
        }
    }

    /// Whether the store may have anything.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored
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

    /// Makes room for slots below this one.
    pub(crate) fn grow(&mut self, slots: usize) {
        if self.flags.len() < slots {
            self.flags.resize(slots, 0);
        }
        if self.expiry.is_some() && self.stamps.len() < slots {
            self.stamps.resize(slots, i64::MIN);
        }
    }

    fn flags(&self, slot: u32) -> u8 {
        self.flags.get(slot as usize).copied().unwrap_or_default()
    }

    fn stamp(&self, slot: u32) -> i64 {
        let stamp = self.stamps.get(slot as usize);
        stamp.copied().unwrap_or(i64::MIN)
    }

    fn flag(&mut self, slot: u32, flags: u8) {
        if let Some(f) = self.flags.get_mut(slot as usize) {
            *f |= flags;
        }
    }

    fn set_stamp(&mut self, slot: u32, stamp: i64) {
        if let Some(s) = self.stamps.get_mut(slot as usize) {
            *s = stamp;
        }
    }

    /// Those whose values are still to be read from the store. While that has nothing, there are none.
    pub(crate) fn unknown(&mut self, slots: &[u32], out: &mut Vec<u32>) {
        out.clear();
        if self.stored {
            out.extend(slots.iter().filter(|s| self.flags(**s) & KNOWN == 0));
        } else {
            slots.iter().for_each(|s| self.flag(*s, KNOWN));
        }
    }

    /// Reads the values of slots from the store.
    pub(crate) fn load(&mut self, keys: &StoreKeys, store: &Store) -> Result<()> {
        let slots: Vec<u32> = keys.iter().map(|(slot, _)| slot).collect();
        let (mut found, mut stamps) = (Vec::new(), Vec::new());
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut damaged = false;
        let stamped = self.expiry.is_some();
        let keys = keys.iter().map(|(_, key)| key);
        store.read(&self.family, keys, |place, value| {
            match (slots.get(place), unstamp(stamped, value)) {
                (Some(slot), Some((stamp, value))) => {
                    found.push(*slot);
                    stamps.push(stamp);
                    bytes.extend_from_slice(value);
                    ends.push(bytes.len());
                }
                _ => damaged = true,
            }
        })?;
        if damaged {
            return Err(short());
        }
        let rows = ends.iter().scan(0, |start, end| {
            let row = bytes.get(*start..*end).unwrap_or_default();
            *start = *end;
            Some(row)
        });
        let values = Slots {
            rows: found.len(),
            present: None,
            columns: decode(&self.fields, rows)?,
        };
        self.cached.put(&found, &values)?;
        for (slot, stamp) in found.iter().zip(stamps) {
            self.set_stamp(*slot, stamp);
        }
        slots.iter().for_each(|slot| self.flag(*slot, KNOWN));
        Ok(())
    }

    /// The values of slots that are known.
    pub(crate) fn read(&mut self, slots: &[u32]) -> Result<Slots> {
        let Some(expiry) = self.expiry else {
            return self.cached.gather(slots);
        };
        if expiry.renews() {
            for slot in slots {
                let stamp = self.stamp(*slot);
                let now = expiry.stamp();
                if self.cached.has(*slot) && stamp != now && !expiry.is_over(stamp) {
                    self.set_stamp(*slot, now);
                    self.flag(*slot, DIRTY | FRESH);
                }
            }
        }
        let mut got = self.cached.gather(slots)?;
        let hidden = |slot: &u32| expiry.hides(self.stamp(*slot));
        if slots.iter().any(hidden) {
            let had = |i: usize| got.present.as_ref().is_none_or(|p| p.value(i));
            let seen = |i: usize| slots.get(i).is_some_and(|s| had(i) && !hidden(s));
            got.present = Some(BooleanBuffer::collect_bool(slots.len(), seen));
        }
        Ok(got)
    }

    /// Sets and clears values.
    pub(crate) fn write(&mut self, slots: &[u32], change: &StateChange) -> Result<()> {
        self.cached.scatter(slots, &change.marks, &change.values)?;
        let now = self.expiry.as_ref().map(Expiry::stamp);
        for (slot, mark) in slots.iter().zip(&change.marks) {
            if *mark == Mark::Set as u8 || *mark == Mark::Cleared as u8 {
                self.flag(*slot, KNOWN | DIRTY | FRESH);
                if let Some(now) = now {
                    self.set_stamp(*slot, now);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn size_of(&self, slot: u32) -> usize {
        match self.cached.has(slot) {
            true => self.cached.size_of(slot),
            false => 0,
        }
    }

    /// Whether nothing is lost when the slot is forgotten: there is no value, and neither the store nor a delta has one.
    pub(crate) fn is_vacant(&self, slot: u32) -> bool {
        let flags = self.flags(slot);
        !self.cached.has(slot)
            && flags & CHAINED == 0
            && (!self.stored || flags & (DIRTY | FROZEN) == 0 && flags & KNOWN == KNOWN)
    }

    /// Takes a value away that has expired.
    pub(crate) fn expire(&mut self, slot: u32) {
        if let Some(expiry) = &self.expiry
            && self.cached.has(slot)
            && expiry.is_over(self.stamp(slot))
        {
            self.cached.clear(slot);
            self.flag(slot, DIRTY | FRESH);
        }
    }

    /// Adds to `batch` what the store has otherwise.
    pub(crate) fn flush(
        &mut self,
        keys: &StoreKeys,
        store: &Store,
        batch: &mut WriteBatch,
    ) -> Result<()> {
        let dirty = |slot: u32| self.flags(slot) & (DIRTY | FROZEN) != 0;
        let slots: Vec<u32> = keys.iter().map(|(slot, _)| slot).collect();
        let set: Vec<u32> = slots
            .iter()
            .copied()
            .filter(|slot| dirty(*slot) && self.cached.has(*slot))
            .collect();
        let values = self.cached.gather(&set)?;
        let values = EncodedRows::new(&self.fields, &values)?;
        let handle = store.handle(&self.family)?;
        let mut value = Vec::new();
        let mut next = 0;
        for (slot, key) in keys.iter().filter(|(slot, _)| dirty(*slot)) {
            if !self.cached.has(slot) {
                if self.stored {
                    batch.delete_cf(&handle, key);
                }
                continue;
            }
            let row = values.row(next);
            next += 1;
            if self.expiry.is_some() {
                value.clear();
                value.extend_from_slice(&self.stamp(slot).to_be_bytes());
                value.extend_from_slice(row);
                batch.put_cf(&handle, key, &value);
            } else {
                batch.put_cf(&handle, key, row);
            }
        }
        self.stored |= next > 0;
        Ok(())
    }

    /// Forgets what is cached of a slot; whether a delta has a value of it.
    pub(crate) fn drop_slot(&mut self, slot: u32) -> bool {
        self.cached.clear(slot);
        let flags = self.flags.get_mut(slot as usize);
        flags.is_some_and(|flags| std::mem::take(flags) & CHAINED != 0)
    }

    /// Bytes held in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.cached.bytes() + (self.flags.len() + self.stamps.len() * 8) as u64
    }

    /// Bytes that a slot takes whatever is in it.
    pub(crate) fn slot_bytes(&self) -> u64 {
        let stamp = if self.expiry.is_some() { 8 } else { 0 };
        // Nothing is in that slot: it has the width that all have, or none.
        self.cached.size_of(u32::MAX) as u64 + 1 + stamp
    }
}

fn short() -> Error {
    Error::new(
        ErrorCode::Corrupt,
        "a value of the state is shorter than its stamp",
    )
}
