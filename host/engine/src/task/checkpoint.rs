//! The checkpoints of a task: begins its snapshots, and writes them between batches.
//!
//! Where the barrier has overtaken what is in flight, the snapshot has that, too, and is complete once the barriers of all
//! gates have come. They are looked for in the gates' queues, so that this does not depend on whether the task can go on.

use pelton_model::Result;
use pelton_model::barrier::Barrier;
use pelton_model::id::{CheckpointId, TaskId};
use pelton_model::snapshot::{Entry as StateEntry, NO_GROUP, SectionKind};
use pelton_model::time::Monotonic;
use std::collections::VecDeque;

use super::{Gate, Head, HeadState, RETRY_MS, Step, Task};
use crate::align::{Aligner, Due};
use crate::chain::{Chain, Part};
use crate::in_flight::{Captured, Piece};
use crate::snapshot::{RestoreFrom, SnapshotStore, SnapshotWriter, section};

/// What a task needs where there are checkpoints.
pub struct Durable {
    /// Which task it is.
    pub task: TaskId,
    /// Of how many, with which key groups.
    pub part: Part,
    /// Where its snapshots go.
    pub store: Box<dyn SnapshotStore>,
    /// What it goes on from: taken at the first step.
    pub restore: Option<RestoreFrom>,
    /// What was in flight to it there: comes before anything else.
    pub in_flight: VecDeque<Piece>,
}

/// How far a task is with its checkpoints.
pub(super) struct Checkpoints {
    pub(super) with: Durable,
    pub(super) aligner: Aligner,
    /// The snapshot that is being written.
    writing: Option<Writing>,
    /// The last barrier of all has passed: nothing is read any more.
    pub(super) stopped: bool,
    /// The last snapshot, of a task that has ended, is begun.
    last: bool,
}

struct Writing {
    /// None for the last one.
    barrier: Option<Barrier>,
    writer: SnapshotWriter,
    /// The operators have written all of theirs.
    saved: bool,
    /// What was in flight.
    captured: Captured,
}

impl Writing {
    /// Whether all that is known yet is written.
    fn is_dry(&self) -> bool {
        self.saved && self.captured.is_written()
    }
}

impl Checkpoints {
    pub(super) fn new(with: Durable, gates: &[Gate]) -> Self {
        Self {
            with,
            aligner: Aligner::new(gates.iter().map(|g| (g.lines.len(), g.pinned))),
            writing: None,
            stopped: false,
            last: false,
        }
    }

    /// When the task is to be called again for its checkpoints' sake.
    pub(super) fn next(&self, now: Monotonic) -> Option<Monotonic> {
        match self.writing {
            Some(_) => Some(now.plus_ms(RETRY_MS)),
            None => self.aligner.overtakes_at(),
        }
    }

    /// Whether nothing is taken from a gate for now.
    pub(super) fn blocks(&self, gate: usize) -> bool {
        let full = |w: &Writing| w.captured.is_full();
        let full = self.aligner.records(gate) && self.writing.as_ref().is_some_and(full);
        self.stopped || full || self.aligner.is_blocked(gate)
    }

    /// A gate has delivered an element of rows or a watermark.
    pub(super) fn taken(&mut self, gate: usize, piece: impl FnOnce() -> Piece) {
        if self.aligner.records(gate)
            && let Some(writing) = &mut self.writing
        {
            let (line, element) = piece();
            writing.captured.add(&line, &element);
        }
    }

    /// A checkpoint was given up.
    pub(super) fn aborted(&mut self, checkpoint: CheckpointId, chain: &mut Chain) {
        self.aligner.aborted(checkpoint);
        let writes = |w: &&mut Writing| w.barrier.is_some_and(|b| b.checkpoint == checkpoint);
        if self.writing.as_mut().filter(writes).is_some() {
            self.give_up(chain);
        }
    }

    fn give_up(&mut self, chain: &mut Chain) {
        if self.writing.take().is_some_and(|w| !w.saved) {
            chain.abort_snapshot();
        }
    }

    /// Sees barriers that have arrived behind other elements. Those of the snapshot that is being written overtake them.
    fn look(&mut self, gates: &mut [(Gate, usize)], now: Monotonic) {
        for (index, (gate, open)) in gates.iter_mut().enumerate() {
            if *open == 0 {
                continue;
            }
            if let Some(barrier) = gate.receiver.barrier() {
                self.aligner.noticed(barrier, now);
            }
            let recording = self.aligner.recording();
            let recording = recording.filter(|_| self.aligner.records(index));
            if let Some(checkpoint) = recording
                && let Some(elements) = gate.receiver.overtake(checkpoint, *open)
            {
                for (channel, element) in elements {
                    if let (Some(w), Some(line)) = (&mut self.writing, gate.lines.get(channel)) {
                        w.captured.add(line, &element);
                    }
                }
                self.aligner.recorded(index);
            }
        }
    }

