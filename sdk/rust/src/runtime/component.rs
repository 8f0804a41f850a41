//! The exports of a component: one job, one instance, for as long as the component lives.

use std::cell::RefCell;

use super::{Instance, describe};
use crate::bindings::exports::pelton::job::function::{
    self, KeyedBatch, KeyedReply, Moment, Reply, TaskContext, TimerBatch,
};
use crate::bindings::exports::pelton::job::graph;
use crate::bindings::exports::pelton::job::graph::JobGraph;
use crate::bindings::pelton::job::types::{Batch, Failure, Param, Schema, Slots};
use crate::error::Result;
use crate::params::Params;
use crate::place;

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

/// A job as `#[pelton::job]` makes it.
pub trait Job: 'static {
    /// Its name.
    const NAME: &'static str;
    /// The user's function.
    fn build(job: &mut crate::Job, params: &Params) -> Result<()>;
}

/// The component of a job.
pub struct Component<J>(std::marker::PhantomData<J>);

fn with<T>(f: impl FnOnce(&mut Instance) -> Result<T, Failure>) -> Result<T, Failure> {
    INSTANCE.with_borrow_mut(|instance| match instance {
        Some(instance) => f(instance),
        None => Err(Failure {
            message: "a function was called before open".into(),
            row: None,
        }),
    })
}

impl<J: Job> graph::Guest for Component<J> {
    fn describe(params: Vec<Param>) -> Result<JobGraph, Failure> {
        place::hook_panics();
        describe(J::NAME, J::build, &params)
    }
}

impl<J: Job> function::Guest for Component<J> {
    fn open(context: TaskContext) -> Result<u64, Failure> {
        place::hook_panics();
        let instance = Instance::open(J::NAME, J::build, &context)?;
        let digest = instance.graph().digest;
        INSTANCE.set(Some(instance));
        Ok(digest)
    }
    fn prepare(functions: Vec<u32>, input: u32, rows: Schema) -> Result<u32, Failure> {
        with(|i| i.prepare(&functions, input, &rows))
    }
    fn transform(segment: u32, at: Moment, rows: Batch) -> Result<Reply, Failure> {
        with(|i| i.transform(segment, at, rows))
    }
    fn process(segment: u32, at: Moment, rows: KeyedBatch) -> Result<KeyedReply, Failure> {
        with(|i| i.process(segment, at, rows))
    }
    fn on_timers(segment: u32, at: Moment, timers: TimerBatch) -> Result<KeyedReply, Failure> {
        with(|i| i.on_timers(segment, at, timers))
    }
    fn accumulate(
        segment: u32,
        at: Moment,
        rows: Batch,
        ordinals: Vec<u8>,
        accumulators: Slots,
    ) -> Result<Slots, Failure> {
        with(|i| i.accumulate(segment, at, rows, &ordinals, accumulators))
    }
    fn merge(segment: u32, into: Slots, other: Slots) -> Result<Slots, Failure> {
        with(|i| i.merge(segment, into, other))
    }
    fn results(
        segment: u32,
        at: Moment,
        keys: Slots,
        starts: Vec<u8>,
        ends: Vec<u8>,
        accumulators: Slots,
    ) -> Result<Reply, Failure> {
        with(|i| i.results(segment, at, keys, &starts, &ends, accumulators))
    }
}

/// Exports a job from the crate that this stands in; `#[pelton::job]` calls it.
#[macro_export]
#[doc(hidden)]
macro_rules! export_component {
    ($job:ident) => {
        type Exported = $crate::runtime::component::Component<$job>;
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
    };
}
