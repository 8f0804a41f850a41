//! The coordinator of one start of a job.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pelton_model::barrier::{Barrier, BarrierMode, SnapshotForm};
use pelton_model::checkpoint::{Metadata, StoredFile, TaskRecord};
use pelton_model::id::{CheckpointId, TaskId};
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode};

use super::files::{Files, is_lost};
use super::message::{Action, Completed, Ending, Event, Started, StoreOutcome};
use super::pending::{Part, Pending, Purpose};
use super::settings::CheckpointSettings;

mod commit;
mod ending;
mod objects;

/// Between two tries to store the final checkpoint.
const FINAL_RETRY_MS: u64 = 1_000;

/// Coordinates the checkpoints and savepoints of one start of a job.
#[derive(Debug)]
pub struct Coordinator {
    settings: CheckpointSettings,
    start: Started,
    began: Monotonic,
    phase: Phase,
    next_id: u64,
    next_number: u64,
    pending: BTreeMap<CheckpointId, Pending>,
    /// The one whose entry is being put.
    putting: Option<(CheckpointId, Arc<Metadata>)>,
    /// Last records of tasks that have ended.
    finished: BTreeMap<TaskId, Arc<Part>>,
    /// Complete ones, the oldest first.
    kept: VecDeque<Completed>,
    /// Complete ones whose committables are not all committed; the first is in work if `committing`.
    commits: VecDeque<Commit>,
    committing: bool,
    last_committed: CheckpointId,
    /// What `kept` refers to.
    kept_files: Files,
    /// What anything refers to: `kept`, `pending` except savepoints, `finished`, `limbo`.
    held: Files,
    /// Of checkpoints whose put failed: it may still succeed, until another entry has the number.
    limbo: Vec<(CheckpointId, Vec<Arc<Part>>)>,
    /// In a row.
    failures: u32,
    due: Option<Monotonic>,
    /// The end of the pause.
    quiet_until: Monotonic,
    wanted: bool,
    requests: VecDeque<u64>,
    /// Those that failed, for what tasks still store for them; the last few.
    failed_savepoints: BTreeMap<CheckpointId, u64>,
    stop: Stop,
    /// The last before a stop, complete and committed.
    stopped: Option<CheckpointId>,
    final_retry: Monotonic,
    final_done: bool,
    /// Something is not as it should be: nothing of what is complete is deleted at the end.
    spare: bool,
    out: Vec<Action>,
}

#[derive(Debug)]
struct Commit {
    id: CheckpointId,
    purpose: Purpose,
    metadata: Arc<Metadata>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    /// The driver was told to fail the job.
    Failed,
    /// The tasks are no more.
    Ended(Ending),
    /// All is said.
    Done,
    /// Another process has taken over: not a word more.
    Fenced,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    No,
    Wanted,
    Sent(CheckpointId),
}

impl Coordinator {
    /// `now` belongs to the same moment as `start.at_ms`. Call [`step`](Self::step) with a tick next.
    #[must_use]
    pub fn new(settings: CheckpointSettings, mut start: Started, now: Monotonic) -> Self {
        let (mut kept_files, mut held) = (Files::default(), Files::default());
        let mut highest = start.term.max(start.ids_above);
        for completed in &start.previous {
            highest = highest.max(completed.metadata.id);
            for record in &completed.metadata.tasks {
                kept_files.add(record);
                held.add(record);
            }
        }
        let orphans = std::mem::take(&mut start.orphans);
        let names: Vec<String> = orphans.into_iter().filter(|n| !held.has(n)).collect();
        let out = match names.is_empty() {
            true => Vec::new(),
            false => vec![Action::DeleteObjects { names }],
        };
        Self {
            began: now,
            phase: Phase::Running,
            next_id: highest + 1,
            next_number: start.term + 1,
            pending: BTreeMap::new(),
            putting: None,
            finished: BTreeMap::new(),
            kept: start.previous.iter().cloned().collect(),
            commits: VecDeque::new(),
            committing: false,
            last_committed: CheckpointId(0),
            kept_files,
            held,
            limbo: Vec::new(),
            failures: 0,
            due: settings.interval_ms.map(|ms| now.plus_ms(ms)),
            quiet_until: now,
            wanted: false,
            requests: VecDeque::new(),
            failed_savepoints: BTreeMap::new(),
            stop: Stop::No,
            stopped: None,
            final_retry: now,
            final_done: false,
            spare: false,
            out,
            settings,
            start,
        }
    }

