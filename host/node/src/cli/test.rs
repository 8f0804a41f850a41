//! `pelton test [DIR]`.

use std::path::PathBuf;

use clap::Args;
use pelton_model::{Error, ErrorCode, Result};
use serde_json::{Value, json};

use crate::build::{BuildRequest, Built, build};
use crate::case::{self, Case, Trial};
use crate::console::{Format, write_out};
use crate::report::{Exit, Outcome, exit_of};
use crate::settings::Settings;
use crate::signal::Interrupt;

use super::Session;

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// A package, or a workspace: then the cases of every job in it
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Take what comes out as the expected output
    #[arg(long)]
    update: bool,
    /// Run only cases whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

pub(super) fn run(args: &TestArgs, session: &Session) -> Outcome {
    let settings = session.settings()?;
    let request = BuildRequest {
        folder: &args.folder,
        out: None,
        debug: false,
        cache_dir: &settings.cache_dir,
    };
    let built = build(&request, &session.console)?;
    let interrupt = Interrupt::listen()?;
    let mut items = Vec::new();
    for job in &built {
        for case in case::find(&job.job.folder)? {
            if format!("{}/{}", job.job.name, case.name).contains(&args.filter) {
                items.extend(run_case(
                    args,
                    session,
                    &settings,
                    &interrupt,
                    (job, &case),
                )?);
            }
            if let Some(exit) = interrupt.exit() {
                return Ok(exit);
            }
        }
    }
    let failed = items.iter().filter(|i| i["passed"] == false).count();
    let counts = format!("\n{} passed, {failed} failed\n", items.len() - failed);
    match session.console.format {
        Format::Table => write_out(&counts)?,
        _ => session.console.list("", "test-results", &items)?,
    }
    if items.is_empty() {
        session
            .console
            .say("there are no cases: a case is a folder below tests/cases");
    }
    Ok(if failed == 0 {
        Exit::DONE
    } else {
        exit_of(ErrorCode::TestFailed)
    })
}

/// All trials of a case. An update needs one alone.
fn run_case(
    args: &TestArgs,
    session: &Session,
    settings: &Settings,
    interrupt: &Interrupt,
    (built, case): (&Built, &Case),
) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    for (i, parallelism) in case.parallelisms().into_iter().enumerate() {
        let name = format!("{}/{}", built.job.name, case.name);
        let scratch = built
            .file
            .with_extension("test")
            .join(format!("{}-{parallelism}", case.name));
        let trial = Trial {
            parallelism,
            update: args.update && i == 0,
        };
        let ended = case.run(&built.file, &scratch, settings, trial, &interrupt.flag());
        if interrupt.exit().is_some() {
            return Ok(items);
        }
        let error = match ended {
            Ok(None) => None,
            Ok(Some(difference)) => Some(
                Error::new(
                    ErrorCode::TestFailed,
                    "the output differs from what the case expects",
                )
                .at("case", &name)
                .help("`pelton test --update` takes the new output as the expected one")
                .detail(difference),
            ),
            Err(error) => Some(error.at("case", &name)),
        };
        let verdict = if error.is_none() { "ok" } else { "FAILED" };
        if session.console.format == Format::Table {
            write_out(&format!(
                "case {name}, parallelism {parallelism} ... {verdict}\n"
            ))?;
        }
        let code = error.as_ref().map(|e| e.code().as_str());
        items.push(json!({"name": name, "parallelism": parallelism, "passed": error.is_none(), "code": code}));
        if let Some(error) = error {
            session.console.error(&error);
        }
    }
    Ok(items)
}
