//! Rolling aggregates: for each row, the result over all rows of its key so far. In batch mode each key's last result
//! alone, when the input ends.
//!
//! `sum`, `min` and `max` give the first row of the key with that one field replaced, `min_by` and `max_by` the whole row
//! that holds the extreme (the first of equals).

use std::cmp::Ordering;
use std::marker::PhantomData;

use super::keys::add_keyed;
use super::{KeyedStream, Stream};
use crate::arithmetic::{Number, Ordered};
use crate::function::Out;
use crate::function::keyed::{Ctx, Logic};
use crate::key::Key;
use crate::record::{Access, Field, Record, RefOf};
use crate::state::{States, ValueState};
use crate::time::Timestamp;
use crate::value::Value;

/// The time of the timer that fires when the input ends. It needs no event times.
pub(crate) const AT_END: Timestamp = Timestamp(i64::MAX);

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// For each row, what `f` makes of the result so far and the row; the first row of a key is its first result.
    pub fn reduce(self, name: &str, f: impl Fn(&T, RefOf<'_, T>) -> T + 'static) -> Stream<T> {
        self.rolling(name, "reduced", Reduce(f, PhantomData))
    }

    /// The running sum of a field. A sum that the field's type cannot hold fails the task.
    pub fn sum<N: Number>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        match self.access_to(name, field) {
            Some(access) => self.rolling(name, "sum", Sum(access)),
            None => self.nothing(),
        }
    }

    /// The least value of a field so far.
    pub fn min<N: Ordered>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        self.extreme(name, field, Ordering::Less, false)
    }

    /// The greatest value of a field so far.
    pub fn max<N: Ordered>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        self.extreme(name, field, Ordering::Greater, false)
    }

    /// The row with the least value of a field so far, the first of equals.
    pub fn min_by<N: Ordered>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        self.extreme(name, field, Ordering::Less, true)
    }

    /// The row with the greatest value of a field so far, the first of equals.
    pub fn max_by<N: Ordered>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        self.extreme(name, field, Ordering::Greater, true)
    }

    /// The running average of a field: `make` gets the key and the average.
    pub fn avg<N: Number, O: Record>(
        self,
        name: &str,
        field: Field<T, N>,
        make: impl Fn(K::Ref<'_>, f64) -> O + 'static,
    ) -> Stream<O> {
        match self.access_to(name, field) {
            Some(access) => self.rolling(name, "average", Average { access, make }),
            None => self.nothing(),
        }
    }

    /// The running count: `make` gets the key and how many rows there were, from 1.
    pub fn count<O: Record>(
        self,
        name: &str,
        make: impl Fn(K::Ref<'_>, i64) -> O + 'static,
    ) -> Stream<O> {
        self.rolling(name, "count", Count(make))
    }

    fn extreme<N: Ordered>(
        self,
        name: &str,
        field: Field<T, N>,
        wanted: Ordering,
        whole: bool,
    ) -> Stream<T> {
        let Some(access) = self.access_to(name, field) else {
            return self.nothing();
        };
        let logic = Extreme {
            access,
            wanted,
            whole,
        };
        self.rolling(name, "extreme", logic)
    }

    fn rolling<O: Record, R: Rolling<T, K, O>>(self, name: &str, state: &str, of: R) -> Stream<O> {
        let mut states = States::default();
        let logic = Roll {
            state: states.value::<R::Acc>(state),
            of,
        };
        add_keyed::<T, K, O, _>(self.draft, &self.ends, self.key, name, logic, states, false)
    }

    /// How a field is read; none, and the job is refused, where it is an enum's.
    pub(crate) fn access_to<N: Value>(
        &self,
        name: &str,
        field: Field<T, N>,
    ) -> Option<Access<T, N>> {
        let access = field.access();
        if access.is_none() {
            self.draft.borrow_mut().fail(format!(
                "'{name}': '{}' is what an enum makes of its variants, and not a field of a record",
                field.name()
            ));
        }
        access
    }

    /// What stands for the result of a function that could not be added: the job is refused.
    pub(crate) fn nothing<O: Record>(self) -> Stream<O> {
        let operator = self.ends.first().map_or(0, |end| end.operator);
        Stream::of(self.draft, operator)
    }
}

/// A rolling aggregate over one key.
trait Rolling<T: Value, K: Key, O: Record>: 'static {
    /// What is kept.
    type Acc: Value;

    /// The next accumulator; none: it stays as it is. Errors: why the task fails.
    fn next(
        &self,
        former: Option<RefOf<'_, Self::Acc>>,
        row: RefOf<'_, T>,
    ) -> Result<Option<Self::Acc>, String>;

    /// Emits the result.
    fn emit(&self, key: K::Ref<'_>, acc: RefOf<'_, Self::Acc>, out: &mut Out<O>);
}

struct Roll<A: Value, R> {
    of: R,
    state: ValueState<A>,
}

