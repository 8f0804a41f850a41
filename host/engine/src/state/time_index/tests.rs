use std::collections::BTreeMap;

use super::*;
use crate::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
use crate::state::HeapBackend;
use arrow_array::StringArray;
use proptest::prelude::*;

const GROUPS: u32 = 16;

fn key() -> Vec<Field> {
    let field = |name: &str, of: DataType| Field::new(name, of);
    vec![
        field("word", DataType::String).nullable(),
        field("n", DataType::I64),
    ]
}

fn owner(start: u32, end: u32) -> StateOwner {
    StateOwner {
        uid: "op".into(),
        task: 0,
        key: key(),
        states: Vec::new(),
        key_groups: KeyGroupRange { start, end },
        max_parallelism: GROUPS,
    }
}

const NAMES: [&str; 2] = ["one", "two"];

/// In memory, as if it were not.
fn index(start: u32, end: u32) -> TimeIndex {
    let owner = owner(start, end);
    let state = HeapBackend.keyed(&owner_of(&owner, &NAMES)).unwrap();
    TimeIndex::over(state, &owner, &NAMES)
}

fn columns(keys: &[i64]) -> Vec<ArrayRef> {
    let word = |k: &i64| (k % 3 > 0).then(|| format!("word {}", k % 3));
    let words: StringArray = keys.iter().map(word).collect();
    vec![Arc::new(words), Arc::new(Int64Array::from(keys.to_vec()))]
}

fn entries(all: &[(i64, i64, u64)]) -> Timed {
    Timed {
        times: all.iter().map(|e| e.0).collect(),
        keys: columns(&all.iter().map(|e| e.1).collect::<Vec<_>>()),
        numbers: all.iter().map(|e| e.2).collect(),
    }
}

/// (time, key, number)
fn plain(entries: &Timed) -> Vec<(i64, i64, u64)> {
    let Some(keys) = entries.keys.get(1) else {
        return Vec::new();
    };
    let keys = keys.as_primitive::<arrow_array::types::Int64Type>();
    let all: Vec<i64> = keys.values().to_vec();
    assert!(entries.keys == columns(&all));
    let rows = entries.times.iter().zip(all).zip(&entries.numbers);
    rows.map(|((time, key), number)| (*time, key, *number))
        .collect()
}

fn saved(index: &mut TimeIndex, task: u32) -> MemorySnapshot {
    let (snapshot, mut writer) = MemorySnapshot::new();
    writer.operator("op");
    index
        .snapshot(SnapshotForm::Canonical, &mut writer)
        .unwrap();
    // What comes after the barrier is not in it.
    index
        .put(0, &entries(&[(i64::MIN, 1 + i64::from(task), 0)]))
        .unwrap_or_default();
    while !index.go_on_snapshot(&mut writer).unwrap() {}
    writer.finish();
    snapshot
}

#[test]
fn entries_come_in_the_order_of_time_and_of_their_numbers() {
    let mut index = index(0, GROUPS);
    assert_eq!(index.floor(0), None);
    let all = [
        (7, 1, 3),
        (i64::MAX, 2, 1),
        (-5, 3, 9),
        (7, 4, 2),
        (7, 5, 4),
    ];
    index.put(0, &entries(&all)).unwrap();
    assert_eq!((index.floor(0), index.floor(1)), (Some(-5), None));
    index.put(0, &entries(&[(7, 5, 1)])).unwrap();
    let found = index.get(0, &[7, 7, 8], &columns(&[5, 1, 1])).unwrap();
    assert_eq!(found, [Some(1), Some(3), None]);
    assert!(index.take(0, -6, 10).unwrap().is_empty());
    let first = index.take(0, 7, 10).unwrap();
    assert_eq!(plain(&first), [(-5, 3, 9), (7, 5, 1), (7, 4, 2), (7, 1, 3)]);
    assert!(index.floor(0).is_some_and(|floor| floor > 7));
    index.remove(0, &[i64::MAX], &columns(&[2])).unwrap();
    assert!(index.take(0, i64::MAX, 10).unwrap().is_empty());
    assert_eq!(index.floor(0), None);
}

#[test]
fn a_million_entries_of_one_key_come_some_at_a_time() {
    let mut index = index(0, GROUPS);
    for start in (0..1_000_000).step_by(10_000) {
        let some: Vec<_> = (start..start + 10_000).map(|t| (t, 3, t as u64)).collect();
        index.put(0, &entries(&some)).unwrap();
    }
    let mut next = 0;
    loop {
        let some = index.take(0, i64::MAX, 8192).unwrap();
        if some.is_empty() {
            break;
        }
        assert!(some.len() < 16_384 && some.len() >= 8192.min(1_000_000 - next as usize));
        for time in some.times {
            assert_eq!(time, next);
            next += 1;
        }
        assert!(index.floor(0).is_none_or(|floor| floor >= next - 1));
    }
    assert_eq!((next, index.floor(0)), (1_000_000, None));
}

