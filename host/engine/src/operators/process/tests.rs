mod inputs;
mod snapshots;
mod timers;

use super::*;
use crate::function::{Functions, Lent, Mark, Moment, Reply, Slots, StateChange};
use crate::operator::{OperatorMetrics, Outbox};
use crate::state::HeapBackend;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use pelton_model::element::Element;
use pelton_model::graph::{ProcessInput, StateKind, StateSpec};
use pelton_model::id::FunctionId;
use pelton_model::limits::Limits;
use pelton_model::schema::DataType;
use pelton_model::time::Monotonic;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn ints(v: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(v))
}

fn values(c: &ArrayRef) -> Vec<i64> {
    c.as_primitive::<Int64Type>().values().to_vec()
}

/// A running sum by key; a timer at the end of each hundred milliseconds gives (key, minus the sum). When the sum is
/// then even it is cleared, when it is 1 modulo 4 the next hundred is waited for, once a timer.
struct Sums {
    /// Rows or timers that a call takes at most.
    greedy: usize,
    calls: usize,
}

fn end_of(time: i64) -> i64 {
    time.div_euclid(100) * 100 + 99
}

fn slots(v: Vec<i64>) -> Slots {
    Slots {
        rows: v.len(),
        present: None,
        columns: vec![ints(v)],
    }
}

fn output(parents: Vec<u32>, keys: Vec<i64>, sums: Vec<i64>) -> OutputRows {
    OutputRows {
        step: 0,
        port: 0,
        rows: keys.len(),
        parents: Some(parents.into()),
        columns: vec![ints(keys), ints(sums)],
        times: None,
        kinds: None,
        watermarks: None,
    }
}

impl Functions for Sums {
    fn prepare(&mut self, spec: &SegmentSpec) -> Result<Segment> {
        assert_eq!(
            (spec.key.len(), spec.states.len(), spec.outputs.len()),
            (1, 1, 1)
        );
        Ok(Segment(3))
    }
    fn process(
        &mut self,
        _: Segment,
        _: Moment,
        call: &KeyedRows<'_>,
        _: &mut Lent,
    ) -> Result<KeyedReply> {
        self.calls += 1;
        let consumed = call.rows.rows.min(self.greedy);
        let keys = values(&call.keys.columns[0]);
        let (state, present) = (&call.states[0], |i: usize| {
            call.states[0].present.as_ref().is_none_or(|p| p.value(i))
        });
        let mut now: Vec<i64> = values(&state.columns[0])
            .iter()
            .enumerate()
            .map(|(i, v)| if present(i) { *v } else { 0 })
            .collect();
        let (mut marks, mut timers) = (vec![0; keys.len()], vec![]);
        let (mut out_keys, mut out_sums) = (vec![], vec![]);
        let amounts = values(&call.rows.columns[0]);
        for (row, amount) in amounts.iter().enumerate().take(consumed) {
            let o = call.ordinals[row] as usize;
            now[o] += amount;
            marks[o] = Mark::Set as u8;
            out_keys.push(keys[o]);
            out_sums.push(now[o]);
            timers.push(TimerChange {
                ordinal: o as u32,
                time: end_of(call.rows.times.unwrap()[row]),
                delete: false,
                processing_time: false,
            });
        }
        let set = marks
            .iter()
            .zip(&now)
            .filter(|(m, _)| **m == 1)
            .map(|(_, v)| *v)
            .collect();
        Ok(KeyedReply {
            consumed,
            outputs: vec![output((0..consumed as u32).collect(), out_keys, out_sums)],
            states: vec![StateChange {
                state: 0,
                marks,
                values: slots(set),
                entries: None,
            }],
            timers,
        })
    }
    fn on_timers(
        &mut self,
        _: Segment,
        _: Moment,
        call: &DueTimers<'_>,
        _: &mut Lent,
    ) -> Result<KeyedReply> {
        let mut consumed = call.times.len().min(self.greedy);
        let keys = values(&call.keys.columns[0]);
        let mut sums = values(&call.states[0].columns[0]).to_vec();
        assert_eq!(
            keys.iter().collect::<BTreeSet<_>>().len(),
            keys.len(),
            "no key twice"
        );
        let (mut out_keys, mut out_sums, mut timers, mut marks) =
            (vec![], vec![], vec![], vec![0; keys.len()]);
        for i in 0..consumed {
            let (o, time) = (call.ordinals[i] as usize, call.times[i]);
            out_keys.push(keys[o]);
            out_sums.push(-sums[o]);
            if sums[o] % 2 == 0 {
                sums[o] = 0;
                marks[o] = Mark::Cleared as u8;
            } else if sums[o].rem_euclid(4) == 1 && time % 1000 != 999 {
                timers.push(TimerChange {
                    ordinal: o as u32,
                    time: time + 100,
                    delete: false,
                    processing_time: false,
                });
                let mut rest = call.ordinals.iter().zip(call.times).skip(i + 1);
                if rest.any(|(other, t)| *other as usize == o && *t >= time + 100) {
                    consumed = i + 1;
                    break;
                }
            }
        }
        let states = vec![StateChange {
            state: 0,
            marks,
            values: slots(vec![]),
            entries: None,
        }];
        Ok(KeyedReply {
            consumed,
            outputs: vec![output((0..consumed as u32).collect(), out_keys, out_sums)],
            states,
            timers,
        })
    }
    fn transform(&mut self, _: Segment, _: Moment, _: Rows<'_>) -> Result<Reply> {
        unreachable!()
    }
    fn accumulate(
        &mut self,
        _: Segment,
        _: Moment,
        _: Rows<'_>,
        _: &[u32],
        _: &Slots,
    ) -> Result<Slots> {
        unreachable!()
    }
    fn merge(&mut self, _: Segment, _: &Slots, _: &Slots) -> Result<Slots> {
        unreachable!()
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
        unreachable!()
    }
}

