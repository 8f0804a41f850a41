//! Whether a job can go on from a checkpoint or savepoint of another version of it, state by state.
//! Needs: `model::{checkpoint, migrate}`. Refuses: reading the state, and comparing what functions do with it.
//!
//! State is found by the operator's uid, the state's name and its kind. Of what an operator has besides its declared
//! states, timers and windows are checked likewise; how far a source or a watermark was, what a sink's writer needs and
//! what was in flight are the operator's own affair at restore.

use std::collections::BTreeMap;

use pelton_model::checkpoint::{Metadata, TaskRecord};
use pelton_model::graph::Past;
use pelton_model::migrate::{Declared, Differences, Migration, key_fault, taker};
use pelton_model::snapshot::{SectionKind, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};

/// The new version of a job.
#[derive(Clone, Copy, Debug)]
pub struct NewJob<'a> {
    /// Its number of key groups.
    pub max_parallelism: u32,
    /// By uid, for every operator that it has: the sections that it would write. Declared states, timers and windows;
    /// others are passed over.
    pub operators: &'a BTreeMap<String, Vec<Declared>>,
}

/// What becomes of the state, where all can be kept.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// Each state, timers and windows included.
    pub sections: Vec<SectionReport>,
    /// Operators that the new version lacks, with state that is not restored.
    pub dropped: Vec<String>,
}

/// What becomes of one state.
#[derive(Clone, PartialEq, Debug)]
pub struct SectionReport {
    /// The operator's uid.
    pub uid: String,
    /// The state's name.
    pub name: String,
    /// What it is.
    pub kind: SectionKind,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of one state.
#[derive(Clone, PartialEq, Debug)]
pub enum Fate {
    /// It is the same.
    Same,
    /// Its values are rewritten as they are read.
    Compatible {
        /// What is different, in words.
        changes: Vec<String>,
        /// How each value is rewritten.
        plan: Box<Migration>,
    },
    /// The user's function migrates its values, key by key, as they are used; until then another state keeps them.
    Migrated {
        /// That state.
        keeper: String,
        /// What is different in the keeper, in words.
        changes: Vec<String>,
    },
    /// It begins empty.
    New,
    /// It is not restored, as was allowed.
    Dropped,
}

impl Report {
    /// Whether values stay as they are, and all of them.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let same = |s: &SectionReport| matches!(s.fate, Fate::Same | Fate::New);
        self.dropped.is_empty() && self.sections.iter().all(same)
    }
}

/// Something that does not fit.
struct Fault {
    operator: String,
    state: Option<String>,
    field: Option<String>,
    what: String,
    /// Accepted where state may be left behind.
    loss: bool,
}

/// Checks all state of `old` against the new version. With `allow_non_restored`, what the new version has no place for is
/// left behind: operators, states and fields.
///
/// Errors: `StateMismatch`, which names operator, state and field of the first thing that does not fit; its detail has
/// the others, a line each.
pub fn check_state(old: &Metadata, new: NewJob<'_>, allow_non_restored: bool) -> Result<Report> {
    if old.job.max_parallelism != new.max_parallelism {
        let message = format!(
            "the state has {} key groups, and the job {}",
            old.job.max_parallelism, new.max_parallelism
        );
        return Err(Error::new(ErrorCode::StateMismatch, message)
            .help("the max parallelism of a job stays as it was in its first start"));
    }
    let mut faults = Vec::new();
    let mut report = Report::default();
    let olds = operators(old);
    for (uid, had) in &olds {
        match new.operators.get(*uid) {
            Some(has) => check_operator(uid, had, has, &mut report, &mut faults),
            None if had.anything => {
                report.dropped.push((*uid).to_owned());
                faults.push(Fault {
                    operator: (*uid).to_owned(),
                    state: None,
                    field: None,
                    what: "the job has no operator with this uid any more".to_owned(),
                    loss: true,
                });
            }
            None => {}
        }
    }
    for (uid, has) in new.operators {
        if !olds.contains_key(uid.as_str()) {
            let new = has.iter().map(|d| &d.section);
            let new = new.filter(|s| is_checked(s.kind));
            let new = new.map(|s| SectionReport::of(uid, s, Fate::New));
            report.sections.extend(new);
        }
    }
    faults.retain(|fault| !(fault.loss && allow_non_restored));
    match faults.is_empty() {
        true => Ok(report),
        false => Err(refusal(&faults)),
    }
}

