use super::*;
use crate::snapshot::RestoreFrom;
use crate::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
use crate::state::heap::snapshot::Pace;
use pelton_model::barrier::SnapshotForm;
use pelton_model::key::KeyGroupRange;

/// As little a call as there can be.
const TINY: Pace = Pace {
    slots: 1,
    bytes: 1,
    at_once: 1,
    pieces: 1,
    piece_bytes: 1,
};

fn begin(s: &mut HeapState) -> (MemorySnapshot, SnapshotWriter) {
    let (snapshot, mut writer) = MemorySnapshot::new();
    writer.operator("op");
    s.snapshot(SnapshotForm::Native, &mut writer).unwrap();
    (snapshot, writer)
}

fn end(s: &mut HeapState, mut writer: SnapshotWriter) {
    while !s.go_on_snapshot(&mut writer).unwrap() {}
    assert!(s.frozen.is_none());
    writer.finish();
}

fn of_tasks(snapshots: Vec<MemorySnapshot>) -> RestoreFrom {
    let tasks = snapshots.len() as u32;
    let task = |(index, snapshot): (usize, MemorySnapshot)| {
        let range = KeyGroupRange::of_task(index as u32, tasks, 128);
        MemoryTask {
            index: index as u32,
            key_groups: (range.start, range.end),
            operators: &["op"],
            snapshot,
        }
    };
    let tasks: Vec<_> = snapshots.into_iter().enumerate().map(task).collect();
    checkpoint(128, &tasks).unwrap()
}

fn restore(s: &mut HeapState, from: &RestoreFrom, task: u32, parallelism: u32) {
    let range = KeyGroupRange::of_task(task, parallelism, 128);
    s.restore(&from.operator("op", (task, parallelism), range))
        .unwrap();
}

/// State, key, sub, value.
type Saved = (String, Vec<u8>, Vec<u8>, Vec<u8>);

/// All entries; of one key and sub in their order.
fn saved(snapshot: MemorySnapshot) -> Vec<Saved> {
    let from = of_tasks(vec![snapshot]);
    let all = KeyGroupRange { start: 0, end: 128 };
    let mut entries = Vec::new();
    let restored = from.operator("op", (0, 1), all);
    let each = |section: &_, _, entry: pelton_model::snapshot::Entry<'_>| {
        let section: &pelton_model::snapshot::SectionSpec = section;
        let (key, sub) = (entry.key.to_vec(), entry.sub.to_vec());
        entries.push((section.name.clone(), key, sub, entry.value.to_vec()));
        Ok(())
    };
    restored.entries(|_| true, each).unwrap();
    entries.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
    entries
}

/// Reads a key in all ways.
fn read(s: &mut HeapState, key: i64) {
    let slots = slots(s, &[key]);
    s.read(&slots).unwrap();
    s.values(LAZY, &slots).unwrap();
    s.lists(LIST, &slots, None, 1000).unwrap();
    s.lists(LISTS, &slots, Some(&ints(&[1])), 1000).unwrap();
    s.map_values(MAP, &slots, &texts(&[text(1)])).unwrap();
    s.maps(MAP, &slots, 1000, 1000).unwrap();
    s.scan(MAP, slots[0], None, 2).unwrap();
    s.scan(LISTS, slots[0], None, 2).unwrap();
    s.forget(&slots, &|_| false);
}

