//! Which inputs of a task wait for the barriers of others, and when the task's snapshot is due.
//! Needs: model. Pure: elements, time and commands come as arguments.
//!
//! A task with several input gates gets the barrier of a checkpoint once from each channel that has not ended. In the
//! aligned mode a gate whose channels all have delivered it is blocked until those of all others have, too: then what the
//! task holds is exactly what comes of the rows before the barrier. A channel that ends counts as one that has delivered.
//! The command to a task with sources counts as the barrier of its sources.
//!
//! In the unaligned mode that is so for a time, which begins when the first barrier has *arrived*, even behind other
//! elements. Then the barrier overtakes what is in flight: the snapshot is due although barriers are missing, no gate is
//! blocked, and what comes by a gate until its barriers have come is *recorded* as a part of the snapshot. A gate can be
//! *pinned*: what is in flight there has no place after a restart with other tasks, so that its barriers are waited for.

use pelton_model::barrier::{Barrier, BarrierMode};
use pelton_model::id::CheckpointId;
use pelton_model::time::Monotonic;

/// The barriers of one task.
#[derive(Clone, Debug)]
pub struct Aligner {
    gates: Vec<Gate>,
    current: Option<Current>,
    recording: Option<Recording>,
    /// The greatest checkpoint that is over for this task: its snapshot was begun, or it was given up.
    over: CheckpointId,
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    /// Channels that have not ended.
    open: usize,
    /// Of those, how many have delivered the barrier.
    arrived: usize,
    pinned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    barrier: Barrier,
    overtakes_at: Option<Monotonic>,
}

/// A snapshot that was begun before all barriers had come.
#[derive(Clone, Debug)]
struct Recording {
    checkpoint: CheckpointId,
    /// By gate, whether its barriers are still to come.
    waits: Vec<bool>,
}

impl Gate {
    fn is_aligned(&self) -> bool {
        self.arrived >= self.open
    }
}

impl Current {
    /// The barrier as it goes on: with what is left of its time.
    fn barrier(&self, now: Monotonic) -> Barrier {
        let left = self
            .overtakes_at
            .map(|at| at.since(now).div_ceil(1_000_000));
        Barrier {
            mode: left.map_or(self.barrier.mode, |after_ms| BarrierMode::Unaligned {
                after_ms,
            }),
            ..self.barrier
        }
    }
}

/// What is due. The barriers are as they are to be sent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// All barriers are there.
    Aligned(Barrier),
    /// They have been waited for long enough: the barrier overtakes what is in flight.
    Overtake(Barrier),
}

impl Aligner {
    /// For gates of so many channels each, and whether they are pinned.
    #[must_use]
    pub fn new(gates: impl Iterator<Item = (usize, bool)>) -> Self {
        let gate = |(open, pinned)| Gate {
            open,
            arrived: 0,
            pinned,
        };
        Self {
            gates: gates.map(gate).collect(),
            current: None,
            recording: None,
            over: CheckpointId(0),
        }
    }

    /// A channel of a gate has delivered a barrier.
    pub fn barrier(&mut self, gate: usize, barrier: Barrier, now: Monotonic) {
        if self.recording() == Some(barrier.checkpoint) {
            self.recorded(gate);
        }
        if self.begin(barrier, now)
            && let Some(gate) = self.gates.get_mut(gate)
        {
            gate.arrived += 1;
        }
    }

    /// A barrier stands in a gate, behind other elements. The time begins of those that may overtake them.
    pub fn noticed(&mut self, barrier: Barrier, now: Monotonic) {
        if matches!(barrier.mode, BarrierMode::Unaligned { .. }) {
            self.begin(barrier, now);
        }
    }

    /// The task was told to begin a checkpoint: the barrier of its sources.
    pub fn command(&mut self, barrier: Barrier, now: Monotonic) {
        self.begin(barrier, now);
    }

    /// Whether it is the barrier that is waited for now. A newer one takes the place of an older.
    fn begin(&mut self, barrier: Barrier, now: Monotonic) -> bool {
        if barrier.checkpoint <= self.over {
            return false;
        }
        let overtakes_at = match barrier.mode {
            BarrierMode::Unaligned { after_ms } => Some(now.plus_ms(after_ms)),
            _ => None,
        };
        match &mut self.current {
            Some(c) if c.barrier.checkpoint > barrier.checkpoint => false,
            Some(c) if c.barrier.checkpoint == barrier.checkpoint => {
                // Of several ways that it took, the slowest decides.
                c.overtakes_at = c.overtakes_at.zip(overtakes_at).map(|(a, b)| a.min(b));
                true
            }
            _ => {
                self.release();
                self.current = Some(Current {
                    barrier,
                    overtakes_at,
                });
                true
            }
        }
    }

    /// A channel of a gate has ended.
    pub fn ended(&mut self, gate: usize) {
        let Some(ended) = self.gates.get_mut(gate) else {
            return;
        };
        ended.open = ended.open.saturating_sub(1);
        if ended.open == 0 {
            self.recorded(gate);
        }
    }