impl<T, K, O, R> Logic<T, K, O> for Roll<R::Acc, R>
where
    T: Record,
    K: Key,
    O: Record,
    R: Rolling<T, K, O>,
{
    #[inline]
    fn row(&self, key: K::Ref<'_>, row: RefOf<'_, T>, cx: &mut Ctx, out: &mut Out<O>) {
        if !cx.kind().is_addition() {
            return out.fail("its input takes rows back: use .table(), whose results follow");
        }
        let (is_first, next) = self
            .state
            .with(|former| (former.is_none(), self.of.next(former, row)));
        match next {
            Ok(Some(acc)) => self.state.set(acc),
            Ok(None) => {}
            Err(message) => return out.fail(message),
        }
        if cx.is_batch() {
            if is_first {
                cx.set_timer(AT_END);
            }
        } else {
            self.emit(key, out);
        }
    }

    fn timer(&self, key: K::Ref<'_>, _: Timestamp, _: &mut Ctx, out: &mut Out<O>) {
        self.emit(key, out);
    }
}

impl<A: Value, R> Roll<A, R> {
    #[inline]
    fn emit<T, K, O>(&self, key: K::Ref<'_>, out: &mut Out<O>)
    where
        T: Record,
        K: Key,
        O: Record,
        R: Rolling<T, K, O, Acc = A>,
    {
        self.state.with(|acc| {
            if let Some(acc) = acc {
                self.of.emit(key, acc, out);
            }
        });
    }
}

struct Reduce<T, F>(F, PhantomData<fn() -> T>);

impl<T: Record, K: Key, F> Rolling<T, K, T> for Reduce<T, F>
where
    F: Fn(&T, RefOf<'_, T>) -> T + 'static,
{
    type Acc = T;
    #[inline]
    fn next(&self, former: Option<RefOf<'_, T>>, row: RefOf<'_, T>) -> Result<Option<T>, String> {
        Ok(Some(match former {
            Some(former) => (self.0)(&T::own(former), row),
            None => T::own(row),
        }))
    }
    #[inline]
    fn emit(&self, _: K::Ref<'_>, acc: RefOf<'_, T>, out: &mut Out<T>) {
        out.push(acc);
    }
}

struct Sum<T: Value, N: Value>(Access<T, N>);

impl<T: Record, K: Key, N: Number> Rolling<T, K, T> for Sum<T, N> {
    type Acc = T;
    #[inline]
    fn next(&self, former: Option<RefOf<'_, T>>, row: RefOf<'_, T>) -> Result<Option<T>, String> {
        let Some(former) = former else {
            return Ok(Some(T::own(row)));
        };
        let sum = self.0.get(former).plus(self.0.get(row));
        let sum = sum.ok_or("a running sum is too great for its field")?;
        let mut next = T::own(former);
        self.0.set(&mut next, sum);
        Ok(Some(next))
    }
    #[inline]
    fn emit(&self, _: K::Ref<'_>, acc: RefOf<'_, T>, out: &mut Out<T>) {
        out.push(acc);
    }
}

struct Extreme<T: Value, N: Value> {
    access: Access<T, N>,
    /// How a value compares to the extreme so far that takes its place.
    wanted: Ordering,
    /// Whether the whole row takes the place of the former.
    whole: bool,
}

impl<T: Record, K: Key, N: Ordered> Rolling<T, K, T> for Extreme<T, N> {
    type Acc = T;
    #[inline]
    fn next(&self, former: Option<RefOf<'_, T>>, row: RefOf<'_, T>) -> Result<Option<T>, String> {
        let Some(former) = former else {
            return Ok(Some(T::own(row)));
        };
        let value = self.access.get(row);
        if N::order(value, self.access.get(former)) != self.wanted {
            return Ok(None);
        }
        if self.whole {
            return Ok(Some(T::own(row)));
        }
        let mut next = T::own(former);
        self.access.set(&mut next, N::own(value));
        Ok(Some(next))
    }
    #[inline]
    fn emit(&self, _: K::Ref<'_>, acc: RefOf<'_, T>, out: &mut Out<T>) {
        out.push(acc);
    }
}

struct Average<T: Value, N: Value, F> {
    access: Access<T, N>,
    make: F,
}

impl<T, K, N, O, F> Rolling<T, K, O> for Average<T, N, F>
where
    T: Record,
    K: Key,
    N: Number,
    O: Record,
    F: Fn(K::Ref<'_>, f64) -> O + 'static,
{
    type Acc = (N::Sum, i64);
    #[inline]
    fn next(
        &self,
        former: Option<(N::Sum, i64)>,
        row: RefOf<'_, T>,
    ) -> Result<Option<(N::Sum, i64)>, String> {
        let (sum, count) = former.unwrap_or_default();
        let sum = self.access.get(row).add_to(sum);
        let sum = sum.ok_or("the sum of a running average is too great")?;
        Ok(Some((sum, count + 1)))
    }
    #[inline]
    fn emit(&self, key: K::Ref<'_>, (sum, count): (N::Sum, i64), out: &mut Out<O>) {
        out.push((self.make)(key, N::mean(sum, count)).lend());
    }
}

struct Count<F>(F);

impl<T, K, O, F> Rolling<T, K, O> for Count<F>
where
    T: Record,
    K: Key,
    O: Record,
    F: Fn(K::Ref<'_>, i64) -> O + 'static,
{
    type Acc = i64;
    #[inline]
    fn next(&self, former: Option<i64>, _: RefOf<'_, T>) -> Result<Option<i64>, String> {
        Ok(Some(former.unwrap_or(0) + 1))
    }
    #[inline]
    fn emit(&self, key: K::Ref<'_>, count: i64, out: &mut Out<O>) {
        out.push((self.0)(key, count).lend());
    }
}
