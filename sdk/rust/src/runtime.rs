//! The guest's side of the contract: builds a job, opens its functions and runs them on batches.
//!
//! Natively, an [`Instance`] is the same thing behind plain functions, for tests and benchmarks: the same closures, the
//! same columns, no Wasm. What the host has checked is relied on here, too: text in a batch must be UTF-8 (debug builds
//! check it), while lengths are checked and offsets are not trusted.

use std::rc::Rc;

pub use crate::bindings::exports::pelton::job::function::{
    KeyedBatch, KeyedReply, Moment, Output, Reply, StateChange, TaskContext, TimerBatch,
    TimerChanges,
};
pub use crate::bindings::exports::pelton::job::graph::{
    Assigner, Body, JobGraph, Operator, Partition, State, StateKind, Times, Watermarks,
    WindowFunction, WindowValue,
};
#[cfg(not(target_family = "wasm"))]
pub use crate::bindings::pelton::job::state::{Entries, Lists, StateError};
pub use crate::bindings::pelton::job::types::{
    Batch, Column, DataType, Failure, Field, Param, Slots,
};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::function::segment::{Segment, plan_view};
use crate::function::{Function, Open};
#[cfg(not(target_family = "wasm"))]
pub use crate::host::state::{StateReads, lend_state};
use crate::job::Job;
use crate::params::Params;
use crate::value::Schema;
use crate::{metrics, place};

pub mod component;

/// Runs a job function and answers its graph. Errors: the job function's own, or a stream that cannot be.
pub fn describe(
    name: &str,
    job: impl FnOnce(&mut Job, &Params) -> Result<()>,
    params: &[Param],
) -> Result<JobGraph, Failure> {
    build(name, job, &Params::from_wit(params))
        .map(|(graph, _)| graph)
        .map_err(Error::into_failure)
}

fn build(
    name: &str,
    job: impl FnOnce(&mut Job, &Params) -> Result<()>,
    params: &Params,
) -> Result<(JobGraph, Draft)> {
    let mut drawn = Job::new(name);
    job(&mut drawn, params)?;
    let draft = drawn.draft.take();
    match draft.failure {
        Some(message) => Err(Error::new(message)),
        None => Ok((draft.graph(params.asked()), draft)),
    }
}

enum Prepared {
    Steps(Segment),
    /// A function of another kind, and where its view's columns are.
    One(usize, Vec<u32>),
}

/// A job's functions, opened for one task.
pub struct Instance {
    graph: JobGraph,
    functions: Vec<Function>,
    segments: Vec<Prepared>,
    budget: usize,
}

impl Instance {
    /// Runs the job function and opens its functions. Errors: those of either.
    pub fn open(
        name: &str,
        job: impl FnOnce(&mut Job, &Params) -> Result<()>,
        context: &TaskContext,
    ) -> Result<Self, Failure> {
        Self::try_open(name, job, context).map_err(Error::into_failure)
    }

    fn try_open(
        name: &str,
        job: impl FnOnce(&mut Job, &Params) -> Result<()>,
        context: &TaskContext,
    ) -> Result<Self> {
        let params = Params::from_wit(&context.params);
        let (graph, draft) = build(name, job, &params)?;
        let ports = draft.ports;
        let functions = draft.functions.into_iter().map(|f| {
            let ports: Rc<[_]> = ports
                .get(f.operator as usize)
                .map_or(Rc::from([]), |p| Rc::from(p.as_slice()));
            (f.make)(&Open::new(params.clone(), context, ports))
        });
        let functions = functions.collect::<Result<_>>()?;
        let budget = usize::try_from(context.output_budget).unwrap_or(usize::MAX);
        Ok(Self {
            graph,
            functions,
            segments: Vec::new(),
            budget,
        })
    }

    /// The job's graph.
    #[must_use]
    pub fn graph(&self) -> &JobGraph {
        &self.graph
    }

    /// Makes a segment of functions that run one after the other, over rows that come by an input of the first. Errors: functions that can't, a view that the input
    /// does not serve.
    pub fn prepare(
        &mut self,
        functions: &[u32],
        input: u32,
        rows: &Schema,
    ) -> Result<u32, Failure> {
        let prepared = self
            .plan(functions, input, rows)
            .map_err(Error::into_failure)?;
        self.segments.push(prepared);
        Ok((self.segments.len() - 1) as u32)
    }

