//! Windows that do not fit in the room that there is, against those of the heap.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use pelton_engine::operator::{Context, NoFunctions, Operator, OperatorMetrics, Outbox};
use pelton_engine::operators::process::StatePlace;
use pelton_engine::operators::window::operator_of_task;
use pelton_engine::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
use pelton_model::barrier::{Barrier, BarrierMode};
use pelton_model::batch::Batch;
use pelton_model::checkpoint::TaskRecord;
use pelton_model::element::Element;
use pelton_model::graph::{WindowFunction, WindowSpec, WindowValue};
use pelton_model::id::CheckpointId;
use pelton_model::key::{KeyGroup, hash_bytes};
use pelton_model::limits::Limits;
use pelton_model::time::Monotonic;
use pelton_model::window::Assigner;

use super::snapshots::{ALL, RestoreFrom, SnapshotForm, complete};
use super::*;

const KEYS: i64 = 40_000;

fn fields(names: &[&str]) -> Schema {
    let field = |n: &&str| Field::new(*n, DataType::I64);
    Schema::new(names.iter().map(field).collect())
}

struct Window(Box<dyn Operator>, i64, KeyGroupRange);

impl Window {
    fn new(assigner: Assigner, backend: &dyn StateBackend) -> Self {
        Self::of_task(assigner, backend, (0, 1))
    }

    fn of_task(assigner: Assigner, backend: &dyn StateBackend, (task, tasks): (u32, u32)) -> Self {
        let key_groups = KeyGroupRange::of_task(task, tasks, ALL.end);
        let n = || "n".to_owned();
        let columns = vec![
            ("k".to_owned(), WindowValue::Key("k".into())),
            ("start".to_owned(), WindowValue::Start),
            ("count".to_owned(), WindowValue::Count),
            ("sum".to_owned(), WindowValue::Sum(n())),
            ("max".to_owned(), WindowValue::Max(n())),
        ];
        let spec = WindowSpec {
            key: vec!["k".into()],
            assigner,
            lateness_ms: 0,
            late_output: None,
            function: WindowFunction::Columns(columns),
        };
        let place = StatePlace {
            backend,
            uid: "op",
            task,
            key_groups,
            max_parallelism: ALL.end,
        };
        let (input, output) = (
            fields(&["k", "n"]),
            fields(&["k", "start", "count", "sum", "max"]),
        );
        let operator = operator_of_task(&spec, "window", &input, &[output], &place).unwrap();
        Self(operator, i64::MIN, key_groups)
    }

