//! Interval joins: each row of one stream meets those rows of the other, of its key, whose event time is near enough.
//!
//! As Flink's interval join, to the millisecond. A row that is behind the watermark is late: it meets nobody, and goes to a
//! side output if there is one. A row is forgotten by a timer when the watermark says that no row can come for it any
//! more: a left row at its time + upper bound, a right one at its time - lower bound (at its own time, where that is earlier).
//!
//! State: a map of rows by (event time, number) for each side, and for each key how many rows there are. What a row writes, it
//! has not to read; what it meets is read for many keys at once.

use std::marker::PhantomData;
use std::ops::Bound;

use super::connect::CoProcess;
use super::{KeyedStream, Stream};
use crate::function::keyed::Ctx;
use crate::function::{Out, SideTag};
use crate::key::Key;
use crate::record::{Emit, Record, RefOf};
use crate::state::{MapState, States, ValueState};
use crate::time::{Duration, Timestamp};
use crate::value::Value;

/// Two keyed streams whose rows meet within an interval. `L` and `R` are what is read, and kept, of each.
pub struct IntervalJoin<T, L, U, R, K>
where
    T: Record,
    L: Record,
    U: Record,
    R: Record,
    K: Key,
{
    left: KeyedStream<T, L, K>,
    right: KeyedStream<U, R, K>,
    lower: i64,
    upper: i64,
    late_left: Option<&'static SideTag<L>>,
    late_right: Option<&'static SideTag<R>>,
}

/// The times of two rows that meet.
#[derive(Clone, Copy, Debug)]
pub struct JoinCtx {
    left: Timestamp,
    right: Timestamp,
    watermark: Option<Timestamp>,
}

impl JoinCtx {
    /// Of the left row.
    #[must_use]
    pub fn left_time(&self) -> Timestamp {
        self.left
    }

    /// Of the right row.
    #[must_use]
    pub fn right_time(&self) -> Timestamp {
        self.right
    }

    /// Of the result: the greater of both.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.left.max(self.right)
    }

    /// The current watermark; none before the first.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        self.watermark
    }
}

impl<T: Record, L: Record, K: Key> KeyedStream<T, L, K> {
    /// Each row with those of `other` whose time lies within [its time + `lower`, its time + `upper`], both included.
    ///
    /// `lower` may be below 0. The rows that the views name are kept as long as they can meet others, so that a narrow
    /// [`view`](Stream::view) saves state.
    #[must_use]
    pub fn interval_join<U: Record, R: Record>(
        self,
        other: KeyedStream<U, R, K>,
        lower: Duration,
        upper: Duration,
    ) -> IntervalJoin<T, L, U, R, K> {
        if lower > upper {
            self.draft.borrow_mut().fail(format!(
                "an interval join from {} ms to {} ms: the lower bound is above the upper",
                lower.millis(),
                upper.millis()
            ));
        }
        IntervalJoin {
            left: self,
            right: other,
            lower: lower.millis(),
            upper: upper.millis(),
            late_left: None,
            late_right: None,
        }
    }
}