proptest! {
    #[test]
    fn what_is_restored_is_what_there_was_at_the_barrier(
        before in steps(),
        after in steps(),
        every in 1usize..12,
        expire: bool,
    ) {
        let ttl = expire.then(|| ttl(false, false));
        let (mut s, mut model, mut now) = (state(ttl), BTreeMap::new(), 1_000);
        at(&mut s, now);
        for step in &before {
            apply(&mut s, &mut model, step, &mut now);
        }
        let (snapshot, mut writer) = begin(&mut s);
        s.frozen.as_mut().unwrap().pace = TINY;
        let (model_then, then) = (model.clone(), now);
        for (i, step) in after.iter().enumerate() {
            apply(&mut s, &mut model, step, &mut now);
            if i % every == 0 && s.frozen.is_some() {
                s.go_on_snapshot(&mut writer).unwrap();
            }
        }
        end(&mut s, writer);
        compare(&mut s, &model, now, ttl);
        let mut restored = state(ttl);
        at(&mut restored, then);
        restore(&mut restored, &of_tasks(vec![snapshot]), 0, 1);
        compare(&mut restored, &model_then, then, ttl);
        // And it expires when it would have.
        at(&mut restored, then + 25);
        compare(&mut restored, &model_then, then + 25, ttl);
    }

    #[test]
    fn what_is_written_late_is_what_is_written_at_once(
        before in steps(),
        after in steps(),
        every in 1usize..12,
        on_read: bool,
        return_expired: bool,
        event_time: bool,
    ) {
        let ttl = Ttl { event_time, ..ttl(on_read, return_expired) };
        let (mut s, mut model, mut now) = (state(Some(ttl)), BTreeMap::new(), 1_000);
        if !event_time {
            at(&mut s, now);
        }
        for step in &before {
            apply(&mut s, &mut model, step, &mut now);
        }
        let (whole, writer) = begin(&mut s);
        end(&mut s, writer);
        let (snapshot, mut writer) = begin(&mut s);
        s.frozen.as_mut().unwrap().pace = TINY;
        for (i, step) in after.iter().enumerate() {
            apply(&mut s, &mut model, step, &mut now);
            read(&mut s, i as i64 % 4);
            if i % every == 0 && s.frozen.is_some() {
                s.go_on_snapshot(&mut writer).unwrap();
            }
        }
        end(&mut s, writer);
        prop_assert_eq!(saved(snapshot), saved(whole));
    }
}

#[test]
fn keys_move_between_tasks_with_their_groups() {
    let keys: Vec<i64> = (0..1_000).collect();
    let fill = |s: &mut HeapState, mine: &dyn Fn(i64) -> bool| {
        let keys: Vec<i64> = keys.iter().copied().filter(|k| mine(*k)).collect();
        let slots = slots(s, &keys);
        let names: Vec<String> = keys.iter().map(|k| text(k % 5)).collect();
        let all: Vec<(u8, u32)> = (0..keys.len() as u32).map(|o| (0, o)).collect();
        let changes = [
            value(VALUE, vec![1; keys.len()], ints(&keys)),
            entries(LIST, &all, None, texts(&names)),
            entries(MAP, &all, Some(texts(&names)), ints(&keys)),
        ];
        s.write(&slots, &changes).unwrap();
    };
    let task_of = |key: i64, tasks: u32| {
        let group = pelton_model::key::KeyGroup::of(pelton_model::key::hash_i64(key), 128);
        group.task(tasks, 128)
    };
    let check = |s: &mut HeapState, task: u32, tasks: u32| {
        let mine: Vec<i64> = keys
            .iter()
            .copied()
            .filter(|k| task_of(*k, tasks) == task)
            .collect();
        assert_eq!(s.len(), mine.len());
        let slots = slots(s, &mine);
        assert_eq!(s.len(), mine.len(), "its keys and no others");
        assert_eq!(read_ints(&s.read(&slots).unwrap()[0]), mine);
        let lists = s.lists(LIST, &slots, None, usize::MAX).unwrap();
        assert_eq!(lists.lengths, vec![1; mine.len()]);
        let maps = s.maps(MAP, &slots, usize::MAX, usize::MAX).unwrap();
        assert_eq!(read_ints(&maps.values), mine);
    };
    let mut tasks = vec![state(None), state(None)];
    for (number, s) in tasks.iter_mut().enumerate() {
        fill(s, &|k| task_of(k, 2) == number as u32);
    }
    for parallelism in [2_u32, 3, 1, 1] {
        let written: Vec<_> = tasks
            .iter_mut()
            .map(|s| {
                let (snapshot, writer) = begin(s);
                end(s, writer);
                snapshot
            })
            .collect();
        let from = of_tasks(written);
        tasks = (0..parallelism)
            .map(|task| {
                let mut s = state(None);
                restore(&mut s, &from, task, parallelism);
                check(&mut s, task, parallelism);
                s
            })
            .collect();
    }
}

