//! Keys for which something is due, found in the order of time: each key group of the task has its own, and they are
//! merged. What is not taken in one go is read again in the next; with many key groups that is half of it.

use arrow_array::{Array, ArrayRef};
use pelton_model::Result;

use super::{After, DUE, Share, Spill, joined, numbers, times};
use crate::function::Slots;

/// Keys that are due and taken out at once, about.
const KEYS_AT_ONCE: usize = if cfg!(test) { 4 } else { 4096 };
/// Entries of a key group that are read first, as it is not known how many are due; then ever twice as many.
const READ_FIRST: usize = if cfg!(test) { 1 } else { 8 };

/// Keys for which something is due.
pub(in crate::operators::window::session) struct DueKeys {
    pub(in crate::operators::window::session) keys: Vec<ArrayRef>,
    pub(in crate::operators::window::session) rows: usize,
    /// There are more: all up to this time and number of coming are here.
    pub(in crate::operators::window::session) cut: Option<(i64, u64)>,
}

/// Entries of a key group that are due, ascending.
struct Scanned {
    columns: Vec<ArrayRef>,
    /// Those are as many as were asked for.
    full: bool,
    /// When the first is due that is not due yet.
    beyond: Option<i64>,
}

impl Scanned {
    fn rows(&self) -> usize {
        self.columns.first().map_or(0, |c| c.len())
    }

    fn at(&self, row: usize) -> Result<(i64, u64)> {
        Ok((
            times(&self.columns, 0)?
                .get(row)
                .copied()
                .unwrap_or(i64::MAX),
            numbers(&self.columns, 1)?
                .get(row)
                .copied()
                .unwrap_or(u64::MAX),
        ))
    }
}

impl Spill {
    /// Some of the keys for which something is due now; they are still here. They come in the order of that time, and of
    /// one time in that of their coming. None: there is no such key.
    pub(in crate::operators::window::session) fn due(
        &mut self,
        now: i64,
    ) -> Result<Option<DueKeys>> {
        let is_due = |share: &&Share| share.first.is_some_and(|first| first <= now);
        let count = self.shares.iter().filter(is_due).count();
        if count == 0 {
            return Ok(None);
        }
        let each = (KEYS_AT_ONCE / count).max(READ_FIRST);
        let mut all = Vec::with_capacity(count);
        let mut cut = None;
        for place in 0..self.shares.len() {
            if !self.shares.get(place).as_ref().is_some_and(is_due) {
                continue;
            }
            let scanned = self.scan(place, now, each)?;
            if scanned.full {
                let last = scanned.at(scanned.rows().saturating_sub(1))?;
                cut = Some(cut.map_or(last, |cut| last.min(cut)));
            }
            all.push((place, scanned));
        }
        self.state.tidy(&|_| false)?;
        let (mut keys, mut rows) = (Vec::new(), 0);
        for (place, scanned) in all {
            let taken = self.advance(place, &scanned, cut)?;
            rows += taken;
            if taken > 0 {
                let of_keys = scanned.columns.get(2..).unwrap_or_default();
                keys.push(
                    of_keys
                        .iter()
                        .map(|c| c.slice(0, taken))
                        .collect::<Vec<_>>(),
                );
            }
        }
        let keys = joined(&keys)?;
        Ok((rows > 0).then_some(DueKeys { keys, rows, cut }))
    }

    /// At most so many entries of a key group that are due.
    fn scan(&mut self, place: usize, now: i64, max: usize) -> Result<Scanned> {
        self.touch(&[place])?;
        let slot = self.touched.slots.first().copied().unwrap_or_default();
        let after = self.shares.get(place).and_then(|s| s.after.as_ref());
        let mut after = after.map(|a| a.entry.clone());
        let (mut parts, mut rows, mut limit) = (Vec::new(), 0, READ_FIRST);
        let (mut full, mut beyond) = (false, None);
        while !full && beyond.is_none() {
            let wanted = limit.min(max - rows);
            let found = self.state.scan(DUE, slot, after.as_ref(), wanted)?;
            let columns = found.keys.columns;
            let at = times(&columns, 0)?;
            if at.is_empty() {
                break;
            }
            let due = at.partition_point(|time| *time <= now);
            beyond = at.get(due).copied();
            rows += due;
            full = beyond.is_none() && rows >= max;
            after = Some(one(&columns, at.len() - 1));
            parts.push(columns.iter().map(|c| c.slice(0, due)).collect::<Vec<_>>());
            limit *= 2;
        }
        self.state.forget(&self.touched.slots, &|_| false);
        Ok(Scanned {
            columns: joined(&parts)?,
            full,
            beyond,
        })
    }

    /// Notes what is taken of a key group, and what is left. Returns how many are taken.
    fn advance(
        &mut self,
        place: usize,
        scanned: &Scanned,
        cut: Option<(i64, u64)>,
    ) -> Result<usize> {
        let (at, arrivals) = match scanned.rows() {
            0 => (&[][..], &[][..]),
            _ => (times(&scanned.columns, 0)?, numbers(&scanned.columns, 1)?),
        };
        let is_in = |(time, arrival): (&i64, &u64)| cut.is_none_or(|cut| (*time, *arrival) <= cut);
        let taken = at.iter().zip(arrivals).take_while(|t| is_in(*t)).count();
        let Some(share) = self.shares.get_mut(place) else {
            return Ok(taken);
        };
        share.first = match at.get(taken) {
            Some(next) => Some(*next),
            None if scanned.full => at.last().copied(),
            None => scanned.beyond,
        };
        if let Some(last) = taken.checked_sub(1) {
            share.after = Some(After {
                time: at.get(last).copied().unwrap_or(i64::MAX),
                entry: one(&scanned.columns, last),
            });
        }
        Ok(taken)
    }
}

/// One row of map keys.
fn one(columns: &[ArrayRef], row: usize) -> Slots {
    Slots {
        rows: 1,
        present: None,
        columns: columns.iter().map(|c| c.slice(row, 1)).collect(),
    }
}
