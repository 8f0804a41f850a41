//! What a snapshot of state in memory costs: the freeze, each key, and memory while updates go on.
//!
//! `cargo run --release --example snapshot -p pelton-engine -- [KEYS] [MB a second of the output]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, not a part of the engine"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{Slots, StateChange};
use pelton_engine::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
use pelton_engine::snapshot::{Made, SnapshotOutput, SnapshotWriter};
use pelton_engine::state::{HeapState, KeyedState, Touched};
use pelton_model::Error;
use pelton_model::barrier::SnapshotForm;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::KeyGroupRange;
use pelton_model::schema::{DataType, Field, Schema};

const ROWS: usize = 8_192;

/// Counts bytes, and takes no more than so many a second, ahead by at most 8 MiB.
struct Counting {
    bytes: Arc<AtomicU64>,
    a_second: f64,
    from: Instant,
}

impl SnapshotOutput for Counting {
    fn has_room(&mut self) -> bool {
        let gone = self.from.elapsed().as_secs_f64() * self.a_second;
        (self.bytes.load(Ordering::Relaxed) as f64) < gone + f64::from(8 << 20)
    }

    fn write(&mut self, bytes: Vec<u8>) {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    fn finish(self: Box<Self>, _: Made) {}

    fn decline(self: Box<Self>, _: Error) {}
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

fn update(state: &mut HeapState, keys: Vec<i64>, touched: &mut Touched) {
    let rows = keys.len();
    let column: ArrayRef = Arc::new(Int64Array::from(keys));
    state.touch(&[column], rows, touched).unwrap();
    let got = state.read(&touched.slots).unwrap().remove(0);
    let change = StateChange {
        state: 0,
        marks: vec![1; touched.slots.len()],
        values: Slots {
            present: None,
            ..got
        },
        entries: None,
    };
    state.write(&touched.slots, &[change]).unwrap();
    state.forget(&touched.slots, &|_| false);
}

/// One snapshot while so many rows a second are updated.
fn measure(state: &mut HeapState, keys: u64, rows_a_second: f64, a_second: f64) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut key = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % keys
    };
    let mut touched = Touched::default();
    let bytes = Arc::new(AtomicU64::new(0));
    let before = resident();
    let output = Counting {
        bytes: Arc::clone(&bytes),
        a_second,
        from: Instant::now(),
    };
    let mut writer = SnapshotWriter::new(Box::new(output));
    writer.operator("op");
    let from = Instant::now();
    state.snapshot(SnapshotForm::Native, &mut writer).unwrap();
    let freeze = from.elapsed();
    let (mut rows, mut calls, mut spent, mut worst, mut most) =
        (0.0, 0, Duration::ZERO, Duration::ZERO, before);
    loop {
        if rows < from.elapsed().as_secs_f64() * rows_a_second {
            let batch = (0..ROWS).map(|_| key() as i64).collect();
            update(state, batch, &mut touched);
            rows += ROWS as f64;
        }
        let call = Instant::now();
        let complete = state.go_on_snapshot(&mut writer).unwrap();
        let took = call.elapsed();
        spent += took;
        worst = worst.max(took);
        calls += 1;
        if calls % 16 == 0 || complete {
            most = most.max(resident());
        }
        if complete {
            break;
        }
    }
    let whole = from.elapsed();
    println!(
        "{:>9} rows/s: freeze {:.3} ms, {:.0} ns a key in calls, the longest {:.1} ms; {:.2} s in all, {:.0} rows/s done, {} MB written; memory {before:.0} -> {most:.0} MiB ({:.2}x)",
        if rows_a_second.is_finite() {
            format!("{rows_a_second:.0}")
        } else {
            "all".into()
        },
        freeze.as_secs_f64() * 1e3,
        spent.as_nanos() as f64 / keys as f64,
        worst.as_secs_f64() * 1e3,
        whole.as_secs_f64(),
        rows / whole.as_secs_f64(),
        bytes.load(Ordering::Relaxed) / 1_000_000,
        most / before,
    );
}

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<f64>().unwrap());
    let keys = args.next().unwrap_or(1e6) as u64;
    let a_second = args.next().map_or(f64::INFINITY, |mb| mb * 1e6);
    let int = |name: &str| Field::new(name, DataType::I64);
    let spec = StateSpec {
        name: "sum".into(),
        kind: StateKind::Value,
        map_key: None,
        schema: Schema::new(vec![int("sum")]),
        lazy: false,
        ttl: None,
    };
    let mut state = HeapState::new(vec![int("k")], std::slice::from_ref(&spec), 128);
    let mut touched = Touched::default();
    let all: Vec<i64> = (0..keys as i64).collect();
    for some in all.chunks(ROWS) {
        update(&mut state, some.to_vec(), &mut touched);
    }
    println!("{keys} keys, {} MB", state.bytes() / 1_000_000);
    for rows_a_second in [0.0, 200_000.0, f64::INFINITY] {
        measure(&mut state, keys, rows_a_second, a_second);
    }
    let (snapshot, mut writer) = MemorySnapshot::new();
    writer.operator("op");
    state.snapshot(SnapshotForm::Native, &mut writer).unwrap();
    while !state.go_on_snapshot(&mut writer).unwrap() {}
    writer.finish();
    let task = MemoryTask {
        index: 0,
        key_groups: (0, 128),
        operators: &["op"],
        snapshot,
    };
    let saved = checkpoint(128, &[task]).unwrap();
    let mut again = HeapState::new(vec![int("k")], &[spec], 128);
    let all = KeyGroupRange { start: 0, end: 128 };
    let from = Instant::now();
    again.restore(&saved.operator("op", (0, 1), all)).unwrap();
    let took = from.elapsed().as_nanos() as f64;
    assert_eq!(again.len(), state.len());
    println!("restore: {:.0} ns a key", took / keys as f64);
}