#[test]
fn a_snapshot_pauses_without_room_and_can_be_given_up() {
    let mut s = state(None);
    let keys: Vec<i64> = (0..50_000).collect();
    let slots = slots(&mut s, &keys);
    s.write(&slots, &[value(VALUE, vec![1; keys.len()], ints(&keys))])
        .unwrap();
    let (snapshot, mut writer) = begin(&mut s);
    snapshot.set_room(0);
    for _ in 0..10 {
        assert!(!s.go_on_snapshot(&mut writer).unwrap());
    }
    assert!(snapshot.is_empty());
    let again: Vec<i64> = keys.iter().map(|k| k + 1).collect();
    s.write(&slots, &[value(VALUE, vec![1; keys.len()], ints(&again))])
        .unwrap();
    snapshot.set_room(usize::MAX / 2);
    end(&mut s, writer);
    let mut restored = state(None);
    restore(&mut restored, &of_tasks(vec![snapshot]), 0, 1);
    let found = super::slots(&mut restored, &keys);
    assert_eq!(read_ints(&restored.read(&found).unwrap()[0]), keys);

    let (_, mut writer) = begin(&mut s);
    assert!(s.snapshot(SnapshotForm::Native, &mut writer).is_err());
    s.abort_snapshot();
    assert!(s.go_on_snapshot(&mut writer).unwrap(), "there is none");
    let (snapshot, writer) = begin(&mut s);
    end(&mut s, writer);
    assert!(saved(snapshot).len() == keys.len());
}

#[test]
fn state_of_another_type_is_refused() {
    let mut s = state(None);
    let slots = slots(&mut s, &[1]);
    s.write(&slots, &[value(VALUE, vec![1], ints(&[1]))])
        .unwrap();
    let (snapshot, writer) = begin(&mut s);
    end(&mut s, writer);
    let from = of_tasks(vec![snapshot]);
    let mut other = specs(None);
    other[VALUE as usize].schema = Schema::new(vec![Field::new("n", DataType::String)]);
    let mut other = HeapState::new(vec![Field::new("k", DataType::I64)], &other, 128);
    let all = KeyGroupRange { start: 0, end: 128 };
    let error = other
        .restore(&from.operator("op", (0, 1), all))
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateMismatch);
    let message = error.to_string();
    assert!(
        message.contains("'value' of operator 'op'") && message.contains("'n'"),
        "{message}"
    );
}

#[test]
fn large_collections_are_written_a_few_at_a_time() {
    let mut s = state(None);
    let keys: Vec<i64> = (0..50).collect();
    let slots = slots(&mut s, &keys);
    let names: Vec<String> = (0..1_000).map(|n| format!("{n:0100}")).collect();
    let numbers: Vec<i64> = (0..1_000).collect();
    for ordinal in 0..50 {
        let all = vec![(0, ordinal); names.len()];
        let change = entries(MAP, &all, Some(texts(&names)), ints(&numbers));
        s.write(&slots, &[change]).unwrap();
    }
    let (snapshot, mut writer) = begin(&mut s);
    let mut most = 0;
    let mut complete = false;
    while !complete {
        let before = snapshot.len();
        complete = s.go_on_snapshot(&mut writer).unwrap();
        most = most.max(snapshot.len() - before);
    }
    writer.finish();
    assert!(most < 2 << 20, "{most} bytes in one call");
    assert!(snapshot.len() > 5_000_000);
    let mut restored = state(None);
    restore(&mut restored, &of_tasks(vec![snapshot]), 0, 1);
    let found = super::slots(&mut restored, &keys);
    let maps = restored.maps(MAP, &found, usize::MAX, usize::MAX).unwrap();
    assert_eq!(maps.counts, vec![1_000; 50]);
    assert_eq!(read_ints(&maps.values), numbers.repeat(50));
}
