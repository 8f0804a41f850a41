//! Windows of a fixed size, tumbling or sliding.
//!
//! Rows are kept as accumulators in *panes*: native aggregates, and users' that can merge, share a pane for each slice
//! of which windows are made; other users' aggregates have a pane for each window.
//!
//! A window of many slices is not merged afresh each time: where rows can be taken out again (counts, exact sums), what
//! is in the last window is kept and moved on ([`Running`]); where they cannot, the slices are merged once from each end
//! ([`Stacks`]). What fires again for one key is merged afresh.
//!
//! The results of a window come in the order of the first slice that has the key, then of the key's first arrival there;
//! those of a [`Running`] one in an order of its own. Neither depends on how rows came in batches; a key that came
//! behind the watermark may stand elsewhere. Where slices do not fit in memory and the backend has room for them
//! elsewhere, they leave ([`overflow`]), and results come by key group.

mod overflow;
mod running;
mod saved;
mod slice;
mod spill;
mod stacks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_model::barrier::{Barrier, SnapshotForm};
use pelton_model::batch::Batch;
use pelton_model::graph::{WindowFunction, WindowSpec};
use pelton_model::key::MAX_PARALLELISM_DEFAULT;
use pelton_model::schema::Schema;
use pelton_model::time::EventTime;
use pelton_model::watermark::Watermark;
use pelton_model::window::{Assigner, Window};
use pelton_model::{Error, Result};

use super::ROWS_A_CALL;
use super::frame::{Frame, timed};
use super::function::{Function, Pane};
use super::saved::{Form, Writing};
use super::slices::{Group, group};
use crate::operator::{Context, Operator};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::state::{KeyIndex, RowSet, check_bytes};
use overflow::Firing;
use running::Running;
use slice::{Keys, Slice};
use spill::Spill;
use stacks::Stacks;

/// The operator.
pub struct WindowOperator {
    assigner: Assigner,
    lateness_ms: i64,
    frame: Frame,
    function: Function,
    /// Whether a pane is a slice, and not a window.
    shared: bool,
    /// By start.
    panes: BTreeMap<i64, Slice>,
    /// What is merged before.
    sharing: Sharing,
    /// What windows of several panes are merged in.
    scratch: Pane,
    /// The windows that it has reached have fired.
    watermark: Watermark,
    /// Windows that the operator's watermark has reached are still to fire.
    busy: bool,
    /// Keys in the pane that was dropped last: room for the next.
    room: usize,
    /// An empty index with that room.
    spare: Option<KeyIndex>,
    form: Form,
    task: u32,
    /// Batches so far.
    batches: u64,
    /// What the snapshot at hand still lacks.
    writing: Writing,
    /// Where slices are that do not fit in memory.
    spill: Option<Box<Spill>>,
    /// How far the window that fires has come, if some of it is there.
    firing: Option<Firing>,
}

enum Sharing {
    Afresh,
    Running(Box<Running>),
    Stacks(Stacks),
}

impl WindowOperator {
    /// `input` is the pruned schema of the stream, `declared` those of the outputs. The late output's rows are those of
    /// the input: its columns are the declared ones that the input has.
    /// Errors: a field that is not there, an aggregate that may be missing where its field may not be null.
    pub fn new(spec: &WindowSpec, name: &str, input: &Schema, declared: &[Schema]) -> Result<Self> {
        let frame = Frame::new(spec, input, declared)?;
        let function = Function::new(
            &spec.function,
            name,
            input,
            &frame.key,
            declared,
            spec.late_output,
        )?;
        let sliding = spec.assigner.slice_ms() < spec.assigner.parts().0;
        let shared = match &spec.function {
            WindowFunction::Columns(_) => true,
            WindowFunction::Aggregate { has_merge, .. } => *has_merge || !sliding,
        };
        let (size, step, _) = spec.assigner.parts();
        let (slices, steps) = (
            size / spec.assigner.slice_ms(),
            step / spec.assigner.slice_ms(),
        );
        let sharing = match &function {
            Function::Native(n) if n.invertible() && slices > steps.saturating_mul(2) => {
                let running = Running::new(frame.key.clone(), function.values());
                Sharing::Running(Box::new(running))
            }
            _ if shared && slices > steps.saturating_mul(3).saturating_add(2) => {
                Sharing::Stacks(Stacks::new(function.pane(&frame.key, 0)))
            }
            _ => Sharing::Afresh,
        };
        Ok(Self {
            form: Form {
                key: frame.key.clone(),
                codec: function.codec(),
                max_parallelism: MAX_PARALLELISM_DEFAULT,
            },
            task: 0,
            batches: 0,
            writing: Writing::default(),
            spill: None,
            firing: None,
            sharing,
            spare: None,
            assigner: spec.assigner,
            lateness_ms: spec.lateness_ms,
            scratch: function.pane(&frame.key, 0),
            frame,
            function,
            shared,
            panes: BTreeMap::new(),
            watermark: Watermark::MIN,
            busy: false,
            room: 0,
        })
    }

