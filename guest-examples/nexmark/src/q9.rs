//! q9: each auction that has a live bid, with its winning one. It changes as bids come.
//!
//! The texts of the auction and of the winner are read only when another bid takes the lead.

use pelton::prelude::*;

use crate::changes::END;
use crate::contest::{Contest, Lead, Offer, Terms};
use crate::events::Event;

#[derive(Record)]
struct Auction {
    id: i64,
    #[record(name = "itemName")]
    item_name: String,
    description: String,
    #[record(name = "initialBid")]
    initial_bid: i64,
    reserve: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    expires: Timestamp,
    seller: i64,
    category: i64,
    extra: String,
}

#[derive(Record)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
}

impl Offer for Bid {
    fn lead(row: BidRef<'_>) -> Lead {
        Lead {
            price: row.price,
            time: row.date_time,
        }
    }
}

#[derive(Record, Debug, PartialEq)]
pub struct Won {
    id: i64,
    #[record(name = "itemName")]
    item_name: String,
    description: String,
    #[record(name = "initialBid")]
    initial_bid: i64,
    reserve: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    expires: Timestamp,
    seller: i64,
    category: i64,
    extra: String,
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "bid_dateTime")]
    bid_date_time: Timestamp,
    bid_extra: String,
}

/// Builds the query.
pub fn q9(events: Stream<Event>) -> Stream<Won> {
    let bids = events.clone().only::<Bid>("bids", Event::BID);
    let auctions = events.only::<Auction>("auctions", Event::AUCTION);
    auctions
        .key_by(Auction::ID)
        .connect(bids.key_by(Bid::AUCTION))
        .process("winning bids", |states| Winning {
            contest: Contest::new(states),
            auction: states.lazy_value("auction"),
            winner: states.lazy_value("winner"),
        })
}

struct Winning {
    contest: Contest<Bid>,
    auction: ValueState<Auction>,
    winner: ValueState<Bid>,
}

impl Winning {
    /// A bid takes the lead.
    fn wins(&self, former: Option<Lead>, bid: BidRef<'_>, cx: &mut Ctx, out: &mut Out<Won>) {
        match (cx.is_batch(), former) {
            (true, None) => cx.set_timer(END),
            (true, Some(_)) => {}
            (false, None) => self.emit(RowKind::Insert, bid, out),
            (false, Some(_)) => {
                if let Some(before) = self.winner.get() {
                    self.emit(RowKind::UpdateBefore, before.as_ref(), out);
                }
                self.emit(RowKind::UpdateAfter, bid, out);
            }
        }
        self.winner.set(bid.to_owned());
    }

    fn emit(&self, kind: RowKind, bid: BidRef<'_>, out: &mut Out<Won>) {
        self.auction.with(|auction| {
            let Some(auction) = auction else { return };
            let row = WonRef {
                id: auction.id,
                item_name: auction.item_name,
                description: auction.description,
                initial_bid: auction.initial_bid,
                reserve: auction.reserve,
                date_time: auction.date_time,
                expires: auction.expires,
                seller: auction.seller,
                category: auction.category,
                extra: auction.extra,
                auction: bid.auction,
                bidder: bid.bidder,
                price: bid.price,
                bid_date_time: bid.date_time,
                bid_extra: bid.extra,
            };
            out.emit_kind(kind, row);
        });
    }
}

impl CoProcess for Winning {
    type Left = Auction;
    type Right = Bid;
    type Key = i64;
    type Out = Won;
    const TIMERS: bool = false;

    fn left(&self, _: i64, auction: AuctionRef<'_>, cx: &mut Ctx, out: &mut Out<Won>) {
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
        self.auction.set(auction.to_owned());
        self.contest
            .open(terms, |_, former, bid| self.wins(former, bid, cx, out));
    }

    fn right(&self, _: i64, bid: BidRef<'_>, cx: &mut Ctx, out: &mut Out<Won>) {
        self.contest
            .bid(bid, |_, former, bid| self.wins(former, bid, cx, out));
    }

    fn on_timer(&self, _: i64, _: Timestamp, _: &mut Ctx, out: &mut Out<Won>) {
        if let Some(winner) = self.winner.get() {
            self.emit(RowKind::Insert, winner.as_ref(), out);
        }
    }
}
