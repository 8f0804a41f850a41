//! Memory, expiry on disk, damage, and tasks beside each other.

use std::fs;
use std::path::{Path, PathBuf};

use pelton_engine::function::TOO_MANY;
use pelton_model::ErrorCode;

use super::*;

fn backend(dir: &Path, memory_bytes: u64) -> RocksBackend {
    let settings = RocksSettings {
        memory_bytes,
        ..RocksSettings::default()
    };
    RocksBackend::open(dir, settings).unwrap()
}

/// The store's files of data.
fn tables(dir: &Path) -> Vec<PathBuf> {
    let paths = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().path()).collect::<Vec<_>>()
    };
    let databases = paths(&dir.join("db")).into_iter();
    let files = databases.flat_map(|db| paths(&db));
    files
        .filter(|p| p.extension().is_some_and(|e| e == "sst"))
        .collect()
}

fn never(_: u32) -> bool {
    false
}

/// A value of 64 bytes under an integer, and nothing else.
fn wide(uid: &str, task: u32) -> StateOwner {
    let fields = (0..8).map(|i| Field::new(format!("n{i}"), DataType::I64));
    StateOwner {
        uid: uid.into(),
        task,
        key: vec![Field::new("k", DataType::I64)],
        states: vec![spec(
            "value",
            StateKind::Value,
            None,
            Schema::new(fields.collect()),
        )],
        key_groups: KeyGroupRange::of_task(task, 2, 128),
        max_parallelism: 128,
    }
}

/// Adds `keys` to the sums under themselves.
fn add(state: &mut dyn KeyedState, keys: &[i64], pinned: &dyn Fn(u32) -> bool) {
    let slots = touch(state, Arc::new(Int64Array::from(keys.to_vec())));
    let had = state.read(&slots).unwrap().remove(0);
    let sum = |column: &ArrayRef| -> ArrayRef {
        let column = column.as_any().downcast_ref::<Int64Array>().unwrap();
        let seen = |i: usize| had.present.as_ref().is_none_or(|p| p.value(i));
        let old = |i: usize| if seen(i) { column.value(i) } else { 0 };
        Arc::new(Int64Array::from_iter_values(
            keys.iter()
                .enumerate()
                .map(|(i, k)| old(i).wrapping_add(*k)),
        ))
    };
    let change = StateChange {
        state: 0,
        marks: vec![1; keys.len()],
        values: row_of(had.columns.iter().map(sum).collect()),
        entries: None,
    };
    state.write(&slots, &[change]).unwrap();
    state.forget(&slots, pinned);
    state.tidy(pinned).unwrap();
}

fn sums(state: &mut dyn KeyedState, keys: &[i64]) -> Vec<i64> {
    let slots = touch(state, Arc::new(Int64Array::from(keys.to_vec())));
    let got = state.read(&slots).unwrap().remove(0);
    assert!(got.present.is_none(), "every key has a value");
    let column = got.columns[7].as_any().downcast_ref::<Int64Array>();
    column.unwrap().values().to_vec()
}

#[test]
fn state_of_ten_times_the_memory_is_kept_within_it() {
    const MEMORY: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), MEMORY);
    let mut state = backend.keyed(&wide("sums", 0)).unwrap();
    // 74 bytes each, of keys and values alone.
    const KEYS: i64 = 1_200_000;
    let key = |i: i64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
    let mut most = 0;
    for round in 0..2 {
        for start in (0..KEYS).step_by(8_000) {
            let keys: Vec<i64> = (start..start + 8_000).map(key).collect();
            if round == 0 || start < 80_000 {
                add(state.as_mut(), &keys, &never);
                most = most.max(backend.memory());
            }
        }
    }
    assert!(most <= MEMORY, "{most} bytes in memory");
    assert!(
        state.len() < 80_000,
        "most keys are in the store, {} are not",
        state.len()
    );
    for (start, times) in [(0, 2), (79_000, 2), (600_000, 1), (KEYS - 1_000, 1)] {
        let keys: Vec<i64> = (start..start + 1_000).map(key).collect();
        let expected: Vec<i64> = keys.iter().map(|k| k.wrapping_mul(times)).collect();
        assert_eq!(sums(state.as_mut(), &keys), expected);
    }
    // All eight numbers are the same: they take little room on disk.
    let before = state.bytes();
    assert!(before > 2 * MEMORY, "{before} bytes of state");
}