    /// Which task it is of, and the job's number of key groups: for its snapshots.
    #[must_use]
    pub fn of_task(mut self, task: u32, max_parallelism: u32) -> Self {
        self.task = task;
        self.form.max_parallelism = max_parallelism;
        self
    }

    fn is_late(&self, window: Window) -> bool {
        self.watermark.has_passed(EventTime(
            window.max_time().0.saturating_add(self.lateness_ms),
        ))
    }

    fn has_fired(&self, window: Window) -> bool {
        self.watermark.has_passed(window.max_time())
    }

    /// The windows of a slice that still take rows, the latest first.
    fn open_windows(&self, start: i64) -> Vec<Window> {
        self.assigner
            .assign(EventTime(start))
            .filter(|w| !self.is_late(*w))
            .collect()
    }

    /// Whether the slice is in what is merged already.
    fn is_taken_in(&self, start: i64) -> bool {
        match &self.sharing {
            Sharing::Afresh => false,
            Sharing::Running(_) => self
                .panes
                .get(&start)
                .is_some_and(|slice| slice.is_taken_in),
            Sharing::Stacks(stacks) => stacks.holds(start),
        }
    }

    /// Whether the slice lies between two windows.
    fn in_gap(&self, start: i64) -> bool {
        let (size, step, offset) = self.assigner.parts();
        (i128::from(start) - i128::from(offset)).rem_euclid(i128::from(step.max(1)))
            >= i128::from(size)
    }

    fn new_slice(&mut self, start: i64) -> Slice {
        let mut slice = Slice::new(self.function.pane(&self.frame.key, 0));
        if let Sharing::Running(running) = &self.sharing {
            let before = self.panes.range(..start).next_back();
            slice.keys = running.keys_after(before.map(|(_, slice)| slice));
        }
        if slice.keys == Keys::Own
            && let Some(pane) = Arc::get_mut(&mut slice.pane)
        {
            pane.index = match self.spare.take() {
                Some(index) => index,
                None => KeyIndex::new(self.frame.key.clone(), self.room),
            };
        }
        slice
    }

    fn add(
        &mut self,
        start: i64,
        batch: &Batch,
        rows: RowSet<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let key = self.frame.key_of(batch);
        if !self.panes.contains_key(&start) {
            let slice = self.new_slice(start);
            self.panes.insert(start, slice);
        }
        let Some(slice) = self.panes.get_mut(&start) else {
            return Err(Error::bug("a slice is gone"));
        };
        slice.added = self.batches;
        if let Some(spill) = &mut self.spill {
            spill.bring(start, &mut slice.pane, &key, rows)?;
        }
        match &mut self.sharing {
            Sharing::Afresh => {
                let pane = Arc::make_mut(&mut slice.pane);
                self.function.add(pane, batch, &key, rows, cx)
            }
            Sharing::Running(running) => {
                let added = running::Added {
                    start,
                    batch,
                    key: &key,
                    rows,
                };
                running.add(slice, &mut self.function, added, cx)
            }
            Sharing::Stacks(stacks) => {
                let pane = Arc::make_mut(&mut slice.pane);
                self.function.add(pane, batch, &key, rows, cx)?;
                let added = stacks::Added {
                    batch,
                    key: &key,
                    rows,
                };
                stacks.add(
                    start,
                    &slice.pane,
                    &mut self.function,
                    &self.frame.key,
                    added,
                    cx,
                )
            }
        }
    }

    /// Rows whose windows have not fired.
    fn add_groups(
        &mut self,
        groups: &[(Group, Vec<Window>)],
        batch: &Batch,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        if self.shared {
            return groups
                .iter()
                .filter_map(|(g, _)| Some((g.start?, g)))
                .try_for_each(|(start, g)| self.add(start, batch, g.set(batch.len()), cx));
        }
        let mut by_window: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (group, windows) in groups {
            if let (None, [_]) = (&group.rows, groups) {
                for w in windows.iter().rev() {
                    self.add(w.start, batch, RowSet::First(batch.len()), cx)?;
                }
                return Ok(());
            }
            for w in windows {
                by_window
                    .entry(w.start)
                    .or_default()
                    .extend(group.each(batch.len()));
            }
        }
        for (start, mut rows) in by_window {
            rows.sort_unstable();
            self.add(start, batch, RowSet::These(&rows), cx)?;
        }
        Ok(())
    }

