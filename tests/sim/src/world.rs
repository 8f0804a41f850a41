//! What outlives a process: an object store and the places where sinks write, with what every check looks at.
//! Needs: model. Refuses: time and chance; what goes wrong is decided by whoever sends a request.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::checkpoint::{Committable, LogEntry, Metadata, decode, log_number};
use pelton_model::id::CheckpointId;
use pelton_model::{Error, ErrorCode, Result};

/// A row of output: four numbers, whatever they stand for.
pub type Row = [i64; 4];

/// An object.
#[derive(Clone, Debug)]
pub struct Object {
    /// What is in it.
    pub bytes: Arc<[u8]>,
    /// Whether it outlives the power.
    pub synced: bool,
}

/// Rows that a writer has sealed.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The term of the process whose writer it was.
    pub term: u64,
    /// In the order written.
    pub rows: Vec<Row>,
}

/// The place of one sink.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Sealed, and not visible.
    pub staged: BTreeMap<String, Part>,
    /// Parts that are visible.
    pub committed: BTreeMap<String, Vec<Row>>,
    /// The names of those, in the order in which they became visible.
    pub order: Vec<String>,
    /// Visible rows, in the order in which they became so.
    pub output: Vec<Row>,
}

/// All that is durable.
#[derive(Debug, Default)]
pub struct World {
    /// By name.
    pub objects: BTreeMap<String, Object>,
    /// By the uid of the sink.
    pub places: BTreeMap<String, Place>,
    /// Payloads of all checkpoints that were ever complete.
    pub promised: BTreeSet<(String, Vec<u8>)>,
    /// What must not be, and was.
    pub violations: Vec<String>,
    /// Objects that starts have found to be nobody's.
    pub collected: u64,
    /// Objects of which a crash has left a part.
    pub torn: u64,
}

/// The world, as all that is simulated has it.
pub type Shared = Arc<Mutex<World>>;

/// Locks it: there is one thread, so that nobody waits.
pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl World {
    /// Something that must not be.
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Writes an object. It is visible, and not yet synced.
    pub fn put(&mut self, name: &str, bytes: &[u8]) {
        // By a request that was sent twice: old or new, it is the same.
        if self.objects.get(name).is_some_and(|o| *o.bytes == *bytes) {
            return;
        }
        let object = Object {
            bytes: bytes.into(),
            synced: false,
        };
        self.objects.insert(name.to_owned(), object);
    }

    /// Writes an object unless there is one.
    pub fn put_new(&mut self, name: &str, bytes: &[u8]) -> PutNew {
        if self.objects.contains_key(name) {
            return PutNew::Exists;
        }
        self.put(name, bytes);
        if let Ok((LogEntry::Checkpoint(metadata), _)) = decode::<LogEntry>(bytes) {
            for c in metadata.committables() {
                self.promised.insert((c.uid.clone(), c.payload.clone()));
            }
            // One that is late, and under whose number another one stood, is not gone on from.
            if self
                .checkpoints()
                .last()
                .is_some_and(|(_, m)| m.id == metadata.id)
            {
                self.check_whole(&metadata, "when it became complete");
            }
        }
        PutNew::Created
    }

    /// What is in the object's folder outlives the power.
    pub fn sync(&mut self, name: &str) {
        let place = folder(name);
        let here = self.objects.iter_mut().filter(|(n, _)| folder(n) == place);
        here.for_each(|(_, object)| object.synced = true);
    }

    /// The power fails: of what is not synced, `stays` says what there is, and `torn`, whether that is a part only.
    pub fn power_failure(&mut self, stays: impl Fn() -> bool, torn: impl Fn() -> bool) {
        self.objects.retain(|_, object| object.synced || stays());
        // Entries are put whole, or not at all: that is what a conditional write is.
        let objects = self
            .objects
            .iter_mut()
            .filter(|(n, _)| !n.starts_with("log/"));
        for (_, object) in objects.filter(|(_, o)| !o.synced) {
            if torn() {
                object.bytes = half(&object.bytes);
                self.torn += 1;
            }
        }
    }

    /// The job moves to a folder of its own, with a savepoint that was made before any later output counts: what became
    /// visible after its barrier is taken back. False, and nothing is changed, where the output that the savepoint counts
    /// on is gone, or another process has gone on from a checkpoint before it.
    pub fn move_to(&mut self, folder: &str, metadata: &Metadata) -> bool {
        let there = |c: &Committable| {
            let part = String::from_utf8_lossy(&c.payload).into_owned();
            let place = self.places.get(&c.uid);
            place.is_some_and(|p| p.staged.contains_key(&part) || p.committed.contains_key(&part))
        };
        let passed = |(name, object): (&String, &Object)| {
            let is_start = matches!(decode(&object.bytes), Ok((LogEntry::Start(_), _)));
            is_start && log_number(name).is_some_and(|number| number > metadata.term)
        };
        if !metadata.committables().all(there) || self.objects.iter().any(passed) {
            return false;
        }
        let promised = metadata.committables();
        let promised = promised.map(|c| (c.uid.clone(), c.payload.clone()));
        self.promised.extend(promised);
        self.objects.retain(|name, _| name.starts_with(folder));
        self.objects.values_mut().for_each(|o| o.synced = true);
        for place in self.places.values_mut() {
            let before = |name: &String| checkpoint_of(name).is_some_and(|id| id <= metadata.id);
            place.order.retain(before);
            place.committed.retain(|name, _| before(name));
            let shown = place
                .order
                .iter()
                .filter_map(|name| place.committed.get(name));
            place.output = shown.flatten().copied().collect();
            // Terms begin anew.
            place.staged.values_mut().for_each(|part| part.term = 0);
        }
        true
    }

    /// Removes an object.
    pub fn delete(&mut self, name: &str) {
        self.objects.remove(name);
        if let Some((_, newest)) = self.checkpoints().pop() {
            self.check_whole(&newest, &format!("after '{name}' was deleted"));
        }
    }

    /// The entries of the log with their bytes, ascending.
    #[must_use]
    pub fn entries(&self) -> Vec<(u64, Vec<u8>)> {
        let entry = |(name, o): (&String, &Object)| Some((log_number(name)?, o.bytes.to_vec()));
        self.objects.iter().filter_map(entry).collect()
    }

    /// Complete checkpoints in the log, ascending.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<(u64, Metadata)> {
        let entries = self.objects.range("log/".to_owned()..);
        let entries = entries.take_while(|(name, _)| name.starts_with("log/"));
        let checkpoint = |(name, object): (&String, &Object)| {
            let number = log_number(name)?;
            match decode::<LogEntry>(&object.bytes) {
                Ok((LogEntry::Checkpoint(metadata), _)) => Some((number, *metadata)),
                _ => None,
            }
        };
        entries.filter_map(checkpoint).collect()
    }

    /// All objects of a checkpoint are there, as long as they were.
    pub fn check_whole(&mut self, metadata: &Metadata, when: &str) {
        for object in metadata.objects() {
            let Some(name) = &object.name else { continue };
            let length = self.objects.get(name).map(|o| o.bytes.len() as u64);
            if length != Some(object.length) {
                let what = match length {
                    None => "is missing",
                    Some(_) => "is torn",
                };
                let id = metadata.id;
                self.violation(format!("'{name}' of checkpoint {id} {what} {when}"));
            }
        }
    }

    /// Makes a part visible; once, however often it is asked for, unless `again` (a bug).
    pub fn commit(&mut self, uid: &str, payload: &[u8], term: u64, again: bool) {
        let part = String::from_utf8_lossy(payload).into_owned();
        if !self.promised.contains(&(uid.to_owned(), payload.to_vec())) {
            self.violation(format!(
                "term {term} committed '{part}' of sink '{uid}', which no complete checkpoint has"
            ));
        }
        let place = self.places.entry(uid.to_owned()).or_default();
        if let Some(rows) = place.committed.get(&part) {
            if again {
                place.output.extend(rows.clone());
            }
            return;
        }
        match place.staged.remove(&part) {
            Some(rows) => {
                place.output.extend(rows.rows.iter().copied());
                place.order.push(part.clone());
                place.committed.insert(part, rows.rows);
            }
            None => self.violation(format!(
                "term {term} committed '{part}' of sink '{uid}', which is not there"
            )),
        }
    }

    /// What writers of earlier terms have sealed, and nobody has promised, goes.
    pub fn forget_before(&mut self, uid: &str, term: u64) {
        if let Some(place) = self.places.get_mut(uid) {
            place.staged.retain(|_, part| part.term >= term);
        }
    }
}

