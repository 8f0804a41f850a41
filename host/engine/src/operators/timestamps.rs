//! Event times and watermarks. A watermark follows each batch in which the greatest time has grown; the watermarks
//! that come from above are not passed on, but for the last.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_buffer::ScalarBuffer;
use pelton_model::batch::Batch;
use pelton_model::graph::{Times, Timestamps, Watermarks};
use pelton_model::schema::{Projection, Schema};
use pelton_model::time::{EventTime, Monotonic};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

use crate::operator::{Context, Operator, Wakeup};

/// The operator.
#[derive(Debug)]
pub struct TimestampsOperator {
    /// Where the time is; none: rows bring it.
    field: Option<(usize, String)>,
    /// To the stream below, where nobody reads all that comes, such as the time as a field.
    narrow: Option<Projection>,
    /// How far watermarks stay behind the greatest time, but for the 1 ms.
    bound_ms: i64,
    idle_ms: Option<u64>,
    last_row: Option<Monotonic>,
    idle: bool,
    greatest: i64,
    emitted: Watermark,
}

impl TimestampsOperator {
    /// `input` and `output` are the pruned schemas of the streams. Errors: a field that is not there.
    pub fn new(spec: &Timestamps, input: &Schema, output: &Schema) -> Result<Self> {
        let field = match &spec.times {
            Times::Given => None,
            Times::Ingestion => {
                return Err(Error::bug("times of ingestion are not served"));
            }
            Times::Field(name) => {
                let ordinal = input
                    .index_of(name)
                    .ok_or_else(|| Error::bug(format!("field '{name}' is not in the stream")))?;
                Some((ordinal, name.clone()))
            }
        };
        let bound_ms = match spec.watermarks {
            Watermarks::Bounded(ms) => ms,
            Watermarks::Monotonous | Watermarks::Generated => 0,
        };
        let narrow = (input != output)
            .then(|| Projection::new(input, output))
            .transpose()?;
        Ok(Self {
            field,
            narrow,
            bound_ms,
            idle_ms: spec.idle_ms,
            last_row: None,
            idle: false,
            greatest: i64::MIN,
            emitted: Watermark::MIN,
        })
    }

    fn times(&self, batch: &Batch) -> Result<ScalarBuffer<i64>> {
        let Some((ordinal, name)) = &self.field else {
            return batch
                .times()
                .cloned()
                .ok_or_else(|| Error::bug("a timestamp function gave no times"));
        };
        let column = batch
            .columns()
            .get(*ordinal)
            .and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>());
        let column = column.ok_or_else(|| Error::bug("a timestamp column is not there"))?;
        let null = |row: usize| column.is_null(row);
        let missing = match batch.selection() {
            _ if column.null_count() == 0 => None,
            None => (0..column.len()).find(|r| null(*r)),
            Some(s) => s.iter().map(|r| *r as usize).find(|r| null(*r)),
        };
        match missing {
            None => Ok(column.values().clone()),
            Some(row) => Err(Error::new(
                ErrorCode::BadTimestamp,
                format!("timestamp '{name}' is null"),
            )
            .at("row", row)
            .help("filter such rows before timestamps are assigned")),
        }
    }

    fn emit_watermark(&mut self, cx: &mut Context<'_>) {
        let watermark = Watermark::bounded(EventTime(self.greatest), self.bound_ms);
        if watermark > self.emitted {
            self.emitted = watermark;
            cx.emit_watermark(watermark);
        }
    }
}

impl Operator for TimestampsOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        if self.idle {
            self.idle = false;
            cx.emit_idle(false);
        }
        self.last_row = Some(cx.monotonic);
        let times = self.times(&batch)?;
        let greatest = match batch.selection() {
            None => times.iter().copied().max(),
            Some(s) => s
                .iter()
                .filter_map(|r| times.get(*r as usize))
                .copied()
                .max(),
        };
        let batch = match &self.narrow {
            None => batch,
            Some(narrow) => {
                let columns = narrow.apply(batch.columns())?;
                batch.with_columns(columns)?
            }
        };
        cx.emit(0, batch.with_times(Some(times))?);
        self.greatest = self.greatest.max(greatest.unwrap_or(i64::MIN));
        self.emit_watermark(cx);
        Ok(())
    }

    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        Ok((cx.watermark == Watermark::MAX).then_some(Watermark::MAX))
    }

    fn next_wake(&self) -> Option<Wakeup> {
        let (idle, last) = (self.idle_ms?, self.last_row?);
        (!self.idle).then_some(Wakeup::Monotonic(last.plus_ms(idle)))
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let Some(idle_ms) = self.idle_ms else {
            return Ok(());
        };
        let last = *self.last_row.get_or_insert(cx.monotonic);
        if !self.idle && cx.monotonic >= last.plus_ms(idle_ms) {
            self.idle = true;
            cx.emit_idle(true);
        }
        Ok(())
    }
}
