//! q19: the ten highest bids of each auction, the earlier of equals first. They change as bids come.

use pelton::prelude::*;
use pelton::{asc, desc};

use crate::events::{Bid, BidRef, Event};

#[derive(Record, Debug, PartialEq)]
pub struct Placed {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
    url: String,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
    rank_number: i64,
}

/// Builds the query.
pub fn q19(events: Stream<Event>) -> Stream<Placed> {
    let order = desc(Bid::PRICE).then(asc(Bid::DATE_TIME));
    events
        .only::<Bid>("bids", Event::BID)
        .key_by(Bid::AUCTION)
        .top_n("ten highest", 10, order, |bid: BidRef<'_>, rank| {
            let bid = bid.to_owned();
            Placed {
                auction: bid.auction,
                bidder: bid.bidder,
                price: bid.price,
                channel: bid.channel,
                url: bid.url,
                date_time: bid.date_time,
                extra: bid.extra,
                rank_number: rank,
            }
        })
}
