//! Calls into functions, in this thread: the boundary by itself, and operators with functions in Wasm and natively.
//! Needs: wire_up for the job in Wasm, native for its counterpart. What is read is made beforehand.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use pelton_engine::build::fuse;
use pelton_engine::connector::Poll;
use pelton_engine::function::{Functions, Moment, Rows, SegmentSpec};
use pelton_engine::operator::{Context, NoFunctions, Operator, OperatorMetrics, Outbox};
use pelton_engine::operators::process::{ProcessOperator, StatePlace};
use pelton_engine::operators::timestamps::TimestampsOperator;
use pelton_engine::operators::transform::{Member, TransformOperator};
use pelton_engine::splits::Splits;
use pelton_engine::state::HeapBackend;
use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::graph::{Body, Operator as Spec};
use pelton_model::id::OperatorId;
use pelton_model::key::KeyGroupRange;
use pelton_model::limits::{BATCH_ROWS_MAX, Limits};
use pelton_model::schema::Schema;
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, Result};
use pelton_udf::NoLog;

use super::measure::{cpu_ns, in_turns, median};
use super::native::{Native, lower_batch};
use super::{Bench, Figure};
use crate::local::LocalJob;
use crate::settings::Settings;
use crate::wire_up::{Beginning, Surroundings, accept, open};

/// A job of a component, with its sources open.
pub(super) fn job(
    file: &Path,
    params: &[(String, String)],
    settings: &Settings,
) -> Result<LocalJob> {
    let around = Surroundings {
        output: Arc::new(Mutex::new(std::io::sink())),
        log: Arc::new(NoLog),
        stop: Arc::new(AtomicBool::new(false)),
    };
    open(
        &accept(file, params.to_vec(), settings, None)?,
        settings,
        &around,
        Beginning::Plain,
    )
}

/// One of the jobs of `bench-jobs`, as one task, and the rows that its source makes.
pub(super) struct Prepared {
    pub(super) job: LocalJob,
    params: Vec<(String, String)>,
    /// With event times, where the job has them by a field.
    pub(super) batches: Vec<Batch>,
    pub(super) rows: u64,
}

impl Prepared {
    pub(super) fn new(bench: &Bench<'_>, name: &str, events: u64) -> Result<Self> {
        let params = vec![
            ("job".to_owned(), name.to_owned()),
            ("events".to_owned(), events.to_string()),
        ];
        let settings = Settings {
            parallelism: 1,
            limits: Limits::default(),
            ..bench.settings.clone()
        };
        let job = job(&bench.component("bench-jobs"), &params, &settings)?;
        let mut batches = Vec::new();
        for source in job.sources.values() {
            let mut reader = source.reader(0, 1)?;
            while let Poll::Rows(batch) = reader.poll(Monotonic(0), BATCH_ROWS_MAX)? {
                batches.push(batch);
            }
        }
        let rows = batches.iter().map(|b| b.rows() as u64).sum();
        let mut prepared = Self {
            job,
            params,
            batches,
            rows,
        };
        prepared.assign_times()?;
        Ok(prepared)
    }

    /// Does what the operator for timestamps would do, and hands on what is left of the columns.
    fn assign_times(&mut self) -> Result<()> {
        for id in self.job.graph.ids() {
            let Body::Timestamps(spec) = &self.spec(id)?.body else {
                continue;
            };
            let output = self.job.needs.stream(id, 0);
            let output = output.ok_or_else(|| Error::bug("a stream without a schema"))?;
            let (splits, alignment) = (Splits::new(vec![String::new()]), Arc::default());
            let input = self.input(id)?;
            let mut operator =
                TimestampsOperator::new(spec, input, output, splits, &alignment, false)?;
            let mut timed = Vec::new();
            let metrics = OperatorMetrics::new();
            for batch in &self.batches {
                let mut out = Outbox::default();
                let mut cx = Context {
                    functions: &mut NoFunctions,
                    now: ProcessingTime(0),
                    monotonic: Monotonic(0),
                    watermark: Watermark::MIN,
                    out: &mut out,
                    limits: &self.job.limits,
                    metrics: &metrics,
                };
                operator.batch(0, batch.clone(), &mut cx)?;
                timed.extend(out.drain().into_iter().filter_map(|(_, e)| match e {
                    Element::Batch(batch) => Some(batch),
                    _ => None,
                }));
            }
            self.batches = timed;
        }
        Ok(())
    }

    /// The functions in Wasm, as a task gets them.
    pub(super) fn wasm(&self) -> Result<Box<dyn Functions>> {
        let task = self
            .job
            .plan
            .tasks
            .iter()
            .find(|spec| pelton_engine::build::needs_functions(&self.job.graph, spec));
        (self.job.functions)(task.ok_or_else(|| Error::bug("the job has no functions"))?)
    }

