//! The barrier: the marker in the stream that parts what belongs to a checkpoint from what comes after.

use crate::id::CheckpointId;

/// A marker that flows with the rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Barrier {
    /// Which checkpoint it starts.
    pub checkpoint: CheckpointId,
    /// In which form tasks write what they hold.
    pub form: SnapshotForm,
    /// How tasks with several inputs treat it.
    pub mode: BarrierMode,
    /// Nothing follows it: sources read no further.
    pub last: bool,
}

/// In which form a task writes what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotForm {
    /// As it is fastest: a backend may give its own files, and share them with earlier checkpoints.
    Native,
    /// In the canonical format of [`snapshot`](crate::snapshot), whatever the backend, and nothing shared: a savepoint.
    Canonical,
}

/// How a task with several inputs treats a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarrierMode {
    /// An input whose barrier has come waits for those of the others: exactly once.
    Aligned,
    /// As aligned for so many milliseconds after the first barrier has arrived; then the barrier overtakes what is in
    /// flight, which becomes part of the checkpoint.
    Unaligned {
        /// What is left of the time: a task sends the barrier on with what it has not used itself. 0: at once.
        after_ms: u64,
    },
    /// Nothing waits: rows after the barrier may be in the snapshot, and come again after a restart.
    AtLeastOnce,
}
