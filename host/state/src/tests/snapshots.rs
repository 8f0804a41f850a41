//! Snapshots: what they have is what was there at the barrier, and comes back, in every form.

use std::fs;
use std::path::Path;
use std::time::Duration;

pub(super) use pelton_engine::snapshot::RestoreFrom;
use pelton_engine::snapshot::memory::{MemorySnapshot, checkpoint};
use pelton_engine::snapshot::{NativeFiles, SnapshotWriter};
use pelton_model::ErrorCode;
pub(super) use pelton_model::barrier::SnapshotForm;
use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::checkpoint::{Metadata, NativeFile, NativeState, StoredFile, TaskRecord};
use xxhash_rust::xxh3::xxh3_64;

use super::*;

/// A store of objects in a folder, in which tables are links.
pub(super) struct Disk(pub(super) std::path::PathBuf);

impl Blobs for Disk {
    fn put(&self, name: &str, bytes: &[u8]) -> pelton_model::Result<()> {
        fs::write(self.0.join(name), bytes).unwrap();
        Ok(())
    }
    fn put_new(&self, _: &str, _: &[u8]) -> pelton_model::Result<PutNew> {
        unreachable!("nobody asks for it")
    }
    fn put_file(&self, name: &str, file: &Path) -> pelton_model::Result<()> {
        if !self.0.join(name).exists() {
            fs::hard_link(file, self.0.join(name)).unwrap();
        }
        Ok(())
    }
    fn get(&self, name: &str) -> pelton_model::Result<Vec<u8>> {
        Ok(fs::read(self.0.join(name)).unwrap())
    }
    fn get_range(&self, _: &str, _: u64, _: u64) -> pelton_model::Result<Vec<u8>> {
        unreachable!("nobody asks for it")
    }
    fn read(&self, _: &str) -> pelton_model::Result<Box<dyn std::io::Read + Send>> {
        unreachable!("nobody asks for it")
    }
    fn get_file(&self, name: &str, file: &Path) -> pelton_model::Result<()> {
        fs::hard_link(self.0.join(name), file).unwrap();
        Ok(())
    }
    fn list(&self, _: &str) -> pelton_model::Result<Vec<BlobInfo>> {
        unreachable!("nobody asks for it")
    }
    fn delete(&self, _: &str) -> pelton_model::Result<()> {
        unreachable!("nobody asks for it")
    }
}

/// A snapshot that has begun.
pub(super) struct Begun {
    pub(super) made: MemorySnapshot,
    pub(super) writer: SnapshotWriter,
}

pub(super) fn begin(state: &mut dyn KeyedState, form: SnapshotForm) -> Begun {
    let (made, mut writer) = MemorySnapshot::new();
    writer.operator("op");
    state.snapshot(form, &mut writer).unwrap();
    Begun { made, writer }
}

/// Goes on until the snapshot is complete, or can't be.
pub(super) fn go_on(state: &mut dyn KeyedState, begun: &mut Begun) -> pelton_model::Result<()> {
    for _ in 0..100_000 {
        if state.go_on_snapshot(&mut begun.writer)? {
            return Ok(());
        }
        // A thread of the store is at work.
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("the snapshot does not end");
}

pub(super) fn finish(state: &mut dyn KeyedState, mut begun: Begun) -> MemorySnapshot {
    go_on(state, &mut begun).unwrap();
    begun.writer.finish();
    begun.made
}

/// Puts the files of a task into the store of objects.
fn upload(blobs: &Disk, files: NativeFiles, task: u32) -> NativeState {
    let stored = |file: &pelton_engine::snapshot::LocalFile| {
        let bytes = fs::read(&file.path).unwrap();
        let name = match &file.identity {
            Some(identity) => identity.clone(),
            // There may be several of an operator, with the same files.
            None => format!("{task}-{}-{}", files.sections[0].name, file.name),
        };
        match file.identity {
            Some(_) => blobs.put_file(&name, &file.path).unwrap(),
            None => blobs.put(&name, &bytes).unwrap(),
        }
        NativeFile {
            name: file.name.clone(),
            file: StoredFile {
                name: Some(name),
                inline: None,
                length: bytes.len() as u64,
                checksum: xxh3_64(&bytes),
            },
        }
    };
    NativeState {
        uid: files.uid.clone(),
        format: files.format.clone(),
        sections: files.sections.clone(),
        files: files.files.iter().map(stored).collect(),
    }
}

/// A complete checkpoint of these tasks.
pub(super) fn complete(blobs: &Path, tasks: Vec<(KeyGroupRange, MemorySnapshot)>) -> RestoreFrom {
    let disk = Disk(blobs.to_owned());
    let (mut inline, mut records) = (Vec::new(), Vec::new());
    for (index, (groups, snapshot)) in (0..).zip(tasks) {
        let (bytes, made) = snapshot.take().unwrap();
        let files = made.native.into_iter();
        records.push(TaskRecord {
            index,
            operators: vec!["op".into()],
            key_groups: (groups.start, groups.end),
            state: Some(StoredFile {
                name: None,
                inline: Some(inline.len() as u64),
                length: made.length,
                checksum: made.checksum,
            }),
            sections: made.sections,
            native: files.map(|f| upload(&disk, f, index)).collect(),
            ..TaskRecord::default()
        });
        inline.extend_from_slice(&bytes);
    }
    let mut from = checkpoint(128, &[]).unwrap();
    let metadata = Metadata {
        tasks: records,
        ..(*from.metadata).clone()
    };
    from.metadata = Arc::new(metadata);
    from.inline = Arc::new(inline);
    from.blobs = Arc::new(disk);
    from
}

pub(super) const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: 128 };

