//! What all windows have around them: the key, the rows that come in, those that come too late.

use arrow_array::ArrayRef;
use arrow_buffer::ScalarBuffer;
use pelton_model::batch::{Batch, RowKind};
use pelton_model::graph::WindowSpec;
use pelton_model::schema::{Field, Projection, Schema};
use pelton_model::{Error, ErrorCode, Result};

use crate::operator::{Context, OperatorMetrics};

/// The key and the late output of a window operator.
pub(super) struct Frame {
    pub(super) key: Vec<Field>,
    key_ordinals: Vec<usize>,
    late: Option<(u32, Projection)>,
}

/// The key's fields and where they stand in the input.
pub(in crate::operators) fn key_fields(
    key: &[String],
    input: &Schema,
) -> Result<(Vec<Field>, Vec<usize>)> {
    let missing = |k: &String| Error::bug(format!("key field '{k}' is not in the stream"));
    let ordinals = key
        .iter()
        .map(|k| input.index_of(k).ok_or_else(|| missing(k)))
        .collect::<Result<Vec<_>>>()?;
    let fields = ordinals.iter().filter_map(|o| input.fields.get(*o));
    Ok((fields.cloned().collect(), ordinals))
}

/// Rows with their event times, nothing left out; none if there is no row.
/// Errors: rows without times, rows that take others back.
pub(in crate::operators) fn timed(batch: &Batch) -> Result<Option<(Batch, ScalarBuffer<i64>)>> {
    if batch.is_empty() {
        return Ok(None);
    }
    let batch = batch.materialize()?;
    let takes_back = |k: &u8| *k == RowKind::UpdateBefore as u8 || *k == RowKind::Delete as u8;
    if batch.kinds().is_some_and(|k| k.iter().any(takes_back)) {
        return Err(Error::new(
            ErrorCode::GraphInvalid,
            "a row that takes another back (-U or -D) came to a window, which only adds rows",
        )
        .help("keep +I and +U alone above the window, or aggregate in a process function"));
    }
    match batch.times().cloned() {
        Some(times) => Ok(Some((batch, times))),
        None => Err(Error::new(
            ErrorCode::BadTimestamp,
            "rows came to a window without event times",
        )
        .help("assign timestamps above the window")),
    }
}

impl Frame {
    /// `input` is the pruned schema of the stream, `declared` those of the outputs. The late output's rows are those of
    /// the input: its columns are the declared ones that the input has.
    pub(super) fn new(spec: &WindowSpec, input: &Schema, declared: &[Schema]) -> Result<Self> {
        let (key, key_ordinals) = key_fields(&spec.key, input)?;
        let late = match spec.late_output {
            None => None,
            Some(port) => {
                let declared = declared
                    .get(port as usize)
                    .ok_or_else(|| Error::bug("a late output that is not there"))?;
                Some((port, Projection::new(input, &declared.restrict(input))?))
            }
        };
        Ok(Self {
            key,
            key_ordinals,
            late,
        })
    }

    /// The key's columns.
    pub(super) fn key_of(&self, batch: &Batch) -> Vec<ArrayRef> {
        self.key_ordinals
            .iter()
            .filter_map(|o| batch.columns().get(*o))
            .cloned()
            .collect()
    }

    /// Counts rows that came too late, in their order, and emits them if somebody takes them.
    pub(super) fn emit_late(
        &self,
        batch: &Batch,
        mut rows: Vec<u32>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        OperatorMetrics::add(&cx.metrics.late, rows.len() as u64);
        if let Some((port, projection)) = &self.late {
            rows.sort_unstable();
            let columns = projection.apply(batch.columns())?;
            cx.emit(
                *port,
                batch
                    .clone()
                    .with_columns(columns)?
                    .select(ScalarBuffer::from(rows))?,
            );
        }
        Ok(())
    }
}
