//! `pelton config show`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::console::table;
use crate::report::{Exit, Outcome};

use super::Session;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting and its value
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Say where each value comes from
    #[arg(long)]
    origin: bool,
}

pub(super) fn run(command: &ConfigCommand, session: &Session) -> Outcome {
    let ConfigCommand::Show(args) = command;
    let settings = session.settings()?;
    let items: Vec<Value> = settings
        .entries
        .iter()
        .map(|e| json!({"name": e.key, "value": e.value, "origin": e.origin.to_string(), "about": e.about}))
        .collect();
    let rows = settings.entries.iter().map(|e| match args.origin {
        true => vec![e.key.clone(), e.value.clone(), e.origin.to_string()],
        false => vec![e.key.clone(), e.value.clone(), e.about.to_owned()],
    });
    let header = [
        "setting",
        "value",
        if args.origin { "origin" } else { "about" },
    ];
    session.console.list(
        &table(&header, &rows.collect::<Vec<_>>()),
        "settings",
        &items,
    )?;
    Ok(Exit::DONE)
}
