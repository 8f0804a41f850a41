//! The user's own partitioner: a function says which task of the next operator gets a row.

use super::{Stream, add_step};
use crate::bindings::exports::pelton::job::graph::Partition;
use crate::error::Result;
use crate::function::transform::KeyStep;
use crate::function::{Effect, Open, Step, StepFunction};
use crate::key::Key;
use crate::record::{Record, RefOf};

/// The field that holds the task's number on the way to the next operator.
const FIELD: &str = "__partition";

impl<T: Record, V: Record> Stream<T, V> {
    /// Rows go to the task of the next operator that `task` names, modulo the number of its tasks.
    ///
    /// The number travels as a hidden field, so that a function or a sink must follow: a union takes only streams that are
    /// partitioned alike.
    pub fn partition_by(
        self,
        name: &str,
        task: impl Fn(RefOf<'_, V>) -> u32 + 'static,
    ) -> Stream<T, V> {
        let made = <u32 as Key>::schema(FIELD);
        let mut output = T::schema();
        output.extend(made.iter().cloned());
        let spec = StepFunction {
            view: V::schema(),
            output,
            effect: Effect::Make(made),
        };
        let make = move |_: &Open| Ok(Box::new(KeyStep::<V, u32, _>::new(task)) as Box<dyn Step>);
        let make: Box<dyn FnOnce(&Open) -> Result<Box<dyn Step>>> = Box::new(make);
        let operator = add_step(&self.draft, &self.ends, name, spec, make);
        Stream::of(self.draft, operator).partition(&Partition::Custom(FIELD.to_owned()))
    }
}
