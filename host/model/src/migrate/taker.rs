//! Which state of an operator takes what was saved of one.
//!
//! A state takes what has its name. Where it also keeps values of former types in states of their own (see [`Past`]), each
//! saved section goes to that one among them whose type it has; else to the first that it can be rewritten for.

use super::Migration;
use crate::graph::Past;
use crate::schema::Field;
use crate::snapshot::SectionSpec;

/// A state as a job declares it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Declared {
    /// What the job writes.
    pub section: SectionSpec,
    /// What it was.
    pub past: Past,
}

impl From<SectionSpec> for Declared {
    fn from(section: SectionSpec) -> Self {
        Self {
            section,
            past: Past::default(),
        }
    }
}

/// The place of the state that takes what was saved as `old`. Where nothing fits, the one with its name, so that the
/// difference can be told; where there is none either, nothing.
#[must_use]
pub fn taker(old: &SectionSpec, states: &[Declared]) -> Option<usize> {
    let base = old.name.rsplit_once(Past::OF).map(|(base, _)| base);
    let named = |d: &Declared| d.section.name == old.name;
    let rank = |(place, declared): (usize, &Declared)| {
        let restores = declared.past.restores.as_deref();
        let nearness = match () {
            () if named(declared) => 0,
            () if restores == Some(&old.name) => 1,
            () if base == Some(&declared.section.name) => 2,
            () if base.is_some() && restores == base => 3,
            () => return None,
        };
        Some((Fit::of(old, declared)?, nearness, place))
    };
    let best = states.iter().enumerate().filter_map(rank).min();
    let own = || {
        let kind = |d: &Declared| named(d) && d.section.kind == old.kind;
        let own = states.iter().position(kind);
        own.or_else(|| states.iter().position(named))
    };
    best.map(|(.., place)| place).or_else(own)
}

/// How well what was saved fits, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Same,
    Rewritten,
}

impl Fit {
    /// None: not, or not without a loss.
    fn of(old: &SectionSpec, declared: &Declared) -> Option<Self> {
        let new = &declared.section;
        let fits = old.kind == new.kind
            && key_fault("", &old.key, &new.key).is_none()
            && key_fault("", &old.sub, &new.sub).is_none();
        if !fits {
            return None;
        }
        if old.value == new.value {
            return Some(Self::Same);
        }
        let (_, differences) = Migration::between(old, declared);
        let fits = differences.faults.is_empty() && differences.gone.is_empty();
        fits.then_some(Self::Rewritten)
    }
}

/// Why keys cannot be read, in half a sentence that begins with the word for them. They are the same bytes: the same types
/// in the same places. Names may change, but not change places.
#[must_use]
pub fn key_fault(of: &str, was: &[Field], is: &[Field]) -> Option<String> {
    let same = |(a, b): (&Field, &Field)| a.data_type == b.data_type && a.nullable == b.nullable;
    let moved = was
        .iter()
        .zip(is)
        .any(|(a, b)| a.name != b.name && (was.iter().any(|w| w.name == b.name)));
    if was.len() == is.len() && was.iter().zip(is).all(same) && !moved {
        return None;
    }
    let text = |fields: &[Field]| {
        let of = |f: &Field| {
            let null = if f.nullable { "?" } else { "" };
            format!("{}: {}{null}", f.name, f.data_type)
        };
        fields.iter().map(of).collect::<Vec<_>>().join(", ")
    };
    Some(format!(
        "its {of} is ({}), and was ({}): keys cannot change",
        text(is),
        text(was)
    ))
}
