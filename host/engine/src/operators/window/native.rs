//! Aggregates that the host computes itself: which accumulators a window needs, and the columns that it gives.
//! Nulls are passed over; only `count` counts rows. An average is truncated toward zero where the output is an integer
//! or a decimal.

use std::sync::Arc;

use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{ArrayRef, PrimitiveArray};
use arrow_buffer::ScalarBuffer;
use pelton_model::batch::Batch;
use pelton_model::graph::WindowValue;
use pelton_model::limits::BATCH_ROWS_MAX;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::window::Window;
use pelton_model::{Error, ErrorCode, Result};

use super::accumulator::{Acc, Op, Wanted};
use super::function::Firing;
use crate::operator::Context;
use crate::operators::process::emit_sliced;
use crate::state::{KeyIndex, RowSet};

#[derive(Clone, Copy, Debug)]
enum Output {
    Key(usize),
    Start,
    End,
    /// The value of an accumulator.
    Value(usize),
    /// The quotient of a sum and its count.
    Avg(usize),
    /// The quotient of two sums.
    Ratio(usize, usize),
}

/// The aggregates of one window operator.
pub(in crate::operators) struct Native {
    wanted: Vec<Wanted>,
    outputs: Vec<(Field, Output)>,
    slots: Vec<u32>,
}

impl Native {
    /// Errors: a field that is not there, a result that may be missing where the output may not be null.
    pub(super) fn new(
        columns: &[(String, WindowValue)],
        input: &Schema,
        key: &[Field],
        main: &Schema,
    ) -> Result<Self> {
        // The first accumulator counts rows.
        let mut wanted = vec![Wanted {
            op: Op::Count,
            column: 0,
            field: Field::new("", DataType::I64),
        }];
        let mut outputs = Vec::new();
        for (name, value) in columns {
            let out = main.field(name).ok_or_else(|| {
                Error::bug(format!("a window gives '{name}', which its output has not"))
            })?;
            let mut want = |op: Op, name: &String| {
                let column = input
                    .index_of(name)
                    .ok_or_else(|| Error::bug(format!("field '{name}' is not in the stream")))?;
                let field = input
                    .fields
                    .get(column)
                    .cloned()
                    .ok_or_else(|| Error::bug("a field is gone"))?;
                let new = Wanted { op, column, field };
                Ok(wanted.iter().position(|w| *w == new).unwrap_or_else(|| {
                    wanted.push(new);
                    wanted.len() - 1
                }))
            };
            let output = match value {
                WindowValue::Key(k) => Output::Key(
                    key.iter()
                        .position(|f| f.name == *k)
                        .ok_or_else(|| Error::bug("a key field that is none"))?,
                ),
                WindowValue::Start => Output::Start,
                WindowValue::End => Output::End,
                WindowValue::Count => Output::Value(0),
                WindowValue::Sum(f) => Output::Value(want(Op::Sum, f)?),
                WindowValue::Min(f) => Output::Value(want(Op::Min, f)?),
                WindowValue::Max(f) => Output::Value(want(Op::Max, f)?),
                WindowValue::Avg(f) => Output::Avg(want(Op::Sum, f)?),
                WindowValue::Ratio(sum, count) => {
                    Output::Ratio(want(Op::Sum, sum)?, want(Op::Sum, count)?)
                }
            };
            if let WindowValue::Min(f) | WindowValue::Max(f) | WindowValue::Avg(f) = value
                && input.field(f).is_some_and(|f| f.nullable)
                && !out.nullable
            {
                let message = format!(
                    "'{f}' may be null, and so may be '{name}', but its output says that it never is"
                );
                return Err(Error::new(ErrorCode::GraphInvalid, message)
                    .help("make the output field optional"));
            }
            outputs.push((out.clone(), output));
        }
        Ok(Self {
            wanted,
            outputs,
            slots: Vec::new(),
        })
    }

    /// Whether what was added can be taken out again, exactly.
    pub(super) fn invertible(&self) -> bool {
        let is_float = |w: &Wanted| matches!(w.field.data_type, DataType::F32 | DataType::F64);
        self.wanted.iter().all(|w| match w.op {
            Op::Count => true,
            Op::Sum => !is_float(w),
            Op::Min | Op::Max => false,
        })
    }

    /// What is accumulated.
    pub(super) fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Empty accumulators.
    pub(super) fn accumulators(&self) -> Vec<Acc> {
        self.wanted.iter().map(Acc::new).collect()
    }

    /// Adds rows.
    pub(super) fn add(
        &mut self,
        index: &mut KeyIndex,
        accs: &mut [Acc],
        batch: &Batch,
        key: &[ArrayRef],
        rows: RowSet<'_>,
    ) -> Result<()> {
        let mut slots = std::mem::take(&mut self.slots);
        index.locate(key, rows, &mut slots)?;
        let added = self.accumulate(accs, index.slots(), batch, rows, &slots);
        self.slots = slots;
        added
    }

    /// As [`add`](Self::add), and appends slots that had no rows to `new`.
    pub(super) fn add_new(
        &mut self,
        index: &mut KeyIndex,
        accs: &mut [Acc],
        batch: &Batch,
        key: &[ArrayRef],
        rows: RowSet<'_>,
        new: &mut Vec<u32>,
    ) -> Result<()> {
        let mut slots = std::mem::take(&mut self.slots);
        index.locate(key, rows, &mut slots)?;
        let total = index.slots();
        if let Some(rows_seen) = accs.first_mut() {
            rows_seen.grow(total);
            rows_seen.count_new(&slots, new);
        }
        let rest = accs.get_mut(1..).unwrap_or_default();
        let wanted = self.wanted.get(1..).unwrap_or_default();
        let added = accumulate(wanted, rest, total, batch, rows, &slots);
        self.slots = slots;
        added
    }

