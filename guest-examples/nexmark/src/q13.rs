//! q13: bids with the value that a file gives for their auction. The file is read by the host and broadcast to all tasks.
//!
//! The file's rows are from the beginning of time, so that while it is read the watermark does not pass any bid. Bids that find
//! no value wait for the watermark: then they have one, or never will.

use pelton::prelude::*;

use crate::events::Event;

#[derive(Record)]
struct Side {
    key: i64,
    value: String,
}

#[derive(Record)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

#[derive(Record, Debug, PartialEq)]
pub struct WithValue {
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    value: String,
}

/// Builds the query; `side` is the file.
pub fn q13(job: &mut Job, events: Stream<Event>, side: &str) -> Stream<WithValue> {
    let side = files::csv(side).option("header", false);
    let side = job
        .source::<Side>("side input", side)
        .assign_timestamps(monotonous(), |_| Timestamp(0));
    events
        .only::<Bid>("bids", Event::BID)
        .key_by_fn("side key", |bid| bid.auction.rem_euclid(10_000))
        .connect_broadcast(side)
        .process("values", |states| Values {
            side: states.broadcast("side"),
            waiting: states.list("waiting"),
        })
}

struct Values {
    side: BroadcastState<i64, String>,
    waiting: ListState<Bid>,
}

impl BroadcastProcess for Values {
    type In = Bid;
    type Broadcast = Side;
    type Key = i64;
    type Out = WithValue;

    fn process(&self, key: i64, bid: BidRef<'_>, cx: &mut Ctx, out: &mut Out<WithValue>) {
        let is_known = self.side.with(key, |value| match value {
            Some(value) => {
                emit(bid, value, out);
                true
            }
            None => false,
        });
        if !is_known {
            self.waiting.add(bid.to_owned());
            cx.set_timer(bid.date_time);
        }
    }

    fn process_broadcast(&self, row: SideRef<'_>, cx: &mut BroadcastCtx, _: &mut Out<WithValue>) {
        self.side.put(cx, row.key, row.value.to_owned());
    }

    fn on_timer(&self, key: i64, _: Timestamp, _: &mut Ctx, out: &mut Out<WithValue>) {
        self.side.with(key, |value| {
            if let Some(value) = value {
                self.waiting
                    .with(|bids| bids.for_each(|bid| emit(bid, value, out)));
            }
        });
        self.waiting.clear();
    }
}

fn emit(bid: BidRef<'_>, value: &str, out: &mut Out<WithValue>) {
    let BidRef {
        auction,
        bidder,
        price,
        date_time,
    } = bid;
    out.emit(WithValueRef {
        auction,
        bidder,
        price,
        date_time,
        value,
    });
}
