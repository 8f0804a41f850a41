//! A job with checkpoints: takes the term, goes on from the last one that is whole, runs, stops cleanly.
//! Needs: wire_up, local, checkpoint. Invariant: nothing of a start is visible before it has taken its term.

mod left;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pelton_blob::{RetryPolicy, Retrying, SystemPace};
use pelton_connect::StartId;
use pelton_control::checkpoint::{Ending, Started, StartedTask};
use pelton_control::failover::{Decision, Restarts};
use pelton_engine::connector::{Delivery, Sink};
use pelton_engine::snapshot::RestoreFrom;
use pelton_model::barrier::BarrierMode;
use pelton_model::blob::Blobs;
use pelton_model::checkpoint::{JobRecord, Metadata, OperatorRecord};
use pelton_model::graph::Body;
use pelton_model::id::CheckpointId;
use pelton_model::key::hash_bytes;
use pelton_model::protocol::TaskCommand;
use pelton_model::{Error, ErrorCode, Result};

use crate::checkpoint::door::{Door, Hall};
use crate::checkpoint::driver::{Driver, DriverParts, Mailbox, Over, by_sink, no_sink};
use crate::checkpoint::folder::{Asked, Folder, Term};
use crate::checkpoint::io::Io;
use crate::checkpoint::points::{self, SharedPoints};
use crate::checkpoint::saved::Saved;
use crate::checkpoint::takeover;
use crate::checkpoint::upload::Uploads;
use crate::live::{SystemClock, Watcher};
use crate::local::{Durable, LocalJob, Outcome, Progress, Running, start};
use crate::process;
use crate::settings::Settings;
use crate::summary::Summary;
use crate::wire_up::{Accepted, Beginning, Surroundings, open, parallelism_of};
use left::Left;

/// Threads that wait for stores and sinks.
const IO_THREADS: usize = 4;
/// How often a run looks at what has changed.
const LOOK: Duration = Duration::from_millis(20);
const TICK_MS: u64 = 200;

/// What the user wants of this run.
pub(crate) struct Wishes<'a> {
    /// Not to go on from anything.
    pub(crate) fresh: bool,
    /// To begin from this, unless the folder has checkpoints of a run that did.
    pub(crate) from: Option<&'a Saved>,
    /// State that the job has no place for is left behind.
    pub(crate) allow_non_restored: bool,
    /// Sources that cannot replay and sinks that cannot commit are accepted.
    pub(crate) allow_at_least_once: bool,
    /// At a stop, sources end as if their input did.
    pub(crate) drain: bool,
    /// The wish to stop.
    pub(crate) stop: &'a AtomicBool,
    /// What is said to people.
    pub(crate) say: Arc<dyn Fn(&str) + Send + Sync>,
    /// Points that are passed.
    pub(crate) points: SharedPoints,
}

/// A store by its URL, with retries.
pub(crate) fn store(url: &str) -> Result<Arc<dyn Blobs>> {
    let store = pelton_blob::open(url, &pelton_blob::Settings::default())?;
    let pace = Arc::new(SystemPace::new());
    Ok(Arc::new(Retrying::new(store, RetryPolicy::default(), pace)))
}

