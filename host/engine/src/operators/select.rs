//! A projection that the host does itself: columns by name, optionally out of a nested record whose rows are kept
//! where it is not null. Copies nothing: columns are shared, rows are selected.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_buffer::{NullBuffer, ScalarBuffer};
use pelton_model::batch::Batch;
use pelton_model::graph::Select;
use pelton_model::schema::{DataType, Schema};
use pelton_model::{Error, Result};

use crate::operator::{Context, Operator};

/// The operator.
#[derive(Debug)]
pub struct SelectOperator {
    unnest: Option<usize>,
    ordinals: Vec<usize>,
}

impl SelectOperator {
    /// `input` and `output` are the pruned schemas of the streams. Errors: a field that is not there.
    pub fn new(spec: &Select, input: &Schema, output: &Schema) -> Result<Self> {
        let missing = |name: &str| Error::bug(format!("field '{name}' is not in the stream"));
        let (unnest, from) = match &spec.unnest {
            None => (None, input.fields.as_slice()),
            Some(name) => {
                let ordinal = input.index_of(name).ok_or_else(|| missing(name))?;
                match input.fields.get(ordinal).map(|f| &f.data_type) {
                    Some(DataType::Struct(fields)) => (Some(ordinal), fields.as_slice()),
                    _ => return Err(missing(name)),
                }
            }
        };
        let ordinals = output
            .fields
            .iter()
            .map(|out| {
                let here = spec
                    .columns
                    .iter()
                    .find(|(_, there)| *there == out.name)
                    .map(|(here, _)| here);
                from.iter()
                    .position(|f| Some(&f.name) == here)
                    .ok_or_else(|| missing(&out.name))
            })
            .collect::<Result<_>>()?;
        Ok(Self { unnest, ordinals })
    }
}

impl Operator for SelectOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        let wrong = || Error::bug("a batch is not of its stream's schema");
        let pick = |columns: &[arrow_array::ArrayRef]| {
            self.ordinals
                .iter()
                .map(|o| columns.get(*o).cloned().ok_or_else(wrong))
                .collect::<Result<Vec<_>>>()
        };
        let Some(ordinal) = self.unnest else {
            let columns = pick(batch.columns())?;
            cx.emit(0, batch.with_columns(columns)?);
            return Ok(());
        };
        let record = batch
            .columns()
            .get(ordinal)
            .and_then(|c| c.as_struct_opt())
            .ok_or_else(wrong)?;
        let columns = pick(record.columns())?;
        let rows = record
            .nulls()
            .filter(|n| n.null_count() > 0)
            .map(|n| present(n, batch.selection()));
        let batch = batch.with_columns(columns)?;
        let batch = match rows {
            None => batch,
            Some(rows) => batch.select(rows)?,
        };
        cx.emit(0, batch);
        Ok(())
    }
}

/// Which of the selected rows are not null, as indices among those.
fn present(nulls: &NullBuffer, selection: Option<&ScalarBuffer<u32>>) -> ScalarBuffer<u32> {
    match selection {
        None => {
            let mut rows = Vec::with_capacity(nulls.len() - nulls.null_count());
            rows.extend(nulls.valid_indices().map(|i| i as u32));
            rows.into()
        }
        Some(s) => {
            let valid = |row: &u32| (*row as usize) < nulls.len() && nulls.is_valid(*row as usize);
            s.iter()
                .enumerate()
                .filter(|(_, row)| valid(row))
                .map(|(i, _)| i as u32)
                .collect()
        }
    }
}
