//! Streams: what can be done with rows that have no key.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::exports::pelton::job::graph::{
    Body, Partition, Times, Timestamps, Watermarks,
};
use crate::connectors::Connector;
use crate::draft::{self, End, Shared};
use crate::error::Result;
use crate::function::transform::{
    Filled, FilterStep, FlatMapStep, MapBatchStep, MapIntoStep, MapStep, Slot, TimesStep,
    TryMapStep,
};
use crate::function::watermark::{Punctuated, WatermarkGenerator, WatermarkStep};
use crate::function::{Columns, Effect, Function, Open, Out, SideTag, Step, StepFunction};
use crate::job::Sink;
use crate::record::{Emit, Field, Nested, Record};
use crate::time::Timestamp;
use crate::value::{Schema, top_field, top_fields};

mod connect;
mod dedup;
mod interval;
mod keys;
mod partition;
mod rolling;
mod strategy;
mod table;
mod top_n;

pub use connect::{BroadcastProcess, BroadcastStreams, CoProcess, ConnectedStreams, Process};
pub use dedup::Keep;
pub use interval::{IntervalJoin, JoinCtx};
pub(crate) use keys::add_keyed;
pub use keys::{KeyedProcess, KeyedStream};
pub(crate) use strategy::every;
pub use strategy::{WatermarkStrategy, bounded, generated, monotonous};
pub use table::{Changes, KeyedTable, TableAggregate};
pub use top_n::{Order, asc, desc};

/// Rows of `T`. Functions on it read the fields of the view `V`, which are `T`'s own unless [`view`](Stream::view) names
/// others.
pub struct Stream<T: Record, V: Record = T> {
    pub(crate) draft: Shared,
    pub(crate) ends: Vec<End>,
    of: PhantomData<fn() -> (T, V)>,
}

impl<T: Record, V: Record> Clone for Stream<T, V> {
    fn clone(&self) -> Self {
        Self {
            draft: Rc::clone(&self.draft),
            ends: self.ends.clone(),
            of: PhantomData,
        }
    }
}

impl<T: Record, V: Record> Stream<T, V> {
    pub(crate) fn of(draft: Shared, operator: u32) -> Self {
        Self::at(draft, operator, 0)
    }

    fn at(draft: Shared, operator: u32, port: u32) -> Self {
        Self {
            draft,
            ends: vec![End {
                operator,
                port,
                partition: Partition::Forward,
            }],
            of: PhantomData,
        }
    }

