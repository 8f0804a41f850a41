//! A map of lists for each key.

use std::cell::RefCell;
use std::ops::Bound;
use std::rc::Rc;

use super::fetched::{Chunk, slot, slots};
use super::index::Index;
use super::lists::{CLEAR, ListChanges, ListItems, ListStore, REMOVE};
use super::maps::{Bounds, SCAN_ENTRIES, in_range, may_go_on};
use super::{Call, Cells, Spec, Ttl};
use crate::bindings::exports::pelton::job::function::StateChange;
use crate::column::{Row, to_bytes};
use crate::host;
use crate::value::{BitsBuilder, ColumnBuilder, Value};

/// Keys for which a list is read at once, where timers fire: those of one call are mostly after the same map key.
const FIRING_AHEAD: usize = 64;

/// A map of lists for each key: what is under a map key is a list of its own. Appending does not read it.
///
/// Map keys are ordered as in [`MapState`](super::MapState).
pub struct ListMapState<K: Value, T: Value>(pub(super) Rc<ListMapCells<K, T>>);

impl<K: Value, T: Value> Clone for ListMapState<K, T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<K: Value, T: Value> ListMapState<K, T> {
    /// When values are gone by themselves, each by its own time.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        self.0.spec.set_ttl(ttl);
        self
    }

    /// The list under a map key of the key at hand.
    #[must_use]
    pub fn get(&self, map_key: K::Ref<'_>) -> Vec<T> {
        self.with(map_key, |items| items.map(T::own).collect())
    }

    /// Looks at the list under a map key without copying it; `f` must not use this state itself.
    pub fn with<R>(&self, map_key: K::Ref<'_>, f: impl FnOnce(ListItems<'_, T>) -> R) -> R {
        self.0.with(map_key, f)
    }

    /// Appends a value to the list under a map key.
    #[inline]
    pub fn add(&self, map_key: K::Ref<'_>, value: T) {
        let bytes = self.0.change(map_key, |store, list| store.add(list, value));
        self.0.call.bytes.update(|b| b + bytes);
    }

    /// Replaces the list under a map key.
    pub fn set(&self, map_key: K::Ref<'_>, values: impl IntoIterator<Item = T>) {
        self.remove(map_key);
        values.into_iter().for_each(|v| self.add(map_key, v));
    }

    /// Removes the list under a map key.
    pub fn remove(&self, map_key: K::Ref<'_>) {
        self.0.change(map_key, |store, list| store.clear(list));
        self.0.call.bytes.update(|b| b + 16);
    }

    /// Removes all that is under the key at hand.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// The map keys of the lists that are not empty, ascending.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        self.0.keys(&(Bound::Unbounded, Bound::Unbounded))
    }

    /// As [`keys`](Self::keys), those within bounds.
    #[must_use]
    pub fn keys_within<'k>(&self, from: Bound<K::Ref<'k>>, to: Bound<K::Ref<'k>>) -> Vec<K> {
        self.0.keys(&(from, to))
    }

    /// Whether there is no list with a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys().is_empty()
    }
}

pub(super) struct ListMapCells<K: Value, T: Value> {
    spec: Rc<Spec>,
    call: Rc<Call>,
    of: RefCell<Lists<K, T>>,
}

struct Lists<K: Value, T: Value> {
    ready: bool,
    index: Index,
    /// The map keys of the index's entries.
    map_keys: Vec<K>,
    /// The lists of the index's entries.
    store: ListStore<T>,
    /// One for each key: all that the host has is gone.
    cleared: Vec<bool>,
    scratch: Vec<u8>,
}

impl<K: Value, T: Value> Lists<K, T> {
    fn enter(&mut self, key: usize, map_key: K::Ref<'_>) -> usize {
        self.scratch.clear();
        K::encode(map_key, &mut self.scratch);
        let (list, is_new) = self.index.enter(key, &self.scratch);
        if is_new {
            self.map_keys.push(K::own(map_key));
            let nothing = self.cleared.get(key) == Some(&true);
            self.store.push(nothing);
        }
        list
    }
}

impl<K: Value, T: Value> ListMapCells<K, T> {
    pub(super) fn new(spec: Rc<Spec>, call: Rc<Call>) -> Self {
        Self {
            spec,
            call,
            of: RefCell::new(Lists {
                ready: false,
                index: Index::default(),
                map_keys: Vec::new(),
                store: ListStore::default(),
                cleared: Vec::new(),
                scratch: Vec::new(),
            }),
        }
    }

    /// The key at hand; the first use in a call makes the state ready.
    fn key(&self) -> usize {
        let key = self.spec.key(&self.call);
        let lists = &mut *self.of.borrow_mut();
        if !std::mem::replace(&mut lists.ready, true) {
            let keys = self.spec.keys(&self.call);
            lists.index.reset(keys);
            lists.map_keys.clear();
            lists.store.reset(0);
            lists.cleared.clear();
            lists.cleared.resize(keys, false);
        }
        key
    }

    #[inline]
    fn change<R>(&self, map_key: K::Ref<'_>, f: impl FnOnce(&mut ListStore<T>, usize) -> R) -> R {
        let key = self.key();
        let lists = &mut *self.of.borrow_mut();
        let list = lists.enter(key, map_key);
        f(&mut lists.store, list)
    }

