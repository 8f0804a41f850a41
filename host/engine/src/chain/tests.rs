use std::sync::Mutex;

use arrow_array::TimestampMillisecondArray;
use pelton_model::batch::Batch;
use pelton_model::graph::{Emit, Times, Timestamps, Watermarks};
use pelton_model::schema::{DataType, Field, Schema};

use super::*;
use crate::operator::NoFunctions;
use crate::operators::timestamps::TimestampsOperator;
use crate::splits::Splits;

/// Writes down what it sees.
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Operator for Recorder {
    fn batch(&mut self, input: u32, batch: Batch, _cx: &mut Context<'_>) -> Result<()> {
        self.note(format!(
            "input {input}: {:?}",
            batch.materialize()?.times().map(|t| t.to_vec())
        ));
        Ok(())
    }
    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        self.note(format!("watermark {}", cx.watermark.0));
        Ok(Some(cx.watermark))
    }
    fn idle(&mut self, idle: bool, _cx: &mut Context<'_>) -> Result<bool> {
        self.note(format!("idle {idle}"));
        Ok(true)
    }
    fn end(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        self.note("end".into());
        Ok(())
    }
}

struct Fixture {
    chain: Chain,
    seen: Arc<Mutex<Vec<String>>>,
    monotonic: Monotonic,
}

/// Two sources with timestamps (bound 10 ms, idle after 50 ms) into one recorder: united, or as its two inputs.
fn fixture(two_inputs: bool) -> Fixture {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let schema = Schema::new(vec![Field::new("t", DataType::Timestamp)]);
    let spec = Timestamps {
        times: Times::Field("t".into()),
        watermarks: Watermarks::Bounded(10),
        emit: Emit::Batch,
        idle_ms: Some(50),
        drift_ms: None,
    };
    let inner = |node, input, channel| {
        vec![vec![Target::Inner(Entry {
            node,
            input,
            channel,
        })]]
    };
    let node = |operator: Option<Box<dyn Operator>>, channels: Vec<usize>, targets| Node {
        name: "n".into(),
        uid: String::new(),
        operator,
        metrics: OperatorMetrics::new(),
        channels,
        targets,
    };
    let stamps = || {
        Some(Box::new(
            TimestampsOperator::new(
                &spec,
                &schema,
                &schema,
                Splits::new(vec![String::new()]),
                &Arc::default(),
                false,
            )
            .unwrap(),
        ) as Box<dyn Operator>)
    };
    let (second, channels) = if two_inputs {
        (inner(4, 1, 0), vec![1, 1])
    } else {
        (inner(4, 0, 1), vec![2])
    };
    let nodes = vec![
        node(None, vec![], inner(2, 0, 0)),
        node(None, vec![], inner(3, 0, 0)),
        node(stamps(), vec![1], inner(4, 0, 0)),
        node(stamps(), vec![1], second),
        node(
            Some(Box::new(Recorder(Arc::clone(&seen)))),
            channels,
            vec![],
        ),
    ];
    Fixture {
        chain: Chain::new(nodes, vec![]),
        seen,
        monotonic: Monotonic(0),
    }
}

