//! State in memory, from the sections of a checkpoint.

use pelton_model::migrate::{Declared, taker};
use pelton_model::snapshot::SectionSpec;
use pelton_model::{Error, ErrorCode, Result};

use super::{HeapState, Store};
use crate::function::Slots;
use crate::snapshot::Restored;
use crate::state::{EncodedRows, RowSet, SectionReader, declared};

/// Entries that are taken at once.
const ENTRIES: usize = 4096;

/// Entries of one section.
#[derive(Default)]
struct Batch {
    reader: usize,
    keys: EncodedRows,
    subs: EncodedRows,
    values: EncodedRows,
    /// 0 where values have none.
    stamps: Vec<i64>,
}

/// How a section is read.
struct Reader<'a> {
    old: &'a SectionSpec,
    /// The number of the state that takes it.
    state: usize,
    reader: SectionReader,
}

impl Reader<'_> {
    fn is_of(&self, section: &SectionSpec) -> bool {
        self.old.name == section.name && self.old.kind == section.kind
    }
}

impl HeapState {
    /// Takes what these states had at a checkpoint.
    pub(super) fn take_back(&mut self, from: &Restored<'_>) -> Result<()> {
        let states = self.specs.iter().map(|spec| declared(&self.key, spec));
        let states: Vec<Declared> = states.collect();
        self.refuse_native(from, &states)?;
        let mut readers = Vec::new();
        for old in from.sections().into_iter().filter(|s| s.kind.is_state()) {
            if let Some(state) = taker(old, &states)
                && let Some(declared) = states.get(state)
            {
                let reader = SectionReader::new(old, declared)?;
                readers.push(Reader { old, state, reader });
            }
        }
        let mine = |s: &SectionSpec| readers.iter().any(|r| r.is_of(s));
        let mut batch = Batch::default();
        let mut scratch = Vec::new();
        from.entries(mine, |section, _, entry| {
            let same = readers.get(batch.reader).is_some_and(|r| r.is_of(section));
            if !same || batch.stamps.len() >= ENTRIES {
                self.add(&mut batch, &readers)?;
                let place = readers.iter().position(|r| r.is_of(section));
                batch.reader = place.unwrap_or_default();
            }
            let Reader { state, reader, .. } = readers.get(batch.reader).ok_or_else(unknown)?;
            // What had no stamp counts from now on.
            let now = self.states.get_mut(*state).and_then(Store::expiry);
            let now = now.map_or(0, |e| e.stamp());
            let (stamp, value) = reader.value(entry.value, now, &mut scratch)?;
            batch.keys.push(entry.key);
            batch.subs.push(entry.sub);
            batch.values.push(value);
            batch.stamps.push(stamp.unwrap_or_default());
            Ok(())
        })?;
        self.add(&mut batch, &readers)
    }

    /// What a backend wrote into files of its own is not read here.
    fn refuse_native(&self, from: &Restored<'_>, states: &[Declared]) -> Result<()> {
        for (_, native) in from.native() {
            let taken = |s: &&SectionSpec| taker(s, states).is_some();
            if let Some(section) = native.sections.iter().find(taken) {
                let message = format!(
                    "state '{}' of operator '{}' is in files of '{}', and the job keeps its state in memory",
                    section.name, native.uid, native.format
                );
                return Err(Error::new(ErrorCode::StateMismatch, message)
                    .help("go on with the same state backend, or from a savepoint"));
            }
        }
        Ok(())
    }

    fn add(&mut self, batch: &mut Batch, readers: &[Reader<'_>]) -> Result<()> {
        let rows = batch.stamps.len();
        if rows == 0 {
            return Ok(());
        }
        let Reader { state, reader, .. } = readers.get(batch.reader).ok_or_else(unknown)?;
        let mut slots = Vec::new();
        let keys = reader.keys(&batch.keys)?;
        self.index.locate(&keys, RowSet::First(rows), &mut slots)?;
        // Also where the bytes are kept as they are: nothing damaged comes in.
        let values = Slots {
            rows,
            present: None,
            columns: reader.values(&batch.values)?,
        };
        let store = self.states.get_mut(*state).ok_or_else(unknown)?;
        let stamps = batch.stamps.iter().copied();
        match store {
            Store::Values(v) => {
                v.values.put(&slots, &values)?;
                v.set_stamps(slots.iter().zip(stamps));
            }
            Store::Lists(l) => {
                for ((slot, row), stamp) in slots.iter().zip(batch.values.iter()).zip(stamps) {
                    l.push_stamped(*slot, row, stamp);
                }
            }
            Store::Maps(m) => {
                reader.subs(&batch.subs)?;
                let mut scratch = Vec::new();
                let entries = batch.subs.iter().zip(batch.values.iter());
                for ((slot, entry), stamp) in slots.iter().zip(entries).zip(stamps) {
                    m.put_stamped(*slot, entry, stamp, &mut scratch);
                }
            }
        }
        batch.keys.clear();
        batch.subs.clear();
        batch.values.clear();
        batch.stamps.clear();
        Ok(())
    }
}

fn unknown() -> Error {
    Error::bug("an entry of a checkpoint is of no state")
}
