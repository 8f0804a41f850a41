//! Counts by rank of price, as q15 and q16 ask for them.

use pelton::prelude::*;

/// 1, 2 or 3: a price below 10,000, below a million, or more.
#[inline]
pub fn rank(price: i64) -> u8 {
    match price {
        ..10_000 => 1,
        10_000..1_000_000 => 2,
        _ => 3,
    }
}

/// How many in all, and of each rank.
#[derive(Record, Clone, Copy, Default, PartialEq, Debug)]
pub struct Ranked {
    pub total: i64,
    pub rank1: i64,
    pub rank2: i64,
    pub rank3: i64,
}

impl Ranked {
    /// One more of those that the marks name: see [`Marks`].
    #[inline]
    pub fn add(&mut self, marks: u8) {
        self.total += i64::from(marks & 1);
        self.rank1 += i64::from(marks >> 1 & 1);
        self.rank2 += i64::from(marks >> 2 & 1);
        self.rank3 += i64::from(marks >> 3 & 1);
    }
}

/// Where somebody was seen, a bit each: anywhere, at rank 1, 2, 3.
pub struct Marks;

impl Marks {
    /// Those of one bid.
    #[inline]
    pub fn of(rank: u8) -> u8 {
        1 | 1 << rank
    }
}

/// Where the bidder or the auction that is the key was seen.
pub struct Seen(ValueState<u8>);

impl Seen {
    /// Declares the state.
    pub fn new(states: &mut States) -> Self {
        Self(states.value("seen"))
    }

    /// The marks that the key has not had before.
    #[inline]
    pub fn news(&self, marks: u8) -> u8 {
        let before = self.0.get().unwrap_or(0);
        let news = marks & !before;
        if news != 0 {
            self.0.set(before | news);
        }
        news
    }
}

/// Bids, and the different bidders and auctions among them.
#[derive(Record, Clone, Copy, Default, PartialEq, Debug)]
pub struct Counts {
    pub bids: Ranked,
    pub bidders: Ranked,
    pub auctions: Ranked,
}

/// A record with the columns of the counts behind others.
macro_rules! with_counts {
    ($(#[$meta:meta])* $record:ident, $record_ref:ident { $($field:ident: $type:ty as $borrowed:ty),* }) => {
        $(#[$meta])*
        #[derive(Record, Debug, PartialEq)]
        pub struct $record {
            $(pub $field: $type,)*
            pub total_bids: i64,
            pub rank1_bids: i64,
            pub rank2_bids: i64,
            pub rank3_bids: i64,
            pub total_bidders: i64,
            pub rank1_bidders: i64,
            pub rank2_bidders: i64,
            pub rank3_bidders: i64,
            pub total_auctions: i64,
            pub rank1_auctions: i64,
            pub rank2_auctions: i64,
            pub rank3_auctions: i64,
        }

        impl $record {
            #[inline]
            fn of<'a>($($field: $borrowed,)* counts: &$crate::counts::Counts) -> $record_ref<'a> {
                let $crate::counts::Counts { bids, bidders, auctions } = counts;
                $record_ref {
                    $($field,)*
                    total_bids: bids.total,
                    rank1_bids: bids.rank1,
                    rank2_bids: bids.rank2,
                    rank3_bids: bids.rank3,
                    total_bidders: bidders.total,
                    rank1_bidders: bidders.rank1,
                    rank2_bidders: bidders.rank2,
                    rank3_bidders: bidders.rank3,
                    total_auctions: auctions.total,
                    rank1_auctions: auctions.rank1,
                    rank2_auctions: auctions.rank2,
                    rank3_auctions: auctions.rank3,
                }
            }
        }
    };
}
pub(crate) use with_counts;
