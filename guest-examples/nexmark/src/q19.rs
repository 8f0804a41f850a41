//! q19: the ten highest bids of each auction, the earlier of equals first. They change as bids come.
//!
//! `.top_n(..)` does the same in a line. Here a value of fixed width says whether a bid has a place at all, so that most are
//! turned away by a look at it; the texts of the ten lie in a map, in order, and only those that move are told.

use std::ops::Bound::Unbounded;

use pelton::prelude::*;

use crate::changes::END;
use crate::events::{Bid, BidRef, Event};

const PLACES: i64 = 10;

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

/// Where a bid stands: these ascend from the first place to the last.
#[derive(Record, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    /// The price with its sign changed: the highest first.
    below: i64,
    time: Timestamp,
    /// Which of the auction's bids it is, as they came.
    number: i64,
}

/// What decides whether a bid has a place.
#[derive(Record, Clone, Copy)]
struct Places {
    taken: i64,
    /// Bids that had a place.
    bids: i64,
    last: Standing,
}

/// Builds the query.
pub fn q19(events: Stream<Event>) -> Stream<Placed> {
    events
        .only::<Bid>("bids", Event::BID)
        .key_by(Bid::AUCTION)
        .process("ten highest", |states| Highest {
            places: states.value("places"),
            bids: states.map("bids"),
        })
}

struct Highest {
    places: ValueState<Places>,
    bids: MapState<Standing, Bid>,
}

impl KeyedProcess for Highest {
    type In = Bid;
    type Key = i64;
    type Out = Placed;
    const TIMERS: bool = false;

    fn process(&self, _: i64, bid: BidRef<'_>, cx: &mut Ctx, out: &mut Out<Placed>) {
        let former = self.places.get();
        let own = Standing {
            below: bid.price.saturating_neg(),
            time: bid.date_time,
            number: former.map_or(0, |places| places.bids),
        };
        let mut places = former.unwrap_or(Places {
            taken: 0,
            bids: 0,
            last: own,
        });
        if places.taken == PLACES && own > places.last {
            return;
        }
        if former.is_none() && cx.is_batch() {
            cx.set_timer(END);
        }
        // Whoever stands behind moves down by one.
        let is_told = !cx.is_batch();
        let (mut rank, mut at, mut before_last) = (1, 0, own);
        self.bids
            .each_within(Unbounded, Unbounded, |standing, other| {
                let standing = standing.to_owned();
                at += 1;
                if at < PLACES {
                    before_last = standing;
                }
                if standing < own {
                    rank = at + 1;
                } else if is_told && at == PLACES {
                    out.emit_kind(RowKind::Delete, placed(other, at));
                } else if is_told {
                    out.update(placed(other, at), placed(other, at + 1));
                }
                true
            });
        if is_told {
            out.emit_kind(RowKind::Insert, placed(bid, rank));
        }
        if places.taken == PLACES {
            self.bids.remove(places.last.as_ref());
        }
        places.last = if places.taken == PLACES {
            own.max(before_last)
        } else {
            own.max(places.last)
        };
        places.taken = PLACES.min(places.taken + 1);
        places.bids += 1;
        self.places.set(places);
        self.bids.put(own.as_ref(), bid.to_owned());
    }

    fn on_timer(&self, _: i64, _: Timestamp, _: &mut Ctx, out: &mut Out<Placed>) {
        let mut rank = 0;
        self.bids.for_each(|_, bid| {
            rank += 1;
            out.emit(placed(bid, rank));
        });
    }
}

fn placed(bid: BidRef<'_>, rank_number: i64) -> PlacedRef<'_> {
    PlacedRef {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price,
        channel: bid.channel,
        url: bid.url,
        date_time: bid.date_time,
        extra: bid.extra,
        rank_number,
    }
}
