//! What a state was in former versions of its job, as far as its declaration says so: for the values that those wrote.
//! Needs: schema, encoding. Refuses: the comparison with what was written, which is `migrate`'s.

use std::collections::BTreeSet;

use super::StateSpec;
use crate::encoding::decode;
use crate::schema::{DataType, Field};
use crate::{Error, ErrorCode, Result};

/// What a state was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Past {
    /// Fields of its values that were not always what they are.
    pub fields: Vec<FieldPast>,
    /// The state whose values of a former type are kept here until the function moves them over, key by key. The name of
    /// the one that has this is the other's name, [`OF`](Self::OF) and something more.
    pub restores: Option<String>,
}

/// What a field of a state's values was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldPast {
    /// The field's place in the schema's preorder.
    pub place: u32,
    /// Names that it had.
    pub names: Vec<String>,
    /// What it is in values that were written without it, or as null where it cannot be null any more; in the
    /// [canonical encoding](crate::encoding).
    pub default: Option<Vec<u8>>,
    /// It is the number, from 0, of that one among the fields after it which is not null.
    pub is_tag: bool,
}

impl Past {
    /// Stands in names between that of a state and what tells its former ones apart.
    pub const OF: char = '@';

    /// The past of the field at a place of the preorder.
    #[must_use]
    pub fn field(&self, place: u32) -> Option<&FieldPast> {
        self.fields.iter().find(|f| f.place == place)
    }
}

/// Checks what a declaration says of its past. Errors: `GraphInvalid`.
pub(super) fn check(state: &StateSpec, all: &[StateSpec]) -> Result<()> {
    let mut known = BTreeSet::new();
    for past in &state.past.fields {
        if !known.insert(past.place) {
            return Err(invalid(format!("field {} has two pasts", past.place)));
        }
    }
    let mut place = 0;
    check_fields(&state.schema.fields, &state.past, &mut place)?;
    if let Some(beyond) = known.range(place..).next() {
        return Err(invalid(format!(
            "field {beyond} has a past, and there are {place} fields"
        )));
    }
    check_restores(state, all)
}

/// One record; `place` is that of its first field, and becomes the one after its last.
fn check_fields(fields: &[Field], past: &Past, place: &mut u32) -> Result<()> {
    let mut names = BTreeSet::new();
    for (number, field) in fields.iter().enumerate() {
        if let Some(past) = past.field(*place) {
            for name in &past.names {
                if fields.iter().any(|f| f.name == *name) {
                    return Err(invalid(format!(
                        "field '{}' was '{name}' once, but there is a field '{name}'",
                        field.name
                    )));
                }
                if !names.insert(name) {
                    return Err(invalid(format!("two fields were '{name}' once")));
                }
            }
            if let Some(default) = &past.default {
                let value = decode(std::slice::from_ref(field), std::iter::once(&default[..]));
                value.map_err(|_| {
                    let what = format!("the default of field '{}' is no ", field.name);
                    invalid(what + &field.data_type.to_string())
                })?;
            }
            let after = fields.get(number + 1..).unwrap_or_default();
            if past.is_tag
                && (field.data_type != DataType::I64 || !after.iter().all(|f| f.nullable))
            {
                return Err(invalid(format!(
                    "field '{}' is no tag of the fields after it",
                    field.name
                )));
            }
        }
        *place += 1;
        match &field.data_type {
            DataType::Struct(inner) => check_fields(inner, past, place)?,
            DataType::List(item) => check_fields(std::slice::from_ref(item), past, place)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_restores(state: &StateSpec, all: &[StateSpec]) -> Result<()> {
    let Some(of) = &state.past.restores else {
        return match state.name.contains(Past::OF) {
            true => Err(invalid(
                "the name of a state has no '@': such names are for former types of states".into(),
            )),
            false => Ok(()),
        };
    };
    let own = state.name.strip_prefix(of.as_str());
    if !own.is_some_and(|rest| rest.starts_with(Past::OF)) {
        return Err(invalid(format!(
            "it keeps former values of '{of}', and its name is not '{of}@..'"
        )));
    }
    let other = all.iter().find(|s| s.name == *of);
    let fits = |other: &StateSpec| {
        let same = other.kind == state.kind && other.map_key == state.map_key;
        let lists = state.kind.is_list() && state.map_key.is_some();
        same && !state.kind.is_operator() && !lists
    };
    match other {
        Some(other) if fits(other) => Ok(()),
        Some(_) => Err(invalid(format!(
            "it keeps former values of '{of}', which is not of its kind, or of one whose values are not migrated"
        ))),
        None => Err(invalid(format!(
            "it keeps former values of '{of}', and there is no such state"
        ))),
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::GraphInvalid, message)
}

#[cfg(test)]
mod tests;
