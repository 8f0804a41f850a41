//! `pelton check FILE..`. Nothing outside is touched but the components' files, and a savepoint that is named.

use std::path::PathBuf;

use clap::Args;
use pelton_connect::guarantees;
use pelton_engine::connector::Delivery;
use pelton_model::Result;
use pelton_model::graph::Body;
use serde_json::{Value, json};

use crate::checkpoint::saved::Saved;
use crate::checkpoint::takeover;
use crate::report::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::supervise::job_record;
use crate::wire_up::{Accepted, accept, parse_params};

use super::Session;
use super::run::SettingsArgs;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Components
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A parameter of the job
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// Check whether the job can go on from this savepoint, or from the last checkpoint of a folder, by its URL
    #[arg(long, value_name = "SAVEPOINT")]
    against: Option<String>,
    /// Leave behind state that the job has no operator or no state for any more
    #[arg(long, requires = "against")]
    allow_non_restored: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// All files are looked at; the first that is refused decides the exit code.
pub(super) fn run(args: &CheckArgs, session: &Session) -> Outcome {
    let settings = args.settings.load(session.flags())?;
    let params = parse_params(&args.param)?;
    let (mut exit, mut text, mut items) = (Exit::DONE, String::new(), Vec::<Value>::new());
    let against = args.against.as_deref().map(Saved::open).transpose()?;
    for file in &args.files {
        let checked = accept(file, params.clone(), &settings, None).and_then(|accepted| {
            let state = match &against {
                Some(saved) => Some(state(&accepted, &settings, saved, args.allow_non_restored)?),
                None => None,
            };
            Ok((warnings(&accepted)?, state, accepted))
        });
        match checked {
            Ok((warnings, state, accepted)) => {
                let (line, mut item) = accepted_as(file, &accepted);
                text.push_str(&line);
                if let Some((lines, states)) = state {
                    text.push_str(&lines);
                    item["state"] = states.into();
                }
                for warning in &warnings {
                    session.console.say(&format!("warning: {warning}"));
                }
                item["warnings"] = warnings.into();
                items.push(item);
            }
            Err(error) => {
                let failure = Failure::from(error);
                session.console.error(&failure.error);
                if exit == Exit::DONE {
                    exit = failure.exit;
                }
            }
        }
    }
    session.console.list(&text, "accepted-jobs", &items)?;
    Ok(exit)
}

fn accepted_as(file: &std::path::Path, accepted: &Accepted) -> (String, Value) {
    let file = file.display().to_string();
    let (operators, tasks) = (accepted.graph.operators.len(), accepted.plan.tasks.len());
    let line = format!(
        "{file}: job '{}' is accepted: {operators} operators, {tasks} tasks\n",
        accepted.graph.name
    );
    (
        line,
        json!({"name": file, "file": file, "job": accepted.graph.name, "operators": operators, "tasks": tasks}),
    )
}

/// What is not exactly once in this job, whatever the settings.
fn warnings(accepted: &Accepted) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for operator in &accepted.graph.operators {
        let (connector, is_source) = match &operator.body {
            Body::Source(connector) => (connector, true),
            Body::Sink(connector) => (connector, false),
            _ => continue,
        };
        let found = guarantees(&connector.name, &connector.options)?;
        let (operator, connector) = (&operator.name, &connector.name);
        if is_source && found.replays == Some(false) {
            warnings.push(format!(
                "the source '{operator}' ({connector}) cannot be read again from where it was: after a crash rows are lost"
            ));
        }
        if !is_source && found.delivery == Some(Delivery::AtLeastOnce) {
            warnings.push(format!(
                "the sink '{operator}' ({connector}) cannot commit with a checkpoint: after a crash rows come twice"
            ));
        }
    }
    Ok(warnings)
}

/// What becomes of the state of a savepoint, as text and as objects. Errors: `StateMismatch`.
fn state(
    accepted: &Accepted,
    settings: &Settings,
    saved: &Saved,
    allow_non_restored: bool,
) -> Result<(String, Vec<Value>)> {
    let job = job_record(accepted, settings)?;
    let report = takeover::check(accepted, &job, saved.metadata(), allow_non_restored)?;
    let (_, changed) = takeover::positions(&saved.from, &job);
    let mut lines = takeover::lines(&report);
    if lines.is_empty() {
        lines.push("all state is taken over as it is".to_owned());
    }
    lines.extend(changed.iter().map(|uid| {
        format!("source '{uid}' reads something else than then, and begins at its beginning")
    }));
    let text = lines.iter().map(|line| format!("  {line}\n")).collect();
    Ok((text, takeover::objects(&report)))
}
