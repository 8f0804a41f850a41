//! `blackhole`: takes every row, keeps none, and counts them.
//!
//! Its one option is `blocked_ms`: from its first rows on each task takes nothing for so long, as a system would that is
//! out of order for a while. For tests and measurements of what happens above.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pelton_engine::connector::{Delivery, Sink, SinkWriter};
use pelton_model::Result;
use pelton_model::batch::Batch;
use pelton_model::schema::Schema;

use crate::options::Options;
use crate::{OptionMap, SinkRequest};

/// An hour.
const BLOCKED_MS_MAX: u64 = 3_600_000;

/// How long something runs.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A sink that throws away what it gets.
#[derive(Default)]
pub struct Blackhole {
    rows: Arc<AtomicU64>,
    blocked: Option<(Duration, Clock)>,
}

impl Blackhole {
    /// Each writer takes nothing for a while after its first rows.
    fn blocked(blocked: Duration, clock: Clock) -> Self {
        Self {
            rows: Arc::default(),
            blocked: Some((blocked, clock)),
        }
    }

    /// Rows taken so far by all writers.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

pub(crate) fn check_sink(options: &OptionMap, _schema: &Schema) -> Result<()> {
    blocked_ms(options).map(|_| ())
}

fn blocked_ms(options: &OptionMap) -> Result<Option<u64>> {
    let options = Options::new("blackhole", options, &["blocked_ms"])?;
    options.number("blocked_ms", 0, BLOCKED_MS_MAX)
}

pub(crate) fn delivery(_options: &OptionMap) -> Result<Delivery> {
    Ok(Blackhole::default().delivery())
}

pub(crate) fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    let Some(ms) = blocked_ms(request.options)?.filter(|ms| *ms > 0) else {
        return Ok(Arc::new(Blackhole::default()));
    };
    Ok(Arc::new(Blackhole::blocked(
        Duration::from_millis(ms),
        clock(),
    )))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a writer that plays a system which is out of order is not told the time, as little as one that talks to a real one"
)]
fn clock() -> Clock {
    let origin = std::time::Instant::now();
    Arc::new(move || origin.elapsed())
}

impl Sink for Blackhole {
    fn writer(&self, _index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            rows: self.rows.clone(),
            blocked: self.blocked.clone(),
            until: None,
        }))
    }

    /// Of rows that nobody sees none is there twice, and none is missing.
    fn delivery(&self) -> Delivery {
        Delivery::Committed
    }
}

struct Writer {
    rows: Arc<AtomicU64>,
    blocked: Option<(Duration, Clock)>,
    /// When it takes rows again.
    until: Option<Duration>,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.rows.fetch_add(batch.rows() as u64, Ordering::Relaxed);
        if let (Some((blocked, clock)), None) = (&self.blocked, self.until) {
            self.until = Some(clock() + *blocked);
        }
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        match (&self.blocked, self.until) {
            (Some((_, clock)), Some(until)) => clock() >= until,
            _ => true,
        }
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

    #[test]
    fn takes_nothing_for_a_while_after_its_first_rows() {
        let now = Arc::new(AtomicU64::new(5));
        let time = now.clone();
        let clock = move || Duration::from_millis(time.load(Ordering::Relaxed));
        let sink = Blackhole::blocked(Duration::from_millis(60), Arc::new(clock));
        let mut writer = sink.writer(0, 1).unwrap();
        assert!(writer.has_room());
        let batch = Batch::new(Vec::new(), 5).unwrap();
        writer.write(&batch).unwrap();
        for (ms, room) in [(5, false), (64, false), (65, true), (1_000, true)] {
            now.store(ms, Ordering::Relaxed);
            assert_eq!(writer.has_room(), room, "{ms}");
        }
        writer.write(&batch).unwrap();
        assert!(writer.has_room(), "once");
    }
}
