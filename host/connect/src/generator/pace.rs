//! The rate limit of a reader: rows a second at most, in small batches. Needs: monotonic time as an argument.

use pelton_model::time::Monotonic;

/// A backlog beyond this is forgotten, so that a reader that was held back does not flood afterwards.
const BACKLOG_MS_MAX: u128 = 100;
/// Rows wait for their batch about this long.
const BATCH_MS: u128 = 5;
const NS_PER_MS: u128 = 1_000_000;

/// Says how many rows are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Rows a second, as a fraction: a reader's share of the whole rate.
    rows: u128,
    per_ns: u128,
    /// When counting began, moved on when a backlog is forgotten.
    origin: Option<Monotonic>,
    handed_out: u64,
}

/// What a pace allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// At most this many rows, at least one.
    Rows(u64),
    /// Nothing before this time.
    Later(Monotonic),
}

impl Pace {
    /// The share of a reader with `mine` of `splits` splits in `rate` rows a second.
    pub(super) fn new(rate: u64, mine: usize, splits: u32) -> Self {
        let per_ns = u128::from(splits.max(1)) * 1_000 * NS_PER_MS;
        Self {
            rows: u128::from(rate) * mine.max(1) as u128,
            per_ns,
            origin: None,
            handed_out: 0,
        }
    }

    /// What is due of the `left` rows that there are.
    pub(super) fn due(&mut self, now: Monotonic, left: u64) -> Due {
        let origin = *self.origin.get_or_insert(now);
        let allowed = u128::from(now.since(origin)) * self.rows / self.per_ns;
        let backlog = allowed.saturating_sub(u128::from(self.handed_out));
        let batch = self.rows_in(BATCH_MS).clamp(1, u128::from(left.max(1)));
        if backlog < batch {
            let at = (u128::from(self.handed_out) + batch) * self.per_ns;
            return Due::Later(Monotonic(
                origin
                    .0
                    .saturating_add(saturate(at.div_ceil(self.rows.max(1)))),
            ));
        }
        let most = self.rows_in(BACKLOG_MS_MAX).max(1);
        if backlog > most {
            let forgotten = (backlog - most) * self.per_ns / self.rows.max(1);
            self.origin = Some(Monotonic(origin.0.saturating_add(saturate(forgotten))));
        }
        Due::Rows(saturate(backlog.min(most)))
    }

    /// Rows were handed out.
    pub(super) fn took(&mut self, rows: u64) {
        self.handed_out += rows;
    }

    fn rows_in(&self, ms: u128) -> u128 {
        self.rows * ms * NS_PER_MS / self.per_ns
    }
}

fn saturate(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drives a pace as a task does, and returns when each batch came and how large it was.
    fn drive(pace: &mut Pace, from: Monotonic, until_ms: u64) -> Vec<(u64, u64)> {
        let mut now = from;
        let mut batches = Vec::new();
        while now < from.plus_ms(until_ms) {
            match pace.due(now, u64::MAX) {
                Due::Rows(n) => {
                    pace.took(n);
                    batches.push((now.since(from), n));
                }
                Due::Later(at) => {
                    assert!(at > now, "a reader that is told to wait must not spin");
                    now = at;
                }
            }
        }
        batches
    }

    #[test]
    fn holds_the_rate_in_small_batches() {
        for (rate, mine, splits) in [
            (500_000, 1, 2),
            (1_000, 1, 1),
            (3, 1, 1),
            (999_999_937, 2, 3),
        ] {
            let mut pace = Pace::new(rate, mine, splits);
            let batches = drive(&mut pace, Monotonic(77), 10_000);
            let rows: u64 = batches.iter().map(|b| b.1).sum();
            let share = rate * 10 * mine as u64 / u64::from(splits);
            assert!(
                rows <= share && rows + rate / 100 + 1 >= share,
                "{rows} of {share}"
            );
            if rate >= 1_000 {
                assert!(batches.windows(2).all(|w| w[1].0 - w[0].0 <= 10_000_000));
            }
        }
    }

    #[test]
    fn a_long_stall_is_not_made_up_for() {
        let mut pace = Pace::new(1_000, 1, 1);
        drive(&mut pace, Monotonic(0), 100);
        let after = Monotonic(0).plus_ms(60_000);
        assert_eq!(pace.due(after, u64::MAX), Due::Rows(100));
        pace.took(100);
        let rows: u64 = drive(&mut pace, after, 1_000).iter().map(|b| b.1).sum();
        assert!((990..=1_000).contains(&rows), "{rows}");
    }

    #[test]
    fn the_last_rows_do_not_wait_for_a_full_batch() {
        let mut pace = Pace::new(1_000, 1, 1);
        assert_eq!(pace.due(Monotonic(0), 2), Due::Later(Monotonic(2_000_000)));
        assert_eq!(pace.due(Monotonic(2_000_000), 2), Due::Rows(2));
    }
}
