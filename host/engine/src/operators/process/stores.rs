//! The states of a function: those of its keys, and those of its task; lent to each call.
//!
//! Keyed state is in the job's backend. State of the operator is small and always in memory, under one slot. A function
//! names its states by their place in the declaration over both.

use std::any::Any;

use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::limits::Limits;
use pelton_model::{Error, ErrorCode, Result};

use super::SHIPPED_BYTES_MAX;
use crate::function::{Entries, Lent, Lists, Slots, StateChange, StateReader};
use crate::state::{HeapState, KeyedState, Touched, ValueStore, check_keyed};

/// How the rows of an input stand to state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Each has a key.
    Keyed,
    /// None has: only state of the operator is there.
    Unkeyed,
    /// They come to all tasks: only broadcast state may change.
    Broadcast,
}

/// Where a state is: which of its store.
#[derive(Clone, Copy, Debug)]
struct Place {
    kind: StateKind,
    index: u32,
}

/// All states of a function, and the keys of the call at hand.
pub(super) struct Stores {
    pub(super) keyed: Box<dyn KeyedState>,
    pub(super) operator: HeapState,
    /// By declaration.
    places: Vec<Place>,
    /// The slots of the call's keys; of keyed states, by ordinal.
    pub(super) slots: Vec<u32>,
    /// The one slot of the operator's states.
    own: [u32; 1],
    /// One empty value of each eager state.
    absent: Vec<Slots>,
    scratch: Vec<u32>,
}

/// States of keys and states of the operator, each in the order of declaration.
pub(super) fn split(states: &[StateSpec]) -> (Vec<StateSpec>, Vec<StateSpec>) {
    states.iter().cloned().partition(|s| !s.kind.is_operator())
}

impl Stores {
    /// `keyed` has the keyed ones of `states`.
    pub(super) fn new(states: &[StateSpec], keyed: Box<dyn KeyedState>) -> Result<Self> {
        let mut operator = HeapState::new(Vec::new(), &split(states).1, 1);
        let mut touched = Touched::default();
        operator.touch(&[], 1, &mut touched)?;
        let own = *touched
            .slots
            .first()
            .ok_or_else(|| Error::bug("the state of an operator has no slot"))?;
        let (mut of_keys, mut of_operator) = (0, 0);
        let place = |s: &StateSpec| {
            let next = if s.kind.is_operator() {
                &mut of_operator
            } else {
                &mut of_keys
            };
            *next += 1;
            Place {
                kind: s.kind,
                index: *next - 1,
            }
        };
        let eager = states.iter().filter(|s| s.is_eager());
        Ok(Self {
            keyed,
            operator,
            places: states.iter().map(place).collect(),
            slots: Vec::new(),
            own: [own],
            absent: eager
                .map(|s| ValueStore::new(&s.schema).gather(&[0]))
                .collect::<Result<_>>()?,
            scratch: Vec::new(),
        })
    }

    /// The values of eager states, for a call without keys: so many empty ones of each.
    pub(super) fn nothing(&self, rows: usize) -> Vec<Slots> {
        let cut = |s: &Slots| Slots {
            rows,
            present: s.present.as_ref().map(|p| p.slice(0, rows)),
            columns: s.columns.iter().map(|c| c.slice(0, rows)).collect(),
        };
        self.absent.iter().map(cut).collect()
    }

    /// What a call has changed takes effect. Errors: `BadReply` where it may not, or does not fit.
    pub(super) fn write(&mut self, way: Way, mut changes: Vec<StateChange>) -> Result<()> {
        let mut of_operator = Vec::new();
        let mut denied = None;
        changes.retain_mut(|change| {
            let Some(place) = self.places.get(change.state as usize) else {
                denied = Some("a change names a state that is not there");
                return false;
            };
            let nothing = change.entries.is_none() && change.marks.iter().all(|m| *m == 0);
            if nothing && (way != Way::Keyed || place.kind.is_operator()) {
                return false;
            }
            denied = denied.or(refusal(way, place.kind));
            change.state = place.index;
            if place.kind.is_operator() {
                of_operator.push(change.clone());
            }
            !place.kind.is_operator()
        });
        if let Some(why) = denied {
            return Err(Error::new(ErrorCode::BadReply, why));
        }
        self.keyed.write(&self.slots, &changes)?;
        self.operator.write(&self.own, &of_operator)
    }

