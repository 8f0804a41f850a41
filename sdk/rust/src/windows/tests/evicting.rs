//! Evictors, before and after.

use super::*;

#[test]
fn the_last_rows_are_kept() {
    windows(global())
        .evict(keep_last(2))
        .all(every(3), "0 1 2 3 4 5 6", &["all: 1,2", "all: 4,5"]);
    windows(global()).evict(afterwards(keep_last(2))).all(
        every(3),
        "0 1 2 3 4 5 6 7 8",
        &["all: 0,1,2", "all: 1,2,3,4,5", "all: 4,5,6,7,8"],
    );
    windows(global()).evict(keep_last(4)).all(
        every(2),
        "0 1 2 3 4 5 6 7 8",
        &["all: 0,1", "all: 0,1,2,3", "all: 2,3,4,5", "all: 4,5,6,7"],
    );
}

#[test]
fn rows_near_the_latest_in_time_are_kept_wherever_they_stand() {
    // Those at or before 20 - 5 go, although 16 came before the latest.
    windows(ms(100)).evict(keep_time(millis(5))).all(
        EventTimeTrigger,
        "16 1 15 20 3 18 end",
        &["0-100: 16,20,18"],
    );
    windows(global())
        .evict(afterwards(keep_time(millis(5))))
        .all(
            every(2),
            "1 9 4 12 13 14",
            &["all: 1,9", "all: 9,4,12", "all: 9,12,13,14"],
        );
}

#[test]
fn rows_near_the_last_are_kept() {
    let far = |a: ItemRef<'_>, b: ItemRef<'_>| (a.value - b.value).abs() as f64;
    windows(ms(100)).evict(keep_near(3.0, far)).all(
        EventTimeTrigger,
        "1:5 2:8 3:2 4:7 5:5 end",
        &["0-100: 5,7,5"],
    );
}

#[test]
fn a_reduction_is_made_of_the_rows_that_are_left() {
    windows(ms(10))
        .evict(keep_last(2))
        .sum(EventTimeTrigger, "1 2 3 end", &["0-10: 5"]);
}

#[test]
fn where_an_evictor_removes_everything_the_function_sees_no_rows() {
    windows(ms(10))
        .evict(keep_last(0))
        .all(every(2), "1 2 3 4 end", &["0-10: ", "0-10: "]);
    // Of nothing, no sum.
    windows(ms(10))
        .evict(keep_last(0))
        .sum(every(2), "1 2 3 4 end", &[]);
    // What is gone after the first firing does not fire again.
    windows(ms(10)).late(9).evict(afterwards(keep_last(0))).all(
        EventTimeTrigger,
        "1 2 w9 3 w30",
        &["0-10: 1,2", "0-10: 3"],
    );
    windows(global()).evict(afterwards(keep_last(0))).all(
        continuous(millis(10)),
        "1 w10 w20 21 w30",
        &["all: 1", "all: 21"],
    );
}

#[test]
fn purging_and_evicting_go_together() {
    windows(global()).evict(afterwards(keep_last(1))).all(
        purging(every(2)),
        "1 2 3 4",
        &["all: 1,2", "all: 3,4"],
    );
}
