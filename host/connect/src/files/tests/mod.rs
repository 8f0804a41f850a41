//! The source and the sink as their users see them.

mod bad_files;
mod bad_input;
mod committing;
mod decode;
mod merging;
mod parquet;
mod partitions;
mod random;
mod reading;
mod replay;
mod turns;
mod writing;

use std::fs;
use std::path::Path;

use arrow_array::ArrayRef;
use pelton_engine::connector::{Poll, SourceProgress, SourceReader};
use pelton_model::batch::Batch;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::time::Monotonic;
use pelton_model::{Error, Result};

use crate::text::{TimeFormat, write_json_row};
use crate::{OptionMap, SourceRequest};

/// Options by name.
fn options(pairs: &[(&str, &str)]) -> OptionMap {
    pairs
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

fn schema(fields: &[(&str, DataType)]) -> Schema {
    Schema::new(
        fields
            .iter()
            .map(|(n, t)| Field::new(*n, t.clone()))
            .collect(),
    )
}

/// Reads a source in one task to its end.
struct Reading {
    options: OptionMap,
    declared: Schema,
    needed: Schema,
    limits: Limits,
    chunk_bytes: u64,
    rows_max: usize,
}

impl Reading {
    fn new(path: &Path, more: &[(&str, &str)], declared: Schema) -> Self {
        let mut options = options(more);
        options.insert("path".to_string(), path.display().to_string());
        Self {
            options,
            needed: declared.clone(),
            declared,
            limits: Limits::default(),
            chunk_bytes: super::CHUNK_BYTES,
            rows_max: 1_000,
        }
    }

    fn json(path: &Path, declared: Schema) -> Self {
        Self::new(path, &[("format", "json")], declared)
    }

    /// One reader, not read yet, for each task.
    fn readers(&self, parallelism: u32) -> Result<Vec<Box<dyn SourceReader>>> {
        let request = SourceRequest {
            connector: "files",
            options: &self.options,
            declared: &self.declared,
            needed: &self.needed,
            limits: &self.limits,
            parallelism,
        };
        super::check_source(&self.options, &self.declared)?;
        let source = super::open(&request, self.chunk_bytes)?;
        (0..parallelism)
            .map(|i| source.reader(i, parallelism))
            .collect()
    }

    fn batches(&self) -> Result<(Vec<Batch>, SourceProgress)> {
        let mut reader = self.readers(1)?.remove(0);
        let mut batches = Vec::new();
        loop {
            match reader.poll(Monotonic(7), self.rows_max)? {
                Poll::Rows(batch) => {
                    assert!(batch.rows() > 0 && batch.rows() <= self.rows_max);
                    batches.push(batch);
                }
                Poll::Later(at) => assert_eq!(at, Monotonic(7)),
                Poll::End => return Ok((batches, reader.progress())),
            }
        }
    }

    /// Each row as JSON.
    fn rows(&self) -> Result<Vec<String>> {
        Ok(self
            .batches()?
            .0
            .iter()
            .flat_map(|b| shown(&self.needed, b.columns(), b.rows()))
            .collect())
    }

    fn error(&self) -> Error {
        self.rows().unwrap_err()
    }
}

fn shown(schema: &Schema, columns: &[ArrayRef], rows: usize) -> Vec<String> {
    let row = |i| {
        let mut out = Vec::new();
        write_json_row(
            &mut out,
            schema.fields.iter().map(|f| f.name.as_str()),
            columns,
            i,
            TimeFormat::Millis,
        );
        String::from_utf8(out).unwrap()
    };
    (0..rows).map(row).collect()
}

/// A folder with files in it.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}