/// What a torn write leaves.
#[must_use]
pub fn half(bytes: &[u8]) -> Arc<[u8]> {
    bytes.get(..bytes.len() / 2).unwrap_or_default().into()
}

/// The name of a part: no two writers make the same.
#[must_use]
pub fn part_name(
    (folder, term): (u64, u64),
    task: u32,
    checkpoint: CheckpointId,
    number: u64,
) -> String {
    format!("{folder}-{term}-{task}-{}-{number}", checkpoint.0)
}

/// The checkpoint in the name of a part.
fn checkpoint_of(part: &str) -> Option<u64> {
    part.split('-').nth(3)?.parse().ok()
}

/// The object store as tasks read it when they restore.
#[derive(Clone, Debug)]
pub struct Store {
    world: Shared,
    /// What all names begin with.
    folder: String,
}

impl Store {
    /// All of it.
    #[must_use]
    pub fn new(world: &Shared) -> Self {
        Self::below(world, "")
    }

    /// A folder of it, with the `/` at its end.
    #[must_use]
    pub fn below(world: &Shared, folder: &str) -> Self {
        Self {
            world: Arc::clone(world),
            folder: folder.to_owned(),
        }
    }
}

impl Blobs for Store {
    fn put(&self, _: &str, _: &[u8]) -> Result<()> {
        Err(read_only())
    }

    fn put_new(&self, _: &str, _: &[u8]) -> Result<PutNew> {
        Err(read_only())
    }

    fn put_file(&self, _: &str, _: &Path) -> Result<()> {
        Err(read_only())
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let name = format!("{}{name}", self.folder);
        let world = lock(&self.world);
        let object = world.objects.get(&name).ok_or_else(|| not_found(&name))?;
        Ok(object.bytes.to_vec())
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        let bytes = self.get(name)?;
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
        let range = at(offset)..at(offset.saturating_add(length));
        Ok(bytes.get(range).unwrap_or_default().to_vec())
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.get(name)?)))
    }

    fn get_file(&self, _: &str, _: &Path) -> Result<()> {
        Err(read_only())
    }

    fn list(&self, _: &str) -> Result<Vec<BlobInfo>> {
        Err(read_only())
    }

    fn delete(&self, _: &str) -> Result<()> {
        Err(read_only())
    }
}

/// The error for an object that is not there.
pub fn not_found(name: &str) -> Error {
    let message = format!("the store has no object '{name}'");
    Error::new(ErrorCode::NotFound, message)
}

fn read_only() -> Error {
    Error::bug("tasks read objects, and do nothing else")
}
