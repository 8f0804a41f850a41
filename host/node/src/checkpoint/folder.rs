//! A checkpoint folder: reads and writes what a start wants, and puts the entries of checkpoints.
//! Needs: control's [`Starting`] and [`Log`], model::{checkpoint, blob}. The protocol is theirs, and that of
//! [`pelton_model::checkpoint`].

use std::collections::BTreeMap;
use std::sync::Arc;

pub use pelton_control::checkpoint::{Asked, Log, Term};
use pelton_control::checkpoint::{Contents, StartAction, StartEvent, Starting};
use pelton_model::blob::{Blobs, PutNew};
use pelton_model::checkpoint::{LogEntry, Metadata, encode, log_name, log_number};
use pelton_model::{Error, ErrorCode, Result};

/// The checkpoints of one job.
#[derive(Clone)]
pub struct Folder {
    blobs: Arc<dyn Blobs>,
    /// Checkpoints that were tried, and whose content is not what it should be, by the numbers of their entries.
    aside: BTreeMap<u64, Error>,
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

    /// Takes the next term, if `fits` accepts the checkpoint that is chosen. Errors: as
    /// [`StartAction::Refuse`](pelton_control::checkpoint::StartAction).
    pub fn start(
        &self,
        asked: &Asked,
        fits: &dyn Fn(Option<&Metadata>) -> Result<()>,
    ) -> Result<Term> {
        let (mut starting, mut action) = Starting::new(asked.clone(), self.aside.clone());
        loop {
            let event = match action {
                StartAction::Read => StartEvent::Read(self.contents()),
                StartAction::Put { number, bytes } => {
                    StartEvent::Put(self.blobs.put_new(&log_name(number), &bytes))
                }
                StartAction::ReadBack { number } => {
                    StartEvent::ReadBack(self.blobs.get(&log_name(number)))
                }
                StartAction::Look => StartEvent::Last(self.last()),
                StartAction::Begin(term) => return Ok(*term),
                StartAction::Refuse(error) => return Err(error),
            };
            action = starting.step(event, fits);
        }
    }

    /// Writes a checkpoint under the next number of the log. Errors: `Fenced` where another entry has it; the store's, after
    /// which the number may be written again.
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
        Log::new(self.contents()?, &self.aside)
    }

    /// The greatest number of the log.
    fn last(&self) -> Result<u64> {
        let entries = self.blobs.list("log")?;
        let numbers = entries.iter().filter_map(|info| log_number(&info.name));
        Ok(numbers.max().unwrap_or_default())
    }

    fn contents(&self) -> Result<Contents> {
        let mut entries = Vec::new();
        for info in self.blobs.list("log")? {
            if let Some(number) = log_number(&info.name) {
                entries.push((number, self.blobs.get(&info.name)));
            }
        }
        let mut objects = self.blobs.list("data")?;
        objects.extend(self.blobs.list("shared")?);
        Ok(Contents { entries, objects })
    }
}

#[cfg(test)]
mod tests;
