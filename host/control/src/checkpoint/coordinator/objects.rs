//! What is deleted, and when nothing can refer to it any more.

use std::sync::Arc;

use pelton_model::checkpoint::{TaskRecord, log_name};
use pelton_model::id::CheckpointId;

use super::super::files::named;
use super::super::message::Action;
use super::super::pending::{Part, Pending};
use super::{Coordinator, Phase};

/// How many failed savepoints are remembered for what tasks still store for them.
const FAILED_SAVEPOINTS_MAX: usize = 64;

impl Coordinator {
    /// Gives up checkpoints, never savepoints nor the one that is being put. This is no failure.
    pub(super) fn give_up(&mut self, why: &str, which: impl Fn(&Pending) -> bool) {
        let putting = self.putting.as_ref().map(|(id, _)| *id);
        let these = |p: &&Pending| p.request().is_none() && Some(p.id) != putting && which(p);
        let ids: Vec<_> = self.pending.values().filter(these).map(|p| p.id).collect();
        for id in ids {
            self.abort(id, why);
        }
    }

    /// Takes it out, tells the tasks and deletes what it alone had.
    pub(super) fn abort(&mut self, id: CheckpointId, why: &str) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.notify_aborted(id, why.to_owned());
        match pending.request() {
            Some(request) => {
                self.failed_savepoints.insert(id, request);
                if self.failed_savepoints.len() > FAILED_SAVEPOINTS_MAX {
                    self.failed_savepoints.pop_first();
                }
                self.delete_of_savepoint(request, &pending);
            }
            None => self.release(pending.parts.values()),
        }
        Some(pending)
    }

    pub(super) fn notify_aborted(&mut self, checkpoint: CheckpointId, why: String) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.out.push(Action::NotifyAborted { checkpoint, why });
        }
    }

    /// A task has stored something that nobody waits for.
    pub(super) fn discard(&mut self, id: CheckpointId, record: &TaskRecord) {
        let names = named(record).map(|(name, _)| name.to_owned());
        if let Some(request) = self.failed_savepoints.get(&id) {
            let (request, names): (_, Vec<_>) = (*request, names.collect());
            if !names.is_empty() {
                self.out
                    .push(Action::DeleteSavepointObjects { request, names });
            }
        } else if !self.pending.contains_key(&id) {
            let names = names.collect();
            self.drop_names(names);
        }
    }

    /// What these parts alone had is not needed any more.
    fn release<'a>(&mut self, parts: impl Iterator<Item = &'a Arc<Part>>) {
        let held = &mut self.held;
        let free = parts.flat_map(|part| held.remove(&part.record)).collect();
        self.drop_names(free);
    }

    /// Deletes what is not held. Nothing is stored under the same name again, and whoever refers to it after this is told
    /// that it is lost.
    fn drop_names(&mut self, mut names: Vec<String>) {
        names.retain(|name| !self.held.has(name));
        self.delete(names);
    }

    pub(super) fn delete(&mut self, names: Vec<String>) {
        if !names.is_empty() {
            self.out.push(Action::DeleteObjects { names });
        }
    }

    /// An entry stands under the number for which others had failed: they will never be there.
    pub(super) fn free_limbo(&mut self) {
        for (_, parts) in std::mem::take(&mut self.limbo) {
            self.release(parts.iter());
        }
    }

    /// Deletes complete ones beyond those that are kept, once they are committed: first their entries.
    pub(super) fn retire(&mut self) {
        let retained = self.settings.retained.max(1) as usize;
        while self.kept.len() > retained {
            let committing = |id: CheckpointId| self.commits.iter().any(|c| c.id <= id);
            let Some(oldest) = self
                .kept
                .pop_front_if(|oldest| !committing(oldest.metadata.checkpoint()))
            else {
                return;
            };
            let mut names = vec![log_name(oldest.number)];
            for record in &oldest.metadata.tasks {
                self.kept_files.remove(record);
                names.extend(self.held.remove(record));
            }
            self.delete(names);
        }
    }

    pub(super) fn delete_of_savepoint(&mut self, request: u64, pending: &Pending) {
        let own = pending.parts.values().filter(|p| !p.last);
        let names: Vec<String> = own
            .flat_map(|p| named(&p.record))
            .map(|(name, _)| name.to_owned())
            .collect();
        if !names.is_empty() {
            self.out
                .push(Action::DeleteSavepointObjects { request, names });
        }
    }
}
