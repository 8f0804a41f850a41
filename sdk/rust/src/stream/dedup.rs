//! One row for each key, the others dropped: the first or the last, by arrival or by event time.

use super::keys::add_keyed;
use super::rolling::AT_END;
use super::table::Changes;
use super::{KeyedStream, Stream};
use crate::function::keyed::{Ctx, Logic};
use crate::function::{Out, RowKind};
use crate::key::Key;
use crate::record::{Record, RefOf};
use crate::state::{States, Ttl, ValueState};
use crate::time::Timestamp;
use crate::value::Value;

/// Which row of a key stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The one that came first. Nothing is ever taken back.
    First,
    /// The one that came last: each takes the place of the former (`-U`, `+U`).
    Last,
    /// The one with the least event time, of equals the first that came: one that is earlier takes the place of the
    /// former.
    Earliest,
    /// The one with the greatest event time, of equals the last that came: one that is as late or later takes the place of
    /// the former.
    Latest,
}

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// Keeps one row for each key, for ever.
    pub fn deduplicate(self, name: &str, keep: Keep) -> Stream<T> {
        self.deduplicated(name, keep, None)
    }

    /// As [`deduplicate`](Self::deduplicate), among those that come within a time to live.
    pub fn deduplicate_within(self, name: &str, keep: Keep, ttl: Ttl) -> Stream<T> {
        self.deduplicated(name, keep, Some(ttl))
    }

    fn deduplicated(self, name: &str, keep: Keep, ttl: Option<Ttl>) -> Stream<T> {
        fn timed<S: Value>(states: &mut States, name: &str, ttl: Option<Ttl>) -> ValueState<S> {
            let state = states.value(name);
            match ttl {
                Some(ttl) => state.with_ttl(ttl),
                None => state,
            }
        }
        let mut states = States::default();
        let Self {
            draft, ends, key, ..
        } = self;
        match keep {
            Keep::First => {
                let logic = First(timed(&mut states, "seen", ttl));
                add_keyed::<T, K, T, _>(draft, &ends, key, name, logic, states, false)
            }
            Keep::Last => {
                let changes = Changes::new(&mut states, "last");
                let logic = Last(match ttl {
                    Some(ttl) => changes.with_ttl(ttl),
                    None => changes,
                });
                add_keyed::<T, K, T, _>(draft, &ends, key, name, logic, states, false)
            }
            Keep::Earliest | Keep::Latest => {
                let logic = ByTime {
                    state: timed(&mut states, "kept", ttl),
                    latest: keep == Keep::Latest,
                };
                add_keyed::<T, K, T, _>(draft, &ends, key, name, logic, states, false)
            }
        }
    }
}

/// Rows that are taken back cannot be told from those that were dropped.
fn is_refused<O: Record>(cx: &Ctx, out: &mut Out<O>) -> bool {
    let refused = !cx.kind().is_addition();
    if refused {
        out.fail("its input takes rows back, and duplicates are dropped of rows that stay");
    }
    refused
}

struct First(ValueState<bool>);

impl<T: Record, K: Key> Logic<T, K, T> for First {
    #[inline]
    fn row(&self, _: K::Ref<'_>, row: RefOf<'_, T>, cx: &mut Ctx, out: &mut Out<T>) {
        if is_refused(cx, out) {
            return;
        }
        if self.0.with(|seen| seen.is_none()) {
            self.0.set(true);
            out.push_kind(RowKind::Insert, row);
        }
    }
    fn timer(&self, _: K::Ref<'_>, _: Timestamp, _: &mut Ctx, _: &mut Out<T>) {}
}

struct Last<T: Record>(Changes<T>);

impl<T: Record, K: Key> Logic<T, K, T> for Last<T> {
    fn row(&self, _: K::Ref<'_>, row: RefOf<'_, T>, cx: &mut Ctx, out: &mut Out<T>) {
        if !is_refused(cx, out) {
            self.0.set(T::own(row), cx, out);
        }
    }
    fn timer(&self, _: K::Ref<'_>, time: Timestamp, _: &mut Ctx, out: &mut Out<T>) {
        self.0.on_timer(time, out);
    }
}

struct ByTime<T: Record> {
    state: ValueState<(T, i64)>,
    latest: bool,
}

impl<T: Record, K: Key> Logic<T, K, T> for ByTime<T> {
    fn row(&self, _: K::Ref<'_>, row: RefOf<'_, T>, cx: &mut Ctx, out: &mut Out<T>) {
        if is_refused(cx, out) {
            return;
        }
        let Some(Timestamp(time)) = cx.event_time() else {
            return out.fail("rows have no event times: assign timestamps above it");
        };
        let batch = cx.is_batch();
        let (is_first, stays) = self.state.with(|former| {
            let Some((row_before, before)) = former else {
                return (true, true);
            };
            let stays = if self.latest {
                time >= before
            } else {
                time < before
            };
            if stays && !batch {
                out.push_kind(RowKind::UpdateBefore, row_before);
            }
            (false, stays)
        });
        if !stays {
            return;
        }
        match (batch, is_first) {
            (true, true) => cx.set_timer(AT_END),
            (true, false) => {}
            (false, true) => out.push_kind(RowKind::Insert, row),
            (false, false) => out.push_kind(RowKind::UpdateAfter, row),
        }
        self.state.set((T::own(row), time));
    }

    fn timer(&self, _: K::Ref<'_>, _: Timestamp, _: &mut Ctx, out: &mut Out<T>) {
        if let Some((row, time)) = self.state.get() {
            let first = out.rows();
            out.push_kind(RowKind::Insert, row.lend());
            out.stamp(first, Timestamp(time));
        }
    }
}
