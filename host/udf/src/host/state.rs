//! `pelton:job/state`: what a function reads of its keys' state beside what was shipped, many keys a call.
//!
//! The engine lends its state to an instance for the time of one call; it lies in the store meanwhile. A guest that asks
//! for what is not there is told so; a backend that cannot read ends the call, and the task, with the backend's error.

use arrow_buffer::ScalarBuffer;
use pelton_engine::function::{Entries, Lent, Slots};
use pelton_model::graph::StateSpec;
use pelton_model::schema::Schema;
use pelton_model::{Error, ErrorCode, Result};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::admit::interface;
use crate::convert::lower::{FlatSlots, prefix};
use crate::convert::raise;
use crate::convert::reply::raise_slots;
use crate::convert::wire::{EntriesIn, ListsIn, SlotsOut, StateError};
use crate::sandbox::guest::State;
use crate::sandbox::limits::{Stopped, thread_cpu_ns};

/// Keys of a call from which on the time that it takes the host is not counted as the guest's: to ask the clock costs as
/// much as to read a few keys.
const TIMED_KEYS: usize = 16;

/// What an instance may read in the call at hand.
#[derive(Default)]
pub(crate) struct Reads {
    lent: Lent,
    specs: Vec<StateSpec>,
    /// Why the backend could not read.
    failed: Option<Error>,
}

type Answer<T> = std::result::Result<T, StateError>;

impl Reads {
    /// A call begins, whose function has these states.
    pub(crate) fn lend(&mut self, state: Lent, specs: &[StateSpec]) {
        self.lent = state;
        self.failed = None;
        if self.specs != specs {
            self.specs = specs.to_vec();
        }
    }

    /// The call has ended.
    pub(crate) fn give_back(&mut self) -> Lent {
        self.lent.take()
    }

    /// Why the backend could not read, if so.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    fn spec(&self, state: u32) -> Answer<&StateSpec> {
        self.specs
            .get(state as usize)
            .ok_or_else(|| StateError::Unknown(format!("there is no state {state}")))
    }

    fn map_key(&self, state: u32) -> Answer<Option<Schema>> {
        Ok(self.spec(state)?.map_key.clone())
    }

    /// Runs a read. What the reader refuses is the guest's fault, if it says so; else the task ends.
    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut dyn pelton_engine::function::StateReader) -> Result<T>,
    ) -> wasmtime::Result<Answer<T>> {
        let Some(reader) = &mut self.lent else {
            return Ok(Err(StateError::NoKey));
        };
        match read(reader.as_mut()) {
            Ok(value) => Ok(Ok(value)),
            Err(e) if e.code() == ErrorCode::BadReply => {
                Ok(Err(StateError::Invalid(e.message().to_owned())))
            }
            Err(e) => {
                let message = e.message().to_owned();
                self.failed = Some(e);
                Err(Stopped::Misuse(message).into())
            }
        }
    }
}

fn ordinals(bytes: Vec<u8>) -> Answer<ScalarBuffer<u32>> {
    let count = bytes.len() / 4;
    raise::scalars(bytes, count).map_err(|why| StateError::Invalid(format!("ordinals: {why}")))
}

/// Map keys as the guest passes them: as many as ordinals, all there.
fn map_keys(schema: &Schema, slots: SlotsOut, count: usize) -> Answer<Slots> {
    let slots = raise_slots(schema, slots, count, "map keys")
        .map_err(|e| StateError::Invalid(e.message().to_owned()))?;
    if slots
        .present
        .as_ref()
        .is_some_and(|p| p.count_set_bits() != p.len())
    {
        return Err(StateError::Invalid("a map key is missing".into()));
    }
    Ok(slots)
}

fn flat(schema: &Schema, slots: &Slots) -> Result<SlotsOut> {
    Ok(FlatSlots::new(schema, slots, slots.rows)?.owned())
}

fn entries(spec: &StateSpec, entries: &Entries) -> Result<EntriesIn> {
    let key = spec.map_key.clone().unwrap_or_default();
    let nothing = Schema::default();
    let schema = if entries.values.columns.is_empty() {
        &nothing
    } else {
        &spec.schema
    };
    Ok(EntriesIn {
        done: entries.counts.len() as u32,
        counts: prefix(&entries.counts, entries.counts.len())?.to_vec(),
        keys: flat(&key, &entries.keys)?,
        values: flat(schema, &entries.values)?,
    })
}

/// Flattens what was read. Errors are ours: the reader's answer does not fit its own schema.
fn lower<T, U>(
    answer: Answer<T>,
    lower: impl FnOnce(T) -> Result<U>,
) -> wasmtime::Result<Answer<U>> {
    match answer {
        Ok(value) => lower(value)
            .map(Ok)
            .map_err(|e| Stopped::Misuse(e.message().to_owned()).into()),
        Err(e) => Ok(Err(e)),
    }
}

