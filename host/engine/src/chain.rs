//! The operators of one task and the way of elements through them, depth first, without a queue in between.
//! Needs: operator, shuffle, model. Knows nothing of sources' readers or of when it is called: that is `task`.
//!
//! Each way into an operator is a *channel* of one of its inputs, whether it comes from an operator above in the same
//! chain or from another task; the channels' watermarks merge by [`Merge`], and the operator's watermark is the least
//! of its inputs that are not idle.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_model::element::Element;
use pelton_model::limits::Limits;
use pelton_model::time::{Monotonic, ProcessingTime};
use pelton_model::watermark::{Merge, Merged, Watermark};
use pelton_model::{Error, Result};

use crate::function::Functions;
use crate::operator::{Context, Operator, OperatorMetrics, Outbox, Wakeup};
use crate::shuffle::partition::Partitioner;

/// Where an output stream goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// To an operator of this chain.
    Inner(Entry),
    /// To other tasks: an index into the exits.
    Exit(usize),
}

/// A way into an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which operator of the chain.
    pub node: usize,
    /// Which of its inputs.
    pub input: usize,
    /// Which channel of that input.
    pub channel: usize,
}

/// One operator in its place.
pub struct Node {
    /// For messages.
    pub name: String,
    /// What its state is found by.
    pub uid: String,
    /// What runs. None for a source: its rows are put in by the task.
    pub operator: Option<Box<dyn Operator>>,
    /// Its counters.
    pub metrics: Arc<OperatorMetrics>,
    /// How many channels each input has.
    pub channels: Vec<usize>,
    /// By output port, where it goes.
    pub targets: Vec<Vec<Target>>,
}

struct Place {
    node: Node,
    inputs: Vec<Merge>,
    idle: Vec<bool>,
    watermark: Watermark,
    /// The last watermark that it has sent on.
    sent: Watermark,
    /// Whether its part of the snapshot at hand is complete.
    saved: bool,
    /// Channels of all inputs that have not ended.
    open: usize,
    /// All inputs have ended while the operator was busy: its end follows.
    end_due: bool,
    ended: bool,
}

/// What is constant within a step of a task.
pub struct Surroundings<'a> {
    /// The task's instance of the user's functions.
    pub functions: &'a mut dyn Functions,
    /// The wall clock.
    pub now: ProcessingTime,
    /// The monotonic clock.
    pub monotonic: Monotonic,
    /// What the task may use.
    pub limits: &'a Limits,
}

/// The operators of one task.
pub struct Chain {
    places: Vec<Place>,
    exits: Vec<Partitioner>,
}

impl Chain {
    /// A chain of nodes in topological order, and the ways out of it.
    #[must_use]
    pub fn new(nodes: Vec<Node>, exits: Vec<Partitioner>) -> Self {
        let places = nodes.into_iter().map(|node| Place {
            inputs: node.channels.iter().map(|c| Merge::new(*c)).collect(),
            idle: vec![false; node.channels.len()],
            watermark: Watermark::MIN,
            sent: Watermark::MIN,
            saved: true,
            open: node.channels.iter().sum(),
            end_due: false,
            ended: false,
            node,
        });
        Self {
            places: places.collect(),
            exits,
        }
    }

    /// An error of an operator, or of what feeds it, with the operator's name.
    pub fn named(&self, node: usize, error: Error) -> Error {
        match self.places.get(node) {
            Some(place) => error.at("operator", format!("'{}'", place.node.name)),
            None => error,
        }
    }

    /// Whether every way out has room: asked before each step.
    pub fn has_room(&mut self) -> bool {
        let open = |p: &mut Place| !p.ended && p.node.operator.is_some();
        self.exits.iter_mut().all(Partitioner::has_room)
            && self
                .places
                .iter_mut()
                .all(|p| !open(p) || p.node.operator.as_mut().is_none_or(|op| op.has_room()))
    }

