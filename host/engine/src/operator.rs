//! The contract of operators: what the chain calls, and what they may do in a call.
//! Needs: model, state, timer, function. Each operator is one file in [`operators`](crate::operators).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use pelton_model::Result;
use pelton_model::barrier::Barrier;
use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::id::CheckpointId;
use pelton_model::limits::Limits;
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::watermark::Watermark;

use crate::function::{Functions, Moment};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::splits::SplitWatch;

/// One step of a chain. Composed, never inherited: an operator *has* state, timers and output.
pub trait Operator: Send {
    /// Rows of an input. May emit.
    fn batch(&mut self, input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()>;

    /// The operator's watermark (the least of its inputs') has advanced to `cx.watermark`: fires what is due. Returns
    /// what is forwarded, after all that this call has emitted.
    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        Ok(Some(cx.watermark))
    }

    /// All inputs became idle (or active again). Returns whether that is forwarded.
    fn idle(&mut self, _idle: bool, _cx: &mut Context<'_>) -> Result<bool> {
        Ok(true)
    }

    /// A wake-up asked for by [`next_wake`](Self::next_wake) or [`busy`](Self::busy), or a flush when the input has
    /// run dry.
    fn wake(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether there is more to emit for the current watermark than one call should hold: the operator is woken again
    /// before its task takes anything in, and its end waits. It emits the watermark itself once it is done.
    fn busy(&self) -> bool {
        false
    }

    /// Whether it takes rows now: asked before each step of the task.
    fn has_room(&mut self) -> bool {
        true
    }

    /// When to be woken by processing time.
    fn next_wake(&self) -> Option<Wakeup> {
        None
    }

    /// All inputs have ended, and the watermark is at its end.
    fn end(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// The barrier: what the operator holds now goes into the snapshot. It is not [`busy`](Self::busy). What is small is
    /// written at once, what is large is frozen here and written by [`go_on_snapshot`](Self::go_on_snapshot). Without a
    /// barrier the task has ended, and this is its last. Errors end the task.
    fn snapshot(&mut self, _barrier: Option<Barrier>, _into: &mut SnapshotWriter) -> Result<()> {
        Ok(())
    }

    /// Writes more of the snapshot that was begun, a few milliseconds' worth; whether it is complete. Errors: the
    /// snapshot is given up, the task goes on.
    fn go_on_snapshot(&mut self, _into: &mut SnapshotWriter) -> Result<bool> {
        Ok(true)
    }

    /// The snapshot that was begun is not wanted any more.
    fn abort_snapshot(&mut self) {}

    /// A checkpoint is complete, and with it all before.
    fn completed(&mut self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }

    /// Takes what it had at a checkpoint: called once, before anything else, with `cx.watermark` as it was then.
    fn restore(&mut self, _from: &Restored<'_>, _cx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
}

/// A time to be woken at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wakeup {
    /// By the monotonic clock.
    Monotonic(Monotonic),
    /// By the wall clock.
    Wall(ProcessingTime),
}

/// What an operator has at hand within a call.
pub struct Context<'a> {
    /// The task's instance of the user's functions.
    pub functions: &'a mut dyn Functions,
    /// The wall clock, constant within a step.
    pub now: ProcessingTime,
    /// The monotonic clock, constant within a step.
    pub monotonic: Monotonic,
    /// The operator's watermark.
    pub watermark: Watermark,
    /// Where output goes.
    pub out: &'a mut Outbox,
    /// What a task may use.
    pub limits: &'a Limits,
    /// The operator's counters.
    pub metrics: &'a OperatorMetrics,
}

impl Context<'_> {
    /// The constants of a call into a function.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            watermark: self.watermark,
            processing_time: self.now,
        }
    }

    /// Emits rows on an output stream. A batch without rows is dropped.
    pub fn emit(&mut self, port: u32, batch: Batch) {
        if !batch.is_empty() {
            OperatorMetrics::add(&self.metrics.rows_out, batch.rows() as u64);
            self.out.items.push((port, Element::Batch(batch)));
        }
    }

    /// Emits a watermark of the operator's own making, on all streams.
    pub fn emit_watermark(&mut self, watermark: Watermark) {
        self.out
            .items
            .push((Outbox::ALL, Element::Watermark(watermark)));
    }

    /// Emits an element of the operator's own making on one stream.
    pub fn emit_element(&mut self, port: u32, element: Element) {
        self.out.items.push((port, element));
    }

    /// Says on all streams that the operator is idle, or active again.
    pub fn emit_idle(&mut self, idle: bool) {
        self.out.items.push((
            Outbox::ALL,
            if idle { Element::Idle } else { Element::Active },
        ));
    }
}