/// What an operator had, over all its tasks.
#[derive(Default)]
struct Had<'a> {
    /// Each section in each form that it has, with whether it may have entries.
    sections: Vec<(&'a SectionSpec, bool)>,
    /// Whether there is something to lose.
    anything: bool,
}

impl<'a> Had<'a> {
    fn add(&mut self, spec: &'a SectionSpec, filled: bool) {
        // Where the event time was and what flowed means nothing without the operator.
        let passing = matches!(spec.kind, SectionKind::Watermark | SectionKind::InFlight);
        self.anything |= filled && !passing;
        match self.sections.iter_mut().find(|(s, _)| *s == spec) {
            Some((_, some)) => *some |= filled,
            None => self.sections.push((spec, filled)),
        }
    }
}

fn operators(old: &Metadata) -> BTreeMap<&str, Had<'_>> {
    let mut all: BTreeMap<&str, Had<'_>> = BTreeMap::new();
    for operator in &old.operators {
        all.entry(&operator.uid).or_default();
    }
    for task in &old.tasks {
        for (spec, filled) in sections(task) {
            all.entry(&spec.uid).or_default().add(spec, filled);
        }
        for committable in &task.committables {
            all.entry(&committable.uid).or_default().anything = true;
        }
    }
    all
}

/// Sections of a task in either form, with whether they may have entries.
fn sections(task: &TaskRecord) -> impl Iterator<Item = (&SectionSpec, bool)> {
    let canonical = task.sections.iter().map(|s| (&s.spec, s.entries > 0));
    let native = task.native.iter().flat_map(|n| &n.sections);
    canonical.chain(native.map(|spec| (spec, true)))
}

fn is_checked(kind: SectionKind) -> bool {
    kind.is_state()
        || matches!(
            kind,
            SectionKind::EventTimers | SectionKind::ProcessingTimers | SectionKind::Windows
        )
}

fn check_operator(
    uid: &str,
    had: &Had<'_>,
    has: &[Declared],
    report: &mut Report,
    faults: &mut Vec<Fault>,
) {
    let same = |a: &SectionSpec, b: &SectionSpec| a.name == b.name && a.kind == b.kind;
    for (was, filled) in had.sections.iter().filter(|(s, _)| is_checked(s.kind)) {
        let taker = taker(was, has).and_then(|place| has.get(place));
        let fate = match taker {
            Some(is) if is.section.kind == was.kind => compare(uid, was, is, *filled, faults),
            _ if !filled => continue,
            other => {
                let other = other.filter(|_| was.kind.is_state());
                faults.push(no_place(uid, was, other.map(|is| is.section.kind)));
                Fate::Dropped
            }
        };
        report.sections.push(SectionReport::of(uid, was, fate));
    }
    for is in has.iter().map(|d| &d.section) {
        let before = had.sections.iter().any(|(was, _)| same(is, was));
        if is_checked(is.kind) && !before {
            report.sections.push(SectionReport::of(uid, is, Fate::New));
        }
    }
}

