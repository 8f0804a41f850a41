//! Every kind of function in Wasm and natively, in the operator that calls it.
//! Needs: calls for what is read, native for the counterpart. What is read is made beforehand, event times too.

use pelton_engine::function::Functions;
use pelton_engine::operator::{Context, Operator, OperatorMetrics, Outbox};
use pelton_engine::operators::window::WindowOperator;
use pelton_model::element::Element;
use pelton_model::graph::Body;
use pelton_model::schema::Schema;
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, Result};

use super::Bench;
use super::calls::Prepared;
use super::measure::{cpu_ns, in_turns};

/// A job, what it is, and how many nanoseconds a row it may cost more than natively.
const KINDS: [(&str, &str, f64); 6] = [
    ("kind-map", "map", 4.0),
    ("kind-flat-map", "flat map", 4.0),
    ("kind-timers", "a timer a row", 30.0),
    ("kind-list", "list state", 30.0),
    ("kind-map-state", "map state", 30.0),
    ("kind-aggregate", "window aggregate", 30.0),
];

/// How far event time is behind the rows.
const BEHIND_MS: i64 = 4_000;

pub(super) fn kinds(bench: &mut Bench<'_>) -> Result<()> {
    for (job, name, more) in KINDS {
        let input = Prepared::new(bench, job, bench.scaled(1_000_000))?;
        let (mut wasm, mut native) = (input.wasm()?, input.native()?);
        let (one, other) = (drive(&input, wasm.as_mut())?, drive(&input, &mut native)?);
        if one != other {
            let what = format!("'{name}' gives {one} rows in Wasm and {other} natively");
            return Err(Error::bug(what));
        }
        let (ours, theirs) = in_turns(
            bench.rounds,
            || cpu_ns(|| drive(&input, wasm.as_mut()).map(drop)),
            || cpu_ns(|| drive(&input, &mut native).map(drop)),
        )?;
        let rows = input.rows as f64;
        bench.add_pair(name, ours / rows, theirs / rows, more);
    }
    Ok(())
}

/// The operator with the job's function, new.
fn operator(input: &Prepared) -> Result<Box<dyn Operator>> {
    for id in input.job.graph.ids() {
        let op = input.spec(id)?;
        match &op.body {
            Body::Process(_) => return Ok(Box::new(input.process()?)),
            Body::Window(w) => {
                let declared: Vec<Schema> = op.outputs.iter().map(|o| o.schema.clone()).collect();
                let window = WindowOperator::new(w, &op.name, input.input(id)?, &declared)?;
                return Ok(Box::new(window));
            }
            _ => {}
        }
    }
    Ok(Box::new(input.transform()?))
}

/// Runs all batches through a new operator, with a watermark behind each and the last one at the end. Counts the rows
/// that come out.
fn drive(input: &Prepared, functions: &mut dyn Functions) -> Result<u64> {
    let mut operator = operator(input)?;
    let (mut out, metrics, mut rows) = (Outbox::default(), OperatorMetrics::new(), 0);
    let ends = input.batches.iter().map(|b| (Some(b), b.times()));
    let mut greatest = Watermark::MIN;
    for (batch, times) in ends.chain([(None, None)]) {
        let mut cx = Context {
            functions: &mut *functions,
            now: ProcessingTime(0),
            monotonic: Monotonic(0),
            watermark: greatest,
            out: &mut out,
            limits: &input.job.limits,
            metrics: &metrics,
        };
        match batch {
            Some(batch) => operator.batch(0, batch.clone(), &mut cx)?,
            None => cx.watermark = Watermark::MAX,
        }
        if let Some(last) = times.and_then(|t| t.iter().max()) {
            greatest = greatest.max(Watermark(last - BEHIND_MS));
            cx.watermark = greatest;
        }
        if batch.is_none() || times.is_some() {
            operator.watermark(&mut cx)?;
        }
        while operator.busy() {
            operator.wake(&mut cx)?;
        }
        for (_, element) in out.drain() {
            if let Element::Batch(batch) = element {
                rows += batch.materialize()?.rows() as u64;
            }
        }
    }
    Ok(rows)
}