/// What an operator has emitted in a call, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    items: Vec<(u32, Element)>,
}

impl Outbox {
    /// Stands for every output stream.
    pub const ALL: u32 = u32::MAX;

    /// Takes all that was emitted: (port or [`ALL`](Self::ALL), element).
    pub fn drain(&mut self) -> Vec<(u32, Element)> {
        std::mem::take(&mut self.items)
    }
}

/// Counters of one operator in one task. Written by the task, read by anyone.
#[derive(Debug, Default)]
pub struct OperatorMetrics {
    /// Rows in.
    pub rows_in: AtomicU64,
    /// Rows out, on all streams.
    pub rows_out: AtomicU64,
    /// Rows that came too late.
    pub late: AtomicU64,
    /// Records passed over by a source.
    pub skipped: AtomicU64,
    /// Nanoseconds in calls.
    pub busy_ns: AtomicU64,
    /// The current watermark, milliseconds.
    pub watermark: AtomicI64,
    /// Keys or accumulators held.
    pub state_entries: AtomicU64,
    /// Watermarks of a generator that went back, and were passed over.
    pub watermarks_back: AtomicU64,
    /// Of an operator that makes watermarks: what it makes them of.
    pub splits: OnceLock<Arc<SplitWatch>>,
}

impl OperatorMetrics {
    /// Counters at zero, the watermark before the first.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let metrics = Self::default();
        metrics.watermark.store(i64::MIN, Ordering::Relaxed);
        Arc::new(metrics)
    }

    /// Adds to a counter that only one thread writes.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }
}

/// For chains without users' functions: every call is a bug.
#[derive(Debug, Default)]
pub struct NoFunctions;

macro_rules! refuse {
    () => {
        Err(pelton_model::Error::bug(
            "a chain without functions called one",
        ))
    };
}

impl Functions for NoFunctions {
    fn prepare(&mut self, _: &crate::function::SegmentSpec) -> Result<crate::function::Segment> {
        refuse!()
    }
    fn transform(
        &mut self,
        _: crate::function::Segment,
        _: Moment,
        _: crate::function::Rows<'_>,
    ) -> Result<crate::function::Reply> {
        refuse!()
    }
    fn process(
        &mut self,
        _: crate::function::Segment,
        _: Moment,
        _: &crate::function::KeyedRows<'_>,
        _: &mut crate::function::Lent,
    ) -> Result<crate::function::KeyedReply> {
        refuse!()
    }
    fn on_timers(
        &mut self,
        _: crate::function::Segment,
        _: Moment,
        _: &crate::function::DueTimers<'_>,
        _: &mut crate::function::Lent,
    ) -> Result<crate::function::KeyedReply> {
        refuse!()
    }
    fn accumulate(
        &mut self,
        _: crate::function::Segment,
        _: Moment,
        _: crate::function::Rows<'_>,
        _: &[u32],
        _: &crate::function::Slots,
    ) -> Result<crate::function::Slots> {
        refuse!()
    }
    fn merge(
        &mut self,
        _: crate::function::Segment,
        _: &crate::function::Slots,
        _: &crate::function::Slots,
    ) -> Result<crate::function::Slots> {
        refuse!()
    }
    fn results(
        &mut self,
        _: crate::function::Segment,
        _: Moment,
        _: &crate::function::Slots,
        _: &[i64],
        _: &[i64],
        _: &crate::function::Slots,
    ) -> Result<crate::function::Reply> {
        refuse!()
    }
}
