//! Unique users by window: bids, by users of whom there are many millions.

use pelton::prelude::*;

use crate::Bid;

#[derive(Record)]
struct BidderPrice {
    bidder: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

/// A visit of a user.
#[derive(Record)]
struct Visit {
    site: i64,
    user: i64,
}

#[derive(Record, Debug, PartialEq)]
pub(crate) struct Unique {
    site: i64,
    users: i64,
    start: Timestamp,
    end: Timestamp,
}

/// Visits of one site by at most so many users.
fn visits(bids: Stream<Bid>, users: u64) -> KeyedStream<Visit, Visit, i64> {
    bids.assign_timestamps_by(bounded(seconds(1)).every_batch(), Bid::DATE_TIME)
        .view::<BidderPrice>()
        .map("visit", move |bid| {
            let seed = bid.bidder as u64
                ^ (bid.price as u64).rotate_left(20)
                ^ (bid.date_time.0 as u64).rotate_left(40);
            let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            Visit {
                site: 0,
                user: ((mixed ^ mixed >> 32) % users.max(1)) as i64,
            }
        })
        .key_by(Visit::SITE)
}

fn unique(site: i64, window: Window, users: u64) -> Unique {
    Unique {
        site,
        users: users as i64,
        start: window.start,
        end: window.end,
    }
}

/// About how many users there were in the last hour, each ten seconds.
pub(crate) fn last_hour(bids: Stream<Bid>, users: u64) -> Stream<Unique> {
    let windows = visits(bids, users).window(sliding(hours(1), seconds(10)));
    windows.unique_approx("users", Visit::USER, unique)
}

/// About how many users there were in each hour.
pub(crate) fn by_hour(bids: Stream<Bid>, users: u64) -> Stream<Unique> {
    let windows = visits(bids, users).window(tumbling(hours(1)));
    windows.unique_approx("users", Visit::USER, unique)
}

/// Exactly how many users there were in each hour.
pub(crate) fn by_hour_exact(bids: Stream<Bid>, users: u64) -> Stream<Unique> {
    let windows = visits(bids, users).window(tumbling(hours(1)));
    windows.unique_exact("users", Visit::USER, Unique::USERS)
}
