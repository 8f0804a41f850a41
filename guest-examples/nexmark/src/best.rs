//! The best value so far of each window, to let through only rows that can still win.

use std::cell::Cell;

/// Windows that are remembered at once; more are open only where time leaps.
const SLOTS: usize = 8;

/// What this task has seen of the windows at hand. It is a cache, not state: a window that it forgets, or that an
/// instance after a restart knows nothing of, only lets more rows through, and whoever counts them finds the winner.
pub struct Best {
    /// From the start of one window to the next, in milliseconds.
    step_ms: i64,
    /// (start of a window, its best value)
    slots: [Cell<(i64, i64)>; SLOTS],
}

impl Best {
    /// For windows whose starts are multiples of `step_ms`.
    pub fn new(step_ms: i64) -> Self {
        Self {
            step_ms,
            slots: [const { Cell::new((i64::MIN, i64::MIN)) }; SLOTS],
        }
    }

    /// Whether no better value of this window was seen; from now on it has been seen.
    #[inline]
    pub fn admits(&self, start: i64, value: i64) -> bool {
        let Some(slot) = self.slot(start) else {
            return true;
        };
        let (window, best) = slot.get();
        if window == start && value < best {
            return false;
        }
        slot.set((start, value));
        true
    }

    /// Whether no better value of this window was seen; it leaves no trace.
    pub fn would_admit(&self, start: i64, value: i64) -> bool {
        self.slot(start)
            .map(Cell::get)
            .is_none_or(|(window, best)| window != start || value >= best)
    }

    #[inline]
    fn slot(&self, start: i64) -> Option<&Cell<(i64, i64)>> {
        self.slots.get((start / self.step_ms) as usize % SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_win_passes() {
        let best = Best::new(10);
        assert!(best.admits(0, 5));
        assert!(!best.admits(0, 4));
        assert!(best.admits(0, 5), "a tie");
        assert!(best.admits(10, 1), "another window");
        assert!(!best.would_admit(0, 4) && best.would_admit(0, 6));
        assert!(best.admits(0, 5), "a look left no trace");
    }

    #[test]
    fn a_window_that_was_forgotten_lets_rows_pass() {
        let best = Best::new(10);
        assert!(best.admits(0, 5));
        assert!(
            best.admits(10 * SLOTS as i64, 1),
            "takes the place of the first"
        );
        assert!(best.admits(0, 4));
        assert!(best.admits(-10, 3) && best.admits(i64::MIN, 3) && best.admits(i64::MAX, 3));
    }
}
