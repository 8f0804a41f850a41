//! Files of records and watermarks, read as one stream in a given order.

use pelton::prelude::*;
use pelton::{WatermarkGenerator, WatermarkOut};

/// A line: a record, a rule, or a watermark.
#[derive(Record)]
pub(crate) struct Line {
    /// Which file it comes from.
    pub(crate) input: i64,
    pub(crate) key: Option<String>,
    pub(crate) ts: Option<i64>,
    pub(crate) value: Option<i64>,
    pub(crate) rule: Option<String>,
    pub(crate) min: Option<i64>,
    pub(crate) watermark: Option<i64>,
    pub(crate) seq: Option<i64>,
}

/// A record.
#[derive(Record)]
pub(crate) struct Event {
    pub(crate) key: String,
    pub(crate) ts: i64,
    pub(crate) value: i64,
}

/// The records of one file.
pub(crate) fn events(job: &mut Job, path: &str) -> Stream<Event> {
    records(of(&lines(job, [path]), 0))
}

/// The lines of files, in the order of `seq`.
pub(crate) fn lines<const N: usize>(job: &mut Job, paths: [&str; N]) -> Stream<Line> {
    let all = files::json(files::all(paths));
    job.source("lines", all.merge_by("seq").file_field("input"))
}

/// The lines of one of the files, with the watermarks among them.
pub(crate) fn of(lines: &Stream<Line>, input: i64) -> Stream<Line> {
    lines
        .clone()
        .filter("of the input", move |line| line.input == input)
        .with_times("time", |line| Timestamp(line.ts.unwrap_or(i64::MIN)))
        .assign_watermarks("watermarks", |_| Watermarks)
}

/// The records among lines.
pub(crate) fn records(lines: Stream<Line>) -> Stream<Event> {
    lines.filter_map("records", |line| {
        Some(Event {
            key: line.key?.to_owned(),
            ts: line.ts?,
            value: line.value.unwrap_or_default(),
        })
    })
}

/// A watermark line is its own watermark.
struct Watermarks;

impl WatermarkGenerator<Line> for Watermarks {
    fn on_row(&mut self, line: LineRef<'_>, _: Timestamp, out: &mut WatermarkOut) {
        if let Some(watermark) = line.watermark {
            out.emit(Timestamp(watermark));
        }
    }
}
