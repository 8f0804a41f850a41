//! A checkpoint folder: its log, who may write there, and what a start goes on from.
//! Needs: model::{checkpoint, blob}. The protocol is that of [`pelton_model::checkpoint`].
//!
//! A start reads the log, chooses the last checkpoint that is whole, and puts its own entry under the next number; if
//! another start was faster, it reads again. From then on it alone writes the numbers that follow. It finds out that it was
//! passed when the next number is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_control::checkpoint::Completed;
use pelton_model::blob::{Blobs, PutNew};
use pelton_model::checkpoint::{
    JobRecord, LogEntry, Metadata, Start, decode, encode, log_name, log_number,
};
use pelton_model::{Error, ErrorCode, Result};

/// The checkpoints of one job.
#[derive(Clone)]
pub struct Folder {
    blobs: Arc<dyn Blobs>,
    /// Checkpoints that were tried, and whose content is not what it should be, by the numbers of their entries.
    aside: BTreeMap<u64, Error>,
}

/// What a start found, and what it now owns.
pub struct Term {
    /// The number of its entry: its term.
    pub number: u64,
    /// Unique to it.
    pub attempt: String,
    /// What it goes on from, with the inline part of its envelope.
    pub from: Option<(Metadata, Vec<u8>)>,
    /// All checkpoints that were there and whole, ascending; the last one is `from`, unless the start is fresh.
    pub earlier: Vec<Completed>,
    /// Checkpoints that were there and are broken: what is wrong with each.
    pub broken: Vec<(u64, Error)>,
    /// The greatest number that any checkpoint has.
    pub last_checkpoint: u64,
}

impl Term {
    /// The number of the entry that it goes on from.
    #[must_use]
    pub fn chosen(&self) -> Option<u64> {
        let (metadata, _) = self.from.as_ref()?;
        let entry = self.earlier.iter().rfind(|c| c.metadata.id == metadata.id);
        entry.map(|c| c.number)
    }
}

/// What a start asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is to run.
    pub job: JobRecord,
    /// Unique to the start.
    pub attempt: String,
    /// Not to go on from anything that is in the folder.
    pub fresh: bool,
    /// To begin from this savepoint, by its attempt and id, unless the folder has checkpoints of a job that did.
    pub savepoint: Option<String>,
    /// The number of an earlier start of the same process, which began as asked: what is complete since then is gone on
    /// from.
    pub since: Option<u64>,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