    /// Refuses state beyond the limit; `more` are bytes that belong to it and lie elsewhere.
    pub(super) fn check(&mut self, more: u64, limits: &Limits) -> Result<()> {
        check_keyed(self.keyed.as_mut(), more + self.operator.bytes(), limits)
    }

    /// Runs a call that may read these states.
    pub(super) fn lend<T>(
        home: &mut Option<Box<Self>>,
        call: impl FnOnce(&mut Lent) -> Result<T>,
    ) -> Result<T> {
        let mut lent: Lent = home.take().map(|s| s as Box<dyn StateReader>);
        let answer = call(&mut lent)?;
        let back = lent.and_then(|s| s.into_any().downcast::<Self>().ok());
        *home = Some(back.ok_or_else(|| Error::bug("a call did not give back the state"))?);
        Ok(answer)
    }

    /// The store that has a state, its number there, and the slots of ordinals.
    fn at(&mut self, state: u32, ordinals: &[u32]) -> Result<(&mut dyn KeyedState, u32, &[u32])> {
        let refuse = |why: &str| Error::new(ErrorCode::BadReply, why.to_owned());
        let place = self.places.get(state as usize);
        let place = *place.ok_or_else(|| refuse("a state that is not there"))?;
        let operator = place.kind.is_operator();
        let slots: &[u32] = if operator { &self.own } else { &self.slots };
        self.scratch.clear();
        for ordinal in ordinals {
            let slot = slots.get(*ordinal as usize);
            let slot = slot.ok_or_else(|| refuse("an ordinal that is not of the call"))?;
            self.scratch.push(*slot);
        }
        let store = if operator {
            &mut self.operator as &mut dyn KeyedState
        } else {
            self.keyed.as_mut()
        };
        Ok((store, place.index, &self.scratch))
    }
}

/// Why rows of an input may not change a state of this kind, if so.
fn refusal(way: Way, kind: StateKind) -> Option<&'static str> {
    match way {
        Way::Broadcast if kind != StateKind::Broadcast => {
            Some("rows of a broadcast input change another state than broadcast state")
        }
        Way::Keyed | Way::Unkeyed if kind == StateKind::Broadcast => {
            Some("broadcast state is changed by rows that are not broadcast")
        }
        Way::Unkeyed if !kind.is_operator() => Some("rows without a key change keyed state"),
        _ => None,
    }
}

impl StateReader for Stores {
    fn values(&mut self, state: u32, ordinals: &[u32]) -> Result<Slots> {
        let (store, state, slots) = self.at(state, ordinals)?;
        store.values(state, slots)
    }

    fn lists(&mut self, state: u32, ordinals: &[u32], map_keys: Option<&Slots>) -> Result<Lists> {
        let (store, state, slots) = self.at(state, ordinals)?;
        store.lists(state, slots, map_keys, SHIPPED_BYTES_MAX)
    }

    fn map_values(&mut self, state: u32, ordinals: &[u32], map_keys: &Slots) -> Result<Slots> {
        let (store, state, slots) = self.at(state, ordinals)?;
        store.map_values(state, slots, map_keys)
    }

    fn maps(&mut self, state: u32, ordinals: &[u32], bytes_max: usize) -> Result<Entries> {
        let (store, state, slots) = self.at(state, ordinals)?;
        let each_max = bytes_max.min(SHIPPED_BYTES_MAX);
        store.maps(state, slots, each_max, SHIPPED_BYTES_MAX)
    }

    fn scan(
        &mut self,
        state: u32,
        ordinal: u32,
        after: Option<&Slots>,
        limit: usize,
    ) -> Result<Entries> {
        let (store, state, slots) = self.at(state, &[ordinal])?;
        let slot = slots.first().copied().unwrap_or_default();
        store.scan(state, slot, after, limit)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
