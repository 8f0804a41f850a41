//! q19: the ten highest bids of each auction, the earlier of equals first. They change as bids come.
//!
//! `.top_n(..)` does the same in a line. Here a value of fixed width says whether a bid has a place at all, so that most are
//! turned away by a look at it; the ten are changed in place, and only those that move are told.

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

/// What decides whether a bid has a place.
#[derive(Record, Clone, Copy)]
struct Places {
    taken: i64,
    /// The bid in the last place.
    price: i64,
    time: Timestamp,
}

/// Builds the query.
pub fn q19(events: Stream<Event>) -> Stream<Placed> {
    events
        .only::<Bid>("bids", Event::BID)
        .key_by(Bid::AUCTION)
        .process("ten highest", |states| Highest {
            places: states.value("places"),
            bids: states.lazy_value("bids"),
        })
}

struct Highest {
    places: ValueState<Places>,
    /// From the first place to the last.
    bids: ValueState<Vec<Bid>>,
}

/// Whether a bid of this price and time stands before one that comes later with the other's.
fn is_before(price: i64, time: Timestamp, other: BidRef<'_>) -> bool {
    price > other.price || price == other.price && time <= other.date_time
}

impl KeyedProcess for Highest {
    type In = Bid;
    type Key = i64;
    type Out = Placed;
    const TIMERS: bool = false;

    fn process(&self, _: i64, bid: BidRef<'_>, cx: &mut Ctx, out: &mut Out<Placed>) {
        let former = self.places.get();
        let is_full = former.is_some_and(|places| places.taken == PLACES);
        if let Some(last) = former.filter(|_| is_full)
            && is_before(last.price, last.time, bid)
        {
            return;
        }
        if former.is_none() && cx.is_batch() {
            cx.set_timer(END);
        }
        let is_told = !cx.is_batch();
        let places = self.bids.update(Vec::new, |bids| {
            let at = bids.partition_point(|b| is_before(b.price, b.date_time, bid));
            let rank = at as i64 + 1;
            // Whoever stands behind moves down by one.
            for (moved, rank) in bids.iter().skip(at).zip(rank..).filter(|_| is_told) {
                if rank == PLACES {
                    out.emit_kind(RowKind::Delete, placed(moved.as_ref(), rank));
                } else {
                    let moved = moved.as_ref();
                    out.update(placed(moved, rank), placed(moved, rank + 1));
                }
            }
            if is_told {
                out.emit_kind(RowKind::Insert, placed(bid, rank));
            }
            bids.insert(at, bid.to_owned());
            bids.truncate(PLACES as usize);
            bids.last().map(|last| Places {
                taken: bids.len() as i64,
                price: last.price,
                time: last.date_time,
            })
        });
        if let Some(places) = places {
            self.places.set(places);
        }
    }

    fn on_timer(&self, _: i64, _: Timestamp, _: &mut Ctx, out: &mut Out<Placed>) {
        for (bid, rank) in self.bids.get().unwrap_or_default().iter().zip(1..) {
            out.emit(placed(bid.as_ref(), rank));
        }
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