    /// Whether a snapshot may begin: none is being written. One that only waits for barriers, of which none can come before
    /// those of a newer one, is superseded.
    fn may_begin(&self) -> bool {
        !self.last && self.writing.as_ref().is_none_or(Writing::is_dry)
    }

    fn begin(&mut self, due: Due, chain: &mut Chain, heads: &[(Head, HeadState)]) -> Result<()> {
        self.give_up(chain);
        let mut captured = Captured::default();
        let barrier = match due {
            Due::Aligned(barrier) => {
                self.aligner.begun();
                barrier
            }
            Due::Overtake(barrier) => {
                self.aligner.overtaken();
                let left = &self.with.in_flight;
                left.iter().for_each(|(line, e)| captured.add(line, e));
                barrier
            }
        };
        self.stopped |= barrier.last;
        let mut writer = SnapshotWriter::new(self.with.store.begin(self.with.task, Some(barrier)));
        put_positions(heads, &mut writer);
        chain.snapshot(Some(barrier), &mut writer)?;
        chain.send_barrier(barrier)?;
        self.writing = Some(Writing {
            barrier: Some(barrier),
            writer,
            saved: false,
            captured,
        });
        Ok(())
    }

    /// Writes more of the snapshot at hand; whether anything was done. Where a backend works beside the task, nothing is:
    /// it is asked again after a while.
    fn write_on(&mut self, chain: &mut Chain) -> bool {
        let Some(mut writing) = self.writing.take() else {
            return false;
        };
        let waits = self.aligner.recording().is_some();
        if !writing.writer.has_room() || writing.is_dry() && waits {
            self.writing = Some(writing);
            return false;
        }
        let before = writing.writer.entries();
        match writing.go_on(chain) {
            Ok(()) if writing.is_dry() && !waits => writing.writer.finish(),
            Ok(()) => {
                let worked = writing.saved || writing.writer.entries() > before;
                self.writing = Some(writing);
                return worked;
            }
            Err(error) => {
                if !writing.saved {
                    chain.abort_snapshot();
                }
                if let Some(barrier) = writing.barrier {
                    self.aligner.aborted(barrier.checkpoint);
                }
                writing.writer.decline(error);
            }
        }
        true
    }
}

impl Writing {
    fn go_on(&mut self, chain: &mut Chain) -> Result<()> {
        if !self.saved {
            self.saved = chain.go_on_snapshot(&mut self.writer)?;
        }
        self.captured.write(&mut self.writer)
    }
}

impl Task {
    /// Begins the snapshot that is due, if the last one is written, and writes more of the one at hand; whether anything
    /// was done.
    pub(super) fn go_on_checkpoint(&mut self, monotonic: Monotonic) -> Result<bool> {
        let busy = self.chain.is_busy();
        let Some(c) = &mut self.checkpoints else {
            return Ok(false);
        };
        c.look(&mut self.gates, monotonic);
        let mut worked = false;
        if !busy
            && c.may_begin()
            && let Some(due) = c.aligner.due(monotonic, c.with.in_flight.is_empty())
        {
            c.begin(due, &mut self.chain, &self.heads)?;
            // What has arrived already is captured before anything of it is taken.
            c.look(&mut self.gates, monotonic);
            worked = true;
        }
        Ok(worked | c.write_on(&mut self.chain))
    }

    /// The chain has ended: its last snapshot stands for it in all checkpoints that follow.
    pub(super) fn after_end(&mut self, monotonic: Monotonic) -> Result<Step> {
        let Some(c) = &mut self.checkpoints else {
            return Ok(Step::Done);
        };
        if c.writing.is_none() && !c.last {
            c.last = true;
            let mut writer = SnapshotWriter::new(c.with.store.begin(c.with.task, None));
            put_positions(&self.heads, &mut writer);
            self.chain.snapshot(None, &mut writer)?;
            c.writing = Some(Writing {
                barrier: None,
                writer,
                saved: false,
                captured: Captured::default(),
            });
        }
        Ok(match (c.write_on(&mut self.chain), &c.writing) {
            (_, None) if c.last => Step::Done,
            (true, _) | (_, None) => Step::Ready,
            (false, Some(_)) => Step::Waiting {
                until: Some(monotonic.plus_ms(RETRY_MS)),
                wall: None,
            },
        })
    }
}

fn put_positions(heads: &[(Head, HeadState)], writer: &mut SnapshotWriter) {
    for (head, _) in heads {
        writer.operator(&head.uid);
        let number = writer.section(section(SectionKind::Positions, "positions"));
        for position in head.reader.positions() {
            let entry = StateEntry {
                key: &[],
                sub: position.split.as_bytes(),
                value: &position.at,
            };
            writer.put(number, NO_GROUP, entry);
        }
    }
}