    /// A checkpoint was given up.
    pub fn aborted(&mut self, checkpoint: CheckpointId) {
        self.over = self.over.max(checkpoint);
        if self.recording() == Some(checkpoint) {
            self.recording = None;
        }
        if self
            .current
            .is_some_and(|c| c.barrier.checkpoint <= checkpoint)
        {
            self.current = None;
            self.release();
        }
    }

    /// Whether nothing is taken from a gate for now.
    #[must_use]
    pub fn is_blocked(&self, gate: usize) -> bool {
        let waits = self
            .current
            .is_some_and(|c| c.barrier.mode != BarrierMode::AtLeastOnce);
        let gate = self.gates.get(gate);
        waits && gate.is_some_and(|g| g.open > 0 && g.arrived > 0 && g.is_aligned())
    }

    /// The checkpoint that barriers are waited for.
    #[must_use]
    pub fn waiting(&self) -> Option<Barrier> {
        self.current.map(|c| c.barrier)
    }

    /// When the barrier may overtake what is in flight, if it may and is not aligned before. None while the barriers of
    /// pinned gates are missing.
    #[must_use]
    pub fn overtakes_at(&self) -> Option<Monotonic> {
        let at = self.current?.overtakes_at?;
        let free = self.gates.iter().all(|g| !g.pinned || g.is_aligned());
        free.then_some(at)
    }

    /// What is due, if anything is. `drained`: nothing is left that was in flight at the checkpoint that the task goes on
    /// from, and stands before all that comes by the gates.
    #[must_use]
    pub fn due(&self, now: Monotonic, drained: bool) -> Option<Due> {
        let current = self.current?;
        if drained && self.gates.iter().all(Gate::is_aligned) {
            return Some(Due::Aligned(current.barrier(now)));
        }
        let late = self.overtakes_at().is_some_and(|at| at <= now);
        late.then(|| Due::Overtake(current.barrier(now)))
    }

    /// The snapshot that was due is begun, and all barriers were there: the gates are open again.
    pub fn begun(&mut self) {
        self.recording = None;
        if let Some(current) = self.current.take() {
            self.over = self.over.max(current.barrier.checkpoint);
        }
        self.release();
    }

    /// The snapshot that was due is begun, and its barrier overtakes those elements of which the barriers are missing.
    pub fn overtaken(&mut self) {
        let waits = self.gates.iter().map(|g| g.open > 0 && g.arrived == 0);
        let recording = self.current.map(|c| Recording {
            checkpoint: c.barrier.checkpoint,
            waits: waits.collect(),
        });
        self.begun();
        self.recording = recording;
    }

    /// The checkpoint whose barrier has overtaken elements, while barriers of it are to come.
    #[must_use]
    pub fn recording(&self) -> Option<CheckpointId> {
        let open = self.recording.as_ref().filter(|r| r.waits.contains(&true));
        open.map(|r| r.checkpoint)
    }

    /// Whether what comes by a gate is a part of the snapshot that was begun.
    #[must_use]
    pub fn records(&self, gate: usize) -> bool {
        let recording = self.recording.as_ref();
        recording.is_some_and(|r| r.waits.get(gate) == Some(&true))
    }

    /// The barriers of a gate have come: what follows is no part of the snapshot.
    pub fn recorded(&mut self, gate: usize) {
        let waits = self.recording.as_mut().and_then(|r| r.waits.get_mut(gate));
        if let Some(waits) = waits {
            *waits = false;
        }
    }