    /// Whether an operator has more to emit before anything else may come in.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.places.iter().any(Place::busy)
    }

    /// Whether every operator has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.places.iter().all(|p| p.ended)
    }

    /// An element comes in.
    pub fn put(
        &mut self,
        entry: Entry,
        element: Element,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        match element {
            Element::Batch(batch) => {
                let place = self.place(entry.node)?;
                OperatorMetrics::add(&place.node.metrics.rows_in, batch.rows() as u64);
                self.call(entry.node, around, |op, cx| {
                    op.batch(entry.input as u32, batch, cx)
                })
            }
            Element::Watermark(w) => {
                let merged = self.merge(entry)?.watermark(entry.channel, w);
                self.merged(entry, merged, around)
            }
            Element::Idle | Element::Active => {
                let idle = matches!(element, Element::Idle);
                let merged = self.merge(entry)?.idle(entry.channel, idle);
                self.merged(entry, merged, around)
            }
            Element::End => {
                let merged = self.merge(entry)?.end(entry.channel);
                self.merged(entry, merged, around)?;
                let place = self.place(entry.node)?;
                place.open = place.open.saturating_sub(1);
                if place.open > 0 {
                    Ok(())
                } else if place.busy() {
                    place.end_due = true;
                    Ok(())
                } else {
                    self.end(entry.node, around)
                }
            }
            Element::Barrier(_) => Err(Error::bug("a barrier is the task's, not an operator's")),
        }
    }

    /// A source's rows, or its end, leave the source.
    pub fn put_source(
        &mut self,
        node: usize,
        element: Element,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        let place = self.place(node)?;
        match &element {
            Element::Batch(batch) => {
                OperatorMetrics::add(&place.node.metrics.rows_out, batch.rows() as u64)
            }
            Element::End => place.ended = true,
            _ => {}
        }
        self.route(node, Outbox::ALL, element, around)
    }

    /// Inputs without any channel have ended before they began.
    pub fn open(&mut self, around: &mut Surroundings<'_>) -> Result<()> {
        for node in 0..self.places.len() {
            let place = self.place(node)?;
            if place.node.operator.is_some() && place.open == 0 && !place.ended {
                self.advance(node, Watermark::MAX, around)?;
                self.end(node, around)?;
            }
        }
        Ok(())
    }

    /// Calls operators that are busy or whose time has come; with `dry`, also those that wait for the input to run dry:
    /// flushes and idleness.
    pub fn wake(&mut self, dry: bool, around: &mut Surroundings<'_>) -> Result<()> {
        for node in 0..self.places.len() {
            let place = self.place(node)?;
            let due = match place.node.operator.as_ref().and_then(|op| op.next_wake()) {
                Some(Wakeup::Wall(at)) => at <= around.now,
                Some(Wakeup::Monotonic(at)) => dry && at <= around.monotonic,
                None => false,
            };
            if (due || dry || place.busy()) && !place.ended {
                self.call(node, around, |op, cx| op.wake(cx))?;
            }
            let place = self.place(node)?;
            if place.end_due && !place.busy() {
                place.end_due = false;
                self.end(node, around)?;
            }
        }
        Ok(())
    }

    /// The earliest time at which an operator asks to be woken, by each clock.
    #[must_use]
    pub fn next_wake(&self) -> (Option<Monotonic>, Option<ProcessingTime>) {
        let (mut monotonic, mut wall) = (None, None);
        for place in self.places.iter().filter(|p| !p.ended) {
            match place.node.operator.as_ref().and_then(|op| op.next_wake()) {
                Some(Wakeup::Monotonic(at)) => {
                    monotonic = Some(monotonic.map_or(at, |m: Monotonic| m.min(at)))
                }
                Some(Wakeup::Wall(at)) => {
                    wall = Some(wall.map_or(at, |w: ProcessingTime| w.min(at)))
                }
                None => {}
            }
        }
        (monotonic, wall)
    }

    fn place(&mut self, node: usize) -> Result<&mut Place> {
        self.places
            .get_mut(node)
            .ok_or_else(|| Error::bug("an element for an operator that is not there"))
    }

    fn merge(&mut self, entry: Entry) -> Result<&mut Merge> {
        let place = self.place(entry.node)?;
        place
            .inputs
            .get_mut(entry.input)
            .ok_or_else(|| Error::bug("an element for an input that is not there"))
    }

    fn merged(
        &mut self,
        entry: Entry,
        merged: Merged,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        let place = self.place(entry.node)?;
        if let Some(idle) = merged.idle {
            let before = place.idle_all();
            if let Some(slot) = place.idle.get_mut(entry.input) {
                *slot = idle;
            }
            if !idle && before {
                self.forward_idle(entry.node, false, around)?;
            }
        }
        let place = self.place(entry.node)?;
        let least = place
            .inputs
            .iter()
            .zip(&place.idle)
            .filter(|(_, idle)| !**idle)
            .map(|(m, _)| m.current())
            .min();
        // All idle: what the last one released counts.
        let least = least.or(merged.watermark).unwrap_or(Watermark::MIN);
        if least > place.watermark {
            self.advance(entry.node, least, around)?;
        }
        if merged.idle == Some(true) && self.place(entry.node)?.idle_all() {
            // Below, a watermark that comes after idleness would not count.
            while self.place(entry.node)?.busy() {
                self.call(entry.node, around, |op, cx| op.wake(cx))?;
            }
            self.forward_idle(entry.node, true, around)?;
        }
        Ok(())
    }

    fn forward_idle(
        &mut self,
        node: usize,
        idle: bool,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        let mut forward = false;
        self.call(node, around, |op, cx| {
            forward = op.idle(idle, cx)?;
            Ok(())
        })?;
        let element = if idle { Element::Idle } else { Element::Active };
        if forward {
            self.route(node, Outbox::ALL, element, around)
        } else {
            Ok(())
        }
    }

    fn advance(
        &mut self,
        node: usize,
        watermark: Watermark,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        let place = self.place(node)?;
        place.watermark = watermark;
        place
            .node
            .metrics
            .watermark
            .store(watermark.0, Ordering::Relaxed);
        let mut forward = None;
        self.call(node, around, |op, cx| {
            forward = op.watermark(cx)?;
            Ok(())
        })?;
        match forward {
            Some(w) => self.route(node, Outbox::ALL, Element::Watermark(w), around),
            None => Ok(()),
        }
    }

    fn end(&mut self, node: usize, around: &mut Surroundings<'_>) -> Result<()> {
        self.call(node, around, |op, cx| op.end(cx))?;
        self.place(node)?.ended = true;
        self.route(node, Outbox::ALL, Element::End, around)
    }

    /// Calls an operator and sends on what it emits. An error gets the operator's name.
    fn call(
        &mut self,
        node: usize,
        around: &mut Surroundings<'_>,
        body: impl FnOnce(&mut dyn Operator, &mut Context<'_>) -> Result<()>,
    ) -> Result<()> {
        let place = self.place(node)?;
        let mut out = Outbox::default();
        if let Some(operator) = &mut place.node.operator {
            let mut cx = Context {
                functions: &mut *around.functions,
                now: around.now,
                monotonic: around.monotonic,
                watermark: place.watermark,
                out: &mut out,
                limits: around.limits,
                metrics: &place.node.metrics,
            };
            body(operator.as_mut(), &mut cx)
                .map_err(|e| e.at("operator", format!("'{}'", place.node.name)))?;
        }
        for (port, element) in out.drain() {
            self.route(node, port, element, around)?;
        }
        Ok(())
    }

    fn route(
        &mut self,
        node: usize,
        port: u32,
        element: Element,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        let place = self.place(node)?;
        if let Element::Watermark(w) = &element {
            place.sent = place.sent.max(*w);
        }
        let ports = place.node.targets.len();
        let ports = if port == Outbox::ALL {
            0..ports
        } else {
            port as usize..(port as usize + 1).min(ports)
        };
        for p in ports {
            let mut i = 0;
            while let Some(target) = self
                .place(node)?
                .node
                .targets
                .get(p)
                .and_then(|t| t.get(i))
                .copied()
            {
                i += 1;
                match target {
                    Target::Inner(entry) => self.put(entry, element.clone(), around)?,
                    Target::Exit(exit) => {
                        let exit = self
                            .exits
                            .get_mut(exit)
                            .ok_or_else(|| Error::bug("a way out that is not there"))?;
                        exit.send(element.clone())?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Place {
    fn busy(&self) -> bool {
        self.node.operator.as_ref().is_some_and(|op| op.busy())
    }

    fn idle_all(&self) -> bool {
        self.idle.iter().all(|i| *i)
    }
}

mod snapshot;
pub use snapshot::Part;
#[cfg(test)]
mod tests;
