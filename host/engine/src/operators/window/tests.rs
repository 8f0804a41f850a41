mod combined;
mod saved;
mod sessions;
mod spilled;
mod spilled_sessions;
mod values;

use super::*;
use crate::function::{
    DueTimers, Functions, KeyedReply, KeyedRows, Lent, Moment, OutputRows, Reply, Rows, Segment,
    SegmentSpec, Slots,
};
use crate::operator::{Context, Operator, OperatorMetrics, Outbox};
use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use pelton_model::ErrorCode;
use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::graph::WindowFunction;
use pelton_model::graph::WindowValue;
use pelton_model::id::FunctionId;
use pelton_model::limits::Limits;
use pelton_model::schema::DataType;
use pelton_model::schema::Field;
use pelton_model::time::EventTime;
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::watermark::Watermark;
use pelton_model::window::Assigner;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// (key, value, time)
type Row = (i64, Option<i64>, i64);
/// (key, start, count, sum, min, max, average), the event time.
type Out = (i64, i64, i64, i64, i64, i64, i64, i64);

fn schema(nullable: bool) -> Schema {
    let n = Field::new("n", DataType::I64);
    Schema::new(vec![
        Field::new("k", DataType::I64),
        if nullable { n.nullable() } else { n },
    ])
}

fn batch(rows: &[Row]) -> Batch {
    let keys: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>());
    Batch::new(vec![keys, values], rows.len())
        .unwrap()
        .with_times(Some(rows.iter().map(|r| r.2).collect()))
        .unwrap()
}

fn result_schema() -> Schema {
    let f = |n: &str| Field::new(n, DataType::I64);
    let maybe = |n: &str| Field::new(n, DataType::I64).nullable();
    Schema::new(vec![
        f("k"),
        Field::new("start", DataType::Timestamp),
        f("count"),
        f("sum"),
        maybe("min"),
        maybe("max"),
        maybe("avg"),
    ])
}

fn native() -> WindowFunction {
    let n = || "n".to_owned();
    WindowFunction::Columns(vec![
        ("k".into(), WindowValue::Key("k".into())),
        ("start".into(), WindowValue::Start),
        ("count".into(), WindowValue::Count),
        ("sum".into(), WindowValue::Sum(n())),
        ("min".into(), WindowValue::Min(n())),
        ("max".into(), WindowValue::Max(n())),
        ("avg".into(), WindowValue::Avg(n())),
    ])
}

/// The average in place of the least and the greatest: what can be taken out again.
fn invertible() -> WindowFunction {
    let WindowFunction::Columns(mut columns) = native() else {
        unreachable!()
    };
    for (name, value) in &mut columns {
        if name == "min" || name == "max" {
            *value = WindowValue::Avg("n".into());
        }
    }
    WindowFunction::Columns(columns)
}

fn users(has_merge: bool) -> WindowFunction {
    let f = |n: &str| Field::new(n, DataType::I64);
    let accumulator = Schema::new(vec![f("count"), f("sum"), f("min"), f("max"), f("present")]);
    let view = Schema::new(vec![f("n").nullable()]);
    WindowFunction::Aggregate {
        function: FunctionId(0),
        view,
        accumulator,
        has_merge,
        combined: false,
    }
}

fn spec(assigner: Assigner, lateness_ms: i64, function: WindowFunction) -> WindowSpec {
    WindowSpec {
        key: vec!["k".into()],
        assigner,
        lateness_ms,
        late_output: Some(1),
        function,
    }
}

fn made(spec: &WindowSpec) -> Box<dyn Operator> {
    let declared = [result_schema(), schema(true)];
    operator(spec, "window", &schema(true), &declared).unwrap()
}

/// The same aggregate as the native one, as a user's function.
struct Same {
    greedy: usize,
}

fn numbers(c: &ArrayRef) -> Vec<i64> {
    c.as_primitive::<Int64Type>().values().to_vec()
}

fn column(v: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(v))
}

fn unpack(slots: &Slots) -> Vec<[i64; 5]> {
    let columns: Vec<Vec<i64>> = slots.columns.iter().map(numbers).collect();
    let empty = [0, 0, i64::MAX, i64::MIN, 0];
    let present = |i: usize| slots.present.as_ref().is_none_or(|p| p.value(i));
    (0..slots.rows)
        .map(|i| {
            if present(i) {
                [0, 1, 2, 3, 4].map(|c| columns[c][i])
            } else {
                empty
            }
        })
        .collect()
}

fn pack(values: &[[i64; 5]]) -> Slots {
    let columns = (0..5)
        .map(|c| column(values.iter().map(|v| v[c]).collect()))
        .collect();
    Slots {
        rows: values.len(),
        present: None,
        columns,
    }
}

