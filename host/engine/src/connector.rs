//! The contract of sources and sinks. Needs: model. Implemented in `connect`, driven by [`task`](crate::task).
//!
//! A [`Source`] belongs to a job and is shared by the tasks that read it: it deals its splits. A [`SourceReader`]
//! belongs to one task and never waits: a step of a task must not block.

use pelton_model::{Result, batch::Batch, time::Monotonic};

/// A source of one job, opened once; its readers take splits from it.
pub trait Source: Send + Sync {
    /// The reader of task `index` of `parallelism`.
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>>;
}

/// What a reader has for now.
#[derive(Debug)]
pub enum Poll {
    /// Rows, at least one.
    Rows(Batch),
    /// Nothing before this time: poll again then.
    Later(Monotonic),
    /// Nothing ever again.
    End,
}

/// Reads the splits of one task.
pub trait SourceReader: Send {
    /// The next rows, at most `rows_max`, in the source's own order. Never waits for the outside.
    ///
    /// Rows of two splits never share a batch, unless the source merges them by event time. Errors name file, line and column where there are such.
    fn poll(&mut self, now: Monotonic, rows_max: usize) -> Result<Poll>;

    /// The names of its splits, each of which has a watermark of its own; the same for as long as the reader lives. One,
    /// unless the source has several that this reader reads at once.
    fn splits(&self) -> Vec<String> {
        vec![String::new()]
    }

    /// Which split the rows of the last poll come from.
    fn split(&self) -> usize {
        0
    }

    /// Whether nothing comes of a split any more.
    fn has_ended(&self, _split: usize) -> bool {
        false
    }

    /// A split is not to be read, or is again. Only asked of readers of several splits, and never of all at once.
    fn pause(&mut self, _split: usize, _paused: bool) {}

    /// What was read so far.
    fn progress(&self) -> SourceProgress;

    /// Where each split of this reader stands, so that a later reader can go on: (split, position). The meaning of a
    /// position is the connector's own: a byte offset, a sequence number.
    fn positions(&self) -> Vec<(String, u64)>;
}

/// Counters of a reader, ascending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SourceProgress {
    /// Rows handed out.
    pub rows: u64,
    /// Bytes of input behind them; 0 where there are none.
    pub bytes: u64,
    /// Records passed over by the `skip` policy.
    pub skipped: u64,
    /// Bytes or rows in all, where the source knows.
    pub total: Option<u64>,
}

/// A sink of one job, opened once; it makes a writer a task, and is finished once after all writers have ended.
pub trait Sink: Send + Sync {
    /// The writer of task `index` of `parallelism`.
    fn writer(&self, index: u32, parallelism: u32) -> Result<Box<dyn SinkWriter>>;

    /// All writers have finished: what they wrote becomes visible. Called once, not after a failure.
    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

/// Writes the rows of one task.
pub trait SinkWriter: Send {
    /// Takes rows; may keep them for later.
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// The input is idle for the moment, or the flush interval has passed: what can be seen at once becomes so.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// The end of the input. Nothing follows.
    fn finish(&mut self) -> Result<()>;
}
