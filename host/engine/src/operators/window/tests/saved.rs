//! Windows that go on from a snapshot: what comes out is what would have come without.

use super::spilled::Tight;
use super::*;
use crate::operators::process::StatePlace;
use crate::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
use crate::snapshot::{RestoreFrom, SnapshotWriter};
use crate::state::HeapBackend;
use pelton_model::encoding::encode;
use pelton_model::key::{KeyGroup, KeyGroupRange, hash_bytes};

const GROUPS: u32 = 16;

/// A window over rows of a key, a number that may be null, and a float.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) spec: WindowSpec,
    text_key: bool,
    output: Schema,
    /// Bytes that fit in memory, where not all do.
    room: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Rows(Vec<Row>),
    Watermark(i64),
}

pub(super) fn events(steps: &[Step], batch_rows: usize) -> Vec<Event> {
    let mut all = Vec::new();
    for (rows, watermark) in steps {
        all.extend(rows.chunks(batch_rows).map(|c| Event::Rows(c.to_vec())));
        all.push(Event::Watermark(*watermark));
    }
    all
}

pub(super) fn float_sums() -> WindowFunction {
    let f = || "f".to_owned();
    WindowFunction::Columns(vec![
        ("k".into(), WindowValue::Key("k".into())),
        ("start".into(), WindowValue::Start),
        ("sum".into(), WindowValue::Sum(f())),
        ("min".into(), WindowValue::Min(f())),
        ("avg".into(), WindowValue::Avg(f())),
    ])
}

impl Case {
    pub(super) fn new(
        assigner: Assigner,
        lateness_ms: i64,
        function: WindowFunction,
        text_key: bool,
    ) -> Self {
        let key = Field::new("k", Self::key_type(text_key));
        let mut fields = result_schema().fields;
        if function == float_sums() {
            let f = |n: &str| Field::new(n, DataType::F64);
            fields = vec![
                key.clone(),
                Field::new("start", DataType::Timestamp),
                f("sum"),
                f("min"),
                f("avg"),
            ];
        }
        fields[0] = key;
        Self {
            spec: spec(assigner, lateness_ms, function),
            text_key,
            output: Schema::new(fields),
            room: None,
        }
    }

    fn key_type(text: bool) -> DataType {
        if text {
            DataType::String
        } else {
            DataType::I64
        }
    }

    fn input(&self) -> Schema {
        Schema::new(vec![
            Field::new("k", Self::key_type(self.text_key)),
            Field::new("n", DataType::I64).nullable(),
            Field::new("f", DataType::F64),
        ])
    }

    fn key(&self, key: i64) -> ArrayRef {
        match self.text_key {
            true => Arc::new(StringArray::from(vec![format!("key {key}")])),
            false => Arc::new(Int64Array::from(vec![key])),
        }
    }

    fn group(&self, key: i64) -> KeyGroup {
        let mut bytes = Vec::new();
        let field = &self.input().fields[0];
        encode(field, self.key(key).as_ref(), 0, &mut bytes).unwrap();
        KeyGroup::of(hash_bytes(&bytes), GROUPS)
    }

    fn batch(&self, rows: &[Row]) -> Batch {
        let keys: ArrayRef = match self.text_key {
            true => Arc::new(StringArray::from_iter_values(
                rows.iter().map(|r| format!("key {}", r.0)),
            )),
            false => Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
        };
        let numbers: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>());
        // Sums of these depend on their order.
        let float =
            |r: &Row| Some((r.1.unwrap_or(7) as f64 + 0.1) * 1e3_f64.powi((r.2 % 5) as i32));
        let floats: ArrayRef = Arc::new(rows.iter().map(float).collect::<Float64Array>());
        let batch = Batch::new(vec![keys, numbers, floats], rows.len()).unwrap();
        batch
            .with_times(Some(rows.iter().map(|r| r.2).collect()))
            .unwrap()
    }

    pub(super) fn with_room(self, room: u64) -> Self {
        Self {
            room: Some(room),
            ..self
        }
    }

    pub(super) fn tasks(&self, parallelism: u32) -> Vec<Running> {
        let tight = self.room.map(Tight);
        let task = |index: u32| {
            let key_groups = KeyGroupRange::of_task(index, parallelism, GROUPS);
            let place = StatePlace {
                backend: match &tight {
                    Some(tight) => tight,
                    None => &HeapBackend,
                },
                uid: "w",
                task: index,
                key_groups,
                max_parallelism: GROUPS,
            };
            let declared = [self.output.clone(), self.input()];
            let input = self.input();
            Running {
                op: operator_of_task(&self.spec, "window", &input, &declared, &place).unwrap(),
                bench: Bench::new(8192),
                watermark: i64::MIN,
                index,
                parallelism,
                key_groups,
            }
        };
        (0..parallelism).map(task).collect()
    }

    /// Rows as bytes, with their port and time.
    fn read(&self, port: u32, b: &Batch) -> Vec<(u32, i64, Vec<u8>)> {
        let fields = match port {
            0 => self.output.fields.clone(),
            _ => self.input().fields,
        };
        let row = |r: usize| {
            let mut bytes = Vec::new();
            for (field, column) in fields.iter().zip(b.columns()) {
                encode(field, column.as_ref(), r, &mut bytes).unwrap();
            }
            (port, b.times().unwrap()[r], bytes)
        };
        (0..b.rows()).map(row).collect()
    }
}