    /// Takes an event, and says what is to be done, in this order.
    pub fn step(&mut self, now: Monotonic, event: Event) -> Vec<Action> {
        if matches!(self.phase, Phase::Fenced | Phase::Done) {
            return Vec::new();
        }
        match event {
            Event::Tick => {}
            Event::TriggerNow => self.wanted = true,
            Event::Stop => {
                if self.stop == Stop::No {
                    self.stop = Stop::Wanted;
                }
            }
            Event::SavepointRequested { request } => self.requested(request),
            Event::Acknowledged {
                task,
                checkpoint,
                record,
                inline,
            } => self.acknowledged(now, task, checkpoint, record, inline),
            Event::Declined {
                task,
                checkpoint,
                error,
            } => self.declined(now, task, checkpoint, error),
            Event::TaskFinished {
                task,
                after,
                record,
                inline,
            } => self.task_finished(task, after, record, inline),
            Event::Stored {
                checkpoint,
                outcome,
            } => self.stored(now, checkpoint, outcome),
            Event::SavepointStored { request, result } => self.savepoint_stored(request, result),
            Event::Committed { checkpoint } => self.commit_ended(checkpoint, None),
            Event::CommitFailed { checkpoint, error } => {
                self.commit_ended(checkpoint, Some(error));
            }
            Event::Ended(ending) => self.ended(ending),
        }
        if self.phase == Phase::Running {
            self.advance(now);
        }
        self.delete_all();
        std::mem::take(&mut self.out)
    }

    /// When [`step`](Self::step) wants a tick, if nothing else happens before. A time that has passed: at once.
    #[must_use]
    pub fn next_wake(&self) -> Option<Monotonic> {
        if self.phase != Phase::Running {
            return None;
        }
        let under_way = self.pending.values().filter(|p| !p.is_complete());
        let timeout = under_way
            .map(|p| p.began.plus_ms(self.settings.timeout_ms))
            .min();
        let may =
            self.stop == Stop::No && self.has_room() && self.running_sources().next().is_some();
        let due = self.due.filter(|_| may).map(|d| d.max(self.quiet_until));
        let all = self.all_finished() && !self.final_done && self.is_idle();
        let last = all.then_some(self.final_retry);
        [timeout, due, last].into_iter().flatten().min()
    }

    /// A file of a backend that a complete and kept checkpoint has: `identity` is the last part of the object's name.
    #[must_use]
    pub fn known_file(&self, identity: &str) -> Option<StoredFile> {
        self.kept_files.shared(identity).cloned()
    }

