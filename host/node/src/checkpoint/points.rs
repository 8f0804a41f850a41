//! Named points that a checkpoint passes, for those who want to see a process die there.
//! Invariant: the product's own binary passes them in silence.

use std::sync::Arc;

/// Is told of each point that is passed, by whichever thread passes it.
pub trait Points: Send + Sync {
    /// The process is at a point; it may never come back.
    fn reach(&self, point: &'static str);
}

/// Nobody wants to know.
#[derive(Debug)]
pub struct Silent;

impl Points for Silent {
    fn reach(&self, _: &'static str) {}
}

/// Shared by all that pass points.
pub type SharedPoints = Arc<dyn Points>;

/// All points there are, in the order in which a checkpoint passes them, and then a start.
pub const ALL: [&str; 18] = [
    BARRIER_SENT,
    SNAPSHOT_BEGUN,
    SNAPSHOT_WRITTEN,
    UPLOAD_BEGUN,
    UPLOAD_STATE,
    UPLOAD_DONE,
    LAST_SNAPSHOT,
    METADATA_BEFORE,
    METADATA_AFTER,
    COMMIT_BEFORE,
    COMMIT_SINK,
    COMMIT_AFTER,
    NOTIFY,
    DELETE,
    START_TERM,
    START_RECOVER,
    START_RECOVERED,
    START_TASKS,
];

/// The command to begin a checkpoint has gone to the sources.
pub const BARRIER_SENT: &str = "barrier-sent";
/// The barriers of all inputs have come to a task: its snapshot begins.
pub const SNAPSHOT_BEGUN: &str = "snapshot-begun";
/// A task has written its whole snapshot.
pub const SNAPSHOT_WRITTEN: &str = "snapshot-written";
/// A task's part is about to be stored.
pub const UPLOAD_BEGUN: &str = "upload-begun";
/// Its state file is stored, other files are not.
pub const UPLOAD_STATE: &str = "upload-state";
/// All of it is stored.
pub const UPLOAD_DONE: &str = "upload-done";
/// A task has ended, and writes its last snapshot.
pub const LAST_SNAPSHOT: &str = "last-snapshot";
/// All tasks are through: the metadata is about to be put.
pub const METADATA_BEFORE: &str = "metadata-before";
/// The metadata is there: the checkpoint is complete.
pub const METADATA_AFTER: &str = "metadata-after";
/// Sinks are about to commit.
pub const COMMIT_BEFORE: &str = "commit-before";
/// One sink has committed, perhaps not the last.
pub const COMMIT_SINK: &str = "commit-sink";
/// All have.
pub const COMMIT_AFTER: &str = "commit-after";
/// Tasks are told that the checkpoint is complete.
pub const NOTIFY: &str = "notify";
/// What is no longer needed is deleted.
pub const DELETE: &str = "delete";
/// A start has taken its term.
pub const START_TERM: &str = "start-term";
/// A start is about to commit what the checkpoint has that it goes on from.
pub const START_RECOVER: &str = "start-recover";
/// It has.
pub const START_RECOVERED: &str = "start-recovered";
/// Its tasks run.
pub const START_TASKS: &str = "start-tasks";
