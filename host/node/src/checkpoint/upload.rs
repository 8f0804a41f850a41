//! From a task's snapshot to durable objects: takes the bytes as they come, stores them beside the tasks, and reports.
//! Needs: io, the engine's contract of snapshots. Invariant: a report is sent when all that it names is durable.
//!
//! A small state file goes into the metadata itself. A large one is collected in a local file while the task writes it.
//! Files of a backend that never change have an identity: those that a complete checkpoint has are not stored again.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_control::checkpoint::{Event, shared_identity, shared_name};
use pelton_engine::snapshot::{LocalFile, Made, NativeFiles, SnapshotOutput, SnapshotStore};
use pelton_model::barrier::{Barrier, SnapshotForm};
use pelton_model::blob::Blobs;
use pelton_model::checkpoint::{
    Committable, Metadata, NativeFile, NativeState, StoredFile, TaskRecord,
};
use pelton_model::id::{CheckpointId, TaskId};
use pelton_model::{Error, ErrorCode, Result};
use xxhash_rust::xxh3::Xxh3;

use super::io::Io;
use super::points::{self, SharedPoints};

/// A state file of at most so many bytes stands in the metadata.
const INLINE_BYTES: usize = 32 << 10;
/// A task waits with its snapshot while so many bytes of it are not on disk.
const HELD_BYTES: usize = 16 << 20;
/// What is collected in memory before it is written to the local file.
const SPOOL_BYTES: usize = 1 << 20;
/// Bytes that are read at once for a checksum.
const READ_BYTES: usize = 256 << 10;

/// Where reports go.
pub(crate) type Report = Arc<dyn Fn(Reported) + Send + Sync>;

/// What an upload has to say.
pub(crate) enum Reported {
    /// To the coordinator.
    Event(Box<Event>),
    /// The last snapshot of a task that has ended cannot be kept: it would be missing in all checkpoints to come.
    Lost(Error),
}

/// What all uploads of a start share.
pub(crate) struct Uploads {
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) io: Arc<Io>,
    pub(crate) report: Report,
    pub(crate) points: SharedPoints,
    pub(crate) term: u64,
    /// A local folder for what is collected.
    pub(crate) spool: PathBuf,
    /// By identity, files that complete checkpoints have.
    pub(crate) known: Mutex<HashMap<String, StoredFile>>,
    /// Where savepoints go, by the id of their barrier.
    pub(crate) savepoints: Mutex<BTreeMap<CheckpointId, Arc<dyn Blobs>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploads {
    /// Files of complete checkpoints are not stored again.
    pub(crate) fn know(&self, metadata: &Metadata) {
        let files = metadata.tasks.iter().flat_map(|t| &t.native);
        let files = files.flat_map(|n| &n.files);
        let shared = files.filter_map(|f| {
            let name = f.file.name.as_deref()?;
            Some((shared_identity(name)?.to_owned(), f.file.clone()))
        });
        *lock(&self.known) = shared.collect();
    }

    /// The store of one task's snapshots; `about` has what its records begin with.
    pub(crate) fn of_task(self: &Arc<Self>, about: TaskRecord) -> Box<dyn SnapshotStore> {
        Box::new(TaskUploads {
            shared: Arc::clone(self),
            about: Arc::new(about),
            last: None,
        })
    }
}

/// Where snapshots of a job without checkpoints go: nobody has asked for them.
pub(crate) struct Nowhere;

impl SnapshotStore for Nowhere {
    fn begin(&mut self, _: TaskId, _: Option<Barrier>) -> Box<dyn SnapshotOutput> {
        Box::new(Self)
    }
}

impl SnapshotOutput for Nowhere {
    fn has_room(&mut self) -> bool {
        true
    }

    fn write(&mut self, _: Vec<u8>) {}

    fn finish(self: Box<Self>, _: Made) {}

    fn decline(self: Box<Self>, _: Error) {}
}

struct TaskUploads {
    shared: Arc<Uploads>,
    about: Arc<TaskRecord>,
    /// The last barrier whose snapshot was begun.
    last: Option<CheckpointId>,
}

