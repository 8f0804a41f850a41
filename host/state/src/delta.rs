//! Delta files: what has changed in the caches of one task since the last snapshot, without the store.
//!
//! A delta is a flat file of values by their keys in the store, in no order, each key of a state once. Applied one after
//! the other to the files of a cut, deltas give what was there at the barrier of the last. Numbers are little-endian,
//! checksums XXH3-64 of all that stands before them in their part, and of a block's entries.
//!
//! ```text
//! head    "PLTDELTA" version u32, number of states u32, length u32 and bytes of the file's name, the same of each
//!         state's, checksum u64
//! block   state u32, entries u32, bytes of entries u64, checksum u64, entries
//! entry   length of the key, 0 for a key that is gone or the length of the value + 1, key, value
//! end     ffffffff, 0 u32, entries of all blocks u64, checksum u64
//! ```
//!
//! Lengths in entries have seven bits a byte, the lowest first, the high bit set in all but the last. Keys and values are
//! as in the store. The task fills blocks; a thread of its own writes them.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;

use pelton_model::Result;
use xxhash_rust::xxh3::Xxh3;

use crate::fault::{damaged, lost, no_thread};
use crate::folder::{Folder, unusable};

/// The version that is written.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"PLTDELTA";
/// Bytes before a block's entries.
const HEAD: usize = 24;
/// A state that is none: the file ends.
const END: u32 = u32::MAX;
/// Bytes of a block, about: below the size from which the C library asks the system for new pages each time.
const BLOCK_BYTES: usize = 192 << 10;
/// Bytes that wait for the disk, beyond which only what must be copied is.
const HELD_BYTES: usize = 8 << 20;

/// A delta on this machine; it goes when nobody has it any more.
#[derive(Debug)]
pub(crate) struct Delta {
    /// No other file in the world has it.
    pub(crate) name: String,
    /// How much there is in it.
    pub(crate) entries: u64,
    folder: Folder,
}

impl Delta {
    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }
}

/// Entries of one state.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    entries: u32,
}

enum Piece {
    /// Of the state with this number.
    Block(u32, Block),
    /// All is said: so many entries.
    End(u64),
}

/// A delta that is being written.
pub(crate) struct DeltaOut {
    delta: Delta,
    /// By state.
    blocks: Vec<Block>,
    bytes: usize,
    pieces: Sender<Piece>,
    held: Arc<AtomicUsize>,
    written: Receiver<Result<()>>,
}

impl DeltaOut {
    /// Begins a delta in a folder that is not there. Errors: `StateFailed` where the system has no thread.
    pub(crate) fn begin(folder: Folder, name: String, states: &[&str]) -> Result<Self> {
        let delta = Delta {
            name,
            entries: 0,
            folder,
        };
        let (pieces, from) = mpsc::channel();
        let (done, written) = mpsc::channel();
        let held = Arc::new(AtomicUsize::new(0));
        let (path, head) = (delta.path(), head(&delta.name, states));
        let waits = held.clone();
        let work = move || {
            // Nobody waits where the task has given it up.
            let _ = done.send(write(&path, &head, &from, &waits));
        };
        thread::Builder::new()
            .name("state-delta".to_owned())
            .spawn(work)
            .map_err(|e| no_thread(&e))?;
        Ok(Self {
            delta,
            blocks: states.iter().map(|_| Block::default()).collect(),
            bytes: 0,
            pieces,
            held,
            written,
        })
    }

