//! A job with checkpoints: takes the term, goes on from the last one that is whole, runs, stops cleanly.
//! Needs: wire_up, local, checkpoint. Invariant: nothing of a start is visible before it has taken its term.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pelton_blob::{RetryPolicy, Retrying, SystemPace};
use pelton_control::checkpoint::{Ending, Started, StartedTask};
use pelton_control::failover::{Decision, Restarts};
use pelton_engine::connector::{Delivery, Sink};
use pelton_engine::snapshot::RestoreFrom;
use pelton_model::barrier::BarrierMode;
use pelton_model::blob::Blobs;
use pelton_model::checkpoint::{JobRecord, Metadata, OperatorRecord};
use pelton_model::graph::Body;
use pelton_model::protocol::TaskCommand;
use pelton_model::{Error, ErrorCode, Result};

use crate::checkpoint::driver::{Driver, DriverParts, Mailbox, Over, by_sink, no_sink};
use crate::checkpoint::folder::{Asked, Folder, Term};
use crate::checkpoint::io::Io;
use crate::checkpoint::points::{self, SharedPoints};
use crate::checkpoint::upload::Uploads;
use crate::live::{SystemClock, Watcher};
use crate::local::{Durable, LocalJob, Outcome, Progress, Running, start};
use crate::process;
use crate::settings::Settings;
use crate::summary::Summary;
use crate::wire_up::{Accepted, Beginning, Surroundings, open, parallelism_of};

/// Threads that wait for stores and sinks.
const IO_THREADS: usize = 4;
/// How often a run looks at what has changed.
const LOOK: Duration = Duration::from_millis(20);
const TICK_MS: u64 = 200;

/// What the user wants of this run.
pub(crate) struct Wishes<'a> {
    /// Not to go on from anything.
    pub(crate) fresh: bool,
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
    let folder = Folder::new(store(dir)?);
    let mut restarts = Restarts::new(settings.durable.restart.strategy());
    let mut fresh = wishes.fresh;
    loop {
        let ended = attempt(accepted, settings, around, &folder, fresh, wishes, watch);
        fresh = false;
        let error = match ended {
            Err(error) if !wishes.stop.load(Ordering::Relaxed) => error,
            other => return other,
        };
        match restarts.failed(process::monotonic(), &error, draw()) {
            Decision::Restart { after_ms } => {
                (wishes.say)(&format!("failed: {error}; starts again in {after_ms} ms"));
                if !pause(after_ms, wishes.stop) {
                    return Err(error);
                }
            }
            Decision::GiveUp { why } => return Err(error.at("restarts", why)),
        }
    }
}

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
    folder: &Folder,
    fresh: bool,
    wishes: &Wishes<'_>,
    watch: &mut Watcher<'_>,
) -> Result<Summary> {
    let job = job_record(accepted, settings)?;
    let began = process::monotonic();
    let term = folder.start(&Asked {
        job: job.clone(),
        attempt: format!("{:016x}{:016x}", draw(), draw()),
        fresh,
        at_ms: process::now().0,
    })?;
    wishes.points.reach(points::START_TERM);
    for (number, error) in &term.broken {
        (wishes.say)(&format!("checkpoint entry {number} is set aside: {error}"));
    }
    let restore = term.from.as_ref().map(|(metadata, inline)| RestoreFrom {
        metadata: Arc::new(metadata.clone()),
        inline: Arc::new(inline.clone()),
        blobs: Arc::clone(folder.blobs()),
    });
    if let Some(from) = &restore {
        check_fits(&from.metadata, &job)?;
        (wishes.say)(&format!("goes on from checkpoint {}", from.metadata.id));
    }
    let beginning = match restore {
        Some(_) => Beginning::Resumed,
        None => Beginning::Fresh,
    };
    let opened = open(accepted, settings, around, beginning)?;
    let mode = settings.durable.checkpoints.mode;
    if mode != BarrierMode::AtLeastOnce && !wishes.allow_at_least_once {
        check_guarantees(&opened)?;
    }
    let name = accepted.graph.name.clone();
    if let Some(from) = &restore {
        wishes.points.reach(points::START_RECOVER);
        recover(&sinks_by_uid(&opened), &from.metadata)?;
        wishes.points.reach(points::START_RECOVERED);
        if from.metadata.finished {
            let id = from.metadata.id;
            (wishes.say)(&format!(
                "the job has finished, with checkpoint {id}; --fresh begins it anew"
            ));
            let nanos = process::monotonic().since(began);
            return Ok(Summary::new(name, true, &Progress::default(), nanos));
        }
    }
    let session = Session::begin(opened, restore, folder, term, job, settings, wishes)?;
    session.drive(name, began, wishes, watch)
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
        if let Some(from) = &restore {
            uploads.know(&from.metadata);
        }
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
            ids_above: term.last_checkpoint,
            previous: term.earlier,
            at_ms: process::now().0,
        };
        job.durable = Some(Durable {
            uploads: Arc::clone(&uploads),
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
        let (ending, failure) = match stopped {
            Some(Over::Finished) => (None, None),
            Some(Over::Stopped) => (Some(Ending::Cancelled), None),
            Some(Over::StopFailed(error)) => (Some(Ending::Failed), Some(error)),
            // Whether it is started again is decided above: what is complete stays.
            None => (Some(Ending::Restart), None),
        };
        if ending.is_some() {
            running.cancel();
        }
        let outcome = running.finish();
        driver.end(ending.unwrap_or(Ending::Cancelled));
        let outcome = match failure {
            Some(error) => return Err(error),
            None => outcome?,
        };
        let nanos = process::monotonic().since(began);
        Ok(
            Summary::new(name, outcome == Outcome::Finished, &progress, nanos)
                .after(opened.since(began), cpu_opened),
        )
    }
}

/// Commits what the checkpoint has, and undoes what no checkpoint has.
fn recover(sinks: &BTreeMap<String, Arc<dyn Sink>>, metadata: &Metadata) -> Result<()> {
    let committables: Vec<_> = metadata.committables().cloned().collect();
    let mut by_sink = by_sink(&committables);
    for (uid, sink) in sinks {
        let payloads = by_sink.remove(uid).unwrap_or_default();
        sink.recover(&payloads)
            .map_err(|e| e.at("operator", format!("'{uid}'")))?;
    }
    match by_sink.keys().next() {
        Some(uid) => Err(no_sink(uid)),
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
fn job_record(accepted: &Accepted, settings: &Settings) -> Result<JobRecord> {
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

/// Whether a job can go on from a checkpoint.
fn check_fits(metadata: &Metadata, job: &JobRecord) -> Result<()> {
    let (before, now) = (metadata.job.max_parallelism, job.max_parallelism);
    if before == now {
        return Ok(());
    }
    let message = format!("the state has {before} key groups, and the job has {now}");
    Err(Error::new(ErrorCode::StateMismatch, message)
        .help(format!("run it with --max-parallelism {before}")))
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
fn draw() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(std::process::id())
}
