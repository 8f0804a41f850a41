//! A checkpoint is complete: its sinks commit, one checkpoint after the other.

use std::sync::Arc;

use pelton_model::Error;
use pelton_model::checkpoint::{Committable, Metadata, TaskRecord};
use pelton_model::id::{ChainId, CheckpointId, TaskId};
use pelton_model::time::Monotonic;

use super::super::message::{Action, Completed, Ending};
use super::super::pending::Purpose;
use super::{Commit, Coordinator, Phase};

impl Coordinator {
    pub(super) fn created(&mut self, now: Monotonic, id: CheckpointId, metadata: Arc<Metadata>) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        for record in &metadata.tasks {
            self.kept_files.add(record);
        }
        self.kept.push_back(Completed {
            number: self.next_number,
            metadata: Arc::clone(&metadata),
        });
        self.next_number += 1;
        self.failures = 0;
        self.quiet_until = now.plus_ms(self.settings.min_pause_ms);
        self.give_up("a later checkpoint is complete", |p| p.id < id);
        self.free_limbo();
        if self.phase != Phase::Ended(Ending::Restart) {
            self.commits.push_back(Commit {
                id,
                purpose: pending.purpose,
                metadata,
            });
            self.commit_next();
        }
        self.retire();
    }

    pub(super) fn commit_next(&mut self) {
        while !self.committing && !self.spare {
            let Some(commit) = self.commits.front() else {
                return;
            };
            let committables = not_committed(&commit.metadata, self.last_committed);
            if committables.is_empty() {
                self.committed();
                continue;
            }
            self.committing = true;
            self.out.push(Action::CommitSinks {
                checkpoint: commit.id,
                committables,
            });
        }
    }

    /// The sinks have answered.
    pub(super) fn commit_ended(&mut self, id: CheckpointId, error: Option<Error>) {
        let first = self.commits.front().is_some_and(|c| c.id == id);
        if !self.committing || !first {
            return;
        }
        self.committing = false;
        if let Some(error) = error {
            self.spare = true;
            return self.fail_job(error.at("checkpoint", id.0));
        }
        self.committed();
        self.commit_next();
    }

    /// All of the first in the queue is committed.
    pub(super) fn committed(&mut self) {
        let Some(commit) = self.commits.pop_front() else {
            return;
        };
        self.last_committed = commit.id;
        for record in commit.metadata.tasks.iter().filter(|t| t.finished) {
            let task = TaskId {
                chain: ChainId(record.chain),
                index: record.index,
            };
            if let Some(part) = self.finished.get_mut(&task)
                && !part.record.committables.is_empty()
            {
                Arc::make_mut(part).record.committables.clear();
            }
        }
        if self.phase == Phase::Running {
            if commit.purpose == Purpose::Final {
                self.final_done = true;
            } else {
                let checkpoint = commit.id;
                self.out.push(Action::NotifyCompleted { checkpoint });
                if commit.purpose == Purpose::Last && !self.all_finished() {
                    self.stopped = Some(checkpoint);
                }
            }
        }
        self.retire();
    }
}

/// What is to be committed of a checkpoint: what a task that runs has prepared up to the last commit was in that one.
fn not_committed(metadata: &Metadata, last: CheckpointId) -> Vec<Committable> {
    let of = |t: &TaskRecord| {
        let (finished, all) = (t.finished, t.committables.clone());
        all.into_iter()
            .filter(move |c| finished || c.checkpoint > last.0)
    };
    metadata.tasks.iter().flat_map(of).collect()
}
