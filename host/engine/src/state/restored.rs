//! From the sections of a checkpoint to the states of the job at hand.
//! Needs: the format of snapshots. The one place that knows how state of other types becomes that of a job.

use arrow_array::ArrayRef;
use pelton_model::encoding::decode;
use pelton_model::migrate::Migration;
use pelton_model::schema::Field;
use pelton_model::snapshot::{SectionKind, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};

use super::EncodedRows;

/// Reads entries of a section as those of a state that the job has.
#[derive(Clone, Debug)]
pub struct SectionReader {
    new: SectionSpec,
    migration: Migration,
}

impl SectionReader {
    /// `old` is what was written, `new` what the job has. Errors: `StateMismatch` where entries of the one cannot become
    /// entries of the other; it names operator, state and field.
    pub fn new(old: &SectionSpec, new: &SectionSpec) -> Result<Self> {
        if old.kind != new.kind {
            let what = format!("it was {}, and is {}", kind(old.kind), kind(new.kind));
            return Err(mismatch(old, &what));
        }
        let parts = [("key", &old.key, &new.key), ("map key", &old.sub, &new.sub)];
        for (part, old_fields, new_fields) in parts {
            if let Some(what) = difference(part, old_fields, new_fields) {
                return Err(mismatch(old, &what));
            }
        }
        let (migration, found) = Migration::between(old, new);
        let gone = found.gone.first();
        let gone = gone.map(|field| format!("its value has no field '{field}' any more"));
        let fault = found.faults.first();
        let fault = fault.map(|(field, why)| format!("field '{field}' of its value {why}"));
        match fault.or(gone) {
            Some(what) => Err(mismatch(old, &what)),
            None => Ok(Self {
                new: new.clone(),
                migration,
            }),
        }
    }

    /// The columns of keys. Errors here and below: `Corrupt`.
    pub fn keys(&self, rows: &EncodedRows) -> Result<Vec<ArrayRef>> {
        decode(&self.new.key, rows.iter())
    }

    /// The columns of what stands below the keys.
    pub fn subs(&self, rows: &EncodedRows) -> Result<Vec<ArrayRef>> {
        decode(&self.new.sub, rows.iter())
    }

    /// The columns of values that [`value`](Self::value) gave.
    pub fn values(&self, rows: &EncodedRows) -> Result<Vec<ArrayRef>> {
        decode(&self.new.value, rows.iter())
    }

    /// An entry's value as the job has it now: its stamp, if values have one, and its encoding. One that had no stamp gets
    /// that of `now`. `scratch` is for those that are rewritten.
    pub fn value<'a>(
        &self,
        value: &'a [u8],
        now: i64,
        scratch: &'a mut Vec<u8>,
    ) -> Result<(Option<i64>, &'a [u8])> {
        let value = match self.migration.is_identity() {
            true => value,
            false => {
                scratch.clear();
                self.migration.apply(value, now, scratch)?;
                scratch.as_slice()
            }
        };
        if !self.new.stamped {
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
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
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
        assert!(text.contains("field 'n' of its value"), "{text}");
        let more = why(&section(
            SectionKind::Value,
            &[int.clone(), Field::new("m", DataType::I64)],
        ));
        assert!(more.contains("field 'm' of its value is new"), "{more}");
        let mut key = old.clone();
        key.key = vec![int.clone()];
        let key = why(&key);
        assert!(key.contains("field 'k' of its key is now 'n'"), "{key}");
        let less = why(&section(SectionKind::Value, &[]));
        assert!(less.contains("no field 'n' any more"), "{less}");
    }

    #[test]
    fn values_are_rewritten_where_nothing_is_lost() {
        let section = |value: &[Field], stamped| SectionSpec {
            stamped,
            ..keyed_section(SectionKind::Value, "seen", &[], &[], value)
        };
        let old = section(&[Field::new("n", DataType::I32)], false);
        let new = [
            Field::new("m", DataType::I64).nullable(),
            Field::new("n", DataType::I64),
        ];
        let reader = SectionReader::new(&old, &section(&new, true)).unwrap();
        let mut scratch = Vec::new();
        let was = (7_i32 ^ i32::MIN).to_be_bytes();
        let (stamp, row) = reader.value(&was, 40, &mut scratch).unwrap();
        assert_eq!(stamp, Some(40));
        let mut rows = EncodedRows::default();
        rows.push(row);
        let columns = reader.values(&rows).unwrap();
        assert_eq!(columns[0].null_count(), 1);
        assert_eq!(columns[1].as_primitive::<Int64Type>().values(), &[7]);
        assert!(reader.value(&was[1..], 40, &mut Vec::new()).is_err());
        let back = SectionReader::new(&section(&[], true), &section(&[], false)).unwrap();
        let value = 40_i64.to_be_bytes();
        assert_eq!(
            back.value(&value, 0, &mut scratch).unwrap(),
            (None, &[][..])
        );
    }
}
