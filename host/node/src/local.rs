//! A job in this process: its tasks on a pool of threads, driven until they end, fail or are cancelled.
//! Needs: engine's tasks, control's plan. Tasks never wait inside a step; a thread takes the next runnable one.

mod pool;
mod progress;
mod watermarks;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pelton_control::execution::ExecutionGraph;
use pelton_engine::build::{JobParts, TaskParts, needs_functions, task};
use pelton_engine::connector::{Sink, Source};
use pelton_engine::function::Functions;
use pelton_engine::operator::OperatorMetrics;
use pelton_engine::shuffle::local::gate;
use pelton_engine::shuffle::{Receiver, Sender};
use pelton_engine::snapshot::RestoreFrom;
use pelton_model::checkpoint::TaskRecord;
use pelton_model::graph::{JobGraph, Needs};
use pelton_model::id::{ChannelId, OperatorId, TaskId};
use pelton_model::limits::Limits;
use pelton_model::protocol::{TaskCommand, TaskSpec};
use pelton_model::time::Clock;
use pelton_model::{Error, Result};

use crate::checkpoint::driver::Tasks;
use crate::checkpoint::upload::{Nowhere, Uploads};
use crate::state::JobState;
use pool::Pool;
pub use progress::{OperatorProgress, Progress, TaskCounters};
pub use watermarks::{Explanation, FarAhead, Holder};

/// Makes the instance of the user's functions for one task.
pub type FunctionsOf = dyn Fn(&TaskSpec) -> Result<Box<dyn Functions>> + Send + Sync;

/// All that a job is, ready to run.
pub struct LocalJob {
    /// The checked graph.
    pub graph: JobGraph,
    /// Its pruned streams.
    pub needs: Needs,
    /// Its tasks.
    pub plan: ExecutionGraph,
    /// Opened sources, by operator.
    pub sources: BTreeMap<OperatorId, Arc<dyn Source>>,
    /// Opened sinks, by operator.
    pub sinks: BTreeMap<OperatorId, Arc<dyn Sink>>,
    /// What each task may use.
    pub limits: Limits,
    /// Rows in a batch at most.
    pub batch_rows: usize,
    /// Whether it runs as a batch: no watermark before the end, final results only.
    pub batch: bool,
    /// Where state is kept.
    pub state: JobState,
    /// Makes instances.
    pub functions: Box<FunctionsOf>,
    /// Threads that run tasks.
    pub threads: usize,
    /// Where its snapshots go and what it goes on from, where there are checkpoints.
    pub durable: Option<Durable>,
}

/// What the tasks of a job with checkpoints need.
pub struct Durable {
    /// None: it goes on from something, and makes no checkpoints.
    pub(crate) uploads: Option<Arc<Uploads>>,
    pub(crate) restore: Option<RestoreFrom>,
}

/// A job that runs.
pub struct Running {
    pool: Arc<Pool>,
    graph: JobGraph,
    sinks: BTreeMap<OperatorId, Arc<dyn Sink>>,
    metrics: Vec<(TaskId, BTreeMap<OperatorId, Arc<OperatorMetrics>>)>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Last: what is in it goes when nothing uses it any more.
    _state: JobState,
}

/// How a job has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All inputs ended, and all output is in place.
    Finished,
    /// It was told to stop.
    Cancelled,
}

/// Starts a job's tasks. Errors: a source that cannot be read, an instance that does not open.
pub fn start(job: LocalJob, clock: Arc<dyn Clock>) -> Result<Running> {
    let pool = Pool::new(job.plan.tasks.len(), clock);
    let mut ends = ends(&job, &pool);
    let mut metrics = Vec::new();
    let parts = JobParts {
        graph: &job.graph,
        needs: &job.needs,
        sources: &job.sources,
        sinks: &job.sinks,
        limits: &job.limits,
        batch_rows: job.batch_rows,
        backend: job.state.backend(),
        batch: job.batch,
        alignment: Arc::default(),
        restore: job.durable.as_ref().and_then(|d| d.restore.clone()),
    };
    let began = pool.now();
    for (index, spec) in job.plan.tasks.iter().enumerate() {
        let counters: BTreeMap<_, _> = spec
            .operators
            .iter()
            .map(|id| (*id, OperatorMetrics::new()))
            .collect();
        let functions = needs_functions(&job.graph, spec)
            .then(|| (job.functions)(spec))
            .transpose()?;
        let (senders, gates) = ends.remove(&spec.task).unwrap_or_default();
        let made = task(
            &parts,
            spec,
            TaskParts {
                metrics: &counters,
                functions,
                senders,
                gates,
                snapshots: job.durable.as_ref().map(|d| match &d.uploads {
                    Some(uploads) => uploads.of_task(record(&job.graph, spec)),
                    None => Box::new(Nowhere),
                }),
            },
        )?;
        let watches = counters.values().filter_map(|m| m.splits.get());
        watches.for_each(|w| w.begin(began));
        pool.put(index, made);
        metrics.push((spec.task, counters));
    }
    let threads = (0..job.threads.max(1))
        .map(|i| pool.spawn(i))
        .collect::<Result<_>>()?;
    Ok(Running {
        pool,
        graph: job.graph,
        sinks: job.sinks,
        metrics,
        threads,
        _state: job.state,
    })
}

