//! What a job has written: rows as a multiset, and the order of those of a key.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::jobs::{Job, Order};

/// What a run has written, all in all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// Each line, and how often it is there.
    pub lines: BTreeMap<String, u64>,
    /// Rows of a key that do not stand where they should.
    pub out_of_order: u64,
    /// Files that nobody shows.
    pub hidden: Vec<String>,
}

/// How an output differs from that of an undisturbed run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Rows that are missing.
    pub lost: u64,
    /// Rows that are there once more than they should, or that should not be there.
    pub duplicated: u64,
    /// Rows of a key that do not stand where they should.
    pub out_of_order: u64,
    /// Files that nobody shows.
    pub hidden: u64,
}

impl Difference {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.hidden += other.hidden;
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {}, duplicated {}, out of order per key {}, hidden files {}",
            self.lost, self.duplicated, self.out_of_order, self.hidden
        )
    }
}

impl Output {
    /// Reads a folder of results. Errors: the file system's; lines of another form than the job writes.
    pub fn read(job: Job, folder: &Path) -> Result<Self> {
        let mut output = Self::default();
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                output.hidden.push(name);
            } else {
                files.push((turn(&name), name));
            }
        }
        files.sort();
        let mut last = BTreeMap::new();
        for (_, name) in files {
            let text = fs::read_to_string(folder.join(&name))?;
            let header = usize::from(name.ends_with(".csv"));
            for line in text.lines().skip(header) {
                *output.lines.entry(line.to_owned()).or_default() += 1;
                let (key, place) = job.place(line)?;
                let before = last.insert(key, place);
                let fits = match job.order() {
                    Order::None => true,
                    Order::Counted => place == before.unwrap_or(0) + 1,
                    Order::Ascending => before.is_none_or(|before| before < place),
                };
                output.out_of_order += u64::from(!fits);
            }
        }
        Ok(output)
    }

    /// How it differs from what should be there.
    #[must_use]
    pub fn against(&self, expected: &Self) -> Difference {
        let more = |a: &Self, b: &Self| -> u64 {
            let rows = a.lines.iter();
            rows.map(|(line, n)| n.saturating_sub(b.lines.get(line).copied().unwrap_or(0)))
                .sum()
        };
        Difference {
            lost: more(expected, self),
            duplicated: more(self, expected),
            out_of_order: self.out_of_order,
            hidden: self.hidden.len() as u64,
        }
    }
}

/// When a file was written: its checkpoint, then its number, then its task, of
/// `part-TASK-CHECKPOINT-NUMBER-LOG-TERM.EXT`. A key has one task at a time.
fn turn(name: &str) -> (u64, u64, u64) {
    let stem = name.split('.').next().unwrap_or_default();
    let numbers: Vec<u64> = stem.split('-').filter_map(|n| n.parse().ok()).collect();
    match numbers.as_slice() {
        [task, checkpoint, number, ..] => (*checkpoint, *number, *task),
        _ => (0, numbers.last().copied().unwrap_or(0), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Output {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Output::read(Job::Sum, folder.path()).unwrap()
    }

    #[test]
    fn files_of_later_checkpoints_come_later() {
        let (a, b) = ("{\"key\":1,\"seq\":1}\n", "{\"key\":1,\"seq\":2}\n");
        let output = read(&[
            ("part-0-9-0-1234567a-1.jsonl", a),
            ("part-0-10-0-1234567a-3.jsonl", b),
        ]);
        assert_eq!((output.lines.len(), output.out_of_order), (2, 0));
        let output = read(&[("part-0-9-0.jsonl", b), ("part-0-10-0.jsonl", a)]);
        assert_eq!(output.out_of_order, 2);
    }

    #[test]
    fn what_is_missing_twice_or_hidden_is_counted() {
        let (a, b) = ("{\"key\":1,\"seq\":1}\n", "{\"key\":2,\"seq\":1}\n");
        let expected = read(&[("part-0-1-0.jsonl", &format!("{a}{b}"))]);
        let twice = format!("{a}{a}");
        let output = read(&[("part-0-1-0.jsonl", &twice), (".part-x.inprogress", "")]);
        let difference = Difference {
            lost: 1,
            duplicated: 1,
            out_of_order: 1,
            hidden: 1,
        };
        assert_eq!(output.against(&expected), difference);
        assert!(expected.against(&expected).is_none());
    }
}
