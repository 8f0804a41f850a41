//! A job: where streams begin, and what they end in.

use std::rc::Rc;

use crate::bindings::exports::pelton::job::graph::Body;
use crate::connectors::Connector;
use crate::draft::{Draft, End, Shared};
use crate::record::Record;
use crate::stream::{Stream, every};
use crate::time::Duration;

/// The dataflow under construction; handed to the function under `#[pelton::job]`.
pub struct Job {
    pub(crate) draft: Shared,
}

impl Job {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            draft: Rc::new(Draft::named(name).into()),
        }
    }

    /// Names the job, which is otherwise called as its function. The command line can give another name.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.draft.borrow_mut().name = name.into();
        self
    }

    /// Tasks of each operator that has no parallelism of its own, whatever the command line and the settings say.
    pub fn parallelism(&mut self, parallelism: u32) -> &mut Self {
        self.draft.borrow_mut().parallelism = Some(parallelism);
        self
    }

    /// Key groups: the most tasks that an operator can ever have. State is found by them, so that this number must stay.
    pub fn max_parallelism(&mut self, max_parallelism: u32) -> &mut Self {
        self.draft.borrow_mut().max_parallelism = Some(max_parallelism);
        self
    }

    /// How often watermarks that follow from times are emitted, where their strategy does not say it, whatever the command
    /// line and the settings say. With zero there are none before the end of the input, as in Flink.
    pub fn watermark_interval(&mut self, interval: Duration) -> &mut Self {
        self.draft.borrow_mut().emit = Some(every(interval));
        self
    }

    /// A stream of rows from outside, read into records of `R`.
    pub fn source<R: Record>(&mut self, name: &str, connector: Connector) -> Stream<R> {
        let body = Body::Source(connector.into_wit(R::schema()));
        let operator = self.draft.borrow_mut().add(name, body, Some(R::schema()));
        Stream::of(Rc::clone(&self.draft), operator)
    }
}

/// A sink at the end of a stream.
pub struct Sink {
    pub(crate) draft: Shared,
    pub(crate) operator: u32,
}

impl Sink {
    pub(crate) fn add(draft: &Shared, ends: &[End], name: &str, body: Body) -> Self {
        let mut d = draft.borrow_mut();
        let operator = d.add(name, body, None);
        d.connect(ends, operator);
        Self {
            draft: Rc::clone(draft),
            operator,
        }
    }

    /// Overrides the job's parallelism.
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.draft
            .borrow_mut()
            .set_parallelism(self.operator, parallelism);
        self
    }

    /// A stable identity, in place of one made from the name.
    pub fn uid(self, uid: &str) -> Self {
        self.draft.borrow_mut().set_uid(self.operator, uid);
        self
    }
}
