//! Windows that do not fit in the room that there is, against those of the heap.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use pelton_engine::operator::{Context, NoFunctions, Operator, OperatorMetrics, Outbox};
use pelton_engine::operators::process::StatePlace;
use pelton_engine::operators::window::operator_of_task;
use pelton_engine::snapshot::RestoreFrom;
use pelton_engine::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::graph::{WindowFunction, WindowSpec, WindowValue};
use pelton_model::limits::Limits;
use pelton_model::time::Monotonic;
use pelton_model::window::Assigner;

use super::*;

const KEYS: i64 = 40_000;

fn fields(names: &[&str]) -> Schema {
    let field = |n: &&str| Field::new(*n, DataType::I64);
    Schema::new(names.iter().map(field).collect())
}

struct Window(Box<dyn Operator>, i64);

impl Window {
    fn new(assigner: Assigner, backend: &dyn StateBackend) -> Self {
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
            uid: "w",
            task: 0,
            key_groups: KeyGroupRange { start: 0, end: 16 },
            max_parallelism: 16,
        };
        let (input, output) = (
            fields(&["k", "n"]),
            fields(&["k", "start", "count", "sum", "max"]),
        );
        let operator = operator_of_task(&spec, "window", &input, &[output], &place).unwrap();
        Self(operator, i64::MIN)
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

    fn rows(&mut self, rows: &[(i64, i64, i64)]) {
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
        let (snapshot, mut writer) = MemorySnapshot::new();
        writer.operator("w");
        self.0.snapshot(None, &mut writer).unwrap();
        while !self.0.go_on_snapshot(&mut writer).unwrap() {}
        writer.finish();
        let task = MemoryTask {
            index: 0,
            key_groups: (0, 16),
            operators: &["w"],
            snapshot,
        };
        checkpoint(16, &[task]).unwrap()
    }

    fn restored(mut self, from: &RestoreFrom, watermark: i64) -> Self {
        let restored = from.operator("w", (0, 1), KeyGroupRange { start: 0, end: 16 });
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
                        window = Window::new(assigner, *next).restored(&from, window.1);
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
