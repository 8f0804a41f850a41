//! Windows that the guest keeps, as a job has them: over keyed state and timers, with side outputs, and of two streams.

use crate::prelude::*;
use crate::runtime::{Body, describe};
use crate::testing::{Harness, TwoInputs};
use crate::windows::{
    DefaultTrigger, GeneralWindowedStream, ProcessWindow, Rows, Trigger, TriggerCtx, TriggerResult,
    WindowCtx, by_clock, continuous, delta, dynamic_session, every, global, keep_last, never,
};

#[derive(Record, Clone, Debug, PartialEq)]
struct Bid {
    who: String,
    cents: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Cents {
    cents: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Told {
    who: String,
    end: i64,
    text: String,
}

static LATE: SideTag<Bid> = SideTag::new("late");

fn bid(who: &str, cents: i64) -> Bid {
    Bid {
        who: who.into(),
        cents,
    }
}

fn told(who: &str, end: i64, text: &str) -> Told {
    Told {
        who: who.into(),
        end,
        text: text.into(),
    }
}

fn list(
    who: &str,
    window: Window,
    rows: Rows<'_, Bid>,
    _: &mut WindowCtx<'_, bool>,
    out: &mut Out<Told>,
) {
    let all: Vec<String> = rows.iter().map(|b| b.cents.to_string()).collect();
    let text = all.join(" ");
    out.emit(ToldRef {
        who,
        end: window.end.0,
        text: &text,
    });
}

#[test]
fn all_rows_of_each_keys_windows_are_handed_over_with_the_windows_time() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        let windows = bids.key_by(Bid::WHO).window(tumbling(millis(10)));
        let lists = windows.late_to(&LATE).process_with("list", list);
        let _ = lists.side(&LATE);
        lists
    });
    for (time, who, cents) in [(1, "a", 1), (12, "a", 2), (3, "b", 3), (2, "a", 4)] {
        harness.push_at(Timestamp(time), bid(who, cents));
    }
    harness.watermark(Timestamp(9));
    let mut first = harness.take_timed();
    first.sort_by(|a, b| a.1.who.cmp(&b.1.who));
    let at = Some(Timestamp(9));
    assert_eq!(
        first,
        [(at, told("a", 10, "1 4")), (at, told("b", 10, "3"))]
    );
    harness.push_at(Timestamp(5), bid("a", 5));
    harness.push_at(Timestamp(15), bid("a", 6));
    harness.watermark(Timestamp(30));
    assert_eq!(harness.take(), [told("a", 20, "2 6")]);
    assert_eq!(harness.take_side(&LATE), [bid("a", 5)]);
    assert_eq!(harness.metric("late_rows"), Some(1.0));
    assert_eq!(harness.timers(), []);
}

/// Tells how often the window has fired, and the key altogether.
struct Firings {
    all: ValueState<i64>,
}

impl ProcessWindow for Firings {
    type In = Bid;
    type Key = String;
    type Out = Told;
    type State = i64;

    fn process(
        &self,
        who: &str,
        window: Window,
        _: Rows<'_, Bid>,
        cx: &mut WindowCtx<'_, i64>,
        out: &mut Out<Told>,
    ) {
        let of_window = cx.state().copied().unwrap_or(0) + 1;
        cx.set_state(of_window);
        let of_key = self.all.get().unwrap_or(0) + 1;
        self.all.set(of_key);
        let text = format!("{of_window} of {of_key}");
        out.emit(ToldRef {
            who,
            end: window.end.0,
            text: &text,
        });
    }
}

#[test]
fn a_function_remembers_of_the_window_until_it_is_over_and_of_the_key_for_good() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .window(tumbling(millis(10)))
            .trigger(every(1))
            .process("firings", |states| Firings {
                all: states.value("all"),
            })
    });
    for time in [1, 2, 11, 3] {
        harness.push_at(Timestamp(time), bid("a", 0));
    }
    harness.watermark(Timestamp(19));
    harness.push_at(Timestamp(25), bid("a", 0));
    let texts: Vec<_> = harness
        .take()
        .into_iter()
        .map(|t| (t.end, t.text))
        .collect();
    let expected = [
        (10, "1 of 1"),
        (10, "2 of 2"),
        (20, "1 of 3"),
        (10, "3 of 4"),
        (30, "1 of 5"),
    ];
    assert_eq!(texts, expected.map(|(end, text)| (end, text.to_owned())));
    assert_eq!(harness.state::<i64, _>("all", &"a".to_owned()), Some(5));
}

struct Sum;

