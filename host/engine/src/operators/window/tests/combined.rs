//! Rows that are combined first: the windows are those of the rows themselves.

use super::*;
use crate::operators::combine::CombineOperator;
use pelton_model::graph::Combine;

fn columns(of: &[(&str, WindowValue)]) -> WindowFunction {
    WindowFunction::Columns(of.iter().map(|(n, v)| ((*n).into(), v.clone())).collect())
}

/// The function above the exchange, its output, and the function below.
fn native_phases() -> (WindowFunction, Schema, WindowFunction) {
    let n = || "n".to_owned();
    let above = columns(&[
        ("k", WindowValue::Key("k".into())),
        ("c", WindowValue::Count),
        ("s", WindowValue::Sum(n())),
        ("least", WindowValue::Min(n())),
        ("most", WindowValue::Max(n())),
    ]);
    let f = |n: &str| Field::new(n, DataType::I64);
    let between = Schema::new(vec![
        f("k"),
        f("c"),
        f("s"),
        f("least").nullable(),
        f("most").nullable(),
    ]);
    let below = columns(&[
        ("k", WindowValue::Key("k".into())),
        ("start", WindowValue::Start),
        ("count", WindowValue::Sum("c".into())),
        ("sum", WindowValue::Sum("s".into())),
        ("min", WindowValue::Min("least".into())),
        ("max", WindowValue::Max("most".into())),
        ("avg", WindowValue::Ratio("s".into(), "c".into())),
    ]);
    (above, between, below)
}

fn users_phases() -> (WindowFunction, Schema, WindowFunction) {
    let above = users(true);
    let WindowFunction::Aggregate {
        function,
        accumulator,
        ..
    } = above.clone()
    else {
        unreachable!()
    };
    let mut between = accumulator.clone();
    between.fields.push(Field::new("k", DataType::I64));
    let below = WindowFunction::Aggregate {
        function,
        view: accumulator.clone(),
        accumulator,
        has_merge: true,
        combined: true,
    };
    (above, between, below)
}

/// The results, and how many rows came to the window.
fn combined(
    assigner: Assigner,
    (above, between, below): (WindowFunction, Schema, WindowFunction),
    steps: &[Step],
    batch_rows: usize,
) -> (Vec<Out>, usize) {
    let spec = WindowSpec {
        late_output: None,
        ..spec(assigner, 0, below)
    };
    let first = Combine {
        key: vec!["k".into()],
        assigner,
        function: above,
    };
    let declared = [between.clone()];
    let mut first = CombineOperator::new(&first, "combine", &schema(true), &declared).unwrap();
    let mut second = operator(&spec, "window", &between, &[result_schema()]).unwrap();
    let (mut bench, mut seen, mut rows_between) = (Bench::new(8192), Vec::new(), 0);
    let mut before = i64::MIN;
    for (rows, watermark) in steps {
        for chunk in rows.chunks(batch_rows) {
            let partial = bench.call(before, |cx| first.batch(0, batch(chunk), cx));
            for (_, b) in partial.unwrap() {
                rows_between += b.rows();
                let out = bench.call(before, |cx| second.batch(0, b, cx)).unwrap();
                assert!(out.is_empty());
            }
        }
        let out = bench.call(*watermark, |cx| second.watermark(cx)).unwrap();
        seen.extend(out.iter().flat_map(|(_, b)| read(b)));
        before = *watermark;
    }
    (seen, rows_between)
}

proptest! {
    #[test]
    fn combined_rows_make_the_same_windows(assigner in assigners(), steps in steps()) {
        let mut steps = steps;
        // An average of what may be missing is not made of two phases.
        for row in steps.iter_mut().flat_map(|(rows, _)| rows) {
            row.1 = row.1.or(Some(0));
        }
        let mut want = model(&spec(assigner, 0, native()), &steps).0;
        want.sort_unstable();
        for phases in [native_phases(), users_phases()] {
            for size in [1, 7, 8192] {
                let (mut got, _) = combined(assigner, phases.clone(), &steps, size);
                got.sort_unstable();
                prop_assert_eq!(&got, &want);
            }
        }
    }
}

#[test]
fn a_key_with_most_of_the_rows_sends_few() {
    let rows: Vec<Row> = (0..8_000)
        .map(|i| (i64::from(i % 100 == 0), Some(1), i / 4))
        .collect();
    let tumbling = Assigner::Tumbling {
        size_ms: 1_000,
        offset_ms: 0,
    };
    for phases in [native_phases(), users_phases()] {
        let (seen, between) = combined(tumbling, phases, &[(rows.clone(), i64::MAX)], 8_192);
        assert_eq!(between, 4, "two keys in two windows");
        assert_eq!(seen.iter().map(|s| s.2).sum::<i64>(), 8_000);
    }
}
