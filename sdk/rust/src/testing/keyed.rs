//! A function with state in a harness, with its timers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::columns::{concat, encoded};
use super::stages::{Made, Rows, follow, of};
use super::store::{Reads, Store};
use super::{longs, words};
use crate::bindings::exports::pelton::job::function::{KeyedBatch, KeyedReply, Moment, TimerBatch};
use crate::bindings::exports::pelton::job::graph::Process;
use crate::column::to_bytes;
use crate::error::{Error, Result};
use crate::gather::gather;
use crate::runtime::{Batch, Column, Instance, Slots, lend_state};
use crate::value::{Schema, top_field};

/// One input: its segment, its schema, its key's fields, and whether all tasks get it.
pub(super) struct KeyedInput {
    pub(super) segment: u32,
    pub(super) schema: Schema,
    pub(super) key: Vec<String>,
    pub(super) broadcast: bool,
}

pub(super) struct KeyedStage {
    inputs: Vec<KeyedInput>,
    key: Schema,
    store: Rc<RefCell<Store>>,
    /// The columns of each key.
    keys: BTreeMap<Vec<u8>, Vec<Column>>,
    /// (processing time, time, key)
    timers: BTreeSet<(bool, i64, Vec<u8>)>,
}

impl KeyedStage {
    pub(super) fn new(inputs: Vec<KeyedInput>, process: &Process) -> Self {
        let first = inputs.iter().find(|i| !i.key.is_empty());
        let key = first.map_or(Schema::new(), |input| {
            let fields = input.key.iter().filter_map(|k| top_field(&input.schema, k));
            fields.flat_map(|(_, nodes)| nodes.to_vec()).collect()
        });
        Self {
            inputs,
            key,
            store: Rc::new(RefCell::new(Store::new(&process.states))),
            keys: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    pub(super) fn run(
        &mut self,
        instance: &Instance,
        at: Moment,
        number: u32,
        rows: &Rows,
    ) -> Result<Made> {
        let mut all = Made::new();
        let mut done = 0;
        while done < rows.rows {
            let rest: Vec<u32> = (done as u32..rows.rows as u32).collect();
            let part = rows.take(&self.input(number)?.schema, &rest);
            let (consumed, made) = self.call(instance, at, number, &part)?;
            all.extend(made);
            if consumed == 0 {
                return Err(Error::new("a call consumed nothing"));
            }
            done += consumed;
        }
        Ok(all)
    }

    fn input(&self, number: u32) -> Result<&KeyedInput> {
        let found = self.inputs.get(number as usize);
        found.ok_or_else(|| Error::new("the function has no such input"))
    }

    fn call(
        &mut self,
        instance: &Instance,
        at: Moment,
        number: u32,
        rows: &Rows,
    ) -> Result<(usize, Made)> {
        let input = self.input(number)?;
        let (segment, broadcast) = (input.segment, input.broadcast);
        let (mut keys, mut ordinals) = (Vec::new(), Vec::new());
        if !broadcast {
            (keys, ordinals) = self.enter(number, rows)?;
        }
        let batch = KeyedBatch {
            input: number,
            rows: Batch {
                rows: rows.rows as u32,
                columns: rows.columns.clone(),
                times: rows.times.as_ref().map(|t| to_bytes(t.iter().copied())),
                kinds: rows.kinds.clone(),
            },
            ordinals: to_bytes(ordinals),
            keys: self.key_slots(&keys),
            states: self.store.borrow().shipped(&keys),
        };
        let reply = self.lending(&keys, || instance.process(segment, at, batch));
        let reply = reply.map_err(of)?;
        let consumed = reply.consumed as usize;
        Ok((consumed, self.take(&keys, rows, reply)))
    }

    /// Fires timers that are due, in order of time.
    pub(super) fn fire(
        &mut self,
        instance: &Instance,
        at: Moment,
        processing_time: bool,
    ) -> Result<Option<Made>> {
        let now = if processing_time {
            at.processing_time
        } else {
            at.watermark
        };
        let is_due = |t: &&(bool, i64, Vec<u8>)| t.0 == processing_time && t.1 <= now;
        let due: Vec<_> = self.timers.iter().filter(is_due).cloned().collect();
        let (mut keys, mut ordinals) = (Vec::<Vec<u8>>::new(), Vec::new());
        for (_, _, key) in &due {
            let ordinal = keys.iter().position(|k| k == key);
            ordinals.push(ordinal.unwrap_or(keys.len()) as u32);
            if ordinal.is_none() {
                keys.push(key.clone());
            }
        }
        if due.is_empty() {
            return Ok(None);
        }
        let times: Vec<i64> = due.iter().map(|t| t.1).collect();
        let timers = TimerBatch {
            ordinals: to_bytes(ordinals),
            keys: self.key_slots(&keys),
            times: to_bytes(times.iter().copied()),
            processing_time,
            states: self.store.borrow().shipped(&keys),
        };
        let segment = self.input(0)?.segment;
        let reply = self.lending(&keys, || instance.on_timers(segment, at, timers));
        let reply = reply.map_err(of)?;
        for timer in due.iter().take(reply.consumed as usize) {
            self.timers.remove(timer);
        }
        let parents = Rows {
            rows: times.len(),
            columns: Vec::new(),
            times: Some(times),
            kinds: None,
        };
        Ok(Some(self.take(&keys, &parents, reply)))
    }

    /// Runs a call that may read the state of these keys.
    fn lending<T>(&self, keys: &[Vec<u8>], call: impl FnOnce() -> T) -> T {
        let reads = Reads {
            store: Rc::clone(&self.store),
            keys: keys.to_vec(),
        };
        lend_state(Some(Box::new(reads)));
        let answer = call();
        lend_state(None);
        answer
    }

    /// The keys of rows, known from now on, and which of them is each row's.
    fn enter(&mut self, number: u32, rows: &Rows) -> Result<(Vec<Vec<u8>>, Vec<u32>)> {
        let input = self.input(number)?;
        let mut columns = Vec::new();
        let all: Vec<u32> = (0..rows.rows as u32).collect();
        for name in &input.key {
            if let Some((start, nodes)) = top_field(&input.schema, name) {
                gather(
                    nodes,
                    &mut rows.columns.iter().skip(start),
                    &all,
                    &mut columns,
                );
            }
        }
        let (mut keys, mut ordinals) = (Vec::new(), Vec::new());
        for row in all {
            let bytes = encoded(&self.key, &columns, row as usize);
            let ordinal = keys.iter().position(|k| *k == bytes);
            ordinals.push(ordinal.unwrap_or(keys.len()) as u32);
            if ordinal.is_none() {
                let mut own = Vec::new();
                let mut of = columns.iter();
                for (_, nodes) in crate::value::top_fields(&self.key) {
                    gather(nodes, &mut of, &[row], &mut own);
                }
                self.keys.insert(bytes.clone(), own);
                keys.push(bytes);
            }
        }
        Ok((keys, ordinals))
    }

    fn key_slots(&self, keys: &[Vec<u8>]) -> Slots {
        let parts: Vec<_> = keys
            .iter()
            .map(|k| (self.keys.get(k).map_or(&[][..], Vec::as_slice), 1))
            .collect();
        Slots {
            rows: keys.len() as u32,
            present: None,
            columns: concat(&self.key, &parts),
        }
    }

    fn take(&mut self, keys: &[Vec<u8>], parents: &Rows, reply: KeyedReply) -> Made {
        self.store.borrow_mut().apply(keys, reply.states);
        if let Some(changes) = reply.timers {
            let changed = words(&changes.ordinals)
                .into_iter()
                .zip(longs(&changes.times));
            for ((ordinal, time), change) in changed.zip(changes.changes) {
                let key = keys.get(ordinal as usize).cloned().unwrap_or_default();
                let timer = (change >= 2, time, key);
                if change % 2 == 0 {
                    self.timers.insert(timer);
                } else {
                    self.timers.remove(&timer);
                }
            }
        }
        let outputs = reply.outputs.into_iter();
        outputs
            .map(|output| follow(parents, output, |columns, _| columns))
            .collect()
    }

    /// The function's state, if it has one of this name.
    pub(super) fn store(&self, name: &str) -> Option<&Rc<RefCell<Store>>> {
        let found = self.store.borrow().number(name);
        found.map(|_| &self.store)
    }

    pub(super) fn key_of(&self, key: &[Column]) -> Vec<u8> {
        encoded(&self.key, key, 0)
    }

    pub(super) fn timers(&self) -> Vec<i64> {
        self.timers.iter().filter(|t| !t.0).map(|t| t.1).collect()
    }
}