/// Runs `body` with the call's reads, and takes the time that it takes off the guest's account.
fn timed<T>(
    mut store: StoreContextMut<'_, State>,
    keys: usize,
    body: impl FnOnce(&mut Reads) -> wasmtime::Result<T>,
) -> wasmtime::Result<(T,)> {
    let state = store.data_mut();
    let before = (keys >= TIMED_KEYS).then(thread_cpu_ns);
    let answer = body(&mut state.reads)?;
    if let Some(before) = before {
        let ns = thread_cpu_ns().saturating_sub(before);
        state.cpu.spent_by_host(ns);
    }
    Ok((answer,))
}

macro_rules! check {
    ($answer:expr) => {
        match $answer {
            Ok(value) => value,
            Err(e) => return Ok(Err(e)),
        }
    };
}

impl Reads {
    fn get_many(&mut self, state: u32, at: Vec<u8>) -> wasmtime::Result<Answer<SlotsOut>> {
        let schema = check!(self.spec(state)).schema.clone();
        let at = check!(ordinals(at));
        let read = self.read(|r| r.values(state, &at))?;
        lower(read, |slots| flat(&schema, &slots))
    }

    fn list_get_many(
        &mut self,
        state: u32,
        at: Vec<u8>,
        keys: Option<SlotsOut>,
    ) -> wasmtime::Result<Answer<ListsIn>> {
        let at = check!(ordinals(at));
        let keys = match (check!(self.map_key(state)), keys) {
            (Some(schema), Some(keys)) => Some(check!(map_keys(&schema, keys, at.len()))),
            (None, None) => None,
            _ => {
                let why = "map keys belong to a state that has them, and to no other";
                return Ok(Err(StateError::Invalid(why.into())));
            }
        };
        let schema = check!(self.spec(state)).schema.clone();
        let read = self.read(|r| r.lists(state, &at, keys.as_ref()))?;
        lower(read, |lists| {
            Ok(ListsIn {
                done: lists.lengths.len() as u32,
                lengths: prefix(&lists.lengths, lists.lengths.len())?.to_vec(),
                values: flat(&schema, &lists.values)?,
            })
        })
    }

    fn map_get_many(
        &mut self,
        state: u32,
        at: Vec<u8>,
        keys: SlotsOut,
    ) -> wasmtime::Result<Answer<SlotsOut>> {
        let at = check!(ordinals(at));
        let spec = check!(self.spec(state)).clone();
        let Some(key) = &spec.map_key else {
            return Ok(Err(StateError::Unknown(format!("state {state} is no map"))));
        };
        let keys = check!(map_keys(key, keys, at.len()));
        let read = self.read(|r| r.map_values(state, &at, &keys))?;
        lower(read, |slots| flat(&spec.schema, &slots))
    }

    fn map_entries_many(
        &mut self,
        state: u32,
        at: Vec<u8>,
        bytes_max: u64,
    ) -> wasmtime::Result<Answer<EntriesIn>> {
        let at = check!(ordinals(at));
        let spec = check!(self.spec(state)).clone();
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let read = self.read(|r| r.maps(state, &at, bytes_max))?;
        lower(read, |found| entries(&spec, &found))
    }

    fn map_scan(
        &mut self,
        state: u32,
        ordinal: u32,
        after: Option<SlotsOut>,
        limit: u32,
    ) -> wasmtime::Result<Answer<EntriesIn>> {
        let spec = check!(self.spec(state)).clone();
        let Some(key) = &spec.map_key else {
            return Ok(Err(StateError::Unknown(format!("state {state} is no map"))));
        };
        let after = match after {
            Some(slots) => Some(check!(map_keys(key, slots, 1))),
            None => None,
        };
        let read = self.read(|r| r.scan(state, ordinal, after.as_ref(), limit as usize))?;
        lower(read, |found| entries(&spec, &found))
    }
}

/// Links the interface.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut state = linker.instance(&interface("state"))?;
    state.func_wrap(
        "get-many",
        |store: StoreContextMut<'_, State>, (state, at): (u32, Vec<u8>)| {
            timed(store, at.len() / 4, |r| r.get_many(state, at))
        },
    )?;
    state.func_wrap(
        "list-get-many",
        |store: StoreContextMut<'_, State>, (state, at, keys): (u32, Vec<u8>, Option<SlotsOut>)| {
            timed(store, at.len() / 4, |r| r.list_get_many(state, at, keys))
        },
    )?;
    state.func_wrap(
        "map-get-many",
        |store: StoreContextMut<'_, State>, (state, at, keys): (u32, Vec<u8>, SlotsOut)| {
            timed(store, at.len() / 4, |r| r.map_get_many(state, at, keys))
        },
    )?;
    state.func_wrap(
        "map-entries-many",
        |store: StoreContextMut<'_, State>, (state, at, bytes): (u32, Vec<u8>, u64)| {
            timed(store, at.len() / 4, |r| {
                r.map_entries_many(state, at, bytes)
            })
        },
    )?;
    state.func_wrap(
        "map-scan",
        |store: StoreContextMut<'_, State>,
         (state, ordinal, after, limit): (u32, u32, Option<SlotsOut>, u32)| {
            timed(store, limit as usize, |r| {
                r.map_scan(state, ordinal, after, limit)
            })
        },
    )
}
