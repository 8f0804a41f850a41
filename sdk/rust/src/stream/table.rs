//! Streams as tables: one row (or one result) for each key, and the changes of it.
//!
//! In streaming mode each change goes out at once: `+I` for a new row, `-U` and `+U` for one that has changed, `-D` for one
//! that is gone; what does not change the row is not told. In batch mode each key's last row alone goes out, as `+I`, when
//! the input ends.

use std::marker::PhantomData;

use super::keys::add_keyed;
use super::rolling::AT_END;
use super::{KeyedStream, Stream};
use crate::arithmetic::Number;
use crate::error::{Error, Result};
use crate::function::keyed::{Ctx, Logic};
use crate::function::{Out, RowKind};
use crate::key::Key;
use crate::record::{Access, Field, Record, RefOf};
use crate::state::{States, Ttl, ValueState};
use crate::time::Timestamp;
use crate::value::Value;

/// A row for each key as state, whose changes are emitted. For process functions that make tables:
///
/// ```
/// # use pelton::prelude::*;
/// # #[derive(Record, Clone)] struct Bid { item: u64, price: i64 }
/// struct Highest { best: Changes<Bid> }
///
/// impl KeyedProcess for Highest {
///     type In = Bid;
///     type Key = u64;
///     type Out = Bid;
///     fn process(&self, _: u64, bid: BidRef<'_>, cx: &mut Ctx, out: &mut Out<Bid>) {
///         if self.best.with(|best| best.is_none_or(|b| b.price < bid.price)) {
///             self.best.set(bid.to_owned(), cx, out);
///         }
///     }
///     fn on_timer(&self, _: u64, time: Timestamp, _: &mut Ctx, out: &mut Out<Bid>) {
///         self.best.on_timer(time, out);
///     }
/// }
/// # fn job(bids: Stream<Bid>) -> Stream<Bid> {
/// bids.key_by(Bid::ITEM).process("highest", |states| Highest { best: Changes::new(states, "best") })
/// # }
/// ```
pub struct Changes<T: Record> {
    state: ValueState<T>,
}

impl<T: Record> Changes<T> {
    /// Declares the state.
    pub fn new(states: &mut States, name: &str) -> Self {
        Self {
            state: states.value(name),
        }
    }

    /// When the row is forgotten: without a change that says so.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        Self {
            state: self.state.with_ttl(ttl),
        }
    }

    /// The row of the key at hand.
    #[must_use]
    pub fn get(&self) -> Option<T> {
        self.state.get()
    }

    /// Looks at the row of the key at hand without copying it.
    pub fn with<R>(&self, f: impl FnOnce(Option<RefOf<'_, T>>) -> R) -> R {
        self.state.with(f)
    }

    /// Sets the row of the key at hand, and emits what that changes.
    pub fn set(&self, row: T, cx: &mut Ctx, out: &mut Out<T>) {
        if cx.is_batch() {
            if self.state.with(|former| former.is_none()) {
                cx.set_timer(AT_END);
            }
        } else {
            let former = self.state.get();
            change(former.as_ref().map(T::lend), Some(row.lend()), out);
        }
        self.state.set(row);
    }

    /// Removes the row of the key at hand, and emits that it is gone.
    pub fn delete(&self, cx: &mut Ctx, out: &mut Out<T>) {
        if !cx.is_batch() {
            self.state.with(|former| change(former, None, out));
        }
        self.state.clear();
    }

    /// Emits the row where the input has ended in batch mode: to be called from `on_timer`. Whether the timer was the
    /// state's own.
    pub fn on_timer(&self, time: Timestamp, out: &mut Out<T>) -> bool {
        let own = time == AT_END;
        if own {
            self.state.with(|row| change::<T>(None, row, out));
        }
        own
    }
}

/// Emits the change from one row to another. Of one lifetime, since rows of two are of two types.
fn change<'a, T: Record>(from: Option<RefOf<'a, T>>, to: Option<RefOf<'a, T>>, out: &mut Out<T>) {
    match (from, to) {
        (None, Some(row)) => out.push_kind(RowKind::Insert, row),
        (Some(before), Some(after)) => {
            if before != after {
                out.push_kind(RowKind::UpdateBefore, before);
                out.push_kind(RowKind::UpdateAfter, after);
            }
        }
        (Some(row), None) => out.push_kind(RowKind::Delete, row),
        (None, None) => {}
    }
}

/// The rows of each key, which may be changed and taken back (`-U`, `-D`): see [`KeyedStream::table`].
pub struct KeyedTable<T: Record, V: Record, K: Key>(pub(crate) KeyedStream<T, V, K>);