impl SnapshotStore for TaskUploads {
    fn begin(&mut self, task: TaskId, barrier: Option<Barrier>) -> Box<dyn SnapshotOutput> {
        self.shared.points.reach(match barrier {
            Some(_) => points::SNAPSHOT_BEGUN,
            None => points::LAST_SNAPSHOT,
        });
        let (blobs, folder) = match barrier {
            Some(b) if b.form == SnapshotForm::Canonical => {
                let to = lock(&self.shared.savepoints).get(&b.checkpoint).cloned();
                // One that nobody waits for any more is declined below, by a store that is not there.
                // Under a name that no other try has, which may go to the same place and still be under way.
                (to, format!("data/{}/{}", self.shared.term, b.checkpoint.0))
            }
            Some(b) => {
                let folder = format!("data/{}/{}", self.shared.term, b.checkpoint.0);
                (Some(Arc::clone(&self.shared.blobs)), folder)
            }
            None => {
                let folder = format!("data/{}/last", self.shared.term);
                (Some(Arc::clone(&self.shared.blobs)), folder)
            }
        };
        let upload = Upload {
            shared: Arc::clone(&self.shared),
            about: Arc::clone(&self.about),
            task,
            barrier,
            after: self.last,
            blobs,
            folder,
            spool: Arc::default(),
            total: 0,
        };
        self.last = barrier.map(|b| b.checkpoint).or(self.last);
        Box::new(upload)
    }
}

/// What has come of a state file.
#[derive(Default)]
struct Spool {
    pieces: Mutex<Vec<Vec<u8>>>,
    held: AtomicUsize,
    file: Mutex<Option<(PathBuf, File)>>,
    failed: Mutex<Option<Error>>,
}

struct Upload {
    shared: Arc<Uploads>,
    about: Arc<TaskRecord>,
    task: TaskId,
    barrier: Option<Barrier>,
    after: Option<CheckpointId>,
    blobs: Option<Arc<dyn Blobs>>,
    folder: String,
    spool: Arc<Spool>,
    total: usize,
}

