//! Windows that merge.

use super::*;

fn gaps() -> impl WindowAssigner<Item> {
    dynamic_session(|i: ItemRef<'_>| millis(i.value))
}

#[test]
fn sessions_that_touch_become_one() {
    windows(gaps()).all(
        EventTimeTrigger,
        "0:10 10:10 31:10 end",
        &["0-20: 10,10", "31-41: 10"],
    );
    // A row between two sessions makes one of them; the window that fires ends with the last gap.
    windows(gaps()).sum(EventTimeTrigger, "0:5 10:5 4:6 w14 end", &["0-15: 16"]);
}

#[test]
fn a_session_that_is_over_by_lateness_takes_no_rows_and_its_rows_are_late() {
    windows(gaps()).all(
        EventTimeTrigger,
        "0:5 w4 1:3 3:1 4:2 end",
        &["0-5: 5", "late 3", "late 1", "4-6: 2"],
    );
}

#[test]
fn a_late_row_that_reaches_a_session_in_flight_counts() {
    // [2..12) alone would be late at 20; it merges with [10..30).
    windows(gaps()).all(EventTimeTrigger, "10:20 w20 2:10 end", &["2-30: 20,10"]);
}

#[test]
fn lateness_keeps_sessions_that_have_fired_and_they_fire_again() {
    windows(gaps()).late(10).all(
        EventTimeTrigger,
        "0:5 w4 3:4 w6 2:1 w100",
        &["0-5: 5", "0-7: 5,4", "0-7: 5,4,1"],
    );
    // Merged before its end is past: it waits for the new end.
    windows(gaps()).late(10).all(
        EventTimeTrigger,
        "0:5 w4 3:9 w11 end",
        &["0-5: 5", "0-12: 5,9"],
    );
}

#[test]
fn counts_are_added_up_when_windows_merge() {
    windows(gaps()).all(every(3), "0:5 10:5 4:6 20:1", &["0-15: 5,5,6"]);
    windows(gaps()).sum(purging(every(2)), "0:5 10:5 4:6 12:2", &["0-15: 16"]);
}

#[test]
fn the_earliest_firing_of_merged_windows_stands() {
    windows(gaps()).sum(
        continuous(millis(4)),
        "9:5 0:3 2:8 w4 end",
        &["0-14: 16", "0-14: 16", "0-14: 16", "0-14: 16"],
    );
}

#[test]
fn a_row_whose_window_is_the_merged_one_starts_it_anew_as_in_flink() {
    windows(gaps()).all(EventTimeTrigger, "0:10 10:10 0:20 end", &["0-20: 20"]);
    windows(gaps()).all(EventTimeTrigger, "0:20 0:20 end", &["0-20: 20,20"]);
}

#[test]
fn evictors_see_merged_rows_one_window_after_the_other() {
    windows(gaps()).evict(keep_last(2)).all(
        EventTimeTrigger,
        "0:10 5:10 9:11 end",
        &["0-20: 10,11"],
    );
}

/// Windows of ten that merge by their ten-thousands, and not otherwise.
struct Hundreds;

impl WindowAssigner<Item> for Hundreds {
    fn assign(&self, _: ItemRef<'_>, time: Timestamp, windows: &mut Vec<Window>) -> Result<()> {
        let start = Timestamp(time.0 / 10 * 10);
        windows.push(Window {
            start,
            end: start + millis(10),
        });
        Ok(())
    }
    fn is_merging(&self) -> bool {
        true
    }
    fn merge(&self, windows: &[Window]) -> Vec<Merge> {
        let mut merges: BTreeMap<i64, Vec<Window>> = BTreeMap::new();
        for window in windows {
            let same = merges.entry(window.start.0 / 100).or_default();
            if !same.contains(window) {
                same.push(*window);
            }
        }
        let merges = merges.into_values().filter(|m| m.len() > 1);
        merges
            .map(|windows| Merge {
                into: windows.iter().skip(1).fold(windows[0], |a, b| a.cover(*b)),
                windows,
            })
            .collect()
    }
}

#[test]
fn an_assigner_of_ones_own_merges_as_it_says() {
    windows(Hundreds).all(
        EventTimeTrigger,
        "5 95 110 45 120 end",
        &["0-100: 5,95,45", "110-130: 110,120"],
    );
}

/// Merges everything into a window that is over.
struct Backwards;

impl WindowAssigner<Item> for Backwards {
    fn assign(&self, _: ItemRef<'_>, time: Timestamp, windows: &mut Vec<Window>) -> Result<()> {
        windows.push(Window {
            start: time,
            end: time + millis(10),
        });
        Ok(())
    }
    fn is_merging(&self) -> bool {
        true
    }
    fn merge(&self, windows: &[Window]) -> Vec<Merge> {
        let into = Window {
            start: Timestamp(0),
            end: Timestamp(1),
        };
        let windows = windows.to_vec();
        (windows.len() > 1)
            .then_some(Merge { windows, into })
            .into_iter()
            .collect()
    }
}

#[test]
fn windows_cannot_be_merged_into_one_that_is_over() {
    windows(Backwards).all(
        never(),
        "20 w5 30",
        &["error: windows were merged into one that ends before the watermark: its last millisecond is 0, the watermark 5"],
    );
}
