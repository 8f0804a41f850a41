//! Outcomes as a table: points down, jobs across.

use std::fmt::Write as _;

use pelton_node::checkpoint::points::ALL;

use crate::case::Outcome;
use crate::jobs::{JOBS, Job};
use crate::matrix::RARE;
use crate::output::Difference;

/// A table of cases that went well and cases in all, then what was wrong.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    let mut text = format!("{:<18}", "dies at");
    for job in JOBS {
        let _ = write!(text, "{:>11}", job.name());
    }
    text.push('\n');
    for point in ALL {
        let _ = write!(text, "{point:<18}");
        for job in JOBS {
            let _ = write!(text, "{:>11}", cell(outcomes, job, point));
        }
        text.push('\n');
    }
    for (point, why) in RARE {
        let _ = writeln!(text, "{point}: {why}");
    }
    let mut sum = Difference::default();
    for outcome in outcomes {
        match &outcome.result {
            Ok(difference) if difference.is_none() => {}
            Ok(difference) => {
                sum.add(*difference);
                let _ = writeln!(text, "FAILED {}: {difference}", outcome.case);
            }
            Err(error) => {
                let _ = writeln!(text, "FAILED {}: {error:#}", outcome.case);
            }
        }
    }
    let kills: usize = outcomes.iter().map(|o| o.case.kills.len()).sum();
    let good = outcomes.iter().filter(|o| o.is_good()).count();
    let _ = writeln!(
        text,
        "{good} of {} cases as undisturbed, after {kills} kills; {sum}",
        outcomes.len()
    );
    text
}

fn cell(outcomes: &[Outcome], job: Job, point: &str) -> String {
    let of = |o: &&Outcome| o.case.job == job && o.case.kills.iter().any(|k| k.point == point);
    let there = outcomes.iter().filter(of).count();
    match there {
        0 => "-".to_owned(),
        _ => format!(
            "{}/{there}",
            outcomes.iter().filter(of).filter(|o| o.is_good()).count()
        ),
    }
}
