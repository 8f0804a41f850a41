//! State in RocksDB is the state that the heap has.

mod bounds;
mod deltas;
mod evolution;
mod gate;
mod golden;
mod savepoints;
mod snapshots;
mod timers;
mod windows;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, StringArray};
use pelton_engine::function::{EntryChanges, Slots, StateChange};
use pelton_engine::state::{HeapBackend, KeyedState, StateBackend, StateOwner, StateTime, Touched};
use pelton_model::graph::{StateKind, StateSpec, Ttl};
use pelton_model::key::KeyGroupRange;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::ProcessingTime;
use pelton_model::watermark::Watermark;
use proptest::prelude::*;

use crate::{RocksBackend, RocksSettings};

const VALUE: u32 = 0;
const LAZY: u32 = 1;
const LIST: u32 = 2;
const MAP: u32 = 3;
const LISTS: u32 = 4;

fn text_schema() -> Schema {
    Schema::new(vec![Field::new("t", DataType::String)])
}

fn int_schema() -> Schema {
    Schema::new(vec![Field::new("n", DataType::I64)])
}

fn spec(name: &str, kind: StateKind, map_key: Option<Schema>, schema: Schema) -> StateSpec {
    StateSpec {
        name: name.into(),
        kind,
        map_key,
        schema,
        lazy: name == "lazy",
        ttl: None,
        past: Default::default(),
    }
}

fn owner(uid: &str, key: DataType, ttl: Option<Ttl>) -> StateOwner {
    let mut states = vec![
        spec("value", StateKind::Value, None, int_schema()),
        spec("lazy", StateKind::Reducing, None, text_schema()),
        spec("list", StateKind::List, None, text_schema()),
        spec("map", StateKind::Map, Some(text_schema()), int_schema()),
        spec("lists", StateKind::List, Some(int_schema()), text_schema()),
    ];
    states.iter_mut().for_each(|s| s.ttl = ttl);
    StateOwner {
        uid: uid.into(),
        task: 0,
        key: vec![Field::new("k", key)],
        states,
        key_groups: KeyGroupRange { start: 0, end: 128 },
        max_parallelism: 128,
    }
}

fn row_of(columns: Vec<ArrayRef>) -> Slots {
    Slots {
        rows: columns[0].len(),
        present: None,
        columns,
    }
}

fn ints(v: &[i64]) -> Slots {
    row_of(vec![Arc::new(Int64Array::from(v.to_vec()))])
}

fn texts(v: &[String]) -> Slots {
    row_of(vec![Arc::new(StringArray::from(v.to_vec()))])
}

fn text(n: i64) -> String {
    format!("{n}{}", "x".repeat((n.unsigned_abs() as usize * 37) % 300))
}

fn keys(of: &DataType, keys: &[i64]) -> ArrayRef {
    match of {
        DataType::String => Arc::new(StringArray::from_iter_values(keys.iter().map(|k| text(*k)))),
        _ => Arc::new(Int64Array::from(keys.to_vec())),
    }
}

fn touch(state: &mut dyn KeyedState, key: ArrayRef) -> Vec<u32> {
    let mut touched = Touched::default();
    let rows = key.len();
    state.touch(&[key], rows, &mut touched).unwrap();
    touched.slots
}

fn at(state: &mut dyn KeyedState, ms: i64) {
    state.at(StateTime {
        processing_time: ProcessingTime(ms),
        watermark: Watermark(ms),
    });
}

/// What a read gives, by rows; nothing of slots that are empty.
fn shown(s: &Slots) -> Vec<String> {
    let row = |i: usize| {
        if !s.present.as_ref().is_none_or(|p| p.value(i)) {
            return "-".to_owned();
        }
        let cells = s.columns.iter().map(|c| format!("{:?}", c.slice(i, 1)));
        cells.collect()
    };
    (0..s.rows).map(row).collect()
}

/// All that is under these slots, read in every way there is.
fn all(state: &mut dyn KeyedState, slots: &[u32], map_keys: &[i64]) -> Vec<Vec<String>> {
    let mut out: Vec<_> = state.read(slots).unwrap().iter().map(shown).collect();
    out.push(shown(&state.values(LAZY, slots).unwrap()));
    let lists = state.lists(LIST, slots, None, usize::MAX).unwrap();
    out.push(vec![format!("{:?}", lists.lengths)]);
    out.push(shown(&lists.values));
    let maps = state.maps(MAP, slots, usize::MAX, usize::MAX).unwrap();
    out.push(vec![format!("{:?}", maps.counts)]);
    out.push(shown(&maps.keys));
    out.push(shown(&maps.values));
    for map_key in map_keys {
        let same = vec![text(*map_key); slots.len()];
        out.push(shown(&state.map_values(MAP, slots, &texts(&same)).unwrap()));
        let same = ints(&vec![*map_key; slots.len()]);
        let lists = state.lists(LISTS, slots, Some(&same), usize::MAX).unwrap();
        out.push(vec![format!("{:?}", lists.lengths)]);
        out.push(shown(&lists.values));
    }
    for slot in slots {
        for which in [MAP, LISTS] {
            let mut after = None;
            // In steps of two.
            loop {
                let got = state.scan(which, *slot, after.as_ref(), 2).unwrap();
                out.push(shown(&got.keys));
                out.push(shown(&got.values));
                if got.keys.rows < 2 {
                    break;
                }
                after = Some(row_of(
                    got.keys.columns.iter().map(|c| c.slice(1, 1)).collect(),
                ));
            }
        }
    }
    out
}

