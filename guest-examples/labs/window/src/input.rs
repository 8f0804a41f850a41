//! A file of records and watermarks.

use pelton::prelude::*;

/// A line: a record or a watermark.
#[derive(Record)]
struct Line {
    key: Option<String>,
    ts: Option<i64>,
    value: Option<i64>,
    watermark: Option<i64>,
    seq: Option<i64>,
}

/// A record; also what is written of one that came too late.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) key: String,
    pub(crate) ts: i64,
    pub(crate) value: i64,
}

/// The records of a file, with the watermarks among them.
pub(crate) fn events(job: &mut Job, path: &str) -> Stream<Event> {
    // As of several files, so that one task reads the lines in their order.
    let lines: Stream<Line> = job.source("lines", files::json(path).merge_by("seq"));
    lines
        .with_times("time", |line| Timestamp(line.ts.unwrap_or(i64::MIN)))
        .assign_watermarks_by("watermarks", |line, _| line.watermark.map(Timestamp))
        .filter_map("records", |line| {
            Some(Event {
                key: line.key?.to_owned(),
                ts: line.ts?,
                value: line.value.unwrap_or_default(),
            })
        })
}
