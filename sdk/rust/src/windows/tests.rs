//! The window operator over scripts of rows and watermarks, as Flink's operator answers them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::rc::Rc;

use super::core::{ElementStore, Turn, WindowCore};
use super::function::{All, AllBy, ReduceThen, WindowFunction};
use super::record::{Element, KeyWindows, copy};
use super::timers::KeyTimers;
use super::*;
use crate::error::Result;
use crate::function::Out;
use crate::prelude::*;
use crate::tests::rows_of;
use crate::window::Windows;

mod evicting;
mod merging;
mod triggers;

#[derive(Record, Clone, Copy, Debug, PartialEq)]
struct Item {
    value: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Line {
    text: String,
}

#[derive(Default)]
struct Store(RefCell<BTreeMap<(i64, i64), Vec<Element<Item>>>>);

impl ElementStore<Item> for Store {
    fn add(&self, window: Window, element: Element<Item>) {
        let mut all = self.0.borrow_mut();
        all.entry((window.start.0, window.end.0))
            .or_default()
            .push(element);
    }
    fn get(&self, window: Window) -> Vec<Element<Item>> {
        let all = self.0.borrow();
        let found = all.get(&(window.start.0, window.end.0));
        found.map_or_else(Vec::new, |e| e.iter().map(copy).collect())
    }
    fn clear(&self, window: Window) {
        self.0.borrow_mut().remove(&(window.start.0, window.end.0));
    }
}

/// What a script is run against. A word of a script is a row `ts` or `ts:value` (the value is the time unless said), a watermark
/// `w9`, a clock `p100`, or `end`.
struct Script {
    assigner: Box<dyn WindowAssigner<Item>>,
    evictor: Option<Box<dyn Evictor<Item>>>,
    lateness: i64,
}

fn windows(assigner: impl WindowAssigner<Item>) -> Script {
    Script {
        assigner: Box::new(assigner),
        evictor: None,
        lateness: 0,
    }
}

fn ms(size: i64) -> Windows {
    tumbling(millis(size))
}

impl Script {
    fn late(mut self, lateness: i64) -> Self {
        self.lateness = lateness;
        self
    }

    fn evict(mut self, evictor: impl Evictor<Item>) -> Self {
        self.evictor = Some(Box::new(evictor));
        self
    }

    /// All values of each firing: `0-10: 1,2`, and `late 3`.
    #[track_caller]
    fn all<T: Trigger<Item>>(self, trigger: T, script: &str, expected: &[&str]) {
        let list = |_: i64,
                    w: Window,
                    rows: Rows<'_, Item>,
                    _: &mut WindowCtx<'_, bool>,
                    out: &mut Out<Line>| {
            let values: Vec<String> = rows.iter().map(|r| r.value.to_string()).collect();
            out.emit(LineRef {
                text: &format!("{}: {}", span(w), values.join(",")),
            });
        };
        self.check(trigger, All(AllBy(list, PhantomData)), script, expected);
    }

    /// The sum of each firing: `0-10: 3`.
    #[track_caller]
    fn sum<T: Trigger<Item>>(self, trigger: T, script: &str, expected: &[&str]) {
        let add = |a: &Item, b: ItemRef<'_>| Item {
            value: a.value + b.value,
        };
        let show = |_: i64, sum: Item, cx: &mut WindowCtx<'_, bool>, out: &mut Out<Line>| {
            out.emit(LineRef {
                text: &format!("{}: {}", span(cx.window()), sum.value),
            });
        };
        self.check(trigger, ReduceThen(add, show), script, expected);
    }

    #[track_caller]
    fn check<T, F>(self, trigger: T, function: F, script: &str, expected: &[&str])
    where
        T: Trigger<Item>,
        F: WindowFunction<Item, i64, Line>,
    {
        assert_eq!(self.run(trigger, function, script).0, expected);
    }

    /// What comes out, and how many windows and lists are left.
    fn run<T, F>(self, trigger: T, function: F, script: &str) -> (Vec<String>, usize)
    where
        T: Trigger<Item>,
        F: WindowFunction<Item, i64, Line>,
    {
        let needs_all = F::NEEDS_ALL || self.evictor.is_some();
        let mut run = Run {
            core: WindowCore {
                assigner: self.assigner,
                trigger,
                evictor: self.evictor,
                lateness: self.lateness,
                function,
                of: PhantomData,
            },
            kept: KeyWindows::default(),
            store: Store::default(),
            needs_all,
            timers: BTreeSet::new(),
            watermark: i64::MIN,
            clock: 0,
            lines: Vec::new(),
        };
        for word in script.split_whitespace() {
            run.word(word);
        }
        let left = run.kept.panes.len() + run.store.0.borrow().len();
        (run.lines, left)
    }
}

