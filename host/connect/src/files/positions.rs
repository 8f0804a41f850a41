//! Where readers stand, as bytes in checkpoints: which ranges of a file are read, and how far the one in work is.
//! Needs: nothing. Refuses: to know what the units are: bytes of a file, or row groups of Parquet.
//!
//! ```text
//! version:u8 (1)  kind:u8
//! kind 1, what a reader has of a file; named FILE@START, by the first range that the reader began:
//!   reader:u32 of:u32 length:u64 modified:i64 limit:u64
//!   ranges:varint { gap:varint length:varint }*          read as a whole, ascending, each behind the one before
//!   open:varint { start:varint end:varint began:u8 at:varint }*  in work, or taken over from others
//! kind 2, the reader itself, and the last range that it has begun; named reader/INDEX:
//!   reader:u32 of:u32 ended:u8 began:u8 [ length:varint file start:varint ]
//! kind 3, a file with a reader of its own; named FILE:
//!   reader:u32 of:u32 skip:varint positions:varint { length:varint name length:varint at }*
//! ```
//!
//! Numbers of fixed width are in little endian. There is no checksum: the file of the checkpoint has one.

use pelton_engine::connector::Position;
use pelton_model::{Error, ErrorCode, Result};

use super::listing::InputFile;

const VERSION: u8 = 1;
const FILE: u8 = 1;
const READER: u8 = 2;
const LANE: u8 = 3;

/// Which reader of how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) reader: u32,
    pub(super) of: u32,
}

/// A file as it was when it was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Bytes.
    pub(super) length: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
}

/// A range in work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OpenRange {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where to go on; none where nothing of it is read.
    pub(super) at: Option<u64>,
}

/// What a reader has of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfFile {
    pub(super) owner: Owner,
    pub(super) stamp: Stamp,
    /// Where the file ends, in units of its ranges.
    pub(super) limit: u64,
    /// What is read as a whole.
    pub(super) done: Ranges,
    pub(super) open: Vec<OpenRange>,
}

/// How far a reader has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfReader {
    pub(super) owner: Owner,
    /// Whether it has nothing more to read.
    pub(super) ended: bool,
    /// The last range that it has begun: file and start.
    pub(super) high: Option<(String, u64)>,
}

/// A file that has a reader of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfLane {
    pub(super) owner: Owner,
    /// Rows behind the positions that are handed out already.
    pub(super) skip: u64,
    /// Those of its reader.
    pub(super) positions: Vec<Position>,
}

/// A position, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    File(String, OfFile),
    Reader(OfReader),
    Lane(String, OfLane),
}

/// Ranges without overlap, ascending; those that touch are one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a range. Whether nothing of it was there.
    pub(super) fn add(&mut self, start: u64, end: u64) -> bool {
        if start >= end {
            return true;
        }
        let at = self.0.partition_point(|(s, _)| *s < start);
        let before = at.checked_sub(1).and_then(|i| self.0.get(i)).copied();
        let after = self.0.get(at).copied();
        if before.is_some_and(|(_, e)| e > start) || after.is_some_and(|(s, _)| s < end) {
            return false;
        }
        let joins_before = before.is_some_and(|(_, e)| e == start);
        let joins_after = after.is_some_and(|(s, _)| s == end);
        match (joins_before, joins_after) {
            (true, true) => {
                let (_, e) = self.0.remove(at);
                if let Some(range) = self.0.get_mut(at - 1) {
                    range.1 = e;
                }
            }
            (true, false) => {
                if let Some(range) = self.0.get_mut(at - 1) {
                    range.1 = end;
                }
            }
            (false, true) => {
                if let Some(range) = self.0.get_mut(at) {
                    range.0 = start;
                }
            }
            (false, false) => self.0.insert(at, (start, end)),
        }
        true
    }

    /// Each range, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// What is between them, from 0 to `limit`.
    pub(super) fn gaps(&self, limit: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut from = 0;
        for (start, end) in self.iter() {
            gaps.push((from, start.min(limit)));
            from = end;
        }
        gaps.push((from, limit));
        gaps.retain(|(start, end)| start < end);
        gaps
    }
}

impl OfFile {
    /// The position, under the name that it has in every start.
    pub(super) fn write(&self, file: &str) -> Position {
        let mut at = head(FILE, self.owner);
        at.extend_from_slice(&self.stamp.length.to_le_bytes());
        at.extend_from_slice(&self.stamp.modified.to_le_bytes());
        at.extend_from_slice(&self.limit.to_le_bytes());
        put(&mut at, self.done.0.len() as u64);
        let mut behind = 0;
        for (start, end) in self.done.iter() {
            put(&mut at, start - behind);
            put(&mut at, end - start);
            behind = end;
        }
        put(&mut at, self.open.len() as u64);
        for open in &self.open {
            put(&mut at, open.start);
            put(&mut at, open.end);
            at.push(u8::from(open.at.is_some()));
            put(&mut at, open.at.unwrap_or(0));
        }
        let firsts = self.done.iter().map(|(start, _)| start);
        let opens = self.open.iter().map(|o| o.start);
        let first = firsts.chain(opens).min().unwrap_or(0);
        Position {
            split: format!("{file}@{first}"),
            at,
        }
    }
}