pub(super) type Rows = Vec<(u32, i64, Vec<u8>)>;

/// A task of the window.
pub(super) struct Running {
    pub(super) op: Box<dyn Operator>,
    bench: Bench,
    watermark: i64,
    index: u32,
    parallelism: u32,
    key_groups: KeyGroupRange,
}

impl Running {
    pub(super) fn on(&mut self, case: &Case, event: &Event) -> Rows {
        let (op, before) = (&mut self.op, self.watermark);
        let out = match event {
            Event::Rows(rows) => {
                let mut mine = rows.clone();
                mine.retain(|r| self.key_groups.contains(case.group(r.0)));
                if mine.is_empty() {
                    return Vec::new();
                }
                let batch = case.batch(&mine);
                self.bench.call(before, |cx| op.batch(0, batch, cx))
            }
            Event::Watermark(at) => {
                self.watermark = *at;
                self.bench.call(*at, |cx| op.watermark(cx))
            }
        };
        let out = out.unwrap();
        out.iter().flat_map(|(p, b)| case.read(*p, b)).collect()
    }

    pub(super) fn begin(&mut self) -> (MemorySnapshot, SnapshotWriter) {
        let (snapshot, mut writer) = MemorySnapshot::new();
        writer.operator("w");
        self.op.snapshot(None, &mut writer).unwrap();
        (snapshot, writer)
    }

    fn restore(&mut self, from: &RestoreFrom, watermark: i64) {
        self.watermark = watermark;
        let restored = from.operator("w", (self.index, self.parallelism), self.key_groups);
        let op = &mut self.op;
        let out = self.bench.call(watermark, |cx| op.restore(&restored, cx));
        assert!(out.unwrap().is_empty());
    }
}

pub(super) fn all(case: &Case, tasks: &mut [Running], events: &[Event]) -> Rows {
    let mut rows = Vec::new();
    for event in events {
        for task in tasks.iter_mut() {
            rows.extend(task.on(case, event));
        }
    }
    rows
}

/// What comes out with a stop after `at` events, and a change of parallelism. The first tasks go on for a while with
/// what follows, as their snapshot is written.
fn stopped(case: &Case, events: &[Event], at: usize, parallelism: (u32, u32)) -> Rows {
    stopped_between((case, case), events, at, parallelism)
}

/// The same with another backend afterwards.
pub(super) fn stopped_between(
    (case, next): (&Case, &Case),
    events: &[Event],
    at: usize,
    (before, after): (u32, u32),
) -> Rows {
    let mut tasks = case.tasks(before);
    let (first, rest) = events.split_at(at);
    let mut rows = all(case, &mut tasks, first);
    let watermark = tasks[0].watermark;
    let mut begun: Vec<_> = tasks.iter_mut().map(Running::begin).collect();
    for (task, (snapshot, writer)) in tasks.iter_mut().zip(&mut begun) {
        snapshot.set_room(0);
        for event in rest.iter().take(4) {
            assert!(!task.op.go_on_snapshot(writer).unwrap() || snapshot.is_empty());
            task.on(case, event);
        }
        snapshot.set_room(usize::MAX / 2);
        while !task.op.go_on_snapshot(writer).unwrap() {}
    }
    let written: Vec<MemoryTask<'_>> = tasks
        .iter()
        .zip(begun)
        .map(|(task, (snapshot, writer))| {
            writer.finish();
            MemoryTask {
                index: task.index,
                key_groups: (task.key_groups.start, task.key_groups.end),
                operators: &["w"],
                snapshot,
            }
        })
        .collect();
    let from = checkpoint(GROUPS, &written).unwrap();
    let mut tasks = next.tasks(after);
    tasks
        .iter_mut()
        .for_each(|task| task.restore(&from, watermark));
    rows.extend(all(next, &mut tasks, rest));
    rows
}