fn on_heap() -> StatePlace<'static> {
    StatePlace {
        backend: &HeapBackend,
        uid: "op",
        task: 0,
        key_groups: KeyGroupRange { start: 0, end: 128 },
        max_parallelism: 128,
    }
}

fn operator() -> ProcessOperator {
    let field = |n: &str| Field::new(n, DataType::I64);
    let spec = Process {
        function: FunctionId(0),
        inputs: vec![ProcessInput {
            view: Schema::new(vec![field("n")]),
            key: vec!["k".into()],
            broadcast: false,
        }],
        states: vec![StateSpec {
            name: "sum".into(),
            kind: StateKind::Value,
            map_key: None,
            schema: Schema::new(vec![field("sum")]),
            lazy: false,
            ttl: None,
            past: Default::default(),
        }],
        timers: true,
    };
    ProcessOperator::new(
        &spec,
        "sums",
        &[Schema::new(vec![field("k"), field("n")])],
        &[Schema::new(vec![field("k"), field("sum")])],
        &on_heap(),
    )
    .unwrap()
}

/// (key, sum, event time)
type Seen = (i64, i64, i64);

/// (key, amount, time) rows, with a watermark after so many of them.
type Step = (Vec<(i64, i64, i64)>, i64);

fn run(
    steps: &[Step],
    batch_rows: usize,
    greedy: usize,
    limits: &Limits,
) -> Result<(Vec<Seen>, usize)> {
    let mut op = operator();
    let mut functions = Sums { greedy, calls: 0 };
    let mut seen = Vec::new();
    for step in steps {
        seen.extend(feed(&mut op, &mut functions, step, batch_rows, limits)?);
    }
    Ok((seen, op.stores.as_ref().unwrap().keyed.len()))
}

