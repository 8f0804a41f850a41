//! `pelton build [DIR]`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::build::{BuildRequest, build};
use crate::report::{Exit, Outcome};

use super::Session;

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// A package, or a workspace: then every job in it
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Where components go, instead of `target/pelton` of the workspace
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep source lines, for the backtraces of traps
    #[arg(long)]
    debug: bool,
}

pub(super) fn run(args: &BuildArgs, session: &Session) -> Outcome {
    let settings = session.settings()?;
    let request = BuildRequest {
        folder: &args.folder,
        out: args.out.as_deref(),
        debug: args.debug,
        cache_dir: &settings.cache_dir,
    };
    let built = build(&request, &session.console)?;
    let items: Vec<Value> = built
        .iter()
        .map(|b| {
            let file = b.file.display().to_string();
            json!({"name": file, "job": b.job.name, "version": b.job.version, "file": file, "bytes": b.bytes})
        })
        .collect();
    let text: String = built
        .iter()
        .map(|b| format!("{} ({} KiB)\n", shown(&b.file), b.bytes.div_ceil(1024)))
        .collect();
    session.console.list(&text, "components", &items)?;
    Ok(Exit::DONE)
}

/// Relative to where the user is, if it lies below.
fn shown(file: &std::path::Path) -> String {
    let here = std::env::current_dir().and_then(|h| h.canonicalize());
    let below = here.ok().and_then(|h| file.strip_prefix(h).ok());
    below.unwrap_or(file).display().to_string()
}
