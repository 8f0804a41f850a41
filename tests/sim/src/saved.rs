//! Savepoints of the simulated job: what a process writes of one, and what a job that begins from one goes on with.
//! Needs: world. A savepoint has a folder of its own in the store, named by the term and the number of its barrier.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pelton_engine::snapshot::RestoreFrom;
use pelton_model::checkpoint::{Metadata, decode, encode};
use pelton_model::id::CheckpointId;
use pelton_model::{Error, Result};

use crate::message::What;
use crate::world::{Shared, Store, lock, not_found};

const METADATA: &str = "metadata";

/// The folder of a savepoint, with the `/` at its end.
#[must_use]
pub fn folder(term: u64, checkpoint: CheckpointId) -> String {
    format!("saved/{term}-{}/", checkpoint.0)
}

/// A savepoint that is complete.
#[derive(Clone, Debug)]
pub struct Saved {
    folder: String,
    /// What it has.
    pub metadata: Arc<Metadata>,
    inline: Arc<Vec<u8>>,
}

impl Saved {
    /// Reads it. Errors: `NotFound`, `Corrupt`.
    pub fn open(world: &Shared, folder: &str) -> Result<Self> {
        let name = format!("{folder}{METADATA}");
        let world = lock(world);
        let object = world.objects.get(&name).ok_or_else(|| not_found(&name))?;
        let (metadata, inline) = decode::<Metadata>(&object.bytes)?;
        Ok(Self {
            folder: folder.to_owned(),
            metadata: Arc::new(metadata),
            inline: Arc::new(inline),
        })
    }

    /// Tells it from all others.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}/{}", self.metadata.attempt, self.metadata.id)
    }

    /// What a start goes on from.
    #[must_use]
    pub fn from(&self, world: &Shared) -> RestoreFrom {
        RestoreFrom {
            metadata: Arc::clone(&self.metadata),
            inline: Arc::clone(&self.inline),
            blobs: Arc::new(Store::below(world, &self.folder)),
        }
    }
}

/// The savepoints of one start.
#[derive(Debug, Default)]
pub struct Savepoints {
    last: u64,
    /// Those whose barrier has not been sent.
    asked: VecDeque<u64>,
    /// The folders of the others.
    folders: BTreeMap<u64, String>,
}

impl Savepoints {
    /// One is asked for: the number of the request.
    pub fn asked(&mut self) -> u64 {
        self.last += 1;
        self.asked.push_back(self.last);
        self.last
    }

    /// The barrier of the one that waits longest is sent.
    pub fn triggered(&mut self, term: u64, checkpoint: CheckpointId) {
        if let Some(request) = self.asked.pop_front() {
            self.folders.insert(request, folder(term, checkpoint));
        }
    }

    /// What is written when all tasks have answered, in this order. Errors: `Bug`.
    pub fn writes(
        &self,
        request: u64,
        metadata: &Metadata,
        inline: &[u8],
        copies: Vec<String>,
    ) -> Result<VecDeque<What>> {
        let folder = self
            .folders
            .get(&request)
            .ok_or_else(|| Error::bug("a savepoint without a barrier"))?;
        let copy = |name: String| What::Copy(name.clone(), format!("{folder}{name}"));
        let mut todo: VecDeque<What> = copies.into_iter().map(copy).collect();
        let name = format!("{folder}{METADATA}");
        todo.push_back(What::PutNew(name, encode(metadata, inline)?.into()));
        Ok(todo)
    }

    /// What is removed of one that has failed.
    #[must_use]
    pub fn deletes(&self, request: u64, names: Vec<String>) -> VecDeque<What> {
        let folder = self.folders.get(&request);
        let delete = |name| folder.map(|folder| What::Delete(format!("{folder}{name}")));
        names.into_iter().filter_map(delete).collect()
    }

    /// One is complete, or never will be: its folder.
    pub fn over(&mut self, request: u64) -> Option<String> {
        self.asked.retain(|r| *r != request);
        self.folders.get(&request).cloned()
    }
}
