//! Two streams that meet: by interval, in windows, or through state; one of these, as `kind` says.

use pelton::prelude::*;

mod connect;
mod input;
mod interval;
mod output;
mod windowed;

use input::{Event, both};
use output::Output;

/// Records of one side, by their keys.
type Side = KeyedStream<Event, Event, String>;

/// Joins the records of `left` and `right` as `kind` says.
#[pelton::job]
pub fn lab_join(job: &mut Job, params: &Params) -> Result<()> {
    let output = Output::new(params.require("output")?);
    let (left, right) = (params.require("left")?, params.require("right")?);
    let (left, right) = both(job, left, right);
    let (left, right) = (left.key_by(Event::KEY), right.key_by(Event::KEY));
    match params.require("kind")? {
        "interval" => {
            let (lower, upper) = (number(params, "lower_ms")?, number(params, "upper_ms")?);
            let joined = interval::near(left, right, millis(lower), millis(upper));
            output.late(&interval::late(&joined));
            output.pairs(joined);
        }
        "window" => {
            let windows = tumbling(length(params, "size_ms")?);
            output.pairs(windowed::pairs(left, right, windows));
        }
        "sliding-window" => {
            let windows = sliding(length(params, "size_ms")?, length(params, "slide_ms")?);
            output.pairs(windowed::pairs(left, right, windows));
        }
        "session-window" => {
            let gap = length(params, "gap_ms")?;
            let windows = session(gap);
            output.pairs(windowed::pairs(left, right, windows));
        }
        "cogroup" => {
            let windows = tumbling(length(params, "size_ms")?);
            output.groups(windowed::groups(left, right, windows));
        }
        "connect" => output.pairs(connect::latest(left, right)),
        other => return Err(Error::new(format_args!("there is no kind '{other}'"))),
    }
    Ok(())
}

fn number(params: &Params, name: &str) -> Result<i64> {
    let text = params.require(name)?;
    text.parse().map_err(|_| {
        Error::new(format_args!(
            "parameter '{name}' must be milliseconds, and is '{text}'"
        ))
    })
}

fn length(params: &Params, name: &str) -> Result<Duration> {
    match number(params, name)? {
        ms if ms > 0 => Ok(millis(ms)),
        _ => Err(Error::new(format_args!(
            "parameter '{name}' must be above 0"
        ))),
    }
}