/// A state that nothing takes; `is` is what the one of its name is.
fn no_place(uid: &str, was: &SectionSpec, is: Option<SectionKind>) -> Fault {
    let former = was.name.rsplit_once(Past::OF).map(|(state, _)| state);
    let what = match (is, former) {
        (Some(is), _) => format!("it is {}, and was {}", kind(is), kind(was.kind)),
        (None, Some(state)) => format!(
            "values of '{state}' that wait to be migrated have no place any more: keep its migrate function until a savepoint has none"
        ),
        (None, None) => "the operator has no such state any more".to_owned(),
    };
    Fault {
        operator: uid.to_owned(),
        state: Some(title(was)),
        field: None,
        loss: is.is_none(),
        what,
    }
}

fn compare(
    uid: &str,
    was: &SectionSpec,
    declared: &Declared,
    filled: bool,
    faults: &mut Vec<Fault>,
) -> Fate {
    if !filled {
        return Fate::New;
    }
    let is = &declared.section;
    let mut fault = |field: Option<String>, what: String, loss: bool| {
        faults.push(Fault {
            operator: uid.to_owned(),
            state: Some(title(was)),
            field,
            what,
            loss,
        });
    };
    for (of, was, is) in [
        ("key", &was.key, &is.key),
        (below(was.kind), &was.sub, &is.sub),
    ] {
        if let Some(what) = key_fault(of, was, is) {
            fault(None, what, false);
        }
    }
    let (plan, differences) = Migration::between(was, declared);
    let Differences {
        mut changes,
        faults: wrong,
        gone,
    } = differences;
    for (field, what) in wrong {
        fault(Some(field), format!("the field {what}"), false);
    }
    for field in gone {
        changes.push(format!("field '{field}' is dropped"));
        let what = "the field is gone, and its values would be lost".to_owned();
        fault(Some(field), what, true);
    }
    if is.name != was.name && declared.past.restores.as_ref() == Some(&was.name) {
        return Fate::Migrated {
            keeper: is.name.clone(),
            changes,
        };
    }
    match plan.is_identity() {
        true => Fate::Same,
        false => Fate::Compatible {
            changes,
            plan: Box::new(plan),
        },
    }
}

fn below(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::EventTimers | SectionKind::ProcessingTimers => "time",
        SectionKind::Windows => "window",
        _ => "map key",
    }
}

fn kind(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Value => "a value",
        SectionKind::List => "a list",
        SectionKind::Map => "a map",
        SectionKind::MapOfLists => "a map of lists",
        SectionKind::OperatorList => "a list of the operator",
        SectionKind::UnionList => "a union list of the operator",
        SectionKind::Broadcast => "a broadcast map",
        _ => "of another kind",
    }
}

/// What a section is called in messages.
fn title(section: &SectionSpec) -> String {
    match section.kind {
        SectionKind::EventTimers => "event-time timers".to_owned(),
        SectionKind::ProcessingTimers => "processing-time timers".to_owned(),
        SectionKind::Windows => "windows".to_owned(),
        _ => format!("'{}'", section.name),
    }
}

impl SectionReport {
    fn of(uid: &str, section: &SectionSpec, fate: Fate) -> Self {
        Self {
            uid: uid.to_owned(),
            name: section.name.clone(),
            kind: section.kind,
            fate,
        }
    }
}

fn refusal(faults: &[Fault]) -> Error {
    let error = |fault: &Fault| {
        let mut error = Error::new(ErrorCode::StateMismatch, fault.what.clone());
        error = error.at("operator", format!("'{}'", fault.operator));
        if let Some(state) = &fault.state {
            error = error.at("state", state);
        }
        match &fault.field {
            Some(field) => error.at("field", format!("'{field}'")),
            None => error,
        }
    };
    let Some((first, others)) = faults.split_first() else {
        return Error::bug("a refusal without a reason");
    };
    let refusal = error(first).help(match faults.iter().all(|f| f.loss) {
        true => "--allow-non-restored leaves behind what the job has no place for",
        false => "declare the state as it was, or a new one under another name",
    });
    match others.is_empty() {
        true => refusal,
        false => {
            let lines: Vec<String> = others.iter().map(|f| error(f).to_string()).collect();
            refusal.detail(lines.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests;