impl Aggregate for Sum {
    type In = Bid;
    type Key = String;
    type Acc = i64;
    type Out = Told;

    fn create(&self) -> i64 {
        0
    }
    fn add(&self, acc: &mut i64, row: BidRef<'_>) {
        *acc += row.cents;
    }
    fn merge(&self, acc: &mut i64, other: i64) {
        *acc += other;
    }
    fn result(&self, who: &str, window: Window, acc: i64, out: &mut Out<Told>) {
        let text = acc.to_string();
        out.emit(ToldRef {
            who,
            end: window.end.0,
            text: &text,
        });
    }
}

#[test]
fn accumulators_are_kept_instead_of_rows() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .window_by(dynamic_session(|b: BidRef<'_>| millis(b.cents)))
            .trigger(continuous(millis(10)))
            .aggregate_then("sum", Sum, |who: &str, sum, cx, out: &mut Out<Told>| {
                let text = format!("{sum} at {}", cx.watermark().map_or(-1, |w| w.0));
                out.emit(ToldRef {
                    who,
                    end: cx.window().end.0,
                    text: &text,
                });
            })
    });
    for (time, cents) in [(1, 5), (10, 8), (4, 7)] {
        harness.push_at(Timestamp(time), bid("a", cents));
    }
    harness.watermark(Timestamp(12));
    harness.watermark(Timestamp(17));
    // At 5, the earliest firing of the three; at 15; at the session's end.
    let sums = ["20 at 12", "20 at 17", "20 at 17"];
    assert_eq!(harness.take(), sums.map(|text| told("a", 18, text)));
    let Body::Process(process) = &harness.graph().operators.last().unwrap().body else {
        panic!("a function")
    };
    assert_eq!(process.states.len(), 1, "no rows are kept");
}

#[test]
fn reductions_emit_rows_of_their_own_type() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .count_window(2)
            .reduce("most", |a, b| bid(b.who, a.cents.max(b.cents)))
    });
    for cents in [3, 7, 9, 1, 5] {
        harness.push(bid("a", cents));
    }
    assert_eq!(harness.take(), [bid("a", 7), bid("a", 9)]);
}

#[test]
fn count_windows_need_no_event_times_and_slide() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        let windows = bids
            .view::<Bid>()
            .key_by(Bid::WHO)
            .count_window_sliding(3, 2);
        windows.process_with("list", list)
    });
    for cents in 1..=7 {
        harness.push(bid("a", cents));
    }
    let texts: Vec<_> = harness.take().into_iter().map(|t| t.text).collect();
    assert_eq!(texts, ["1 2", "2 3 4", "4 5 6"]);
    let Body::Process(process) = &harness.graph().operators.last().unwrap().body else {
        panic!("a function")
    };
    assert!(!process.timers);
}

#[test]
fn windows_by_the_clock_fire_by_the_clock() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .window_by(by_clock(tumbling(millis(10))))
            .process_with("list", list)
    });
    harness.push_at(Timestamp(500), bid("a", 1));
    harness.processing_time(Timestamp(8));
    harness.push_at(Timestamp(0), bid("a", 2));
    harness.watermark(Timestamp(1_000));
    assert_eq!(harness.take(), []);
    harness.processing_time(Timestamp(9));
    assert_eq!(harness.take(), [told("a", 10, "1 2")]);
}

#[test]
fn an_error_of_an_assigner_names_its_row() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .window_by(dynamic_session(|b: BidRef<'_>| millis(b.cents)))
            .process_with("list", list)
    });
    let error = harness
        .try_push(Some(Timestamp(1)), bid("a", -3))
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("the session's gap of this row is -3 ms"),
        "{message}"
    );
}

/// Cannot be relied on.
struct Traps;

impl Trigger<Bid> for Traps {
    type State = bool;

    fn on_element(
        &self,
        row: BidRef<'_>,
        _: Timestamp,
        _: Window,
        cx: &mut TriggerCtx<'_, bool>,
    ) -> TriggerResult {
        cx.set_state(true);
        cx.set_timer(Timestamp(row.cents));
        assert!(row.cents != 13, "thirteen is no number for a bid");
        TriggerResult::Continue
    }
}

#[test]
fn a_trigger_that_traps_leaves_nothing_behind() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .window_by(global())
            .trigger(Traps)
            .process_with("list", list)
    });
    harness.push_at(Timestamp(1), bid("a", 5));
    let push = std::panic::AssertUnwindSafe(|| harness.try_push(Some(Timestamp(2)), bid("a", 13)));
    let trap = std::panic::catch_unwind(push).unwrap_err();
    let message = trap.downcast_ref::<&str>().copied().unwrap_or_default();
    assert_eq!(message, "thirteen is no number for a bid");
    assert_eq!(harness.timers(), [Timestamp(5)]);
}

