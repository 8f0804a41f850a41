//! What there is to go on from, by URL: savepoints, and checkpoints in a folder; and whether it is whole.
//! Needs: folder, savepoint, model::{checkpoint, snapshot}. Refuses: to write, but for the removal of savepoints.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use pelton_blob::{RetryPolicy, Retrying, SystemPace};
use pelton_engine::snapshot::RestoreFrom;
use pelton_model::blob::Blobs;
use pelton_model::checkpoint::{Metadata, SectionRecord, StoredFile, TaskRecord};
use pelton_model::key::{KeyGroup, hash_bytes};
use pelton_model::snapshot::{NO_GROUP, StateReader};
use pelton_model::{Error, ErrorCode, Result};
use xxhash_rust::xxh3::Xxh3;

use super::folder::Folder;
use super::savepoint;

/// A savepoint, or a checkpoint of a folder.
#[derive(Clone)]
pub(crate) struct Saved {
    /// As it was named.
    pub(crate) url: String,
    /// What it has, and where.
    pub(crate) from: RestoreFrom,
    /// The number of its entry in the log; none for a savepoint.
    pub(crate) number: Option<u64>,
    /// The complete checkpoint before it in the folder.
    pub(crate) previous: Option<Arc<Metadata>>,
}

/// A store that is only read.
pub(crate) fn store(url: &str) -> Result<Arc<dyn Blobs>> {
    let settings = pelton_blob::Settings {
        read_only: true,
        ..pelton_blob::Settings::default()
    };
    let store = pelton_blob::open(url, &settings)?;
    let pace = Arc::new(SystemPace::new());
    Ok(Arc::new(Retrying::new(store, RetryPolicy::default(), pace)))
}

/// A URL, and what stands below it.
pub(crate) fn below(url: &str, name: &str) -> String {
    format!("{}/{name}", url.trim_end_matches('/'))
}

impl Saved {
    /// The savepoint at a URL, or the last checkpoint of the folder that is there. Errors: `NotFound`, `Corrupt`; the
    /// store's.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let blobs = store(url)?;
        match savepoint::open(Arc::clone(&blobs)) {
            Ok(from) => Ok(Self {
                url: url.to_owned(),
                from,
                number: None,
                previous: None,
            }),
            Err(e) if e.code() == ErrorCode::NotFound => {
                let nothing = |e: Error| match e.code() {
                    ErrorCode::NotFound => {
                        let message = format!("there is no savepoint and no checkpoint at '{url}'");
                        Error::new(ErrorCode::NotFound, message)
                            .help("`pelton savepoint list` and `pelton checkpoint list` show those of a folder")
                    }
                    _ => e,
                };
                Self::checkpoint(url, blobs, None).map_err(nothing)
            }
            Err(e) => Err(e.at("savepoint", url)),
        }
    }

    /// A checkpoint of a folder: the one with this id, or the last. Errors: `NotFound`; `Corrupt` where all are broken.
    pub(crate) fn checkpoint(url: &str, blobs: Arc<dyn Blobs>, id: Option<u64>) -> Result<Self> {
        let log = Folder::new(Arc::clone(&blobs)).read()?;
        let at = match id {
            Some(id) => log.checkpoints.iter().position(|(_, m, _)| m.id == id),
            None => log.checkpoints.len().checked_sub(1),
        };
        let mut before = None;
        for (place, (number, metadata, inline)) in log.checkpoints.into_iter().enumerate() {
            let metadata = Arc::new(metadata);
            if Some(place) == at {
                return Ok(Self {
                    url: url.to_owned(),
                    from: RestoreFrom {
                        metadata,
                        inline: Arc::new(inline),
                        blobs,
                    },
                    number: Some(number),
                    previous: before,
                });
            }
            before = Some(metadata);
        }
        if let (None, Some((_, error))) = (id, log.broken.into_iter().next_back()) {
            return Err(error);
        }
        let which = id.map_or("no checkpoint".to_owned(), |id| {
            format!("no checkpoint {id}")
        });
        let message = format!("there is {which} in '{url}'");
        Err(Error::new(ErrorCode::NotFound, message)
            .help("`pelton checkpoint list` shows those of a folder"))
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.from.metadata
    }

    /// Tells it from all others, wherever it is moved to.
    pub(crate) fn identity(&self) -> String {
        let metadata = self.metadata();
        format!("{}/{}", metadata.attempt, metadata.id)
    }

    /// Reads all of it but what is in `seen`, whose objects are added; bytes read and what is wrong.
    pub(crate) fn verify(&self, seen: &mut BTreeSet<String>) -> (u64, Vec<Error>) {
        let (mut bytes, mut faults) = (0, Vec::new());
        let metadata = self.metadata();
        for task in &metadata.tasks {
            let native = task.native.iter().flat_map(|n| &n.files);
            let files = task.state.iter().map(|f| (f, true));
            for (file, is_state) in files.chain(native.map(|f| (&f.file, false))) {
                if let Some(name) = &file.name
                    && !seen.insert(name.clone())
                {
                    continue;
                }
                let of = is_state.then_some((task, metadata.job.max_parallelism));
                match self.read(file, of) {
                    Ok(()) => bytes += file.length,
                    Err(e) => {
                        let name = file.name.clone();
                        let name = name.unwrap_or_else(|| {
                            format!("inline, of task {}-{}", task.chain, task.index)
                        });
                        faults.push(e.at("object", name));
                    }
                }
            }
        }
        (bytes, faults)
    }

    fn read(&self, file: &StoredFile, state_of: Option<(&TaskRecord, u32)>) -> Result<()> {
        let from: Box<dyn Read + Send> = match (&file.name, file.inline) {
            (Some(name), _) => self.from.blobs.read(name).map_err(|e| match e.code() {
                ErrorCode::NotFound => corrupt("it is missing".to_owned()),
                _ => e,
            })?,
            (None, at) => {
                let start = usize::try_from(at.unwrap_or_default()).unwrap_or(usize::MAX);
                let length = usize::try_from(file.length).unwrap_or(usize::MAX);
                let part = self.from.inline.get(start..start.saturating_add(length));
                let part = part.ok_or_else(|| corrupt("it is missing".to_owned()))?;
                Box::new(std::io::Cursor::new(part.to_vec()))
            }
        };
        let mut from = Hashed {
            from,
            hash: Xxh3::new(),
            length: 0,
        };
        let read = match state_of {
            Some((task, max_parallelism)) => read_state(&mut from, task, max_parallelism),
            None => Ok(()),
        };
        std::io::copy(&mut from, &mut std::io::sink())
            .map_err(|e| Error::new(ErrorCode::Io, format!("an object cannot be read: {e}")))?;
        // What is wrong with the whole says more than what it led to.
        if from.length != file.length {
            let (is, should) = (from.length, file.length);
            return Err(corrupt(format!("it has {is} bytes instead of {should}")));
        }
        if from.hash.digest() != file.checksum {
            return Err(match read {
                Err(e) if e.code() == ErrorCode::Corrupt => e,
                _ => corrupt("its checksum is wrong".to_owned()),
            });
        }
        read
    }
}