/// What is under all keys.
fn contents(state: &mut dyn KeyedState, key: &DataType) -> Vec<Vec<String>> {
    let some: Vec<i64> = (0..60).collect();
    let slots = touch(state, keys(key, &some));
    all(state, &slots, &[0, 1, 2, 3, 4])
}

pub(super) fn settings() -> RocksSettings {
    RocksSettings {
        memory_bytes: 8 << 20,
        ..RocksSettings::default()
    }
}

fn step_on(state: &mut dyn KeyedState, key: &DataType, step: &Step, now: &mut i64) {
    *now += step.wait;
    at(state, *now);
    let slots = touch(state, keys(key, &step.keys));
    state.read(&slots).unwrap();
    state.write(&slots, &step.changes()).unwrap();
    let pinned = |slot: u32| step.pinned > 0 && slot.is_multiple_of(step.pinned);
    state.forget(&slots, &pinned);
    state.tidy(&pinned).unwrap();
}

/// Runs steps, with snapshots in progress while they go on, and restores each.
fn interleaved(
    steps: &[Step],
    key: &DataType,
    ttl: Option<Ttl>,
    values: u64,
    only_values: bool,
    form: SnapshotForm,
) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir(root.join("blobs")).unwrap();
    let backend = RocksBackend::with_values(&root.join("state"), values, settings()).unwrap();
    let mut owner = owner("op", key.clone(), ttl);
    let shown = |state: &mut dyn KeyedState| match only_values {
        true => {
            let some: Vec<i64> = (0..60).collect();
            let slots = touch(state, keys(key, &some));
            vec![
                shown(&state.read(&slots).unwrap()[0]),
                shown(&state.values(LAZY, &slots).unwrap()),
            ]
        }
        false => contents(state, key),
    };
    let changes = |step: &Step| Step {
        entries: if only_values {
            Vec::new()
        } else {
            step.entries.clone()
        },
        ..step.clone()
    };
    if only_values {
        owner.states.truncate(2);
    }
    let mut state = backend.keyed(&owner).unwrap();
    let mut now = 1_000;
    let work = |state: &mut dyn KeyedState, step: &Step, now: &mut i64| {
        let step = changes(step);
        match only_values {
            false => step_on(state, key, &step, now),
            true => {
                *now += step.wait;
                at(state, *now);
                let slots = touch(state, keys(key, &step.keys));
                state.read(&slots).unwrap();
                state.write(&slots, &step.changes()[..2]).unwrap();
                state.forget(&slots, &|_| false);
                state.tidy(&|_| false).unwrap();
            }
        }
        if step.flush && form == SnapshotForm::Canonical {
            backend.flush();
        }
    };
    for (round, part) in steps.chunks(steps.len().div_ceil(3)).enumerate() {
        let (before, after) = part.split_at(part.len() / 2);
        before
            .iter()
            .for_each(|step| work(state.as_mut(), step, &mut now));
        at(state.as_mut(), now);
        let expected = shown(state.as_mut());
        let cut_at = now;
        let mut begun = begin(state.as_mut(), form);
        let mut done = false;
        for step in after {
            done = done || state.go_on_snapshot(&mut begun.writer).unwrap();
            work(state.as_mut(), step, &mut now);
        }
        let made = match done {
            true => {
                begun.writer.finish();
                begun.made
            }
            false => finish(state.as_mut(), begun),
        };
        let blobs = root.join("blobs");
        let from = complete(&blobs, vec![(ALL, made)]);
        let other = root.join(format!("restored-{round}"));
        let second = RocksBackend::with_values(&other, values, settings()).unwrap();
        let mut restored = second.keyed(&owner).unwrap();
        at(restored.as_mut(), cut_at);
        restored.restore(&from.operator("op", (0, 1), ALL)).unwrap();
        assert_eq!(shown(restored.as_mut()), expected, "round {round}");
        // It goes on with what was restored.
        if round == 1 {
            state = restored;
            now = cut_at;
            // Its backend must not go before it.
            std::mem::forget(second);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_snapshot_has_what_was_there_at_the_barrier(
        steps in prop::collection::vec(step(), 6..40),
        by_text in any::<bool>(),
        values in prop::sample::select(vec![0_u64, 6_000, 1 << 20]),
        only_values in any::<bool>(),
        native in any::<bool>(),
        ttl in prop::option::of((any::<bool>(), any::<bool>()).prop_map(|(r, e)| ttl(r, e))),
    ) {
        let key = if by_text { DataType::String } else { DataType::I64 };
        let form = if native { SnapshotForm::Native } else { SnapshotForm::Canonical };
        interleaved(&steps, &key, ttl, values, only_values, form);
    }
}

/// What a task wrote, finished.
pub(super) fn snapshot(state: &mut dyn KeyedState, form: SnapshotForm) -> MemorySnapshot {
    let begun = begin(state, form);
    finish(state, begun)
}

/// Three values, an item, a map's entry and a list's item under each key of the task's key groups.
fn fill(state: &mut dyn KeyedState, groups: KeyGroupRange, some: std::ops::Range<i64>) {
    use pelton_model::key::{KeyGroup, hash_i64};
    let own: Vec<i64> = some
        .filter(|k| groups.contains(KeyGroup::of(hash_i64(*k), 128)))
        .collect();
    let step = Step {
        marks: vec![(1, 1); own.len()],
        entries: (0..own.len())
            .flat_map(|k| (LIST..=LISTS).map(move |s| (s, 0, k, 3, k as i64 % 7)))
            .collect(),
        keys: own,
        wait: 1,
        pinned: 0,
        flush: false,
    };
    let slots = touch(state, keys(&DataType::I64, &step.keys));
    state.write(&slots, &step.changes()).unwrap();
    state.tidy(&|_| false).unwrap();
}

/// What is under these keys that belong to the key groups.
fn of_groups(state: &mut dyn KeyedState, groups: KeyGroupRange) -> Vec<String> {
    use pelton_model::key::{KeyGroup, hash_i64};
    let own = (0..300).filter(|k| groups.contains(KeyGroup::of(hash_i64(*k), 128)));
    let mut found = Vec::new();
    for key in own {
        let slots = touch(state, keys(&DataType::I64, &[key]));
        found.push(format!("{key}: {:?}", all(state, &slots, &[3])));
    }
    found
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

/// Checkpoints in these forms, each restored by so many tasks.
fn rescaled(rounds: &[(u32, SnapshotForm)]) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let mut last: Option<(RestoreFrom, Vec<String>)> = None;
    for (round, (tasks, form)) in rounds.iter().enumerate() {
        let place = dir.path().join(round.to_string());
        let backend = RocksBackend::open(&place, settings()).unwrap();
        let (mut snapshots, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for task in 0..*tasks {
            let groups = KeyGroupRange::of_task(task, *tasks, 128);
            let owner = StateOwner {
                task,
                key_groups: groups,
                ..owner("op", DataType::I64, Some(ttl(false, true)))
            };
            let mut state = backend.keyed(&owner).unwrap();
            at(state.as_mut(), 1_000 + round as i64);
            if let Some((from, _)) = &last {
                let restored = from.operator("op", (task, *tasks), groups);
                state.restore(&restored).unwrap();
            }
            before.extend(of_groups(state.as_mut(), groups));
            // Fewer keys change in each round.
            fill(state.as_mut(), groups, 0..300 - 70 * round as i64);
            snapshots.push((groups, snapshot(state.as_mut(), *form)));
            after.extend(of_groups(state.as_mut(), groups));
        }
        if let Some((_, expected)) = last {
            assert_eq!(sorted(before), expected, "round {round}");
        }
        last = Some((complete(&blobs, snapshots), sorted(after)));
    }
    // Stamps came along: what was last written in the first round is over first.
    let (from, _) = last.unwrap();
    let backend = RocksBackend::open(&dir.path().join("end"), settings()).unwrap();
    let mut state = backend
        .keyed(&owner("op", DataType::I64, Some(ttl(false, true))))
        .unwrap();
    at(state.as_mut(), 1_020);
    state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
    let slots = touch(state.as_mut(), keys(&DataType::I64, &[290, 1]));
    let shown = shown(&state.read(&slots).unwrap()[0]);
    assert!(shown[0] == "-" && shown[1] != "-", "{shown:?}");
}

#[test]
fn another_parallelism_gets_the_same_state() {
    let native = SnapshotForm::Native;
    rescaled(&[(2, native), (3, native), (1, native), (1, native)]);
}

#[test]
fn canonical_and_native_forms_take_turns() {
    let (native, canonical) = (SnapshotForm::Native, SnapshotForm::Canonical);
    rescaled(&[(1, canonical), (2, native), (2, canonical), (3, canonical)]);
}

/// The names of a finished snapshot's tables.
fn tables(made: &MemorySnapshot) -> (Vec<String>, pelton_engine::snapshot::Made) {
    let (_, made) = made.take().unwrap();
    let files = made.native.iter().flat_map(|n| &n.files);
    let tables = files.filter(|f| f.name.ends_with(".sst"));
    (tables.filter_map(|f| f.identity.clone()).collect(), made)
}

#[test]
fn the_next_snapshot_has_the_files_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::open(dir.path(), settings()).unwrap();
    let mut state = backend.keyed(&owner("op", DataType::I64, None)).unwrap();
    let mut before: Vec<String> = Vec::new();
    for round in 0..4 {
        fill(state.as_mut(), ALL, round * 100..round * 100 + 100);
        let made = snapshot(state.as_mut(), SnapshotForm::Native);
        let (now, made) = tables(&made);
        let shared = before.iter().filter(|name| now.contains(name)).count();
        assert_eq!(shared, before.len(), "all are there still");
        assert!(now.len() > before.len(), "and some are new");
        let folder = made.native[0].files[0].path.parent().unwrap().to_owned();
        assert!(folder.exists());
        drop(made);
        assert!(!folder.exists(), "the links go when nobody needs them");
        before = now;
    }
}

#[test]
fn two_that_go_on_from_one_checkpoint_never_share_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let owner = owner("op", DataType::I64, None);
    let backend = RocksBackend::open(&dir.path().join("state"), settings()).unwrap();
    let mut state = backend.keyed(&owner).unwrap();
    fill(state.as_mut(), ALL, 0..100);
    let made = snapshot(state.as_mut(), SnapshotForm::Native);
    let from = complete(&blobs, vec![(ALL, made)]);
    let go_on = || {
        let mut state = backend.keyed(&owner).unwrap();
        state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
        fill(state.as_mut(), ALL, 50..150);
        tables(&snapshot(state.as_mut(), SnapshotForm::Native)).0
    };
    let (one, other) = (go_on(), go_on());
    let old: Vec<&String> = one.iter().filter(|n| other.contains(n)).collect();
    let known = from.metadata.tasks[0].native[0].files.iter();
    let known: Vec<&String> = known.map(|f| &f.name).collect();
    assert!(!old.is_empty() && old.iter().all(|n| known.contains(n)));
    assert!(one.len() > old.len() && other.len() > old.len());
}

