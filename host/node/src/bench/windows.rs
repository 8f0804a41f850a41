//! What windows cost a row: the operators alone, counting 100,000 keys that come at random.
//! Needs: CPU time of this thread. Rows are made before the clock runs.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::operator::{Context, NoFunctions, OperatorMetrics, Outbox};
use pelton_engine::operators::window;
use pelton_model::batch::Batch;
use pelton_model::graph::{WindowFunction, WindowSpec, WindowValue};
use pelton_model::limits::{BATCH_ROWS_MAX, Limits};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::watermark::Watermark;
use pelton_model::window::Assigner;
use pelton_model::{Error, Result};

use super::measure::{median, thread_cpu_ns};
use super::{Bench, Figure};

const KEYS: u64 = 100_000;
/// Batches that are made once and come again and again.
const BATCHES: usize = 400;
const MINUTE: i64 = 60_000;

const TUMBLING: Assigner = Assigner::Tumbling {
    size_ms: MINUTE,
    offset_ms: 0,
};
const SLIDING: Assigner = Assigner::Sliding {
    size_ms: MINUTE,
    slide_ms: 1_000,
    offset_ms: 0,
};

/// Tumbling and sliding windows at two rates of event time, and sessions.
pub(super) fn windows(bench: &mut Bench<'_>) -> Result<()> {
    let keys = keys();
    for (rows_a_ms, rate) in [(1_000, "1,000,000"), (100, "100,000")] {
        // Two minutes and a half of event time: windows that are full and move on.
        let rows = bench.scaled(150_000 * rows_a_ms as u64);
        let (mut tumbling, mut sliding) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            tumbling.push(ns_a_row(&keys, TUMBLING, rows_a_ms, rows)?);
            sliding.push(ns_a_row(&keys, SLIDING, rows_a_ms, rows)?);
        }
        let (tumbling, sliding) = (median(tumbling), median(sliding));
        let at = format!("{rate} rows a second of event time");
        for (name, ns) in [("60 s", tumbling), ("60 s by 1 s", sliding)] {
            let name = format!("window of {name}, {at}");
            bench.add(Figure::plain(name, ns, "ns a row"));
        }
        let name = format!("sliding to tumbling, {at}");
        let ratio = sliding / tumbling.max(1e-9);
        bench.add(match rows_a_ms {
            1_000 => Figure::bounded(name, ratio, "x", 1.5),
            _ => Figure::plain(name, ratio, "x"),
        });
    }
    // Each key comes ten times a second: sessions of one or two rows, of seven, and of thousands.
    for gap_ms in [50, 200, 1_000] {
        let rows = bench.scaled(40_000_000);
        let session = Assigner::Session { gap_ms };
        let runs = (0..bench.rounds).map(|_| ns_a_row(&keys, session, 1_000, rows));
        let ns = median(runs.collect::<Result<Vec<_>>>()?);
        let name = format!("sessions with a gap of {gap_ms} ms");
        bench.add(Figure::bounded(name, ns, "ns a row", 1_000.0));
    }
    Ok(())
}

/// Random keys by xorshift, the same each time.
fn keys() -> Vec<ArrayRef> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % KEYS
    };
    let batch = |_| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(
            (0..BATCH_ROWS_MAX).map(|_| next() as i64),
        ))
    };
    (0..BATCHES).map(batch).collect()
}

/// CPU nanoseconds a row of a window that counts per key.
fn ns_a_row(keys: &[ArrayRef], assigner: Assigner, rows_a_ms: i64, rows: u64) -> Result<f64> {
    let field = |name: &str| Field::new(name, DataType::I64);
    let count = [
        ("k".to_owned(), WindowValue::Key("k".into())),
        ("count".to_owned(), WindowValue::Count),
    ];
    let spec = WindowSpec {
        key: vec!["k".into()],
        assigner,
        lateness_ms: 0,
        late_output: None,
        function: WindowFunction::Columns(count.to_vec()),
    };
    let input = Schema::new(vec![field("k")]);
    let output = [Schema::new(vec![field("k"), field("count")])];
    let mut op = window::operator(&spec, "window", &input, &output)?;
    let (metrics, limits) = (OperatorMetrics::new(), Limits::default());
    let (mut time, mut spent, mut done) = (0, 0, 0);
    for column in keys.iter().cycle() {
        if done >= rows {
            break;
        }
        let times = (0..BATCH_ROWS_MAX as i64).map(|i| time + i / rows_a_ms);
        let batch = Batch::new(vec![Arc::clone(column)], BATCH_ROWS_MAX)?
            .with_times(Some(times.collect()))?;
        time += BATCH_ROWS_MAX as i64 / rows_a_ms;
        done += BATCH_ROWS_MAX as u64;
        let mut out = Outbox::default();
        let mut cx = Context {
            functions: &mut NoFunctions,
            now: ProcessingTime(0),
            monotonic: Monotonic(0),
            watermark: Watermark(time - 50),
            out: &mut out,
            limits: &limits,
            metrics: &metrics,
        };
        let began = thread_cpu_ns()?;
        op.batch(0, batch, &mut cx)?;
        op.watermark(&mut cx)?;
        while op.busy() {
            op.wake(&mut cx)?;
        }
        std::hint::black_box(out.drain());
        spent += thread_cpu_ns()?.saturating_sub(began);
    }
    match done {
        0 => Err(Error::bug("no row was measured")),
        _ => Ok(spent as f64 / done as f64),
    }
}