/// A result over the rows that a key has at the time, for input that takes rows back.
pub trait TableAggregate: 'static {
    /// What it reads of the rows.
    type In: Record;
    /// The key.
    type Key: Key;
    /// What is kept.
    type Acc: Value;
    /// The result.
    type Out: Record;

    /// An empty accumulator.
    fn create(&self) -> Self::Acc;
    /// Adds a row. Errors: the task fails.
    fn add(&self, acc: &mut Self::Acc, row: RefOf<'_, Self::In>) -> Result<()>;
    /// Takes a row back that was added before. Errors: the task fails.
    fn retract(&self, acc: &mut Self::Acc, row: RefOf<'_, Self::In>) -> Result<()>;
    /// The result, of so many rows (at least one). Called for the former result, too, so that it is not kept.
    fn result(
        &self,
        key: <Self::Key as Key>::Ref<'_>,
        acc: <Self::Acc as Value>::Ref<'_>,
        rows: i64,
    ) -> Result<Self::Out>;
}

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// The rows of each key as a table: functions on it understand rows that are taken back.
    #[must_use]
    pub fn table(self) -> KeyedTable<T, V, K> {
        KeyedTable(self)
    }

    /// Takes each row as the new version of the key's one row, and emits the changes: `-D` removes it.
    pub fn latest(self, name: &str) -> Stream<T> {
        let mut states = States::default();
        let logic = Latest(Changes::<T>::new(&mut states, "latest"));
        add_keyed::<T, K, T, _>(self.draft, &self.ends, self.key, name, logic, states, false)
    }
}

impl<T: Record, V: Record, K: Key> KeyedTable<T, V, K> {
    /// The result of an aggregate for each key that has rows.
    pub fn aggregate<A>(self, name: &str, aggregate: A) -> Stream<A::Out>
    where
        A: TableAggregate<In = V, Key = K>,
    {
        self.add::<V, A>(name, aggregate)
    }

