//! q15: for each day, its bids, bidders and auctions, in all and by rank of price. It changes as bids come.
//!
//! All bids of a day have one key. So whether a bidder or an auction is new is found out before, by a function whose key is
//! the day and the bidder, or the day and the auction; the day only adds up.

use pelton::prelude::*;

use crate::changes::tell;
use crate::counts::{Counts, Marks, rank, with_counts};
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

/// Somebody or something that a bid shows.
#[derive(Record)]
struct Shown {
    day: i64,
    id: i64,
    rank: u8,
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
    let bids = events.only::<Bid>("bids", Event::BID);
    let shown = |id: i64, bid: BidRef<'_>| Shown {
        day: text::day_of(bid.date_time),
        id,
        rank: rank(bid.price),
    };
    let bidders = bids
        .clone()
        .map("bidders", move |bid| shown(bid.bidder, bid));
    let auctions = bids.map("auctions", move |bid| shown(bid.auction, bid));
    let bidders = bidders
        .key_by((Shown::DAY, Shown::ID))
        .process_with("new bidders", |states| {
            let seen = states.value::<u8>("seen");
            move |(day, _), row: ShownRef<'_>, _: &mut Ctx, out: &mut Out<News>| {
                let (bids, bidders) = (Marks::of(row.rank), news(&seen, row.rank));
                out.emit(News {
                    day,
                    bids,
                    bidders,
                    auctions: 0,
                });
            }
        });
    let auctions =
        auctions
            .key_by((Shown::DAY, Shown::ID))
            .process_with("new auctions", |states| {
                let seen = states.value::<u8>("seen");
                move |(day, _), row: ShownRef<'_>, _: &mut Ctx, out: &mut Out<News>| {
                    let auctions = news(&seen, row.rank);
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

/// The marks of a bid that this key has not had before.
#[inline]
fn news(seen: &ValueState<u8>, rank: u8) -> u8 {
    let before = seen.get().unwrap_or(0);
    let news = Marks::of(rank) & !before;
    if news != 0 {
        seen.set(before | news);
    }
    news
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
