//! Snapshots of values alone, which are deltas as long as caches hold what changes: whatever happens between them, each has
//! what was there at its barrier.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use pelton_engine::snapshot::Made;
use pelton_engine::snapshot::memory::MemorySnapshot;
use pelton_model::ErrorCode;
use pelton_model::key::{KeyGroup, encode_key, hash_bytes};

use super::snapshots::{
    ALL, Begun, RestoreFrom, SnapshotForm, begin, complete, finish, go_on, settings, snapshot,
};
use super::*;

pub(super) const KEYS: i64 = 60;
pub(super) const NATIVE: SnapshotForm = SnapshotForm::Native;
pub(super) const SAVEPOINT: SnapshotForm = SnapshotForm::Canonical;

fn values_only(key: &DataType, ttl: Option<Ttl>) -> StateOwner {
    let mut owner = owner("op", key.clone(), ttl);
    owner.states.truncate(2);
    owner
}

/// What is known to be there: by state and key, value and stamp.
#[derive(Clone, Default)]
pub(super) struct Model {
    values: [BTreeMap<i64, (i64, i64)>; 2],
    pub(super) now: i64,
    ttl: Option<i64>,
}

impl Model {
    fn write(&mut self, step: &Step) {
        for (key, marks) in step.keys.iter().zip(&step.marks) {
            for (values, mark) in self.values.iter_mut().zip([marks.0, marks.1]) {
                match mark {
                    1 => drop(values.insert(*key, (key * 3 + step.wait, self.now))),
                    2 => drop(values.remove(key)),
                    _ => {}
                }
            }
        }
    }

    /// What reads of these keys show.
    pub(super) fn shown(&self, keys: &[i64]) -> [Vec<String>; 2] {
        let seen = |state: usize, key: &i64| {
            let found = self.values[state].get(key);
            found.filter(|(_, stamp)| self.ttl.is_none_or(|ttl| stamp + ttl > self.now))
        };
        let text_of = |state: usize, value: i64| match state {
            0 => shown(&ints(&[value])),
            _ => shown(&texts(&[text(value)])),
        };
        [0, 1].map(|state| {
            let one = |key| match seen(state, key) {
                Some((value, _)) => text_of(state, *value).remove(0),
                None => "-".to_owned(),
            };
            keys.iter().map(one).collect()
        })
    }
}

/// What reads of these keys show.
pub(super) fn read(state: &mut dyn KeyedState, key: &DataType, some: &[i64]) -> [Vec<String>; 2] {
    let slots = touch(state, keys(key, some));
    let eager = shown(&state.read(&slots).unwrap()[0]);
    [eager, shown(&state.values(LAZY, &slots).unwrap())]
}

#[derive(Clone, Debug)]
enum Op {
    Work(Step),
    Begin,
    BeginSavepoint,
    GoOn,
    /// The snapshot at hand, or another, becomes a complete checkpoint.
    Complete,
    /// It is handed out, and its checkpoint fails.
    Lose,
    Abort,
    Savepoint,
    /// The task begins again with the last checkpoint.
    Restart,
    /// So many tasks begin with it.
    Rescale(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => step().prop_map(Op::Work),
        2 => Just(Op::Begin),
        2 => Just(Op::BeginSavepoint),
        4 => Just(Op::GoOn),
        4 => Just(Op::Complete),
        1 => Just(Op::Lose),
        1 => Just(Op::Abort),
        1 => Just(Op::Savepoint),
        1 => Just(Op::Restart),
        1 => (1..4_u32).prop_map(Op::Rescale),
    ]
}

pub(super) struct Run {
    pub(super) dir: tempfile::TempDir,
    pub(super) backend: RocksBackend,
    pub(super) owner: StateOwner,
    pub(super) key: DataType,
    pub(super) state: Box<dyn KeyedState>,
    pub(super) model: Model,
    /// The snapshot at hand, what it is to have, and whether it has come to its end.
    pub(super) begun: Option<(Begun, Model, bool)>,
    pub(super) last: Option<(RestoreFrom, Model)>,
    /// What was handed out under names that no other file has.
    seen: HashMap<String, u64>,
    pub(super) checkpoints: u32,
    deltas: usize,
}

