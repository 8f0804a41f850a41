//! A map for each key.

use std::ops::Bound;
use std::rc::Rc;

use super::Ttl;
use super::map_cells::MapCells;
use crate::value::Value;

/// A map for each key. Putting and removing do not read it.
///
/// Entries are in the order of the canonical encoding of their map keys: numbers and times ascend, shorter texts come before
/// longer ones and those of one length ascend by their bytes, records compare field by field, null comes first.
pub struct MapState<K: Value, V: Value>(pub(super) Rc<MapCells<K, V>>);

impl<K: Value, V: Value> Clone for MapState<K, V> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<K: Value, V: Value> MapState<K, V> {
    /// When entries are gone by themselves, each by its own time.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        self.0.spec.set_ttl(ttl);
        self
    }

    /// Takes over values of another type that a former version of the job has left under the same map keys; as for
    /// [`ValueState`](super::ValueState::migrate_from), but all entries of a key at once, when a call first touches its
    /// map, also to put.
    #[must_use]
    pub fn migrate_from<Old: Value>(self, f: impl Fn(Old) -> V + 'static) -> Self {
        self.0.migrate_from(f);
        self
    }

    /// Sets the value under a map key.
    #[inline]
    pub fn put(&self, map_key: K::Ref<'_>, value: V) {
        self.0.put(map_key, value);
    }

    /// Removes the value under a map key, if there is one.
    pub fn remove(&self, map_key: K::Ref<'_>) {
        self.0.remove(map_key);
    }

    /// Removes all entries of the key at hand.
    pub fn clear(&self) {
        self.0.clear();
    }
}

macro_rules! reads {
    ($state:ident) => {
        impl<K: Value, V: Value> $state<K, V> {
            /// The value under a map key, if there is one.
            #[inline]
            #[must_use]
            pub fn get(&self, map_key: K::Ref<'_>) -> Option<V> {
                self.with(map_key, |v| v.map(V::own))
            }

            /// Looks at the value under a map key without copying it; `f` must not use this map itself.
            #[inline]
            pub fn with<R>(
                &self,
                map_key: K::Ref<'_>,
                f: impl FnOnce(Option<V::Ref<'_>>) -> R,
            ) -> R {
                self.0.with(map_key, f)
            }

            /// Whether there is a value under a map key.
            #[must_use]
            pub fn contains(&self, map_key: K::Ref<'_>) -> bool {
                self.with(map_key, |v| v.is_some())
            }

            /// Hands all entries to `f`, ascending by map key; `f` must not use this map itself.
            pub fn for_each(&self, mut f: impl FnMut(K::Ref<'_>, V::Ref<'_>)) {
                self.each_within(Bound::Unbounded, Bound::Unbounded, |k, v| {
                    f(k, v);
                    true
                });
            }

            /// Hands the entries within bounds to `f`, ascending by map key, until it answers false; `f` must not use this
            /// map itself.
            pub fn each_within<'k>(
                &self,
                from: Bound<K::Ref<'k>>,
                to: Bound<K::Ref<'k>>,
                f: impl FnMut(K::Ref<'_>, V::Ref<'_>) -> bool,
            ) {
                self.0.each(&(from, to), f);
            }

            /// All entries, ascending by map key.
            #[must_use]
            pub fn entries(&self) -> Vec<(K, V)> {
                let mut all = Vec::new();
                self.for_each(|k, v| all.push((K::own(k), V::own(v))));
                all
            }

            /// All map keys, ascending.
            #[must_use]
            pub fn keys(&self) -> Vec<K> {
                let mut all = Vec::new();
                self.for_each(|k, _| all.push(K::own(k)));
                all
            }

            /// All values, ascending by map key.
            #[must_use]
            pub fn values(&self) -> Vec<V> {
                let mut all = Vec::new();
                self.for_each(|_, v| all.push(V::own(v)));
                all
            }

            /// Whether there are no entries.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                let mut empty = true;
                self.each_within(Bound::Unbounded, Bound::Unbounded, |_, _| {
                    empty = false;
                    false
                });
                empty
            }
        }
    };
}
pub(super) use reads;
reads!(MapState);
