//! Interval joins: bounds, lateness, and that state goes as soon as it can.

use crate::prelude::*;
use crate::stream::JoinCtx;
use crate::testing::TwoInputs;

#[derive(Record, Clone, Debug, PartialEq)]
struct Event {
    key: u64,
    value: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Pair {
    left: i64,
    right: i64,
}

static LATE_LEFT: SideTag<Event> = SideTag::new("late left");
static LATE_RIGHT: SideTag<Event> = SideTag::new("late right");

type Join = TwoInputs<Event, Event, Pair>;

fn join(lower: i64, upper: i64, exclusive: (bool, bool)) -> Join {
    TwoInputs::new(move |left: Stream<Event>, right: Stream<Event>| {
        let right = right.key_by(Event::KEY);
        let mut join = left
            .key_by(Event::KEY)
            .interval_join(right, millis(lower), millis(upper));
        if exclusive.0 {
            join = join.exclusive_lower();
        }
        if exclusive.1 {
            join = join.exclusive_upper();
        }
        let joined = join
            .late_left_to(&LATE_LEFT)
            .late_right_to(&LATE_RIGHT)
            .map("join", |l: EventRef<'_>, r: EventRef<'_>| Pair {
                left: l.value,
                right: r.value,
            });
        let _ = (joined.side(&LATE_LEFT), joined.side(&LATE_RIGHT));
        joined
    })
}

/// A row whose value is its time.
fn event(key: u64, value: i64) -> Event {
    Event { key, value }
}

fn left(h: &mut Join, time: i64) {
    h.push_left(Timestamp(time), event(1, time));
}

fn right(h: &mut Join, time: i64) {
    h.push_right(Timestamp(time), event(1, time));
}

fn pairs(h: &mut Join) -> Vec<(i64, i64)> {
    h.take().iter().map(|p| (p.left, p.right)).collect()
}

fn entries(h: &Join, side: &str) -> Vec<i64> {
    let entries = h.map_state::<(Timestamp, u32), Event, _>(side, &1u64);
    entries.iter().map(|((time, _), _)| time.0).collect()
}

#[test]
fn both_bounds_are_included_unless_it_is_said() {
    let cases = [
        ((false, false), vec![5, 10, 15]),
        ((true, false), vec![10, 15]),
        ((false, true), vec![5, 10]),
        ((true, true), vec![10]),
    ];
    for (exclusive, expected) in cases {
        let mut h = join(-5, 5, exclusive);
        left(&mut h, 10);
        [4, 5, 10, 15, 16].iter().for_each(|t| right(&mut h, *t));
        h.push_right(Timestamp(10), event(2, 10));
        let got: Vec<_> = pairs(&mut h).iter().map(|p| p.1).collect();
        assert_eq!(got, expected, "{exclusive:?}");
        // The other way round.
        let mut h = join(-5, 5, exclusive);
        [16, 15, 10, 5, 4].iter().for_each(|t| right(&mut h, *t));
        left(&mut h, 10);
        let got: Vec<_> = pairs(&mut h).iter().map(|p| p.1).collect();
        assert_eq!(got, expected, "{exclusive:?}");
    }
}

#[test]
fn rows_of_one_time_meet_each_other_in_the_order_of_arrival() {
    let mut h = join(0, 0, (false, false));
    for value in [1, 2, 3] {
        h.push_left(Timestamp(7), event(1, value));
    }
    h.push_right(Timestamp(7), event(1, 9));
    h.push_right(Timestamp(7), event(1, 8));
    let expected = [(1, 9), (2, 9), (3, 9), (1, 8), (2, 8), (3, 8)];
    assert_eq!(pairs(&mut h), expected);
}

#[test]
fn the_time_of_a_pair_is_the_greater_and_is_known() {
    let mut h = TwoInputs::new(|left: Stream<Event>, right: Stream<Event>| {
        let right = right.key_by(Event::KEY);
        let join = left
            .key_by(Event::KEY)
            .interval_join(right, millis(-9), millis(9));
        join.process(
            "join",
            |_: EventRef<'_>, _: EventRef<'_>, cx: &JoinCtx, out: &mut Out<Pair>| {
                let (left, right) = (cx.left_time().0, cx.right_time().0);
                out.emit(Pair { left, right });
                out.emit_at(Timestamp(1), Pair { left, right });
            },
        )
    });
    h.push_left(Timestamp(10), event(1, 0));
    h.push_right(Timestamp(4), event(1, 0));
    h.push_right(Timestamp(12), event(1, 0));
    let times: Vec<_> = h.take_timed().iter().map(|(t, _)| t.unwrap().0).collect();
    assert_eq!(times, [10, 1, 12, 1]);
}

#[test]
fn a_row_behind_the_watermark_is_late_and_one_at_it_is_not() {
    let mut h = join(-5, 5, (false, false));
    left(&mut h, 10);
    h.watermark(Timestamp(10));
    [9, 10].iter().for_each(|t| right(&mut h, *t));
    [9, 10].iter().for_each(|t| left(&mut h, *t));
    assert_eq!(pairs(&mut h), [(10, 10), (10, 10)]);
    assert_eq!(h.take_side(&LATE_LEFT), [event(1, 9)]);
    assert_eq!(h.take_side(&LATE_RIGHT), [event(1, 9)]);
}

#[test]
fn a_row_is_forgotten_when_nobody_can_come_for_it() {
    // Right rows come from 2 before the left one to 5 after it.
    let mut h = join(-2, 5, (false, false));
    left(&mut h, 10);
    left(&mut h, 10);
    right(&mut h, 10);
    assert_eq!(h.timers(), [Timestamp(12), Timestamp(15)]);
    h.watermark(Timestamp(11));
    assert_eq!(
        (entries(&h, "left"), entries(&h, "right")),
        (vec![10, 10], vec![10])
    );
    h.watermark(Timestamp(12));
    assert_eq!(
        (entries(&h, "left"), entries(&h, "right")),
        (vec![10, 10], vec![])
    );
    h.watermark(Timestamp(14));
    assert_eq!(entries(&h, "left"), [10, 10]);
    // At its own end a left row is gone, so that a row that is not late meets it no more.
    h.watermark(Timestamp(15));
    h.take();
    right(&mut h, 15);
    assert!(pairs(&mut h).is_empty());
    h.watermark(Timestamp(17));
    assert_eq!(entries(&h, "right"), [0i64; 0]);
    assert_eq!(h.state::<(u32, u32), _>("live", &1u64), None);
}

#[test]
fn bounds_on_one_side_keep_the_other_rows_until_their_own_time() {
    // Right rows are 3 to 5 later: a right row is of no use once its time has passed.
    let mut h = join(3, 5, (false, false));
    left(&mut h, 10);
    right(&mut h, 14);
    right(&mut h, 12);
    assert_eq!(pairs(&mut h), [(10, 14)]);
    assert_eq!(h.timers(), [12, 14, 15].map(Timestamp));
    // Right rows are 3 to 5 earlier.
    let mut h = join(-5, -3, (false, false));
    left(&mut h, 10);
    right(&mut h, 6);
    assert_eq!(pairs(&mut h), [(10, 6)]);
    assert_eq!(h.timers(), [10, 11].map(Timestamp));
}

#[test]
fn bounds_at_the_ends_of_time_are_no_fault() {
    let mut h = join(i64::MIN, i64::MAX, (false, false));
    left(&mut h, i64::MAX - 1);
    right(&mut h, i64::MIN + 1);
    right(&mut h, 0);
    // The first is further away than a bound can say.
    assert_eq!(pairs(&mut h), [(i64::MAX - 1, 0)]);
    h.watermark(Timestamp(i64::MAX));
}

#[test]
fn a_lower_bound_above_the_upper_is_refused() {
    let refused = TwoInputs::<Event, Event, Pair>::try_new(
        &Params::default(),
        |left: Stream<Event>, right: Stream<Event>| {
            left.key_by(Event::KEY)
                .interval_join(right.key_by(Event::KEY), millis(2), millis(1))
                .map("join", |_: EventRef<'_>, _: EventRef<'_>| Pair {
                    left: 0,
                    right: 0,
                })
        },
    );
    let message = refused.err().unwrap().to_string();
    assert!(
        message.contains("the lower bound is above the upper"),
        "{message}"
    );
}