fn span(window: Window) -> String {
    match window.is_global() {
        true => "all".into(),
        false => format!("{}-{}", window.start.0, window.end.0),
    }
}

struct Run<T: Trigger<Item>, F: WindowFunction<Item, i64, Line>> {
    core: WindowCore<Item, i64, Line, T, F>,
    kept: KeyWindows<T::State, F::Acc, F::Own>,
    store: Store,
    needs_all: bool,
    /// As the host has them.
    timers: BTreeSet<(bool, i64)>,
    watermark: i64,
    clock: i64,
    lines: Vec<String>,
}

impl<T: Trigger<Item>, F: WindowFunction<Item, i64, Line>> Run<T, F> {
    fn word(&mut self, word: &str) {
        let number = |s: &str| s.parse::<i64>().unwrap();
        if word == "end" {
            self.advance(i64::MAX, false);
        } else if let Some(time) = word.strip_prefix('w') {
            self.advance(number(time), false);
        } else if let Some(time) = word.strip_prefix('p') {
            self.advance(number(time), true);
        } else {
            let (time, value) = word.split_once(':').unwrap_or((word, word));
            let (time, item) = (
                Timestamp(number(time)),
                Item {
                    value: number(value),
                },
            );
            match self.turn(|core, kept, turn| {
                core.row(0, item.as_ref(), Some(time), &mut kept.panes, turn)
            }) {
                Ok(false) => {}
                Ok(true) => self.lines.push(format!("late {}", item.value)),
                Err(e) => self.lines.push(format!("error: {e}")),
            }
        }
    }

    fn advance(&mut self, to: i64, by_clock: bool) {
        match by_clock {
            true => self.clock = to,
            false => self.watermark = to,
        }
        while let Some(due) = self
            .timers
            .iter()
            .find(|t| t.0 == by_clock && t.1 <= to)
            .copied()
        {
            self.timers.remove(&due);
            self.turn(|core, kept, turn| {
                core.timer(0, Timestamp(due.1), by_clock, &mut kept.panes, turn);
            });
        }
    }

    fn turn<R>(
        &mut self,
        work: impl FnOnce(
            &WindowCore<Item, i64, Line, T, F>,
            &mut KeyWindows<T::State, F::Acc, F::Own>,
            &mut Turn<'_, Item, Line>,
        ) -> R,
    ) -> R {
        let mut timers = KeyTimers {
            event: std::mem::take(&mut self.kept.event),
            processing: std::mem::take(&mut self.kept.processing),
            host: Vec::new(),
        };
        let mut out = Out::<Line>::new(Rc::from([]));
        let done = work(
            &self.core,
            &mut self.kept,
            &mut Turn {
                watermark: self.watermark,
                processing_time: self.clock,
                timers: &mut timers,
                elements: self
                    .needs_all
                    .then_some(&self.store as &dyn ElementStore<Item>),
                out: &mut out,
            },
        );
        (self.kept.event, self.kept.processing) = (timers.event, timers.processing);
        for change in timers.host {
            let timer = (change.processing, change.time.0);
            match change.set {
                true => assert!(self.timers.insert(timer), "{timer:?} is set twice"),
                false => assert!(self.timers.remove(&timer), "{timer:?} was not set"),
            }
        }
        let (rows, _, columns, times) = out.finish(|_| i64::MIN);
        let lines = rows_of::<Line>(&columns, rows);
        assert_eq!(
            times.map_or(0, |t| t.len()),
            rows * 8,
            "each result has its window's time"
        );
        self.lines.extend(lines.into_iter().map(|l| l.text));
        done
    }
}

#[test]
fn windows_fire_once_at_their_end_and_late_rows_are_told() {
    windows(ms(10)).sum(
        EventTimeTrigger,
        "1:5 9:2 10:3 w9 12:4 w19 8:1 19:1 25:7 end",
        &["0-10: 7", "10-20: 7", "late 1", "late 1", "20-30: 7"],
    );
}

