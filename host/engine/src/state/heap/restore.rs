//! State in memory, from the sections of a checkpoint.

use pelton_model::snapshot::SectionSpec;
use pelton_model::{Error, ErrorCode, Result};

use super::{HeapState, Store};
use crate::function::Slots;
use crate::snapshot::Restored;
use crate::state::{EncodedRows, RowSet, SectionReader, section_of};

/// Entries that are taken at once.
const ENTRIES: usize = 4096;

/// Entries of one state.
#[derive(Default)]
struct Batch {
    state: usize,
    keys: EncodedRows,
    subs: EncodedRows,
    values: EncodedRows,
    /// 0 where values have none.
    stamps: Vec<i64>,
}

impl HeapState {
    /// Takes what these states had at a checkpoint.
    pub(super) fn take_back(&mut self, from: &Restored<'_>) -> Result<()> {
        let mut readers: Vec<Option<SectionReader>> = vec![None; self.specs.len()];
        let of = |name: &str| self.specs.iter().position(|s| s.name == name);
        self.refuse_native(from)?;
        for old in from.sections().into_iter().filter(|s| s.kind.is_state()) {
            let Some(number) = of(&old.name) else {
                continue;
            };
            if let (Some(reader), Some(spec)) = (readers.get_mut(number), self.specs.get(number)) {
                *reader = Some(SectionReader::new(old, &section_of(&self.key, spec))?);
            }
        }
        let names: Vec<String> = self.specs.iter().map(|s| s.name.clone()).collect();
        let mine = |s: &SectionSpec| s.kind.is_state() && names.contains(&s.name);
        let mut batch = Batch::default();
        let mut scratch = Vec::new();
        from.entries(mine, |section, _, entry| {
            let same = names.get(batch.state) == Some(&section.name);
            if !same || batch.stamps.len() >= ENTRIES {
                self.add(&mut batch, &readers)?;
                let number = names.iter().position(|n| *n == section.name);
                batch.state = number.unwrap_or_default();
            }
            let reader = readers.get(batch.state).and_then(Option::as_ref);
            // What had no stamp counts from now on.
            let now = self.states.get_mut(batch.state).and_then(Store::expiry);
            let now = now.map_or(0, |e| e.stamp());
            let reader = reader.ok_or_else(unknown)?;
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
    fn refuse_native(&self, from: &Restored<'_>) -> Result<()> {
        for (_, native) in from.native() {
            let named = |s: &&SectionSpec| self.specs.iter().any(|own| own.name == s.name);
            if let Some(section) = native.sections.iter().find(named) {
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

    fn add(&mut self, batch: &mut Batch, readers: &[Option<SectionReader>]) -> Result<()> {
        let rows = batch.stamps.len();
        if rows == 0 {
            return Ok(());
        }
        let reader = readers.get(batch.state).and_then(Option::as_ref);
        let reader = reader.ok_or_else(unknown)?;
        let mut slots = Vec::new();
        let keys = reader.keys(&batch.keys)?;
        self.index.locate(&keys, RowSet::First(rows), &mut slots)?;
        // Also where the bytes are kept as they are: nothing damaged comes in.
        let values = Slots {
            rows,
            present: None,
            columns: reader.values(&batch.values)?,
        };
        let store = self.states.get_mut(batch.state).ok_or_else(unknown)?;
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
