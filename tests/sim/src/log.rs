//! How a process takes over a job: what it finds in the log, what it goes on from, and the entry that makes it the owner.
//! Needs: model. Refuses: IO; a driver reads and puts, and begins again where the number was taken.

use std::sync::Arc;

use pelton_model::checkpoint::{JobRecord, LogEntry, Metadata, Start};
use pelton_model::{Error, ErrorCode, Result};

use pelton_control::checkpoint::Completed;

/// What a start asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is to run.
    pub job: JobRecord,
    /// Unique to the start.
    pub attempt: String,
    /// Not to go on from anything.
    pub fresh: bool,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// What a start found, and what it owns once its entry is put.
#[derive(Clone, Debug)]
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
    /// An entry, as it was read; entries come in ascending order. One that has gone since it was listed counts by its
    /// number alone. Errors: those of reading that say nothing of the entry.
    pub fn add(&mut self, number: u64, read: Result<(LogEntry, Vec<u8>)>) -> Result<()> {
        self.last = self.last.max(number);
        match read {
            Ok((LogEntry::Start(start), _)) => self.starts.push((number, start)),
            Ok((LogEntry::Checkpoint(metadata), inline)) => {
                self.checkpoints.push((number, *metadata, inline));
            }
            // Between the listing and the reading it was removed by its owner.
            Err(e) if e.code() == ErrorCode::NotFound => {}
            Err(e) if e.code() == ErrorCode::Corrupt => self.broken.push((number, e)),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Puts checkpoints aside whose objects are not there, or of another length: `length` gives that of an object.
    pub fn set_aside(&mut self, length: impl Fn(&str) -> Option<u64>) {
        let fault = |metadata: &Metadata| {
            metadata.objects().find_map(|object| {
                let name = object.name.as_ref()?;
                let why = match length(name) {
                    None => "is missing".to_owned(),
                    Some(n) if n == object.length => return None,
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
        self.broken.sort_by_key(|(number, _)| *number);
    }

    /// What a start is to put, create-only, under the number of its term; if that is taken, the log is read again.
    /// Errors: `WrongJob` for a log of another job, or of other parameters of the sources (unless fresh); `Corrupt` where
    /// checkpoints are there and none is whole.
    pub fn begin(self, asked: &Asked) -> Result<(Term, LogEntry)> {
        self.check(asked)?;
        let from = match asked.fresh {
            true => None,
            false => self.choose()?,
        };
        let entry = LogEntry::Start(Start {
            attempt: asked.attempt.clone(),
            job: asked.job.clone(),
            from: from.as_ref().map(|(m, _)| m.id),
            savepoint: None,
            at_ms: asked.at_ms,
        });
        let term = Term {
            number: self.last + 1,
            attempt: asked.attempt.clone(),
            from,
            last_checkpoint: self.last_checkpoint(),
            earlier: self.completed(),
            broken: self.broken,
        };
        Ok((term, entry))
    }

    fn completed(&self) -> Vec<Completed> {
        let whole = self.checkpoints.iter();
        let completed = whole.map(|(number, metadata, _)| Completed {
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

    fn check(&self, asked: &Asked) -> Result<()> {
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
        if asked.fresh {
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

    /// The last one that is whole. Errors: `Corrupt` where there are some, and none is.
    fn choose(&self) -> Result<Option<(Metadata, Vec<u8>)>> {
        let last = self.checkpoints.last();
        match (last, self.broken.last()) {
            (Some((_, metadata, inline)), _) => Ok(Some((metadata.clone(), inline.clone()))),
            (None, Some((_, error))) => {
                let help = "mend the folder, or begin anew with --fresh: what was counted is lost";
                Err(error.clone().help(help))
            }
            (None, None) => Ok(None),
        }
    }
}