    /// Adds a stateless function.
    fn step<U: Record, W: Record, S: Step + 'static>(
        self,
        name: &str,
        effect: Effect,
        make: impl FnOnce(&Open) -> Result<S> + 'static,
    ) -> Stream<U, W> {
        let operator = add_step(
            &self.draft,
            &self.ends,
            name,
            StepFunction {
                view: V::schema(),
                output: U::schema(),
                effect,
            },
            Box::new(move |open| Ok(Box::new(make(open)?) as Box<dyn Step>)),
        );
        Stream::of(self.draft, operator)
    }

    fn native<U: Record>(self, name: &str, body: Body) -> Stream<U> {
        let operator = add_operator(&self.draft, &self.ends, name, body, U::schema());
        Stream::of(self.draft, operator)
    }

    /// Keeps the rows for which `keep` says true.
    pub fn filter(self, name: &str, keep: impl Fn(V::Ref<'_>) -> bool + 'static) -> Self {
        self.filter_with(name, move |_| keep)
    }

    /// As [`filter`](Self::filter), with a function that `open` makes once in each instance.
    pub fn filter_with<F>(self, name: &str, open: impl FnOnce(&Open) -> F + 'static) -> Self
    where
        F: Fn(V::Ref<'_>) -> bool + 'static,
    {
        self.step(name, Effect::Select, move |cx| {
            Ok(FilterStep::<V, F>::new(open(cx)))
        })
    }

    /// Makes one row of each.
    pub fn map<U: Record + Emit<U>>(
        self,
        name: &str,
        f: impl Fn(V::Ref<'_>) -> U + 'static,
    ) -> Stream<U> {
        self.map_with(name, move |_| f)
    }

    /// As [`map`](Self::map), with a function that `open` makes once in each instance.
    pub fn map_with<U: Record + Emit<U>, F>(
        self,
        name: &str,
        open: impl FnOnce(&Open) -> F + 'static,
    ) -> Stream<U>
    where
        F: Fn(V::Ref<'_>) -> U + 'static,
    {
        let effect = Effect::Make(U::schema());
        self.step(name, effect, move |cx| {
            Ok(MapStep::<V, U, F>::new(open(cx)))
        })
    }

    /// Makes one row of each, borrowed: text that is passed on is not allocated.
    /// `.map_into("name", |row: TRef, slot: Slot<U>| slot.fill(URef { .. }))`
    pub fn map_into<U: Record>(
        self,
        name: &str,
        f: impl Fn(V::Ref<'_>, Slot<'_, U>) -> Filled<U> + 'static,
    ) -> Stream<U> {
        self.step(name, Effect::Make(U::schema()), move |_| {
            Ok(MapIntoStep::<V, U, _>::new(f))
        })
    }

    /// Makes one row of each; an error fails the task and names the row.
    pub fn try_map<U: Record>(
        self,
        name: &str,
        f: impl Fn(V::Ref<'_>) -> Result<U> + 'static,
    ) -> Stream<U> {
        self.step(name, Effect::Make(U::schema()), move |_| {
            Ok(TryMapStep::<V, U, _>::new(f))
        })
    }

    /// Makes one row or none of each.
    pub fn filter_map<U: Record + Emit<U>>(
        self,
        name: &str,
        f: impl Fn(V::Ref<'_>) -> Option<U> + 'static,
    ) -> Stream<U> {
        self.flat_map(name, move |row, out: &mut Out<U>| {
            if let Some(made) = f(row) {
                out.emit(made);
            }
        })
    }

    /// Makes any number of rows of each.
    pub fn flat_map<U: Record>(
        self,
        name: &str,
        f: impl Fn(V::Ref<'_>, &mut Out<U>) + 'static,
    ) -> Stream<U> {
        self.flat_map_with(name, move |_| f)
    }

    /// As [`flat_map`](Self::flat_map), with a function that `open` makes once in each instance.
    pub fn flat_map_with<U: Record, F>(
        self,
        name: &str,
        open: impl FnOnce(&Open) -> F + 'static,
    ) -> Stream<U>
    where
        F: Fn(V::Ref<'_>, &mut Out<U>) + 'static,
    {
        self.step(name, Effect::Make(U::schema()), move |cx| {
            Ok(FlatMapStep::<V, U, F>::new(open(cx), cx.ports()))
        })
    }

    /// Works on the columns of a batch at once. `out` must get as many rows as the batch has, in its order.
    pub fn map_batch<U: Record>(
        self,
        name: &str,
        f: impl Fn(&Columns<'_, V>, &mut U::Builder) + 'static,
    ) -> Stream<U> {
        self.step(name, Effect::Make(U::schema()), move |_| {
            Ok(MapBatchStep::<V, U, _>::new(f))
        })
    }

    /// Makes the fields of `U` that `N` has; those that it has not are kept from `T`, by name, without crossing the
    /// boundary: `.with::<U, _>("name", |row: TRef| N { .. })`.
    pub fn with<U: Record, N: Record + Emit<N>>(
        self,
        name: &str,
        f: impl Fn(V::Ref<'_>) -> N + 'static,
    ) -> Stream<U> {
        self.check_with::<U, N>(name);
        self.step(name, Effect::Make(N::schema()), move |_| {
            Ok(MapStep::<V, N, _>::new(f))
        })
    }

    /// As [`with`](Self::with), for borrowed rows:
    /// `.with_into::<U, _>("name", |row: TRef, slot: Slot<N>| slot.fill(NRef { .. }))`.
    pub fn with_into<U: Record, N: Record>(
        self,
        name: &str,
        f: impl Fn(V::Ref<'_>, Slot<'_, N>) -> Filled<N> + 'static,
    ) -> Stream<U> {
        self.check_with::<U, N>(name);
        self.step(name, Effect::Make(N::schema()), move |_| {
            Ok(MapIntoStep::<V, N, _>::new(f))
        })
    }

    fn check_with<U: Record, N: Record>(&self, name: &str) {
        let (from, made) = (T::schema(), N::schema());
        let output = U::schema();
        for (_, nodes) in top_fields(&output) {
            let field = nodes.first().map_or("", |f| f.name.as_str());
            let source = top_field(&made, field).or_else(|| top_field(&from, field));
            if source.map(|(_, nodes)| nodes) != Some(nodes) {
                self.fail(format!(
                    "'{name}': field '{field}' of its output is neither made nor kept: no field of that name and type"
                ));
            }
        }
        for (_, nodes) in top_fields(&made) {
            let field = nodes.first().map_or("", |f| f.name.as_str());
            if top_field(&output, field).is_none() {
                self.fail(format!(
                    "'{name}': it makes field '{field}', which its output does not have"
                ));
            }
        }
    }

    fn fail(&self, message: String) {
        self.draft.borrow_mut().fail(message);
    }

    /// The host takes the fields that `U` names; no function is called.
    pub fn select<U: Record>(self, name: &str) -> Stream<U> {
        self.select_renamed(name, &[])
    }

    /// As [`select`](Self::select); `renames` says (name here, name in `U`).
    pub fn select_renamed<U: Record>(self, name: &str, renames: &[(&str, &str)]) -> Stream<U> {
        self.native(name, draft::select(None, pairs(&U::schema(), renames)))
    }

    /// Keeps the rows in which a nested record is not null, and makes its fields the row; no function is called.
    pub fn only<U: Record>(self, name: &str, record: Field<T, impl Nested>) -> Stream<U> {
        self.only_renamed(name, record, &[])
    }

    /// As [`only`](Self::only); `renames` says (name in the nested record, name in `U`).
    pub fn only_renamed<U: Record>(
        self,
        name: &str,
        record: Field<T, impl Nested>,
        renames: &[(&str, &str)],
    ) -> Stream<U> {
        self.native(
            name,
            draft::select(Some(record.name()), pairs(&U::schema(), renames)),
        )
    }

    /// The functions that follow get only the fields that `W` names, so that the host ships no others.
    pub fn view<W: Record>(self) -> Stream<T, W> {
        Stream {
            draft: self.draft,
            ends: self.ends,
            of: PhantomData,
        }
    }

    /// The functions that follow get all fields again.
    pub fn whole(self) -> Stream<T> {
        self.view()
    }

    /// Gives rows their event times, and makes watermarks of them.
    pub fn assign_timestamps(
        self,
        strategy: WatermarkStrategy,
        time: impl Fn(V::Ref<'_>) -> Timestamp + 'static,
    ) -> Self {
        self.with_times("event-time", time)
            .timestamps(Times::Given, strategy)
    }

    /// As [`assign_timestamps`](Self::assign_timestamps), by a field: the host does it alone.
    pub fn assign_timestamps_by(
        self,
        strategy: WatermarkStrategy,
        field: Field<T, Timestamp>,
    ) -> Self {
        self.timestamps(Times::Field(field.name().to_owned()), strategy)
    }

    /// Rows get the time at which they come in, by the host's clock, which never goes back here.
    #[must_use]
    pub fn assign_ingestion_time(self) -> Self {
        self.timestamps(Times::Ingestion, monotonous())
    }

    /// Gives rows their event times, and leaves watermarks to what follows: one of the `assign_watermarks`.
    pub fn with_times(self, name: &str, time: impl Fn(V::Ref<'_>) -> Timestamp + 'static) -> Self {
        self.step(name, Effect::Times, move |_| {
            Ok(TimesStep::<V, _>::new(time))
        })
    }

    /// Makes watermarks by generators of the job's own, in place of those that come from above. `open` makes one for each
    /// split of the source above, or for the task where that has none; the least of them counts. A generator sees each row
    /// with its event time; a watermark follows the row for which it is emitted.
    ///
    /// Anywhere in the graph where rows have event times.
    pub fn assign_watermarks<G: WatermarkGenerator<V> + 'static>(
        self,
        name: &str,
        open: impl Fn(&Open) -> G + 'static,
    ) -> Self {
        self.assign_watermarks_with(generated(), name, open)
    }

    /// As [`assign_watermarks`](Self::assign_watermarks), where splits are idle or stay together as a strategy says that
    /// begins with [`generated`].
    pub fn assign_watermarks_with<G: WatermarkGenerator<V> + 'static>(
        self,
        strategy: WatermarkStrategy,
        name: &str,
        open: impl Fn(&Open) -> G + 'static,
    ) -> Self {
        if !matches!(strategy.watermarks, Watermarks::Generated) {
            self.fail(format!(
                "'{name}': a strategy for generators of the job's own begins with generated()"
            ));
        }
        let marked: Self = self.step(name, Effect::Watermarks, move |cx| {
            Ok(WatermarkStep::<V, G, _>::new(cx, open))
        });
        marked.timestamps(Times::Given, strategy).name(name)
    }

    /// As [`assign_watermarks`](Self::assign_watermarks): a watermark follows each row for which `watermark` gives one.
    pub fn assign_watermarks_by(
        self,
        name: &str,
        watermark: impl Fn(V::Ref<'_>, Timestamp) -> Option<Timestamp> + 'static,
    ) -> Self {
        let watermark = Rc::new(watermark);
        self.assign_watermarks(name, move |_| Punctuated(Rc::clone(&watermark)))
    }

    fn timestamps(self, times: Times, strategy: WatermarkStrategy) -> Self {
        let body = Body::Timestamps(Timestamps {
            times,
            watermarks: strategy.watermarks,
            emit: strategy.emit,
            idle_ms: strategy.idle_ms,
            drift_ms: strategy.drift_ms,
        });
        let operator = add_operator(&self.draft, &self.ends, "timestamps", body, T::schema());
        Self::of(self.draft, operator)
    }

    /// The rows of both, in any order.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        if !Rc::ptr_eq(&self.draft, &other.draft) {
            self.fail("streams of two jobs cannot be united".into());
        }
        self.ends.extend(other.ends.iter().cloned());
        self
    }

    fn partition(mut self, partition: &Partition) -> Self {
        self.ends
            .iter_mut()
            .for_each(|end| end.partition = partition.clone());
        self
    }

    /// Rows go to the tasks of the next operator in turn.
    #[must_use]
    pub fn rebalance(self) -> Self {
        self.partition(&Partition::Rebalance)
    }

    /// Rows go in turn to those tasks of the next operator that this task feeds.
    #[must_use]
    pub fn rescale(self) -> Self {
        self.partition(&Partition::Rescale)
    }

    /// Rows go to tasks of the next operator by chance, seeded.
    #[must_use]
    pub fn shuffle(self) -> Self {
        self.partition(&Partition::Shuffle)
    }

    /// Each row goes to all tasks of the next operator.
    #[must_use]
    pub fn broadcast(self) -> Self {
        self.partition(&Partition::Broadcast)
    }

    /// All rows go to the first task of the next operator.
    #[must_use]
    pub fn global(self) -> Self {
        self.partition(&Partition::Global)
    }

    /// Rows go to the task of the same number: the default.
    #[must_use]
    pub fn forward(self) -> Self {
        self.partition(&Partition::Forward)
    }

    /// A side output of the operator that this stream comes from.
    #[must_use]
    pub fn side<U: Record>(&self, tag: &SideTag<U>) -> Stream<U> {
        let operator = self.last_operator(&format!("a side output '{}'", tag.name()));
        let port = self
            .draft
            .borrow_mut()
            .side(operator, tag.port(), U::schema());
        Stream::at(Rc::clone(&self.draft), operator, port)
    }

    fn last_operator(&self, what: &str) -> u32 {
        let first = self.ends.first().map_or(0, |end| end.operator);
        if self.ends.iter().any(|end| end.operator != first) {
            self.fail(format!(
                "{what} was asked of a union: ask it of the streams before they are united"
            ));
        }
        first
    }

    /// Ends the stream in a sink.
    pub fn sink(&self, name: &str, connector: Connector) -> Sink {
        Sink::add(
            &self.draft,
            &self.ends,
            name,
            Body::Sink(connector.into_wit(T::schema())),
        )
    }

    /// Overrides the job's parallelism for the operator that this stream comes from.
    #[must_use]
    pub fn parallelism(self, parallelism: u32) -> Self {
        let operator = self.last_operator("a parallelism");
        self.draft
            .borrow_mut()
            .set_parallelism(operator, parallelism);
        self
    }

    /// A stable identity for the operator that this stream comes from, in place of one made from its name.
    #[must_use]
    pub fn uid(self, uid: &str) -> Self {
        let operator = self.last_operator("a uid");
        self.draft.borrow_mut().set_uid(operator, uid);
        self
    }

    /// Names the operator that this stream comes from.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let operator = self.last_operator("a name");
        self.draft.borrow_mut().rename(operator, name);
        self
    }
}

/// (name here, name there) for each field of `output`.
fn pairs(output: &Schema, renames: &[(&str, &str)]) -> Vec<(String, String)> {
    top_fields(output)
        .filter_map(|(_, nodes)| nodes.first())
        .map(|field| {
            let here = renames
                .iter()
                .find(|(_, there)| *there == field.name)
                .map_or(field.name.as_str(), |r| r.0);
            (here.to_owned(), field.name.clone())
        })
        .collect()
}

fn add_operator(draft: &Shared, ends: &[End], name: &str, body: Body, output: Schema) -> u32 {
    let mut d = draft.borrow_mut();
    let operator = d.add(name, body, Some(output));
    d.connect(ends, operator);
    operator
}

/// Adds a stateless function's operator.
pub(crate) fn add_step(
    draft: &Shared,
    ends: &[End],
    name: &str,
    spec: StepFunction,
    make: Box<dyn FnOnce(&Open) -> Result<Box<dyn Step>>>,
) -> u32 {
    let (view, output) = (spec.view.clone(), spec.output.clone());
    let (produces, times) = (spec.effect.produces(), matches!(spec.effect, Effect::Times));
    let watermarks = matches!(spec.effect, Effect::Watermarks);
    let mut d = draft.borrow_mut();
    let function = d.function(Box::new(move |open| Ok(Function::Step(spec, make(open)?))));
    let operator = d.add(
        name,
        draft::transform(function, view, produces, (times, watermarks)),
        Some(output),
    );
    d.connect(ends, operator);
    operator
}
