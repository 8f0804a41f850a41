//! How many different values: approximately, in bounded memory, by a sketch that merges.
//!
//! A [`UniqueSketch`] is a HyperLogLog of 2^14 registers, read by Ertl's improved estimator (2017): the standard error is
//! 1.04 / sqrt(2^14) = 0.81 %, at any number of values, and a sketch has at most 16,385 bytes. Up to 1,024 values are kept
//! sparse, 4 bytes each and to 26 bits, and are counted with an error below 0.01 %.
//!
//! What is hashed is a value's canonical encoding (see `value/encode.rs`), by XXH64 with seed 0. Hash, encoding and the bytes of a
//! sketch stand in states and are frozen.
//!
//! Exact counts need no sketch: `WindowedStream::unique_exact` counts (key, value) pairs in two stages, and outside of windows
//! `deduplicate` by key and value comes before a `count`.

use std::cell::RefCell;

use crate::bindings::pelton::job::types::DataType;
use crate::column::{BytesColumn, Cursor, Row};
use crate::error::Result;
use crate::function::Out;
use crate::function::aggregate::{Aggregate, Window};
use crate::key::Key;
use crate::record::{Access, Record, RefOf};
use crate::value::{BytesBuilder, Schema, Value, node};

mod hash;
mod windows;

pub use hash::xxh64;

/// Bits of a hash that choose a register.
const PRECISION: u32 = 14;
/// Registers.
const REGISTERS: usize = 1 << PRECISION;
/// The greatest value of a register.
const RANK_MAX: usize = 64 - PRECISION as usize + 1;
/// Bits of a hash that are kept whole in a sparse sketch.
const PRECISION_SPARSE: u32 = 26;
/// Values up to which a sketch is sparse.
const SPARSE_MAX: usize = 1_024;

const SPARSE: u8 = 1;
const DENSE: u8 = 2;

/// Counts different values approximately: see the module. A value that accumulators, states and records can hold.
///
/// Its bytes: none, where it is empty; 1 and then 4 bytes little-endian for each value, ascending (26 bits of the hash, and
/// 6 for the place of the first 1 after those); or 2 and then a byte for each register.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct UniqueSketch(Vec<u8>);

impl UniqueSketch {
    /// An empty sketch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value. To add many, hash them by one [`UniqueHasher`].
    pub fn add<T: Value>(&mut self, value: T::Ref<'_>) {
        self.add_hash(UniqueHasher::default().hash::<T>(value));
    }

    /// Adds a value by its hash, of which all 64 bits must be good.
    pub fn add_hash(&mut self, hash: u64) {
        if let Some(registers) = self.registers_mut() {
            let rank = (hash << PRECISION | 1 << (PRECISION - 1)).leading_zeros() + 1;
            raise(
                registers,
                (hash >> (64 - PRECISION)) as usize,
                rank as usize,
            );
            return;
        }
        let rank = (hash << PRECISION_SPARSE | 1 << (PRECISION_SPARSE - 1)).leading_zeros() + 1;
        let entry = ((hash >> (64 - PRECISION_SPARSE)) as u32) << 6 | rank;
        let at = self.place_of(entry >> 6);
        match self.entry(at) {
            Some(found) if found >> 6 == entry >> 6 => {
                if let Some(bytes) = self.0.get_mut(1 + at * 4..5 + at * 4) {
                    bytes.copy_from_slice(&found.max(entry).to_le_bytes());
                }
            }
            _ => self.insert(at, entry),
        }
    }

    /// Adds the values of another.
    pub fn merge(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        match (self.registers(), other.registers()) {
            (None, None) => self.merge_sparse(other),
            (Some(_), None) => self.raise_by(other),
            (_, Some(theirs)) => {
                self.make_dense();
                if let Some(ours) = self.registers_mut() {
                    ours.iter_mut()
                        .zip(theirs)
                        .for_each(|(a, b)| *a = (*a).max(*b));
                }
            }
        }
    }

