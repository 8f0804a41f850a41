//! Snapshots of one operator's task: cuts, of which snapshots of the canonical form are read where the store has anything.
//! Those that need none are in [`chain`](super::chain).
//!
//! At the barrier, what is dirty in the caches is *frozen*: it is written to the store a few thousand slots at a time
//! while processing goes on, each slot at the latest when it is about to change. Then comes the store's cut. What is dirty
//! anew stays in the caches until then. Lists and maps are written through, so where there are any, the cut is made at
//! the barrier itself; from the first snapshot on, dirty values are kept few there.
//!
//! After the cut a thread of its own links the files, or reads them for the canonical form.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use pelton_engine::snapshot::SnapshotWriter;
use pelton_engine::state::section_of;
use pelton_model::barrier::SnapshotForm;
use pelton_model::snapshot::Entry;
use pelton_model::{Error, Result};
use rocksdb::WriteBatch;

use super::chain::{Chain, Copying, Written};
use super::{RocksState, State, store_keys};
use crate::canonical::{self, Chunk, Section};
use crate::fault::{lost, no_thread};
use crate::native::{self, Linked};

/// Slots that one step writes, and their bytes. Tests see many steps.
const CLEANED: usize = if cfg!(test) { 4 } else { 2_048 };
const CLEANED_BYTES: usize = 1 << 20;
/// Slots, and their bytes, that may be dirty where the cut is made at the barrier.
const DIRTY_MAX: usize = 8_192;
const DIRTY_BYTES_MAX: usize = 8 << 20;

/// A snapshot that has begun.
pub(super) struct Snapshot {
    pub(super) phase: Phase,
    given_up: Arc<AtomicBool>,
}

pub(super) enum Phase {
    /// What was dirty is written to the store, from the slot `next` on.
    Cleaning {
        next: u32,
        end: u32,
        /// For the canonical form; none for files.
        sections: Option<Vec<Section>>,
    },
    Linking {
        files: Receiver<Result<Linked>>,
        /// Nothing has reached the store since the cut: these files begin a chain.
        whole: bool,
    },
    Reading(Receiver<Result<Chunk>>),
    /// What has changed is copied into a delta, or all into the canonical form.
    Copying(Box<Copying>),
    /// The delta is on its way to the disk.
    Written(Written),
    /// Nothing has changed.
    Made(Chain),
    /// It was not possible: said when the task asks.
    Failed(Option<Error>),
}

impl Snapshot {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            phase,
            given_up: Arc::default(),
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

impl RocksState {
    pub(super) fn begin(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        self.give_up();
        self.snapshots = true;
        // State without a key is small, and goes to tasks by rules of its own.
        let canonical = form == SnapshotForm::Canonical || self.owner.key.is_empty();
        if !canonical && let Some(chain) = self.chain.clone() {
            self.begin_delta(chain);
            return Ok(());
        }
        let sections = canonical.then(|| self.sections(into));
        let sections = match sections {
            Some(sections) if self.is_cached() => {
                self.begin_canonical(sections);
                return Ok(());
            }
            sections => sections,
        };
        self.end_chain();
        let states = self.states.iter_mut();
        states
            .filter_map(State::values)
            .for_each(|values| values.freeze());
        self.snapshot = Some(Snapshot::new(Phase::Cleaning {
            next: 0,
            end: self.index.slots() as u32,
            sections,
        }));
        let entries = |s: &State| matches!(s, State::Entries(_));
        if self.states.iter().any(entries) {
            self.finish_cleaning()?;
        }
        Ok(())
    }

    /// The states in the canonical form.
    fn sections(&self, into: &mut SnapshotWriter) -> Vec<Section> {
        let of = |(spec, state): (&_, &State)| Section {
            number: into.section(section_of(&self.owner.key, spec)),
            state: spec.name.clone(),
            shape: state.shape(),
            keyed: !self.owner.key.is_empty(),
            expiry: state.expiry(),
        };
        self.owner.states.iter().zip(&self.states).map(of).collect()
    }

    /// Whether the caches have all there is: the store never had anything.
    fn is_cached(&self) -> bool {
        let stored = |s: &State| match s {
            State::Values(v) => v.is_stored(),
            State::Entries(_) => true,
        };
        self.chain.as_ref().is_some_and(Chain::is_whole) && !self.states.iter().any(stored)
    }