#[test]
fn a_snapshot_that_cannot_be_made_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::open(dir.path(), settings()).unwrap();
    let mut state = backend.keyed(&owner("op", DataType::I64, None)).unwrap();
    fill(state.as_mut(), ALL, 0..100);
    let before = of_groups(state.as_mut(), ALL);
    // Where the links should be is a file.
    fs::write(dir.path().join("snapshot"), "x").unwrap();
    let mut begun = begin(state.as_mut(), SnapshotForm::Native);
    let error = go_on(state.as_mut(), &mut begun).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateFailed);
    assert!(error.help_text().is_some());
    assert_eq!(of_groups(state.as_mut(), ALL), before);
    fs::remove_file(dir.path().join("snapshot")).unwrap();
    // One that is given up, at each of its steps, leaves nothing either.
    for steps in 0..30 {
        fill(state.as_mut(), ALL, 0..100);
        let mut begun = begin(state.as_mut(), SnapshotForm::Native);
        for _ in 0..steps {
            state.go_on_snapshot(&mut begun.writer).unwrap();
        }
        state.abort_snapshot();
    }
    let made = snapshot(state.as_mut(), SnapshotForm::Native);
    drop(made);
    // Threads of those that were given up may still be at it.
    let left = || fs::read_dir(dir.path().join("snapshot")).unwrap().count();
    for _ in 0..10_000 {
        if left() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(left(), 0);
}

