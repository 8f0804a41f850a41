//! The end of a stream: rows go to a connector's writer, projected to the record type that it was opened with.
//!
//! At a barrier the writer seals what it has, beside the task where that waits for the disk; what is to be committed goes
//! with the snapshot, and goes again with those that follow until a checkpoint that has it is complete: the barriers of
//! checkpoints that fail leave nothing behind.

use std::collections::VecDeque;

use pelton_model::barrier::Barrier;
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;
use pelton_model::schema::{Projection, Schema};
use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind};
use pelton_model::{Error, Result};

use crate::connector::{Preparing, SinkWriter};
use crate::operator::{Context, Operator};
use crate::snapshot::{Restored, SnapshotWriter, section};

/// The operator.
pub struct SinkOperator {
    writer: Box<dyn SinkWriter>,
    projection: Projection,
    /// What was prepared, and is in no complete checkpoint yet.
    waiting: Vec<(CheckpointId, Vec<u8>)>,
    /// What is being sealed, barrier by barrier.
    preparing: VecDeque<(CheckpointId, Preparing)>,
    /// What a later writer needs, as of the last barrier that is sealed.
    state: Option<Vec<u8>>,
    /// Rows before a barrier could not be sealed: no later snapshot would have them.
    failed: Option<Error>,
    /// The greatest checkpoint whose barrier has come.
    last: CheckpointId,
}

impl SinkOperator {
    /// `input` is the pruned schema of the stream, `record` what the writer takes.
    pub fn new(writer: Box<dyn SinkWriter>, input: &Schema, record: &Schema) -> Result<Self> {
        Ok(Self {
            writer,
            projection: Projection::new(input, record)?,
            waiting: Vec::new(),
            preparing: VecDeque::new(),
            state: None,
            failed: None,
            last: CheckpointId(0),
        })
    }
}

impl SinkOperator {
    /// Errors: what has failed beside the task.
    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl Operator for SinkOperator {
    fn batch(&mut self, _input: u32, batch: Batch, _cx: &mut Context<'_>) -> Result<()> {
        let columns = self.projection.apply(batch.columns())?;
        self.writer.write(&batch.with_columns(columns)?)
    }

    fn wake(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        self.check()?;
        self.writer.flush()
    }

    fn has_room(&mut self) -> bool {
        self.writer.has_room()
    }

    fn end(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        self.writer.finish()
    }

    fn snapshot(&mut self, barrier: Option<Barrier>, _into: &mut SnapshotWriter) -> Result<()> {
        self.check()?;
        // What follows the last barrier belongs to the checkpoint after it, whichever that will be.
        let this = barrier.map_or(CheckpointId(self.last.0 + 1), |b| b.checkpoint);
        self.last = this;
        self.preparing
            .push_back((this, self.writer.begin_prepare(this)?));
        Ok(())
    }

    fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        while let Some((checkpoint, preparing)) = self.preparing.front_mut() {
            let Some(prepared) = preparing.poll() else {
                return Ok(false);
            };
            let prepared = prepared.inspect_err(|e| self.failed = Some(e.clone()))?;
            let new = prepared.committables.into_iter();
            self.waiting
                .extend(new.map(|payload| (*checkpoint, payload)));
            self.state = prepared.state;
            self.preparing.pop_front();
        }
        for (checkpoint, payload) in &self.waiting {
            into.committable(*checkpoint, payload.clone());
        }
        if let Some(state) = &self.state {
            let number = into.section(section(SectionKind::Writer, "writer"));
            let entry = Entry {
                key: &[],
                sub: &[],
                value: state,
            };
            into.put(number, NO_GROUP, entry);
        }
        Ok(true)
    }

    fn completed(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.waiting.retain(|(id, _)| *id > checkpoint);
        Ok(())
    }

    fn restore(&mut self, from: &Restored<'_>, _cx: &mut Context<'_>) -> Result<()> {
        self.last = from.from.metadata.checkpoint();
        let mut states = Vec::new();
        from.entries(
            |s| s.kind == SectionKind::Writer,
            |_, _, entry| {
                states.push(entry.value.to_vec());
                Ok(())
            },
        )?;
        self.writer.restore(&states)
    }
}
