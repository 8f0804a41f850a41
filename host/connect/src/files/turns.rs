//! Each file is a split of its own, with a watermark of its own: a task reads its files in turn, a batch of each.
//!
//! Needs: a reader a file. Files are dealt to tasks by their number, and all of a task are open at once. After a restart
//! with as many tasks each has the files that it had, as the watermarks are its own; new ones are dealt by their number.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_engine::connector::{Poll, Position, Source, SourceProgress, SourceReader};
use pelton_model::Result;
use pelton_model::time::Monotonic;

use super::listing::InputFile;
use super::positions::{OfLane, Owner, Place, damaged, gone};

/// A source of one file each.
pub(super) struct Turns(pub(super) Vec<(InputFile, Arc<dyn Source>)>);

/// Positions of files that have a reader of their own, by name. Errors: `Corrupt`, `StateMismatch`.
pub(super) fn lanes(positions: &[Position]) -> Result<BTreeMap<String, OfLane>> {
    let mut lanes = BTreeMap::new();
    for position in positions {
        match Place::read(position)? {
            Place::Lane(name, lane) => {
                if lanes.insert(name, lane).is_some() {
                    return Err(damaged(&position.split, "it is there twice"));
                }
            }
            _ => return Err(damaged(&position.split, "the files were read another way")),
        }
    }
    Ok(lanes)
}

impl Source for Turns {
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>> {
        self.reader_at(index, parallelism, &[])
    }

    fn reader_at(
        &self,
        index: u32,
        parallelism: u32,
        positions: &[Position],
    ) -> Result<Box<dyn SourceReader>> {
        let mut known = lanes(positions)?;
        let parallelism = parallelism.max(1);
        let same = |lane: &OfLane| lane.owner.of == parallelism && lane.owner.reader < parallelism;
        let same = known.values().all(same);
        let mut lanes = Vec::new();
        for (number, (file, source)) in self.0.iter().enumerate() {
            let was = known.remove(&file.name);
            let reader = match &was {
                Some(lane) if same => lane.owner.reader,
                _ => u32::try_from(number).unwrap_or(0) % parallelism,
            };
            if reader != index {
                continue;
            }
            let positions = was.map(|lane| lane.positions).unwrap_or_default();
            lanes.push(Lane {
                name: file.path.display().to_string(),
                position: file.name.clone(),
                reader: source.reader_at(0, 1, &positions)?,
                paused: false,
                ended: false,
            });
        }
        // What is left is of files that are not there any more.
        if let Some((name, _)) = known.iter().find(|(_, lane)| !lane.is_complete()) {
            return Err(gone(name));
        }
        let owner = Owner {
            reader: index,
            of: parallelism,
        };
        let numbered = known.into_iter().zip(0_u32..);
        let mine = numbered.filter(|(_, number)| number % parallelism == index);
        let gone = mine.map(|((name, lane), _)| OfLane { owner, ..lane }.write(&name));
        Ok(Box::new(Reader {
            lanes,
            last: 0,
            owner,
            gone: gone.collect(),
        }))
    }

    fn replays(&self) -> bool {
        self.0.iter().all(|(_, file)| file.replays())
    }
}

struct Reader {
    lanes: Vec<Lane>,
    /// Whose turn it was last.
    last: usize,
    owner: Owner,
    /// Of files that are not there any more, and were read.
    gone: Vec<Position>,
}

/// One file.
struct Lane {
    name: String,
    /// Its name in positions.
    position: String,
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

    fn positions(&self) -> Vec<Position> {
        let lane = |lane: &Lane| {
            let of = OfLane {
                owner: self.owner,
                skip: 0,
                positions: lane.reader.positions(),
            };
            of.write(&lane.position)
        };
        let lanes = self.lanes.iter().map(lane);
        lanes.chain(self.gone.iter().cloned()).collect()
    }
}
