//! Values of a former type, which the user's function makes those of now, key by key.
//!
//! They stand in a state of their own, behind the one that they become. A value is looked up there when its key has none;
//! what is found is made a value, and is gone there. Of lists and maps all that a key has is moved over when a call first
//! touches it. So nothing ever stands in both, and when nothing is left, what remains is a look at an empty state: for keys
//! without a value, or once for each key of a call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::lists::ListCells;
use super::map_cells::MapCells;
use super::value::ValueCells;
use super::{All, Spec};
use crate::place;
use crate::value::Value;

/// Declares the state of values of a former type behind that of now; answers also what a panic says it was about.
fn behind<Old: Value>(of: &Spec) -> Option<(Rc<All>, Rc<Spec>, Rc<str>)> {
    let all = of.among.upgrade()?;
    let (name, kind, map_key) = {
        let state = of.state.borrow();
        (state.name.clone(), state.kind, state.map_key.clone())
    };
    let mut former = format!("{name}@former");
    let mut count = 1;
    let is_taken = |name: &str| {
        let specs = all.specs.borrow();
        specs.iter().any(|s| s.state.borrow().name == name)
    };
    while is_taken(&former) {
        count += 1;
        former = format!("{name}@former-{count}");
    }
    let spec = all.declare::<Old>(&former, kind, map_key, true);
    let about = format!("while state '{name}' was migrated").into();
    spec.state.borrow_mut().restores = Some(name);
    Some((all, spec, about))
}

/// Calls the user's function; where it panics, that says what it was about.
fn made<Old, T>(about: &Rc<str>, f: &impl Fn(Old) -> T, old: Old) -> T {
    place::about(Some(about));
    let new = f(old);
    place::about(None);
    new
}

/// Values of a former type.
pub(super) trait Former<T> {
    /// What the key at hand has here, made a value of now; it is gone here.
    fn take(&self) -> Option<T>;
    /// What the key at hand has here is gone.
    fn forget(&self);
}

struct Migration<Old: Value, F> {
    cells: Rc<ValueCells<Old>>,
    f: F,
    about: Rc<str>,
}

impl<T, Old: Value, F: Fn(Old) -> T> Former<T> for Migration<Old, F> {
    fn take(&self) -> Option<T> {
        let old = self.cells.with(|v| v.map(Old::own))?;
        let new = made(&self.about, &self.f, old);
        self.cells.clear();
        Some(new)
    }

    fn forget(&self) {
        if self.cells.with(|v| v.is_some()) {
            self.cells.clear();
        }
    }
}

impl<T: Value> ValueCells<T> {
    pub(super) fn migrate_from<Old: Value>(&self, f: impl Fn(Old) -> T + 'static) {
        if let Some((all, spec, about)) = behind::<Old>(&self.spec) {
            let cells = all.add(|call| ValueCells::new(spec, call));
            self.add_former(Box::new(Migration { cells, f, about }));
        }
    }
}

/// What a key has of a former type, made items of now; it is gone there.
type Take<I> = Box<dyn Fn() -> Vec<I>>;

/// Lists or maps of former types, of which a key's are moved over together.
pub(super) struct Moved<I> {
    from: RefCell<Vec<Take<I>>>,
    any: Cell<bool>,
    /// Whether the call has touched the key.
    done: RefCell<Vec<bool>>,
}

impl<I> Default for Moved<I> {
    fn default() -> Self {
        Self {
            from: RefCell::default(),
            any: Cell::new(false),
            done: RefCell::default(),
        }
    }
}

impl<I> Moved<I> {
    fn add(&self, take: Take<I>) {
        self.from.borrow_mut().push(take);
        self.any.set(true);
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        if self.any.get() {
            self.done.borrow_mut().clear();
        }
    }

    /// The first time in a call that a key is touched, hands what it has of former types to `put`.
    #[inline]
    pub(super) fn settle(&self, key: impl FnOnce() -> usize, put: impl FnMut(I)) {
        if self.any.get() {
            self.move_over(key(), put);
        }
    }

    #[inline(never)]
    fn move_over(&self, key: usize, put: impl FnMut(I)) {
        {
            let mut done = self.done.borrow_mut();
            if done.len() <= key {
                done.resize(key + 1, false);
            }
            match done.get_mut(key) {
                Some(done) if !*done => *done = true,
                _ => return,
            }
        }
        let from = self.from.borrow();
        from.iter().flat_map(|take| take()).for_each(put);
    }
}

impl<T: Value> ListCells<T> {
    pub(super) fn migrate_from<Old: Value>(&self, f: impl Fn(Old) -> T + 'static) {
        if let Some((all, spec, about)) = behind::<Old>(&self.spec) {
            let cells = all.add(|call| ListCells::<Old>::new(spec, call));
            self.moved.add(Box::new(move || {
                let old: Vec<Old> = cells.with(|items| items.map(Old::own).collect());
                if !old.is_empty() {
                    cells.clear();
                }
                old.into_iter().map(|o| made(&about, &f, o)).collect()
            }));
        }
    }
}

impl<K: Value, V: Value> MapCells<K, V> {
    pub(super) fn migrate_from<Old: Value>(&self, f: impl Fn(Old) -> V + 'static) {
        if let Some((all, spec, about)) = behind::<Old>(&self.spec) {
            let cells = all.add(|call| MapCells::<K, Old>::new(spec, call));
            self.moved.add(Box::new(move || {
                let mut old: Vec<(K, Old)> = Vec::new();
                cells.each_of_all(|k, v| old.push((K::own(k), Old::own(v))));
                if !old.is_empty() {
                    cells.clear();
                }
                let each = old.into_iter();
                each.map(|(k, o)| (k, made(&about, &f, o))).collect()
            }));
        }
    }
}