pub(super) fn sorted(mut rows: Rows) -> Rows {
    rows.sort_unstable();
    rows
}

fn check(case: &Case, steps: &[Step], batch_rows: usize, cut: f64) {
    let events = events(steps, batch_rows);
    let at = (cut * events.len() as f64) as usize;
    let want = all(case, &mut case.tasks(1), &events);
    let same = stopped(case, &events, at, (1, 1));
    assert!(same == want, "in the same order, to the bit: {case:?}");
    if case.spec.function == float_sums() {
        // Sums of slices in another order may differ in their last bits.
        return;
    }
    for change in [(2, 3), (3, 1), (1, 2)] {
        let other = stopped(case, &events, at, change);
        assert!(sorted(other) == sorted(want.clone()), "{change:?} {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn windows_go_on_as_if_nothing_had_happened(
        assigner in prop_oneof![3 => assigners(), 2 => (1i64..40).prop_map(|gap_ms| Assigner::Session { gap_ms })],
        lateness in prop_oneof![Just(0i64), 1i64..50],
        steps in steps(),
        (cut, rows, text) in (0.0..1.0f64, prop_oneof![Just(1usize), Just(7), Just(64)], any::<bool>()),
    ) {
        for function in [native(), invertible(), float_sums(), users(true), users(false)] {
            if matches!(assigner, Assigner::Session { .. }) && function == users(false) {
                continue;
            }
            check(&Case::new(assigner, lateness, function, text), &steps, rows, cut);
        }
    }
}

/// What a window of another kind does with the snapshot of this one.
fn restored_by(case: &Case, other: &Case) -> Result<()> {
    let steps = vec![(vec![(1, Some(1), 0), (2, None, 3)], 1)];
    let mut tasks = case.tasks(1);
    all(case, &mut tasks, &events(&steps, 10));
    let (snapshot, mut writer) = tasks[0].begin();
    while !tasks[0].op.go_on_snapshot(&mut writer)? {}
    writer.finish();
    let task = MemoryTask {
        index: 0,
        key_groups: (0, GROUPS),
        operators: &["w"],
        snapshot,
    };
    let from = checkpoint(GROUPS, &[task])?;
    let mut task = other.tasks(1).remove(0);
    let restored = from.operator("w", (0, 1), task.key_groups);
    let op = &mut task.op;
    task.bench.call(1, |cx| op.restore(&restored, cx))?;
    Ok(())
}

#[test]
fn the_snapshot_of_another_window_is_refused() {
    let tumbling = |size_ms| Assigner::Tumbling {
        size_ms,
        offset_ms: 0,
    };
    let session = Assigner::Session { gap_ms: 10 };
    let case = Case::new(tumbling(10), 0, native(), false);
    assert!(restored_by(&case, &case).is_ok());
    for other in [
        Case::new(tumbling(20), 0, native(), false),
        Case::new(tumbling(10), 0, float_sums(), false),
        Case::new(tumbling(10), 0, native(), true),
    ] {
        let error = restored_by(&case, &other).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StateMismatch, "{error}");
    }
    let sessions = Case::new(session, 0, native(), false);
    assert!(restored_by(&sessions, &sessions).is_ok());
    let other = Case::new(session, 0, users(true), false);
    let error = restored_by(&sessions, &other).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateMismatch, "{error}");
}

#[test]
fn a_snapshot_that_was_given_up_leaves_nothing_behind() {
    let assigner = Assigner::Tumbling {
        size_ms: 10,
        offset_ms: 0,
    };
    let case = Case::new(assigner, 0, native(), false);
    let mut task = case.tasks(1).remove(0);
    task.on(&case, &Event::Rows(vec![(1, Some(1), 0), (2, Some(1), 0)]));
    let (snapshot, mut writer) = task.begin();
    snapshot.set_room(0);
    assert!(!task.op.go_on_snapshot(&mut writer).unwrap());
    task.op.abort_snapshot();
    assert!(task.op.go_on_snapshot(&mut writer).unwrap());
}