impl Functions for Same {
    fn prepare(&mut self, spec: &SegmentSpec) -> Result<Segment> {
        assert_eq!(spec.outputs.len(), 1, "late rows are not the function's");
        Ok(Segment(1))
    }
    fn accumulate(
        &mut self,
        _: Segment,
        _: Moment,
        rows: Rows<'_>,
        ordinals: &[u32],
        accumulators: &Slots,
    ) -> Result<Slots> {
        let mut all = unpack(accumulators);
        let column = rows.columns[0].as_primitive::<Int64Type>();
        for (row, o) in ordinals.iter().enumerate() {
            let a = &mut all[*o as usize];
            a[0] += 1;
            if column.is_valid(row) {
                let v = column.value(row);
                *a = [a[0], a[1] + v, a[2].min(v), a[3].max(v), a[4] + 1];
            }
        }
        Ok(pack(&all))
    }
    fn merge(&mut self, _: Segment, into: &Slots, other: &Slots) -> Result<Slots> {
        assert!(into.present.is_none() && other.present.is_none());
        let merged = |(a, b): (&[i64; 5], &[i64; 5])| {
            [
                a[0] + b[0],
                a[1] + b[1],
                a[2].min(b[2]),
                a[3].max(b[3]),
                a[4] + b[4],
            ]
        };
        Ok(pack(
            &unpack(into)
                .iter()
                .zip(&unpack(other))
                .map(merged)
                .collect::<Vec<_>>(),
        ))
    }
    fn results(
        &mut self,
        _: Segment,
        _: Moment,
        keys: &Slots,
        starts: &[i64],
        _: &[i64],
        accumulators: &Slots,
    ) -> Result<Reply> {
        let n = keys.rows.min(self.greedy);
        let all = unpack(accumulators);
        let get = |c: usize| column(all[..n].iter().map(|a| a[c]).collect());
        let maybe = |f: fn(&[i64; 5]) -> i64| {
            Arc::new(
                all[..n]
                    .iter()
                    .map(|a| (a[4] > 0).then(|| f(a)))
                    .collect::<Int64Array>(),
            ) as ArrayRef
        };
        let starts: ArrayRef = Arc::new(TimestampMillisecondArray::from(starts[..n].to_vec()));
        let columns = vec![
            keys.columns[0].slice(0, n),
            starts,
            get(0),
            get(1),
            maybe(|a| a[2]),
            maybe(|a| a[3]),
            maybe(|a| a[1] / a[4]),
        ];
        let rows = OutputRows {
            step: 0,
            port: 0,
            rows: n,
            parents: None,
            columns,
            times: None,
            kinds: None,
            watermarks: None,
        };
        Ok(Reply {
            consumed: n,
            outputs: vec![rows],
            step_rows: vec![n as u32],
        })
    }
    fn transform(&mut self, _: Segment, _: Moment, _: Rows<'_>) -> Result<Reply> {
        unreachable!()
    }
    fn process(
        &mut self,
        _: Segment,
        _: Moment,
        _: &KeyedRows<'_>,
        _: &mut Lent,
    ) -> Result<KeyedReply> {
        unreachable!()
    }
    fn on_timers(
        &mut self,
        _: Segment,
        _: Moment,
        _: &DueTimers<'_>,
        _: &mut Lent,
    ) -> Result<KeyedReply> {
        unreachable!()
    }
}

/// Rows, then a watermark.
type Step = (Vec<Row>, i64);

struct Bench {
    functions: Same,
    metrics: Arc<OperatorMetrics>,
    limits: Limits,
}

impl Bench {
    fn new(greedy: usize) -> Self {
        Self {
            functions: Same { greedy },
            metrics: OperatorMetrics::new(),
            limits: Limits::default(),
        }
    }