    pub(super) fn go_on(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        let done = self.step(into);
        if !matches!(done, Ok(false)) {
            self.give_up();
        }
        done
    }

    fn step(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        match self.phase() {
            None => Ok(true),
            Some(Phase::Cleaning { .. }) => {
                if self.clean_some()? {
                    self.cut()?;
                }
                Ok(false)
            }
            Some(Phase::Failed(error)) => Err(error.take().unwrap_or_else(lost)),
            Some(Phase::Copying(_)) => self.copy_some(into),
            Some(Phase::Written(_)) => self.hand_on(into),
            Some(Phase::Made(chain)) => {
                let chain = std::mem::take(chain);
                self.hand_out(chain, into);
                Ok(true)
            }
            Some(Phase::Linking { files, whole }) => {
                let whole = *whole;
                match files.try_recv() {
                    Ok(files) => {
                        let chain = Chain::of(files?);
                        self.chain = whole.then(Chain::default);
                        self.hand_out(chain, into);
                        Ok(true)
                    }
                    Err(TryRecvError::Empty) => Ok(false),
                    Err(TryRecvError::Disconnected) => Err(lost()),
                }
            }
            Some(Phase::Reading(chunks)) => {
                while into.has_room() {
                    match chunks.try_recv() {
                        Ok(chunk) => chunk?.each(|section, group, entry: Entry<'_>| {
                            into.put(section, group, entry);
                        }),
                        Err(TryRecvError::Empty) => return Ok(false),
                        // All was sent: a reader that fails says so first.
                        Err(TryRecvError::Disconnected) => return Ok(true),
                    }
                }
                Ok(false)
            }
        }
    }

    /// Nothing of a snapshot that has begun is wanted any more.
    pub(super) fn give_up(&mut self) {
        let states = self.states.iter_mut().filter_map(State::values);
        match self.snapshot.as_ref().map(|s| &s.phase) {
            Some(Phase::Cleaning { .. }) => states.for_each(|v| v.thaw()),
            Some(Phase::Copying(copying)) if !copying.is_delta() => {
                states.for_each(|v| v.thaw_changed());
            }
            Some(Phase::Copying(_) | Phase::Written(_) | Phase::Made(_) | Phase::Failed(_)) => {
                states.for_each(|v| v.thaw_changed());
                self.begin_anew();
            }
            _ => {}
        }
        self.snapshot = None;
    }

    pub(super) fn phase(&mut self) -> Option<&mut Phase> {
        self.snapshot.as_mut().map(|s| &mut s.phase)
    }

    /// Whether the cut is still to come.
    pub(super) fn is_cleaning(&self) -> bool {
        let phase = self.snapshot.as_ref().map(|s| &s.phase);
        matches!(phase, Some(Phase::Cleaning { .. }))
    }

    /// Whether the slot has something that waits for the cut.
    pub(super) fn is_frozen(&self, slot: u32) -> bool {
        self.states
            .iter()
            .any(|s| matches!(s, State::Values(v) if v.is_frozen(slot)))
    }

    /// Whether the slot has something that comes after the cut.
    pub(super) fn is_fresh(&self, slot: u32) -> bool {
        self.states
            .iter()
            .any(|s| matches!(s, State::Values(v) if v.is_dirty(slot)))
    }

    /// Before slots change: what the snapshot waits for is written.
    pub(super) fn save(&mut self, slots: &[u32]) -> Result<()> {
        let copying = self.is_copying();
        if !copying && !self.is_cleaning() {
            return Ok(());
        }
        let frozen: Vec<u32> = slots
            .iter()
            .copied()
            .filter(|s| self.is_frozen(*s))
            .collect();
        match copying {
            true => self.copy(&frozen).map(|_| ()),
            false => self.write_out(&frozen),
        }
    }

    /// Makes the cut now.
    pub(super) fn finish_cleaning(&mut self) -> Result<()> {
        if self.is_cleaning() {
            while !self.clean_some()? {}
            self.cut()?;
        }
        Ok(())
    }

