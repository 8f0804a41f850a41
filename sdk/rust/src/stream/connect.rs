//! Streams that meet: functions with two inputs, functions that know what is broadcast, and functions of rows without a
//! key that keep state of their task.

use std::marker::PhantomData;
use std::rc::Rc;

use super::keys::{Parts, add_process};
use super::{KeyedStream, Stream};
use crate::bindings::exports::pelton::job::graph::{Partition, ProcessInput};
use crate::draft::{End, Shared};
use crate::function::connected::{BroadcastLogic, Broadcasted, CoLogic, Connected};
use crate::function::keyed::{Ctx, Keyed, KeyedFunction, Logic};
use crate::function::{Open, Out};
use crate::key::Key;
use crate::record::{Emit, Record, RefOf};
use crate::state::{BroadcastCtx, States};
use crate::time::Timestamp;

/// A function of rows without a key. It keeps state of its task: lists, of which each task has its own.
pub trait Process: 'static {
    /// What it reads of the rows.
    type In: Record;
    /// What it emits.
    type Out: Record;

    /// A row. Timers belong to keys: `cx` has none here.
    fn process(&self, row: RefOf<'_, Self::In>, cx: &mut Ctx, out: &mut Out<Self::Out>);
}

/// A function with two inputs, that share its state.
///
/// Rows of one task come in the order in which they were sent, whichever input they are for. Its watermark is the least of both.
pub trait CoProcess: 'static {
    /// What it reads of the rows of its first input.
    type Left: Record;
    /// What it reads of the rows of its second input.
    type Right: Record;
    /// The key of both; `()` where the streams have none.
    type Key: Key;
    /// What it emits.
    type Out: Record;
    /// Whether it sets timers; then the streams must have event times. Without a key, there are none.
    const TIMERS: bool = true;

    /// A row of the first input.
    fn left(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        row: RefOf<'_, Self::Left>,
        cx: &mut Ctx,
        out: &mut Out<Self::Out>,
    );

    /// A row of the second input.
    fn right(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        row: RefOf<'_, Self::Right>,
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

/// A function of rows that knows what all tasks were told by a broadcast stream.
pub trait BroadcastProcess: 'static {
    /// What it reads of the rows.
    type In: Record;
    /// What it reads of the broadcast rows.
    type Broadcast: Record;
    /// The key of the rows; `()` where the stream has none.
    type Key: Key;
    /// What it emits.
    type Out: Record;
    /// Whether it sets timers; then the streams must have event times. Without a key, there are none.
    const TIMERS: bool = true;

    /// A row. It reads broadcast state.
    fn process(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        row: RefOf<'_, Self::In>,
        cx: &mut Ctx,
        out: &mut Out<Self::Out>,
    );

    /// A broadcast row, which comes to all tasks. It writes broadcast state, the same in each: `cx` lets it. There is no key at
    /// hand.
    fn process_broadcast(
        &self,
        row: RefOf<'_, Self::Broadcast>,
        cx: &mut BroadcastCtx,
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

/// Two streams for one function. `L` and `R` are what it reads of each; `K` is the key of both, `()` for streams without.
pub struct ConnectedStreams<L: Record, R: Record, K: Key> {
    draft: Shared,
    left: Side,
    right: Side,
    of: PhantomData<fn() -> (L, R, K)>,
}

/// A stream and what rows without a key meet by broadcast.
pub struct BroadcastStreams<V: Record, B: Record, K: Key> {
    draft: Shared,
    rows: Side,
    broadcast: Side,
    of: PhantomData<fn() -> (V, B, K)>,
}

/// Where an input comes from.
struct Side {
    ends: Vec<End>,
    key: Vec<String>,
    is_broadcast: bool,
}

impl Side {
    fn input<V: Record>(&self) -> ProcessInput {
        ProcessInput {
            view: V::schema(),
            key: self.key.clone(),
            broadcast: self.is_broadcast,
        }
    }

    fn of<T: Record, V: Record>(stream: Stream<T, V>, draft: &Shared) -> Self {
        if !Rc::ptr_eq(draft, &stream.draft) {
            other_job(draft);
        }
        Self {
            ends: stream.ends,
            key: Vec::new(),
            is_broadcast: false,
        }
    }

    fn keyed<T: Record, V: Record, K: Key>(stream: KeyedStream<T, V, K>, draft: &Shared) -> Self {
        if !Rc::ptr_eq(draft, &stream.draft) {
            other_job(draft);
        }
        Self {
            ends: stream.ends,
            key: stream.key,
            is_broadcast: false,
        }
    }

    fn broadcast<T: Record, V: Record>(stream: Stream<T, V>, draft: &Shared) -> Self {
        let mut side = Self::of(stream, draft);
        side.is_broadcast = true;
        for end in &mut side.ends {
            end.partition = Partition::Broadcast;
        }
        side
    }
}

fn other_job(draft: &Shared) {
    draft
        .borrow_mut()
        .fail("streams of two jobs cannot be connected".into());
}

impl<T: Record, V: Record> Stream<T, V> {
    /// Runs a function that keeps state of its task; `make` declares it:
    /// `.process("buffer", |states| Buffer { waiting: states.operator_list("waiting") })`.
    pub fn process<F: Process<In = V>>(
        self,
        name: &str,
        make: impl FnOnce(&mut States) -> F,
    ) -> Stream<F::Out> {
        let mut states = States::default();
        let logic = Unkeyed(make(&mut states));
        let specs = states.specs();
        let make = move |open: &Open| {
            let function = KeyedFunction::<V, (), F::Out, _>::new(logic, states, open);
            Ok(Box::new(function) as Box<dyn Keyed>)
        };
        let input = Side::of(self.clone(), &self.draft);
        let parts = Parts {
            inputs: vec![input.input::<V>()],
            specs,
            timers: false,
            output: F::Out::schema(),
        };
        let operator = add_process(&self.draft, &[&input.ends], name, parts, Box::new(make));
        Stream::of(self.draft, operator)
    }

    /// This stream and another for one function; rows stay in the tasks that they are in.
    #[must_use]
    pub fn connect<U: Record, W: Record>(self, other: Stream<U, W>) -> ConnectedStreams<V, W, ()> {
        let draft = Rc::clone(&self.draft);
        ConnectedStreams {
            left: Side::of(self, &draft),
            right: Side::of(other, &draft),
            draft,
            of: PhantomData,
        }
    }

    /// This stream, and one that goes to all tasks of the function.
    #[must_use]
    pub fn connect_broadcast<U: Record, B: Record>(
        self,
        other: Stream<U, B>,
    ) -> BroadcastStreams<V, B, ()> {
        let draft = Rc::clone(&self.draft);
        BroadcastStreams {
            rows: Side::of(self, &draft),
            broadcast: Side::broadcast(other, &draft),
            draft,
            of: PhantomData,
        }
    }
}

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// This stream and another for one function, which sees rows of both with equal keys together.
    #[must_use]
    pub fn connect<U: Record, W: Record>(
        self,
        other: KeyedStream<U, W, K>,
    ) -> ConnectedStreams<V, W, K> {
        let draft = Rc::clone(&self.draft);
        ConnectedStreams {
            left: Side::keyed(self, &draft),
            right: Side::keyed(other, &draft),
            draft,
            of: PhantomData,
        }
    }

    /// This stream, and one that goes to all tasks of the function.
    #[must_use]
    pub fn connect_broadcast<U: Record, B: Record>(
        self,
        other: Stream<U, B>,
    ) -> BroadcastStreams<V, B, K> {
        let draft = Rc::clone(&self.draft);
        BroadcastStreams {
            rows: Side::keyed(self, &draft),
            broadcast: Side::broadcast(other, &draft),
            draft,
            of: PhantomData,
        }
    }
}

impl<L: Record, R: Record, K: Key> ConnectedStreams<L, R, K> {
    /// Makes one row of each row of either.
    pub fn map<U: Record + Emit<U>>(
        self,
        name: &str,
        left: impl Fn(RefOf<'_, L>) -> U + 'static,
        right: impl Fn(RefOf<'_, R>) -> U + 'static,
    ) -> Stream<U> {
        self.flat_map(
            name,
            move |row: RefOf<'_, L>, out: &mut Out<U>| out.emit(left(row)),
            move |row: RefOf<'_, R>, out: &mut Out<U>| out.emit(right(row)),
        )
    }

    /// Makes any number of rows of each row of either.
    pub fn flat_map<U: Record>(
        self,
        name: &str,
        left: impl Fn(RefOf<'_, L>, &mut Out<U>) + 'static,
        right: impl Fn(RefOf<'_, R>, &mut Out<U>) + 'static,
    ) -> Stream<U> {
        self.add::<U, _>(name, Flat(left, right), States::default(), false)
    }

    /// Runs a function with states and timers; `make` declares its states:
    /// `.process("latest", |states| Latest { left: states.value("left"), right: states.value("right") })`.
    pub fn process<F>(self, name: &str, make: impl FnOnce(&mut States) -> F) -> Stream<F::Out>
    where
        F: CoProcess<Left = L, Right = R, Key = K>,
    {
        let mut states = States::default();
        let logic = Both(make(&mut states));
        self.add::<F::Out, _>(name, logic, states, F::TIMERS)
    }

    fn add<O: Record, G: CoLogic<L, R, K, O>>(
        self,
        name: &str,
        logic: G,
        states: States,
        timers: bool,
    ) -> Stream<O> {
        let parts = Parts {
            inputs: vec![self.left.input::<L>(), self.right.input::<R>()],
            specs: states.specs(),
            timers: timers && !self.left.key.is_empty(),
            output: O::schema(),
        };
        let make = move |open: &Open| {
            let function = Connected::<L, R, K, O, G>::new(logic, states, open);
            Ok(Box::new(function) as Box<dyn Keyed>)
        };
        let ends = [self.left.ends.as_slice(), &self.right.ends];
        let operator = add_process(&self.draft, &ends, name, parts, Box::new(make));
        Stream::of(self.draft, operator)
    }
}

impl<V: Record, B: Record, K: Key> BroadcastStreams<V, B, K> {
    /// Runs a function with states and timers; `make` declares its states:
    /// `.process("rules", |states| Check { rules: states.broadcast("rules") })`.
    pub fn process<F>(self, name: &str, make: impl FnOnce(&mut States) -> F) -> Stream<F::Out>
    where
        F: BroadcastProcess<In = V, Broadcast = B, Key = K>,
    {
        let mut states = States::default();
        let logic = Told(make(&mut states));
        let parts = Parts {
            inputs: vec![self.rows.input::<V>(), self.broadcast.input::<B>()],
            specs: states.specs(),
            timers: F::TIMERS && !self.rows.key.is_empty(),
            output: F::Out::schema(),
        };
        let make = move |open: &Open| {
            let function = Connected::<V, B, K, F::Out, _>::new(logic, states, open);
            Ok(Box::new(Broadcasted(function)) as Box<dyn Keyed>)
        };
        let ends = [self.rows.ends.as_slice(), &self.broadcast.ends];
        let operator = add_process(&self.draft, &ends, name, parts, Box::new(make));
        Stream::of(self.draft, operator)
    }
}

struct Unkeyed<F>(F);

impl<F: Process> Logic<F::In, (), F::Out> for Unkeyed<F> {
    #[inline]
    fn row(&self, (): (), row: RefOf<'_, F::In>, cx: &mut Ctx, out: &mut Out<F::Out>) {
        self.0.process(row, cx, out);
    }
    fn timer(&self, (): (), _: Timestamp, _: &mut Ctx, _: &mut Out<F::Out>) {}
}

struct Flat<F, G>(F, G);

impl<L: Record, R: Record, K: Key, O: Record, F, G> CoLogic<L, R, K, O> for Flat<F, G>
where
    F: Fn(RefOf<'_, L>, &mut Out<O>) + 'static,
    G: Fn(RefOf<'_, R>, &mut Out<O>) + 'static,
{
    #[inline]
    fn left(&self, _: K::Ref<'_>, row: L::Ref<'_>, _: &mut Ctx, out: &mut Out<O>) {
        (self.0)(row, out);
    }
    #[inline]
    fn right(&self, _: K::Ref<'_>, row: R::Ref<'_>, _: &mut Ctx, out: &mut Out<O>) {
        (self.1)(row, out);
    }
    fn timer(&self, _: K::Ref<'_>, _: Timestamp, _: &mut Ctx, _: &mut Out<O>) {}
}

struct Both<F>(F);

impl<F: CoProcess> CoLogic<F::Left, F::Right, F::Key, F::Out> for Both<F> {
    #[inline]
    fn left(
        &self,
        key: <F::Key as Key>::Ref<'_>,
        row: RefOf<'_, F::Left>,
        cx: &mut Ctx,
        out: &mut Out<F::Out>,
    ) {
        self.0.left(key, row, cx, out);
    }
    #[inline]
    fn right(
        &self,
        key: <F::Key as Key>::Ref<'_>,
        row: RefOf<'_, F::Right>,
        cx: &mut Ctx,
        out: &mut Out<F::Out>,
    ) {
        self.0.right(key, row, cx, out);
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

struct Told<F>(F);

impl<F: BroadcastProcess> BroadcastLogic<F::In, F::Broadcast, F::Key, F::Out> for Told<F> {
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
    fn broadcast(
        &self,
        row: RefOf<'_, F::Broadcast>,
        cx: &mut BroadcastCtx,
        out: &mut Out<F::Out>,
    ) {
        self.0.process_broadcast(row, cx, out);
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
