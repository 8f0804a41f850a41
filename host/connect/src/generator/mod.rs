//! `generator`: the events of an auction site (Nexmark), or random keys, made straight as columns.
//!
//! Needs: nothing outside. Invariant: the content of an event is a pure function of the options and its number, so a
//! reader can begin at any event, and makes only the columns that are needed.
//!
//! Options: `events=N`, the even stream of N events (`seed`, `step_us`, `splits`, and `only=bid` belong to it), or
//! `set=10k|200k`, a named data set, always of one split; `kind=keys` with `events` and `keys`, records of one number;
//! `rate=N`, events a second over all readers; `all_columns=true`, to make also what nobody needs and throw it away;
//! `preload=true`, to make all rows when a reader is opened and keep them in memory, so that a measurement of what
//! comes after the source does not hold the source.
//!
//! The record is `event_type, ts, person: {..}?, auction: {..}?, bid: {..}?`. With `only=bid` it may also be the bid
//! itself, where `ts` is another name of `dateTime`. Split `i` belongs to reader `i % parallelism`; a reader of several
//! splits takes their blocks of one epoch in the order of event time, also within a batch.
//!
//! A split's position is the number of its events that are taken. There are as many splits as the options say, however
//! many readers there are: after a restart with another number of readers the splits that were begun go on where they
//! were, dealt anew, and the events are the same over all.

mod columns;
mod draws;
mod event;
mod keys;
mod letters;
mod pace;
mod plan;
mod settings;
mod split;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use pelton_engine::connector::{Poll, Position, Source, SourceProgress, SourceReader};
use pelton_model::batch::Batch;
use pelton_model::limits::BATCH_ROWS_MAX;
use pelton_model::schema::{Projection, Schema};
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, Result};

use self::draws::Channel;
use self::pace::{Due, Pace};
use self::plan::Plan;
use self::settings::{Content, Settings};
use self::split::{Rows, Split};
use crate::{OptionMap, SourceRequest};

pub(crate) fn check_source(options: &OptionMap, declared: &Schema) -> Result<()> {
    check_record(&Settings::parse(options)?, declared)
}

pub(crate) fn open_source(request: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(Generator::new(
        request.options,
        request.declared,
        request.needed,
    )?))
}

fn check_record(settings: &Settings, declared: &Schema) -> Result<()> {
    match &settings.content {
        Content::Nexmark(nexmark) => Plan::new(declared, nexmark.layout.bids_only).map(|_| ()),
        Content::Keys { .. } => keys::check(declared),
    }
}

/// A source of generated records.
pub struct Generator {
    settings: Settings,
    needed: Schema,
    /// What is made: `needed`, or all that is declared.
    made: Schema,
    channels: Arc<[Channel]>,
}

impl Generator {
    /// Errors: options that do not exist or do not fit, a record type that no event has.
    pub fn new(options: &OptionMap, declared: &Schema, needed: &Schema) -> Result<Self> {
        let settings = Settings::parse(options)?;
        check_record(&settings, declared)?;
        declared.check_view(needed)?;
        let channels = match &settings.content {
            Content::Nexmark(nexmark) => draws::channels(nexmark.seed),
            Content::Keys { .. } => Box::default(),
        };
        let made = if settings.all_columns {
            declared
        } else {
            needed
        }
        .clone();
        Ok(Self {
            settings,
            needed: needed.clone(),
            made,
            channels: channels.into(),
        })
    }

    fn splits(&self) -> u32 {
        match &self.settings.content {
            Content::Nexmark(nexmark) => nexmark.layout.splits,
            Content::Keys { splits, .. } => *splits,
        }
    }
}

/// The version of positions: `version:u8 taken:u64`, in little endian, under the split's number.
const VERSION: u8 = 1;

/// The event that each split goes on with. Errors: `StateMismatch` for a split that there is not, or another version.
fn positions_of(positions: &[Position], splits: u32) -> Result<Vec<u64>> {
    let mismatch = |message| Error::new(ErrorCode::StateMismatch, message);
    let mut taken = vec![0; splits as usize];
    for position in positions {
        let split = &position.split;
        let place = split.parse().ok().and_then(|i: usize| taken.get_mut(i));
        let Some(place) = place else {
            let message = format!(
                "the checkpoint has a split '{split}' of the generator, which has {splits} now"
            );
            return Err(mismatch(message));
        };
        let at = match position.at.split_first() {
            Some((&VERSION, at)) => at.try_into().ok(),
            _ => None,
        };
        let Some(at) = at else {
            let message =
                format!("the position of the generator's split '{split}' is not understood");
            return Err(mismatch(message));
        };
        *place = u64::from_le_bytes(at);
    }
    Ok(taken)
}

impl Source for Generator {
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>> {
        self.reader_at(index, parallelism, &[])
    }

