//! Windowed streams whose windows the guest keeps.

use std::any::TypeId;
use std::marker::PhantomData;

use super::Window;
use super::assigner::{Global, WindowAssigner};
use super::core::WindowCore;
use super::evictor::{Evictor, keep_last};
use super::function::{
    AggregateThen, All, AllBy, ProcessWindow, ReduceThen, Rows, WindowCtx, WindowFunction,
    emit_reduced,
};
use super::logic::WindowLogic;
use super::trigger::{CountTrigger, DefaultTrigger, Purging, Trigger, every, purging};
use crate::draft::{End, Shared};
use crate::function::aggregate::Aggregate;
use crate::function::{Out, Port, SideTag};
use crate::key::Key;
use crate::record::{Record, RefOf};
use crate::state::States;
use crate::stream::{KeyedStream, Stream, add_keyed};
use crate::time::Duration;
use crate::window::WindowedStream;

/// Rows of a key in windows of any kind; `G` says when they fire.
pub struct GeneralWindowedStream<T: Record, V: Record, K: Key, G = DefaultTrigger> {
    draft: Shared,
    ends: Vec<End>,
    key: Vec<String>,
    assigner: Box<dyn WindowAssigner<V>>,
    trigger: G,
    evictor: Option<Box<dyn Evictor<V>>>,
    lateness: Duration,
    late: Option<Port>,
    of: PhantomData<fn() -> (T, V, K)>,
}

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// Puts the rows of each key into windows of any kind: by the clock, with a gap for each row, one for all rows, or the
    /// user's own.
    pub fn window_by<A: WindowAssigner<V>>(self, assigner: A) -> GeneralWindowedStream<T, V, K> {
        GeneralWindowedStream {
            draft: self.draft,
            ends: self.ends,
            key: self.key,
            trigger: assigner.default_trigger(),
            assigner: Box::new(assigner),
            evictor: None,
            lateness: Duration(0),
            late: None,
            of: PhantomData,
        }
    }

    /// Windows of so many rows of a key, one after the other. A window that never fills never fires.
    #[must_use]
    pub fn count_window(
        self,
        rows: usize,
    ) -> GeneralWindowedStream<T, V, K, Purging<CountTrigger>> {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.window_by(Global).trigger(purging(every(rows)))
    }

    /// Every `slide` rows of a key, the last `rows` of them.
    #[must_use]
    pub fn count_window_sliding(
        self,
        rows: usize,
        slide: usize,
    ) -> GeneralWindowedStream<T, V, K, CountTrigger> {
        let slide = i64::try_from(slide).unwrap_or(i64::MAX);
        self.window_by(Global)
            .evictor(keep_last(rows))
            .trigger(every(slide))
    }
}

impl<T: Record, V: Record, K: Key> WindowedStream<T, V, K> {
    fn general(self) -> GeneralWindowedStream<T, V, K> {
        let windows = self.windows;
        GeneralWindowedStream {
            draft: self.draft,
            ends: self.ends,
            key: self.key,
            trigger: WindowAssigner::<V>::default_trigger(&windows),
            assigner: Box::new(windows),
            evictor: None,
            lateness: self.lateness,
            late: self.late,
            of: PhantomData,
        }
    }

    /// Says when windows fire, in place of once at their end.
    pub fn trigger<G: Trigger<V>>(self, trigger: G) -> GeneralWindowedStream<T, V, K, G> {
        self.general().trigger(trigger)
    }

    /// Removes rows of a window when it fires.
    pub fn evictor(self, evictor: impl Evictor<V>) -> GeneralWindowedStream<T, V, K> {
        self.general().evictor(evictor)
    }

