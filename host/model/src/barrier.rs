//! The barrier: the marker in the stream that parts what belongs to a checkpoint from what comes after.

use crate::id::CheckpointId;

/// A marker that flows with the rows. Needs no more than its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Barrier {
    /// Which checkpoint it starts.
    pub checkpoint: CheckpointId,
}
