//! The end of a stream: rows go to a connector's writer, projected to the record type that it was opened with.

use pelton_model::Result;
use pelton_model::batch::Batch;
use pelton_model::schema::{Projection, Schema};

use crate::connector::SinkWriter;
use crate::operator::{Context, Operator};

/// The operator.
pub struct SinkOperator {
    writer: Box<dyn SinkWriter>,
    projection: Projection,
}

impl SinkOperator {
    /// `input` is the pruned schema of the stream, `record` what the writer takes.
    pub fn new(writer: Box<dyn SinkWriter>, input: &Schema, record: &Schema) -> Result<Self> {
        Ok(Self {
            writer,
            projection: Projection::new(input, record)?,
        })
    }
}

impl Operator for SinkOperator {
    fn batch(&mut self, _input: u32, batch: Batch, _cx: &mut Context<'_>) -> Result<()> {
        let columns = self.projection.apply(batch.columns())?;
        self.writer.write(&batch.with_columns(columns)?)
    }

    fn wake(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        self.writer.flush()
    }

    fn end(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        self.writer.finish()
    }
}