    /// Rows of which a window has fired, or that go into merged slices: one by one, each fires its windows again.
    fn add_and_fire(
        &mut self,
        groups: &[(Group, Vec<Window>)],
        batch: &Batch,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let mut rows: Vec<(u32, usize)> = Vec::new();
        for (i, (group, _)) in groups.iter().enumerate() {
            rows.extend(group.each(batch.len()).into_iter().map(|r| (r, i)));
        }
        rows.sort_unstable();
        for (row, i) in rows {
            let Some((group, windows)) = groups.get(i) else {
                continue;
            };
            let one = RowSet::These(std::slice::from_ref(&row));
            if let (true, Some(start)) = (self.shared, group.start) {
                self.add(start, batch, one, cx)?;
            }
            for window in windows {
                if !self.shared {
                    self.add(window.start, batch, one, cx)?;
                }
                if self.has_fired(*window) {
                    self.fire(*window, Some((batch, row)), cx)?;
                }
            }
        }
        Ok(())
    }

    /// Emits a window's results: of all keys, or of that of one row.
    fn fire(
        &mut self,
        window: Window,
        only: Option<(&Batch, u32)>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let end = if self.shared {
            window.end
        } else {
            window.start.saturating_add(1)
        };
        if let Some((batch, row)) = only {
            let key = self.frame.key_of(batch);
            self.scratch.clear();
            for (start, slice) in self.panes.range_mut(window.start..end) {
                if let Some(spill) = &mut self.spill {
                    let one = RowSet::These(std::slice::from_ref(&row));
                    spill.bring(*start, &mut slice.pane, &key, one)?;
                }
                let found = match &self.sharing {
                    Sharing::Running(running) => running.find(slice, &key, row)?,
                    _ => slice.find(&key, row)?,
                };
                if let Some((key, slot)) = found {
                    let values = &slice.pane.values;
                    self.function
                        .merge_named(&mut self.scratch, values, &key, &[slot], cx)?;
                }
            }
            return self.function.emit(&self.scratch, window, cx);
        }
        let keep = self.lateness_ms > 0;
        match &mut self.sharing {
            Sharing::Running(running) => {
                let spare = running.advance(window, &mut self.panes, keep)?;
                self.spare = spare.or(self.spare.take());
                running.emit(window, &mut self.function, cx)
            }
            Sharing::Stacks(stacks) => {
                let key = &self.frame.key;
                stacks.advance(window, &self.panes, &mut self.function, key, cx)?;
                match stacks.parts(window) {
                    (Some(one), None) | (None, Some(one)) => self.function.emit(one, window, cx),
                    (front, back) => {
                        self.scratch.clear();
                        for part in front.into_iter().chain(back) {
                            self.function.merge_all(&mut self.scratch, part, cx)?;
                        }
                        self.function.emit(&self.scratch, window, cx)
                    }
                }
            }
            Sharing::Afresh => {
                let mut panes = self.panes.range(window.start..end).map(|(_, s)| &s.pane);
                if let (Some(pane), None) = (panes.next(), panes.next()) {
                    return self.function.emit(pane, window, cx);
                }
                self.scratch.clear();
                for (_, slice) in self.panes.range(window.start..end) {
                    self.function
                        .merge_all(&mut self.scratch, &slice.pane, cx)?;
                }
                self.function.emit(&self.scratch, window, cx)
            }
        }
    }

    /// Fires windows that the watermark has reached, one after the other, until about so many rows are emitted. Returns
    /// what is forwarded once none is left; before that, [`watermark`](Self::watermark) is where it got to.
    fn fire_due(&mut self, rows_max: u64, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        let before = cx.metrics.rows_out.load(Ordering::Relaxed);
        self.busy = false;
        while let Some(window) = self
            .next_window(self.watermark.0)
            .filter(|w| cx.watermark.has_passed(w.max_time()))
        {
            if cx.metrics.rows_out.load(Ordering::Relaxed) - before >= rows_max {
                self.busy = true;
                break;
            }
            if !self.is_spilled(window) {
                self.fire(window, None, cx)?;
            } else if !self.fire_group(window, cx)? {
                continue;
            }
            self.watermark = Watermark(window.max_time().0);
        }
        if !self.busy {
            self.watermark = self.watermark.max(cx.watermark);
        }
        self.drop_panes()?;
        self.keep_to_room()?;
        self.count(cx)?;
        Ok((!self.busy).then_some(cx.watermark))
    }