    /// As [`GeneralWindowedStream::reduce`].
    pub fn reduce(self, name: &str, f: impl Fn(&V, RefOf<'_, V>) -> V + 'static) -> Stream<V> {
        self.general().reduce(name, f)
    }

    /// As [`GeneralWindowedStream::reduce_then`].
    pub fn reduce_then<O: Record>(
        self,
        name: &str,
        f: impl Fn(&V, RefOf<'_, V>) -> V + 'static,
        then: impl Fn(K::Ref<'_>, V, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
    ) -> Stream<O> {
        self.general().reduce_then(name, f, then)
    }

    /// As [`GeneralWindowedStream::aggregate_then`].
    pub fn aggregate_then<A, O: Record>(
        self,
        name: &str,
        aggregate: A,
        then: impl Fn(K::Ref<'_>, A::Acc, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
    ) -> Stream<O>
    where
        A: Aggregate<In = V, Key = K>,
    {
        self.general().aggregate_then(name, aggregate, then)
    }

    /// As [`GeneralWindowedStream::process`].
    pub fn process<P>(self, name: &str, make: impl FnOnce(&mut States) -> P) -> Stream<P::Out>
    where
        P: ProcessWindow<In = V, Key = K>,
    {
        self.general().process(name, make)
    }

    /// As [`GeneralWindowedStream::process_with`].
    pub fn process_with<O: Record>(
        self,
        name: &str,
        f: impl Fn(K::Ref<'_>, Window, Rows<'_, V>, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
    ) -> Stream<O> {
        self.general().process_with(name, f)
    }
}

impl<T: Record, V: Record, K: Key, G: Trigger<V>> GeneralWindowedStream<T, V, K, G> {
    /// Says when windows fire, in place of what is usual for them.
    pub fn trigger<H: Trigger<V>>(self, trigger: H) -> GeneralWindowedStream<T, V, K, H> {
        GeneralWindowedStream {
            draft: self.draft,
            ends: self.ends,
            key: self.key,
            assigner: self.assigner,
            trigger,
            evictor: self.evictor,
            lateness: self.lateness,
            late: self.late,
            of: PhantomData,
        }
    }

    /// Removes rows of a window when it fires; all its rows are kept then, whatever the function needs.
    #[must_use]
    pub fn evictor(mut self, evictor: impl Evictor<V>) -> Self {
        self.evictor = Some(Box::new(evictor));
        self
    }

    /// Windows are kept for so long after the watermark has passed their end; rows that come in that time still count.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = lateness;
        self
    }

    /// Rows that are too late go to a side output: `result.side(&TAG)`. With or without, the counter `late_rows` counts them.
    #[must_use]
    pub fn late_to(mut self, tag: &SideTag<T>) -> Self {
        self.late = Some(tag.port());
        self
    }

    /// For each firing, what `f` makes of the window's rows, one after the other.
    pub fn reduce(self, name: &str, f: impl Fn(&V, RefOf<'_, V>) -> V + 'static) -> Stream<V> {
        self.reduce_then(name, f, emit_reduced::<V, K>())
    }

    /// As [`reduce`](Self::reduce); what the rows come to is handed to `then`, with the window and the time.
    pub fn reduce_then<O: Record>(
        self,
        name: &str,
        f: impl Fn(&V, RefOf<'_, V>) -> V + 'static,
        then: impl Fn(K::Ref<'_>, V, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
    ) -> Stream<O> {
        self.add(name, ReduceThen(f, then), States::default())
    }

    /// For each firing, what the user's accumulator gives.
    pub fn aggregate<A>(self, name: &str, aggregate: A) -> Stream<A::Out>
    where
        A: Aggregate<In = V, Key = K>,
    {
        let then = |a: &A,
                    key: K::Ref<'_>,
                    acc: A::Acc,
                    cx: &mut WindowCtx<'_, bool>,
                    out: &mut Out<A::Out>| a.result(key, cx.window(), acc, out);
        self.add(name, AggregateThen(aggregate, then), States::default())
    }

    /// As [`aggregate`](Self::aggregate); the accumulator is handed to `then`, with the window and the time, in place of
    /// the aggregate's own `result`.
    pub fn aggregate_then<A, O: Record>(
        self,
        name: &str,
        aggregate: A,
        then: impl Fn(K::Ref<'_>, A::Acc, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
    ) -> Stream<O>
    where
        A: Aggregate<In = V, Key = K>,
    {
        let then = move |_: &A,
                         key: K::Ref<'_>,
                         acc: A::Acc,
                         cx: &mut WindowCtx<'_, bool>,
                         out: &mut Out<O>| then(key, acc, cx, out);
        self.add(name, AggregateThen(aggregate, then), States::default())
    }

    /// For each firing, what a function makes of all the window's rows; `make` declares its states of the key.
    pub fn process<P>(self, name: &str, make: impl FnOnce(&mut States) -> P) -> Stream<P::Out>
    where
        P: ProcessWindow<In = V, Key = K>,
    {
        let mut states = States::default();
        let function = make(&mut states);
        self.add(name, All(function), states)
    }

    /// As [`process`](Self::process), by a closure: `|key, window, rows, cx, out| ..`.
    pub fn process_with<O: Record>(
        self,
        name: &str,
        f: impl Fn(K::Ref<'_>, Window, Rows<'_, V>, &mut WindowCtx<'_, bool>, &mut Out<O>) + 'static,
    ) -> Stream<O> {
        self.process(name, |_| AllBy(f, PhantomData))
    }

    fn add<O: Record, F: WindowFunction<V, K, O>>(
        self,
        name: &str,
        function: F,
        mut states: States,
    ) -> Stream<O> {
        if let Err(why) = self.check::<O, F>() {
            self.draft.borrow_mut().fail(format!("'{name}': {why}"));
        }
        let timers = self.assigner.has_end() || self.trigger.sets_timers();
        let core = WindowCore {
            assigner: self.assigner,
            trigger: self.trigger,
            evictor: self.evictor,
            lateness: self.lateness.millis(),
            function,
            of: PhantomData,
        };
        let late = self.late.map(|port| SideTag::<V>::new(port.name));
        let logic = WindowLogic::new(core, late, &mut states);
        let stream = add_keyed::<V, K, O, _>(
            self.draft, &self.ends, self.key, name, logic, states, timers,
        );
        if let (Some(port), Some(end)) = (self.late, stream.ends.first()) {
            let mut draft = stream.draft.borrow_mut();
            draft.side(end.operator, port, T::schema());
        }
        stream
    }

    /// Errors: windows that cannot be.
    fn check<O: Record, F: WindowFunction<V, K, O>>(&self) -> Result<(), String> {
        self.assigner.check().map_err(|e| e.to_string())?;
        if self.lateness.millis() < 0 {
            let ms = self.lateness.millis();
            return Err(format!(
                "the allowed lateness must not be below 0, and is {ms} ms"
            ));
        }
        if self.late.is_some() && TypeId::of::<T>() != TypeId::of::<V>() {
            return Err("late rows are whole, but its functions see a view: ask for .whole() before the key".into());
        }
        if !self.assigner.is_merging() {
            return Ok(());
        }
        if !self.trigger.can_merge() {
            return Err(
                "its trigger cannot stand over windows that merge, such as sessions".into(),
            );
        }
        if !F::CAN_MERGE {
            return Err(
                "windows that merge, such as sessions, need an aggregate that has merge".into(),
            );
        }
        if TypeId::of::<F::Own>() != TypeId::of::<bool>() {
            return Err("windows that merge, such as sessions, have no state of their own".into());
        }
        Ok(())
    }
}
