//! Windows: which ones a time belongs to. Pure arithmetic; needs only time.
//!
//! A window is half open: `[start, end)`, and its greatest time is `end - 1`.

use crate::error::{Error, ErrorCode, Result};
use crate::limits::WINDOWS_A_ROW_MAX;
use crate::time::EventTime;

/// A span of event time, `[start, end)` in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Window {
    /// First millisecond.
    pub start: i64,
    /// First millisecond that no longer belongs.
    pub end: i64,
}

impl Window {
    /// The last time that belongs to it, which its results carry.
    #[must_use]
    pub fn max_time(self) -> EventTime {
        EventTime(self.end.saturating_sub(1))
    }
}

/// How rows are put into windows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Assigner {
    /// Each row in one window of `size_ms`, aligned to `offset_ms`.
    Tumbling {
        /// above 0
        size_ms: i64,
        /// below `size_ms` in absolute value
        offset_ms: i64,
    },
    /// A window of `size_ms` starts each `slide_ms`.
    Sliding {
        /// above 0
        size_ms: i64,
        /// above 0
        slide_ms: i64,
        /// below `slide_ms` in absolute value
        offset_ms: i64,
    },
    /// Windows of a key grow with its rows, and end `gap_ms` after the last.
    Session {
        /// above 0
        gap_ms: i64,
    },
}

impl Assigner {
    /// Errors: a size or slide that is not above 0, an offset beyond it (Flink's rules); more than
    /// [`WINDOWS_A_ROW_MAX`] windows a row.
    pub fn check(self) -> Result<()> {
        let bad = |what: String| Err(Error::new(ErrorCode::GraphInvalid, what));
        if let Self::Session { gap_ms } = self {
            return match gap_ms > 0 {
                true => Ok(()),
                false => bad(format!("a session's gap must be above 0, not {gap_ms} ms")),
            };
        }
        let (size, step, offset) = self.parts();
        if size <= 0 || step <= 0 {
            return bad(format!(
                "a window's size and slide must be above 0, not {size} ms and {step} ms"
            ));
        }
        if offset.unsigned_abs() >= step.unsigned_abs() {
            return bad(format!(
                "a window's offset must be below {step} ms, not {offset} ms"
            ));
        }
        if size / step > WINDOWS_A_ROW_MAX {
            return bad(format!(
                "each row would be in {} windows, and at most {WINDOWS_A_ROW_MAX} are allowed",
                size / step
            ));
        }
        Ok(())
    }

    /// (size, distance of starts, offset), each in milliseconds. A session's are its gap's.
    #[must_use]
    pub fn parts(self) -> (i64, i64, i64) {
        match self {
            Self::Tumbling { size_ms, offset_ms } => (size_ms, size_ms, offset_ms),
            Self::Sliding {
                size_ms,
                slide_ms,
                offset_ms,
            } => (size_ms, slide_ms, offset_ms),
            Self::Session { gap_ms } => (gap_ms, gap_ms, 0),
        }
    }

    /// Whether windows depend on the rows of their key.
    #[must_use]
    pub fn is_session(self) -> bool {
        matches!(self, Self::Session { .. })
    }

    /// The windows that hold `time`, the latest first. None where the slide is larger than the size and the time falls
    /// between two windows, or where a bound would not fit an i64.
    pub fn assign(self, time: EventTime) -> impl Iterator<Item = Window> {
        let (size, step, offset) = self.parts();
        let last = last_start(time.0, offset, step);
        std::iter::successors(last, move |start| start.checked_sub(step))
            .take_while(move |start| start.checked_add(size).is_some_and(|end| end > time.0))
            .filter_map(move |start| {
                Some(Window {
                    start,
                    end: start.checked_add(size)?,
                })
            })
    }

    /// The length of the slices of which every window is a whole number: one slice a row, shared by its windows.
    #[must_use]
    pub fn slice_ms(self) -> i64 {
        let (size, step, _) = self.parts();
        gcd(size, step)
    }

    /// The start of the slice that holds `time`; none if it does not fit an i64.
    #[must_use]
    pub fn slice_start(self, time: EventTime) -> Option<i64> {
        let (_, _, offset) = self.parts();
        last_start(time.0, offset, self.slice_ms())
    }
}

/// The greatest `offset + n * step` that is not above `time`.
fn last_start(time: i64, offset: i64, step: i64) -> Option<i64> {
    let shifted = i128::from(time) - i128::from(offset);
    i64::try_from(i128::from(time) - shifted.rem_euclid(i128::from(step.max(1)))).ok()
}

fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn show(a: Assigner, at: i64) -> String {
        a.assign(EventTime(at))
            .map(|w| format!("[{}..{}) ", w.start, w.end))
            .collect()
    }

    #[track_caller]
    fn check(a: Assigner, at: i64, expect: Expect) {
        expect.assert_eq(show(a, at).trim_end());
    }

    #[test]
    fn tumbling_is_half_open() {
        let t = Assigner::Tumbling {
            size_ms: 10,
            offset_ms: 0,
        };
        check(t, 9, expect!["[0..10)"]);
        check(t, 10, expect!["[10..20)"]);
        check(t, -1, expect!["[-10..0)"]);
        check(
            Assigner::Tumbling {
                size_ms: 10,
                offset_ms: 3,
            },
            2,
            expect!["[-7..3)"],
        );
    }

    #[test]
    fn sliding_gives_the_latest_first() {
        check(
            Assigner::Sliding {
                size_ms: 10,
                slide_ms: 4,
                offset_ms: 0,
            },
            9,
            expect!["[8..18) [4..14) [0..10)"],
        );
        check(
            Assigner::Sliding {
                size_ms: 2,
                slide_ms: 5,
                offset_ms: 0,
            },
            3,
            expect![""],
        );
    }

    #[test]
    fn the_ends_of_time_have_no_window() {
        let t = Assigner::Tumbling {
            size_ms: 10,
            offset_ms: 0,
        };
        check(t, i64::MAX, expect![""]);
        check(t, i64::MIN, expect![""]);
    }

    #[test]
    fn slices_divide_every_window() {
        let a = Assigner::Sliding {
            size_ms: 10,
            slide_ms: 4,
            offset_ms: 0,
        };
        assert_eq!(a.slice_ms(), 2);
        assert_eq!(a.slice_start(EventTime(9)), Some(8));
    }

    #[test]
    fn bad_sizes_are_refused() {
        assert!(
            Assigner::Tumbling {
                size_ms: 0,
                offset_ms: 0
            }
            .check()
            .is_err()
        );
        assert!(
            Assigner::Sliding {
                size_ms: 10,
                slide_ms: -1,
                offset_ms: 0
            }
            .check()
            .is_err()
        );
        assert!(
            Assigner::Tumbling {
                size_ms: 10,
                offset_ms: 10
            }
            .check()
            .is_err()
        );
    }
}
