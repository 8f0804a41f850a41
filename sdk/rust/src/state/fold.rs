//! Values into which others are reduced or aggregated.

use std::rc::Rc;

use super::Ttl;
use super::value::ValueCells;
use crate::value::Value;

/// A value for each key into which others are reduced.
pub struct ReducingState<T: Value> {
    cells: Rc<ValueCells<T>>,
    reduce: Rc<dyn Fn(T, T) -> T>,
}

impl<T: Value> Clone for ReducingState<T> {
    fn clone(&self) -> Self {
        Self {
            cells: Rc::clone(&self.cells),
            reduce: Rc::clone(&self.reduce),
        }
    }
}

impl<T: Value> ReducingState<T> {
    pub(super) fn new(cells: Rc<ValueCells<T>>, f: impl Fn(T, T) -> T + 'static) -> Self {
        Self {
            cells,
            reduce: Rc::new(f),
        }
    }

    /// Takes over values of another type that a former version of the job has left; as for
    /// [`ValueState`](super::ValueState::migrate_from).
    #[must_use]
    pub fn migrate_from<Old: Value>(self, f: impl Fn(Old) -> T + 'static) -> Self {
        self.cells.migrate_from(f);
        self
    }

    /// When values are gone by themselves.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        self.cells.spec.set_ttl(ttl);
        self
    }

    /// Reduces a value into that of the key at hand; the first one is it.
    #[inline]
    pub fn add(&self, value: T) {
        let reduced = match self.get() {
            Some(former) => (self.reduce)(former, value),
            None => value,
        };
        self.cells.set(reduced);
    }

    /// The value of the key at hand, if there is one.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<T> {
        self.cells.with(|v| v.map(T::own))
    }

    /// Looks at the value of the key at hand without copying it.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(Option<T::Ref<'_>>) -> R) -> R {
        self.cells.with(f)
    }

    /// Removes the value of the key at hand.
    pub fn clear(&self) {
        self.cells.clear();
    }
}

/// What an aggregating state does.
pub(super) struct Fold<C, A, R> {
    pub(super) create: C,
    pub(super) add: A,
    pub(super) result: R,
}

trait Folds<In, Acc, Out> {
    fn create(&self) -> Acc;
    fn add(&self, acc: &mut Acc, value: In);
    fn result(&self, acc: &Acc) -> Out;
}

impl<In, Acc, Out, C, A, R> Folds<In, Acc, Out> for Fold<C, A, R>
where
    C: Fn() -> Acc,
    A: Fn(&mut Acc, In),
    R: Fn(&Acc) -> Out,
{
    fn create(&self) -> Acc {
        (self.create)()
    }
    fn add(&self, acc: &mut Acc, value: In) {
        (self.add)(acc, value);
    }
    fn result(&self, acc: &Acc) -> Out {
        (self.result)(acc)
    }
}

/// An accumulator for each key.
pub struct AggregatingState<In, Acc: Value, Out> {
    cells: Rc<ValueCells<Acc>>,
    fold: Rc<dyn Folds<In, Acc, Out>>,
}

impl<In, Acc: Value, Out> Clone for AggregatingState<In, Acc, Out> {
    fn clone(&self) -> Self {
        Self {
            cells: Rc::clone(&self.cells),
            fold: Rc::clone(&self.fold),
        }
    }
}

impl<In: 'static, Acc: Value, Out: 'static> AggregatingState<In, Acc, Out> {
    pub(super) fn new<C, A, R>(cells: Rc<ValueCells<Acc>>, fold: Fold<C, A, R>) -> Self
    where
        C: Fn() -> Acc + 'static,
        A: Fn(&mut Acc, In) + 'static,
        R: Fn(&Acc) -> Out + 'static,
    {
        Self {
            cells,
            fold: Rc::new(fold),
        }
    }

    /// Takes over accumulators of another type that a former version of the job has left; as for
    /// [`ValueState`](super::ValueState::migrate_from).
    #[must_use]
    pub fn migrate_from<Old: Value>(self, f: impl Fn(Old) -> Acc + 'static) -> Self {
        self.cells.migrate_from(f);
        self
    }

    /// When accumulators are gone by themselves.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        self.cells.spec.set_ttl(ttl);
        self
    }

    /// Takes a value into the accumulator of the key at hand.
    #[inline]
    pub fn add(&self, value: In) {
        self.cells
            .update(|| self.fold.create(), |acc| self.fold.add(acc, value));
    }

    /// What the accumulator of the key at hand comes to, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<Out> {
        self.accumulator().map(|acc| self.fold.result(&acc))
    }

    /// The accumulator of the key at hand, if there is one.
    #[must_use]
    pub fn accumulator(&self) -> Option<Acc> {
        self.cells.with(|v| v.map(Acc::own))
    }

    /// Removes the accumulator of the key at hand.
    pub fn clear(&self) {
        self.cells.clear();
    }
}
