//! How long the generator takes an event, in CPU time of its thread, for several sets of columns.
//!
//! `cargo run --release -p pelton-connect --example generator_speed [EVENTS]`
#![expect(clippy::print_stdout, reason = "its table is its result")]

use std::collections::BTreeMap;

use pelton_connect::generator::Generator;
use pelton_engine::connector::{Poll, Source};
use pelton_model::Result;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::Monotonic;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: [(&str, &str); 3] = [
    (
        "person",
        "id name emailAddress creditCard city state dateTime extra",
    ),
    (
        "auction",
        "id itemName description initialBid reserve dateTime expires seller category extra",
    ),
    ("bid", "auction bidder price channel url dateTime extra"),
];

fn field(name: &str) -> Field {
    let data_type = match name {
        "dateTime" | "expires" | "ts" => DataType::Timestamp,
        "name" | "emailAddress" | "creditCard" | "city" | "state" | "extra" => DataType::String,
        "itemName" | "description" | "channel" | "url" => DataType::String,
        _ => DataType::I64,
    };
    Field::new(name, data_type)
}

/// The fields of an event that `keep` takes, by their full names.
fn event(keep: impl Fn(&str) -> bool) -> Schema {
    let mut fields: Vec<Field> = ["event_type", "ts"]
        .into_iter()
        .filter(|n| keep(n))
        .map(field)
        .collect();
    for (record, names) in RECORDS {
        let inner: Vec<Field> = names
            .split(' ')
            .filter(|n| keep(&format!("{record}.{n}")))
            .map(field)
            .collect();
        if !inner.is_empty() {
            fields.push(Field::new(record, DataType::Struct(inner)).nullable());
        }
    }
    Schema::new(fields)
}

/// CPU time of this thread in nanoseconds, 0 where the system does not say.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn measure(what: &str, options: &[(&str, &str)], declared: &Schema, events: u64) -> Result<()> {
    let mut map: BTreeMap<String, String> = options
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    map.insert("events".into(), events.to_string());
    let generator = Generator::new(&map, declared, declared)?;
    let mut best = f64::INFINITY;
    let mut bytes = 0;
    for _ in 0..5 {
        let mut reader = generator.reader(0, 2)?;
        let before = cpu_ns();
        let mut rows = 0;
        while let Poll::Rows(batch) = reader.poll(Monotonic(0), 8_192)? {
            rows += batch.rows();
            bytes = batch.bytes() / batch.rows();
        }
        best = best.min((cpu_ns() - before) as f64 / rows as f64);
    }
    println!("{what:<40} {best:>7.1} ns {bytes:>5} bytes an event");
    Ok(())
}

fn main() -> Result<()> {
    let events = std::env::args()
        .nth(1)
        .and_then(|a| a.parse().ok())
        .unwrap_or(4_000_000);
    let of = |names: &'static [&'static str]| event(|n| names.contains(&n));
    measure("all columns", &[], &event(|_| true), events)?;
    measure(
        "numbers and times",
        &[],
        &event(|n| field(n.rsplit('.').next().unwrap_or(n)).data_type != DataType::String),
        events,
    )?;
    measure("event_type, ts", &[], &of(&["event_type", "ts"]), events)?;
    measure("bid.auction, ts", &[], &of(&["bid.auction", "ts"]), events)?;
    measure(
        "bid.auction, bid.price, ts",
        &[],
        &of(&["bid.auction", "bid.price", "ts"]),
        events,
    )?;
    measure("bid.channel", &[], &of(&["bid.channel"]), events)?;
    measure("bid.url", &[], &of(&["bid.url"]), events)?;
    measure("bid.extra", &[], &of(&["bid.extra"]), events)?;
    measure("bid", &[], &event(|n| n.starts_with("bid.")), events)?;
    measure(
        "auction",
        &[],
        &event(|n| n.starts_with("auction.")),
        events,
    )?;
    measure("person", &[], &event(|n| n.starts_with("person.")), events)?;
    let bid = Schema::new(
        "auction bidder price channel url ts extra"
            .split(' ')
            .map(field)
            .collect(),
    );
    measure("only bids, as records", &[("only", "bid")], &bid, events)?;
    measure(
        "keys",
        &[("kind", "keys")],
        &Schema::new(vec![field("key")]),
        events,
    )
}
