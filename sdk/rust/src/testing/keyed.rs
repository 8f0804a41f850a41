//! A keyed operator of a harness: state and timers of each key in plain maps.

use std::collections::{BTreeMap, BTreeSet};

use super::stages::{Rows, Sides, file, follow, of};
use super::{longs, words};
use crate::bindings::exports::pelton::job::function::{KeyedBatch, KeyedReply, Moment, TimerBatch};
use crate::bindings::exports::pelton::job::graph::Process;
use crate::column::to_bytes;
use crate::error::Result;
use crate::gather::gather;
use crate::runtime::{Batch, Column, Instance, Slots};
use crate::value::{Schema, top_field, top_fields};

/// A key's own: its columns and the value of each state.
struct KeyEntry {
    columns: Vec<Column>,
    values: Vec<Option<Vec<Column>>>,
}

pub(super) struct KeyedStage {
    segment: u32,
    input: Schema,
    key: Vec<String>,
    /// Name and schema of each state.
    states: Vec<(String, Schema)>,
    sides: Vec<String>,
    keys: BTreeMap<Vec<u8>, KeyEntry>,
    /// (processing time, time, key)
    timers: BTreeSet<(bool, i64, Vec<u8>)>,
}

impl KeyedStage {
    pub(super) fn new(segment: u32, input: &Schema, process: &Process, sides: Vec<String>) -> Self {
        Self {
            segment,
            input: input.clone(),
            key: process
                .inputs
                .first()
                .map(|i| i.key.clone())
                .unwrap_or_default(),
            states: process
                .states
                .iter()
                .map(|s| (s.name.clone(), s.schema.clone()))
                .collect(),
            sides,
            keys: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    pub(super) fn run(
        &mut self,
        instance: &Instance,
        at: Moment,
        rows: &Rows,
        sides: &mut Sides,
    ) -> Result<Vec<Rows>> {
        let mut all = Vec::new();
        for row in 0..rows.rows as u32 {
            let one = self.one(rows, row);
            let key = self.enter(&one);
            let times = one.times.as_ref().map(|t| to_bytes(t.iter().copied()));
            let batch = KeyedBatch {
                input: 0,
                rows: Batch {
                    rows: 1,
                    columns: one.columns.clone(),
                    times,
                    kinds: None,
                },
                ordinals: to_bytes([0u32]),
                keys: self.key_slots(&key),
                states: self.state_slots(&key),
            };
            let reply = instance.process(self.segment, at, batch).map_err(of)?;
            all.push(self.take(&key, &one, reply, sides));
        }
        Ok(all)
    }

    pub(super) fn fire(
        &mut self,
        instance: &Instance,
        at: Moment,
        processing_time: bool,
        sides: &mut Sides,
    ) -> Result<Option<Rows>> {
        let now = if processing_time {
            at.processing_time
        } else {
            at.watermark
        };
        let Some(due) = self
            .timers
            .iter()
            .find(|t| t.0 == processing_time && t.1 <= now)
            .cloned()
        else {
            return Ok(None);
        };
        self.timers.remove(&due);
        let (_, time, key) = due;
        let timers = TimerBatch {
            keys: self.key_slots(&key),
            times: to_bytes([time]),
            processing_time,
            states: self.state_slots(&key),
        };
        let reply = instance.on_timers(self.segment, at, timers).map_err(of)?;
        let parents = Rows {
            rows: 1,
            columns: Vec::new(),
            times: Some(vec![time]),
        };
        Ok(Some(self.take(&key, &parents, reply, sides)))
    }

    fn one(&self, rows: &Rows, row: u32) -> Rows {
        let mut columns = Vec::new();
        let mut whole = rows.columns.iter();
        for (_, nodes) in top_fields(&self.input) {
            gather(nodes, &mut whole, &[row], &mut columns);
        }
        let times = rows
            .times
            .as_ref()
            .and_then(|t| t.get(row as usize))
            .map(|t| vec![*t]);
        Rows {
            rows: 1,
            columns,
            times,
        }
    }

    /// The key of a row, known from now on.
    fn enter(&mut self, row: &Rows) -> Vec<u8> {
        let mut columns = Vec::new();
        for (start, nodes) in self
            .key
            .iter()
            .filter_map(|name| top_field(&self.input, name))
        {
            gather(
                nodes,
                &mut row.columns.iter().skip(start),
                &[0],
                &mut columns,
            );
        }
        let key = identity(&columns);
        let values = vec![None; self.states.len()];
        self.keys
            .entry(key.clone())
            .or_insert(KeyEntry { columns, values });
        key
    }

    fn key_slots(&self, key: &[u8]) -> Slots {
        let columns = self
            .keys
            .get(key)
            .map(|k| k.columns.clone())
            .unwrap_or_default();
        Slots {
            rows: 1,
            present: None,
            columns,
        }
    }

    fn state_slots(&self, key: &[u8]) -> Vec<Slots> {
        let values = self
            .keys
            .get(key)
            .map(|k| k.values.as_slice())
            .unwrap_or(&[]);
        values
            .iter()
            .zip(&self.states)
            .map(|(value, (_, schema))| match value {
                Some(columns) => Slots {
                    rows: 1,
                    present: None,
                    columns: columns.clone(),
                },
                None => Slots {
                    rows: 1,
                    present: Some(vec![0]),
                    columns: empty(schema),
                },
            })
            .collect()
    }

    fn take(&mut self, key: &[u8], parents: &Rows, reply: KeyedReply, sides: &mut Sides) -> Rows {
        if let Some(entry) = self.keys.get_mut(key) {
            for change in reply.states {
                if let Some(slot) = entry.values.get_mut(change.state as usize) {
                    match change.marks.first() {
                        Some(1) => *slot = Some(change.values.columns),
                        Some(2) => *slot = None,
                        _ => {}
                    }
                }
            }
        }
        if let Some(changes) = reply.timers {
            debug_assert!(words(&changes.ordinals).iter().all(|o| *o == 0));
            for (time, change) in longs(&changes.times).into_iter().zip(changes.changes) {
                let timer = (change >= 2, time, key.to_vec());
                if change % 2 == 0 {
                    self.timers.insert(timer);
                } else {
                    self.timers.remove(&timer);
                }
            }
        }
        let mut main = Rows::default();
        for output in reply.outputs {
            file(
                &self.sides,
                follow(parents, output, |columns, _| columns),
                &mut main,
                sides,
            );
        }
        main
    }

    pub(super) fn state(&self, name: &str, key: &[Column]) -> Option<&Vec<Column>> {
        let number = self.states.iter().position(|(n, _)| n == name)?;
        self.keys.get(&identity(key))?.values.get(number)?.as_ref()
    }

    pub(super) fn timers(&self) -> Vec<i64> {
        self.timers.iter().filter(|t| !t.0).map(|t| t.1).collect()
    }
}

/// Bytes that are equal for equal keys.
fn identity(columns: &[Column]) -> Vec<u8> {
    let mut out = Vec::new();
    for buffer in columns.iter().filter_map(|c| c.values.as_ref()) {
        out.extend((buffer.len() as u32).to_le_bytes());
        out.extend(buffer);
    }
    out
}

/// Columns of one row that nobody reads.
fn empty(schema: &Schema) -> Vec<Column> {
    let none = Column {
        validity: None,
        offsets: Some(vec![0; 8]),
        values: Some(vec![0; 16]),
    };
    schema.iter().map(|_| none.clone()).collect()
}
