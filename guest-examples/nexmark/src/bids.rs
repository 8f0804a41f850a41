//! The queries that look at one bid at a time: q0, q1, q2, q14, q21, q22.
//!
//! `only` takes the bids out of the events in the host. A function gets the columns of its view and gives the columns
//! that it makes; all others stay in the host.

use pelton::prelude::*;

use crate::events::Event;
use crate::text;

/// What most queries tell of a bid.
#[derive(Record, Debug, PartialEq)]
pub struct Plain {
    auction: i64,
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
}

/// A price.
#[derive(Record)]
struct Price {
    price: i64,
}

/// Every bid as it is: no function at all.
pub fn q0(events: Stream<Event>) -> Stream<Plain> {
    events.only::<Plain>("bids", Event::BID)
}

/// Thousandths of a euro: 0.908 of a price.
fn euros(price: i64) -> Decimal<3> {
    Decimal(i128::from(price) * 908)
}

#[derive(Record, Debug, PartialEq)]
pub struct InEuros {
    auction: i64,
    bidder: i64,
    price: Decimal<3>,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
}

#[derive(Record)]
struct Euros {
    price: Decimal<3>,
}

/// Every bid with its price in euros.
pub fn q1(events: Stream<Event>) -> Stream<InEuros> {
    events
        .only::<Plain>("bids", Event::BID)
        .view::<Price>()
        .with::<InEuros, Euros>("in euros", |bid| Euros {
            price: euros(bid.price),
        })
}

#[derive(Record, Debug, PartialEq)]
pub struct AuctionPrice {
    auction: i64,
    price: i64,
}

#[derive(Record)]
struct AuctionId {
    auction: i64,
}

/// Bids on every 123rd auction.
pub fn q2(events: Stream<Event>) -> Stream<AuctionPrice> {
    events
        .only::<AuctionPrice>("bids", Event::BID)
        .view::<AuctionId>()
        .filter("every 123rd auction", |bid| bid.auction % 123 == 0)
        .whole()
}

#[derive(Record)]
struct PriceTimeExtra {
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
}

#[derive(Record, Debug, PartialEq)]
pub struct Judged {
    auction: i64,
    bidder: i64,
    price: Decimal<3>,
    #[record(name = "bidTimeType")]
    bid_time_type: String,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
    c_counts: i64,
}

#[derive(Record)]
struct Judgement {
    price: Decimal<3>,
    #[record(name = "bidTimeType")]
    bid_time_type: String,
    c_counts: i64,
}

/// Bids above one million euros and below fifty, with the time of day and how many letters c they carry.
pub fn q14(events: Stream<Event>) -> Stream<Judged> {
    events
        .only::<Plain>("bids", Event::BID)
        .view::<PriceTimeExtra>()
        .filter("price range", |bid| in_range(bid.price))
        .with_into::<Judged, Judgement>("judge", |bid, judgement| {
            judgement.fill(JudgementRef {
                price: euros(bid.price),
                bid_time_type: time_type(bid.date_time),
                c_counts: text::count(bid.extra, b'c'),
            })
        })
}

fn in_range(price: i64) -> bool {
    (Decimal(1_000_000_001)..Decimal(50_000_000_000)).contains(&euros(price))
}

fn time_type(at: Timestamp) -> &'static str {
    match at.millis().div_euclid(3_600_000).rem_euclid(24) {
        8..=18 => "dayTime",
        0..=6 | 20.. => "nightTime",
        _ => "otherTime",
    }
}

#[derive(Record)]
struct OnChannel {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
    url: String,
}

#[derive(Record)]
struct ChannelUrl {
    channel: String,
    url: String,
}

#[derive(Record, Debug, PartialEq)]
pub struct WithChannelId {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
    channel_id: String,
}

#[derive(Record)]
struct ChannelId {
    channel_id: String,
}

/// Bids whose channel has an id. It is looked for twice: that costs less than to pass rows through the function whole.
pub fn q21(events: Stream<Event>) -> Stream<WithChannelId> {
    events
        .only::<OnChannel>("bids", Event::BID)
        .view::<ChannelUrl>()
        .filter("has a channel id", |bid| {
            text::channel_id(bid.channel, bid.url).is_some()
        })
        .with_into::<WithChannelId, ChannelId>("channel id", |bid, found| {
            let channel_id = text::channel_id(bid.channel, bid.url).unwrap_or_default();
            found.fill(ChannelIdRef { channel_id })
        })
}

#[derive(Record)]
struct Url {
    url: String,
}

#[derive(Record, Debug, PartialEq)]
pub struct InFolders {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
    dir1: Option<String>,
    dir2: Option<String>,
    dir3: Option<String>,
}

#[derive(Record)]
struct Folders {
    dir1: Option<String>,
    dir2: Option<String>,
    dir3: Option<String>,
}

