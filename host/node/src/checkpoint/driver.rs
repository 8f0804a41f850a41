//! Carries out what the coordinator says: one thread has the coordinator, the outside is reached by others.
//! Needs: control's coordinator, folder, upload, io. Invariant: an outcome is reported once for each action.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pelton_control::checkpoint::{
    Action, CheckpointSettings, Coordinator, Ending, Event, Started, StoreOutcome,
};
use pelton_engine::connector::Sink;
use pelton_model::barrier::SnapshotForm;
use pelton_model::blob::{Blobs, PutNew};
use pelton_model::checkpoint::{Committable, LogEntry, Metadata, Start, encode, log_name};
use pelton_model::id::TaskId;
use pelton_model::protocol::TaskCommand;
use pelton_model::time::Clock;
use pelton_model::{Error, ErrorCode, Result};

use super::folder::Folder;
use super::io::Io;
use super::points::{self, SharedPoints};
use super::upload::{Reported, Uploads};

/// The tasks, as far as checkpoints deal with them.
pub(crate) trait Tasks: Send + Sync {
    /// Tells one of them something; one that has ended does not hear it.
    fn tell(&self, task: TaskId, command: TaskCommand);
    /// Tells all.
    fn tell_all(&self, command: TaskCommand);
    /// Ends them with an error.
    fn fail(&self, error: Error);
}

/// How the checkpoints of a start have ended.
#[derive(Clone, Debug)]
pub(crate) enum Over {
    /// The final checkpoint is complete: the job has finished.
    Finished,
    /// The last checkpoint before a stop is complete.
    Stopped,
    /// It failed.
    StopFailed(Error),
}

/// Answers to one who asked for a savepoint.
pub(crate) type SavepointReply = Sender<Result<Metadata>>;

enum Message {
    Reported(Reported),
    Event(Event),
    Savepoint(Arc<dyn Blobs>, SavepointReply),
    Quit,
}

/// All that the driver of one start needs.
pub(crate) struct DriverParts {
    pub(crate) settings: CheckpointSettings,
    pub(crate) started: Started,
    pub(crate) folder: Folder,
    pub(crate) io: Arc<Io>,
    /// A thread of its own, for what is deleted: one after the other, in the order in which it was decided.
    pub(crate) deletions: Io,
    pub(crate) points: SharedPoints,
    pub(crate) clock: Arc<dyn Clock>,
    /// By uid.
    pub(crate) sinks: BTreeMap<String, Arc<dyn Sink>>,
    /// What is said to people.
    pub(crate) warn: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The checkpoints of one start of a job.
pub(crate) struct Driver {
    messages: Sender<Message>,
    over: Arc<Mutex<Option<Over>>>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

/// Sends reports to a driver that is still to be made.
pub(crate) struct Mailbox {
    messages: Sender<Message>,
    inbox: Receiver<Message>,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        let (messages, inbox) = channel();
        Self { messages, inbox }
    }

