//! How a task gets its state back: from files as they are, from those of other tasks by reading them, or from the
//! canonical form.

use pelton_engine::snapshot::{RestoreFrom, Restored};
use pelton_engine::state::section_of;
use pelton_model::checkpoint::{NativeState, TaskRecord};
use pelton_model::key::KeyGroupRange;
use pelton_model::schema::Field;
use pelton_model::snapshot::{Entry, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};
use rocksdb::{Options, WriteBatch};

use super::{RocksState, State};
use crate::fault::refused;
use crate::layout::{NUMBER, Shape, group_of, unstamp};
use crate::native;
use crate::store::{Adopted, Db, family_name, once};

/// Bytes that are written at once.
const BATCH_BYTES: usize = 1 << 20;

impl RocksState {
    pub(super) fn take_back(&mut self, from: &Restored<'_>) -> Result<()> {
        for section in from.sections() {
            self.check(section)?;
        }
        let mut natives = Vec::new();
        for (task, native) in from.native() {
            if native.format != native::FORMAT {
                let message = format!(
                    "the checkpoint has the state as files of '{}', and this backend reads '{}'",
                    native.format,
                    native::FORMAT
                );
                return Err(Error::new(ErrorCode::StateMismatch, message)
                    .at("operator", from.uid)
                    .help("take a savepoint with the backend that wrote it, and start from that"));
            }
            for section in &native.sections {
                self.check(section)?;
                self.check_stamps(section)?;
            }
            let (start, end) = task.key_groups;
            if start.max(from.key_groups.start) < end.min(from.key_groups.end) {
                natives.push((task, native));
            }
        }
        let own = (from.key_groups.start, from.key_groups.end);
        match natives.as_slice() {
            [(task, native)] if task.key_groups == own => self.adopt(from.from, native)?,
            _ => {
                for (task, native) in natives {
                    self.merge(from.from, task, native, from.key_groups)?;
                }
            }
        }
        self.take_entries(from)
    }

    /// Goes on with the files as they are.
    fn adopt(&mut self, from: &RestoreFrom, native: &NativeState) -> Result<()> {
        let shared = self.store.shared().clone();
        let adopted = native::fetch(from, native, shared.folder("db"))?;
        let mut state = Self::open(shared, self.owner.clone(), Some(adopted))?;
        if let Some(time) = self.time {
            pelton_engine::state::KeyedState::at(&mut state, time);
        }
        *self = state;
        Ok(())
    }

    /// Copies the key groups of the task from the files of another.
    fn merge(
        &mut self,
        from: &RestoreFrom,
        task: &TaskRecord,
        native: &NativeState,
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
        // Key groups are less than 2^16, and so is what `end` has, but for the last.
        let start = (own.start.max(task.key_groups.0) as u16).to_be_bytes();
        let end = own.end.min(task.key_groups.1);
        for number in 0..self.states.len() {
            let name = self.owner.states.get(number).map(|s| family_name(&s.name));
            let Some(handle) = name
                .filter(|n| names.contains(n))
                .and_then(|n| db.cf_handle(&n))
            else {
                continue;
            };
            let mut scan = db.raw_iterator_cf_opt(&handle, once());
            let (mut batch, mut own_key) = (WriteBatch::default(), Vec::new());
            scan.seek(start);
            while let Some((key, value)) = scan.item().filter(|(key, _)| group_of(key) < end) {
                own_key.clear();
                own_key.extend_from_slice(key);
                self.put(number, &mut own_key, value, &mut batch)?;
                scan.next();
            }
            scan.status().map_err(fail)?;
            self.store.write(batch)?;
        }
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

    /// Takes what is there in the canonical form.
    fn take_entries(&mut self, from: &Restored<'_>) -> Result<()> {
        let own: Vec<SectionSpec> = self.own_sections().collect();
        let place = |spec: &SectionSpec| {
            own.iter()
                .position(|s| s.name == spec.name && s.kind == spec.kind)
        };
        let (mut batch, mut key, mut value) = (WriteBatch::default(), Vec::new(), Vec::new());
        from.entries(
            |spec| place(spec).is_some(),
            |spec, _, entry: Entry<'_>| {
                let number = place(spec).ok_or_else(|| Error::bug("an unwanted section"))?;
                key.clear();
                match self.states.get(number).map(State::shape) {
                    Some(Shape::Value) => self.place.value_key(entry.key, &mut key),
                    _ => self.place.entry_prefix(entry.key, &mut key),
                }
                key.extend_from_slice(entry.sub);
                if !matches!(
                    self.states.get(number).map(State::shape),
                    Some(Shape::Value | Shape::Map)
                ) {
                    key.extend_from_slice(&[0; NUMBER]);
                }
                self.restamp(number, spec, entry.value, &mut value)?;
                self.put(number, &mut key, &value, &mut batch)
            },
        )?;
        self.store.write(batch)
    }

    /// The value with a stamp or without, as the state is now. One that had none was written now.
    fn restamp(
        &self,
        number: usize,
        spec: &SectionSpec,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.clear();
        let split = unstamp(spec.stamped, bytes);
        let (stamp, value) = split.ok_or_else(|| {
            Error::new(ErrorCode::Corrupt, "a value is shorter than its stamp")
                .at("state", &spec.name)
        })?;
        if let Some(expiry) = self.states.get(number).and_then(State::expiry) {
            let stamp = if spec.stamped { stamp } else { expiry.stamp() };
            out.extend_from_slice(&stamp.to_be_bytes());
        }
        out.extend_from_slice(value);
        Ok(())
    }

    fn own_sections(&self) -> impl Iterator<Item = SectionSpec> {
        let key = &self.owner.key;
        self.owner.states.iter().map(move |s| section_of(key, s))
    }

    /// Refuses a state that has other types now. One that is not there any more is nobody's here.
    fn check(&self, then: &SectionSpec) -> Result<()> {
        let Some(now) = self.own_sections().find(|s| s.name == then.name) else {
            return Ok(());
        };
        if !then.kind.is_state() {
            return Ok(());
        }
        let types = |fields: &[Field]| -> Vec<_> {
            let of = |f: &Field| (f.data_type.clone(), f.nullable);
            fields.iter().map(of).collect()
        };
        let differs = |now: &[Field], then: &[Field]| types(now) != types(then);
        let what = if now.kind != then.kind {
            "is of another kind"
        } else if differs(&now.key, &then.key) {
            "has a key of other types"
        } else if differs(&now.sub, &then.sub) {
            "has map keys of other types"
        } else if differs(&now.value, &then.value) {
            "has values of other types"
        } else {
            return Ok(());
        };
        Err(self
            .mismatch(&then.name, what)
            .help("give the state another name, or go back to the types of the checkpoint"))
    }

    /// Files have their values as they are: with stamps, or without.
    fn check_stamps(&self, then: &SectionSpec) -> Result<()> {
        let now = self.own_sections().find(|s| s.name == then.name);
        if now.is_none_or(|now| now.stamped == then.stamped) {
            return Ok(());
        }
        let what = match then.stamped {
            true => "has lost its time to live",
            false => "has got a time to live",
        };
        Err(self
            .mismatch(&then.name, what)
            .help("take a savepoint with the job as it was, and start from that"))
    }

    fn mismatch(&self, state: &str, what: &str) -> Error {
        Error::new(
            ErrorCode::StateMismatch,
            format!("the state '{state}' {what} since the checkpoint"),
        )
        .at("state", state)
        .at("operator", &self.owner.uid)
    }
}
