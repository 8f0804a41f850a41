//! Inputs of each kind, and what a call may read and change in it.

use super::*;
use crate::function::{EntryChanges, StateReader};
use crate::state::HeapBackend;
use std::any::Any;

type Process<'a> = dyn FnMut(&KeyedRows<'_>, &mut Lent) -> Result<KeyedReply> + Send + 'a;
type OnTimers<'a> = dyn FnMut(&DueTimers<'_>, &mut Lent) -> Result<KeyedReply> + Send + 'a;

/// A function by closures.
pub(super) struct Scripted<'a> {
    pub(super) process: Box<Process<'a>>,
    pub(super) timers: Box<OnTimers<'a>>,
    /// The input of each segment, and which segments were called.
    pub(super) segments: Vec<u32>,
    pub(super) called: Vec<u32>,
    /// Key fields that each segment agreed on.
    keys: Vec<usize>,
}

impl<'a> Scripted<'a> {
    pub(super) fn new(
        process: impl FnMut(&KeyedRows<'_>, &mut Lent) -> Result<KeyedReply> + Send + 'a,
    ) -> Self {
        Self {
            process: Box::new(process),
            timers: Box::new(|_, _| panic!("no timers")),
            segments: Vec::new(),
            called: Vec::new(),
            keys: Vec::new(),
        }
    }
}

impl Functions for Scripted<'_> {
    fn prepare(&mut self, spec: &SegmentSpec) -> Result<Segment> {
        self.segments.push(spec.number);
        self.keys.push(spec.key.len());
        Ok(Segment(self.segments.len() as u32 - 1))
    }
    fn process(
        &mut self,
        segment: Segment,
        _: Moment,
        rows: &KeyedRows<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        self.called.push(self.segments[segment.0 as usize]);
        assert_eq!(rows.keys.columns.len(), self.keys[segment.0 as usize]);
        (self.process)(rows, state)
    }
    fn on_timers(
        &mut self,
        segment: Segment,
        _: Moment,
        timers: &DueTimers<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        self.called.push(self.segments[segment.0 as usize]);
        (self.timers)(timers, state)
    }
    fn transform(&mut self, _: Segment, _: Moment, _: Rows<'_>) -> Result<Reply> {
        unreachable!()
    }
    fn accumulate(
        &mut self,
        _: Segment,
        _: Moment,
        _: Rows<'_>,
        _: &[u32],
        _: &Slots,
    ) -> Result<Slots> {
        unreachable!()
    }
    fn merge(&mut self, _: Segment, _: &Slots, _: &Slots) -> Result<Slots> {
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
    ) -> Result<Reply> {
        unreachable!()
    }
}

pub(super) fn done(rows: usize) -> KeyedReply {
    KeyedReply {
        consumed: rows,
        outputs: vec![],
        states: vec![],
        timers: vec![],
    }
}

fn field(name: &str) -> Field {
    Field::new(name, DataType::I64)
}

pub(super) fn state(name: &str, kind: StateKind) -> StateSpec {
    let mapped = matches!(kind, StateKind::Map | StateKind::Broadcast);
    StateSpec {
        name: name.into(),
        kind,
        map_key: mapped.then(|| Schema::new(vec![field("m")])),
        schema: Schema::new(vec![field("v")]),
        lazy: false,
        ttl: None,
        past: Default::default(),
    }
}

/// Inputs of (k, n), of which the function sees n.
pub(super) fn made(inputs: &[Way], states: &[StateSpec]) -> ProcessOperator {
    let input = |way: &Way| ProcessInput {
        view: Schema::new(vec![field("n")]),
        key: match way {
            Way::Keyed => vec!["k".into()],
            _ => vec![],
        },
        broadcast: *way == Way::Broadcast,
    };
    let spec = pelton_model::graph::Process {
        function: FunctionId(0),
        inputs: inputs.iter().map(input).collect(),
        states: states.to_vec(),
        timers: true,
    };
    let schema = Schema::new(vec![field("k"), field("n")]);
    let inputs = vec![schema; inputs.len()];
    let output = Schema::new(vec![field("n")]);
    ProcessOperator::new(&spec, "f", &inputs, &[output], &on_heap()).unwrap()
}