impl<T, L, U, R, K> IntervalJoin<T, L, U, R, K>
where
    T: Record,
    L: Record,
    U: Record,
    R: Record,
    K: Key,
{
    /// The lower bound itself is outside.
    #[must_use]
    pub fn exclusive_lower(mut self) -> Self {
        self.lower = self.lower.saturating_add(1);
        self
    }

    /// The upper bound itself is outside.
    #[must_use]
    pub fn exclusive_upper(mut self) -> Self {
        self.upper = self.upper.saturating_sub(1);
        self
    }

    /// Late rows of the left stream go to a side output: `joined.side(&TAG)`. Without, they are dropped.
    #[must_use]
    pub fn late_left_to(mut self, tag: &'static SideTag<L>) -> Self {
        self.late_left = Some(tag);
        self
    }

    /// Late rows of the right stream go to a side output: `joined.side(&TAG)`. Without, they are dropped.
    #[must_use]
    pub fn late_right_to(mut self, tag: &'static SideTag<R>) -> Self {
        self.late_right = Some(tag);
        self
    }

    /// Makes one row of each two that meet. Its event time is the greater of both.
    pub fn map<O: Record + Emit<O>>(
        self,
        name: &str,
        f: impl Fn(RefOf<'_, L>, RefOf<'_, R>) -> O + 'static,
    ) -> Stream<O> {
        self.process(
            name,
            move |left: RefOf<'_, L>, right: RefOf<'_, R>, _: &JoinCtx, out: &mut Out<O>| {
                out.emit(f(left, right));
            },
        )
    }

    /// Makes any number of rows of each two that meet. Their event time is the greater of both.
    pub fn process<O: Record>(
        self,
        name: &str,
        f: impl Fn(RefOf<'_, L>, RefOf<'_, R>, &JoinCtx, &mut Out<O>) + 'static,
    ) -> Stream<O> {
        let Self {
            left,
            right,
            lower,
            upper,
            late_left,
            late_right,
        } = self;
        left.connect(right).process(name, |states| {
            let live = states.value("live");
            Joined {
                bounds: Bounds { lower, upper },
                left: Buffer::new(states, "left", &live),
                right: Buffer::new(states, "right", &live),
                late_left,
                late_right,
                f,
                of: PhantomData,
            }
        })
    }
}

/// A right row at `t` meets a left row at `l` if `l + lower <= t <= l + upper`.
#[derive(Clone, Copy)]
struct Bounds {
    lower: i64,
    upper: i64,
}

impl Bounds {
    /// When a left row is forgotten.
    fn end_of_left(self, time: i64) -> i64 {
        time.saturating_add(self.upper.max(0))
    }

    /// When a right row is forgotten.
    fn end_of_right(self, time: i64) -> i64 {
        time.saturating_sub(self.lower.min(0))
    }
}

/// The rows of one side, by (event time, number).
struct Buffer<T: Value> {
    rows: MapState<(Timestamp, u32), T>,
    /// Of both sides: the number of the next row, and how many there are.
    live: ValueState<(u32, u32)>,
}

impl<T: Value> Buffer<T> {
    fn new(states: &mut States, name: &str, live: &ValueState<(u32, u32)>) -> Self {
        Self {
            rows: states.map(name),
            live: live.clone(),
        }
    }

    fn add(&self, time: i64, row: T) {
        let (number, live) = self.live.get().unwrap_or_default();
        self.rows.put((Timestamp(time), number), row);
        self.live.set((number.wrapping_add(1), live + 1));
    }

    /// Hands the rows between two times, both included, to `f`, ascending.
    fn each(&self, from: i64, to: i64, mut f: impl FnMut(Timestamp, T::Ref<'_>)) {
        if from > to {
            return;
        }
        let from = Bound::Included((Timestamp(from), 0));
        let to = Bound::Included((Timestamp(to), u32::MAX));
        self.rows.each_within(from, to, |(time, _), row| {
            f(time, row);
            true
        });
    }

    /// Forgets the rows of a time.
    fn remove(&self, time: i64) {
        let mut gone = Vec::new();
        let from = Bound::Included((Timestamp(time), 0));
        let to = Bound::Included((Timestamp(time), u32::MAX));
        self.rows.each_within(from, to, |key, _| {
            gone.push(key);
            true
        });
        for key in &gone {
            self.rows.remove(*key);
        }
        let (number, live) = self.live.get().unwrap_or_default();
        match live.saturating_sub(gone.len() as u32) {
            0 => self.live.clear(),
            live => self.live.set((number, live)),
        }
    }
}

struct Joined<L: Record, R: Record, K, O, F> {
    bounds: Bounds,
    left: Buffer<L>,
    right: Buffer<R>,
    late_left: Option<&'static SideTag<L>>,
    late_right: Option<&'static SideTag<R>>,
    f: F,
    of: PhantomData<fn() -> (K, O)>,
}

/// A borrowed row that is emitted as it is.
struct As<'a, T: Value>(T::Ref<'a>);