impl Folder {
    /// The folder that is a store's root.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        let aside = BTreeMap::new();
        Self { blobs, aside }
    }

    /// From now on the checkpoint of this entry counts as broken.
    pub fn set_aside(&mut self, number: u64, error: Error) {
        self.aside.insert(number, error);
    }

    /// The store.
    #[must_use]
    pub fn blobs(&self) -> &Arc<dyn Blobs> {
        &self.blobs
    }

    /// Takes the next term, if `fits` accepts the checkpoint that is chosen. Errors: `WrongJob` for a folder of another
    /// job, or of other parameters of the sources (unless it begins anew); `Corrupt` where checkpoints are there and none
    /// is whole; those of `fits`; the store's.
    pub fn start(
        &self,
        asked: &Asked,
        fits: &dyn Fn(Option<&Metadata>) -> Result<()>,
    ) -> Result<Term> {
        loop {
            let seen = self.read()?;
            let chosen = seen.choose(asked)?;
            seen.check(asked, chosen.is_some())?;
            fits(chosen.as_ref().map(|(metadata, _)| metadata))?;
            let number = seen.last + 1;
            let entry = LogEntry::Start(Start {
                attempt: asked.attempt.clone(),
                job: asked.job.clone(),
                from: chosen.as_ref().map(|(m, _)| m.id),
                savepoint: asked.savepoint.clone(),
                at_ms: asked.at_ms,
            });
            let bytes = encode(&entry, &[])?;
            if self.put_next(number, &bytes)? {
                return Ok(Term {
                    number,
                    attempt: asked.attempt.clone(),
                    from: chosen,
                    last_checkpoint: seen.last_checkpoint(),
                    earlier: seen.completed(),
                    broken: seen.broken,
                });
            }
        }
    }

    /// Writes a checkpoint under the next number of the log. Errors: `Fenced` where another start has taken it; the
    /// store's, after which the number may be written again.
    pub fn complete(&self, number: u64, metadata: &Metadata, inline: &[u8]) -> Result<()> {
        let entry = LogEntry::Checkpoint(Box::new(metadata.clone()));
        match self.put_next(number, &encode(&entry, inline)?)? {
            true => Ok(()),
            false => Err(Error::new(
                ErrorCode::Fenced,
                format!(
                    "a later start of '{}' has taken over: checkpoint {} is not written",
                    metadata.job.name, metadata.id
                ),
            )
            .help("let one process run a job at a time")),
        }
    }

    /// Whether the entry is ours: also where the reply to an earlier put was lost.
    fn put_next(&self, number: u64, bytes: &[u8]) -> Result<bool> {
        let name = log_name(number);
        match self.blobs.put_new(&name, bytes)? {
            PutNew::Created => Ok(true),
            // Entries have the attempt in them: equal bytes are our own.
            PutNew::Exists => match self.blobs.get(&name) {
                Ok(there) => Ok(there == bytes),
                Err(e) if e.code() == ErrorCode::NotFound => Ok(false),
                Err(e) => Err(e),
            },
        }
    }

    /// Reads the whole log.
    pub fn read(&self) -> Result<Log> {
        let mut log = Log::default();
        for info in self.blobs.list("log")? {
            let Some(number) = log_number(&info.name) else {
                continue;
            };
            log.last = log.last.max(number);
            let read = self.blobs.get(&info.name);
            let read = read.and_then(|bytes| decode::<LogEntry>(&bytes));
            match read {
                Ok((LogEntry::Start(start), _)) => log.starts.push((number, start)),
                Ok((LogEntry::Checkpoint(metadata), inline)) => {
                    log.checkpoints.push((number, *metadata, inline));
                }
                // Between the listing and the reading it was removed by its owner.
                Err(e) if e.code() == ErrorCode::NotFound => {}
                Err(e) if e.code() == ErrorCode::Corrupt => {
                    log.broken.push((number, e.at("object", &info.name)));
                }
                Err(e) => return Err(e),
            }
        }
        log.set_aside(self.blobs.as_ref())?;
        for (number, error) in &self.aside {
            let before = log.checkpoints.len();
            log.checkpoints.retain(|(n, ..)| n != number);
            if log.checkpoints.len() < before {
                log.broken.push((*number, error.clone()));
            }
        }
        log.broken.sort_by_key(|(number, _)| *number);
        Ok(log)
    }
}

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
}

impl Log {
    /// Puts checkpoints aside whose objects are not there, or of another length.
    fn set_aside(&mut self, blobs: &dyn Blobs) -> Result<()> {
        let mut lengths = BTreeMap::new();
        for prefix in ["data", "shared"] {
            let found = blobs.list(prefix)?.into_iter();
            lengths.extend(found.map(|info| (info.name, info.length)));
        }
        let fault = |metadata: &Metadata| {
            metadata.objects().find_map(|object| {
                let name = object.name.as_ref()?;
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
            let fault = fault(metadata);
            let whole = fault.is_none();
            broken.extend(fault.map(|e| (*number, e)));
            whole
        });
        Ok(())
    }

    fn completed(&self) -> Vec<Completed> {
        let completed = self
            .checkpoints
            .iter()
            .map(|(number, metadata, _)| Completed {
                number: *number,
                metadata: Arc::new(metadata.clone()),
            });
        completed.collect()
    }

    fn last_checkpoint(&self) -> u64 {
        let ids = self.checkpoints.iter().map(|(_, m, _)| m.id);
        // Of what cannot be read, the number in the log bounds the id from below only; ids begin above the term.
        ids.chain([self.last]).max().unwrap_or_default()
    }

    fn job(&self) -> Option<&JobRecord> {
        let checkpoint = self.checkpoints.last().map(|(n, m, _)| (*n, &m.job));
        let start = self.starts.last().map(|(n, s)| (*n, &s.job));
        let newest = checkpoint.into_iter().chain(start).max_by_key(|(n, _)| *n);
        newest.map(|(_, job)| job)
    }

    fn check(&self, asked: &Asked, goes_on: bool) -> Result<()> {
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
    fn choose(&self, asked: &Asked) -> Result<Option<(Metadata, Vec<u8>)>> {
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

#[cfg(test)]
mod tests;
