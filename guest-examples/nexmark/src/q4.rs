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
#[derive(Record)]
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
    auctions
        .key_by(Auction::ID)
        .connect(bids)
        .process("highest bids", |states| HighestBid(Contest::new(states)))
        .key_by(Highest::CATEGORY)
        .table()
        .sum("averages", Highest::PRICE, |id, sum, auctions| Average {
            id,
            r#final: sum / auctions,
        })
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
