//! What a checkpoint folder has: the entries of its log, which of them a start can go on from, and what is nobody's.
//! Needs: model. Refuses: IO; a driver reads.
//!
//! # What is nobody's
//!
//! A process stores objects before the entry that refers to them. One that crashes, or is passed, in between leaves objects
//! that no entry has. The next start may remove them: those of *lower terms* than its own that no entry refers to, once its
//! own entry is there. For then no process of a lower term can make them visible any more:
//!
//! 1. Objects carry the term of their process in their names, and each is stored under a name of its own. So one of term
//!    `t` becomes visible by an entry of the process of term `t`, or by a later one that had it from an earlier entry.
//! 2. A process writes its entries under the numbers that follow its term, without a gap, each create-only. The number that
//!    it wants next is therefore taken, or is the least that is free.
//! 3. The log was read, and the number after the greatest was put as our start. That put succeeded, and the log was looked
//!    at once more: no number was greater. The greatest entry is never removed before there is a greater one, so that no
//!    entry came in between, not even one that is gone again: all entries below ours have been seen, and nothing that they
//!    refer to counts as nobody's.
//! 4. The number that a process of a lower term wants next is hence that of our start, or of one before it, and starts are
//!    never removed: its put fails, and it is fenced.
//!
//! A put that was given up, and arrives when even the entry that took its number has been retired, makes an entry whose
//! objects are gone; it stands below a start, is never the newest, and counts as broken (see
//! [the coordinator](super::Coordinator)). Entries that cannot be read may refer to anything that was there when they were
//! written: objects of terms below them stay. What does not bear the name of an object of checkpoints is not looked at, nor
//! what lies in a folder with metadata: it is a savepoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pelton_model::blob::BlobInfo;
use pelton_model::checkpoint::{JobRecord, LogEntry, Metadata, Start, decode};
use pelton_model::{Error, ErrorCode, Result};

use super::message::Completed;
use super::start::Asked;

/// The entries of a log.
#[derive(Debug, Default)]
pub struct Log {
    /// The greatest number.
    pub last: u64,
    /// By number.
    pub starts: Vec<(u64, Start)>,
    /// By number, those that are whole: with the inline parts of their envelopes.
    pub checkpoints: Vec<(u64, Metadata, Vec<u8>)>,
    /// By number, those that are broken.
    pub broken: Vec<(u64, Error)>,
    /// The greatest number of an entry that cannot be read.
    unreadable: u64,
    /// The greatest id of a checkpoint that could be read.
    last_id: u64,
    /// What checkpoints refer to, whole or not.
    referred: BTreeSet<String>,
    /// What may be nobody's: objects of checkpoints by name.
    objects: BTreeSet<String>,
}

impl Log {
    /// A log from what was read: its entries in ascending order, and all objects below `data` and `shared`, listed after
    /// the entries. `aside`: checkpoints that were tried, and whose content is not what it should be, by the numbers of
    /// their entries. Errors: those of reading that say nothing of the entry.
    pub fn new(contents: Contents, aside: &BTreeMap<u64, Error>) -> Result<Self> {
        let mut log = Self::default();
        for (number, read) in contents.entries {
            log.add(number, read)?;
        }
        log.set_aside(&contents.objects, aside);
        log.objects = of_checkpoints(contents.objects);
        Ok(log)
    }

