//! The ends of the simulated jobs: a source whose rows follow from their number, and a sink that commits in two phases.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use pelton_engine::connector::{
    Delivery, Poll, Position, Prepared, Sink, SinkWriter, Source, SourceProgress, SourceReader,
};
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;
use pelton_model::schema::Schema;
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, Result};

use crate::chance::{Chance, mixed};
use crate::world::{Part, Row, Shared, lock, part_name};

/// Rows of one source, by split.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Rows of each split.
    pub lengths: Vec<u64>,
    /// No two sources have the same keys, unless they have the same number.
    pub keys_of: u64,
    /// Keys of each split.
    pub keys: u64,
    /// Milliseconds from row to row.
    pub step_ms: i64,
    /// Rows are out of order by less than this.
    pub bound_ms: i64,
    /// What keys and values depend on.
    pub seed: u64,
}

impl Rows {
    /// A row: key, number in its split, value, time.
    #[must_use]
    pub fn row(&self, split: usize, number: u64) -> [i64; 4] {
        let draw = mixed(self.seed ^ mixed(number + 1 + ((split as u64) << 32)));
        let key = (self.keys_of * 64 + split as u64) * 64 + draw % self.keys.max(1);
        let late = (draw >> 16) % (self.bound_ms.max(1) as u64);
        let time = number as i64 * self.step_ms + self.bound_ms - late as i64;
        [key as i64, number as i64, ((draw >> 32) % 100) as i64, time]
    }
}

/// A source of such rows; what is read of it has the columns of `schema`.
pub struct Numbered {
    /// What there is to read.
    pub rows: Rows,
    /// Of `k`, `n`, `v`, `t`, those that somebody reads.
    pub schema: Schema,
    /// Positions are one row before where they should be (a bug).
    pub behind: bool,
    /// When it is slow.
    pub chance: Chance,
}

impl Source for Numbered {
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>> {
        self.reader_at(index, parallelism, &[])
    }

    fn reader_at(
        &self,
        index: u32,
        parallelism: u32,
        positions: &[Position],
    ) -> Result<Box<dyn SourceReader>> {
        let mut splits = Vec::new();
        for split in (0..self.rows.lengths.len()).filter(|s| *s as u32 % parallelism == index) {
            let name = split.to_string();
            let position = positions.iter().find(|p| p.split == name);
            let next = position.map_or(Ok(0), |p| number(&p.at))?;
            splits.push((split, next));
        }
        Ok(Box::new(Reader {
            rows: self.rows.clone(),
            schema: self.schema.clone(),
            behind: self.behind,
            chance: self.chance.clone(),
            paused: vec![false; splits.len()],
            splits,
            current: 0,
            read: 0,
        }))
    }

    fn replays(&self) -> bool {
        true
    }
}

fn number(at: &[u8]) -> Result<u64> {
    let bytes = at.try_into().map_err(|_| {
        Error::new(
            ErrorCode::StateMismatch,
            "a position that is not a number of a row",
        )
    });
    bytes.map(u64::from_be_bytes)
}

struct Reader {
    rows: Rows,
    schema: Schema,
    behind: bool,
    chance: Chance,
    /// Split, next row.
    splits: Vec<(usize, u64)>,
    paused: Vec<bool>,
    current: usize,
    read: u64,
}

impl Reader {
    fn length(&self, split: usize) -> u64 {
        self.rows.lengths.get(split).copied().unwrap_or(0)
    }

    fn batch(&self, split: usize, from: u64, count: u64) -> Result<Batch> {
        let rows: Vec<[i64; 4]> = (from..from + count)
            .map(|n| self.rows.row(split, n))
            .collect();
        let column = |index: usize| rows.iter().map(move |r| r.get(index).copied().unwrap_or(0));
        let columns = self.schema.fields.iter().map(|field| -> ArrayRef {
            match field.name.as_str() {
                "k" => Arc::new(Int64Array::from_iter_values(column(0))),
                "n" => Arc::new(Int64Array::from_iter_values(column(1))),
                "v" => Arc::new(Int64Array::from_iter_values(column(2))),
                _ => Arc::new(TimestampMillisecondArray::from_iter_values(column(3))),
            }
        });
        Batch::new(columns.collect(), rows.len())
    }
}