impl Run {
    pub(super) fn new(key: DataType, ttl: Option<Ttl>, values: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let backend = RocksBackend::with_values(&state, values, settings()).unwrap();
        let owner = values_only(&key, ttl);
        let mut state = backend.keyed(&owner).unwrap();
        let model = Model {
            now: 1_000,
            ttl: ttl.map(|t| t.ms as i64),
            ..Model::default()
        };
        at(state.as_mut(), model.now);
        Self {
            dir,
            backend,
            owner,
            key,
            state,
            model,
            begun: None,
            last: None,
            seen: HashMap::new(),
            checkpoints: 0,
            deltas: 0,
        }
    }

    pub(super) fn work(&mut self, step: &Step) {
        let state = self.state.as_mut();
        self.model.now += step.wait;
        at(state, self.model.now);
        let slots = touch(state, keys(&self.key, &step.keys));
        let found = [
            shown(&state.read(&slots).unwrap()[0]),
            shown(&state.values(LAZY, &slots).unwrap()),
        ];
        assert_eq!(found, self.model.shown(&step.keys), "{step:?}");
        state.write(&slots, &step.changes()[..2]).unwrap();
        self.model.write(step);
        let pinned = |slot: u32| step.pinned > 0 && slot.is_multiple_of(step.pinned);
        state.forget(&slots, &pinned);
        state.tidy(&pinned).unwrap();
    }

    pub(super) fn begin(&mut self, form: SnapshotForm) {
        let begun = begin(self.state.as_mut(), form);
        self.begun = Some((begun, self.model.clone(), false));
    }

    pub(super) fn go_on(&mut self) {
        if let Some((begun, _, done)) = &mut self.begun {
            *done = *done || self.state.go_on_snapshot(&mut begun.writer).unwrap();
        }
    }

    /// What was made, and what it is to have.
    fn made(&mut self, form: SnapshotForm) -> (MemorySnapshot, Model) {
        if self.begun.is_none() {
            self.begin(form);
        }
        let (mut begun, model, done) = self.begun.take().unwrap();
        if !done {
            go_on(self.state.as_mut(), &mut begun).unwrap();
        }
        begun.writer.finish();
        (begun.made, model)
    }

    pub(super) fn complete(&mut self, form: SnapshotForm) {
        let (made, model) = self.made(form);
        self.checkpoints += 1;
        let blobs = self.dir.path().join(format!("blobs-{}", self.checkpoints));
        fs::create_dir(&blobs).unwrap();
        let from = complete(&blobs, vec![(ALL, made)]);
        let native = from.metadata.tasks.iter().flat_map(|t| &t.native);
        for file in native.flat_map(|n| &n.files) {
            if file.name.contains('-') && !file.name.starts_with("MANIFEST") {
                let before = self.seen.insert(file.name.clone(), file.file.checksum);
                let same = before.is_none_or(|sum| sum == file.file.checksum);
                assert!(same, "{} is another file now", file.name);
            }
            self.deltas += usize::from(file.name.ends_with(".delta"));
        }
        self.last = Some((from, model));
        self.check(1);
    }

