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
}

impl Fixture {
    fn new() -> Self {
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
        Self {
            operator: TransformOperator::new(vec![member], &schema, &schema).unwrap(),
            watermark: Watermark::MIN,
        }
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
