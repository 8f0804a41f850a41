//! Snapshots without the store: as long as nothing has left the caches since a cut, a snapshot is the files of that cut
//! and what has changed since, copied from the caches into deltas. While nothing was ever in the store, one of the
//! canonical form is copied from the caches, too.
//!
//! A delta has what has changed since the one before it, or all that has changed since the cut, when it replaces those
//! before it: that comes when it is hardly more, or they would be twice as much. What is in a delta stays dirty, for the
//! store has not got it. As soon as anything reaches the store, by an eviction, a canonical snapshot that is read from it
//! or a restore, the chain has ended, and a cut begins the next. While nothing was ever in the store, the files of the cut
//! are none. A canonical snapshot from the caches is no part of the chain, which goes on as if there were none.
//!
//! At the barrier, what is to be copied is *frozen*, and then copied some thousand slots at a time while processing goes
//! on, each slot at the latest when it is about to change. After a snapshot that was given up, the next delta replaces
//! all others: so it is enough to know what has changed since the last one that was begun. A chain holds only what was
//! handed out. Each snapshot names all of its files, so it does not matter which of those before it became complete.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use pelton_engine::snapshot::{LocalFile, NativeFiles, SnapshotWriter};
use pelton_engine::state::section_of;
use pelton_model::Result;

use super::snapshot::{Phase, Snapshot};
use super::{RocksState, State, put_keys};
use crate::canonical::{Chunk, Section};
use crate::delta::{Delta, DeltaOut};
use crate::fault::lost;
use crate::native::{self, Linked};
use crate::values::Copies;

/// Slots that one step looks at. Tests see many steps.
const COPIED: u32 = if cfg!(test) { 16 } else { 16 << 10 };
/// Bytes that one step copies, about.
const COPIED_BYTES: usize = 1 << 20;
/// Slots that are copied together.
const AT_ONCE: usize = if cfg!(test) { 4 } else { 1_024 };
/// Deltas of a chain: a restart fetches each.
const DELTAS_MAX: usize = if cfg!(test) { 4 } else { 32 };

/// What snapshots are made of as long as nothing reaches the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    /// None while the store has nothing.
    base: Option<Arc<Linked>>,
    deltas: Vec<Arc<Delta>>,
    /// The next delta has all.
    anew: bool,
}

/// What is being copied from the caches.
pub(super) struct Copying {
    to: To,
    /// Where copying goes on, and where it ends.
    next: u32,
    end: u32,
}

/// Where it goes.
enum To {
    /// A delta, and the chain that it becomes a part of.
    Delta { chain: Chain, out: DeltaOut },
    /// The canonical form, by state, and what waits for the task's output.
    Canonical { sections: Vec<Section>, held: Chunk },
}

impl To {
    /// Hands on what waits, if there is room for it; whether nothing waits.
    fn hand(&mut self, into: &mut SnapshotWriter) -> bool {
        let Self::Canonical { held, .. } = self else {
            return true;
        };
        if !held.is_empty() && into.has_room() {
            held.each(|section, group, entry| into.put(section, group, entry));
            held.clear();
        }
        held.is_empty()
    }

    /// Whether there is room for what can wait. Errors: those of the disk.
    fn has_room(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        match self {
            Self::Delta { out, .. } => out.has_room(),
            Self::Canonical { .. } => Ok(self.hand(into)),
        }
    }
}

impl Copying {
    /// Bytes of keys and values that were copied, as far as they wait where they go to the task's output.
    fn bytes(&self) -> usize {
        match &self.to {
            To::Delta { out, .. } => out.bytes(),
            To::Canonical { held, .. } => held.bytes(),
        }
    }

    /// Whether it is a part of the chain.
    pub(super) fn is_delta(&self) -> bool {
        matches!(self.to, To::Delta { .. })
    }
}

/// A delta that is being written.
pub(super) struct Written {
    chain: Chain,
    done: Receiver<Result<()>>,
}

