//! The database of one operator's task: its column families, reads and writes, and the cut of a snapshot.
//!
//! # The cut
//!
//! Only the task writes. From a cut on its writes wait until another thread has switched every column family to a new
//! write buffer; that takes microseconds, unless flushes have fallen behind, when writes would wait anyway. Until the
//! files of the old buffers are linked, what is written must stay in the new ones: a write that might make RocksDB flush
//! one of them waits for the links (that is the time of one flush). RocksDB counts a buffer's entries, and the task what
//! it has written since the cut: where the two agree after the links were made, no buffer was switched meanwhile, and the
//! files are exactly those of the cut. Where they don't, the snapshot is refused.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use pelton_engine::state::StateOwner;
use pelton_model::graph::{StateSpec, Ttl};
use pelton_model::key::KeyGroupRange;
use pelton_model::{Error, ErrorCode, Result};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::properties::{
    BACKGROUND_ERRORS, CUR_SIZE_ACTIVE_MEM_TABLE, NUM_ENTRIES_ACTIVE_MEM_TABLE,
    NUM_IMMUTABLE_MEM_TABLE, PropName,
};
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, CompactionDecision, DBRawIteratorWithThreadMode,
    DBWithThreadMode, FlushOptions, MultiThreaded, Options, ReadOptions, SliceTransform,
    WriteBatch, WriteOptions,
};

use crate::backend::Shared;
use crate::fault::{refused, stuck};
use crate::folder::{Folder, unusable};
use crate::layout::{entry_prefix_of, unstamp};
use crate::options::{Access, buffer_bytes};

/// Keys that are asked for in one go: their blocks are held until all are there.
const READ_AT_ONCE: usize = 256;
/// Between two looks at a flush, and how many looks it may take.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS_MAX: u32 = 600_000;
/// Writes that were stopped for so long, while files cannot be written, will not go on.
const STUCK_LOOKS: u32 = 2_000;

pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

/// Goes through entries in order.
pub(crate) type Scan<'s> = DBRawIteratorWithThreadMode<'s, Db>;

/// A database, with all that must outlive it.
pub(crate) struct Store {
    /// First: it is closed before anything that it uses is freed.
    db: Db,
    folder: Folder,
    write: WriteOptions,
    /// No other database has it.
    identity: String,
    /// Files that were made by another database, with its identity.
    origins: BTreeMap<String, String>,
    families: Vec<String>,
    gate: Gate,
    shared: Arc<Shared>,
}

/// Files to begin with.
pub(crate) struct Adopted {
    pub(crate) folder: Folder,
    /// By their names in the folder, those that no other file has.
    pub(crate) origins: BTreeMap<String, String>,
}

/// A column family.
pub(crate) struct Family {
    name: String,
    /// The time by which values expire: the task's watermark, or the wall's.
    now: Arc<AtomicI64>,
}

/// Holds writes back that would reach the files of a cut.
#[derive(Default)]
struct Gate {
    closed: AtomicBool,
    held: Mutex<Held>,
    moved: Condvar,
}

#[derive(Default)]
struct Held {
    passes: Passes,
    /// Entries written since the cut.
    written: u64,
}

/// Lets writes pass when it goes.
struct Reopen<'s>(&'s Store);

impl Drop for Reopen<'_> {
    fn drop(&mut self) {
        self.0.reopen();
    }
}

/// Which writes pass.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Passes {
    /// Those that cannot lead to a flush: the files are still to be linked.
    Small,
    /// None: write buffers are still to be switched.
    None,
    #[default]
    All,
}

