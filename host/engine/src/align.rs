//! Which inputs of a task wait for the barriers of others, and when the task's snapshot is due.
//! Needs: model. Pure: elements, time and commands come as arguments.
//!
//! A task with several input gates gets the barrier of a checkpoint once from each channel that has not ended. In the
//! aligned mode a gate whose channels all have delivered it is blocked until those of all others have, too: then what the
//! task holds is exactly what comes of the rows before the barrier. A channel that ends counts as one that has delivered.
//! The command to a task with sources counts as the barrier of its sources.

use pelton_model::barrier::{Barrier, BarrierMode};
use pelton_model::id::CheckpointId;
use pelton_model::time::Monotonic;

/// The barriers of one task.
#[derive(Clone, Debug)]
pub struct Aligner {
    gates: Vec<Gate>,
    current: Option<Current>,
    /// The greatest checkpoint that is over for this task: its snapshot was begun, or it was given up.
    over: CheckpointId,
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    /// Channels that have not ended.
    open: usize,
    /// Of those, how many have delivered the barrier.
    arrived: usize,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    barrier: Barrier,
    since: Monotonic,
}

impl Gate {
    fn is_aligned(&self) -> bool {
        self.arrived >= self.open
    }
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// All barriers are there.
    Aligned(Barrier),
    /// They have been waited for long enough: the barrier overtakes what is in flight.
    Overtake(Barrier),
}

impl Aligner {
    /// For gates of so many channels each.
    #[must_use]
    pub fn new(gates: impl Iterator<Item = usize>) -> Self {
        let gate = |open| Gate { open, arrived: 0 };
        Self {
            gates: gates.map(gate).collect(),
            current: None,
            over: CheckpointId(0),
        }
    }

    /// A channel of a gate has delivered a barrier.
    pub fn barrier(&mut self, gate: usize, barrier: Barrier, now: Monotonic) {
        if self.begin(barrier, now)
            && let Some(gate) = self.gates.get_mut(gate)
        {
            gate.arrived += 1;
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
        match self.current {
            Some(c) if c.barrier.checkpoint > barrier.checkpoint => false,
            Some(c) if c.barrier.checkpoint == barrier.checkpoint => true,
            _ => {
                self.release();
                let since = now;
                self.current = Some(Current { barrier, since });
                true
            }
        }
    }

    /// A channel of a gate has ended.
    pub fn ended(&mut self, gate: usize) {
        if let Some(gate) = self.gates.get_mut(gate) {
            gate.open = gate.open.saturating_sub(1);
        }
    }

    /// A checkpoint was given up.
    pub fn aborted(&mut self, checkpoint: CheckpointId) {
        self.over = self.over.max(checkpoint);
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

    /// When the barrier may overtake what is in flight, if it may and is not aligned before.
    #[must_use]
    pub fn overtakes_at(&self) -> Option<Monotonic> {
        let current = self.current?;
        match current.barrier.mode {
            BarrierMode::Unaligned { after_ms } => Some(current.since.plus_ms(after_ms)),
            _ => None,
        }
    }

    /// What is due, if anything is.
    #[must_use]
    pub fn due(&self, now: Monotonic) -> Option<Due> {
        let barrier = self.current?.barrier;
        if self.gates.iter().all(Gate::is_aligned) {
            return Some(Due::Aligned(barrier));
        }
        let late = self.overtakes_at().is_some_and(|at| at <= now);
        late.then_some(Due::Overtake(barrier))
    }

    /// The snapshot that was due is begun: the gates are open again.
    pub fn begun(&mut self) {
        if let Some(current) = self.current.take() {
            self.over = self.over.max(current.barrier.checkpoint);
        }
        self.release();
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

    fn at(ms: u64) -> Monotonic {
        Monotonic(0).plus_ms(ms)
    }

    #[test]
    fn a_gate_waits_until_all_channels_of_all_gates_have_delivered() {
        let mut a = Aligner::new([2, 1].into_iter());
        let b = barrier(1, BarrierMode::Aligned);
        a.barrier(0, b, at(0));
        assert!(
            !a.is_blocked(0),
            "the second channel's barrier is behind the first's"
        );
        a.barrier(0, b, at(0));
        assert!(a.is_blocked(0) && !a.is_blocked(1));
        assert_eq!(a.due(at(1_000_000)), None);
        a.barrier(1, b, at(1));
        assert_eq!(a.due(at(1)), Some(Due::Aligned(b)));
        a.begun();
        assert!(!a.is_blocked(0) && a.due(at(1)).is_none());
        a.barrier(0, b, at(2));
        assert_eq!(a.waiting(), None, "it is over");
    }

    #[test]
    fn a_channel_that_has_ended_counts_as_one_that_has_delivered() {
        let mut a = Aligner::new([1, 1].into_iter());
        let b = barrier(1, BarrierMode::Aligned);
        a.barrier(0, b, at(0));
        a.ended(1);
        assert_eq!(a.due(at(0)), Some(Due::Aligned(b)));
        a.begun();
        a.ended(0);
        a.command(barrier(2, BarrierMode::Aligned), at(1));
        assert!(
            matches!(a.due(at(1)), Some(Due::Aligned(_))),
            "sources alone are left"
        );
    }

    #[test]
    fn a_newer_checkpoint_takes_the_place_of_an_older_and_an_aborted_one_frees_its_gates() {
        let mut a = Aligner::new([1, 1].into_iter());
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
        let mut a = Aligner::new([1, 1].into_iter());
        a.barrier(0, barrier(1, BarrierMode::AtLeastOnce), at(0));
        assert!(!a.is_blocked(0) && a.due(at(0)).is_none());
        let b = barrier(2, BarrierMode::Unaligned { after_ms: 5 });
        a.barrier(0, b, at(0));
        assert!(a.is_blocked(0));
        assert_eq!((a.due(at(4)), a.due(at(5))), (None, Some(Due::Overtake(b))));
    }
}