    /// The first window, by end, whose greatest time is above `after` and that has rows.
    fn next_window(&self, after: i64) -> Option<Window> {
        let (size, step, offset) = self.assigner.parts();
        let (size, step, offset) = (
            i128::from(size),
            i128::from(step.max(1)),
            i128::from(offset),
        );
        // The least start of a window that is above `bound`.
        let above = |bound: i128| bound + 1 + (offset - bound - 1).rem_euclid(step);
        let least = above((i128::from(after) - size + 1).max(i128::from(i64::MIN) - 1));
        let from = i64::try_from(least).ok()?;
        let (pane, _) = self.panes.range(from..).next()?;
        let start = if self.shared {
            above(i128::from(*pane) - size).max(least)
        } else {
            i128::from(*pane)
        };
        Some(Window {
            start: i64::try_from(start).ok()?,
            end: i64::try_from(start + size).ok()?,
        })
    }

    /// Whether all windows of a pane are over.
    fn is_over(&self, start: i64) -> bool {
        let last = match self.shared {
            true => self.assigner.assign(EventTime(start)).next(),
            false => Some(Window {
                start,
                end: start.saturating_add(self.assigner.parts().0),
            }),
        };
        last.is_none_or(|w| self.is_late(w))
    }

    fn drop_panes(&mut self) -> Result<()> {
        while let Some((start, _)) = self.panes.first_key_value() {
            let start = *start;
            if !self.is_over(start) {
                break;
            }
            let Some(mut slice) = self.panes.remove(&start) else {
                break;
            };
            if let Some(spill) = &mut self.spill {
                spill.drop_slice(start);
            }
            self.room = slice.entries();
            if let Sharing::Running(running) = &mut self.sharing {
                running.expel(&mut slice)?;
            }
        }
        if let Sharing::Running(running) = &mut self.sharing {
            running.forget(&self.panes);
        }
        Ok(())
    }

    fn count(&self, cx: &Context<'_>) -> Result<()> {
        let keys: usize = self.panes.values().map(Slice::entries).sum();
        cx.metrics
            .state_entries
            .store(keys as u64, Ordering::Relaxed);
        let elsewhere = self.spill.as_ref().map_or(0, |s| s.state.bytes());
        check_bytes(self.memory() + elsewhere, cx.limits)
    }
}

impl Operator for WindowOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        if self.busy
            && let Some(watermark) = self.fire_due(u64::MAX, cx)?
        {
            cx.emit_watermark(watermark);
        }
        let Some((batch, times)) = timed(&batch)? else {
            return Ok(());
        };
        self.batches += 1;
        let (mut open, mut fired, mut late) = (Vec::new(), Vec::new(), Vec::new());
        // Rows of slices that are merged already.
        let mut behind: Vec<u32> = Vec::new();
        for group in group(self.assigner, &times) {
            let windows = group
                .start
                .map(|s| self.open_windows(s))
                .unwrap_or_default();
            if windows.is_empty() {
                let gap = group.start.is_some_and(|s| self.in_gap(s));
                let passed = |row: &u32| {
                    times
                        .get(*row as usize)
                        .is_none_or(|t| self.watermark.0 >= t.saturating_add(self.lateness_ms))
                };
                late.extend(
                    group
                        .each(batch.len())
                        .into_iter()
                        .filter(|r| !gap || passed(r)),
                );
                continue;
            }
            let again = self.lateness_ms > 0 && windows.iter().any(|w| self.has_fired(*w));
            let taken_in = group.start.is_some_and(|s| self.is_taken_in(s));
            if taken_in {
                behind.extend(group.each(batch.len()));
            }
            if again || taken_in && matches!(self.sharing, Sharing::Stacks(_)) {
                fired.push((group, windows));
            } else {
                open.push((group, windows));
            }
        }
        if let (Sharing::Running(running), false) = (&mut self.sharing, behind.is_empty()) {
            behind.sort_unstable();
            running.meet(&self.frame.key_of(&batch), &behind)?;
        }
        if !fired.is_empty() && !self.shared {
            // Rows of one window are added in their order, whether another of their windows has fired or not.
            fired.append(&mut open);
        }
        self.add_groups(&open, &batch, cx)?;
        self.add_and_fire(&fired, &batch, cx)?;
        self.frame.emit_late(&batch, late, cx)?;
        self.keep_to_room()?;
        self.count(cx)
    }

    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        self.fire_due(ROWS_A_CALL, cx)
    }

    fn busy(&self) -> bool {
        self.busy
    }

    fn snapshot(&mut self, barrier: Option<Barrier>, into: &mut SnapshotWriter) -> Result<()> {
        let form = barrier.map_or(SnapshotForm::Canonical, |b| b.form);
        self.freeze(form, into)
    }

    fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        self.write_frozen(into)
    }

    fn abort_snapshot(&mut self) {
        self.thaw();
    }

    fn restore(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        self.take_back(from, cx)
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.busy
            && let Some(watermark) = self.fire_due(ROWS_A_CALL, cx)?
        {
            cx.emit_watermark(watermark);
        }
        Ok(())
    }
}
