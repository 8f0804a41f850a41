//! How a process takes over a job: events in, actions out. Needs: the log. Refuses: IO; a driver reads and puts.
//!
//! A start reads the folder, chooses the last checkpoint that is whole, and puts its own entry under the next number,
//! create-only. Where that is taken, it reads back what stands there: its own bytes, if the reply to an earlier try was
//! lost; those of another start that was faster, and it reads the folder again. Entries of checkpoints are removed some day,
//! so that a start which stands still between reading and putting may find a number free that was taken meanwhile: it looks
//! once more whether its entry is the greatest, which no entry ceases to be before there is a greater, and begins again
//! where it is not. From then on it alone writes the numbers that follow. It finds out that it was passed when the next
//! number is taken.

use std::collections::BTreeMap;

use pelton_model::blob::PutNew;
use pelton_model::checkpoint::{JobRecord, LogEntry, Metadata, Start, decode, encode};
use pelton_model::id::CheckpointId;
use pelton_model::{Error, ErrorCode, Result};

use super::log::{Contents, Log};
use super::message::{Completed, StoreOutcome};

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

/// What a start found, and what it now owns.
#[derive(Clone, Debug)]
pub struct Term {
    /// The number of its entry: its term.
    pub number: u64,
    /// Unique to it.
    pub attempt: String,
    /// What tells the log from all others: the attempt of its first start.
    pub log: String,
    /// What it goes on from, with the inline part of its envelope.
    pub from: Option<(Metadata, Vec<u8>)>,
    /// All checkpoints that were there and whole, ascending; the last one is `from`, unless the start is fresh.
    pub earlier: Vec<Completed>,
    /// Checkpoints that were there and are broken: what is wrong with each.
    pub broken: Vec<(u64, Error)>,
    /// The greatest number that any checkpoint has.
    pub last_checkpoint: u64,
    /// Objects that are nobody's, and may be removed: see [`Log::orphans`].
    pub orphans: Vec<String>,
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

/// What a start hears.
#[derive(Debug)]
pub enum StartEvent {
    /// The folder was read.
    Read(Result<Contents>),
    /// The put of the entry has ended.
    Put(Result<PutNew>),
    /// What stands under the number.
    ReadBack(Result<Vec<u8>>),
    /// The greatest number in the log.
    Last(Result<u64>),
}

/// What a start wants done next; its outcome is the next event.
#[derive(Debug)]
pub enum StartAction {
    /// Reads the folder: entries first, then objects. Ends in [`StartEvent::Read`].
    Read,
    /// Puts the entry, create-only. Ends in [`StartEvent::Put`].
    Put {
        /// Its number in the log.
        number: u64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Reads what stands under the number. Ends in [`StartEvent::ReadBack`].
    ReadBack {
        /// The number.
        number: u64,
    },
    /// Looks for the greatest number in the log. Ends in [`StartEvent::Last`].
    Look,
    /// The term is taken. Nothing follows.
    Begin(Box<Term>),
    /// There is no start. `WrongJob` for a folder of another job, or of other parameters of the sources (unless it begins
    /// anew); `Corrupt` where checkpoints are there and none is whole; those of `fits`; the store's, after which the entry
    /// may be there: it is one that nobody goes on with. Nothing follows.
    Refuse(Error),
}

/// A start that is under way.
#[derive(Debug)]
pub struct Starting {
    asked: Asked,
    aside: BTreeMap<u64, Error>,
    /// What is being put.
    put: Option<(Box<Term>, Vec<u8>)>,
}

impl Starting {
    /// A start, and the first thing that it wants. `aside`: checkpoints that were tried, and whose content is not what it
    /// should be, by the numbers of their entries.
    #[must_use]
    pub fn new(asked: Asked, aside: BTreeMap<u64, Error>) -> (Self, StartAction) {
        let put = None;
        (Self { asked, aside, put }, StartAction::Read)
    }

    /// Goes on. `fits` says whether the job can go on from what is chosen.
    pub fn step(
        &mut self,
        event: StartEvent,
        fits: &dyn Fn(Option<&Metadata>) -> Result<()>,
    ) -> StartAction {
        let next = match event {
            StartEvent::Read(read) => read.and_then(|contents| self.read(contents, fits)),
            StartEvent::Put(put) => put.map(|put| match put {
                PutNew::Created => StartAction::Look,
                PutNew::Exists => StartAction::ReadBack {
                    number: self.put.as_ref().map_or(0, |(term, _)| term.number),
                },
            }),
            StartEvent::ReadBack(there) => match there {
                // Entries have the attempt in them: equal bytes are our own.
                Ok(there) if self.put.as_ref().is_some_and(|(_, ours)| there == *ours) => {
                    Ok(StartAction::Look)
                }
                Ok(_) => Ok(StartAction::Read),
                // Its owner has removed it, and is not this start.
                Err(e) if e.code() == ErrorCode::NotFound => Ok(StartAction::Read),
                Err(e) => Err(e),
            },
            StartEvent::Last(last) => last.and_then(|last| self.begin(last)),
        };
        next.unwrap_or_else(StartAction::Refuse)
    }

    fn read(
        &mut self,
        contents: Contents,
        fits: &dyn Fn(Option<&Metadata>) -> Result<()>,
    ) -> Result<StartAction> {
        let log = Log::new(contents, &self.aside)?;
        let asked = &self.asked;
        let from = log.choose(asked)?;
        log.check(asked, from.is_some())?;
        fits(from.as_ref().map(|(metadata, _)| metadata))?;
        let number = log.last + 1;
        let entry = LogEntry::Start(Start {
            attempt: asked.attempt.clone(),
            job: asked.job.clone(),
            from: from.as_ref().map(|(m, _)| m.id),
            savepoint: asked.savepoint.clone(),
            at_ms: asked.at_ms,
        });
        let bytes = encode(&entry, &[])?;
        let term = Term {
            number,
            attempt: asked.attempt.clone(),
            log: log.identity().unwrap_or(&asked.attempt).to_owned(),
            from,
            last_checkpoint: log.last_checkpoint(),
            earlier: log.completed(),
            orphans: log.orphans(number),
            broken: log.broken,
        };
        self.put = Some((Box::new(term), bytes.clone()));
        Ok(StartAction::Put { number, bytes })
    }

    fn begin(&mut self, last: u64) -> Result<StartAction> {
        let (term, _) = self
            .put
            .take()
            .ok_or_else(|| Error::bug("a start without an entry"))?;
        Ok(match last > term.number {
            true => StartAction::Read,
            false => StartAction::Begin(term),
        })
    }
}

impl StoreOutcome {
    /// What became of the put of a checkpoint's entry, by what stands under its number: `attempt` is that of the process.
    #[must_use]
    pub fn found(there: &[u8], attempt: &str, checkpoint: CheckpointId) -> Self {
        match decode::<LogEntry>(there) {
            Ok((LogEntry::Checkpoint(m), _)) if m.attempt == attempt => {
                match m.checkpoint() == checkpoint {
                    true => Self::Created,
                    false => Self::Late,
                }
            }
            _ => Self::Fenced,
        }
    }
}

#[cfg(test)]
mod tests;