/// Bids with the first three folders of their url.
pub fn q22(events: Stream<Event>) -> Stream<InFolders> {
    events
        .only::<OnChannel>("bids", Event::BID)
        .view::<Url>()
        .with_into::<InFolders, Folders>("folders", |bid, folders| {
            let [dir1, dir2, dir3] = text::folders(bid.url);
            folders.fill(FoldersRef { dir1, dir2, dir3 })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Bid, Person};
    use pelton::testing::Harness;

    /// A query's answer to a person and some bids.
    fn ask<T: Record>(query: fn(Stream<Event>) -> Stream<T>, bids: Vec<Bid>) -> Vec<T> {
        let mut harness = Harness::new(query);
        harness.push(Event {
            person: Some(Person::default()),
            ..Event::default()
        });
        for bid in bids {
            harness.push(Event {
                event_type: 2,
                bid: Some(bid),
                ..Event::default()
            });
        }
        harness.take()
    }

    fn bid(auction: i64, price: i64) -> Bid {
        Bid {
            auction,
            bidder: 7,
            price,
            extra: "coc".into(),
            ..Bid::default()
        }
    }

    #[test]
    fn a_bid_keeps_what_nobody_changes() {
        let date_time = Timestamp(8 * 3_600_000);
        let mut large = bid(1, 2_000_000);
        large.date_time = date_time;
        let extra = "coc".to_owned();
        let plain = Plain {
            auction: 1,
            bidder: 7,
            price: 5,
            date_time: Timestamp(0),
            extra: extra.clone(),
        };
        assert_eq!(ask(q0, vec![bid(1, 5)]), [plain]);
        let price = Decimal(4_540);
        let euros = InEuros {
            auction: 1,
            bidder: 7,
            price,
            date_time: Timestamp(0),
            extra: extra.clone(),
        };
        assert_eq!(ask(q1, vec![bid(1, 5)]), [euros]);
        let price = Decimal(1_816_000_000);
        let bid_time_type = "dayTime".to_owned();
        let judged = Judged {
            auction: 1,
            bidder: 7,
            price,
            bid_time_type,
            date_time,
            extra,
            c_counts: 2,
        };
        assert_eq!(
            ask(q14, vec![bid(1, 5), large, bid(1, 90_000_000)]),
            [judged]
        );
    }

    #[test]
    fn every_123rd_auction_is_kept() {
        let found = ask(q2, vec![bid(122, 1), bid(123, 2), bid(1_230, 3)]);
        assert_eq!(
            found,
            [
                AuctionPrice {
                    auction: 123,
                    price: 2
                },
                AuctionPrice {
                    auction: 1_230,
                    price: 3
                }
            ]
        );
    }

    #[test]
    fn text_is_taken_apart() {
        let on = |channel: &str, url: &str| Bid {
            channel: channel.into(),
            url: url.into(),
            ..bid(1, 2)
        };
        let bids = || {
            vec![
                on("Apple", "https://h/a/b/c/d"),
                on("x", "https://h/a?channel_id=9"),
                on("y", "h"),
            ]
        };
        let found = ask(q21, bids());
        let ids: Vec<_> = found
            .iter()
            .map(|r| (r.channel.as_str(), r.channel_id.as_str()))
            .collect();
        assert_eq!(ids, [("Apple", "0"), ("x", "9")]);
        let found = ask(q22, bids());
        let dirs: Vec<_> = found
            .iter()
            .map(|r| [&r.dir1, &r.dir2, &r.dir3].map(Option::as_deref))
            .collect();
        let parts = [Some("a"), Some("b"), Some("c")];
        assert_eq!(
            dirs,
            [parts, [Some("a?channel_id=9"), None, None], [None; 3]]
        );
    }

    #[test]
    fn prices_have_exactly_three_places() {
        assert_eq!(euros(1_231).to_string(), "1117.748");
        assert_eq!(euros(-1).to_string(), "-0.908");
        assert_eq!(euros(i64::MAX).0, i128::from(i64::MAX) * 908);
    }

    #[test]
    fn both_ends_of_the_price_range_are_outside() {
        // 1,101,322 and 55,066,079 are the first and the last price inside.
        assert_eq!(
            [1_101_321, 1_101_322, 55_066_079, 55_066_080].map(in_range),
            [false, true, true, false]
        );
    }

    #[test]
    fn the_day_has_three_parts() {
        let at = |hour: i64| time_type(Timestamp(hour * 3_600_000 + 3_599_999));
        assert_eq!(
            [0, 6, 7, 8, 18, 19, 20, 23].map(at),
            [
                "nightTime",
                "nightTime",
                "otherTime",
                "dayTime",
                "dayTime",
                "otherTime",
                "nightTime",
                "nightTime"
            ]
        );
        assert_eq!(time_type(Timestamp(-1)), "nightTime");
    }
}
