//! Exactly once into systems without transactions: results are kept with the checkpoint, and applied once it is complete.
//!
//! Needs: a [`Target`], which can tell what it has applied by a marker that it keeps with the rows. Then a crash while rows
//! are applied does not repeat them: the same unit is applied again, and the target passes over it, or finishes it.
//! Refuses: more than [`UNIT_BYTES_MAX`] a task and checkpoint, as rows stand in the checkpoint's own metadata; results
//! that are larger would have to stand in files beside it, which this does not do.
//!
//! What is handed over at a barrier:
//!
//! ```text
//! version:u8 (1)  checkpoint:u64 task:u32 rows:u64  rows, as the target takes them
//! ```
//!
//! with numbers in little endian. There is no checksum: the checkpoint has one. A system that replaces a row by one with
//! the same key needs none of this: its sink writes before the barrier, and is [`Delivery::Idempotent`].

use std::sync::Arc;

use pelton_engine::connector::{Delivery, Prepared, Sink, SinkWriter};
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;
use pelton_model::{Error, ErrorCode, Result};

/// Bytes of a task's results between two checkpoints.
pub const UNIT_BYTES_MAX: usize = 16 << 20;
/// Without checkpoints rows are applied in portions of so many bytes.
const PORTION_BYTES: usize = 1 << 20;
const VERSION: u8 = 1;
const HEAD: usize = 21;

/// Results of one task between two checkpoints; the first two numbers are its marker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Unit<'a> {
    /// The checkpoint at whose barrier they were sealed.
    pub checkpoint: CheckpointId,
    /// The task that made them.
    pub task: u32,
    /// How many rows.
    pub rows: u64,
    /// The rows, encoded.
    pub bytes: &'a [u8],
}

/// A system without transactions.
pub trait Target: Send + Sync + 'static {
    /// Appends a row, as the system takes it, to those of a batch without a selection.
    fn encode(&self, batch: &Batch, row: usize, out: &mut Vec<u8>) -> Result<()>;

    /// Applies rows, and a marker by which it knows later that they are: durable when it returns. Of a unit that is applied
    /// it does nothing; one that is half applied it completes or begins again. Called for one unit at a time. Errors:
    /// `StoreUnavailable` is tried again.
    fn apply(&self, unit: &Unit<'_>) -> Result<()>;

    /// Applies rows of a job without checkpoints, which has no markers.
    fn append(&self, bytes: &[u8]) -> Result<()>;

    /// Undoes what a crash has left half applied.
    fn tidy(&self) -> Result<()>;

    /// Takes back the units of checkpoints after `after`, up to `to`, if it can: their rows come again.
    fn take_back(&self, _after: CheckpointId, _to: CheckpointId) -> Result<()> {
        Ok(())
    }
}

/// The sink of a target.
pub struct WriteAhead<T> {
    target: Arc<T>,
    checkpoints: bool,
}

impl<T: Target> WriteAhead<T> {
    /// `checkpoints`: whether there are any; rows are applied as they come where there are not.
    pub fn new(target: T, checkpoints: bool) -> Self {
        Self {
            target: Arc::new(target),
            checkpoints,
        }
    }
}

impl<T: Target> Sink for WriteAhead<T> {
    fn writer(&self, index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            target: self.target.clone(),
            checkpoints: self.checkpoints,
            task: index,
            rows: 0,
            bytes: Vec::new(),
        }))
    }

    fn delivery(&self) -> Delivery {
        Delivery::Committed
    }

    fn commit(&self, committables: &[Vec<u8>]) -> Result<()> {
        let units = committables.iter().map(|bytes| Unit::read(bytes));
        let mut units = units.collect::<Result<Vec<_>>>()?;
        units.sort_unstable();
        units.iter().try_for_each(|unit| self.target.apply(unit))
    }

    fn take_back(&self, after: CheckpointId, to: CheckpointId) -> Result<()> {
        self.target.take_back(after, to)
    }

    fn recover(&self, committables: &[Vec<u8>]) -> Result<()> {
        self.target.tidy()?;
        self.commit(committables)
    }
}

struct Writer<T> {
    target: Arc<T>,
    checkpoints: bool,
    task: u32,
    /// Since the last barrier.
    rows: u64,
    bytes: Vec<u8>,
}

impl<T: Target> Writer<T> {
    fn apply(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            self.target.append(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

impl<T: Target> SinkWriter for Writer<T> {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        for row in 0..batch.rows() {
            self.target.encode(&batch, row, &mut self.bytes)?;
            if !self.checkpoints && self.bytes.len() >= PORTION_BYTES {
                self.apply()?;
            }
        }
        self.rows += batch.rows() as u64;
        if self.bytes.len() > UNIT_BYTES_MAX {
            let message = format!(
                "a task has over {UNIT_BYTES_MAX} bytes of results since the last checkpoint, more than are kept with one"
            );
            return Err(Error::new(ErrorCode::StateLimit, message)
                .help("take checkpoints more often, or give the sink more tasks"));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match self.checkpoints {
            true => Ok(()),
            false => self.apply(),
        }
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Prepared> {
        if !self.checkpoints || self.rows == 0 {
            return Ok(Prepared::default());
        }
        let unit = Unit {
            checkpoint,
            task: self.task,
            rows: self.rows,
            bytes: &self.bytes,
        };
        let committables = vec![unit.write()];
        self.rows = 0;
        self.bytes.clear();
        Ok(Prepared {
            committables,
            state: None,
        })
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }
}

impl<'a> Unit<'a> {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.bytes.len());
        out.push(VERSION);
        out.extend_from_slice(&self.checkpoint.0.to_le_bytes());
        out.extend_from_slice(&self.task.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(self.bytes);
        out
    }

    /// Errors: `Corrupt`; `StateMismatch` for another version.
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            let message = format!(
                "results of a checkpoint are of version {version}, but this binary reads {VERSION}"
            );
            return Err(Error::new(ErrorCode::StateMismatch, message));
        }
        let (checkpoint, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (task, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (rows, bytes) = rest.split_first_chunk().ok_or_else(damaged)?;
        Ok(Self {
            checkpoint: CheckpointId(u64::from_le_bytes(*checkpoint)),
            task: u32::from_le_bytes(*task),
            rows: u64::from_le_bytes(*rows),
            bytes,
        })
    }
}

fn damaged() -> Error {
    let message = "results of a checkpoint are not understood: the checkpoint is damaged";
    Error::new(ErrorCode::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in checkpoints: a sink must understand them for ever.
    #[test]
    fn units_of_the_first_version_are_read() {
        let unit = Unit {
            checkpoint: CheckpointId(258),
            task: 3,
            rows: 1,
            bytes: b"row\n",
        };
        let golden = b"\x01\x02\x01\0\0\0\0\0\0\x03\0\0\0\x01\0\0\0\0\0\0\0row\n";
        assert_eq!(unit.write(), golden);
        assert_eq!(Unit::read(golden).unwrap(), unit);
        for length in 0..HEAD {
            let e = Unit::read(&golden[..length]).unwrap_err();
            assert_eq!(e.code(), ErrorCode::Corrupt);
        }
        assert_eq!(
            Unit::read(&[2]).unwrap_err().code(),
            ErrorCode::StateMismatch
        );
    }
}
