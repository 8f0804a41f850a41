//! Keyed functions with state of every kind, with timers and with broadcast rules: one of them, as `mode` says.

use pelton::prelude::*;

mod broadcast;
mod input;
mod state;
mod timer;

use input::{Event, events};

/// Runs the function that `mode` names over the records of `input` (of `left` and `right` where rules are broadcast).
#[pelton::job]
pub fn lab_process(job: &mut Job, params: &Params) -> Result<()> {
    let output = Output(params.require("output")?.to_owned());
    match params.require("mode")? {
        "broadcast" => output.write(broadcast::met(job, params)?),
        "running-sum" => output.write(state::running_sum(keyed(job, params)?)),
        "last-n" => output.write(state::last_n(keyed(job, params)?, params.get_or("n", 1)?)),
        "counts-by-value" => output.write_lines(state::counts_by_value(keyed(job, params)?)),
        "reducing" => output.write(state::greatest(keyed(job, params)?)),
        "aggregating" => output.write(state::average(keyed(job, params)?)),
        "timeout" => {
            let after = positive(params, "timeout_ms")?;
            output.write(timer::timeout(keyed(job, params)?, after));
        }
        "bucket" => {
            let size = positive(params, "bucket_ms")?;
            output.write(timer::buckets(keyed(job, params)?, size));
        }
        other => return Err(Error::new(format_args!("there is no mode '{other}'"))),
    }
    Ok(())
}

fn keyed(job: &mut Job, params: &Params) -> Result<KeyedStream<Event, Event, String>> {
    Ok(events(job, params.require("input")?).key_by(Event::KEY))
}

fn positive(params: &Params, name: &str) -> Result<Duration> {
    match params.require(name)?.parse() {
        Ok(ms) if ms > 0 => Ok(millis(ms)),
        _ => Err(Error::new(format_args!(
            "parameter '{name}' must be milliseconds above 0"
        ))),
    }
}

/// The folder of results.
struct Output(String);

impl Output {
    fn write<T: Record>(&self, rows: Stream<T>) {
        let out = files::single(format!("{}/out.jsonl", self.0));
        rows.sink("out", out).parallelism(1);
    }

    /// Lines that are JSON already.
    fn write_lines(&self, lines: Stream<state::Line>) {
        let out = files::single(format!("{}/out.jsonl", self.0)).option("format", "text");
        lines.sink("out", out).parallelism(1);
    }
}