/// Reads with a checksum and a length.
struct Hashed {
    from: Box<dyn Read + Send>,
    hash: Xxh3,
    length: u64,
}

impl Read for Hashed {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(into)?;
        self.hash.update(into.get(..n).unwrap_or_default());
        self.length += n as u64;
        Ok(n)
    }
}

/// Reads a state file block by block; each entry is where it belongs, and all are there.
fn read_state(from: &mut Hashed, task: &TaskRecord, max_parallelism: u32) -> Result<()> {
    let mut reader = StateReader::new(from)?;
    let mut found = vec![(0_u64, 0_u64); task.sections.len()];
    while let Some(block) = reader.next_block()? {
        let number = block.section as usize;
        let count = found.get_mut(number);
        let count = count.ok_or_else(|| corrupt(format!("it has an unknown section {number}")))?;
        let (start, end) = task.key_groups;
        if block.group != NO_GROUP && !(start..end).contains(&block.group) {
            let group = block.group;
            return Err(corrupt(format!(
                "it has key group {group}, which is not its own"
            )));
        }
        block.entries(|entry| {
            count.0 += 1;
            count.1 += (entry.key.len() + entry.sub.len() + entry.value.len()) as u64;
            let group = KeyGroup::of(hash_bytes(entry.key), max_parallelism);
            match block.group == NO_GROUP || block.group == group.0 {
                true => Ok(()),
                false => Err(corrupt(format!(
                    "a key of key group {} is in key group {}",
                    group.0, block.group
                ))),
            }
        })?;
    }
    let differs = |(section, found): (&SectionRecord, (u64, u64))| {
        ((section.entries, section.bytes) != found).then(|| (section.clone(), found))
    };
    match task.sections.iter().zip(found).find_map(differs) {
        None => Ok(()),
        Some((section, (entries, _))) => Err(corrupt(format!(
            "'{}' of operator '{}' has {entries} entries, and should have {}",
            section.spec.name, section.spec.uid, section.entries
        ))),
    }
}

fn corrupt(why: String) -> Error {
    Error::new(ErrorCode::Corrupt, format!("an object is damaged: {why}"))
}

#[cfg(test)]
mod tests;
