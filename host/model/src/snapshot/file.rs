//! State files: writing and reading their blocks.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Read;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::STATE_VERSION;
use crate::{Error, ErrorCode, Result};

const MAGIC: &[u8; 8] = b"PLTSTATE";
const END: &[u8; 8] = b"PLTSTEND";
const DIRECTORY: u32 = u32::MAX;
/// Bytes before a block's entries.
const HEAD: usize = 24;
/// Bytes of a block in the directory.
const REF: usize = 24;
/// A block is closed when it has so many bytes; a single entry may be larger.
pub const BLOCK_BYTES: usize = 32 << 10;
/// More than any honest block.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Where a block stands in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRef {
    /// Number of its section.
    pub section: u32,
    /// Key group, or [`NO_GROUP`](super::NO_GROUP).
    pub group: u32,
    /// From the beginning of the file.
    pub offset: u64,
    /// Bytes of its entries.
    pub length: u32,
    /// How many entries.
    pub count: u32,
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The key, or nothing.
    pub key: &'a [u8],
    /// What stands below the key, or nothing.
    pub sub: &'a [u8],
    /// The value, or nothing.
    pub value: &'a [u8],
}

/// Makes the bytes of a state file, a piece at a time. Whoever has it hands the pieces on with [`take`](Self::take).
pub struct StateWriter {
    /// Complete blocks that nobody has taken.
    out: Vec<u8>,
    /// Bytes before `out`.
    taken: u64,
    /// By section and group: entries of the block that is not closed, and how many.
    open: HashMap<Place, (Vec<u8>, u32), BuildHasherDefault<Mixer>>,
    directory: Vec<BlockRef>,
    hash: Box<Xxh3>,
}

impl Default for StateWriter {
    fn default() -> Self {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&STATE_VERSION.to_le_bytes());
        Self {
            out,
            taken: 0,
            open: HashMap::default(),
            directory: Vec::new(),
            hash: Box::default(),
        }
    }
}

impl StateWriter {
    /// Adds an entry. Entries of one section and group keep their order.
    pub fn put(&mut self, section: u32, group: u32, entry: Entry<'_>) {
        let (bytes, count) = self.open.entry((section, group)).or_default();
        for part in [entry.key, entry.sub, entry.value] {
            varint(part.len() as u64, bytes);
            bytes.extend_from_slice(part);
        }
        *count += 1;
        if bytes.len() >= BLOCK_BYTES {
            let (bytes, count) = (std::mem::take(bytes), std::mem::take(count));
            self.block(section, group, count, &bytes);
        }
    }

    /// Bytes that are complete and not taken.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.out.len()
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.out.len() + self.open.values().map(|(b, _)| b.len()).sum::<usize>()
    }

    /// Takes what is complete, to be appended to what was taken before.
    pub fn take(&mut self) -> Vec<u8> {
        let out = std::mem::take(&mut self.out);
        self.taken += out.len() as u64;
        self.hash.update(&out);
        out
    }

    /// Closes the file: the last bytes, the length of the whole and its checksum.
    pub fn finish(mut self) -> (Vec<u8>, u64, u64) {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        open.sort_unstable_by_key(|(place, _)| *place);
        for ((section, group), (bytes, count)) in open {
            if count > 0 {
                self.block(section, group, count, &bytes);
            }
        }
        let mut bytes = Vec::with_capacity(self.directory.len() * REF);
        for block in &self.directory {
            bytes.extend_from_slice(&block.section.to_le_bytes());
            bytes.extend_from_slice(&block.group.to_le_bytes());
            bytes.extend_from_slice(&block.offset.to_le_bytes());
            bytes.extend_from_slice(&block.length.to_le_bytes());
            bytes.extend_from_slice(&block.count.to_le_bytes());
        }
        let at = self.taken + self.out.len() as u64;
        let count = self.directory.len() as u32;
        self.block(DIRECTORY, 0, count, &bytes);
        self.out.extend_from_slice(&at.to_le_bytes());
        self.out.extend_from_slice(END);
        let rest = self.take();
        (rest, self.taken, self.hash.digest())
    }

    fn block(&mut self, section: u32, group: u32, count: u32, bytes: &[u8]) {
        let offset = self.taken + self.out.len() as u64;
        let length = bytes.len() as u32;
        self.out.extend_from_slice(&length.to_le_bytes());
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 8]);
        for n in [section, group, count] {
            self.out.extend_from_slice(&n.to_le_bytes());
        }
        self.out.extend_from_slice(bytes);
        let sum = self.out.get(at + 8..).map_or(0, xxh3_64).to_le_bytes();
        if let Some(place) = self.out.get_mut(at..at + 8) {
            place.copy_from_slice(&sum);
        }
        if section != DIRECTORY {
            self.directory.push(BlockRef {
                section,
                group,
                offset,
                length,
                count,
            });
        }
    }
}

/// Section and group.
type Place = (u32, u32);

/// Hashes two small numbers: a block is looked up for each entry, which was a fifth of the cost of a snapshot in a tree.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u32(u32::from(*b)));
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A block that was read and checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Number of its section.
    pub section: u32,
    /// Key group, or [`NO_GROUP`](super::NO_GROUP).
    pub group: u32,
    count: u32,
    bytes: Vec<u8>,
}

