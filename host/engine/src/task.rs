//! The task: a synchronous state machine around one chain. It owns the chain's operators, its readers, its inputs and
//! one instance of the user's functions.
//!
//! Nothing waits inside a step. A step takes one batch from a source or a few elements from a channel, if every way
//! out has room; else it says what it waits for, and whoever drives it calls again when it was woken.

use pelton_model::element::Element;
use pelton_model::limits::Limits;
use pelton_model::protocol::TaskCommand;
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::{Error, Result};

use crate::chain::{Chain, Surroundings};
use crate::connector::{Poll, SourceProgress, SourceReader};
use crate::function::{Functions, UserMetric};
use crate::in_flight::Line;
use crate::operator::OperatorMetrics;
use crate::shuffle::Receiver;
use crate::splits::Splits;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Elements that a step takes from its inputs at most.
const ELEMENTS_A_STEP: usize = 16;
/// What was handed to a sink or an exchange stays unflushed for at most so long under load.
const FLUSH_MS: u64 = 10;
/// What waits for a sink or for a snapshot's output that has no room is looked at again after so long.
const RETRY_MS: u64 = 2;
/// Where all splits are paused, they are looked at again after so long.
const PAUSE_MS: u64 = 5;

/// A source in a chain.
pub struct Head {
    /// Its node.
    pub node: usize,
    /// What its positions are found by.
    pub uid: String,
    /// What it reads.
    pub reader: Box<dyn SourceReader>,
    /// Its splits, as others see them.
    pub splits: Arc<Splits>,
    /// Of several splits, those of which the reader knows that they are paused.
    pub paused: Vec<bool>,
    /// Its counters.
    pub metrics: Arc<OperatorMetrics>,
}

/// All channels from one other task.
pub struct Gate {
    /// Where the elements of each go, and how snapshots know it.
    pub lines: Vec<Arc<Line>>,
    /// Where they come from.
    pub receiver: Box<dyn Receiver>,
    /// Whether no barrier overtakes what is in flight here: if one of its channels is so, all are, since they share a queue.
    pub pinned: bool,
}

impl Head {
    /// Readers of several splits are told which ones not to read.
    fn tell_paused(&mut self) {
        for split in 0..self.paused.len() {
            let wanted = self.splits.is_paused(split);
            if let Some(told) = self.paused.get_mut(split).filter(|told| **told != wanted) {
                *told = wanted;
                self.reader.pause(split, wanted);
            }
        }
    }

    fn tell_ended(&self) {
        for split in 0..self.paused.len() {
            if self.reader.has_ended(split) {
                self.splits.end(split);
            }
        }
    }
}

/// What a task says after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is more to do at once.
    Ready,
    /// Nothing to do before it is woken, or these times have come.
    Waiting {
        /// By the monotonic clock.
        until: Option<Monotonic>,
        /// By the wall clock.
        wall: Option<ProcessingTime>,
    },
    /// All inputs have ended and all output is sent.
    Done,
}

/// One parallel instance of a chain.
pub struct Task {
    chain: Chain,
    heads: Vec<(Head, HeadState)>,
    /// Splits of sources, and what stands for them where there is no source.
    splits: Vec<Arc<Splits>>,
    /// Each with the number of its channels that have not ended.
    gates: Vec<(Gate, usize)>,
    functions: Box<dyn Functions>,
    limits: Limits,
    batch_rows: usize,
    opened: bool,
    /// Which gate is asked first, so that none starves.
    turn: usize,
    /// Something was processed since the last flush, and when the first of it.
    dirty: Option<Monotonic>,
    checkpoints: Option<Checkpoints>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HeadState {
    Active,
    Later(Monotonic),
    Ended,
}

impl Task {
    /// A task; `batch_rows` is how many rows its sources put into a batch at most.
    #[must_use]
    pub fn new(
        chain: Chain,
        (heads, splits): (Vec<Head>, Vec<Arc<Splits>>),
        gates: Vec<Gate>,
        functions: Box<dyn Functions>,
        limits: Limits,
        batch_rows: usize,
        durable: Option<Durable>,
    ) -> Self {
        let checkpoints = durable.map(|with| Checkpoints::new(with, &gates));
        Self {
            checkpoints,
            chain,
            splits,
            heads: heads.into_iter().map(|h| (h, HeadState::Active)).collect(),
            gates: gates
                .into_iter()
                .map(|g| {
                    let open = g.lines.len();
                    (g, open)
                })
                .collect(),
            functions,
            limits,
            batch_rows: batch_rows.max(1),
            opened: false,
            turn: 0,
            dirty: None,
        }
    }

