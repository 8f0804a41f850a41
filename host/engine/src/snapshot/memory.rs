//! Snapshots that stay in memory: for tests and simulations.
//! Needs: snapshot. Refuses: files of backends, which are on disk; a test of those adds them to the metadata itself.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::checkpoint::{Metadata, NativeState, OperatorRecord, StoredFile, TaskRecord};
use pelton_model::{Error, ErrorCode, Result};

use super::{Made, RestoreFrom, SnapshotOutput, SnapshotWriter};

/// One task's snapshot, as far as it is written. Clones are of the same one.
#[derive(Clone, Default)]
pub struct MemorySnapshot(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// Bytes that are taken before there is no room.
    room: Option<usize>,
    made: Option<Result<Made>>,
}

impl MemorySnapshot {
    /// An empty one, and what writes it.
    #[must_use]
    pub fn new() -> (Self, SnapshotWriter) {
        let snapshot = Self::default();
        let writer = SnapshotWriter::new(Box::new(snapshot.clone()));
        (snapshot, writer)
    }

    /// From now on there is room for so many bytes more.
    pub fn set_room(&self, bytes: usize) {
        let mut written = self.written();
        written.room = Some(written.bytes.len() + bytes);
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.written().bytes.len()
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state file and what was made besides. Errors: why it was declined; `Bug` where it was not finished, or taken
    /// before.
    pub fn take(&self) -> Result<(Vec<u8>, Made)> {
        let mut written = self.written();
        let made = written.made.take();
        let made = made.ok_or_else(|| Error::bug("a snapshot was not finished"))??;
        Ok((std::mem::take(&mut written.bytes), made))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotOutput for MemorySnapshot {
    fn has_room(&mut self) -> bool {
        let written = self.written();
        written.room.is_none_or(|room| written.bytes.len() < room)
    }

    fn write(&mut self, bytes: Vec<u8>) {
        self.written().bytes.extend_from_slice(&bytes);
    }

    fn finish(self: Box<Self>, made: Made) {
        self.written().made = Some(Ok(made));
    }

    fn decline(self: Box<Self>, error: Error) {
        self.written().made = Some(Err(error));
    }
}

/// The snapshot of one task, and which task it was.
pub struct MemoryTask<'a> {
    /// Its number.
    pub index: u32,
    /// First key group, and the one after the last.
    pub key_groups: (u32, u32),
    /// Uids of its operators.
    pub operators: &'a [&'a str],
    /// What it wrote.
    pub snapshot: MemorySnapshot,
}

/// A complete checkpoint of these tasks of one chain, whose state files stand inline. Objects are sought in a store that
/// is empty. Errors: a snapshot that was declined or not finished.
pub fn checkpoint(max_parallelism: u32, tasks: &[MemoryTask<'_>]) -> Result<RestoreFrom> {
    let mut inline = Vec::new();
    let mut records = Vec::new();
    for task in tasks {
        let (bytes, made) = task.snapshot.take()?;
        let native = made.native.into_iter().map(|n| NativeState {
            uid: n.uid,
            format: n.format,
            sections: n.sections,
            files: Vec::new(),
        });
        records.push(TaskRecord {
            index: task.index,
            operators: task.operators.iter().map(|o| (*o).to_owned()).collect(),
            key_groups: task.key_groups,
            state: Some(StoredFile {
                name: None,
                inline: Some(inline.len() as u64),
                length: made.length,
                checksum: made.checksum,
            }),
            sections: made.sections,
            native: native.collect(),
            ..TaskRecord::default()
        });
        inline.extend_from_slice(&bytes);
    }
    let operators = tasks.first().map_or(&[][..], |t| t.operators);
    let metadata = Metadata {
        id: 1,
        attempt: String::new(),
        term: 1,
        job: pelton_model::checkpoint::JobRecord {
            max_parallelism,
            ..Default::default()
        },
        savepoint: false,
        finished: false,
        at_ms: 0,
        operators: operators
            .iter()
            .map(|uid| OperatorRecord {
                uid: (*uid).to_owned(),
                name: (*uid).to_owned(),
                parallelism: tasks.len() as u32,
            })
            .collect(),
        tasks: records,
    };
    Ok(RestoreFrom {
        metadata: Arc::new(metadata),
        inline: Arc::new(inline),
        blobs: Arc::new(MemoryBlobs::default()),
    })
}

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<BTreeMap<String, Vec<u8>>>);

impl MemoryBlobs {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_files() -> Error {
    Error::new(
        ErrorCode::StoreFailed,
        "objects in memory are not exchanged with files",
    )
}

impl Blobs for MemoryBlobs {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.objects().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Ok(PutNew::Exists);
        }
        objects.insert(name.to_owned(), bytes.to_vec());
        Ok(PutNew::Created)
    }

    fn put_file(&self, _: &str, _: &Path) -> Result<()> {
        Err(no_files())
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let found = self.objects().get(name).cloned();
        found.ok_or_else(|| Error::new(ErrorCode::NotFound, format!("no object '{name}'")))
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        let all = self.get(name)?;
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(all.len());
        let (from, to) = (at(offset), at(offset.saturating_add(length)));
        Ok(all.get(from..to).unwrap_or_default().to_vec())
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.get(name)?)))
    }

    fn get_file(&self, _: &str, _: &Path) -> Result<()> {
        Err(no_files())
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let within = |name: &str| {
            let rest = name.strip_prefix(prefix);
            prefix.is_empty() || rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        let objects = self.objects();
        let found = objects.iter().filter(|(name, _)| within(name));
        let info = |(name, bytes): (&String, &Vec<u8>)| BlobInfo {
            name: name.clone(),
            length: bytes.len() as u64,
        };
        Ok(found.map(info).collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.objects().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::section;
    use pelton_model::key::KeyGroupRange;
    use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind};

    #[test]
    fn what_two_tasks_wrote_is_shared_out_again() {
        let task = |index: u32| {
            let (snapshot, mut writer) = MemorySnapshot::new();
            writer.operator("a");
            let number = writer.section(section(SectionKind::OperatorList, "list"));
            for value in [[index as u8, 0], [index as u8, 1]] {
                let entry = Entry {
                    key: &[],
                    sub: &[],
                    value: &value,
                };
                writer.put(number, NO_GROUP, entry);
            }
            snapshot.set_room(0);
            assert!(!writer.has_room());
            assert!(snapshot.take().is_err(), "it is not finished");
            writer.finish();
            MemoryTask {
                index,
                key_groups: (index * 64, index * 64 + 64),
                operators: &["a"],
                snapshot,
            }
        };
        let from = checkpoint(128, &[task(0), task(1)]).unwrap();
        let of = |task: u32, parallelism: u32| {
            let range = KeyGroupRange::of_task(task, parallelism, 128);
            let mut all = Vec::new();
            let restored = from.operator("a", (task, parallelism), range);
            let each = |_: &_, _, e: Entry<'_>| {
                all.push((e.value[0], e.value[1]));
                Ok(())
            };
            restored.entries(|_| true, each).unwrap();
            all
        };
        assert_eq!(of(1, 2), [(1, 0), (1, 1)]);
        assert_eq!(of(0, 1), [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!([of(0, 3), of(1, 3), of(2, 3)].concat().len(), 4);
    }
}