/// One batch.
#[derive(Clone, Debug)]
struct Step {
    keys: Vec<i64>,
    /// Of each key: 0 as it was, 1 set, 2 cleared; of both value states.
    marks: Vec<(u8, u8)>,
    /// State, change, which key, map key, value.
    entries: Vec<(u32, u8, usize, i64, i64)>,
    wait: i64,
    pinned: u32,
    /// The store moves all that it has into files, and merges them.
    flush: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(0..60_i64, 1..12).prop_map(|mut k| {
        k.sort_unstable();
        k.dedup();
        k
    });
    let entry = (LIST..=LISTS, 0..3_u8, 0..12_usize, 0..5_i64, 0..40_i64);
    (
        keys,
        prop::collection::vec((0..3_u8, 0..3_u8), 12),
        prop::collection::vec(entry, 0..16),
        0..8_i64,
        0..4_u32,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(keys, mut marks, entries, wait, pinned, flush)| {
            marks.truncate(keys.len());
            Step {
                keys,
                marks,
                entries,
                wait,
                pinned,
                flush,
            }
        })
}

impl Step {
    fn changes(&self) -> Vec<StateChange> {
        let keys = self.keys.len();
        let value = |state, marks: Vec<u8>, values: Slots| StateChange {
            state,
            marks,
            values,
            entries: None,
        };
        let set = |which: fn(&(u8, u8)) -> u8| -> (Vec<u8>, Vec<i64>) {
            let marks: Vec<u8> = self.marks.iter().map(which).collect();
            let values = marks.iter().zip(&self.keys).filter(|(m, _)| **m == 1);
            let values = values.map(|(_, k)| k * 3 + self.wait).collect();
            (marks, values)
        };
        let (marks, values) = set(|m| m.0);
        let mut changes = vec![value(VALUE, marks, ints(&values))];
        let (marks, values) = set(|m| m.1);
        let values: Vec<String> = values.into_iter().map(text).collect();
        changes.push(value(LAZY, marks, texts(&values)));
        for state in LIST..=LISTS {
            let own: Vec<_> = self
                .entries
                .iter()
                .filter(|e| e.0 == state && !(state == LIST && e.1 == 1))
                .collect();
            let put: Vec<i64> = own.iter().filter(|e| e.1 == 0).map(|e| e.4).collect();
            let map_keys: Vec<i64> = own.iter().map(|e| e.3).collect();
            let as_text = |v: &[i64]| texts(&v.iter().map(|n| text(*n)).collect::<Vec<_>>());
            changes.push(StateChange {
                state,
                marks: Vec::new(),
                values: if state == MAP {
                    ints(&put)
                } else {
                    as_text(&put)
                },
                entries: Some(EntryChanges {
                    changes: own.iter().map(|e| e.1).collect(),
                    ordinals: own.iter().map(|e| (e.2 % keys) as u32).collect(),
                    map_keys: match state {
                        LIST => None,
                        MAP => Some(as_text(&map_keys)),
                        _ => Some(ints(&map_keys)),
                    },
                }),
            });
        }
        changes
    }
}

fn same(steps: &[Step], key: DataType, ttl: Option<Ttl>, values: u64) {
    let dir = tempfile::tempdir().unwrap();
    let settings = RocksSettings {
        memory_bytes: 8 << 20,
        ..RocksSettings::default()
    };
    let backend = RocksBackend::with_values(dir.path(), values, settings).unwrap();
    let owner = owner("op", key.clone(), ttl);
    let mut rocks = backend.keyed(&owner).unwrap();
    let mut heap = HeapBackend.keyed(&owner).unwrap();
    let mut now = 1_000;
    for step in steps {
        now += step.wait;
        at(heap.as_mut(), now);
        at(rocks.as_mut(), now);
        let column = keys(&key, &step.keys);
        let (a, b) = (
            touch(heap.as_mut(), column.clone()),
            touch(rocks.as_mut(), column),
        );
        let before = (
            all(heap.as_mut(), &a, &[0, 3]),
            all(rocks.as_mut(), &b, &[0, 3]),
        );
        assert_eq!(before.0, before.1, "before {step:?}");
        let changes = step.changes();
        heap.write(&a, &changes).unwrap();
        rocks.write(&b, &changes).unwrap();
        let after = (
            all(heap.as_mut(), &a, &[1, 2, 4]),
            all(rocks.as_mut(), &b, &[1, 2, 4]),
        );
        assert_eq!(after.0, after.1, "after {step:?}");
        let pinned = |slot: u32| step.pinned > 0 && slot.is_multiple_of(step.pinned);
        heap.forget(&a, &pinned);
        rocks.forget(&b, &pinned);
        heap.tidy(&pinned).unwrap();
        rocks.tidy(&pinned).unwrap();
        if step.flush {
            backend.flush();
        }
    }
}

fn ttl(on_read: bool, event_time: bool) -> Ttl {
    Ttl {
        ms: 20,
        on_read,
        return_expired: false,
        event_time,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rocks_has_what_the_heap_has(
        steps in prop::collection::vec(step(), 1..30),
        by_text in any::<bool>(),
        // Nothing fits; some does; all does.
        values in prop::sample::select(vec![0_u64, 6_000, 1 << 20]),
        ttl in prop::option::of((any::<bool>(), any::<bool>()).prop_map(|(r, e)| ttl(r, e))),
    ) {
        let key = if by_text { DataType::String } else { DataType::I64 };
        same(&steps, key, ttl, values);
    }
}
