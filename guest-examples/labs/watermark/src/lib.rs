//! Counts over united inputs, each with watermarks of its own.

use pelton::prelude::*;
use pelton::{WatermarkGenerator, WatermarkOut};

/// A line of an input: a record, or the word that the input is idle.
#[derive(Record)]
struct Line {
    /// Which input it comes from.
    input: i64,
    key: Option<String>,
    ts: Option<i64>,
    value: Option<i64>,
    seq: Option<i64>,
    /// A watermark follows.
    mark: Option<bool>,
    idle: Option<bool>,
}

/// A record; also what is written of one that came too late.
#[derive(Record)]
struct Event {
    key: String,
    ts: i64,
    value: i64,
}

/// Records of a key in a window.
#[derive(Record)]
struct Counted {
    end: Timestamp,
    key: String,
    start: Timestamp,
    value: i64,
}

static LATE: SideTag<Event> = SideTag::new("late");

/// Counts the records of `inputs` files by key and window of `size_ms`.
#[pelton::job]
pub fn lab_watermark(job: &mut Job, params: &Params) -> Result<()> {
    let strategy = Strategy::read(params)?;
    let size = params.get_or("size_ms", 0_i64)?;
    let output = params.require("output")?;
    let inputs = inputs(params)?;
    let count = inputs.len() as i64;
    let lines: Stream<Line> = job.source(
        "lines",
        files::json(files::all(inputs))
            .merge_by("seq")
            .file_field("input"),
    );
    let events = (1..count).fold(events(&lines, 0, strategy), |all, input| {
        all.union(&events(&lines, input, strategy))
    });
    let counted = events
        .key_by(Event::KEY)
        .window(tumbling(millis(size)))
        .late_to(&LATE)
        .columns::<Counted>("count", |w| {
            w.key(Counted::KEY);
            w.start(Counted::START);
            w.end(Counted::END);
            w.count(Counted::VALUE);
        });
    counted
        .side(&LATE)
        .sink("late", files::single(format!("{output}/late.jsonl")))
        .parallelism(1);
    counted
        .sink("out", files::single(format!("{output}/out.jsonl")))
        .parallelism(1);
    Ok(())
}

fn inputs(params: &Params) -> Result<Vec<String>> {
    let count = params.get_or("inputs", 1_usize)?;
    if !(1..=4).contains(&count) {
        return Err(Error::new("parameter 'inputs' must be from 1 to 4"));
    }
    (0..count)
        .map(|i| params.require(&format!("input{i}")).map(str::to_owned))
        .collect()
}

/// The records of one input, with its watermarks.
fn events(lines: &Stream<Line>, input: i64, strategy: Strategy) -> Stream<Event> {
    lines
        .clone()
        .filter("of the input", move |line| line.input == input)
        .with_times("time", |line| Timestamp(line.ts.unwrap_or(i64::MIN)))
        .assign_watermarks("watermarks", move |_| Generator {
            strategy,
            greatest: i64::MIN,
        })
        .filter_map("record", |line| {
            Some(Event {
                key: line.key?.to_owned(),
                ts: line.ts?,
                value: line.value.unwrap_or_default(),
            })
        })
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Strategy {
    /// Behind the greatest time by so many milliseconds, and one.
    Bounded(i64),
    /// At the time of records that are marked.
    Punctuated,
}

impl Strategy {
    fn read(params: &Params) -> Result<Self> {
        if params.get_or("emit_every", 1_u64)? != 1 {
            return Err(Error::new("parameter 'emit_every' must be 1"));
        }
        match params.get("strategy").unwrap_or("monotonous") {
            "monotonous" => Ok(Self::Bounded(0)),
            "punctuated" => Ok(Self::Punctuated),
            other => {
                let bound = other.strip_prefix("bounded:");
                let bound = bound.and_then(|ms| ms.parse().ok()).filter(|ms| *ms >= 0);
                bound.map(Self::Bounded).ok_or_else(|| {
                    Error::new("parameter 'strategy' must be monotonous, bounded:MS or punctuated")
                })
            }
        }
    }
}

struct Generator {
    strategy: Strategy,
    greatest: i64,
}

impl WatermarkGenerator<Line> for Generator {
    fn on_row(&mut self, line: LineRef<'_>, time: Timestamp, out: &mut WatermarkOut) {
        if line.idle == Some(true) {
            return out.idle();
        }
        match self.strategy {
            Strategy::Bounded(bound) => {
                self.greatest = self.greatest.max(time.0);
                out.emit(Timestamp(
                    self.greatest.saturating_sub(bound).saturating_sub(1),
                ));
            }
            Strategy::Punctuated => {
                if line.mark == Some(true) {
                    out.emit(time);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_read() {
        let read = |text| Strategy::read(&Params::new([("strategy", text)]));
        assert_eq!(read("monotonous").unwrap(), Strategy::Bounded(0));
        assert_eq!(read("bounded:7").unwrap(), Strategy::Bounded(7));
        assert_eq!(read("punctuated").unwrap(), Strategy::Punctuated);
        assert!(read("bounded:-1").is_err() && read("bounded").is_err());
    }
}