/// What the records of a task's snapshots begin with.
fn record(graph: &JobGraph, spec: &TaskSpec) -> TaskRecord {
    let uids = spec.operators.iter().filter_map(|id| graph.operator(*id));
    TaskRecord {
        chain: spec.task.chain.0,
        index: spec.task.index,
        operators: uids.map(|op| op.uid.clone()).collect(),
        key_groups: (spec.key_groups.start, spec.key_groups.end),
        ..TaskRecord::default()
    }
}

type Ends = (
    BTreeMap<ChannelId, Box<dyn Sender>>,
    Vec<(Vec<ChannelId>, Box<dyn Receiver>)>,
);

/// Both ends of each channel, by task. All channels from one task to another make a gate.
fn ends(job: &LocalJob, pool: &Arc<Pool>) -> BTreeMap<TaskId, Ends> {
    let index: BTreeMap<TaskId, usize> = job
        .plan
        .tasks
        .iter()
        .enumerate()
        .map(|(i, t)| (t.task, i))
        .collect();
    let mut ends: BTreeMap<TaskId, Ends> = BTreeMap::new();
    let mut pairs: BTreeMap<(TaskId, TaskId), Vec<ChannelId>> = BTreeMap::new();
    for (id, c) in job.plan.channels.iter().enumerate() {
        let channels = pairs.entry((c.source, c.target)).or_default();
        channels.push(ChannelId(id as u32));
    }
    for ((source, target), channels) in pairs {
        let wake = |task: TaskId| pool.waker(index.get(&task).copied().unwrap_or(usize::MAX));
        let bytes = usize::try_from(job.limits.channel_bytes).unwrap_or(usize::MAX);
        let (senders, receiver) = gate(channels.len(), bytes, wake(target), wake(source));
        let out = &mut ends.entry(source).or_default().0;
        for (id, sender) in channels.iter().zip(senders) {
            out.insert(*id, Box::new(sender));
        }
        let gates = &mut ends.entry(target).or_default().1;
        gates.push((channels, Box::new(receiver)));
    }
    ends
}

/// The tasks of a pool, held weakly: whoever tells them something does not keep them.
struct PoolTasks {
    pool: Weak<Pool>,
    index: BTreeMap<TaskId, usize>,
}

impl Tasks for PoolTasks {
    fn tell(&self, task: TaskId, command: TaskCommand) {
        if let (Some(pool), Some(index)) = (self.pool.upgrade(), self.index.get(&task)) {
            pool.tell(*index, command);
        }
    }

    fn tell_all(&self, command: TaskCommand) {
        self.index.keys().for_each(|task| self.tell(*task, command));
    }

    fn fail(&self, error: Error) {
        if let Some(pool) = self.pool.upgrade() {
            pool.fail(error);
        }
    }
}

impl Running {
    /// The tasks, for those who tell them something.
    pub(crate) fn tasks(&self) -> Arc<dyn Tasks> {
        let tasks = self.metrics.iter().enumerate();
        Arc::new(PoolTasks {
            index: tasks.map(|(i, (task, _))| (*task, i)).collect(),
            pool: Arc::downgrade(&self.pool),
        })
    }

    /// Whether all tasks have ended by themselves.
    pub(crate) fn all_done(&self) -> bool {
        self.pool.all_done()
    }

    /// Stops at once, without finishing anything. Never waits for anything but the step at hand.
    pub fn cancel(&self) {
        self.pool.cancel();
    }

    /// Waits for the end for so long; whether it has come.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.pool.wait(timeout)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        progress::gather(&self.graph, &self.metrics, &self.pool)
    }

    /// Waits for the threads and finishes the sinks. Errors: the first that ended a task, or a sink's own.
    pub fn finish(self) -> Result<Outcome> {
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| Error::bug("a thread of the pool panicked"))?;
        }
        let cancelled = self.pool.outcome()?;
        if cancelled {
            return Ok(Outcome::Cancelled);
        }
        for (id, sink) in &self.sinks {
            let name = self.graph.operator(*id).map_or("", |op| op.name.as_str());
            sink.finish()
                .map_err(|e| e.at("operator", format!("'{name}'")))?;
        }
        Ok(Outcome::Finished)
    }
}
