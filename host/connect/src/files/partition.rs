//! Rows by the values of some columns: a folder for each, named as Hive names them.
//!
//! `dt=2024-01-01/hm=12%3A30`: the names and texts of the values, in the order of the option; null and the empty text are
//! `__HIVE_DEFAULT_PARTITION__`; characters that a path or a shell would take for something else are `%XX`.
//! Refuses: columns of types whose text is no name (floats, bytes, lists, records).

use std::collections::HashMap;

use arrow_array::ArrayRef;
use pelton_model::batch::Batch;
use pelton_model::schema::{DataType, Schema};
use pelton_model::{Error, ErrorCode, Result};

use crate::text::{TimeFormat, write_text_value};

/// What Hive calls the folder of rows without a value.
const DEFAULT: &[u8] = b"__HIVE_DEFAULT_PARTITION__";

/// By which columns rows are parted.
#[derive(Clone, Debug)]
pub(super) struct Partitions {
    /// The escaped names with `=`, and the columns.
    columns: Vec<(Vec<u8>, usize)>,
}

impl Partitions {
    /// `names`: of columns, with commas between. Errors: a column that is not there, stands twice, or has another type.
    pub(super) fn new(names: &str, schema: &Schema) -> Result<Self> {
        let mut columns: Vec<(Vec<u8>, usize)> = Vec::new();
        for name in names.split(',').map(str::trim) {
            let refused = |why: String| Error::new(ErrorCode::GraphInvalid, why);
            let Some(index) = schema.index_of(name) else {
                let have: Vec<&str> = schema.fields.iter().map(|f| f.name.as_str()).collect();
                return Err(refused(format!(
                    "files cannot be partitioned by '{name}': the columns are: {}",
                    have.join(", ")
                )));
            };
            if columns.iter().any(|(_, i)| *i == index) {
                return Err(refused(format!("files are partitioned by '{name}' twice")));
            }
            if let Some(field) = schema.fields.get(index)
                && !is_name(&field.data_type)
            {
                return Err(refused(format!(
                    "files cannot be partitioned by '{name}', which is {}",
                    field.data_type
                ))
                .help("partition by text, integers, bool, times, dates or decimals"));
            }
            let mut key = Vec::new();
            escape(&mut key, name.as_bytes());
            key.push(b'=');
            columns.push((key, index));
        }
        Ok(Self { columns })
    }

    /// Whether a column is one of them.
    pub(super) fn holds(&self, column: usize) -> bool {
        self.columns.iter().any(|(_, i)| *i == column)
    }

    /// Whether a folder's name could be one of the first column's.
    pub(super) fn names_folder(&self, name: &str) -> bool {
        self.columns
            .iter()
            .any(|(key, _)| name.as_bytes().starts_with(key))
    }

    /// The rows of each folder, in the order of their first rows; the order within each stays. The batch has no selection.
    pub(super) fn split(&self, batch: &Batch) -> Result<Vec<(String, Batch)>> {
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut rows: Vec<(Vec<u8>, Vec<u32>)> = Vec::new();
        let (mut path, mut text) = (Vec::new(), Vec::new());
        let mut last = usize::MAX;
        for row in 0..batch.rows() {
            path.clear();
            self.path(batch.columns(), row, &mut path, &mut text)?;
            // Rows of one folder mostly follow each other.
            if rows.get(last).is_none_or(|(p, _)| *p != path) {
                last = match places.get(&path) {
                    Some(place) => *place,
                    None => {
                        places.insert(path.clone(), rows.len());
                        rows.push((path.clone(), Vec::new()));
                        rows.len() - 1
                    }
                };
            }
            if let Some((_, of)) = rows.get_mut(last) {
                of.push(u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
        let whole = rows.len() == 1;
        rows.into_iter()
            .map(|(path, of)| {
                let part = if whole {
                    batch.clone()
                } else {
                    batch.select(of.into())?.materialize()?
                };
                let path = String::from_utf8(path)
                    .map_err(|_| Error::bug("the text of a value is not UTF-8"))?;
                Ok((path, part))
            })
            .collect()
    }

    fn path(
        &self,
        columns: &[ArrayRef],
        row: usize,
        path: &mut Vec<u8>,
        text: &mut Vec<u8>,
    ) -> Result<()> {
        for (key, index) in &self.columns {
            let column = columns
                .get(*index)
                .ok_or_else(|| Error::bug("a batch has too few columns"))?;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(key);
            text.clear();
            if !column.is_null(row) {
                write_text_value(text, column.as_ref(), row, TimeFormat::Sql);
            }
            if text.is_empty() {
                path.extend_from_slice(DEFAULT);
            } else {
                escape(path, text);
            }
        }
        Ok(())
    }
}

fn is_name(data_type: &DataType) -> bool {
    !matches!(
        data_type,
        DataType::F32 | DataType::F64 | DataType::Bytes | DataType::List(_) | DataType::Struct(_)
    )
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    const SPECIAL: &[u8] = b"\"#%'*/:=?\\{[]^\x7f";
    for b in text {
        if *b < 0x20 || SPECIAL.contains(b) {
            let digit = |d: u8| HEX.get(usize::from(d)).copied().unwrap_or(b'0');
            out.extend([b'%', digit(b >> 4), digit(b & 15)]);
        } else {
            out.push(*b);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray, TimestampMillisecondArray};
    use pelton_model::schema::Field;

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("n", DataType::I64),
            Field::new("a b", DataType::String).nullable(),
            Field::new("at", DataType::Timestamp),
            Field::new("x", DataType::F64),
        ])
    }

    #[test]
    fn folders_are_named_as_hive_does() {
        let texts = [Some("12:30"), Some(""), None, Some("../ä%"), Some("12:30")];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5])),
            Arc::new(StringArray::from(texts.to_vec())),
            Arc::new(TimestampMillisecondArray::from(vec![0; 5])),
        ];
        let batch = Batch::new(columns, 5).unwrap();
        let parts = Partitions::new("a b, at", &schema())
            .unwrap()
            .split(&batch)
            .unwrap();
        let at = "at=1970-01-01 00%3A00%3A00.000";
        let found: Vec<_> = parts.iter().map(|(p, b)| (p.clone(), b.rows())).collect();
        assert_eq!(
            found,
            [
                (format!("a b=12%3A30/{at}"), 2),
                (format!("a b=__HIVE_DEFAULT_PARTITION__/{at}"), 2),
                (format!("a b=..%2Fä%25/{at}"), 1),
            ]
        );
    }

    #[test]
    fn a_column_must_be_there_once_and_have_a_name() {
        let refused = |names| Partitions::new(names, &schema()).unwrap_err().to_string();
        assert_eq!(
            refused("m"),
            "files cannot be partitioned by 'm': the columns are: n, a b, at, x"
        );
        assert_eq!(refused("n,n"), "files are partitioned by 'n' twice");
        assert_eq!(
            refused("x"),
            "files cannot be partitioned by 'x', which is f64"
        );
        assert!(refused("").contains("by ''"));
    }
}
