//! The database of a job, and what all databases of the process share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_engine::state::{KeyedState, StateBackend, StateOwner};
use pelton_model::graph::{StateSpec, Ttl};
use pelton_model::{Error, ErrorCode, Result};
use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, CompactionDecision, DBRawIteratorWithThreadMode,
    DBWithThreadMode, Env, MultiThreaded, Options, ReadOptions, SliceTransform, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use crate::fault::refused;
use crate::layout::{entry_prefix_of, unstamp};
use crate::options::{Access, RocksSettings, Split, options};
use crate::rocks::RocksState;

/// Keeps state in RocksDB, in one folder.
///
/// One serves a process: its block cache, its write buffers, its background threads and the write-behind caches of all
/// tasks stay within the memory of its settings together.
pub struct RocksBackend {
    store: Arc<Store>,
}

impl RocksBackend {
    /// Opens a database in `dir`, which is made where it is missing; it must be empty, and stays when the backend goes.
    /// Errors: `StateFailed` for a folder that is not writable or is in use, and for options that RocksDB doesn't know.
    pub fn open(dir: &Path, settings: RocksSettings) -> Result<Self> {
        let io = |e: std::io::Error| {
            Error::new(
                ErrorCode::StateFailed,
                format!("the folder of the state cannot be used: {e}"),
            )
            .at("folder", dir.display())
            .help("name a folder that is writable with `state.dir`")
        };
        fs::create_dir_all(dir).map_err(io)?;
        if fs::read_dir(dir).map_err(io)?.next().is_some() {
            return Err(Error::new(
                ErrorCode::StateFailed,
                "the folder of the state is not empty",
            )
            .at("folder", dir.display())
            .help("remove what is in it, or name another folder with `state.dir`"));
        }
        Ok(Self {
            store: Arc::new(Store::open(
                dir,
                Split::of(settings.memory_bytes),
                settings,
            )?),
        })
    }

    /// With so many bytes for values, however small.
    #[cfg(test)]
    pub(crate) fn with_values(dir: &Path, values: u64, settings: RocksSettings) -> Result<Self> {
        let split = Split {
            values,
            ..Split::of(settings.memory_bytes)
        };
        Ok(Self {
            store: Arc::new(Store::open(dir, split, settings)?),
        })
    }

    #[cfg(test)]
    pub(crate) fn flush(&self) {
        self.store.flush();
    }

    /// Bytes that the store holds in memory now: the block cache with all that is charged to it, and the caches of
    /// values.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.store.cache.get_usage() as u64 + self.store.cached.load(Ordering::Relaxed)
    }
}

impl StateBackend for RocksBackend {
    fn keyed(&self, owner: &StateOwner) -> Result<Box<dyn KeyedState>> {
        Ok(Box::new(RocksState::open(self.store.clone(), owner)?))
    }
}

/// Keys that are asked for in one go: their blocks are held until all are there.
const READ_AT_ONCE: usize = 256;

type Db = DBWithThreadMode<MultiThreaded>;

/// Goes through entries in order.
pub(crate) type Scan<'s> = DBRawIteratorWithThreadMode<'s, Db>;

/// The database with all that must outlive it.
pub(crate) struct Store {
    /// First: it is closed before anything that it uses is freed.
    db: Db,
    dir: PathBuf,
    settings: RocksSettings,
    split: Split,
    cache: Cache,
    buffers: WriteBufferManager,
    write: WriteOptions,
    families: Mutex<BTreeMap<String, Kept>>,
    /// States that share the memory for values.
    states: AtomicU64,
    /// Bytes that they hold.
    cached: AtomicU64,
}

/// A column family, as one task holds it.
pub(crate) struct Family {
    name: String,
    clock: Arc<Clock>,
    /// The task's own watermark.
    watermark: Arc<AtomicI64>,
    /// Tasks that share it.
    tasks: Arc<AtomicU64>,
}

