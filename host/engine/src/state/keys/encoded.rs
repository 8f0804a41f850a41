//! An index of keys of any type, by their canonical encoding.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use hashbrown::HashTable;
use pelton_model::Result;
use pelton_model::key::{encode_key, hash_bytes};
use pelton_model::schema::{DataType, Field};

use super::{RowSet, Touched};

/// Keys as canonical encodings, one after the other; what removed keys leave behind is squeezed out when it is more
/// than half.
#[derive(Clone, Debug, Default)]
pub(super) struct Encoded {
    table: HashTable<(u64, u32)>,
    arena: Vec<u8>,
    /// By slot: where in the arena.
    spans: Vec<(usize, u32)>,
    marks: Vec<u32>,
    base: u32,
    dead: usize,
    pub(super) free: Vec<u32>,
    /// The keys of the batch at hand, and the end of each.
    scratch: Vec<u8>,
    ends: Vec<usize>,
}

fn cut<'a>(arena: &'a [u8], span: Option<&(usize, u32)>) -> &'a [u8] {
    span.and_then(|(start, len)| arena.get(*start..*start + *len as usize))
        .unwrap_or_default()
}

impl Encoded {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Above all slots in use.
    pub(super) fn slots(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.arena.len() + self.spans.len() * 40) as u64
    }

    pub(super) fn bytes_of(&self, slot: u32) -> &[u8] {
        cut(&self.arena, self.spans.get(slot as usize))
    }

    pub(super) fn encode(
        &mut self,
        fields: &[Field],
        columns: &[ArrayRef],
        rows: RowSet<'_>,
    ) -> Result<()> {
        self.scratch.clear();
        self.ends.clear();
        let text = match (fields, columns) {
            ([f], [c]) if f.data_type == DataType::String && !f.nullable && c.null_count() == 0 => {
                c.as_string_opt::<i32>()
            }
            _ => None,
        };
        let mut one = |row: usize| {
            match text.filter(|t| row < t.len()) {
                // As `encode_key` writes it, without looking at the type for each row.
                Some(t) => {
                    let bytes = t.value(row).as_bytes();
                    self.scratch
                        .extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    self.scratch.extend_from_slice(bytes);
                }
                None => encode_key(fields, columns, row, &mut self.scratch)?,
            }
            self.ends.push(self.scratch.len());
            Ok(())
        };
        match rows {
            RowSet::First(n) => (0..n).try_for_each(one),
            RowSet::These(rows) => rows.iter().try_for_each(|r| one(*r as usize)),
        }
    }

    pub(super) fn find(&self, key: &[u8], hash: u64) -> Option<u32> {
        let found = self
            .table
            .find(hash, |(h, s)| *h == hash && self.bytes_of(*s) == key);
        found.map(|(_, slot)| *slot)
    }

    /// The slot of the key that ends at `ends[row]`.
    fn slot(&mut self, row: usize) -> u32 {
        let start = row
            .checked_sub(1)
            .and_then(|r| self.ends.get(r))
            .copied()
            .unwrap_or(0);
        let end = self.ends.get(row).copied().unwrap_or(start);
        let key = self.scratch.get(start..end).unwrap_or_default();
        let hash = hash_bytes(key);
        let found = self.table.find(hash, |(h, s)| {
            *h == hash && cut(&self.arena, self.spans.get(*s as usize)) == key
        });
        if let Some((_, slot)) = found {
            return *slot;
        }
        let span = (self.arena.len(), key.len() as u32);
        self.arena.extend_from_slice(key);
        let slot = match self.free.pop() {
            Some(slot) => {
                if let (Some(s), Some(m)) = (
                    self.spans.get_mut(slot as usize),
                    self.marks.get_mut(slot as usize),
                ) {
                    (*s, *m) = (span, 0);
                }
                slot
            }
            None => {
                self.spans.push(span);
                self.marks.push(0);
                (self.spans.len() - 1) as u32
            }
        };
        self.table.insert_unique(hash, (hash, slot), |(h, _)| *h);
        slot
    }

    pub(super) fn locate(&mut self, slots: &mut Vec<u32>) {
        for row in 0..self.ends.len() {
            let slot = self.slot(row);
            slots.push(slot);
        }
    }

    pub(super) fn touch(&mut self, out: &mut Touched) {
        if self.base == 0 || self.base > u32::MAX / 2 {
            self.marks.fill(0);
            self.base = 1;
        }
        for row in 0..self.ends.len() {
            let slot = self.slot(row);
            let fresh = self.base.wrapping_add(out.slots.len() as u32);
            let Some(mark) = self.marks.get_mut(slot as usize) else {
                continue;
            };
            if *mark < self.base {
                *mark = fresh;
                out.slots.push(slot);
                out.first_rows.push(row as u32);
            }
            out.ordinals.push(mark.wrapping_sub(self.base));
        }
        self.base = self.base.wrapping_add(out.slots.len() as u32);
    }

    pub(super) fn names(&self) -> Self {
        Self {
            arena: self.arena.clone(),
            spans: self.spans.clone(),
            ..Self::default()
        }
    }

    pub(super) fn offer(&mut self, slots: usize, free: Vec<u32>) {
        let slots = slots.max(self.spans.len());
        self.spans.resize(slots, (0, 0));
        self.marks.resize(slots, 0);
        self.free = free;
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let hash = hash_bytes(self.bytes_of(slot));
        let Ok(entry) = self.table.find_entry(hash, |(_, s)| *s == slot) else {
            return;
        };
        entry.remove();
        self.free.push(slot);
        if let Some(span) = self.spans.get_mut(slot as usize) {
            self.dead += span.1 as usize;
            *span = (0, 0);
        }
        if self.dead > self.arena.len() / 2 + 4096 {
            self.squeeze();
        }
    }

    fn squeeze(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.dead);
        for (_, slot) in &self.table {
            let Some(span) = self.spans.get_mut(*slot as usize) else {
                continue;
            };
            let start = arena.len();
            arena.extend_from_slice(cut(&self.arena, Some(span)));
            span.0 = start;
        }
        self.arena = arena;
        self.dead = 0;
    }
}
