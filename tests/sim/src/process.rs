//! One simulated process: takes its term, runs the real tasks, and carries out what the real coordinator says.
//! Needs: the engine's tasks, control's coordinator. Refuses: time, chance of faults, the outside; it says what it wants of
//! them as [`Effect`]s, and hears of the outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pelton_control::checkpoint::{
    Action, Asked, CheckpointSettings, Contents, Coordinator, Ending, Event, StartAction,
    StartEvent, Started, Starting, StoreOutcome, Term,
};
use pelton_engine::snapshot::RestoreFrom;
use pelton_model::barrier::SnapshotForm;
use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::checkpoint::{JobRecord, LogEntry, Metadata, encode, log_name};
use pelton_model::id::{CheckpointId, TaskId};
use pelton_model::protocol::TaskCommand;
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::{Error, ErrorCode, Result};

use crate::chance::Chance;
use crate::message::{Answer, Effect, What, commits};
use crate::plan::Plant;
use crate::run::{Out, Run, Setup};
use crate::saved::Savepoints;
use crate::world::{self, Shared, Store};

mod plants;

/// So often a request is tried.
const TRIES: u32 = 4;

/// What goes on with an answer.
#[derive(Debug)]
enum Wait {
    /// The log was read.
    Log,
    /// The start was put.
    Start,
    /// The start is compared with what is there.
    StartBack,
    /// The log was looked at once more.
    StartLast,
    /// Parts are made visible, one after the other, before the tasks start.
    Recover(VecDeque<What>),
    /// A state file was put.
    Upload(Box<Event>),
    /// An entry was put.
    Entry(CheckpointId, u64),
    /// An entry is compared with what is there.
    EntryBack(CheckpointId),
    /// Parts are made visible, one after the other.
    Commit(CheckpointId, VecDeque<What>),
    /// Objects are removed, one after the other.
    Delete(VecDeque<What>),
    /// A savepoint is written, one object after the other.
    Savepoint(u64, VecDeque<What>),
}

struct Waiting {
    what: What,
    then: Wait,
    tries: u32,
    run: u64,
}

/// A process.
pub struct Process {
    setup: Setup,
    settings: CheckpointSettings,
    world: Shared,
    chance: Chance,
    attempt: String,
    waiting: BTreeMap<u64, Waiting>,
    next_request: u64,
    coordinator: Option<Coordinator>,
    run: Option<Run>,
    /// How often it has started the job.
    pub runs: u64,
    term: u64,
    starting: Option<Starting>,
    taken: Option<Box<Term>>,
    /// The number of its first start from a savepoint.
    since: Option<u64>,
    savepoints: Savepoints,
    /// The job has failed, and the coordinator hears of it.
    failing: bool,
    /// It has heard of it.
    ended: bool,
    ticks: u64,
    effects: Vec<Effect>,
    over: bool,
    /// It goes on with nothing before: nanoseconds.
    pub paused_until: u64,
}

impl Process {
    /// A process that begins at once.
    #[must_use]
    pub fn new(
        setup: Setup,
        settings: CheckpointSettings,
        world: Shared,
        chance: Chance,
        id: u64,
    ) -> Self {
        Self {
            setup,
            settings,
            world,
            chance,
            attempt: format!("process-{id}"),
            waiting: BTreeMap::new(),
            next_request: 0,
            coordinator: None,
            run: None,
            runs: 0,
            term: 0,
            starting: None,
            taken: None,
            since: None,
            savepoints: Savepoints::default(),
            failing: false,
            ended: false,
            ticks: 0,
            effects: Vec::new(),
            over: false,
            paused_until: 0,
        }
    }

    /// What it wants by now.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Starts the job, for the first time or again.
    pub fn begin(&mut self, now: u64) {
        self.runs += 1;
        (self.run, self.coordinator) = (None, None);
        (self.failing, self.ended) = (false, false);
        self.savepoints = Savepoints::default();
        let asked = Asked {
            job: self.record(),
            attempt: self.attempt(),
            fresh: false,
            savepoint: self.setup.saved.as_ref().map(|saved| saved.identity()),
            since: self.since,
            at_ms: ms(now),
        };
        let (starting, first) = Starting::new(asked, BTreeMap::new());
        self.starting = Some(starting);
        self.start_step(now, first);
    }

    fn attempt(&self) -> String {
        format!("{}-{}", self.attempt, self.runs)
    }

    fn ask(&mut self, what: What, then: Wait) {
        self.ask_again(what, then, 0);
    }

