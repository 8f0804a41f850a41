//! q16: for each channel and day, its bids, bidders and auctions, in all and by rank of price. It changes as bids come.
//!
//! As in q15, whether a bidder or an auction is new to the channel and day is found out by functions with those as keys.

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
    channel: String,
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
    channel: String,
    day: i64,
    minute: i64,
}

#[derive(Record)]
struct PriceMinute {
    price: i64,
    minute: i64,
}

#[derive(Record)]
struct DayMinute {
    day: i64,
    minute: i64,
}

/// What a channel's day gets: marks as in [`Marks`].
#[derive(Record)]
struct News {
    channel: String,
    day: i64,
    minute: i64,
    bids: u8,
    bidders: u8,
    auctions: u8,
}

/// The counts so far, and the latest minute.
#[derive(Record, Clone, Copy, Default)]
struct Total {
    minute: i64,
    counts: Counts,
}

with_counts! {
    ChannelCounts, ChannelCountsRef { channel: String as &'a str, day: String as &'a str, minute: String as &'a str }
}

/// Builds the query.
pub fn q16(events: Stream<Event>) -> Stream<ChannelCounts> {
    let bids = events
        .only::<Bid>("bids", Event::BID)
        .view::<Time>()
        .with::<Dated, DayMinute>("day", |bid| DayMinute {
            day: text::day_of(bid.date_time),
            minute: text::minute_of(bid.date_time),
        })
        .view::<PriceMinute>();
    let bidders = bids
        .clone()
        .key_by((Dated::CHANNEL, Dated::DAY, Dated::BIDDER))
        .process_with("new bidders", |states| {
            let seen = Seen::new(states);
            move |(channel, day, _), bid: PriceMinuteRef<'_>, _: &mut Ctx, out: &mut Out<News>| {
                let marks = Marks::of(rank(bid.price));
                out.emit(NewsRef {
                    channel,
                    day,
                    minute: bid.minute,
                    bids: marks,
                    bidders: seen.news(marks),
                    auctions: 0,
                });
            }
        });
    let auctions = bids
        .key_by((Dated::CHANNEL, Dated::DAY, Dated::AUCTION))
        .process_with("new auctions", |states| {
            let seen = Seen::new(states);
            move |(channel, day, _), bid: PriceMinuteRef<'_>, _: &mut Ctx, out: &mut Out<News>| {
                let auctions = seen.news(Marks::of(rank(bid.price)));
                if auctions != 0 {
                    out.emit(NewsRef {
                        channel,
                        day,
                        minute: 0,
                        bids: 0,
                        bidders: 0,
                        auctions,
                    });
                }
            }
        });
    bidders
        .union(&auctions)
        .key_by((News::CHANNEL, News::DAY))
        .process("channels", |states| Channels {
            total: states.value("total"),
        })
}

struct Channels {
    total: ValueState<Total>,
}

impl KeyedProcess for Channels {
    type In = News;
    type Key = (String, i64);
    type Out = ChannelCounts;
    const TIMERS: bool = false;

    fn process(
        &self,
        (channel, day): (&str, i64),
        row: NewsRef<'_>,
        cx: &mut Ctx,
        out: &mut Out<ChannelCounts>,
    ) {
        let former = self.total.get();
        let mut now = former.unwrap_or_default();
        now.minute = now.minute.max(row.minute);
        now.counts.bids.add(row.bids);
        now.counts.bidders.add(row.bidders);
        now.counts.auctions.add(row.auctions);
        self.total.set(now);
        let (day, before, minute) = (
            text::date(day),
            text::clock(former.map_or(0, |f| f.minute)),
            text::clock(now.minute),
        );
        tell(former.as_ref(), &now, cx, out, |total| {
            let minute = if total.minute == now.minute {
                &minute
            } else {
                &before
            };
            ChannelCounts::of(channel, day.as_str(), minute.as_str(), &total.counts)
        });
    }

    fn on_timer(
        &self,
        (channel, day): (&str, i64),
        _: Timestamp,
        _: &mut Ctx,
        out: &mut Out<ChannelCounts>,
    ) {
        if let Some(total) = self.total.get() {
            let (day, minute) = (text::date(day), text::clock(total.minute));
            let row = ChannelCounts::of(channel, day.as_str(), minute.as_str(), &total.counts);
            out.emit(row);
        }
    }
}
