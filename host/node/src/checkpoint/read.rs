//! Reads the state in a savepoint or a checkpoint as JSON, by operator, name and key; without the job.
//! Needs: saved, json, the format of snapshots. Refuses: files of a backend, which that backend alone reads.

use std::collections::HashMap;

use pelton_model::checkpoint::{SectionRecord, TaskRecord};
use pelton_model::key::{KeyGroup, hash_bytes};
use pelton_model::snapshot::{BlockRef, Distribution, Entry, NO_GROUP, SectionKind, SectionSpec};
use pelton_model::time::EventTime;
use pelton_model::{Error, ErrorCode, Result};
use serde_json::{Map, Value, json};

use super::json::{key, row};
use super::saved::Saved;
use super::show::kind_text;

/// Keys that are counted at once: a pass over their key groups each.
const KEYS_A_PASS: u64 = 1 << 20;

/// Which states are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// By the operator's uid, or its name.
    pub(crate) operator: Option<&'a str>,
    /// By the state's name.
    pub(crate) name: Option<&'a str>,
}

impl Wanted<'_> {
    fn takes(&self, saved: &Saved, spec: &SectionSpec) -> bool {
        let shown = match self.name {
            Some(name) => spec.name == name,
            // Where sources and sinks stand is shown elsewhere.
            None => spec.kind.is_state() || spec.kind.distribution() == Distribution::KeyGroup,
        };
        shown && self.operator.is_none_or(|o| is_called(saved, &spec.uid, o))
    }

    /// Errors: `NotFound` for an operator or a state that is not there; `Usage` for state in files of a backend.
    fn check(&self, saved: &Saved) -> Result<()> {
        let metadata = saved.metadata();
        if let Some(operator) = self.operator
            && !metadata
                .operators
                .iter()
                .any(|o| o.uid == operator || o.name == operator)
        {
            let all: Vec<&str> = metadata.operators.iter().map(|o| o.uid.as_str()).collect();
            let message = format!("there is no operator '{operator}' in '{}'", saved.url);
            return Err(Error::new(ErrorCode::NotFound, message)
                .help(format!("the operators are: {}", all.join(", "))));
        }
        let canonical = metadata.tasks.iter().flat_map(|t| &t.sections);
        let mut canonical = canonical.map(|s| &s.spec);
        if let Some(name) = self.name
            && canonical.any(|s| s.name == name && self.takes(saved, s))
        {
            return Ok(());
        }
        for native in metadata.tasks.iter().flat_map(|t| &t.native) {
            if let Some(spec) = native.sections.iter().find(|s| self.takes(saved, s)) {
                let message = format!(
                    "state '{}' of operator '{}' is in files of '{}', which the job alone reads",
                    spec.name, native.uid, native.format
                );
                return Err(Error::new(ErrorCode::Usage, message)
                    .help("take a savepoint, which can be read: `pelton savepoint create`"));
            }
        }
        let Some(name) = self.name else { return Ok(()) };
        let sections = metadata.tasks.iter().flat_map(|t| &t.sections);
        let mut names: Vec<&str> = sections
            .map(|s| &s.spec)
            .filter(|s| self.operator.is_none_or(|o| is_called(saved, &s.uid, o)))
            .map(|s| s.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let message = format!("there is no state '{name}' in '{}'", saved.url);
        Err(Error::new(ErrorCode::NotFound, message)
            .help(format!("there are: {}", names.join(", "))))
    }
}

fn is_called(saved: &Saved, uid: &str, name: &str) -> bool {
    let operators = &saved.metadata().operators;
    uid == name || operators.iter().any(|o| o.uid == uid && o.name == name)
}

/// Entries that were read, and whether there are more.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) items: Vec<Value>,
    pub(crate) more: bool,
}

/// The first entries, of all keys or of one. Errors: those of the selection; `Usage` for text that is no key; `Corrupt`;
/// the store's.
pub(crate) fn entries(
    saved: &Saved,
    wanted: Wanted<'_>,
    key_text: Option<&str>,
    limit: usize,
) -> Result<Found> {
    wanted.check(saved)?;
    let mut found = Found::default();
    let (mut fits, mut refused) = (false, None);
    for task in &saved.metadata().tasks {
        for (number, section) in task.sections.iter().enumerate() {
            if section.entries == 0 || !wanted.takes(saved, &section.spec) {
                continue;
            }
            let one = match key_text {
                None => None,
                Some(_) if section.spec.key.is_empty() => continue,
                Some(text) => match key(&section.spec.key, text) {
                    Ok(key) => Some(key),
                    Err(e) => {
                        refused = refused.or(Some(e.at("operator", &section.spec.uid)));
                        continue;
                    }
                },
            };
            fits = true;
            let from = Part {
                saved,
                task,
                number,
                section,
            };
            from.read(one.as_deref(), limit, &mut found)?;
            if found.more {
                return Ok(found);
            }
        }
    }
    match refused {
        Some(error) if !fits => Err(error),
        _ => Ok(found),
    }
}

/// One section of one task.
struct Part<'a> {
    saved: &'a Saved,
    task: &'a TaskRecord,
    number: usize,
    section: &'a SectionRecord,
}

