//! Each trigger.

use super::*;

#[test]
fn count_fires_with_every_so_many_rows_and_not_at_the_end() {
    windows(ms(10)).all(
        every(2),
        "1 2 3 11 w9 12 13 end",
        &["0-10: 1,2", "10-20: 11,12"],
    );
    windows(ms(10)).sum(purging(every(2)), "1 2 3 4 5 end", &["0-10: 3", "0-10: 7"]);
    windows(global()).all(
        every(3),
        "0 1 2 3 4 5 6 end",
        &["all: 0,1,2", "all: 0,1,2,3,4,5"],
    );
}

#[test]
fn continuous_fires_at_multiples_and_at_the_end() {
    // First at 3, the next multiple after the window's first row.
    windows(ms(10)).all(
        continuous(millis(3)),
        "1 w2 2 w3 4 w5 w6 7 w20 end",
        &["0-10: 1,2", "0-10: 1,2,4", "0-10: 1,2,4,7"],
    );
    // A watermark that passes several multiples fires each, with the same rows; 9 is the window's end.
    windows(ms(10)).sum(
        continuous(millis(4)),
        "1 end",
        &["0-10: 1", "0-10: 1", "0-10: 1"],
    );
    // The remainder has the sign of the time: -7 % 5 = -2, so that the first firing is at 0, the window's end is at -1.
    windows(ms(10)).sum(continuous(millis(5)), "-7 w-2 w-1 end", &["-10-0: -7"]);
    windows(ms(20)).sum(
        continuous(millis(5)),
        "-17 w-15 w-10 end",
        &["-20-0: -17", "-20-0: -17", "-20-0: -17"],
    );
}

#[test]
fn continuous_fires_late_rows_at_once() {
    windows(ms(10)).late(10).all(
        continuous(millis(4)),
        "1 w9 2 3 w18 5 w19 6",
        &[
            "0-10: 1",
            "0-10: 1",
            "0-10: 1",
            "0-10: 1,2",
            "0-10: 1,2,3",
            "0-10: 1,2,3,5",
            "late 6",
        ],
    );
}

#[test]
fn delta_fires_when_a_row_is_far_from_the_one_that_fired_last() {
    let far = |a: ItemRef<'_>, b: ItemRef<'_>| (a.value - b.value).abs() as f64;
    // 5 is no more than 4 from 1; 6 is.
    windows(ms(100)).all(
        delta(4.0, far),
        "0:1 1:5 2:6 3:9 4:1 200:1 201:9 end",
        &["0-100: 1,5,6", "0-100: 1,5,6,9,1", "200-300: 1,9"],
    );
    windows(ms(100)).sum(
        purging(delta(0.0, far)),
        "0:1 1:1 2:2 3:2 4:1 end",
        &["0-100: 4", "0-100: 3"],
    );
}

#[test]
fn event_time_over_a_global_window_fires_at_the_end_of_the_input() {
    windows(global()).all(EventTimeTrigger, "5 w100 1 end", &["all: 5,1"]);
    windows(global()).all(purging(EventTimeTrigger), "5 w100 1 end", &["all: 5,1"]);
}

#[test]
fn never_fires_nothing_but_rows_are_late_all_the_same() {
    windows(ms(10)).all(never(), "1 w9 2 11 end", &["late 2"]);
    windows(global()).all(never(), "1 w9 2 11 end", &[]);
}

#[test]
fn purging_with_lateness_fires_late_rows_alone() {
    windows(ms(10)).late(5).all(
        purging(EventTimeTrigger),
        "1 2 w9 3 w12 4 w14 5",
        &["0-10: 1,2", "0-10: 3", "0-10: 4", "late 5"],
    );
}

#[test]
fn timers_of_one_time_fire_in_the_order_in_which_they_were_set() {
    // 5-15 and 0-10 both wait for 8; the row set the timer of the later window first.
    windows(sliding(millis(10), millis(5))).all(
        continuous(millis(4)),
        "7 w8",
        &["5-15: 7", "0-10: 7"],
    );
}

/// Remembers how often it was asked, and fires on its own timer.
struct Own;

impl Trigger<Item> for Own {
    type State = Line;

    fn on_element(
        &self,
        row: ItemRef<'_>,
        time: Timestamp,
        _: Window,
        cx: &mut TriggerCtx<'_, Line>,
    ) -> TriggerResult {
        let former = cx.state().map_or_else(String::new, |l| l.text.clone());
        cx.set_state(Line { text: former + "x" });
        cx.set_timer(time + millis(1));
        match row.value {
            0 => TriggerResult::Purge,
            9 => TriggerResult::FireAndPurge,
            _ => TriggerResult::Continue,
        }
    }
    fn on_event_time(
        &self,
        _: Timestamp,
        _: Window,
        cx: &mut TriggerCtx<'_, Line>,
    ) -> TriggerResult {
        match cx.state().is_some_and(|l| l.text.len() > 2) {
            true => TriggerResult::Fire,
            false => TriggerResult::Continue,
        }
    }
}

#[test]
fn a_trigger_of_ones_own_sets_timers_and_remembers() {
    windows(ms(100)).all(
        Own,
        "1 w2 2:0 w3 5 6:7 w6 w7 20:9 w21 end",
        &["0-100: 5,7", "0-100: 5,7", "0-100: 5,7,9"],
    );
}
