//! What functions ask of the host: log lines and metrics. Natively, both are kept for a test to look at.

pub use crate::bindings::pelton::job::log::Level;
pub(crate) use crate::bindings::pelton::job::metrics::Kind;

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
