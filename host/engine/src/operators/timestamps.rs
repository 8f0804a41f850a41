//! Event times and watermarks. The watermarks that come from above are not passed on, but for the last; where a function
//! above generates them, those that it generated are.
//!
//! A watermark that would not rise is not emitted. In a batch job none is, before the end.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_buffer::ScalarBuffer;
use pelton_model::batch::Batch;
use pelton_model::graph::{Emit, Times, Timestamps, Watermarks};
use pelton_model::schema::{Projection, Schema};
use pelton_model::time::{EventTime, Monotonic};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

use crate::operator::{Context, Operator, Wakeup};

/// The operator.
#[derive(Debug)]
pub struct TimestampsOperator {
    times: From,
    /// To the stream below, where nobody reads all that comes, such as the time as a field.
    narrow: Option<Projection>,
    /// How far watermarks stay behind the greatest time, but for the 1 ms; none: a function above generates them.
    bound_ms: Option<i64>,
    emit: Emit,
    idle_ms: Option<u64>,
    /// Nothing before the end.
    batch: bool,
    last_row: Option<Monotonic>,
    /// Without a row for too long.
    idle: bool,
    /// What the function above says of itself.
    idle_above: bool,
    greatest: i64,
    emitted: Watermark,
    last_emit: Option<Monotonic>,
}

/// Where times come from.
#[derive(Debug)]
enum From {
    Given,
    Field(usize, String),
    /// The clock, which never goes back: the last time that was given.
    Ingestion(i64),
}

impl TimestampsOperator {
    /// `input` and `output` are the pruned schemas of the streams; `batch` says that the job runs as a batch. Errors: a
    /// field that is not there.
    pub fn new(spec: &Timestamps, input: &Schema, output: &Schema, batch: bool) -> Result<Self> {
        let times = match &spec.times {
            Times::Given => From::Given,
            Times::Ingestion => From::Ingestion(i64::MIN),
            Times::Field(name) => {
                let ordinal = input
                    .index_of(name)
                    .ok_or_else(|| Error::bug(format!("field '{name}' is not in the stream")))?;
                From::Field(ordinal, name.clone())
            }
        };
        let bound_ms = match spec.watermarks {
            Watermarks::Bounded(ms) => Some(ms),
            Watermarks::Monotonous => Some(0),
            Watermarks::Generated => None,
        };
        let narrow = (input != output)
            .then(|| Projection::new(input, output))
            .transpose()?;
        Ok(Self {
            times,
            narrow,
            bound_ms,
            emit: spec.emit,
            idle_ms: spec.idle_ms.filter(|_| !batch),
            batch,
            last_row: None,
            idle: false,
            idle_above: false,
            greatest: i64::MIN,
            emitted: Watermark::MIN,
            last_emit: None,
        })
    }

    /// The watermark that may follow what has been seen, if it is a new one.
    fn next(&self) -> Option<Watermark> {
        let bound_ms = self.bound_ms.filter(|_| !self.batch)?;
        let next = Watermark::bounded(EventTime(self.greatest), bound_ms);
        (next > self.emitted).then_some(next)
    }

    fn emit_watermark(&mut self, cx: &mut Context<'_>) {
        if let Some(next) = self.next() {
            self.emitted = next;
            self.last_emit = Some(cx.monotonic);
            cx.emit_watermark(next);
        }
    }

    /// When the next watermark is due.
    fn due(&self) -> Option<Monotonic> {
        let Emit::Interval(ms) = self.emit else {
            return None;
        };
        self.next()?;
        Some(self.last_emit.unwrap_or_default().plus_ms(ms))
    }

    /// Emits rows, and watermarks where they belong.
    fn emit_rows(&mut self, batch: &Batch, cx: &mut Context<'_>) {
        let times = batch.times().map_or(&[][..], |t| t);
        let of_row = |row: usize| match batch.selection() {
            None => times.get(row).copied(),
            Some(s) => s.get(row).and_then(|r| times.get(*r as usize)).copied(),
        };
        let mut start = 0;
        if self.emit == Emit::Row && self.bound_ms.is_some() {
            for row in 0..batch.rows() {
                let time = of_row(row).unwrap_or(i64::MIN);
                if time > self.greatest {
                    self.greatest = time;
                    cx.emit(0, batch.slice(start, row + 1 - start));
                    self.emit_watermark(cx);
                    start = row + 1;
                }
            }
            cx.emit(0, batch.slice(start, batch.rows() - start));
            return;
        }
        let greatest = match batch.selection() {
            None => times.iter().copied().max(),
            Some(_) => (0..batch.rows()).filter_map(of_row).max(),
        };
        self.greatest = self.greatest.max(greatest.unwrap_or(i64::MIN));
        cx.emit(0, batch.clone());
        let due = match self.emit {
            Emit::Batch | Emit::Row => true,
            Emit::Interval(_) => self.due().is_some_and(|at| at <= cx.monotonic),
        };
        if due {
            self.emit_watermark(cx);
        }
    }

    fn set_idle(&mut self, by_time: bool, above: bool, cx: &mut Context<'_>) {
        let before = self.idle || self.idle_above;
        (self.idle, self.idle_above) = (by_time, above);
        if before != (by_time || above) {
            cx.emit_idle(!before);
        }
    }
}

impl From {
    fn times(&mut self, batch: &Batch, cx: &Context<'_>) -> Result<ScalarBuffer<i64>> {
        let (ordinal, name) = match self {
            Self::Given => {
                return batch
                    .times()
                    .cloned()
                    .ok_or_else(|| Error::bug("a timestamp function gave no times"));
            }
            Self::Ingestion(last) => {
                *last = cx.now.0.max(*last);
                return Ok(vec![*last; batch.len()].into());
            }
            Self::Field(ordinal, name) => (*ordinal, name),
        };
        let column = batch
            .columns()
            .get(ordinal)
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
}

impl Operator for TimestampsOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        self.set_idle(false, self.idle_above, cx);
        self.last_row = Some(cx.monotonic);
        let times = self.times.times(&batch, cx)?;
        let batch = match &self.narrow {
            None => batch,
            Some(narrow) => {
                let columns = narrow.apply(batch.columns())?;
                batch.with_columns(columns)?
            }
        };
        self.emit_rows(&batch.with_times(Some(times))?, cx);
        Ok(())
    }

    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        if cx.watermark == Watermark::MAX {
            self.set_idle(false, false, cx);
            return Ok(Some(Watermark::MAX));
        }
        let passes = self.bound_ms.is_none() && !self.batch && cx.watermark > self.emitted;
        Ok(passes.then(|| {
            self.emitted = cx.watermark;
            cx.watermark
        }))
    }

    fn idle(&mut self, idle: bool, cx: &mut Context<'_>) -> Result<bool> {
        if self.bound_ms.is_none() && !self.batch {
            self.set_idle(self.idle, idle, cx);
        }
        Ok(false)
    }

    fn next_wake(&self) -> Option<Wakeup> {
        let idle = self
            .idle_ms
            .zip(self.last_row)
            .filter(|_| !self.idle)
            .map(|(idle, last)| last.plus_ms(idle));
        idle.into_iter()
            .chain(self.due())
            .min()
            .map(Wakeup::Monotonic)
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.due().is_some_and(|at| at <= cx.monotonic) {
            self.emit_watermark(cx);
        }
        let Some(idle_ms) = self.idle_ms else {
            return Ok(());
        };
        let last = *self.last_row.get_or_insert(cx.monotonic);
        if !self.idle && cx.monotonic >= last.plus_ms(idle_ms) {
            self.set_idle(true, self.idle_above, cx);
        }
        Ok(())
    }
}
