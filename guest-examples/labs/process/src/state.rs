//! A result after each record, by one kind of state each.

use std::collections::BTreeMap;
use std::fmt::Write;

use pelton::prelude::*;

use crate::input::{Event, EventRef};

type Events = KeyedStream<Event, Event, String>;

/// A number for a record.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) key: String,
    pub(crate) ts: i64,
    pub(crate) value: i64,
}

/// A fraction for a record.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Average {
    pub(crate) key: String,
    pub(crate) ts: i64,
    pub(crate) value: f64,
}

/// The last values.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Last {
    pub(crate) key: String,
    pub(crate) ts: i64,
    pub(crate) values: Vec<i64>,
}

/// A line of JSON.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) line: String,
}

/// Value state.
pub(crate) fn running_sum(events: Events) -> Stream<Value> {
    events.process_with("running sum", |states| {
        let sum = states.value::<i64>("sum");
        move |key, event: EventRef<'_>, _: &mut Ctx, out: &mut Out<Value>| {
            let value = sum.get().unwrap_or(0).wrapping_add(event.value);
            sum.set(value);
            let ts = event.ts;
            out.emit(ValueRef { key, ts, value });
        }
    })
}

/// List state.
pub(crate) fn last_n(events: Events, n: usize) -> Stream<Last> {
    events.process_with("last values", move |states| {
        let last = states.list::<i64>("last");
        move |key: &str, event: EventRef<'_>, _: &mut Ctx, out: &mut Out<Last>| {
            last.add(event.value);
            let mut values = last.get();
            if values.len() > n {
                values.drain(..values.len() - n);
                last.set(values.iter().copied());
            }
            let ts = event.ts;
            let values = (&values).into();
            out.emit(LastRef { key, ts, values });
        }
    })
}

/// Map state. Its entries become fields of JSON, which no record has.
pub(crate) fn counts_by_value(events: Events) -> Stream<Line> {
    events.process_with("counts by value", |states| {
        let counts = states.map::<i64, i64>("counts");
        move |key: &str, event: EventRef<'_>, _: &mut Ctx, out: &mut Out<Line>| {
            let count = counts.get(event.value).unwrap_or(0) + 1;
            counts.put(event.value, count);
            let line = counts_line(&counts.entries(), key, event.ts);
            out.emit(LineRef { line: &line });
        }
    })
}

/// `{"counts":{"3":2},"key":"a","ts":5}`, names in the order of text.
fn counts_line(counts: &[(i64, i64)], key: &str, ts: i64) -> String {
    let by_name: BTreeMap<String, i64> = counts.iter().map(|(v, n)| (v.to_string(), *n)).collect();
    let counts: Vec<_> = by_name
        .iter()
        .map(|(v, n)| format!("\"{v}\":{n}"))
        .collect();
    let (counts, key) = (counts.join(","), quoted(key));
    format!("{{\"counts\":{{{counts}}},\"key\":{key},\"ts\":{ts}}}")
}

/// A JSON text.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                // Writing into a text cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Reducing state.
pub(crate) fn greatest(events: Events) -> Stream<Value> {
    events.process_with("greatest", |states| {
        let greatest = states.reducing("greatest", |a: i64, b: i64| a.max(b));
        move |key, event: EventRef<'_>, _: &mut Ctx, out: &mut Out<Value>| {
            greatest.add(event.value);
            if let Some(value) = greatest.get() {
                let ts = event.ts;
                out.emit(ValueRef { key, ts, value });
            }
        }
    })
}

/// What an average is made of.
#[derive(Record)]
struct Sum {
    sum: i64,
    count: i64,
}

/// Aggregating state.
pub(crate) fn average(events: Events) -> Stream<Average> {
    events.process_with("average", |states| {
        let average = states.aggregating(
            "average",
            || Sum { sum: 0, count: 0 },
            |acc: &mut Sum, value: i64| {
                acc.sum = acc.sum.wrapping_add(value);
                acc.count += 1;
            },
            |acc: &Sum| acc.sum as f64 / acc.count as f64,
        );
        move |key, event: EventRef<'_>, _: &mut Ctx, out: &mut Out<Average>| {
            average.add(event.value);
            if let Some(value) = average.get() {
                let ts = event.ts;
                out.emit(AverageRef { key, ts, value });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use pelton::testing::Harness;

    use super::*;

    fn harness<O: Record>(f: impl FnOnce(Events) -> Stream<O>) -> Harness<Event, O> {
        let mut harness = Harness::new(|events: Stream<Event>| f(events.key_by(Event::KEY)));
        for (ts, key, value) in [(0, "a", 3), (1, "b", 10), (2, "a", -1), (3, "a", 3)] {
            harness.push_at(Timestamp(ts), EventRef { key, ts, value });
        }
        harness
    }

    #[test]
    fn each_kind_of_state_gives_a_result_after_each_record() {
        let values = |mut h: Harness<Event, Value>| -> Vec<i64> {
            h.take().iter().map(|v| v.value).collect()
        };
        assert_eq!(values(harness(running_sum)), [3, 10, 2, 5]);
        assert_eq!(values(harness(greatest)), [3, 10, 3, 3]);
        let averages = harness(average).take();
        let averages: Vec<f64> = averages.iter().map(|v| v.value).collect();
        assert_eq!(averages, [3.0, 10.0, 1.0, 5.0 / 3.0]);
        let last = harness(|events| last_n(events, 2)).take();
        let last: Vec<_> = last.into_iter().map(|l| l.values).collect();
        assert_eq!(last, [vec![3], vec![10], vec![3, -1], vec![-1, 3]]);
        let counts = harness(counts_by_value).take();
        let last = counts.last().map(|l| l.line.as_str());
        assert_eq!(last, Some(r#"{"counts":{"-1":1,"3":2},"key":"a","ts":3}"#));
    }

    #[test]
    fn text_is_quoted_as_json_wants_it() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }
}