#[test]
fn entries_go_with_their_key_groups() {
    let mut whole = index(0, GROUPS);
    let all: Vec<_> = (0..500).map(|k| (k * 31 % 97, k, k as u64)).collect();
    whole.put(1, &entries(&all)).unwrap();
    let task = |snapshot, index, key_groups| MemoryTask {
        index,
        key_groups,
        operators: &["op"],
        snapshot,
    };
    let one = [task(saved(&mut whole, 0), 0, (0, GROUPS))];
    let from = checkpoint(GROUPS, &one).unwrap();
    let mut seen = Vec::new();
    let mut halves = Vec::new();
    for (number, (start, end)) in [(0, 7), (7, GROUPS)].into_iter().enumerate() {
        let mut half = index(start, end);
        let range = KeyGroupRange { start, end };
        let part = from.operator("op", (number as u32, 2), range);
        assert!(TimeIndex::is_saved(&part, "two") && !TimeIndex::is_saved(&part, "one"));
        half.restore(&part).unwrap();
        assert_eq!((half.floor(0), half.floor(1)), (None, Some(i64::MIN)));
        let mut read = Vec::new();
        let push = |some: Timed| -> Result<()> {
            read.extend(plain(&some));
            Ok(())
        };
        TimeIndex::read_saved(&part, "two", &key(), push).unwrap();
        halves.push(task(saved(&mut half, 100), number as u32, (start, end)));
        let mut own = plain(&half.take(1, i64::MAX, 10_000).unwrap());
        assert!(own.is_sorted_by_key(|e| (e.0, e.2)) && !own.is_empty());
        own.sort_unstable();
        read.sort_unstable();
        assert_eq!(own, read);
        seen.extend(own);
    }
    seen.sort_unstable();
    let mut want = all;
    want.sort_unstable();
    assert_eq!(seen, want);
    let from = checkpoint(GROUPS, &halves).unwrap();
    let range = KeyGroupRange {
        start: 0,
        end: GROUPS,
    };
    let mut again = index(0, GROUPS);
    again.restore(&from.operator("op", (0, 1), range)).unwrap();
    let mut all = plain(&again.take(1, i64::MAX, 10_000).unwrap());
    all.sort_unstable();
    assert_eq!(all, want);
    let wrong = [Field::new("word", DataType::String)];
    let part = from.operator("op", (0, 1), range);
    let error = TimeIndex::read_saved(&part, "two", &wrong, |_| Ok(())).unwrap_err();
    assert_eq!(error.code(), pelton_model::ErrorCode::StateMismatch);
}

proptest! {
    #[test]
    fn an_index_is_an_ordered_map(
        steps in prop::collection::vec(
            (prop::collection::vec((-9i64..20, 0i64..40), 1..60), 0u8..4, 1usize..80),
            1..40,
        ),
    ) {
        let mut index = index(0, GROUPS);
        let mut model: BTreeMap<(i64, i64), u64> = BTreeMap::new();
        let mut number = 0;
        for (rows, what, most) in steps {
            let times: Vec<i64> = rows.iter().map(|r| r.0).collect();
            let keys = columns(&rows.iter().map(|r| r.1).collect::<Vec<_>>());
            match what {
                0 => {
                    index.remove(0, &times, &keys).unwrap();
                    rows.iter().for_each(|row| { model.remove(row); });
                }
                1 => {
                    let up_to = times[0];
                    let floor = index.floor(0);
                    let taken = plain(&index.take(0, up_to, most).unwrap());
                    let due = model.keys().take_while(|k| k.0 <= up_to).count();
                    prop_assert!(taken.len() >= due.min(most.div_ceil(4)), "{} of {}", taken.len(), due);
                    prop_assert!(taken.is_sorted_by_key(|e| (e.0, e.2)));
                    for (time, key, number) in &taken {
                        prop_assert_eq!(model.remove(&(*time, *key)), Some(*number));
                        prop_assert!(*time <= up_to);
                    }
                    let last = taken.last().map_or(i64::MIN, |t| t.0);
                    prop_assert!(model.keys().all(|k| k.0 >= last));
                    prop_assert!(floor.is_none() || index.floor(0).is_none_or(|f| Some(f) >= floor));
                }
                _ => {
                    let all: Vec<_> = rows.iter().map(|(time, key)| {
                        number += 1;
                        model.insert((*time, *key), number);
                        (*time, *key, number)
                    }).collect();
                    index.put(0, &entries(&all)).unwrap();
                }
            }
            let first = model.keys().next().map(|k| k.0);
            prop_assert!(first.is_none() || index.floor(0) <= first && index.floor(0).is_some());
            let found = index.get(0, &times, &keys).unwrap();
            let want: Vec<_> = rows.iter().map(|row| model.get(row).copied()).collect();
            prop_assert_eq!(found, want);
        }
    }
}
