//! How a task gets its state back: from files as they are, from those of other tasks or of an earlier version of the job
//! by reading them, or from the canonical form.

use pelton_engine::snapshot::{RestoreFrom, Restored};
use pelton_engine::state::{KeyedState, SectionReader, section_of};
use pelton_model::checkpoint::{NativeState, TaskRecord};
use pelton_model::key::KeyGroupRange;
use pelton_model::migrate::Migration;
use pelton_model::snapshot::{Entry, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};
use rocksdb::{Options, WriteBatch};

use super::{RocksState, State};
use crate::fault::refused;
use crate::layout::{NUMBER, Shape, group_of};
use crate::native;
use crate::store::{Adopted, Db, family_name, once};

/// Bytes that are written at once.
const BATCH_BYTES: usize = 1 << 20;

/// For each state how entries of a checkpoint are read; none where it has nothing of it.
type Readers = Vec<Option<SectionReader>>;

impl RocksState {
    pub(super) fn take_back(&mut self, from: &Restored<'_>) -> Result<()> {
        // There will be snapshots.
        self.snapshots = true;
        // All is looked at before anything is fetched.
        let canonical = self.readers(from.sections())?;
        let mut natives = Vec::new();
        for (task, native) in from.native() {
            if native.format != native::FORMAT {
                return Err(foreign(native));
            }
            let readers = self.readers(&native.sections)?;
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
        if let Some((task, native, _)) = base.map(|place| natives.remove(place)) {
            self.adopt(from.from, native)?;
            if task.key_groups != (from.key_groups.start, from.key_groups.end) {
                self.store.keep_only(from.key_groups)?;
            }
        }
        for (task, native, readers) in natives {
            self.merge(from.from, (task, native), &readers, from.key_groups)?;
        }
        self.take_entries(from, &canonical)
    }

    /// Goes on with the files as they are.
    fn adopt(&mut self, from: &RestoreFrom, native: &NativeState) -> Result<()> {
        let shared = self.store.shared().clone();
        let adopted = native::fetch(from, native, shared.folder("db"))?;
        let mut state = Self::open(shared, self.owner.clone(), Some(adopted))?;
        if let Some(time) = self.time {
            state.at(time);
        }
        state.snapshots = true;
        *self = state;
        Ok(())
    }

    /// Copies the key groups of the task from the files of another.
    fn merge(
        &mut self,
        from: &RestoreFrom,
        (task, native): (&TaskRecord, &NativeState),
        readers: &Readers,
        own: KeyGroupRange,
    ) -> Result<()> {
        let shared = self.store.shared().clone();
        let Adopted { folder, .. } = native::fetch(from, native, shared.folder("restore"))?;
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
        for (number, reader) in readers.iter().enumerate() {
            let name = self.owner.states.get(number).map(|s| family_name(&s.name));
            let handle = name.filter(|n| names.contains(n));
            let handle = handle.and_then(|n| db.cf_handle(&n));
            let (Some(reader), Some(handle)) = (reader, handle) else {
                continue;
            };
            let mut batch = WriteBatch::default();
            let mut scan = db.raw_iterator_cf_opt(&handle, once());
            scan.seek(start);
            while let Some((old, bytes)) = scan.item().filter(|(key, _)| group_of(key) < end) {
                key.clear();
                key.extend_from_slice(old);
                self.convert(number, reader, bytes, &mut value)?;
                self.put(number, &mut key, &value, &mut batch)?;
                scan.next();
            }
            scan.status().map_err(fail)?;
            self.store.write(batch)?;
        }
        Ok(())
    }

    /// Takes what is there in the canonical form.
    fn take_entries(&mut self, from: &Restored<'_>, readers: &Readers) -> Result<()> {
        let names: Vec<String> = self.owner.states.iter().map(|s| s.name.clone()).collect();
        let place = |spec: &SectionSpec| {
            let number = names.iter().position(|n| *n == spec.name);
            number.filter(|_| spec.kind.is_state())
        };
        let (mut batch, mut key, mut value) = (WriteBatch::default(), Vec::new(), Vec::new());
        from.entries(
            |spec| place(spec).is_some(),
            |spec, _, entry: Entry<'_>| {
                let number = place(spec).unwrap_or_default();
                let reader = readers.get(number).and_then(Option::as_ref);
                let reader = reader.ok_or_else(|| Error::bug("an entry is of no state"))?;
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
        if batch.size_in_bytes() >= BATCH_BYTES {
            self.store.write(std::mem::take(batch))?;
        }
        Ok(())
    }

    /// Readers of those sections that are of states. Errors: `StateMismatch` for what can't become what it is now.
    fn readers<'s>(&self, sections: impl IntoIterator<Item = &'s SectionSpec>) -> Result<Readers> {
        let mut readers: Readers = vec![None; self.owner.states.len()];
        for old in sections.into_iter().filter(|s| s.kind.is_state()) {
            let own = self.owner.states.iter().zip(&mut readers);
            for (spec, reader) in own.filter(|(spec, _)| spec.name == old.name) {
                let new = section_of(&self.owner.key, spec);
                *reader = Some(SectionReader::new(old, &new)?);
            }
        }
        Ok(readers)
    }

    /// Whether all that is in the files is as it would be written now.
    fn is_same(&self, native: &NativeState) -> bool {
        native.sections.iter().all(|old| {
            let mut own = self.owner.states.iter();
            own.find(|s| s.name == old.name).is_none_or(|spec| {
                let new = section_of(&self.owner.key, spec);
                Migration::between(old, &new).0.is_identity()
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
