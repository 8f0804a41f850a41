//! The snapshot of a chain: its operators, and the event time that each has reached.
//!
//! After a restart every operator sends the last watermark that it had sent, so that each channel stands where it stood;
//! what the operator itself has reached is restored before that, and does not fire again.

use pelton_model::barrier::Barrier;
use pelton_model::element::Element;
use pelton_model::id::CheckpointId;
use pelton_model::key::KeyGroupRange;
use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

use super::{Chain, Surroundings};
use crate::operator::Outbox;
use crate::snapshot::{RestoreFrom, SnapshotWriter, section};

/// The section of what an operator has reached and has sent; operators have others of the kind.
const WATERMARK: &str = "watermark";

/// Which task it is.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its number.
    pub task: u32,
    /// Of how many.
    pub parallelism: u32,
    /// Its key groups.
    pub key_groups: KeyGroupRange,
}

impl Chain {
    /// The barrier has come to all inputs: all operators begin their snapshots. None is busy.
    pub fn snapshot(&mut self, barrier: Option<Barrier>, into: &mut SnapshotWriter) -> Result<()> {
        for place in &mut self.places {
            into.operator(&place.node.uid);
            let number = into.section(section(SectionKind::Watermark, WATERMARK));
            let mut value = place.watermark.0.to_be_bytes().to_vec();
            value.extend_from_slice(&place.sent.0.to_be_bytes());
            let entry = Entry {
                key: &[],
                sub: &[],
                value: &value,
            };
            into.put(number, NO_GROUP, entry);
            place.saved = place.node.operator.is_none();
            if let Some(operator) = &mut place.node.operator {
                let named = |e: Error| e.at("operator", format!("'{}'", place.node.name));
                operator.snapshot(barrier, into).map_err(named)?;
            }
        }
        Ok(())
    }

    /// Writes more of the snapshot; whether it is complete.
    pub fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        for place in self.places.iter_mut().filter(|p| !p.saved) {
            into.operator(&place.node.uid);
            if let Some(operator) = &mut place.node.operator {
                let named = |e: Error| e.at("operator", format!("'{}'", place.node.name));
                if !operator.go_on_snapshot(into).map_err(named)? {
                    return Ok(false);
                }
            }
            place.saved = true;
        }
        Ok(true)
    }

    /// The snapshot at hand is given up.
    pub fn abort_snapshot(&mut self) {
        for place in &mut self.places {
            place.saved = true;
            if let Some(operator) = &mut place.node.operator {
                operator.abort_snapshot();
            }
        }
    }

    /// A checkpoint is complete.
    pub fn completed(&mut self, checkpoint: CheckpointId) -> Result<()> {
        for place in &mut self.places {
            if let Some(operator) = &mut place.node.operator {
                let named = |e: Error| e.at("operator", format!("'{}'", place.node.name));
                operator.completed(checkpoint).map_err(named)?;
            }
        }
        Ok(())
    }

    /// Sends a barrier out.
    pub fn send_barrier(&mut self, barrier: Barrier) -> Result<()> {
        self.exits
            .iter_mut()
            .try_for_each(|exit| exit.send(Element::Barrier(barrier)))
    }

    /// Takes what the operators had at a checkpoint. Called once, before anything else.
    pub fn restore(
        &mut self,
        from: &RestoreFrom,
        part: Part,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        for node in 0..self.places.len() {
            let uid = self.place(node)?.node.uid.clone();
            let restored = from.operator(&uid, (part.task, part.parallelism), part.key_groups);
            // Of several tasks that there were, the one that was behind counts.
            let (mut reached, mut sent) = (None, None);
            restored.entries(
                |s| s.kind == SectionKind::Watermark && s.name == WATERMARK,
                |_, _, entry| {
                    let (first, second) = two(entry.value)?;
                    reached = Some(reached.map_or(first, |w: i64| w.min(first)));
                    sent = Some(sent.map_or(second, |w: i64| w.min(second)));
                    Ok(())
                },
            )?;
            let place = self.place(node)?;
            if let Some(reached) = reached.map(Watermark) {
                place.watermark = reached;
                place.inputs.iter_mut().for_each(|m| m.restore(reached));
            }
            self.call(node, around, |op, cx| op.restore(&restored, cx))?;
            if let Some(sent) = sent.map(Watermark).filter(|w| *w > Watermark::MIN) {
                self.route(node, Outbox::ALL, Element::Watermark(sent), around)?;
            }
        }
        Ok(())
    }
}

fn two(value: &[u8]) -> Result<(i64, i64)> {
    let number = |at: usize| {
        let part = value.get(at..at + 8).and_then(|b| b.try_into().ok());
        part.map(i64::from_be_bytes)
    };
    number(0).zip(number(8)).ok_or_else(|| {
        Error::new(
            ErrorCode::Corrupt,
            "the watermark of a checkpoint is cut off",
        )
    })
}
