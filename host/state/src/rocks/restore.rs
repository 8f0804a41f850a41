//! How a task gets its state back: from files as they are, from those of other tasks or of an earlier version of the job
//! by reading them, from deltas, or from the canonical form.

use std::path::PathBuf;

use pelton_engine::snapshot::{RestoreFrom, Restored};
use pelton_engine::state::{KeyedState, SectionReader, declared};
use pelton_model::checkpoint::{NativeState, TaskRecord};
use pelton_model::key::KeyGroupRange;
use pelton_model::migrate::{Declared, Migration, taker};
use pelton_model::snapshot::{Entry, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};
use rocksdb::{Options, WriteBatch};

use super::{RocksState, State};
use crate::delta::DeltaIn;
use crate::fault::{damaged, refused};
use crate::layout::{NUMBER, Shape, group_of};
use crate::native::{self, Fetched};
use crate::store::{Db, family_name, once};

/// Bytes that are written at once.
const BATCH_BYTES: usize = 1 << 20;

/// How a section of a checkpoint is read.
struct Reader<'a> {
    old: &'a SectionSpec,
    /// The number of the state that takes it.
    state: usize,
    reader: SectionReader,
}

impl RocksState {
    pub(super) fn take_back(&mut self, from: &Restored<'_>) -> Result<()> {
        // There will be snapshots.
        self.snapshots = true;
        // All is looked at before anything is fetched.
        let canonical = self.readers(from.sections())?;
        let mut natives = Vec::new();
        for (task, native) in from.native() {
            if ![native::FORMAT, native::FORMAT_DELTAS].contains(&native.format.as_str()) {
                return Err(foreign(native));
            }
            let readers = self.readers(&native.sections)?;
            if readers.is_empty() {
                // It is of something else that the operator keeps.
                continue;
            }
            let (start, end) = task.key_groups;
            if start.max(from.key_groups.start) < end.min(from.key_groups.end) {
                natives.push((task, native, readers));
            }
        }
        // The files that have most of what is wanted are taken as they are; what is in others is read.
        let wanted = |task: &TaskRecord| {
            let (start, end) = task.key_groups;
            end.min(from.key_groups.end) - start.max(from.key_groups.start)
        };
        natives.sort_by_key(|(task, ..)| std::cmp::Reverse(wanted(task)));
        let base = natives
            .iter()
            .position(|(_, native, _)| self.is_same(native));
        if let Some((task, native, readers)) = base.map(|place| natives.remove(place)) {
            self.adopt(from.from, (task, native), &readers, from.key_groups)?;
        }
        for (task, native, readers) in natives {
            self.merge(from.from, (task, native), &readers, from.key_groups)?;
        }
        // What comes out of deltas is in the store now, too.
        self.end_chain();
        self.take_entries(from, &canonical)
    }

