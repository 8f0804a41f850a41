//! Functions with state and two inputs: two streams that meet, or a stream that meets what is broadcast.

use std::marker::PhantomData;

use super::keyed::{Ctx, Keyed, Shell};
use super::{Open, Out};
use crate::bindings::exports::pelton::job::function::{KeyedBatch, KeyedReply, Moment, TimerBatch};
use crate::error::Result;
use crate::key::Key;
use crate::record::Record;
use crate::state::{BroadcastCtx, States};
use crate::time::Timestamp;
use crate::value::Value;

/// What a function does with a row of either input and with a timer.
pub(crate) trait CoLogic<L: Value, R: Value, K: Key, O: Record>: 'static {
    fn left(&self, key: K::Ref<'_>, row: L::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>);
    fn right(&self, key: K::Ref<'_>, row: R::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>);
    fn timer(&self, key: K::Ref<'_>, time: Timestamp, cx: &mut Ctx, out: &mut Out<O>);
}

/// What a function does with a row, a broadcast row and a timer.
pub(crate) trait BroadcastLogic<V: Value, B: Value, K: Key, O: Record>: 'static {
    fn row(&self, key: K::Ref<'_>, row: V::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>);
    fn broadcast(&self, row: B::Ref<'_>, cx: &mut BroadcastCtx, out: &mut Out<O>);
    fn timer(&self, key: K::Ref<'_>, time: Timestamp, cx: &mut Ctx, out: &mut Out<O>);
}

/// A function of one of these kinds with its states.
pub(crate) struct Connected<A, B, K, O, L> {
    logic: L,
    shell: Shell<K, O>,
    of: PhantomData<fn() -> (A, B)>,
}

impl<A, B, K: Key, O: Record, L> Connected<A, B, K, O, L> {
    pub(crate) fn new(logic: L, states: States, open: &Open) -> Self {
        Self {
            logic,
            shell: Shell::new(states, open),
            of: PhantomData,
        }
    }
}

impl<A: Value, B: Value, K: Key, O: Record, L: CoLogic<A, B, K, O>> Keyed
    for Connected<A, B, K, O, L>
{
    fn process(
        &self,
        plan: &[u32],
        at: Moment,
        batch: KeyedBatch,
        budget: usize,
    ) -> Result<KeyedReply> {
        if batch.input == 0 {
            let left = |key: K::Ref<'_>, row: A::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>| {
                self.logic.left(key, row, cx, out);
            };
            self.shell.rows::<A>(plan, at, batch, budget, left)
        } else {
            let right = |key: K::Ref<'_>, row: B::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>| {
                self.logic.right(key, row, cx, out);
            };
            self.shell.rows::<B>(plan, at, batch, budget, right)
        }
    }

    fn on_timers(&self, at: Moment, timers: TimerBatch, budget: usize) -> Result<KeyedReply> {
        let timer = |key: K::Ref<'_>, time, cx: &mut Ctx, out: &mut Out<O>| {
            self.logic.timer(key, time, cx, out);
        };
        self.shell.timers(at, timers, budget, timer)
    }
}

/// A function with a broadcast input.
pub(crate) struct Broadcasted<A, B, K, O, L>(pub(crate) Connected<A, B, K, O, L>);

impl<A: Value, B: Value, K: Key, O: Record, L: BroadcastLogic<A, B, K, O>> Keyed
    for Broadcasted<A, B, K, O, L>
{
    fn process(
        &self,
        plan: &[u32],
        at: Moment,
        batch: KeyedBatch,
        budget: usize,
    ) -> Result<KeyedReply> {
        let Connected { logic, shell, .. } = &self.0;
        if batch.input == 0 {
            let row = |key: K::Ref<'_>, row: A::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>| {
                logic.row(key, row, cx, out);
            };
            shell.rows::<A>(plan, at, batch, budget, row)
        } else {
            let row = |row: B::Ref<'_>, cx: &mut BroadcastCtx, out: &mut Out<O>| {
                logic.broadcast(row, cx, out);
            };
            shell.broadcast::<B>(plan, at, batch, budget, row)
        }
    }

    fn on_timers(&self, at: Moment, timers: TimerBatch, budget: usize) -> Result<KeyedReply> {
        let Connected { logic, shell, .. } = &self.0;
        let timer = |key: K::Ref<'_>, time, cx: &mut Ctx, out: &mut Out<O>| {
            logic.timer(key, time, cx, out);
        };
        shell.timers(at, timers, budget, timer)
    }
}
