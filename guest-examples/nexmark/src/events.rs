//! The events of the auction site, and where they come from.

use pelton::prelude::*;

/// An event: one of the three records, and when it happened.
#[derive(Record, Default, Debug)]
pub struct Event {
    /// 0 person, 1 auction, 2 bid.
    pub event_type: i64,
    /// Event time, the same as the record's `dateTime`.
    pub ts: Timestamp,
    /// Somebody registers.
    pub person: Option<Person>,
    /// Somebody offers something.
    pub auction: Option<Auction>,
    /// Somebody bids.
    pub bid: Option<Bid>,
}

/// Somebody registers.
#[derive(Record, Default, Debug)]
#[allow(missing_docs, reason = "the names of the benchmark say it")]
pub struct Person {
    pub id: i64,
    pub name: String,
    #[record(name = "emailAddress")]
    pub email_address: String,
    #[record(name = "creditCard")]
    pub credit_card: String,
    pub city: String,
    pub state: String,
    #[record(name = "dateTime")]
    pub date_time: Timestamp,
    pub extra: String,
}

/// Somebody offers something.
#[derive(Record, Default, Debug)]
#[allow(missing_docs, reason = "the names of the benchmark say it")]
pub struct Auction {
    pub id: i64,
    #[record(name = "itemName")]
    pub item_name: String,
    pub description: String,
    #[record(name = "initialBid")]
    pub initial_bid: i64,
    pub reserve: i64,
    #[record(name = "dateTime")]
    pub date_time: Timestamp,
    pub expires: Timestamp,
    pub seller: i64,
    pub category: i64,
    pub extra: String,
}

/// Somebody bids on an auction.
#[derive(Record, Default, Debug)]
#[allow(missing_docs, reason = "the names of the benchmark say it")]
pub struct Bid {
    pub auction: i64,
    pub bidder: i64,
    pub price: i64,
    pub channel: String,
    pub url: String,
    #[record(name = "dateTime")]
    pub date_time: Timestamp,
    pub extra: String,
}

/// The events that the parameters name: `input` is a file of JSON Lines (a folder, a glob), or `generator:10k`,
/// `generator:200k`, or `generator:N` with `seed`; the generator also takes `rate`, `all_columns` and `preload`.
///
/// # Errors
/// `input` is missing, or a file is given with parameters of the generator.
pub fn source(job: &mut Job, params: &Params) -> Result<Stream<Event>> {
    let input = params.require("input")?;
    let options = ["rate", "seed", "all_columns", "preload"].map(|name| (name, params.get(name)));
    let given = options
        .iter()
        .filter_map(|(name, value)| value.map(|v| (*name, v)));
    let connector = match input.strip_prefix("generator:") {
        Some(set @ ("10k" | "200k")) => with_options(generator::set(set), given),
        Some(events) => with_options(generator::nexmark(events), given),
        None => match given.into_iter().next() {
            None => files::json(input),
            Some((name, _)) => {
                let message = format!(
                    "parameter '{name}' is for input=generator:N, not for a file: leave it out"
                );
                return Err(Error::new(message));
            }
        },
    };
    Ok(job.source("events", connector))
}

/// The events in order of time: none is more than four seconds behind.
pub fn timed_source(job: &mut Job, params: &Params) -> Result<Stream<Event>> {
    Ok(source(job, params)?.assign_timestamps_by(bounded(seconds(4)), Event::TS))
}

fn with_options<'a>(
    connector: Connector,
    options: impl Iterator<Item = (&'a str, &'a str)>,
) -> Connector {
    options.fold(connector, |c, (name, value)| c.option(name, value))
}

/// Where results go: `output` is a folder for CSV files, `blackhole` or `print`. Results that change are a changelog in
/// streaming mode, and the last of each key in batch mode.
///
/// # Errors
/// `output` is missing.
pub fn output(params: &Params, changes: bool) -> Result<Connector> {
    Ok(match params.require("output")? {
        "blackhole" => blackhole(),
        "print" => print(),
        folder => {
            let csv = files::csv_sink(folder).option("header", true);
            if changes { csv.changelog() } else { csv }
        }
    })
}

/// As [`output`]; the files are in folders by these columns, which the rows keep.
///
/// # Errors
/// `output` is missing.
pub fn partitioned_output(params: &Params, columns: &[&str]) -> Result<Connector> {
    let connector = output(params, false)?;
    Ok(match params.require("output")? {
        "blackhole" | "print" => connector,
        _ => connector
            .partition_by(columns)
            .option("partition_columns", "keep"),
    })
}