impl Chain {
    /// One that begins with the files of a cut.
    pub(super) fn of(base: Linked) -> Self {
        Self {
            base: Some(Arc::new(base)),
            ..Self::default()
        }
    }

    /// Whether the next delta is to replace all others, where `fresh` slots have changed since the last, and the store
    /// has `dirty` ones otherwise.
    fn replaced(&self, fresh: u64, dirty: u64) -> bool {
        let held: u64 = self.deltas.iter().map(|d| d.entries).sum();
        self.anew
            || self.deltas.len() >= DELTAS_MAX
            || held + fresh > 2 * dirty
            || fresh + fresh / 4 >= dirty
    }

    /// Whether it begins with an empty store.
    pub(super) fn is_whole(&self) -> bool {
        self.base.is_none()
    }

    fn files(&self) -> Vec<LocalFile> {
        let base = self.base.iter().flat_map(|b| &b.files).cloned();
        let deltas = self.deltas.iter().map(|delta| LocalFile {
            name: delta.name.clone(),
            path: delta.path(),
            identity: Some(delta.name.clone()),
        });
        base.chain(deltas).collect()
    }
}

impl RocksState {
    /// Something reaches the store: the next snapshot is a cut.
    pub(super) fn end_chain(&mut self) {
        self.chain = None;
        if let Some(Phase::Linking { whole, .. }) = self.phase() {
            *whole = false;
        }
    }

    /// The next delta must not trust those before it.
    pub(super) fn begin_anew(&mut self) {
        if let Some(chain) = &mut self.chain {
            chain.anew = true;
        }
    }

    /// The barrier of a snapshot that is a part of this chain.
    pub(super) fn begin_delta(&mut self, mut chain: Chain) {
        let values = self.states.iter_mut().filter_map(State::values);
        let changed = values.map(|v| v.changed());
        let (fresh, dirty) = changed.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        let replaced = chain.replaced(fresh, dirty);
        if replaced {
            chain.deltas.clear();
        }
        chain.anew = false;
        let values = self.states.iter_mut().filter_map(State::values);
        values.for_each(|v| v.freeze_changed(replaced));
        // What is given up before it is handed out says otherwise.
        if let Some(chain) = &mut self.chain {
            chain.anew = false;
        }
        let count = if replaced { dirty } else { fresh };
        let phase = match count {
            0 => Phase::Made(chain),
            _ => {
                self.deltas += 1;
                let name = native::delta_name(&self.store, self.deltas);
                let folder = self.store.shared().folder("snapshot");
                let states: Vec<&str> = self.owner.states.iter().map(|s| s.name.as_str()).collect();
                match DeltaOut::begin(folder, name, &states) {
                    Ok(out) => Phase::Copying(Box::new(Copying {
                        to: To::Delta { chain, out },
                        next: 0,
                        end: self.index.slots() as u32,
                    })),
                    Err(error) => Phase::Failed(Some(error)),
                }
            }
        };
        self.snapshot = Some(Snapshot::new(phase));
    }

    /// The barrier of a snapshot of the canonical form, where all is in the caches.
    pub(super) fn begin_canonical(&mut self, sections: Vec<Section>) {
        let values = self.states.iter_mut().filter_map(State::values);
        values.for_each(|v| v.freeze_all());
        self.snapshot = Some(Snapshot::new(Phase::Copying(Box::new(Copying {
            to: To::Canonical {
                sections,
                held: Chunk::default(),
            },
            next: 0,
            end: self.index.slots() as u32,
        }))));
    }

    /// Whether anything is being copied.
    pub(super) fn is_copying(&self) -> bool {
        let phase = self.snapshot.as_ref().map(|s| &s.phase);
        matches!(phase, Some(Phase::Copying(_)))
    }

