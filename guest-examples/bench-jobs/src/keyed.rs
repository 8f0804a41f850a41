//! Functions with state, and windows.

use pelton::prelude::*;

use crate::{Bid, Number, NumberRef};

/// A key and its number so far.
#[derive(Record, Debug, PartialEq)]
pub(crate) struct Total {
    key: i64,
    total: i64,
}

struct Running {
    total: ValueState<i64>,
    step: fn(i64) -> i64,
}

impl KeyedProcess for Running {
    type Key = i64;
    type In = Number;
    type Out = Total;
    const TIMERS: bool = false;

    fn process(&self, key: i64, row: NumberRef<'_>, _: &mut Ctx, out: &mut Out<Total>) {
        let total = self
            .total
            .get()
            .unwrap_or(0)
            .wrapping_add((self.step)(row.key));
        self.total.set(total);
        out.emit(Total { key, total });
    }
}

/// How often each key came, said at each of its rows.
pub(crate) fn counter(numbers: Stream<Number>) -> Stream<Total> {
    numbers
        .key_by(Number::KEY)
        .process("count", |states| Running {
            total: states.value("count"),
            step: |_| 1,
        })
}

/// The sum of each key's rows so far.
pub(crate) fn sum(numbers: Stream<Number>) -> Stream<Total> {
    numbers
        .key_by(Number::KEY)
        .process("sum", |states| Running {
            total: states.value("sum"),
            step: |key| key,
        })
}

#[derive(Record)]
struct AuctionId {
    auction: i64,
}

#[derive(Record, Debug, PartialEq)]
pub(crate) struct Counted {
    auction: i64,
    bids: i64,
}

struct Count;

impl Aggregate for Count {
    type In = AuctionId;
    type Key = i64;
    type Acc = i64;
    type Out = Counted;

    fn create(&self) -> i64 {
        0
    }
    fn add(&self, bids: &mut i64, _: AuctionIdRef<'_>) {
        *bids += 1;
    }
    fn merge(&self, bids: &mut i64, other: i64) {
        *bids += other;
    }
    fn result(&self, auction: i64, _: Window, bids: i64, out: &mut Out<Counted>) {
        out.emit(Counted { auction, bids });
    }
}

/// Bids per auction in windows of ten seconds, by an accumulator of our own.
pub(crate) fn window(bids: Stream<Bid>) -> Stream<Counted> {
    bids.assign_timestamps_by(bounded(seconds(4)).every_batch(), Bid::DATE_TIME)
        .view::<AuctionId>()
        .map("auction", |bid| AuctionId {
            auction: bid.auction,
        })
        .key_by(AuctionId::AUCTION)
        .window(tumbling(seconds(10)))
        .aggregate("count", Count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::{self, Harness};

    #[track_caller]
    fn check(job: fn(Stream<Number>) -> Stream<Total>, expected: &[(i64, i64)]) {
        let mut harness = Harness::new(job);
        [5, 6, 5]
            .into_iter()
            .for_each(|key| harness.push(Number { key }));
        let found: Vec<_> = harness.take().iter().map(|t| (t.key, t.total)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_row_tells_what_its_key_has_come_to() {
        check(counter, &[(5, 1), (6, 1), (5, 2)]);
        check(sum, &[(5, 5), (6, 6), (5, 10)]);
    }

    #[test]
    fn a_window_counts_its_rows() {
        let window = Window {
            start: Timestamp(0),
            end: Timestamp(10_000),
        };
        let rows = [7, 7, 7].map(|auction| AuctionId { auction });
        assert_eq!(
            testing::aggregate(&Count, &7, window, rows),
            [Counted {
                auction: 7,
                bids: 3
            }]
        );
    }
}
