//! Lists of a call: as the host has them, and what the call has added since.

use std::cell::RefCell;
use std::rc::Rc;

use super::ahead::Ahead;
use super::fetched::{Chunk, KEPT_BYTES, slots};
use super::migrate::Moved;
use super::{Call, Cells, Spec, bytes_of};
use crate::bindings::exports::pelton::job::function::StateChange;
use crate::bindings::pelton::job::state::Lists as WitLists;
use crate::bindings::pelton::job::types::Slots;
use crate::column::{Row, from_bytes, to_bytes};
use crate::host;
use crate::value::Value;

pub(super) const PUT: u8 = 0;
pub(super) const REMOVE: u8 = 1;
pub(super) const CLEAR: u8 = 2;

/// The host has not been asked.
const UNKNOWN: u32 = 0;
/// The host has nothing.
const NOTHING: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

/// A list: what the host has, then what was added.
#[derive(Clone, Copy)]
struct Slot {
    /// 1 + the chunk that has the host's values, or UNKNOWN, or NOTHING.
    chunk: u32,
    start: u32,
    len: u32,
    /// The first and the last added value.
    head: u32,
    tail: u32,
    added: u32,
    /// The host's values are gone.
    cleared: bool,
    changed: bool,
}

const UNTOUCHED: Slot = Slot {
    chunk: UNKNOWN,
    start: 0,
    len: 0,
    head: NONE,
    tail: NONE,
    added: 0,
    cleared: false,
    changed: false,
};

struct Node<T> {
    value: T,
    next: u32,
}

/// Lists by number.
pub(super) struct ListStore<T: Value> {
    slots: Vec<Slot>,
    chunks: Vec<Chunk>,
    kept: usize,
    nodes: Vec<Node<T>>,
    /// Nodes that are free again.
    free: u32,
    /// Lists in the order of their first change.
    changed: Vec<u32>,
    scratch: Vec<u8>,
}

impl<T: Value> Default for ListStore<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            chunks: Vec::new(),
            kept: 0,
            nodes: Vec::new(),
            free: NONE,
            changed: Vec::new(),
            scratch: Vec::new(),
        }
    }
}

impl<T: Value> ListStore<T> {
    pub(super) fn reset(&mut self, lists: usize) {
        self.slots.clear();
        self.slots.resize(lists, UNTOUCHED);
        self.chunks.clear();
        self.kept = 0;
        self.nodes.clear();
        self.free = NONE;
        self.changed.clear();
    }

    /// One more list; one of which the host is known to have nothing.
    pub(super) fn push(&mut self, nothing: bool) {
        self.slots.push(Slot {
            chunk: if nothing { NOTHING } else { UNKNOWN },
            ..UNTOUCHED
        });
    }