impl OfReader {
    /// The position of a reader itself.
    pub(super) fn write(&self) -> Position {
        let mut at = head(READER, self.owner);
        at.push(u8::from(self.ended));
        at.push(u8::from(self.high.is_some()));
        if let Some((file, start)) = &self.high {
            put_bytes(&mut at, file.as_bytes());
            put(&mut at, *start);
        }
        Position {
            split: format!("reader/{}", self.owner.reader),
            at,
        }
    }
}

impl OfLane {
    /// The position of a file.
    pub(super) fn write(&self, file: &str) -> Position {
        let mut at = head(LANE, self.owner);
        put(&mut at, self.skip);
        put(&mut at, self.positions.len() as u64);
        for position in &self.positions {
            put_bytes(&mut at, position.split.as_bytes());
            put_bytes(&mut at, &position.at);
        }
        Position {
            split: file.to_owned(),
            at,
        }
    }

    /// Whether the file was read to its end.
    pub(super) fn is_complete(&self) -> bool {
        let places: Result<Vec<Place>> = self.positions.iter().map(Place::read).collect();
        let files = places.into_iter().flatten().filter_map(|p| match p {
            Place::File(_, of) => Some(of),
            _ => None,
        });
        is_complete(&files.collect::<Vec<_>>())
    }
}

/// Whether these, all of one file, are the whole of it.
pub(super) fn is_complete(of: &[OfFile]) -> bool {
    let mut all = Ranges::default();
    let added = of
        .iter()
        .flat_map(|f| f.done.iter())
        .all(|(start, end)| all.add(start, end));
    let limit = of.first().map(|f| f.limit);
    added && limit.is_some_and(|limit| all.gaps(limit).is_empty())
}

impl Place {
    /// Reads a position. Errors: `Corrupt`; `StateMismatch` for another version.
    pub(super) fn read(position: &Position) -> Result<Self> {
        let cut = || damaged(&position.split, "it is cut off");
        match position.at.first() {
            Some(&VERSION) => {}
            Some(version) => {
                let message = format!(
                    "the position of '{}' is of version {version}, but this binary reads {VERSION}",
                    position.split
                );
                return Err(Error::new(ErrorCode::StateMismatch, message));
            }
            None => return Err(cut()),
        }
        let mut rest = position.at.get(1..).unwrap_or_default();
        let place = take_place(&position.split, &mut rest).ok_or_else(cut)?;
        if !rest.is_empty() {
            return Err(damaged(&position.split, "something stands behind it"));
        }
        Ok(place)
    }
}

fn take_place(split: &str, rest: &mut &[u8]) -> Option<Place> {
    let [kind] = take(rest)?;
    let owner = Owner {
        reader: u32::from_le_bytes(take(rest)?),
        of: u32::from_le_bytes(take(rest)?),
    };
    match kind {
        FILE => {
            let file = split.rsplit_once('@')?.0.to_owned();
            Some(Place::File(file, take_file(owner, rest)?))
        }
        READER => {
            let ended = take::<1>(rest)? != [0];
            let high = match take::<1>(rest)? {
                [0] => None,
                _ => {
                    let file = String::from_utf8(bytes(rest)?.to_vec()).ok()?;
                    Some((file, number(rest)?))
                }
            };
            let reader = OfReader { owner, ended, high };
            Some(Place::Reader(reader))
        }
        LANE => {
            let skip = number(rest)?;
            let count = number(rest)?;
            let mut positions = Vec::new();
            for _ in 0..count {
                positions.push(Position {
                    split: String::from_utf8(bytes(rest)?.to_vec()).ok()?,
                    at: bytes(rest)?.to_vec(),
                });
            }
            let lane = OfLane {
                owner,
                skip,
                positions,
            };
            Some(Place::Lane(split.to_owned(), lane))
        }
        _ => None,
    }
}

fn take_file(owner: Owner, rest: &mut &[u8]) -> Option<OfFile> {
    let stamp = Stamp {
        length: u64::from_le_bytes(take(rest)?),
        modified: i64::from_le_bytes(take(rest)?),
    };
    let limit = u64::from_le_bytes(take(rest)?);
    let (mut done, mut behind) = (Ranges::default(), 0_u64);
    for _ in 0..number(rest)? {
        let start = behind.checked_add(number(rest)?)?;
        let end = start.checked_add(number(rest)?)?;
        if !done.add(start, end) {
            return None;
        }
        behind = end;
    }
    let mut open = Vec::new();
    for _ in 0..number(rest)? {
        let (start, end) = (number(rest)?, number(rest)?);
        let began = take::<1>(rest)? != [0];
        let at = Some(number(rest)?).filter(|_| began);
        open.push(OpenRange { start, end, at });
    }
    Some(OfFile {
        owner,
        stamp,
        limit,
        done,
        open,
    })
}

