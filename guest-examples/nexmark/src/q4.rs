//! q4: for each category, the average over its auctions of the highest live bid. It changes as bids come.

use pelton::prelude::*;

use crate::contest::{Contest, Price, PriceRef, Terms, prices};
use crate::events::Event;

#[derive(Record)]
struct Auction {
    id: i64,
    seller: i64,
    category: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    expires: Timestamp,
}

/// The highest live bid on an auction.
#[derive(Record, Debug, PartialEq)]
struct Highest {
    category: i64,
    price: i64,
}

#[derive(Record, Debug, PartialEq)]
pub struct Average {
    id: i64,
    r#final: i64,
}

/// Builds the query.
pub fn q4(events: Stream<Event>) -> Stream<Average> {
    let bids = prices(&events);
    let auctions = events.only::<Auction>("auctions", Event::AUCTION);
    highest(auctions, bids)
        .key_by(Highest::CATEGORY)
        .table()
        .sum("averages", Highest::PRICE, |id, sum, auctions| Average {
            id,
            r#final: sum / auctions,
        })
}

/// The highest live bid of each auction, as a table that changes.
fn highest(auctions: Stream<Auction>, bids: KeyedStream<Price, Price, i64>) -> Stream<Highest> {
    auctions
        .key_by(Auction::ID)
        .connect(bids)
        .process("highest bids", |states| HighestBid(Contest::new(states)))
}

struct HighestBid(Contest<Price>);

impl CoProcess for HighestBid {
    type Left = Auction;
    type Right = Price;
    type Key = i64;
    type Out = Highest;
    const TIMERS: bool = false;

    fn left(&self, _: i64, auction: AuctionRef<'_>, _: &mut Ctx, out: &mut Out<Highest>) {
        let AuctionRef {
            seller,
            category,
            date_time,
            expires,
            ..
        } = auction;
        let terms = Terms {
            seller,
            category,
            date_time,
            expires,
        };
        self.0.open(terms, |terms, former, bid| {
            emit(terms, former.map(|f| f.price), bid.price, out);
        });
    }

    fn right(&self, _: i64, bid: PriceRef<'_>, _: &mut Ctx, out: &mut Out<Highest>) {
        self.0.bid(bid, |terms, former, bid| {
            emit(terms, former.map(|f| f.price), bid.price, out);
        });
    }
}

fn emit(terms: &Terms, former: Option<i64>, price: i64, out: &mut Out<Highest>) {
    let category = terms.category;
    let highest = |price| Highest { category, price };
    match former {
        None => out.emit_kind(RowKind::Insert, highest(price)),
        Some(former) if former == price => {}
        Some(former) => out.update(highest(former), highest(price)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::TwoInputs;

    fn bid(harness: &mut TwoInputs<Auction, Price, Highest>, price: i64, at: i64) {
        let bid = Price {
            auction: 1,
            price,
            date_time: Timestamp(at),
        };
        harness.push_right(Timestamp(at), bid);
    }

    #[test]
    fn the_highest_live_bid_is_told_as_it_changes() {
        let mut harness = TwoInputs::new(|auctions: Stream<Auction>, bids: Stream<Price>| {
            highest(auctions, bids.key_by(Price::AUCTION))
        });
        for (price, at) in [(90, 9), (5, 10), (7, 12)] {
            bid(&mut harness, price, at);
        }
        assert_eq!(harness.take_kinds(), [], "they wait for their auction");
        let auction = Auction {
            id: 1,
            seller: 2,
            category: 3,
            date_time: Timestamp(10),
            expires: Timestamp(20),
        };
        harness.push_left(Timestamp(10), auction);
        for (price, at) in [(6, 13), (7, 14), (8, 20), (99, 21)] {
            bid(&mut harness, price, at);
        }
        let row = |price| Highest { category: 3, price };
        assert_eq!(
            harness.take_kinds(),
            [
                (RowKind::Insert, row(5)),
                (RowKind::UpdateBefore, row(5)),
                (RowKind::UpdateAfter, row(7)),
                (RowKind::UpdateBefore, row(7)),
                (RowKind::UpdateAfter, row(8)),
            ]
        );
    }
}