#[test]
fn what_fits_the_cache_never_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), 64 << 20);
    let mut state = backend.keyed(&wide("sums", 0)).unwrap();
    for _ in 0..3 {
        add(state.as_mut(), &(0..8_000).collect::<Vec<_>>(), &never);
    }
    backend.flush();
    assert!(tables(dir.path()).is_empty());
    assert_eq!(sums(state.as_mut(), &[7]), [21]);
}

#[test]
fn slots_that_are_held_keep_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::with_values(dir.path(), 0, RocksSettings::default()).unwrap();
    let mut state = backend.keyed(&wide("sums", 0)).unwrap();
    let held = touch(state.as_mut(), Arc::new(Int64Array::from(vec![5, 6])));
    for start in 0..20 {
        let keys: Vec<i64> = (start * 100..start * 100 + 150).collect();
        add(state.as_mut(), &keys, &|slot| held.contains(&slot));
    }
    let again = touch(state.as_mut(), Arc::new(Int64Array::from(vec![5, 6])));
    assert_eq!(again, held);
    assert_eq!(sums(state.as_mut(), &[5, 6, 1_950]), [5, 6, 1_950]);
}

#[test]
fn tasks_of_an_operator_and_operators_have_each_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::with_values(dir.path(), 0, RocksSettings::default()).unwrap();
    // State of operators: a key without fields, for each task.
    let own = |uid: &str, task| StateOwner {
        key: Vec::new(),
        ..wide(uid, task)
    };
    let owners = [own("a", 0), own("a", 1), own("b", 0)];
    let mut states: Vec<_> = owners.iter().map(|o| backend.keyed(o).unwrap()).collect();
    for (state, n) in states.iter_mut().zip(1..) {
        let mut touched = Touched::default();
        state.touch(&[], 1, &mut touched).unwrap();
        let change = StateChange {
            state: 0,
            marks: vec![1],
            values: row_of(vec![Arc::new(Int64Array::from(vec![n])) as ArrayRef; 8]),
            entries: None,
        };
        state.write(&touched.slots, &[change]).unwrap();
        state.tidy(&never).unwrap();
    }
    for (state, n) in states.iter_mut().zip(1..) {
        let mut touched = Touched::default();
        state.touch(&[], 1, &mut touched).unwrap();
        let got = state.read(&touched.slots).unwrap();
        assert_eq!(
            shown(&got[0]),
            shown(&row_of(vec![
                Arc::new(Int64Array::from(vec![n])) as ArrayRef;
                8
            ]))
        );
    }
}

#[test]
fn what_has_expired_leaves_the_disk_when_files_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::with_values(dir.path(), 0, RocksSettings::default()).unwrap();
    let mut owner = wide("sums", 0);
    owner.states[0].ttl = Some(ttl(false, true));
    let mut state = backend.keyed(&owner).unwrap();
    let keys: Vec<i64> = (0..2_000).collect();
    at(state.as_mut(), 1_000);
    add(state.as_mut(), &keys, &never);
    backend.flush();
    let stored = || -> u64 {
        let files = tables(dir.path());
        files.iter().map(|f| fs::metadata(f).unwrap().len()).sum()
    };
    let before = stored();
    at(state.as_mut(), 1_020);
    backend.flush();
    let after = stored();
    assert!(
        before > 0 && after < before / 4,
        "{before} bytes, then {after}"
    );
    let slots = touch(state.as_mut(), Arc::new(Int64Array::from(keys)));
    assert!(
        shown(&state.read(&slots).unwrap()[0])
            .iter()
            .all(|v| v == "-")
    );
}

#[test]
fn a_damaged_file_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::with_values(dir.path(), 0, RocksSettings::default()).unwrap();
    let mut state = backend.keyed(&wide("sums", 0)).unwrap();
    let keys: Vec<i64> = (0..20_000).collect();
    keys.chunks(8_000)
        .for_each(|k| add(state.as_mut(), k, &never));
    backend.flush();
    for table in tables(dir.path()) {
        let mut bytes = fs::read(&table).unwrap();
        let end = bytes.len() / 2;
        bytes[..end].iter_mut().for_each(|b| *b ^= 0x55);
        fs::write(&table, bytes).unwrap();
    }
    let mut touched = Touched::default();
    let column: ArrayRef = Arc::new(Int64Array::from(keys[..8_000].to_vec()));
    let error = state.touch(&[column], 8_000, &mut touched).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
    assert!(error.help_text().unwrap().contains("disk"));
}