    fn ask_again(&mut self, what: What, then: Wait, tries: u32) {
        self.next_request += 1;
        self.effects
            .push(Effect::Send(self.next_request, what.clone()));
        let waiting = Waiting {
            what,
            then,
            tries,
            run: self.runs,
        };
        self.waiting.insert(self.next_request, waiting);
    }

    /// The outside has answered.
    pub fn answered(&mut self, now: u64, request: u64, answer: Result<Answer>) {
        let Some(waiting) = self.waiting.remove(&request) else {
            return;
        };
        let old = waiting.run != self.runs;
        if old && !matches!(waiting.then, Wait::Delete(_)) {
            return;
        }
        match answer {
            Err(e) if e.code() == ErrorCode::StoreUnavailable && self.tries_again(&waiting) => {
                let Waiting {
                    what, then, tries, ..
                } = waiting;
                self.ask_again(what, then, tries + 1);
            }
            Err(e) => self.refused(now, waiting.then, e),
            Ok(answer) => self.go_on(now, waiting.then, answer),
        }
    }

    fn tries_again(&self, waiting: &Waiting) -> bool {
        let needed = matches!(
            waiting.then,
            Wait::Log | Wait::Start | Wait::StartBack | Wait::StartLast | Wait::Recover(_)
        );
        let assumes = self.has(Plant::AssumePut) && matches!(waiting.then, Wait::Entry(..));
        needed || (waiting.tries < TRIES && !assumes)
    }

    fn refused(&mut self, now: u64, then: Wait, error: Error) {
        match then {
            Wait::Recover(_) => self.fail(error),
            Wait::Log => self.start_event(now, StartEvent::Read(Err(error))),
            Wait::Start => self.start_event(now, StartEvent::Put(Err(error))),
            Wait::StartBack => self.start_event(now, StartEvent::ReadBack(Err(error))),
            Wait::StartLast => self.start_event(now, StartEvent::Last(Err(error))),
            Wait::Savepoint(request, _) => {
                let result = Err(error);
                self.event(now, Event::SavepointStored { request, result });
            }
            Wait::Upload(event) => match *event {
                Event::Acknowledged {
                    task, checkpoint, ..
                } => self.event(
                    now,
                    Event::Declined {
                        task,
                        checkpoint,
                        error,
                    },
                ),
                _ => self.fail(error),
            },
            Wait::Entry(checkpoint, _) | Wait::EntryBack(checkpoint) => {
                let outcome = match error.code() {
                    _ if self.has(Plant::AssumePut) => StoreOutcome::Created,
                    ErrorCode::NotFound => StoreOutcome::Fenced,
                    _ => StoreOutcome::Failed(error),
                };
                self.event(
                    now,
                    Event::Stored {
                        checkpoint,
                        outcome,
                    },
                );
            }
            Wait::Commit(checkpoint, _) => {
                self.event(now, Event::CommitFailed { checkpoint, error });
            }
            // What is not removed is only in the way.
            Wait::Delete(rest) => self.next_delete(rest),
        }
    }

    fn go_on(&mut self, now: u64, then: Wait, answer: Answer) {
        match (then, answer) {
            (Wait::Log, Answer::Log(entries, lengths)) => {
                let contents = contents(entries, lengths);
                self.plants_of_start(Plant::CollectEarly);
                self.start_event(now, StartEvent::Read(Ok(contents)));
            }
            (Wait::Start, Answer::PutNew(put)) => self.start_event(now, StartEvent::Put(Ok(put))),
            (Wait::StartBack, Answer::Bytes(there)) => {
                self.start_event(now, StartEvent::ReadBack(Ok(there)));
            }
            (Wait::StartLast, Answer::Log(entries, _)) => {
                let last = entries.last().map_or(0, |(number, _)| *number);
                self.start_event(now, StartEvent::Last(Ok(last)));
            }
            (Wait::Savepoint(request, rest), _) => self.next_of_savepoint(now, request, rest),
            (Wait::Recover(rest), _) => self.next_recovery(now, rest),
            (Wait::Upload(event), _) => self.effects.push(Effect::Tell(event)),
            (Wait::Entry(checkpoint, _), Answer::PutNew(PutNew::Created)) => {
                let outcome = StoreOutcome::Created;
                self.event(
                    now,
                    Event::Stored {
                        checkpoint,
                        outcome,
                    },
                );
            }
            (Wait::Entry(checkpoint, number), Answer::PutNew(PutNew::Exists)) => {
                self.ask(What::Get(log_name(number)), Wait::EntryBack(checkpoint));
            }
            (Wait::EntryBack(checkpoint), Answer::Bytes(there)) => {
                let outcome = self.compare(checkpoint, &there);
                self.event(
                    now,
                    Event::Stored {
                        checkpoint,
                        outcome,
                    },
                );
            }
            (Wait::Commit(checkpoint, rest), _) => self.next_commit(now, checkpoint, rest),
            (Wait::Delete(rest), _) => self.next_delete(rest),
            (then, answer) => self.violation(format!("{answer:?} is no answer to {then:?}")),
        }
    }

