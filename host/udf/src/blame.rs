//! Which row a trap is about: the call is run again on ever shorter beginnings of its rows, each on a fresh instance,
//! until the shortest one that traps is found; its last row is to blame. Then, in a chain, which function.
//! Needs: a way to try. Pure apart from that.
//!
//! Beginnings, not arbitrary pieces: a keyed function's row depends on the rows of its key before it. The work is
//! bounded by a budget; what is left of the search when it is spent is named as a range.

/// What a trial showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trial {
    /// The same trap again.
    Trapped,
    /// No trap, or another one.
    Fine,
    /// The budget is spent; nothing is known.
    Spent,
}

/// Which rows are to blame, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blame {
    /// This row.
    Row(usize),
    /// One of `from..to`.
    Range(usize, usize),
    /// The trap did not come again: it depends on what the instance did before.
    Unknown,
}

/// Finds the row among `rows` whose beginning traps; `trial(n)` runs the first `n` rows.
pub(crate) fn row(rows: usize, mut trial: impl FnMut(usize) -> Trial) -> Blame {
    match rows {
        0 => return Blame::Unknown,
        // Even one row is tried again: an instance may have trapped for what it remembered.
        _ => match trial(rows) {
            Trial::Trapped => {}
            Trial::Fine => return Blame::Unknown,
            Trial::Spent => return Blame::Range(0, rows),
        },
    }
    // The first `fine` rows do not trap, the first `trapped` do.
    let (mut fine, mut trapped) = (0, rows);
    while trapped - fine > 1 {
        let middle = fine + (trapped - fine) / 2;
        match trial(middle) {
            Trial::Trapped => trapped = middle,
            Trial::Fine => fine = middle,
            Trial::Spent => return Blame::Range(fine, trapped),
        }
    }
    Blame::Row(fine)
}

/// Finds which of `steps` functions in a chain traps; `trial(n)` runs the first `n` of them on the row to blame.
pub(crate) fn step(steps: usize, mut trial: impl FnMut(usize) -> Trial) -> Option<usize> {
    for n in 1..steps {
        match trial(n) {
            Trial::Trapped => return Some(n - 1),
            Trial::Fine => {}
            Trial::Spent => return None,
        }
    }
    // The whole chain is known to trap.
    steps.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch in which row `bad` traps.
    fn trap_at(bad: usize) -> impl FnMut(usize) -> Trial {
        move |n| {
            if n > bad { Trial::Trapped } else { Trial::Fine }
        }
    }

    #[test]
    fn each_row_can_be_found() {
        for rows in [1, 2, 7, 100] {
            for bad in 0..rows {
                assert_eq!(row(rows, trap_at(bad)), Blame::Row(bad), "{bad} of {rows}");
            }
        }
    }

    #[test]
    fn a_batch_takes_as_many_trials_as_its_size_has_bits() {
        let mut trials = 0;
        let found = row(8_192, |n| {
            trials += 1;
            trap_at(5_000)(n)
        });
        assert_eq!((found, trials), (Blame::Row(5_000), 14));
    }

    #[test]
    fn a_trap_that_does_not_come_again_is_nobodys() {
        assert_eq!(row(10, |_| Trial::Fine), Blame::Unknown);
        assert_eq!(row(0, |_| Trial::Trapped), Blame::Unknown);
    }

    #[test]
    fn a_spent_budget_leaves_a_range() {
        assert_eq!(row(10, |_| Trial::Spent), Blame::Range(0, 10));
        let mut left = 3;
        let found = row(1_024, |n| {
            left -= 1;
            if left < 0 {
                Trial::Spent
            } else {
                trap_at(700)(n)
            }
        });
        assert_eq!(found, Blame::Range(512, 768));
    }

    #[test]
    fn the_first_function_that_traps_is_named() {
        assert_eq!(step(3, trap_at(1)), Some(1));
        assert_eq!(step(3, |_| Trial::Fine), Some(2));
        assert_eq!(step(1, |_| Trial::Fine), Some(0));
        assert_eq!(step(3, |_| Trial::Spent), None);
    }
}
