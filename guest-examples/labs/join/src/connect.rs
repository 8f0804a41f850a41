//! The last values of both sides, after each record of either.

use pelton::prelude::*;

use crate::Side;
use crate::input::{Event, EventRef};
use crate::output::{Pair, PairRef};

/// Remembers the last value of each side.
pub(crate) fn latest(left: Side, right: Side) -> Stream<Pair> {
    left.connect(right).process("latest", |states| Latest {
        left: states.value("left"),
        right: states.value("right"),
    })
}

struct Latest {
    left: ValueState<i64>,
    right: ValueState<i64>,
}

impl Latest {
    fn emit(&self, key: &str, out: &mut Out<Pair>) {
        out.emit(PairRef {
            key,
            left: self.left.get(),
            right: self.right.get(),
        });
    }
}

impl CoProcess for Latest {
    type Left = Event;
    type Right = Event;
    type Key = String;
    type Out = Pair;
    const TIMERS: bool = false;

    fn left(&self, key: &str, row: EventRef<'_>, _: &mut Ctx, out: &mut Out<Pair>) {
        self.left.set(row.value);
        self.emit(key, out);
    }

    fn right(&self, key: &str, row: EventRef<'_>, _: &mut Ctx, out: &mut Out<Pair>) {
        self.right.set(row.value);
        self.emit(key, out);
    }
}

#[cfg(test)]
mod tests {
    use pelton::testing::TwoInputs;

    use super::*;

    #[test]
    fn a_side_is_null_until_it_has_been_seen() {
        let mut h = TwoInputs::new(|left: Stream<Event>, right: Stream<Event>| {
            latest(left.key_by(Event::KEY), right.key_by(Event::KEY))
        });
        let event = |key, ts, value| EventRef { key, ts, value };
        h.push_left(Timestamp(5), event("a", 5, 1));
        h.push_right(Timestamp(9), event("a", 9, 7));
        h.push_right(Timestamp(3), event("b", 3, 8));
        h.push_left(Timestamp(1), event("a", 1, 2));
        let got: Vec<_> = h.take().into_iter().map(|p| (p.left, p.right)).collect();
        let expected = [
            (Some(1), None),
            (Some(1), Some(7)),
            (None, Some(8)),
            (Some(2), Some(7)),
        ];
        assert_eq!(got, expected);
    }
}
