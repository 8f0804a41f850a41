//! What is in the last window that has fired, by key: the next takes out the slices that it does not have, and takes in
//! those that it has more. Only for native aggregates that can be taken out again, exactly.
//!
//! Results come in the order of the slots in which keys stand here: a key takes the lowest that is free.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::ArrayRef;
use pelton_model::batch::Batch;
use pelton_model::schema::Field;
use pelton_model::window::Window;
use pelton_model::{Error, Result};

use super::Slice;
use crate::operator::Context;
use crate::operators::window::function::{Firing, Function, Pane, Values};
use crate::operators::window::saved::stand;
use crate::state::{KeyIndex, RowSet};

pub(super) struct Running {
    key: Vec<Field>,
    pane: Arc<Pane>,
}

impl Running {
    pub(super) fn new(key: Vec<Field>, empty: Pane) -> Self {
        Self {
            key,
            pane: Arc::new(empty),
        }
    }

    /// What the keys of closed slices are found in.
    pub(super) fn pane(&self) -> &Arc<Pane> {
        &self.pane
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pane.bytes()
    }

    /// Gives the keys of rows that are about to be added their slots, in the order of the rows.
    pub(super) fn meet(&mut self, key: &[ArrayRef], rows: &[u32]) -> Result<()> {
        let rows = RowSet::These(rows);
        let pane = Arc::make_mut(&mut self.pane);
        pane.index.locate(key, rows, &mut Vec::new())
    }

    /// Adds rows to a slice, and here if the slice is in it.
    pub(super) fn add(
        &mut self,
        slice: &mut Slice,
        function: &mut Function,
        batch: &Batch,
        key: &[ArrayRef],
        rows: RowSet<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let pane = Arc::make_mut(&mut slice.pane);
        if slice.closed {
            // Its slots were given in this order.
            let keys = self.pane.index.columns(&slice.places)?;
            let all = RowSet::First(slice.places.len());
            pane.index.locate(&keys, all, &mut Vec::new())?;
            slice.closed = false;
        }
        function.add(pane, batch, key, rows, cx)?;
        if slice.places.is_empty() {
            return Ok(());
        }
        let own = Arc::make_mut(&mut self.pane);
        function.add(own, batch, key, rows, cx)?;
        let new: Vec<u32> = (slice.places.len()..pane.index.slots())
            .map(|s| s as u32)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let keys = pane.index.columns(&new)?;
        let mut places = Vec::new();
        let rows = RowSet::First(new.len());
        own.index.locate(&keys, rows, &mut places)?;
        Arc::make_mut(&mut slice.places).extend(places);
        Ok(())
    }

    /// Takes a slice out.
    pub(super) fn expel(&mut self, slice: &mut Slice) -> Result<()> {
        let places = std::mem::take(&mut slice.places);
        let pane = Arc::make_mut(&mut self.pane);
        let (Values::Native(accs), Values::Native(from)) = (&mut pane.values, &slice.pane.values)
        else {
            return Err(Error::bug("a user's aggregate cannot be taken out"));
        };
        for (acc, from) in accs.iter_mut().zip(from) {
            acc.take_out(from, &places)?;
        }
        // The first accumulator counts rows.
        let rows = accs.first().map(|a| a.counts(a)).unwrap_or_default();
        for place in places.iter() {
            if rows.get(*place as usize) == Some(&0) {
                pane.index.remove(*place);
            }
        }
        pane.index.lowest_first();
        Ok(())
    }

    /// Moves on to a window. Unless slices are to be `kept`, they are closed; returns the index of one, empty.
    pub(super) fn advance(
        &mut self,
        window: Window,
        slices: &mut BTreeMap<i64, Slice>,
        function: &mut Function,
        kept: bool,
        cx: &mut Context<'_>,
    ) -> Result<Option<KeyIndex>> {
        for (_, slice) in slices.range_mut(..window.start) {
            if !slice.places.is_empty() {
                self.expel(slice)?;
            }
        }
        let mut spare = None;
        for (_, slice) in slices.range_mut(window.start..window.end) {
            if slice.places.is_empty() {
                let own = Arc::make_mut(&mut self.pane);
                slice.places = Arc::new(function.merge_all(own, &slice.pane, cx)?);
            }
            if !kept && !slice.closed {
                slice.closed = true;
                let index = KeyIndex::new(self.key.clone(), 0);
                match Arc::get_mut(&mut slice.pane) {
                    Some(pane) => {
                        let mut index = std::mem::replace(&mut pane.index, index);
                        if spare.is_none() {
                            index.clear();
                            spare = Some(index);
                        }
                    }
                    // A snapshot has it.
                    None => {
                        let values = slice.pane.values.clone();
                        slice.pane = Arc::new(Pane { index, values });
                    }
                }
            }
        }
        Ok(spare)
    }

    pub(super) fn emit(
        &self,
        window: Window,
        function: &mut Function,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let Values::Native(accs) = &self.pane.values else {
            return Err(Error::bug("a user's aggregate is not moved on"));
        };
        let rows = accs.first().map(|a| a.counts(a)).unwrap_or_default();
        let there = (0..).zip(rows).filter(|(_, rows)| **rows > 0);
        let slots: Vec<u32> = there.map(|(slot, _)| slot).collect();
        let firing = Firing {
            keys: self.pane.index.columns(&slots)?,
            slots: &slots,
            starts: vec![window.start; slots.len()],
            ends: vec![window.end; slots.len()],
        };
        function.tell(&self.pane.values, firing, cx)
    }

    /// Stands as it stood: the places of slices say which of them are in it, and where their keys were.
    pub(super) fn restore(&mut self, slices: &BTreeMap<i64, Slice>) -> Result<()> {
        let pane = Arc::make_mut(&mut self.pane);
        let mut known = HashSet::new();
        let mut groups = Vec::new();
        let in_it = || slices.values().filter(|s| !s.places.is_empty());
        for slice in in_it() {
            let new = (0u32..).zip(slice.places.iter());
            let new = new.filter(|(_, place)| known.insert(**place));
            let (slots, places): (Vec<u32>, Vec<u32>) = new.unzip();
            groups.push((slice.pane.index.columns(&slots)?, places));
        }
        stand(&mut pane.index, &groups)?;
        let total = pane.index.slots();
        for slice in in_it() {
            let (Values::Native(accs), Values::Native(from)) =
                (&mut pane.values, &slice.pane.values)
            else {
                return Err(Error::bug("a user's aggregate is not moved on"));
            };
            let slots: Vec<u32> = (0..slice.places.len() as u32).collect();
            for (acc, from) in accs.iter_mut().zip(from) {
                acc.merge(from, &slice.places, &slots, total)?;
            }
        }
        Ok(())
    }
}
