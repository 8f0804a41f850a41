//! What a checkpoint or a savepoint has, for people and programs.
//! Needs: model::checkpoint. Refuses: to read the state itself.

use std::collections::BTreeMap;

use pelton_model::checkpoint::{Metadata, TaskRecord};
use pelton_model::snapshot::SectionKind;
use pelton_model::time::EventTime;
use serde_json::{Value, json};

use crate::console::table;
use crate::summary::grouped;

/// One state of one operator, over all tasks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct StateSize {
    /// None: in files of a backend, which do not say.
    pub(crate) entries: Option<u64>,
    pub(crate) bytes: u64,
}

/// Operator, name, kind: as in the metadata; or a backend's format instead of a kind, for all that is in its files.
pub(crate) type StateName = (String, String, String);

/// What the name of a kind is in results.
pub(crate) fn kind_text(kind: SectionKind) -> String {
    let text = serde_json::to_value(kind).ok();
    let text = text.as_ref().and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// The states that it has, without those of which there is nothing.
pub(crate) fn states(metadata: &Metadata) -> BTreeMap<StateName, StateSize> {
    let mut all: BTreeMap<StateName, StateSize> = BTreeMap::new();
    for task in &metadata.tasks {
        for section in task.sections.iter().filter(|s| s.entries > 0) {
            let spec = &section.spec;
            let name = (spec.uid.clone(), spec.name.clone(), kind_text(spec.kind));
            let size = all.entry(name).or_default();
            size.entries = Some(size.entries.unwrap_or_default() + section.entries);
            size.bytes += section.bytes;
        }
        for native in &task.native {
            let name = (native.uid.clone(), "*".to_owned(), native.format.clone());
            let bytes: u64 = native.files.iter().map(|f| f.file.length).sum();
            all.entry(name).or_default().bytes += bytes;
        }
    }
    all
}

/// Bytes of all its objects and of what stands in its own entry.
pub(crate) fn bytes(metadata: &Metadata) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    let new = |f: &&pelton_model::checkpoint::StoredFile| {
        f.name.as_ref().is_none_or(|name| seen.insert(name.clone()))
    };
    metadata.objects().filter(new).map(|f| f.length).sum()
}

/// A line of a list.
pub(crate) fn item(name: &str, url: &str, metadata: &Metadata) -> Value {
    json!({
        "name": name,
        "url": url,
        "id": metadata.id,
        "job": metadata.job.name,
        "at": EventTime(metadata.at_ms).to_string(),
        "term": metadata.term,
        "savepoint": metadata.savepoint,
        "finished": metadata.finished,
        "operators": metadata.operators.len(),
        "tasks": metadata.tasks.len(),
        "bytes": bytes(metadata),
        "broken": Value::Null,
    })
}

/// A line of a list, of something that cannot be read.
pub(crate) fn broken(name: &str, url: &str, error: &pelton_model::Error) -> Value {
    json!({"name": name, "url": url, "broken": error.to_string()})
}

