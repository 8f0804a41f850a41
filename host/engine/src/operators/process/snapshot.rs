//! The operator's part of a snapshot: what its keys have, what the operator has, and timers.
//!
//! A timer's entry has its number in the order of setting as the value, so that timers of one time fire in the same
//! order again, whatever order they were written in.

use pelton_model::barrier::{Barrier, SnapshotForm};
use pelton_model::key::{KeyGroup, hash_bytes};
use pelton_model::schema::{DataType, Field};
use pelton_model::snapshot::{Entry, SectionKind, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};

use super::{ProcessOperator, home, time};
use crate::operator::Context;
use crate::snapshot::{Restored, SnapshotWriter, keyed_section};
use crate::state::{EncodedRows, KeyedState, SectionReader, Touched};
use crate::timer::{Timer, Timers};

/// Timers that one call looks at, at most.
const TIMERS_A_CALL: usize = 16 << 10;
/// Timers that are encoded together.
const TIMERS_AT_ONCE: usize = 1 << 10;
/// The name of the sections of timers.
const TIMERS: &str = "timers";
/// By event time, by processing time.
const KINDS: [SectionKind; 2] = [SectionKind::EventTimers, SectionKind::ProcessingTimers];

/// How far a snapshot is.
pub(super) struct Saving {
    /// Whether the states of keys are written, and those of the operator.
    keyed: bool,
    operator: bool,
    /// The numbers of the sections of [`KINDS`].
    sections: [u32; 2],
    /// Timers that were gone before their turn, with their keys.
    aside: [Vec<(EncodedRows, Vec<Timer>)>; 2],
}

/// The section of timers of one kind, of keys with these fields.
fn timers_section(kind: SectionKind, key: &[Field]) -> SectionSpec {
    let time = [Field::new("time", DataType::I64)];
    let set = [Field::new("set", DataType::I64)];
    keyed_section(kind, TIMERS, key, &time, &set)
}

/// The sections of timers.
pub(super) fn timers(key: &[Field]) -> [SectionSpec; 2] {
    KINDS.map(|kind| timers_section(kind, key))
}

impl ProcessOperator {
    /// The barrier. Without one this snapshot is in savepoints, too.
    pub(super) fn freeze(
        &mut self,
        barrier: Option<Barrier>,
        into: &mut SnapshotWriter,
    ) -> Result<()> {
        let form = barrier.map_or(SnapshotForm::Canonical, |b| b.form);
        let stores = home(&mut self.stores)?;
        stores.keyed.snapshot(form, into)?;
        stores.operator.snapshot(form, into)?;
        self.event.freeze();
        self.processing.freeze();
        self.saving = Some(Saving {
            keyed: false,
            operator: false,
            sections: timers(&self.key).map(|section| into.section(section)),
            aside: Default::default(),
        });
        Ok(())
    }

    /// Writes more; whether all is written.
    pub(super) fn write_frozen(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        let (Some(saving), stores) = (&mut self.saving, home(&mut self.stores)?) else {
            return Ok(true);
        };
        if !saving.keyed {
            saving.keyed = stores.keyed.go_on_snapshot(into)?;
        }
        if saving.keyed && !saving.operator {
            saving.operator = stores.operator.go_on_snapshot(into)?;
        }
        if !saving.operator {
            return Ok(false);
        }
        let mut looked = 0;
        let queues = [&mut self.event, &mut self.processing];
        let each = queues.into_iter().zip(saving.sections);
        for ((timers, section), aside) in each.zip(&mut saving.aside) {
            let to = (section, self.max_parallelism);
            for (keys, gone) in aside.drain(..) {
                put_timers(&keys, &gone, to, into);
            }
            while let Some(some) = timers.next_frozen(TIMERS_AT_ONCE) {
                let keys = keys_of(stores.keyed.as_ref(), &self.key, &some)?;
                put_timers(&keys, &some, to, into);
                looked += TIMERS_AT_ONCE;
                if looked >= TIMERS_A_CALL || !into.has_room() {
                    return Ok(false);
                }
            }
        }
        self.saving = None;
        self.event.thaw();
        self.processing.thaw();
        Ok(true)
    }

    /// The snapshot is not wanted any more.
    pub(super) fn thaw(&mut self) {
        self.saving = None;
        self.event.thaw();
        self.processing.thaw();
        if let Some(stores) = &mut self.stores {
            stores.keyed.abort_snapshot();
            stores.operator.abort_snapshot();
        }
    }