impl SourceReader for Reader {
    fn poll(&mut self, now: Monotonic, rows_max: usize) -> Result<Poll> {
        let open: Vec<usize> = (0..self.splits.len())
            .filter(|i| !self.has_ended(*i))
            .collect();
        if open.is_empty() {
            return Ok(Poll::End);
        }
        let open: Vec<usize> = open
            .into_iter()
            .filter(|i| !self.paused.get(*i).copied().unwrap_or(false))
            .collect();
        if open.is_empty() || self.chance.happens(250) {
            return Ok(Poll::Later(now.plus_ms(self.chance.between(0, 3))));
        }
        self.current = self.chance.one_of(&open, 0);
        let Some((split, next)) = self.splits.get(self.current).copied() else {
            return Ok(Poll::End);
        };
        let left = self.length(split) - next;
        let count = self.chance.between(1, rows_max.max(1) as u64).min(left);
        let batch = self.batch(split, next, count)?;
        if let Some((_, next)) = self.splits.get_mut(self.current) {
            *next += count;
        }
        self.read += count;
        Ok(Poll::Rows(batch))
    }

    fn splits(&self) -> Vec<String> {
        match self.splits.is_empty() {
            true => vec![String::new()],
            false => self.splits.iter().map(|(s, _)| s.to_string()).collect(),
        }
    }

    fn split(&self) -> usize {
        self.current
    }

    fn has_ended(&self, split: usize) -> bool {
        let at = self.splits.get(split);
        at.is_none_or(|(split, next)| *next >= self.length(*split))
    }

    fn pause(&mut self, split: usize, paused: bool) {
        if let Some(flag) = self.paused.get_mut(split) {
            *flag = paused;
        }
    }

    fn progress(&self) -> SourceProgress {
        SourceProgress {
            rows: self.read,
            ..SourceProgress::default()
        }
    }

    fn positions(&self) -> Vec<Position> {
        let position = |(split, next): &(usize, u64)| Position {
            split: split.to_string(),
            at: next
                .saturating_sub(u64::from(self.behind))
                .to_be_bytes()
                .to_vec(),
        };
        self.splits.iter().map(position).collect()
    }
}

/// A sink: rows are a writer's own until it is asked to seal them, and visible once they are committed.
pub struct TwoPhase {
    /// Whose place it is.
    pub uid: String,
    /// The process that has it open: which checkpoint folder, and its term there.
    pub start: (u64, u64),
    /// Where the place is.
    pub world: Shared,
    /// When it is slow.
    pub chance: Chance,
}

impl Sink for TwoPhase {
    fn writer(&self, index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer {
            uid: self.uid.clone(),
            start: self.start,
            index,
            world: Arc::clone(&self.world),
            chance: self.chance.clone(),
            rows: Vec::new(),
            made: 0,
        }))
    }

    fn delivery(&self) -> Delivery {
        Delivery::Committed
    }
}

struct Writer {
    uid: String,
    start: (u64, u64),
    index: u32,
    world: Shared,
    chance: Chance,
    rows: Vec<Row>,
    made: u64,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        let columns: Vec<&[i64]> = batch
            .columns()
            .iter()
            .map(|c| c.as_primitive::<Int64Type>().values().as_ref())
            .collect();
        for row in 0..batch.rows() {
            let mut made = Row::default();
            for (value, column) in made.iter_mut().zip(&columns) {
                *value = column.get(row).copied().unwrap_or(0);
            }
            self.rows.push(made);
        }
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        !self.chance.happens(50)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Prepared> {
        let rows = std::mem::take(&mut self.rows);
        let mut prepared = Prepared::default();
        if rows.is_empty() {
            return Ok(prepared);
        }
        self.made += 1;
        let name = part_name(self.start, self.index, checkpoint, self.made);
        let term = self.start.1;
        let mut world = lock(&self.world);
        let place = world.places.entry(self.uid.clone()).or_default();
        place.staged.insert(name.clone(), Part { term, rows });
        prepared.committables.push(name.into_bytes());
        Ok(prepared)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
