//! Bugs that are put into a process on purpose.

use std::collections::BTreeMap;

use pelton_control::checkpoint::{Coordinator, Log};
use pelton_model::checkpoint::Metadata;
use pelton_model::id::CheckpointId;

use super::{Process, contents};
use crate::message::{What, commits};
use crate::plan::Plant;
use crate::world;

impl Process {
    /// Removes what no entry refers to, at the wrong time or too much of it.
    pub(super) fn plants_of_start(&mut self, plant: Plant) {
        if !self.has(plant) {
            return;
        }
        let world = world::lock(&self.world);
        let lengths = world.objects.iter();
        let lengths = lengths.map(|(n, o)| (n.clone(), o.bytes.len() as u64));
        let entries = match plant {
            Plant::CollectReferred => Vec::new(),
            _ => world.entries(),
        };
        let log = Log::new(contents(entries, lengths.collect()), &BTreeMap::new());
        let term = match plant {
            Plant::CollectReferred => self.term,
            _ => u64::MAX,
        };
        let names = log.map(|log| log.orphans(term)).unwrap_or_default();
        drop(world);
        self.next_delete(names.into_iter().map(What::Delete).collect());
    }

    /// Commits or removes before the entry is there.
    pub(super) fn plants_of_store(&mut self, now: u64, metadata: &Metadata) {
        if self.has(Plant::CommitEarly) {
            let committables = metadata.committables().cloned().collect();
            self.next_commit(now, CheckpointId(0), commits(committables, self.term));
        }
        if self.has(Plant::DeleteEarly) {
            let kept = self.coordinator.iter().flat_map(Coordinator::kept);
            let names = kept.flat_map(|c| c.metadata.objects().map(|o| o.name.clone()));
            let todo = names.flatten().map(What::Delete).collect();
            self.next_delete(todo);
        }
    }
}
