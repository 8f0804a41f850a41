//! From streams to keyed streams, and the functions on those.

use std::marker::PhantomData;

use super::{Stream, add_step};
use crate::bindings::exports::pelton::job::graph::{Partition, ProcessInput, State};
use crate::draft::{self, End, Shared};
use crate::error::Result;
use crate::function::keyed::{Ctx, Keyed, KeyedFunction, Logic};
use crate::function::transform::KeyStep;
use crate::function::{Effect, Function, Open, Out, Step, StepFunction};
use crate::key::{Key, KeyFields};
use crate::record::{Record, RefOf};
use crate::state::States;
use crate::time::Timestamp;
use crate::value::{Schema, top_fields};

/// Rows of `T`, those with equal keys together; functions read the fields of `V`.
pub struct KeyedStream<T: Record, V: Record, K: Key> {
    pub(crate) draft: Shared,
    pub(crate) ends: Vec<End>,
    pub(crate) key: Vec<String>,
    of: PhantomData<fn() -> (T, V, K)>,
}

/// A keyed function with states and timers.
///
/// States are fields of the implementing type, declared when it is made: see [`KeyedStream::process`].
pub trait KeyedProcess: 'static {
    /// What it reads of the rows.
    type In: Record;
    /// The key.
    type Key: Key;
    /// What it emits.
    type Out: Record;
    /// Whether it sets timers; then the stream must have event times.
    const TIMERS: bool = true;

    /// A row.
    fn process(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        row: RefOf<'_, Self::In>,
        cx: &mut Ctx,
        out: &mut Out<Self::Out>,
    );

    /// A timer that this function has set for the key.
    fn on_timer(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        time: Timestamp,
        cx: &mut Ctx,
        out: &mut Out<Self::Out>,
    ) {
        let _ = (key, time, cx, out);
    }
}

impl<T: Record, V: Record> Stream<T, V> {
    /// Brings rows with equal values of a field (or of a tuple of fields) together.
    pub fn key_by<F: KeyFields<T>>(self, fields: F) -> KeyedStream<T, V, F::Key> {
        self.keyed(fields.names())
    }

    /// Brings rows together for which a function makes equal keys.
    pub fn key_by_fn<K: Key>(
        self,
        name: &str,
        key: impl Fn(RefOf<'_, V>) -> K + 'static,
    ) -> KeyedStream<T, V, K> {
        let made = K::schema("__key");
        let names = top_fields(&made)
            .filter_map(|(_, n)| Some(n.first()?.name.clone()))
            .collect();
        let mut output = T::schema();
        output.extend(made.iter().cloned());
        let spec = StepFunction {
            view: V::schema(),
            output,
            effect: Effect::Make(made),
        };
        let make = move |_: &Open| Ok(Box::new(KeyStep::<V, K, _>::new(key)) as Box<dyn Step>);
        let operator = add_step(&self.draft, &self.ends, name, spec, Box::new(make));
        Self::of(self.draft, operator).keyed(names)
    }

    fn keyed<K: Key>(self, key: Vec<String>) -> KeyedStream<T, V, K> {
        let mut ends = self.ends;
        ends.iter_mut()
            .for_each(|end| end.partition = Partition::Key(key.clone()));
        KeyedStream {
            draft: self.draft,
            ends,
            key,
            of: PhantomData,
        }
    }
}

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// The rows that come from `ends`, which are partitioned by these fields.
    pub(crate) fn at(draft: Shared, ends: Vec<End>, key: Vec<String>) -> Self {
        Self {
            draft,
            ends,
            key,
            of: PhantomData,
        }
    }

    /// Runs a keyed function with states and timers; `make` declares its states:
    /// `.process("count", |states| Count { seen: states.value("seen") })`.
    pub fn process<F>(self, name: &str, make: impl FnOnce(&mut States) -> F) -> Stream<F::Out>
    where
        F: KeyedProcess<In = V, Key = K>,
    {
        let mut states = States::default();
        let logic = Process(make(&mut states));
        add_keyed::<V, K, F::Out, _>(
            self.draft,
            &self.ends,
            self.key,
            name,
            logic,
            states,
            F::TIMERS,
        )
    }

    /// Runs a keyed closure; `make` declares its states and answers it:
    /// `.process_with("count", |states| { let n = states.value::<i64>("n"); move |key, row, cx, out| .. })`.
    pub fn process_with<O: Record, F>(
        self,
        name: &str,
        make: impl FnOnce(&mut States) -> F,
    ) -> Stream<O>
    where
        F: Fn(K::Ref<'_>, V::Ref<'_>, &mut Ctx, &mut Out<O>) + 'static,
    {
        let mut states = States::default();
        let logic = OnRow(make(&mut states));
        add_keyed::<V, K, O, _>(self.draft, &self.ends, self.key, name, logic, states, false)
    }

