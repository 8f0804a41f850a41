//! Queries of the Nexmark benchmark as stream jobs: `--param query=q0`, q1, q2, q5, q7, q14, q21, q22.

use pelton::prelude::*;

mod best;
mod bids;
mod events;
mod q5;
mod q7;
mod text;

/// Builds the dataflow of the query that the parameters ask for.
#[pelton::job]
pub fn nexmark(job: &mut Job, params: &Params) -> Result<()> {
    let query = params.require("query")?;
    job.name(format!("nexmark-{query}"));
    let output = events::output(params)?;
    match query {
        "q0" => to(bids::q0(events::source(job, params)?), output),
        "q1" => to(bids::q1(events::source(job, params)?), output),
        "q2" => to(bids::q2(events::source(job, params)?), output),
        "q5" => to(q5::q5(events::timed_source(job, params)?), output),
        "q7" => to(q7::q7(events::timed_source(job, params)?), output),
        "q14" => to(bids::q14(events::source(job, params)?), output),
        "q21" => to(bids::q21(events::source(job, params)?), output),
        "q22" => to(bids::q22(events::source(job, params)?), output),
        other => {
            let known = "q0, q1, q2, q5, q7, q14, q21, q22";
            return Err(Error::new(format!(
                "parameter 'query' is '{other}', but must be one of {known}"
            )));
        }
    }
    Ok(())
}

fn to<T: Record>(results: Stream<T>, output: Connector) {
    results.sink("result", output);
}
