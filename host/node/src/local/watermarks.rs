//! What holds a job's watermark, since when, why, and what would release it.
//! Needs: engine's splits, the graph. Reads what tasks have written down, and disturbs none.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_engine::operator::OperatorMetrics;
use pelton_engine::splits::{SplitGauge, SplitState, SplitWatch};
use pelton_model::graph::{Body, Emit, JobGraph, Watermarks};
use pelton_model::id::{OperatorId, TaskId};
use pelton_model::time::{EventTime, Monotonic};
use serde::Serialize;

/// A split without rows for so long is said to have none.
const SILENT_MS: u64 = 1_000;
/// Shorter waits for what is below are how a job with full channels runs.
const BLOCKED_MS: u64 = 500;

/// What a job's event time waits for.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Explanation {
    /// For each operator that makes watermarks, what holds it; the least watermark first. Nothing of those that have ended.
    pub held_by: Vec<Holder>,
    /// Timestamps years beyond all before them.
    pub far_ahead: Vec<FarAhead>,
    /// Watermarks that went back, and were passed over.
    pub went_back: u64,
}

/// The split that holds the watermark of an operator.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Holder {
    /// The operator that makes watermarks.
    pub operator: String,
    /// The sources above it.
    pub sources: Vec<String>,
    /// Which of the operator's tasks.
    pub task: u32,
    /// Which split of the source, where it has several.
    pub split: Option<String>,
    /// Milliseconds; none before the first.
    pub watermark: Option<i64>,
    /// Milliseconds since it last rose, or since the start.
    pub for_ms: u64,
    /// In a word: `behind`, `no-data`, `never-started`, `no-watermark`, `back-pressured`, `paused`,
    /// `idle` or `no-interval`.
    pub why: &'static str,
    /// The same in words.
    pub reason: String,
    /// What would release it.
    pub release: String,
}

/// A timestamp years beyond all before it: what is before it is late.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FarAhead {
    /// The operator that took it.
    pub operator: String,
    /// The sources above it.
    pub sources: Vec<String>,
    /// Which of the operator's tasks.
    pub task: u32,
    /// Which split of the source, where it has several.
    pub split: Option<String>,
    /// How many of its kind there were.
    pub count: u64,
    /// The last of them, milliseconds.
    pub time: i64,
    /// The greatest time before it.
    pub after: Option<i64>,
}

type Metrics = [(TaskId, BTreeMap<OperatorId, Arc<OperatorMetrics>>)];

/// Explains the watermarks of a job as it is now.
pub(super) fn explain(graph: &JobGraph, metrics: &Metrics, now: Monotonic) -> Explanation {
    let mut all = Explanation::default();
    for id in graph.ids() {
        let tasks = metrics
            .iter()
            .filter_map(|(task, m)| Some((task.index, m.get(&id)?)));
        let tasks: Vec<_> = tasks.collect();
        for (_, m) in &tasks {
            let back = m.watermarks_back.load(std::sync::atomic::Ordering::Relaxed);
            all.went_back += back;
        }
        let Some(op) = graph.operator(id) else {
            continue;
        };
        let Body::Timestamps(spec) = &op.body else {
            continue;
        };
        let watches: Vec<(u32, &SplitWatch)> = tasks
            .iter()
            .filter_map(|(task, m)| Some((*task, m.splits.get()?.as_ref())))
            .collect();
        let operator = Described {
            name: &op.name,
            sources: sources(graph, id),
            generated: spec.watermarks == Watermarks::Generated,
            never: spec.emit == Emit::Interval(0),
            now,
        };
        all.far_ahead.extend(
            watches
                .iter()
                .filter_map(|(task, w)| operator.far_ahead(*task, w)),
        );
        if is_last(graph, id) {
            all.held_by.extend(operator.holder(&watches));
        }
    }
    all.held_by.sort_by_key(|h| h.watermark);
    all
}

/// An operator that makes watermarks.
struct Described<'a> {
    name: &'a str,
    sources: Vec<String>,
    generated: bool,
    /// It emits no watermark before the end.
    never: bool,
    now: Monotonic,
}

