//! Chance from one seed, shared by all that is simulated: one thread draws, so that the order of the draws is the same in
//! each run.

use std::sync::{Arc, Mutex, PoisonError};

/// A source of chance; clones draw from the same sequence.
#[derive(Clone, Debug)]
pub struct Chance(Arc<Mutex<u64>>);

impl Chance {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let chance = Self(Arc::new(Mutex::new(seed)));
        chance.next();
        chance
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(*state)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.max(low) - low + 1)
    }

    /// Whether it happens, at so many of a thousand.
    pub fn happens(&self, per_mille: u64) -> bool {
        per_mille > 0 && self.next() % 1_000 < per_mille
    }

    /// Whether it happens, once in so many; 0: never.
    pub fn happens_rarely(&self, once_in: u64) -> bool {
        once_in > 0 && self.next().is_multiple_of(once_in)
    }

    /// One of several.
    pub fn one_of<T: Copy>(&self, of: &[T], otherwise: T) -> T {
        let at = self.between(0, (of.len() as u64).max(1) - 1);
        of.get(at as usize).copied().unwrap_or(otherwise)
    }
}

/// A number that looks like chance and depends on another alone.
#[must_use]
pub fn mixed(of: u64) -> u64 {
    let mut z = of;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