    /// Adds each row to the accumulators in its slot; `total` is above all slots.
    pub(super) fn accumulate(
        &self,
        accs: &mut [Acc],
        total: usize,
        batch: &Batch,
        rows: RowSet<'_>,
        slots: &[u32],
    ) -> Result<()> {
        accumulate(&self.wanted, accs, total, batch, rows, slots)
    }

    /// Emits the results of windows, a row each.
    pub(super) fn emit(
        &self,
        accs: &[Acc],
        firing: Firing<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let times = firing.times().into();
        let bounds = Bounds {
            starts: firing.starts.into(),
            ends: firing.ends.into(),
        };
        let columns = self.columns(accs, firing.slots, &firing.keys, &bounds)?;
        let batch = Batch::new(columns, firing.slots.len())?.with_times(Some(times))?;
        emit_sliced(0, &batch, cx);
        Ok(())
    }

    /// Emits the results of one window for the keys in these slots of `index`, which are those of the accumulators.
    pub(super) fn emit_window(
        &self,
        accs: &[Acc],
        index: &KeyIndex,
        slots: &[u32],
        window: Window,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let most = slots.len().min(BATCH_ROWS_MAX);
        // All batches share what is the same in each row.
        let all = |at: i64| ScalarBuffer::from(vec![at; most]);
        let has = |output: fn(&Output) -> bool| self.outputs.iter().any(|(_, o)| output(o));
        let starts = has(|o| matches!(o, Output::Start)).then(|| all(window.start));
        let ends = has(|o| matches!(o, Output::End)).then(|| all(window.end));
        let times = all(window.max_time().0);
        for slots in slots.chunks(BATCH_ROWS_MAX) {
            let rows = slots.len();
            let some = |all: &Option<ScalarBuffer<i64>>| {
                all.as_ref().map(|a| a.slice(0, rows)).unwrap_or_default()
            };
            let bounds = Bounds {
                starts: some(&starts),
                ends: some(&ends),
            };
            let columns = self.columns(accs, slots, &index.columns(slots)?, &bounds)?;
            let batch = Batch::new(columns, rows)?.with_times(Some(times.slice(0, rows)))?;
            cx.emit(0, batch);
        }
        Ok(())
    }

    /// The output's columns, a row for each slot.
    fn columns(
        &self,
        accs: &[Acc],
        slots: &[u32],
        keys: &[ArrayRef],
        bounds: &Bounds,
    ) -> Result<Vec<ArrayRef>> {
        let rows = slots.len();
        let bound = |field: &Field, at: &ScalarBuffer<i64>| -> ArrayRef {
            match field.data_type {
                DataType::I64 => Arc::new(PrimitiveArray::<Int64Type>::new(at.clone(), None)),
                _ => Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(
                    at.clone(),
                    None,
                )),
            }
        };
        let gone = || Error::bug("an accumulator is gone");
        let told = |i: usize| {
            let (acc, wanted) = accs.get(i).zip(self.wanted.get(i)).ok_or_else(gone)?;
            Ok::<_, Error>((acc.pick(slots), wanted))
        };
        let one = |(field, output): &(Field, Output)| {
            Ok(match output {
                Output::Key(i) => keys.get(*i).cloned().ok_or_else(gone)?,
                Output::Start => bound(field, &bounds.starts),
                Output::End => bound(field, &bounds.ends),
                Output::Value(i) => {
                    let (acc, wanted) = told(*i)?;
                    acc.value(wanted, field, rows)
                        .map_err(|e| e.at("field", format!("'{}'", field.name)))?
                }
                Output::Avg(i) => {
                    let (acc, wanted) = told(*i)?;
                    let rows_seen = told(0)?.0;
                    acc.average(wanted, field, rows_seen.counts(&acc), rows)
                        .map_err(|e| e.at("field", format!("'{}'", field.name)))?
                }
                Output::Ratio(sum, count) => {
                    let ((sum, wanted), (count, _)) = (told(*sum)?, told(*count)?);
                    sum.ratio(wanted, field, &count.whole_counts()?, rows)
                        .map_err(|e| e.at("field", format!("'{}'", field.name)))?
                }
            })
        };
        self.outputs.iter().map(one).collect()
    }
}

/// The bounds of windows, a row each; empty where no column has them.
struct Bounds {
    starts: ScalarBuffer<i64>,
    ends: ScalarBuffer<i64>,
}

/// Adds each row to the accumulators in its slot.
fn accumulate(
    wanted: &[Wanted],
    accs: &mut [Acc],
    total: usize,
    batch: &Batch,
    rows: RowSet<'_>,
    slots: &[u32],
) -> Result<()> {
    for (acc, wanted) in accs.iter_mut().zip(wanted) {
        acc.grow(total);
        if wanted.op == Op::Count {
            acc.count(slots);
            continue;
        }
        let column = batch
            .columns()
            .get(wanted.column)
            .ok_or_else(|| Error::bug("a batch has too few columns"))?;
        acc.add(wanted, column, rows, slots)?;
    }
    Ok(())
}