    /// Goes on with the files as they are.
    fn adopt(
        &mut self,
        from: &RestoreFrom,
        (task, native): (&TaskRecord, &NativeState),
        readers: &[Reader<'_>],
        own: KeyGroupRange,
    ) -> Result<()> {
        let shared = self.store.shared().clone();
        let fetched = native::fetch(from, native, shared.folder("db"))?;
        let Fetched {
            based,
            adopted,
            deltas,
        } = fetched;
        if !based {
            // The folder stays until its deltas are read.
            return self.apply(&deltas, readers, own);
        }
        let mut state = Self::open(shared, self.owner.clone(), Some(adopted))?;
        if let Some(time) = self.time {
            state.at(time);
        }
        state.snapshots = true;
        *self = state;
        if task.key_groups != (own.start, own.end) {
            self.store.keep_only(own)?;
        }
        self.apply(&deltas, readers, own)?;
        // They are in the way of nobody, but nobody needs them.
        deltas
            .iter()
            .for_each(|(_, path)| drop(std::fs::remove_file(path)));
        Ok(())
    }

    /// Takes what deltas have of the task's key groups, one delta after the other.
    fn apply(
        &mut self,
        deltas: &[(String, PathBuf)],
        readers: &[Reader<'_>],
        own: KeyGroupRange,
    ) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut batch = WriteBatch::default();
        for (name, path) in deltas {
            let named = |e: Error| e.at("file", name);
            let mut delta = DeltaIn::open(path, name).map_err(named)?;
            let reader = |name: &String| readers.iter().find(|r| r.old.name == *name);
            let readers: Vec<_> = delta.states().iter().map(reader).collect();
            let mut each = |number: usize, old: &[u8], bytes: Option<&[u8]>| {
                let reader = readers.get(number).copied().flatten();
                let is_own = (own.start..own.end).contains(&group_of(old));
                let (Some(Reader { state, reader, .. }), true) = (reader, is_own) else {
                    return Ok(());
                };
                let Some(State::Values(values)) = self.states.get(*state) else {
                    return Err(damaged("it has values of a list or a map"));
                };
                match bytes {
                    Some(bytes) => {
                        key.clear();
                        key.extend_from_slice(old);
                        self.convert(*state, reader, bytes, &mut value)?;
                        self.put(*state, &mut key, &value, &mut batch)
                    }
                    None => {
                        batch.delete_cf(&self.store.handle(values.family())?, old);
                        self.write_full(&mut batch)
                    }
                }
            };
            while delta.next_block(&mut each).map_err(named)? {}
        }
        self.store.write(batch)
    }

    /// Copies the key groups of the task from the files of another.
    fn merge(
        &mut self,
        from: &RestoreFrom,
        (task, native): (&TaskRecord, &NativeState),
        readers: &[Reader<'_>],
        own: KeyGroupRange,
    ) -> Result<()> {
        let shared = self.store.shared().clone();
        let fetched = native::fetch(from, native, shared.folder("restore"))?;
        if fetched.based {
            self.merge_files(&fetched, task, readers, own)?;
        }
        self.apply(&fetched.deltas, readers, own)
    }

    fn merge_files(
        &mut self,
        fetched: &Fetched,
        task: &TaskRecord,
        readers: &[Reader<'_>],
        own: KeyGroupRange,
    ) -> Result<()> {
        let folder = &fetched.adopted.folder;
        let shared = self.store.shared().clone();
        let fail = |e: rocksdb::Error| refused(folder.path(), &e).at("task", task.index);
        let mut options = Options::default();
        options.set_block_based_table_factory(&shared.tables());
        let names = Db::list_cf(&Options::default(), folder.path()).map_err(fail)?;
        let families: Vec<_> = names.iter().map(|n| (n, options.clone())).collect();
        let db = Db::open_cf_with_opts_for_read_only(&options, folder.path(), families, false)
            .map_err(fail)?;
        // Key groups are below 2^16; what is behind the last may not be.
        let start = (own.start.max(task.key_groups.0) as u16).to_be_bytes();
        let end = own.end.min(task.key_groups.1);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for Reader { old, state, reader } in readers {
            let name = Some(family_name(&old.name)).filter(|n| names.contains(n));
            let Some(handle) = name.and_then(|n| db.cf_handle(&n)) else {
                continue;
            };
            let mut batch = WriteBatch::default();
            let mut scan = db.raw_iterator_cf_opt(&handle, once());
            scan.seek(start);
            while let Some((old, bytes)) = scan.item().filter(|(key, _)| group_of(key) < end) {
                key.clear();
                key.extend_from_slice(old);
                self.convert(*state, reader, bytes, &mut value)?;
                self.put(*state, &mut key, &value, &mut batch)?;
                scan.next();
            }
            scan.status().map_err(fail)?;
            self.store.write(batch)?;
        }
        Ok(())
    }

    /// Takes what is there in the canonical form.
    fn take_entries(&mut self, from: &Restored<'_>, readers: &[Reader<'_>]) -> Result<()> {
        let of = |spec: &SectionSpec| {
            let is_of = |r: &&Reader<'_>| r.old.name == spec.name && r.old.kind == spec.kind;
            readers.iter().find(is_of)
        };
        let (mut batch, mut key, mut value) = (WriteBatch::default(), Vec::new(), Vec::new());
        from.entries(
            |spec| of(spec).is_some(),
            |spec, _, entry: Entry<'_>| {
                let found = of(spec).ok_or_else(|| Error::bug("an entry is of no state"))?;
                let (number, reader) = (found.state, &found.reader);
                let shape = self.states.get(number).map(State::shape);
                key.clear();
                match shape {
                    Some(Shape::Value) => self.place.value_key(entry.key, &mut key),
                    _ => self.place.entry_prefix(entry.key, &mut key),
                }
                key.extend_from_slice(entry.sub);
                if matches!(shape, Some(Shape::List | Shape::MapOfLists)) {
                    key.extend_from_slice(&[0; NUMBER]);
                }
                self.convert(number, reader, entry.value, &mut value)?;
                self.put(number, &mut key, &value, &mut batch)
            },
        )?;
        self.store.write(batch)
    }

    /// The value as the store has it now.
    fn convert(
        &self,
        number: usize,
        reader: &SectionReader,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let expiry = self.states.get(number).and_then(State::expiry);
        let now = expiry.map_or(0, |e| e.stamp());
        let mut scratch = Vec::new();
        let (stamp, value) = reader.value(bytes, now, &mut scratch)?;
        out.clear();
        if let Some(stamp) = stamp {
            out.extend_from_slice(&stamp.to_be_bytes());
        }
        out.extend_from_slice(value);
        Ok(())
    }

    /// Adds an entry under its whole key; where entries are numbered, it ends with a number, which is replaced.
    fn put(
        &mut self,
        number: usize,
        key: &mut Vec<u8>,
        value: &[u8],
        batch: &mut WriteBatch,
    ) -> Result<()> {
        let family = match self.states.get_mut(number) {
            Some(State::Values(values)) => {
                values.set_stored();
                values.family()
            }
            Some(State::Entries(entries)) => {
                if entries.shape() != Shape::Map {
                    key.truncate(key.len().saturating_sub(NUMBER));
                    key.extend_from_slice(&entries.number().to_be_bytes());
                }
                entries.family()
            }
            None => return Err(Error::bug("a state that is not there is restored")),
        };
        let handle = self.store.handle(family)?;
        batch.put_cf(&handle, key, value);
        self.write_full(batch)
    }

    /// Writes a batch that is large.
    fn write_full(&self, batch: &mut WriteBatch) -> Result<()> {
        match batch.size_in_bytes() >= BATCH_BYTES {
            true => self.store.write(std::mem::take(batch)),
            false => Ok(()),
        }
    }

    /// Readers of those sections that are of states. Errors: `StateMismatch` for what can't become what it is now.
    fn readers<'s>(
        &self,
        sections: impl IntoIterator<Item = &'s SectionSpec>,
    ) -> Result<Vec<Reader<'s>>> {
        let states = self.declared();
        let mut readers = Vec::new();
        for old in sections.into_iter().filter(|s| s.kind.is_state()) {
            if let Some(state) = taker(old, &states)
                && let Some(declared) = states.get(state)
            {
                let reader = SectionReader::new(old, declared)?;
                readers.push(Reader { old, state, reader });
            }
        }
        Ok(readers)
    }

    fn declared(&self) -> Vec<Declared> {
        let states = self.owner.states.iter();
        states.map(|s| declared(&self.owner.key, s)).collect()
    }

    /// Whether all that is in the files, and that the job still has, is as it would be written now.
    fn is_same(&self, native: &NativeState) -> bool {
        let states = self.declared();
        native.sections.iter().all(|old| {
            let taker = taker(old, &states).and_then(|place| states.get(place));
            taker.is_none_or(|is| {
                is.section.name == old.name && Migration::between(old, is).0.is_identity()
            })
        })
    }
}

fn foreign(native: &NativeState) -> Error {
    let message = format!(
        "the state of operator '{}' is in files of '{}', and this release reads '{}'",
        native.uid,
        native.format,
        native::FORMAT
    );
    Error::new(ErrorCode::StateMismatch, message)
        .help("go on with the release and the state backend that wrote them, or from a savepoint")
}
