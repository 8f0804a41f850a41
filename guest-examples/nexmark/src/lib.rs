//! Queries of the Nexmark benchmark as stream jobs: `--param query=q0` to q22.

use pelton::prelude::*;

mod best;
mod bids;
mod changes;
mod contest;
mod counts;
mod events;
mod q10;
mod q11;
mod q12;
mod q13;
mod q15;
mod q16;
mod q17;
mod q18;
mod q19;
mod q20;
mod q3;
mod q4;
mod q5;
mod q6;
mod q7;
mod q8;
mod q9;
mod text;

use events::{Event, partitioned_output, source, timed_source};

/// Builds the dataflow of the query that the parameters ask for.
#[pelton::job]
pub fn nexmark(job: &mut Job, params: &Params) -> Result<()> {
    let query = params.require("query")?;
    job.name(format!("nexmark-{query}"));
    match query {
        "q0" => plain(job, params, bids::q0),
        "q1" => plain(job, params, bids::q1),
        "q2" => plain(job, params, bids::q2),
        "q3" => plain(job, params, q3::q3),
        "q4" => changing(job, params, q4::q4),
        "q5" => timed(job, params, q5::q5),
        "q6" => timed(job, params, q6::q6),
        "q7" => timed(job, params, q7::q7),
        "q8" => timed(job, params, q8::q8),
        "q9" => changing(job, params, q9::q9),
        "q10" => {
            let output = partitioned_output(params, &["dt", "hm"])?;
            q10::q10(source(job, params)?).sink("result", output);
            Ok(())
        }
        "q11" => timed(job, params, q11::q11),
        "q12" => timed(job, params, q12::q12),
        "q13" => {
            let output = events::output(params, false)?;
            let side = params.require("side_input")?;
            let events = timed_source(job, params)?;
            q13::q13(job, events, side).sink("result", output);
            Ok(())
        }
        "q14" => plain(job, params, bids::q14),
        "q15" => changing(job, params, q15::q15),
        "q16" => changing(job, params, q16::q16),
        "q17" => changing(job, params, q17::q17),
        "q18" => {
            let output = events::output(params, true)?;
            q18::q18(timed_source(job, params)?).sink("result", output);
            Ok(())
        }
        "q19" => changing(job, params, q19::q19),
        "q20" => plain(job, params, q20::q20),
        "q21" => plain(job, params, bids::q21),
        "q22" => plain(job, params, bids::q22),
        other => Err(Error::new(format!(
            "parameter 'query' is '{other}', but must be one of q0 to q22"
        ))),
    }
}

/// A query that no time plays a part in.
fn plain<T: Record>(
    job: &mut Job,
    params: &Params,
    query: impl FnOnce(Stream<Event>) -> Stream<T>,
) -> Result<()> {
    let output = events::output(params, false)?;
    query(source(job, params)?).sink("result", output);
    Ok(())
}

/// A query by event time.
fn timed<T: Record>(
    job: &mut Job,
    params: &Params,
    query: impl FnOnce(Stream<Event>) -> Stream<T>,
) -> Result<()> {
    let output = events::output(params, false)?;
    query(timed_source(job, params)?).sink("result", output);
    Ok(())
}

/// A query whose results change as events come.
fn changing<T: Record>(
    job: &mut Job,
    params: &Params,
    query: impl FnOnce(Stream<Event>) -> Stream<T>,
) -> Result<()> {
    let output = events::output(params, true)?;
    query(source(job, params)?).sink("result", output);
    Ok(())
}
