//! q15: for each day, its bids, bidders and auctions, in all and by rank of price. It changes as bids come.
//!
//! All bids of a day have one key. So whether a bidder or an auction is new is found out before, by a function whose key is
//! the day and the bidder, or the day and the auction; the day only adds up.

use pelton::prelude::*;

use crate::changes::tell;
use crate::counts::{Counts, Marks, Seen, rank, with_counts};
use crate::events::Event;
use crate::text;

#[derive(Record)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

#[derive(Record)]
struct Time {
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

#[derive(Record)]
struct Dated {
    auction: i64,
    bidder: i64,
    price: i64,
    day: i64,
}

#[derive(Record)]
struct Day {
    day: i64,
}

#[derive(Record)]
struct Price {
    price: i64,
}

/// What a day gets: marks as in [`Marks`].
#[derive(Record)]
struct News {
    day: i64,
    bids: u8,
    bidders: u8,
    auctions: u8,
}

with_counts! {
    DayCounts, DayCountsRef { day: String as &'a str }
}

/// Builds the query.
pub fn q15(events: Stream<Event>) -> Stream<DayCounts> {
    let bids = events
        .only::<Bid>("bids", Event::BID)
        .view::<Time>()
        .with::<Dated, Day>("day", |bid| Day {
            day: text::day_of(bid.date_time),
        })
        .view::<Price>();
    let bidders = bids
        .clone()
        .key_by((Dated::DAY, Dated::BIDDER))
        .process_with("new bidders", |states| {
            let seen = Seen::new(states);
            move |(day, _), bid: PriceRef<'_>, _: &mut Ctx, out: &mut Out<News>| {
                let marks = Marks::of(rank(bid.price));
                out.emit(News {
                    day,
                    bids: marks,
                    bidders: seen.news(marks),
                    auctions: 0,
                });
            }
        });
    let auctions =
        bids.key_by((Dated::DAY, Dated::AUCTION))
            .process_with("new auctions", |states| {
                let seen = Seen::new(states);
                move |(day, _), bid: PriceRef<'_>, _: &mut Ctx, out: &mut Out<News>| {
                    let auctions = seen.news(Marks::of(rank(bid.price)));
                    if auctions != 0 {
                        out.emit(News {
                            day,
                            bids: 0,
                            bidders: 0,
                            auctions,
                        });
                    }
                }
            });
    bidders
        .union(&auctions)
        .key_by(News::DAY)
        .process("days", |states| Days {
            counts: states.value("counts"),
        })
}

struct Days {
    counts: ValueState<Counts>,
}

impl KeyedProcess for Days {
    type In = News;
    type Key = i64;
    type Out = DayCounts;
    const TIMERS: bool = false;

    fn process(&self, day: i64, row: NewsRef<'_>, cx: &mut Ctx, out: &mut Out<DayCounts>) {
        let former = self.counts.get();
        let mut now = former.unwrap_or_default();
        now.bids.add(row.bids);
        now.bidders.add(row.bidders);
        now.auctions.add(row.auctions);
        self.counts.set(now);
        let day = text::date(day);
        tell(former.as_ref(), &now, cx, out, |counts| {
            DayCounts::of(day.as_str(), counts)
        });
    }

    fn on_timer(&self, day: i64, _: Timestamp, _: &mut Ctx, out: &mut Out<DayCounts>) {
        if let Some(counts) = self.counts.get() {
            out.emit(DayCounts::of(text::date(day).as_str(), &counts));
        }
    }
}