    /// About how many different values were added.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        match self.registers() {
            Some(registers) => dense_estimate(registers).round() as u64,
            None => {
                let (all, used) = (f64::from(1u32 << PRECISION_SPARSE), self.entries() as f64);
                (all * (all / (all - used)).ln()).round() as u64
            }
        }
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.registers().is_none() && self.entries() == 0
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    fn registers(&self) -> Option<&[u8]> {
        match self.0.split_first() {
            Some((&DENSE, registers)) if registers.len() == REGISTERS => Some(registers),
            _ => None,
        }
    }

    fn registers_mut(&mut self) -> Option<&mut [u8]> {
        match self.0.split_first_mut() {
            Some((&mut DENSE, registers)) if registers.len() == REGISTERS => Some(registers),
            _ => None,
        }
    }

    /// How many values a sparse sketch has.
    fn entries(&self) -> usize {
        match self.0.first() {
            Some(&SPARSE) => self.0.len() / 4,
            _ => 0,
        }
    }

    fn entry(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(1 + at * 4..5 + at * 4)?;
        if self.0.first() != Some(&SPARSE) {
            return None;
        }
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The entries of a sparse sketch, ascending.
    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.entries()).filter_map(|at| self.entry(at))
    }

    /// Where the entry with these 26 bits is, or belongs.
    fn place_of(&self, bits: u32) -> usize {
        let (mut low, mut high) = (0, self.entries());
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).is_some_and(|e| e >> 6 < bits) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn insert(&mut self, at: usize, entry: u32) {
        if self.entries() == 0 {
            self.0.clear();
            self.0.push(SPARSE);
        }
        let place = 1 + at * 4;
        self.0.splice(place..place, entry.to_le_bytes());
        if self.entries() > SPARSE_MAX {
            self.make_dense();
        }
    }

    fn merge_sparse(&mut self, other: &Self) {
        let mut merged = Vec::with_capacity(self.0.len() + other.0.len());
        merged.push(SPARSE);
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let next = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) if a >> 6 == b >> 6 => {
                    let greater = *a.max(b);
                    ours.next();
                    theirs.next();
                    greater
                }
                (Some(a), Some(b)) if a > b => {
                    let least = *b;
                    theirs.next();
                    least
                }
                (Some(a), _) => {
                    let least = *a;
                    ours.next();
                    least
                }
                (None, Some(b)) => {
                    let least = *b;
                    theirs.next();
                    least
                }
                (None, None) => break,
            };
            merged.extend_from_slice(&next.to_le_bytes());
        }
        drop((ours, theirs));
        self.0 = merged;
        if self.entries() > SPARSE_MAX {
            self.make_dense();
        }
    }

    fn make_dense(&mut self) {
        if self.registers().is_some() {
            return;
        }
        let mut bytes = vec![0; REGISTERS + 1];
        if let Some(kind) = bytes.first_mut() {
            *kind = DENSE;
        }
        let sparse = std::mem::replace(&mut self.0, bytes);
        self.raise_by(&Self(sparse));
    }

    /// Adds a sparse sketch to a dense one.
    fn raise_by(&mut self, sparse: &Self) {
        let Some(registers) = self.registers_mut() else {
            return;
        };
        for entry in sparse.iter() {
            let (bits, rank) = (entry >> 6, entry & 63);
            let rest = bits << (32 - PRECISION_SPARSE + PRECISION);
            // The first 1 is among the bits that were kept, or after them.
            let rank = match rest {
                0 => PRECISION_SPARSE - PRECISION + rank,
                _ => rest.leading_zeros() + 1,
            };
            let register = bits >> (PRECISION_SPARSE - PRECISION);
            raise(registers, register as usize, rank as usize);
        }
    }
}

fn raise(registers: &mut [u8], register: usize, rank: usize) {
    if let Some(r) = registers.get_mut(register) {
        *r = (*r).max(rank as u8);
    }
}

/// Ertl, New cardinality estimation algorithms for HyperLogLog sketches (2017), algorithm 6.
fn dense_estimate(registers: &[u8]) -> f64 {
    let m = REGISTERS as f64;
    let mut counts = [0u32; RANK_MAX + 1];
    for r in registers {
        if let Some(count) = counts.get_mut(usize::from(*r).min(RANK_MAX)) {
            *count += 1;
        }
    }
    let count = |rank: usize| f64::from(counts.get(rank).copied().unwrap_or(0));
    let mut z = m * tau(1.0 - count(RANK_MAX) / m);
    for rank in (1..RANK_MAX).rev() {
        z = 0.5 * (z + count(rank));
    }
    z += m * sigma(count(0) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let former = z;
        z += x * y;
        y += y;
        if z == former {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let former = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == former {
            return z / 3.0;
        }
    }
}

/// Hashes values for sketches, by XXH64 over their canonical encoding.
#[derive(Default, Debug)]
pub struct UniqueHasher(Vec<u8>);

impl UniqueHasher {
    /// The hash of a value.
    #[inline]
    pub fn hash<T: Value>(&mut self, value: T::Ref<'_>) -> u64 {
        self.0.clear();
        T::encode(value, &mut self.0);
        xxh64(&self.0, 0)
    }
}

impl Value for UniqueSketch {
    type Ref<'a> = &'a [u8];
    type Column<'a> = BytesColumn<'a>;
    type Builder = BytesBuilder;

    fn describe(name: &str, schema: &mut Schema) {
        schema.push(node(name, DataType::Bytes));
    }
    fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
        cursor.bytes(rows)
    }
    fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
        column.read(row)
    }
    fn own(value: &[u8]) -> Self {
        Self(value.to_vec())
    }
    fn lend(&self) -> &[u8] {
        &self.0
    }
    fn push(builder: &mut BytesBuilder, value: &[u8]) {
        builder.push(value);
    }
    fn encode(value: &[u8], out: &mut Vec<u8>) {
        Vec::<u8>::encode(value, out);
    }
}

/// Approximate unique counts as a window's aggregate.
pub(crate) struct UniqueApprox<V: Value, N: Value, K, F> {
    field: Access<V, N>,
    make: F,
    hasher: RefCell<UniqueHasher>,
    of: std::marker::PhantomData<fn() -> K>,
}

impl<V: Value, N: Value, K, F> UniqueApprox<V, N, K, F> {
    pub(crate) fn new(field: Access<V, N>, make: F) -> Self {
        Self {
            field,
            make,
            hasher: RefCell::default(),
            of: std::marker::PhantomData,
        }
    }
}

impl<V, N, K, O, F> Aggregate for UniqueApprox<V, N, (K, O), F>
where
    V: Record,
    N: Value,
    K: Key,
    O: Record,
    F: Fn(K::Ref<'_>, Window, u64) -> O + 'static,
{
    type In = V;
    type Key = K;
    type Acc = UniqueSketch;
    type Out = O;

    fn create(&self) -> UniqueSketch {
        UniqueSketch::new()
    }
    #[inline]
    fn add(&self, acc: &mut UniqueSketch, row: RefOf<'_, V>) {
        acc.add_hash(self.hasher.borrow_mut().hash::<N>(self.field.get(row)));
    }
    fn merge(&self, acc: &mut UniqueSketch, other: UniqueSketch) {
        acc.merge(&other);
    }
    fn result(&self, key: K::Ref<'_>, window: Window, acc: UniqueSketch, out: &mut Out<O>) {
        out.push((self.make)(key, window, acc.estimate()).lend());
    }
}

#[cfg(test)]
mod tests;
