//! The canonical form of a store: its entries as a savepoint has them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender};

use pelton_engine::state::Expiry;
use pelton_model::snapshot::{Entry, NO_GROUP};
use pelton_model::{Error, ErrorCode, Result};

use crate::layout::{Shape, group_of, split_entry, unstamp};
use crate::store::{Db, Store, family_name, once};

/// Chunks that wait for the task.
pub(crate) const CHUNKS: usize = 4;
/// Bytes of a chunk.
const CHUNK_BYTES: usize = 256 << 10;

/// One state.
pub(crate) struct Section {
    /// Its number in the state file.
    pub(crate) number: u32,
    /// The state's name.
    pub(crate) state: String,
    pub(crate) shape: Shape,
    pub(crate) keyed: bool,
    /// The clock at the barrier.
    pub(crate) expiry: Option<Expiry>,
}

impl Section {
    /// Adds what the store has under a key, or would have, unless it was over at the barrier. A value has parts that stand
    /// one after the other; its stamp is in the first. Errors: `Corrupt` where it is too short.
    pub(crate) fn put(&self, key: &[u8], value: [&[u8]; 2], chunk: &mut Chunk) -> Result<()> {
        let damaged = || Error::new(ErrorCode::Corrupt, "an entry is too short");
        let [start, rest] = value;
        if let Some(expiry) = &self.expiry {
            let (stamp, _) = unstamp(true, start).ok_or_else(damaged)?;
            if expiry.is_over(stamp) {
                return Ok(());
            }
        }
        let group = match self.keyed {
            true => group_of(key),
            false => NO_GROUP,
        };
        let (key, sub) = split_entry(self.shape, key).ok_or_else(damaged)?;
        chunk.push(self.number, group, [key, sub, start, rest]);
        Ok(())
    }
}

/// Some entries.
#[derive(Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    /// Section, group, and the ends of key, sub and value.
    entries: Vec<(u32, u32, [usize; 3])>,
}

impl Chunk {
    /// A value has parts that stand one after the other.
    fn push(&mut self, section: u32, group: u32, [key, sub, start, rest]: [&[u8]; 4]) {
        let mut end = |part: &[u8]| {
            self.bytes.extend_from_slice(part);
            self.bytes.len()
        };
        let (key, sub, _) = (end(key), end(sub), end(start));
        let ends = [key, sub, end(rest)];
        self.entries.push((section, group, ends));
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes all entries away; its memory stays, unless that is much.
    pub(crate) fn clear(&mut self) {
        if self.bytes.capacity() > 4 * CHUNK_BYTES {
            *self = Self::default();
        }
        self.bytes.clear();
        self.entries.clear();
    }

    /// Hands each entry on: section, key group, entry.
    pub(crate) fn each(&self, mut to: impl FnMut(u32, u32, Entry<'_>)) {
        let mut start = 0;
        for (section, group, ends) in &self.entries {
            let [key, sub, value] = ends.map(|end| {
                let part = self.bytes.get(start..end).unwrap_or_default();
                start = end;
                part
            });
            to(*section, *group, Entry { key, sub, value });
        }
    }
}

/// Reads all that the store has when `ready` is told, and sends it. Ends early where nobody takes it any more.
pub(crate) fn read(
    store: &Store,
    sections: &[Section],
    ready: &Sender<()>,
    to: &SyncSender<Result<Chunk>>,
    given_up: &AtomicBool,
) {
    let frozen = store.frozen();
    if ready.send(()).is_err() {
        return;
    }
    for section in sections {
        if let Err(e) = read_one(store, &frozen, section, to, given_up) {
            // As above.
            let _ = to.send(Err(e));
            return;
        }
    }
}

fn read_one(
    store: &Store,
    frozen: &rocksdb::SnapshotWithThreadMode<'_, Db>,
    section: &Section,
    to: &SyncSender<Result<Chunk>>,
    given_up: &AtomicBool,
) -> Result<()> {
    let handle = store.named(&family_name(&section.state))?;
    let mut chunk = Chunk::default();
    // Where the next reader goes on: each is given up after a chunk, so that it holds no write buffers.
    let mut from: Vec<u8> = Vec::new();
    loop {
        let mut scan = frozen.raw_iterator_cf_opt(&handle, once());
        scan.seek(&from);
        while chunk.bytes.len() < CHUNK_BYTES
            && let Some((key, value)) = scan.item()
        {
            section.put(key, [value, &[]], &mut chunk)?;
            scan.next();
        }
        scan.status().map_err(|e| store.refused(&e))?;
        let next = scan.key().map(<[u8]>::to_vec);
        drop(scan);
        let gone = to.send(Ok(std::mem::take(&mut chunk))).is_err();
        match next {
            Some(next) if !gone && !given_up.load(Ordering::Relaxed) => from = next,
            _ => return Ok(()),
        }
    }
}