impl Part<'_> {
    fn read(&self, key: Option<&[u8]>, limit: usize, found: &mut Found) -> Result<()> {
        let Some(file) = &self.task.state else {
            return Ok(());
        };
        let key_groups = self.saved.metadata().job.max_parallelism;
        let group = key.map(|k| KeyGroup::of(hash_bytes(k), key_groups).0);
        let mine = |b: &BlockRef| {
            b.section as usize == self.number && group.is_none_or(|group| b.group == group)
        };
        let read = self.saved.from.blocks(file, mine, |block| {
            block.entries(|entry| {
                if key.is_some_and(|key| key != entry.key) {
                    return Ok(());
                }
                if found.items.len() >= limit {
                    found.more = true;
                    // What is not shown is not read, either.
                    return Err(Error::new(ErrorCode::Cancelled, "enough is read"));
                }
                let spec = &self.section.spec;
                let item = show(spec, block.group, entry);
                found.items.push(item.map_err(|e| {
                    e.at("operator", format!("'{}'", spec.uid))
                        .at("state", format!("'{}'", spec.name))
                })?);
                Ok(())
            })
        });
        match read {
            Err(_) if found.more => Ok(()),
            other => other,
        }
    }
}

/// An entry as an object. Errors: `Corrupt`.
fn show(spec: &SectionSpec, group: u32, entry: Entry<'_>) -> Result<Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("operator", json!(spec.uid));
    put("name", json!(spec.name));
    put("type", json!(kind_text(spec.kind)));
    if group != NO_GROUP {
        put("key_group", json!(group));
        put("key", row(&spec.key, entry.key)?);
    }
    if matches!(
        spec.kind,
        SectionKind::EventTimers | SectionKind::ProcessingTimers
    ) {
        let time = row(&spec.sub, entry.sub)?;
        let time = time["time"].as_i64().map(|ms| EventTime(ms).to_string());
        put("time", json!(time));
        return Ok(Value::Object(object));
    }
    if !entry.sub.is_empty() || !spec.sub.is_empty() {
        let name = match spec.kind {
            SectionKind::Windows => "window",
            SectionKind::Positions => "split",
            _ => "map_key",
        };
        put(name, row(&spec.sub, entry.sub)?);
    }
    let mut value = entry.value;
    if spec.stamped
        && let Some((stamp, rest)) = value.split_first_chunk()
    {
        put(
            "stamp",
            json!(EventTime(i64::from_be_bytes(*stamp)).to_string()),
        );
        value = rest;
    }
    put("value", row(&spec.value, value)?);
    Ok(Value::Object(object))
}

/// Where sources stand. Errors: `Corrupt`; the store's.
pub(crate) fn positions(saved: &Saved) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for task in &saved.metadata().tasks {
        for (number, section) in task.sections.iter().enumerate() {
            if section.spec.kind != SectionKind::Positions || section.entries == 0 {
                continue;
            }
            let part = Part {
                saved,
                task,
                number,
                section,
            };
            let mut found = Found::default();
            part.read(None, usize::MAX, &mut found)?;
            all.extend(found.items.into_iter().map(|item| {
                json!({"source": item["operator"], "split": item["split"], "position": item["value"]})
            }));
        }
    }
    Ok(all)
}

/// A key with all that an operator has under it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LargeKey {
    pub(crate) operator: String,
    pub(crate) key: Value,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// The keys with the most bytes, over the canonical sections. Errors: `Corrupt`; the store's.
pub(crate) fn largest(saved: &Saved, wanted: Wanted<'_>, count: usize) -> Result<Vec<LargeKey>> {
    let metadata = saved.metadata();
    let keyed = |s: &SectionRecord| !s.spec.key.is_empty() && wanted.takes(saved, &s.spec);
    let sections = metadata.tasks.iter().flat_map(|t| &t.sections);
    let entries: u64 = sections.filter(|s| keyed(s)).map(|s| s.entries).sum();
    let groups = metadata.job.max_parallelism.max(1);
    let passes = entries.div_ceil(KEYS_A_PASS).clamp(1, u64::from(groups)) as u32;
    let mut all: Vec<LargeKey> = Vec::new();
    for pass in 0..passes {
        // By operator: its keys, each with entries and bytes.
        let mut sums: HashMap<&str, HashMap<Vec<u8>, (u64, u64)>> = HashMap::new();
        let mut fields: HashMap<&str, &SectionSpec> = HashMap::new();
        for task in &metadata.tasks {
            let Some(file) = &task.state else { continue };
            let section = |number: u32| task.sections.get(number as usize).filter(|s| keyed(s));
            let mine = |b: &BlockRef| {
                b.group != NO_GROUP && b.group % passes == pass && section(b.section).is_some()
            };
            saved.from.blocks(file, mine, |block| {
                let Some(section) = section(block.section) else {
                    return Ok(());
                };
                let uid = section.spec.uid.as_str();
                fields.insert(uid, &section.spec);
                let sums = sums.entry(uid).or_default();
                block.entries(|entry| {
                    let bytes = entry.key.len() + entry.sub.len() + entry.value.len();
                    if let Some(sum) = sums.get_mut(entry.key) {
                        *sum = (sum.0 + 1, sum.1 + bytes as u64);
                    } else {
                        sums.insert(entry.key.to_vec(), (1, bytes as u64));
                    }
                    Ok(())
                })
            })?;
        }
        for (uid, keys) in sums {
            let Some(spec) = fields.get(uid) else {
                continue;
            };
            let mut keys: Vec<_> = keys.into_iter().collect();
            keys.sort_by(|a, b| b.1.1.cmp(&a.1.1).then_with(|| a.0.cmp(&b.0)));
            for (key, (entries, bytes)) in keys.into_iter().take(count) {
                all.push(LargeKey {
                    operator: uid.to_owned(),
                    key: row(&spec.key, &key)?,
                    entries,
                    bytes,
                });
            }
        }
        all.sort_by(|a, b| {
            b.bytes
                .cmp(&a.bytes)
                .then_with(|| a.operator.cmp(&b.operator))
        });
        all.truncate(count);
    }
    Ok(all)
}
