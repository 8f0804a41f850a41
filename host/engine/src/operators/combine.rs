//! Aggregation of the rows of each batch, by key and slice, above the exchange to a window: a key with most of the rows
//! then sends few of them to its one task.
//!
//! Nothing is kept from batch to batch, so that nothing is held back, neither rows nor watermarks. A row out has the
//! key's fields and the aggregates so far, or the user's accumulator; its event time is the start of its slice, which is
//! in the same windows and too late for the same ones. A row whose slice would not fit an i64 is in no window: it is
//! counted as late.

use arrow_array::ArrayRef;
use pelton_model::batch::Batch;
use pelton_model::graph::{Combine, WindowFunction};
use pelton_model::schema::{Field, Schema};
use pelton_model::window::Assigner;
use pelton_model::{Error, Result};

use super::process::emit_sliced;
use super::window::frame::{key_fields, timed};
use super::window::function::{Firing, Function, Pane, Values};
use super::window::slices::group;
use crate::operator::{Context, Operator, OperatorMetrics};

/// The operator.
pub struct CombineOperator {
    assigner: Assigner,
    key_ordinals: Vec<usize>,
    function: Function,
    /// For a user's accumulator: where each field of the output comes from.
    accumulated: Vec<Part>,
    pane: Pane,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Key(usize),
    Accumulator(usize),
}

impl CombineOperator {
    /// `input` is the pruned schema of the stream, `declared` those of the outputs. Errors: a field that is not there.
    pub fn new(spec: &Combine, name: &str, input: &Schema, declared: &[Schema]) -> Result<Self> {
        let (key, key_ordinals) = key_fields(&spec.key, input)?;
        let function = Function::new(&spec.function, name, input, &key, declared, None)?;
        let accumulated = match (&spec.function, declared.first()) {
            (WindowFunction::Aggregate { accumulator, .. }, Some(main)) => {
                parts(&key, accumulator, main)?
            }
            _ => Vec::new(),
        };
        Ok(Self {
            assigner: spec.assigner,
            pane: function.pane(&key, 0),

            key_ordinals,
            function,
            accumulated,
        })
    }

    /// Emits what a slice has come to.
    fn emit(&mut self, start: i64, cx: &mut Context<'_>) -> Result<()> {
        let rows = self.pane.index.slots();
        let slots: Vec<u32> = (0..rows as u32).collect();
        let keys = self.pane.index.columns(&slots)?;
        if let Values::User(store) = &self.pane.values {
            let accumulators = store.gather(&slots)?.columns;
            let column = |part: &Part| match part {
                Part::Key(i) => keys.get(*i).cloned(),
                Part::Accumulator(i) => accumulators.get(*i).cloned(),
            };
            let columns: Option<Vec<ArrayRef>> = self.accumulated.iter().map(column).collect();
            let columns = columns.ok_or_else(|| Error::bug("an accumulator lacks a column"))?;
            let batch = Batch::new(columns, rows)?.with_times(Some(vec![start; rows].into()))?;
            emit_sliced(0, &batch, cx);
            return Ok(());
        }
        // The result of a window has its greatest time: this one has no other than the start.
        let firing = Firing {
            slots: &slots,
            keys,
            starts: vec![start; rows],
            ends: vec![start.saturating_add(1); rows],
        };
        self.function.tell(&self.pane.values, firing, cx)
    }
}

/// Where each field of the output comes from: of one name, the key goes first.
fn parts(key: &[Field], accumulator: &Schema, main: &Schema) -> Result<Vec<Part>> {
    let part = |field: &Field| {
        let of_key = key.iter().position(|k| k.name == field.name);
        let accumulated = || accumulator.index_of(&field.name).map(Part::Accumulator);
        of_key.map(Part::Key).or_else(accumulated).ok_or_else(|| {
            Error::bug(format!(
                "'{}' is neither of the key nor accumulated",
                field.name
            ))
        })
    };
    main.fields.iter().map(part).collect()
}

impl Operator for CombineOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        let Some((batch, times)) = timed(&batch)? else {
            return Ok(());
        };
        let key: Vec<ArrayRef> = self
            .key_ordinals
            .iter()
            .filter_map(|o| batch.columns().get(*o))
            .cloned()
            .collect();
        for slice in group(self.assigner, &times) {
            let rows = slice.set(batch.len());
            let Some(start) = slice.start else {
                OperatorMetrics::add(&cx.metrics.late, rows.len() as u64);
                continue;
            };
            self.pane.clear();
            self.function.add(&mut self.pane, &batch, &key, rows, cx)?;
            self.emit(start, cx)?;
        }
        Ok(())
    }
}
