//! What is in the last window that has fired, by key: the next takes out the slices that it does not have, and takes in
//! those that it has more. Only for native aggregates that can be taken out again, exactly.
//!
//! A key has an *id*, the slot of its accumulators here. Slices that have many of the keys stand by id, too: a row finds
//! its key once, in an index that stays as it is, and the slice is taken in and out slot by slot, without looking keys
//! up. Others have an index of their own until they are taken in.
//!
//! Results come in the order of *places*: a key that comes into a window takes the lowest that is free, by slice and
//! then by arrival. Ids do not show.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::ArrayRef;
use pelton_model::batch::Batch;
use pelton_model::schema::Field;
use pelton_model::window::Window;
use pelton_model::{Error, Result};

use super::slice::{Keys, Slice};
use crate::operator::Context;
use crate::operators::window::accumulator::Acc;
use crate::operators::window::function::{Function, Pane, Values};
use crate::operators::window::native::Native;
use crate::operators::window::saved::{Names, stand};
use crate::state::{KeyIndex, RowSet};

/// A slice stands by id from one in so many of the keys: then that takes about as much memory as an index.
const SPREAD: usize = 8;
/// A slice that was taken in stays so if it has one in so many of the keys: else the ids alone take less.
const KEPT_SPREAD: usize = 2;
/// No id, no place.
const NONE: u32 = u32::MAX;

pub(super) struct Running {
    key: Vec<Field>,
    /// The keys of the window, and those of slices that stand by id.
    ids: KeyIndex,
    values: Values,
    /// By id: where its result comes.
    places: Vec<u32>,
    /// By place: the id.
    order: Vec<u32>,
    /// Places that no key has, the lowest last.
    free: Vec<u32>,
    /// Ids that have lost their place.
    gone: Vec<u32>,
    /// The start of the window: no slice before it is taken in any more.
    start: i64,
}

/// Rows that come into a slice.
#[derive(Clone, Copy)]
pub(super) struct Added<'a> {
    pub(super) start: i64,
    pub(super) batch: &'a Batch,
    pub(super) key: &'a [ArrayRef],
    pub(super) rows: RowSet<'a>,
}

