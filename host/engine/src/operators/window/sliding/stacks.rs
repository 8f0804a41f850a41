//! Slices merged from both ends: from each of the older ones up to a border, and from the border on. A window is two of
//! those. When no older slice is left, the border moves up to the end of the window.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use pelton_model::Result;
use pelton_model::batch::Batch;
use pelton_model::schema::Field;
use pelton_model::window::Window;

use super::Slice;
use crate::operator::Context;
use crate::operators::window::function::{Function, Pane};
use crate::state::RowSet;

pub(super) struct Stacks {
    /// By the start of a slice: it and all above, up to the border.
    front: BTreeMap<i64, Arc<Pane>>,
    border: i64,
    /// From the border up to `end`.
    back: Arc<Pane>,
    end: i64,
    /// The start of the last window.
    start: i64,
}

/// Rows that were added to a slice.
#[derive(Clone, Copy)]
pub(super) struct Added<'a> {
    pub(super) batch: &'a Batch,
    pub(super) key: &'a [ArrayRef],
    pub(super) rows: RowSet<'a>,
}

impl Stacks {
    pub(super) fn new(empty: Pane) -> Self {
        Self {
            front: BTreeMap::new(),
            border: i64::MIN,
            back: Arc::new(empty),
            end: i64::MIN,
            start: i64::MIN,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.back.bytes() + self.front.values().map(|p| p.bytes()).sum::<u64>()
    }

    /// Whether a slice is in what is merged.
    pub(super) fn holds(&self, at: i64) -> bool {
        (self.start..self.end).contains(&at)
    }

    /// Adds rows of a slice to whatever has that slice. `slice` has them already.
    pub(super) fn add(
        &mut self,
        at: i64,
        slice: &Pane,
        function: &mut Function,
        key: &[Field],
        added: Added<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let Added {
            batch,
            key: columns,
            rows,
        } = added;
        if !self.holds(at) {
            return Ok(());
        }
        if at >= self.border {
            return function.add(Arc::make_mut(&mut self.back), batch, columns, rows, cx);
        }
        if !self.front.contains_key(&at) {
            let mut pane = function.pane(key, 0);
            function.merge_all(&mut pane, slice, cx)?;
            if let Some((_, above)) = self.front.range(at..).next() {
                function.merge_all(&mut pane, above, cx)?;
            }
            for (_, pane) in self.front.range_mut(..at) {
                function.add(Arc::make_mut(pane), batch, columns, rows, cx)?;
            }
            self.front.insert(at, Arc::new(pane));
            return Ok(());
        }
        for (_, pane) in self.front.range_mut(..=at) {
            function.add(Arc::make_mut(pane), batch, columns, rows, cx)?;
        }
        Ok(())
    }

    /// Moves on to a window.
    pub(super) fn advance(
        &mut self,
        window: Window,
        slices: &BTreeMap<i64, Slice>,
        function: &mut Function,
        key: &[Field],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        self.start = window.start;
        if window.start < self.border {
            self.front = self.front.split_off(&window.start);
            let from = self.end.max(self.border);
            for (_, slice) in slices.range(from..window.end.max(from)) {
                function.merge_all(Arc::make_mut(&mut self.back), &slice.pane, cx)?;
            }
            self.end = self.end.max(window.end);
            return Ok(());
        }
        self.front.clear();
        match Arc::get_mut(&mut self.back) {
            Some(back) => back.clear(),
            None => self.back = Arc::new(function.pane(key, 0)),
        }
        (self.border, self.end) = (window.end, window.end);
        for (start, slice) in slices.range(window.start..window.end).rev() {
            let mut pane = function.pane(key, slice.pane.index.len());
            function.merge_all(&mut pane, &slice.pane, cx)?;
            if let Some((_, above)) = self.front.first_key_value() {
                function.merge_all(&mut pane, above, cx)?;
            }
            self.front.insert(*start, Arc::new(pane));
        }
        Ok(())
    }

    /// The parts of the window, the older first.
    pub(super) fn parts(&self, window: Window) -> (Option<&Pane>, Option<&Pane>) {
        let front = self.front.range(window.start..).next();
        let back = Some(&*self.back).filter(|pane| !pane.index.is_empty());
        (front.map(|(_, pane)| &**pane), back)
    }

    /// What is merged, by its bounds.
    pub(super) fn merged(&self) -> impl Iterator<Item = (i64, i64, &Arc<Pane>)> {
        let front = self.front.iter();
        let front = front.map(|(start, pane)| (*start, self.border, pane));
        let back = Some((self.border, self.end, &self.back));
        front.chain(back.filter(|(_, _, pane)| !pane.index.is_empty()))
    }

    /// The start of the last window, the border, and the end of what is merged.
    pub(super) fn borders(&self) -> [i64; 3] {
        [self.start, self.border, self.end]
    }

    /// Stands as it stood.
    pub(super) fn restore(&mut self, borders: [i64; 3], merged: BTreeMap<(i64, i64), Pane>) {
        [self.start, self.border, self.end] = borders;
        for ((start, _), pane) in merged {
            if start < self.border {
                self.front.insert(start, Arc::new(pane));
            } else {
                self.back = Arc::new(pane);
            }
        }
    }
}
