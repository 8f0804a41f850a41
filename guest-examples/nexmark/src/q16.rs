//! q16: for each channel and day, its bids, bidders and auctions, in all and by rank of price. It changes as bids come.

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
struct DayMinute {
    day: i64,
    minute: i64,
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
    events
        .only::<Bid>("bids", Event::BID)
        .view::<Time>()
        .with::<Dated, DayMinute>("day", |bid| DayMinute {
            day: text::day_of(bid.date_time),
            minute: text::minute_of(bid.date_time),
        })
        .key_by((Dated::CHANNEL, Dated::DAY))
        .process("channels", |states| Channels {
            total: states.value("total"),
            bidders: states.map("bidders"),
            auctions: states.map("auctions"),
        })
}

struct Channels {
    total: ValueState<Total>,
    /// Where each was seen: see [`Marks`].
    bidders: MapState<i64, u8>,
    auctions: MapState<i64, u8>,
}

/// The marks of a bid that somebody has not had before.
fn news(seen: &MapState<i64, u8>, id: i64, marks: u8) -> u8 {
    let before = seen.get(id).unwrap_or(0);
    let news = marks & !before;
    if news != 0 {
        seen.put(id, before | news);
    }
    news
}

impl KeyedProcess for Channels {
    type In = Dated;
    type Key = (String, i64);
    type Out = ChannelCounts;
    const TIMERS: bool = false;

    fn process(
        &self,
        (channel, day): (&str, i64),
        bid: DatedRef<'_>,
        cx: &mut Ctx,
        out: &mut Out<ChannelCounts>,
    ) {
        let marks = Marks::of(rank(bid.price));
        let former = self.total.get();
        let mut now = former.unwrap_or_default();
        now.minute = now.minute.max(bid.minute);
        now.counts.bids.add(marks);
        now.counts
            .bidders
            .add(news(&self.bidders, bid.bidder, marks));
        now.counts
            .auctions
            .add(news(&self.auctions, bid.auction, marks));
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