    /// Tasks with the last checkpoint have what there was.
    pub(super) fn check(&mut self, tasks: u32) {
        let Some((from, model)) = &self.last else {
            return;
        };
        let all: Vec<i64> = (0..KEYS).collect();
        let expected = model.shown(&all);
        // What is in files is for this backend alone.
        let native = from.metadata.tasks.iter().any(|t| !t.native.is_empty());
        let heap: Option<&dyn StateBackend> = (!native).then_some(&HeapBackend);
        let backends = heap.into_iter().chain([&self.backend as &dyn StateBackend]);
        for (backend, task) in backends.flat_map(|b| (0..tasks).map(move |task| (b, task))) {
            let key_groups = KeyGroupRange::of_task(task, tasks, 128);
            let owner = StateOwner {
                task,
                key_groups,
                ..self.owner.clone()
            };
            let mut state = backend.keyed(&owner).unwrap();
            at(state.as_mut(), model.now);
            let restored = from.operator("op", (task, tasks), key_groups);
            state.restore(&restored).unwrap();
            let found = read(state.as_mut(), &self.key, &all);
            let own = |key: &i64| {
                let mut bytes = Vec::new();
                let column = keys(&self.key, &[*key]);
                encode_key(&self.owner.key, &[column], 0, &mut bytes).unwrap();
                key_groups.contains(KeyGroup::of(hash_bytes(&bytes), 128))
            };
            for key in &all {
                for (found, expected) in found.iter().zip(&expected) {
                    let there = if own(key) {
                        &expected[*key as usize]
                    } else {
                        "-"
                    };
                    assert_eq!(found[*key as usize], there, "{key} in {task} of {tasks}");
                }
            }
        }
    }