impl Block {
    /// Reads a block from its bytes, of which it takes the first. Errors: `Corrupt`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut bytes = bytes;
        let block = read_block(&mut bytes)?;
        block.ok_or_else(|| corrupt("a block is missing"))
    }

    /// Hands each entry to `each`. Errors: `Corrupt`; those of `each`.
    pub fn entries(&self, mut each: impl FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
        let mut rest = self.bytes.as_slice();
        for _ in 0..self.count {
            let key = cut(&mut rest)?;
            let sub = cut(&mut rest)?;
            let value = cut(&mut rest)?;
            each(Entry { key, sub, value })?;
        }
        match rest {
            [] => Ok(()),
            _ => Err(corrupt("a block has more than its entries")),
        }
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Reads the blocks of a state file in order.
pub struct StateReader<R> {
    from: R,
    over: bool,
}

impl<R: Read> StateReader<R> {
    /// Errors: `Corrupt` for what is no state file, or of a version that this release doesn't know.
    pub fn new(mut from: R) -> Result<Self> {
        let mut head = [0; 12];
        fill(&mut from, &mut head)?;
        let (magic, version) = head.split_at(8);
        let version = version.try_into().map_or(0, u32::from_le_bytes);
        if magic != MAGIC {
            return Err(corrupt("it is not a state file"));
        }
        if version != STATE_VERSION {
            return Err(corrupt(&format!(
                "it has version {version}, and this release reads {STATE_VERSION}"
            )));
        }
        Ok(Self { from, over: false })
    }

    /// The next block; none at the end of the file, which was seen to be there. Errors: `Corrupt`; `Io`.
    pub fn next_block(&mut self) -> Result<Option<Block>> {
        if self.over {
            return Ok(None);
        }
        let block = read_block(&mut self.from)?.ok_or_else(|| corrupt("it ends too early"))?;
        if block.section != DIRECTORY {
            return Ok(Some(block));
        }
        let mut trailer = [0; 16];
        fill(&mut self.from, &mut trailer)?;
        if trailer.get(8..) != Some(END.as_slice()) {
            return Err(corrupt("its end is not where it should be"));
        }
        self.over = true;
        Ok(None)
    }
}

impl BlockRef {
    /// All blocks of a file, in order, from its last bytes. `length` is the file's, `range` reads (offset, length).
    /// Errors: `Corrupt`; those of `range`.
    pub fn all(
        length: u64,
        mut range: impl FnMut(u64, u64) -> Result<Vec<u8>>,
    ) -> Result<Vec<Self>> {
        let end = length
            .checked_sub(16)
            .ok_or_else(|| corrupt("it is too short"))?;
        let trailer = range(end, 16)?;
        let at = trailer.get(..8).and_then(|b| b.try_into().ok());
        let at = at.map_or(u64::MAX, u64::from_le_bytes);
        if trailer.get(8..) != Some(END.as_slice()) || at >= end {
            return Err(corrupt("its end is not where it should be"));
        }
        let block = Block::parse(&range(at, end - at)?)?;
        if block.section != DIRECTORY || block.bytes.len() != block.len() * REF {
            return Err(corrupt("its directory is not where it should be"));
        }
        let number = |b: &[u8], at: usize| {
            let four = b.get(at..at + 4).and_then(|b| b.try_into().ok());
            four.map_or(0, u32::from_le_bytes)
        };
        let refs = block.bytes.chunks_exact(REF).map(|b| Self {
            section: number(b, 0),
            group: number(b, 4),
            offset: u64::from(number(b, 8)) | u64::from(number(b, 12)) << 32,
            length: number(b, 16),
            count: number(b, 20),
        });
        Ok(refs.collect())
    }

    /// Bytes that the block takes in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.length) + HEAD as u64
    }
}

fn read_block(from: &mut impl Read) -> Result<Option<Block>> {
    let mut head = [0; HEAD];
    if !fill_or_end(from, &mut head)? {
        return Ok(None);
    }
    let number = |at: usize| {
        let four = head.get(at..at + 4).and_then(|b| b.try_into().ok());
        four.map_or(0, u32::from_le_bytes)
    };
    let length = number(0) as usize;
    if length > BLOCK_BYTES_MAX {
        return Err(corrupt("a block has an impossible length"));
    }
    let sum = u64::from(number(4)) | u64::from(number(8)) << 32;
    let mut bytes = Vec::new();
    let read = from.by_ref().take(length as u64).read_to_end(&mut bytes);
    read.map_err(|e| unreadable(&e))?;
    if bytes.len() != length {
        return Err(corrupt("it ends too early"));
    }
    let mut hash = Xxh3::new();
    hash.update(head.get(12..).unwrap_or_default());
    hash.update(&bytes);
    if hash.digest() != sum {
        return Err(corrupt("a block's checksum is wrong"));
    }
    Ok(Some(Block {
        section: number(12),
        group: number(16),
        count: number(20),
        bytes,
    }))
}

fn fill(from: &mut impl Read, into: &mut [u8]) -> Result<()> {
    match fill_or_end(from, into)? {
        true => Ok(()),
        false => Err(corrupt("it ends too early")),
    }
}

/// False at the very end of the input.
fn fill_or_end(from: &mut impl Read, into: &mut [u8]) -> Result<bool> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
        match from.read(rest) {
            Ok(0) if done == 0 => return Ok(false),
            Ok(0) => return Err(corrupt("it ends too early")),
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(&e)),
        }
    }
    Ok(true)
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn cut<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let mut n = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, tail) = rest
            .split_first()
            .ok_or_else(|| corrupt("an entry is cut off"))?;
        *rest = tail;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (part, tail) = rest
                .split_at_checked(n as usize)
                .ok_or_else(|| corrupt("an entry is cut off"))?;
            *rest = tail;
            return Ok(part);
        }
    }
    Err(corrupt("an entry has an impossible length"))
}

fn corrupt(why: &str) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!("a state file is damaged: {why}"),
    )
}

fn unreadable(e: &std::io::Error) -> Error {
    Error::new(ErrorCode::Io, format!("a state file cannot be read: {e}"))
}

#[cfg(test)]
mod tests;
