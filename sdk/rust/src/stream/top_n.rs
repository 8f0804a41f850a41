//! The first rows of each key by an order, with their ranks, as a table that changes: see `stream/table.rs`.

use std::cmp::Ordering;

use super::keys::add_keyed;
use super::rolling::AT_END;
use super::table::KeyedTable;
use super::{KeyedStream, Stream};
use crate::arithmetic::Ordered;
use crate::function::keyed::{Ctx, Logic};
use crate::function::{Out, RowKind};
use crate::key::Key;
use crate::record::{Access, Field, Record, RefOf};
use crate::state::{States, ValueState};
use crate::time::Timestamp;
use crate::value::Value;

/// An order of rows: by a field, then by others. See [`asc`] and [`desc`].
pub struct Order<T: Record>(Vec<Box<dyn Compare<T>>>);

/// By a field, the least first.
#[must_use]
pub fn asc<T: Record, N: Ordered>(field: Field<T, N>) -> Order<T> {
    Order::by(field, false)
}

/// By a field, the greatest first.
#[must_use]
pub fn desc<T: Record, N: Ordered>(field: Field<T, N>) -> Order<T> {
    Order::by(field, true)
}

impl<T: Record> Order<T> {
    fn by<N: Ordered>(field: Field<T, N>, descending: bool) -> Self {
        // An enum's fields are not read: rows are equal by them.
        Self(match field.access() {
            Some(access) => vec![Box::new(By { access, descending })],
            None => Vec::new(),
        })
    }