    /// Appends a value; answers about how many bytes it takes.
    #[inline]
    pub(super) fn add(&mut self, list: usize, value: T) -> usize {
        let bytes = 16 + bytes_of::<T>(value.lend(), &mut self.scratch);
        let node = Node { value, next: NONE };
        let number = match self.nodes.get_mut(self.free as usize) {
            Some(free) => {
                let number = std::mem::replace(&mut self.free, free.next);
                *free = node;
                number
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let Some(slot) = self.slots.get_mut(list) else {
            return 0;
        };
        if let Some(last) = self.nodes.get_mut(slot.tail as usize) {
            last.next = number;
        } else {
            slot.head = number;
        }
        slot.tail = number;
        slot.added += 1;
        self.change(list);
        bytes
    }

    pub(super) fn clear(&mut self, list: usize) {
        self.change(list);
        if let Some(slot) = self.slots.get_mut(list) {
            if let Some(last) = self.nodes.get_mut(slot.tail as usize) {
                last.next = self.free;
                self.free = slot.head;
            }
            *slot = Slot {
                head: NONE,
                tail: NONE,
                added: 0,
                cleared: true,
                ..*slot
            };
        }
    }

    /// The list above it was cleared: the host will have nothing.
    pub(super) fn forget(&mut self, list: usize) {
        self.clear(list);
        if let Some(slot) = self.slots.get_mut(list) {
            slot.chunk = NOTHING;
            slot.len = 0;
            slot.cleared = false;
        }
    }

    fn change(&mut self, list: usize) {
        if let Some(slot) = self.slots.get_mut(list)
            && !std::mem::replace(&mut slot.changed, true)
        {
            self.changed.push(list as u32);
        }
    }

    /// Whether the host must be asked before the list can be read.
    #[inline]
    pub(super) fn is_unknown(&self, list: usize) -> bool {
        self.slots
            .get(list)
            .is_some_and(|s| s.chunk == UNKNOWN && !s.cleared)
    }

    /// Takes what the host has answered for these lists; answers for how many, and their bytes.
    pub(super) fn take(
        &mut self,
        spec: &Spec,
        lists: impl Iterator<Item = usize>,
        answer: WitLists,
    ) -> (usize, usize) {
        let done = answer.done as usize;
        let chunk = Chunk::take::<T>(spec, answer.values);
        let (rows, bytes) = (chunk.rows, chunk.bytes());
        self.chunks.push(chunk);
        self.kept += bytes;
        let number = self.chunks.len() as u32;
        let lengths = spec.shipped(from_bytes::<u32>(&answer.lengths, done));
        let (mut start, mut taken) = (0, 0);
        for (list, len) in lists.zip(lengths.iter()) {
            if let Some(slot) = self.slots.get_mut(list) {
                slot.chunk = if len == 0 { NOTHING } else { number };
                slot.start = start;
                slot.len = len;
            }
            start += len;
            taken += 1;
        }
        if taken == 0 || start as usize > rows {
            spec.refuse("was answered with lists that are not there");
        }
        (taken, bytes)
    }

    /// Drops what was read if it is too much; all but what the call has changed is asked for again.
    pub(super) fn make_room(&mut self) {
        if self.kept <= KEPT_BYTES {
            return;
        }
        self.kept = 0;
        self.chunks.clear();
        for slot in &mut self.slots {
            if slot.chunk != NOTHING {
                slot.chunk = UNKNOWN;
            }
        }
    }

    pub(super) fn with<R>(&self, list: usize, f: impl FnOnce(ListItems<'_, T>) -> R) -> R {
        let slot = self.slots.get(list).copied().unwrap_or(UNTOUCHED);
        let shipped = match self.chunks.get((slot.chunk as usize).wrapping_sub(1)) {
            Some(chunk) if !slot.cleared => chunk.reader::<T>().map(|r| (r, chunk.rows)),
            _ => None,
        };
        let end = if shipped.is_some() { slot.len } else { 0 };
        f(ListItems {
            shipped,
            next: slot.start as usize,
            end: (slot.start + end) as usize,
            nodes: &self.nodes,
            node: slot.head,
            added: slot.added as usize,
        })
    }

    /// The lists that were changed, in the order of their first change; forgets them.
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Whether the host's values of a list are to be removed.
    pub(super) fn is_cleared(&self, list: usize) -> bool {
        self.slots
            .get(list)
            .is_some_and(|s| s.cleared && s.chunk != NOTHING)
    }

    /// What was added to a list.
    pub(super) fn added(&self, list: usize) -> impl Iterator<Item = &T> {
        let slot = self.slots.get(list).copied().unwrap_or(UNTOUCHED);
        let mut at = slot.head;
        (0..slot.added).map_while(move |_| {
            let node = self.nodes.get(at as usize)?;
            at = node.next;
            Some(&node.value)
        })
    }
}

/// The values of a list in order.
pub struct ListItems<'a, T: Value> {
    shipped: Option<(T::Column<'a>, usize)>,
    next: usize,
    end: usize,
    nodes: &'a [Node<T>],
    node: u32,
    added: usize,
}

impl<T: Value> Clone for ListItems<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, T: Value> Iterator for ListItems<'a, T> {
    type Item = T::Ref<'a>;

    #[inline]
    fn next(&mut self) -> Option<T::Ref<'a>> {
        if self.next < self.end {
            let (column, rows) = self.shipped.as_ref()?;
            let row = Row::below(self.next, *rows)?;
            self.next += 1;
            return Some(T::read(column, row));
        }
        let node = self.nodes.get(self.node as usize)?;
        self.node = node.next;
        self.added = self.added.checked_sub(1)?;
        Some(node.value.lend())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next) + self.added;
        (left, Some(left))
    }
}

impl<T: Value> ExactSizeIterator for ListItems<'_, T> {}

impl<T: Value> ListItems<'_, T> {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One list for each key, or one of the task.
pub(super) struct ListCells<T: Value> {
    pub(super) spec: Rc<Spec>,
    call: Rc<Call>,
    of: RefCell<Lists<T>>,
    /// Items of former types.
    pub(super) moved: Moved<T>,
}