    fn with<R>(&self, map_key: K::Ref<'_>, f: impl FnOnce(ListItems<'_, T>) -> R) -> R {
        let key = self.key();
        let list = {
            let lists = &mut *self.of.borrow_mut();
            let list = lists.enter(key, map_key);
            if lists.store.is_unknown(list) {
                self.fetch(lists, key, list, map_key);
            }
            list
        };
        self.of.borrow().store.with(list, f)
    }

    fn fetch(&self, lists: &mut Lists<K, T>, key: usize, list: usize, map_key: K::Ref<'_>) {
        lists.store.make_room();
        let mut wanted = vec![list];
        if self.call.on_timers.get() {
            let others = key + 1..self.spec.keys(&self.call).min(key + FIRING_AHEAD);
            for other in others {
                let list = lists.enter(other, map_key);
                if lists.store.is_unknown(list) {
                    wanted.push(list);
                }
            }
        }
        let ordinals = to_bytes(wanted.iter().map(|l| lists.index.key(*l)));
        let map_keys = slot::<K>(wanted.iter().map(|_| map_key));
        let answer = host::state::list_get_many(self.spec.number, &ordinals, Some(map_keys));
        let answer = self.spec.answer(answer);
        lists.store.take(&self.spec, wanted.into_iter(), answer);
    }

    fn clear(&self) {
        let key = self.key();
        let lists = &mut *self.of.borrow_mut();
        for list in lists.index.under(key) {
            lists.store.forget(list);
        }
        if let Some(cleared) = lists.cleared.get_mut(key) {
            *cleared = true;
        }
        self.call.bytes.update(|b| b + 16);
    }

    fn keys(&self, bounds: &Bounds<'_, K>) -> Vec<K> {
        let key = self.key();
        let lists = &mut *self.of.borrow_mut();
        let mut found: Vec<(Vec<u8>, K)> = Vec::new();
        // Those of lists that the call has touched, by what it knows of them; the others by the host.
        for list in lists.index.under(key) {
            let bytes = lists.index.map_key(list);
            if !lists.store.is_unknown(list) || lists.store.added(list).next().is_some() {
                let some = lists.store.with(list, |items| !items.is_empty());
                if some && let Some(map_key) = lists.map_keys.get(list) {
                    found.push((bytes.to_vec(), K::own(map_key.lend())));
                }
            }
        }
        if lists.cleared.get(key) != Some(&true) {
            self.scan(lists, key, &mut found);
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let range = in_range::<K>(bounds);
        found.retain(|(bytes, _)| range(bytes));
        found.into_iter().map(|(_, map_key)| map_key).collect()
    }

    /// The map keys that the host has, but for those of lists of which the call knows more.
    fn scan(&self, lists: &Lists<K, T>, key: usize, found: &mut Vec<(Vec<u8>, K)>) {
        let mut after = None;
        loop {
            let answer =
                host::state::map_scan(self.spec.number, key as u32, after.take(), SCAN_ENTRIES);
            let page = Chunk::take::<K>(&self.spec, self.spec.answer(answer).keys);
            let Some(reader) = page.reader::<K>() else {
                return;
            };
            for row in (0..page.rows).filter_map(|r| Row::below(r, page.rows)) {
                let map_key = K::read(&reader, row);
                let mut bytes = Vec::new();
                K::encode(map_key, &mut bytes);
                let list = lists.index.find(key, &bytes);
                let known = list.is_some_and(|l| {
                    !lists.store.is_unknown(l) || lists.store.added(l).next().is_some()
                });
                if !known {
                    found.push((bytes, K::own(map_key)));
                }
            }
            let last = page.rows.checked_sub(1);
            match last.and_then(|r| Row::below(r, page.rows)) {
                Some(last) if may_go_on(page.rows, page.bytes()) => {
                    after = Some(slot::<K>(std::iter::once(K::read(&reader, last))));
                }
                _ => return,
            }
        }
    }
}

impl<K: Value, T: Value> Cells for ListMapCells<K, T> {
    fn begin(&self) {
        self.of.borrow_mut().ready = false;
    }

    fn changes(&self) -> Option<StateChange> {
        let lists = &mut *self.of.borrow_mut();
        if !std::mem::take(&mut lists.ready) {
            return None;
        }
        let mut out = ListChanges::<T>::default();
        let mut keys = K::Builder::default();
        let mut present = BitsBuilder::default();
        let mut clears = 0;
        for (key, _) in (0u32..).zip(&lists.cleared).filter(|(_, c)| **c) {
            out.push(CLEAR, key);
            keys.push_default();
            present.push(false);
            clears += 1;
        }
        let changed = lists.store.take_changed();
        if clears == 0 && changed.is_empty() {
            return None;
        }
        let mut entries = clears;
        for list in changed {
            let list = list as usize;
            let Some(map_key) = lists.map_keys.get(list) else {
                continue;
            };
            let key = lists.index.key(list);
            let mut name = || {
                K::push(&mut keys, map_key.lend());
                present.push(true);
                entries += 1;
            };
            if lists.store.is_cleared(list) {
                out.push(REMOVE, key);
                name();
            }
            for value in lists.store.added(list) {
                out.put(key, value);
                name();
            }
        }
        let present = (clears > 0).then(|| present.take());
        let map_keys = slots::<K>(&mut keys, entries, present);
        (entries > 0).then(|| out.finish(self.spec.number, Some(map_keys)))
    }
}
