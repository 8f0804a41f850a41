//! How positions are dealt to splits, and which event stands at a position.
//!
//! Events come in blocks of one epoch; block `b` belongs to split `b % splits`, so that all splits walk through event
//! time together. A reader with several splits takes their blocks in the order of event time.

use super::event::Events;

/// Events of an epoch: one person, three auctions, 46 bids.
pub(super) const EPOCH: u64 = 50;
pub(super) const BIDS_OF_EPOCH: u64 = 46;

pub(super) const PERSON: u8 = 0;
pub(super) const AUCTION: u8 = 1;
pub(super) const BID: u8 = 2;

/// How many events there are, and in which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) events: u64,
    pub(super) splits: u32,
    /// Events that change places among each other; 0 or 1 for none.
    pub(super) group: u64,
    /// Only the bids of each epoch, which have the positions then.
    pub(super) bids_only: bool,
}

impl Layout {
    fn block(&self) -> u64 {
        if self.bids_only { BIDS_OF_EPOCH } else { EPOCH }
    }

    /// Events of one split.
    pub(super) fn len(&self, split: u32) -> u64 {
        let (splits, split) = (u64::from(self.splits), u64::from(split));
        let (whole, rest) = (self.events / self.block(), self.events % self.block());
        let blocks = whole / splits + u64::from(split < whole % splits);
        blocks * self.block() + if whole % splits == split { rest } else { 0 }
    }

    /// The number of the event that comes at a position.
    fn number(&self, position: u64) -> u64 {
        if self.bids_only {
            return position / BIDS_OF_EPOCH * EPOCH
                + (EPOCH - BIDS_OF_EPOCH)
                + position % BIDS_OF_EPOCH;
        }
        if self.group <= 1 {
            return position;
        }
        position / self.group * self.group + position % self.group * 953 % self.group
    }
}

/// Which kind of event a number is.
fn kind(number: u64) -> u8 {
    match number % EPOCH {
        0 => PERSON,
        1..4 => AUCTION,
        _ => BID,
    }
}

/// One split as its reader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Split {
    pub(super) index: u32,
    /// Events taken.
    pub(super) position: u64,
    pub(super) end: u64,
}

/// The events of a batch by row: their numbers, kinds, and each kind for itself.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) numbers: Vec<u64>,
    pub(super) kinds: Vec<u8>,
    pub(super) persons: Events,
    pub(super) auctions: Events,
    pub(super) bids: Events,
}

impl Rows {
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.kinds.clear();
        self.persons.clear();
        self.auctions.clear();
        self.bids.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn push(&mut self, number: u64) {
        let (row, kind) = (self.len() as u32, kind(number));
        self.numbers.push(number);
        self.kinds.push(kind);
        let events = match kind {
            PERSON => &mut self.persons,
            AUCTION => &mut self.auctions,
            _ => &mut self.bids,
        };
        events.rows.push(row);
        events.numbers.push(number);
    }

    /// The same as pushing each of `len` bids.
    fn push_bids(&mut self, first: u64, len: usize) {
        let row = self.len() as u32;
        self.kinds.resize(self.kinds.len() + len, BID);
        self.bids.rows.extend(row..row + len as u32);
        self.numbers.extend(first..first + len as u64);
        self.bids.numbers.extend(first..first + len as u64);
    }
}

/// Takes up to `most` events of these splits, in the order of event time, block by block.
pub(super) fn take(layout: &Layout, splits: &mut [Split], most: usize, rows: &mut Rows) {
    let block = layout.block();
    while rows.len() < most {
        let block_of =
            |s: &Split| s.position / block * u64::from(layout.splits) + u64::from(s.index);
        let open = splits.iter_mut().filter(|s| s.position < s.end);
        let Some(split) = open.min_by_key(|s| block_of(s)) else {
            break;
        };
        let within = split.position % block;
        let run = (block - within)
            .min(split.end - split.position)
            .min((most - rows.len()) as u64);
        let first = block_of(split) * block + within;
        split.position += run;
        take_run(layout, first, run, rows);
    }
}

/// The events at some consecutive positions of one block.
fn take_run(layout: &Layout, mut position: u64, mut run: u64, rows: &mut Rows) {
    while run > 0 {
        let number = layout.number(position);
        if layout.group <= 1 && kind(number) == BID {
            return rows.push_bids(number, run as usize);
        }
        rows.push(number);
        position += 1;
        run -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(events: u64, splits: u32, bids_only: bool) -> Layout {
        Layout {
            events,
            splits,
            group: 0,
            bids_only,
        }
    }

    fn numbers(layout: &Layout, splits: &[u32], most: usize) -> Vec<u64> {
        let split = |i: &u32| Split {
            index: *i,
            position: 0,
            end: layout.len(*i),
        };
        let mut splits: Vec<Split> = splits.iter().map(split).collect();
        let mut all = Vec::new();
        let mut rows = Rows::default();
        loop {
            rows.clear();
            take(layout, &mut splits, most, &mut rows);
            if rows.len() == 0 {
                return all;
            }
            assert!(rows.len() <= most);
            assert_eq!(
                rows.kinds,
                rows.numbers.iter().map(|n| kind(*n)).collect::<Vec<_>>()
            );
            all.extend(&rows.numbers);
        }
    }

    #[test]
    fn one_reader_of_all_splits_goes_in_order() {
        for events in [0, 1, 50, 99, 100, 101, 1_234] {
            for splits in 1..5 {
                let all: Vec<u32> = (0..splits).collect();
                let expected: Vec<u64> = (0..events).collect();
                assert_eq!(numbers(&layout(events, splits, false), &all, 37), expected);
            }
        }
    }

    #[test]
    fn splits_cover_each_event_once() {
        for (events, splits) in [(10_000, 2), (1_234, 3), (49, 2), (51, 7), (150, 2)] {
            for bids_only in [false, true] {
                let layout = layout(events, splits, bids_only);
                let mut all: Vec<u64> = (0..splits)
                    .flat_map(|s| numbers(&layout, &[s], 64))
                    .collect();
                assert_eq!((0..splits).map(|s| layout.len(s)).sum::<u64>(), events);
                all.sort_unstable();
                let expected: Vec<u64> = match bids_only {
                    false => (0..events).collect(),
                    true => (0..)
                        .filter(|n| n % 50 >= 4)
                        .take(events as usize)
                        .collect(),
                };
                assert_eq!(all, expected, "{events} {splits} {bids_only}");
            }
        }
    }

    /// Positions as the reference deals them: contiguous ranges of one sequence, blocks dealt to the ranges in turn.
    #[test]
    fn splits_are_dealt_as_the_reference_does() {
        for (bids_only, block, first) in [(false, 50, 0), (true, 46, 4)] {
            let (events, splits) = (block * 6, 3);
            for split in 0..splits {
                let layout = layout(events, splits as u32, bids_only);
                let expected: Vec<u64> = (0..events / splits)
                    .map(|pos| ((pos / block) * splits + split) * 50 + first + pos % block)
                    .collect();
                assert_eq!(numbers(&layout, &[split as u32], 1_000), expected);
            }
        }
    }

    #[test]
    fn a_split_that_lags_catches_up_first() {
        let layout = layout(400, 2, false);
        let mut splits = [
            Split {
                index: 0,
                position: 200,
                end: 200,
            },
            Split {
                index: 1,
                position: 25,
                end: 200,
            },
        ];
        let mut rows = Rows::default();
        take(&layout, &mut splits, 30, &mut rows);
        assert_eq!(rows.numbers, (75..100).chain(150..155).collect::<Vec<_>>());
    }
}
