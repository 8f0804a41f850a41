//! What the jobs read: bids, evenly spread over event time, at a bounded rate.

use pelton::prelude::*;

/// What of a bid is read.
#[derive(Record)]
pub(crate) struct Bid {
    pub(crate) bidder: i64,
    pub(crate) price: i64,
    #[record(name = "dateTime")]
    pub(crate) date_time: Timestamp,
}

/// A bid of one of few bidders.
#[derive(Record)]
pub(crate) struct Row {
    pub(crate) key: i64,
    pub(crate) price: i64,
    pub(crate) time: Timestamp,
}

/// From a bid to the next in event time. With a step of at least a millisecond no two bids have the same time.
const STEP_MS: u64 = 10;
/// So many bidders.
const KEYS: i64 = 40;

/// The bids of one site, which `seed` stands for; each stands for `sparse` others.
pub(crate) fn rows(
    job: &mut Job,
    params: &Params,
    name: &str,
    seed: u64,
    sparse: u64,
) -> Result<Stream<Row>> {
    let events: u64 = params.get_or("events", 10_000)?;
    let rate: u64 = params.get_or("rate", 10_000)?;
    let bids = generator::nexmark((events / sparse).max(1))
        .option("only", "bid")
        .option("seed", seed)
        .option("step_us", STEP_MS * 1_000 * sparse)
        .option("rate", (rate / sparse).max(1));
    let bids = job.source::<Bid>(name, bids).uid(name);
    let rows = bids
        .assign_timestamps_by(bounded(millis(100)).every_batch(), Bid::DATE_TIME)
        .map("row", |bid: BidRef<'_>| Row {
            key: mixed(bid.bidder, bid.price).rem_euclid(KEYS),
            price: bid.price,
            time: bid.date_time,
        });
    Ok(rows)
}

/// Bidders come in an order that is too even: this one is as good as random.
fn mixed(bidder: i64, price: i64) -> i64 {
    let seed = bidder as u64 ^ (price as u64).rotate_left(20);
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17) as i64
}

/// The end of the bucket of a time: the least multiple of the size above it.
pub(crate) fn bucket_end(time: Timestamp, size: Duration) -> Timestamp {
    let size = size.millis();
    Timestamp((time.millis().div_euclid(size) + 1).saturating_mul(size))
}