/// Runs `body` at a watermark and a time of the clock; what was emitted.
pub(super) fn with(
    functions: &mut Scripted<'_>,
    now: i64,
    watermark: i64,
    body: impl FnOnce(&mut Context<'_>) -> Result<()>,
) -> Result<Vec<Element>> {
    let mut out = Outbox::default();
    let limits = Limits::default();
    let mut cx = Context {
        functions,
        now: ProcessingTime(now),
        monotonic: Monotonic(0),
        watermark: Watermark(watermark),
        out: &mut out,
        limits: &limits,
        metrics: &OperatorMetrics::new(),
    };
    body(&mut cx)?;
    Ok(out.drain().into_iter().map(|(_, e)| e).collect())
}

/// Rows of (k, n) into an input.
pub(super) fn put(
    op: &mut ProcessOperator,
    functions: &mut Scripted<'_>,
    input: u32,
    rows: &[(i64, i64)],
) -> Result<Vec<Element>> {
    let columns = vec![
        ints(rows.iter().map(|r| r.0).collect()),
        ints(rows.iter().map(|r| r.1).collect()),
    ];
    let batch = Batch::new(columns, rows.len())?;
    with(functions, 0, i64::MIN, |cx| op.batch(input, batch, cx))
}

pub(super) fn reader(lent: &mut Lent) -> &mut dyn StateReader {
    lent.as_mut().unwrap().as_mut()
}

/// Puts one entry a row: into a list, or with map keys into a map.
pub(super) fn puts(
    state: u32,
    ordinals: &[u32],
    map_keys: Option<Vec<i64>>,
    v: Vec<i64>,
) -> StateChange {
    StateChange {
        state,
        marks: vec![],
        values: slots(v),
        entries: Some(EntryChanges {
            changes: vec![0; ordinals.len()],
            ordinals: ordinals.to_vec(),
            map_keys: map_keys.map(slots),
        }),
    }
}

fn numbers(elements: &[Element]) -> Vec<i64> {
    let rows = |e: &Element| match e {
        Element::Batch(b) => values(&b.columns()[0]),
        _ => panic!("only rows"),
    };
    elements.iter().flat_map(rows).collect()
}

fn made_rows(parents: Vec<u32>, n: Vec<i64>) -> OutputRows {
    OutputRows {
        rows: n.len(),
        columns: vec![ints(n)],
        ..output(parents, vec![], vec![])
    }
}

#[test]
fn two_inputs_share_the_state_of_a_key_and_each_has_its_segment() {
    let states = [state("seen", StateKind::List)];
    let mut op = made(&[Way::Keyed, Way::Keyed], &states);
    let mut f = Scripted::new(|call, lent| {
        assert_eq!(call.rows.columns.len(), 1);
        let keys: Vec<u32> = (0..call.keys.rows as u32).collect();
        let lists = reader(lent).lists(0, &keys, None)?;
        // The lengths as the call found them: what it adds itself it does not see.
        let n = call
            .ordinals
            .iter()
            .map(|o| i64::from(lists.lengths[*o as usize]));
        let rows = call.rows.rows;
        let mut reply = done(rows);
        reply.outputs = vec![made_rows((0..rows as u32).collect(), n.collect())];
        let v = values(&call.rows.columns[0]);
        reply.states = vec![puts(0, call.ordinals, None, v)];
        Ok(reply)
    });
    let first = put(&mut op, &mut f, 0, &[(1, 10), (2, 20), (1, 11)]).unwrap();
    assert_eq!(numbers(&first), [0, 0, 0]);
    let second = put(&mut op, &mut f, 1, &[(2, 21), (1, 12), (3, 30)]).unwrap();
    assert_eq!(numbers(&second), [1, 2, 0]);
    let third = put(&mut op, &mut f, 0, &[(1, 13), (3, 31)]).unwrap();
    assert_eq!(numbers(&third), [3, 1]);
    assert_eq!((f.segments, f.called), (vec![0, 1], vec![0, 1, 0]));
}

#[test]
fn broadcast_rows_write_broadcast_state_and_keyed_rows_read_it() {
    // Declared in another order than they are kept in.
    let states = [
        state("rules", StateKind::Broadcast),
        state("sum", StateKind::Value),
        state("last", StateKind::Map),
    ];
    let mut op = made(&[Way::Broadcast, Way::Keyed], &states);
    let mut f = Scripted::new(|call, lent| {
        let rows = call.rows.rows;
        let n = values(&call.rows.columns[0]);
        let mut reply = done(rows);
        if call.input == 0 {
            assert!(call.ordinals.is_empty() && call.keys.rows == 0);
            assert_eq!((call.states.len(), call.states[0].rows), (1, 0));
            assert!(reader(lent).map_values(2, &[0], &slots(vec![1])).is_err());
            reply.states = vec![
                puts(0, &vec![0; rows], Some(n.clone()), n),
                // Nothing of keyed state has changed: that is allowed to be said.
                StateChange {
                    state: 1,
                    marks: vec![],
                    values: slots(vec![]),
                    entries: None,
                },
            ];
            return Ok(reply);
        }
        let rules = reader(lent).scan(0, 0, None, 100)?;
        assert!(reader(lent).scan(0, 1, None, 100).is_err());
        let keys = call.keys.rows;
        reply.outputs = vec![made_rows(
            vec![0; rules.keys.rows],
            values(&rules.keys.columns[0]),
        )];
        reply.states = vec![
            StateChange {
                state: 1,
                marks: vec![1; keys],
                values: slots(vec![7; keys]),
                entries: None,
            },
            puts(2, call.ordinals, Some(n.clone()), n),
        ];
        Ok(reply)
    });
    assert!(numbers(&put(&mut op, &mut f, 1, &[(1, 1), (2, 2)]).unwrap()).is_empty());
    put(&mut op, &mut f, 0, &[(0, 5), (0, 3)]).unwrap();
    assert_eq!(
        numbers(&put(&mut op, &mut f, 1, &[(1, 4)]).unwrap()),
        [3, 5]
    );
    let stores = op.stores.as_mut().unwrap();
    assert_eq!(stores.keyed.len(), 2);
    stores.slots = vec![0];
    let last = stores.maps(2, &[0], 1000).unwrap();
    assert_eq!(values(&last.keys.columns[0]), [1, 4]);
}

#[test]
fn rows_without_a_key_have_state_of_the_operator_alone() {
    let states = [
        state("all", StateKind::OperatorList),
        state("more", StateKind::UnionList),
    ];
    let mut op = made(&[Way::Unkeyed], &states);
    let mut f = Scripted::new(|call, lent| {
        let rows = call.rows.rows;
        assert_eq!(call.ordinals, vec![0; rows]);
        assert_eq!((call.keys.rows, call.keys.columns.len()), (1, 0));
        let before = reader(lent).lists(1, &[0], None)?;
        let mut reply = done(rows);
        reply.outputs = vec![made_rows(
            vec![0; before.values.rows],
            values(&before.values.columns[0]),
        )];
        let n = values(&call.rows.columns[0]);
        reply.states = vec![puts(1, call.ordinals, None, n)];
        Ok(reply)
    });
    put(&mut op, &mut f, 0, &[(1, 1), (2, 2)]).unwrap();
    assert_eq!(
        numbers(&put(&mut op, &mut f, 0, &[(3, 3)]).unwrap()),
        [1, 2]
    );
    assert_eq!(op.stores.as_ref().unwrap().keyed.len(), 0);
}

#[test]
fn changes_that_an_input_may_not_make_are_refused() {
    let states = [
        state("sum", StateKind::Value),
        state("rules", StateKind::Broadcast),
        state("all", StateKind::OperatorList),
    ];
    let sum = StateChange {
        state: 0,
        marks: vec![1],
        values: slots(vec![1]),
        entries: None,
    };
    let rule = puts(1, &[0], Some(vec![1]), vec![1]);
    let all = puts(2, &[0], None, vec![1]);
    let nowhere = puts(3, &[0], None, vec![1]);
    let keyless = [Way::Unkeyed, Way::Broadcast];
    let timers = [false, true];
    for (way, change, allowed) in [
        (Way::Keyed, &sum, true),
        (Way::Keyed, &rule, false),
        (Way::Keyed, &all, true),
        (Way::Keyed, &nowhere, false),
        (Way::Unkeyed, &sum, false),
        (Way::Unkeyed, &rule, false),
        (Way::Unkeyed, &all, true),
        (Way::Broadcast, &sum, false),
        (Way::Broadcast, &rule, true),
        (Way::Broadcast, &all, false),
    ] {
        let mut op = made(&[way, Way::Keyed], &states);
        let mut f = Scripted::new(|call, _| {
            let mut reply = done(call.rows.rows);
            reply.states = vec![change.clone()];
            Ok(reply)
        });
        let answer = put(&mut op, &mut f, 0, &[(1, 1)]);
        assert_eq!(answer.is_ok(), allowed, "{way:?} {change:?}");
        if let Err(e) = answer {
            assert_eq!(e.code(), ErrorCode::BadReply);
        }
    }
    for way in keyless {
        for processing_time in timers {
            let mut op = made(&[way, Way::Keyed], &states);
            let mut f = Scripted::new(|call, _| {
                let mut reply = done(call.rows.rows);
                reply.timers = vec![TimerChange {
                    ordinal: 0,
                    time: 1,
                    delete: false,
                    processing_time,
                }];
                Ok(reply)
            });
            let error = put(&mut op, &mut f, 0, &[(1, 1)]).unwrap_err();
            assert_eq!(error.message(), "rows without a key set a timer");
        }
    }
}

/// What stands in place of the state that was lent.
struct Impostor;

impl StateReader for Impostor {
    fn values(&mut self, _: u32, _: &[u32]) -> Result<Slots> {
        unreachable!()
    }
    fn lists(&mut self, _: u32, _: &[u32], _: Option<&Slots>) -> Result<crate::function::Lists> {
        unreachable!()
    }
    fn map_values(&mut self, _: u32, _: &[u32], _: &Slots) -> Result<Slots> {
        unreachable!()
    }
    fn maps(&mut self, _: u32, _: &[u32], _: usize) -> Result<crate::function::Entries> {
        unreachable!()
    }
    fn scan(
        &mut self,
        _: u32,
        _: u32,
        _: Option<&Slots>,
        _: usize,
    ) -> Result<crate::function::Entries> {
        unreachable!()
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[test]
fn state_that_does_not_come_back_is_a_bug() {
    for keep in [false, true] {
        let mut op = made(&[Way::Keyed], &[state("sum", StateKind::Value)]);
        let mut f = Scripted::new(|call, lent| {
            *lent = keep.then(|| Box::new(Impostor) as Box<dyn StateReader>);
            Ok(done(call.rows.rows))
        });
        let error = put(&mut op, &mut f, 0, &[(1, 1)]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Bug);
    }
}

#[test]
fn row_kinds_follow_from_the_rows_or_are_the_functions_own() {
    let mut op = made(&[Way::Keyed], &[]);
    let mut own = None;
    let mut f = Scripted::new(|call, _| {
        let mut rows = made_rows(vec![1, 0], vec![5, 6]);
        rows.kinds = own.take();
        own = Some(vec![3, 3].into());
        let mut reply = done(call.rows.rows);
        reply.outputs = vec![rows];
        Ok(reply)
    });
    for want in [[2, 0], [3, 3]] {
        let batch = Batch::new(vec![ints(vec![1, 1]), ints(vec![8, 9])], 2).unwrap();
        let batch = batch.with_kinds(Some(vec![0, 2].into())).unwrap();
        let out = with(&mut f, 0, 0, |cx| op.batch(0, batch, cx)).unwrap();
        let Some(Element::Batch(b)) = out.first() else {
            panic!("rows")
        };
        assert_eq!(b.kinds().unwrap().to_vec(), want);
    }
}

#[test]
fn a_key_of_10_mb_is_a_key() {
    let spec = pelton_model::graph::Process {
        function: FunctionId(0),
        inputs: vec![ProcessInput {
            view: Schema::new(vec![]),
            key: vec!["k".into()],
            broadcast: false,
        }],
        states: vec![state("n", StateKind::Value)],
        timers: false,
    };
    let schema = Schema::new(vec![Field::new("k", DataType::String)]);
    let place = StatePlace {
        backend: &HeapBackend,
        ..on_heap()
    };
    let mut op = ProcessOperator::new(&spec, "f", &[schema], &[], &place).unwrap();
    let mut calls = Vec::new();
    let mut f = Scripted::new(|call, _| {
        calls.push(call.rows.rows);
        let mut reply = done(call.rows.rows);
        reply.states = vec![StateChange {
            state: 0,
            marks: vec![1; call.keys.rows],
            values: slots(vec![1; call.keys.rows]),
            entries: None,
        }];
        Ok(reply)
    });
    let long = "k".repeat(10 << 20);
    let keys = [long.clone(), format!("{long}!"), long];
    let column: ArrayRef = Arc::new(arrow_array::StringArray::from(keys.to_vec()));
    let batch = Batch::new(vec![column], 3).unwrap();
    with(&mut f, 0, 0, |cx| op.batch(0, batch, cx)).unwrap();
    drop(f);
    assert_eq!(calls, [1, 1, 1], "keys count among what a call is shipped");
    assert_eq!(op.stores.as_ref().unwrap().keyed.len(), 2);
}