    fn call<T>(
        &mut self,
        watermark: i64,
        f: impl FnOnce(&mut Context<'_>) -> Result<T>,
    ) -> Result<Vec<(u32, Batch)>> {
        let mut out = Outbox::default();
        let mut cx = Context {
            functions: &mut self.functions,
            now: ProcessingTime(0),
            monotonic: Monotonic(0),
            watermark: Watermark(watermark),
            out: &mut out,
            limits: &self.limits,
            metrics: &self.metrics,
        };
        f(&mut cx)?;
        let rows = |(port, element)| match element {
            Element::Batch(b) => (port, b.materialize().unwrap()),
            _ => panic!("only rows"),
        };
        Ok(out.drain().into_iter().map(rows).collect())
    }
}

fn read(b: &Batch) -> Vec<Out> {
    let get = |i: usize, row: usize| {
        let c = &b.columns()[i];
        if c.is_null(row) {
            i64::MAX
        } else {
            c.as_primitive::<Int64Type>().value(row)
        }
    };
    let starts = b.columns()[1].as_primitive::<TimestampMillisecondType>();
    let row = |r: usize| {
        (
            get(0, r),
            starts.value(r),
            get(2, r),
            get(3, r),
            get(4, r),
            get(5, r),
            get(6, r),
            b.times().unwrap()[r],
        )
    };
    (0..b.rows()).map(row).collect()
}

/// Results in order, and late rows.
fn run(spec: &WindowSpec, steps: &[Step], batch_rows: usize) -> (Vec<Out>, Vec<Row>) {
    let (mut op, mut bench) = (made(spec), Bench::new(batch_rows));
    let (mut seen, mut late) = (Vec::new(), Vec::new());
    let mut before = i64::MIN;
    for (rows, watermark) in steps {
        let mut all = Vec::new();
        for chunk in rows.chunks(batch_rows) {
            all.extend(
                bench
                    .call(before, |cx| op.batch(0, batch(chunk), cx))
                    .unwrap(),
            );
        }
        all.extend(bench.call(*watermark, |cx| op.watermark(cx)).unwrap());
        before = *watermark;
        for (port, b) in all {
            if port == 0 {
                seen.extend(read(&b));
            } else {
                let (k, n) = (
                    b.columns()[0].as_primitive::<Int64Type>(),
                    b.columns()[1].as_primitive::<Int64Type>(),
                );
                late.extend((0..b.rows()).map(|r| {
                    (
                        k.value(r),
                        n.is_valid(r).then(|| n.value(r)),
                        b.times().unwrap()[r],
                    )
                }));
            }
        }
    }
    assert_eq!(
        bench.metrics.late.load(Ordering::Relaxed),
        late.len() as u64
    );
    assert!(
        before < i64::MAX || bench.metrics.state_entries.load(Ordering::Relaxed) == 0,
        "nothing is kept after the end"
    );
    (seen, late)
}

/// The keys of a window in the order of their first rows, and their values.
type Kept = (Vec<i64>, HashMap<i64, Vec<Option<i64>>>);

/// Flink's rules, a row and a window at a time.
fn model(spec: &WindowSpec, steps: &[Step]) -> (Vec<Out>, Vec<Row>) {
    let mut windows: BTreeMap<i64, Kept> = BTreeMap::new();
    let (mut seen, mut late, mut now) = (Vec::new(), Vec::new(), i64::MIN);
    let (size, _, _) = spec.assigner.parts();
    let result = |key: i64, start: i64, values: &[Option<i64>]| {
        let there: Vec<i64> = values.iter().flatten().copied().collect();
        let sum: i64 = there.iter().sum();
        let or_null = |v: Option<i64>| v.unwrap_or(i64::MAX);
        let average = or_null(sum.checked_div(there.len() as i64));
        (
            key,
            start,
            values.len() as i64,
            sum,
            or_null(there.iter().min().copied()),
            or_null(there.iter().max().copied()),
            average,
            start + size - 1,
        )
    };
    for (rows, watermark) in steps {
        for (key, value, time) in rows {
            let mut skipped = true;
            for w in spec.assigner.assign(EventTime(*time)) {
                if w.end - 1 + spec.lateness_ms <= now {
                    continue;
                }
                skipped = false;
                let (order, keys) = windows.entry(w.start).or_default();
                if !keys.contains_key(key) {
                    order.push(*key);
                }
                let values = keys.entry(*key).or_default();
                values.push(*value);
                if w.end - 1 <= now {
                    seen.push(result(*key, w.start, values));
                }
            }
            if skipped && time + spec.lateness_ms <= now {
                late.push((*key, *value, *time));
            }
        }
        for (start, (order, keys)) in &windows {
            let max = start + size - 1;
            if now < max && max <= *watermark {
                seen.extend(order.iter().map(|k| result(*k, *start, &keys[k])));
            }
        }
        now = *watermark;
        windows.retain(|start, _| start.saturating_add(size - 1 + spec.lateness_ms) > now);
    }
    (seen, late)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (
        // Some that come often, and some that come once.
        prop_oneof![4 => 0i64..6, 1 => 6i64..80],
        prop::option::weighted(0.9, -20i64..20),
        -60i64..120,
    );
    prop::collection::vec((prop::collection::vec(row, 0..30), 0i64..40), 1..8).prop_map(|steps| {
        let mut watermark = -30;
        let mut all: Vec<Step> = Vec::new();
        for (rows, more) in steps {
            // Rows gather around the watermark, some late, some early.
            let rows = rows
                .into_iter()
                .map(|(k, v, t)| (k, v, watermark + t))
                .collect();
            watermark += more;
            all.push((rows, watermark));
        }
        all.push((vec![], i64::MAX));
        all
    })
}

fn assigners() -> impl Strategy<Value = Assigner> {
    prop_oneof![
        (1i64..40, -3i64..4).prop_map(|(size_ms, o)| Assigner::Tumbling {
            size_ms,
            offset_ms: o.clamp(1 - size_ms, size_ms - 1)
        }),
        (1i64..40, 1i64..20, -3i64..4).prop_map(|(size_ms, slide_ms, o)| Assigner::Sliding {
            size_ms,
            slide_ms,
            offset_ms: o.clamp(1 - slide_ms, slide_ms - 1)
        }),
    ]
}

/// Firings in a fixed order: windows of several slices give keys by slice.
fn in_order(mut seen: (Vec<Out>, Vec<Row>)) -> (Vec<Out>, Vec<Row>) {
    seen.0.sort_unstable();
    seen.1.sort_unstable();
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn windows_are_those_of_the_model(assigner in assigners(), lateness in prop_oneof![Just(0i64), 1i64..50], steps in steps()) {
        for function in [native(), invertible(), users(true), users(false)] {
            let averages = function == invertible();
            let spec = spec(assigner, lateness, function);
            let mut want = model(&spec, &steps);
            for out in want.0.iter_mut().filter(|_| averages) {
                (out.4, out.5) = (out.6, out.6);
            }
            let one = run(&spec, &steps, 1);
            for size in [7, 8192] {
                let got = run(&spec, &steps, size);
                prop_assert_eq!(&got.0, &one.0, "the order of results does not depend on batches");
                prop_assert_eq!(in_order(got), in_order(one.clone()));
            }
            if matches!(assigner, Assigner::Tumbling { .. }) {
                prop_assert_eq!(&one, &want, "in the same order");
            }
            prop_assert_eq!(in_order(one), in_order(want));
        }
    }
}

#[test]
fn times_without_a_window_are_late() {
    for assigner in [
        Assigner::Tumbling {
            size_ms: 10,
            offset_ms: 0,
        },
        Assigner::Sliding {
            size_ms: 10,
            slide_ms: 4,
            offset_ms: 1,
        },
    ] {
        for function in [native(), users(true), users(false)] {
            let steps = vec![(
                vec![
                    (1, Some(1), i64::MAX),
                    (1, Some(2), i64::MIN),
                    (1, Some(3), 5),
                ],
                i64::MAX,
            )];
            let (seen, late) = run(&spec(assigner, 0, function), &steps, 8192);
            assert_eq!(late.len(), 2);
            assert!(!seen.is_empty() && seen.iter().all(|s| s.3 == 3));
        }
    }
}

#[test]
fn windows_near_the_ends_of_time_fire() {
    let assigner = Assigner::Sliding {
        size_ms: 10,
        slide_ms: 4,
        offset_ms: 1,
    };
    let steps = vec![(
        vec![
            (1, Some(1), i64::MIN + 9),
            (1, Some(2), 0),
            (1, Some(4), i64::MAX - 20),
        ],
        i64::MAX,
    )];
    let (seen, late) = run(&spec(assigner, 0, native()), &steps, 8192);
    assert!(late.is_empty());
    for sum in [1, 2, 4] {
        assert!(seen.iter().any(|s| s.3 == sum), "{seen:?}");
    }
}

#[test]
fn rows_without_times_are_refused() {
    let mut op = made(&spec(
        Assigner::Tumbling {
            size_ms: 10,
            offset_ms: 0,
        },
        0,
        native(),
    ));
    let untimed = batch(&[(1, None, 0)]).with_times(None).unwrap();
    let error = Bench::new(1)
        .call(0, |cx| op.batch(0, untimed, cx))
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadTimestamp);
}

#[test]
fn rows_that_take_others_back_are_refused() {
    use pelton_model::batch::RowKind;
    let tumbling = Assigner::Tumbling {
        size_ms: 10,
        offset_ms: 0,
    };
    for assigner in [tumbling, Assigner::Session { gap_ms: 10 }] {
        let mut op = made(&spec(assigner, 0, native()));
        let mut add = |kind: RowKind| {
            let rows = batch(&[(1, None, 0)]);
            let rows = rows.with_kinds(Some(vec![kind as u8].into())).unwrap();
            Bench::new(1).call(0, |cx| op.batch(0, rows, cx))
        };
        assert!(add(RowKind::Insert).is_ok() && add(RowKind::UpdateAfter).is_ok());
        for kind in [RowKind::UpdateBefore, RowKind::Delete] {
            assert_eq!(add(kind).unwrap_err().code(), ErrorCode::GraphInvalid);
        }
    }
}
