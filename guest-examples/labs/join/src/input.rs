//! Two files of records and watermarks, read as one stream in a given order.

use pelton::prelude::*;
use pelton::{WatermarkGenerator, WatermarkOut};

/// A line: a record, or a watermark.
#[derive(Record)]
struct Line {
    /// Which file it comes from.
    input: i64,
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

/// The records of both files, in the order of `seq`, each file with watermarks of its own.
pub(crate) fn both(job: &mut Job, left: &str, right: &str) -> (Stream<Event>, Stream<Event>) {
    let files = files::json(files::all([left, right]));
    let lines = job.source("lines", files.merge_by("seq").file_field("input"));
    (events(&lines, 0), events(&lines, 1))
}

fn events(lines: &Stream<Line>, input: i64) -> Stream<Event> {
    lines
        .clone()
        .filter("of the input", move |line| line.input == input)
        .with_times("time", |line| Timestamp(line.ts.unwrap_or(i64::MIN)))
        .assign_watermarks("watermarks", |_| Watermarks)
        .filter_map("records", |line| {
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