    /// Adds a value of a state, or that it is gone. A value has parts that stand one after the other.
    #[inline]
    pub(crate) fn put(&mut self, state: usize, key: &[u8], value: Option<[&[u8]; 2]>) {
        let Some(block) = self.blocks.get_mut(state) else {
            return;
        };
        let bytes = &mut block.bytes;
        if bytes.is_empty() {
            // It grows no more, but for what is large itself.
            bytes.reserve(BLOCK_BYTES + 1_024);
        }
        put_length(key.len(), bytes);
        match value {
            None => {
                bytes.push(0);
                bytes.extend_from_slice(key);
            }
            Some([start, rest]) => {
                put_length(start.len() + rest.len() + 1, bytes);
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(start);
                bytes.extend_from_slice(rest);
            }
        }
        let length = value.map_or(0, |[start, rest]| start.len() + rest.len());
        self.bytes += key.len() + length;
        block.entries += 1;
        self.delta.entries += 1;
        if bytes.len() >= BLOCK_BYTES {
            let block = std::mem::take(block);
            self.send(state, block);
        }
    }

    fn send(&self, state: usize, block: Block) {
        self.held.fetch_add(block.bytes.len(), Ordering::Relaxed);
        // Where nobody takes it, the thread has said why.
        let _ = self.pieces.send(Piece::Block(state as u32, block));
    }

    /// Whether there is room for what can wait. Errors: those of the disk.
    pub(crate) fn has_room(&self) -> Result<bool> {
        match self.written.try_recv() {
            Ok(result) => result.and_then(|()| Err(lost())),
            Err(TryRecvError::Empty) => Ok(self.held.load(Ordering::Relaxed) < HELD_BYTES),
            Err(TryRecvError::Disconnected) => Err(lost()),
        }
    }

    /// Bytes of keys and values that were put so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All is put: the delta, and when it is a file.
    pub(crate) fn finish(mut self) -> (Delta, Receiver<Result<()>>) {
        for (state, block) in std::mem::take(&mut self.blocks).into_iter().enumerate() {
            if block.entries > 0 {
                self.send(state, block);
            }
        }
        // As above.
        let _ = self.pieces.send(Piece::End(self.delta.entries));
        (self.delta, self.written)
    }
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Takes a length from the front.
fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

fn head(name: &str, states: &[&str]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(states.len() as u32).to_le_bytes());
    for text in [name].iter().chain(states) {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    let sum = checksum(&[&out]);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// What stands before a block's entries, or is the end.
fn block_head(state: u32, entries: u32, count: u64, bytes: &[u8]) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[..4].copy_from_slice(&state.to_le_bytes());
    out[4..8].copy_from_slice(&entries.to_le_bytes());
    out[8..16].copy_from_slice(&count.to_le_bytes());
    let sum = checksum(&[&out[..16], bytes]);
    out[16..].copy_from_slice(&sum.to_le_bytes());
    out
}

fn checksum(parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.digest()
}

/// Writes what comes until all is said, or nobody is there to say it.
fn write(path: &Path, head: &[u8], from: &Receiver<Piece>, held: &AtomicUsize) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let io = |e: io::Error| unusable(folder, &e);
    // No more than these two: the job's own folder may be gone by now.
    let made = folder.parent().map_or(Ok(()), std::fs::create_dir);
    made.or_else(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(io(e)),
    })?;
    std::fs::create_dir(folder).map_err(io)?;
    let mut file = File::create_new(path).map_err(io)?;
    file.write_all(head).map_err(io)?;
    while let Ok(piece) = from.recv() {
        match piece {
            Piece::Block(state, block) => {
                let length = block.bytes.len();
                let head = block_head(state, block.entries, length as u64, &block.bytes);
                file.write_all(&head).map_err(io)?;
                file.write_all(&block.bytes).map_err(io)?;
                held.fetch_sub(length, Ordering::Relaxed);
            }
            Piece::End(entries) => {
                let end = block_head(END, 0, entries, &[]);
                return file.write_all(&end).map_err(io);
            }
        }
    }
    // The task may have removed the folder before it was made.
    let _ = std::fs::remove_dir_all(folder);
    Err(lost())
}

/// Reads a delta. Errors: `Corrupt` where it is no whole delta of that name; `StateFailed`.
pub(crate) struct DeltaIn {
    file: BufReader<File>,
    path: PathBuf,
    /// Bytes that are left.
    left: u64,
    states: Vec<String>,
    found: u64,
}

