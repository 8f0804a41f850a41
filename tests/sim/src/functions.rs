//! The users' functions of the simulated jobs, as native code behind the engine's contract.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{
    DueTimers, EntryChanges, Functions, KeyedReply, KeyedRows, Lent, Mark, Moment, OutputRows,
    Reply, Rows, Segment, SegmentSpec, Slots, StateChange, TimerChange,
};
use pelton_model::id::FunctionId;
use pelton_model::schema::Schema;
use pelton_model::{Error, Result};

use crate::chance::Chance;

/// A running sum and a count of timers, by key.
pub const SUMS: FunctionId = FunctionId(0);
/// Pairs of two inputs by key, with rules from a third.
pub const PAIRS: FunctionId = FunctionId(1);
/// When pairs say what the rules are: after all rows.
pub const PAIRS_END: i64 = 1_000_000_000_000;
/// Timers of sums are due at the ends of such spans.
const SPAN_MS: i64 = 50;

/// Which of a job's rows of output it is.
const OF_ROW: i64 = 0;
const OF_TIMER: i64 = 1;

/// Native functions of one task.
pub struct Native {
    segments: Vec<SegmentSpec>,
    chance: Chance,
}

impl Native {
    /// Calls take prefixes of the rows by chance.
    #[must_use]
    pub fn new(chance: Chance) -> Self {
        let segments = Vec::new();
        Self { segments, chance }
    }

    fn spec(&self, segment: Segment) -> Result<&SegmentSpec> {
        let spec = self.segments.get(segment.0 as usize);
        spec.ok_or_else(|| Error::bug("a segment that was not prepared"))
    }

    /// How many of these a call takes.
    fn prefix(&self, count: usize) -> usize {
        match self.chance.happens(100) {
            true => self.chance.between(1, (count as u64).max(1)) as usize,
            false => count,
        }
        .min(count)
    }
}