impl Spool {
    /// Writes what has come to the local file. Called by one thread after the other.
    fn drain(&self, path: impl FnOnce() -> PathBuf) {
        let mut file = lock(&self.file);
        let pieces = std::mem::take(&mut *lock(&self.pieces));
        let bytes: usize = pieces.iter().map(Vec::len).sum();
        let written = (|| {
            if file.is_none() {
                let path = path();
                *file = Some((path.clone(), File::create(&path)?));
            }
            let Some((_, to)) = file.as_mut() else {
                return Ok(());
            };
            pieces.iter().try_for_each(|p| to.write_all(p))
        })();
        self.held.fetch_sub(bytes, Ordering::AcqRel);
        if let Err(e) = written {
            let message = format!("a snapshot cannot be collected on this machine: {e}");
            lock(&self.failed).get_or_insert(Error::new(ErrorCode::StateFailed, message));
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Some((path, _)) = lock(&self.file).take() {
            // It is only a copy.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Upload {
    fn name(&self) -> String {
        format!("{}/{}-{}", self.folder, self.task.chain.0, self.task.index)
    }

    fn local(&self) -> PathBuf {
        let number = self.barrier.map_or(0, |b| b.checkpoint.0);
        let task = self.task;
        let file = format!("{number}-{}-{}.state", task.chain.0, task.index);
        self.shared.spool.join(file)
    }

    fn declined(&self, error: Error) {
        (self.shared.report)(match self.barrier {
            Some(barrier) => Reported::Event(Box::new(Event::Declined {
                task: self.task,
                checkpoint: barrier.checkpoint,
                error,
            })),
            None => Reported::Lost(error),
        });
    }

    /// Stores everything. Runs on a thread that may wait.
    fn store(&self, made: Made) -> Result<(TaskRecord, Vec<u8>)> {
        let shared = &self.shared;
        shared.points.reach(points::UPLOAD_BEGUN);
        let blobs = self.blobs.as_deref().ok_or_else(|| {
            Error::new(
                ErrorCode::CheckpointFailed,
                "nobody waits for this savepoint any more",
            )
        })?;
        let mut inline = Vec::new();
        let mut state = StoredFile {
            name: None,
            inline: None,
            length: made.length,
            checksum: made.checksum,
        };
        if self.total <= INLINE_BYTES {
            inline = std::mem::take(&mut *lock(&self.spool.pieces)).concat();
            state.inline = Some(0);
        } else {
            self.spool.drain(|| self.local());
            if let Some(error) = lock(&self.spool.failed).take() {
                return Err(error);
            }
            let path = lock(&self.spool.file)
                .as_ref()
                .map(|(path, _)| path.clone());
            let path = path.ok_or_else(|| Error::bug("a state file without bytes"))?;
            blobs.put_file(&self.name(), &path)?;
            state.name = Some(self.name());
        }
        shared.points.reach(points::UPLOAD_STATE);
        let mut record = TaskRecord {
            finished: self.barrier.is_none(),
            state: Some(state),
            sections: made.sections,
            ..TaskRecord::clone(&self.about)
        };
        for files in &made.native {
            // An operator may have several: their files have the same names.
            let of_operator = record.native.iter().filter(|n| n.uid == files.uid);
            let number = of_operator.count();
            record.native.push(self.store_native(blobs, files, number)?);
        }
        let committables = made.committables.into_iter();
        let committables = committables.map(|(uid, checkpoint, payload)| Committable {
            uid,
            checkpoint: checkpoint.0,
            payload,
        });
        record.committables = committables.collect();
        shared.points.reach(points::UPLOAD_DONE);
        Ok((record, inline))
    }

    fn store_native(
        &self,
        blobs: &dyn Blobs,
        files: &NativeFiles,
        number: usize,
    ) -> Result<NativeState> {
        let folder = match number {
            0 => safe(&files.uid),
            _ => format!("{}.{number}", safe(&files.uid)),
        };
        let stored = files.files.iter().map(|file| {
            Ok(NativeFile {
                name: file.name.clone(),
                file: self.store_file(blobs, &folder, file)?,
            })
        });
        Ok(NativeState {
            uid: files.uid.clone(),
            format: files.format.clone(),
            sections: files.sections.clone(),
            files: stored.collect::<Result<_>>()?,
        })
    }

    fn store_file(&self, blobs: &dyn Blobs, folder: &str, file: &LocalFile) -> Result<StoredFile> {
        let known = file.identity.as_ref();
        let known = known.and_then(|id| lock(&self.shared.known).get(id).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let (length, checksum) = measure(&file.path)?;
        let name = match &file.identity {
            Some(identity) => {
                let checkpoint = self.barrier.map(|b| b.checkpoint);
                shared_name(self.shared.term, checkpoint, identity)
            }
            None => format!("{}-{folder}/{}", self.name(), file.name),
        };
        blobs.put_file(&name, &file.path)?;
        Ok(StoredFile {
            name: Some(name),
            inline: None,
            length,
            checksum,
        })
    }
}

/// A uid as a part of an object's name.
fn safe(uid: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    uid.chars()
        .map(|c| {
            if plain(c) {
                c.to_string()
            } else {
                format!("%{:x}", u32::from(c))
            }
        })
        .collect()
}

/// The length and checksum of a local file.
fn measure(path: &Path) -> Result<(u64, u64)> {
    let failed = |e: std::io::Error| {
        let message = format!("a file of the state cannot be read: {e}");
        Error::new(ErrorCode::StateFailed, message).at("file", path.display())
    };
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut length) = (Xxh3::new(), 0);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let n = file.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            return Ok((length, hash.digest()));
        }
        length += n as u64;
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}

impl SnapshotOutput for Upload {
    fn has_room(&mut self) -> bool {
        self.spool.held.load(Ordering::Acquire) < HELD_BYTES
    }

    fn write(&mut self, bytes: Vec<u8>) {
        self.total += bytes.len();
        let held = self.spool.held.fetch_add(bytes.len(), Ordering::AcqRel) + bytes.len();
        lock(&self.spool.pieces).push(bytes);
        if held >= SPOOL_BYTES {
            let (spool, path) = (Arc::clone(&self.spool), self.local());
            self.shared.io.submit(move || spool.drain(|| path));
        }
    }

    fn finish(self: Box<Self>, made: Made) {
        self.shared.points.reach(points::SNAPSHOT_WRITTEN);
        let io = Arc::clone(&self.shared.io);
        io.submit(move || match self.store(made) {
            Err(error) => self.declined(error),
            Ok((record, inline)) => {
                let event = match self.barrier {
                    Some(barrier) => Event::Acknowledged {
                        task: self.task,
                        checkpoint: barrier.checkpoint,
                        record,
                        inline,
                    },
                    None => Event::TaskFinished {
                        task: self.task,
                        after: self.after,
                        record,
                        inline,
                    },
                };
                (self.shared.report)(Reported::Event(Box::new(event)));
            }
        });
    }

    fn decline(self: Box<Self>, error: Error) {
        self.declined(error);
    }
}
