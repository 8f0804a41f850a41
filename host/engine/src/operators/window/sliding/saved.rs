//! What a window operator writes at a barrier, and how it goes on from that: its slices; of those that are merged
//! before, what the slices alone do not tell. With another parallelism only the slices count, and merging begins anew.
//!
//! What has left memory is in the snapshot as the keyed state that has it, and is older than what stands in memory under
//! the same key. Where all fits in memory again, or the backend has nothing else, it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pelton_model::barrier::SnapshotForm;
use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind, SectionSpec};
use pelton_model::time::EventTime;
use pelton_model::{Error, ErrorCode, Result};

use super::slice::{Keys, Slice};
use super::{Sharing, WindowOperator};
use crate::operator::Context;
use crate::operators::window::saved::{
    Kept, bounds, pane_fields, read_bounds, read_panes, read_spilled, same_tasks, take, take_i64,
};
use crate::snapshot::{Restored, SnapshotWriter, section};

const WINDOWS: &str = "windows";
/// What so many last batches have added to is copied at once, with less than its next change would copy.
const HOT: u64 = 4;
/// Slices merged from a time up to another, in the order in which their rows were added.
const MERGED: &str = "merged";
/// Of each task: which ones are merged.
const BORDERS: &str = "borders";
/// Of each task: slices that the keyed state has something of.
const ELSEWHERE: &str = "slices";

impl WindowOperator {
    /// What there is now goes into the snapshot.
    pub(super) fn freeze(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        self.thaw();
        if let Some(spill) = &mut self.spill {
            spill.finish_leaving()?;
            spill.state.snapshot(form, into)?;
            spill.saved = false;
            let number = into.section(section(SectionKind::Windows, ELSEWHERE));
            for start in spill.starts() {
                let entry = Entry {
                    key: &[],
                    sub: &(start ^ i64::MIN).to_be_bytes(),
                    value: &[],
                };
                into.put(number, NO_GROUP, entry);
            }
        }
        let names = match &self.sharing {
            Sharing::Running(running) => Some(Arc::new(running.names())),
            _ => None,
        };
        let placed = names.is_some();
        let number = into.section(self.form.section(WINDOWS, &pane_fields(placed)));
        for (start, slice) in &self.panes {
            self.writing.push(Kept {
                section: number,
                start: *start,
                end: start.saturating_add(self.pane_ms()),
                pane: match slice.added + HOT > self.batches {
                    true => Arc::new(slice.pane.names()),
                    false => Arc::clone(&slice.pane),
                },
                names: names.clone(),
                ids: Arc::clone(&slice.ids),
                named: slice.keys != Keys::Own,
                by_id: slice.keys == Keys::Spread,
                placed: placed.then_some(slice.is_taken_in),
            });
        }
        self.freeze_stacks(into);
        Ok(())
    }

    fn freeze_stacks(&mut self, into: &mut SnapshotWriter) {
        let Sharing::Stacks(stacks) = &self.sharing else {
            return;
        };
        let number = into.section(self.form.section(MERGED, &pane_fields(false)));
        for (start, end, pane) in stacks.merged() {
            self.writing.push(Kept {
                section: number,
                start,
                end,
                pane: Arc::clone(pane),
                names: None,
                ids: Arc::default(),
                named: false,
                by_id: false,
                placed: None,
            });
        }
        let number = into.section(section(SectionKind::Windows, BORDERS));
        let [start, border, end] = stacks.borders();
        let mut value = bounds(start, border).to_vec();
        value.extend_from_slice(&(end ^ i64::MIN).to_be_bytes());
        let entry = Entry {
            key: &[],
            sub: &self.task.to_be_bytes(),
            value: &value,
        };
        into.put(number, NO_GROUP, entry);
    }

    /// Writes more of what was frozen; whether that was all.
    pub(super) fn write_frozen(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        if let Some(spill) = self.spill.as_mut().filter(|s| !s.saved) {
            if !spill.state.go_on_snapshot(into)? {
                return Ok(false);
            }
            spill.saved = true;
        }
        self.writing.go_on(&self.form, into)
    }

    /// The snapshot at hand is given up.
    pub(super) fn thaw(&mut self) {
        self.writing.clear();
        if let Some(spill) = self.spill.as_mut().filter(|s| !s.saved) {
            spill.state.abort_snapshot();
            spill.saved = true;
        }
    }

