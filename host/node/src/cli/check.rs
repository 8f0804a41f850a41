//! `pelton check FILE..`. Nothing outside is touched but the components' files.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::report::{Exit, Failure, Outcome};
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
    #[command(flatten)]
    settings: SettingsArgs,
}

/// All files are looked at; the first that is refused decides the exit code.
pub(super) fn run(args: &CheckArgs, session: &Session) -> Outcome {
    let settings = args.settings.load(session.flags())?;
    let params = parse_params(&args.param)?;
    let (mut exit, mut text, mut items) = (Exit::DONE, String::new(), Vec::<Value>::new());
    for file in &args.files {
        match accept(file, params.clone(), &settings, None) {
            Ok(accepted) => {
                let (line, item) = accepted_as(file, &accepted);
                text.push_str(&line);
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
