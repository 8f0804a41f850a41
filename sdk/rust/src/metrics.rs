//! Counters and gauges of functions. A call's changes go to the host in one call, at its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::host::{self, Kind};

#[derive(Default)]
struct Metric {
    value: Cell<f64>,
    changed: Cell<bool>,
}

thread_local! {
    static REGISTERED: RefCell<Vec<(u32, Rc<Metric>)>> = const { RefCell::new(Vec::new()) };
}

/// Counts.
#[derive(Clone)]
pub struct Counter(Rc<Metric>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Adds `n`.
    pub fn add(&self, n: f64) {
        self.0.value.set(self.0.value.get() + n);
        self.0.changed.set(true);
    }
}

/// Holds the last value it was given.
#[derive(Clone)]
pub struct Gauge(Rc<Metric>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.value.set(value);
        self.0.changed.set(true);
    }
}

/// A metric that was declared and is not yet known to the host.
pub(crate) struct Declared {
    kind: Kind,
    name: String,
    metric: Rc<Metric>,
}

pub(crate) fn counter(name: &str) -> (Counter, Declared) {
    let metric = Rc::<Metric>::default();
    (
        Counter(Rc::clone(&metric)),
        Declared {
            kind: Kind::Counter,
            name: name.into(),
            metric,
        },
    )
}

pub(crate) fn gauge(name: &str) -> (Gauge, Declared) {
    let metric = Rc::<Metric>::default();
    (
        Gauge(Rc::clone(&metric)),
        Declared {
            kind: Kind::Gauge,
            name: name.into(),
            metric,
        },
    )
}

impl Declared {
    pub(crate) fn register(self) {
        let id = host::register(self.kind, &self.name);
        REGISTERED.with_borrow_mut(|all| all.push((id, self.metric)));
    }
}

/// Tells the host what has changed. A counter starts again from 0.
pub(crate) fn flush() {
    REGISTERED.with_borrow(|all| {
        if all.iter().any(|(_, m)| m.changed.get()) {
            let changed = all.iter().filter(|(_, m)| m.changed.replace(false));
            let changes: Vec<_> = changed.map(|(id, m)| (*id, m.value.take())).collect();
            host::update(&changes);
        }
    });
}
