use arrow_array::Int64Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use pelton_model::id::FunctionId;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field};
use pelton_model::time::{Monotonic, ProcessingTime};

use super::*;
use crate::function::*;
use crate::operator::Outbox;
use crate::snapshot::RestoreFrom;
use crate::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
use pelton_model::key::KeyGroupRange;

/// Keeps rows and says what follows each: the row's own value.
struct Marks;

impl Functions for Marks {
    fn prepare(&mut self, _: &SegmentSpec) -> Result<Segment> {
        Ok(Segment(0))
    }
    fn transform(&mut self, _: Segment, _: Moment, rows: Rows<'_>) -> Result<Reply> {
        let values = rows.columns[0].as_primitive::<Int64Type>().values().clone();
        let output = OutputRows {
            step: 0,
            port: 0,
            rows: rows.rows,
            parents: None,
            columns: vec![],
            times: None,
            kinds: None,
            watermarks: Some(values),
        };
        Ok(Reply {
            consumed: rows.rows,
            outputs: vec![output],
            step_rows: vec![rows.rows as u32],
        })
    }
    fn process(
        &mut self,
        _: Segment,
        _: Moment,
        _: &KeyedRows<'_>,
        _: &mut Lent,
    ) -> Result<KeyedReply> {
        Err(Error::bug("no"))
    }
    fn on_timers(
        &mut self,
        _: Segment,
        _: Moment,
        _: &DueTimers<'_>,
        _: &mut Lent,
    ) -> Result<KeyedReply> {
        Err(Error::bug("no"))
    }
    fn accumulate(
        &mut self,
        _: Segment,
        _: Moment,
        _: Rows<'_>,
        _: &[u32],
        _: &Slots,
    ) -> Result<Slots> {
        Err(Error::bug("no"))
    }
    fn merge(&mut self, _: Segment, _: &Slots, _: &Slots) -> Result<Slots> {
        Err(Error::bug("no"))
    }
    fn results(
        &mut self,
        _: Segment,
        _: Moment,
        _: &Slots,
        _: &[i64],
        _: &[i64],
        _: &Slots,
    ) -> Result<Reply> {
        Err(Error::bug("no"))
    }
}

struct Fixture {
    operator: TransformOperator,
    watermark: Watermark,
    splits: Arc<Splits>,
}

impl Fixture {
    fn new() -> Self {
        Self::of(&[""])
    }

    fn of(splits: &[&str]) -> Self {
        let schema = Schema::new(vec![Field::new("mark", DataType::I64)]);
        let member = Member {
            name: "g".into(),
            spec: Transform {
                function: FunctionId(0),
                view: schema.clone(),
                produces: vec![],
                times: false,
                watermarks: true,
            },
            declared: vec![schema.clone()],
            metrics: OperatorMetrics::new(),
        };
        let splits = Splits::new(splits.iter().map(|s| (*s).to_owned()).collect());
        let operator = TransformOperator::new(vec![member], &schema, &schema).unwrap();
        Self {
            operator: operator.noted_in(Said::new(Arc::clone(&splits))),
            watermark: Watermark::MIN,
            splits,
        }
    }

    fn rows_of(&mut self, split: usize, marks: &[i64]) -> String {
        self.splits.enter(split);
        self.rows(marks).join(" ")
    }

    fn saved(&mut self, index: u32) -> MemoryTask<'static> {
        let (snapshot, mut writer) = MemorySnapshot::new();
        writer.operator("g");
        self.operator.snapshot(None, &mut writer).unwrap();
        writer.finish();
        MemoryTask {
            index,
            key_groups: (0, 0),
            operators: &["g"],
            snapshot,
        }
    }

    fn restored(mut self, from: &RestoreFrom, task: u32, parallelism: u32) -> Self {
        let range = KeyGroupRange::of_task(task, parallelism, 128);
        let from = from.operator("g", (task, parallelism), range);
        assert!(self.with(|op, cx| op.restore(&from, cx)).is_empty());
        self
    }

    fn with(
        &mut self,
        body: impl FnOnce(&mut TransformOperator, &mut Context<'_>) -> Result<()>,
    ) -> Vec<String> {
        let mut out = Outbox::default();
        let metrics = OperatorMetrics::new();
        let mut cx = Context {
            functions: &mut Marks,
            now: ProcessingTime(0),
            monotonic: Monotonic(0),
            watermark: self.watermark,
            out: &mut out,
            limits: &Limits::default(),
            metrics: &metrics,
        };
        body(&mut self.operator, &mut cx).unwrap();
        let show = |(_, e): (u32, Element)| match e {
            Element::Batch(b) => {
                let b = b.materialize().unwrap();
                let marks = b.columns()[0].as_primitive::<Int64Type>().values().iter();
                marks.map(i64::to_string).collect::<Vec<_>>().join(" ")
            }
            Element::Watermark(w) => format!("watermark {}", w.0),
            e => format!("{e:?}"),
        };
        out.drain().into_iter().map(show).collect()
    }

    fn rows(&mut self, marks: &[i64]) -> Vec<String> {
        let column = Arc::new(Int64Array::from(marks.to_vec()));
        let batch = Batch::new(vec![column], marks.len()).unwrap();
        self.with(|op, cx| op.batch(0, batch, cx))
    }
}

const NONE: i64 = NO_WATERMARK;
const IDLE: i64 = GOES_IDLE;

