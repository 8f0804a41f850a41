//! What state in memory costs, in nanoseconds a row: run with `cargo run --release -p pelton-engine --example state`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, not a part of the engine"
)]

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{EntryChanges, Slots, StateChange};
use pelton_engine::state::{HeapState, KeyedState, Touched};
use pelton_model::graph::{StateKind, StateSpec, Ttl};
use pelton_model::schema::{DataType, Field, Schema};

const ROWS: usize = 8_192;
const BATCHES: usize = 500;

fn main() {
    for keys in [2_000, 100_000, 1_000_000] {
        for ttl in [false, true] {
            let expiring = if ttl { "expiring " } else { "" };
            for (name, kind) in [
                ("value", StateKind::Value),
                ("list", StateKind::List),
                ("map", StateKind::Map),
            ] {
                let (ns, bytes) = measure(keys, kind, ttl);
                println!(
                    "{expiring:>9}{name:<6} {keys:>8} keys {ns:>7.1} ns a row, {bytes:>6} bytes a key"
                );
            }
        }
    }
}

fn ints(v: impl Iterator<Item = i64>) -> Slots {
    let column = Int64Array::from_iter_values(v);
    Slots {
        rows: arrow_array::Array::len(&column),
        present: None,
        columns: vec![Arc::new(column) as ArrayRef],
    }
}

/// Of each batch: the keys' values, lists, or entries are read; one is put a row (of ten entries a key). Lists are
/// cleared at ten values.
fn measure(keys: u64, kind: StateKind, ttl: bool) -> (f64, u64) {
    let int = || Schema::new(vec![Field::new("n", DataType::I64)]);
    let spec = StateSpec {
        name: "s".into(),
        kind,
        map_key: (kind == StateKind::Map).then(int),
        schema: int(),
        lazy: false,
        ttl: ttl.then_some(Ttl {
            ms: 1_000,
            on_read: false,
            return_expired: false,
            event_time: false,
        }),
        past: Default::default(),
    };
    let mut state = HeapState::new(int().fields, &[spec], 128);
    let mut touched = Touched::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    };
    let mut spent = 0;
    for round in 0..2 * BATCHES {
        let rows: Vec<(i64, i64)> = (0..ROWS)
            .map(|_| (next(), next()))
            .map(|(k, m)| ((k % keys) as i64 * 7, (m % 10) as i64))
            .collect();
        let column = ints(rows.iter().map(|r| r.0));
        let map_keys = ints(rows.iter().map(|r| r.1));
        let from = Instant::now();
        state.touch(&column.columns, ROWS, &mut touched).unwrap();
        let slots = &touched.slots;
        let row_slots = || touched.ordinals.iter().map(|o| slots[*o as usize]);
        let change = match kind {
            StateKind::Value => {
                let mut got = state.read(slots).unwrap();
                StateChange {
                    state: 0,
                    marks: vec![1; slots.len()],
                    values: Slots {
                        present: None,
                        ..got.remove(0)
                    },
                    entries: None,
                }
            }
            StateKind::List => {
                let got = state.lists(0, slots, None, usize::MAX).unwrap();
                let full = (0..slots.len() as u32).filter(|o| got.lengths[*o as usize] >= 10);
                let full: Vec<u32> = full.collect();
                let mut changes = vec![2; full.len()];
                changes.resize(full.len() + ROWS, 0);
                StateChange {
                    state: 0,
                    marks: vec![],
                    values: column.clone(),
                    entries: Some(EntryChanges {
                        changes,
                        ordinals: full.iter().chain(&touched.ordinals).copied().collect(),
                        map_keys: None,
                    }),
                }
            }
            _ => {
                let at: Vec<u32> = row_slots().collect();
                let got = state.map_values(0, &at, &map_keys).unwrap();
                StateChange {
                    state: 0,
                    marks: vec![],
                    values: Slots {
                        present: None,
                        ..got
                    },
                    entries: Some(EntryChanges {
                        changes: vec![0; ROWS],
                        ordinals: touched.ordinals.clone(),
                        map_keys: Some(map_keys.clone()),
                    }),
                }
            }
        };
        state.write(slots, &[change]).unwrap();
        state.forget(slots, &|_| false);
        state.tidy(&|_| false).unwrap();
        if round >= BATCHES {
            spent += from.elapsed().as_nanos();
        }
    }
    let per_key = state.bytes() / state.len().max(1) as u64;
    (spent as f64 / (ROWS * BATCHES) as f64, per_key)
}