    fn release(&mut self) {
        self.gates.iter_mut().for_each(|g| g.arrived = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_model::barrier::SnapshotForm;

    fn barrier(id: u64, mode: BarrierMode) -> Barrier {
        Barrier {
            checkpoint: CheckpointId(id),
            form: SnapshotForm::Native,
            mode,
            last: false,
        }
    }

    fn aligner(channels: [usize; 2]) -> Aligner {
        Aligner::new(channels.map(|open| (open, false)).into_iter())
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic(0).plus_ms(ms)
    }

    #[test]
    fn a_gate_waits_until_all_channels_of_all_gates_have_delivered() {
        let mut a = aligner([2, 1]);
        let b = barrier(1, BarrierMode::Aligned);
        a.barrier(0, b, at(0));
        assert!(
            !a.is_blocked(0),
            "the second channel's barrier is behind the first's"
        );
        a.barrier(0, b, at(0));
        assert!(a.is_blocked(0) && !a.is_blocked(1));
        assert_eq!(a.due(at(1_000_000), true), None);
        a.barrier(1, b, at(1));
        assert_eq!(a.due(at(1), true), Some(Due::Aligned(b)));
        a.begun();
        assert!(!a.is_blocked(0) && a.due(at(1), true).is_none());
        a.barrier(0, b, at(2));
        assert_eq!(a.waiting(), None, "it is over");
    }

    #[test]
    fn a_channel_that_has_ended_counts_as_one_that_has_delivered() {
        let mut a = aligner([1, 1]);
        let b = barrier(1, BarrierMode::Aligned);
        a.barrier(0, b, at(0));
        a.ended(1);
        assert_eq!(a.due(at(0), true), Some(Due::Aligned(b)));
        a.begun();
        a.ended(0);
        a.command(barrier(2, BarrierMode::Aligned), at(1));
        assert!(
            matches!(a.due(at(1), true), Some(Due::Aligned(_))),
            "sources alone are left"
        );
    }

    #[test]
    fn a_newer_checkpoint_takes_the_place_of_an_older_and_an_aborted_one_frees_its_gates() {
        let mut a = aligner([1, 1]);
        a.barrier(0, barrier(1, BarrierMode::Aligned), at(0));
        assert!(a.is_blocked(0));
        let newer = barrier(2, BarrierMode::Aligned);
        a.barrier(1, newer, at(1));
        assert!(!a.is_blocked(0) && a.is_blocked(1));
        a.barrier(0, barrier(1, BarrierMode::Aligned), at(1));
        assert!(!a.is_blocked(0), "the older one is over");
        a.aborted(CheckpointId(2));
        assert!(!a.is_blocked(1) && a.waiting().is_none());
        a.barrier(0, newer, at(2));
        assert_eq!(a.waiting(), None);
    }

    #[test]
    fn at_least_once_blocks_nothing_and_unaligned_waits_for_a_time() {
        let mut a = aligner([1, 1]);
        a.barrier(0, barrier(1, BarrierMode::AtLeastOnce), at(0));
        assert!(!a.is_blocked(0) && a.due(at(0), true).is_none());
        let b = barrier(2, BarrierMode::Unaligned { after_ms: 5 });
        a.barrier(0, b, at(0));
        assert!(a.is_blocked(0));
        let now = barrier(2, BarrierMode::Unaligned { after_ms: 0 });
        let due = (a.due(at(4), true), a.due(at(5), true));
        assert_eq!(due, (None, Some(Due::Overtake(now))));
    }

    #[test]
    fn the_time_to_overtake_begins_when_a_barrier_has_arrived_and_what_is_left_goes_on() {
        let mut a = aligner([1, 1]);
        let b = |after_ms| barrier(1, BarrierMode::Unaligned { after_ms });
        a.noticed(barrier(1, BarrierMode::Aligned), at(0));
        assert_eq!(a.waiting(), None, "one that never overtakes is read first");
        a.noticed(b(10), at(0));
        assert!(!a.is_blocked(0) && a.overtakes_at() == Some(at(10)));
        a.barrier(0, b(2), at(1));
        assert_eq!(a.overtakes_at(), Some(at(3)), "the slowest way decides");
        a.barrier(1, b(10), at(2));
        assert_eq!(a.due(at(2), false), None, "there is more before the gates");
        assert_eq!(a.due(at(2), true), Some(Due::Aligned(b(1))));
        assert_eq!(a.due(at(3), false), Some(Due::Overtake(b(0))));
    }

    #[test]
    fn what_comes_by_a_gate_is_recorded_until_its_barrier_has_come() {
        let b = barrier(1, BarrierMode::Unaligned { after_ms: 0 });
        let mut a = Aligner::new([(1, false), (1, false), (2, false), (1, false)].into_iter());
        a.ended(3);
        a.barrier(0, b, at(0));
        assert_eq!(a.due(at(0), true), Some(Due::Overtake(b)));
        a.overtaken();
        let records = |a: &Aligner| [0, 1, 2, 3].map(|g| a.records(g));
        assert_eq!(records(&a), [false, true, true, false]);
        assert!([0, 1, 2].iter().all(|g| !a.is_blocked(*g)));
        a.barrier(1, b, at(1));
        a.ended(2);
        assert_eq!(records(&a), [false, false, true, false]);
        assert_eq!(a.recording(), Some(CheckpointId(1)));
        a.ended(2);
        assert_eq!(a.recording(), None, "no barrier can come any more");
        assert_eq!(a.waiting(), None);
    }

    #[test]
    fn an_abort_ends_the_recording_of_its_checkpoint_alone() {
        let b = |id| barrier(id, BarrierMode::Unaligned { after_ms: 0 });
        let mut a = aligner([1, 1]);
        a.barrier(0, b(1), at(0));
        a.overtaken();
        a.barrier(0, barrier(2, BarrierMode::Aligned), at(0));
        assert!(a.is_blocked(0) && a.recording() == Some(CheckpointId(1)));
        a.aborted(CheckpointId(2));
        assert!(!a.is_blocked(0) && a.records(1));
        a.aborted(CheckpointId(1));
        assert!(!a.records(1) && a.recording().is_none());
    }

    #[test]
    fn the_barriers_of_pinned_gates_are_waited_for() {
        let b = barrier(1, BarrierMode::Unaligned { after_ms: 0 });
        let mut a = Aligner::new([(1, false), (1, true)].into_iter());
        a.noticed(b, at(0));
        assert!(a.due(at(9), true).is_none() && a.overtakes_at().is_none());
        a.barrier(1, b, at(9));
        assert!(a.is_blocked(1));
        assert_eq!(a.due(at(9), true), Some(Due::Overtake(b)));
        a.overtaken();
        assert!(a.records(0) && !a.records(1) && !a.is_blocked(1));
    }
}
