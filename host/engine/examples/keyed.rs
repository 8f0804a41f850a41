//! What the keyed parts cost, in nanoseconds a row: run with `cargo run --release -p pelton-engine --example keyed`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, not a part of the engine"
)]

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::Slots;
use pelton_engine::operator::{Context, NoFunctions, OperatorMetrics, Outbox};
use pelton_engine::operators::window;
use pelton_engine::state::{KeyIndex, Touched, ValueStore};
use pelton_model::batch::Batch;
use pelton_model::graph::{WindowFunction, WindowSpec, WindowValue};
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::watermark::Watermark;
use pelton_model::window::Assigner;

const ROWS: usize = 8_192;
const BATCHES: usize = 1_000;

fn main() {
    for keys in [2_000, 100_000, 1_000_000] {
        println!(
            "keyed state   {keys:>8} keys {:>7.1} ns a row",
            keyed_state(keys)
        );
    }
    let tumbling = Assigner::Tumbling {
        size_ms: 10_000,
        offset_ms: 0,
    };
    let sliding = Assigner::Sliding {
        size_ms: 10_000,
        slide_ms: 2_000,
        offset_ms: 0,
    };
    let minute = 60_000;
    let by_second = Assigner::Sliding {
        size_ms: minute,
        slide_ms: 1_000,
        offset_ms: 0,
    };
    let tumbling_minute = Assigner::Tumbling {
        size_ms: minute,
        offset_ms: 0,
    };
    let windows = [
        ("tumbling 60 s", tumbling_minute, 1_000),
        ("60 s by 1 s", by_second, 1_000),
        ("tumbling 60 s, slow", tumbling_minute, 100),
        ("60 s by 1 s, slow", by_second, 100),
        // Random keys: each comes once in 0.1 s on average.
        (
            "sessions of 0.2 s",
            Assigner::Session { gap_ms: 200 },
            1_000,
        ),
        (
            "sessions of 1 s",
            Assigner::Session { gap_ms: 1_000 },
            1_000,
        ),
        (
            "sessions of 0.05 s",
            Assigner::Session { gap_ms: 50 },
            1_000,
        ),
    ];
    for (name, assigner, rows_a_ms) in windows {
        let ns = run_window(100_000, assigner, rows_a_ms);
        println!("{name:<20} 100000 keys {ns:>7.1} ns a row");
    }
    for keys in [2_000, 100_000] {
        println!(
            "tumbling 10 s {keys:>8} keys {:>7.1} ns a row",
            run_window(keys, tumbling, 1_000)
        );
        println!(
            "10 s by 2 s   {keys:>8} keys {:>7.1} ns a row",
            run_window(keys, sliding, 1_000)
        );
    }
}

/// Batches of random keys, made before the clock starts.
fn batches(keys: u64) -> Vec<ArrayRef> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % keys
    };
    let batch = |_| {
        Arc::new(Int64Array::from_iter_values(
            (0..ROWS).map(|_| next() as i64 * 7 + 1_000),
        )) as ArrayRef
    };
    (0..BATCHES).map(batch).collect()
}

/// Touch, gather, scatter: what a keyed function's batch costs outside the function.
fn keyed_state(keys: u64) -> f64 {
    let batches = batches(keys);
    let mut index = KeyIndex::new(vec![Field::new("k", DataType::I64)], 0);
    let mut store = ValueStore::new(&Schema::new(vec![Field::new("n", DataType::I64)]));
    let mut touched = Touched::default();
    let mut pass = |batches: &[ArrayRef]| {
        let from = Instant::now();
        for b in batches {
            index
                .touch(std::slice::from_ref(b), ROWS, &mut touched)
                .unwrap();
            let got = store.gather(&touched.slots).unwrap();
            let marks = vec![1; touched.slots.len()];
            store
                .scatter(
                    &touched.slots,
                    &marks,
                    &Slots {
                        present: None,
                        ..got
                    },
                )
                .unwrap();
        }
        from.elapsed().as_nanos() as f64 / (ROWS * batches.len()) as f64
    };
    pass(&batches);
    pass(&batches)
}

/// Count and sum.
fn run_window(keys: u64, assigner: Assigner, rows_a_ms: i64) -> f64 {
    let batches = batches(keys);
    let input = Schema::new(vec![
        Field::new("k", DataType::I64),
        Field::new("n", DataType::I64),
    ]);
    let output = Schema::new(
        ["k", "count", "sum"]
            .map(|n| Field::new(n, DataType::I64))
            .to_vec(),
    );
    let values = vec![
        ("k".to_owned(), WindowValue::Key("k".into())),
        ("count".to_owned(), WindowValue::Count),
        ("sum".to_owned(), WindowValue::Sum("n".into())),
    ];
    let spec = WindowSpec {
        key: vec!["k".into()],
        assigner,
        lateness_ms: 0,
        late_output: None,
        function: WindowFunction::Columns(values),
    };
    let mut op = window::operator(&spec, "window", &input, &[output]).unwrap();
    let (metrics, limits) = (OperatorMetrics::new(), Limits::default());
    let mut time = 0i64;
    let mut spent = 0;
    let rounds = 20;
    for _ in 0..rounds {
        for b in &batches {
            let times = (0..ROWS as i64).map(|i| time + i / rows_a_ms).collect();
            let batch = Batch::new(vec![b.clone(), b.clone()], ROWS)
                .unwrap()
                .with_times(Some(times))
                .unwrap();
            time += ROWS as i64 / rows_a_ms;
            let mut out = Outbox::default();
            let from = Instant::now();
            let mut cx = Context {
                functions: &mut NoFunctions,
                now: ProcessingTime(0),
                monotonic: Monotonic(0),
                watermark: Watermark(time - 50),
                out: &mut out,
                limits: &limits,
                metrics: &metrics,
            };
            op.batch(0, batch, &mut cx).unwrap();
            op.watermark(&mut cx).unwrap();
            spent += from.elapsed().as_nanos();
        }
    }
    spent as f64 / (ROWS * BATCHES * rounds) as f64
}
