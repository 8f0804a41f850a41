//! The jobs that Pelton's benchmarks run: `--param job=mapfilter --param events=1000000`.
//!
//! The job function is public, so that a benchmark can also link it natively: the same closures without Wasm.

use pelton::prelude::*;

mod joins;
mod keyed;
mod kinds;
mod stateless;
mod unique;
mod windows;

/// A bid of the generator.
#[derive(Record, Default)]
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

/// A random number of the generator.
#[derive(Record)]
pub struct Number {
    /// From 0 to `keys` - 1.
    pub key: i64,
}

/// The jobs by name.
pub const JOBS: [&str; 22] = [
    "mapfilter",
    "counter",
    "window",
    "boundary",
    "filter-map",
    "keyed-sum",
    "kind-map",
    "kind-flat-map",
    "kind-timers",
    "kind-list",
    "kind-map-state",
    "kind-aggregate",
    "tumbling",
    "sliding",
    "two-phase",
    "session",
    "session-aggregate",
    "two-phase-aggregate",
    "interval-join",
    "unique-last-hour",
    "unique-by-hour",
    "unique-by-hour-exact",
];

/// Builds the dataflow of the job that the parameters ask for.
///
/// # Errors
/// A parameter that is missing, or not one of its values.
#[pelton::job]
pub fn bench_jobs(job: &mut Job, params: &Params) -> Result<()> {
    let name = params.require("job")?;
    job.name(format!("bench-{name}"));
    let output = match params.get("output") {
        // `blocked_ms`: as a system that is out of order for a while.
        None | Some("blackhole") => with_options(blackhole(), params, &["blocked_ms"]),
        Some("print") => print(),
        Some(folder) => files::csv_sink(folder),
    };
    match name {
        "mapfilter" => to(stateless::map_filter(bids(job, params)?), output),
        "boundary" => to(stateless::boundary(bids(job, params)?), output),
        "filter-map" => to(stateless::filter_map(bids(job, params)?), output),
        "window" => to(keyed::window(bids(job, params)?), output),
        "counter" => to(keyed::counter(numbers(job, params)?), output),
        "keyed-sum" => to(keyed::sum(numbers(job, params)?), output),
        "kind-map" => to(kinds::map(bids(job, params)?), output),
        "kind-flat-map" => to(kinds::flat_map(bids(job, params)?), output),
        "kind-timers" => to(kinds::timers(bids(job, params)?), output),
        "kind-list" => to(kinds::list(bids(job, params)?), output),
        "kind-map-state" => to(kinds::map_state(bids(job, params)?), output),
        "kind-aggregate" => to(kinds::aggregate(bids(job, params)?), output),
        "tumbling" => to(windows::tumbling_minute(bids(job, params)?), output),
        "sliding" => to(windows::sliding_minute(bids(job, params)?), output),
        "two-phase" => to(windows::two_phase_minute(bids(job, params)?), output),
        "session" => to(windows::sessions(bids(job, params)?), output),
        "session-aggregate" => to(windows::own_sessions(bids(job, params)?), output),
        "two-phase-aggregate" => to(windows::own_two_phase(bids(job, params)?), output),
        "interval-join" => to(joins::interval(bids(job, params)?), output),
        "unique-last-hour" => to(
            unique::last_hour(bids(job, params)?, users(params)?),
            output,
        ),
        "unique-by-hour" => to(unique::by_hour(bids(job, params)?, users(params)?), output),
        "unique-by-hour-exact" => to(
            unique::by_hour_exact(bids(job, params)?, users(params)?),
            output,
        ),
        other => {
            let known = JOBS.join(", ");
            return Err(Error::new(format!(
                "parameter 'job' is '{other}', but must be one of {known}"
            )));
        }
    }
    Ok(())
}

fn to<T: Record>(rows: Stream<T>, output: Connector) {
    rows.sink("out", output);
}

/// `events` bids.
fn bids(job: &mut Job, params: &Params) -> Result<Stream<Bid>> {
    let connector = generator::nexmark(params.require("events")?).option("only", "bid");
    Ok(job.source(
        "bids",
        with_options(
            connector,
            params,
            &["all_columns", "preload", "rate", "seed", "step_us"],
        ),
    ))
}

/// `events` numbers, of which `keys` are distinct: a million, if nothing else is said.
fn numbers(job: &mut Job, params: &Params) -> Result<Stream<Number>> {
    let connector = generator::nexmark(params.require("events")?).option("kind", "keys");
    Ok(job.source(
        "numbers",
        with_options(connector, params, &["keys", "preload", "rate"]),
    ))
}

/// Of how many users visits are: ten million, if nothing else is said.
fn users(params: &Params) -> Result<u64> {
    params.get_or("users", 10_000_000)
}

fn with_options(connector: Connector, params: &Params, names: &[&str]) -> Connector {
    let given = names
        .iter()
        .filter_map(|name| Some((*name, params.get(name)?)));
    given.fold(connector, |c, (name, value)| c.option(name, value))
}