#[test]
fn a_watermark_stands_behind_its_row_whatever_the_batch() {
    let marks = [NONE, 5, NONE, 3, 5, 9, IDLE, IDLE, NONE, 8, 10];
    let mut whole = Fixture::new();
    let text = whole.rows(&marks).join(" ");
    let mut single = Fixture::new();
    let rows = marks.iter().flat_map(|m| single.rows(&[*m]));
    assert_eq!(text, rows.collect::<Vec<_>>().join(" "));
    let expected = format!(
        "{NONE} 5 watermark 5 {NONE} 3 5 9 watermark 9 {IDLE} Idle {IDLE} Active {NONE} 8 10 watermark 10"
    );
    assert_eq!(text, expected, "what does not rise is passed over");
}

#[test]
fn watermarks_from_above_are_not_passed_on_but_for_the_last() {
    let mut f = Fixture::new();
    f.rows(&[5, IDLE]);
    f.watermark = Watermark(100);
    let forward = |f: &mut Fixture| {
        let mut passed = None;
        let seen = f.with(|op, cx| op.watermark(cx).map(|w| passed = w));
        (passed, seen)
    };
    assert_eq!(forward(&mut f), (None, vec![]));
    f.watermark = Watermark::MAX;
    assert_eq!(
        forward(&mut f),
        (Some(Watermark::MAX), vec!["Active".to_owned()])
    );
}

#[test]
fn a_generator_goes_on_from_its_last_watermark_and_idleness() {
    let of = |fixtures: &mut [Fixture]| {
        let tasks = fixtures.iter_mut().zip(0..).map(|(f, task)| f.saved(task));
        checkpoint(128, &tasks.collect::<Vec<_>>()).unwrap()
    };
    let restored = |from: &RestoreFrom, task: u32, parallelism: u32| {
        let mut f = Fixture::new().restored(from, task, parallelism);
        let due = f.operator.next_wake().is_some();
        let emitted = f.with(|op, cx| op.wake(cx));
        assert_eq!(due, !emitted.is_empty());
        assert!(f.operator.next_wake().is_none());
        (f, emitted)
    };
    let (mut idle, mut busy) = (Fixture::new(), Fixture::new());
    idle.rows(&[5, IDLE]);
    busy.rows(&[9]);
    let from = of(&mut [idle, busy]);
    let (mut f, emitted) = restored(&from, 0, 2);
    assert_eq!(emitted, ["Idle"]);
    assert_eq!(f.rows(&[3]), ["Active", "3"], "it does not go back");
    let (mut f, emitted) = restored(&from, 1, 2);
    assert!(emitted.is_empty());
    assert_eq!(f.rows(&[8]), ["8"]);
    assert_eq!(f.rows(&[10]), ["10", "watermark 10"]);
    let (mut f, emitted) = restored(&from, 0, 1);
    assert!(emitted.is_empty(), "one of them was not idle");
    assert_eq!(f.rows(&[5, 6]).join(" "), "5 6 watermark 6");
}

#[test]
fn the_least_of_the_splits_counts_unless_it_is_idle_or_has_ended() {
    let mut f = Fixture::of(&["a", "b"]);
    assert_eq!(f.rows_of(0, &[10, 20]), "10 20", "the other has not begun");
    let between = format!("5 watermark 5 {NONE} 7 watermark 7");
    assert_eq!(f.rows_of(1, &[5, NONE, 7]), between);
    let goes_idle = format!("{IDLE} watermark 20");
    assert_eq!(f.rows_of(1, &[IDLE]), goes_idle);
    assert_eq!(f.rows_of(0, &[30]), "30 watermark 30");
    assert_eq!(f.rows_of(0, &[IDLE]), format!("{IDLE} Idle"));
    assert_eq!(
        f.rows_of(1, &[9]),
        "Active 9",
        "it holds again, and nothing goes back"
    );
    f.splits.end(1);
    assert_eq!(
        f.rows_of(1, &[40]),
        "40 watermark 40",
        "its last rows count"
    );
    assert_eq!(f.rows_of(0, &[50]), "50 watermark 50");
}

#[test]
fn each_split_has_a_generator_of_its_own() {
    let mut f = Fixture::of(&["a", "b"]);
    f.rows_of(0, &[1]);
    assert_eq!(f.operator.segments, [Some(Segment(0)), None]);
    f.rows_of(1, &[1]);
    assert_eq!(f.operator.segments, [Some(Segment(0)), Some(Segment(0))]);
}

#[test]
fn each_split_goes_on_from_its_last_watermark() {
    let mut before = Fixture::of(&["a", "b"]);
    before.rows_of(0, &[10]);
    before.rows_of(1, &[30]);
    let from = checkpoint(128, &[before.saved(0)]).unwrap();
    let mut same = Fixture::of(&["b", "a"]).restored(&from, 0, 1);
    assert_eq!(same.rows_of(1, &[20]), "20 watermark 20");
    assert_eq!(same.rows_of(1, &[40]), "40 watermark 30");
    let mut other = Fixture::of(&["b", "c"]).restored(&from, 0, 1);
    assert_eq!(
        other.rows_of(0, &[50]),
        "50",
        "one that was not there is behind all others"
    );
    assert_eq!(other.rows_of(1, &[11]), "11 watermark 11");
}