/// The rows and the watermark of one step; what comes out.
fn feed(
    op: &mut ProcessOperator,
    functions: &mut Sums,
    (rows, watermark): &Step,
    batch_rows: usize,
    limits: &Limits,
) -> Result<Vec<Seen>> {
    let mut out = Outbox::default();
    let mut cx = Context {
        functions,
        now: ProcessingTime(0),
        monotonic: Monotonic(0),
        watermark: Watermark::MIN,
        out: &mut out,
        limits,
        metrics: &OperatorMetrics::new(),
    };
    for chunk in rows.chunks(batch_rows) {
        let columns = vec![
            ints(chunk.iter().map(|r| r.0).collect()),
            ints(chunk.iter().map(|r| r.1).collect()),
        ];
        let batch = Batch::new(columns, chunk.len())?
            .with_times(Some(chunk.iter().map(|r| r.2).collect()))?;
        op.batch(0, batch, &mut cx)?;
    }
    cx.watermark = Watermark(*watermark);
    let at_once = op.watermark(&mut cx)?;
    assert_eq!(at_once.is_some(), !op.busy());
    while op.busy() {
        op.wake(&mut cx)?;
    }
    let mut elements = out.drain();
    if at_once.is_none() {
        // Fired in parts: the watermark comes after the last of them.
        let last = elements.pop().map(|(_, e)| e);
        assert!(matches!(last, Some(Element::Watermark(w)) if w.0 == *watermark));
    }
    let mut seen = Vec::new();
    for (_, element) in elements {
        let Element::Batch(b) = element else {
            panic!("only rows")
        };
        let (k, s, t) = (
            values(&b.columns()[0]),
            values(&b.columns()[1]),
            b.times().unwrap(),
        );
        seen.extend((0..b.rows()).map(|i| (k[i], s[i], t[i])));
    }
    Ok(seen)
}

/// The same, a row at a time over plain maps.
fn model(steps: &[Step]) -> (Vec<Seen>, usize) {
    let (mut sums, mut timers, mut seen) = (
        BTreeMap::<i64, i64>::new(),
        BTreeMap::<(i64, usize), i64>::new(),
        vec![],
    );
    let mut n = 0;
    for (rows, watermark) in steps {
        for (k, amount, time) in rows {
            let sum = sums.entry(*k).or_insert(0);
            *sum += amount;
            seen.push((*k, *sum, *time));
            if !timers
                .iter()
                .any(|((t, _), key)| (*t, key) == (end_of(*time), k))
            {
                n += 1;
                timers.insert((end_of(*time), n), *k);
            }
        }
        while let Some(((time, set), k)) = timers
            .first_key_value()
            .map(|(a, b)| (*a, *b))
            .filter(|((t, _), _)| t <= watermark)
        {
            timers.remove(&(time, set));
            let sum = sums.get(&k).copied().unwrap_or(0);
            seen.push((k, -sum, time));
            if sum % 2 == 0 {
                sums.remove(&k);
            } else if sum.rem_euclid(4) == 1 && time % 1000 != 999 {
                let at = time + 100;
                if !timers.iter().any(|((t, _), key)| (*t, *key) == (at, k)) {
                    n += 1;
                    timers.insert((at, n), k);
                }
            }
        }
    }
    let keys: BTreeSet<i64> = sums.keys().chain(timers.values()).copied().collect();
    (seen, keys.len())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0i64..12, -3i64..9, 0i64..2000);
    prop::collection::vec((prop::collection::vec(row, 0..40), 0i64..300), 1..12).prop_map(|steps| {
        let mut watermark = 0;
        let mut all: Vec<Step> = steps
            .into_iter()
            .map(|(rows, more)| {
                watermark += more;
                (rows, watermark)
            })
            .collect();
        all.push((vec![], i64::MAX));
        all
    })
}

/// Order is kept within a key: over keys, a timer that a timer sets may come after a later one of the same prefix.
fn by_key(mut seen: (Vec<Seen>, usize)) -> (Vec<Seen>, usize) {
    seen.0.sort_by_key(|r| r.0);
    seen
}

proptest! {
    #[test]
    fn batches_of_any_size_give_what_rows_one_by_one_give(steps in steps()) {
        let want = model(&steps);
        for (batch, greedy) in [(1, 1), (7, 3), (8192, 8192), (8192, 2)] {
            let got = run(&steps, batch, greedy, &Limits::default()).unwrap();
            prop_assert_eq!(by_key(got), by_key(want.clone()), "batches of {}", batch);
        }
    }
}

#[test]
fn state_beyond_its_limit_is_refused() {
    let rows = (0..10_000).map(|k| (k, 1, 0)).collect();
    let limits = Limits {
        state_bytes: 100_000,
        ..Limits::default()
    };
    let error = run(&[(rows, 0)], 8192, 8192, &limits).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateLimit);
    assert!(error.to_string().contains("largest keys [k="), "{error}");
}

#[test]
fn a_function_that_takes_nothing_is_refused() {
    let error = run(&[(vec![(1, 1, 0)], 0)], 1, 0, &Limits::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadReply);
}
