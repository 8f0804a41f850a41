//! q12: bids of each bidder in windows of ten seconds by the clock.

use pelton::prelude::*;
use pelton::windows::by_clock;

use crate::events::Event;
use crate::q11::Bids;

#[derive(Record)]
struct Bidder {
    bidder: i64,
}

/// Builds the query.
pub fn q12(events: Stream<Event>) -> Stream<Bids> {
    events
        .only::<Bidder>("bids", Event::BID)
        .key_by(Bidder::BIDDER)
        .window_by(by_clock(tumbling(seconds(10))))
        .aggregate("count", Count)
}

struct Count;

impl Aggregate for Count {
    type In = Bidder;
    type Key = i64;
    type Acc = i64;
    type Out = Bids;

    fn create(&self) -> i64 {
        0
    }
    fn add(&self, count: &mut i64, _: BidderRef<'_>) {
        *count += 1;
    }
    fn merge(&self, count: &mut i64, other: i64) {
        *count += other;
    }
    fn result(&self, bidder: i64, window: Window, bid_count: i64, out: &mut Out<Bids>) {
        out.emit(Bids {
            bidder,
            bid_count,
            starttime: window.start,
            endtime: window.end,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Bid;
    use pelton::testing::Harness;

    #[test]
    fn a_window_is_where_the_clock_stands() {
        let mut harness = Harness::new(q12);
        for (bidder, clock) in [(1, 5), (1, 9_998), (2, 9_998), (1, 10_000)] {
            harness.processing_time(Timestamp(clock));
            let bid = Bid {
                bidder,
                ..Bid::default()
            };
            harness.push_at(
                Timestamp(77),
                Event {
                    event_type: 2,
                    bid: Some(bid),
                    ..Event::default()
                },
            );
        }
        harness.processing_time(Timestamp(20_000));
        let mut found: Vec<_> = harness
            .take()
            .iter()
            .map(|w| {
                (
                    w.bidder,
                    w.bid_count,
                    w.starttime.millis(),
                    w.endtime.millis(),
                )
            })
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [(1, 1, 10_000, 20_000), (1, 2, 0, 10_000), (2, 1, 0, 10_000)]
        );
    }
}
