//! The window operator as a keyed function: state and timers in, state and timers out.

use super::Window;
use super::core::{ElementStore, Turn, WindowCore};
use super::function::WindowFunction;
use super::record::{Element, KeyWindows, Lent, WindowKey, WindowKeyRef};
use super::timers::KeyTimers;
use super::trigger::Trigger;
use crate::error::Result;
use crate::function::keyed::{Ctx, Logic};
use crate::function::{Out, SideTag};
use crate::key::Key;
use crate::metrics::Counter;
use crate::record::Record;
use crate::state::{ListMapState, States, ValueState};
use crate::time::Timestamp;
use crate::value::Value;

/// What is kept of a key: `S` of the trigger, `A` of the rows, `P` of the function.
type Kept<T, V, F, K, O> = KeyWindows<
    <T as Trigger<V>>::State,
    <F as WindowFunction<V, K, O>>::Acc,
    <F as WindowFunction<V, K, O>>::Own,
>;

pub(super) struct WindowLogic<V, K, O, T, F>
where
    V: Record,
    K: Key,
    O: Record,
    T: Trigger<V>,
    F: WindowFunction<V, K, O>,
{
    core: WindowCore<V, K, O, T, F>,
    windows: ValueState<Kept<T, V, F, K, O>>,
    rows: Option<WindowRows<V>>,
    late: Option<SideTag<V>>,
    late_rows: Counter,
}

impl<V, K, O, T, F> WindowLogic<V, K, O, T, F>
where
    V: Record,
    K: Key,
    O: Record,
    T: Trigger<V>,
    F: WindowFunction<V, K, O>,
{
    pub(super) fn new(
        core: WindowCore<V, K, O, T, F>,
        late: Option<SideTag<V>>,
        states: &mut States,
    ) -> Self {
        let needs_all = F::NEEDS_ALL || core.evictor.is_some();
        Self {
            core,
            windows: states.value("windows"),
            rows: needs_all.then(|| WindowRows(states.list_map("window-rows"))),
            late,
            late_rows: states.counter("late_rows"),
        }
    }

    /// Works on the windows of the key at hand.
    fn turn<R>(
        &self,
        cx: &mut Ctx,
        out: &mut Out<O>,
        work: impl FnOnce(
            &WindowCore<V, K, O, T, F>,
            &mut Kept<T, V, F, K, O>,
            &mut Turn<'_, V, O>,
        ) -> R,
    ) -> R {
        let (done, is_empty) = self.windows.update(KeyWindows::default, |kept| {
            let mut timers = KeyTimers {
                event: std::mem::take(&mut kept.event),
                processing: std::mem::take(&mut kept.processing),
                host: Vec::new(),
            };
            let mut turn = Turn {
                watermark: cx.watermark().map_or(i64::MIN, |t| t.0),
                processing_time: cx.processing_time().0,
                timers: &mut timers,
                elements: self.rows.as_ref().map(|r| r as &dyn ElementStore<V>),
                out,
            };
            let done = work(&self.core, kept, &mut turn);
            (kept.event, kept.processing) = (timers.event, timers.processing);
            for change in timers.host {
                match (change.set, change.processing) {
                    (true, false) => cx.set_timer(change.time),
                    (false, false) => cx.delete_timer(change.time),
                    (true, true) => cx.set_processing_timer(change.time),
                    (false, true) => cx.delete_processing_timer(change.time),
                }
            }
            (done, kept.is_empty())
        });
        if is_empty {
            self.windows.clear();
        }
        done
    }
}

impl<V, K, O, T, F> Logic<V, K, O> for WindowLogic<V, K, O, T, F>
where
    V: Record,
    K: Key,
    O: Record,
    T: Trigger<V>,
    F: WindowFunction<V, K, O>,
{
    fn row(&self, key: K::Ref<'_>, row: V::Ref<'_>, cx: &mut Ctx, out: &mut Out<O>) {
        let time = cx.event_time();
        let done: Result<bool> = self.turn(cx, out, |core, kept, turn| {
            core.row(key, row, time, &mut kept.panes, turn)
        });
        match done {
            Ok(false) => {}
            Ok(true) => {
                self.late_rows.add(1.0);
                if let Some(tag) = &self.late {
                    out.side(tag, Lent::<V>(row));
                }
            }
            Err(error) => out.fail(error),
        }
    }

    fn timer(&self, key: K::Ref<'_>, time: Timestamp, cx: &mut Ctx, out: &mut Out<O>) {
        let by_clock = cx.event_time().is_none();
        self.turn(cx, out, |core, kept, turn| {
            core.timer(key, time, by_clock, &mut kept.panes, turn);
        });
    }
}

/// The rows of each window of the key at hand.
struct WindowRows<V: Value>(ListMapState<WindowKey, Element<V>>);

fn of(window: Window) -> WindowKeyRef<'static> {
    WindowKeyRef {
        start: window.start,
        end: window.end,
    }
}

impl<V: Value> ElementStore<V> for WindowRows<V> {
    fn add(&self, window: Window, element: Element<V>) {
        self.0.add(of(window), element);
    }
    fn get(&self, window: Window) -> Vec<Element<V>> {
        self.0.get(of(window))
    }
    fn clear(&self, window: Window) {
        self.0.remove(of(window));
    }
}
