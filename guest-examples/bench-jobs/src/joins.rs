//! Two streams that meet within ten minutes, over a million keys.

use pelton::prelude::*;

use crate::Bid;

#[derive(Record)]
struct BidderPrice {
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

/// A bid of one side.
#[derive(Record)]
struct Side {
    key: i64,
    price: i64,
}

#[derive(Record, Debug, PartialEq)]
pub(crate) struct Met {
    key: i64,
    left: i64,
    right: i64,
}

/// A number of which all bits are as good as random.
fn mixed(bid: BidderPriceRef<'_>) -> u64 {
    let seed =
        bid.bidder as u64 ^ (bid.price as u64).rotate_left(20) ^ (bid.date_time.0 as u64) << 40;
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Half of the bids, by a key of a million.
fn side(bids: &Stream<Bid, BidderPrice>, parity: u64) -> KeyedStream<Side, Side, i64> {
    bids.clone()
        .filter_map("side", move |bid| {
            let number = mixed(bid);
            (number >> 63 == parity).then_some(Side {
                key: (number >> 20) as i64 % 1_000_000,
                price: bid.price,
            })
        })
        .key_by(Side::KEY)
}

/// Each bid of one half with those of the other that are at most ten minutes older or newer.
pub(crate) fn interval(bids: Stream<Bid>) -> Stream<Met> {
    let bids = bids
        .assign_timestamps_by(bounded(seconds(1)).every_batch(), Bid::DATE_TIME)
        .view::<BidderPrice>();
    let (left, right) = (side(&bids, 0), side(&bids, 1));
    left.interval_join(right, minutes(-10), minutes(10)).map(
        "join",
        |left: SideRef<'_>, right: SideRef<'_>| Met {
            key: left.key,
            left: left.price,
            right: right.price,
        },
    )
}