    /// Copies some of what is frozen; hands a delta on when all is. Whether the snapshot has all.
    pub(super) fn copy_some(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        let Some(Phase::Copying(copying)) = self.phase() else {
            return Ok(false);
        };
        let first = copying.next;
        let end = copying.end.min(first.saturating_add(COPIED));
        let (mut slot, mut some) = (first, Vec::with_capacity(AT_ONCE));
        let mut bytes = 0;
        while slot < end {
            let Some(Phase::Copying(copying)) = self.phase() else {
                break;
            };
            if bytes >= COPIED_BYTES || !copying.to.has_room(into)? {
                break;
            }
            some.clear();
            while slot < end && some.len() < AT_ONCE {
                if self.is_frozen(slot) {
                    some.push(slot);
                }
                slot += 1;
            }
            bytes += self.copy(&some)?;
        }
        let Some(phase) = self.phase() else {
            return Ok(false);
        };
        let Phase::Copying(mut copying) = std::mem::replace(phase, Phase::Failed(None)) else {
            return Ok(false);
        };
        if slot < copying.end || !copying.to.hand(into) {
            copying.next = slot;
            *phase = Phase::Copying(copying);
            return Ok(false);
        }
        match copying.to {
            To::Delta { mut chain, out } => {
                let (delta, done) = out.finish();
                chain.deltas.push(Arc::new(delta));
                *phase = Phase::Written(Written { chain, done });
                Ok(false)
            }
            To::Canonical { .. } => {
                self.snapshot = None;
                Ok(true)
            }
        }
    }

    /// Copies what is frozen under these slots; how many bytes.
    pub(super) fn copy(&mut self, slots: &[u32]) -> Result<usize> {
        if slots.is_empty() {
            return Ok(0);
        }
        put_keys(
            &self.index,
            self.place,
            slots,
            &mut self.encoded,
            &mut self.keys,
        );
        let phase = self.snapshot.as_mut().map(|s| &mut s.phase);
        let Some(Phase::Copying(copying)) = phase else {
            return Ok(0);
        };
        let before = copying.bytes();
        for (number, state) in self.states.iter_mut().enumerate() {
            let State::Values(values) = state else {
                continue;
            };
            let to = match &mut copying.to {
                To::Delta { out, .. } => Copies::Delta(number, out),
                To::Canonical { sections, held } => match sections.get(number) {
                    Some(section) => Copies::Canonical(section, held),
                    None => continue,
                },
            };
            values.copy(&self.keys, to, &mut self.gone)?;
        }
        Ok(copying.bytes() - before)
    }

    /// Slots whose values are gone, which deltas know by now, are given to other keys.
    pub(super) fn free_gone(&mut self, pinned: &dyn Fn(u32) -> bool) {
        let gone = std::mem::take(&mut self.gone);
        gone.iter()
            .for_each(|slot| self.drop_if_vacant(*slot, pinned));
    }

    /// Whether the delta is a file: it goes on, into the chain.
    pub(super) fn hand_on(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        let Some(Phase::Written(written)) = self.phase() else {
            return Ok(true);
        };
        match written.done.try_recv() {
            Ok(done) => done?,
            Err(TryRecvError::Empty) => return Ok(false),
            Err(TryRecvError::Disconnected) => return Err(lost()),
        }
        let chain = std::mem::take(&mut written.chain);
        self.hand_out(chain, into);
        Ok(true)
    }

    /// The snapshot is these files; the chain goes on with them, unless it has ended meanwhile.
    pub(super) fn hand_out(&mut self, chain: Chain, into: &mut SnapshotWriter) {
        let of = |spec| {
            let mut section = section_of(&self.owner.key, spec);
            section.uid.clone_from(&self.owner.uid);
            section
        };
        let format = match chain.base.is_some() && chain.deltas.is_empty() {
            true => native::FORMAT,
            false => native::FORMAT_DELTAS,
        };
        into.native(NativeFiles {
            uid: String::new(),
            format: format.to_owned(),
            sections: self.owner.states.iter().map(of).collect(),
            files: chain.files(),
            folder: Arc::new(chain.clone()),
        });
        if let Some(own) = &mut self.chain {
            let anew = own.anew;
            *own = Chain { anew, ..chain };
        }
        self.snapshot = None;
    }
}
