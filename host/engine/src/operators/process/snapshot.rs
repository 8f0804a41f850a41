//! The operator's part of a snapshot: what its keys have, what the operator has, and timers.
//!
//! A timer's entry has its number in the order of setting as the value, so that timers of one time fire in the same
//! order again, whatever order they were written in. Those that are in the backend are written by it; one that moved
//! while the snapshot was written may be in it twice, and is there once after a restart.

use pelton_model::barrier::{Barrier, SnapshotForm};
use pelton_model::graph::Process;
use pelton_model::key::{KeyGroup, hash_bytes};
use pelton_model::migrate::Declared;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::snapshot::{Entry, SectionKind, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};

use super::far::{self, Far};
use super::{ProcessOperator, home, key_fields, time};
use crate::operator::Context;
use crate::snapshot::{Restored, SnapshotWriter, keyed_section};
use crate::state::{EncodedRows, KeyedState, SectionReader, Timed, Touched, declared};
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
    /// Whether the states of keys are written, those of the operator, and timers of the backend.
    keyed: bool,
    operator: bool,
    far: bool,
    /// The numbers of the sections of [`KINDS`].
    sections: [u32; 2],
    /// Timers that were gone before their turn, with their keys.
    aside: [Vec<(EncodedRows, Vec<Timer>)>; 2],
}

/// What the states and timers of a function are in snapshots. `inputs` are the pruned schemas of the streams into it.
/// Errors: a field that is not there.
pub fn sections(spec: &Process, inputs: &[Schema]) -> Result<Vec<Declared>> {
    let key = key_fields(spec, inputs)?;
    let states = spec.states.iter().map(|s| match s.kind.is_operator() {
        true => declared(&[], s),
        false => declared(&key, s),
    });
    let timers = timers(&key).map(Declared::from);
    Ok(states.chain(timers).collect())
}

/// As [`sections`], of timers that memory has no room for: a backend that keeps state elsewhere may write them.
pub fn spilled_sections(spec: &Process, inputs: &[Schema]) -> Result<Vec<Declared>> {
    let timers = far::sections(&key_fields(spec, inputs)?);
    Ok(timers.map(Declared::from).into())
}

/// The section of timers of one kind, of keys with these fields.
fn timers_section(kind: SectionKind, key: &[Field]) -> SectionSpec {
    let time = [Field::new("time", DataType::I64)];
    let set = [Field::new("set", DataType::I64)];
    keyed_section(kind, TIMERS, key, &time, &set)
}

/// The sections of timers.
fn timers(key: &[Field]) -> [SectionSpec; 2] {
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
        self.far.snapshot(form, into)?;
        self.event.freeze();
        self.processing.freeze();
        self.saving = Some(Saving {
            keyed: false,
            operator: false,
            far: false,
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
        if saving.operator && !saving.far {
            saving.far = self.far.go_on_snapshot(into)?;
        }
        if !saving.far {
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
        self.far.abort_snapshot();
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
        let near = from.tasks().flat_map(|t| &t.sections);
        let near = near.filter(|s| s.spec.uid == from.uid && KINDS.contains(&s.spec.kind));
        let near = near.map(|s| s.entries).sum::<u64>() / u64::from(from.parallelism.max(1));
        let is_far = self.far.restore(from, near, stores.keyed.as_ref())?;
        let mut found = Vec::new();
        for clock in 0..KINDS.len() {
            self.timers_of(from, clock, is_far, &mut found)?;
        }
        // Those of several tasks were numbered each for itself: no key was in two of them.
        found.sort_by_key(|t| t.set);
        for t in &found {
            let timers: &mut Timers = match t.clock {
                0 => &mut self.event,
                _ => &mut self.processing,
            };
            timers.set(t.time, t.slot);
        }
        if is_far {
            self.fetch(false, i64::MAX, cx)?;
            self.fetch(true, i64::MAX, cx)?;
        }
        let first = (self.event.first(), self.processing.first());
        if !self.may_set_timers && (first.0.is_some_and(|t| t < i64::MAX) || first.1.is_some()) {
            let message = format!(
                "operator '{}' has timers in the checkpoint, and its function declares none any more",
                from.uid
            );
            return Err(Error::new(ErrorCode::StateMismatch, message));
        }
        self.tidy(cx)
    }

    /// Reads the timers of one clock: into the backend, or among those that are found, whose keys are touched.
    fn timers_of(
        &mut self,
        from: &Restored<'_>,
        clock: usize,
        is_far: bool,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        let keyed = &mut home(&mut self.stores)?.keyed;
        let mut touched = Touched::default();
        let (event, processing) = (&mut self.event, &mut self.processing);
        let near = if clock == 0 { event } else { processing };
        let far = &mut self.far;
        let mut each = |timers: Timed| -> Result<()> {
            if is_far {
                // Those that are set from now on come after them.
                timers.numbers.iter().for_each(|n| near.number_after(*n));
                return far.put(clock, &timers);
            }
            keyed.touch(&timers.keys, timers.len(), &mut touched)?;
            let rows = timers.times.iter().zip(&timers.numbers);
            for (ordinal, (time, set)) in touched.ordinals.iter().zip(rows) {
                let slot = touched.slots.get(*ordinal as usize).copied();
                found.push(Found {
                    set: *set,
                    time: *time,
                    slot: slot.ok_or_else(|| Error::bug("a key was touched and has no slot"))?,
                    clock,
                });
            }
            Ok(())
        };
        if !is_far {
            Far::read(from, clock, &self.key, &mut each)?;
        }
        let kind = KINDS.get(clock).copied();
        let kind = kind.ok_or_else(|| Error::bug("a clock that is not there"))?;
        read_timers(from, kind, &self.key, each)
    }
}

/// A timer of a checkpoint.
struct Found {
    set: u64,
    time: i64,
    slot: u32,
    clock: usize,
}

/// Hands over the timers that were in memory.
fn read_timers(
    from: &Restored<'_>,
    kind: SectionKind,
    key: &[Field],
    mut each: impl FnMut(Timed) -> Result<()>,
) -> Result<()> {
    let of_timers = |s: &SectionSpec| s.kind == kind && s.name == TIMERS;
    let sections = from.sections();
    let Some(old) = sections.into_iter().find(|s| of_timers(s)) else {
        return Ok(());
    };
    let section = timers_section(kind, key).into();
    let mut reader = None;
    let (mut keys, mut some) = (EncodedRows::default(), Timed::default());
    let mut hand = |keys: &mut EncodedRows, some: &mut Timed| -> Result<()> {
        if some.is_empty() {
            return Ok(());
        }
        let reader = match &mut reader {
            Some(reader) => reader,
            none => none.insert(SectionReader::new(old, &section)?),
        };
        some.keys = reader.keys(keys)?;
        keys.clear();
        each(std::mem::take(some))
    };
    from.entries(of_timers, |_, _, entry| {
        keys.push(entry.key);
        some.times.push(number(entry.sub)?);
        some.numbers.push(number(entry.value)?.unsigned_abs());
        match some.len() < TIMERS_AT_ONCE {
            true => Ok(()),
            false => hand(&mut keys, &mut some),
        }
    })?;
    hand(&mut keys, &mut some)
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
