//! What a simulated process and the outside say to each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pelton_control::checkpoint::Event;
use pelton_model::blob::PutNew;
use pelton_model::checkpoint::Committable;
use pelton_model::protocol::TaskCommand;

/// What a process wants.
#[derive(Debug)]
pub enum Effect {
    /// A request to the outside. Its answer comes by [`answered`](crate::process::Process::answered).
    Send(u64, What),
    /// The task is to be stepped.
    Wake {
        /// Which one.
        task: usize,
        /// Tells it from those that came later.
        turn: u64,
        /// When: nanoseconds.
        at: u64,
    },
    /// A command is on its way to a task.
    Command(usize, TaskCommand),
    /// News for the coordinator are on their way.
    Tell(Box<Event>),
    /// The coordinator wants a tick.
    Tick {
        /// Tells it from those that came later.
        turn: u64,
        /// When: nanoseconds.
        at: u64,
    },
    /// It begins again after a while.
    Restart,
    /// A savepoint of this folder is complete.
    Saved(String),
    /// It is no more; whether the job has finished.
    Over(bool),
    /// Something that must not be.
    Violation(String),
}

/// A request to the outside.
#[derive(Clone, Debug)]
pub enum What {
    /// The whole log, and the lengths of all objects.
    ReadLog,
    /// A conditional write.
    PutNew(String, Arc<[u8]>),
    /// A write.
    Put(String, Arc<[u8]>),
    /// A read.
    Get(String),
    /// A removal.
    Delete(String),
    /// A copy, to another name.
    Copy(String, String),
    /// Makes a part of a sink visible.
    Commit(String, Vec<u8>, u64),
    /// Removes what earlier terms have sealed in the place of a sink.
    Forget(String, u64),
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// Entries with their bytes, and the lengths of all objects.
    Log(Vec<(u64, Vec<u8>)>, BTreeMap<String, u64>),
    /// What became of a conditional write.
    PutNew(PutNew),
    /// What is in the object.
    Bytes(Vec<u8>),
    /// It is done.
    Done,
}

/// What makes these visible, those of earlier checkpoints first.
#[must_use]
pub fn commits(mut committables: Vec<Committable>, term: u64) -> VecDeque<What> {
    committables.sort_by_key(|c| c.checkpoint);
    let commit = |c: Committable| What::Commit(c.uid, c.payload, term);
    committables.into_iter().map(commit).collect()
}