    fn violation(&mut self, what: String) {
        self.effects.push(Effect::Violation(what));
    }

    // ---- the start

    fn start_event(&mut self, now: u64, event: StartEvent) {
        let Some(starting) = &mut self.starting else {
            return;
        };
        let action = starting.step(event, &|_| Ok(()));
        self.start_step(now, action);
    }

    fn start_step(&mut self, now: u64, action: StartAction) {
        match action {
            StartAction::Read => self.ask(What::ReadLog, Wait::Log),
            StartAction::Put { number, bytes } => {
                self.ask(What::PutNew(log_name(number), bytes.into()), Wait::Start);
            }
            StartAction::ReadBack { number } => {
                self.ask(What::Get(log_name(number)), Wait::StartBack);
            }
            StartAction::Look if self.has(Plant::TrustPut) => {
                self.start_event(now, StartEvent::Last(Ok(0)));
            }
            StartAction::Look => self.ask(What::ReadLog, Wait::StartLast),
            StartAction::Begin(term) => self.taken(now, *term),
            StartAction::Refuse(error) => self.fail(error),
        }
    }

    fn record(&self) -> JobRecord {
        JobRecord {
            name: self.setup.job.name.to_owned(),
            max_parallelism: self.setup.max_parallelism,
            ..JobRecord::default()
        }
    }

    /// The term is taken: sinks come first.
    fn taken(&mut self, now: u64, term: Term) {
        self.term = term.number;
        if term.from.is_none() && self.setup.saved.is_some() {
            self.since = self.since.or(Some(term.number));
        }
        let mut todo = VecDeque::new();
        if let Some(from) = self.restored(&term) {
            let committables: Vec<_> = from.metadata.committables().cloned().collect();
            if !self.has(Plant::SkipRecovery) {
                todo.extend(commits(committables, self.term));
            }
            let forget = |uid: &String| What::Forget(uid.clone(), term.number);
            todo.extend(self.setup.job.keys.keys().map(forget));
        }
        self.taken = Some(Box::new(term));
        self.next_recovery(now, todo);
    }

    /// What a start goes on from: a checkpoint of the folder, or else the savepoint.
    fn restored(&self, term: &Term) -> Option<RestoreFrom> {
        let forgets = self.has(Plant::ForgetEnded);
        let from = match (&term.from, &self.setup.saved) {
            (Some((metadata, inline)), _) => RestoreFrom {
                metadata: Arc::new(metadata.clone()),
                inline: Arc::new(inline.clone()),
                blobs: Arc::new(Store::new(&self.world)) as Arc<dyn Blobs>,
            },
            (None, Some(saved)) => saved.from(&self.world),
            (None, None) => return None,
        };
        let mut metadata = Metadata::clone(&from.metadata);
        metadata.tasks.retain(|t| !(forgets && t.finished));
        Some(RestoreFrom {
            metadata: Arc::new(metadata),
            ..from
        })
    }

    fn next_recovery(&mut self, now: u64, mut todo: VecDeque<What>) {
        match todo.pop_front() {
            Some(what) => self.ask(what, Wait::Recover(todo)),
            None => self.start(now),
        }
    }

    fn start(&mut self, now: u64) {
        let Some(term) = self.taken.take() else {
            return;
        };
        let restore = self.restored(&term);
        if restore.as_ref().is_some_and(|from| from.metadata.finished) {
            return self.end(true);
        }
        self.plants_of_start(Plant::CollectReferred);
        let begun_from = restore.as_ref().map_or(0, |from| from.metadata.id);
        world::lock(&self.world).collected += term.orphans.len() as u64;
        let run = Run::new(&self.setup, term.number, restore, &self.world, &self.chance);
        let run = match run {
            Ok(run) => run,
            Err(e) => return self.fail(e),
        };
        let started = Started {
            tasks: run.started(&self.setup.job.graph),
            job: self.record(),
            operators: run.operators(&self.setup.job.graph),
            attempt: self.attempt(),
            term: term.number,
            ids_above: term.last_checkpoint.max(begun_from),
            previous: term.earlier,
            orphans: term.orphans,
            at_ms: ms(now),
        };
        let tasks = run.len();
        self.run = Some(run);
        self.coordinator = Some(Coordinator::new(
            self.settings.clone(),
            started,
            Monotonic(now),
        ));
        for task in 0..tasks {
            self.schedule(task, now);
        }
        self.event(now, Event::Tick);
    }