    fn add(&mut self, number: u64, read: Result<Vec<u8>>) -> Result<()> {
        self.last = self.last.max(number);
        match read.and_then(|bytes| decode::<LogEntry>(&bytes)) {
            Ok((LogEntry::Start(start), _)) => self.starts.push((number, start)),
            Ok((LogEntry::Checkpoint(metadata), inline)) => {
                self.last_id = self.last_id.max(metadata.id);
                let names = metadata.objects().filter_map(|o| o.name.clone());
                self.referred.extend(names);
                self.checkpoints.push((number, *metadata, inline));
            }
            // Between the listing and the reading it was removed by its owner.
            Err(e) if e.code() == ErrorCode::NotFound => {}
            Err(e) if e.code() == ErrorCode::Corrupt => {
                self.unreadable = self.unreadable.max(number);
                let name = pelton_model::checkpoint::log_name(number);
                self.broken.push((number, e.at("object", name)));
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Puts checkpoints aside whose objects are not there, or of another length, and those that were tried.
    fn set_aside(&mut self, objects: &[BlobInfo], aside: &BTreeMap<u64, Error>) {
        let lengths: BTreeMap<&str, u64> = objects
            .iter()
            .map(|info| (info.name.as_str(), info.length))
            .collect();
        let fault = |metadata: &Metadata| {
            metadata.objects().find_map(|object| {
                let name = object.name.as_deref()?;
                let why = match lengths.get(name) {
                    None => "is missing".to_owned(),
                    Some(n) if *n == object.length => return None,
                    Some(n) => format!("has {n} bytes instead of {}", object.length),
                };
                let message = format!("a file of checkpoint {} {why}", metadata.id);
                Some(Error::new(ErrorCode::Corrupt, message).at("object", name))
            })
        };
        let broken = &mut self.broken;
        self.checkpoints.retain(|(number, metadata, _)| {
            let fault = fault(metadata).or_else(|| aside.get(number).cloned());
            let whole = fault.is_none();
            broken.extend(fault.map(|e| (*number, e)));
            whole
        });
        self.broken.sort_by_key(|(number, _)| *number);
    }

    /// What tells this log from all others: the attempt of its first start. None before that.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.starts.first().map(|(_, start)| start.attempt.as_str())
    }

    /// Objects that the start under `term`, the number after the last, may remove once its entry is there.
    #[must_use]
    pub fn orphans(&self, term: u64) -> Vec<String> {
        let is_orphan = |name: &&String| {
            let of = term_of(name);
            of.is_some_and(|of| of < term && of >= self.unreadable)
                && !self.referred.contains(*name)
        };
        self.objects.iter().filter(is_orphan).cloned().collect()
    }

    pub(super) fn completed(&self) -> Vec<Completed> {
        let whole = self.checkpoints.iter();
        let completed = whole.map(|(number, metadata, _)| Completed {
            number: *number,
            metadata: Arc::new(metadata.clone()),
        });
        completed.collect()
    }

    /// The greatest id that any checkpoint has.
    pub(super) fn last_checkpoint(&self) -> u64 {
        // Of what cannot be read, the number in the log bounds the id from below only; ids begin above the term.
        self.last_id.max(self.last)
    }

    fn job(&self) -> Option<&JobRecord> {
        let checkpoint = self.checkpoints.last().map(|(n, m, _)| (*n, &m.job));
        let start = self.starts.last().map(|(n, s)| (*n, &s.job));
        let newest = checkpoint.into_iter().chain(start).max_by_key(|(n, _)| *n);
        newest.map(|(_, job)| job)
    }

    /// Errors: `WrongJob` for a folder of another job, or of other parameters of the sources (unless it begins anew).
    pub(super) fn check(&self, asked: &Asked, goes_on: bool) -> Result<()> {
        let Some(job) = self.job() else {
            return Ok(());
        };
        if job.name != asked.job.name {
            let message = format!(
                "the checkpoints are of the job '{}', not of '{}'",
                job.name, asked.job.name
            );
            return Err(Error::new(ErrorCode::WrongJob, message)
                .help("name another folder with --checkpoint-dir, or the job with --name"));
        }
        if asked.fresh || (asked.savepoint.is_some() && !goes_on) {
            return Ok(());
        }
        let differs = asked.job.sources.iter().find(|(uid, options)| {
            let before = job.sources.iter().find(|(u, _)| u == uid);
            before.is_some_and(|(_, before)| before != options)
        });
        if let Some((uid, _)) = differs {
            let message = "the checkpoints are of a source that reads something else";
            return Err(Error::new(ErrorCode::WrongJob, message)
                .at("operator", format!("'{uid}'"))
                .help("begin anew with --fresh, or take the state alone with --from"));
        }
        Ok(())
    }

    /// The number of the first of the last starts, all of which began from this savepoint or went on with that.
    fn began_from(&self, savepoint: &str) -> Option<u64> {
        let last = self.starts.iter().rev();
        let same = last.take_while(|(_, s)| s.savepoint.as_deref() == Some(savepoint));
        same.last().map(|(number, _)| *number)
    }

    /// The last one that is whole, of those that count. Errors: `Corrupt` where there are some, and none is.
    pub(super) fn choose(&self, asked: &Asked) -> Result<Option<(Metadata, Vec<u8>)>> {
        let after = match (asked.since, &asked.savepoint) {
            (Some(since), _) => since,
            (None, _) if asked.fresh => return Ok(None),
            (None, Some(savepoint)) => match self.began_from(savepoint) {
                Some(first) => first,
                None => return Ok(None),
            },
            (None, None) => 0,
        };
        let last = self.checkpoints.last().filter(|(n, ..)| *n > after);
        let broken = self.broken.iter().rfind(|(n, _)| *n > after);
        match (last, broken) {
            (Some((_, metadata, inline)), _) => Ok(Some((metadata.clone(), inline.clone()))),
            (None, Some((_, error))) => {
                let help = "mend the folder, or begin anew with --fresh: what was counted is lost";
                Err(error.clone().help(help))
            }
            (None, None) => Ok(None),
        }
    }
}

/// What was read of a checkpoint folder.
#[derive(Debug, Default)]
pub struct Contents {
    /// By number, the bytes of the entries, or why there are none; ascending.
    pub entries: Vec<(u64, Result<Vec<u8>>)>,
    /// All objects below `data` and `shared`; listed after the entries.
    pub objects: Vec<BlobInfo>,
}

/// Objects that bear the name of one of a checkpoint, and are of no savepoint.
fn of_checkpoints(objects: Vec<BlobInfo>) -> BTreeSet<String> {
    let metadata = |info: &BlobInfo| info.name.strip_suffix("/metadata").map(str::to_owned);
    let savepoints: Vec<String> = objects.iter().filter_map(metadata).collect();
    let is_within = |name: &str| {
        let below = |folder: &String| {
            let rest = name.strip_prefix(folder.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        savepoints.iter().any(below)
    };
    let names = objects.into_iter().map(|info| info.name);
    names
        .filter(|name| term_of(name).is_some() && !is_within(name))
        .collect()
}

/// The term in the name of an object of a checkpoint: `data/<term>/<checkpoint, or last>/..`,
/// `shared/<term>/<checkpoint>/<identity>`, or `shared/<term>/<identity>` of earlier releases.
fn term_of(name: &str) -> Option<u64> {
    let parts: Vec<&str> = name.split('/').collect();
    let number = |text: &str| text.parse::<u64>().is_ok();
    match parts.as_slice() {
        ["data", term, at, _, ..] if number(at) || *at == "last" => term.parse().ok(),
        ["shared", term, at, _] if number(at) || *at == "last" => term.parse().ok(),
        ["shared", term, _] => term.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
