//! Sessions: windows that grow with the rows of their key, and end a gap after the last.
//!
//! A batch first settles which session each of its rows belongs to and which sessions merge, row by row; then the rows
//! are added to their accumulators all at once. Where sessions merge, rows before and after the merge are added before
//! and after it, in *levels*: what is in one level depends on nothing else in it. So the results are those of rows that
//! come one by one, floats and all.
//!
//! Flink refuses to merge into a window that the watermark has closed; with one gap for all rows that cannot come to
//! pass, because a session that is still kept only ends later by merging. Results come by the end of the session, then
//! in the order in which their keys came (a key without a session counts as new).
//!
//! Where the backend keeps state elsewhere, keys leave memory when half of the room that there is for it is used.

mod book;
mod overflow;
mod saved;
mod spill;
mod timers;

use std::sync::atomic::Ordering;

use pelton_model::barrier::{Barrier, SnapshotForm};
use pelton_model::batch::Batch;
use pelton_model::graph::WindowSpec;
use pelton_model::key::MAX_PARALLELISM_DEFAULT;
use pelton_model::limits::BATCH_ROWS_MAX;
use pelton_model::schema::Schema;
use pelton_model::watermark::Watermark;
use pelton_model::{Error, Result};

use super::ROWS_A_CALL;
use super::frame::{Frame, timed};
use super::function::{Firing, Function, Values};
use super::saved::Form;
use crate::operator::{Context, Operator};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::state::{KeyIndex, RowSet, check_bytes};
use book::{Book, Due, Placed};
use overflow::Overdue;
use saved::Writing;
use spill::Spill;

/// What it takes to bring a key into memory, in rows that are emitted.
const ROWS_A_KEY: u64 = 16;

/// The operator.
pub struct SessionOperator {
    frame: Frame,
    function: Function,
    index: KeyIndex,
    book: Book,
    /// By the session's slot.
    values: Values,
    levels: Vec<Level>,
    /// Sessions of a depth above 0.
    deep: Vec<u32>,
    watermark: Watermark,
    /// Up to where sessions in memory were looked at: the watermark, or less while sessions fire.
    reached: Watermark,
    /// Sessions that the watermark has reached, and the first that is still to fire.
    due: (Vec<Due>, usize),
    /// There may be more of them.
    firing: Option<Overdue>,
    /// What does not fit in memory.
    spill: Option<Box<Spill>>,
    slots: Vec<u32>,
    form: Form,
    /// What the snapshot at hand still lacks.
    writing: Option<Writing>,
}

/// Merges that depend on what is above, then rows that depend on those.
#[derive(Default)]
struct Level {
    into: Vec<u32>,
    from: Vec<u32>,
    rows: Vec<u32>,
    /// The session of each row.
    sessions: Vec<u32>,
}

