//! What native functions read of their keys' state, from the engine's reader: the counterpart of the host's interface.

use std::cell::RefCell;
use std::rc::Rc;

use arrow_buffer::ToByteSlice;
use pelton::runtime::{
    Entries as GuestEntries, Lists as GuestLists, Slots as GuestSlots, StateError, StateReads,
    lend_state,
};
use pelton_engine::function::{Entries, Lent, Slots, StateReader};
use pelton_model::graph::StateSpec;
use pelton_model::{Error, Result};

use super::native::{lower_slots, raise_slots, scalars};

/// Lends state to a call in this thread.
pub(super) fn lending<T>(
    state: &mut Lent,
    specs: &[StateSpec],
    call: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let shared = Rc::new(RefCell::new(state.take()));
    let reads = Reads {
        lent: Rc::clone(&shared),
        specs: specs.to_vec(),
    };
    lend_state(Some(Box::new(reads)));
    let answer = call();
    lend_state(None);
    *state = shared.take();
    answer
}

struct Reads {
    lent: Rc<RefCell<Lent>>,
    specs: Vec<StateSpec>,
}

type Answer<T> = std::result::Result<T, StateError>;

fn wrong(e: &Error) -> StateError {
    StateError::Invalid(e.message().to_owned())
}

impl Reads {
    fn read<T>(&self, read: impl FnOnce(&mut dyn StateReader) -> Result<T>) -> Answer<T> {
        match self.lent.borrow_mut().as_mut() {
            Some(reader) => read(reader.as_mut()).map_err(|e| wrong(&e)),
            None => Err(StateError::NoKey),
        }
    }

    fn map_keys(&self, state: u32, slots: GuestSlots) -> Result<Slots> {
        let spec = self.specs.get(state as usize);
        let schema = spec.and_then(|s| s.map_key.as_ref());
        raise_slots(
            schema.ok_or_else(|| Error::bug("a state without map keys"))?,
            slots,
        )
    }
}

fn ordinals(bytes: &[u8]) -> Result<Vec<u32>> {
    Ok(scalars::<u32>(bytes.to_vec(), bytes.len() / 4)?.to_vec())
}

fn entries(found: &Entries) -> Result<GuestEntries> {
    Ok(GuestEntries {
        done: found.counts.len() as u32,
        counts: found.counts.to_byte_slice().to_vec(),
        keys: lower_slots(&found.keys)?,
        values: lower_slots(&found.values)?,
    })
}

impl StateReads for Reads {
    fn get_many(&mut self, state: u32, at: &[u8]) -> Answer<GuestSlots> {
        self.read(|r| lower_slots(&r.values(state, &ordinals(at)?)?))
    }

    fn list_get_many(
        &mut self,
        state: u32,
        at: &[u8],
        keys: Option<GuestSlots>,
    ) -> Answer<GuestLists> {
        let keys = keys.map(|k| self.map_keys(state, k)).transpose();
        self.read(|r| {
            let found = r.lists(state, &ordinals(at)?, keys?.as_ref())?;
            Ok(GuestLists {
                done: found.lengths.len() as u32,
                lengths: found.lengths.to_byte_slice().to_vec(),
                values: lower_slots(&found.values)?,
            })
        })
    }

    fn map_get_many(&mut self, state: u32, at: &[u8], keys: GuestSlots) -> Answer<GuestSlots> {
        let keys = self.map_keys(state, keys);
        self.read(|r| lower_slots(&r.map_values(state, &ordinals(at)?, &keys?)?))
    }

    fn map_entries_many(&mut self, state: u32, at: &[u8], bytes: u64) -> Answer<GuestEntries> {
        self.read(|r| {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            entries(&r.maps(state, &ordinals(at)?, bytes)?)
        })
    }

    fn map_scan(
        &mut self,
        state: u32,
        ordinal: u32,
        after: Option<GuestSlots>,
        limit: u32,
    ) -> Answer<GuestEntries> {
        let after = after.map(|k| self.map_keys(state, k)).transpose();
        self.read(|r| entries(&r.scan(state, ordinal, after?.as_ref(), limit as usize)?))
    }
}
