//! How fast JSON Lines become columns: the source `files`, reading a file, against `arrow-json` over the same bytes in memory.
//!
//! `cargo run --release -p pelton-connect --example json_decode -- EVENTS.jsonl [REPEAT]`, where the file holds Nexmark
//! events; it is repeated to be large enough. Both make all columns first, then a few. Five interleaved runs, medians.

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use arrow_json::ReaderBuilder;
use pelton_connect::{OptionMap, SourceRequest, open_source};
use pelton_engine::connector::Poll;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::Monotonic;

const BATCH_ROWS: usize = 8_192;
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("give a file of Nexmark events")?;
    let repeat = args.next().map_or(Ok(20), |n| n.parse())?;
    let bytes = std::fs::read(path)?.repeat(repeat);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&bytes)?;
    let path = file.path().display().to_string();

    let all = events();
    let few = all.restrict(&Schema::new(vec![
        Field::new("ts", DataType::Timestamp),
        Field::new(
            "bid",
            DataType::Struct(vec![
                Field::new("auction", DataType::I64),
                Field::new("price", DataType::I64),
            ]),
        ),
    ]));
    for (name, needed) in [("all columns", &all), ("few columns", &few)] {
        let (mut ours, mut theirs, mut rows) = (Vec::new(), Vec::new(), (0, 0));
        for _ in 0..RUNS {
            let start = Instant::now();
            rows.0 = read_source(&path, &all, needed)?;
            ours.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            rows.1 = read_arrow_json(&bytes, needed)?;
            theirs.push(start.elapsed().as_secs_f64());
        }
        if rows.0 != rows.1 {
            return Err(format!("{} rows here, {} there", rows.0, rows.1).into());
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let rate = |seconds: f64| bytes.len() as f64 / seconds / 1e6;
        println!(
            "{name}: files {:.0} MB/s, {:.0} ns a row; arrow-json {:.0} MB/s, {:.0} ns a row; ratio {:.2}",
            rate(ours),
            ours * 1e9 / rows.0 as f64,
            rate(theirs),
            theirs * 1e9 / rows.0 as f64,
            ours / theirs
        );
    }
    Ok(())
}

fn read_source(path: &str, declared: &Schema, needed: &Schema) -> Result<usize, Box<dyn Error>> {
    let options: OptionMap = [("path", path), ("format", "json")]
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .into_iter()
        .collect();
    let limits = Limits::default();
    let request = SourceRequest {
        connector: "files",
        options: &options,
        declared,
        needed,
        limits: &limits,
        parallelism: 1,
    };
    let mut reader = open_source(&request)?.reader(0, 1)?;
    let mut rows = 0;
    loop {
        match reader.poll(Monotonic(0), BATCH_ROWS)? {
            Poll::Rows(batch) => rows += batch.rows(),
            Poll::Later(_) => {}
            Poll::End => return Ok(rows),
        }
    }
}

fn read_arrow_json(bytes: &[u8], needed: &Schema) -> Result<usize, Box<dyn Error>> {
    let schema = Arc::new(arrow_schema::Schema::new(needed.to_arrow()));
    let mut decoder = ReaderBuilder::new(schema)
        .with_batch_size(BATCH_ROWS)
        .build_decoder()?;
    let (mut rows, mut rest) = (0, bytes);
    loop {
        let n = decoder.decode(rest)?;
        rest = rest.get(n..).unwrap_or_default();
        match decoder.flush()? {
            Some(batch) => rows += batch.num_rows(),
            None if n == 0 => return Ok(rows),
            None => {}
        }
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The record of a Nexmark event.
fn events() -> Schema {
    let numbers = |names: &[&str]| {
        names
            .iter()
            .map(|n| Field::new(*n, DataType::I64))
            .collect::<Vec<_>>()
    };
    let texts = |names: &[&str]| {
        names
            .iter()
            .map(|n| Field::new(*n, DataType::String))
            .collect::<Vec<_>>()
    };
    let times = |names: &[&str]| {
        names
            .iter()
            .map(|n| Field::new(*n, DataType::Timestamp))
            .collect::<Vec<_>>()
    };
    let person = [
        numbers(&["id"]),
        texts(&["name", "emailAddress", "creditCard", "city", "state"]),
        times(&["dateTime"]),
        texts(&["extra"]),
    ];
    let auction = [
        numbers(&["id"]),
        texts(&["itemName", "description"]),
        numbers(&["initialBid", "reserve"]),
        times(&["dateTime", "expires"]),
        numbers(&["seller", "category"]),
        texts(&["extra"]),
    ];
    let bid = [
        numbers(&["auction", "bidder", "price"]),
        texts(&["channel", "url"]),
        times(&["dateTime"]),
        texts(&["extra"]),
    ];
    let record =
        |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields)).nullable();
    Schema::new(vec![
        Field::new("event_type", DataType::I64),
        Field::new("ts", DataType::Timestamp),
        record("person", person.concat()),
        record("auction", auction.concat()),
        record("bid", bid.concat()),
    ])
}
