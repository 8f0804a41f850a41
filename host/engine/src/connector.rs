//! The contract of sources and sinks. Needs: model. Implemented in `connect`, driven by [`task`](crate::task).
//!
//! A [`Source`] belongs to a job and is shared by the tasks that read it: it deals its splits. A [`SourceReader`]
//! belongs to one task and never waits: a step of a task must not block.

use pelton_model::{Result, batch::Batch, id::CheckpointId, time::Monotonic};

/// A source of one job, opened once; its readers take splits from it.
pub trait Source: Send + Sync {
    /// The reader of task `index` of `parallelism`.
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>>;

    /// A reader that goes on where others stopped: `positions` are those of all readers that there were, whatever the
    /// parallelism. Splits without one are read from their beginning. Errors: `StateMismatch` for positions that do not
    /// fit what is there now.
    fn reader_at(
        &self,
        index: u32,
        parallelism: u32,
        positions: &[Position],
    ) -> Result<Box<dyn SourceReader>>;

    /// Whether rows can be read again from a position.
    fn replays(&self) -> bool;
}

/// Where a split stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The split's name: the same in every start of the job.
    pub split: String,
    /// The connector's own words: a byte offset, a sequence number.
    pub at: Vec<u8>,
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

    /// Where each split of this reader stands after the rows of the last poll, also those that it has not begun or that
    /// have ended.
    fn positions(&self) -> Vec<Position>;
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

    /// All writers have finished: what they wrote and never prepared becomes visible. Called once, not after a failure.
    fn finish(&self) -> Result<()> {
        Ok(())
    }

    /// What happens to rows that come again after a restart.
    fn delivery(&self) -> Delivery;

    /// A checkpoint is complete: what was prepared for it becomes visible. Asked again for the same after a crash, it
    /// changes nothing that is done already. Called from a thread that may wait. Errors: `StoreUnavailable` is tried
    /// again.
    fn commit(&self, _committables: &[Vec<u8>]) -> Result<()> {
        Ok(())
    }

    /// Checkpoints after `after`, up to `to`, were complete, and are damaged: the job goes on from `after`, and the rows that
    /// became visible with them come again. What can be taken back of them is. Called before [`recover`](Self::recover).
    fn take_back(&self, _after: CheckpointId, _to: CheckpointId) -> Result<()> {
        Ok(())
    }

    /// Before the first writer of a start: commits these, which the checkpoint has that the job goes on from, and undoes
    /// whatever else earlier starts have prepared or begun; what a later start has, which has passed this one, it leaves
    /// alone.
    ///
    /// This is the one place where anything is undone. There is no call for what was prepared for a checkpoint that failed:
    /// while the job runs, the next checkpoint has it as well, and only one that is complete shows that it counts. When
    /// tasks end before that, nobody knows all that was prepared, as writers prepare before anybody hears of it, and the put
    /// of an entry whose reply was lost may still succeed. The next start knows: no entry of earlier ones can come any more,
    /// and what the last one does not have counts for nothing. Where no start follows, as after a cancel, what is prepared
    /// stays hidden; a job that begins anew in that place clears it.
    fn recover(&self, committables: &[Vec<u8>]) -> Result<()> {
        self.commit(committables)
    }
}

/// What a sink makes of rows that come again after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// They become visible with the checkpoint that they belong to, once.
    Committed,
    /// A row replaces the one with its key.
    Idempotent,
    /// They are there twice.
    AtLeastOnce,
}

/// What a writer hands over at a barrier.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prepared {
    /// What is to be committed once the checkpoint is complete; durable already.
    pub committables: Vec<Vec<u8>>,
    /// What a later writer needs to go on.
    pub state: Option<Vec<u8>>,
}

/// What a writer seals at a barrier.
pub enum Preparing {
    /// It is done.
    Done(Prepared),
    /// Another thread waits for the outside, and has not come to its end while this says `None`. Not asked again after that.
    Later(Box<dyn FnMut() -> Option<Result<Prepared>> + Send>),
}

impl Preparing {
    /// What is handed over, once it is durable. Never waits.
    pub fn poll(&mut self) -> Option<Result<Prepared>> {
        match self {
            Self::Done(prepared) => Some(Ok(std::mem::take(prepared))),
            Self::Later(ask) => ask(),
        }
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

    /// Whether it takes rows now: asked before each batch. One that does not is asked again after a while.
    fn has_room(&mut self) -> bool {
        true
    }

    /// The barrier: what was written before it is sealed, durably, and handed over.
    fn prepare(&mut self, _checkpoint: CheckpointId) -> Result<Prepared> {
        Ok(Prepared::default())
    }

    /// What a task calls at the barrier: as [`prepare`](Self::prepare), but does not wait for the disk. Rows that are
    /// written before it is done belong to the next barrier; if that comes before, it is asked for both.
    fn begin_prepare(&mut self, checkpoint: CheckpointId) -> Result<Preparing> {
        self.prepare(checkpoint).map(Preparing::Done)
    }

    /// Goes on with what earlier writers needed: called once, before the first row.
    fn restore(&mut self, _states: &[Vec<u8>]) -> Result<()> {
        Ok(())
    }

    /// The end of the input. Nothing follows but, where there are checkpoints, a last [`prepare`](Self::prepare).
    fn finish(&mut self) -> Result<()>;
}
