//! `blackhole`: takes every row, keeps none, and counts them. It has no options.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pelton_engine::connector::{Sink, SinkWriter};
use pelton_model::Result;
use pelton_model::batch::Batch;
use pelton_model::schema::Schema;

use crate::options::Options;
use crate::{OptionMap, SinkRequest};

/// A sink that throws away what it gets.
#[derive(Debug, Default)]
pub struct Blackhole {
    rows: Arc<AtomicU64>,
}

impl Blackhole {
    /// Rows taken so far by all writers.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

pub(crate) fn check_sink(options: &OptionMap, _schema: &Schema) -> Result<()> {
    Options::new("blackhole", options, &[]).map(|_| ())
}

pub(crate) fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    check_sink(request.options, request.schema)?;
    Ok(Arc::new(Blackhole::default()))
}

impl Sink for Blackhole {
    fn delivery(&self) -> pelton_engine::connector::Delivery {
        pelton_engine::connector::Delivery::AtLeastOnce
    }

    fn writer(&self, _index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            rows: self.rows.clone(),
        }))
    }
}

struct Writer {
    rows: Arc<AtomicU64>,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.rows.fetch_add(batch.rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_rows_that_are_there() {
        let sink = Blackhole::default();
        let batch = Batch::new(Vec::new(), 5).unwrap();
        sink.writer(0, 2).unwrap().write(&batch).unwrap();
        sink.writer(1, 2)
            .unwrap()
            .write(&batch.select(vec![1, 3].into()).unwrap())
            .unwrap();
        assert_eq!(sink.rows(), 7);
        assert!(
            check_sink(
                &OptionMap::from([("a".into(), "b".into())]),
                &Schema::default()
            )
            .is_err()
        );
    }
}
