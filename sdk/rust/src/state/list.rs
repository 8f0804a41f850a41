//! A list for each key.

use std::rc::Rc;

use super::Ttl;
use super::lists::{ListCells, ListItems};
use crate::value::Value;

/// A list for each key. Appending does not read it.
pub struct ListState<T: Value>(pub(super) Rc<ListCells<T>>);

impl<T: Value> Clone for ListState<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: Value> ListState<T> {
    /// When values are gone by themselves, each by its own time.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        self.0.spec.set_ttl(ttl);
        self
    }

    /// Takes over values of another type that a former version of the job has left; as for
    /// [`ValueState`](super::ValueState::migrate_from), but all values of a key at once, when a call first touches its
    /// list, also to append.
    #[must_use]
    pub fn migrate_from<Old: Value>(self, f: impl Fn(Old) -> T + 'static) -> Self {
        self.0.migrate_from(f);
        self
    }

    /// The values of the key at hand, in order.
    #[must_use]
    pub fn get(&self) -> Vec<T> {
        self.with(|items| items.map(T::own).collect())
    }

    /// Looks at the values of the key at hand without copying them; `f` must not use this list itself.
    pub fn with<R>(&self, f: impl FnOnce(ListItems<'_, T>) -> R) -> R {
        self.0.with(f)
    }

    /// Appends a value.
    #[inline]
    pub fn add(&self, value: T) {
        self.0.add(value);
    }

    /// Appends values.
    pub fn extend(&self, values: impl IntoIterator<Item = T>) {
        values.into_iter().for_each(|v| self.add(v));
    }

    /// Replaces all values.
    pub fn set(&self, values: impl IntoIterator<Item = T>) {
        self.clear();
        self.extend(values);
    }

    /// Removes all values.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// How many values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|items| items.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