/// What the store keeps of a column family.
struct Kept {
    clock: Arc<Clock>,
    tasks: Arc<AtomicU64>,
    /// RocksDB has a plain pointer to the filter that these own.
    _options: Options,
}

/// The time by which a column family's values expire: the least of its tasks.
#[derive(Default)]
struct Clock {
    watermarks: Mutex<Vec<Arc<AtomicI64>>>,
    now: AtomicI64,
}

impl Family {
    /// The time of this task: of its watermark, or of the wall.
    pub(crate) fn at(&self, now: i64) {
        if self.watermark.swap(now, Ordering::Relaxed) == now {
            return;
        }
        let all = lock(&self.clock.watermarks);
        let least = all.iter().map(|w| w.load(Ordering::Relaxed)).min();
        self.clock
            .now
            .store(least.unwrap_or(i64::MIN), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops what has expired while files are merged. What was written before any time was known stays.
fn expire(ttl: Ttl, clock: Arc<Clock>) -> impl FnMut(u32, &[u8], &[u8]) -> CompactionDecision {
    let ms = i64::try_from(ttl.ms).unwrap_or(i64::MAX);
    move |_, _, value| {
        let now = clock.now.load(Ordering::Relaxed);
        match unstamp(true, value) {
            Some((stamp, _)) if stamp > i64::MIN && stamp.saturating_add(ms) <= now => {
                CompactionDecision::Remove
            }
            _ => CompactionDecision::Keep,
        }
    }
}

fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables
}

impl Store {
    fn open(dir: &Path, split: Split, settings: RocksSettings) -> Result<Self> {
        let fail = |e: rocksdb::Error| refused(dir, &e);
        // Its entries are found without a lock, by tasks and by the threads that merge files at once.
        let cache = Cache::new_hyper_clock_cache(split.blocks, 0);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            split.buffers,
            false,
            cache.clone(),
        );
        let mut env = Env::new().map_err(fail)?;
        let threads = settings.threads.max(1);
        env.set_background_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        env.set_high_priority_background_threads(1);
        let mut base = Options::default();
        base.set_write_buffer_manager(&buffers);
        let options = options(None, split, &settings, &mut base, &tables(&cache)).map_err(fail)?;
        let mut write = WriteOptions::default();
        // State is durable by snapshots, never by a log of its own.
        write.disable_wal(true);
        write.set_memtable_insert_hint_per_batch(true);
        Ok(Self {
            db: Db::open(&options, dir).map_err(fail)?,
            dir: dir.to_owned(),
            settings,
            split,
            cache,
            buffers,
            write,
            families: Mutex::new(BTreeMap::new()),
            states: AtomicU64::new(0),
            cached: AtomicU64::new(0),
        })
    }

    /// The column family of a state, made where it is missing.
    pub(crate) fn family(&self, uid: &str, spec: &StateSpec, access: Access) -> Result<Family> {
        let name = format!("{uid}/{}", spec.name);
        let mut families = lock(&self.families);
        if !families.contains_key(&name) {
            let clock = Arc::new(Clock::default());
            let options = self.family_options(spec, access, &clock)?;
            self.db
                .create_cf(&name, &options)
                .map_err(|e| refused(&self.dir, &e))?;
            let kept = Kept {
                clock,
                tasks: Arc::default(),
                _options: options,
            };
            families.insert(name.clone(), kept);
        }
        let kept = families
            .get(&name)
            .ok_or_else(|| Error::bug("a column family is lost"))?;
        let watermark = Arc::new(AtomicI64::new(i64::MIN));
        lock(&kept.clock.watermarks).push(watermark.clone());
        kept.clock.now.store(i64::MIN, Ordering::Relaxed);
        kept.tasks.fetch_add(1, Ordering::Relaxed);
        Ok(Family {
            name,
            clock: kept.clock.clone(),
            watermark,
            tasks: kept.tasks.clone(),
        })
    }

    fn family_options(
        &self,
        spec: &StateSpec,
        access: Access,
        clock: &Arc<Clock>,
    ) -> Result<Options> {
        let mut base = Options::default();
        base.set_write_buffer_manager(&self.buffers);
        let mut options = options(
            Some(access),
            self.split,
            &self.settings,
            &mut base,
            &tables(&self.cache),
        )
        .map_err(|e| refused(&self.dir, &e))?;
        if access == Access::Entries {
            // Filters answer for a whole list or map, too: one that is empty is not searched.
            let all = None::<fn(&[u8]) -> bool>;
            options.set_prefix_extractor(SliceTransform::create("key", entry_prefix_of, all));
        }
        if let Some(ttl) = spec.ttl {
            options.set_compaction_filter("ttl", expire(ttl, clock.clone()));
        }
        Ok(options)
    }

    /// The handle of a column family; it is found by name each time, so take it once for many keys.
    pub(crate) fn handle(&self, family: &Family) -> Result<Arc<BoundColumnFamily<'_>>> {
        self.db
            .cf_handle(&family.name)
            .ok_or_else(|| Error::bug("a column family is lost"))
    }

