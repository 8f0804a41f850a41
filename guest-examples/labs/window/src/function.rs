//! What is made of a window's records, and where it is written.

use pelton::WindowedStream;
use pelton::prelude::*;
use pelton::windows::{Rows, Trigger, WindowCtx};

use crate::input::{Event, EventRef};
use crate::knobs::Knobs;
use crate::{LATE, Windowed};

/// A sum.
#[derive(Record)]
struct Sum {
    end: Option<i64>,
    key: String,
    start: Option<i64>,
    value: i64,
}

/// An average.
#[derive(Record)]
struct Average {
    end: Option<i64>,
    key: String,
    start: Option<i64>,
    value: f64,
}

/// An average with the watermark at which it was made.
#[derive(Record)]
struct Marked {
    end: Option<i64>,
    key: String,
    start: Option<i64>,
    value: f64,
    watermark: i64,
}

/// All values.
#[derive(Record)]
struct Values {
    end: Option<i64>,
    key: String,
    start: Option<i64>,
    values: Vec<i64>,
}

/// Windows with the function that `function` names, into `out.jsonl` and `late.jsonl` of the folder `output`.
pub(crate) fn write<G: Trigger<Event>>(windows: Windowed<G>, knobs: &Knobs) -> Result<()> {
    let windows = windows.late_to(&LATE);
    match knobs.function.as_str() {
        "reduce" => sink(
            windows.reduce_then("sum", add, |key, sum, cx, out| {
                let (start, end) = bounds(cx.window());
                let value = sum.value;
                out.emit(SumRef {
                    end,
                    key,
                    start,
                    value,
                });
            }),
            knobs,
        ),
        "aggregate" => sink(windows.aggregate("average", Averaging), knobs),
        "aggregate-process" => sink(windows.aggregate_then("average", Averaging, marked), knobs),
        "process" => {
            let sorted = knobs.is_session();
            sink(
                windows.process_with("values", move |key, window, rows, _, out| {
                    values(key, window, rows, sorted, out);
                }),
                knobs,
            )
        }
        other => return Err(Error::new(format_args!("there is no function '{other}'"))),
    }
    Ok(())
}

/// As [`write`], by windows that the host keeps.
pub(crate) fn write_native(
    windows: WindowedStream<Event, Event, String>,
    knobs: &Knobs,
) -> Result<()> {
    let windows = windows.allowed_lateness(knobs.lateness).late_to(&LATE);
    match knobs.function.as_str() {
        "reduce" => sink(windows.aggregate("sum", Summing), knobs),
        _ => sink(windows.aggregate("average", Averaging), knobs),
    }
    Ok(())
}

fn sink<T: Record>(results: Stream<T>, knobs: &Knobs) {
    let file = |name: &str| files::single(format!("{}/{name}.jsonl", knobs.output));
    results
        .side(&LATE)
        .sink("late", file("late"))
        .parallelism(1);
    results.sink("out", file("out")).parallelism(1);
}

/// The window's start and end; none of the window that has neither.
fn bounds(window: Window) -> (Option<i64>, Option<i64>) {
    match window.is_global() {
        true => (None, None),
        false => (Some(window.start.0), Some(window.end.0)),
    }
}

fn add(sum: &Event, event: EventRef<'_>) -> Event {
    Event {
        key: sum.key.clone(),
        ts: sum.ts,
        value: sum.value.wrapping_add(event.value),
    }
}

fn values(key: &str, window: Window, rows: Rows<'_, Event>, sorted: bool, out: &mut Out<Values>) {
    let (start, end) = bounds(window);
    let mut values: Vec<i64> = rows.iter().map(|event| event.value).collect();
    if sorted {
        // In which order the records of merged sessions come is not defined.
        values.sort_unstable();
    }
    out.emit(ValuesRef {
        end,
        key,
        start,
        values: (&values).into(),
    });
}

fn marked(key: &str, mean: Mean, cx: &mut WindowCtx<'_, bool>, out: &mut Out<Marked>) {
    let (start, end) = bounds(cx.window());
    out.emit(MarkedRef {
        end,
        key,
        start,
        value: mean.value(),
        watermark: cx.watermark().map_or(i64::MIN, |w| w.0),
    });
}

/// The average of the values.
struct Averaging;

/// What it is made of.
#[derive(Record)]
struct Mean {
    sum: i64,
    count: i64,
}

impl Mean {
    fn value(&self) -> f64 {
        self.sum as f64 / self.count as f64
    }
}

impl Aggregate for Averaging {
    type In = Event;
    type Key = String;
    type Acc = Mean;
    type Out = Average;

    fn create(&self) -> Mean {
        Mean { sum: 0, count: 0 }
    }
    fn add(&self, mean: &mut Mean, event: EventRef<'_>) {
        mean.sum = mean.sum.wrapping_add(event.value);
        mean.count += 1;
    }
    fn merge(&self, mean: &mut Mean, other: Mean) {
        mean.sum = mean.sum.wrapping_add(other.sum);
        mean.count += other.count;
    }
    fn result(&self, key: &str, window: Window, mean: Mean, out: &mut Out<Average>) {
        let (start, end) = bounds(window);
        out.emit(AverageRef {
            end,
            key,
            start,
            value: mean.value(),
        });
    }
}

/// The sum of the values.
struct Summing;

impl Aggregate for Summing {
    type In = Event;
    type Key = String;
    type Acc = i64;
    type Out = Sum;

    fn create(&self) -> i64 {
        0
    }
    fn add(&self, sum: &mut i64, event: EventRef<'_>) {
        *sum = sum.wrapping_add(event.value);
    }
    fn merge(&self, sum: &mut i64, other: i64) {
        *sum = sum.wrapping_add(other);
    }
    fn result(&self, key: &str, window: Window, value: i64, out: &mut Out<Sum>) {
        let (start, end) = bounds(window);
        out.emit(SumRef {
            end,
            key,
            start,
            value,
        });
    }
}
