//! Records that fall into the same windows.

use pelton::prelude::*;
use pelton::windows::{Tagged, WindowAssigner};

use crate::Side;
use crate::input::{Event, EventRef};
use crate::output::{Group, Pair};

/// Each left record of a window with each right one.
pub(crate) fn pairs(
    left: Side,
    right: Side,
    windows: impl WindowAssigner<Tagged<Event, Event>>,
) -> Stream<Pair> {
    left.window_join(right, windows).apply(
        "pairs",
        |key: &str, left: EventRef<'_>, right: EventRef<'_>, out: &mut Out<Pair>| {
            out.emit(Pair {
                key: key.to_owned(),
                left: Some(left.value),
                right: Some(right.value),
            });
        },
    )
}

/// All records of a window, those of each side sorted.
pub(crate) fn groups(
    left: Side,
    right: Side,
    windows: impl WindowAssigner<Tagged<Event, Event>>,
) -> Stream<Group> {
    left.co_group(right, windows).apply(
        "groups",
        |key: &str,
         _: Window,
         left: &[EventRef<'_>],
         right: &[EventRef<'_>],
         out: &mut Out<Group>| {
            out.emit(Group {
                key: key.to_owned(),
                left: sorted(left),
                right: sorted(right),
            });
        },
    )
}

fn sorted(events: &[EventRef<'_>]) -> Vec<i64> {
    let mut values: Vec<_> = events.iter().map(|e| e.value).collect();
    values.sort_unstable();
    values
}