/// Such lines as a table.
pub(crate) fn items_text(items: &[Value]) -> String {
    let rows = items.iter().map(|item| {
        let text = |name: &str| match &item[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let bytes = item["bytes"].as_u64().map(grouped).unwrap_or_default();
        let note = match (&item["broken"], &item["finished"]) {
            (Value::String(why), _) => format!("broken: {why}"),
            (_, Value::Bool(true)) => "the job had finished".to_owned(),
            _ => String::new(),
        };
        vec![
            text("name"),
            text("id"),
            text("job"),
            text("at"),
            text("tasks"),
            bytes,
            note,
        ]
    });
    let header = ["name", "id", "job", "at", "tasks", "bytes", ""];
    table(&header, &rows.collect::<Vec<_>>())
}

/// All of it. `kind`: `savepoint` or `checkpoint`.
pub(crate) fn object(kind: &str, url: &str, metadata: &Metadata) -> Value {
    let operators = metadata.operators.iter().map(|operator| {
        let of_it = |t: &&TaskRecord| t.operators.contains(&operator.uid);
        let tasks: Vec<&TaskRecord> = metadata.tasks.iter().filter(of_it).collect();
        let finished = tasks.iter().filter(|t| t.finished).count();
        let committables = metadata.committables().filter(|c| c.uid == operator.uid);
        let states = states(metadata);
        let states = states.iter().filter(|((uid, ..), _)| *uid == operator.uid);
        let states = states.map(|((_, name, kind), size)| {
            json!({"name": name, "type": kind, "entries": size.entries, "bytes": size.bytes})
        });
        json!({
            "uid": operator.uid,
            "name": operator.name,
            "parallelism": operator.parallelism,
            "tasks": tasks.len(),
            "finished_tasks": finished,
            "committables": committables.count(),
            "states": states.collect::<Vec<_>>(),
        })
    });
    let sources = metadata.job.sources.iter();
    let sources = sources.map(|(uid, reads)| json!({"uid": uid, "reads": reads}));
    let params = metadata.job.params.iter();
    let params = params.map(|(name, value)| (name.clone(), json!(value)));
    json!({
        "kind": kind,
        "url": url,
        "id": metadata.id,
        "at": EventTime(metadata.at_ms).to_string(),
        "term": metadata.term,
        "attempt": metadata.attempt,
        "savepoint": metadata.savepoint,
        "finished": metadata.finished,
        "job": metadata.job.name,
        "component": metadata.job.component,
        "params": params.collect::<serde_json::Map<_, _>>(),
        "key_groups": metadata.job.max_parallelism,
        "sources": sources.collect::<Vec<_>>(),
        "tasks": metadata.tasks.len(),
        "objects": metadata.objects().filter(|f| f.name.is_some()).count(),
        "bytes": bytes(metadata),
        "operators": operators.collect::<Vec<_>>(),
    })
}

/// The same for people; `positions` are those of [`super::read::positions`].
pub(crate) fn object_text(object: &Value, positions: &[Value]) -> String {
    let text = |name: &str| match &object[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let number = |value: &Value| value.as_u64().map_or_else(|| "?".to_owned(), grouped);
    let mut out = format!(
        "{} {} of job '{}', {}\n{}\n{} bytes in {} objects, {} tasks, {} key groups\n",
        text("kind"),
        text("id"),
        text("job"),
        text("at"),
        text("url"),
        number(&object["bytes"]),
        text("objects"),
        text("tasks"),
        text("key_groups"),
    );
    if object["finished"] == true {
        out.push_str("the job had finished\n");
    }
    out.push('\n');
    let mut rows = Vec::new();
    for operator in object["operators"].as_array().into_iter().flatten() {
        let uid = operator["uid"].as_str().unwrap_or_default().to_owned();
        let parallelism = operator["parallelism"].to_string();
        let mut first = vec![uid, parallelism];
        if operator["committables"].as_u64().unwrap_or_default() > 0 {
            let count = number(&operator["committables"]);
            let mut row = first.clone();
            row.extend(["".into(), "committables".into(), count, "".into()]);
            rows.push(row);
            first = vec![String::new(); 2];
        }
        for state in operator["states"].as_array().into_iter().flatten() {
            let mut row = std::mem::replace(&mut first, vec![String::new(); 2]);
            let of = |name: &str| state[name].as_str().unwrap_or_default().to_owned();
            row.extend([
                of("name"),
                of("type"),
                number(&state["entries"]),
                number(&state["bytes"]),
            ]);
            rows.push(row);
        }
    }
    let header = ["operator", "tasks", "state", "type", "entries", "bytes"];
    out.push_str(&table(&header, &rows));
    if !positions.is_empty() {
        out.push('\n');
        let rows = positions.iter().map(|p| {
            let of = |name: &str| {
                p[name]
                    .as_str()
                    .map_or_else(|| p[name].to_string(), str::to_owned)
            };
            vec![of("source"), of("split"), of("position")]
        });
        let header = ["source", "split", "position"];
        out.push_str(&table(&header, &rows.collect::<Vec<_>>()));
    }
    out
}
