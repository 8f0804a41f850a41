//! From the sections of a checkpoint to the states of the job at hand.
//! Needs: the format of snapshots. The one place that knows how state of other types becomes that of a job.

use arrow_array::ArrayRef;
use pelton_model::encoding::decode;
use pelton_model::migrate::{Declared, Migration, key_fault};
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
    /// `old` is what was written, `declared` what the job has. Fields that the job has no more are left behind: whether
    /// they may was decided when the job was compared with the checkpoint. Errors: `StateMismatch` where entries of the one
    /// cannot become entries of the other; it names operator, state and field.
    pub fn new(old: &SectionSpec, declared: &Declared) -> Result<Self> {
        let new = &declared.section;
        if old.kind != new.kind {
            let what = format!("it was {}, and is {}", kind(old.kind), kind(new.kind));
            return Err(mismatch(old, &what));
        }
        let parts = [("key", &old.key, &new.key), ("map key", &old.sub, &new.sub)];
        for (part, was, is) in parts {
            if let Some(what) = key_fault(part, was, is) {
                return Err(mismatch(old, &what));
            }
        }
        let (migration, found) = Migration::between(old, declared);
        match found.faults.first() {
            Some((field, why)) => Err(mismatch(
                old,
                &format!("field '{field}' of its value {why}"),
            )),
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
    use pelton_model::schema::{DataType, Field};

    #[test]
    fn what_does_not_fit_is_named() {
        let section = |kind, value: &[Field]| SectionSpec {
            uid: "counter".into(),
            ..keyed_section(kind, "seen", &[Field::new("k", DataType::I64)], &[], value)
        };
        let int = Field::new("n", DataType::I64);
        let old = section(SectionKind::Value, std::slice::from_ref(&int));
        assert!(SectionReader::new(&old, &old.clone().into()).is_ok());
        let why = |new: SectionSpec| {
            let error = SectionReader::new(&old, &new.into()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::StateMismatch);
            error.to_string()
        };
        let named = "state 'seen' of operator 'counter'";
        let list = why(section(SectionKind::List, std::slice::from_ref(&int)));
        assert!(list.contains(named) && list.contains("it was a value, and is a list"));
        let text = Field::new("n", DataType::String);
        let text = why(section(SectionKind::Value, &[text]));
        assert!(text.contains("field 'n' of its value"), "{text}");
        let more = [int.clone(), Field::new("m", DataType::I64)];
        let more = why(section(SectionKind::Value, &more));
        assert!(more.contains("field 'm' of its value is new"), "{more}");
        let key = why(SectionSpec {
            key: vec![Field::new("k", DataType::String)],
            ..old.clone()
        });
        assert!(
            key.contains("its key is (k: string), and was (k: i64)"),
            "{key}"
        );
        let renamed = SectionSpec {
            key: vec![int.clone()],
            ..old.clone()
        };
        assert!(SectionReader::new(&old, &renamed.into()).is_ok());
    }

    #[test]
    fn a_field_that_is_gone_is_left_behind() {
        let section = |fields: &[&str]| {
            let fields: Vec<_> = fields
                .iter()
                .map(|n| Field::new(*n, DataType::Bool))
                .collect();
            keyed_section(SectionKind::Value, "seen", &[], &[], &fields)
        };
        let old = section(&["a", "b", "c"]);
        let reader = SectionReader::new(&old, &section(&["c", "a"]).into()).unwrap();
        let mut scratch = Vec::new();
        let value = reader.value(&[1, 1, 0], 0, &mut scratch).unwrap();
        assert_eq!(value, (None, &[0, 1][..]));
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
        let reader = SectionReader::new(&old, &section(&new, true).into()).unwrap();
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
        let back = SectionReader::new(&section(&[], true), &section(&[], false).into()).unwrap();
        let value = 40_i64.to_be_bytes();
        assert_eq!(
            back.value(&value, 0, &mut scratch).unwrap(),
            (None, &[][..])
        );
    }
}