    /// How many rows there are: `make` gets the key and the count.
    pub fn count<O: Record>(
        self,
        name: &str,
        make: impl Fn(K::Ref<'_>, i64) -> O + 'static,
    ) -> Stream<O> {
        self.add::<V, _>(name, Count(make, PhantomData::<fn() -> (V, K, O)>))
    }

    /// The sum of a field: `make` gets the key, the sum and the count. A sum that the field's type cannot hold fails the task.
    pub fn sum<N: Number, O: Record>(
        self,
        name: &str,
        field: Field<T, N>,
        make: impl Fn(K::Ref<'_>, N, i64) -> O + 'static,
    ) -> Stream<O> {
        self.sums(name, field, move |key, sum, rows| {
            let sum = N::of_sum(sum).ok_or_else(|| Error::new("a sum is too great for its field"));
            Ok(make(key, sum?, rows))
        })
    }

    /// The average of a field: `make` gets the key and the average.
    pub fn avg<N: Number, O: Record>(
        self,
        name: &str,
        field: Field<T, N>,
        make: impl Fn(K::Ref<'_>, f64) -> O + 'static,
    ) -> Stream<O> {
        self.sums(name, field, move |key, sum, rows| {
            Ok(make(key, N::mean(sum, rows)))
        })
    }

    fn sums<N: Number, O: Record>(
        self,
        name: &str,
        field: Field<T, N>,
        make: impl Fn(K::Ref<'_>, N::Sum, i64) -> Result<O> + 'static,
    ) -> Stream<O> {
        let Some(access) = self.0.access_to(name, field) else {
            return self.0.nothing();
        };
        let of = PhantomData::<fn() -> (K, O)>;
        self.add::<T, _>(name, Sums { access, make, of })
    }

    fn add<W: Record, A>(self, name: &str, aggregate: A) -> Stream<A::Out>
    where
        A: TableAggregate<In = W, Key = K>,
    {
        let mut states = States::default();
        let logic = Grouped {
            state: states.value::<(A::Acc, i64)>("group"),
            aggregate,
        };
        let keyed = self.0;
        let key = keyed.key;
        add_keyed::<W, K, A::Out, _>(keyed.draft, &keyed.ends, key, name, logic, states, false)
    }
}

struct Latest<T: Record>(Changes<T>);

impl<T: Record, K: Key> Logic<T, K, T> for Latest<T> {
    fn row(&self, _: K::Ref<'_>, row: RefOf<'_, T>, cx: &mut Ctx, out: &mut Out<T>) {
        match cx.kind() {
            RowKind::Insert | RowKind::UpdateAfter => self.0.set(T::own(row), cx, out),
            RowKind::Delete => self.0.delete(cx, out),
            // What it is now follows.
            RowKind::UpdateBefore => {}
        }
    }
    fn timer(&self, _: K::Ref<'_>, time: Timestamp, _: &mut Ctx, out: &mut Out<T>) {
        self.0.on_timer(time, out);
    }
}

struct Grouped<A: TableAggregate> {
    state: ValueState<(A::Acc, i64)>,
    aggregate: A,
}

impl<A: TableAggregate> Grouped<A> {
    fn change(
        &self,
        key: <A::Key as Key>::Ref<'_>,
        row: RefOf<'_, A::In>,
        cx: &mut Ctx,
        out: &mut Out<A::Out>,
    ) -> Result<()> {
        let former = self.state.get();
        let result = |(acc, rows): &(A::Acc, i64)| self.aggregate.result(key, acc.lend(), *rows);
        let before = match &former {
            Some(former) if !cx.is_batch() => Some(result(former)?),
            _ => None,
        };
        if former.is_none() && cx.is_batch() {
            cx.set_timer(AT_END);
        }
        let mut group = match former {
            Some(former) => former,
            // Taken back from a group that is not there: it has expired, or never was.
            None if !cx.kind().is_addition() => return Ok(()),
            None => (self.aggregate.create(), 0),
        };
        if cx.kind().is_addition() {
            self.aggregate.add(&mut group.0, row)?;
            group.1 += 1;
        } else {
            self.aggregate.retract(&mut group.0, row)?;
            group.1 -= 1;
        }
        let after = match group.1 {
            rows if rows > 0 && !cx.is_batch() => Some(result(&group)?),
            _ => None,
        };
        let (before, after) = (before.as_ref(), after.as_ref());
        change::<A::Out>(before.map(Value::lend), after.map(Value::lend), out);
        if group.1 > 0 {
            self.state.set(group);
        } else {
            self.state.clear();
        }
        Ok(())
    }
}

impl<A: TableAggregate> Logic<A::In, A::Key, A::Out> for Grouped<A> {
    fn row(
        &self,
        key: <A::Key as Key>::Ref<'_>,
        row: RefOf<'_, A::In>,
        cx: &mut Ctx,
        out: &mut Out<A::Out>,
    ) {
        if let Err(e) = self.change(key, row, cx, out) {
            out.fail(e);
        }
    }

    fn timer(
        &self,
        key: <A::Key as Key>::Ref<'_>,
        _: Timestamp,
        _: &mut Ctx,
        out: &mut Out<A::Out>,
    ) {
        self.state.with(|group| {
            let Some((acc, rows)) = group else { return };
            match self.aggregate.result(key, acc, rows) {
                Ok(row) => out.push_kind(RowKind::Insert, row.lend()),
                Err(e) => out.fail(e),
            }
        });
    }
}

struct Count<F, S>(F, PhantomData<S>);

impl<V, K, O, F> TableAggregate for Count<F, fn() -> (V, K, O)>
where
    V: Record,
    K: Key,
    O: Record,
    F: Fn(K::Ref<'_>, i64) -> O + 'static,
{
    type In = V;
    type Key = K;
    /// The count stands beside each accumulator.
    type Acc = bool;
    type Out = O;

    fn create(&self) -> bool {
        true
    }
    fn add(&self, _: &mut bool, _: RefOf<'_, V>) -> Result<()> {
        Ok(())
    }
    fn retract(&self, _: &mut bool, _: RefOf<'_, V>) -> Result<()> {
        Ok(())
    }
    fn result(&self, key: K::Ref<'_>, _: bool, rows: i64) -> Result<O> {
        Ok((self.0)(key, rows))
    }
}

struct Sums<T: Value, N: Value, F, S> {
    access: Access<T, N>,
    make: F,
    of: PhantomData<S>,
}

impl<T, K, N, O, F> TableAggregate for Sums<T, N, F, fn() -> (K, O)>
where
    T: Record,
    K: Key,
    N: Number,
    O: Record,
    F: Fn(K::Ref<'_>, N::Sum, i64) -> Result<O> + 'static,
{
    type In = T;
    type Key = K;
    type Acc = N::Sum;
    type Out = O;

    fn create(&self) -> N::Sum {
        N::Sum::default()
    }
    fn add(&self, acc: &mut N::Sum, row: RefOf<'_, T>) -> Result<()> {
        *acc = self.access.get(row).add_to(*acc).ok_or_else(overflow)?;
        Ok(())
    }
    fn retract(&self, acc: &mut N::Sum, row: RefOf<'_, T>) -> Result<()> {
        *acc = self.access.get(row).take_from(*acc).ok_or_else(overflow)?;
        Ok(())
    }
    fn result(&self, key: K::Ref<'_>, acc: N::Sum, rows: i64) -> Result<O> {
        (self.make)(key, acc, rows)
    }
}

fn overflow() -> Error {
    Error::new("a sum is too great")
}