type Windowed<G> = GeneralWindowedStream<Bid, Bid, String, G>;

/// Why windows cannot be.
#[track_caller]
fn refused<G: Trigger<Bid>>(
    make: impl FnOnce(KeyedStream<Bid, Bid, String>) -> Windowed<G>,
) -> String {
    let job = |job: &mut Job, _: &Params| {
        let bids = job
            .source::<Bid>("bids", files::json("x"))
            .assign_timestamps(monotonous(), |b| Timestamp(b.cents));
        let lists = make(bids.key_by(Bid::WHO)).process_with("list", list);
        lists.sink("x", print());
        Ok(())
    };
    describe("x", job, &[]).unwrap_err().message
}

#[test]
fn windows_that_cannot_be_are_refused_before_the_job_runs() {
    let sizes = |windows: crate::Windows| refused(move |bids| bids.window_by(windows));
    let above = "'list': a window's size and slide must be above 0, not";
    assert_eq!(sizes(tumbling(millis(0))), format!("{above} 0 ms and 0 ms"));
    assert_eq!(
        sizes(tumbling(millis(-5))),
        format!("{above} -5 ms and -5 ms")
    );
    assert_eq!(
        sizes(sliding(millis(5), millis(0))),
        format!("{above} 5 ms and 0 ms")
    );
    assert_eq!(
        sizes(sliding(millis(5), millis(2)).offset(millis(-2))),
        "'list': a window's offset must be below 2 ms, not -2 ms"
    );
    assert_eq!(
        sizes(sliding(days(365), millis(1))),
        "'list': each row would be in 31536000000 windows, and at most 100000 are allowed"
    );
    let session = |bids: KeyedStream<Bid, Bid, String>| {
        bids.window_by(dynamic_session(|b: BidRef<'_>| millis(b.cents)))
    };
    let far = |_: BidRef<'_>, _: BidRef<'_>| 0.0;
    assert_eq!(
        refused(|bids| session(bids).trigger(delta(1.0, far))),
        "'list': its trigger cannot stand over windows that merge, such as sessions"
    );
    assert_eq!(
        refused(|bids| session(bids).allowed_lateness(-millis(1))),
        "'list': the allowed lateness must not be below 0, and is -1 ms"
    );
}

#[test]
fn windows_that_merge_have_no_state_of_their_own() {
    let job = |job: &mut Job, _: &Params| {
        let bids = job
            .source::<Bid>("bids", files::json("x"))
            .assign_timestamps(monotonous(), |b| Timestamp(b.cents));
        bids.key_by(Bid::WHO)
            .window_by(dynamic_session(|b: BidRef<'_>| millis(b.cents)))
            .process("firings", |states| Firings {
                all: states.value("all"),
            })
            .sink("x", print());
        Ok(())
    };
    let message = describe("x", job, &[]).unwrap_err().message;
    assert_eq!(
        message,
        "'firings': windows that merge, such as sessions, have no state of their own"
    );
}

#[test]
fn late_rows_of_a_view_are_asked_for_whole() {
    let job = |job: &mut Job, _: &Params| {
        let bids = job
            .source::<Bid>("bids", files::json("x"))
            .assign_timestamps(monotonous(), |b| Timestamp(b.cents));
        bids.view::<Cents>()
            .key_by(Bid::WHO)
            .window_by(global())
            .late_to(&LATE)
            .reduce("sum", |a, b| Cents {
                cents: a.cents + b.cents,
            })
            .sink("x", print());
        Ok(())
    };
    let message = describe("x", job, &[]).unwrap_err().message;
    assert!(
        message.contains("ask for .whole() before the key"),
        "{message}"
    );
}

#[test]
fn a_window_larger_than_its_slide_leaves_gaps() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .window(sliding(millis(2), millis(10)))
            .trigger(DefaultTrigger::EventTime)
            .process_with("list", list)
    });
    for time in [1, 5, 11, 19] {
        harness.push_at(Timestamp(time), bid("a", time));
    }
    harness.watermark(Timestamp(100));
    let ends: Vec<_> = harness
        .take()
        .into_iter()
        .map(|t| (t.end, t.text))
        .collect();
    assert_eq!(ends, [(2, "1".into()), (12, "11".into())]);
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Ask {
    price: i64,
    from: String,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Pair {
    who: String,
    bid: i64,
    ask: i64,
}

fn ask(from: &str, price: i64) -> Ask {
    Ask {
        price,
        from: from.into(),
    }
}

fn pair(who: &str, bid: i64, ask: i64) -> Pair {
    Pair {
        who: who.into(),
        bid,
        ask,
    }
}

#[test]
fn pairs_of_two_streams_in_the_same_window_are_joined() {
    let mut harness = TwoInputs::new(|bids: Stream<Bid>, asks: Stream<Ask>| {
        bids.key_by(Bid::WHO)
            .window_join(asks.key_by(Ask::FROM), tumbling(millis(10)))
            .apply(
                "pairs",
                |who, b: BidRef<'_>, a: AskRef<'_>, out: &mut Out<Pair>| {
                    out.emit(PairRef {
                        who,
                        bid: b.cents,
                        ask: a.price,
                    });
                },
            )
    });
    harness.push_left(Timestamp(1), bid("a", 1));
    harness.push_right(Timestamp(9), ask("a", 7));
    harness.push_right(Timestamp(10), ask("a", 8));
    harness.push_left(Timestamp(2), bid("a", 2));
    harness.push_left(Timestamp(3), bid("b", 3));
    harness.push_right(Timestamp(4), ask("a", 9));
    harness.watermark(Timestamp(20));
    let at = Some(Timestamp(9));
    let expected = [(1, 7), (1, 9), (2, 7), (2, 9)].map(|(b, a)| (at, pair("a", b, a)));
    assert_eq!(harness.take_timed(), expected);
    harness.push_right(Timestamp(3), ask("b", 9));
    assert_eq!(harness.metric("late_rows"), Some(1.0));
}

#[test]
fn both_sides_of_a_window_are_handed_over_though_one_be_empty() {
    let mut harness = TwoInputs::new(|bids: Stream<Bid>, asks: Stream<Ask>| {
        bids.key_by(Bid::WHO)
            .co_group(asks.key_by(Ask::FROM), tumbling(millis(10)))
            .apply("both", |who, window, bids, asks, out: &mut Out<Told>| {
                let bids: Vec<i64> = bids.iter().map(|b| b.cents).collect();
                let asks: Vec<i64> = asks.iter().map(|a| a.price).collect();
                let text = format!("{bids:?} {asks:?}");
                out.emit(ToldRef {
                    who,
                    end: window.end.0,
                    text: &text,
                });
            })
    });
    harness.push_left(Timestamp(1), bid("a", 1));
    harness.push_right(Timestamp(12), ask("a", 2));
    harness.push_right(Timestamp(2), ask("a", 3));
    harness.push_left(Timestamp(3), bid("a", 4));
    harness.watermark(Timestamp(20));
    assert_eq!(
        harness.take(),
        [told("a", 10, "[1, 4] [3]"), told("a", 20, "[] [2]")]
    );
}

#[test]
fn sessions_of_two_streams_grow_by_rows_of_either() {
    let mut harness = TwoInputs::new(|bids: Stream<Bid>, asks: Stream<Ask>| {
        bids.key_by(Bid::WHO)
            .window_join(
                asks.key_by(Ask::FROM),
                dynamic_session(|_: windows::TaggedRef<'_, Bid, Ask>| millis(5)),
            )
            .evictor(keep_last(3))
            .trigger(DefaultTrigger::EventTime)
            .apply(
                "pairs",
                |who, b: BidRef<'_>, a: AskRef<'_>, out: &mut Out<Pair>| {
                    out.emit(PairRef {
                        who,
                        bid: b.cents,
                        ask: a.price,
                    });
                },
            )
    });
    harness.push_left(Timestamp(1), bid("a", 1));
    harness.push_right(Timestamp(5), ask("a", 2));
    harness.push_left(Timestamp(9), bid("a", 3));
    harness.push_right(Timestamp(20), ask("a", 4));
    harness.watermark(Timestamp(30));
    assert_eq!(harness.take(), [pair("a", 1, 2), pair("a", 3, 2)]);
}

#[test]
fn windows_that_never_fire_keep_what_they_have() {
    let mut harness = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::WHO)
            .window_by(global())
            .trigger(never())
            .process_with("list", list)
    });
    for cents in 0..100 {
        harness.push_at(Timestamp(cents), bid("a", cents));
    }
    harness.watermark(Timestamp(i64::MAX));
    assert_eq!(harness.take(), []);
    assert_eq!(harness.timers(), []);
}