    /// Where uploads report to.
    pub(crate) fn report(&self) -> super::upload::Report {
        let messages = self.messages.clone();
        Arc::new(move |reported| {
            // After the end of the driver nobody wants to know.
            let _ = messages.send(Message::Reported(reported));
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// Starts the driver. Errors: `Io` where there is no thread.
    pub(crate) fn start(
        parts: DriverParts,
        mailbox: Mailbox,
        uploads: Arc<Uploads>,
        tasks: Arc<dyn Tasks>,
    ) -> Result<Self> {
        let over = Arc::<Mutex<Option<Over>>>::default();
        let now = parts.clock.monotonic();
        let coordinator = Coordinator::new(parts.settings.clone(), parts.started.clone(), now);
        let mut work = Work {
            coordinator,
            messages: mailbox.messages.clone(),
            over: Arc::clone(&over),
            asked: VecDeque::new(),
            savepoints: BTreeMap::new(),
            next_request: 0,
            parts,
            uploads,
            tasks,
        };
        let inbox = mailbox.inbox;
        let thread = std::thread::Builder::new()
            .name("checkpoints".into())
            .spawn(move || work.run(&inbox))
            .map_err(|e| Error::new(ErrorCode::Io, format!("a thread cannot be started: {e}")))?;
        Ok(Self {
            messages: mailbox.messages,
            over,
            thread: Some(thread),
        })
    }

    /// Asks for a last checkpoint, after which nothing is read.
    pub(crate) fn stop(&self) {
        let _ = self.messages.send(Message::Event(Event::Stop));
    }

    /// How it has ended, if it has.
    pub(crate) fn over(&self) -> Option<Over> {
        lock(&self.over).clone()
    }

    /// Asks for savepoints from elsewhere.
    pub(crate) fn savepoints(&self) -> Savepoints {
        Savepoints(self.messages.clone())
    }

    /// The tasks are no more: what is under way is given up. Returns the greatest id that was given.
    pub(crate) fn end(mut self, ending: Ending) -> u64 {
        let _ = self.messages.send(Message::Event(Event::Ended(ending)));
        let _ = self.messages.send(Message::Quit);
        let thread = self.thread.take().map(std::thread::JoinHandle::join);
        thread.and_then(std::result::Result::ok).unwrap_or_default()
    }
}

/// Asks for savepoints.
#[derive(Clone)]
pub(crate) struct Savepoints(Sender<Message>);

impl Savepoints {
    /// A savepoint into this store; the reply comes when it is complete, or never will be.
    pub(crate) fn create(&self, to: Arc<dyn Blobs>, reply: SavepointReply) {
        let lost = reply.clone();
        if self.0.send(Message::Savepoint(to, reply)).is_err() {
            let error = Error::new(ErrorCode::CheckpointFailed, "the job has just ended");
            let _ = lost.send(Err(error));
        }
    }
}

struct Work {
    coordinator: Coordinator,
    messages: Sender<Message>,
    over: Arc<Mutex<Option<Over>>>,
    parts: DriverParts,
    uploads: Arc<Uploads>,
    tasks: Arc<dyn Tasks>,
    /// Savepoints that were asked for, and whose barrier has not been sent.
    asked: VecDeque<u64>,
    savepoints: BTreeMap<u64, Asked>,
    next_request: u64,
}

struct Asked {
    to: Arc<dyn Blobs>,
    reply: SavepointReply,
    made: Option<Metadata>,
}

impl Work {
    fn run(&mut self, inbox: &Receiver<Message>) -> u64 {
        self.sweep();
        let mut ending = None;
        loop {
            let now = self.parts.clock.monotonic();
            let wait = match self.coordinator.next_wake() {
                // What is being put or committed comes to its end first.
                _ if ending.is_some() && self.coordinator.is_settled() => Duration::ZERO,
                Some(at) => Duration::from_nanos(at.0.saturating_sub(now.0)),
                None => Duration::from_secs(3_600),
            };
            let event = match inbox.recv_timeout(wait) {
                Ok(Message::Event(event)) => event,
                Ok(Message::Reported(Reported::Event(event))) => *event,
                Ok(Message::Reported(Reported::Lost(error))) => {
                    self.tasks.fail(error);
                    continue;
                }
                Ok(Message::Savepoint(to, reply)) => self.ask(to, reply),
                Ok(Message::Quit) => {
                    ending = Some(());
                    continue;
                }
                Err(_) if ending.is_some() && self.coordinator.is_settled() => {
                    return self.coordinator.last_id();
                }
                Err(RecvTimeoutError::Timeout) => Event::Tick,
                Err(RecvTimeoutError::Disconnected) => return self.coordinator.last_id(),
            };
            let now = self.parts.clock.monotonic();
            for action in self.coordinator.step(now, event) {
                self.carry_out(action);
            }
        }
    }

    fn ask(&mut self, to: Arc<dyn Blobs>, reply: SavepointReply) -> Event {
        self.next_request += 1;
        let request = self.next_request;
        self.asked.push_back(request);
        let made = None;
        self.savepoints.insert(request, Asked { to, reply, made });
        Event::SavepointRequested { request }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Trigger { barrier, tasks } => {
                if barrier.form == SnapshotForm::Canonical
                    && let Some(request) = self.asked.pop_front()
                    && let Some(asked) = self.savepoints.get(&request)
                {
                    let to = Arc::clone(&asked.to);
                    lock(&self.uploads.savepoints).insert(barrier.checkpoint, to);
                }
                for task in tasks {
                    self.tasks.tell(task, TaskCommand::Checkpoint(barrier));
                }
                self.parts.points.reach(points::BARRIER_SENT);
            }
            Action::Store {
                number,
                metadata,
                inline,
            } => self.store(number, metadata, inline),
            Action::CommitSinks {
                checkpoint,
                committables,
            } => {
                let (sinks, points) = (self.parts.sinks.clone(), Arc::clone(&self.parts.points));
                self.outside(
                    move || match commit(&sinks, &committables, points.as_ref()) {
                        Ok(()) => Event::Committed { checkpoint },
                        Err(error) => Event::CommitFailed { checkpoint, error },
                    },
                );
            }
            Action::NotifyCompleted { checkpoint } => {
                let kept = self.coordinator.kept().last();
                if let Some(completed) = kept {
                    self.uploads.know(&completed.metadata);
                }
                self.parts.points.reach(points::NOTIFY);
                self.tasks.tell_all(TaskCommand::Completed(checkpoint));
            }
            Action::NotifyAborted { checkpoint, why } => {
                (self.parts.warn)(&format!("checkpoint {} was given up: {why}", checkpoint.0));
                lock(&self.uploads.savepoints).remove(&checkpoint);
                self.tasks.tell_all(TaskCommand::Aborted(checkpoint));
            }
            Action::DeleteObjects { names } => {
                self.parts.points.reach(points::DELETE);
                self.delete(Arc::clone(self.parts.folder.blobs()), names);
            }
            Action::DeleteAll { number, names } => self.delete_all(number, names),
            Action::StoreSavepoint {
                request,
                metadata,
                inline,
                copies,
            } => self.store_savepoint(request, *metadata, inline, copies),
            Action::SavepointCompleted { request } => {
                if let Some(asked) = self.savepoints.remove(&request)
                    && let Some(made) = asked.made
                {
                    let _ = asked.reply.send(Ok(made));
                }
            }
            Action::SavepointFailed { request, error } => {
                self.asked.retain(|r| *r != request);
                if let Some(asked) = self.savepoints.remove(&request) {
                    let _ = asked.reply.send(Err(error));
                }
            }
            Action::DeleteSavepointObjects { request, names } => {
                if let Some(asked) = self.savepoints.get(&request) {
                    self.delete(Arc::clone(&asked.to), names);
                }
            }
            Action::FailJob { error } => self.tasks.fail(error),
            Action::Stopped { .. } => self.set_over(Over::Stopped),
            Action::StopFailed { error } => self.set_over(Over::StopFailed(error)),
            Action::Finished => self.set_over(Over::Finished),
        }
    }

    fn set_over(&self, over: Over) {
        lock(&self.over).get_or_insert(over);
    }

    /// Does what may wait; its outcome is the next event.
    fn outside(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let messages = self.messages.clone();
        self.parts.io.submit(move || {
            let _ = messages.send(Message::Event(work()));
        });
    }

    fn store(&self, number: u64, metadata: Arc<Metadata>, inline: Vec<u8>) {
        let folder = self.parts.folder.clone();
        let points = Arc::clone(&self.parts.points);
        self.outside(move || {
            points.reach(points::METADATA_BEFORE);
            let outcome = put(&folder, number, &metadata, &inline);
            points.reach(points::METADATA_AFTER);
            let checkpoint = metadata.checkpoint();
            let outcome = outcome.unwrap_or_else(StoreOutcome::Failed);
            Event::Stored {
                checkpoint,
                outcome,
            }
        });
    }

    fn store_savepoint(
        &mut self,
        request: u64,
        metadata: Metadata,
        inline: Vec<u8>,
        copies: Vec<String>,
    ) {
        let Some(asked) = self.savepoints.get_mut(&request) else {
            return;
        };
        asked.made = Some(metadata.clone());
        let (to, from) = (Arc::clone(&asked.to), Arc::clone(self.parts.folder.blobs()));
        self.outside(move || {
            let stored = || -> Result<()> {
                for name in &copies {
                    to.put(name, &from.get(name)?)?;
                }
                match to.put_new(super::savepoint::METADATA, &encode(&metadata, &inline)?)? {
                    PutNew::Created => Ok(()),
                    PutNew::Exists => Err(Error::new(
                        ErrorCode::Conflict,
                        "there is a savepoint already",
                    )),
                }
            };
            let result = stored();
            Event::SavepointStored { request, result }
        });
    }

    fn delete(&self, blobs: Arc<dyn Blobs>, names: Vec<String>) {
        let warn = Arc::clone(&self.parts.warn);
        self.parts.deletions.submit(move || {
            for name in names {
                if let Err(e) = blobs.delete(&name) {
                    warn(&format!(
                        "'{name}' is no longer needed, and cannot be removed: {e}"
                    ));
                }
            }
        });
    }

    /// Removes what processes that were killed have left unfinished, which is never listed.
    fn sweep(&self) {
        let blobs = Arc::clone(self.parts.folder.blobs());
        let warn = Arc::clone(&self.parts.warn);
        self.parts.deletions.submit(move || {
            for prefix in ["data", "shared"] {
                if let Err(e) = blobs.sweep(prefix) {
                    warn(&format!("what crashes have left cannot be removed: {e}"));
                }
            }
        });
    }

    fn delete_all(&self, number: u64, names: Vec<String>) {
        let started = &self.parts.started;
        let entry = LogEntry::Start(Start {
            attempt: started.attempt.clone(),
            job: started.job.clone(),
            from: None,
            savepoint: None,
            at_ms: self.parts.clock.now().0,
        });
        let blobs = Arc::clone(self.parts.folder.blobs());
        let put = encode(&entry, &[]).and_then(|bytes| blobs.put_new(&log_name(number), &bytes));
        if matches!(put, Ok(PutNew::Created)) {
            self.delete(blobs, names);
        }
    }
}

/// Puts a checkpoint into the log. Errors: the store's.
fn put(folder: &Folder, number: u64, metadata: &Metadata, inline: &[u8]) -> Result<StoreOutcome> {
    match folder.complete(number, metadata, inline) {
        Ok(()) => Ok(StoreOutcome::Created),
        Err(e) if e.code() == ErrorCode::Fenced => {
            Ok(match folder.blobs().get(&log_name(number)) {
                Ok(there) => StoreOutcome::found(&there, &metadata.attempt, metadata.checkpoint()),
                Err(e) if e.code() == ErrorCode::NotFound => StoreOutcome::Fenced,
                Err(e) => StoreOutcome::Failed(e),
            })
        }
        Err(e) => Err(e),
    }
}

/// Commits what a checkpoint has, a sink after the other. Errors: the first sink's that cannot; `StateMismatch` for one
/// that is not there.
pub(crate) fn commit(
    sinks: &BTreeMap<String, Arc<dyn Sink>>,
    committables: &[Committable],
    points: &dyn points::Points,
) -> Result<()> {
    points.reach(points::COMMIT_BEFORE);
    for (uid, payloads) in by_sink(committables) {
        let sink = sinks.get(&uid).ok_or_else(|| no_sink(&uid))?;
        sink.commit(&payloads)
            .map_err(|e| e.at("operator", format!("'{uid}'")))?;
        points.reach(points::COMMIT_SINK);
    }
    points.reach(points::COMMIT_AFTER);
    Ok(())
}

/// Payloads by sink, those of each in the order of their checkpoints.
pub(crate) fn by_sink(committables: &[Committable]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut sorted: Vec<&Committable> = committables.iter().collect();
    sorted.sort_by_key(|c| c.checkpoint);
    let mut all: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for c in sorted {
        all.entry(c.uid.clone())
            .or_default()
            .push(c.payload.clone());
    }
    all
}

pub(crate) fn no_sink(uid: &str) -> Error {
    let message = format!("the checkpoint has output of a sink '{uid}' that the job does not have");
    Error::new(ErrorCode::StateMismatch, message)
        .help("give the sink its former uid, so that its last output can be committed")
}
