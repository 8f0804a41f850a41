//! Who reads what: the ranges of files, dealt in their order to whichever reader asks next, and again after a restart.
//!
//! Needs: what the files are, in units that can be dealt. Refuses: to read them. Invariant: a reader takes ranges in
//! ascending order, so that what it reads is a subsequence of the input, and no watermark made of it is above what
//! reading everything in order would have made.
//!
//! That must hold across a restart, too. As long as there are as many readers as before, each has the watermark that it
//! had: it goes on with its own range, takes only what stands behind all that it has begun, and nothing if it had ended
//! (its watermark is the last one then). With another number of readers all begin with the least of the watermarks: what
//! was begun is dealt out at once, so that its positions are never nobody's, and everything is read from the first on. Files that are new are read like any others; where they stand before all that
//! was begun, they come last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_engine::connector::Position;
use pelton_model::{Error, Result};

use super::listing::InputFile;
use super::positions::{self, OfFile, OfReader, OpenRange, Owner, Place, Ranges};

/// A file, in units: bytes, or row groups.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) file: InputFile,
    /// How many units it has; `u64::MAX` for one that can only be read as a whole.
    pub(super) limit: u64,
    /// How many are dealt at once.
    pub(super) step: u64,
}

/// A range of a file that one reader takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// Which file.
    pub(super) file: usize,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where an earlier reader stood.
    pub(super) at: Option<u64>,
}

impl Piece {
    fn key(&self) -> (usize, u64) {
        (self.file, self.start)
    }
}

/// Deals the ranges of some files.
pub(super) struct Dealer {
    units: Arc<[Unit]>,
    round: Mutex<Option<Round>>,
}

/// The readers of one start.
struct Round {
    positions: Vec<Position>,
    parallelism: u32,
    seated: BTreeSet<u32>,
    hand: Arc<Mutex<Hand>>,
    /// By reader.
    begins: BTreeMap<u32, Begin>,
    /// What was read before, by file.
    before: Arc<[Ranges]>,
}

/// What nobody has taken.
#[derive(Debug, Default)]
struct Hand {
    pieces: BTreeMap<(usize, u64), Piece>,
    /// What stands before all that the readers have begun.
    strays: BTreeMap<(usize, u64), Piece>,
    /// Whether those that had ended must help: nobody else is there.
    all_ended: bool,
}

/// What a reader begins with.
#[derive(Debug, Default)]
struct Begin {
    /// Ranges that were begun, ascending.
    own: VecDeque<Piece>,
    /// The last range that it has begun itself.
    high: Option<(usize, u64)>,
    ended: bool,
    done: BTreeMap<usize, Ranges>,
    /// Of files that are not there any more, and were read.
    gone: Vec<(String, OfFile)>,
}

impl Dealer {
    pub(super) fn new(units: Vec<Unit>) -> Self {
        Self {
            units: units.into(),
            round: Mutex::new(None),
        }
    }

    /// The seat of a reader. Those with the same positions belong to one start. Errors: `StateMismatch`, `Corrupt`.
    pub(super) fn seat(
        &self,
        reader: u32,
        parallelism: u32,
        positions: &[Position],
    ) -> Result<Seat> {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |r: &Round| {
            r.parallelism == parallelism && r.positions == positions && !r.seated.contains(&reader)
        };
        if !round.as_ref().is_some_and(fits) {
            *round = Some(Round::new(&self.units, parallelism, positions)?);
        }
        let round = round
            .as_mut()
            .ok_or_else(|| Error::bug("a deal without readers"))?;
        round.seated.insert(reader);
        let begin = round.begins.remove(&reader).unwrap_or_default();
        Ok(Seat {
            owner: Owner {
                reader,
                of: parallelism,
            },
            units: self.units.clone(),
            hand: round.hand.clone(),
            before: round.before.clone(),
            begin,
            now: None,
            over: false,
        })
    }
}