#[test]
fn allowed_lateness_fires_again_with_each_row() {
    windows(ms(10)).late(5).all(
        EventTimeTrigger,
        "1 2 w9 3 4 w13 5 w14 6 6",
        &[
            "0-10: 1,2",
            "0-10: 1,2,3",
            "0-10: 1,2,3,4",
            "0-10: 1,2,3,4,5",
            "late 6",
            "late 6",
        ],
    );
    // A row that falls out of its window by lateness is late only once its own time is that far behind.
    windows(ms(10)).late(5).all(
        EventTimeTrigger,
        "1 w14 9 4 3",
        &["0-10: 1", "late 9", "late 4", "late 3"],
    );
}

#[test]
fn sliding_windows_take_a_row_from_the_latest_to_the_earliest() {
    windows(sliding(millis(10), millis(5))).all(
        every(1),
        "7 -1",
        &["5-15: 7", "0-10: 7", "-5-5: -1", "-10-0: -1"],
    );
    windows(sliding(millis(10), millis(5)).offset(millis(2))).sum(
        EventTimeTrigger,
        "1 2 end",
        &["-8-2: 1", "-3-7: 3", "2-12: 2"],
    );
}

#[test]
fn rows_between_windows_belong_nowhere_and_are_late_only_behind_the_watermark() {
    let (lines, left) = windows(sliding(millis(5), millis(10))).run(
        EventTimeTrigger,
        ReduceThen(
            |a: &Item, _: ItemRef<'_>| *a,
            |_: i64, v: Item, _: &mut WindowCtx<'_, bool>, out: &mut Out<Line>| {
                out.emit(LineRef {
                    text: &v.value.to_string(),
                });
            },
        ),
        "6 w10 7 12 end",
    );
    assert_eq!(lines, ["late 7", "12"]);
    assert_eq!(left, 0);
}

#[test]
fn processing_time_windows_go_by_the_clock() {
    windows(by_clock(ms(10))).all(
        DefaultTrigger::ProcessingTime,
        "100:1 p5 0:2 w1000 p9 3:3 p25 4:4 p29",
        &["0-10: 1,2", "0-10: 3", "20-30: 4"],
    );
    windows(by_clock(tumbling(millis(10)))).all(
        continuous_by_clock(millis(4)),
        "1 p4 2 p9 3 p30",
        &["0-10: 1", "0-10: 1,2", "0-10: 1,2", "0-10: 3"],
    );
}

#[test]
fn nothing_is_left_of_windows_that_are_over() {
    let list = |_: i64,
                _: Window,
                rows: Rows<'_, Item>,
                _: &mut WindowCtx<'_, bool>,
                out: &mut Out<Line>| {
        out.emit(LineRef {
            text: &rows.len().to_string(),
        });
    };
    let function = || All(AllBy(list, PhantomData));
    let script = "1 2 5 15 w9 3 w13 22 w100";
    for late in [0, 3, 20] {
        let (_, left) = windows(ms(10))
            .late(late)
            .run(EventTimeTrigger, function(), script);
        assert_eq!(left, 0);
        let (_, left) = windows(ms(10)).late(late).run(every(2), function(), script);
        assert_eq!(left, 0);
        let (_, left) = windows(ms(10)).late(late).run(never(), function(), script);
        assert_eq!(left, 0);
        let (_, left) = windows(ms(10))
            .late(late)
            .run(continuous(millis(3)), function(), script);
        assert_eq!(left, 0);
        let (_, left) = windows(dynamic_session(|i: ItemRef<'_>| millis(i.value)))
            .late(late)
            .run(continuous(millis(3)), function(), script);
        assert_eq!(left, 0);
    }
    // Of a global window only what is counted.
    let (_, left) = windows(global()).run(purging(every(2)), function(), "1 2 3 4");
    assert_eq!(left, 0);
    let (_, left) = windows(global()).run(purging(every(2)), function(), "1 2 3");
    assert_eq!(left, 2, "a count, and a row");
}

#[test]
fn a_gap_that_is_not_above_zero_is_an_error_of_the_row() {
    windows(dynamic_session(|i: ItemRef<'_>| millis(i.value))).all(
        EventTimeTrigger,
        "1:5 2:0 3:-4 end",
        &[
            "error: the session's gap of this row is 0 ms, and must be above 0",
            "error: the session's gap of this row is -4 ms, and must be above 0",
            "1-6: 5",
        ],
    );
}
