//! Rows into a Parquet file: Snappy, row groups as large as the sink's memory allows.
//! Needs: the crate `parquet`. Timestamps are milliseconds, said to be UTC to no one: the type has no zone.

use std::fs::File;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use ::parquet::errors::Result;
use ::parquet::file::properties::WriterProperties;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema};
use pelton_model::batch::Batch;
use pelton_model::schema::Schema;

use crate::text::kind_word as word;

/// The most rows of a row group: the unit that a reading task takes.
const GROUP_ROWS: usize = 1 << 20;

/// The columns of a sink's files.
pub(in super::super) struct Layout {
    schema: Arc<ArrowSchema>,
}

impl Layout {
    /// `with_op`: a column of the rows' kinds in front.
    pub(in super::super) fn new(written: &Schema, with_op: bool) -> Self {
        let op = with_op.then(|| ArrowField::new("op", ArrowType::Utf8, false));
        let fields = written.fields.iter().map(|f| f.to_arrow());
        Self {
            schema: Arc::new(ArrowSchema::new(
                op.into_iter().chain(fields).collect::<Vec<_>>(),
            )),
        }
    }

    pub(in super::super) fn encoder(&self, file: File) -> Result<Encoder> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by(concat!("pelton ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = ArrowWriter::try_new(file, self.schema.clone(), Some(properties))?;
        Ok(Encoder {
            writer,
            schema: self.schema.clone(),
        })
    }
}

/// A file that is being written.
pub(in super::super) struct Encoder {
    writer: ArrowWriter<File>,
    schema: Arc<ArrowSchema>,
}

impl Encoder {
    /// Adds rows; the batch has no selection.
    pub(in super::super) fn write(&mut self, batch: &Batch, with_op: bool) -> Result<()> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.columns().len() + 1);
        if with_op {
            let kind = |row| batch.kinds().and_then(|k| k.get(row)).copied().unwrap_or(0);
            let words = (0..batch.rows()).map(|row| word(kind(row)));
            columns.push(Arc::new(StringArray::from_iter_values(words)));
        }
        columns.extend(batch.columns().iter().cloned());
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.writer.write(&rows)
    }

    /// Bytes of the file so far, those in memory included.
    pub(in super::super) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Ends the row group if it takes more memory than this.
    pub(in super::super) fn bound(&mut self, bytes_max: usize) -> Result<()> {
        if self.writer.memory_size() > bytes_max {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Ends the file; it is not synced.
    pub(in super::super) fn finish(self) -> Result<File> {
        self.writer.into_inner()
    }
}
