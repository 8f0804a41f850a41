//! The state of a harness's function: all kinds of it, in plain maps. Nothing expires here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::columns::{concat, encoded, pack};
use super::words;
use crate::column::to_bytes;
use crate::gather::gather;
use crate::runtime::{
    Column, Entries, Lists, Slots, State, StateChange, StateError, StateKind, StateReads,
};
use crate::value::{Schema, top_fields};

/// One row of columns.
type Row = Vec<Column>;

/// What is under one key in one state.
#[derive(Default)]
struct Held {
    value: Option<Row>,
    list: Vec<Row>,
    /// By the encoding of the map key: the map key, and the entry's value or the list under it.
    map: BTreeMap<Vec<u8>, (Row, Vec<Row>)>,
}

/// The state of all keys, by their encoding; that of the operator stands under no bytes.
pub(super) struct Store {
    states: Vec<State>,
    keys: BTreeMap<Vec<u8>, Vec<Held>>,
}

impl Store {
    pub(super) fn new(states: &[State]) -> Self {
        Self {
            states: states.to_vec(),
            keys: BTreeMap::new(),
        }
    }

    fn held(&self, key: &[u8], state: usize) -> Option<&Held> {
        self.keys.get(key)?.get(state)
    }

    fn held_mut(&mut self, key: &[u8], state: usize) -> Option<&mut Held> {
        let states = self.states.len();
        let all = self.keys.entry(key.to_vec()).or_default();
        all.resize_with(states, Held::default);
        all.get_mut(state)
    }

    fn is_operator(&self, state: usize) -> bool {
        self.states.get(state).is_some_and(|s| {
            matches!(
                s.kind,
                StateKind::Broadcast | StateKind::OperatorList | StateKind::UnionList
            )
        })
    }

    /// The values of each eager state under these keys.
    pub(super) fn shipped(&self, keys: &[Vec<u8>]) -> Vec<Slots> {
        let eager = self.states.iter().enumerate().filter(|(_, s)| !s.lazy);
        eager
            .map(|(number, state)| self.values(number, &state.schema, keys))
            .collect()
    }

    fn values(&self, state: usize, schema: &Schema, keys: &[Vec<u8>]) -> Slots {
        let rows = keys
            .iter()
            .map(|key| self.held(key, state).and_then(|h| h.value.as_ref()));
        slots(schema, &rows.collect::<Vec<_>>())
    }

    /// Applies what a call has changed; `keys` are the call's.
    pub(super) fn apply(&mut self, keys: &[Vec<u8>], changes: Vec<StateChange>) {
        for change in changes {
            let number = change.state as usize;
            let Some(state) = self.states.get(number).cloned() else {
                continue;
            };
            let mut values = (0u32..).map(|row| one(&state.schema, &change.values.columns, row));
            for (key, mark) in keys.iter().zip(&change.marks) {
                if let (1 | 2, Some(held)) = (*mark, self.held_mut(key, number)) {
                    held.value = (*mark == 1).then(|| values.next()).flatten();
                }
            }
            let ordinals = words(&change.ordinals);
            for ((i, change_of), ordinal) in (0u32..).zip(&change.changes).zip(ordinals) {
                let key = match self.is_operator(number) {
                    true => Vec::new(),
                    false => keys.get(ordinal as usize).cloned().unwrap_or_default(),
                };
                let map_key = match (&state.map_key, &change.map_keys) {
                    (Some(schema), Some(slots)) if *change_of != 2 => {
                        let row = one(schema, &slots.columns, i);
                        Some((encoded(schema, &row, 0), row))
                    }
                    _ => None,
                };
                let value = (*change_of == 0).then(|| values.next()).flatten();
                if let Some(held) = self.held_mut(&key, number) {
                    held.change(state.kind, map_key, value, *change_of);
                }
            }
        }
        self.keys
            .retain(|_, states| states.iter().any(|held| !held.is_empty()));
    }

    /// The value of a state under a key.
    pub(super) fn value(&self, name: &str, key: &[u8]) -> Option<&Row> {
        self.held(key, self.number(name)?)?.value.as_ref()
    }

    /// Puts a value of a state under a key.
    pub(super) fn put(&mut self, name: &str, key: &[u8], value: Row) {
        let held = self.number(name).and_then(|n| self.held_mut(key, n));
        if let Some(held) = held {
            held.value = Some(value);
        }
    }

