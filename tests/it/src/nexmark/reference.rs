//! The queries once more, over whole tables in memory and as plainly as they can be said: what the jobs must answer.
//! Needs: JSON alone, nothing of Pelton.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A bid of the input.
pub(crate) struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
    url: String,
    /// Milliseconds since 1970.
    ts: i64,
    date_time: String,
    extra: String,
}

/// The bids of JSON Lines.
pub(crate) fn bids(lines: &str) -> Vec<Bid> {
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let bids = events.filter(|event| event["event_type"] == 2);
    bids.map(|event| {
        let bid = &event["bid"];
        let number = |name: &str| bid[name].as_i64().unwrap();
        let text = |name: &str| bid[name].as_str().unwrap().to_owned();
        Bid {
            auction: number("auction"),
            bidder: number("bidder"),
            price: number("price"),
            channel: text("channel"),
            url: text("url"),
            ts: event["ts"].as_i64().unwrap(),
            date_time: text("dateTime"),
            extra: text("extra"),
        }
    })
    .collect()
}

/// The header of a query's result, and its rows as CSV lines in no order.
pub(crate) fn answer(query: &str, bids: &[Bid]) -> (&'static str, Vec<String>) {
    match query {
        "q0" => (
            "auction,bidder,price,dateTime,extra",
            bids.iter().map(q0).collect(),
        ),
        "q1" => (
            "auction,bidder,price,dateTime,extra",
            bids.iter().map(q1).collect(),
        ),
        "q2" => ("auction,price", bids.iter().filter_map(q2).collect()),
        "q5" => ("auction,num,starttime,endtime", q5(bids)),
        "q7" => ("auction,price,bidder,dateTime,extra", q7(bids)),
        "q14" => (
            "auction,bidder,price,bidTimeType,dateTime,extra,c_counts",
            bids.iter().filter_map(q14).collect(),
        ),
        "q21" => (
            "auction,bidder,price,channel,channel_id",
            bids.iter().filter_map(q21).collect(),
        ),
        "q22" => (
            "auction,bidder,price,channel,dir1,dir2,dir3",
            bids.iter().map(q22).collect(),
        ),
        other => panic!("there is no query {other}"),
    }
}

fn euros(price: i64) -> String {
    let thousandths = price * 908;
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

fn q0(b: &Bid) -> String {
    format!(
        "{},{},{},{},{}",
        b.auction, b.bidder, b.price, b.date_time, b.extra
    )
}

fn q1(b: &Bid) -> String {
    format!(
        "{},{},{},{},{}",
        b.auction,
        b.bidder,
        euros(b.price),
        b.date_time,
        b.extra
    )
}

fn q2(b: &Bid) -> Option<String> {
    (b.auction % 123 == 0).then(|| format!("{},{}", b.auction, b.price))
}

/// Counts each auction in each window that holds one of its bids, by going through all windows one by one.
fn q5(bids: &[Bid]) -> Vec<String> {
    let mut starts = BTreeSet::new();
    for b in bids {
        starts.extend((0..5).map(|n| b.ts.div_euclid(2_000) * 2_000 - n * 2_000));
    }
    let mut rows = Vec::new();
    for start in starts {
        let end = start + 10_000;
        let mut counts = BTreeMap::new();
        for b in bids.iter().filter(|b| (start..end).contains(&b.ts)) {
            *counts.entry(b.auction).or_insert(0u64) += 1;
        }
        let most = counts.values().max().copied().unwrap();
        let top = counts.into_iter().filter(|(_, count)| *count == most);
        rows.extend(
            top.map(|(auction, count)| format!("{auction},{count},{},{}", time(start), time(end))),
        );
    }
    rows
}

fn q7(bids: &[Bid]) -> Vec<String> {
    let starts: BTreeSet<i64> = bids
        .iter()
        .map(|b| b.ts.div_euclid(10_000) * 10_000)
        .collect();
    let mut rows = Vec::new();
    for start in starts {
        let end = start + 10_000;
        let highest = bids
            .iter()
            .filter(|b| (start..end).contains(&b.ts))
            .map(|b| b.price)
            .max()
            .unwrap();
        let winners = bids
            .iter()
            .filter(|b| b.price == highest && (start..=end).contains(&b.ts));
        rows.extend(winners.map(|b| {
            format!(
                "{},{},{},{},{}",
                b.auction, b.price, b.bidder, b.date_time, b.extra
            )
        }));
    }
    rows
}

fn q14(b: &Bid) -> Option<String> {
    let thousandths = b.price * 908;
    if thousandths <= 1_000_000_000 || thousandths >= 50_000_000_000 {
        return None;
    }
    let hour: u32 = b.date_time[11..13].parse().unwrap();
    let kind = if (8..=18).contains(&hour) {
        "dayTime"
    } else if hour <= 6 || hour >= 20 {
        "nightTime"
    } else {
        "otherTime"
    };
    let letters = b.extra.matches('c').count();
    Some(format!(
        "{},{},{},{kind},{},{},{letters}",
        b.auction,
        b.bidder,
        euros(b.price),
        b.date_time,
        b.extra
    ))
}

fn q21(b: &Bid) -> Option<String> {
    let id = match b.channel.to_lowercase().as_str() {
        "apple" => "0",
        "google" => "1",
        "facebook" => "2",
        "baidu" => "3",
        _ => {
            let at = b.url.find("&channel_id=")?;
            b.url[at + "&channel_id=".len()..].split('&').next()?
        }
    };
    Some(format!(
        "{},{},{},{},{id}",
        b.auction, b.bidder, b.price, b.channel
    ))
}

fn q22(b: &Bid) -> String {
    let parts: Vec<&str> = b.url.split('/').collect();
    format!(
        "{},{},{},{},{},{},{}",
        b.auction, b.bidder, b.price, b.channel, parts[3], parts[4], parts[5]
    )
}

/// `yyyy-MM-dd HH:mm:ss.SSS` of a day between 2024-03-01 and 2024-03-31, which is all that the data needs.
fn time(ms: i64) -> String {
    const MARCH_2024: i64 = 1_709_251_200_000;
    let (day, rest) = (
        (ms - MARCH_2024) / 86_400_000 + 1,
        (ms - MARCH_2024) % 86_400_000,
    );
    assert!((1..=31).contains(&day), "{ms} is not in March 2024");
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("2024-03-{day:02} {hour:02}:{minute:02}:{second:02}.{milli:03}")
}