    /// Goes on as far as it can without waiting, for about a batch. Errors end the task: its operators must not be
    /// called again.
    pub fn step(&mut self, now: ProcessingTime, monotonic: Monotonic) -> Result<Step> {
        if !self.opened {
            self.opened = true;
            let restore = self.checkpoints.as_mut();
            let restore = restore.and_then(|c| Some((c.with.restore.take()?, c.with.part)));
            let mut around = Surroundings {
                functions: self.functions.as_mut(),
                now,
                monotonic,
                limits: &self.limits,
            };
            if let Some((from, part)) = restore {
                self.chain.restore(&from, part, &mut around)?;
            }
            self.chain.open(&mut around)?;
        }
        let saved = self.go_on_checkpoint(monotonic)?;
        if !self.chain.has_room() {
            self.splits.iter().for_each(|s| s.block(monotonic));
            return Ok(match saved {
                true => Step::Ready,
                false => Step::Waiting {
                    until: Some(monotonic.plus_ms(RETRY_MS)),
                    wall: None,
                },
            });
        }
        self.splits.iter().for_each(|s| s.unblock(monotonic));
        let mut worked = self.chain.is_busy();
        if !worked {
            worked |= self.take_in_flight(now, monotonic)?;
        }
        let drained = self.is_drained();
        if drained && !self.chain.is_busy() {
            worked |= self.take_elements(now, monotonic)?;
            // Before the sources go on: where they stand belongs to the snapshot.
            worked |= self.go_on_checkpoint(monotonic)?;
        }
        if drained && !self.chain.is_busy() {
            worked |= self.poll_sources(now, monotonic)?;
        }
        if worked {
            self.dirty.get_or_insert(monotonic);
        }
        let flush_due = self
            .dirty
            .is_some_and(|since| monotonic >= since.plus_ms(FLUSH_MS));
        let dry = !worked || flush_due;
        let mut around = Surroundings {
            functions: self.functions.as_mut(),
            now,
            monotonic,
            limits: &self.limits,
        };
        if dry {
            self.dirty = None;
        }
        self.chain.wake(dry, &mut around)?;
        if self.chain.has_ended() {
            return self.after_end(monotonic);
        }
        if worked || saved {
            return Ok(Step::Ready);
        }
        let (until, wall) = self.chain.next_wake();
        // After the last barrier nobody reads them: their times would come again and again.
        let stopped = self.checkpoints.as_ref().is_some_and(|c| c.stopped);
        let reads = self.heads.iter().filter(|_| !stopped);
        let later = reads.filter_map(|(_, s)| match s {
            HeadState::Later(at) => Some(*at),
            HeadState::Active | HeadState::Ended => None,
        });
        let source = later.min();
        let checkpoint = self.checkpoints.as_ref().and_then(|c| c.next(monotonic));
        Ok(Step::Waiting {
            until: until.into_iter().chain(source).chain(checkpoint).min(),
            wall,
        })
    }

    /// Carries out a command. `Cancel` is the driver's own affair: it stops calling.
    pub fn command(
        &mut self,
        command: TaskCommand,
        now: ProcessingTime,
        monotonic: Monotonic,
    ) -> Result<()> {
        match command {
            TaskCommand::Cancel => {}
            TaskCommand::Drain => {
                for i in 0..self.heads.len() {
                    self.end_head(i, now, monotonic)?;
                }
            }
            TaskCommand::Checkpoint(barrier) => {
                // One that has ended is in the checkpoint with its last snapshot.
                let over = self.chain.has_ended();
                if let Some(c) = self.checkpoints.as_mut().filter(|_| !over) {
                    c.aligner.command(barrier, monotonic);
                }
            }
            TaskCommand::Completed(checkpoint) => self.chain.completed(checkpoint)?,
            TaskCommand::Aborted(checkpoint) => {
                if let Some(c) = &mut self.checkpoints {
                    c.aborted(checkpoint, &mut self.chain);
                }
            }
        }
        Ok(())
    }

    /// The user's own metrics.
    #[must_use]
    pub fn user_metrics(&self) -> Vec<UserMetric> {
        self.functions.metrics()
    }

    /// What the sources have read: by node.
    pub fn progress(&self) -> impl Iterator<Item = (usize, SourceProgress)> + '_ {
        self.heads
            .iter()
            .map(|(h, _)| (h.node, h.reader.progress()))
    }

    /// Whether nothing is left that was in flight at the checkpoint that the task goes on from.
    fn is_drained(&self) -> bool {
        let checkpoints = self.checkpoints.as_ref();
        checkpoints.is_none_or(|c| c.with.in_flight.is_empty())
    }