struct Lists<T: Value> {
    ready: bool,
    store: ListStore<T>,
    ahead: Ahead,
}

impl<T: Value> ListCells<T> {
    pub(super) fn new(spec: Rc<Spec>, call: Rc<Call>) -> Self {
        Self {
            spec,
            call,
            of: RefCell::new(Lists {
                ready: false,
                store: ListStore::default(),
                ahead: Ahead::default(),
            }),
            moved: Moved::default(),
        }
    }

    /// What the key at hand has of former types is made its own.
    #[inline]
    fn settle(&self) {
        let key = || self.spec.key(&self.call);
        self.moved.settle(key, |item| self.put(item));
    }

    #[inline]
    fn change<R>(&self, f: impl FnOnce(&mut ListStore<T>, usize) -> R) -> R {
        let key = self.spec.key(&self.call);
        let lists = &mut *self.of.borrow_mut();
        if !std::mem::replace(&mut lists.ready, true) {
            lists.store.reset(self.spec.keys(&self.call));
        }
        f(&mut lists.store, key)
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(ListItems<'_, T>) -> R) -> R {
        self.settle();
        let (key, unknown) = self.change(|store, key| (key, store.is_unknown(key)));
        {
            let lists = &mut *self.of.borrow_mut();
            lists.ahead.used();
            if unknown {
                self.fetch(lists, key);
            }
        }
        self.of.borrow().store.with(key, f)
    }

    fn fetch(&self, lists: &mut Lists<T>, key: usize) {
        lists.store.make_room();
        let most = lists.ahead.next();
        let keys = key..self.spec.keys(&self.call);
        let wanted = keys.take(most).take_while(|k| lists.store.is_unknown(*k));
        let end = key + wanted.count();
        let ordinals = to_bytes((key..end).map(|o| o as u32));
        let answer = host::state::list_get_many(self.spec.number, &ordinals, None);
        let answer = self.spec.answer(answer);
        let (done, bytes) = lists.store.take(&self.spec, key..end, answer);
        lists.ahead.read(done, bytes);
        // The read that asks counts, too.
        lists.ahead.used();
    }

    #[inline]
    pub(super) fn add(&self, value: T) {
        self.settle();
        self.put(value);
    }

    #[inline]
    fn put(&self, value: T) {
        let bytes = self.change(|store, key| store.add(key, value));
        self.call.bytes.update(|b| b + bytes);
    }

    pub(super) fn clear(&self) {
        self.settle();
        self.change(|store, key| store.clear(key));
    }
}

impl<T: Value> Cells for ListCells<T> {
    fn begin(&self) {
        self.moved.begin();
        self.of.borrow_mut().ready = false;
    }

    fn changes(&self) -> Option<StateChange> {
        let lists = &mut *self.of.borrow_mut();
        if !std::mem::take(&mut lists.ready) || lists.store.changed.is_empty() {
            return None;
        }
        let mut out = ListChanges::<T>::default();
        for key in lists.store.take_changed() {
            if lists.store.is_cleared(key as usize) {
                out.push(CLEAR, key);
            }
            let added = lists.store.added(key as usize);
            added.for_each(|value| out.put(key, value));
        }
        Some(out.finish(self.spec.number, None))
    }
}

/// Changes of lists under construction.
pub(super) struct ListChanges<T: Value> {
    changes: Vec<u8>,
    ordinals: Vec<u32>,
    values: T::Builder,
    puts: u32,
}

impl<T: Value> Default for ListChanges<T> {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            ordinals: Vec::new(),
            values: T::Builder::default(),
            puts: 0,
        }
    }
}

impl<T: Value> ListChanges<T> {
    pub(super) fn push(&mut self, change: u8, ordinal: u32) {
        self.changes.push(change);
        self.ordinals.push(ordinal);
    }

    pub(super) fn put(&mut self, ordinal: u32, value: &T) {
        self.push(PUT, ordinal);
        T::push(&mut self.values, value.lend());
        self.puts += 1;
    }

    pub(super) fn finish(mut self, state: u32, map_keys: Option<Slots>) -> StateChange {
        StateChange {
            state,
            marks: Vec::new(),
            changes: self.changes,
            ordinals: to_bytes(self.ordinals),
            map_keys,
            values: slots::<T>(&mut self.values, self.puts, None),
        }
    }
}
