//! What the coordinator is told, and what it wants done.

use std::sync::Arc;

use pelton_model::Error;
use pelton_model::barrier::Barrier;
use pelton_model::checkpoint::{Committable, JobRecord, Metadata, OperatorRecord, TaskRecord};
use pelton_model::id::{CheckpointId, TaskId};

/// How a job starts: once for each coordinator. A job that is started again, in the same process or another, first takes
/// the next number of the log for a start of its own, so that a put of the time before can no longer succeed.
#[derive(Clone, Debug, Default)]
pub struct Started {
    /// All tasks that run.
    pub tasks: Vec<StartedTask>,
    /// What runs; for the metadata.
    pub job: JobRecord,
    /// The operators in the order of the graph; for the metadata.
    pub operators: Vec<OperatorRecord>,
    /// Unique to the start; for the metadata.
    pub attempt: String,
    /// The number of the start in the log. The number after it is the next to be written.
    pub term: u64,
    /// Checkpoints get ids above this one, above the term and above those of `previous`: the highest that an earlier
    /// start in this process has given, else 0.
    pub ids_above: u64,
    /// Complete checkpoints in the folder, in ascending order; without those that were found broken and set aside.
    pub previous: Vec<Completed>,
    /// Objects that are nobody's, to be deleted: see [`Term::orphans`](super::Term).
    pub orphans: Vec<String>,
    /// The wall clock at the start, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A task that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartedTask {
    /// Which one.
    pub task: TaskId,
    /// Whether barriers begin at it.
    pub sources: bool,
}

/// A complete checkpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct Completed {
    /// Its number in the log.
    pub number: u64,
    /// What it has.
    pub metadata: Arc<Metadata>,
}

/// Something has happened.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The user wants a checkpoint now, whatever interval and pause say.
    TriggerNow,
    /// The job is to stop: a last checkpoint, after which sources read no further. Ends in [`Action::Stopped`],
    /// [`Action::StopFailed`], or, where all tasks end by themselves before, [`Action::Finished`].
    Stop,
    /// The user wants a savepoint.
    SavepointRequested {
        /// Chosen by the driver, unique in the process.
        request: u64,
    },
    /// A task's part is durable.
    Acknowledged {
        /// Whose.
        task: TaskId,
        /// Of which checkpoint or savepoint.
        checkpoint: CheckpointId,
        /// What was stored. Places of `inline` files count from the beginning of `inline`.
        record: TaskRecord,
        /// Small files themselves.
        inline: Vec<u8>,
    },
    /// A task's part cannot be made or stored.
    Declined {
        /// Whose.
        task: TaskId,
        /// Of which checkpoint or savepoint.
        checkpoint: CheckpointId,
        /// Why.
        error: Error,
    },
    /// A task has ended, and its last snapshot is durable.
    TaskFinished {
        /// Which one.
        task: TaskId,
        /// The last barrier whose snapshot it has begun. For earlier ones its acknowledgement may still come and is
        /// waited for; for later ones the last record counts.
        after: Option<CheckpointId>,
        /// What was stored.
        record: TaskRecord,
        /// Small files themselves.
        inline: Vec<u8>,
    },
    /// The put of a checkpoint's metadata has ended: once for each [`Action::Store`].
    Stored {
        /// Of which one.
        checkpoint: CheckpointId,
        /// How.
        outcome: StoreOutcome,
    },
    /// The metadata of a savepoint is written, or not.
    SavepointStored {
        /// As it was asked for.
        request: u64,
        /// Why not.
        result: Result<(), Error>,
    },
    /// All sinks have committed what [`Action::CommitSinks`] named.
    Committed {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
    },
    /// A sink cannot commit; what may pass was tried again by the driver.
    CommitFailed {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        error: Error,
    },
    /// The tasks are no more, whoever ended them. Nothing is triggered after this.
    Ended(Ending),
}

/// Why the tasks of a job are no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// They failed, and the job is started again.
    Restart,
    /// The user wants no more of it.
    Cancelled,
    /// They failed for good.
    Failed,
}

/// What became of a create-only put. A reply that was lost is resolved by the driver: it reads the entry back.
#[derive(Debug)]
pub enum StoreOutcome {
    /// The entry is there, and has this start's attempt and the checkpoint's id.
    Created,
    /// An entry of another attempt has the number: this process has been passed.
    Fenced,
    /// An earlier entry of this attempt has the number: its put was reported as failed, and was late.
    Late,
    /// The entry is not there as far as anybody knows; it may still appear.
    Failed(Error),
}

/// Something is to be done.
#[derive(Debug)]
pub enum Action {
    /// Sends the barrier to these tasks.
    Trigger {
        /// What flows.
        barrier: Barrier,
        /// Tasks with sources that still run.
        tasks: Vec<TaskId>,
    },
    /// Puts the entry into the log, create-only. At most one is under way.
    Store {
        /// Its number in the log.
        number: u64,
        /// The entry.
        metadata: Arc<Metadata>,
        /// The inline part of the envelope.
        inline: Vec<u8>,
    },
    /// Commits these, in any order. At most one is under way, and in the order of the checkpoints.
    CommitSinks {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// Never empty.
        committables: Vec<Committable>,
    },
    /// Tells all tasks that the checkpoint is complete and committed.
    NotifyCompleted {
        /// Which one.
        checkpoint: CheckpointId,
    },
    /// Tells all tasks that the checkpoint or savepoint has been given up.
    NotifyAborted {
        /// Which one.
        checkpoint: CheckpointId,
        /// Why, for the log of the process.
        why: String,
    },
    /// Deletes objects of the checkpoint folder, in this order, and after those of earlier actions: an entry of the log goes
    /// before what it refers to. One that is not there is as good as deleted.
    DeleteObjects {
        /// Their names.
        names: Vec<String>,
    },
    /// Deletes all checkpoints of the job, after a start of this attempt was put under `number`, create-only. Where that
    /// number is taken, another process goes on from them: nothing is deleted.
    DeleteAll {
        /// The next number of the log.
        number: u64,
        /// Their names, in order.
        names: Vec<String>,
    },
    /// Writes the metadata of a savepoint into its own folder.
    StoreSavepoint {
        /// As it was asked for.
        request: u64,
        /// What it has; names are relative to the savepoint's folder.
        metadata: Box<Metadata>,
        /// The inline part of the envelope.
        inline: Vec<u8>,
        /// Objects of the checkpoint folder (last records of tasks that have ended) to be copied under the same names
        /// before.
        copies: Vec<String>,
    },
    /// A savepoint is complete.
    SavepointCompleted {
        /// As it was asked for.
        request: u64,
    },
    /// There will be no such savepoint.
    SavepointFailed {
        /// As it was asked for.
        request: u64,
        /// Why.
        error: Error,
    },
    /// Deletes objects of a savepoint that failed from its folder.
    DeleteSavepointObjects {
        /// As it was asked for.
        request: u64,
        /// Their names.
        names: Vec<String>,
    },
    /// The job must not go on as it is. Nothing follows until [`Event::Ended`].
    FailJob {
        /// Why; `Fenced` is never followed by a restart.
        error: Error,
    },
    /// The last checkpoint of a job that was told to stop is complete and committed.
    Stopped {
        /// Which one.
        checkpoint: CheckpointId,
    },
    /// The last checkpoint of a job that was told to stop failed. Sources may have stopped reading: cancel it.
    StopFailed {
        /// Why.
        error: Error,
    },
    /// All tasks have ended, and the final checkpoint is complete and committed.
    Finished,
}
