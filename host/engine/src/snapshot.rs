//! What a task writes at a barrier, and what it gets back after a restart.
//! Needs: model. Refuses: where the bytes go (a [`SnapshotStore`] knows), what operators put into them.
//!
//! At a barrier each operator *begins*: what it holds now is what its snapshot will have. What is small is written at
//! once; what is large is written by and by between the batches that follow, while processing goes on, and pauses when
//! the output has no room. When all operators are through, the output is finished; the checkpoint has this task's part
//! once it is durable.

pub mod memory;

use std::path::PathBuf;
use std::sync::Arc;

use pelton_model::barrier::Barrier;
use pelton_model::blob::Blobs;
use pelton_model::checkpoint::{Metadata, NativeState, SectionRecord, StoredFile, TaskRecord};
use pelton_model::id::{CheckpointId, TaskId};
use pelton_model::key::{KeyGroup, KeyGroupRange};
use pelton_model::schema::Field;
use pelton_model::snapshot::{
    Block, BlockRef, Distribution, Entry, NO_GROUP, SectionKind, SectionSpec, StateWriter,
};
use pelton_model::{Error, ErrorCode, Result};

/// Bytes of a state file that are handed on at once.
const PIECE_BYTES: usize = 256 << 10;
/// Blocks that stand together are read together, up to so many bytes.
const READ_BYTES: u64 = 4 << 20;

/// Where the snapshots of one task go.
pub trait SnapshotStore: Send {
    /// A snapshot begins; without a barrier it is the last, of a task that has ended.
    fn begin(&mut self, task: TaskId, barrier: Option<Barrier>) -> Box<dyn SnapshotOutput>;
}

/// Takes one snapshot of one task. Dropped before its end, the snapshot is given up. Never waits.
pub trait SnapshotOutput: Send {
    /// Whether it takes more: asked before what can wait is written.
    fn has_room(&mut self) -> bool;

    /// The next bytes of the state file.
    fn write(&mut self, bytes: Vec<u8>);

    /// All is said: the checkpoint has this part when it is durable.
    fn finish(self: Box<Self>, made: Made);

    /// The task cannot make the snapshot, and goes on.
    fn decline(self: Box<Self>, error: Error);
}

/// What a task has made, besides the bytes of its state file.
#[derive(Debug, Default)]
pub struct Made {
    /// What is in the state file, in the order of the numbers.
    pub sections: Vec<SectionRecord>,
    /// Bytes of the state file.
    pub length: u64,
    /// Its checksum.
    pub checksum: u64,
    /// Files of a backend.
    pub native: Vec<NativeFiles>,
    /// What sinks have prepared: uid, checkpoint, payload.
    pub committables: Vec<(String, CheckpointId, Vec<u8>)>,
}

/// Files of a backend that are to be kept.
#[derive(Debug)]
pub struct NativeFiles {
    /// The operator's uid.
    pub uid: String,
    /// Which backend, with the version of its layout.
    pub format: String,
    /// What is in them.
    pub sections: Vec<SectionSpec>,
    /// The files.
    pub files: Vec<LocalFile>,
    /// The folder that they are in; removed when nobody needs it any more.
    pub folder: Arc<dyn std::any::Any + Send + Sync>,
}

// `dyn Any` has a Debug of its own, so that the derive above holds.

/// A file on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalFile {
    /// The backend's name for it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Files that never change have a name that no other file in the world has: what was uploaded under it once is not
    /// uploaded again.
    pub identity: Option<String>,
}

/// Writes the sections of one snapshot.
pub struct SnapshotWriter {
    out: Box<dyn SnapshotOutput>,
    file: StateWriter,
    uid: String,
    made: Made,
}

impl SnapshotWriter {
    /// A snapshot without anything in it.
    #[must_use]
    pub fn new(out: Box<dyn SnapshotOutput>) -> Self {
        Self {
            out,
            file: StateWriter::default(),
            uid: String::new(),
            made: Made::default(),
        }
    }

    /// Sections, files and committables that follow are this operator's.
    pub fn operator(&mut self, uid: &str) {
        if self.uid != uid {
            uid.clone_into(&mut self.uid);
        }
    }

    /// The operator whose turn it is.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// A section of the operator: its number, for [`put`](Self::put). `spec.uid` is set here.
    pub fn section(&mut self, spec: SectionSpec) -> u32 {
        let spec = SectionSpec {
            uid: self.uid.clone(),
            ..spec
        };
        self.made.sections.push(SectionRecord {
            spec,
            entries: 0,
            bytes: 0,
        });
        self.made.sections.len() as u32 - 1
    }

