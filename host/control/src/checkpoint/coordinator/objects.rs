//! What is deleted, and when nothing can refer to it any more.

use std::sync::Arc;

use pelton_model::checkpoint::{TaskRecord, log_name};
use pelton_model::id::CheckpointId;

use super::super::files::{is_shared, named};
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
            None => self.release(id, pending.parts.values()),
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
            self.drop_names(id, names);
        }
    }

    /// What these parts alone had is not needed for checkpoint `id` any more.
    fn release<'a>(&mut self, id: CheckpointId, parts: impl Iterator<Item = &'a Arc<Part>>) {
        let held = &mut self.held;
        let free = parts.flat_map(|part| held.remove(&part.record)).collect();
        self.drop_names(id, free);
    }

    /// Deletes what is not held. Shared files may be in the next checkpoint again, and wait.
    fn drop_names(&mut self, id: CheckpointId, mut names: Vec<String>) {
        names.retain(|name| !self.held.has(name));
        if !matches!(self.phase, Phase::Ended(_)) {
            // Without an id of its own: of whichever comes last.
            let id = match id.0 {
                0 => CheckpointId(self.next_id - 1),
                _ => id,
            };
            for name in names.extract_if(.., |name| is_shared(name)) {
                let latest = self.doomed.entry(name).or_insert(id);
                *latest = id.max(*latest);
            }
        }
        self.delete(names);
    }

    pub(super) fn delete(&mut self, names: Vec<String>) {
        if !names.is_empty() {
            self.out.push(Action::DeleteObjects { names });
        }
    }

    /// An entry stands under the number for which others had failed: they will never be there.
    pub(super) fn free_limbo(&mut self) {
        for (id, parts) in std::mem::take(&mut self.limbo) {
            self.release(id, parts.iter());
        }
    }

    /// Checkpoint `id` is complete: what earlier ones had and it has not, no later one will have.
    pub(super) fn free_doomed(&mut self, id: CheckpointId) {
        let held = &self.held;
        self.doomed.retain(|name, _| !held.has(name));
        let free = self.doomed.extract_if(.., |_, last| *last < id);
        let free = free.map(|(name, _)| name).collect();
        self.delete(free);
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
