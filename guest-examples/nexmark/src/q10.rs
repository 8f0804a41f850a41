//! q10: every bid with its day and its minute, for files partitioned by them.

use pelton::prelude::*;

use crate::bids::Plain;
use crate::events::Event;
use crate::text;

#[derive(Record)]
struct Time {
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

#[derive(Record, Debug, PartialEq)]
pub struct Dated {
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
    dt: String,
    hm: String,
}

#[derive(Record)]
struct DayMinute {
    dt: String,
    hm: String,
}

/// Builds the query.
pub fn q10(events: Stream<Event>) -> Stream<Dated> {
    events
        .only::<Plain>("bids", Event::BID)
        .view::<Time>()
        .with_into::<Dated, DayMinute>("day and minute", |bid, made| {
            let dt = text::date(text::day_of(bid.date_time));
            let hm = text::clock(text::minute_of(bid.date_time));
            made.fill(DayMinuteRef {
                dt: dt.as_str(),
                hm: hm.as_str(),
            })
        })
}