    /// As [`process_with`](Self::process_with), with a second closure for timers: `make` answers both.
    pub fn process_with_timers<O: Record, F, G>(
        self,
        name: &str,
        make: impl FnOnce(&mut States) -> (F, G),
    ) -> Stream<O>
    where
        F: Fn(K::Ref<'_>, V::Ref<'_>, &mut Ctx, &mut Out<O>) + 'static,
        G: Fn(K::Ref<'_>, Timestamp, &mut Ctx, &mut Out<O>) + 'static,
    {
        let mut states = States::default();
        let (on_row, on_timer) = make(&mut states);
        let logic = OnBoth(on_row, on_timer);
        add_keyed::<V, K, O, _>(self.draft, &self.ends, self.key, name, logic, states, true)
    }
}

/// Adds a keyed function's operator.
pub(crate) fn add_keyed<V: Record, K: Key, O: Record, L: Logic<V, K, O>>(
    draft: Shared,
    ends: &[End],
    key: Vec<String>,
    name: &str,
    logic: L,
    states: States,
    timers: bool,
) -> Stream<O> {
    let specs = states.specs();
    let make = move |open: &Open| {
        let function = KeyedFunction::<V, K, O, L>::new(logic, states, open);
        Ok(Box::new(function) as Box<dyn Keyed>)
    };
    let parts = Parts {
        inputs: vec![ProcessInput {
            view: V::schema(),
            key,
            broadcast: false,
        }],
        specs,
        timers,
        output: O::schema(),
    };
    let operator = add_process(&draft, &[ends], name, parts, Box::new(make));
    Stream::of(draft, operator)
}

/// What a function with state reads, keeps and makes.
pub(super) struct Parts {
    pub(super) inputs: Vec<ProcessInput>,
    pub(super) specs: Vec<State>,
    pub(super) timers: bool,
    pub(super) output: Schema,
}

/// Adds the operator of a function with state; `ends` are those of each input.
pub(super) fn add_process(
    draft: &Shared,
    ends: &[&[End]],
    name: &str,
    parts: Parts,
    make: Box<dyn FnOnce(&Open) -> Result<Box<dyn Keyed>>>,
) -> u32 {
    let mut d = draft.borrow_mut();
    let views = parts.inputs.iter().map(|i| i.view.clone()).collect();
    let function = d.function(Box::new(move |open| {
        Ok(Function::Keyed {
            views,
            function: make(open)?,
        })
    }));
    let body = draft::process(function, parts.inputs, parts.specs, parts.timers);
    let operator = d.add(name, body, Some(parts.output));
    for (input, ends) in (0u32..).zip(ends) {
        d.connect_input(ends, operator, input);
    }
    operator
}

struct Process<F>(F);

impl<F: KeyedProcess> Logic<F::In, F::Key, F::Out> for Process<F> {
    #[inline]
    fn row(
        &self,
        key: <F::Key as Key>::Ref<'_>,
        row: RefOf<'_, F::In>,
        cx: &mut Ctx,
        out: &mut Out<F::Out>,
    ) {
        self.0.process(key, row, cx, out);
    }
    fn timer(
        &self,
        key: <F::Key as Key>::Ref<'_>,
        time: Timestamp,
        cx: &mut Ctx,
        out: &mut Out<F::Out>,
    ) {
        self.0.on_timer(key, time, cx, out);
    }
}

struct OnRow<F>(F);

impl<V: Record, K: Key, O: Record, F> Logic<V, K, O> for OnRow<F>
where
    F: Fn(K::Ref<'_>, V::Ref<'_>, &mut Ctx, &mut Out<O>) + 'static,
{
    #[inline]
    fn row(&self, key: K::Ref<'_>, row: V::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>) {
        (self.0)(key, row, cx, out);
    }
    fn timer(&self, _: K::Ref<'_>, _: Timestamp, _: &mut Ctx, _: &mut Out<O>) {}
}

struct OnBoth<F, G>(F, G);

impl<V: Record, K: Key, O: Record, F, G> Logic<V, K, O> for OnBoth<F, G>
where
    F: Fn(K::Ref<'_>, V::Ref<'_>, &mut Ctx, &mut Out<O>) + 'static,
    G: Fn(K::Ref<'_>, Timestamp, &mut Ctx, &mut Out<O>) + 'static,
{
    #[inline]
    fn row(&self, key: K::Ref<'_>, row: V::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>) {
        (self.0)(key, row, cx, out);
    }
    fn timer(&self, key: K::Ref<'_>, time: Timestamp, cx: &mut Ctx, out: &mut Out<O>) {
        (self.1)(key, time, cx, out);
    }
}