    /// Appends a value to a list under a key, or puts it under a map key.
    pub(super) fn put_entry(&mut self, name: &str, key: &[u8], map_key: Option<Row>, value: Row) {
        let Some(number) = self.number(name) else {
            return;
        };
        let Some(state) = self.states.get(number).cloned() else {
            return;
        };
        let map_key = map_key.zip(state.map_key.as_ref());
        let map_key = map_key.map(|(row, schema)| (encoded(schema, &row, 0), row));
        if let Some(held) = self.held_mut(key, number) {
            held.change(state.kind, map_key, Some(value), 0);
        }
    }

    /// The values of a list under a key, or of an operator's list.
    pub(super) fn list(&self, name: &str, key: &[u8]) -> Vec<Row> {
        let held = self.number(name).and_then(|number| {
            let key = if self.is_operator(number) { &[] } else { key };
            self.held(key, number)
        });
        held.map(|h| h.list.clone()).unwrap_or_default()
    }

    /// The entries of a map under a key, or of a broadcast map; the values of a map of lists.
    pub(super) fn entries(&self, name: &str, key: &[u8]) -> Vec<(Row, Vec<Row>)> {
        let held = self.number(name).and_then(|number| {
            let key = if self.is_operator(number) { &[] } else { key };
            self.held(key, number)
        });
        held.map(|h| h.map.values().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.states.iter().position(|s| s.name == name)
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.value.is_none() && self.list.is_empty() && self.map.is_empty()
    }

    fn change(
        &mut self,
        kind: StateKind,
        map_key: Option<(Vec<u8>, Row)>,
        value: Option<Row>,
        change: u8,
    ) {
        match (change, map_key, value) {
            (0, Some((bytes, map_key)), Some(value)) => {
                let entry = self.map.entry(bytes).or_insert((map_key, Vec::new()));
                if matches!(kind, StateKind::Map | StateKind::Broadcast) {
                    entry.1.clear();
                }
                entry.1.push(value);
            }
            (0, None, Some(value)) => self.list.push(value),
            (1, Some((bytes, _)), _) => {
                self.map.remove(&bytes);
            }
            _ => {
                self.list.clear();
                self.map.clear();
            }
        }
    }
}

/// A row of columns.
fn one(schema: &Schema, columns: &[Column], row: u32) -> Row {
    let mut out = Vec::new();
    let mut columns = columns.iter();
    for (_, nodes) in top_fields(schema) {
        gather(nodes, &mut columns, &[row], &mut out);
    }
    out
}

/// Rows that may be missing.
fn slots(schema: &Schema, rows: &[Option<&Row>]) -> Slots {
    let blank = Vec::new();
    let parts: Vec<_> = rows
        .iter()
        .map(|r| (r.unwrap_or(&blank).as_slice(), 1))
        .collect();
    Slots {
        rows: rows.len() as u32,
        present: Some(pack(rows.iter().map(Option::is_some))),
        columns: concat(schema, &parts),
    }
}

/// Answers a call's reads.
pub(super) struct Reads {
    pub(super) store: Rc<RefCell<Store>>,
    pub(super) keys: Vec<Vec<u8>>,
}

/// Keys of which one answer has lists or maps: few, so that a test sees how the others are asked for again.
const KEYS_AT_ONCE: usize = 3;

impl Reads {
    fn spec(&self, state: u32) -> Result<State, StateError> {
        let store = self.store.borrow();
        let unknown = || StateError::Unknown(format!("there is no state {state}"));
        store
            .states
            .get(state as usize)
            .cloned()
            .ok_or_else(unknown)
    }

    fn key(&self, state: u32, ordinal: u32) -> Result<Vec<u8>, StateError> {
        if self.store.borrow().is_operator(state as usize) {
            return match ordinal {
                0 => Ok(Vec::new()),
                _ => Err(StateError::Invalid("operator state has one ordinal".into())),
            };
        }
        let invalid = || StateError::Invalid(format!("ordinal {ordinal} is not of the call"));
        self.keys.get(ordinal as usize).cloned().ok_or_else(invalid)
    }

    fn keys(&self, state: u32, ordinals: &[u8]) -> Result<Vec<Vec<u8>>, StateError> {
        let ordinals = words(ordinals).into_iter();
        ordinals.map(|o| self.key(state, o)).collect()
    }
}

fn map_key_schema(state: &State) -> Result<&Schema, StateError> {
    let none = || StateError::Unknown(format!("state '{}' has no map keys", state.name));
    state.map_key.as_ref().ok_or_else(none)
}

impl StateReads for Reads {
    fn get_many(&mut self, state: u32, ordinals: &[u8]) -> Result<Slots, StateError> {
        let spec = self.spec(state)?;
        if !spec.lazy {
            return Err(StateError::Unknown(format!("'{}' is not lazy", spec.name)));
        }
        let keys = self.keys(state, ordinals)?;
        Ok(self
            .store
            .borrow()
            .values(state as usize, &spec.schema, &keys))
    }