    fn plan(&self, numbers: &[u32], number: u32, input: &Schema) -> Result<Prepared> {
        if let [one] = numbers {
            let function = *one as usize;
            let view = match self.functions.get(function) {
                Some(Function::Keyed { views, .. }) => {
                    Some(views.get(number as usize).ok_or_else(|| {
                        Error::new(format_args!("function {one} has no input {number}"))
                    })?)
                }
                Some(Function::Aggregate { view, .. }) => Some(view),
                _ => None,
            };
            if let Some(view) = view {
                return Ok(Prepared::One(function, plan_view(input, view)?));
            }
        }
        Segment::plan(&self.functions, numbers, input).map(Prepared::Steps)
    }

    fn segment(&self, number: u32) -> Result<&Prepared> {
        self.segments
            .get(number as usize)
            .ok_or_else(|| Error::new(format_args!("there is no segment {number}")))
    }

    /// Runs a segment of stateless functions over a batch.
    pub fn transform(&self, segment: u32, _at: Moment, rows: Batch) -> Result<Reply, Failure> {
        finish(match self.segment(segment) {
            Ok(Prepared::Steps(steps)) => steps.run(segment, &self.functions, rows, self.budget),
            Ok(Prepared::One(..)) => Err(Error::new("the segment's function has state")),
            Err(e) => Err(e),
        })
    }

    fn keyed(&self, segment: u32) -> Result<(&dyn crate::function::keyed::Keyed, &[u32])> {
        if let Prepared::One(number, plan) = self.segment(segment)?
            && let Some(Function::Keyed { function, .. }) = self.functions.get(*number)
        {
            return Ok((function.as_ref(), plan));
        }
        Err(Error::new("the segment's function has no keyed state"))
    }

    fn windowed(
        &self,
        segment: u32,
    ) -> Result<(&dyn crate::function::aggregate::Windowed, &[u32])> {
        if let Prepared::One(number, plan) = self.segment(segment)?
            && let Some(Function::Aggregate { function, .. }) = self.functions.get(*number)
        {
            return Ok((function.as_ref(), plan));
        }
        Err(Error::new("the segment's function is not an aggregate"))
    }

    /// Runs a keyed function over a batch.
    pub fn process(
        &self,
        segment: u32,
        at: Moment,
        rows: KeyedBatch,
    ) -> Result<KeyedReply, Failure> {
        finish(
            self.keyed(segment)
                .and_then(|(f, plan)| f.process(plan, at, rows, self.budget)),
        )
    }

    /// Runs a keyed function's timers.
    pub fn on_timers(
        &self,
        segment: u32,
        at: Moment,
        timers: TimerBatch,
    ) -> Result<KeyedReply, Failure> {
        finish(
            self.keyed(segment)
                .and_then(|(f, _)| f.on_timers(at, timers, self.budget)),
        )
    }

    /// Adds rows to accumulators.
    pub fn accumulate(
        &self,
        segment: u32,
        _at: Moment,
        rows: Batch,
        ordinals: &[u8],
        accumulators: Slots,
    ) -> Result<Slots, Failure> {
        finish(
            self.windowed(segment)
                .and_then(|(f, plan)| f.accumulate(plan, rows, ordinals, accumulators)),
        )
    }

    /// Makes one accumulator of two, row by row.
    pub fn merge(&self, segment: u32, into: Slots, other: Slots) -> Result<Slots, Failure> {
        finish(
            self.windowed(segment)
                .and_then(|(f, _)| f.merge(into, other)),
        )
    }

    /// The results of windows that fire.
    pub fn results(
        &self,
        segment: u32,
        _at: Moment,
        keys: Slots,
        starts: &[u8],
        ends: &[u8],
        accumulators: Slots,
    ) -> Result<Reply, Failure> {
        finish(
            self.windowed(segment)
                .and_then(|(f, _)| f.results(keys, starts, ends, accumulators)),
        )
    }
}

/// The end of a call: tells metrics.
fn finish<T>(result: Result<T>) -> Result<T, Failure> {
    place::leave();
    metrics::flush();
    result.map_err(Error::into_failure)
}