    // ---- the coordinator

    fn has(&self, plant: Plant) -> bool {
        self.setup.plant == Some(plant)
    }

    /// News for the coordinator.
    pub fn event(&mut self, now: u64, event: Event) {
        let Some(coordinator) = &mut self.coordinator else {
            return;
        };
        self.ended |= matches!(event, Event::Ended(_));
        let actions = coordinator.step(Monotonic(now), event);
        for action in actions {
            self.carry_out(now, action);
        }
        self.after_event(now);
    }

    fn after_event(&mut self, now: u64) {
        let Some(coordinator) = &self.coordinator else {
            return;
        };
        if self.over {
            return;
        }
        if self.ended && coordinator.is_settled() {
            self.coordinator = None;
            self.effects.push(Effect::Restart);
        } else if let Some(at) = coordinator.next_wake() {
            self.ticks += 1;
            let (turn, at) = (self.ticks, at.0.max(now + 1));
            self.effects.push(Effect::Tick { turn, at });
        }
    }

    /// The time for which a tick was asked has come.
    pub fn tick(&mut self, now: u64, turn: u64) {
        if turn == self.ticks {
            self.event(now, Event::Tick);
        }
    }

    fn carry_out(&mut self, now: u64, action: Action) {
        match action {
            Action::Trigger { barrier, tasks } => {
                if barrier.form == SnapshotForm::Canonical {
                    self.savepoints.triggered(self.term, barrier.checkpoint);
                }
                for task in tasks {
                    self.command_to(task, TaskCommand::Checkpoint(barrier));
                }
            }
            Action::Store {
                number,
                metadata,
                inline,
            } => {
                let checkpoint = metadata.checkpoint();
                self.plants_of_store(now, &metadata);
                let entry = LogEntry::Checkpoint(Box::new((*metadata).clone()));
                match encode(&entry, &inline) {
                    Err(e) => self.violation(e.to_string()),
                    Ok(bytes) => {
                        let what = What::PutNew(log_name(number), bytes.into());
                        self.ask(what, Wait::Entry(checkpoint, number));
                    }
                }
            }
            Action::CommitSinks {
                checkpoint,
                committables,
            } => {
                let todo = commits(committables, self.term);
                self.next_commit(now, checkpoint, todo);
            }
            Action::NotifyCompleted { checkpoint } => {
                self.command_to_all(TaskCommand::Completed(checkpoint));
            }
            Action::NotifyAborted { checkpoint, .. } => {
                self.command_to_all(TaskCommand::Aborted(checkpoint));
            }
            Action::DeleteObjects { names } => {
                self.next_delete(names.into_iter().map(What::Delete).collect());
            }
            Action::StoreSavepoint {
                request,
                metadata,
                inline,
                copies,
            } => match self.savepoints.writes(request, &metadata, &inline, copies) {
                Ok(todo) => self.next_of_savepoint(now, request, todo),
                Err(e) => self.violation(e.to_string()),
            },
            Action::SavepointCompleted { request } => {
                let folder = self.savepoints.over(request);
                self.effects.extend(folder.map(Effect::Saved));
            }
            Action::SavepointFailed { request, .. } => {
                self.savepoints.over(request);
            }
            Action::DeleteSavepointObjects { request, names } => {
                let todo = self.savepoints.deletes(request, names);
                self.next_delete(todo);
            }
            Action::FailJob { error } => self.fail(error),
            Action::Stopped { .. } => self.end(false),
            Action::StopFailed { error } => self.fail(error),
            Action::Finished => self.end(true),
            other => self.violation(format!("nobody asked for {other:?}")),
        }
    }

    fn next_commit(&mut self, now: u64, checkpoint: CheckpointId, mut todo: VecDeque<What>) {
        match todo.pop_front() {
            Some(what) => self.ask(what, Wait::Commit(checkpoint, todo)),
            None => {
                // Within the step that asked for it, nothing may come back.
                let event = Event::Committed { checkpoint };
                match self.coordinator.is_some() {
                    true => self.event(now, event),
                    false => self.effects.push(Effect::Tell(Box::new(event))),
                }
            }
        }
    }

    fn next_of_savepoint(&mut self, now: u64, request: u64, mut todo: VecDeque<What>) {
        match todo.pop_front() {
            Some(what) => self.ask(what, Wait::Savepoint(request, todo)),
            None => {
                let result = Ok(());
                self.event(now, Event::SavepointStored { request, result });
            }
        }
    }