#[test]
fn large_maps_are_left_out_and_answers_end_at_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::open(dir.path(), RocksSettings::default()).unwrap();
    let mut state = backend.keyed(&owner("op", DataType::I64, None)).unwrap();
    let slots = touch(state.as_mut(), Arc::new(Int64Array::from(vec![1, 2, 3])));
    let ordinals: Vec<u32> = (0..60)
        .map(|i| if i < 40 { 0 } else { 1 + i % 2 })
        .collect();
    let map_keys: Vec<String> = (0..60).map(|i| format!("{i:03}")).collect();
    let put = |state, map_keys, values| StateChange {
        state,
        marks: Vec::new(),
        values,
        entries: Some(EntryChanges {
            changes: vec![0; 60],
            ordinals: ordinals.clone(),
            map_keys,
        }),
    };
    let values: Vec<i64> = (0..60).collect();
    let changes = [
        put(MAP, Some(texts(&map_keys)), ints(&values)),
        put(LIST, None, texts(&map_keys)),
    ];
    state.write(&slots, &changes).unwrap();
    let maps = state.maps(MAP, &slots, 300, usize::MAX).unwrap();
    assert_eq!(maps.counts, [TOO_MANY, 10, 10]);
    assert_eq!(maps.keys.rows, 20);
    let maps = state.maps(MAP, &slots[1..], 300, 20).unwrap();
    assert_eq!(maps.counts, [10], "the first is there whatever it has");
    let lists = state.lists(LIST, &slots, None, 300).unwrap();
    assert_eq!(lists.lengths, [40], "the next would go beyond");
    let lists = state.lists(LIST, &slots, None, 350).unwrap();
    assert_eq!(lists.lengths, [40, 10]);
    let most = state.largest(2).unwrap();
    assert_eq!(most[0].0, "[k=1]");
    assert!(most[0].1 > most[1].1 && most.len() == 2);
}

#[test]
fn changes_that_fit_no_state_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::open(dir.path(), RocksSettings::default()).unwrap();
    let mut state = backend.keyed(&owner("op", DataType::I64, None)).unwrap();
    let slots = touch(state.as_mut(), Arc::new(Int64Array::from(vec![1])));
    let change = |state, changes: Vec<u8>, ordinals, map_keys, values| StateChange {
        state,
        marks: Vec::new(),
        values,
        entries: Some(EntryChanges {
            changes,
            ordinals,
            map_keys,
        }),
    };
    let one = || texts(&["a".to_owned()]);
    let wrong = [
        change(9, vec![0], vec![0], None, one()),
        change(VALUE, vec![0], vec![0], None, ints(&[1])),
        change(LIST, vec![0], vec![1], None, one()),
        change(LIST, vec![0, 0], vec![0, 0], None, one()),
        change(LIST, vec![1], vec![0], None, texts(&[])),
        change(LIST, vec![7], vec![0], None, texts(&[])),
        change(LIST, vec![0], vec![0], Some(one()), one()),
        change(MAP, vec![0], vec![0], None, ints(&[1])),
        change(MAP, vec![0], vec![0], Some(ints(&[1])), ints(&[1])),
    ];
    for change in wrong {
        let error = state.write(&slots, std::slice::from_ref(&change));
        assert_eq!(error.unwrap_err().code(), ErrorCode::BadReply, "{change:?}");
    }
    let bad = ErrorCode::BadReply;
    assert_eq!(state.values(LIST, &slots).unwrap_err().code(), bad);
    assert_eq!(state.lists(MAP, &slots, None, 9).unwrap_err().code(), bad);
    assert_eq!(state.maps(LISTS, &slots, 9, 9).unwrap_err().code(), bad);
    assert_eq!(state.scan(LIST, slots[0], None, 9).unwrap_err().code(), bad);
}
