//! A value for each key: shipped with the batch, or fetched for the keys to come when it is first asked for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::ahead::Ahead;
use super::fetched::{KEPT_BYTES, slots};
use super::migrate::Former;
use super::{Call, Cells, Spec, Ttl, bytes_of};
use crate::bindings::exports::pelton::job::function::StateChange;
use crate::bindings::pelton::job::types::Slots;
use crate::column::{Cursor, Held, Row, bits_of, to_bytes};
use crate::error::Result;
use crate::host;
use crate::value::{Column, Value};

const UNCHANGED: u8 = 0;
const SET: u8 = 1;
const CLEARED: u8 = 2;

/// A value for each key.
pub struct ValueState<T: Value>(pub(super) Rc<ValueCells<T>>);

impl<T: Value> Clone for ValueState<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: Value> ValueState<T> {
    /// When values are gone by themselves.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        self.0.spec.set_ttl(ttl);
        self
    }

    /// Takes over values of another type that a former version of the job has left under this name, such as
    /// `states.value::<Visits>("visits").migrate_from(|n: u64| Visits { n, last: None })`. `f` is called for a key when the
    /// function first looks at its value; until then it stays as it was, in checkpoints and savepoints, too. The function
    /// and the type must stay until a savepoint shows that nothing is left in the state `visits@former`.
    ///
    /// It may be said once for each former type. What a checkpoint has goes to the type that it is of; if it is of none
    /// of them, to the first that it fits, the state's own before others. A value counts as written when it is made.
    #[must_use]
    pub fn migrate_from<Old: Value>(self, f: impl Fn(Old) -> T + 'static) -> Self {
        self.0.migrate_from(f);
        self
    }

    /// The value of the key at hand, if there is one.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<T> {
        self.with(|v| v.map(T::own))
    }

    /// Looks at the value of the key at hand without copying it.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(Option<T::Ref<'_>>) -> R) -> R {
        self.0.with(f)
    }

    /// Sets the value of the key at hand.
    #[inline]
    pub fn set(&self, value: T) {
        self.0.set(value);
    }

    /// Changes the value of the key at hand in place; where there is none, what `first` makes.
    #[inline]
    pub fn update<R>(&self, first: impl FnOnce() -> T, f: impl FnOnce(&mut T) -> R) -> R {
        self.0.update(first, f)
    }

    /// Removes the value of the key at hand.
    pub fn clear(&self) {
        self.0.clear();
    }
}

pub(super) struct ValueCells<T: Value> {
    pub(super) spec: Rc<Spec>,
    call: Rc<Call>,
    lazy: bool,
    of: RefCell<Values<T>>,
    /// Where values of former types are.
    former: RefCell<Vec<Box<dyn Former<T>>>>,
    has_former: Cell<bool>,
}

/// The values of a call's keys: as the host has them, and those that were set since.
struct Values<T: Value> {
    /// Shipped or fetched rows.
    parts: Vec<Part<T>>,
    /// For each key of a lazy state, 1 + the part that has it.
    part_of: Vec<u32>,
    /// One for each key.
    marks: Vec<u8>,
    /// For each key, 1 + the place of its new value in `set`.
    places: Vec<u32>,
    set: Vec<T>,
    ahead: Ahead,
    kept: usize,
    scratch: Vec<u8>,
}

/// The values of some keys in a row.
struct Part<T: Value> {
    first: usize,
    rows: usize,
    present: Option<Vec<u8>>,
    held: Held<T::Column<'static>>,
}

impl<T: Value> Part<T> {
    fn new(first: usize, slots: Slots) -> Result<Self> {
        let rows = slots.rows as usize;
        if let Some(bits) = &slots.present {
            bits_of(bits, rows)?;
        }
        // SAFETY: the reader's rows are only handed to closures that can't keep them, or are copied at once.
        let held = unsafe {
            Held::new(slots.columns, |cursor: &mut Cursor<'static>| {
                T::row_resolve(cursor, rows)
            })
        }?;
        Ok(Self {
            first,
            rows,
            present: slots.present,
            held,
        })
    }

    #[inline]
    fn row(&self, key: usize) -> Option<Row> {
        let at = key.wrapping_sub(self.first);
        let present = match &self.present {
            None => true,
            Some(bits) => bits.get(at / 8).is_some_and(|b| b >> (at % 8) & 1 == 1),
        };
        Row::below(at, self.rows).filter(|_| present)
    }
}