    /// Before keys may be forgotten: keeps those of timers that are gone and not written.
    pub(super) fn save_timers(&mut self) -> Result<()> {
        let Some(saving) = &mut self.saving else {
            return Ok(());
        };
        let stores = home(&mut self.stores)?;
        let queues = [&mut self.event, &mut self.processing];
        for (timers, aside) in queues.into_iter().zip(&mut saving.aside) {
            let gone = timers.take_aside();
            if !gone.is_empty() {
                let keys = keys_of(stores.keyed.as_ref(), &self.key, &gone)?;
                aside.push((keys, gone));
            }
        }
        Ok(())
    }

    /// Takes what it had at a checkpoint.
    pub(super) fn take_back(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        let stores = home(&mut self.stores)?;
        stores.keyed.at(time(cx));
        stores.keyed.restore(from)?;
        stores.operator.restore(from)?;
        let mut found = Vec::new();
        for kind in KINDS {
            self.timers_of(from, kind, &mut found)?;
        }
        let may_be_there = |t: &Found| self.may_set_timers || (t.time == i64::MAX && !t.processing);
        if !found.iter().all(may_be_there) {
            let message = format!(
                "operator '{}' has timers in the checkpoint, and its function declares none any more",
                from.uid
            );
            return Err(Error::new(ErrorCode::StateMismatch, message));
        }
        // Those of several tasks were numbered each for itself: no key was in two of them.
        found.sort_by_key(|t| t.set);
        for t in &found {
            let timers: &mut Timers = match t.processing {
                true => &mut self.processing,
                false => &mut self.event,
            };
            timers.set(t.time, t.slot);
        }
        self.tidy(cx)
    }

    /// Reads the timers of one kind, and touches their keys.
    fn timers_of(
        &mut self,
        from: &Restored<'_>,
        kind: SectionKind,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        let of_timers = |s: &SectionSpec| s.kind == kind && s.name == TIMERS;
        let sections = from.sections();
        let Some(old) = sections.into_iter().find(|s| of_timers(s)) else {
            return Ok(());
        };
        let mut reader = None;
        let section = timers_section(kind, &self.key);
        let keyed = &mut home(&mut self.stores)?.keyed;
        let (mut keys, mut times) = (EncodedRows::default(), Vec::new());
        let mut touched = Touched::default();
        let mut touch = |keys: &mut EncodedRows, times: &mut Vec<(i64, i64)>| -> Result<()> {
            if times.is_empty() {
                return Ok(());
            }
            let reader = match &mut reader {
                Some(reader) => reader,
                none => none.insert(SectionReader::new(old, &section)?),
            };
            keyed.touch(&reader.keys(keys)?, times.len(), &mut touched)?;
            for (ordinal, (time, set)) in touched.ordinals.iter().zip(times.iter()) {
                let slot = touched.slots.get(*ordinal as usize).copied();
                found.push(Found {
                    set: *set,
                    time: *time,
                    slot: slot.ok_or_else(|| Error::bug("a key was touched and has no slot"))?,
                    processing: kind == SectionKind::ProcessingTimers,
                });
            }
            keys.clear();
            times.clear();
            Ok(())
        };
        from.entries(of_timers, |_, _, entry| {
            keys.push(entry.key);
            times.push((number(entry.sub)?, number(entry.value)?));
            match times.len() < TIMERS_AT_ONCE {
                true => Ok(()),
                false => touch(&mut keys, &mut times),
            }
        })?;
        touch(&mut keys, &mut times)
    }
}

/// A timer of a checkpoint.
struct Found {
    set: i64,
    time: i64,
    slot: u32,
    processing: bool,
}

fn keys_of(keyed: &dyn KeyedState, key: &[Field], timers: &[Timer]) -> Result<EncodedRows> {
    let slots: Vec<u32> = timers.iter().map(|t| t.slot).collect();
    EncodedRows::new(key, &keyed.keys(&slots)?)
}

fn put_timers(
    keys: &EncodedRows,
    timers: &[Timer],
    (section, max_parallelism): (u32, u32),
    into: &mut SnapshotWriter,
) {
    for (key, timer) in keys.iter().zip(timers) {
        let entry = Entry {
            key,
            sub: &(timer.time ^ i64::MIN).to_be_bytes(),
            value: &(timer.set as i64 ^ i64::MIN).to_be_bytes(),
        };
        let group = KeyGroup::of(hash_bytes(key), max_parallelism);
        into.put(section, group.0, entry);
    }
}

/// An encoded i64.
fn number(bytes: &[u8]) -> Result<i64> {
    let bytes: Option<[u8; 8]> = bytes.try_into().ok();
    let number = bytes.map(|b| i64::from_be_bytes(b) ^ i64::MIN);
    number.ok_or_else(|| Error::new(ErrorCode::Corrupt, "a timer of a checkpoint is cut off"))
}
