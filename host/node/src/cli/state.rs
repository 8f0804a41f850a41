//! `pelton state get|scan|top SAVEPOINT`. The job's code is not needed.

use clap::{Args, Subcommand};
use pelton_model::{Error, ErrorCode};
use serde_json::{Value, json};

use crate::checkpoint::read::{self, Wanted};
use crate::checkpoint::saved::Saved;
use crate::checkpoint::show::{StateSize, states};
use crate::console::table;
use crate::report::{Exit, Outcome};
use crate::summary::grouped;

use super::Session;

#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// Read what is kept under a key
    Get(GetArgs),
    /// Read state, an entry after the other
    Scan(ScanArgs),
    /// Show which states and keys are the largest, and how they grow
    Top(TopArgs),
}

/// What is read.
#[derive(Debug, Args)]
struct Selection {
    /// The URL of a savepoint, or of a checkpoint folder: its last checkpoint
    #[arg(value_name = "SAVEPOINT")]
    savepoint: String,
    /// Only this operator's, by its uid or name
    #[arg(long, value_name = "UID")]
    operator: Option<String>,
    /// Only the state of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Selection {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            operator: self.operator.as_deref(),
            name: self.name.as_deref(),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    selection: Selection,
    /// The key: a JSON object with its fields, or the value of its only field
    #[arg(long, value_name = "KEY")]
    key: String,
    /// The most entries
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    selection: Selection,
    /// The most entries
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    selection: Selection,
    /// Show the growth since this savepoint, instead of the checkpoint before
    #[arg(long, value_name = "SAVEPOINT")]
    since: Option<String>,
    /// How many keys are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
}

pub(super) fn run(command: &StateCommand, session: &Session) -> Outcome {
    match command {
        StateCommand::Get(args) => get(args, session),
        StateCommand::Scan(args) => scan(args, session),
        StateCommand::Top(args) => top(args, session),
    }
}

fn get(args: &GetArgs, session: &Session) -> Outcome {
    let saved = Saved::open(&args.selection.savepoint)?;
    let wanted = args.selection.wanted();
    let found = read::entries(&saved, wanted, Some(&args.key), args.limit)?;
    if found.items.is_empty() {
        let message = format!("there is no state under the key {}", args.key);
        return Err(Error::new(ErrorCode::NotFound, message)
            .help("`pelton state scan` shows which keys there are")
            .into());
    }
    show(&found, args.limit, session)
}

fn scan(args: &ScanArgs, session: &Session) -> Outcome {
    let saved = Saved::open(&args.selection.savepoint)?;
    let found = read::entries(&saved, args.selection.wanted(), None, args.limit)?;
    show(&found, args.limit, session)
}

fn show(found: &read::Found, limit: usize, session: &Session) -> Outcome {
    let rows = found.items.iter().map(|item| {
        let below = ["map_key", "window", "time", "split"];
        let below = below.iter().find_map(|name| item.get(*name));
        vec![
            text(&item["operator"]),
            text(&item["name"]),
            text(&item["type"]),
            text(&item["key"]),
            below.map(text).unwrap_or_default(),
            text(&item["value"]),
        ]
    });
    let header = ["operator", "state", "type", "key", "below", "value"];
    let shown = table(&header, &rows.collect::<Vec<_>>());
    session
        .console
        .list(&shown, "state-entries", &found.items)?;
    if found.more {
        let note = format!("there are more: --limit shows more than {limit}");
        session.console.say(&note);
    }
    Ok(Exit::DONE)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    }
}

fn top(args: &TopArgs, session: &Session) -> Outcome {
    let saved = Saved::open(&args.selection.savepoint)?;
    let wanted = args.selection.wanted();
    let previous = match &args.since {
        Some(url) => Some(Saved::open(url)?.from.metadata),
        None => saved.previous.clone(),
    };
    let before = previous.as_ref().map(|metadata| states(metadata));
    let operators = &saved.metadata().operators;
    let is_wanted = |uid: &str, name: &str| {
        let called = |o: &str| uid == o || operators.iter().any(|op| op.uid == uid && op.name == o);
        wanted.operator.is_none_or(called) && wanted.name.is_none_or(|n| n == name)
    };
    let mut sizes: Vec<_> = states(saved.metadata()).into_iter().collect();
    sizes.retain(|((uid, name, _), _)| is_wanted(uid, name));
    sizes.sort_by(|a, b| b.1.bytes.cmp(&a.1.bytes).then_with(|| a.0.cmp(&b.0)));
    let mut items = Vec::new();
    for ((uid, name, kind), size) in &sizes {
        let was = before.as_ref().map(|before| {
            let key = (uid.clone(), name.clone(), kind.clone());
            before.get(&key).cloned().unwrap_or_default()
        });
        items.push(state_item((uid, name, kind), size, was.as_ref()));
    }
    let keys = read::largest(&saved, wanted, args.limit)?;
    let keys: Vec<Value> = keys
        .into_iter()
        .map(|k| json!({"operator": k.operator, "key": k.key, "entries": k.entries, "bytes": k.bytes}))
        .collect();
    let since = previous.as_ref().map(|metadata| metadata.id);
    let object = json!({
        "kind": "state-sizes",
        "url": saved.url,
        "id": saved.metadata().id,
        "since": since,
        "items": items,
        "largest_keys": keys,
    });
    let shown = top_text(&items, &keys);
    session.console.result(&shown, &object, &saved.url)?;
    Ok(Exit::DONE)
}

fn state_item(
    (uid, name, kind): (&str, &str, &str),
    size: &StateSize,
    was: Option<&StateSize>,
) -> Value {
    let grown = |is: u64, was: u64| i128::from(is) - i128::from(was);
    let grown = |is, was| i64::try_from(grown(is, was)).unwrap_or(i64::MAX);
    let entries = size
        .entries
        .zip(was)
        .map(|(is, was)| grown(is, was.entries.unwrap_or_default()));
    json!({
        "operator": uid,
        "name": name,
        "type": kind,
        "entries": size.entries,
        "bytes": size.bytes,
        "grown_entries": entries,
        "grown_bytes": was.map(|was| grown(size.bytes, was.bytes)),
    })
}

fn top_text(items: &[Value], keys: &[Value]) -> String {
    let number = |value: &Value| value.as_u64().map(grouped).unwrap_or_default();
    let signed = |value: &Value| {
        value.as_i64().map_or_else(String::new, |n| {
            let sign = if n < 0 { "-" } else { "+" };
            format!("{sign}{}", grouped(n.unsigned_abs()))
        })
    };
    let rows = items.iter().map(|item| {
        vec![
            text(&item["operator"]),
            text(&item["name"]),
            text(&item["type"]),
            number(&item["entries"]),
            number(&item["bytes"]),
            signed(&item["grown_entries"]),
            signed(&item["grown_bytes"]),
        ]
    });
    let header = [
        "operator", "state", "type", "entries", "bytes", "grown by", "bytes",
    ];
    let mut shown = table(&header, &rows.collect::<Vec<_>>());
    if !keys.is_empty() {
        let rows = keys.iter().map(|key| {
            vec![
                text(&key["operator"]),
                text(&key["key"]),
                number(&key["entries"]),
                number(&key["bytes"]),
            ]
        });
        shown.push('\n');
        let header = ["operator", "largest keys", "entries", "bytes"];
        shown.push_str(&table(&header, &rows.collect::<Vec<_>>()));
    }
    shown
}
