//! A window operator whose slices do not all fit in memory: which of them leave, and how windows fire that have slices
//! elsewhere. Those fire key group by key group, so that never more than one of these is merged in memory; their results
//! come by key group.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_model::Result;
use pelton_model::key::{KeyGroup, hash_bytes};
use pelton_model::window::Window;

use super::slice::Slice;
use super::spill::Spill;
use super::{Sharing, WindowOperator};
use crate::operator::Context;
use crate::operators::process::StatePlace;
use crate::operators::window::function::Pane;
use crate::state::RowSet;

/// A window that fires in parts.
pub(super) struct Firing {
    /// The next key group.
    group: u32,
    /// By slice: the slots in memory, by key group.
    slots: BTreeMap<i64, Vec<Vec<u32>>>,
}

impl WindowOperator {
    /// From now on slices may leave memory, where the task's backend keeps state elsewhere.
    pub(in crate::operators::window) fn with_room(
        mut self,
        place: &StatePlace<'_>,
    ) -> Result<Self> {
        if !self.frame.key.is_empty() {
            self.spill = Spill::open(place, &self.form)?.map(Box::new);
        }
        Ok(self)
    }

    /// Whether a window has slices that are not in memory alone.
    pub(super) fn is_spilled(&self, window: Window) -> bool {
        let end = match self.shared {
            true => window.end,
            false => window.start.saturating_add(1),
        };
        let spill = self.spill.as_ref();
        spill.is_some_and(|s| s.has(window.start, end))
    }

    /// Emits the results of one key group of such a window; whether that was the last.
    pub(super) fn fire_group(&mut self, window: Window, cx: &mut Context<'_>) -> Result<bool> {
        let Some(spill) = &mut self.spill else {
            return Ok(true);
        };
        let end = match self.shared {
            true => window.end,
            false => window.start.saturating_add(1),
        };
        let groups = spill.groups();
        let firing = match &mut self.firing {
            Some(firing) => firing,
            None => {
                spill.finish_leaving()?;
                let slices = self.panes.range(window.start..end);
                let slots = slices.map(|(start, slice)| {
                    let slots = by_group(&slice.pane, groups.start, groups.end, &self.form);
                    (*start, slots)
                });
                self.firing.insert(Firing {
                    group: groups.start,
                    slots: slots.collect(),
                })
            }
        };
        let group = firing.group;
        self.scratch.clear();
        for (start, slice) in self.panes.range(window.start..end) {
            let (function, key) = (&mut self.function, &self.frame.key);
            let empty = function.pane(key, 0);
            spill.scan(
                *start,
                group,
                || empty.clone(),
                |found| {
                    // What memory has is newer.
                    let all: Vec<u32> = (0..found.index.slots() as u32).collect();
                    let keys = found.index.columns(&all)?;
                    let mut there = Vec::new();
                    let rows = RowSet::First(all.len());
                    slice.pane.index.seek(&keys, rows, &mut there)?;
                    let older = all.iter().zip(&there).filter(|(_, t)| t.is_none());
                    let older: Vec<u32> = older.map(|(slot, _)| *slot).collect();
                    function.merge(&mut self.scratch, &found, &older, cx)?;
                    Ok(())
                },
            )?;
            let place = (group - groups.start) as usize;
            let slots = firing.slots.get(start).and_then(|s| s.get(place));
            if let Some(slots) = slots.filter(|s| !s.is_empty()) {
                self.function
                    .merge(&mut self.scratch, &slice.pane, slots, cx)?;
            }
        }
        if !self.scratch.index.is_empty() {
            self.function.emit(&self.scratch, window, cx)?;
        }
        firing.group += 1;
        let over = firing.group >= groups.end;
        if over {
            self.firing = None;
            // It may have grown large.
            self.scratch = self.function.pane(&self.frame.key, 0);
        }
        Ok(over)
    }

    /// Bytes in memory.
    pub(super) fn memory(&self) -> u64 {
        let shared = match &self.sharing {
            Sharing::Afresh => 0,
            Sharing::Running(running) => running.bytes(),
            Sharing::Stacks(stacks) => stacks.bytes(),
        };
        let slices = self.panes.values();
        let panes = slices.map(Slice::bytes);
        let leaving = self.spill.as_ref().map_or(0, |s| s.leaving_bytes());
        panes.sum::<u64>() + shared + leaving
    }

    /// Sees to it that memory is not used beyond the room that there is: the largest pane begins to leave when half of
    /// that is used, and goes while rows come in.
    pub(super) fn keep_to_room(&mut self) -> Result<()> {
        let Some(spill) = self.spill.as_mut().filter(|_| self.firing.is_none()) else {
            return Ok(());
        };
        spill.go_on()?;
        let room = spill.room();
        loop {
            let used = self.memory();
            let Some(spill) = self.spill.as_mut().filter(|_| used > room / 2) else {
                return Ok(());
            };
            if spill.leaving_bytes() > 0 {
                if used <= room {
                    return Ok(());
                }
                spill.finish_leaving()?;
                continue;
            }
            if !matches!(self.sharing, Sharing::Afresh) {
                self.unshare()?;
                continue;
            }
            let panes = self.panes.iter().filter(|(_, s)| !s.pane.index.is_empty());
            let largest = panes.max_by_key(|(_, s)| s.pane.bytes());
            let Some(start) = largest.map(|(start, _)| *start) else {
                return Ok(());
            };
            self.leave(start)?;
        }
    }

    /// A slice begins to leave memory.
    fn leave(&mut self, start: i64) -> Result<()> {
        let (Some(spill), Some(slice)) = (&mut self.spill, self.panes.get_mut(&start)) else {
            return Ok(());
        };
        let empty = Arc::new(self.function.pane(&self.frame.key, 0));
        let pane = std::mem::replace(&mut slice.pane, empty);
        spill.leave(start, pane)
    }

    /// What windows share takes memory: from now on each is merged afresh. Slices whose keys were there leave.
    pub(super) fn unshare(&mut self) -> Result<()> {
        let sharing = std::mem::replace(&mut self.sharing, Sharing::Afresh);
        let Sharing::Running(running) = &sharing else {
            return Ok(());
        };
        for (start, slice) in &mut self.panes {
            if running.part(slice)?
                && let Some(spill) = &mut self.spill
            {
                // One after the other, so that memory does not grow on the way.
                let empty = Arc::new(self.function.pane(&self.frame.key, 0));
                spill.leave(*start, std::mem::replace(&mut slice.pane, empty))?;
                spill.finish_leaving()?;
            }
        }
        Ok(())
    }
}

/// The slots of a pane by key group.
fn by_group(pane: &Pane, first: u32, end: u32, form: &super::Form) -> Vec<Vec<u32>> {
    let mut groups = vec![Vec::new(); end.saturating_sub(first) as usize];
    let mut key = Vec::new();
    for slot in 0..pane.index.slots() as u32 {
        key.clear();
        pane.index.encoding(slot, &mut key);
        let group = KeyGroup::of(hash_bytes(&key), form.max_parallelism).0;
        let place = group.checked_sub(first).map(|p| p as usize);
        if let Some(slots) = place.and_then(|p| groups.get_mut(p)) {
            slots.push(slot);
        }
    }
    groups
}
