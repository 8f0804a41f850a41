//! One job for each kind of function, to hold Wasm against the same closures compiled natively.

use pelton::prelude::*;

use crate::Bid;

/// What of a bid is read.
#[derive(Record)]
struct Few {
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

/// A bid's price in another currency.
#[derive(Record)]
pub(crate) struct Price {
    auction: i64,
    price: i64,
}

/// How much there is under a key.
#[derive(Record)]
pub(crate) struct Held {
    key: i64,
    held: i64,
}

/// A row for each.
pub(crate) fn map(bids: Stream<Bid>) -> Stream<Price> {
    bids.view::<Few>().map("map", |bid: FewRef<'_>| Price {
        auction: bid.auction,
        price: bid.price * 908 / 1000,
    })
}

/// No row, one or two for each.
pub(crate) fn flat_map(bids: Stream<Bid>) -> Stream<Price> {
    bids.view::<Few>()
        .flat_map("flat map", |bid: FewRef<'_>, out: &mut Out<Price>| {
            for n in 0..bid.price % 3 {
                out.emit(PriceRef {
                    auction: bid.auction,
                    price: bid.price + n,
                });
            }
        })
}

/// A timer for each row; each of them is answered.
pub(crate) fn timers(bids: Stream<Bid>) -> Stream<Held> {
    timed(bids)
        .key_by(Bid::BIDDER)
        .process_with_timers("timers", |states| {
            let rows = states.value::<i64>("rows");
            let fired = rows.clone();
            (
                move |_, bid: FewRef<'_>, cx: &mut Ctx, _: &mut Out<Held>| {
                    rows.set(rows.get().unwrap_or(0) + 1);
                    cx.set_timer(bid.date_time + seconds(1));
                },
                move |key, _, _: &mut Ctx, out: &mut Out<Held>| {
                    out.emit(HeldRef {
                        key,
                        held: fired.get().unwrap_or(0),
                    });
                },
            )
        })
}

/// The last ten prices of each bidder, in a list.
pub(crate) fn list(bids: Stream<Bid>) -> Stream<Held> {
    bids.view::<Few>()
        .key_by(Bid::BIDDER)
        .process_with("list", |states| {
            let prices = states.list::<i64>("prices");
            move |key, bid: FewRef<'_>, _: &mut Ctx, out: &mut Out<Held>| {
                if prices.len() == 10 {
                    prices.clear();
                }
                prices.add(bid.price);
                out.emit(HeldRef {
                    key,
                    held: prices.len() as i64,
                });
            }
        })
}

/// How often each bidder bade on each of ten groups of auctions, in a map.
pub(crate) fn map_state(bids: Stream<Bid>) -> Stream<Held> {
    bids.view::<Few>()
        .key_by(Bid::BIDDER)
        .process_with("map state", |states| {
            let counts = states.map::<i64, i64>("counts");
            move |key, bid: FewRef<'_>, _: &mut Ctx, out: &mut Out<Held>| {
                let group = bid.auction % 10;
                let held = counts.get(group).unwrap_or(0) + 1;
                counts.put(group, held);
                out.emit(HeldRef { key, held });
            }
        })
}

/// The average price in each window of ten seconds, by an accumulator.
pub(crate) fn aggregate(bids: Stream<Bid>) -> Stream<Held> {
    timed(bids)
        .key_by(Bid::AUCTION)
        .window(tumbling(seconds(10)))
        .aggregate("aggregate", Average)
}

fn timed(bids: Stream<Bid>) -> Stream<Bid, Few> {
    bids.assign_timestamps_by(bounded(seconds(4)).every_batch(), Bid::DATE_TIME)
        .view()
}

/// Rows and the sum of their prices.
#[derive(Record)]
struct Sum {
    rows: i64,
    price: i64,
}

struct Average;

impl Aggregate for Average {
    type In = Few;
    type Key = i64;
    type Acc = Sum;
    type Out = Held;

    fn create(&self) -> Sum {
        Sum { rows: 0, price: 0 }
    }

    fn add(&self, acc: &mut Sum, row: FewRef<'_>) {
        acc.rows += 1;
        acc.price += row.price;
    }

    fn merge(&self, acc: &mut Sum, other: Sum) {
        acc.rows += other.rows;
        acc.price += other.price;
    }

    fn result(&self, key: i64, _: Window, acc: Sum, out: &mut Out<Held>) {
        out.emit(HeldRef {
            key,
            held: acc.price / acc.rows.max(1),
        });
    }
}