impl Described<'_> {
    fn holder(&self, watches: &[(u32, &SplitWatch)]) -> Option<Holder> {
        let splits = watches.iter().flat_map(|(task, watch)| {
            let gauges = watch.gauges.iter().enumerate();
            gauges.map(move |(split, gauge)| (*task, *watch, split, gauge))
        });
        // What is idle holds nothing, unless all is.
        let rank = |g: &SplitGauge| (g.state() == SplitState::Idle, g.watermark());
        let (task, watch, split, gauge) = splits
            .filter(|(.., g)| g.state() != SplitState::Ended)
            .min_by_key(|(.., g)| rank(g))?;
        let since = gauge.rose().max(watch.began());
        let (why, reason, release) = self.why(watch, gauge);
        Some(Holder {
            operator: self.name.to_owned(),
            sources: self.sources.clone(),
            task,
            split: split_name(watch, split),
            watermark: (gauge.watermark().0 > i64::MIN).then_some(gauge.watermark().0),
            for_ms: self.ms_since(since),
            why,
            reason,
            release: release.to_owned(),
        })
    }

    fn why(&self, watch: &SplitWatch, gauge: &SplitGauge) -> (&'static str, String, &'static str) {
        let silent = self.ms_since(gauge.last_row().max(watch.began()));
        let blocked = watch
            .splits
            .blocked_since()
            .map(|since| self.ms_since(since));
        let seconds = |ms: u64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
        match (gauge.state(), blocked) {
            (SplitState::Paused, _) => (
                "paused",
                "it is further ahead of the slowest split than its strategy allows".into(),
                "the slowest split, once it has caught up",
            ),
            (SplitState::Idle, _) => (
                "idle",
                format!(
                    "no row for {}: it holds nothing back, and nor does any other",
                    seconds(silent)
                ),
                "a row",
            ),
            (_, Some(ms)) if ms >= BLOCKED_MS => (
                "back-pressured",
                format!("the operators below have taken nothing for {}", seconds(ms)),
                "faster operators below, or more tasks of them",
            ),
            (SplitState::NotStarted, _) => (
                "never-started",
                format!("no row since the start, {} ago", seconds(silent)),
                "its first row; or idle_after(..) on the watermark strategy, which passes over it",
            ),
            _ if silent >= SILENT_MS => (
                "no-data",
                format!("no row for {}", seconds(silent)),
                "a row of a later time; or idle_after(..) on the watermark strategy, which passes over it",
            ),
            _ if self.generated && gauge.watermark().0 == i64::MIN => (
                "no-watermark",
                "rows come, but its generator has given no watermark".into(),
                "a row after which the generator gives one",
            ),
            _ if self.never && !self.generated => (
                "no-interval",
                "its strategy, or the settings, ask for no watermark before the end".into(),
                "the end of the input; or an interval above 0",
            ),
            _ => (
                "behind",
                "its rows are the earliest".into(),
                "its next rows: it goes on",
            ),
        }
    }

    fn far_ahead(&self, task: u32, watch: &SplitWatch) -> Option<FarAhead> {
        let leap = watch.last_leap()?;
        Some(FarAhead {
            operator: self.name.to_owned(),
            sources: self.sources.clone(),
            task,
            split: split_name(watch, leap.split),
            count: leap.count,
            time: leap.to,
            after: leap.from,
        })
    }

    fn ms_since(&self, then: Monotonic) -> u64 {
        self.now.since(then) / 1_000_000
    }
}

impl Holder {
    /// `'lines' split a.jsonl`, `'lines' task 2`.
    #[must_use]
    pub fn place(&self) -> String {
        place(
            &self.operator,
            &self.sources,
            self.task,
            self.split.as_deref(),
        )
    }
}

impl std::fmt::Display for FarAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = place(
            &self.operator,
            &self.sources,
            self.task,
            self.split.as_deref(),
        );
        write!(
            f,
            "{place} gave a timestamp far ahead, {}",
            EventTime(self.time)
        )?;
        match self.after {
            Some(after) => write!(f, ", after {}: what is before it is late", EventTime(after)),
            None => write!(f, ": what is before it is late"),
        }
    }
}

fn place(operator: &str, sources: &[String], task: u32, split: Option<&str>) -> String {
    let name = match sources {
        [] => operator.to_owned(),
        // The name that such an operator has by itself says nothing.
        all if operator == "timestamps" => all.join("', '"),
        all => format!("{operator}' of '{}", all.join("', '")),
    };
    match split {
        Some(split) => format!("'{name}' split {split}"),
        None => format!("'{name}' task {task}"),
    }
}

fn split_name(watch: &SplitWatch, split: usize) -> Option<String> {
    let names = watch.splits.names();
    names.get(split).filter(|_| names.len() > 1).cloned()
}

/// The names of the sources above an operator.
fn sources(graph: &JobGraph, id: OperatorId) -> Vec<String> {
    let mut names = Vec::new();
    let (mut seen, mut open) = (vec![id], vec![id]);
    while let Some(at) = open.pop() {
        for above in graph.edges_into(at).map(|e| e.source.0) {
            if seen.contains(&above) {
                continue;
            }
            seen.push(above);
            match graph.operator(above) {
                Some(op) if matches!(op.body, Body::Source(_)) => names.push(op.name.clone()),
                _ => open.push(above),
            }
        }
    }
    names.sort();
    names
}

/// Whether something gets this operator's watermarks, and not those of another one below it.
fn is_last(graph: &JobGraph, id: OperatorId) -> bool {
    let below = |id| graph.edges_from(id).map(|e| e.target.0);
    below(id).any(|at| {
        graph
            .operator(at)
            .is_some_and(|op| !matches!(op.body, Body::Timestamps(_)))
    })
}

#[cfg(test)]
mod tests;