    /// Where rows are equal by this order, by another: `desc(Bid::PRICE).then(asc(Bid::TIME))`.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.0.extend(next.0);
        self
    }

    fn compare(&self, a: RefOf<'_, T>, b: RefOf<'_, T>) -> Ordering {
        self.0
            .iter()
            .map(|by| by.compare(a, b))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

trait Compare<T: Value> {
    fn compare(&self, a: RefOf<'_, T>, b: RefOf<'_, T>) -> Ordering;
}

struct By<T: Value, N: Value> {
    access: Access<T, N>,
    descending: bool,
}

impl<T: Value, N: Ordered> Compare<T> for By<T, N> {
    fn compare(&self, a: RefOf<'_, T>, b: RefOf<'_, T>) -> Ordering {
        let order = N::order(self.access.get(a), self.access.get(b));
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// For each key, its first `n` rows by an order; of equal ones, those that came earlier. `make` gets a row and its rank, from 1.
    ///
    /// Only these rows are kept, so that the input cannot take rows back: [`table`](Self::table) has a `top_n` for that.
    pub fn top_n<O: Record>(
        self,
        name: &str,
        n: usize,
        order: Order<T>,
        make: impl Fn(RefOf<'_, T>, i64) -> O + 'static,
    ) -> Stream<O> {
        self.ranked(name, n, order, make, false)
    }

    fn ranked<O: Record>(
        self,
        name: &str,
        n: usize,
        order: Order<T>,
        make: impl Fn(RefOf<'_, T>, i64) -> O + 'static,
        keeps_all: bool,
    ) -> Stream<O> {
        if n == 0 {
            let message = format!("'{name}': the first 0 rows are none: give at least 1");
            self.draft.borrow_mut().fail(message);
        }
        let mut states = States::default();
        let logic = TopN {
            rows: states.value::<Vec<(T, i64)>>("rows"),
            n,
            order,
            make,
            keeps_all,
        };
        add_keyed::<T, K, O, _>(self.draft, &self.ends, self.key, name, logic, states, false)
    }
}

impl<T: Record, V: Record, K: Key> KeyedTable<T, V, K> {
    /// As [`KeyedStream::top_n`], for rows that may be taken back. All rows of a key are kept, in one value: it is for keys
    /// of up to some thousands of rows.
    pub fn top_n<O: Record>(
        self,
        name: &str,
        n: usize,
        order: Order<T>,
        make: impl Fn(RefOf<'_, T>, i64) -> O + 'static,
    ) -> Stream<O> {
        self.0.ranked(name, n, order, make, true)
    }
}

struct TopN<T: Record, F> {
    /// In order, each with its event time (the least, where it has none).
    rows: ValueState<Vec<(T, i64)>>,
    n: usize,
    order: Order<T>,
    make: F,
    keeps_all: bool,
}

impl<T: Record, F> TopN<T, F> {
    /// Where a row belongs: after those that are equal.
    fn place_of(&self, row: RefOf<'_, T>) -> usize {
        self.rows.with(|rows| {
            let Some(rows) = rows else { return 0 };
            let before = |at: usize| {
                let other = rows.get(at);
                other.is_some_and(|(other, _)| self.order.compare(other, row).is_le())
            };
            let (mut low, mut high) = (0, rows.len());
            while low < high {
                let middle = low.midpoint(high);
                if before(middle) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        })
    }

    /// Where the last row that equals this is.
    fn find(&self, row: RefOf<'_, T>) -> Option<usize> {
        self.rows.with(|rows| {
            let rows = rows?;
            (0..rows.len()).rev().find(|at| {
                rows.get(*at)
                    .is_some_and(|(other, _)| equal::<T>(other, row))
            })
        })
    }

    /// Emits how the ranks from a place on have changed.
    fn emit<O: Record>(
        &self,
        from: usize,
        before: &[(T, i64)],
        after: &[(T, i64)],
        out: &mut Out<O>,
    ) where
        F: Fn(RefOf<'_, T>, i64) -> O,
    {
        for at in from..self.n.min(before.len().max(after.len())) {
            let rank = at as i64 + 1;
            let made = |rows: &[(T, i64)]| rows.get(at).map(|r| (self.make)(r.0.lend(), rank));
            match (made(before), made(after)) {
                (Some(a), Some(b)) if equal::<O>(a.lend(), b.lend()) => {}
                (Some(a), Some(b)) => {
                    out.push_kind(RowKind::UpdateBefore, a.lend());
                    out.push_kind(RowKind::UpdateAfter, b.lend());
                }
                (None, Some(row)) => out.push_kind(RowKind::Insert, row.lend()),
                (Some(row), None) => out.push_kind(RowKind::Delete, row.lend()),
                (None, None) => {}
            }
        }
    }
}

fn equal<T: Value>(a: T::Ref<'_>, b: T::Ref<'_>) -> bool {
    fn same<'a, T: Value>(a: T::Ref<'a>, b: T::Ref<'a>) -> bool {
        a == b
    }
    // Owned, where the lifetimes differ: rows are not covariant to the compiler.
    same::<T>(T::own(a).lend(), T::own(b).lend())
}

impl<T, K, O, F> Logic<T, K, O> for TopN<T, F>
where
    T: Record,
    K: Key,
    O: Record,
    F: Fn(RefOf<'_, T>, i64) -> O + 'static,
{
    fn row(&self, _: K::Ref<'_>, row: RefOf<'_, T>, cx: &mut Ctx, out: &mut Out<O>) {
        let is_addition = cx.kind().is_addition();
        if !is_addition && !self.keeps_all {
            return out.fail("its input takes rows back: use .table().top_n(..)");
        }
        let place = if is_addition {
            let place = self.place_of(row);
            if place >= self.n && !self.keeps_all {
                return;
            }
            place
        } else {
            match self.find(row) {
                Some(place) => place,
                // It has expired, or never was.
                None => return,
            }
        };
        let before = self.rows.get().unwrap_or_default();
        if before.is_empty() && cx.is_batch() {
            cx.set_timer(AT_END);
        }
        let mut after: Vec<(T, i64)> = before.iter().map(|r| Value::own(r.lend())).collect();
        if is_addition {
            let time = cx.event_time().map_or(i64::MIN, Timestamp::millis);
            after.insert(place, (T::own(row), time));
        } else {
            after.remove(place);
        }
        if !self.keeps_all {
            after.truncate(self.n);
        }
        if !cx.is_batch() {
            self.emit(place, &before, &after, out);
        }
        if after.is_empty() {
            self.rows.clear();
        } else {
            self.rows.set(after);
        }
    }

    fn timer(&self, _: K::Ref<'_>, _: Timestamp, _: &mut Ctx, out: &mut Out<O>) {
        let rows = self.rows.get().unwrap_or_default();
        for (rank, (row, time)) in (1..).zip(&rows).take(self.n) {
            let first = out.rows();
            out.push_kind(RowKind::Insert, (self.make)(row.lend(), rank).lend());
            if *time != i64::MIN {
                out.stamp(first, Timestamp(*time));
            }
        }
    }
}