impl Running {
    pub(super) fn new(key: Vec<Field>, values: Values) -> Self {
        Self {
            ids: KeyIndex::new(key.clone(), 0),
            key,
            values,
            places: Vec::new(),
            order: Vec::new(),
            free: Vec::new(),
            gone: Vec::new(),
            start: i64::MIN,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let numbers = self.places.len() + self.order.len() + self.free.len();
        self.ids.bytes() + self.values.bytes() + numbers as u64 * 4
    }

    /// What a snapshot finds keys and their places by.
    pub(super) fn names(&self) -> Names {
        Names {
            index: self.ids.names(),
            places: self.places.clone(),
        }
    }

    /// Gives the keys of rows that are about to be added to slices that were taken in their places, in the order of the
    /// rows.
    pub(super) fn meet(&mut self, key: &[ArrayRef], rows: &[u32]) -> Result<()> {
        let mut ids = Vec::new();
        self.ids.locate(key, RowSet::These(rows), &mut ids)?;
        self.place(&ids);
        Ok(())
    }

    /// Gives ids that have none a place.
    fn place(&mut self, ids: &[u32]) {
        self.places.resize(self.ids.slots(), NONE);
        if self.order.len() - self.free.len() == self.ids.len() {
            // All have one.
            return;
        }
        for id in ids {
            let Some(place @ &mut NONE) = self.places.get_mut(*id as usize) else {
                continue;
            };
            *place = self.free.pop().unwrap_or(self.order.len() as u32);
            match self.order.get_mut(*place as usize) {
                Some(of) => *of = *id,
                None => self.order.push(*id),
            }
        }
    }

    /// How a slice begins that comes after this one: mostly it will be like it.
    pub(super) fn keys_after(&self, before: Option<&Slice>) -> Keys {
        let is_like_it = |s: &Slice| {
            s.keys == Keys::Spread && s.ids.len().saturating_mul(SPREAD / 2) >= self.ids.slots()
        };
        match before.is_some_and(is_like_it) {
            true => Keys::Spread,
            false => Keys::Own,
        }
    }

    /// Adds rows to a slice, and here if it was taken in.
    pub(super) fn add(
        &mut self,
        slice: &mut Slice,
        function: &mut Function,
        added: Added<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let Added {
            start,
            batch,
            key,
            rows,
        } = added;
        match slice.keys {
            Keys::Listed => self.own(slice)?,
            Keys::Own if slice.is_taken_in || start < self.start => {}
            Keys::Own if slice.entries().saturating_mul(SPREAD) >= self.ids.slots() => {
                self.spread(slice, function)?;
            }
            Keys::Own | Keys::Spread => {}
        }
        if slice.is_taken_in {
            let mut ids = Vec::new();
            self.ids.locate(key, rows, &mut ids)?;
            let total = self.ids.slots();
            function.accumulate(&mut self.values, total, batch, rows, &ids, cx)?;
        }
        let pane = Arc::make_mut(&mut slice.pane);
        if slice.keys == Keys::Spread {
            let (native, accs) = natives(function, &mut pane.values)?;
            let new = Arc::make_mut(&mut slice.ids);
            return native.add_new(&mut self.ids, accs, batch, key, rows, new);
        }
        function.add(pane, batch, key, rows, cx)?;
        if slice.is_taken_in {
            let new = (slice.ids.len()..pane.index.slots()).map(|s| s as u32);
            let keys = pane.index.columns(&new.collect::<Vec<_>>())?;
            let rows = RowSet::First(pane.index.slots() - slice.ids.len());
            let mut ids = Vec::new();
            self.ids.locate(&keys, rows, &mut ids)?;
            Arc::make_mut(&mut slice.ids).extend(ids);
        }
        Ok(())
    }

    /// A slice that has its own index stands by id from now on.
    fn spread(&mut self, slice: &mut Slice, function: &mut Function) -> Result<()> {
        let slots = all_slots(&slice.pane);
        let keys = slice.pane.index.columns(&slots)?;
        let mut ids = Vec::new();
        self.ids
            .locate(&keys, RowSet::First(slots.len()), &mut ids)?;
        let mut pane = function.pane(&self.key, 0);
        merge(&mut pane.values, &slice.pane.values, &ids, self.ids.slots())?;
        (slice.pane, slice.ids) = (Arc::new(pane), Arc::new(ids));
        slice.keys = Keys::Spread;
        Ok(())
    }

    /// A slice has an index of its own from now on; its keys stand there as they came.
    fn own(&self, slice: &mut Slice) -> Result<()> {
        if slice.keys == Keys::Own {
            return Ok(());
        }
        if slice.keys == Keys::Spread {
            slice.pane = Arc::new(listed(&slice.pane, &slice.ids, &self.key)?);
        }
        let keys = self.ids.columns(&slice.ids)?;
        let pane = Arc::make_mut(&mut slice.pane);
        let rows = RowSet::First(slice.ids.len());
        pane.index.locate(&keys, rows, &mut Vec::new())?;
        slice.keys = Keys::Own;
        if !slice.is_taken_in {
            slice.ids = Arc::default();
        }
        Ok(())
    }

    /// A slice is no longer part of what is shared here. Returns whether its keys were found only here.
    pub(super) fn part(&self, slice: &mut Slice) -> Result<bool> {
        let was_closed = slice.keys != Keys::Own && slice.is_taken_in;
        self.own(slice)?;
        (slice.ids, slice.is_taken_in) = (Arc::default(), false);
        Ok(was_closed)
    }

    /// The accumulators of a slice that one row's key has, and the key, if it is there.
    pub(super) fn find(
        &self,
        slice: &Slice,
        key: &[ArrayRef],
        row: u32,
    ) -> Result<Option<(Vec<ArrayRef>, u32)>> {
        match slice.keys {
            Keys::Own => return slice.find(key, row),
            Keys::Listed => return Err(Error::bug("a slice that may fire again is closed")),
            Keys::Spread => {}
        }
        let there = |id: &u32| rows_of(slice).is_some_and(|rows| rows.has_rows(*id));
        let found = self.ids.find(key, row)?.filter(there);
        let named = |id| Ok((self.ids.columns(&[id])?, id));
        found.map(named).transpose()
    }

    /// Takes a slice out. What that empties is forgotten by [`forget`](Self::forget).
    pub(super) fn expel(&mut self, slice: &mut Slice) -> Result<()> {
        let ids = std::mem::take(&mut slice.ids);
        if !std::mem::take(&mut slice.is_taken_in) {
            self.gone.extend_from_slice(&ids);
            return Ok(());
        }
        let (Values::Native(accs), Values::Native(from)) = (&mut self.values, &slice.pane.values)
        else {
            return Err(foreign());
        };
        let whole = slice.keys == Keys::Spread;
        for (acc, from) in accs.iter_mut().zip(from) {
            match whole {
                true => acc.take_out_whole(from)?,
                false => acc.take_out(from, &ids)?,
            }
        }
        // The first accumulator counts rows.
        let before = self.gone.len();
        match (accs.first(), from.first()) {
            (Some(acc), Some(from)) if whole => acc.emptied(from, &mut self.gone),
            (Some(acc), _) => {
                let empty = ids.iter().filter(|id| !acc.has_rows(**id));
                self.gone.extend(empty);
            }
            (None, _) => {}
        }
        let free = self.free.len();
        for id in self.gone.get(before..).unwrap_or_default() {
            let place = self.places.get_mut(*id as usize);
            let place = place.map_or(NONE, |place| std::mem::replace(place, NONE));
            if let Some(of) = self.order.get_mut(place as usize) {
                *of = NONE;
                self.free.push(place);
            }
        }
        if free < self.free.len() {
            // Mostly in order already.
            self.free.sort_by(|a, b| b.cmp(a));
        }
        Ok(())
    }

    /// Forgets keys that are nowhere any more.
    pub(super) fn forget(&mut self, slices: &BTreeMap<i64, Slice>) {
        if self.gone.is_empty() {
            return;
        }
        // Their keys may have no place yet.
        let open = slices.values();
        let open = open.filter(|s| s.keys == Keys::Spread && !s.is_taken_in);
        let open: Vec<&Acc> = open.filter_map(rows_of).collect();
        for id in std::mem::take(&mut self.gone) {
            let has_place = self.places.get(id as usize).is_none_or(|p| *p != NONE);
            if !has_place && !open.iter().any(|acc| acc.has_rows(id)) {
                self.ids.remove(id);
            }
        }
    }

    /// Moves on to a window. Unless keys of slices are still to be found (`kept`), their own indexes go; returns one of
    /// them, empty.
    pub(super) fn advance(
        &mut self,
        window: Window,
        slices: &mut BTreeMap<i64, Slice>,
        kept: bool,
    ) -> Result<Option<KeyIndex>> {
        self.start = window.start;
        for (_, slice) in slices.range_mut(..window.start) {
            if !slice.is_taken_in {
                continue;
            }
            let ids = Arc::clone(&slice.ids);
            self.expel(slice)?;
            if kept && slice.keys != Keys::Own {
                // The ids may soon be those of other keys.
                slice.ids = ids;
                self.own(slice)?;
            }
        }
        let mut spare = None;
        for (_, slice) in slices.range_mut(window.start..window.end) {
            if !slice.is_taken_in {
                self.take_in(slice)?;
            }
            match slice.keys {
                Keys::Own if !kept => {
                    let index = self.close(slice);
                    spare = spare.or(index);
                }
                Keys::Spread if !kept => {
                    let has = slice.ids.len().saturating_mul(KEPT_SPREAD);
                    if rows_of(slice).is_some_and(|rows| has < rows.slots()) {
                        let pane = listed(&slice.pane, &slice.ids, &self.key)?;
                        (slice.pane, slice.keys) = (Arc::new(pane), Keys::Listed);
                    }
                }
                _ => {}
            }
        }
        self.forget(slices);
        Ok(spare)
    }

    fn take_in(&mut self, slice: &mut Slice) -> Result<()> {
        if slice.keys == Keys::Own {
            let slots = all_slots(&slice.pane);
            let keys = slice.pane.index.columns(&slots)?;
            let mut ids = Vec::new();
            self.ids
                .locate(&keys, RowSet::First(slots.len()), &mut ids)?;
            merge(&mut self.values, &slice.pane.values, &ids, self.ids.slots())?;
            slice.ids = Arc::new(ids);
        } else {
            let (Values::Native(accs), Values::Native(from)) =
                (&mut self.values, &slice.pane.values)
            else {
                return Err(foreign());
            };
            for (acc, from) in accs.iter_mut().zip(from) {
                acc.take_in_whole(from)?;
            }
        }
        self.place(&slice.ids);
        slice.is_taken_in = true;
        Ok(())
    }

    /// The slice's index goes; returns it, empty, if nobody else has it.
    fn close(&self, slice: &mut Slice) -> Option<KeyIndex> {
        slice.keys = Keys::Listed;
        let none = KeyIndex::new(self.key.clone(), 0);
        match Arc::get_mut(&mut slice.pane) {
            Some(pane) => {
                let mut index = std::mem::replace(&mut pane.index, none);
                index.clear();
                Some(index)
            }
            // A snapshot has it.
            None => {
                let values = slice.pane.values.clone();
                slice.pane = Arc::new(Pane {
                    index: none,
                    values,
                });
                None
            }
        }
    }

    pub(super) fn emit(
        &self,
        window: Window,
        function: &mut Function,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        if self.free.is_empty() {
            return function.emit_some(&self.values, &self.ids, &self.order, window, cx);
        }
        let there = self.order.iter().copied().filter(|id| *id != NONE);
        let there: Vec<u32> = there.collect();
        function.emit_some(&self.values, &self.ids, &there, window, cx)
    }

    /// Stands as it stood: the ids of slices say which of them are in it, and where their keys were.
    pub(super) fn restore(&mut self, slices: &BTreeMap<i64, Slice>) -> Result<()> {
        let mut known = HashSet::new();
        let mut groups = Vec::new();
        let in_it = || slices.values().filter(|s| s.is_taken_in);
        for slice in in_it() {
            let new = (0u32..).zip(slice.ids.iter());
            let new = new.filter(|(_, place)| known.insert(**place));
            let (slots, places): (Vec<u32>, Vec<u32>) = new.unzip();
            groups.push((slice.pane.index.columns(&slots)?, places));
        }
        stand(&mut self.ids, &groups)?;
        let total = self.ids.slots();
        // From here on ids are what places were.
        (self.places, self.order) = (vec![NONE; total], vec![NONE; total]);
        for place in groups.iter().flat_map(|(_, places)| places) {
            for all in [&mut self.places, &mut self.order] {
                if let Some(of) = all.get_mut(*place as usize) {
                    *of = *place;
                }
            }
        }
        let free = (0u32..).zip(&self.order).filter(|(_, id)| **id == NONE);
        self.free = free.map(|(place, _)| place).collect();
        self.free.reverse();
        for slice in in_it() {
            merge(&mut self.values, &slice.pane.values, &slice.ids, total)?;
        }
        Ok(())
    }
}

fn all_slots(pane: &Pane) -> Vec<u32> {
    (0..pane.index.slots() as u32).collect()
}

/// How many rows each accumulator of a slice has.
fn rows_of(slice: &Slice) -> Option<&Acc> {
    match &slice.pane.values {
        Values::Native(accs) => accs.first(),
        Values::User(_) => None,
    }
}

/// Merges the accumulators of all slots into those of `ids`, of `total` ones.
fn merge(into: &mut Values, from: &Values, ids: &[u32], total: usize) -> Result<()> {
    let (Values::Native(accs), Values::Native(from)) = (into, from) else {
        return Err(foreign());
    };
    let slots: Vec<u32> = (0..ids.len() as u32).collect();
    let mut both = accs.iter_mut().zip(from);
    both.try_for_each(|(acc, from)| acc.merge(from, ids, &slots, total))
}

/// A pane of what stands under these ids alone.
fn listed(pane: &Pane, ids: &[u32], key: &[Field]) -> Result<Pane> {
    let Values::Native(accs) = &pane.values else {
        return Err(foreign());
    };
    let values = Values::Native(accs.iter().map(|a| a.pick(ids)).collect());
    let index = KeyIndex::new(key.to_vec(), 0);
    Ok(Pane { index, values })
}

fn natives<'a>(
    function: &'a mut Function,
    values: &'a mut Values,
) -> Result<(&'a mut Native, &'a mut [Acc])> {
    match (function, values) {
        (Function::Native(native), Values::Native(accs)) => Ok((native, accs)),
        _ => Err(foreign()),
    }
}

fn foreign() -> Error {
    Error::bug("a user's aggregate is not moved on")
}