    /// How many entries were added so far: tells whether anything comes, or somebody else is waited for.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.made.sections.iter().map(|s| s.entries).sum()
    }

    /// Adds an entry to a section. `group` is [`NO_GROUP`] where there is no key.
    pub fn put(&mut self, section: u32, group: u32, entry: Entry<'_>) {
        if let Some(record) = self.made.sections.get_mut(section as usize) {
            record.entries += 1;
            let bytes = entry.key.len() + entry.sub.len() + entry.value.len();
            record.bytes += bytes as u64;
        }
        self.file.put(section, group, entry);
        if self.file.ready() >= PIECE_BYTES {
            let bytes = self.file.take();
            self.out.write(bytes);
        }
    }

    /// Whether more can be written without holding too much in memory: asked before what can wait.
    pub fn has_room(&mut self) -> bool {
        self.out.has_room()
    }

    /// Files of the operator's backend.
    pub fn native(&mut self, files: NativeFiles) {
        self.made.native.push(NativeFiles {
            uid: self.uid.clone(),
            ..files
        });
    }

    /// What the operator, a sink, has prepared at the barrier of this checkpoint, or of an earlier one that never became
    /// complete.
    pub fn committable(&mut self, checkpoint: CheckpointId, payload: Vec<u8>) {
        let uid = self.uid.clone();
        self.made.committables.push((uid, checkpoint, payload));
    }

    /// All is written.
    pub fn finish(self) {
        let (rest, length, checksum) = self.file.finish();
        let mut out = self.out;
        out.write(rest);
        out.finish(Made {
            length,
            checksum,
            ..self.made
        });
    }

    /// The snapshot cannot be made.
    pub fn decline(self, error: Error) {
        self.out.decline(error);
    }
}

/// A section with nothing but a kind and a name.
#[must_use]
pub fn section(kind: SectionKind, name: &str) -> SectionSpec {
    SectionSpec {
        uid: String::new(),
        name: name.to_owned(),
        kind,
        key: Vec::new(),
        sub: Vec::new(),
        value: Vec::new(),
        stamped: false,
    }
}

/// A section of keyed entries.
#[must_use]
pub fn keyed_section(
    kind: SectionKind,
    name: &str,
    key: &[Field],
    sub: &[Field],
    value: &[Field],
) -> SectionSpec {
    SectionSpec {
        key: key.to_vec(),
        sub: sub.to_vec(),
        value: value.to_vec(),
        ..section(kind, name)
    }
}

/// A checkpoint or a savepoint to go on from.
#[derive(Clone)]
pub struct RestoreFrom {
    /// What it has.
    pub metadata: Arc<Metadata>,
    /// The inline part of its envelope.
    pub inline: Arc<Vec<u8>>,
    /// The store that has its objects; names are as in the metadata.
    pub blobs: Arc<dyn Blobs>,
}

impl RestoreFrom {
    /// What one task of one operator gets.
    #[must_use]
    pub fn operator<'a>(
        &'a self,
        uid: &'a str,
        (task, parallelism): (u32, u32),
        key_groups: KeyGroupRange,
    ) -> Restored<'a> {
        Restored {
            from: self,
            uid,
            task,
            parallelism,
            key_groups,
        }
    }
}

/// What one task of one operator gets of a checkpoint.
#[derive(Clone, Copy)]
pub struct Restored<'a> {
    /// Where it comes from.
    pub from: &'a RestoreFrom,
    /// The operator.
    pub uid: &'a str,
    /// Which of its tasks.
    pub task: u32,
    /// Of how many.
    pub parallelism: u32,
    /// Those of the task.
    pub key_groups: KeyGroupRange,
}

impl<'a> Restored<'a> {
    /// The tasks that had the operator, by their number.
    pub fn tasks(&self) -> impl Iterator<Item = &'a TaskRecord> + use<'a> {
        let uid = self.uid;
        let mut tasks: Vec<_> = self.from.metadata.tasks.iter().collect();
        tasks.retain(|t| t.operators.iter().any(|o| o == uid));
        tasks.sort_by_key(|t| t.index);
        tasks.into_iter()
    }

    /// Whether the operator has as many tasks as it had.
    #[must_use]
    pub fn same(&self) -> bool {
        let last = self.tasks().map(|t| t.index + 1).max();
        last == Some(self.parallelism) && self.tasks().count() == self.parallelism as usize
    }

