//! `pelton explain FILE`. What the graph looks like is said in [`crate::explain`].

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::console::{Format, write_out};
use crate::explain;
use crate::report::{Exit, Outcome};
use crate::wire_up::{accept, parse_params};

use super::Session;
use super::run::SettingsArgs;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to show it as
    #[arg(long, value_enum)]
    format: Option<View>,
    /// A parameter of the job
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum View {
    /// Chain by chain, for people
    Text,
    /// One object
    Json,
    /// For Graphviz
    Dot,
}

pub(super) fn run(args: &ExplainArgs, session: &Session) -> Outcome {
    let settings = args.settings.load(session.flags())?;
    let accepted = accept(&args.file, parse_params(&args.param)?, &settings, None)?;
    let view = args.format.unwrap_or(match session.console.format {
        Format::Table | Format::Name => View::Text,
        Format::Json | Format::Jsonl => View::Json,
    });
    write_out(&match view {
        View::Text => explain::text(&accepted),
        View::Json => format!("{}\n", explain::object(&accepted)),
        View::Dot => explain::dot(&accepted),
    })?;
    Ok(Exit::DONE)
}
