//! What a snapshot of a running sum costs its task, where all values fit the cache:
//! `cargo run --release -p pelton-state --example rocks_delta -- KEYS CHANGED SNAPSHOTS`.
//!
//! Before each snapshot CHANGED keys get new values. Printed is what native ones take, then one of the canonical form, and a
//! native one after it.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, not a part of the backend"
)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{Slots, StateChange};
use pelton_engine::snapshot::SnapshotWriter;
use pelton_engine::snapshot::memory::MemorySnapshot;
use pelton_engine::state::{KeyedState, StateBackend, StateOwner, Touched};
use pelton_model::barrier::SnapshotForm;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::KeyGroupRange;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_state::{RocksBackend, RocksSettings};

const BATCH: usize = 8_192;

fn main() {
    let args: Vec<u64> = std::env::args()
        .skip(1)
        .map(|a| a.parse().unwrap())
        .collect();
    let [keys, changed, snapshots] = args[..] else {
        println!("KEYS CHANGED SNAPSHOTS");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = RocksSettings {
        memory_bytes: 1 << 30,
        ..RocksSettings::default()
    };
    let backend = RocksBackend::open(dir.path(), settings).unwrap();
    let mut state = backend.keyed(&owner()).unwrap();
    let all: Vec<i64> = (0..keys as i64).collect();
    set(state.as_mut(), &all);
    let mut last = None;
    for number in 0..snapshots {
        let (made, text) = take(state.as_mut());
        let (_, made) = made.take().unwrap();
        let files = made.native.iter().flat_map(|n| &n.files);
        let bytes = files.map(|f| fs::metadata(&f.path).unwrap().len());
        println!("{number}: {text}, {} bytes in files", bytes.sum::<u64>());
        last = Some(made);
        let start = number * changed % keys;
        let some: Vec<i64> = (0..changed).map(|k| ((start + k) % keys) as i64).collect();
        set(state.as_mut(), &some);
    }
    drop(last);
    let (_, text) = take_form(state.as_mut(), SnapshotForm::Canonical);
    println!("canonical: {text}");
    let (_, text) = take(state.as_mut());
    println!("after it: {text}");
}

fn take(state: &mut dyn KeyedState) -> (MemorySnapshot, String) {
    take_form(state, SnapshotForm::Native)
}

fn take_form(state: &mut dyn KeyedState, form: SnapshotForm) -> (MemorySnapshot, String) {
    let (made, mut writer) = MemorySnapshot::new();
    writer.operator("sums");
    let (began, cpu, own) = (Instant::now(), cpu_seconds(), thread_seconds());
    state.snapshot(form, &mut writer).unwrap();
    let frozen = began.elapsed();
    let mut longest = Duration::ZERO;
    loop {
        let call = Instant::now();
        let done = go_on(state, &mut writer);
        longest = longest.max(call.elapsed());
        if done {
            break;
        }
        std::thread::yield_now();
    }
    let text = format!(
        "{:.1} ms of the task, {:.0} ms of all threads, {:.1} ms in all, frozen in {:.2} ms, longest call {:.2} ms",
        (thread_seconds() - own) * 1e3,
        (cpu_seconds() - cpu) * 1e3,
        began.elapsed().as_secs_f64() * 1e3,
        frozen.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
    );
    writer.finish();
    (made, text)
}

fn go_on(state: &mut dyn KeyedState, writer: &mut SnapshotWriter) -> bool {
    state.go_on_snapshot(writer).unwrap()
}

fn owner() -> StateOwner {
    StateOwner {
        uid: "sums".into(),
        task: 0,
        key: vec![Field::new("k", DataType::I64)],
        states: vec![StateSpec {
            name: "sums".into(),
            kind: StateKind::Value,
            map_key: None,
            schema: Schema::new(vec![Field::new("n", DataType::I64)]),
            lazy: false,
            ttl: None,
            past: Default::default(),
        }],
        key_groups: KeyGroupRange { start: 0, end: 128 },
        max_parallelism: 128,
    }
}

fn set(state: &mut dyn KeyedState, keys: &[i64]) {
    let mut touched = Touched::default();
    for keys in keys.chunks(BATCH) {
        let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        state
            .touch(std::slice::from_ref(&column), keys.len(), &mut touched)
            .unwrap();
        let change = StateChange {
            state: 0,
            marks: vec![1; touched.slots.len()],
            values: Slots {
                rows: touched.slots.len(),
                present: None,
                columns: vec![column],
            },
            entries: None,
        };
        state.write(&touched.slots, &[change]).unwrap();
        state.forget(&touched.slots, &|_| false);
        state.tidy(&|_| false).unwrap();
    }
}

/// Of all threads.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let rest = text.rsplit(')').next().unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Of this thread, to the nanosecond.
fn thread_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let ns = text.split_whitespace().next().unwrap();
    ns.parse::<f64>().unwrap() / 1e9
}
