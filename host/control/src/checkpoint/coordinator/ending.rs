//! Savepoints, and what becomes of everything when the tasks are no more.

use pelton_model::checkpoint::log_name;
use pelton_model::id::CheckpointId;
use pelton_model::{Error, ErrorCode};

use super::super::files::named;
use super::super::message::{Action, Ending};
use super::super::pending::Pending;
use super::super::settings::Retention;
use super::{Coordinator, Phase};

impl Coordinator {
    pub(super) fn requested(&mut self, request: u64) {
        match self.phase {
            Phase::Running => self.requests.push_back(request),
            _ => self.refuse(request, "the job has ended"),
        }
    }

    /// Writes the metadata of savepoints that all tasks have answered.
    pub(super) fn store_savepoints(&mut self) {
        let ready = |p: &&Pending| p.is_complete() && p.request().is_some() && !p.storing;
        let ids: Vec<CheckpointId> = self.pending.values().filter(ready).map(|p| p.id).collect();
        for id in ids {
            let Some(pending) = self.pending.get_mut(&id) else {
                continue;
            };
            pending.storing = true;
            let Some(pending) = self.pending.get(&id) else {
                continue;
            };
            let (metadata, inline) = pending.metadata(&self.start, self.wall(pending.began));
            let last = pending.parts.values().filter(|p| p.last);
            let copies = last.flat_map(|p| named(&p.record));
            self.out.push(Action::StoreSavepoint {
                request: pending.request().unwrap_or_default(),
                metadata: Box::new(metadata),
                inline,
                copies: copies.map(|(name, _)| name.to_owned()).collect(),
            });
        }
    }

    pub(super) fn savepoint_stored(&mut self, request: u64, result: Result<(), Error>) {
        let this = |p: &&Pending| p.request() == Some(request) && p.storing;
        let Some(id) = self.pending.values().find(this).map(|p| p.id) else {
            return;
        };
        match (self.pending.remove(&id), result) {
            (Some(pending), Err(error)) => {
                self.delete_of_savepoint(request, &pending);
                self.out.push(Action::SavepointFailed { request, error });
            }
            _ => self.out.push(Action::SavepointCompleted { request }),
        }
    }

    pub(super) fn refuse_all(&mut self, why: &str) {
        for request in std::mem::take(&mut self.requests) {
            self.refuse(request, why);
        }
    }

    pub(super) fn refuse(&mut self, request: u64, why: &str) {
        let message = format!("no savepoint can be made of this job now: {why}");
        self.out.push(Action::SavepointFailed {
            request,
            error: Error::new(ErrorCode::Conflict, message),
        });
    }

    /// Gives up all savepoints whose metadata is not being written.
    pub(super) fn close_savepoints(&mut self, why: &str) {
        self.refuse_all(why);
        let open = |p: &&Pending| p.request().is_some() && !p.storing;
        let ids: Vec<CheckpointId> = self.pending.values().filter(open).map(|p| p.id).collect();
        for id in ids {
            if let Some(request) = self.abort(id, why).and_then(|p| p.request()) {
                self.refuse(request, why);
            }
        }
    }

    /// The tasks are no more. What is being put, committed or written as a savepoint may still end.
    pub(super) fn ended(&mut self, ending: Ending) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.phase = Phase::Ended(ending);
        self.close_savepoints("the job has ended");
        self.give_up("the job has ended", |_| true);
        for part in std::mem::take(&mut self.finished).into_values() {
            let free = self.held.remove(&part.record);
            self.delete(free);
        }
        if ending == Ending::Restart {
            // The next start commits what is complete. What is in work is waited for.
            self.commits.truncate(usize::from(self.committing));
        }
    }

    /// Deletes everything where the settings say so, once nothing is being put or committed.
    pub(super) fn delete_all(&mut self) {
        let Phase::Ended(ending) = self.phase else {
            return;
        };
        let retention = match ending {
            Ending::Restart => Retention::Keep,
            Ending::Cancelled => self.settings.on_cancel,
            Ending::Failed => self.settings.on_failure,
        };
        let busy = self.putting.is_some() || !self.commits.is_empty();
        if retention == Retention::Keep || busy || self.spare {
            return;
        }
        let mut names: Vec<String> = self.kept.iter().map(|c| log_name(c.number)).collect();
        names.extend(self.held.names());
        self.phase = Phase::Done;
        if !names.is_empty() {
            self.out.push(Action::DeleteAll {
                number: self.next_number,
                names,
            });
        }
    }
}