    /// Writes all of a batch.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.db
            .write_opt(batch, &self.write)
            .map_err(|e| self.refused(&e))
    }

    /// Values of keys that are in ascending order, handed to `each` with their places.
    pub(crate) fn read<'k>(
        &self,
        family: &Family,
        keys: impl Iterator<Item = &'k [u8]>,
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let handle = self.handle(family)?;
        let mut keys = keys.peekable();
        let mut place = 0;
        while keys.peek().is_some() {
            let some = keys.by_ref().take(READ_AT_ONCE);
            let found = self.db.batched_multi_get_cf(&handle, some, true);
            for value in found {
                if let Some(value) = value.map_err(|e| self.refused(&e))? {
                    each(place, &value);
                }
                place += 1;
            }
        }
        Ok(())
    }

    /// A reader of entries that begin with one prefix at a time.
    pub(crate) fn scan<'s>(&'s self, handle: &Arc<BoundColumnFamily<'s>>) -> Scan<'s> {
        let mut read = ReadOptions::default();
        read.set_prefix_same_as_start(true);
        self.db.raw_iterator_cf_opt(handle, read)
    }

    /// A reader of all entries.
    pub(crate) fn scan_all<'s>(&'s self, handle: &Arc<BoundColumnFamily<'s>>) -> Scan<'s> {
        let mut read = ReadOptions::default();
        read.set_total_order_seek(true);
        // Nobody will read these blocks again.
        read.fill_cache(false);
        self.db.raw_iterator_cf_opt(handle, read)
    }

    /// Bytes of live data of a column family, about, for each of its tasks.
    pub(crate) fn live_bytes(&self, family: &Family) -> Result<u64> {
        let handle = self.handle(family)?;
        let of = |name: &str| -> Result<u64> {
            let bytes = self.db.property_int_value_cf(&handle, name);
            Ok(bytes.map_err(|e| self.refused(&e))?.unwrap_or_default())
        };
        let live = of("rocksdb.estimate-live-data-size")? + of("rocksdb.cur-size-all-mem-tables")?;
        Ok(live / family.tasks.load(Ordering::Relaxed).max(1))
    }

    /// Empties the write buffers, and compacts all there is.
    #[cfg(test)]
    fn flush(&self) {
        for name in lock(&self.families).keys() {
            let handle = self.db.cf_handle(name).expect("it was made");
            self.db.flush_cf(&handle).expect("there is room");
            self.db
                .compact_range_cf(&handle, None::<&[u8]>, None::<&[u8]>);
        }
    }

    pub(crate) fn refused(&self, error: &rocksdb::Error) -> Error {
        refused(&self.dir, error)
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

impl Drop for Store {
    fn drop(&mut self) {
        // What is being merged for nobody would only hold up the end.
        self.db.cancel_all_background_work(true);
    }
}

#[cfg(test)]
mod tests {
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