impl Family {
    pub(crate) fn new(state: &str) -> Self {
        Self {
            name: family_name(state),
            now: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }

    /// The time of the task: of its watermark, or of the wall.
    pub(crate) fn at(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
    }
}

/// The column family of a state.
pub(crate) fn family_name(state: &str) -> String {
    format!("state/{state}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops what has expired while files are merged. What was written before any time was known stays.
fn expire(ttl: Ttl, clock: Arc<AtomicI64>) -> impl FnMut(u32, &[u8], &[u8]) -> CompactionDecision {
    let ms = i64::try_from(ttl.ms).unwrap_or(i64::MAX);
    move |_, _, value| {
        let now = clock.load(Ordering::Relaxed);
        match unstamp(true, value) {
            Some((stamp, _)) if stamp > i64::MIN && stamp.saturating_add(ms) <= now => {
                CompactionDecision::Remove
            }
            _ => CompactionDecision::Keep,
        }
    }
}

impl Store {
    /// Opens a database with a column family for each state, in the order of the states; empty, or with these files.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        owner: &StateOwner,
        adopted: Option<Adopted>,
    ) -> Result<(Arc<Self>, Vec<Family>)> {
        let mut options = shared.options(None)?;
        options.create_if_missing(adopted.is_none());
        let mut old: HashSet<String> = HashSet::new();
        let (folder, origins) = match adopted {
            None => (
                Folder::make(shared.folder("db").path().to_owned())?,
                BTreeMap::new(),
            ),
            Some(adopted) => {
                let names = Db::list_cf(&Options::default(), adopted.folder.path());
                old.extend(names.map_err(|e| refused(adopted.folder.path(), &e))?);
                (adopted.folder, adopted.origins)
            }
        };
        let fail = |e: rocksdb::Error| refused(folder.path(), &e);
        let families: Vec<Family> = owner.states.iter().map(|s| Family::new(&s.name)).collect();
        let mut all = vec![ColumnFamilyDescriptor::new(
            "default",
            shared.options(None)?,
        )];
        for (spec, family) in owner.states.iter().zip(&families) {
            old.remove(&family.name);
            let options = family_options(shared, spec, family)?;
            all.push(ColumnFamilyDescriptor::new(&family.name, options));
        }
        old.remove("default");
        for name in &old {
            all.push(ColumnFamilyDescriptor::new(name, shared.options(None)?));
        }
        let db = Db::open_cf_descriptors(&options, folder.path(), all).map_err(fail)?;
        // The job has these states no more.
        for name in &old {
            db.drop_cf(name).map_err(fail)?;
        }
        let identity = db.get_db_identity().map_err(fail)?;
        let mut write = WriteOptions::default();
        // State is durable by snapshots, never by a log of its own.
        write.disable_wal(true);
        write.set_memtable_insert_hint_per_batch(true);
        // Who waits for room must notice that there will be none.
        write.set_no_slowdown(true);
        let store = Arc::new(Self {
            db,
            folder,
            write,
            identity: String::from_utf8_lossy(&identity).into_owned(),
            origins,
            families: families.iter().map(|f| f.name.clone()).collect(),
            gate: Gate::default(),
            shared: shared.clone(),
        });
        #[cfg(test)]
        lock(&shared.stores).push(Arc::downgrade(&store));
        Ok((store, families))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Above the numbers of all items that were ever written, since each has taken one.
    pub(crate) fn sequence(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// The name of a file, which no other file in the world has.
    pub(crate) fn unique_name(&self, local: &str) -> String {
        match self.origins.get(local) {
            Some(name) => name.clone(),
            None => format!("{}-{local}", self.identity),
        }
    }

    /// The handle of a column family; it is found by name each time, so take it once for many keys.
    pub(crate) fn handle(&self, family: &Family) -> Result<Arc<BoundColumnFamily<'_>>> {
        self.named(&family.name)
    }

    pub(crate) fn named(&self, name: &str) -> Result<Arc<BoundColumnFamily<'_>>> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| Error::bug("a column family is lost"))
    }

    /// Writes all of a batch. Between a cut and its links it may wait for these.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if !self.gate.closed.load(Ordering::Acquire) {
            return self.put(batch);
        }
        let held = lock(&self.gate.held);
        let wait = self
            .gate
            .moved
            .wait_while(held, |h| h.passes == Passes::None);
        let mut held = wait.unwrap_or_else(PoisonError::into_inner);
        if held.passes == Passes::Small && self.may_flush(batch.size_in_bytes())? {
            let wait = self
                .gate
                .moved
                .wait_while(held, |h| h.passes != Passes::All);
            held = wait.unwrap_or_else(PoisonError::into_inner);
        }
        let entries = batch.len() as u64;
        self.put(batch)?;
        held.written += entries;
        Ok(())
    }

