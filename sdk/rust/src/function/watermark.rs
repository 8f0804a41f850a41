//! Watermarks that the job's own code makes, row by row.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::{Input, Made, Ran, Step};
use crate::column::Buffer;
use crate::error::Result;
use crate::record::Record;
use crate::time::Timestamp;

/// No watermark follows the row.
const NONE: i64 = i64::MIN;
/// The stream is idle after the row.
const IDLE: i64 = i64::MIN + 1;

/// Makes watermarks. Each task has one of its own; it sees each row once, in the order of the stream, and begins anew
/// when the job does.
pub trait WatermarkGenerator<V: Record> {
    /// A row with its event time. What `out` gets follows the row.
    fn on_row(&mut self, row: V::Ref<'_>, time: Timestamp, out: &mut WatermarkOut);
}

/// What follows a row: nothing, unless it is said. Of several calls for one row the last counts.
#[derive(Debug)]
pub struct WatermarkOut {
    mark: i64,
}

impl WatermarkOut {
    /// No row at or before this time follows, but for late ones. A watermark that is not above the last is passed over.
    pub fn emit(&mut self, watermark: Timestamp) {
        self.mark = watermark.0.max(IDLE + 1);
    }

    /// There is nothing for now: the stream holds no watermark back, until the next row for which this is not said.
    pub fn idle(&mut self) {
        self.mark = IDLE;
    }
}

/// A watermark after each row for which a function gives one.
pub(crate) struct Punctuated<F>(pub(crate) F);

impl<V: Record, F: Fn(V::Ref<'_>, Timestamp) -> Option<Timestamp>> WatermarkGenerator<V>
    for Punctuated<F>
{
    fn on_row(&mut self, row: V::Ref<'_>, time: Timestamp, out: &mut WatermarkOut) {
        if let Some(watermark) = (self.0)(row, time) {
            out.emit(watermark);
        }
    }
}

pub(crate) struct WatermarkStep<V, G> {
    generator: RefCell<G>,
    of: PhantomData<fn() -> V>,
}

impl<V, G> WatermarkStep<V, G> {
    pub(crate) fn new(generator: G) -> Self {
        Self {
            generator: RefCell::new(generator),
            of: PhantomData,
        }
    }
}

impl<V: Record, G: WatermarkGenerator<V>> Step for WatermarkStep<V, G> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        let mut marks = Buffer::default();
        marks.reserve(input.rows * 8);
        let mut generator = self.generator.borrow_mut();
        let done = input.each::<V>(|i, row| {
            let mut out = WatermarkOut { mark: NONE };
            generator.on_row(row, Timestamp(input.time_of(i)), &mut out);
            marks.push(out.mark);
            Ok(false)
        })?;
        Ok(Ran {
            made: Made::Watermarks(marks.take()),
            done,
            sides: Vec::new(),
        })
    }
}
