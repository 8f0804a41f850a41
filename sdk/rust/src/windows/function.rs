//! What is made of a window's rows when it fires.

use std::marker::PhantomData;

use super::Window;
use super::record::{Element, copy};
use crate::function::Out;
use crate::function::aggregate::Aggregate;
use crate::key::Key;
use crate::record::{Record, RefOf};
use crate::time::Timestamp;
use crate::value::Value;

/// A function over all rows of a window.
///
/// States of the key, across its windows, are fields of the implementing type, declared when it is made.
pub trait ProcessWindow: 'static {
    /// What it reads of the rows.
    type In: Record;
    /// The key.
    type Key: Key;
    /// What it emits.
    type Out: Record;
    /// What it remembers of a window from one firing to the next, until the window is over; `bool` if nothing. Windows
    /// that merge have none.
    type State: Value;

    /// A window fires. Without rows only where an evictor has removed them all.
    fn process(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        window: Window,
        rows: Rows<'_, Self::In>,
        cx: &mut WindowCtx<'_, Self::State>,
        out: &mut Out<Self::Out>,
    );
}

/// The rows of a window, in the order in which they came; those of merged windows one after the other.
pub struct Rows<'a, V: Value>(&'a [Element<V>]);

impl<V: Value> Clone for Rows<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V: Value> Copy for Rows<'_, V> {}

impl<'a, V: Value> Rows<'a, V> {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A row; none beyond the last.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<RefOf<'a, V>> {
        self.0.get(index).map(Element::row)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RefOf<'a, V>> + 'a {
        self.0.iter().map(Element::row)
    }

    /// The rows with their event times.
    pub fn timed(&self) -> impl ExactSizeIterator<Item = (Option<Timestamp>, RefOf<'a, V>)> + 'a {
        self.0.iter().map(|e| (e.time(), e.row()))
    }
}

/// When and where a window fires, and what is remembered of it.
pub struct WindowCtx<'a, P> {
    pub(crate) window: Window,
    pub(crate) watermark: i64,
    pub(crate) processing_time: i64,
    pub(crate) own: &'a mut Option<P>,
}

impl<P> WindowCtx<'_, P> {
    /// The window.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// The current watermark; none before the first.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.watermark != i64::MIN).then_some(Timestamp(self.watermark))
    }

    /// The host's clock; constant within a call.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        Timestamp(self.processing_time)
    }

    /// What is remembered of the window.
    #[must_use]
    pub fn state(&self) -> Option<&P> {
        self.own.as_ref()
    }

    /// Remembers something of the window until it is over.
    pub fn set_state(&mut self, state: P) {
        *self.own = Some(state);
    }

    /// Forgets what was remembered of the window.
    pub fn clear_state(&mut self) {
        *self.own = None;
    }
}

/// What a window has when it fires.
pub(crate) enum Contents<'a, V: Value, A> {
    /// All its rows.
    All(&'a [Element<V>]),
    /// What its rows come to; none: there are none.
    One(Option<A>),
}

/// What a window operator does with rows.
pub(crate) trait WindowFunction<V: Value, K: Key, O: Record>: 'static {
    type Acc: Value;
    /// What is remembered of a window.
    type Own: Value;
    const NEEDS_ALL: bool;
    /// Whether what is kept of windows can become one.
    const CAN_MERGE: bool = true;

    fn add(&self, acc: Option<Self::Acc>, row: V::Ref<'_>) -> Option<Self::Acc>;
    fn merge(&self, into: Self::Acc, other: Self::Acc) -> Self::Acc;
    fn fire(
        &self,
        key: K::Ref<'_>,
        contents: Contents<'_, V, Self::Acc>,
        cx: &mut WindowCtx<'_, Self::Own>,
        out: &mut Out<O>,
    );
}

/// Rows become one of the same type; then `G` is called with it.
pub(crate) struct ReduceThen<F, G>(pub(crate) F, pub(crate) G);

