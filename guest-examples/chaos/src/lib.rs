//! Jobs whose results are a function of event time alone, to be killed and started again: `--param job=sum`.

use pelton::prelude::*;

mod input;
mod join;
mod rules;
mod sessions;
mod sum;
mod windows;

/// Builds the job that the parameters ask for.
///
/// # Errors
/// A parameter that is missing, or not one of its values.
#[pelton::job]
pub fn chaos(job: &mut Job, params: &Params) -> Result<()> {
    let name = params.require("job")?;
    job.name(format!("chaos-{name}"));
    let folder = params.require("output")?;
    let json = || files::json_sink(folder);
    match name {
        "sum" => to(sum::sums(job, params)?, json()),
        "sessions" => to(sessions::sessions(job, params)?, json()),
        "join" => to(join::near(job, params)?, json()),
        "rules" => to(rules::met(job, params)?, json()),
        "windows" => to(windows::sums(job, params)?, files::csv_sink(folder)),
        other => {
            return Err(Error::new(format_args!(
                "parameter 'job' is '{other}', but must be one of sum, sessions, join, rules, windows"
            )));
        }
    }
    Ok(())
}

fn to<T: Record>(rows: Stream<T>, output: Connector) {
    rows.sink("out", output).uid("out");
}
