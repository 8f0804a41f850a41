//! Stores that fail on purpose, by a seed: for tests.
//!
//! Needs: `model::blob`. Invariant: the same seed and the same calls in the same order fail in the same places. Refuses:
//! time; a slow store is made by whoever drives it.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::{Error, ErrorCode, Result};

use crate::memory::locked;

/// How often which fault happens, each of 1,000 requests.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Faults {
    /// Nothing happens, and the reply says `StoreUnavailable`.
    pub fail_per_mille: u32,
    /// A write or a delete happens, and the reply says `StoreUnavailable`.
    pub lose_reply_per_mille: u32,
}

/// How often a fault happened, to see that a test met it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fired {
    /// All requests.
    pub requests: u64,
    /// Those that failed before anything happened.
    pub failed: u64,
    /// Those that were carried out and said otherwise.
    pub replies_lost: u64,
}

/// A store in front of another one, with faults.
pub struct Faulty {
    store: Arc<dyn Blobs>,
    seen: Mutex<Seen>,
}

struct Seen {
    random: u64,
    faults: Faults,
    fired: Fired,
}

impl Faulty {
    /// Faults in front of `store`, the same ones for the same seed.
    #[must_use]
    pub fn new(store: Arc<dyn Blobs>, faults: Faults, seed: u64) -> Self {
        let seen = Seen {
            random: seed,
            faults,
            fired: Fired::default(),
        };
        Self {
            store,
            seen: Mutex::new(seen),
        }
    }

    /// From now on, other faults; by default none, after which everything must come right.
    pub fn set(&self, faults: Faults) {
        locked(&self.seen).faults = faults;
    }

    /// What has happened so far.
    #[must_use]
    pub fn fired(&self) -> Fired {
        locked(&self.seen).fired
    }

    /// One request that changes something.
    fn write<T>(&self, what: &str, name: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.before(what, name)?;
        let done = call()?;
        if self.happens(|faults| faults.lose_reply_per_mille) {
            locked(&self.seen).fired.replies_lost += 1;
            return Err(unavailable(what, name, "its reply is lost"));
        }
        Ok(done)
    }

    /// One request that reads.
    fn before(&self, what: &str, name: &str) -> Result<()> {
        locked(&self.seen).fired.requests += 1;
        if self.happens(|faults| faults.fail_per_mille) {
            locked(&self.seen).fired.failed += 1;
            return Err(unavailable(what, name, "it failed"));
        }
        Ok(())
    }

    fn happens(&self, per_mille: impl FnOnce(&Faults) -> u32) -> bool {
        let mut seen = locked(&self.seen);
        splitmix(&mut seen.random) % 1_000 < u64::from(per_mille(&seen.faults))
    }
}

impl Blobs for Faulty {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write("put", name, || self.store.put(name, bytes))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew> {
        self.write("put_new", name, || self.store.put_new(name, bytes))
    }

    fn put_file(&self, name: &str, file: &Path) -> Result<()> {
        self.write("put_file", name, || self.store.put_file(name, file))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.before("get", name)?;
        self.store.get(name)
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.before("get_range", name)?;
        self.store.get_range(name, offset, length)
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        self.before("read", name)?;
        self.store.read(name)
    }

    fn get_file(&self, name: &str, file: &Path) -> Result<()> {
        self.before("get_file", name)?;
        self.store.get_file(name, file)
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.before("list", prefix)?;
        self.store.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.write("delete", name, || self.store.delete(name))
    }

    fn sweep(&self, prefix: &str) -> Result<()> {
        self.store.sweep(prefix)
    }
}

fn unavailable(what: &str, name: &str, how: &str) -> Error {
    Error::new(
        ErrorCode::StoreUnavailable,
        format!("{what} of '{name}': {how}, as a test asked for"),
    )
}

/// The next number of a sequence that is determined by where it begins.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