impl<V, K, O, F, G> WindowFunction<V, K, O> for ReduceThen<F, G>
where
    V: Record,
    K: Key,
    O: Record,
    F: Fn(&V, RefOf<'_, V>) -> V + 'static,
    G: Fn(K::Ref<'_>, V, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
{
    type Acc = V;
    type Own = bool;
    const NEEDS_ALL: bool = false;

    fn add(&self, acc: Option<V>, row: V::Ref<'_>) -> Option<V> {
        Some(match acc {
            Some(former) => (self.0)(&former, row),
            None => V::own(row),
        })
    }
    fn merge(&self, into: V, other: V) -> V {
        (self.0)(&into, other.lend())
    }
    fn fire(
        &self,
        key: K::Ref<'_>,
        contents: Contents<'_, V, V>,
        cx: &mut WindowCtx<'_, bool>,
        out: &mut Out<O>,
    ) {
        // Of no rows nothing comes.
        if let Contents::One(Some(reduced)) = contents {
            (self.1)(key, reduced, cx, out);
        }
    }
}

/// An accumulator; then `G` is called with it.
pub(crate) struct AggregateThen<A, G>(pub(crate) A, pub(crate) G);

impl<V, O, A, G> WindowFunction<V, A::Key, O> for AggregateThen<A, G>
where
    V: Record,
    O: Record,
    A: Aggregate<In = V>,
    G: Fn(&A, <A::Key as Key>::Ref<'_>, A::Acc, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
{
    type Acc = A::Acc;
    type Own = bool;
    const NEEDS_ALL: bool = false;
    const CAN_MERGE: bool = A::HAS_MERGE;

    fn add(&self, acc: Option<A::Acc>, row: V::Ref<'_>) -> Option<A::Acc> {
        let mut acc = acc.unwrap_or_else(|| self.0.create());
        self.0.add(&mut acc, row);
        Some(acc)
    }
    fn merge(&self, mut into: A::Acc, other: A::Acc) -> A::Acc {
        self.0.merge(&mut into, other);
        into
    }
    fn fire(
        &self,
        key: <A::Key as Key>::Ref<'_>,
        contents: Contents<'_, V, A::Acc>,
        cx: &mut WindowCtx<'_, bool>,
        out: &mut Out<O>,
    ) {
        if let Contents::One(acc) = contents {
            let acc = acc.unwrap_or_else(|| self.0.create());
            (self.1)(&self.0, key, acc, cx, out);
        }
    }
}

/// All rows.
pub(crate) struct All<P>(pub(crate) P);

impl<P: ProcessWindow> WindowFunction<P::In, P::Key, P::Out> for All<P> {
    type Acc = bool;
    type Own = P::State;
    const NEEDS_ALL: bool = true;

    fn add(&self, _: Option<bool>, _: RefOf<'_, P::In>) -> Option<bool> {
        None
    }
    fn merge(&self, into: bool, _: bool) -> bool {
        into
    }
    fn fire(
        &self,
        key: <P::Key as Key>::Ref<'_>,
        contents: Contents<'_, P::In, bool>,
        cx: &mut WindowCtx<'_, P::State>,
        out: &mut Out<P::Out>,
    ) {
        if let Contents::All(rows) = contents {
            self.0.process(key, cx.window, Rows(rows), cx, out);
        }
    }
}

/// All rows, by a closure that remembers nothing.
pub(crate) struct AllBy<F, V, K, O>(pub(crate) F, pub(crate) PhantomData<fn() -> (V, K, O)>);

impl<V, K, O, F> ProcessWindow for AllBy<F, V, K, O>
where
    V: Record,
    K: Key,
    O: Record,
    F: Fn(K::Ref<'_>, Window, Rows<'_, V>, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
{
    type In = V;
    type Key = K;
    type Out = O;
    type State = bool;

    fn process(
        &self,
        key: K::Ref<'_>,
        window: Window,
        rows: Rows<'_, V>,
        cx: &mut WindowCtx<'_, bool>,
        out: &mut Out<O>,
    ) {
        (self.0)(key, window, rows, cx, out);
    }
}

/// Emits what rows have become.
pub(crate) fn emit_reduced<V: Record, K: Key>()
-> impl Fn(K::Ref<'_>, V, &mut WindowCtx<'_, bool>, &mut Out<V>) + 'static {
    |_, reduced, _, out| out.push(copy(&reduced).lend())
}