    /// Whether it has its term, and does not run yet.
    #[must_use]
    pub fn recovers(&self) -> bool {
        self.taken.is_some()
    }

    /// Somebody wants a savepoint.
    pub fn wants_savepoint(&mut self, now: u64) {
        if self.coordinator.is_some() {
            let request = self.savepoints.asked();
            self.event(now, Event::SavepointRequested { request });
        }
    }

    fn next_delete(&mut self, mut todo: VecDeque<What>) {
        if let Some(what) = todo.pop_front() {
            self.ask(what, Wait::Delete(todo));
        }
    }

    /// What stands where an entry should be.
    fn compare(&self, checkpoint: CheckpointId, there: &[u8]) -> StoreOutcome {
        match StoreOutcome::found(there, &self.attempt(), checkpoint) {
            StoreOutcome::Fenced if self.has(Plant::IgnoreFence) => StoreOutcome::Created,
            found => found,
        }
    }

    fn command_to(&mut self, task: TaskId, command: TaskCommand) {
        let index = self.run.as_ref().and_then(|run| run.index(task));
        if let Some(index) = index {
            self.effects.push(Effect::Command(index, command));
        }
    }

    fn command_to_all(&mut self, command: TaskCommand) {
        let tasks = self.run.as_ref().map_or(0, Run::len);
        self.effects
            .extend((0..tasks).map(|t| Effect::Command(t, command)));
    }

    // ---- the tasks

    /// A command has reached a task.
    pub fn command(&mut self, now: u64, task: usize, command: TaskCommand) {
        if let Some(run) = &mut self.run {
            run.command(task, command);
            self.schedule(task, now);
        }
    }

    fn schedule(&mut self, task: usize, at: u64) {
        let turn = self.run.as_mut().and_then(|run| run.schedule(task, at));
        if let Some(turn) = turn {
            self.effects.push(Effect::Wake { task, turn, at });
        }
    }

    /// Steps a task, if it was not stepped since.
    pub fn wake(&mut self, now: u64, task: usize, turn: u64) {
        let Some(run) = &mut self.run else { return };
        let (wall, monotonic) = (ProcessingTime(ms(now)), Monotonic(now));
        let stepped = run.step(task, turn, wall, monotonic, &self.chance);
        let (outs, woken) = run.drain();
        match stepped {
            Err(e) => return self.fail(e),
            Ok(Some(at)) => self.schedule(task, at),
            Ok(None) => {}
        }
        for other in woken {
            let at = now + self.chance.between(1, 20_000);
            self.schedule(other, at);
        }
        for out in outs {
            match out {
                Out::Event(event) => self.effects.push(Effect::Tell(event)),
                Out::Upload(name, bytes, event) if self.has(Plant::AcknowledgeEarly) => {
                    self.effects.push(Effect::Tell(event));
                    let what = What::Put(name, bytes.into());
                    self.ask(what, Wait::Delete(VecDeque::new()));
                }
                Out::Upload(name, bytes, event) => {
                    self.ask(What::Put(name, bytes.into()), Wait::Upload(event));
                }
                Out::Lost(error) => return self.fail(error),
            }
        }
    }

    /// The job fails, and starts again in this process.
    fn fail(&mut self, error: Error) {
        if self.over || self.failing {
            return;
        }
        match error.code() {
            ErrorCode::Fenced => return self.end(false),
            ErrorCode::StoreUnavailable | ErrorCode::NotFound | ErrorCode::CheckpointFailed => {}
            _ => self.violation(format!("the job failed: {error}")),
        }
        self.run = None;
        if self.coordinator.is_none() {
            return self.effects.push(Effect::Restart);
        }
        self.failing = true;
        let ended = Event::Ended(Ending::Restart);
        self.effects.push(Effect::Tell(Box::new(ended)));
    }

    fn end(&mut self, finished: bool) {
        if !std::mem::replace(&mut self.over, true) {
            self.run = None;
            self.coordinator = None;
            self.effects.push(Effect::Over(finished));
        }
    }
}

fn contents(entries: Vec<(u64, Vec<u8>)>, lengths: BTreeMap<String, u64>) -> Contents {
    let entries = entries
        .into_iter()
        .map(|(number, bytes)| (number, Ok(bytes)));
    let of_checkpoints = |(name, length): (String, u64)| {
        let is = name.starts_with("data/") || name.starts_with("shared/");
        is.then_some(BlobInfo { name, length })
    };
    Contents {
        entries: entries.collect(),
        objects: lengths.into_iter().filter_map(of_checkpoints).collect(),
    }
}

fn ms(nanos: u64) -> i64 {
    (nanos / 1_000_000) as i64
}
