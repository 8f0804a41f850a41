//! A job that takes over state: whether it fits, which sources go on where they stood, what sinks still have to commit.
//! Needs: control's check, engine's sections. Invariant: what does not fit is refused before anything is begun.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_control::upgrade::{Fate, NewJob, Report, check_state};
use pelton_engine::operators::process;
use pelton_engine::snapshot::RestoreFrom;
use pelton_model::checkpoint::{JobRecord, Metadata};
use pelton_model::graph::Body;
use pelton_model::migrate::Declared;
use pelton_model::snapshot::{SectionKind, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};
use serde_json::{Value, json};

use super::show::kind_text;
use crate::wire_up::Accepted;

/// Whether a job can go on from a checkpoint or savepoint. Errors: `StateMismatch`, which names operator, state and
/// field.
pub(crate) fn check(
    accepted: &Accepted,
    job: &JobRecord,
    old: &Metadata,
    allow_non_restored: bool,
) -> Result<Report> {
    let (before, now) = (old.job.max_parallelism, job.max_parallelism);
    if before != now {
        let message = format!("the state has {before} key groups, and the job has {now}");
        return Err(Error::new(ErrorCode::StateMismatch, message)
            .help(format!("run it with --max-parallelism {before}")));
    }
    let operators = sections(accepted, old)?;
    let new = NewJob {
        max_parallelism: now,
        operators: &operators,
    };
    check_state(old, new, allow_non_restored)
}

/// What each operator of the new job would write, as far as it is compared.
fn sections(accepted: &Accepted, old: &Metadata) -> Result<BTreeMap<String, Vec<Declared>>> {
    let graph = &accepted.graph;
    let mut all = BTreeMap::new();
    for id in graph.ids() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let sections = match &operator.body {
            Body::Process(p) => {
                let inputs = (0..p.inputs.len())
                    .filter_map(|input| accepted.needs.input(graph, id, input as u32).cloned());
                let inputs: Vec<_> = inputs.collect();
                let mut sections = process::sections(p, &inputs)?;
                // Timers that did not fit in memory, where there are any.
                let spilled = process::spilled_sections(p, &inputs)?.into_iter();
                sections.extend(spilled.filter(|s| has(old, &operator.uid, &s.section)));
                sections
            }
            // What a window keeps is its own affair: it refuses at restore what it has not written.
            Body::Window(_) | Body::Combine(_) => of_windows(old, &operator.uid),
            _ => Vec::new(),
        };
        all.insert(operator.uid.clone(), sections);
    }
    Ok(all)
}

/// All sections of a checkpoint, in both forms.
fn all_of(old: &Metadata) -> impl Iterator<Item = &SectionSpec> {
    let canonical = old.tasks.iter().flat_map(|t| &t.sections).map(|s| &s.spec);
    let native = old.tasks.iter().flat_map(|t| &t.native);
    canonical.chain(native.flat_map(|n| &n.sections))
}

/// Whether an operator has a section of this name and kind.
fn has(old: &Metadata, uid: &str, section: &SectionSpec) -> bool {
    all_of(old).any(|s| s.uid == uid && s.name == section.name && s.kind == section.kind)
}

fn of_windows(old: &Metadata, uid: &str) -> Vec<Declared> {
    let all = all_of(old);
    let own = |s: &&SectionSpec| {
        s.uid == uid
            && (s.kind == SectionKind::Windows
                || s.kind == SectionKind::Map && SPILLED.contains(&s.name.as_str()))
    };
    let own = all.filter(own).cloned();
    own.map(Declared::from).collect()
}

/// What windows keep in the backend when memory does not hold them.
const SPILLED: [&str; 2] = ["spilled", "spilled.due"];

/// What changes, a sentence each.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for section in &report.sections {
        let (name, uid) = (&section.name, &section.uid);
        match &section.fate {
            Fate::Compatible { changes, .. } => lines.push(format!(
                "state '{name}' of operator '{uid}' is rewritten: {}",
                changes.join(", ")
            )),
            Fate::Migrated { changes, .. } => {
                let mut line = format!(
                    "state '{name}' of operator '{uid}' is migrated by its function, key by key"
                );
                if !changes.is_empty() {
                    line.push_str(&format!(", after it is rewritten: {}", changes.join(", ")));
                }
                lines.push(line);
            }
            Fate::Dropped => {
                lines.push(format!("state '{name}' of operator '{uid}' is left behind"));
            }
            Fate::Same | Fate::New => {}
        }
    }
    let dropped = report.dropped.iter();
    lines.extend(dropped.map(|uid| format!("the state of operator '{uid}' is left behind")));
    lines
}

/// What becomes of each state, for programs.
pub(crate) fn objects(report: &Report) -> Vec<Value> {
    let sections = report.sections.iter().map(|section| {
        let (fate, changes) = match &section.fate {
            Fate::Same => ("same", &[][..]),
            Fate::Compatible { changes, .. } => ("compatible", changes.as_slice()),
            Fate::Migrated { changes, .. } => ("migrated", changes.as_slice()),
            Fate::New => ("new", &[][..]),
            Fate::Dropped => ("dropped", &[][..]),
        };
        json!({
            "operator": section.uid,
            "name": section.name,
            "type": kind_text(section.kind),
            "fate": fate,
            "changes": changes,
        })
    });
    let dropped = report.dropped.iter();
    let dropped = dropped.map(|uid| json!({"operator": uid, "name": null, "fate": "dropped"}));
    sections.chain(dropped).collect()
}

/// The state without the positions of sources that read something else now, and those sources' uids.
pub(crate) fn positions(from: &RestoreFrom, job: &JobRecord) -> (RestoreFrom, Vec<String>) {
    let before = &from.metadata.job.sources;
    let differs = |(uid, options): &&(String, String)| {
        before
            .iter()
            .any(|(u, before)| u == uid && before != options)
    };
    let changed = job.sources.iter().filter(differs);
    let changed: Vec<String> = changed.map(|(uid, _)| uid.clone()).collect();
    if changed.is_empty() {
        return (from.clone(), changed);
    }
    let mut metadata = Metadata::clone(&from.metadata);
    for section in metadata.tasks.iter_mut().flat_map(|t| &mut t.sections) {
        if section.spec.kind == SectionKind::Positions && changed.contains(&section.spec.uid) {
            section.entries = 0;
        }
    }
    let from = RestoreFrom {
        metadata: Arc::new(metadata),
        ..from.clone()
    };
    (from, changed)
}

#[cfg(test)]
mod tests;