fn ints(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn values(column: &ArrayRef) -> Vec<i64> {
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// A column of slots; what is not there is 0.
fn column(slots: &Slots, index: usize) -> Vec<i64> {
    let Some(column) = slots.columns.get(index) else {
        return vec![0; slots.rows];
    };
    let mut values = values(column);
    if let Some(present) = &slots.present {
        let absent = present.iter().zip(&mut values).filter(|(there, _)| !there);
        absent.for_each(|(_, value)| *value = 0);
    }
    values
}

fn at<T: Copy + Default>(values: &[T], index: usize) -> T {
    values.get(index).copied().unwrap_or_default()
}

fn named(schema: &Schema, columns: &[ArrayRef], name: &str) -> Vec<i64> {
    let column = schema.index_of(name).and_then(|i| columns.get(i));
    column.map(values).unwrap_or_default()
}

/// Rows of output with the row or timer that each comes from: kind, key, n, v.
#[derive(Default)]
struct Out {
    parents: Vec<u32>,
    rows: Vec<[i64; 4]>,
}

impl Out {
    fn push(&mut self, parent: usize, row: [i64; 4]) {
        self.parents.push(parent as u32);
        self.rows.push(row);
    }

    fn finish(self, spec: &SegmentSpec) -> Vec<OutputRows> {
        let Some(((step, port), schema)) = spec.outputs.first() else {
            return Vec::new();
        };
        let made = ["kind", "k", "n", "v"];
        let columns = schema.fields.iter().map(|field| {
            let index = made.iter().position(|m| *m == field.name);
            let value = |row: &[i64; 4]| index.map_or(0, |i| at(row, i));
            ints(self.rows.iter().map(value).collect())
        });
        let columns = columns.collect();
        vec![OutputRows {
            step: *step,
            port: *port,
            rows: self.rows.len(),
            parents: Some(self.parents.into()),
            columns,
            times: None,
            kinds: None,
            watermarks: None,
        }]
    }
}

fn changed(state: u32, marks: &[bool], columns: &[Vec<i64>]) -> StateChange {
    let set = |c: &Vec<i64>| {
        let set = c.iter().zip(marks).filter(|(_, m)| **m).map(|(v, _)| *v);
        ints(set.collect())
    };
    StateChange {
        state,
        marks: marks
            .iter()
            .map(|m| match m {
                true => Mark::Set as u8,
                false => Mark::Unchanged as u8,
            })
            .collect(),
        values: Slots {
            rows: marks.iter().filter(|m| **m).count(),
            present: None,
            columns: columns.iter().map(set).collect(),
        },
        entries: None,
    }
}

fn timer(ordinal: usize, time: i64) -> TimerChange {
    TimerChange {
        ordinal: ordinal as u32,
        time,
        delete: false,
        processing_time: false,
    }
}

impl Native {
    fn sums(&self, spec: &SegmentSpec, call: &KeyedRows<'_>) -> KeyedReply {
        let consumed = self.prefix(call.rows.rows);
        let keys = column(call.keys, 0);
        let state = call.states.first();
        let mut sum = state.map_or_else(Vec::new, |s| column(s, 0));
        let fired = state.map_or_else(Vec::new, |s| column(s, 1));
        let mut marks = vec![false; keys.len()];
        let (n, v) = (
            named(&spec.input, call.rows.columns, "n"),
            named(&spec.input, call.rows.columns, "v"),
        );
        let (mut out, mut timers) = (Out::default(), Vec::new());
        for row in 0..consumed {
            let o = at(call.ordinals, row) as usize;
            if let (Some(sum), Some(mark)) = (sum.get_mut(o), marks.get_mut(o)) {
                *sum += at(&v, row);
                *mark = true;
            }
            out.push(row, [OF_ROW, at(&keys, o), at(&n, row), at(&sum, o)]);
            let time = call.rows.times.map_or(0, |t| at(t, row));
            timers.push(timer(o, time.div_euclid(SPAN_MS) * SPAN_MS + SPAN_MS - 1));
        }
        KeyedReply {
            consumed,
            outputs: out.finish(spec),
            states: vec![changed(0, &marks, &[sum, fired])],
            timers,
        }
    }

    fn sums_due(&self, spec: &SegmentSpec, call: &DueTimers<'_>) -> KeyedReply {
        let consumed = self.prefix(call.times.len());
        let keys = column(call.keys, 0);
        let state = call.states.first();
        let sum = state.map_or_else(Vec::new, |s| column(s, 0));
        let mut fired = state.map_or_else(Vec::new, |s| column(s, 1));
        let mut marks = vec![false; keys.len()];
        let mut out = Out::default();
        for i in 0..consumed {
            let o = at(call.ordinals, i) as usize;
            if let (Some(fired), Some(mark)) = (fired.get_mut(o), marks.get_mut(o)) {
                *fired += 1;
                *mark = true;
            }
            out.push(
                i,
                [OF_TIMER, at(&keys, o), at(call.times, i), at(&fired, o)],
            );
        }
        KeyedReply {
            consumed,
            outputs: out.finish(spec),
            states: vec![changed(0, &marks, &[sum, fired])],
            timers: Vec::new(),
        }
    }

    fn pairs(&self, spec: &SegmentSpec, call: &KeyedRows<'_>) -> KeyedReply {
        let consumed = self.prefix(call.rows.rows);
        let keys = column(call.keys, 0);
        let state = call.states.first();
        let mut counts = [
            state.map_or_else(Vec::new, |s| column(s, 0)),
            state.map_or_else(Vec::new, |s| column(s, 1)),
        ];
        let side = usize::from(call.input == 1);
        let mut marks = vec![false; keys.len()];
        let (mut out, mut timers) = (Out::default(), Vec::new());
        for row in 0..consumed {
            let o = at(call.ordinals, row) as usize;
            let before = counts.iter().map(|c| at(c, o)).min().unwrap_or(0);
            let own = counts.get_mut(side).and_then(|c| c.get_mut(o));
            if let (Some(own), Some(mark)) = (own, marks.get_mut(o)) {
                *own += 1;
                *mark = true;
            }
            let after = counts.iter().map(|c| at(c, o)).min().unwrap_or(0);
            if after > before {
                out.push(row, [OF_ROW, at(&keys, o), after, 0]);
            }
            timers.push(timer(o, PAIRS_END));
        }
        let [left, right] = counts;
        KeyedReply {
            consumed,
            outputs: out.finish(spec),
            states: vec![changed(0, &marks, &[left, right])],
            timers,
        }
    }

    /// A rule that comes twice is counted twice.
    fn rules(
        &self,
        spec: &SegmentSpec,
        call: &KeyedRows<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        let consumed = call.rows.rows;
        let k = named(&spec.input, call.rows.columns, "k");
        let mut known = rules_of(state)?;
        let mut changed = BTreeMap::new();
        for rule in k.iter().take(consumed) {
            let count = known.entry(*rule).or_default();
            *count += 1;
            changed.insert(*rule, *count);
        }
        let slots = |v: Vec<i64>| Slots {
            rows: v.len(),
            present: None,
            columns: vec![ints(v)],
        };
        Ok(KeyedReply {
            consumed,
            outputs: Vec::new(),
            states: vec![StateChange {
                state: 1,
                marks: Vec::new(),
                values: slots(changed.values().copied().collect()),
                entries: Some(EntryChanges {
                    changes: vec![0; changed.len()],
                    ordinals: vec![0; changed.len()],
                    map_keys: Some(slots(changed.keys().copied().collect())),
                }),
            }],
            timers: Vec::new(),
        })
    }

    /// What the rules are, and how many rows of each side a key had.
    fn pairs_due(
        &self,
        spec: &SegmentSpec,
        call: &DueTimers<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        let consumed = self.prefix(call.times.len());
        let keys = column(call.keys, 0);
        let rules = rules_of(state)?;
        let digest = rules.iter().fold(7_i64, |d, (k, v)| {
            d.wrapping_mul(31).wrapping_add(k * 1_000 + v)
        });
        let counts = |index: usize| {
            call.states
                .first()
                .map_or_else(Vec::new, |s| column(s, index))
        };
        let (left, right) = (counts(0), counts(1));
        let mut out = Out::default();
        for i in 0..consumed {
            let o = at(call.ordinals, i) as usize;
            let both = at(&left, o) * 1_000_000 + at(&right, o);
            out.push(i, [OF_TIMER, at(&keys, o), both, digest]);
        }
        Ok(KeyedReply {
            consumed,
            outputs: out.finish(spec),
            states: Vec::new(),
            timers: Vec::new(),
        })
    }
}

fn rules_of(state: &mut Lent) -> Result<BTreeMap<i64, i64>> {
    let state = state.as_mut();
    let state = state.ok_or_else(|| Error::bug("a call without state"))?;
    let entries = state.scan(1, 0, None, 10_000)?;
    let keys = column(&entries.keys, 0);
    Ok(keys.into_iter().zip(column(&entries.values, 0)).collect())
}

fn unknown<T>() -> Result<T> {
    Err(Error::bug("no such function in the simulation"))
}

impl Functions for Native {
    fn prepare(&mut self, spec: &SegmentSpec) -> Result<Segment> {
        self.segments.push(spec.clone());
        Ok(Segment(self.segments.len() as u32 - 1))
    }

    fn transform(&mut self, _: Segment, _: Moment, _: Rows<'_>) -> Result<Reply> {
        unknown()
    }

    fn process(
        &mut self,
        segment: Segment,
        _: Moment,
        rows: &KeyedRows<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        let spec = self.spec(segment)?;
        match spec.functions.first() {
            Some(&SUMS) => Ok(self.sums(spec, rows)),
            Some(&PAIRS) if rows.input == 2 => self.rules(spec, rows, state),
            Some(&PAIRS) => Ok(self.pairs(spec, rows)),
            _ => unknown(),
        }
    }

    fn on_timers(
        &mut self,
        segment: Segment,
        _: Moment,
        timers: &DueTimers<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        let spec = self.spec(segment)?;
        match spec.functions.first() {
            Some(&SUMS) => Ok(self.sums_due(spec, timers)),
            Some(&PAIRS) => self.pairs_due(spec, timers, state),
            _ => unknown(),
        }
    }

    fn accumulate(
        &mut self,
        _: Segment,
        _: Moment,
        _: Rows<'_>,
        _: &[u32],
        _: &Slots,
    ) -> Result<Slots> {
        unknown()
    }

    fn merge(&mut self, _: Segment, _: &Slots, _: &Slots) -> Result<Slots> {
        unknown()
    }

    fn results(
        &mut self,
        _: Segment,
        _: Moment,
        _: &Slots,
        _: &[i64],
        _: &[i64],
        _: &Slots,
    ) -> Result<Reply> {
        unknown()
    }
}