    /// Takes what was in flight, which comes before anything else.
    fn take_in_flight(&mut self, now: ProcessingTime, monotonic: Monotonic) -> Result<bool> {
        let mut taken = 0;
        while taken < ELEMENTS_A_STEP
            && let Some(c) = self.checkpoints.as_mut().filter(|c| !c.stopped)
            && let Some((line, element)) = c.with.in_flight.pop_front()
        {
            taken += 1;
            let mut around = Surroundings {
                functions: self.functions.as_mut(),
                now,
                monotonic,
                limits: &self.limits,
            };
            self.chain.put(line.entry, element, &mut around)?;
            if self.chain.is_busy() || !self.chain.has_room() {
                break;
            }
        }
        Ok(taken > 0)
    }

    fn take_elements(&mut self, now: ProcessingTime, monotonic: Monotonic) -> Result<bool> {
        let count = self.gates.len();
        let mut taken = 0;
        let mut dry = 0;
        while taken < ELEMENTS_A_STEP && dry < count {
            let index = self.turn % count;
            self.turn = (index + 1) % count;
            let Some((gate, open)) = self.gates.get_mut(index) else {
                break;
            };
            let checkpoints = self.checkpoints.as_ref();
            let blocked = checkpoints.is_some_and(|c| c.blocks(index));
            let received = if *open > 0 && !blocked {
                gate.receiver.receive()
            } else {
                None
            };
            let Some((channel, element)) = received else {
                dry += 1;
                continue;
            };
            dry = 0;
            taken += 1;
            if let Element::Barrier(barrier) = element {
                if let Some(c) = &mut self.checkpoints {
                    c.aligner.barrier(index, barrier, monotonic);
                    if c.aligner.due(monotonic, true).is_some() {
                        break;
                    }
                }
                continue;
            }
            let ended = matches!(element, Element::End);
            if ended {
                *open -= 1;
            }
            let rows = matches!(element, Element::Batch(_));
            let line = gate.lines.get(channel);
            let line = line.ok_or_else(|| Error::bug("a channel that its gate does not have"))?;
            if let Some(c) = &mut self.checkpoints {
                c.taken(index, || (Arc::clone(line), element.clone()));
            }
            let entry = line.entry;
            let mut around = Surroundings {
                functions: self.functions.as_mut(),
                now,
                monotonic,
                limits: &self.limits,
            };
            self.chain.put(entry, element, &mut around)?;
            if let Some(c) = self.checkpoints.as_mut().filter(|_| ended) {
                c.aligner.ended(index);
                if c.aligner.due(monotonic, true).is_some() {
                    break;
                }
            }
            if self.chain.is_busy() || rows && !self.chain.has_room() {
                break;
            }
        }
        Ok(taken > 0)
    }

    fn poll_sources(&mut self, now: ProcessingTime, monotonic: Monotonic) -> Result<bool> {
        let mut worked = false;
        if self.checkpoints.as_ref().is_some_and(|c| c.stopped) {
            return Ok(false);
        }
        for i in 0..self.heads.len() {
            let Some((head, state)) = self.heads.get_mut(i) else {
                continue;
            };
            match *state {
                HeadState::Ended => continue,
                HeadState::Later(at) if at > monotonic => continue,
                _ => {}
            }
            if head.splits.all_paused() {
                *state = HeadState::Later(monotonic.plus_ms(PAUSE_MS));
                continue;
            }
            head.tell_paused();
            let poll = head.reader.poll(monotonic, self.batch_rows);
            head.tell_ended();
            head.metrics
                .skipped
                .store(head.reader.progress().skipped, Ordering::Relaxed);
            match poll.map_err(|e| self.chain.named(head.node, e))? {
                Poll::Rows(batch) => {
                    *state = HeadState::Active;
                    head.splits.enter(head.reader.split());
                    let node = head.node;
                    let mut around = Surroundings {
                        functions: self.functions.as_mut(),
                        now,
                        monotonic,
                        limits: &self.limits,
                    };
                    self.chain
                        .put_source(node, Element::Batch(batch), &mut around)?;
                    worked = true;
                }
                Poll::Later(at) => *state = HeadState::Later(at),
                Poll::End => {
                    self.end_head(i, now, monotonic)?;
                    worked = true;
                }
            }
        }
        Ok(worked)
    }

    fn end_head(&mut self, index: usize, now: ProcessingTime, monotonic: Monotonic) -> Result<()> {
        let Some((head, state)) = self.heads.get_mut(index) else {
            return Ok(());
        };
        if *state == HeadState::Ended {
            return Ok(());
        }
        *state = HeadState::Ended;
        let node = head.node;
        let mut around = Surroundings {
            functions: self.functions.as_mut(),
            now,
            monotonic,
            limits: &self.limits,
        };
        self.chain.put_source(node, Element::End, &mut around)
    }
}

mod checkpoint;
use checkpoint::Checkpoints;
pub use checkpoint::Durable;
#[cfg(test)]
mod tests;
