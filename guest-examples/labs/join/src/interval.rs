//! Pairs of records that are near in time.

use pelton::prelude::*;

use crate::Side;
use crate::input::{Event, EventRef};
use crate::output::Pair;

static LATE_LEFT: SideTag<Event> = SideTag::new("late left");
static LATE_RIGHT: SideTag<Event> = SideTag::new("late right");

/// Each left record with the right ones from `lower` before or after it to `upper`, both included.
pub(crate) fn near(left: Side, right: Side, lower: Duration, upper: Duration) -> Stream<Pair> {
    left.interval_join(right, lower, upper)
        .late_left_to(&LATE_LEFT)
        .late_right_to(&LATE_RIGHT)
        .map("near", |left: EventRef<'_>, right: EventRef<'_>| Pair {
            key: left.key.to_owned(),
            left: Some(left.value),
            right: Some(right.value),
        })
}

/// The records of both sides that came too late.
pub(crate) fn late(joined: &Stream<Pair>) -> Stream<Event> {
    joined.side(&LATE_LEFT).union(&joined.side(&LATE_RIGHT))
}
