//! What is written: results with their event times, and late records.

use pelton::prelude::*;

use crate::input::Event;

/// Values that meet.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) left: Option<i64>,
    pub(crate) right: Option<i64>,
}

/// Values of a window.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) key: String,
    pub(crate) left: Vec<i64>,
    pub(crate) right: Vec<i64>,
}

/// A pair and its event time.
#[derive(Record)]
struct TimedPair {
    key: String,
    left: Option<i64>,
    right: Option<i64>,
    ts: i64,
}

/// A group and its event time.
#[derive(Record)]
struct TimedGroup {
    key: String,
    left: Vec<i64>,
    right: Vec<i64>,
    ts: i64,
}

/// The folder of results.
pub(crate) struct Output(String);

impl Output {
    pub(crate) fn new(folder: &str) -> Self {
        Self(folder.to_owned())
    }

    pub(crate) fn pairs(&self, pairs: Stream<Pair>) {
        self.write(pairs.process("event time", |_| PairTime), "out");
    }

    pub(crate) fn groups(&self, groups: Stream<Group>) {
        self.write(groups.process("event time", |_| GroupTime), "out");
    }

    pub(crate) fn late(&self, late: &Stream<Event>) {
        self.write(late.clone(), "late");
    }

    fn write<T: Record>(&self, rows: Stream<T>, name: &str) {
        let file = files::single(format!("{}/{name}.jsonl", self.0));
        rows.sink(name, file).parallelism(1);
    }
}

fn time(cx: &Ctx) -> i64 {
    cx.event_time().map_or(i64::MIN, Timestamp::millis)
}

struct PairTime;

impl Process for PairTime {
    type In = Pair;
    type Out = TimedPair;

    fn process(&self, row: PairRef<'_>, cx: &mut Ctx, out: &mut Out<TimedPair>) {
        let PairRef { key, left, right } = row;
        let ts = time(cx);
        out.emit(TimedPairRef {
            key,
            left,
            right,
            ts,
        });
    }
}

struct GroupTime;

impl Process for GroupTime {
    type In = Group;
    type Out = TimedGroup;

    fn process(&self, row: GroupRef<'_>, cx: &mut Ctx, out: &mut Out<TimedGroup>) {
        let GroupRef { key, left, right } = row;
        let ts = time(cx);
        out.emit(TimedGroupRef {
            key,
            left,
            right,
            ts,
        });
    }
}
