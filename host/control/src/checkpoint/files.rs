//! Who refers to which object: counted, so that an object goes with the last of those who refer to it.

use std::collections::BTreeMap;

use pelton_model::checkpoint::{StoredFile, TaskRecord};
use pelton_model::id::CheckpointId;
use pelton_model::{Error, ErrorCode};

/// Where files of backends are that several checkpoints have in common.
const SHARED: &str = "shared/";

/// Objects by name, with the number of records that refer to them.
#[derive(Debug, Default)]
pub(super) struct Files {
    by_name: BTreeMap<String, (StoredFile, u32)>,
    /// Identity of a shared file: its name without folder and term.
    by_identity: BTreeMap<String, String>,
}

impl Files {
    /// A record refers to its objects from now on.
    pub(super) fn add(&mut self, record: &TaskRecord) {
        for (name, file) in named(record) {
            let entry = self.by_name.entry(name.to_owned());
            entry.or_insert_with(|| (file.clone(), 0)).1 += 1;
            if let Some(identity) = shared_identity(name) {
                self.by_identity
                    .insert(identity.to_owned(), name.to_owned());
            }
        }
    }

    /// A record refers to its objects no more: the names that nobody refers to now.
    pub(super) fn remove(&mut self, record: &TaskRecord) -> Vec<String> {
        let mut free = Vec::new();
        for (name, _) in named(record) {
            let Some((_, count)) = self.by_name.get_mut(name) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.by_name.remove(name);
                if let Some(identity) = shared_identity(name)
                    && self.by_identity.get(identity).is_some_and(|n| n == name)
                {
                    self.by_identity.remove(identity);
                }
                free.push(name.to_owned());
            }
        }
        free
    }

    /// Whether anybody refers to it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// All objects that anybody refers to.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.by_name.keys().cloned()
    }

    /// The shared file with this identity.
    pub(super) fn shared(&self, identity: &str) -> Option<&StoredFile> {
        let name = self.by_identity.get(identity)?;
        self.by_name.get(name).map(|(file, _)| file)
    }
}

/// The objects of a record, by name; each as often as it stands there.
pub(super) fn named(record: &TaskRecord) -> impl Iterator<Item = (&str, &StoredFile)> {
    let native = record.native.iter().flat_map(|n| &n.files).map(|f| &f.file);
    let files = record.state.iter().chain(native);
    files.filter_map(|f| Some((f.name.as_deref()?, f)))
}

/// The name of a file that later checkpoints may have, too: each upload has one of its own, so that no deletion can ever
/// reach a file that was stored after it was decided. `checkpoint`: none for the last snapshot of a task that has ended.
#[must_use]
pub fn shared_name(term: u64, checkpoint: Option<CheckpointId>, identity: &str) -> String {
    format!("{}{identity}", shared_folder(term, checkpoint))
}

fn shared_folder(term: u64, checkpoint: Option<CheckpointId>) -> String {
    match checkpoint {
        Some(checkpoint) => format!("{SHARED}{term}/{}/", checkpoint.0),
        None => format!("{SHARED}{term}/last/"),
    }
}

/// What a shared file is known by: the last part of its name, which is `shared/<term>/<checkpoint, or last>/<identity>`, or
/// `shared/<term>/<identity>` of earlier releases.
#[must_use]
pub fn shared_identity(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(SHARED)?;
    rest.rsplit_once('/').map(|(_, identity)| identity)
}

/// Whether a record refers to a shared file that was not stored for it, and that nobody else refers to any more: it was
/// given up while the record was on its way, and is deleted.
pub(super) fn is_lost(
    record: &TaskRecord,
    held: &Files,
    (term, checkpoint): (u64, Option<CheckpointId>),
) -> Option<Error> {
    let own = shared_folder(term, checkpoint);
    let lost = |name: &&str| name.starts_with(SHARED) && !name.starts_with(&own) && !held.has(name);
    let name = named(record).map(|(name, _)| name).find(lost)?;
    let message = "a file of an earlier checkpoint was given up before this one had it";
    Some(Error::new(ErrorCode::CheckpointFailed, message).at("object", name))
}
