//! What functions ask of the host: log lines, metrics, state. Natively, lines and metrics are kept for a test to look at, and
//! state is read from what [`lend_state`] was given.

pub use crate::bindings::pelton::job::log::Level;
pub(crate) use crate::bindings::pelton::job::metrics::Kind;

/// Reads of state, as in `wit/state.wit`: ordinals are 4 bytes each.
#[cfg(target_family = "wasm")]
pub(crate) mod state {
    use crate::bindings::pelton::job::state::{self, Entries, Lists, StateError};
    use crate::bindings::pelton::job::types::Slots;

    pub(crate) fn get_many(state: u32, ordinals: &[u8]) -> Result<Slots, StateError> {
        state::get_many(state, ordinals)
    }
    pub(crate) fn list_get_many(
        state: u32,
        ordinals: &[u8],
        map_keys: Option<Slots>,
    ) -> Result<Lists, StateError> {
        state::list_get_many(state, ordinals, map_keys.as_ref())
    }
    pub(crate) fn map_get_many(
        state: u32,
        ordinals: &[u8],
        map_keys: Slots,
    ) -> Result<Slots, StateError> {
        state::map_get_many(state, ordinals, &map_keys)
    }
    pub(crate) fn map_entries_many(
        state: u32,
        ordinals: &[u8],
        bytes_max: u64,
    ) -> Result<Entries, StateError> {
        state::map_entries_many(state, ordinals, bytes_max)
    }
    pub(crate) fn map_scan(
        state: u32,
        ordinal: u32,
        after: Option<Slots>,
        limit: u32,
    ) -> Result<Entries, StateError> {
        state::map_scan(state, ordinal, after.as_ref(), limit)
    }
}

/// Reads of state, by what was lent.
#[cfg(not(target_family = "wasm"))]
pub(crate) mod state {
    use std::cell::RefCell;

    use crate::bindings::pelton::job::state::{Entries, Lists, StateError};
    use crate::bindings::pelton::job::types::Slots;

    /// What answers reads of state in this process; see `wit/state.wit`. Ordinals are 4 bytes each.
    pub trait StateReads {
        /// The values of a lazy state.
        fn get_many(&mut self, state: u32, ordinals: &[u8]) -> Result<Slots, StateError>;
        /// Lists.
        fn list_get_many(
            &mut self,
            state: u32,
            ordinals: &[u8],
            map_keys: Option<Slots>,
        ) -> Result<Lists, StateError>;
        /// Values under map keys.
        fn map_get_many(
            &mut self,
            state: u32,
            ordinals: &[u8],
            map_keys: Slots,
        ) -> Result<Slots, StateError>;
        /// Whole maps.
        fn map_entries_many(
            &mut self,
            state: u32,
            ordinals: &[u8],
            bytes_max: u64,
        ) -> Result<Entries, StateError>;
        /// A page of a map.
        fn map_scan(
            &mut self,
            state: u32,
            ordinal: u32,
            after: Option<Slots>,
            limit: u32,
        ) -> Result<Entries, StateError>;
    }

    thread_local! {
        static LENT: RefCell<Option<Box<dyn StateReads>>> = const { RefCell::new(None) };
    }

    /// Lends state to the calls of this thread; answers what was lent before.
    pub fn lend_state(reads: Option<Box<dyn StateReads>>) -> Option<Box<dyn StateReads>> {
        LENT.replace(reads)
    }

    fn ask<T>(
        ask: impl FnOnce(&mut dyn StateReads) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        LENT.with_borrow_mut(|lent| match lent {
            Some(reads) => ask(reads.as_mut()),
            None => Err(StateError::NoKey),
        })
    }

    pub(crate) fn get_many(state: u32, ordinals: &[u8]) -> Result<Slots, StateError> {
        ask(|r| r.get_many(state, ordinals))
    }
    pub(crate) fn list_get_many(
        state: u32,
        ordinals: &[u8],
        map_keys: Option<Slots>,
    ) -> Result<Lists, StateError> {
        ask(|r| r.list_get_many(state, ordinals, map_keys))
    }
    pub(crate) fn map_get_many(
        state: u32,
        ordinals: &[u8],
        map_keys: Slots,
    ) -> Result<Slots, StateError> {
        ask(|r| r.map_get_many(state, ordinals, map_keys))
    }
    pub(crate) fn map_entries_many(
        state: u32,
        ordinals: &[u8],
        bytes_max: u64,
    ) -> Result<Entries, StateError> {
        ask(|r| r.map_entries_many(state, ordinals, bytes_max))
    }
    pub(crate) fn map_scan(
        state: u32,
        ordinal: u32,
        after: Option<Slots>,
        limit: u32,
    ) -> Result<Entries, StateError> {
        ask(|r| r.map_scan(state, ordinal, after, limit))
    }
}

#[cfg(target_family = "wasm")]
mod real {
    use super::{Kind, Level};
    use crate::bindings::pelton::job::{log, metrics};

    pub(crate) fn write(level: Level, text: &str) {
        log::write(level, text);
    }
    pub(crate) fn panic(text: &str) {
        log::panic(text);
    }
    pub(crate) fn register(kind: Kind, name: &str) -> u32 {
        metrics::register(kind, name)
    }
    pub(crate) fn update(changes: &[(u32, f64)]) {
        metrics::update(changes);
    }
}

#[cfg(not(target_family = "wasm"))]
mod real {
    use std::cell::RefCell;

    use super::{Kind, Level};

    thread_local! {
        static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
        static METRICS: RefCell<Vec<(Kind, String, f64)>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn write(level: Level, text: &str) {
        LINES.with_borrow_mut(|l| l.push((level, text.to_owned())));
    }
    pub(crate) fn panic(text: &str) {
        write(Level::Error, text);
    }
    pub(crate) fn register(kind: Kind, name: &str) -> u32 {
        METRICS.with_borrow_mut(|all| {
            let found = all.iter().position(|m| m.1 == name).unwrap_or_else(|| {
                all.push((kind, name.to_owned(), 0.0));
                all.len() - 1
            });
            found as u32
        })
    }
    pub(crate) fn update(changes: &[(u32, f64)]) {
        METRICS.with_borrow_mut(|all| {
            for (id, change) in changes {
                match all.get_mut(*id as usize) {
                    Some((Kind::Counter, _, value)) => *value += change,
                    Some((Kind::Gauge, _, value)) => *value = *change,
                    None => {}
                }
            }
        });
    }
    /// The log lines of this thread so far, and forgets them.
    pub(crate) fn take_lines() -> Vec<(Level, String)> {
        LINES.take()
    }
    /// The value of a metric of this thread.
    pub(crate) fn metric(name: &str) -> Option<f64> {
        METRICS.with_borrow(|all| all.iter().find(|m| m.1 == name).map(|m| m.2))
    }
    /// Forgets lines and metrics of this thread.
    pub(crate) fn forget() {
        LINES.take();
        METRICS.take();
    }
}

pub(crate) use real::*;
