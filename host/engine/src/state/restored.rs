//! From the sections of a checkpoint to the states of the job at hand.
//! Needs: the format of snapshots. The one place that knows how state of other types becomes that of a job.

use arrow_array::ArrayRef;
use pelton_model::encoding::decode;
use pelton_model::schema::Field;
use pelton_model::snapshot::{SectionKind, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};

use super::EncodedRows;

/// Reads entries of a section as those of a state that the job has.
#[derive(Clone, Debug)]
pub struct SectionReader {
    old: SectionSpec,
}

impl SectionReader {
    /// `old` is what was written, `new` what the job has. Errors: `StateMismatch` where entries of the one cannot become
    /// entries of the other; it names operator, state and field.
    pub fn new(old: &SectionSpec, new: &SectionSpec) -> Result<Self> {
        if old.kind != new.kind {
            let what = format!("it was {}, and is {}", kind(old.kind), kind(new.kind));
            return Err(mismatch(old, &what));
        }
        let parts = [
            ("key", &old.key, &new.key),
            ("map key", &old.sub, &new.sub),
            ("value", &old.value, &new.value),
        ];
        for (part, old_fields, new_fields) in parts {
            if let Some(what) = difference(part, old_fields, new_fields) {
                return Err(mismatch(old, &what));
            }
        }
        Ok(Self { old: old.clone() })
    }

    /// The columns of keys. Errors here and below: `Corrupt`.
    pub fn keys(&self, rows: &EncodedRows) -> Result<Vec<ArrayRef>> {
        decode(&self.old.key, rows.iter())
    }

    /// The columns of what stands below the keys.
    pub fn subs(&self, rows: &EncodedRows) -> Result<Vec<ArrayRef>> {
        decode(&self.old.sub, rows.iter())
    }

    /// The columns of values, which are without their stamps.
    pub fn values(&self, rows: &EncodedRows) -> Result<Vec<ArrayRef>> {
        decode(&self.old.value, rows.iter())
    }

    /// The stamp of an entry's value, if it was written with one, and the value.
    pub fn stamp<'a>(&self, value: &'a [u8]) -> Result<(Option<i64>, &'a [u8])> {
        if !self.old.stamped {
            return Ok((None, value));
        }
        let (stamp, value) = value.split_first_chunk().ok_or_else(|| {
            Error::new(
                ErrorCode::Corrupt,
                "a value of a checkpoint lacks its stamp",
            )
        })?;
        Ok((Some(i64::from_be_bytes(*stamp)), value))
    }
}

fn difference(part: &str, old: &[Field], new: &[Field]) -> Option<String> {
    for (o, n) in old.iter().zip(new) {
        if o.name != n.name {
            return Some(format!(
                "field '{}' of its {part} is now '{}'",
                o.name, n.name
            ));
        }
        let text = |f: &Field| {
            let null = if f.nullable { " or null" } else { "" };
            format!("{}{null}", f.data_type)
        };
        if (&o.data_type, o.nullable) != (&n.data_type, n.nullable) {
            return Some(format!(
                "field '{}' of its {part} was {}, and is {}",
                o.name,
                text(o),
                text(n)
            ));
        }
    }
    let more = |longer: &[Field], n: usize| longer.get(n).map(|f| f.name.clone());
    let removed = more(old, new.len()).map(|f| format!("its {part} has no field '{f}' any more"));
    removed.or_else(|| more(new, old.len()).map(|f| format!("its {part} had no field '{f}'")))
}

fn kind(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Value => "a value",
        SectionKind::List => "a list",
        SectionKind::Map => "a map",
        SectionKind::MapOfLists => "a map of lists",
        SectionKind::OperatorList => "a list of the operator",
        SectionKind::UnionList => "a union list",
        SectionKind::Broadcast => "broadcast state",
        _ => "no state of a function",
    }
}

fn mismatch(old: &SectionSpec, what: &str) -> Error {
    let message = format!(
        "state '{}' of operator '{}' does not fit the job: {what}",
        old.name, old.uid
    );
    Error::new(ErrorCode::StateMismatch, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::keyed_section;
    use pelton_model::schema::DataType;

    #[test]
    fn what_does_not_fit_is_named() {
        let section = |kind, value: &[Field]| SectionSpec {
            uid: "counter".into(),
            ..keyed_section(kind, "seen", &[Field::new("k", DataType::I64)], &[], value)
        };
        let int = Field::new("n", DataType::I64);
        let old = section(SectionKind::Value, std::slice::from_ref(&int));
        assert!(SectionReader::new(&old, &old).is_ok());
        let why = |new: &SectionSpec| {
            let error = SectionReader::new(&old, new).unwrap_err();
            assert_eq!(error.code(), ErrorCode::StateMismatch);
            error.to_string()
        };
        let named = "state 'seen' of operator 'counter'";
        let list = why(&section(SectionKind::List, std::slice::from_ref(&int)));
        assert!(list.contains(named) && list.contains("it was a value, and is a list"));
        let text = why(&section(
            SectionKind::Value,
            &[Field::new("n", DataType::String)],
        ));
        assert!(text.contains("field 'n' of its value was"), "{text}");
        let null = why(&section(SectionKind::Value, &[int.clone().nullable()]));
        assert!(null.contains("or null"), "{null}");
        let more = why(&section(
            SectionKind::Value,
            &[int, Field::new("m", DataType::I64)],
        ));
        assert!(more.contains("its value had no field 'm'"), "{more}");
        let less = why(&section(SectionKind::Value, &[]));
        assert!(less.contains("no field 'n' any more"), "{less}");
    }
}
