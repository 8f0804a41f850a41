//! Keyed state: values that the host keeps for each key, and ships with the batch.
//!
//! A handle reads and writes the value of the key at hand. It is only good within a call of its function.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::bindings::exports::pelton::job::function::StateChange;
use crate::bindings::exports::pelton::job::graph::{State, StateKind};
use crate::bindings::pelton::job::types::Slots;
use crate::column::{Cursor, Held, Row, bits_of};
use crate::error::Result;
use crate::metrics::{self, Counter, Declared, Gauge};
use crate::value::{COLUMNS, Schema, Value};

const UNCHANGED: u8 = 0;
const SET: u8 = 1;
const CLEARED: u8 = 2;

/// The states of a keyed function, declared when it is made.
#[derive(Default)]
pub struct States {
    specs: Vec<State>,
    cells: Vec<Rc<dyn Cells>>,
    key: Rc<Cell<usize>>,
    metrics: Vec<Declared>,
}

impl States {
    /// Declares a value for each key: a record, or a plain value. Its name is what it is found by in later versions.
    pub fn value<T: Value>(&mut self, name: &str) -> ValueState<T> {
        let schema: Schema = T::row_schema();
        self.specs.push(State {
            name: name.into(),
            kind: StateKind::Value,
            map_key: None,
            schema,
            lazy: false,
            ttl: None,
        });
        let cells = Rc::new(ValueCells::<T> {
            key: Rc::clone(&self.key),
            of: RefCell::default(),
        });
        self.cells.push(Rc::clone(&cells) as Rc<dyn Cells>);
        ValueState(cells)
    }

    /// A counter of this operator.
    pub fn counter(&mut self, name: &str) -> Counter {
        let (counter, declared) = metrics::counter(name);
        self.metrics.push(declared);
        counter
    }

    /// A gauge of this operator.
    pub fn gauge(&mut self, name: &str) -> Gauge {
        let (gauge, declared) = metrics::gauge(name);
        self.metrics.push(declared);
        gauge
    }

    pub(crate) fn specs(&self) -> Vec<State> {
        self.specs.clone()
    }

    pub(crate) fn register_metrics(&mut self) {
        self.metrics.drain(..).for_each(Declared::register);
    }

    /// Takes the values of a call's keys. Errors: fewer states than were declared, or columns that don't fit.
    pub(crate) fn load(&self, states: Vec<Slots>) -> Result<()> {
        if states.len() != self.cells.len() {
            return Err(crate::Error::new(
                "the host has shipped another number of states than was declared",
            ));
        }
        self.cells
            .iter()
            .zip(states)
            .try_for_each(|(cells, slots)| cells.load(slots))
    }

    #[inline(always)]
    pub(crate) fn at(&self, key: usize) {
        self.key.set(key);
    }

    /// What has changed since the values were taken.
    pub(crate) fn changes(&self) -> Vec<StateChange> {
        (0u32..)
            .zip(&self.cells)
            .filter_map(|(number, cells)| cells.changes(number))
            .collect()
    }
}

trait Cells {
    fn load(&self, slots: Slots) -> Result<()>;
    fn changes(&self, number: u32) -> Option<StateChange>;
}

/// A value for each key.
pub struct ValueState<T: Value>(Rc<ValueCells<T>>);

impl<T: Value> Clone for ValueState<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

struct ValueCells<T: Value> {
    /// The key at hand.
    key: Rc<Cell<usize>>,
    of: RefCell<Values<T>>,
}

/// The values of a call's keys: as shipped, and those that were set since.
struct Values<T: Value> {
    shipped: Option<Held<T::Column<'static>>>,
    present: Option<Vec<u8>>,
    rows: usize,
    marks: Vec<u8>,
    /// For each key, 1 + the place of its new value in `set`.
    places: Vec<u32>,
    set: Vec<T>,
}

impl<T: Value> Default for Values<T> {
    fn default() -> Self {
        Self {
            shipped: None,
            present: None,
            rows: 0,
            marks: Vec::new(),
            places: Vec::new(),
            set: Vec::new(),
        }
    }
}

