//! State in memory.

use arrow_array::ArrayRef;
use pelton_model::graph::StateSpec;
use pelton_model::schema::Field;
use pelton_model::{Error, ErrorCode, Result};

use super::{KeyIndex, KeyedState, StateTime, Touched, ValueStore};
use crate::function::{Entries, Lists, Slots, StateChange};

/// State in memory: an index of keys, and for each state its values by slot.
#[derive(Debug)]
pub struct HeapState {
    index: KeyIndex,
    states: Vec<ValueStore>,
}

impl HeapState {
    /// No keys yet.
    #[must_use]
    pub fn new(key: Vec<Field>, states: &[StateSpec]) -> Self {
        Self {
            index: KeyIndex::new(key, 0),
            states: states.iter().map(|s| ValueStore::new(&s.schema)).collect(),
        }
    }
}

fn unserved<T>() -> Result<T> {
    Err(Error::new(
        ErrorCode::BadReply,
        "a state is read as one of another kind",
    ))
}

impl KeyedState for HeapState {
    fn at(&mut self, _time: StateTime) {}

    fn touch(&mut self, key: &[ArrayRef], rows: usize, touched: &mut Touched) -> Result<()> {
        self.index.touch(key, rows, touched)
    }

    fn keys(&self, slots: &[u32]) -> Result<Slots> {
        Ok(Slots {
            rows: slots.len(),
            present: None,
            columns: self.index.columns(slots)?,
        })
    }

    fn affordable(&self, slots: &[u32], bytes: usize) -> usize {
        let mut sum = 0;
        let fits = |slot: &&u32| {
            sum += self.states.iter().map(|s| s.size_of(**slot)).sum::<usize>();
            sum <= bytes
        };
        slots
            .iter()
            .take_while(fits)
            .count()
            .max(1)
            .min(slots.len())
    }

    fn read(&mut self, slots: &[u32]) -> Result<Vec<Slots>> {
        self.states.iter().map(|s| s.gather(slots)).collect()
    }

    fn values(&mut self, _state: u32, _slots: &[u32]) -> Result<Slots> {
        unserved()
    }

    fn lists(
        &mut self,
        _state: u32,
        _slots: &[u32],
        _map_keys: Option<&Slots>,
        _bytes: usize,
    ) -> Result<Lists> {
        unserved()
    }

    fn map_values(&mut self, _state: u32, _slots: &[u32], _map_keys: &Slots) -> Result<Slots> {
        unserved()
    }

    fn maps(
        &mut self,
        _state: u32,
        _slots: &[u32],
        _each_max: usize,
        _bytes: usize,
    ) -> Result<Entries> {
        unserved()
    }

    fn scan(
        &mut self,
        _state: u32,
        _slot: u32,
        _after: Option<&Slots>,
        _limit: usize,
    ) -> Result<Entries> {
        unserved()
    }

    fn tidy(&mut self, _pinned: &dyn Fn(u32) -> bool) -> Result<()> {
        Ok(())
    }

    fn largest(&mut self, _count: usize) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    fn write(&mut self, slots: &[u32], changes: &[StateChange]) -> Result<()> {
        for change in changes {
            let state = self.states.get_mut(change.state as usize);
            let state = state.ok_or_else(|| {
                Error::new(
                    ErrorCode::BadReply,
                    "a change names a state that is not there",
                )
            })?;
            state.scatter(slots, &change.marks, &change.values)?;
        }
        Ok(())
    }

    fn forget(&mut self, slots: &[u32], pinned: &dyn Fn(u32) -> bool) {
        for slot in slots {
            if !self.states.iter().any(|s| s.has(*slot)) && !pinned(*slot) {
                self.index.remove(*slot);
            }
        }
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn bytes(&self) -> u64 {
        self.index.bytes() + self.states.iter().map(ValueStore::bytes).sum::<u64>()
    }
}