impl SessionOperator {
    /// `input` is the pruned schema of the stream, `declared` those of the outputs.
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
        Ok(Self {
            form: Form {
                key: frame.key.clone(),
                codec: function.codec(),
                max_parallelism: MAX_PARALLELISM_DEFAULT,
            },
            writing: None,
            index: KeyIndex::new(frame.key.clone(), 0),
            book: Book::new(spec.assigner.parts().0, spec.lateness_ms),
            values: function.values(),
            frame,
            function,
            levels: Vec::new(),
            deep: Vec::new(),
            watermark: Watermark::MIN,
            reached: Watermark::MIN,
            due: (Vec::new(), 0),
            firing: None,
            spill: None,
            slots: Vec::new(),
        })
    }

    /// The job's number of key groups: for its snapshots.
    #[must_use]
    pub fn of_task(mut self, max_parallelism: u32) -> Self {
        self.form.max_parallelism = max_parallelism;
        self
    }

    fn level(&mut self, depth: u32) -> Option<&mut Level> {
        let depth = depth as usize;
        if self.levels.len() <= depth {
            self.levels.resize_with(depth + 1, Level::default);
        }
        self.levels.get_mut(depth)
    }

    /// Notes a merge, to be done with the batch.
    fn note_merge(&mut self, into: u32, from: u32) {
        let depth = |s: u32| self.book.get(s).map_or(0, |s| s.depth);
        let deeper = depth(into).max(depth(from)) + 1;
        for session in [into, from] {
            self.book.set_depth(session, deeper);
            self.deep.push(session);
        }
        if let Some(level) = self.level(deeper) {
            level.into.push(into);
            level.from.push(from);
        }
    }

    fn note_row(&mut self, row: u32, session: u32) {
        let depth = self.book.get(session).map_or(0, |s| s.depth);
        if let Some(level) = self.level(depth) {
            level.rows.push(row);
            level.sessions.push(session);
        }
    }

    /// Does what was noted.
    fn flush(&mut self, batch: &Batch, cx: &mut Context<'_>) -> Result<()> {
        let total = self.book.slots();
        let values = &mut self.values;
        for level in &mut self.levels {
            if !level.into.is_empty() {
                self.function.join(values, &level.into, &level.from, cx)?;
            }
            if !level.rows.is_empty() {
                // All rows of a batch, in order, need no gathering.
                let rows = if level.rows.len() == batch.len() {
                    RowSet::First(batch.len())
                } else {
                    RowSet::These(&level.rows)
                };
                self.function
                    .accumulate(values, total, batch, rows, &level.sessions, cx)?;
            }
            level.into.clear();
            level.from.clear();
            level.rows.clear();
            level.sessions.clear();
        }
        for session in self.deep.drain(..) {
            self.book.set_depth(session, 0);
        }
        self.book.free_merged(|session| values.reset(session));
        Ok(())
    }

    /// Emits the results of sessions.
    fn fire(&mut self, sessions: &[u32], cx: &mut Context<'_>) -> Result<()> {
        let found = sessions.iter().map(|s| self.book.get(*s));
        let found = found
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::bug("a session that fires is gone"))?;
        let keys: Vec<u32> = found.iter().map(|s| s.key).collect();
        let firing = Firing {
            slots: sessions,
            keys: self.index.columns(&keys)?,
            starts: found.iter().map(|s| s.start).collect(),
            ends: found.iter().map(|s| s.end).collect(),
        };
        self.function.tell(&self.values, firing, cx)
    }

    fn forget(&mut self, session: u32) {
        self.values.reset(session);
        if let Some(key) = self.book.remove(session) {
            self.index.remove(key);
        }
    }

    /// Fires sessions that the watermark has reached until about so many rows are emitted. Returns what is forwarded
    /// once none is left.
    fn fire_due(&mut self, rows_max: u64, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        let before = cx.metrics.rows_out.load(Ordering::Relaxed);
        let mut keys: u64 = 0;
        loop {
            let (due, mut first) = std::mem::take(&mut self.due);
            while let Some(rest) = due.get(first..).filter(|rest| !rest.is_empty()) {
                if cx.metrics.rows_out.load(Ordering::Relaxed) - before >= rows_max {
                    self.due = (due, first);
                    self.count(cx)?;
                    return Ok(None);
                }
                let now: Vec<u32> = rest
                    .iter()
                    .take(BATCH_ROWS_MAX)
                    .map(|d| d.session)
                    .collect();
                self.fire(&now, cx)?;
                for session in &now {
                    if self.book.fired(*session, self.watermark) {
                        self.forget(*session);
                    }
                }
                first += now.len();
            }
            if keys.saturating_mul(ROWS_A_KEY) >= rows_max && self.firing.is_some() {
                self.count(cx)?;
                return Ok(None);
            }
            if !self.next_due(&mut keys)? {
                break;
            }
        }
        self.keep_to_room()?;
        self.count(cx)?;
        Ok(Some(self.watermark))
    }

    fn count(&self, cx: &Context<'_>) -> Result<()> {
        cx.metrics
            .state_entries
            .store(self.book.live() as u64, Ordering::Relaxed);
        let elsewhere = self.spill.as_ref().map_or(0, |s| s.state.bytes());
        check_bytes(self.memory() + elsewhere, cx.limits)
    }

    /// Puts the rows into sessions and adds them. Returns those that are too late.
    fn take_in(
        &mut self,
        batch: &Batch,
        times: &[i64],
        keys: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<Vec<u32>> {
        let mut late = Vec::new();
        for ((row, time), key) in (0..).zip(times).zip(keys) {
            match self.book.place(*key, *time, self.watermark) {
                Placed::Late => late.push(row),
                Placed::In {
                    session,
                    merged,
                    fires,
                } => {
                    if let Some(merged) = merged {
                        self.note_merge(session, merged);
                    }
                    self.note_row(row, session);
                    if fires {
                        self.flush(batch, cx)?;
                        self.fire(&[session], cx)?;
                    }
                }
            }
        }
        self.flush(batch, cx)?;
        for row in &late {
            // A key that came with late rows alone is not kept.
            if let Some(key) = keys.get(*row as usize)
                && !self.book.has_sessions(*key)
            {
                self.index.remove(*key);
            }
        }
        Ok(late)
    }

    fn is_firing(&self) -> bool {
        self.due.1 < self.due.0.len() || self.firing.is_some()
    }
}

impl Operator for SessionOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        if self.is_firing()
            && let Some(watermark) = self.fire_due(u64::MAX, cx)?
        {
            cx.emit_watermark(watermark);
        }
        let Some((batch, times)) = timed(&batch)? else {
            return Ok(());
        };
        let mut keys = std::mem::take(&mut self.slots);
        let index = &mut self.index;
        let rows = RowSet::First(batch.len());
        index.locate(&self.frame.key_of(&batch), rows, &mut keys)?;
        self.book.grow(index.slots());
        self.bring(&keys)?;
        let late = self.take_in(&batch, &times, &keys, cx)?;
        self.slots = keys;
        self.frame.emit_late(&batch, late, cx)?;
        self.keep_to_room()?;
        self.count(cx)
    }

    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        if self.is_firing() {
            self.fire_due(u64::MAX, cx)?;
        }
        if cx.watermark <= self.watermark {
            return Ok(Some(cx.watermark));
        }
        self.firing = Some(Overdue::new(self.watermark));
        self.watermark = cx.watermark;
        self.fire_due(ROWS_A_CALL, cx)
    }

    fn busy(&self) -> bool {
        self.is_firing()
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
        if self.is_firing()
            && let Some(watermark) = self.fire_due(ROWS_A_CALL, cx)?
        {
            cx.emit_watermark(watermark);
        }
        Ok(())
    }
}