impl DeltaIn {
    pub(crate) fn open(path: &Path, name: &str) -> Result<Self> {
        let io = |e: io::Error| unusable(path, &e);
        let file = File::open(path).map_err(io)?;
        let left = file.metadata().map_err(io)?.len();
        let mut delta = Self {
            file: BufReader::with_capacity(64 << 10, file),
            path: path.to_owned(),
            left,
            states: Vec::new(),
            found: 0,
        };
        let mut head = delta.take(16)?;
        if head.get(..8) != Some(MAGIC.as_slice()) {
            return Err(damaged("it is no delta"));
        }
        let version = number(&head, 8, 4);
        if version != u64::from(VERSION) {
            let message = format!("it has version {version}, and this release reads {VERSION}");
            return Err(damaged(&message));
        }
        let mut texts = Vec::new();
        for _ in 0..=number(&head, 12, 4) {
            let length = delta.take(4)?;
            let text = delta.take(number(&length, 0, 4))?;
            head.extend_from_slice(&length);
            head.extend_from_slice(&text);
            texts.push(String::from_utf8(text).map_err(|_| damaged("a name is no text"))?);
        }
        let sum = delta.take(8)?;
        if number(&sum, 0, 8) != checksum(&[&head]) {
            return Err(damaged("its checksum is wrong"));
        }
        delta.states = texts.split_off(1);
        match texts.first().is_some_and(|n| n == name) {
            true => Ok(delta),
            false => Err(damaged("it is another one")),
        }
    }

    /// The names of the states, by their numbers.
    pub(crate) fn states(&self) -> &[String] {
        &self.states
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        self.left = self
            .left
            .checked_sub(length)
            .ok_or_else(|| damaged("it is cut off"))?;
        let length = usize::try_from(length).map_err(|_| damaged("it is too large"))?;
        let mut bytes = vec![0; length];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(|e| unusable(&self.path, &e))?;
        Ok(bytes)
    }

    /// Hands each entry of the next block on: the state's number, key, value; false at the end.
    pub(crate) fn next_block(
        &mut self,
        mut each: impl FnMut(usize, &[u8], Option<&[u8]>) -> Result<()>,
    ) -> Result<bool> {
        let head = self.take(HEAD as u64)?;
        let (state, entries) = (number(&head, 0, 4), number(&head, 4, 4));
        let (count, sum) = (number(&head, 8, 8), number(&head, 16, 8));
        let bytes = match state == u64::from(END) {
            true => Vec::new(),
            false => self.take(count)?,
        };
        let known = head.get(..16).unwrap_or_default();
        if checksum(&[known, &bytes]) != sum {
            return Err(damaged("its checksum is wrong"));
        }
        if state == u64::from(END) {
            return match self.left == 0 && self.found == count {
                true => Ok(false),
                false => Err(damaged("its end is wrong")),
            };
        }
        let state = usize::try_from(state).ok();
        let state = state.filter(|s| *s < self.states.len());
        let state = state.ok_or_else(|| damaged("it has an unknown state"))?;
        let mut rest = bytes.as_slice();
        for _ in 0..entries {
            let (key, value) = entry(&mut rest).ok_or_else(|| damaged("an entry is cut off"))?;
            each(state, key, value)?;
        }
        self.found += entries;
        match rest.is_empty() {
            true => Ok(true),
            false => Err(damaged("a block is too long")),
        }
    }
}

/// Takes an entry from the front.
fn entry<'b>(bytes: &mut &'b [u8]) -> Option<(&'b [u8], Option<&'b [u8]>)> {
    let (key, value) = (take_length(bytes)?, take_length(bytes)?);
    let (key, rest) = bytes.split_at_checked(key)?;
    *bytes = rest;
    let Some(length) = value.checked_sub(1) else {
        return Some((key, None));
    };
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((key, Some(value)))
}

/// A number at a place, of so many bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let part = bytes.get(at..at + length).unwrap_or_default();
    part.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests;
