//! Drives a job of this process to its end, and lets others look at it meanwhile.
//! Needs: local, process. Invariant: a wish to stop is seen within a twentieth of a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pelton_model::graph::{Body, JobGraph};
use pelton_model::time::{Clock, EventTime, Monotonic, ProcessingTime};
use pelton_model::{ErrorCode, Result};

use crate::local::{LocalJob, Outcome, Progress, start};
use crate::process;
use crate::summary::{Summary, grouped};

const LOOK: Duration = Duration::from_millis(50);
const TICK_MS: u64 = 1_000;
/// A watermark that has stood for so long is explained.
const HELD_MS: u64 = 2_000;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> ProcessingTime {
        process::now()
    }

    fn monotonic(&self) -> Monotonic {
        process::monotonic()
    }
}

/// What is shown of a running job: at its start, once a second, and at its end.
pub(crate) type Watcher<'a> = dyn FnMut(&Progress, Monotonic) + 'a;

/// Runs a job until it ends, fails or is asked to stop. Errors: the first that ended a task, or a sink's own.
pub(crate) fn drive(job: LocalJob, stop: &AtomicBool, watch: &mut Watcher<'_>) -> Result<Summary> {
    let name = job.graph.name.clone();
    let began = process::monotonic();
    let running = start(job, Arc::new(SystemClock))?;
    let (opened, cpu_opened) = (process::monotonic(), process::cpu_seconds());
    let mut last = began;
    watch(&running.progress(), began);
    while !running.wait(LOOK) {
        if stop.load(Ordering::Relaxed) {
            running.cancel();
        }
        let now = process::monotonic();
        if now >= last.plus_ms(TICK_MS) {
            last = now;
            watch(&running.progress(), now);
        }
    }
    let progress = running.progress();
    watch(&progress, process::monotonic());
    let outcome = match running.finish() {
        // A call that was cut off by the wish to stop is no failure.
        Err(e) if stop.load(Ordering::Relaxed) && e.code() != ErrorCode::Bug => Outcome::Cancelled,
        other => other?,
    };
    let nanos = process::monotonic().since(began);
    Ok(
        Summary::new(name, outcome == Outcome::Finished, &progress, nanos)
            .after(opened.since(began), cpu_opened),
    )
}

/// The live line of a run.
#[derive(Debug)]
pub(crate) struct Line {
    last: Option<(Monotonic, u64)>,
    sinks: Vec<String>,
}

impl Line {
    pub(crate) fn new(graph: &JobGraph) -> Self {
        let sinks = graph
            .operators
            .iter()
            .filter(|op| matches!(op.body, Body::Sink(_)));
        Self {
            last: None,
            sinks: sinks.map(|op| op.name.clone()).collect(),
        }
    }

    /// The line for now; `None` for the first look, which has no rate yet.
    pub(crate) fn next(&mut self, progress: &Progress, now: Monotonic) -> Option<String> {
        let (then, rows) = self.last.replace((now, progress.rows_in))?;
        let seconds = (now.since(then) as f64 / 1e9).max(1e-3);
        let rate = progress.rows_in.saturating_sub(rows) as f64 / seconds;
        let mut line = format!(
            "{} rows in, {} a second, {} rows out",
            grouped(progress.rows_in),
            grouped(rate as u64),
            grouped(progress.rows_out)
        );
        let at_sinks = progress
            .operators
            .iter()
            .filter(|op| self.sinks.contains(&op.name));
        let watermark = at_sinks.flat_map(|op| &op.tasks).map(|t| t.watermark).min();
        match watermark {
            Some(i64::MIN) | None => {}
            Some(i64::MAX) => line.push_str(", at the end"),
            Some(ms) => line.push_str(&format!(", watermark {}", EventTime(ms))),
        }
        line.push_str(&held(progress, watermark));
        Some(line)
    }
}

/// What holds the watermark, if it is more than the pace of things.
fn held(progress: &Progress, watermark: Option<i64>) -> String {
    let mut text = String::new();
    let held = progress.watermark.held_by.first();
    if let Some(h) = held.filter(|h| h.for_ms >= HELD_MS && watermark != Some(i64::MAX)) {
        let (seconds, place, reason) = (h.for_ms / 1_000, h.place(), &h.reason);
        text = match h.watermark {
            Some(_) => format!(", held {seconds} s by {place} ({}: {reason})", h.why),
            None => format!(", no watermark yet, for {place} ({}: {reason})", h.why),
        };
        text.push_str(&format!("; released by {}", h.release));
    }
    if let Some(far) = progress.watermark.far_ahead.first() {
        text.push_str(&format!("; {far}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks() {
        let graph = JobGraph {
            name: String::new(),
            operators: vec![],
            edges: vec![],
            params: vec![],
            parallelism: None,
            max_parallelism: None,
        };
        let mut line = Line::new(&graph);
        let progress = |rows_in| Progress {
            rows_in,
            ..Progress::default()
        };
        assert_eq!(line.next(&progress(10), Monotonic(0)), None);
        let second = line
            .next(&progress(2_000_010), Monotonic(2_000_000_000))
            .unwrap();
        assert_eq!(second, "2,000,010 rows in, 1,000,000 a second, 0 rows out");
    }
}
