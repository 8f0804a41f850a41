//! Each file is a split of its own, with a watermark of its own: a task reads its files in turn, a batch of each.
//!
//! Needs: a reader a file. Files are dealt to tasks by their number, and all of a task are open at once.

use std::sync::Arc;

use pelton_engine::connector::{Poll, Source, SourceProgress, SourceReader};
use pelton_model::Result;
use pelton_model::time::Monotonic;

/// A source of one file each, and their names.
pub(super) struct Turns(pub(super) Vec<(String, Arc<dyn Source>)>);

impl Source for Turns {
    fn reader_at(
        &self,
        _: u32,
        _: u32,
        _: &[pelton_engine::connector::Position],
    ) -> Result<Box<dyn SourceReader>> {
        Err(pelton_model::Error::bug("positions are not read yet"))
    }

    fn replays(&self) -> bool {
        false
    }

    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>> {
        let own = self.0.iter().skip(index as usize);
        let lanes = own
            .step_by(parallelism.max(1) as usize)
            .map(|(name, file)| {
                Ok(Lane {
                    name: name.clone(),
                    reader: file.reader(0, 1)?,
                    paused: false,
                    ended: false,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Box::new(Reader { lanes, last: 0 }))
    }
}

struct Reader {
    lanes: Vec<Lane>,
    /// Whose turn it was last.
    last: usize,
}

/// One file.
struct Lane {
    name: String,
    reader: Box<dyn SourceReader>,
    paused: bool,
    ended: bool,
}

impl SourceReader for Reader {
    fn poll(&mut self, now: Monotonic, rows_max: usize) -> Result<Poll> {
        let count = self.lanes.len();
        let mut later: Option<Monotonic> = None;
        for step in 1..=count {
            let turn = (self.last + step) % count;
            let Some(lane) = self.lanes.get_mut(turn).filter(|l| !l.ended) else {
                continue;
            };
            if lane.paused {
                later.get_or_insert(now);
                continue;
            }
            match lane.reader.poll(now, rows_max)? {
                Poll::Rows(rows) => {
                    self.last = turn;
                    return Ok(Poll::Rows(rows));
                }
                Poll::Later(at) => later = Some(later.map_or(at, |l| l.min(at))),
                Poll::End => lane.ended = true,
            }
        }
        Ok(later.map_or(Poll::End, Poll::Later))
    }

    fn splits(&self) -> Vec<String> {
        self.lanes.iter().map(|l| l.name.clone()).collect()
    }

    fn split(&self) -> usize {
        self.last
    }

    fn has_ended(&self, split: usize) -> bool {
        self.lanes.get(split).is_some_and(|l| l.ended)
    }

    fn pause(&mut self, split: usize, paused: bool) {
        if let Some(lane) = self.lanes.get_mut(split) {
            lane.paused = paused;
        }
    }

    fn progress(&self) -> SourceProgress {
        let mut all = SourceProgress {
            total: Some(0),
            ..SourceProgress::default()
        };
        for lane in &self.lanes {
            let one = lane.reader.progress();
            all.rows += one.rows;
            all.bytes += one.bytes;
            all.skipped += one.skipped;
            all.total = all.total.zip(one.total).map(|(a, b)| a + b);
        }
        all
    }

    fn positions(&self) -> Vec<pelton_engine::connector::Position> {
        self.lanes
            .iter()
            .flat_map(|l| l.reader.positions())
            .collect()
    }
}
