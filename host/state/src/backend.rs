//! What all databases of a process share: memory, threads, the folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pelton_engine::state::{KeyedState, StateBackend, StateOwner};
use pelton_model::Result;
use rocksdb::{BlockBasedOptions, Cache, Env, WriteBufferManager};

use crate::fault::refused;
use crate::folder::{Folder, own};
use crate::options::{RocksSettings, Split};
use crate::rocks::RocksState;

/// Keeps state in RocksDB, in one folder.
///
/// One serves a process: its block cache, its write buffers, its background threads and the write-behind caches of all
/// tasks stay within the memory of its settings together.
pub struct RocksBackend {
    shared: Arc<Shared>,
}

impl RocksBackend {
    /// Keeps databases in `dir`, which is made where it is missing; it must be empty, and stays when the backend goes.
    /// Errors: `StateFailed` for a folder that is not writable or is in use, and for options that RocksDB doesn't know.
    pub fn open(dir: &Path, settings: RocksSettings) -> Result<Self> {
        Self::with_split(dir, Split::of(settings.memory_bytes), settings)
    }

    fn with_split(dir: &Path, split: Split, settings: RocksSettings) -> Result<Self> {
        let shared = Shared::open(dir, split, settings)?;
        shared.check_options()?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// With so many bytes for values, however small.
    #[cfg(test)]
    pub(crate) fn with_values(dir: &Path, values: u64, settings: RocksSettings) -> Result<Self> {
        let split = Split {
            values,
            ..Split::of(settings.memory_bytes)
        };
        Self::with_split(dir, split, settings)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Empties the write buffers of all databases, and compacts all there is.
    #[cfg(test)]
    pub(crate) fn flush(&self) {
        let stores = self.shared.stores.lock().expect("nobody panics with it");
        stores
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .for_each(|s| s.flush());
    }

    /// Bytes that the databases hold in memory now: the block cache with all that is charged to it, and the caches of
    /// values.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.shared.cache.get_usage() as u64 + self.shared.cached.load(Ordering::Relaxed)
    }
}

impl StateBackend for RocksBackend {
    fn keyed(&self, owner: &StateOwner) -> Result<Box<dyn KeyedState>> {
        let state = RocksState::open(self.shared.clone(), owner.clone(), None)?;
        Ok(Box::new(state))
    }
}

/// What all databases of the process share.
pub(crate) struct Shared {
    dir: PathBuf,
    pub(crate) settings: RocksSettings,
    pub(crate) split: Split,
    pub(crate) cache: Cache,
    pub(crate) buffers: WriteBufferManager,
    /// Folders that were made.
    folders: AtomicU64,
    /// States that share the memory for values.
    states: AtomicU64,
    /// Bytes that they hold.
    cached: AtomicU64,
    #[cfg(test)]
    pub(crate) stores: std::sync::Mutex<Vec<std::sync::Weak<crate::store::Store>>>,
    /// Locked: the folder's process lives.
    _owner: File,
}

impl Shared {
    fn open(dir: &Path, split: Split, settings: RocksSettings) -> Result<Self> {
        let owner = own(dir)?;
        return_large_blocks();
        // Its entries are found without a lock, by tasks and by the threads that merge files at once.
        let cache = Cache::new_hyper_clock_cache(split.blocks, 0);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            split.buffers,
            false,
            cache.clone(),
        );
        // The environment is the process's: all databases have these threads together.
        let mut env = Env::new().map_err(|e| refused(dir, &e))?;
        let threads = settings.threads.max(1);
        env.set_background_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        env.set_high_priority_background_threads(1);
        Ok(Self {
            dir: dir.to_owned(),
            settings,
            split,
            cache,
            buffers,
            folders: AtomicU64::new(0),
            states: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            #[cfg(test)]
            stores: std::sync::Mutex::default(),
            _owner: owner,
        })
    }

    /// Refuses options before the first task needs them.
    fn check_options(&self) -> Result<()> {
        self.options(None).map(drop)
    }

    /// The options of a database, or of a column family.
    pub(crate) fn options(
        &self,
        access: Option<crate::options::Access>,
    ) -> Result<rocksdb::Options> {
        let mut base = rocksdb::Options::default();
        base.set_write_buffer_manager(&self.buffers);
        let tables = self.tables();
        crate::options::options(access, self.split, &self.settings, &mut base, &tables)
            .map_err(|e| refused(&self.dir, &e))
    }

    /// Tables whose blocks are in the one cache.
    pub(crate) fn tables(&self) -> BlockBasedOptions {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&self.cache);
        tables
    }

    /// A folder below `what` that there never was.
    pub(crate) fn folder(&self, what: &str) -> Folder {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        Folder::later(self.dir.join(what).join(number.to_string()))
    }

    /// One more state that holds values.
    pub(crate) fn enter(&self) {
        self.states.fetch_add(1, Ordering::Relaxed);
    }

    /// One less, with so many bytes.
    pub(crate) fn leave(&self, bytes: u64) {
        self.states.fetch_sub(1, Ordering::Relaxed);
        self.hold(bytes, 0);
    }

    /// A state holds so many bytes instead of so many.
    pub(crate) fn hold(&self, before: u64, now: u64) {
        self.cached
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// What each of the states may hold.
    pub(crate) fn share(&self) -> u64 {
        self.split.values / self.states.load(Ordering::Relaxed).max(1)
    }
}

/// Has the C library give back blocks from 256 KiB on as soon as they are freed. Left alone it stops to do so once one
/// was freed; write buffers, indexes and filters then leave holes: with 50 million keys in 512 MiB the process held 60 MiB
/// more.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_large_blocks() {
    // SAFETY: it sets a number, under the allocator's own lock. On failure all stays as it was.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10) };
}

/// Other allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_large_blocks() {}

#[cfg(test)]
mod tests {
    use std::fs;

    use pelton_model::{Error, ErrorCode};

    use super::*;

    fn failing(dir: &Path, settings: RocksSettings) -> Error {
        RocksBackend::open(dir, settings).err().expect("an error")
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("file");
        fs::write(&file, "x").unwrap();
        for dir in [file.join("state"), "/proc/pelton-state".into()] {
            let error = failing(&dir, RocksSettings::default());
            assert_eq!(error.code(), ErrorCode::StateFailed);
            assert!(error.help_text().unwrap().contains("state.dir"));
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let first = RocksBackend::open(tmp.path(), RocksSettings::default()).unwrap();
        let error = failing(tmp.path(), RocksSettings::default());
        assert_eq!(error.code(), ErrorCode::StateFailed);
        assert!(error.message().contains("not empty"));
        drop(first);
    }

    #[test]
    fn an_option_that_is_unknown_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let settings = RocksSettings {
            overrides: vec![("block_sighs".into(), "1".into())],
            ..RocksSettings::default()
        };
        let error = failing(&tmp.path().join("state"), settings);
        assert_eq!(error.code(), ErrorCode::StateFailed);
        assert!(error.detail_text().unwrap().contains("block_sighs"));
    }
}
