//! What a keyed running sum of 64-byte values costs, background threads counted:
//! `cargo run --release -p pelton-state --example rocks_keyed -- BACKEND KEYS ROWS uniform|zipf MEMORY_MIB [OPTION=VALUE..]`.
//!
//! Each key is written once before the clock starts. BACKEND is `heap` or `rocksdb`; options are RocksDB's own.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement, not a part of the backend"
)]

use std::fs;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{Slots, StateChange};
use pelton_engine::state::{HeapBackend, KeyedState, StateBackend, StateOwner, Touched};
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::KeyGroupRange;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_state::{RocksBackend, RocksSettings};

const BATCH: usize = 8_192;
/// Fields of a value, of eight bytes each.
const FIELDS: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [backend, keys, rows, law, memory, options @ ..] = args.as_slice() else {
        println!("BACKEND KEYS ROWS uniform|zipf MEMORY_MIB [OPTION=VALUE..]");
        return;
    };
    let (keys, rows): (u64, u64) = (keys.parse().unwrap(), rows.parse().unwrap());
    let settings = RocksSettings {
        memory_bytes: memory.parse::<u64>().unwrap() << 20,
        threads: 1,
        overrides: options
            .iter()
            .map(|o| o.split_once('=').unwrap())
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect(),
    };
    let dir = tempfile::tempdir().unwrap();
    let rocks = (backend == "rocksdb").then(|| RocksBackend::open(dir.path(), settings).unwrap());
    let mut state = match &rocks {
        Some(rocks) => rocks.keyed(&owner()).unwrap(),
        None => HeapBackend.keyed(&owner()).unwrap(),
    };
    let mut touched = Touched::default();
    let from = cpu_seconds();
    for start in (0..keys).step_by(BATCH) {
        let batch = (start..keys.min(start + BATCH as u64)).map(|k| k as i64);
        add(state.as_mut(), &batch.collect::<Vec<_>>(), &mut touched);
    }
    let filled = cpu_seconds() - from;
    println!(
        "filled: {:.0} rows a CPU-second, {} MiB resident",
        keys as f64 / filled,
        resident("VmHWM:")
    );
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let (from, mut since) = (cpu_seconds(), cpu_seconds());
    let mut drawn = 0.0;
    for start in (0..rows).step_by(BATCH) {
        let before = thread_seconds();
        let batch: Vec<i64> = (0..BATCH)
            .map(|_| match law.as_str() {
                // The rank by the inverse of its law; ranks are spread over all keys.
                "zipf" => {
                    let rank = (keys as f64).powf(next()) as u64;
                    (rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys) as i64
                }
                _ => (next() * keys as f64) as i64,
            })
            .collect();
        drawn += thread_seconds() - before;
        add(state.as_mut(), &batch, &mut touched);
        if (start / BATCH as u64) % 128 == 127 {
            let now = cpu_seconds();
            println!(
                "{start}: {:.0} rows a CPU-second, {} MiB resident, {} MiB peak, {} MiB told, {} MiB state",
                128.0 * BATCH as f64 / (now - since),
                resident("VmRSS:"),
                resident("VmHWM:"),
                rocks.as_ref().map_or(0, |r| r.memory() >> 20),
                state.bytes() >> 20,
            );
            since = now;
        }
    }
    let spent = cpu_seconds() - from - drawn;
    println!(
        "{backend}, {keys} keys, {rows} rows {law}: {:.0} rows a CPU-second, {:.0} ns a row, peak {} MiB",
        rows as f64 / spent,
        spent * 1e9 / rows as f64,
        resident("VmHWM:")
    );
}

fn owner() -> StateOwner {
    let fields = (0..FIELDS).map(|i| Field::new(format!("n{i}"), DataType::I64));
    StateOwner {
        uid: "sums".into(),
        task: 0,
        key: vec![Field::new("k", DataType::I64)],
        states: vec![StateSpec {
            name: "sums".into(),
            kind: StateKind::Value,
            map_key: None,
            schema: Schema::new(fields.collect()),
            lazy: false,
            ttl: None,
            past: Default::default(),
        }],
        key_groups: KeyGroupRange { start: 0, end: 128 },
        max_parallelism: 128,
    }
}

/// Adds each row's key, many times over, to what its key has.
fn add(state: &mut dyn KeyedState, keys: &[i64], touched: &mut Touched) {
    let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    state.touch(&[column], keys.len(), touched).unwrap();
    let had = state.read(&touched.slots).unwrap().remove(0);
    let mut columns: Vec<Vec<i64>> = had
        .columns
        .iter()
        .map(|c| c.as_primitive::<Int64Type>().values().to_vec())
        .collect();
    if let Some(present) = &had.present {
        for (i, has) in present.iter().enumerate() {
            if !has {
                columns.iter_mut().for_each(|c| c[i] = 0);
            }
        }
    }
    for (field, column) in columns.iter_mut().enumerate() {
        for (ordinal, key) in touched.ordinals.iter().zip(keys) {
            let value = &mut column[*ordinal as usize];
            // Half of each number is noise, so that it does not compress to nothing.
            let noise = (*key as u64 ^ field as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            *value = value.wrapping_add(noise as i64);
        }
    }
    let change = StateChange {
        state: 0,
        marks: vec![1; touched.slots.len()],
        values: Slots {
            rows: touched.slots.len(),
            present: None,
            columns: columns
                .into_iter()
                .map(|c| Arc::new(Int64Array::from(c)) as ArrayRef)
                .collect(),
        },
        entries: None,
    };
    state.write(&touched.slots, &[change]).unwrap();
    state.forget(&touched.slots, &|_| false);
    state.tidy(&|_| false).unwrap();
}

/// Of all threads.
fn cpu_seconds() -> f64 {
    let times = |path: &str| {
        let text = fs::read_to_string(path).unwrap();
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks = |i: usize| fields[i].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    };
    times("/proc/self/stat")
}

/// Of this thread, to the nanosecond.
fn thread_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let ns = text.split_whitespace().next().unwrap();
    ns.parse::<f64>().unwrap() / 1e9
}

fn resident(what: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        >> 10
}
