//! Watermarks that the job's own code makes, row by row.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

use super::{Input, Made, Open, Ran, Step};
use crate::column::Buffer;
use crate::error::Result;
use crate::record::Record;
use crate::time::Timestamp;

/// No watermark follows the row.
const NONE: i64 = i64::MIN;
/// The stream is idle after the row.
const IDLE: i64 = i64::MIN + 1;

/// Makes watermarks. Each split of the source above has one of its own (where the source is in another task: each task);
/// it sees each row of the split once, in the order of the stream, and begins anew when the job does.
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

    /// There is nothing for now: the split holds no watermark back, until its next row for which this is not said.
    pub fn idle(&mut self) {
        self.mark = IDLE;
    }
}

/// A watermark after each row for which a function gives one.
pub(crate) struct Punctuated<F>(pub(crate) Rc<F>);

impl<V: Record, F: Fn(V::Ref<'_>, Timestamp) -> Option<Timestamp>> WatermarkGenerator<V>
    for Punctuated<F>
{
    fn on_row(&mut self, row: V::Ref<'_>, time: Timestamp, out: &mut WatermarkOut) {
        if let Some(watermark) = (self.0)(row, time) {
            out.emit(watermark);
        }
    }
}

pub(crate) struct WatermarkStep<V, G, F> {
    cx: Open,
    open: F,
    /// By segment: the host makes one for each split.
    generators: RefCell<BTreeMap<u32, G>>,
    of: PhantomData<fn() -> V>,
}

impl<V, G, F: Fn(&Open) -> G> WatermarkStep<V, G, F> {
    pub(crate) fn new(cx: &Open, open: F) -> Self {
        Self {
            cx: cx.clone(),
            open,
            generators: RefCell::default(),
            of: PhantomData,
        }
    }
}

impl<V: Record, G: WatermarkGenerator<V>, F: Fn(&Open) -> G> Step for WatermarkStep<V, G, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        let mut marks = Buffer::default();
        marks.reserve(input.rows * 8);
        let mut generators = self.generators.borrow_mut();
        let generator = generators
            .entry(input.segment)
            .or_insert_with(|| (self.open)(&self.cx));
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