impl Round {
    fn new(units: &[Unit], parallelism: u32, positions: &[Position]) -> Result<Self> {
        let mut files = Vec::new();
        let mut readers = Vec::new();
        for position in positions {
            match Place::read(position)? {
                Place::File(name, of) => files.push((name, of)),
                Place::Reader(reader) => readers.push(reader),
                Place::Lane(name, _) => {
                    return Err(positions::damaged(&name, "the files were read another way"));
                }
            }
        }
        let same = |o: &Owner| o.of == parallelism && o.reader < parallelism;
        let owners = readers.iter().map(|r| &r.owner);
        let same = files.iter().map(|(_, f)| &f.owner).chain(owners).all(same);
        let mut all = Taken {
            begun: vec![Ranges::default(); units.len()],
            before: vec![Ranges::default(); units.len()],
            begins: BTreeMap::new(),
            hand: Hand::default(),
        };
        for (number, (name, of)) in files.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(0) % parallelism.max(1);
            let reader = if same { of.owner.reader } else { number };
            match units.iter().position(|u| u.file.name == *name) {
                Some(file) => all.take(units, file, of, reader)?,
                None => {
                    let parts = files.iter().filter(|(n, _)| n == name);
                    if !positions::is_complete(&parts.map(|(_, f)| f.clone()).collect::<Vec<_>>()) {
                        return Err(positions::gone(name));
                    }
                    let begin = all.begins.entry(reader).or_default();
                    begin.gone.push((name.clone(), of.clone()));
                }
            }
        }
        all.give_back(parallelism, same);
        all.deal(units);
        if same && !positions.is_empty() {
            for reader in &readers {
                all.begin(units, reader);
            }
            all.part(parallelism);
        }
        Ok(Self {
            positions: positions.to_vec(),
            parallelism,
            seated: BTreeSet::new(),
            hand: Arc::new(Mutex::new(all.hand)),
            begins: all.begins,
            before: all.before.into(),
        })
    }
}

/// What positions say, put together.
struct Taken {
    /// What was begun, by file.
    begun: Vec<Ranges>,
    /// What was read as a whole.
    before: Vec<Ranges>,
    begins: BTreeMap<u32, Begin>,
    hand: Hand,
}

impl Taken {
    /// What one reader had of a file.
    fn take(&mut self, units: &[Unit], file: usize, of: &OfFile, reader: u32) -> Result<()> {
        let (Some(unit), Some(begun), Some(before)) = (
            units.get(file),
            self.begun.get_mut(file),
            self.before.get_mut(file),
        ) else {
            return Err(Error::bug("a file that is not there"));
        };
        if unit.file.stamp() != of.stamp {
            return Err(positions::changed(&unit.file, of.stamp));
        }
        let twice = || positions::damaged(&unit.file.name, "a part of the file stands there twice");
        let begin = self.begins.entry(reader).or_default();
        for (start, end) in of.done.iter() {
            if !begun.add(start, end) || !before.add(start, end) {
                return Err(twice());
            }
            begin.done.entry(file).or_default().add(start, end);
        }
        for open in &of.open {
            if !begun.add(open.start, open.end) {
                return Err(twice());
            }
            begin.own.push_back(Piece {
                file,
                start: open.start,
                end: open.end,
                at: open.at,
            });
        }
        Ok(())
    }

    /// Deals what is in work: to those that had it, or to all in turn.
    fn give_back(&mut self, parallelism: u32, same: bool) {
        if same {
            for begin in self.begins.values_mut() {
                begin.own.make_contiguous().sort_by_key(Piece::key);
            }
            return;
        }
        let owns = self.begins.values_mut().flat_map(|b| b.own.drain(..));
        let mut open: Vec<Piece> = owns.collect();
        open.sort_by_key(Piece::key);
        for (piece, turn) in open.into_iter().zip(0_u32..) {
            let begin = self.begins.entry(turn % parallelism.max(1)).or_default();
            begin.own.push_back(piece);
        }
    }

    /// How far a reader had come.
    fn begin(&mut self, units: &[Unit], reader: &OfReader) {
        let begin = self.begins.entry(reader.owner.reader).or_default();
        begin.ended = reader.ended;
        let Some((name, start)) = &reader.high else {
            return;
        };
        begin.high = match units.iter().position(|u| u.file.name == *name) {
            Some(file) => Some((file, *start)),
            // The file is not there any more: the last one that is.
            None => {
                let ends = begin.done.iter().filter_map(|(file, done)| {
                    let (_, end) = done.iter().last()?;
                    Some((*file, end.saturating_sub(1)))
                });
                ends.max()
            }
        };
    }

    /// Everything that nobody had begun, in pieces.
    fn deal(&mut self, units: &[Unit]) {
        for (file, (unit, begun)) in units.iter().zip(&self.begun).enumerate() {
            let step = unit.step.max(1);
            for (mut start, end) in begun.gaps(unit.limit) {
                while start < end {
                    let next = (start / step)
                        .saturating_add(1)
                        .saturating_mul(step)
                        .min(end);
                    let piece = Piece {
                        file,
                        start,
                        end: next,
                        at: None,
                    };
                    self.hand.pieces.insert(piece.key(), piece);
                    start = next;
                }
            }
        }
    }