    /// Keeps what the next cut at a barrier has to write within its bound.
    pub(super) fn keep_clean(&mut self) -> Result<()> {
        if self.dirtied.0 < DIRTY_MAX && self.dirtied.1 < DIRTY_BYTES_MAX {
            return Ok(());
        }
        self.dirtied = (0, 0);
        let slots = 0..self.index.slots() as u32;
        let dirty: Vec<u32> = slots.filter(|s| self.is_fresh(*s)).collect();
        dirty
            .chunks(CLEANED)
            .try_for_each(|slots| self.write_out(slots))
    }

    /// Notes that slots are dirty, where that is bounded.
    pub(super) fn note_dirty(&mut self, slots: &[u32]) {
        if !self.snapshots {
            return;
        }
        let bytes: usize = self
            .states
            .iter()
            .map(|s| match s {
                State::Values(v) => slots.iter().map(|slot| v.size_of(*slot)).sum(),
                State::Entries(_) => 0,
            })
            .sum();
        self.dirtied.0 += slots.len();
        self.dirtied.1 += bytes;
    }

    /// Writes some of what is frozen; whether all is.
    fn clean_some(&mut self) -> Result<bool> {
        let Some(Phase::Cleaning { next, end, .. }) = self.snapshot.as_ref().map(|s| &s.phase)
        else {
            return Ok(true);
        };
        let (mut slot, end) = (*next, *end);
        let (mut frozen, mut bytes) = (Vec::new(), 0);
        while slot < end && frozen.len() < CLEANED && bytes < CLEANED_BYTES {
            if self.is_frozen(slot) {
                frozen.push(slot);
                let values = self.states.iter_mut().filter_map(State::values);
                bytes += values.map(|v| v.size_of(slot)).sum::<usize>();
            }
            slot += 1;
        }
        self.write_out(&frozen)?;
        if let Some(Phase::Cleaning { next, .. }) = self.snapshot.as_mut().map(|s| &mut s.phase) {
            *next = slot;
        }
        Ok(slot >= end)
    }

    /// Writes what the store has otherwise under these slots, which stay in the cache.
    fn write_out(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        store_keys(
            &self.index,
            self.place,
            slots,
            &mut self.encoded,
            &mut self.keys,
        );
        let mut batch = WriteBatch::default();
        for values in self.states.iter_mut().filter_map(State::values) {
            values.flush(&self.keys, &self.store, &mut batch)?;
        }
        self.end_chain();
        self.store.write(batch)?;
        for values in self.states.iter_mut().filter_map(State::values) {
            slots.iter().for_each(|slot| values.settle(*slot));
        }
        Ok(())
    }

    /// The store has all that the snapshot is to have, and nothing else.
    fn cut(&mut self) -> Result<()> {
        let mut whole = true;
        for state in &mut self.states {
            if let State::Entries(e) = state {
                e.flush(&self.store)?;
                whole = false;
            }
        }
        let Some(snapshot) = &mut self.snapshot else {
            return Ok(());
        };
        let Phase::Cleaning { sections, .. } = &mut snapshot.phase else {
            return Ok(());
        };
        let (store, given_up) = (self.store.clone(), snapshot.given_up.clone());
        let thread = thread::Builder::new().name("state-snapshot".to_owned());
        snapshot.phase = match sections.take() {
            Some(sections) => {
                let (send, chunks) = mpsc::sync_channel(canonical::CHUNKS);
                let (ready, frozen) = mpsc::channel();
                let read = move || canonical::read(&store, &sections, &ready, &send, &given_up);
                match thread.spawn(read) {
                    Ok(_) => frozen
                        .recv()
                        .map_or_else(|_| Phase::Failed(Some(lost())), |()| Phase::Reading(chunks)),
                    Err(e) => Phase::Failed(Some(no_thread(&e))),
                }
            }
            None => {
                let (send, files) = mpsc::channel();
                store.cut();
                let link = move || {
                    // Nobody waits where the task has given it up.
                    let _ = send.send(native::link(&store, &given_up));
                };
                match thread.spawn(link) {
                    // Lists and maps are written through.
                    Ok(_) => Phase::Linking { files, whole },
                    Err(e) => {
                        self.store.reopen();
                        Phase::Failed(Some(no_thread(&e)))
                    }
                }
            }
        };
        Ok(())
    }
}
