//! How far a job is: the counters of its operators, summed over their tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_engine::function::UserMetric;
use pelton_engine::operator::OperatorMetrics;
use pelton_model::graph::{Body, JobGraph};
use pelton_model::id::{OperatorId, TaskId};

use super::pool::Pool;
use super::watermarks::{Explanation, explain};

/// A job's counters at a moment.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Operators in the order of the graph.
    pub operators: Vec<OperatorProgress>,
    /// Rows out of all sources.
    pub rows_in: u64,
    /// Rows into all sinks.
    pub rows_out: u64,
    /// Rows that came too late.
    pub late: u64,
    /// Records passed over by sources.
    pub skipped: u64,
    /// What sources say that there is in all, where they know.
    pub total: Option<u64>,
    /// What event time waits for.
    pub watermark: Explanation,
    /// Users' metrics: of each task that could be looked at.
    pub user: Vec<(TaskId, UserMetric)>,
}

/// One operator's counters, a row for each task.
#[derive(Clone, Debug)]
pub struct OperatorProgress {
    /// Which.
    pub id: OperatorId,
    /// Its name.
    pub name: String,
    /// By task: rows in, rows out, late rows, watermark, entries of state.
    pub tasks: Vec<TaskCounters>,
}

/// Counters of one operator in one task.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskCounters {
    /// Which task of the operator.
    pub task: u32,
    /// Rows in.
    pub rows_in: u64,
    /// Rows out.
    pub rows_out: u64,
    /// Rows too late.
    pub late: u64,
    /// Records skipped.
    pub skipped: u64,
    /// Milliseconds; the least i64 before the first.
    pub watermark: i64,
    /// Keys or accumulators held.
    pub state_entries: u64,
}

pub(super) fn gather(
    graph: &JobGraph,
    metrics: &[(TaskId, BTreeMap<OperatorId, Arc<OperatorMetrics>>)],
    pool: &Pool,
) -> Progress {
    let mut progress = Progress {
        watermark: explain(graph, metrics, pool.now()),
        ..Progress::default()
    };
    for id in graph.ids() {
        let Some(op) = graph.operator(id) else {
            continue;
        };
        let tasks: Vec<TaskCounters> = metrics
            .iter()
            .filter_map(|(task, m)| Some(counters(task.index, m.get(&id)?)))
            .collect();
        let sum = |f: fn(&TaskCounters) -> u64| tasks.iter().map(f).sum::<u64>();
        progress.late += sum(|t| t.late);
        progress.skipped += sum(|t| t.skipped);
        match op.body {
            Body::Source(_) => progress.rows_in += sum(|t| t.rows_out),
            Body::Sink(_) => progress.rows_out += sum(|t| t.rows_in),
            _ => {}
        }
        progress.operators.push(OperatorProgress {
            id,
            name: op.name.clone(),
            tasks,
        });
    }
    pool.inspect(|index, task| {
        let Some((id, _)) = metrics.get(index) else {
            return;
        };
        progress
            .user
            .extend(task.user_metrics().into_iter().map(|m| (*id, m)));
        for (_, p) in task.progress() {
            progress.total = p
                .total
                .map(|t| progress.total.unwrap_or(0).max(t))
                .or(progress.total);
        }
    });
    progress
}

fn counters(task: u32, m: &OperatorMetrics) -> TaskCounters {
    let get = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    TaskCounters {
        task,
        rows_in: get(&m.rows_in),
        rows_out: get(&m.rows_out),
        late: get(&m.late),
        skipped: get(&m.skipped),
        watermark: m.watermark.load(Ordering::Relaxed),
        state_entries: get(&m.state_entries),
    }
}
