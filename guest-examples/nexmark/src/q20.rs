//! q20: bids on auctions of category 10, with the auction.
//!
//! Either side may come first. Bids wait for their auction, of whatever category it will be; the auction stays for the bids
//! that follow.

use pelton::prelude::*;

use crate::contest::Waiting;
use crate::events::{Auction, AuctionRef, Bid, BidRef, Event};

const CATEGORY: i64 = 10;

#[derive(Record, Debug, PartialEq)]
pub struct BidOnAuction {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
    url: String,
    #[record(name = "bid_dateTime")]
    bid_date_time: Timestamp,
    bid_extra: String,
    #[record(name = "itemName")]
    item_name: String,
    description: String,
    #[record(name = "initialBid")]
    initial_bid: i64,
    reserve: i64,
    #[record(name = "auction_dateTime")]
    auction_date_time: Timestamp,
    expires: Timestamp,
    seller: i64,
    category: i64,
    auction_extra: String,
}

/// Builds the query.
pub fn q20(events: Stream<Event>) -> Stream<BidOnAuction> {
    let bids = events.clone().only::<Bid>("bids", Event::BID);
    let auctions = events.only::<Auction>("auctions", Event::AUCTION);
    auctions
        .key_by(Auction::ID)
        .connect(bids.key_by(Bid::AUCTION))
        .process("join", |states| Join {
            known: states.value("known"),
            auction: states.lazy_value("auction"),
            waiting: Waiting::new(states),
        })
}

/// What is known of an auction: bids wait for it, it is of another category, or of the one that is asked for.
const AWAITED: u8 = 0;
const OTHER: u8 = 1;
const WANTED: u8 = 2;

struct Join {
    known: ValueState<u8>,
    /// The auction, if it is wanted.
    auction: ValueState<Auction>,
    waiting: Waiting<Bid>,
}

impl CoProcess for Join {
    type Left = Auction;
    type Right = Bid;
    type Key = i64;
    type Out = BidOnAuction;
    const TIMERS: bool = false;

    fn left(&self, _: i64, auction: AuctionRef<'_>, _: &mut Ctx, out: &mut Out<BidOnAuction>) {
        let waiting = match self.known.get() {
            Some(AWAITED) => self.waiting.take(),
            _ => Vec::new(),
        };
        if auction.category != CATEGORY {
            return self.known.set(OTHER);
        }
        for bid in &waiting {
            emit(auction, bid.as_ref(), out);
        }
        self.known.set(WANTED);
        self.auction.set(auction.to_owned());
    }

    fn right(&self, _: i64, bid: BidRef<'_>, _: &mut Ctx, out: &mut Out<BidOnAuction>) {
        match self.known.get() {
            Some(OTHER) => {}
            Some(WANTED) => self.auction.with(|auction| {
                if let Some(auction) = auction {
                    emit(auction, bid, out);
                }
            }),
            known => {
                if known.is_none() {
                    self.known.set(AWAITED);
                }
                self.waiting.add(bid);
            }
        }
    }
}

fn emit(auction: AuctionRef<'_>, bid: BidRef<'_>, out: &mut Out<BidOnAuction>) {
    out.emit(BidOnAuctionRef {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price,
        channel: bid.channel,
        url: bid.url,
        bid_date_time: bid.date_time,
        bid_extra: bid.extra,
        item_name: auction.item_name,
        description: auction.description,
        initial_bid: auction.initial_bid,
        reserve: auction.reserve,
        auction_date_time: auction.date_time,
        expires: auction.expires,
        seller: auction.seller,
        category: auction.category,
        auction_extra: auction.extra,
    });
}
