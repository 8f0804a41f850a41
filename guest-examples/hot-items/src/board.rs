//! The hottest items of windows: pure rules.

use std::cell::Cell;

use pelton::prelude::*;

/// How many items are hot.
pub const TOP: usize = 3;
/// Windows that a task remembers at once.
const SLOTS: usize = 16;

/// An auction and its bids in a window.
#[derive(Record, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// Which auction.
    pub auction: i64,
    /// How many bids.
    pub bids: i64,
}

impl Item {
    /// More bids first; of equals, the older auction.
    fn rank(self) -> (i64, i64) {
        (-self.bids, self.auction)
    }
}

/// The hottest items of a window, the hottest first.
#[derive(Record, Clone, Debug)]
pub struct Hot {
    /// The window's end.
    pub end: Timestamp,
    /// At most [`TOP`].
    pub items: Vec<Item>,
}

/// The windows that are not over, and what was said last.
#[derive(Record, Default, Debug)]
pub struct Board {
    /// In no order.
    pub open: Vec<Hot>,
    /// The auctions that were said last.
    pub said: Vec<i64>,
}

impl Board {
    /// Takes a count into account. Answers whether it is the first of its window.
    pub fn add(&mut self, end: Timestamp, item: Item) -> bool {
        let found = self.open.iter_mut().find(|hot| hot.end == end);
        let is_first = found.is_none();
        match found {
            Some(hot) => insert(&mut hot.items, item),
            None => self.open.push(Hot {
                end,
                items: vec![item],
            }),
        }
        is_first
    }

    /// Ends a window. Answers its hottest items if they are others than those of the window before, or in another order.
    pub fn close(&mut self, end: Timestamp) -> Option<Vec<Item>> {
        let at = self.open.iter().position(|hot| hot.end == end)?;
        let items = self.open.swap_remove(at).items;
        let auctions: Vec<i64> = items.iter().map(|item| item.auction).collect();
        if auctions == self.said {
            return None;
        }
        self.said = auctions;
        Some(items)
    }
}

fn insert(items: &mut Vec<Item>, item: Item) {
    let at = items.partition_point(|other| other.rank() < item.rank());
    items.insert(at, item);
    items.truncate(TOP);
}

/// The least count among a task's own best of each window. It is a cache, not state: what it has forgotten only lets
/// more counts through.
#[derive(Default)]
pub struct Best {
    /// (end of a window, its best counts in descending order)
    slots: [Cell<(i64, [i64; TOP])>; SLOTS],
}

impl Best {
    /// Whether an item can be among the hottest of its window, as far as this task has seen it.
    pub fn admits(&self, end: Timestamp, item: Item) -> bool {
        let Some(slot) = self.slots.get((end.millis() / 1_000) as usize % SLOTS) else {
            return true;
        };
        let (window, mut best) = slot.get();
        if window != end.millis() {
            best = [0; TOP];
        }
        if best.last().is_some_and(|least| item.bids < *least) {
            return false;
        }
        let at = best.partition_point(|bids| *bids >= item.bids);
        if let Some(behind) = best.get_mut(at..) {
            behind.rotate_right(1.min(behind.len()));
            if let Some(place) = behind.first_mut() {
                *place = item.bids;
            }
        }
        slot.set((end.millis(), best));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(auction: i64, bids: i64) -> Item {
        Item { auction, bids }
    }

    #[test]
    fn the_most_bids_come_first_and_of_equals_the_older_auction() {
        let mut board = Board::default();
        let end = Timestamp(1_000);
        assert!(board.add(end, item(5, 10)));
        for (auction, bids) in [(4, 10), (3, 7), (2, 7), (1, 99)] {
            assert!(!board.add(end, item(auction, bids)));
        }
        assert_eq!(
            board.close(end),
            Some(vec![item(1, 99), item(4, 10), item(5, 10)])
        );
    }

    #[test]
    fn the_same_items_are_not_said_again() {
        let mut board = Board::default();
        for (end, bids) in [(1_000, 5), (2_000, 6)] {
            board.add(Timestamp(end), item(1, bids));
            board.add(Timestamp(end), item(2, 1));
        }
        board.add(Timestamp(3_000), item(2, 1));
        assert!(board.close(Timestamp(1_000)).is_some());
        assert_eq!(board.close(Timestamp(2_000)), None);
        assert_eq!(board.close(Timestamp(3_000)), Some(vec![item(2, 1)]));
        assert_eq!(board.close(Timestamp(3_000)), None, "it is over");
        assert!(board.open.is_empty());
    }

    #[test]
    fn only_what_may_be_hot_passes() {
        let best = Best::default();
        let at = |second: i64, bids| best.admits(Timestamp(second * 1_000), item(0, bids));
        assert!(at(1, 5) && at(1, 3) && at(1, 4));
        assert!(!at(1, 2));
        assert!(at(1, 3), "a tie");
        assert!(at(1, 6) && !at(1, 3) && at(1, 4));
        assert!(at(2, 1), "another window");
        assert!(
            at(1 + SLOTS as i64, 1) && at(1, 1),
            "a window that was forgotten"
        );
    }
}
