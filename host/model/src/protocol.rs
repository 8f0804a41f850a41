//! The messages between the planes: what a task should be, what it is told, what it reports. Values only.

use crate::barrier::Barrier;
use crate::id::{ChannelId, CheckpointId, OperatorId, TaskId};
use crate::key::KeyGroupRange;

/// What one task should run: decided by `control`, carried out by `engine`.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskSpec {
    /// Which task.
    pub task: TaskId,
    /// How many tasks its chain has.
    pub parallelism: u32,
    /// The job's number of key groups.
    pub max_parallelism: u32,
    /// Those that are its own.
    pub key_groups: KeyGroupRange,
    /// The operators of its chain, each after those above it.
    pub operators: Vec<OperatorId>,
    /// Channels that end here, in the order of the chain's edges.
    pub inputs: Vec<InputSpec>,
    /// Edges that leave.
    pub outputs: Vec<OutputSpec>,
}

/// One edge of the graph that comes from other tasks.
#[derive(Clone, PartialEq, Debug)]
pub struct InputSpec {
    /// Index of the edge in the job graph.
    pub edge: u32,
    /// One for each task above.
    pub channels: Vec<ChannelId>,
}

/// One edge of the graph that goes to other tasks.
#[derive(Clone, PartialEq, Debug)]
pub struct OutputSpec {
    /// Index of the edge in the job graph.
    pub edge: u32,
    /// One for each task below that this one can reach, in their order.
    pub channels: Vec<ChannelId>,
}

/// What a task is told, besides its elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskCommand {
    /// Start a checkpoint at the sources: for tasks that have any.
    Checkpoint(Barrier),
    /// A checkpoint is complete.
    Completed(CheckpointId),
    /// A checkpoint will never be complete.
    Aborted(CheckpointId),
    /// Stop at once; nothing is finished.
    Cancel,
    /// Sources end as if their input did.
    Drain,
}