    /// Whether nothing is being put, committed or written as a savepoint: after the end of the tasks, the driver waits for
    /// this.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let storing = self.pending.values().any(|p| p.storing);
        matches!(self.phase, Phase::Fenced | Phase::Done)
            || (self.putting.is_none() && !self.committing && !storing)
    }

    /// Complete checkpoints that are kept, the oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Completed> {
        self.kept.iter()
    }

    /// The highest id given: for `ids_above` of the next start in this process.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.next_id - 1
    }

    fn advance(&mut self, now: Monotonic) {
        let late: Vec<CheckpointId> = self
            .pending
            .values()
            .filter(|p| !p.is_complete() && now >= p.began.plus_ms(self.settings.timeout_ms))
            .map(|p| p.id)
            .collect();
        for id in late {
            let missing = self.pending.get(&id).map_or(0, |p| p.waiting.len());
            let message = format!(
                "checkpoint {} was given up after {} ms: {missing} tasks have not answered",
                id.0, self.settings.timeout_ms
            );
            self.fail(now, id, Error::new(ErrorCode::CheckpointFailed, message));
        }
        if self.phase == Phase::Running {
            self.store_savepoints();
            match (self.stopped, self.all_finished()) {
                (Some(checkpoint), _) => self.stop_now(checkpoint),
                (None, true) => self.finish(now),
                (None, false) => self.trigger(now),
            }
        }
        if self.phase == Phase::Running {
            self.store_next();
        }
    }

    fn trigger(&mut self, now: Monotonic) {
        if self.running_sources().next().is_none() {
            self.refuse_all("its sources have ended, and it is about to end");
            return;
        }
        match self.stop {
            Stop::Sent(_) => return self.refuse_all("the job is about to stop"),
            Stop::Wanted => {
                self.refuse_all("the job is about to stop");
                self.give_up("the job stops", |p| !p.is_complete());
                self.stop = Stop::Sent(CheckpointId(self.next_id));
                return self.begin(now, Purpose::Last);
            }
            Stop::No => {}
        }
        while self.has_room() {
            let due = self.due.is_some_and(|due| now >= due.max(self.quiet_until));
            if let Some(request) = self.requests.pop_front() {
                self.begin(now, Purpose::Savepoint { request });
            } else if due || self.wanted {
                self.wanted = false;
                self.due = self.settings.interval_ms.map(|ms| now.plus_ms(ms));
                self.begin(now, Purpose::Checkpoint);
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, now: Monotonic, purpose: Purpose) {
        let id = CheckpointId(self.next_id);
        self.next_id += 1;
        let all = self.start.tasks.iter().map(|t| t.task);
        let pending = Pending {
            id,
            purpose,
            began: now,
            waiting: all.filter(|t| !self.finished.contains_key(t)).collect(),
            parts: self.finished.clone(),
            storing: false,
        };
        let savepoint = pending.request().is_some();
        if !savepoint {
            for part in pending.parts.values() {
                self.held.add(&part.record);
            }
        }
        self.pending.insert(id, pending);
        if purpose == Purpose::Final {
            return;
        }
        let barrier = Barrier {
            checkpoint: id,
            form: match savepoint {
                true => SnapshotForm::Canonical,
                false => SnapshotForm::Native,
            },
            mode: match savepoint {
                true => BarrierMode::Aligned,
                false => self.settings.mode,
            },
            last: purpose == Purpose::Last,
        };
        let tasks = self.running_sources().collect();
        self.out.push(Action::Trigger { barrier, tasks });
    }

    fn acknowledged(
        &mut self,
        now: Monotonic,
        task: TaskId,
        checkpoint: CheckpointId,
        record: TaskRecord,
        inline: Vec<u8>,
    ) {
        let waiting = |p: &&mut Pending| p.waiting.contains(&task);
        let Some(pending) = self.pending.get_mut(&checkpoint).filter(waiting) else {
            return self.discard(checkpoint, &record);
        };
        if pending.request().is_none() {
            let lost = is_lost(&record, &self.held, (self.start.term, Some(checkpoint)));
            if let Some(error) = lost {
                self.discard(CheckpointId(0), &record);
                return self.declined(now, task, checkpoint, error);
            }
            self.held.add(&record);
        }
        pending.waiting.remove(&task);
        let part = Part {
            last: false,
            record,
            inline,
        };
        pending.parts.insert(task, Arc::new(part));
    }

    fn declined(&mut self, now: Monotonic, task: TaskId, checkpoint: CheckpointId, error: Error) {
        let pending = self.pending.get(&checkpoint);
        if pending.is_some_and(|p| p.waiting.contains(&task)) {
            self.fail(now, checkpoint, error.at("task", task));
        }
    }

    fn task_finished(
        &mut self,
        task: TaskId,
        after: Option<CheckpointId>,
        record: TaskRecord,
        inline: Vec<u8>,
    ) {
        let known = self.start.tasks.iter().any(|t| t.task == task);
        // Ended by the last barrier: it has more to do after the next start.
        let stopped = matches!(self.stop, Stop::Sent(last) if after == Some(last));
        if !known || stopped || self.finished.contains_key(&task) || self.phase != Phase::Running {
            return self.discard(CheckpointId(0), &record);
        }
        if let Some(error) = is_lost(&record, &self.held, (self.start.term, None)) {
            self.discard(CheckpointId(0), &record);
            return self.fail_job(error.at("task", task));
        }
        let part = Arc::new(Part {
            last: true,
            record,
            inline,
        });
        self.held.add(&part.record);
        for pending in self.pending.values_mut() {
            if after.is_none_or(|after| pending.id > after) && pending.waiting.remove(&task) {
                if pending.request().is_none() {
                    self.held.add(&part.record);
                }
                pending.parts.insert(task, Arc::clone(&part));
            }
        }
        self.finished.insert(task, part);
    }

    /// Puts the earliest that all tasks have answered, unless one is being put.
    fn store_next(&mut self) {
        let complete = |p: &&Pending| p.is_complete() && p.request().is_none();
        if self.putting.is_some() {
            return;
        }
        let Some(pending) = self.pending.values().find(complete) else {
            return;
        };
        let (metadata, inline) = pending.metadata(&self.start, self.wall(pending.began));
        let metadata = Arc::new(metadata);
        self.putting = Some((pending.id, Arc::clone(&metadata)));
        self.out.push(Action::Store {
            number: self.next_number,
            metadata,
            inline,
        });
    }

    fn stored(&mut self, now: Monotonic, id: CheckpointId, outcome: StoreOutcome) {
        let Some((_, metadata)) = self.putting.take_if(|(putting, _)| *putting == id) else {
            return;
        };
        match outcome {
            StoreOutcome::Created => self.created(now, id, metadata),
            StoreOutcome::Fenced => {
                let message = format!(
                    "checkpoint {} was not written: another process has taken over this job",
                    id.0
                );
                self.close_savepoints("another process has taken over this job");
                self.fail_job(Error::new(ErrorCode::Fenced, message));
                self.phase = Phase::Fenced;
            }
            StoreOutcome::Late => {
                self.spare = true;
                let message = format!(
                    "an earlier checkpoint, which was given up, stands where checkpoint {} should",
                    id.0
                );
                self.fail_job(Error::new(ErrorCode::CheckpointFailed, message));
            }
            StoreOutcome::Failed(error) => {
                if let Some(pending) = self.pending.remove(&id) {
                    self.limbo.push((id, pending.parts.into_values().collect()));
                    self.notify_aborted(id, error.message().to_owned());
                    self.failed(now, pending.purpose, error.at("checkpoint", id.0));
                }
            }
        }
    }

    /// All tasks have ended.
    fn finish(&mut self, now: Monotonic) {
        self.refuse_all("the job has ended");
        if self.final_done {
            if self.pending.is_empty() {
                self.out.push(Action::Finished);
                self.phase = Phase::Done;
            }
            return;
        }
        self.give_up("all tasks have ended", |p| p.purpose != Purpose::Final);
        if self.is_idle() && now >= self.final_retry {
            self.begin(now, Purpose::Final);
        }
    }

    /// The job has stopped; savepoints that are still being written may be completed.
    fn stop_now(&mut self, checkpoint: CheckpointId) {
        self.close_savepoints("the job has stopped");
        if self.pending.values().all(|p| p.request().is_none()) {
            self.out.push(Action::Stopped { checkpoint });
            self.phase = Phase::Done;
        }
    }

    /// No checkpoint is under way, and none being committed.
    fn is_idle(&self) -> bool {
        self.commits.is_empty() && self.pending.values().all(|p| p.request().is_some())
    }

    /// A checkpoint or savepoint will not be complete.
    fn fail(&mut self, now: Monotonic, id: CheckpointId, error: Error) {
        let Some(pending) = self.abort(id, error.message()) else {
            return;
        };
        self.failed(now, pending.purpose, error);
    }

    fn failed(&mut self, now: Monotonic, purpose: Purpose, error: Error) {
        if let Purpose::Savepoint { request } = purpose {
            self.out.push(Action::SavepointFailed { request, error });
            return;
        }
        if self.phase != Phase::Running {
            return;
        }
        match purpose {
            Purpose::Last if !self.all_finished() => {
                self.phase = Phase::Failed;
                self.out.push(Action::StopFailed { error });
                return;
            }
            Purpose::Final => self.final_retry = now.plus_ms(FINAL_RETRY_MS),
            _ => {}
        }
        self.quiet_until = now.plus_ms(self.settings.min_pause_ms);
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.settings.tolerated_failures {
            let message = format!(
                "{} checkpoints in a row failed, and {} are tolerated: {}",
                self.failures, self.settings.tolerated_failures, error
            );
            self.fail_job(Error::new(ErrorCode::CheckpointFailed, message));
        }
    }

    fn fail_job(&mut self, error: Error) {
        if self.phase == Phase::Running {
            self.phase = Phase::Failed;
            self.out.push(Action::FailJob { error });
        }
    }

    fn running_sources(&self) -> impl Iterator<Item = TaskId> {
        let tasks = self.start.tasks.iter();
        tasks
            .filter(|t| t.sources && !self.finished.contains_key(&t.task))
            .map(|t| t.task)
    }

    fn all_finished(&self) -> bool {
        self.finished.len() == self.start.tasks.len()
    }

    fn has_room(&self) -> bool {
        let under_way = |p: &&Pending| p.request().is_none() || !p.is_complete();
        let count = self.pending.values().filter(under_way).count() + self.commits.len();
        count < self.settings.max_concurrent as usize
    }

    fn wall(&self, at: Monotonic) -> i64 {
        let since = at.since(self.began) / 1_000_000;
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        self.start.at_ms.saturating_add(since)
    }
}