    /// Writes a batch, and waits while write buffers cannot be emptied as fast as they are filled. RocksDB itself would wait
    /// without end for a full disk to get room again. Errors: `StateFailed` where files cannot be written for a while.
    fn put(&self, batch: WriteBatch) -> Result<()> {
        // A write takes the batch, also one that is to be tried again. Copying is cheap beside inserting.
        let data = batch.data().to_vec();
        let (mut batch, mut looks) = (batch, 0);
        loop {
            match self.db.write_opt(batch, &self.write) {
                Err(e) if e.kind() == rocksdb::ErrorKind::Incomplete => {}
                other => return other.map_err(|e| self.refused(&e)),
            }
            if looks >= STUCK_LOOKS {
                let failures = self.db.property_int_value(BACKGROUND_ERRORS);
                if failures.map_err(|e| self.refused(&e))?.unwrap_or_default() > 0 {
                    let buffer = buffer_bytes(self.shared.split, &self.shared.settings);
                    return Err(stuck(self.folder.path(), buffer));
                }
            }
            std::thread::sleep(LOOK);
            looks += 1;
            batch = WriteBatch::from_data(&data);
        }
    }

    /// Whether RocksDB might flush a write buffer to make room for so many bytes: by the size of one, or of all.
    fn may_flush(&self, bytes: usize) -> Result<bool> {
        let buffer = buffer_bytes(self.shared.split, &self.shared.settings);
        // Memory is taken by blocks of an eighth of the buffer, at most 1 MiB; an entry has some bytes of its own.
        let more = (bytes * 2 + (buffer / 8).min(1 << 20) * 2) as u64;
        let all = self.shared.buffers.get_usage() as u64;
        if all + more > self.shared.split.buffers as u64 / 8 * 7 {
            return Ok(true);
        }
        for name in &self.families {
            if self.property(name, CUR_SIZE_ACTIVE_MEM_TABLE)? + more > buffer as u64 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The cut: what was written before is what [`link`](Self::link) finds, which must follow, on another thread. It waits
    /// for the end of one that was given up.
    pub(crate) fn cut(&self) {
        let held = lock(&self.gate.held);
        let wait = self
            .gate
            .moved
            .wait_while(held, |h| h.passes != Passes::All);
        let mut held = wait.unwrap_or_else(PoisonError::into_inner);
        *held = Held {
            passes: Passes::None,
            written: 0,
        };
        self.gate.closed.store(true, Ordering::Release);
    }

    fn pass(&self, passes: Passes) {
        lock(&self.gate.held).passes = passes;
        let closed = passes != Passes::All;
        self.gate.closed.store(closed, Ordering::Release);
        self.gate.moved.notify_all();
    }

    /// Lets writes pass: nobody will link the files of the cut.
    pub(crate) fn reopen(&self) {
        self.pass(Passes::All);
    }

    /// Links the files of the cut into a folder that is not there, once they are written. Waits: not for the task.
    pub(crate) fn link(&self, into: &Path, given_up: &AtomicBool) -> Result<()> {
        // However it ends.
        let _open = Reopen(self);
        if let Some(parent) = into.parent() {
            std::fs::create_dir_all(parent).map_err(|e| unusable(parent, &e))?;
        }
        let errors_before = self.switch()?;
        self.link_switched(into, errors_before, given_up)
    }

    /// Switches all write buffers; how many errors there were before. Waits where flushes have fallen behind.
    pub(crate) fn switch(&self) -> Result<u64> {
        let errors = self.errors()?;
        let mut flush = FlushOptions::default();
        flush.set_wait(false);
        for name in &self.families {
            let handle = self.named(name)?;
            self.db
                .flush_cf_opt(&handle, &flush)
                .map_err(|e| self.refused(&e))?;
        }
        self.pass(Passes::Small);
        Ok(errors)
    }

    /// As [`link`](Self::link), once the write buffers are switched; writes stay held.
    pub(crate) fn link_switched(
        &self,
        into: &Path,
        errors_before: u64,
        given_up: &AtomicBool,
    ) -> Result<()> {
        self.flushed(errors_before, given_up)?;
        let checkpoint = Checkpoint::new(&self.db).map_err(|e| self.refused(&e))?;
        checkpoint
            .create_checkpoint_with_log_size(into, u64::MAX)
            .map_err(|e| refused(into, &e))?;
        // Nothing is written meanwhile.
        let held = lock(&self.gate.held);
        let mut entries = 0;
        for name in &self.families {
            entries += self.property(name, NUM_ENTRIES_ACTIVE_MEM_TABLE)?;
        }
        let exact = entries == held.written;
        drop(held);
        match exact {
            true => Ok(()),
            false => Err(Error::new(
                ErrorCode::StateFailed,
                "what came after the barrier was written too early",
            )
            .help("nothing is lost: the next checkpoint tries again")),
        }
    }

    /// Errors of flushes and merges, up to now.
    fn errors(&self) -> Result<u64> {
        let first = self.families.first();
        first.map_or(Ok(0), |name| self.property(name, BACKGROUND_ERRORS))
    }

    /// Waits until the write buffers of the cut are files.
    fn flushed(&self, errors_before: u64, given_up: &AtomicBool) -> Result<()> {
        for _ in 0..LOOKS_MAX {
            let mut waiting = 0;
            for name in &self.families {
                waiting += self.property(name, NUM_IMMUTABLE_MEM_TABLE)?;
            }
            if waiting == 0 {
                return Ok(());
            }
            if given_up.load(Ordering::Relaxed) {
                return Err(Error::new(
                    ErrorCode::CheckpointFailed,
                    "the snapshot was given up",
                ));
            }
            if self.errors()? > errors_before {
                break;
            }
            std::thread::sleep(LOOK);
        }
        Err(Error::new(
            ErrorCode::StateFailed,
            "the state's write buffers could not be written to disk",
        )
        .at("folder", self.folder.path().display())
        .help("check that the disk has room; `state.dir` names another folder"))
    }

    fn property(&self, family: &str, name: &PropName) -> Result<u64> {
        let value = self.db.property_int_value_cf(&self.named(family)?, name);
        Ok(value.map_err(|e| self.refused(&e))?.unwrap_or_default())
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
        self.db.raw_iterator_cf_opt(handle, once())
    }

    /// All there is now, whatever is written later.
    pub(crate) fn frozen(&self) -> rocksdb::SnapshotWithThreadMode<'_, Db> {
        self.db.snapshot()
    }

    /// Takes everything away but these key groups: whole files at once, the rest by marks that later merges follow.
    pub(crate) fn keep_only(&self, groups: KeyGroupRange) -> Result<()> {
        // No key group is beyond.
        const END: [u8; 2] = [u8::MAX; 2];
        let bytes = |group: u32| u16::try_from(group).map_or(END, u16::to_be_bytes);
        let (start, end) = (bytes(groups.start), bytes(groups.end));
        for name in &self.families {
            let handle = self.named(name)?;
            let mut batch = WriteBatch::default();
            for (from, to) in [([0; 2], start), (end, END)] {
                if from < to {
                    self.db
                        .delete_file_in_range_cf(&handle, from, to)
                        .map_err(|e| self.refused(&e))?;
                    batch.delete_range_cf(&handle, from, to);
                }
            }
            self.write(batch)?;
        }
        Ok(())
    }

    /// Bytes of live data of a column family, about.
    pub(crate) fn live_bytes(&self, family: &Family) -> Result<u64> {
        let handle = self.handle(family)?;
        let of = |name: &str| -> Result<u64> {
            let bytes = self.db.property_int_value_cf(&handle, name);
            Ok(bytes.map_err(|e| self.refused(&e))?.unwrap_or_default())
        };
        Ok(of("rocksdb.estimate-live-data-size")? + of("rocksdb.cur-size-all-mem-tables")?)
    }

    /// Empties the write buffers, and compacts all there is.
    #[cfg(test)]
    pub(crate) fn flush(&self) {
        for name in &self.families {
            let handle = self.db.cf_handle(name).expect("it was made");
            self.db.flush_cf(&handle).expect("there is room");
            self.db
                .compact_range_cf(&handle, None::<&[u8]>, None::<&[u8]>);
        }
    }

    pub(crate) fn refused(&self, error: &rocksdb::Error) -> Error {
        refused(self.folder.path(), error)
    }
}

/// Reads everything, in order, once: nobody will read these blocks again.
pub(crate) fn once() -> ReadOptions {
    let mut read = ReadOptions::default();
    read.set_total_order_seek(true);
    read.fill_cache(false);
    read
}

fn family_options(shared: &Shared, spec: &StateSpec, family: &Family) -> Result<Options> {
    let access = match spec.kind.is_value_like() {
        true => Access::Values,
        false => Access::Entries,
    };
    let mut options = shared.options(Some(access))?;
    if access == Access::Entries {
        // Filters answer for a whole list or map, too: one that is empty is not searched.
        let all = None::<fn(&[u8]) -> bool>;
        options.set_prefix_extractor(SliceTransform::create("key", entry_prefix_of, all));
    }
    if let Some(ttl) = spec.ttl {
        options.set_compaction_filter("ttl", expire(ttl, family.now.clone()));
    }
    Ok(options)
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is being merged for nobody would only hold up the end.
        self.db.cancel_all_background_work(true);
    }
}