    /// The operator's sections in state files, each once.
    #[must_use]
    pub fn sections(&self) -> Vec<&'a SectionSpec> {
        let mut all: Vec<&SectionSpec> = Vec::new();
        for section in self.tasks().flat_map(|t| &t.sections) {
            let known =
                |s: &&SectionSpec| s.name == section.spec.name && s.kind == section.spec.kind;
            if section.entries > 0 && section.spec.uid == self.uid && !all.iter().any(known) {
                all.push(&section.spec);
            }
        }
        all
    }

    /// The operator's state in files of a backend, with the tasks that it was of.
    pub fn native(&self) -> impl Iterator<Item = (&'a TaskRecord, &'a NativeState)> + use<'a> {
        let uid = self.uid;
        self.tasks()
            .flat_map(move |t| t.native.iter().map(move |n| (t, n)))
            .filter(move |(_, n)| n.uid == uid)
    }

    /// Hands those entries of the wanted sections to `each` that are this task's: section, key group, entry. Entries of one
    /// task, section and key group come in the order in which they were written. Errors: `Corrupt`, `NotFound`, the
    /// store's; those of `each`.
    pub fn entries(
        &self,
        wanted: impl Fn(&SectionSpec) -> bool,
        mut each: impl FnMut(&SectionSpec, u32, Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let tasks: Vec<_> = self.tasks().collect();
        let same = self.same();
        // Of what is split: how many entries were seen, over all tasks.
        let mut turn = 0_u32;
        for task in &tasks {
            let mine = match same {
                true => task.index == self.task,
                false => task.index % self.parallelism.max(1) == self.task,
            };
            let takes = |number: usize, section: &SectionRecord| {
                section.entries > 0
                    && section.spec.uid == self.uid
                    && wanted(&section.spec)
                    && match section.spec.kind.distribution() {
                        Distribution::KeyGroup | Distribution::Union => true,
                        Distribution::Split => mine || !same,
                        Distribution::Task => mine,
                        Distribution::Own => mine || !same,
                        Distribution::Broadcast => {
                            self.first_with(&tasks, &section.spec) == Some((task.index, number))
                        }
                    }
            };
            let numbered = task.sections.iter().enumerate();
            let numbers: Vec<u32> = numbered
                .filter(|(number, section)| takes(*number, section))
                .map(|(number, _)| number as u32)
                .collect();
            let (Some(file), false) = (&task.state, numbers.is_empty()) else {
                continue;
            };
            let is_mine = |b: &BlockRef| {
                numbers.contains(&b.section)
                    && (b.group == NO_GROUP || self.key_groups.contains(KeyGroup(b.group)))
            };
            self.from.blocks(file, is_mine, |block| {
                let section = task.sections.get(block.section as usize);
                let section = &section
                    .ok_or_else(|| corrupt("it has an unknown section"))?
                    .spec;
                let split = !same && section.kind.distribution() == Distribution::Split;
                block.entries(|entry| {
                    if split {
                        turn += 1;
                        if (turn - 1) % self.parallelism.max(1) != self.task {
                            return Ok(());
                        }
                    }
                    each(section, block.group, entry)
                })
            })?;
        }
        Ok(())
    }

    fn first_with(&self, tasks: &[&TaskRecord], spec: &SectionSpec) -> Option<(u32, usize)> {
        let of = |t: &&TaskRecord| {
            let has = |s: &SectionRecord| {
                s.entries > 0
                    && s.spec.uid == self.uid
                    && s.spec.kind == spec.kind
                    && s.spec.name == spec.name
            };
            Some((t.index, t.sections.iter().position(has)?))
        };
        tasks.iter().find_map(of)
    }
}

impl RestoreFrom {
    /// Hands the wanted blocks of a state file to `each`, in the order of the file. Errors: as [`Restored::entries`].
    pub fn blocks(
        &self,
        file: &StoredFile,
        wanted: impl Fn(&BlockRef) -> bool,
        mut each: impl FnMut(&Block) -> Result<()>,
    ) -> Result<()> {
        let named = |e: Error| e.at("object", file.name.as_deref().unwrap_or("inline"));
        let read = |offset: u64, length: u64| self.range(file, offset, length);
        let blocks = BlockRef::all(file.length, read).map_err(named)?;
        let blocks: Vec<BlockRef> = blocks.into_iter().filter(wanted).collect();
        let mut rest = blocks.as_slice();
        while let Some(first) = rest.first() {
            let mut end = first.offset;
            let together = rest.iter().take_while(|b| {
                let joins =
                    b.offset == end && (end == first.offset || end - first.offset < READ_BYTES);
                end += b.bytes();
                joins
            });
            let count = together.count();
            let (some, others) = rest.split_at(count.max(1));
            rest = others;
            let length = some.iter().map(BlockRef::bytes).sum();
            let bytes = read(first.offset, length).map_err(named)?;
            let mut bytes = bytes.as_slice();
            for block in some {
                let at = (block.bytes() as usize).min(bytes.len());
                let (this, after) = bytes.split_at(at);
                bytes = after;
                each(&Block::parse(this).map_err(named)?)?;
            }
        }
        Ok(())
    }

    fn range(&self, file: &StoredFile, offset: u64, length: u64) -> Result<Vec<u8>> {
        let bytes = match (&file.name, file.inline) {
            (Some(name), _) => self.blobs.get_range(name, offset, length)?,
            (None, at) => {
                let at = at.unwrap_or_default().saturating_add(offset);
                let part = usize::try_from(at)
                    .ok()
                    .and_then(|at| self.inline.get(at..));
                let part = part.unwrap_or_default();
                part.get(..length as usize).unwrap_or(part).to_vec()
            }
        };
        if bytes.len() as u64 != length {
            return Err(corrupt("it is shorter than it should be"));
        }
        Ok(bytes)
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!("a state file is damaged: {why}"),
    )
}