    fn list_get_many(
        &mut self,
        state: u32,
        ordinals: &[u8],
        map_keys: Option<Slots>,
    ) -> Result<Lists, StateError> {
        let spec = self.spec(state)?;
        let (mut lengths, mut rows) = (Vec::new(), Vec::new());
        let keys = self.keys(state, ordinals)?;
        let store = self.store.borrow();
        for (i, key) in (0u32..).zip(keys.iter().take(KEYS_AT_ONCE)) {
            let held = store.held(key, state as usize);
            let list = match &map_keys {
                Some(slots) => {
                    let schema = map_key_schema(&spec)?;
                    let bytes = encoded(schema, &one(schema, &slots.columns, i), 0);
                    held.and_then(|h| h.map.get(&bytes)).map(|e| &e.1)
                }
                None => held.map(|h| &h.list),
            };
            let list = list.map(Vec::as_slice).unwrap_or(&[]);
            lengths.push(list.len() as u32);
            rows.extend(list.iter().map(Some));
        }
        Ok(Lists {
            done: lengths.len() as u32,
            lengths: to_bytes(lengths),
            values: slots(&spec.schema, &rows),
        })
    }

    fn map_get_many(
        &mut self,
        state: u32,
        ordinals: &[u8],
        map_keys: Slots,
    ) -> Result<Slots, StateError> {
        let spec = self.spec(state)?;
        let schema = map_key_schema(&spec)?;
        let keys = self.keys(state, ordinals)?;
        let store = self.store.borrow();
        let rows = (0u32..).zip(&keys).map(|(i, key)| {
            let bytes = encoded(schema, &one(schema, &map_keys.columns, i), 0);
            let held = store.held(key, state as usize)?;
            held.map.get(&bytes)?.1.first()
        });
        Ok(slots(&spec.schema, &rows.collect::<Vec<_>>()))
    }

    fn map_entries_many(
        &mut self,
        state: u32,
        ordinals: &[u8],
        bytes_max: u64,
    ) -> Result<Entries, StateError> {
        let spec = self.spec(state)?;
        let schema = map_key_schema(&spec)?;
        let keys = self.keys(state, ordinals)?;
        let store = self.store.borrow();
        let (mut counts, mut names, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys.iter().take(KEYS_AT_ONCE) {
            let entries = store.held(key, state as usize).map(|h| &h.map);
            let entries: Vec<_> = entries.into_iter().flatten().collect();
            let bytes: usize = entries.iter().map(|(k, _)| k.len() + 8).sum();
            if bytes as u64 > bytes_max {
                counts.push(u32::MAX);
                continue;
            }
            counts.push(entries.len() as u32);
            for (_, (name, value)) in entries {
                names.push(Some(name));
                values.push(value.first());
            }
        }
        Ok(Entries {
            done: counts.len() as u32,
            counts: to_bytes(counts),
            keys: slots(schema, &names),
            values: slots(&spec.schema, &values),
        })
    }

    fn map_scan(
        &mut self,
        state: u32,
        ordinal: u32,
        after: Option<Slots>,
        limit: u32,
    ) -> Result<Entries, StateError> {
        let spec = self.spec(state)?;
        let schema = map_key_schema(&spec)?;
        let key = self.key(state, ordinal)?;
        let after = after.map(|slots| encoded(schema, &one(schema, &slots.columns, 0), 0));
        let store = self.store.borrow();
        let held = store.held(&key, state as usize);
        let entries = held.into_iter().flat_map(|h| &h.map);
        let entries = entries.filter(|(bytes, _)| after.as_ref().is_none_or(|a| *bytes > a));
        let entries: Vec<_> = entries.take(limit as usize).map(|(_, e)| e).collect();
        let names: Vec<_> = entries.iter().map(|e| Some(&e.0)).collect();
        let values: Vec<_> = entries.iter().map(|e| e.1.first()).collect();
        let is_map = spec.kind != StateKind::Sequence;
        Ok(Entries {
            done: 1,
            counts: to_bytes([entries.len() as u32]),
            keys: slots(schema, &names),
            values: if is_map {
                slots(&spec.schema, &values)
            } else {
                Slots {
                    rows: entries.len() as u32,
                    present: None,
                    columns: Vec::new(),
                }
            },
        })
    }
}