impl<T: Value> Emit<T> for As<'_, T> {
    fn push_to(self, builder: &mut T::Builder) {
        T::push(builder, self.0);
    }
}

impl<L, R, K, O, F> Joined<L, R, K, O, F>
where
    L: Record,
    R: Record,
    O: Record,
    F: Fn(RefOf<'_, L>, RefOf<'_, R>, &JoinCtx, &mut Out<O>) + 'static,
{
    fn meet(
        &self,
        left: (Timestamp, RefOf<'_, L>),
        right: (Timestamp, RefOf<'_, R>),
        watermark: Option<Timestamp>,
        out: &mut Out<O>,
    ) {
        let cx = JoinCtx {
            left: left.0,
            right: right.0,
            watermark,
        };
        let first = out.rows();
        (self.f)(left.1, right.1, &cx, out);
        out.stamp(first, cx.time());
    }
}

/// The time of a row; none where it has none, and the task fails.
fn time_of<O: Record>(cx: &Ctx, out: &mut Out<O>) -> Option<i64> {
    let time = cx.event_time().map(Timestamp::millis);
    if time.is_none() {
        out.fail("rows of an interval join have no event times: assign timestamps above it");
    }
    time
}

fn is_late(time: i64, cx: &Ctx) -> bool {
    cx.watermark().is_some_and(|watermark| time < watermark.0)
}

impl<L, R, K, O, F> CoProcess for Joined<L, R, K, O, F>
where
    L: Record,
    R: Record,
    K: Key,
    O: Record,
    F: Fn(RefOf<'_, L>, RefOf<'_, R>, &JoinCtx, &mut Out<O>) + 'static,
{
    type Left = L;
    type Right = R;
    type Key = K;
    type Out = O;

    fn left(&self, _: K::Ref<'_>, row: RefOf<'_, L>, cx: &mut Ctx, out: &mut Out<O>) {
        let Some(time) = time_of(cx, out) else {
            return;
        };
        if is_late(time, cx) {
            if let Some(tag) = self.late_left {
                out.side(tag, As::<L>(row));
            }
            return;
        }
        self.left.add(time, L::own(row));
        let from = time.saturating_add(self.bounds.lower);
        let to = time.saturating_add(self.bounds.upper);
        let watermark = cx.watermark();
        self.right.each(from, to, |at, other| {
            self.meet((Timestamp(time), row), (at, other), watermark, out);
        });
        cx.set_timer(Timestamp(self.bounds.end_of_left(time)));
    }

    fn right(&self, _: K::Ref<'_>, row: RefOf<'_, R>, cx: &mut Ctx, out: &mut Out<O>) {
        let Some(time) = time_of(cx, out) else {
            return;
        };
        if is_late(time, cx) {
            if let Some(tag) = self.late_right {
                out.side(tag, As::<R>(row));
            }
            return;
        }
        self.right.add(time, R::own(row));
        let from = time.saturating_sub(self.bounds.upper);
        let to = time.saturating_sub(self.bounds.lower);
        let watermark = cx.watermark();
        self.left.each(from, to, |at, other| {
            self.meet((at, other), (Timestamp(time), row), watermark, out);
        });
        cx.set_timer(Timestamp(self.bounds.end_of_right(time)));
    }

    /// The timers of both sides: where both have one at this time, it is one.
    fn on_timer(&self, _: K::Ref<'_>, time: Timestamp, _: &mut Ctx, _: &mut Out<O>) {
        self.left
            .remove(time.0.saturating_sub(self.bounds.upper.max(0)));
        self.right
            .remove(time.0.saturating_add(self.bounds.lower.min(0)));
    }
}