    pub(super) fn native(&self) -> Result<Native> {
        Native::open(&self.params, self.job.limits.output_bytes_per_call)
    }

    pub(super) fn spec(&self, id: OperatorId) -> Result<&Spec> {
        let found = self.job.graph.operator(id);
        found.ok_or_else(|| Error::bug("an operator is not there"))
    }

    pub(super) fn input(&self, id: OperatorId) -> Result<&Schema> {
        let found = self.job.needs.input(&self.job.graph, id, 0);
        found.ok_or_else(|| Error::bug("an input without a schema"))
    }

    /// The functions without state that run in one call.
    fn run(&self) -> Result<Vec<OperatorId>> {
        let ids: Vec<OperatorId> = self.job.graph.ids().collect();
        let runs = fuse(&self.job.graph, &ids).into_iter();
        let is_transform = |id: &OperatorId| {
            self.spec(*id)
                .is_ok_and(|op| matches!(op.body, Body::Transform(_)))
        };
        runs.filter(|run| run.first().is_some_and(is_transform))
            .max_by_key(Vec::len)
            .ok_or_else(|| Error::bug("the job has no function without state"))
    }

    pub(super) fn transform(&self) -> Result<TransformOperator> {
        let run = self.run()?;
        let mut members = Vec::new();
        for id in &run {
            let op = self.spec(*id)?;
            if let Body::Transform(spec) = &op.body {
                members.push(Member {
                    name: op.name.clone(),
                    spec: spec.clone(),
                    declared: op.outputs.iter().map(|o| o.schema.clone()).collect(),
                    metrics: OperatorMetrics::new(),
                });
            }
        }
        let ends = run.first().zip(run.last());
        let (first, last) = ends.ok_or_else(|| Error::bug("a run without functions"))?;
        let output = self.job.needs.stream(*last, 0);
        TransformOperator::new(
            members,
            self.input(*first)?,
            output.ok_or_else(|| Error::bug("a function without an output"))?,
        )
    }

    pub(super) fn process(&self) -> Result<ProcessOperator> {
        for id in self.job.graph.ids() {
            let op = self.spec(id)?;
            if let Body::Process(spec) = &op.body {
                let declared: Vec<Schema> = op.outputs.iter().map(|o| o.schema.clone()).collect();
                let inputs = [self.input(id)?.clone()];
                let place = StatePlace {
                    backend: &HeapBackend,
                    uid: &op.uid,
                    task: 0,
                    key_groups: KeyGroupRange::of_task(0, 1, 128),
                    max_parallelism: 128,
                };
                return ProcessOperator::new(spec, &op.name, &inputs, &declared, &place);
            }
        }
        Err(Error::bug("the job has no keyed function"))
    }
}

/// Runs all batches through an operator. Its output is materialised, and its rows are counted.
fn drive(
    operator: &mut dyn Operator,
    functions: &mut dyn Functions,
    input: &Prepared,
) -> Result<u64> {
    let (mut out, metrics, mut rows) = (Outbox::default(), OperatorMetrics::new(), 0);
    for batch in &input.batches {
        let mut cx = Context {
            functions: &mut *functions,
            now: ProcessingTime(0),
            monotonic: Monotonic(0),
            watermark: Watermark::MIN,
            out: &mut out,
            limits: &input.job.limits,
            metrics: &metrics,
        };
        operator.batch(0, batch.clone(), &mut cx)?;
        for (_, element) in out.drain() {
            if let Element::Batch(batch) = element {
                rows += batch.materialize()?.rows() as u64;
            }
        }
    }
    Ok(rows)
}

const NOW: Moment = Moment {
    watermark: Watermark::MIN,
    processing_time: ProcessingTime(0),
};

