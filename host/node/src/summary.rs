//! What is left to say of a job that has ended.
//! Needs: local's progress, process.

use pelton_model::time::EventTime;
use serde::Serialize;
use serde_json::{Value, json};

use crate::local::{Explanation, Progress};
use crate::process;

/// The figures of one run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) kind: &'static str,
    pub(crate) job: String,
    /// `finished` or `cancelled`.
    pub(crate) outcome: &'static str,
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) late: u64,
    pub(crate) skipped: u64,
    pub(crate) seconds: f64,
    pub(crate) rows_per_second: f64,
    /// Of the whole process, since its start.
    pub(crate) cpu_seconds: f64,
    /// From the start of the tasks on: without what was made ready before.
    pub(crate) seconds_running: f64,
    /// The same of CPU time.
    pub(crate) cpu_seconds_running: f64,
    /// Of the whole process.
    pub(crate) peak_memory_bytes: u64,
    /// What held event time in the end, timestamps far ahead, watermarks that went back.
    pub(crate) watermark: Explanation,
    pub(crate) operators: Vec<OperatorSummary>,
}

/// One operator's counters over all its tasks.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct OperatorSummary {
    pub(crate) name: String,
    pub(crate) tasks: usize,
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) late: u64,
    pub(crate) skipped: u64,
}

impl Summary {
    pub(crate) fn new(job: String, finished: bool, progress: &Progress, nanos: u64) -> Self {
        let seconds = nanos as f64 / 1e9;
        let operators = progress.operators.iter().map(|op| OperatorSummary {
            name: op.name.clone(),
            tasks: op.tasks.len(),
            rows_in: op.tasks.iter().map(|t| t.rows_in).sum(),
            rows_out: op.tasks.iter().map(|t| t.rows_out).sum(),
            late: op.tasks.iter().map(|t| t.late).sum(),
            skipped: op.tasks.iter().map(|t| t.skipped).sum(),
        });
        let cpu_seconds = process::cpu_seconds();
        Self {
            kind: "run-summary",
            job,
            outcome: if finished { "finished" } else { "cancelled" },
            rows_in: progress.rows_in,
            rows_out: progress.rows_out,
            late: progress.late,
            skipped: progress.skipped,
            seconds: thousandths(seconds),
            rows_per_second: thousandths(progress.rows_in as f64 / seconds.max(1e-9)),
            cpu_seconds,
            seconds_running: thousandths(seconds),
            cpu_seconds_running: cpu_seconds,
            peak_memory_bytes: process::peak_memory_bytes(),
            watermark: progress.watermark.clone(),
            operators: operators.collect(),
        }
    }

    /// The same, knowing what had passed when the tasks started.
    pub(crate) fn after(mut self, nanos: u64, cpu_seconds: f64) -> Self {
        let running = self.seconds - nanos as f64 / 1e9;
        self.seconds_running = thousandths(running.max(0.0));
        self.cpu_seconds_running = thousandths((self.cpu_seconds - cpu_seconds).max(0.0));
        self
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mib = self.peak_memory_bytes as f64 / f64::from(1 << 20);
        let rows = [
            ("rows in", grouped(self.rows_in)),
            ("rows out", grouped(self.rows_out)),
            ("late", grouped(self.late)),
            ("skipped", grouped(self.skipped)),
            ("seconds", format!("{:.3}", self.seconds)),
            ("rows per second", grouped(self.rows_per_second as u64)),
            ("CPU seconds", format!("{:.2}", self.cpu_seconds)),
            ("peak memory", format!("{mib:.1} MiB")),
        ];
        let lines = rows
            .iter()
            .map(|(name, value)| format!("  {name:<16}{value:>16}\n"));
        format!(
            "job '{}' {}\n{}{}",
            self.job,
            self.outcome,
            lines.collect::<String>(),
            self.watermark_text()
        )
    }

    /// What is unusual of event time; empty where nothing is.
    fn watermark_text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        if self.outcome == "cancelled" {
            let held = self.watermark.held_by.first();
            lines.extend(held.map(|h| {
                let at = h
                    .watermark
                    .map_or("there was none yet".into(), |w| EventTime(w).to_string());
                let (place, reason, release) = (h.place(), &h.reason, &h.release);
                format!("watermark: {at}, held by {place}: {reason}; released by {release}")
            }));
        }
        lines.extend(
            self.watermark
                .far_ahead
                .iter()
                .map(|f| format!("watermark: {f}")),
        );
        if self.watermark.went_back > 0 {
            let count = grouped(self.watermark.went_back);
            lines.push(format!(
                "watermark: {count} went back, and were passed over"
            ));
        }
        lines
            .into_iter()
            .map(|line| format!("  {line}\n"))
            .collect()
    }

    /// For programs.
    pub(crate) fn object(&self) -> Value {
        serde_json::to_value(self).unwrap_or_else(|_| json!({"kind": self.kind}))
    }
}

fn thousandths(x: f64) -> f64 {
    (x * 1_000.0).round() / 1_000.0
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown: Vec<String> = [0, 999, 1_000, 1_234_567]
            .into_iter()
            .map(grouped)
            .collect();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_summary_has_a_kind_and_rates() {
        let progress = Progress {
            rows_in: 3_000,
            rows_out: 5,
            ..Progress::default()
        };
        let summary = Summary::new("j".into(), true, &progress, 1_500_000_000);
        let object = summary.object();
        assert_eq!(object["kind"], "run-summary");
        assert_eq!(object["outcome"], "finished");
        assert_eq!(object["rows_per_second"], 2_000.0);
        assert_eq!(object["seconds_running"], 1.5);
        let after = summary.clone().after(500_000_000, 0.0).object();
        assert_eq!(after["seconds_running"], 1.0);
        assert!(
            summary
                .text()
                .contains("rows in                    3,000\n"),
            "{}",
            summary.text()
        );
    }
}
