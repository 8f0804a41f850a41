//! Timers that do not fit in the room that there is, against those of the heap.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use pelton_engine::function::{
    DueTimers, Functions, KeyedReply, KeyedRows, Lent, Mark, Moment, OutputRows, Reply, Rows,
    Segment, SegmentSpec, TimerChange,
};
use pelton_engine::operator::{Context, Operator, OperatorMetrics, Outbox, Wakeup};
use pelton_engine::operators::process::{ProcessOperator, SPILLED_TIMERS, StatePlace};
use pelton_engine::snapshot::SnapshotWriter;
use pelton_engine::snapshot::memory::MemorySnapshot;
use pelton_model::ErrorCode;
use pelton_model::barrier::{Barrier, BarrierMode};
use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::graph::{Process, ProcessInput};
use pelton_model::id::{CheckpointId, FunctionId};
use pelton_model::limits::Limits;
use pelton_model::time::Monotonic;

use super::snapshots::{ALL, RestoreFrom, SnapshotForm, complete, settings};
use super::*;

fn schema(names: &[&str]) -> Schema {
    let field = |n: &&str| Field::new(*n, DataType::I64);
    Schema::new(names.iter().map(field).collect())
}

fn column(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn values(column: &ArrayRef) -> Vec<i64> {
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// What a row does to the timers of its key.
const SET: i64 = 0;
const DELETE: i64 = 1;
const PROCESSING: i64 = 2;

/// Rows set and delete timers; what fires is emitted, and some set the next. The state counts both under each key.
struct Alarms {
    /// Bytes that each key has besides.
    padding: usize,
}

impl Alarms {
    /// Fills what a key has besides.
    fn pad(&self, keys: usize) -> StateChange {
        let text = "x".repeat(self.padding);
        let rows = if self.padding > 0 { keys } else { 0 };
        let texts: StringArray = (0..rows).map(|_| Some(text.as_str())).collect();
        StateChange {
            state: 1,
            marks: vec![(rows > 0) as u8; keys],
            values: Slots {
                rows,
                present: None,
                columns: vec![Arc::new(texts)],
            },
            entries: None,
        }
    }

    /// The counts of keys, one higher for each ordinal; what each row sees, and the changed state.
    fn count(states: &[Slots], ordinals: &[u32]) -> (Vec<i64>, StateChange) {
        let state = &states[0];
        let there = |i: usize| state.present.as_ref().is_none_or(|p| p.value(i));
        let counts = values(&state.columns[0]).into_iter().enumerate();
        let mut counts: Vec<i64> = counts.map(|(i, n)| if there(i) { n } else { 0 }).collect();
        let mut seen = Vec::new();
        for ordinal in ordinals {
            counts[*ordinal as usize] += 1;
            seen.push(counts[*ordinal as usize]);
        }
        let change = StateChange {
            state: 0,
            marks: vec![Mark::Set as u8; counts.len()],
            values: Slots {
                rows: counts.len(),
                present: None,
                columns: vec![column(counts)],
            },
            entries: None,
        };
        (seen, change)
    }
}

impl Functions for Alarms {
    fn prepare(&mut self, _: &SegmentSpec) -> pelton_model::Result<Segment> {
        Ok(Segment(0))
    }
    fn process(
        &mut self,
        _: Segment,
        _: Moment,
        call: &KeyedRows<'_>,
        _: &mut Lent,
    ) -> pelton_model::Result<KeyedReply> {
        let [times, what] = [0, 1].map(|c: usize| values(&call.rows.columns[c]));
        let (_, change) = Self::count(call.states, call.ordinals);
        let rows = call.ordinals.iter().zip(times).zip(what);
        let timers = rows.map(|((ordinal, time), what)| TimerChange {
            ordinal: *ordinal,
            time,
            delete: what & DELETE > 0,
            processing_time: what & PROCESSING > 0,
        });
        Ok(KeyedReply {
            consumed: call.ordinals.len(),
            outputs: Vec::new(),
            states: vec![change, self.pad(call.keys.rows)],
            timers: timers.collect(),
        })
    }
    fn on_timers(
        &mut self,
        _: Segment,
        _: Moment,
        due: &DueTimers<'_>,
        _: &mut Lent,
    ) -> pelton_model::Result<KeyedReply> {
        assert!(due.times.is_sorted());
        let keys = values(&due.keys.columns[0]);
        let again = |time: i64| time % 3 == 0 && time < 1 << 40;
        // What it sets again may be before what is left.
        let first = due.times.iter().position(|time| again(*time));
        let consumed = first.map_or(due.times.len(), |first| first + 1);
        let ordinals = &due.ordinals[..consumed];
        let (seen, change) = Self::count(due.states, ordinals);
        let clock = i64::from(due.processing_time);
        let rows = ordinals.iter().zip(due.times);
        let timers = rows.filter(|(_, time)| again(**time));
        let timers = timers.map(|(ordinal, time)| TimerChange {
            ordinal: *ordinal,
            time: time + 7,
            delete: false,
            processing_time: due.processing_time,
        });
        Ok(KeyedReply {
            consumed,
            timers: timers.collect(),
            outputs: vec![OutputRows {
                step: 0,
                port: 0,
                rows: consumed,
                parents: Some((0..consumed as u32).collect()),
                columns: vec![
                    column(ordinals.iter().map(|o| keys[*o as usize]).collect()),
                    column(due.times[..consumed].to_vec()),
                    column(vec![clock; consumed]),
                    column(seen),
                ],
                times: None,
                kinds: None,
                watermarks: None,
            }],
            states: vec![change],
        })
    }
    fn transform(&mut self, _: Segment, _: Moment, _: Rows<'_>) -> pelton_model::Result<Reply> {
        unreachable!()
    }
    fn accumulate(
        &mut self,
        _: Segment,
        _: Moment,
        _: Rows<'_>,
        _: &[u32],
        _: &Slots,
    ) -> pelton_model::Result<Slots> {
        unreachable!()
    }
    fn merge(&mut self, _: Segment, _: &Slots, _: &Slots) -> pelton_model::Result<Slots> {
        unreachable!()
    }
    fn results(
        &mut self,
        _: Segment,
        _: Moment,
        _: &Slots,
        _: &[i64],
        _: &[i64],
        _: &Slots,
    ) -> pelton_model::Result<Reply> {
        unreachable!()
    }
}

/// By key and clock, what has fired: time, count.
type Fired = BTreeMap<(i64, i64), Vec<(i64, i64)>>;

struct Task {
    op: ProcessOperator,
    functions: Alarms,
    range: KeyGroupRange,
    watermark: i64,
    now: i64,
}

impl Task {
    fn new(backend: &dyn StateBackend, range: KeyGroupRange) -> Self {
        Self::declaring(backend, range, true)
    }

    fn declaring(backend: &dyn StateBackend, range: KeyGroupRange, timers: bool) -> Self {
        let spec = Process {
            function: FunctionId(0),
            inputs: vec![ProcessInput {
                view: schema(&["at", "what"]),
                key: vec!["k".into()],
                broadcast: false,
            }],
            states: vec![
                spec("count", StateKind::Value, None, int_schema()),
                spec("padding", StateKind::Value, None, text_schema()),
            ],
            timers,
        };
        let place = StatePlace {
            backend,
            uid: "op",
            task: 0,
            key_groups: range,
            max_parallelism: 128,
        };
        let input = schema(&["k", "at", "what"]);
        let output = schema(&["k", "at", "clock", "n"]);
        let op = ProcessOperator::new(&spec, "alarms", &[input], &[output], &place).unwrap();
        Self {
            op,
            functions: Alarms { padding: 0 },
            range,
            watermark: i64::MIN,
            now: 0,
        }
    }

    fn with<T>(
        &mut self,
        fired: &mut Fired,
        f: impl FnOnce(&mut ProcessOperator, &mut Context<'_>) -> T,
    ) -> T {
        let mut out = Outbox::default();
        let answer = f(
            &mut self.op,
            &mut Context {
                functions: &mut self.functions,
                now: ProcessingTime(self.now),
                monotonic: Monotonic(0),
                watermark: Watermark(self.watermark),
                out: &mut out,
                limits: &Limits::default(),
                metrics: &OperatorMetrics::new(),
            },
        );
        for (_, element) in out.drain() {
            let Element::Batch(batch) = element else {
                continue;
            };
            let batch = batch.materialize().unwrap();
            let [k, at, clock, n] = [0, 1, 2, 3].map(|c: usize| values(&batch.columns()[c]));
            for row in 0..batch.rows() {
                let of = fired.entry((k[row], clock[row])).or_default();
                of.push((at[row], n[row]));
            }
        }
        answer
    }

    /// Rows: key, time, what is done.
    fn rows(&mut self, rows: &[(i64, i64, i64)], fired: &mut Fired) {
        let of = |f: fn(&(i64, i64, i64)) -> i64| column(rows.iter().map(f).collect());
        let columns = vec![of(|r| r.0), of(|r| r.1), of(|r| r.2)];
        let batch = Batch::new(columns, rows.len()).unwrap();
        let times = rows.iter().map(|_| self.watermark.max(0)).collect();
        let batch = batch.with_times(Some(times)).unwrap();
        self.with(fired, |op, cx| op.batch(0, batch, cx)).unwrap();
    }

    fn watermark(&mut self, at: i64, fired: &mut Fired) {
        self.watermark = at;
        self.with(fired, |op, cx| op.watermark(cx).map(drop))
            .unwrap();
        while self.op.busy() {
            self.with(fired, |op, cx| op.wake(cx)).unwrap();
        }
    }

    /// The wall's time; it is woken as often as it asks.
    fn wall(&mut self, now: i64, fired: &mut Fired) {
        self.now = now;
        let due = |op: &ProcessOperator| match op.next_wake() {
            Some(Wakeup::Wall(at)) => at.0 <= now,
            _ => false,
        };
        for _ in 0..1_000_000 {
            if !due(&self.op) {
                return;
            }
            self.with(fired, |op, cx| op.wake(cx)).unwrap();
        }
        panic!("it is woken for ever");
    }

    fn begin(&mut self, form: SnapshotForm) -> (MemorySnapshot, SnapshotWriter) {
        let (snapshot, mut writer) = MemorySnapshot::new();
        writer.operator("op");
        let barrier = Barrier {
            checkpoint: CheckpointId(1),
            form,
            mode: BarrierMode::Aligned,
            last: false,
        };
        self.op.snapshot(Some(barrier), &mut writer).unwrap();
        (snapshot, writer)
    }

    fn finish(
        &mut self,
        (snapshot, mut writer): (MemorySnapshot, SnapshotWriter),
    ) -> (KeyGroupRange, MemorySnapshot) {
        while !self.op.go_on_snapshot(&mut writer).unwrap() {
            std::thread::yield_now();
        }
        writer.finish();
        (self.range, snapshot)
    }

    fn try_restored(
        mut self,
        from: &RestoreFrom,
        task: (u32, u32),
        (watermark, now): (i64, i64),
    ) -> pelton_model::Result<Self> {
        (self.watermark, self.now) = (watermark, now);
        let range = self.range;
        let restored = from.operator("op", task, range);
        self.with(&mut Fired::new(), |op, cx| op.restore(&restored, cx))?;
        Ok(self)
    }

    fn restored(self, from: &RestoreFrom, task: (u32, u32), at: (i64, i64)) -> Self {
        self.try_restored(from, task, at).unwrap()
    }
}

/// Entries of the sections of timers in memory, and of those that are not.
fn entries(from: &RestoreFrom) -> [u64; 2] {
    let sections = from.metadata.tasks.iter().flat_map(|t| &t.sections);
    let mut counts = [0; 2];
    for section in sections {
        match section.spec.name.as_str() {
            "timers" => counts[0] += section.entries,
            name if SPILLED_TIMERS.contains(&name) => counts[1] += section.entries,
            _ => {}
        }
    }
    counts
}

fn tight(dir: &Path, bytes: u64) -> RocksBackend {
    RocksBackend::with_values(dir, bytes, settings()).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<(i64, i64, i64)>),
    Watermark(i64),
    Wall(i64),
}

fn run(task: &mut Task, step: &Step, fired: &mut Fired) {
    match step {
        Step::Rows(rows) => task.rows(rows, fired),
        Step::Watermark(more) => task.watermark((task.watermark.max(0)) + more, fired),
        Step::Wall(more) => task.wall(task.now + more, fired),
    }
}

/// All timers fire, those of the wall too.
fn end(task: &mut Task, fired: &mut Fired) {
    task.wall(task.now + 5_000, fired);
    task.watermark(i64::MAX, fired);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let what = prop_oneof![4 => Just(SET), 1 => Just(DELETE), 3 => Just(PROCESSING), 1 => Just(PROCESSING | DELETE)];
    let time = prop_oneof![8 => 0i64..400, 1 => Just(i64::MAX)];
    let row = (0i64..90, time, what).prop_map(|(k, t, what)| match what & PROCESSING {
        0 => (k, t, what),
        _ => (k, t.min(400), what),
    });
    let step = prop_oneof![
        3 => prop::collection::vec(row, 1..120).prop_map(Step::Rows),
        1 => (0i64..60).prop_map(Step::Watermark),
        1 => (0i64..60).prop_map(Step::Wall),
    ];
    prop::collection::vec(step, 2..24)
}

/// From one backend to the next: a savepoint, or a checkpoint where both are the same kind.
fn moved(from: &mut Task, to: Vec<Task>, form: SnapshotForm, blobs: &Path) -> Vec<Task> {
    let begun = from.begin(form);
    let done = from.finish(begun);
    let from_all = complete(blobs, vec![done]);
    let at = (from.watermark, from.now);
    let count = to.len() as u32;
    let each = (0..count).zip(to);
    each.map(|(n, task)| task.restored(&from_all, (n, count), at))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn timers_beyond_memory_fire_as_those_of_the_heap(
        steps in steps(),
        bytes in 2_000u64..40_000,
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let backend = tight(&tmp.path().join("state"), bytes);
        let mut tasks = [Task::new(&HeapBackend, ALL), Task::new(&backend, ALL)];
        let mut fired = [Fired::new(), Fired::new()];
        for step in &steps {
            for (task, fired) in tasks.iter_mut().zip(&mut fired) {
                run(task, step, fired);
            }
            let [want, got] = &fired;
            prop_assert_eq!(want, got, "after {:?}", step);
        }
        for (task, fired) in tasks.iter_mut().zip(&mut fired) {
            end(task, fired);
        }
        let [want, got] = fired;
        prop_assert_eq!(want, got);
    }

    #[test]
    fn a_snapshot_has_the_timers_of_the_barrier(
        steps in steps(),
        bytes in 2_000u64..40_000,
        (barrier, during) in (0usize..16, 0usize..6),
        native in any::<bool>(),
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let blobs = tmp.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let backend = tight(&tmp.path().join("state"), bytes);
        let mut task = Task::new(&backend, ALL);
        let barrier = barrier.min(steps.len() - 1);
        let (before, after) = steps.split_at(barrier);
        before.iter().for_each(|step| run(&mut task, step, &mut Fired::new()));
        let at = (task.watermark, task.now);
        let form = if native { SnapshotForm::Native } else { SnapshotForm::Canonical };
        let mut begun = task.begin(form);
        let mut want = Fired::new();
        for (n, step) in after.iter().enumerate() {
            run(&mut task, step, &mut want);
            if n < during {
                task.op.go_on_snapshot(&mut begun.1).unwrap();
            }
        }
        end(&mut task, &mut want);
        let from = complete(&blobs, vec![task.finish(begun)]);
        let mut goes_on = vec![Task::new(&backend, ALL)];
        if !native {
            goes_on.push(Task::new(&HeapBackend, ALL));
        }
        for next in goes_on {
            let mut next = next.restored(&from, (0, 1), at);
            let mut got = Fired::new();
            after.iter().for_each(|step| run(&mut next, step, &mut got));
            end(&mut next, &mut got);
            prop_assert_eq!(&got, &want);
        }
    }
}

/// Timers of many keys: some at times of their own, many at one.
fn many(keys: i64) -> Vec<Vec<(i64, i64, i64)>> {
    let row = |k: i64| {
        let time = if k % 4 == 0 { 5_000 } else { k * 7_919 % 9_001 };
        (k, 100 + time, if k % 5 == 0 { PROCESSING } else { SET })
    };
    let rows: Vec<_> = (0..keys).map(row).collect();
    rows.chunks(8_192).map(<[_]>::to_vec).collect()
}

#[test]
fn timers_of_many_keys_go_from_one_backend_to_another_and_to_other_tasks() {
    const KEYS: i64 = 20_000;
    let tmp = tempfile::tempdir().unwrap();
    let blobs = tmp.path().join("blobs");
    std::fs::create_dir(&blobs).unwrap();
    let [a, b] = ["a", "b"].map(|n| tight(&tmp.path().join(n), 1 << 18));
    let fill = |backend: &dyn StateBackend| {
        let mut task = Task::new(backend, ALL);
        many(KEYS)
            .iter()
            .for_each(|rows| task.rows(rows, &mut Fired::new()));
        task
    };
    let finish = |tasks: Vec<Task>| {
        let mut fired = Fired::new();
        for mut task in tasks {
            task.watermark(2_000, &mut fired);
            end(&mut task, &mut fired);
            task.wall(20_000, &mut fired);
        }
        fired
    };
    let want = finish(vec![fill(&HeapBackend)]);
    assert_eq!(want.len(), KEYS as usize);
    assert!(finish(vec![fill(&a)]) == want);
    let halves = |backend: &dyn StateBackend| {
        let cut = [(0, 50), (50, 128)];
        cut.map(|(start, end)| Task::new(backend, KeyGroupRange { start, end }))
            .into()
    };
    let one = |backend: &dyn StateBackend| vec![Task::new(backend, ALL)];
    use SnapshotForm::{Canonical, Native};
    let ways: [(&dyn StateBackend, Vec<Task>, SnapshotForm); 7] = [
        (&a, one(&HeapBackend), Canonical),
        (&HeapBackend, one(&a), Canonical),
        (&a, one(&b), Canonical),
        (&a, one(&a), Native),
        (&a, halves(&b), Canonical),
        (&a, halves(&a), Native),
        (&HeapBackend, halves(&b), Canonical),
    ];
    for (n, (from, to, form)) in ways.into_iter().enumerate() {
        let tasks = moved(&mut fill(from), to, form, &blobs);
        assert!(finish(tasks) == want, "way {n}");
    }
}

#[test]
fn few_timers_are_in_memory_and_the_rest_is_not() {
    const KEYS: i64 = 60_000;
    let tmp = tempfile::tempdir().unwrap();
    let backend = tight(&tmp.path().join("state"), 1 << 20);
    let mut task = Task::new(&backend, ALL);
    for rows in many(KEYS) {
        task.rows(&rows, &mut Fired::new());
        assert!(backend.memory() < 24 << 20);
    }
    let begun = task.begin(SnapshotForm::Canonical);
    let from = complete(tmp.path(), vec![task.finish(begun)]);
    let [near, far] = entries(&from);
    assert_eq!(near + far, KEYS as u64);
    assert!(near < 4_096, "{near}");
}

#[test]
fn keys_with_timers_leave_memory_with_what_they_have() {
    const KEYS: i64 = 16_000;
    let tmp = tempfile::tempdir().unwrap();
    let backend = tight(&tmp.path().join("state"), 4 << 20);
    let mut task = Task::new(&backend, ALL);
    task.functions.padding = 2_000;
    let mut fired = Fired::new();
    for rows in many(KEYS).concat().chunks(500) {
        task.rows(rows, &mut fired);
        let bytes = backend.memory();
        assert!(bytes < 20 << 20, "{bytes}");
    }
    for at in (0..10_000).step_by(500) {
        task.watermark(at, &mut fired);
        task.wall(at, &mut fired);
        let bytes = backend.memory();
        assert!(bytes < 20 << 20, "{bytes}");
    }
    task.wall(20_000, &mut fired);
    assert_eq!(fired.len(), KEYS as usize);
}

#[test]
fn a_million_timers_of_one_key_fire_in_order() {
    let tmp = tempfile::tempdir().unwrap();
    let backend = tight(&tmp.path().join("state"), 4 << 20);
    let mut task = Task::new(&backend, ALL);
    let mut fired = Fired::new();
    // Times that do not end the calls.
    let time = |n: i64| n * 3 + 1;
    for start in (0..1_000_000).step_by(8_000) {
        let rows: Vec<_> = (start..start + 8_000).map(|n| (1, time(n), SET)).collect();
        task.rows(&rows, &mut fired);
    }
    let deleted: Vec<_> = (999_000..1_000_000).map(|n| (1, time(n), DELETE)).collect();
    task.rows(&deleted, &mut fired);
    task.watermark(i64::MAX, &mut fired);
    let times: Vec<i64> = fired[&(1, 0)].iter().map(|f| f.0).collect();
    let want: Vec<i64> = (0..999_000).map(time).collect();
    assert!(times == want);
}

#[test]
fn timers_in_files_that_nobody_reads_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let blobs = tmp.path().join("blobs");
    std::fs::create_dir(&blobs).unwrap();
    let backend = tight(&tmp.path().join("state"), 4_000);
    let refused = |task: Task, from: &RestoreFrom| {
        let error = task.try_restored(from, (0, 1), (0, 0)).err();
        let error = error.expect("it does not fit");
        assert_eq!(error.code(), ErrorCode::StateMismatch);
        error.to_string()
    };
    for what in [SET, PROCESSING] {
        let mut task = Task::new(&backend, ALL);
        let rows: Vec<_> = (0..500).map(|k| (k, 1_000 + k, what)).collect();
        task.rows(&rows, &mut Fired::new());
        for form in [SnapshotForm::Canonical, SnapshotForm::Native] {
            let begun = task.begin(form);
            let from = complete(&blobs, vec![task.finish(begun)]);
            let none = Task::declaring(&backend, ALL, false);
            assert!(refused(none, &from).contains("declares none"));
            if form == SnapshotForm::Native {
                assert!(refused(Task::new(&HeapBackend, ALL), &from).contains("in files of"));
            }
        }
    }
}