/// What it costs to cross the boundary: three numbers in, one out, limits on.
pub(super) fn boundary(bench: &mut Bench<'_>) -> Result<()> {
    let input = Prepared::new(bench, "boundary", BATCH_ROWS_MAX as u64)?;
    let run = input.run()?;
    let (id, op) = match run.first() {
        Some(id) => (*id, input.spec(*id)?),
        None => return Err(Error::bug("a run without functions")),
    };
    let Body::Transform(transform) = &op.body else {
        return Err(Error::bug("a run of other operators"));
    };
    let schema = input.input(id)?;
    let view = schema.restrict(&transform.view);
    let mut functions = input.wasm()?;
    let segment = functions.prepare(&SegmentSpec {
        functions: vec![transform.function],
        names: vec![op.name.clone()],
        input: view.clone(),
        outputs: op
            .outputs
            .iter()
            .map(|o| ((0, 0), o.schema.clone()))
            .collect(),
        ..SegmentSpec::default()
    })?;
    let first = input.batches.first();
    let first = first.ok_or_else(|| Error::bug("the source has no rows"))?;
    let columns = pelton_model::schema::Projection::new(schema, &view)?.apply(first.columns())?;
    let scale = if bench.quick { 10 } else { 1 };
    let sizes = [(1, 300_000), (1_024, 40_000), (BATCH_ROWS_MAX, 5_000)];
    let mut found = [const { Vec::new() }; 3];
    for _ in 0..bench.rounds {
        for ((rows, calls), found) in sizes.iter().zip(&mut found) {
            let columns: Vec<_> = columns.iter().map(|c| c.slice(0, *rows)).collect();
            let calls = calls / scale;
            let ns = cpu_ns(|| {
                for _ in 0..calls {
                    let rows = Rows {
                        rows: *rows,
                        columns: &columns,
                        times: None,
                        kinds: None,
                    };
                    functions.transform(segment, NOW, rows)?;
                }
                Ok(())
            })?;
            found.push(ns / f64::from(calls));
        }
    }
    let [one, thousand, full] = found.map(median);
    bench.add(Figure::bounded(
        "boundary, a call of one row",
        one / 1e3,
        "us a call",
        0.8,
    ));
    bench.add(Figure::bounded(
        "boundary, 1,024 rows",
        thousand / 1_024.0,
        "ns a row",
        4.5,
    ));
    let row = full / BATCH_ROWS_MAX as f64;
    bench.add(Figure::bounded(
        "boundary, 8,192 rows",
        row,
        "ns a row",
        3.5,
    ));
    Ok(())
}

/// A filter and a map over four fields, one of them text.
pub(super) fn filter_map(bench: &mut Bench<'_>) -> Result<()> {
    let input = Prepared::new(bench, "filter-map", bench.scaled(2_000_000))?;
    let (mut wasm, mut native) = (input.wasm()?, input.native()?);
    let (mut in_wasm, mut natively) = (input.transform()?, input.transform()?);
    let passed = (
        drive(&mut in_wasm, wasm.as_mut(), &input)?,
        drive(&mut natively, &mut native, &input)?,
    );
    same(passed)?;
    let mut copies = Vec::new();
    let (ours, theirs) = in_turns(
        bench.rounds,
        || cpu_ns(|| drive(&mut in_wasm, wasm.as_mut(), &input).map(drop)),
        || {
            // The native functions read copies of the columns; they are not charged with them.
            let copy = cpu_ns(|| copy(&input))?;
            copies.push(copy);
            let whole = cpu_ns(|| drive(&mut natively, &mut native, &input).map(drop))?;
            Ok((whole - copy).max(1.0))
        },
    )?;
    let rows = input.rows as f64;
    bench.add_pair("filter and map", ours / rows, theirs / rows, 4.0);
    Ok(())
}

fn copy(input: &Prepared) -> Result<()> {
    for batch in &input.batches {
        let rows = Rows {
            rows: batch.len(),
            columns: batch.columns(),
            times: None,
            kinds: None,
        };
        std::hint::black_box(lower_batch(&rows)?);
    }
    Ok(())
}

fn same((wasm, native): (u64, u64)) -> Result<()> {
    match wasm == native {
        true => Ok(()),
        false => Err(Error::bug(format!(
            "{wasm} rows in Wasm and {native} natively"
        ))),
    }
}

/// A running sum of each of a million keys, on heap state; the keys are there when the measurement begins.
pub(super) fn keyed_sum(bench: &mut Bench<'_>) -> Result<()> {
    // Fewer rows would not hold all keys.
    let input = Prepared::new(bench, "keyed-sum", bench.scaled(4_000_000).max(2_000_000))?;
    let (mut wasm, mut native) = (input.wasm()?, input.native()?);
    let (mut in_wasm, mut natively) = (input.process()?, input.process()?);
    let passed = (
        drive(&mut in_wasm, wasm.as_mut(), &input)?,
        drive(&mut natively, &mut native, &input)?,
    );
    same(passed)?;
    let (ours, theirs) = in_turns(
        bench.rounds,
        || cpu_ns(|| drive(&mut in_wasm, wasm.as_mut(), &input).map(drop)),
        || cpu_ns(|| drive(&mut natively, &mut native, &input).map(drop)),
    )?;
    let rows = input.rows as f64;
    bench.add_pair(
        "keyed sum, 1,000,000 keys",
        ours / rows,
        theirs / rows,
        30.0,
    );
    Ok(())
}
