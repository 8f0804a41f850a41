//! Windows over keys that come at random: bids, spread over 100,000 keys.

use pelton::prelude::*;

use crate::Bid;

#[derive(Record)]
struct BidderPrice {
    bidder: i64,
    price: i64,
}

#[derive(Record)]
struct Spread {
    key: i64,
}

#[derive(Record, Debug, PartialEq)]
pub(crate) struct Counted {
    key: i64,
    rows: i64,
}

fn spread(bids: Stream<Bid>) -> KeyedStream<Spread, Spread, i64> {
    bids.assign_timestamps_by(bounded(seconds(1)).every_batch(), Bid::DATE_TIME)
        .view::<BidderPrice>()
        .map("spread", |bid| Spread {
            key: ((bid.bidder ^ bid.price.rotate_left(20)) as u64 % 100_003 % 100_000) as i64,
        })
        .key_by(Spread::KEY)
}

/// Rows of each key in windows of a minute.
pub(crate) fn tumbling_minute(bids: Stream<Bid>) -> Stream<Counted> {
    let windows = spread(bids).window(tumbling(minutes(1)));
    windows.count("count", Counted::ROWS)
}

/// The same, a window starting each second.
pub(crate) fn sliding_minute(bids: Stream<Bid>) -> Stream<Counted> {
    let windows = spread(bids).window(sliding(minutes(1), seconds(1)));
    windows.count("count", Counted::ROWS)
}

/// Rows of each key in tumbling windows, combined before they are exchanged.
pub(crate) fn two_phase_minute(bids: Stream<Bid>) -> Stream<Counted> {
    let windows = spread(bids).window(tumbling(minutes(1))).two_phase();
    windows.count("count", Counted::ROWS)
}

/// Rows of each key in sessions, by the host.
pub(crate) fn sessions(bids: Stream<Bid>) -> Stream<Counted> {
    let windows = spread(bids).window(session(millis(200)));
    windows.count("count", Counted::ROWS)
}

struct Count;

impl Aggregate for Count {
    type In = Spread;
    type Key = i64;
    type Acc = i64;
    type Out = Counted;

    fn create(&self) -> i64 {
        0
    }
    fn add(&self, rows: &mut i64, _: SpreadRef<'_>) {
        *rows += 1;
    }
    fn merge(&self, rows: &mut i64, other: i64) {
        *rows += other;
    }
    fn result(&self, key: i64, _: Window, rows: i64, out: &mut Out<Counted>) {
        out.emit(Counted { key, rows });
    }
}

/// Rows of each key in sessions, by an accumulator of our own.
pub(crate) fn own_sessions(bids: Stream<Bid>) -> Stream<Counted> {
    let windows = spread(bids).window(session(millis(200)));
    windows.aggregate("count", Count)
}

/// Rows of each key in tumbling windows by an accumulator of our own, combined before they are exchanged.
pub(crate) fn own_two_phase(bids: Stream<Bid>) -> Stream<Counted> {
    let windows = spread(bids).window(tumbling(minutes(1))).two_phase();
    windows.aggregate("count", Count)
}
