//! `pelton savepoint create|list|show|verify|delete`. `create` asks the process that runs the job, by a socket in its
//! checkpoint folder; all others look at the store alone.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use clap::{Args, Subcommand};
use pelton_model::{Error, ErrorCode, Result};
use serde_json::Value;

use crate::checkpoint::door::{self, Request};
use crate::checkpoint::saved::{Saved, below, store};
use crate::checkpoint::{read, savepoint, show};
use crate::console::write_err;
use crate::report::{Exit, Outcome};
use crate::settings::millis;

use super::Session;

#[derive(Debug, Subcommand)]
pub(super) enum SavepointCommand {
    /// Take a savepoint of a job that runs, which goes on
    Create(CreateArgs),
    /// List the savepoints in a folder
    List(ListArgs),
    /// Show what a savepoint has: operators, states, positions of sources
    Show(OneArgs),
    /// Read every object of a savepoint and check it, without running the job
    Verify(OneArgs),
    /// Remove a savepoint
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The checkpoint folder of the job, by URL, on this machine; if none is given, that of the settings
    #[arg(long, value_name = "URL")]
    checkpoint_dir: Option<String>,
    /// Where the savepoint goes: a folder that is not there or empty
    #[arg(long, value_name = "URL", conflicts_with = "savepoint_dir")]
    to: Option<String>,
    /// The folder in which it gets one of its own, named after the job and the time
    #[arg(long, value_name = "URL")]
    savepoint_dir: Option<String>,
    /// Wait until it is complete, as is done without, but at most for so long, such as 10m
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    wait: Option<String>,
    /// Return when the job has been asked; whether it succeeds is in the job's own messages
    #[arg(short, long, conflicts_with = "wait")]
    detach: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The folder's URL; if none is given, `savepoint.dir` of the settings
    #[arg(value_name = "URL")]
    folder: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// The savepoint's URL
    #[arg(value_name = "SAVEPOINT")]
    savepoint: String,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(command: &SavepointCommand, session: &Session) -> Outcome {
    match command {
        SavepointCommand::Create(args) => create(args, session),
        SavepointCommand::List(args) => list(args, session),
        SavepointCommand::Show(args) => show_saved("savepoint", &open(&args.savepoint)?, session),
        SavepointCommand::Verify(args) => {
            let saved = open(&args.savepoint)?;
            let mut seen = BTreeSet::new();
            let (bytes, faults) = saved.verify(&mut seen);
            let read = (bytes, seen.len());
            super::checkpoint::verified("savepoint", &saved.url, 1, read, faults, session)
        }
        SavepointCommand::Delete(args) => delete(args, session),
    }
}

/// A savepoint, and not a folder of checkpoints.
fn open(url: &str) -> Result<Saved> {
    let from = savepoint::open(store(url)?).map_err(|e| e.at("savepoint", url))?;
    Ok(Saved {
        url: url.to_owned(),
        from,
        number: None,
        previous: None,
    })
}

fn create(args: &CreateArgs, session: &Session) -> Outcome {
    let settings = session.settings()?;
    let dir = args.checkpoint_dir.clone().or(settings.durable.dir);
    let dir = dir.ok_or_else(|| {
        Error::new(
            ErrorCode::Usage,
            "no checkpoint folder is named: whose savepoint is it",
        )
        .help("name that of the running job with --checkpoint-dir, or set `checkpoint.dir`")
    })?;
    let wait = args.wait.as_deref().filter(|text| !text.is_empty());
    let wait = wait.map(|text| {
        millis(text).map(Duration::from_millis).ok_or_else(|| {
            let message = format!("--wait cannot be '{text}'");
            Error::new(ErrorCode::Usage, message).help("it takes a duration such as 30s or 10m")
        })
    });
    let wait = wait.transpose()?;
    let folder = args.savepoint_dir.clone();
    let request = Request {
        to: args.to.as_deref().map(absolute).transpose()?,
        dir: folder
            .or(settings.durable.savepoints.filter(|_| args.to.is_none()))
            .as_deref()
            .map(absolute)
            .transpose()?,
        wait: !args.detach,
    };
    let object = match door::ask(&dir, &request, wait) {
        Ok(object) => object,
        Err(door::Unanswered::TimedOut) => {
            let error = Error::new(
                ErrorCode::CheckpointFailed,
                "the savepoint is not complete yet; the job goes on with it",
            );
            return Err(crate::report::Failure {
                error,
                exit: Exit(10),
            });
        }
        Err(door::Unanswered::Failed(error)) => return Err(error.into()),
    };
    let url = object["url"].as_str().unwrap_or_default().to_owned();
    let text = match object["complete"].as_bool() {
        Some(true) => format!("{url}\n"),
        _ => format!("{url}, asked for\n"),
    };
    session.console.result(&text, &object, &url)?;
    Ok(Exit::DONE)
}

/// What a plain path means here may be something else where the job runs.
fn absolute(url: &str) -> Result<String> {
    if url.contains("://") {
        return Ok(url.to_owned());
    }
    let path = std::path::absolute(url)
        .map_err(|e| Error::new(ErrorCode::Usage, format!("'{url}' cannot be used: {e}")))?;
    Ok(path.display().to_string())
}

fn list(args: &ListArgs, session: &Session) -> Outcome {
    let url = match &args.folder {
        Some(url) => url.clone(),
        None => session.settings()?.durable.savepoints.ok_or_else(|| {
            Error::new(ErrorCode::Usage, "no folder of savepoints is named")
                .help("name its URL, or set `savepoint.dir`")
        })?,
    };
    let blobs = store(&url)?;
    let mut items: Vec<(i64, Value)> = Vec::new();
    for info in blobs.list("")? {
        let name = match info.name.strip_suffix(savepoint::METADATA) {
            Some("") => String::new(),
            Some(folder) => match folder.strip_suffix('/') {
                // Deeper down it is something else's.
                Some(name) if !name.contains('/') => name.to_owned(),
                _ => continue,
            },
            None => continue,
        };
        let at = match name.as_str() {
            "" => url.clone(),
            name => below(&url, name),
        };
        let name = match name.as_str() {
            "" => url
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default(),
            name => name,
        };
        items.push(match open(&at) {
            Ok(saved) => {
                let metadata = saved.metadata();
                (metadata.at_ms, show::item(name, &at, metadata))
            }
            Err(error) => (i64::MAX, show::broken(name, &at, &error)),
        });
    }
    items.sort_by_key(|(at, _)| *at);
    let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
    session
        .console
        .list(&show::items_text(&items), "savepoints", &items)?;
    Ok(Exit::DONE)
}

/// All of one. `kind`: `savepoint` or `checkpoint`.
pub(super) fn show_saved(kind: &str, saved: &Saved, session: &Session) -> Outcome {
    let mut object = show::object(kind, &saved.url, saved.metadata());
    let positions = read::positions(saved)?;
    let text = show::object_text(&object, &positions);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("positions".to_owned(), Value::Array(positions));
        if let Some(number) = saved.number {
            fields.insert("number".to_owned(), number.into());
        }
    }
    session.console.result(&text, &object, &saved.url)?;
    Ok(Exit::DONE)
}