    /// Sets aside what no reader could take in order.
    fn part(&mut self, parallelism: u32) {
        let begins = &self.begins;
        let active = (0..parallelism).filter(|r| begins.get(r).is_none_or(|b| !b.ended));
        let highs: Vec<_> = active
            .map(|r| begins.get(&r).and_then(|b| b.high))
            .collect();
        self.hand.all_ended = highs.is_empty();
        let least = match highs.iter().min() {
            // Nobody is there to read in order.
            None => Some((usize::MAX, u64::MAX)),
            Some(least) => *least,
        };
        if let Some(least) = least {
            let behind = self.hand.pieces.split_off(&(least.0, least.1));
            self.hand.strays = std::mem::replace(&mut self.hand.pieces, behind);
        }
    }
}

/// A reader's part of the deal.
pub(super) struct Seat {
    owner: Owner,
    units: Arc<[Unit]>,
    hand: Arc<Mutex<Hand>>,
    before: Arc<[Ranges]>,
    begin: Begin,
    now: Option<Piece>,
    over: bool,
}

impl Seat {
    /// The next range to read; the one before is done.
    pub(super) fn next(&mut self) -> Option<Piece> {
        self.done();
        let piece = self.draw();
        self.over = piece.is_none();
        if let Some(piece) = &piece {
            self.begin.high = self.begin.high.max(Some(piece.key()));
        }
        self.now = piece;
        piece
    }

    fn draw(&mut self) -> Option<Piece> {
        let mut hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.begin.own.front().map(Piece::key);
        let behind = match self.begin.high {
            _ if self.begin.ended => None,
            None => hand.pieces.first_key_value(),
            Some(high) => {
                let from = (high.0, high.1.saturating_add(1));
                hand.pieces.range(from..).next()
            }
        };
        match (own, behind.map(|(key, _)| *key)) {
            (Some(own), Some(key)) if key < own => hand.pieces.remove(&key),
            (Some(_), _) => self.begin.own.pop_front(),
            (None, Some(key)) => hand.pieces.remove(&key),
            (None, None) if self.begin.ended && !hand.all_ended => None,
            (None, None) => hand.strays.pop_first().map(|(_, piece)| piece),
        }
    }

    /// The range at hand is read as far as this.
    pub(super) fn reached(&mut self, at: u64) {
        if let Some(piece) = &mut self.now {
            piece.at = Some(at);
        }
    }

    /// The range at hand has no more rows.
    pub(super) fn done(&mut self) {
        if let Some(piece) = self.now.take() {
            let done = self.begin.done.entry(piece.file).or_default();
            done.add(piece.start, piece.end);
        }
    }

    /// What earlier starts have read as a whole, by file.
    pub(super) fn before(&self) -> &[Ranges] {
        &self.before
    }

    /// Where the reader stands.
    pub(super) fn positions(&self) -> Vec<Position> {
        let open: Vec<&Piece> = self.now.iter().chain(&self.begin.own).collect();
        let file_of = |file: usize| self.units.get(file).map(|u| u.file.name.clone());
        let reader = OfReader {
            owner: self.owner,
            ended: open.is_empty() && (self.over || self.begin.ended),
            high: self
                .begin
                .high
                .and_then(|(f, start)| Some((file_of(f)?, start))),
        };
        let mut all = vec![reader.write()];
        let mut files: BTreeSet<usize> = self.begin.done.keys().copied().collect();
        files.extend(open.iter().map(|p| p.file));
        for file in files {
            let Some(unit) = self.units.get(file) else {
                continue;
            };
            let of_file = open.iter().filter(|p| p.file == file);
            let range = |p: &&Piece| OpenRange {
                start: p.start,
                end: p.end,
                at: p.at,
            };
            let of = OfFile {
                owner: self.owner,
                stamp: unit.file.stamp(),
                limit: unit.limit,
                done: self.begin.done.get(&file).cloned().unwrap_or_default(),
                open: of_file.map(range).collect(),
            };
            all.push(of.write(&unit.file.name));
        }
        for (name, of) in &self.begin.gone {
            let of = OfFile {
                owner: self.owner,
                ..of.clone()
            };
            all.push(of.write(name));
        }
        all
    }
}