    fn reader_at(
        &self,
        index: u32,
        parallelism: u32,
        positions: &[Position],
    ) -> Result<Box<dyn SourceReader>> {
        if index >= parallelism {
            return Err(Error::bug(format!(
                "there is no reader {index} of {parallelism}"
            )));
        }
        let splits = self.splits();
        let positions = positions_of(positions, splits)?;
        let mut mine = Vec::new();
        for split in (index..splits).step_by(parallelism as usize) {
            let end = match &self.settings.content {
                Content::Nexmark(nexmark) => nexmark.layout.len(split),
                Content::Keys { events, splits, .. } => keys::len(*events, *splits, split),
            };
            let position = positions.get(split as usize).copied().unwrap_or(0);
            if position > end {
                let message = format!(
                    "the generator's split {split} has {end} events, but was left at {position}"
                );
                return Err(Error::new(ErrorCode::StateMismatch, message));
            }
            mine.push(Split {
                index: split,
                position,
                end,
            });
        }
        let plan = match &self.settings.content {
            Content::Nexmark(nexmark) => Some(Plan::new(&self.made, nexmark.layout.bids_only)?),
            Content::Keys { .. } => None,
        };
        let dropped = match self.settings.all_columns {
            true => Some(Projection::new(&self.made, &self.needed)?),
            false => None,
        };
        let mut reader = Reader {
            pace: self
                .settings
                .rate
                .map(|rate| Pace::new(rate, mine.len(), splits)),
            settings: self.settings,
            made: self.made.clone(),
            dropped,
            channels: self.channels.clone(),
            splits: mine,
            plan,
            rows: Rows::default(),
            handed_out: 0,
            ready: None,
        };
        if self.settings.preload {
            reader.preload()?;
        }
        Ok(Box::new(reader))
    }

    fn replays(&self) -> bool {
        true
    }
}

struct Reader {
    settings: Settings,
    made: Schema,
    /// From what is made to what is needed, where that is less.
    dropped: Option<Projection>,
    channels: Arc<[Channel]>,
    splits: Vec<Split>,
    /// `None` for keys.
    plan: Option<Plan>,
    /// The events of one batch; kept between batches for its memory.
    rows: Rows,
    pace: Option<Pace>,
    handed_out: u64,
    /// Batches that were made beforehand, each with the splits as they stand behind it.
    ready: Option<VecDeque<(Batch, Vec<Split>)>>,
}

impl Reader {
    fn left(&self) -> u64 {
        self.splits.iter().map(|s| s.end - s.position).sum()
    }

    /// Makes all batches now. The splits stay where they are until the batches are handed out.
    fn preload(&mut self) -> Result<()> {
        let begin = self.splits.clone();
        let mut ready = VecDeque::new();
        while self.left() > 0 {
            ready.push_back((self.needed(BATCH_ROWS_MAX)?, self.splits.clone()));
        }
        self.splits = begin;
        self.ready = Some(ready);
        Ok(())
    }

    /// The next rows of those that were made beforehand.
    fn take_ready(&mut self, most: usize) -> Result<Batch> {
        let next = self.ready.as_mut().and_then(VecDeque::pop_front);
        let (batch, behind) = next.ok_or_else(|| Error::bug("preloaded rows ended early"))?;
        let rows = batch.rows();
        if rows <= most {
            self.splits = behind;
            return Ok(batch);
        }
        match self.settings.content {
            // Where the splits stand within a batch is found by taking its beginning again.
            Content::Nexmark(nexmark) => {
                self.rows.clear();
                split::take(&nexmark.layout, &mut self.splits, most, &mut self.rows);
            }
            // A batch of keys is of one split, the one that goes on.
            Content::Keys { .. } => {
                let mut pairs = self.splits.iter_mut().zip(&behind);
                if let Some((split, _)) = pairs.find(|(s, b)| s.position < b.position) {
                    split.position += most as u64;
                }
            }
        }
        let rest = (batch.slice(most, rows - most), behind);
        if let Some(ready) = &mut self.ready {
            ready.push_front(rest);
        }
        Ok(batch.slice(0, most))
    }

    /// The next rows, with the needed columns.
    fn needed(&mut self, most: usize) -> Result<Batch> {
        let batch = self.make(most)?;
        match &self.dropped {
            None => Ok(batch),
            Some(dropped) => {
                let columns = dropped.apply(batch.columns())?;
                batch.with_columns(columns)
            }
        }
    }

    fn make(&mut self, most: usize) -> Result<Batch> {
        match (&self.settings.content, &mut self.plan) {
            (Content::Nexmark(nexmark), Some(plan)) => {
                self.rows.clear();
                split::take(&nexmark.layout, &mut self.splits, most, &mut self.rows);
                plan.make(nexmark, &self.channels, &self.rows)
            }
            (
                Content::Keys {
                    events,
                    keys,
                    splits,
                },
                _,
            ) => keys::take(*events, *keys, *splits, &mut self.splits, most, &self.made),
            (Content::Nexmark(_), None) => Err(Error::bug("a reader of events has no plan")),
        }
    }
}

impl SourceReader for Reader {
    fn poll(&mut self, now: Monotonic, rows_max: usize) -> Result<Poll> {
        let left = self.left();
        if left == 0 {
            return Ok(Poll::End);
        }
        let mut most = rows_max.clamp(1, BATCH_ROWS_MAX);
        match self.pace.as_mut().map(|p| p.due(now, left)) {
            Some(Due::Later(at)) => return Ok(Poll::Later(at)),
            Some(Due::Rows(due)) => most = most.min(usize::try_from(due).unwrap_or(most)),
            None => {}
        }
        let batch = match self.ready {
            Some(_) => self.take_ready(most)?,
            None => self.needed(most)?,
        };
        let rows = batch.rows() as u64;
        self.handed_out += rows;
        if let Some(pace) = &mut self.pace {
            pace.took(rows);
        }
        Ok(Poll::Rows(batch))
    }

    fn progress(&self) -> SourceProgress {
        let total = self.splits.iter().map(|s| s.end).sum();
        SourceProgress {
            rows: self.handed_out,
            bytes: 0,
            skipped: 0,
            total: Some(total),
        }
    }

    fn positions(&self) -> Vec<Position> {
        let position = |s: &Split| {
            let mut at = vec![VERSION];
            at.extend_from_slice(&s.position.to_le_bytes());
            Position {
                split: s.index.to_string(),
                at,
            }
        };
        self.splits.iter().map(position).collect()
    }
}