/// Its objects go before its metadata: what was interrupted is deleted again.
fn delete(args: &DeleteArgs, session: &Session) -> Outcome {
    let url = &args.one.savepoint;
    // One that is damaged is removed, too.
    let job = match open(url) {
        Ok(saved) => format!(" of job '{}'", saved.metadata().job.name),
        Err(e) if e.code() == ErrorCode::Corrupt => String::new(),
        Err(e) => return Err(e.into()),
    };
    let question = format!("the savepoint{job} at {url} is removed for good");
    confirm(&question, args.yes)?;
    let blobs = crate::supervise::store(url)?;
    for info in blobs.list("data")? {
        blobs.delete(&info.name)?;
    }
    blobs.delete(savepoint::METADATA)?;
    let object = serde_json::json!({"kind": "deleted", "url": url});
    let text = format!("{url} is removed\n");
    session.console.result(&text, &object, url)?;
    Ok(Exit::DONE)
}

/// Errors: `Usage` where nobody can be asked, or who is asked says no.
fn confirm(what: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let refused =
        |why: &str| Error::new(ErrorCode::Usage, why).help("--yes does it without asking");
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refused("this removes something, and nobody can be asked"));
    }
    write_err(&format!("{what}. Go on? [y/N] "));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read.is_ok() && matches!(line.trim(), "y" | "yes") {
        true => Ok(()),
        false => Err(refused("nothing was removed")),
    }
}