impl<T: Value> Values<T> {
    #[inline]
    fn with<R>(&self, key: usize, f: impl FnOnce(Option<T::Ref<'_>>) -> R) -> R {
        match self.marks.get(key).copied() {
            Some(SET) => {
                let place = self.places.get(key).map_or(0, |p| *p as usize);
                f(self.set.get(place.wrapping_sub(1)).map(T::lend))
            }
            Some(UNCHANGED) => {
                let row = Row::below(key, self.rows).filter(|_| self.was_present(key));
                match (&self.shipped, row) {
                    (Some(held), Some(row)) => f(Some(T::read(held.reader(), row))),
                    _ => f(None),
                }
            }
            _ => f(None),
        }
    }

    #[inline]
    fn was_present(&self, key: usize) -> bool {
        match &self.present {
            None => true,
            Some(bits) => bits.get(key / 8).is_some_and(|b| b >> (key % 8) & 1 == 1),
        }
    }

    #[inline]
    fn set(&mut self, key: usize, value: T) {
        let (Some(mark), Some(place)) = (self.marks.get_mut(key), self.places.get_mut(key)) else {
            return;
        };
        *mark = SET;
        match self.set.get_mut((*place as usize).wrapping_sub(1)) {
            Some(former) => *former = value,
            None => {
                self.set.push(value);
                *place = self.set.len() as u32;
            }
        }
    }
}

impl<T: Value> ValueState<T> {
    /// The value of the key at hand, if there is one.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<T> {
        self.with(|v| v.map(T::own))
    }

    /// Looks at the value of the key at hand without copying it.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(Option<T::Ref<'_>>) -> R) -> R {
        self.0.of.borrow().with(self.0.key.get(), f)
    }

    /// Sets the value of the key at hand.
    #[inline]
    pub fn set(&self, value: T) {
        self.0.of.borrow_mut().set(self.0.key.get(), value);
    }

    /// Removes the value of the key at hand.
    pub fn clear(&self) {
        let key = self.0.key.get();
        if let Some(mark) = self.0.of.borrow_mut().marks.get_mut(key) {
            *mark = CLEARED;
        }
    }
}

impl<T: Value> Cells for ValueCells<T> {
    fn load(&self, slots: Slots) -> Result<()> {
        let rows = slots.rows as usize;
        if let Some(bits) = &slots.present {
            bits_of(bits, rows)?;
        }
        let mut values = self.of.borrow_mut();
        // SAFETY: the reader's rows are only handed to closures that can't keep them, or are copied at once.
        let held = unsafe {
            Held::new(slots.columns, |cursor: &mut Cursor<'static>| {
                T::row_resolve(cursor, rows)
            })
        }?;
        values.shipped = Some(held);
        values.present = slots.present;
        values.rows = rows;
        values.set.clear();
        values.marks.clear();
        values.marks.resize(rows, UNCHANGED);
        values.places.clear();
        values.places.resize(rows, 0);
        Ok(())
    }

    fn changes(&self, number: u32) -> Option<StateChange> {
        let mut values = self.of.borrow_mut();
        values.shipped = None;
        if values.marks.iter().all(|m| *m == UNCHANGED) {
            return None;
        }
        let mut builder = T::Builder::default();
        let mut rows = 0;
        for (mark, place) in values.marks.iter().zip(&values.places) {
            if let (SET, Some(value)) = (*mark, values.set.get((*place as usize).wrapping_sub(1))) {
                T::push(&mut builder, value.lend());
                rows += 1;
            }
        }
        let mut columns = Vec::with_capacity(COLUMNS);
        T::row_finish(&mut builder, &mut columns);
        let marks = std::mem::take(&mut values.marks);
        Some(StateChange {
            state: number,
            marks,
            changes: Vec::new(),
            ordinals: Vec::new(),
            map_keys: None,
            values: Slots {
                rows,
                present: None,
                columns,
            },
        })
    }
}
