//! What a window operator writes at a barrier, and how it goes on from that: its slices; of those that are merged
//! before, what the slices alone do not tell. With another parallelism only the slices count, and merging begins anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind, SectionSpec};
use pelton_model::time::EventTime;
use pelton_model::{Error, ErrorCode, Result};

use super::{Sharing, Slice, WindowOperator};
use crate::operator::Context;
use crate::operators::window::saved::{
    Kept, bounds, pane_fields, read_bounds, read_panes, same_tasks, take, take_i64,
};
use crate::snapshot::{Restored, SnapshotWriter, section};

const WINDOWS: &str = "windows";
/// Slices merged from a time up to another, in the order in which their rows were added.
const MERGED: &str = "merged";
/// Of each task: which ones are merged.
const BORDERS: &str = "borders";

impl WindowOperator {
    /// What there is now goes into the snapshot.
    pub(super) fn freeze(&mut self, into: &mut SnapshotWriter) {
        self.writing.clear();
        let (running, stacks) = match &self.sharing {
            Sharing::Afresh => (None, None),
            Sharing::Running(running) => (Some(running), None),
            Sharing::Stacks(stacks) => (None, Some(stacks)),
        };
        let placed = running.is_some();
        let number = into.section(self.form.section(WINDOWS, &pane_fields(placed)));
        for (start, slice) in &self.panes {
            let keys = running.filter(|_| slice.closed).map(|r| r.pane());
            self.writing.push(Kept {
                section: number,
                start: *start,
                end: start.saturating_add(self.pane_ms()),
                pane: Arc::clone(&slice.pane),
                keys: keys.cloned(),
                places: Arc::clone(&slice.places),
                placed,
            });
        }
        let Some(stacks) = stacks else {
            return;
        };
        let number = into.section(self.form.section(MERGED, &pane_fields(false)));
        for (start, end, pane) in stacks.merged() {
            self.writing.push(Kept {
                section: number,
                start,
                end,
                pane: Arc::clone(pane),
                keys: None,
                places: Arc::default(),
                placed: false,
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

    /// How long a pane is.
    fn pane_ms(&self) -> i64 {
        match self.shared {
            true => self.assigner.slice_ms(),
            false => self.assigner.parts().0,
        }
    }

    /// Takes what was there at a checkpoint. Errors: `StateMismatch`, `Corrupt`.
    pub(super) fn take_back(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        let placed = matches!(self.sharing, Sharing::Running(_));
        let same = same_tasks(from);
        for ((start, end), read) in read_panes(from, &self.form, WINDOWS, placed)? {
            let of_slice = self.assigner.slice_start(EventTime(start)) == Some(start);
            let fits = end == start.saturating_add(self.pane_ms());
            if !fits || self.shared && !of_slice {
                let message = "the windows of the checkpoint are of another size, slide or offset";
                return Err(Error::new(ErrorCode::StateMismatch, message)
                    .help("give the operator another uid: its windows begin anew"));
            }
            let mut pane = self.function.pane(&self.frame.key, 0);
            let places = read.fill(&mut pane, &self.frame.key, &self.form.codec)?;
            let slice = Slice {
                pane: Arc::new(pane),
                places: Arc::new(if same { places } else { Vec::new() }),
                closed: false,
            };
            self.panes.insert(start, slice);
        }
        self.watermark = cx.watermark;
        match &mut self.sharing {
            Sharing::Running(running) => running.restore(&self.panes)?,
            Sharing::Stacks(_) if same => self.take_back_stacks(from)?,
            _ => {}
        }
        self.count(cx)
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
        for (at, read) in read_panes(from, &self.form, MERGED, false)? {
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