#[test]
fn what_is_damaged_or_foreign_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let owner = owner("op", DataType::I64, None);
    let backend = RocksBackend::open(&dir.path().join("state"), settings()).unwrap();
    let mut state = backend.keyed(&owner).unwrap();
    fill(state.as_mut(), ALL, 0..100);
    let made = snapshot(state.as_mut(), SnapshotForm::Native);
    let from = complete(&blobs, vec![(ALL, made)]);
    let refused = |backend: &dyn StateBackend, owner: &StateOwner, from: &RestoreFrom| {
        let mut state = backend.keyed(owner).unwrap();
        let restored = from.operator("op", (0, 1), ALL);
        state.restore(&restored).unwrap_err()
    };
    let error = refused(&HeapBackend, &owner, &from);
    assert_eq!(error.code(), ErrorCode::StateMismatch);
    assert!(error.help_text().unwrap().contains("savepoint"));
    let mut other = owner.clone();
    other.states[0].schema = text_schema();
    let error = refused(&backend, &other, &from);
    assert_eq!(error.code(), ErrorCode::StateMismatch, "{error}");
    let mut foreign = from.clone();
    let mut metadata = (*from.metadata).clone();
    metadata.tasks[0].native[0].format = "rocksdb-9".into();
    foreign.metadata = Arc::new(metadata);
    let error = refused(&backend, &owner, &foreign);
    assert_eq!(error.code(), ErrorCode::StateMismatch, "{error}");
    for file in &from.metadata.tasks[0].native[0].files {
        let object = file.file.name.clone().unwrap();
        let path = blobs.join(&object);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for bytes in [&flipped[..], &whole[..whole.len() - 1]] {
            // Another file: others may have links to the old one.
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            let error = refused(&backend, &owner, &from);
            assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
            assert!(error.to_string().contains(&object), "{error}");
        }
        fs::write(&path, &whole).unwrap();
    }
    let mut state = backend.keyed(&owner).unwrap();
    state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
}

