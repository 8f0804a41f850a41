//! How many tests passed and failed, read from what the test runners print.
//!
//! Needs: nothing. Knows two closing lines: that of each test binary under `cargo test`, and that of `cargo nextest`.

/// Whose closing lines are counted. A failing test's own output, shown by one runner, can hold the lines of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    CargoTest,
    Nextest,
}

/// Tests counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// Counts what this line closes, if it closes a test run; any other line is ignored.
    pub(crate) fn read(&mut self, runner: Runner, line: &str) {
        let line = plain(line);
        let (counts, separator) = match runner {
            // `test result: ok. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
            Runner::CargoTest => (between(&line, "test result: ", ". "), ';'),
            // `Summary [   0.012s] 3 tests run: 1 passed (1 slow), 1 failed, 1 timed out, 0 skipped`
            Runner::Nextest => (between(&line, "Summary [", "run: "), ','),
        };
        counts.split(separator).for_each(|part| self.add(part));
    }

    fn add(&mut self, part: &str) {
        let Some((count, what)) = part.trim().split_once(' ') else {
            return;
        };
        let Ok(count) = count.parse::<u64>() else {
            return;
        };
        match what.split_whitespace().next() {
            Some("passed") => self.passed += count,
            Some("failed" | "timed" | "exec") => self.failed += count,
            _ => {}
        }
    }
}

/// What follows `mark` in a line that begins with `start`; nothing in any other.
fn between<'a>(line: &'a str, start: &str, mark: &str) -> &'a str {
    let rest = line.trim().strip_prefix(start).unwrap_or_default();
    rest.split_once(mark).map_or("", |(_, counts)| counts)
}

/// The line without its colours.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            for char in chars.by_ref() {
                if char.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(runner: Runner, lines: &[&str], passed: u64, failed: u64) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(runner, line));
        assert_eq!(tally, Tally { passed, failed });
    }

    #[test]
    fn each_binary_of_cargo_test_is_added() {
        check(
            Runner::CargoTest,
            &[
                "running 4 tests",
                "test a::b ... ok",
                "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
                "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.20s\n",
            ],
            6,
            3,
        );
    }

    #[test]
    fn every_way_to_fail_under_nextest_is_counted() {
        check(
            Runner::Nextest,
            &["     Summary [   0.012s] 3 tests run: 3 passed, 0 skipped"],
            3,
            0,
        );
        check(
            Runner::Nextest,
            &["     Summary [  61.012s] 1 test run: 1 passed (1 slow), 7 skipped\n"],
            1,
            0,
        );
        check(
            Runner::Nextest,
            &[
                "     Summary [ 1.0s] 9 tests run: 3 passed (2 slow, 1 leaky), 4 failed, 1 timed out, 1 exec failed, 2 skipped",
            ],
            3,
            6,
        );
        check(
            Runner::Nextest,
            &["     Summary [ 1.0s] 5/9 tests run: 4 passed, 1 failed, 0 skipped"],
            4,
            1,
        );
    }

    #[test]
    fn colours_do_not_hide_a_result() {
        check(
            Runner::Nextest,
            &[
                "\u{1b}[32;1m     Summary\u{1b}[0m [   0.012s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, 0 skipped",
            ],
            2,
            0,
        );
        check(
            Runner::CargoTest,
            &["test result: \u{1b}[32mok\u{1b}[0m. 5 passed; 0 failed; 0 ignored"],
            5,
            0,
        );
    }

    #[test]
    fn the_output_that_nextest_shows_of_a_failed_test_is_not_counted_again() {
        let shown = "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 8 filtered out; finished in 0.07s";
        let closing = "Summary [ 0.1s] 10 tests run: 9 passed, 1 failed, 0 skipped";
        check(Runner::Nextest, &[shown, closing], 9, 1);
    }

    #[test]
    fn a_test_that_prints_numbers_adds_nothing() {
        check(
            Runner::CargoTest,
            &[
                "7 passed, 0 failed",
                "Summary of 3 passed",
                "test result: odd",
            ],
            0,
            0,
        );
    }
}
