//! A checkpoint or savepoint that is under way, and how its metadata is put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pelton_model::checkpoint::{Metadata, StoredFile, TaskRecord};
use pelton_model::id::{CheckpointId, TaskId};
use pelton_model::time::Monotonic;

use super::message::Started;

/// What a task has stored.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Whether it is the last of a task that has ended.
    pub(super) last: bool,
    pub(super) record: TaskRecord,
    pub(super) inline: Vec<u8>,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// One of many.
    Checkpoint,
    /// The last before a stop.
    Last,
    /// All tasks have ended.
    Final,
    /// Asked for by a user.
    Savepoint { request: u64 },
}

/// A checkpoint or savepoint that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: CheckpointId,
    pub(super) purpose: Purpose,
    pub(super) began: Monotonic,
    /// Tasks that have not answered.
    pub(super) waiting: BTreeSet<TaskId>,
    pub(super) parts: BTreeMap<TaskId, Arc<Part>>,
    /// Its metadata is being written.
    pub(super) storing: bool,
}

impl Pending {
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn request(&self) -> Option<u64> {
        match self.purpose {
            Purpose::Savepoint { request } => Some(request),
            _ => None,
        }
    }

    /// Metadata and the inline part of its envelope. `at_ms`: the wall clock when it began.
    pub(super) fn metadata(&self, start: &Started, at_ms: i64) -> (Metadata, Vec<u8>) {
        let mut inline = Vec::new();
        let mut tasks = Vec::with_capacity(self.parts.len());
        for (task, part) in &self.parts {
            let mut record = part.record.clone();
            (record.chain, record.index) = (task.chain.0, task.index);
            record.finished = part.last;
            let base = inline.len() as u64;
            let native = record.native.iter_mut().flat_map(|n| &mut n.files);
            let files = record.state.iter_mut().chain(native.map(|f| &mut f.file));
            files.for_each(|file: &mut StoredFile| {
                file.inline = file.inline.map(|at| at.saturating_add(base));
            });
            inline.extend_from_slice(&part.inline);
            tasks.push(record);
        }
        let metadata = Metadata {
            id: self.id.0,
            attempt: start.attempt.clone(),
            term: start.term,
            job: start.job.clone(),
            savepoint: self.request().is_some(),
            finished: self.purpose == Purpose::Final,
            at_ms,
            operators: start.operators.clone(),
            tasks,
        };
        (metadata, inline)
    }
}
