//! Room in memory: which slots are given up, what is written before that, and values that have expired.

use pelton_model::Result;
use rocksdb::WriteBatch;

use super::{RocksState, State, store_keys};

/// There is a key in the slot.
pub(super) const USED: u8 = 1;
/// It was touched since the hand last came by.
pub(super) const TOUCHED: u8 = 2;

/// The most slots for which room is kept free: two batches with no key twice.
const ROOM_MAX: usize = 16_384;
/// Slots that each step of the search for expired values looks at, beside one for each that was touched.
const SWEPT: usize = 64;
/// How often the store is asked for the size of its data: once in so many steps.
const MEASURED: u32 = 32;

impl RocksState {
    /// Writes what the store has otherwise under these slots, and forgets them.
    pub(super) fn evict(&mut self, slots: &[u32]) -> Result<()> {
        if self.is_copying() {
            self.save(slots)?;
        }
        store_keys(
            &self.index,
            self.place,
            slots,
            &mut self.encoded,
            &mut self.keys,
        );
        let mut batch = WriteBatch::default();
        let cleaning = self.is_cleaning();
        for values in self.states.iter_mut().filter_map(State::values) {
            if !cleaning {
                slots.iter().for_each(|slot| values.expire(*slot));
            }
            values.flush(&self.keys, &self.store, &mut batch)?;
        }
        if !batch.is_empty() {
            self.end_chain();
        }
        self.store.write(batch)?;
        slots.iter().for_each(|slot| self.free(*slot));
        Ok(())
    }

    pub(super) fn free(&mut self, slot: u32) {
        let values = self.states.iter_mut().filter_map(State::values);
        if values.fold(false, |chained, v| v.drop_slot(slot) | chained) {
            self.begin_anew();
        }
        self.index.remove(slot);
        if let Some(used) = self.used.get_mut(slot as usize) {
            *used = 0;
        }
    }

    pub(super) fn cached_bytes(&self) -> u64 {
        let values = self.states.iter().map(|s| match s {
            State::Values(v) => v.bytes(),
            State::Entries(_) => 0,
        });
        self.index.bytes() + self.used.len() as u64 + values.sum::<u64>()
    }

    /// Bytes that a slot takes whatever is in it.
    pub(super) fn slot_bytes(&self) -> u64 {
        let values = self.states.iter().map(|s| match s {
            State::Values(v) => v.slot_bytes(),
            State::Entries(_) => 0,
        });
        1 + values.sum::<u64>()
    }

    /// How many slots must be given up, so that the next batches have room within the share.
    pub(super) fn excess(&self) -> usize {
        let share = self.store.shared().share();
        let each = self.slot_bytes();
        let fit = usize::try_from(share / (each + 32)).unwrap_or(usize::MAX);
        let room = (fit / 4).clamp(64, ROOM_MAX);
        let free = self.index.slots() - self.index.len();
        let used = self.cached_bytes();
        let grown = room.saturating_sub(free) as u64 * each;
        if used + grown + self.index.growth(room) <= share {
            return 0;
        }
        // What free slots have is not given back, but is there for the next keys.
        if used.saturating_sub(free as u64 * each) > share {
            return room;
        }
        if free >= room && self.index.growth(room) == 0 {
            return 0;
        }
        (2 * room).saturating_sub(free)
    }

    /// Slots that were not touched since the hand came by, at most so many.
    pub(super) fn victims(&mut self, count: usize, pinned: &dyn Fn(u32) -> bool) -> Vec<u32> {
        let slots = self.index.slots();
        let cleaning = self.is_cleaning();
        let mut victims = Vec::with_capacity(count.min(slots));
        // Once around takes the marks away, the second time finds what has none.
        for _ in 0..slots.saturating_mul(2) {
            if victims.len() >= count {
                break;
            }
            let slot = self.hand;
            self.hand = if (slot as usize + 1) < slots {
                slot + 1
            } else {
                0
            };
            // What came after the barrier must not reach the store before the cut.
            let waits = cleaning && self.is_fresh(slot);
            let Some(used) = self.used.get_mut(slot as usize) else {
                continue;
            };
            if *used & TOUCHED != 0 {
                *used = USED;
            } else if *used & USED != 0 && !waits && !pinned(slot) {
                // Not twice, where the hand comes round.
                *used = 0;
                victims.push(slot);
            }
        }
        victims
    }

    /// Takes some values away that have expired.
    pub(super) fn sweep(&mut self, pinned: &dyn Fn(u32) -> bool) {
        if !self.expires {
            return;
        }
        let most = self.index.slots().min(SWEPT + self.touched);
        self.touched = 0;
        for _ in 0..most {
            if self.swept as usize >= self.index.slots() {
                self.swept = 0;
            }
            let slot = self.swept;
            self.swept += 1;
            self.drop_if_vacant(slot, pinned);
        }
    }

    /// Takes values away that have expired, and the slot with them, if the store has nothing of it.
    pub(super) fn drop_if_vacant(&mut self, slot: u32, pinned: &dyn Fn(u32) -> bool) {
        if self.used.get(slot as usize).is_none_or(|u| *u == 0) || self.is_frozen(slot) {
            return;
        }
        let mut vacant = true;
        for values in self.states.iter_mut().filter_map(State::values) {
            values.expire(slot);
            vacant &= values.is_vacant(slot);
        }
        // What lies in the store needs no slot.
        if vacant && !pinned(slot) {
            self.free(slot);
        }
    }

    /// Asks the store for the size of its data, now and then.
    pub(super) fn measure(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps % MEASURED != 1 {
            return Ok(());
        }
        let mut stored = 0;
        for state in &self.states {
            stored += match state {
                State::Values(v) if !v.is_stored() => 0,
                State::Values(v) => self.store.live_bytes(v.family())?,
                State::Entries(e) => self.store.live_bytes(e.family())?,
            };
        }
        self.stored = stored;
        Ok(())
    }
}