    fn call(
        &mut self,
        watermark: i64,
        f: impl FnOnce(&mut dyn Operator, &mut Context<'_>),
    ) -> Vec<Batch> {
        let mut out = Outbox::default();
        self.1 = watermark;
        f(
            self.0.as_mut(),
            &mut Context {
                functions: &mut NoFunctions,
                now: ProcessingTime(0),
                monotonic: Monotonic(0),
                watermark: Watermark(watermark),
                out: &mut out,
                limits: &Limits::default(),
                metrics: &OperatorMetrics::new(),
            },
        );
        let rows = |(_, element)| match element {
            Element::Batch(b) => Some(b.materialize().unwrap()),
            _ => None,
        };
        out.drain().into_iter().filter_map(rows).collect()
    }

    /// Of these rows those of the task's keys.
    fn rows(&mut self, rows: &[(i64, i64, i64)]) {
        let of_task = |row: &&(i64, i64, i64)| {
            let hash = hash_bytes(&(row.0 ^ i64::MIN).to_be_bytes());
            self.2.contains(KeyGroup::of(hash, ALL.end))
        };
        let rows: Vec<(i64, i64, i64)> = rows.iter().filter(of_task).copied().collect();
        let column = |f: fn(&(i64, i64, i64)) -> i64| {
            Arc::new(rows.iter().map(|r| Some(f(r))).collect::<Int64Array>()) as ArrayRef
        };
        let batch = Batch::new(vec![column(|r| r.0), column(|r| r.1)], rows.len()).unwrap();
        let times = rows.iter().map(|r| r.2).collect();
        let batch = batch.with_times(Some(times)).unwrap();
        let out = self.call(self.1, |op, cx| op.batch(0, batch, cx).unwrap());
        assert!(out.is_empty());
    }

    /// Results by start and key.
    fn watermark(&mut self, at: i64, seen: &mut BTreeMap<(i64, i64), [i64; 3]>) {
        let mut out = self.call(at, |op, cx| {
            op.watermark(cx).unwrap();
        });
        while self.0.busy() {
            out.extend(self.call(at, |op, cx| op.wake(cx).unwrap()));
        }
        for batch in out {
            let column = |i: usize| batch.columns()[i].as_primitive::<Int64Type>().clone();
            let [k, start, count, sum, max] = [0, 1, 2, 3, 4].map(column);
            for r in 0..batch.rows() {
                let value = [count.value(r), sum.value(r), max.value(r)];
                let before = seen.insert((start.value(r), k.value(r)), value);
                assert_eq!(before, None, "a window fires once for a key");
            }
        }
    }

    fn snapshot(&mut self) -> RestoreFrom {
        let (_, snapshot) = self.made(SnapshotForm::Canonical);
        let task = MemoryTask {
            index: 0,
            key_groups: (ALL.start, ALL.end),
            operators: &["op"],
            snapshot,
        };
        checkpoint(ALL.end, &[task]).unwrap()
    }

    /// A snapshot that is complete.
    fn made(&mut self, form: SnapshotForm) -> (KeyGroupRange, MemorySnapshot) {
        let (snapshot, mut writer) = MemorySnapshot::new();
        writer.operator("op");
        let barrier = Barrier {
            checkpoint: CheckpointId(1),
            form,
            mode: BarrierMode::Aligned,
            last: false,
        };
        self.0.snapshot(Some(barrier), &mut writer).unwrap();
        while !self.0.go_on_snapshot(&mut writer).unwrap() {
            std::thread::yield_now();
        }
        writer.finish();
        (self.2, snapshot)
    }

    fn restored(mut self, from: &RestoreFrom, task: (u32, u32), watermark: i64) -> Self {
        let restored = from.operator("op", task, self.2);
        self.call(watermark, |op, cx| op.restore(&restored, cx).unwrap());
        self
    }
}

/// Batches of rows of many keys around this second.
fn second(at: i64) -> Vec<Vec<(i64, i64, i64)>> {
    let row = |i: i64| {
        let key = (i * 7_919 + at * 31) % KEYS;
        (key, i % 1_000, at * 1_000 + i % 1_000)
    };
    let rows: Vec<_> = (0..KEYS * 3 / 2).map(row).collect();
    rows.chunks(8_192).map(<[_]>::to_vec).collect()
}

fn assigners() -> [Assigner; 3] {
    [
        Assigner::Tumbling {
            size_ms: 2_000,
            offset_ms: 0,
        },
        Assigner::Sliding {
            size_ms: 3_000,
            slide_ms: 1_000,
            offset_ms: 0,
        },
        Assigner::Session { gap_ms: 400 },
    ]
}

fn tight(dir: &std::path::Path) -> RocksBackend {
    RocksBackend::with_values(dir, 1 << 20, RocksSettings::default()).unwrap()
}

#[test]
fn windows_larger_than_their_room_are_those_of_the_heap() {
    for assigner in assigners() {
        let tmp = tempfile::tempdir().unwrap();
        let backend = tight(&tmp.path().join("state"));
        let (mut heap, mut rocks) = (
            Window::new(assigner, &HeapBackend),
            Window::new(assigner, &backend),
        );
        let (mut want, mut got) = (BTreeMap::new(), BTreeMap::new());
        for at in 0..5 {
            for rows in second(at) {
                heap.rows(&rows);
                rocks.rows(&rows);
            }
            if at == 3 {
                let from = rocks.snapshot();
                let sections = &from.metadata.tasks[0].sections;
                let entries = |name: &str| {
                    let of = sections.iter().find(|s| s.spec.name == name);
                    of.map_or(0, |s| s.entries)
                };
                let in_memory = entries("windows") + entries("sessions");
                assert!(entries("spilled") > 4 * in_memory, "{sections:?}");
            }
            let watermark = if at == 4 { i64::MAX } else { at * 1_000 };
            heap.watermark(watermark, &mut want);
            rocks.watermark(watermark, &mut got);
        }
        assert!(want.len() > 2 * KEYS as usize);
        assert!(want == got);
    }
}

#[test]
fn a_savepoint_of_windows_goes_from_one_backend_to_another() {
    for assigner in assigners() {
        let tmp = tempfile::tempdir().unwrap();
        let backends = [tight(&tmp.path().join("a")), tight(&tmp.path().join("b"))];
        let run = |stops: &[&dyn StateBackend]| {
            let mut seen = BTreeMap::new();
            let mut window = Window::new(assigner, stops[0]);
            for at in 0..4 {
                for (part, rows) in second(at).iter().enumerate() {
                    window.rows(rows);
                    if let (3, Some(next)) = (part, stops.get(at as usize + 1)) {
                        let from = window.snapshot();
                        window = Window::new(assigner, *next).restored(&from, (0, 1), window.1);
                    }
                }
                window.watermark(at * 1_000, &mut seen);
            }
            window.watermark(i64::MAX, &mut seen);
            seen
        };
        let want = run(&[&HeapBackend]);
        let [a, b] = &backends;
        assert!(run(&[a, &HeapBackend, b, a]) == want);
        assert!(run(&[a, b, &HeapBackend, &HeapBackend]) == want);
    }
}

#[test]
fn windows_on_disk_go_on_from_native_snapshots_in_other_tasks() {
    for assigner in assigners() {
        let tmp = tempfile::tempdir().unwrap();
        let blobs = tmp.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let (mut want, mut got) = (BTreeMap::new(), BTreeMap::new());
        let mut heap = Window::new(assigner, &HeapBackend);
        let mut last: Option<(RestoreFrom, i64)> = None;
        for (round, count) in (0..).zip([2, 3, 1, 1]) {
            let backend = tight(&tmp.path().join(round.to_string()));
            let begun = |task| {
                let window = Window::of_task(assigner, &backend, (task, count));
                match &last {
                    Some((from, watermark)) => window.restored(from, (task, count), *watermark),
                    None => window,
                }
            };
            let mut tasks: Vec<Window> = (0..count).map(begun).collect();
            for rows in second(round) {
                heap.rows(&rows);
                tasks.iter_mut().for_each(|task| task.rows(&rows));
            }
            let watermark = if round == 3 { i64::MAX } else { round * 1_000 };
            heap.watermark(watermark, &mut want);
            tasks
                .iter_mut()
                .for_each(|task| task.watermark(watermark, &mut got));
            let made: Vec<_> = tasks
                .iter_mut()
                .map(|task| task.made(SnapshotForm::Native))
                .collect();
            let from = complete(&blobs, made);
            let on_disk = |t: &TaskRecord| t.native.iter().any(|n| !n.files.is_empty());
            assert!(round == 3 || from.metadata.tasks.iter().all(on_disk));
            last = Some((from, watermark));
        }
        assert!(want.len() >= 2 * KEYS as usize);
        assert!(want == got);
    }
}