impl<T: Value> Default for Values<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            part_of: Vec::new(),
            marks: Vec::new(),
            places: Vec::new(),
            set: Vec::new(),
            ahead: Ahead::default(),
            kept: 0,
            scratch: Vec::new(),
        }
    }
}

impl<T: Value> Values<T> {
    fn reset(&mut self, keys: usize) {
        self.parts.clear();
        self.set.clear();
        self.marks.clear();
        self.marks.resize(keys, UNCHANGED);
        self.places.clear();
        self.places.resize(keys, 0);
        self.kept = 0;
    }

    #[inline]
    fn with<R>(&self, key: usize, lazy: bool, f: impl FnOnce(Option<T::Ref<'_>>) -> R) -> R {
        match self.marks.get(key).copied() {
            Some(SET) => {
                let place = self.places.get(key).map_or(0, |p| *p as usize);
                f(self.set.get(place.wrapping_sub(1)).map(T::lend))
            }
            Some(UNCHANGED) => {
                let part = if lazy {
                    let part = self.part_of.get(key).map_or(0, |p| *p as usize);
                    self.parts.get(part.wrapping_sub(1))
                } else {
                    self.parts.first()
                };
                match part.and_then(|p| Some((p, p.row(key)?))) {
                    Some((part, row)) => f(Some(T::read(part.held.reader(), row))),
                    None => f(None),
                }
            }
            _ => f(None),
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

    /// The new value of a key, if it has one.
    #[inline]
    fn new_value(&mut self, key: usize) -> Option<&mut T> {
        let place = *self
            .places
            .get(key)
            .filter(|_| self.marks.get(key) == Some(&SET))?;
        self.set.get_mut((place as usize).wrapping_sub(1))
    }
}

impl<T: Value> ValueCells<T> {
    pub(super) fn new(spec: Rc<Spec>, call: Rc<Call>) -> Self {
        let lazy = spec.state.borrow().lazy;
        Self {
            spec,
            call,
            lazy,
            of: RefCell::default(),
            former: RefCell::default(),
            has_former: Cell::new(false),
        }
    }

    pub(super) fn add_former(&self, former: Box<dyn Former<T>>) {
        self.former.borrow_mut().push(former);
        self.has_former.set(true);
    }

    /// Whether the host has no value of the key, and the call has done nothing to it.
    fn is_missing(&self, key: usize) -> bool {
        let values = self.of.borrow();
        let untouched = values.marks.get(key) == Some(&UNCHANGED);
        untouched && values.with(key, self.lazy, |v| v.is_none())
    }

    /// A key without a value gets one, if it has one of a former type.
    #[inline(never)]
    fn migrate(&self, key: usize) {
        if self.is_missing(key) {
            let made = self.former.borrow().iter().find_map(|f| f.take());
            if let Some(value) = made {
                self.put(key, value);
            }
        }
    }

    /// What a key without a value has of a former type is gone.
    #[inline(never)]
    fn forget_former(&self, key: usize) {
        if self.is_missing(key) {
            self.former.borrow().iter().for_each(|f| f.forget());
        }
    }

    #[inline]
    pub(super) fn with<R>(&self, f: impl FnOnce(Option<T::Ref<'_>>) -> R) -> R {
        let key = self.key();
        if self.lazy {
            self.fetch(key);
        }
        if self.has_former.get() {
            self.migrate(key);
        }
        self.of.borrow().with(key, self.lazy, f)
    }

    #[inline]
    pub(super) fn set(&self, value: T) {
        let key = self.key();
        if self.has_former.get() {
            self.forget_former(key);
        }
        self.put(key, value);
    }

    #[inline]
    fn put(&self, key: usize, value: T) {
        let mut values = self.of.borrow_mut();
        if self.lazy || std::mem::needs_drop::<T>() {
            let bytes = bytes_of::<T>(value.lend(), &mut values.scratch);
            self.call.bytes.update(|b| b + bytes);
        }
        values.set(key, value);
    }

    #[inline]
    pub(super) fn update<R>(&self, first: impl FnOnce() -> T, f: impl FnOnce(&mut T) -> R) -> R {
        let key = self.key();
        if let Some(value) = self.of.borrow_mut().new_value(key) {
            return f(value);
        }
        let mut value = self.with(|v| v.map(T::own)).unwrap_or_else(first);
        let result = f(&mut value);
        self.set(value);
        result
    }

    pub(super) fn clear(&self) {
        let key = self.key();
        if self.has_former.get() {
            self.forget_former(key);
        }
        if let Some(mark) = self.of.borrow_mut().marks.get_mut(key) {
            *mark = CLEARED;
        }
    }

    /// The key at hand; the first use in a call of a lazy state makes it ready.
    #[inline]
    fn key(&self) -> usize {
        let key = self.spec.key(&self.call);
        if self.lazy {
            let mut values = self.of.borrow_mut();
            if values.marks.is_empty() {
                let keys = self.spec.keys(&self.call);
                values.reset(keys);
                values.part_of.clear();
                values.part_of.resize(keys, 0);
            }
        }
        key
    }

    fn fetch(&self, key: usize) {
        let mut values = self.of.borrow_mut();
        let values = &mut *values;
        if values.marks.get(key) != Some(&UNCHANGED) {
            return;
        }
        values.ahead.used();
        if values.part_of.get(key) != Some(&0) {
            return;
        }
        if values.kept > KEPT_BYTES {
            values.parts.clear();
            values.part_of.fill(0);
            values.kept = 0;
        }
        let most = values.ahead.next();
        let wanted = values.part_of.iter().skip(key).take(most);
        let end = key + wanted.take_while(|p| **p == 0).count();
        let ordinals = to_bytes((key..end).map(|o| o as u32));
        let slots = self
            .spec
            .answer(host::state::get_many(self.spec.number, &ordinals));
        let bytes = bytes(&slots.columns);
        if slots.rows as usize != end - key {
            self.spec
                .refuse("was answered for another number of keys than asked");
        }
        values.ahead.read(end - key, bytes);
        // The read that asks counts, too.
        values.ahead.used();
        values.kept += bytes;
        values.parts.push(self.spec.shipped(Part::new(key, slots)));
        let part = values.parts.len() as u32;
        if let Some(of) = values.part_of.get_mut(key..end) {
            of.fill(part);
        }
    }
}

fn bytes(columns: &[Column]) -> usize {
    columns
        .iter()
        .flat_map(|c| [&c.validity, &c.offsets, &c.values])
        .flatten()
        .map(Vec::len)
        .sum()
}

impl<T: Value> Cells for ValueCells<T> {
    fn is_shipped(&self) -> bool {
        !self.lazy
    }

    fn load(&self, slots: Slots) -> Result<()> {
        let mut values = self.of.borrow_mut();
        values.reset(slots.rows as usize);
        values.parts.push(Part::new(0, slots)?);
        Ok(())
    }

    fn begin(&self) {
        let mut values = self.of.borrow_mut();
        values.parts.clear();
        values.marks.clear();
    }

    fn changes(&self) -> Option<StateChange> {
        let mut values = self.of.borrow_mut();
        values.parts.clear();
        let marks = std::mem::take(&mut values.marks);
        if marks.iter().all(|m| *m == UNCHANGED) {
            return None;
        }
        let mut builder = T::Builder::default();
        let mut rows = 0;
        for (mark, place) in marks.iter().zip(&values.places) {
            if let (SET, Some(value)) = (*mark, values.set.get((*place as usize).wrapping_sub(1))) {
                T::push(&mut builder, value.lend());
                rows += 1;
            }
        }
        Some(StateChange {
            state: self.spec.number,
            marks,
            changes: Vec::new(),
            ordinals: Vec::new(),
            map_keys: None,
            values: slots::<T>(&mut builder, rows, None),
        })
    }
}