/// The error of a file that is not the one that was begun.
pub(super) fn changed(file: &InputFile, was: Stamp) -> Error {
    let now = file.stamp();
    let how = if now.length == was.length {
        "was written to since".to_owned()
    } else {
        format!("had {} bytes then, and has {} now", was.length, now.length)
    };
    let message = format!(
        "input '{}' is not the one that the checkpoint has begun to read: it {how}",
        file.path.display()
    );
    Error::new(ErrorCode::StateMismatch, message)
        .help("put the file back as it was (a copy must keep its time of modification), or begin anew with '--fresh'")
}

/// The error of a file that is begun, and not there.
pub(super) fn gone(name: &str) -> Error {
    let message = format!(
        "input '{name}', which the checkpoint has begun to read, is not among the source's files any more"
    );
    Error::new(ErrorCode::StateMismatch, message)
        .help("put the file back as it was, or begin anew with '--fresh'")
}

/// The error of positions that contradict themselves.
pub(super) fn damaged(split: &str, why: &str) -> Error {
    let message = format!("the position of '{split}' in the checkpoint is damaged: {why}");
    Error::new(ErrorCode::Corrupt, message)
}

fn head(kind: u8, owner: Owner) -> Vec<u8> {
    let mut at = vec![VERSION, kind];
    at.extend_from_slice(&owner.reader.to_le_bytes());
    at.extend_from_slice(&owner.of.to_le_bytes());
    at
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (first, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { reader: 1, of: 3 };

    fn of_file() -> OfFile {
        let mut done = Ranges::default();
        assert!(done.add(8, 16) && done.add(32, 300));
        OfFile {
            owner: OWNER,
            stamp: Stamp {
                length: 1_000,
                modified: -2,
            },
            limit: u64::MAX,
            done,
            open: vec![OpenRange {
                start: 300,
                end: u64::MAX,
                at: Some(301),
            }],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// These bytes are in checkpoints: a reader must understand them for ever.
    #[test]
    fn positions_of_the_first_version_are_read() {
        let file = of_file();
        let golden = "01010100000003000000e803000000000000feffffffffffffffffffffffffffffff02080810\
                      8c0201ac02ffffffffffffffffff0101ad02";
        let written = file.write("a@b");
        assert_eq!(written.split, "a@b@8");
        assert_eq!(hex(&written.at), golden);
        assert_eq!(
            Place::read(&written).unwrap(),
            Place::File("a@b".into(), file)
        );
        let reader = |high| OfReader {
            owner: OWNER,
            ended: true,
            high,
        };
        let written = reader(Some(("f".into(), 300))).write();
        assert_eq!(
            (written.split.as_str(), hex(&written.at).as_str()),
            ("reader/1", "0102010000000300000001010166ac02")
        );
        let read = Place::read(&written).unwrap();
        assert_eq!(read, Place::Reader(reader(Some(("f".into(), 300)))));
        let reader = reader(None).write();
        assert_eq!(hex(&reader.at), "010201000000030000000100");
        let lane = OfLane {
            owner: OWNER,
            skip: 200,
            positions: vec![reader],
        };
        let written = lane.write("f");
        assert_eq!(
            hex(&written.at),
            "01030100000003000000c80101087265616465722f310c010201000000030000000100"
        );
        assert_eq!(
            Place::read(&written).unwrap(),
            Place::Lane("f".into(), lane)
        );
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_refused() {
        let written = of_file().write("a");
        for length in 0..written.at.len() {
            let cut = Position {
                split: written.split.clone(),
                at: written.at[..length].to_vec(),
            };
            let e = Place::read(&cut).unwrap_err();
            assert_eq!(e.code(), ErrorCode::Corrupt, "{length}");
        }
        let mut later = written.clone();
        later.at[0] = 2;
        assert_eq!(
            Place::read(&later).unwrap_err().to_string(),
            "the position of 'a@8' is of version 2, but this binary reads 1"
        );
        let mut longer = written;
        longer.at.push(0);
        assert!(Place::read(&longer).is_err());
    }

    #[test]
    fn ranges_join_and_never_overlap() {
        let mut ranges = Ranges::default();
        assert!(ranges.add(10, 20) && ranges.add(30, 40) && ranges.add(20, 30));
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(10, 40)]);
        assert!(!ranges.add(39, 50) && !ranges.add(0, 11) && !ranges.add(12, 13));
        assert!(ranges.add(40, u64::MAX) && ranges.add(5, 5));
        assert_eq!(ranges.gaps(u64::MAX), [(0, 10)]);
        assert_eq!(Ranges::default().gaps(3), [(0, 3)]);
        assert_eq!(Ranges::default().gaps(0), []);
    }
}
