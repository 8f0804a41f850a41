//! `pelton checkpoint list|show|verify`. Nothing is written, and no job is run.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pelton_model::{Error, ErrorCode, Result};
use serde_json::{Value, json};

use crate::checkpoint::folder::Folder;
use crate::checkpoint::saved::{Saved, store};
use crate::checkpoint::show;
use crate::report::{Exit, Outcome};
use crate::summary::grouped;

use super::Session;

#[derive(Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// List the checkpoints in a folder
    List(FolderArgs),
    /// Show what a checkpoint has: operators, states, positions of sources
    Show(OneArgs),
    /// Read every object of a folder's checkpoints and check it, without running the job
    Verify(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct FolderArgs {
    /// The checkpoint folder's URL; that of the settings, if none is given
    #[arg(value_name = "URL")]
    folder: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Which one, by its id; if none is given, `show` takes the last, `verify` all
    #[arg(long, value_name = "ID")]
    id: Option<u64>,
}

impl FolderArgs {
    fn url(&self, session: &Session) -> Result<String> {
        let given = match &self.folder {
            Some(url) => Some(url.clone()),
            None => session.settings()?.durable.dir,
        };
        given.ok_or_else(|| {
            Error::new(ErrorCode::Usage, "no checkpoint folder is named")
                .help("name its URL, or set `checkpoint.dir`")
        })
    }
}

pub(super) fn run(command: &CheckpointCommand, session: &Session) -> Outcome {
    match command {
        CheckpointCommand::List(args) => list(&args.url(session)?, session),
        CheckpointCommand::Show(args) => {
            let url = args.folder.url(session)?;
            let saved = Saved::checkpoint(&url, store(&url)?, args.id)?;
            super::savepoint::show_saved("checkpoint", &saved, session)
        }
        CheckpointCommand::Verify(args) => verify(&args.folder.url(session)?, args.id, session),
    }
}

fn list(url: &str, session: &Session) -> Outcome {
    let log = Folder::new(store(url)?).read()?;
    let mut items: Vec<(u64, Value)> = Vec::new();
    for (number, metadata, _) in &log.checkpoints {
        items.push((*number, show::item(&metadata.id.to_string(), url, metadata)));
    }
    for (number, error) in &log.broken {
        items.push((
            *number,
            show::broken(&format!("entry {number}"), url, error),
        ));
    }
    items.sort_by_key(|(number, _)| *number);
    let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
    let text = show::items_text(&items);
    session.console.list(&text, "checkpoints", &items)?;
    Ok(Exit::DONE)
}

/// All checkpoints, or one. What several have in common is read once.
fn verify(url: &str, id: Option<u64>, session: &Session) -> Outcome {
    let blobs = store(url)?;
    let log = Folder::new(Arc::clone(&blobs)).read()?;
    let (mut seen, mut bytes, mut faults) = (BTreeSet::new(), 0, Vec::new());
    let mut checked = Vec::new();
    for (_, metadata, _) in &log.checkpoints {
        if id.is_some_and(|id| id != metadata.id) {
            continue;
        }
        let saved = Saved::checkpoint(url, Arc::clone(&blobs), Some(metadata.id))?;
        let (read, wrong) = saved.verify(&mut seen);
        bytes += read;
        faults.extend(wrong.into_iter().map(|e| e.at("checkpoint", metadata.id)));
        checked.push(metadata.id);
    }
    match id {
        None => faults.extend(log.broken.into_iter().map(|(_, e)| e)),
        Some(id) if checked.is_empty() => {
            if let Some((_, error)) = log.broken.into_iter().next_back() {
                return Err(error.into());
            }
            let message = format!("there is no checkpoint {id} in '{url}'");
            return Err(Error::new(ErrorCode::NotFound, message)
                .help("`pelton checkpoint list` shows those of a folder")
                .into());
        }
        Some(_) => {}
    }
    verified(
        "checkpoints",
        url,
        checked.len(),
        (bytes, seen.len()),
        faults,
        session,
    )
}

/// What has come of a check. Errors: `Corrupt`, all faults in its detail.
pub(super) fn verified(
    what: &str,
    url: &str,
    count: usize,
    (bytes, objects): (u64, usize),
    faults: Vec<Error>,
    session: &Session,
) -> Outcome {
    let mut faults = faults.into_iter();
    if let Some(first) = faults.next() {
        let others: Vec<String> = faults.map(|e| e.to_string()).collect();
        let help = "what is damaged is not used: go on from another checkpoint or savepoint";
        let first = first.help(help);
        return Err(match others.is_empty() {
            true => first,
            false => first.detail(others.join("\n")),
        }
        .into());
    }
    let object = json!({
        "kind": "verification",
        "url": url,
        "ok": true,
        "verified": count,
        "objects": objects,
        "bytes": bytes,
    });
    let text = format!(
        "{count} {what} verified: {objects} objects, {} bytes, all as they were written\n",
        grouped(bytes)
    );
    session.console.result(&text, &object, url)?;
    Ok(Exit::DONE)
}