    /// How long a pane is.
    fn pane_ms(&self) -> i64 {
        match self.shared {
            true => self.assigner.slice_ms(),
            false => self.assigner.parts().0,
        }
    }

    /// Takes what was there at a checkpoint. Errors: `StateMismatch`, `Corrupt`.
    pub(super) fn take_back(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        self.watermark = cx.watermark;
        let same = same_tasks(from);
        let elsewhere = self.take_back_elsewhere(from)?;
        let mut panes = read_panes(from, &self.form, WINDOWS)?;
        if self.spill.is_none() && elsewhere {
            read_spilled(from, &self.form, self.pane_ms(), &mut panes)?;
        }
        for ((start, end), read) in panes {
            // What was in the state and is over may still have been there.
            if self.is_over(start) {
                continue;
            }
            self.check_pane(start, end)?;
            let mut pane = self.function.pane(&self.frame.key, 0);
            let places = read.fill(&mut pane, &self.frame.key, &self.form.codec)?;
            let mut slice = Slice::new(pane);
            if same && !places.is_empty() {
                (slice.ids, slice.is_taken_in) = (Arc::new(places), true);
            }
            self.panes.insert(start, slice);
        }
        if elsewhere && self.spill.is_some() {
            self.unshare()?;
        }
        match &mut self.sharing {
            Sharing::Running(running) => running.restore(&self.panes)?,
            Sharing::Stacks(_) if same => self.take_back_stacks(from)?,
            _ => {}
        }
        self.keep_to_room()?;
        self.count(cx)
    }

    /// Refuses what is not a pane of this operator. Errors: `StateMismatch`.
    fn check_pane(&self, start: i64, end: i64) -> Result<()> {
        let of_slice = self.assigner.slice_start(EventTime(start)) == Some(start);
        if end == start.saturating_add(self.pane_ms()) && (of_slice || !self.shared) {
            return Ok(());
        }
        let message = "the windows of the checkpoint are of another size, slide or offset";
        Err(Error::new(ErrorCode::StateMismatch, message)
            .help("give the operator another uid: its windows begin anew"))
    }

    /// Takes back what had left memory; whether there is anything.
    fn take_back_elsewhere(&mut self, from: &Restored<'_>) -> Result<bool> {
        let mut starts = BTreeSet::new();
        let wanted = |s: &SectionSpec| s.kind == SectionKind::Windows && s.name == ELSEWHERE;
        from.entries(wanted, |_, _, entry| {
            starts.insert(take_i64(&mut { entry.sub })?);
            Ok(())
        })?;
        if let Some(spill) = &mut self.spill {
            spill.state.restore(from)?;
        }
        for start in &starts {
            let over = self.is_over(*start);
            if !over {
                self.check_pane(*start, start.saturating_add(self.pane_ms()))?;
            }
            let Some(spill) = &mut self.spill else {
                continue;
            };
            if over {
                spill.enter_gone(*start);
                continue;
            }
            spill.enter(*start);
            let slice = Slice::new(self.function.pane(&self.frame.key, 0));
            self.panes.insert(*start, slice);
        }
        Ok(!starts.is_empty())
    }

    fn take_back_stacks(&mut self, from: &Restored<'_>) -> Result<()> {
        let mut borders = None;
        let of_borders = |s: &SectionSpec| s.kind == SectionKind::Windows && s.name == BORDERS;
        from.entries(of_borders, |_, _, entry| {
            if u32::from_be_bytes(take(&mut { entry.sub })?) == self.task {
                let (start, border) = read_bounds(entry.value)?;
                let mut last = entry.value.get(16..).unwrap_or_default();
                borders = Some([start, border, take_i64(&mut last)?]);
            }
            Ok(())
        })?;
        let Some(borders) = borders else {
            return Ok(());
        };
        let mut merged = BTreeMap::new();
        for (at, read) in read_panes(from, &self.form, MERGED)? {
            let mut pane = self.function.pane(&self.frame.key, 0);
            read.fill(&mut pane, &self.frame.key, &self.form.codec)?;
            merged.insert(at, pane);
        }
        if let Sharing::Stacks(stacks) = &mut self.sharing {
            stacks.restore(borders, merged);
        }
        Ok(())
    }
}