    pub(super) fn restart(&mut self) {
        let Some((from, model)) = &self.last else {
            return;
        };
        let mut state = self.backend.keyed(&self.owner).unwrap();
        at(state.as_mut(), model.now);
        state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
        (self.state, self.model, self.begun) = (state, model.clone(), None);
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Work(step) => self.work(step),
            Op::Begin | Op::BeginSavepoint if self.begun.is_some() => self.go_on(),
            Op::Begin => self.begin(NATIVE),
            Op::BeginSavepoint => self.begin(SAVEPOINT),
            Op::GoOn => self.go_on(),
            Op::Complete => self.complete(NATIVE),
            Op::Lose => drop(self.made(NATIVE)),
            Op::Abort => {
                self.state.abort_snapshot();
                self.begun = None;
            }
            Op::Savepoint => self.complete(SAVEPOINT),
            Op::Restart => self.restart(),
            Op::Rescale(tasks) => self.check(*tasks),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_snapshot_has_what_there_was(
        ops in prop::collection::vec(op(), 10..40),
        by_text in any::<bool>(),
        values in prop::sample::select(vec![0_u64, 6_000, 1 << 20, 1 << 20]),
        ttl in prop::option::of(any::<bool>().prop_map(|event| ttl(false, event))),
    ) {
        let key = if by_text { DataType::String } else { DataType::I64 };
        let mut run = Run::new(key, ttl, values);
        ops.iter().for_each(|op| run.run(op));
        run.complete(NATIVE);
        run.check(3);
    }
}

/// Sets both values of these keys.
pub(super) fn set(keys: impl IntoIterator<Item = i64>, wait: i64) -> Step {
    let keys: Vec<i64> = keys.into_iter().collect();
    Step {
        marks: vec![(1, 1); keys.len()],
        keys,
        entries: Vec::new(),
        wait,
        pinned: 0,
        flush: false,
    }
}

pub(super) fn clear(keys: impl IntoIterator<Item = i64>) -> Step {
    let step = set(keys, 1);
    Step {
        marks: vec![(2, 2); step.keys.len()],
        ..step
    }
}

/// The names of a finished snapshot's files: tables, and deltas.
fn names(made: &Made) -> (Vec<String>, Vec<String>) {
    let files = made.native.iter().flat_map(|n| &n.files);
    let names: Vec<String> = files.map(|f| f.name.clone()).collect();
    let of = |end: &str| names.iter().filter(|n| n.ends_with(end)).cloned().collect();
    (of(".sst"), of(".delta"))
}

pub(super) fn take(run: &mut Run) -> (Vec<String>, Vec<String>) {
    let (_, made) = run.made(NATIVE).0.take().unwrap();
    names(&made)
}

pub(super) fn large() -> Run {
    Run::new(DataType::I64, None, 1 << 20)
}

#[test]
fn what_changes_little_is_little() {
    let mut run = large();
    run.work(&set(0..60, 1));
    let (tables, first) = take(&mut run);
    assert!(tables.is_empty() && first.len() == 1);
    run.work(&set(0..3, 2));
    let (tables, second) = take(&mut run);
    assert!(tables.is_empty());
    assert_eq!(second.len(), 2);
    assert_eq!(second[0], first[0], "it is uploaded once");
    // Nothing has changed.
    assert_eq!(take(&mut run).1, second);
    // What is as large as all replaces what was before.
    run.work(&set(0..60, 3));
    let third = take(&mut run).1;
    assert!(third.len() == 1 && !second.contains(&third[0]));
    // And what would make them twice as large.
    let mut lengths = Vec::new();
    for wait in 4..8 {
        run.work(&set(0..30, wait));
        lengths.push(take(&mut run).1.len());
    }
    assert_eq!(lengths, [2, 3, 1, 2]);
    // And so does a chain that is long.
    for wait in 5..30 {
        run.work(&set(0..1, wait));
        assert!(take(&mut run).1.len() <= 4);
    }
    run.complete(NATIVE);
}

#[test]
fn what_reaches_the_store_is_cut_and_deltas_begin_again() {
    let mut run = large();
    run.work(&set(0..60, 1));
    run.complete(NATIVE);
    // A restart fills the store.
    run.restart();
    run.work(&set(0..5, 2));
    let (tables, deltas) = take(&mut run);
    assert!(!tables.is_empty() && deltas.is_empty());
    run.work(&clear(3..9));
    let (again, deltas) = take(&mut run);
    assert_eq!((again, deltas.len()), (tables, 1));
    run.complete(NATIVE);
    // A savepoint empties the caches into a store that has something.
    run.complete(SAVEPOINT);
    run.work(&set(20..22, 3));
    let (tables, deltas) = take(&mut run);
    assert!(!tables.is_empty() && deltas.is_empty());
    run.work(&clear([20, 40]));
    run.complete(NATIVE);
    assert_eq!(take(&mut run).1.len(), 1);
}

#[test]
fn what_a_delta_has_and_is_gone_is_gone() {
    let mut run = large();
    run.work(&set(0..30, 1));
    run.complete(NATIVE);
    let slots = run.state.len();
    run.work(&clear(0..3));
    run.complete(NATIVE);
    run.work(&set(30..32, 2));
    assert_eq!(run.state.len(), slots - 1, "their slots go to other keys");
    // Gone, in a delta that is given up, and forgotten.
    run.work(&clear(5..8));
    run.begin(NATIVE);
    (0..4).for_each(|_| run.go_on());
    run.work(&set([6], 9));
    run.run(&Op::Abort);
    run.work(&set(50..52, 2));
    run.complete(NATIVE);
    assert_eq!(take(&mut run).1.len(), 1, "it has all");
    // One that has nothing to copy may be given up, too.
    run.begin(NATIVE);
    run.run(&Op::Abort);
    assert_eq!(take(&mut run).1.len(), 1);
    // What comes and goes between two snapshots is in none.
    let before = take(&mut run);
    run.work(&set(40..45, 1));
    run.work(&clear(40..45));
    assert_eq!(take(&mut run), before);
    run.complete(NATIVE);
}

#[test]
fn files_go_when_no_snapshot_needs_them() {
    let mut run = large();
    run.work(&set(0..60, 1));
    run.complete(NATIVE);
    run.restart();
    let (_, first) = run.made(NATIVE).0.take().unwrap();
    run.work(&set(0..2, 2));
    let (_, second) = run.made(NATIVE).0.take().unwrap();
    let paths = |made: &Made| -> Vec<PathBuf> {
        let files = made.native[0].files.iter();
        files.map(|f| f.path.clone()).collect()
    };
    let (first_paths, paths) = (paths(&first), paths(&second));
    assert_eq!(first_paths.len() + 1, paths.len());
    assert!(paths.starts_with(&first_paths));
    drop((first, second));
    assert!(paths.iter().all(|p| p.exists()), "the chain has them");
    run.complete(SAVEPOINT);
    assert!(paths.iter().all(|p| !p.exists()));
    let left = fs::read_dir(run.dir.path().join("state/snapshot")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn a_disk_that_fails_costs_one_snapshot() {
    let mut run = large();
    run.work(&set(0..60, 1));
    run.complete(NATIVE);
    run.work(&set(0..20, 2));
    let folder = run.dir.path().join("state/snapshot");
    let aside = run.dir.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "x").unwrap();
    let mut begun = begin(run.state.as_mut(), NATIVE);
    let error = go_on(run.state.as_mut(), &mut begun).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateFailed);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    run.work(&clear(30..40));
    run.complete(NATIVE);
}

#[test]
fn deltas_of_several_tasks_come_together_and_part() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::with_values(&dir.path().join("s"), 1 << 20, settings()).unwrap();
    let owner = values_only(&DataType::I64, Some(ttl(false, true)));
    let all: Vec<i64> = (0..KEYS).collect();
    let mut model = Model {
        now: 1_000,
        ttl: Some(20),
        ..Model::default()
    };
    let mut last: Option<RestoreFrom> = None;
    for (round, tasks) in [3, 2, 4, 1].into_iter().enumerate() {
        let before = model.clone();
        model.now += 1;
        let steps = [
            set((0..KEYS).filter(|k| k % 4 != round as i64), 0),
            clear((0..KEYS).filter(|k| k % 7 == round as i64)),
            set((0..KEYS).filter(|k| k % 11 == round as i64), 0),
        ];
        let mut snapshots = Vec::new();
        for task in 0..tasks {
            let groups = KeyGroupRange::of_task(task, tasks, 128);
            let own =
                |key: &i64| groups.contains(KeyGroup::of(pelton_model::key::hash_i64(*key), 128));
            let owner = StateOwner {
                task,
                key_groups: groups,
                ..owner.clone()
            };
            let mut state = backend.keyed(&owner).unwrap();
            at(state.as_mut(), before.now);
            if let Some(from) = &last {
                let restored = from.operator("op", (task, tasks), groups);
                state.restore(&restored).unwrap();
            }
            let own_keys: Vec<i64> = all.iter().copied().filter(own).collect();
            let found = read(state.as_mut(), &DataType::I64, &own_keys);
            assert_eq!(found, before.shown(&own_keys), "{round}: {task} of {tasks}");
            at(state.as_mut(), model.now);
            for step in &steps {
                let step = Step {
                    keys: step.keys.iter().copied().filter(own).collect(),
                    ..step.clone()
                };
                let slots = touch(state.as_mut(), keys(&DataType::I64, &step.keys));
                let step = Step {
                    marks: step.marks[..slots.len()].to_vec(),
                    ..step
                };
                state.write(&slots, &step.changes()[..2]).unwrap();
                drop(snapshot(state.as_mut(), NATIVE));
            }
            let (_, made) = snapshot(state.as_mut(), NATIVE).take().unwrap();
            assert!(!names(&made).1.is_empty());
            snapshots.push((groups, snapshot(state.as_mut(), NATIVE)));
        }
        steps.iter().for_each(|step| model.write(step));
        let blobs = dir.path().join(format!("blobs-{round}"));
        fs::create_dir(&blobs).unwrap();
        last = Some(complete(&blobs, snapshots));
    }
}

#[test]
fn a_snapshot_that_is_finished_is_finished() {
    let mut run = large();
    run.work(&set(0..60, 1));
    let begun = begin(run.state.as_mut(), NATIVE);
    drop(finish(run.state.as_mut(), begun));
    let mut after = begin(run.state.as_mut(), NATIVE);
    assert!(run.state.go_on_snapshot(&mut after.writer).unwrap());
    assert!(run.state.go_on_snapshot(&mut after.writer).unwrap());
}
