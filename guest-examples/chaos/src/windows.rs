//! Sliding windows over files, into files.

use pelton::prelude::*;

/// A line.
#[derive(Record)]
struct Line {
    key: i64,
    value: i64,
    time: Timestamp,
}

/// What a key came to in a window.
#[derive(Record)]
pub(crate) struct Total {
    key: i64,
    start: Timestamp,
    end: Timestamp,
    count: i64,
    sum: i64,
}

/// Rows, and the sum of their values.
#[derive(Record)]
struct Values {
    count: i64,
    sum: i64,
}

struct Add;

impl Aggregate for Add {
    type In = Line;
    type Key = i64;
    type Acc = Values;
    type Out = Total;

    fn create(&self) -> Values {
        Values { count: 0, sum: 0 }
    }

    fn add(&self, acc: &mut Values, line: LineRef<'_>) {
        acc.count += 1;
        acc.sum += line.value;
    }

    fn merge(&self, acc: &mut Values, other: Values) {
        acc.count += other.count;
        acc.sum += other.sum;
    }

    fn result(&self, key: i64, window: Window, acc: Values, out: &mut Out<Total>) {
        let Values { count, sum } = acc;
        let Window { start, end } = window;
        out.emit(TotalRef {
            key,
            start,
            end,
            count,
            sum,
        });
    }
}

/// Always true, after so many steps: files have no rate, and a run should take its time.
fn is_worked_on(value: i64, work: u64) -> bool {
    let mut seed = value as u64;
    for _ in 0..work {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7);
    }
    std::hint::black_box(seed);
    true
}

pub(crate) fn sums(job: &mut Job, params: &Params) -> Result<Stream<Total>> {
    let lines = files::json(params.require("input")?);
    let work: u64 = params.get_or("work", 0)?;
    let sums = job
        .source::<Line>("lines", lines)
        .uid("lines")
        .assign_timestamps_by(bounded(seconds(1)).every_batch(), Line::TIME)
        .filter("work", move |line| is_worked_on(line.value, work))
        .key_by(Line::KEY)
        .window(sliding(seconds(8), seconds(4)))
        .aggregate("sums", Add);
    Ok(sums.uid("sums"))
}
