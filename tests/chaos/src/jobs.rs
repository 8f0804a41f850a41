//! The jobs, and what is true of their rows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A job of the component `chaos`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Job {
    /// A keyed sum with timers.
    Sum,
    /// The same with a text for each key, so that state does not fit into the metadata.
    LargeSum,
    /// Session windows, numbered by a second keyed function.
    Sessions,
    /// An interval join of two sources.
    Join,
    /// A keyed function with a broadcast input.
    Rules,
    /// Windows over files, into files.
    Windows,
}

/// What the rows of a key are ordered by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Field `seq` counts them from 1.
    Counted,
    /// The fourth field of a line of CSV, which grows.
    Ascending,
    /// Where two streams meet there is none.
    None,
}

/// All jobs.
pub const JOBS: [Job; 6] = [
    Job::Sum,
    Job::LargeSum,
    Job::Sessions,
    Job::Join,
    Job::Rules,
    Job::Windows,
];

const EVENTS: &str = "events=8000";
/// Bids a second: a run takes a bit more than a second.
const RATE: u32 = 8_000;
const LINES: u64 = 20_000;
const FILES: u64 = 4;
/// Steps of a loop for each line: as long as a bid takes.
const WORK: u32 = 40_000;

impl Job {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::LargeSum => "large-sum",
            Self::Sessions => "sessions",
            Self::Join => "join",
            Self::Rules => "rules",
            Self::Windows => "windows",
        }
    }

    /// Its parameters but for the output; `inputs` is a folder that [`write_inputs`] has filled. It runs so many times
    /// slower than it usually does; at 0 nothing holds it.
    #[must_use]
    pub fn params(self, inputs: &Path, slower: u32) -> Vec<String> {
        let job = match self {
            Self::LargeSum => "sum",
            other => other.name(),
        };
        let mut params = vec![format!("job={job}")];
        if self == Self::Windows {
            let work = WORK * slower;
            params.push(format!("input={}", inputs.display()));
            params.push(format!("work={work}"));
            return params;
        }
        let rate = RATE.checked_div(slower).unwrap_or(RATE * 1_000);
        params.extend([EVENTS.to_owned(), format!("rate={rate}")]);
        if self == Self::LargeSum {
            params.push("pad=20000".to_owned());
        }
        params
    }

    /// What is true of the order of a key's rows.
    #[must_use]
    pub fn order(self) -> Order {
        match self {
            Self::Join => Order::None,
            Self::Windows => Order::Ascending,
            _ => Order::Counted,
        }
    }

    /// The key of a line, and its place among those of the key. Errors: a line of another form.
    pub fn place(self, line: &str) -> Result<(String, i64)> {
        match self.order() {
            Order::None => Ok((String::new(), 0)),
            Order::Counted => {
                let row: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                let seq = row.get("seq").and_then(Value::as_i64);
                let seq = seq.with_context(|| format!("no seq: {line}"))?;
                Ok((
                    row.get("key").map(Value::to_string).unwrap_or_default(),
                    seq,
                ))
            }
            Order::Ascending => {
                let mut fields = line.split(',');
                let key = fields.next().unwrap_or_default().to_owned();
                let end = fields.nth(1).with_context(|| format!("no end: {line}"))?;
                // Times of one form are ordered as their digits are.
                let digits: String = end.chars().filter(char::is_ascii_digit).collect();
                Ok((key, digits.parse()?))
            }
        }
    }
}

/// Writes the files that [`Job::Windows`] reads. Errors: the file system's.
pub fn write_inputs(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let per_file = LINES / FILES;
    for file in 0..FILES {
        let mut text = String::new();
        for n in file * per_file..(file + 1) * per_file {
            let (key, value, time) = (
                ((n * 7_919) >> 3) % 40,
                n % 1_000,
                1_700_000_000_000 + n * 10,
            );
            writeln!(text, "{{\"key\":{key},\"value\":{value},\"time\":{time}}}")?;
        }
        std::fs::write(folder.join(format!("{file}.jsonl")), text)?;
    }
    Ok(())
}