/// Runs a job with checkpoints in the folder at `dir` until it ends, fails for good or is stopped. Errors: those of the
/// start; the one that ended the job.
pub(crate) fn run(
    accepted: &Accepted,
    settings: &Settings,
    around: &Surroundings,
    dir: &str,
    wishes: &Wishes<'_>,
    watch: &mut Watcher<'_>,
) -> Result<Summary> {
    let mut folder = Folder::new(store(dir)?);
    let mut restarts = Restarts::new(settings.durable.restart.strategy());
    let left = Left::default();
    loop {
        left.began.set(false);
        left.from.set(None);
        let place = (dir, &folder);
        let (mut decision, mut damaged) = (None, None);
        let mut decide = |error: &Error| {
            damaged = left.damaged(&folder, error);
            if damaged.is_some() {
                return Ending::Restart;
            }
            let decided = restarts.failed(process::monotonic(), error, draw());
            match decision.insert(decided) {
                Decision::Restart { .. } => Ending::Restart,
                Decision::GiveUp { .. } => Ending::Failed,
            }
        };
        let run = (wishes, &mut *watch, &mut decide as &mut Decide<'_>);
        let ended = attempt(accepted, settings, around, place, &left, run);
        let error = match ended {
            Err(error) if !wishes.stop.load(Ordering::Relaxed) => error,
            other => return other,
        };
        if let Some(number) = damaged.or_else(|| left.damaged(&folder, &error)) {
            // The next start says so, and goes on from the one before.
            folder.set_aside(number, error);
            continue;
        }
        let at_a_loss = error.code() == ErrorCode::Corrupt && left.is_at_a_loss(wishes);
        if at_a_loss || left.never_began(wishes) {
            return Err(error);
        }
        let decision =
            decision.unwrap_or_else(|| restarts.failed(process::monotonic(), &error, draw()));
        match decision {
            Decision::Restart { after_ms } => {
                (wishes.say)(&format!("failed: {error}; starts again in {after_ms} ms"));
                if !pause(after_ms, wishes.stop) {
                    return Err(error);
                }
            }
            Decision::GiveUp { why } => return Err(error.at("not started again", why)),
        }
    }
}

/// Says what becomes of a job whose tasks have failed.
type Decide<'a> = dyn FnMut(&Error) -> Ending + 'a;

/// Waits; false where the job is to stop.
fn pause(ms: u64, stop: &AtomicBool) -> bool {
    let until = process::monotonic().plus_ms(ms);
    while process::monotonic() < until {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// One start of the job, up to its end.
fn attempt(
    accepted: &Accepted,
    settings: &Settings,
    around: &Surroundings,
    (dir, folder): (&str, &Folder),
    left: &Left,
    (wishes, watch, decide): (&Wishes<'_>, &mut Watcher<'_>, &mut Decide<'_>),
) -> Result<Summary> {
    let job = job_record(accepted, settings)?;
    let began = process::monotonic();
    let asked = Asked {
        job: job.clone(),
        attempt: format!("{:016x}{:016x}", draw(), draw()),
        fresh: wishes.fresh,
        savepoint: wishes.from.map(Saved::identity),
        since: left.since.get(),
        at_ms: process::now().0,
    };
    let fits = |chosen: Option<&Metadata>| {
        let old = chosen.or(wishes.from.map(Saved::metadata));
        old.map_or(Ok(()), |old| check_fits(accepted, &job, old, wishes))
    };
    let term = folder.start(&asked, &fits)?;
    if term.from.is_none() && (wishes.fresh || wishes.from.is_some()) {
        left.since.set(left.since.get().or(Some(term.number)));
    }
    left.began.set(true);
    left.from.set(term.chosen());
    wishes.points.reach(points::START_TERM);
    for (number, error) in &term.broken {
        (wishes.say)(&format!("checkpoint entry {number} is set aside: {error}"));
    }
    let (restore, changed) = restored(folder, &term, &job, wishes);
    let start = StartId {
        log: hash_bytes(term.log.as_bytes()) as u32,
        term: term.number,
    };
    let beginning = match restore {
        Some(_) => Beginning::Resumed(start),
        None => Beginning::Fresh(start),
    };
    let opened = open(accepted, settings, around, beginning)?;
    let mode = settings.durable.checkpoints.mode;
    if mode != BarrierMode::AtLeastOnce && !wishes.allow_at_least_once {
        check_guarantees(&opened)?;
    }
    let name = accepted.graph.name.clone();
    if let Some(from) = &restore {
        wishes.points.reach(points::START_RECOVER);
        if term.from.is_some() && (!from.metadata.finished || !term.broken.is_empty()) {
            // What checkpoints behind it have committed comes again; their entries may be set aside, or lost.
            let (after, to) = (from.metadata.checkpoint(), CheckpointId(u64::MAX));
            for (uid, sink) in sinks_by_uid(&opened) {
                let taken = sink.take_back(after, to);
                taken.map_err(|e| e.at("operator", format!("'{uid}'")))?;
            }
        }
        recover(&sinks_by_uid(&opened), &from.metadata, wishes)?;
        wishes.points.reach(points::START_RECOVERED);
        if from.metadata.finished && !changed {
            let id = from.metadata.id;
            (wishes.say)(&format!(
                "the job has finished, with checkpoint {id}; --fresh begins it anew"
            ));
            let nanos = process::monotonic().since(began);
            return Ok(Summary::new(name, true, &Progress::default(), nanos));
        }
    }
    let session = Session::begin(opened, restore, folder, term, job, settings, wishes)?;
    left.ran.set(true);
    let hall = Hall {
        savepoints: session.driver.savepoints(),
        job: name.clone(),
        dir: settings.durable.savepoints.clone(),
        say: Arc::clone(&wishes.say),
    };
    let _door = door(dir, hall, wishes)?;
    session.drive(name, began, wishes, watch, decide)
}

/// Where others reach the job; none where the folder is not on this machine. Without it the job runs as well.
fn door(dir: &str, hall: Hall, wishes: &Wishes<'_>) -> Result<Option<Door>> {
    let Some(folder) = pelton_blob::local_folder(dir)? else {
        return Ok(None);
    };
    match Door::open(&folder, hall) {
        Ok(door) => Ok(Some(door)),
        Err(error) => {
            (wishes.say)(&error.to_string());
            Ok(None)
        }
    }
}

/// What a start goes on from, if anything; whether a source reads something else than then.
fn restored(
    folder: &Folder,
    term: &Term,
    job: &JobRecord,
    wishes: &Wishes<'_>,
) -> (Option<RestoreFrom>, bool) {
    match (&term.from, wishes.from) {
        (Some((metadata, inline)), _) => {
            (wishes.say)(&format!("goes on from checkpoint {}", metadata.id));
            let restore = RestoreFrom {
                metadata: Arc::new(metadata.clone()),
                inline: Arc::new(inline.clone()),
                blobs: Arc::clone(folder.blobs()),
            };
            (Some(restore), false)
        }
        (None, Some(saved)) => {
            let (restore, changed) = taken(saved, job, wishes);
            (Some(restore), changed)
        }
        (None, None) => (None, false),
    }
}

/// The state of a savepoint, or of a checkpoint of another folder; whether a source reads something else than then.
fn taken(saved: &Saved, job: &JobRecord, wishes: &Wishes<'_>) -> (RestoreFrom, bool) {
    let metadata = saved.metadata();
    let what = match saved.number {
        None => "savepoint",
        Some(_) => "checkpoint",
    };
    let (id, url) = (metadata.id, &saved.url);
    (wishes.say)(&format!("goes on from {what} {id} at {url}"));
    if metadata.job.name != job.name {
        let (was, is) = (&metadata.job.name, &job.name);
        (wishes.say)(&format!("it is of job '{was}', and is taken by '{is}'"));
    }
    let (restore, changed) = takeover::positions(&saved.from, job);
    for uid in &changed {
        (wishes.say)(&format!(
            "source '{uid}' reads something else than then, and begins at its beginning"
        ));
    }
    (restore, !changed.is_empty())
}

/// A job that goes on from a savepoint, and makes no checkpoints; none where the savepoint is of a job that had
/// finished. Errors: those of a start.
pub(crate) fn take(
    accepted: &Accepted,
    settings: &Settings,
    around: &Surroundings,
    saved: &Saved,
    wishes: &Wishes<'_>,
) -> Result<Option<LocalJob>> {
    let job = job_record(accepted, settings)?;
    check_fits(accepted, &job, saved.metadata(), wishes)?;
    let (restore, changed) = taken(saved, &job, wishes);
    let mut opened = open(accepted, settings, around, Beginning::Taken)?;
    recover(&sinks_by_uid(&opened), &restore.metadata, wishes)?;
    if restore.metadata.finished && !changed {
        (wishes.say)("the job had finished: there is nothing to go on with");
        return Ok(None);
    }
    opened.durable = Some(Durable {
        uploads: None,
        restore: Some(restore),
    });
    Ok(Some(opened))
}

/// The parts of a start that run.
struct Session {
    running: Running,
    driver: Driver,
    /// Removed at the end.
    _spool: tempfile::TempDir,
}

impl Session {
    fn begin(
        mut job: LocalJob,
        restore: Option<RestoreFrom>,
        folder: &Folder,
        term: Term,
        record: JobRecord,
        settings: &Settings,
        wishes: &Wishes<'_>,
    ) -> Result<Self> {
        let io = Arc::new(Io::new(IO_THREADS)?);
        let spool = spool(settings)?;
        let mailbox = Mailbox::new();
        let uploads = Arc::new(Uploads {
            blobs: Arc::clone(folder.blobs()),
            io: Arc::clone(&io),
            report: mailbox.report(),
            points: Arc::clone(&wishes.points),
            term: term.number,
            spool: spool.path().to_owned(),
            known: Default::default(),
            savepoints: Default::default(),
        });
        // What stands in another folder is not in this one.
        if let Some((metadata, _)) = &term.from {
            uploads.know(metadata);
        }
        let begun_from = restore.as_ref().map_or(0, |from| from.metadata.id);
        let sinks = sinks_by_uid(&job);
        let tasks = job.plan.tasks.iter().map(|spec| StartedTask {
            task: spec.task,
            sources: spec.operators.iter().any(|id| {
                let operator = job.graph.operator(*id);
                operator.is_some_and(|op| matches!(op.body, Body::Source(_)))
            }),
        });
        let started = Started {
            tasks: tasks.collect(),
            job: record,
            operators: operators(&job),
            attempt: term.attempt,
            term: term.number,
            ids_above: term.last_checkpoint.max(begun_from),
            previous: term.earlier,
            orphans: term.orphans,
            at_ms: process::now().0,
        };
        job.durable = Some(Durable {
            uploads: Some(Arc::clone(&uploads)),
            restore,
        });
        let clock = Arc::new(SystemClock);
        let running = start(job, clock.clone())?;
        wishes.points.reach(points::START_TASKS);
        let parts = DriverParts {
            settings: settings.durable.checkpoints.clone(),
            started,
            folder: folder.clone(),
            io,
            deletions: Io::new(1)?,
            points: Arc::clone(&wishes.points),
            clock,
            sinks,
            warn: Arc::clone(&wishes.say),
        };
        let driver = Driver::start(parts, mailbox, uploads, running.tasks())?;
        Ok(Self {
            running,
            driver,
            _spool: spool,
        })
    }

    fn drive(
        self,
        name: String,
        began: pelton_model::time::Monotonic,
        wishes: &Wishes<'_>,
        watch: &mut Watcher<'_>,
        decide: &mut Decide<'_>,
    ) -> Result<Summary> {
        let (opened, cpu_opened) = (process::monotonic(), process::cpu_seconds());
        let (running, driver) = (self.running, self.driver);
        let (mut last, mut asked) = (began, false);
        let tasks = running.tasks();
        let mut stopped = None;
        loop {
            if let Some(over) = driver.over() {
                stopped = Some(over);
                break;
            }
            let ended = running.wait(LOOK);
            if ended && !running.all_done() {
                break;
            }
            if ended {
                // The final checkpoint is still to come.
                std::thread::sleep(LOOK);
            }
            if wishes.stop.load(Ordering::Relaxed) && !asked {
                asked = true;
                match wishes.drain {
                    true => tasks.tell_all(TaskCommand::Drain),
                    false => driver.stop(),
                }
            }
            let now = process::monotonic();
            if now >= last.plus_ms(TICK_MS) {
                last = now;
                watch(&running.progress(), now);
            }
        }
        let progress = running.progress();
        watch(&progress, process::monotonic());
        if !matches!(stopped, Some(Over::Finished)) {
            running.cancel();
        }
        let outcome = running.finish();
        let (ending, outcome) = match (stopped, outcome) {
            (Some(Over::StopFailed(error)), _) => (Ending::Failed, Err(error)),
            (Some(_), outcome) => (Ending::Cancelled, outcome),
            (None, Err(error)) => (decide(&error), Err(error)),
            (None, Ok(outcome)) => (Ending::Cancelled, Ok(outcome)),
        };
        driver.end(ending);
        let outcome = outcome?;
        let nanos = process::monotonic().since(began);
        Ok(
            Summary::new(name, outcome == Outcome::Finished, &progress, nanos)
                .after(opened.since(began), cpu_opened),
        )
    }
}

/// Commits what the checkpoint has, and undoes what no checkpoint has.
fn recover(
    sinks: &BTreeMap<String, Arc<dyn Sink>>,
    metadata: &Metadata,
    wishes: &Wishes<'_>,
) -> Result<()> {
    let committables: Vec<_> = metadata.committables().cloned().collect();
    let mut by_sink = by_sink(&committables);
    for (uid, sink) in sinks {
        let payloads = by_sink.remove(uid).unwrap_or_default();
        sink.recover(&payloads)
            .map_err(|e| e.at("operator", format!("'{uid}'")))?;
    }
    match by_sink.keys().next() {
        Some(uid) if !wishes.allow_non_restored => Err(no_sink(uid)),
        Some(uid) => {
            (wishes.say)(&format!(
                "what the sink '{uid}' had prepared is left behind"
            ));
            Ok(())
        }
        None => Ok(()),
    }
}

fn sinks_by_uid(job: &LocalJob) -> BTreeMap<String, Arc<dyn Sink>> {
    let sinks = job.sinks.iter().filter_map(|(id, sink)| {
        let operator = job.graph.operator(*id)?;
        Some((operator.uid.clone(), Arc::clone(sink)))
    });
    sinks.collect()
}

fn operators(job: &LocalJob) -> Vec<OperatorRecord> {
    let operators = job.graph.ids().filter_map(|id| {
        let operator = job.graph.operator(id)?;
        Some(OperatorRecord {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            parallelism: parallelism_of(&job.plan, id),
        })
    });
    operators.collect()
}

/// What the job is, as far as its state depends on it.
pub(crate) fn job_record(accepted: &Accepted, settings: &Settings) -> Result<JobRecord> {
    let mut sources = Vec::new();
    for operator in &accepted.graph.operators {
        if let Body::Source(connector) = &operator.body {
            let options = serde_json::to_string(&connector.options)
                .map_err(|e| Error::bug(format!("options: {e}")))?;
            sources.push((
                operator.uid.clone(),
                format!("{} {options}", connector.name),
            ));
        }
    }
    Ok(JobRecord {
        name: accepted.graph.name.clone(),
        params: accepted.params.clone(),
        component: accepted.component_digest.clone(),
        sources,
        max_parallelism: accepted
            .graph
            .max_parallelism
            .unwrap_or(settings.max_parallelism),
    })
}

/// Whether a job can go on from a checkpoint; says what changes. Errors: `StateMismatch`.
fn check_fits(
    accepted: &Accepted,
    job: &JobRecord,
    old: &Metadata,
    wishes: &Wishes<'_>,
) -> Result<()> {
    let report = takeover::check(accepted, job, old, wishes.allow_non_restored)?;
    for line in takeover::lines(&report) {
        (wishes.say)(&line);
    }
    Ok(())
}

/// Errors: `NotReplayable` for a source that cannot be read again, and a sink that cannot commit.
fn check_guarantees(job: &LocalJob) -> Result<()> {
    let name = |id| job.graph.operator(id).map_or("", |op| op.name.as_str());
    let refused = |what: &str, id| {
        Err(Error::new(ErrorCode::NotReplayable, what)
            .at("operator", format!("'{}'", name(id)))
            .help("--allow-at-least-once accepts that after a crash rows come twice there"))
    };
    if let Some((id, _)) = job.sources.iter().find(|(_, s)| !s.replays()) {
        return refused("the source cannot be read again from where it was", *id);
    }
    let twice = |s: &Arc<dyn Sink>| s.delivery() == Delivery::AtLeastOnce;
    if let Some((id, _)) = job.sinks.iter().find(|(_, s)| twice(s)) {
        return refused(
            "the sink cannot commit what it has written with a checkpoint",
            *id,
        );
    }
    Ok(())
}

/// A local folder for what is on its way to the store.
fn spool(settings: &Settings) -> Result<tempfile::TempDir> {
    let dir = &settings.state.dir;
    let refused = |e: std::io::Error| {
        Error::new(
            ErrorCode::StateFailed,
            format!("snapshots cannot be collected: {e}"),
        )
        .at("folder", dir.display())
        .help("name a folder that is writable with the setting `state.dir`")
    };
    std::fs::create_dir_all(dir).map_err(refused)?;
    let folder = tempfile::Builder::new().prefix("spool-").tempdir_in(dir);
    folder.map_err(refused)
}

/// Any number: each such state has keys of its own, drawn by the system.
pub(crate) fn draw() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(std::process::id())
}