impl Fixture {
    fn with(
        &mut self,
        body: impl FnOnce(&mut Chain, &mut Surroundings<'_>) -> Result<()>,
    ) -> Vec<String> {
        let limits = Limits::default();
        let mut around = Surroundings {
            functions: &mut NoFunctions,
            now: ProcessingTime(0),
            monotonic: self.monotonic,
            limits: &limits,
        };
        body(&mut self.chain, &mut around).unwrap();
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn rows(&mut self, source: usize, times: &[i64]) -> Vec<String> {
        let column = Arc::new(TimestampMillisecondArray::from(times.to_vec()));
        let batch = Batch::new(vec![column], times.len()).unwrap();
        self.with(|chain, around| chain.put_source(source, Element::Batch(batch), around))
    }

    fn end(&mut self, source: usize) -> Vec<String> {
        self.with(|chain, around| chain.put_source(source, Element::End, around))
    }
}

#[test]
fn a_watermark_follows_its_rows_and_is_the_least_of_all() {
    for two_inputs in [false, true] {
        let mut f = fixture(two_inputs);
        let second = if two_inputs { "input 1" } else { "input 0" };
        assert_eq!(f.rows(0, &[100, 90]), ["input 0: Some([100, 90])"]);
        assert_eq!(
            f.rows(1, &[50]),
            [format!("{second}: Some([50])"), "watermark 39".into()]
        );
        assert_eq!(
            f.rows(1, &[40]),
            [format!("{second}: Some([40])")],
            "it never goes back"
        );
        assert_eq!(f.end(1), ["watermark 89"]);
        assert_eq!(f.end(0), ["watermark 9223372036854775807", "end"]);
        assert!(f.chain.has_ended());
    }
}

#[test]
fn an_idle_source_holds_nobody_back() {
    for two_inputs in [false, true] {
        let mut f = fixture(two_inputs);
        f.rows(0, &[100]);
        f.rows(1, &[50]);
        f.monotonic = Monotonic(40_000_000);
        assert_eq!(f.rows(0, &[200]).len(), 1);
        f.monotonic = Monotonic(60_000_000);
        assert_eq!(
            f.with(|chain, around| chain.wake(true, around)),
            ["watermark 189"],
            "source 1 is idle, source 0 is not"
        );
        f.monotonic = Monotonic(120_000_000);
        assert_eq!(
            f.with(|chain, around| chain.wake(true, around)),
            ["idle true"]
        );
        let woken = f.rows(1, &[300]);
        assert_eq!(
            woken.first().map(String::as_str),
            Some("idle false"),
            "{woken:?}"
        );
    }
}

#[test]
fn a_null_timestamp_is_named() {
    let mut f = fixture(false);
    let column = Arc::new(TimestampMillisecondArray::from(vec![Some(1), None]));
    let batch = Batch::new(vec![column], 2).unwrap();
    let limits = Limits::default();
    let mut around = Surroundings {
        functions: &mut NoFunctions,
        now: ProcessingTime(0),
        monotonic: Monotonic(0),
        limits: &limits,
    };
    let e = f
        .chain
        .put_source(0, Element::Batch(batch), &mut around)
        .unwrap_err();
    assert_eq!(e.to_string(), "timestamp 't' is null, row 1, operator 'n'");
}

/// A row in 20,000 windows for each of ten keys: what fires at the end is handed out in parts, and the end waits for it.
#[test]
fn what_fires_at_once_is_handed_out_in_parts() {
    use crate::operators::window::WindowOperator;
    use arrow_array::Int64Array;
    use pelton_model::graph::{WindowFunction, WindowSpec, WindowValue};
    use pelton_model::window::Assigner;

    let seen = Arc::new(Mutex::new(Vec::new()));
    let schema = Schema::new(vec![Field::new("k", DataType::I64)]);
    let spec = WindowSpec {
        key: vec!["k".into()],
        assigner: Assigner::Sliding {
            size_ms: 20_000,
            slide_ms: 1,
            offset_ms: 0,
        },
        lateness_ms: 0,
        late_output: None,
        function: WindowFunction::Columns(vec![("k".into(), WindowValue::Key("k".into()))]),
    };
    let window = WindowOperator::new(&spec, "w", &schema, std::slice::from_ref(&schema)).unwrap();
    let node =
        |operator: Option<Box<dyn Operator>>, channels: Vec<usize>, below: Option<usize>| Node {
            name: "n".into(),
            uid: String::new(),
            operator,
            metrics: OperatorMetrics::new(),
            channels,
            targets: below
                .map(|node| {
                    let entry = Entry {
                        node,
                        input: 0,
                        channel: 0,
                    };
                    vec![vec![Target::Inner(entry)]]
                })
                .unwrap_or_default(),
        };
    let nodes = vec![
        node(None, vec![], Some(1)),
        node(Some(Box::new(window)), vec![1], Some(2)),
        node(Some(Box::new(Recorder(Arc::clone(&seen)))), vec![1], None),
    ];
    let mut f = Fixture {
        chain: Chain::new(nodes, vec![]),
        seen,
        monotonic: Monotonic(0),
    };
    let column = Arc::new(Int64Array::from_iter_values(0..10));
    let times = Some(vec![1_000_000; 10].into());
    let batch = Batch::new(vec![column], 10)
        .unwrap()
        .with_times(times)
        .unwrap();
    f.with(|chain, around| chain.put_source(0, Element::Batch(batch), around));
    let mut parts = vec![f.end(0)];
    while f.chain.is_busy() {
        assert!(!f.chain.has_ended());
        parts.push(f.with(|chain, around| chain.wake(false, around)));
    }
    assert!(f.chain.has_ended());
    assert!(parts.len() > 2, "in {} parts", parts.len());
    let lines: Vec<String> = parts.concat();
    let ends = ["watermark 9223372036854775807", "end"];
    assert_eq!(lines.get(lines.len() - 2..).unwrap(), ends);
    let rows: usize = lines.iter().map(|l| l.matches(", ").count() + 1).sum();
    assert_eq!(rows - ends.len(), 200_000);
}