#[test]
fn a_savepoint_moves_between_heap_and_rocksdb() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let rocks = RocksBackend::open(&dir.path().join("state"), settings()).unwrap();
    let mut owner = owner("op", DataType::I64, Some(ttl(true, false)));
    let backends: [&dyn StateBackend; 4] = [&HeapBackend, &rocks, &HeapBackend, &rocks];
    let mut last: Option<(RestoreFrom, Vec<String>)> = None;
    for backend in backends {
        let mut state = backend.keyed(&owner).unwrap();
        at(state.as_mut(), 1_000);
        if let Some((from, expected)) = last {
            state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
            assert_eq!(of_groups(state.as_mut(), ALL), expected);
        } else {
            fill(state.as_mut(), ALL, 0..300);
            at(state.as_mut(), 1_019);
            fill(state.as_mut(), ALL, 100..200);
            at(state.as_mut(), 1_021);
        }
        let expected = of_groups(state.as_mut(), ALL);
        let made = snapshot(state.as_mut(), SnapshotForm::Canonical);
        last = Some((complete(&blobs, vec![(ALL, made)]), expected));
    }
    // A new version of the job: a field more, and no time to live.
    let (from, _) = last.unwrap();
    owner.states.iter_mut().for_each(|s| s.ttl = None);
    owner.states[0].schema = Schema::new(vec![
        Field::new("more", DataType::I64).nullable(),
        Field::new("n", DataType::I64),
    ]);
    let mut state = rocks.keyed(&owner).unwrap();
    state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
    let slots = touch(state.as_mut(), keys(&DataType::I64, &[150]));
    let read = &state.read(&slots).unwrap()[0];
    assert!(read.present.is_none() && read.columns[0].is_null(0));
    // And its files, read by the version before, with what was added.
    let made = snapshot(state.as_mut(), SnapshotForm::Native);
    let from = complete(&blobs, vec![(ALL, made)]);
    owner.states[1].ttl = Some(ttl(false, false));
    let mut again = rocks.keyed(&owner).unwrap();
    at(again.as_mut(), 5_000);
    again.restore(&from.operator("op", (0, 1), ALL)).unwrap();
    let slots = touch(again.as_mut(), keys(&DataType::I64, &[150]));
    assert_eq!(shown(&again.values(LAZY, &slots).unwrap()).len(), 1);
    assert_ne!(shown(&again.values(LAZY, &slots).unwrap()), ["-"]);
    at(again.as_mut(), 5_020);
    assert_eq!(shown(&again.values(LAZY, &slots).unwrap()), ["-"]);
}
