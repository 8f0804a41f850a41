//! One task's files: which are open, when they are closed, and what is handed over at a barrier.
//! Needs: the sink's plan, [`part`](super::part). Invariant: with checkpoints no file gets its name here.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use pelton_engine::connector::{Prepared, Preparing, SinkWriter};
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;
use pelton_model::{Error, ErrorCode, Result};

use super::commit::{Committable, sync_folders};
use super::part::{Begin, Hidden, Part, unwritable};
use super::sink::Plan;

/// What all files of a task may keep in memory.
const MEMORY_BYTES: usize = 64 << 20;
const STATE_VERSION: u8 = 1;

/// Writes the files of one task.
pub(super) struct Writer {
    plan: Arc<Plan>,
    waiting: Arc<Mutex<Vec<Hidden>>>,
    task: u32,
    number: u32,
    /// The files in work, by partition; without partitions the one of no name.
    parts: BTreeMap<String, Part>,
    writes: u64,
    /// Complete files of no checkpoint yet: partition, number.
    closed: Vec<(String, u32, Hidden)>,
    finished: bool,
    /// The bytes of a single file that is complete, and has been handed over.
    complete: Option<u64>,
}

impl Writer {
    pub(super) fn new(plan: Arc<Plan>, waiting: Arc<Mutex<Vec<Hidden>>>, task: u32) -> Self {
        Self {
            plan,
            waiting,
            task,
            number: 0,
            parts: BTreeMap::new(),
            writes: 0,
            closed: Vec::new(),
            finished: false,
            complete: None,
        }
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        if batch.is_empty() {
            return Ok(());
        }
        if self.complete.is_some() {
            let message = "rows come for a single file that was complete at the checkpoint";
            return Err(Error::new(ErrorCode::OutputFailed, message).help(
                "write to a folder where input may come later, or begin anew with '--fresh'",
            ));
        }
        self.plan.check_kinds(&batch)?;
        let plan = self.plan.clone();
        match &plan.partitions {
            None => self.write_part("", batch),
            Some(partitions) => {
                let parts = partitions.split(&batch)?;
                parts
                    .into_iter()
                    .try_for_each(|(partition, rows)| self.write_part(&partition, rows))
            }
        }
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Prepared> {
        if self.plan.start.is_none() {
            return Ok(Prepared::default());
        }
        if self.plan.single {
            return self.prepare_single(checkpoint);
        }
        self.sealing(checkpoint).run()
    }

    fn begin_prepare(&mut self, checkpoint: CheckpointId) -> Result<Preparing> {
        // Of a single file the rest is written behind what is synced.
        if self.plan.start.is_none() || self.plan.single {
            return self.prepare(checkpoint).map(Preparing::Done);
        }
        let sealing = self.sealing(checkpoint);
        if sealing.is_empty() {
            return Ok(Preparing::Done(Prepared::default()));
        }
        let thread = std::thread::Builder::new().name("seal".into());
        let thread = thread.spawn(move || sealing.run()).map_err(|e| {
            let message = format!("a thread that syncs output cannot be started: {e}");
            Error::new(ErrorCode::Io, message)
        })?;
        let mut thread = Some(thread);
        Ok(Preparing::Later(Box::new(move || {
            let ended = thread.take_if(|thread| thread.is_finished())?;
            let lost = |_| Err(Error::bug("a thread that syncs output has died"));
            Some(ended.join().unwrap_or_else(lost))
        })))
    }

    fn restore(&mut self, states: &[Vec<u8>]) -> Result<()> {
        if !self.plan.single {
            return Ok(());
        }
        let [state] = states else {
            return match states {
                [] => Ok(()),
                _ => Err(Error::bug("a single file had several writers")),
            };
        };
        let (complete, length) = read_state(state)?;
        if complete {
            self.complete = Some(length);
            return Ok(());
        }
        let names = self.plan.names_of("", self.task, 0);
        let _held = self.plan.hold()?;
        let part = Part::go_on(names, length, self.plan.with_op)?;
        self.parts.insert(String::new(), part);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        if self.plan.single && self.complete.is_none() {
            self.part("")?;
        }
        if self.plan.start.is_some() {
            // The last checkpoint gets them.
            return Ok(());
        }
        for part in std::mem::take(&mut self.parts).into_values() {
            let hidden = part.close()?;
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(hidden);
        }
        Ok(())
    }
}

impl Writer {
    /// Writes rows of one partition, into as many files as they fill.
    fn write_part(&mut self, partition: &str, rows: Batch) -> Result<()> {
        let plan = self.plan.clone();
        let rows = match &plan.columns {
            None => rows,
            Some(kept) => {
                let columns = kept.iter().filter_map(|i| rows.columns().get(*i)).cloned();
                let columns = columns.collect();
                Batch::new(columns, rows.len())?.with_kinds(rows.kinds().cloned())?
            }
        };
        let roll_bytes = if plan.single {
            u64::MAX
        } else {
            plan.roll_bytes
        };
        let mut from = 0;
        while from < rows.rows() {
            self.writes += 1;
            let used = self.writes;
            let part = self.part(partition)?;
            part.used = used;
            from += part.write(&plan.encoding, &rows, from, roll_bytes)?;
            if part.bytes() >= roll_bytes {
                self.roll(partition)?;
            }
        }
        let each = MEMORY_BYTES / self.parts.len().max(1);
        self.parts
            .get_mut(partition)
            .map_or(Ok(()), |part| part.bound(each))
    }

    /// The file in work of a partition, begun if there is none.
    fn part(&mut self, partition: &str) -> Result<&mut Part> {
        if !self.parts.contains_key(partition) {
            if self.parts.len() >= self.plan.open_files {
                let oldest = self.parts.iter().min_by_key(|(_, part)| part.used);
                if let Some(oldest) = oldest.map(|(partition, _)| partition.clone()) {
                    self.roll(&oldest)?;
                }
            }
            let plan = &self.plan;
            let names = plan.names_of(partition, self.task, self.number);
            let begin = match (plan.start.is_some(), plan.single) {
                (false, _) => Begin::Over,
                (true, false) => Begin::New,
                (true, true) => Begin::Shared,
            };
            let own = !partition.is_empty();
            let _held = plan.hold()?;
            let mut part = Part::begin(names, own, begin, &plan.encoding, plan.with_op)?;
            part.number = self.number;
            self.number += 1;
            self.parts.insert(partition.to_owned(), part);
        }
        self.parts
            .get_mut(partition)
            .ok_or_else(|| Error::bug("no file is open"))
    }

    /// Ends the file in work of a partition, and shows it where there are no checkpoints.
    fn roll(&mut self, partition: &str) -> Result<()> {
        let Some(part) = self.parts.remove(partition) else {
            return Ok(());
        };
        let number = part.number;
        let hidden = part.close()?;
        if self.plan.start.is_some() {
            self.closed.push((partition.to_owned(), number, hidden));
            return Ok(());
        }
        self.plan.show(vec![hidden])
    }

    /// All files so far, for the checkpoint.
    fn sealing(&mut self, checkpoint: CheckpointId) -> Sealing {
        Sealing {
            plan: Arc::clone(&self.plan),
            task: self.task,
            checkpoint,
            parts: std::mem::take(&mut self.parts),
            closed: std::mem::take(&mut self.closed),
        }
    }

    /// Leaves a single file that is complete to the checkpoint.
    fn sealed(&mut self, checkpoint: CheckpointId) -> Result<Vec<Vec<u8>>> {
        let part = self.parts.remove("");
        let sealed = self.sealing(checkpoint).run()?;
        self.parts.extend(part.map(|part| (String::new(), part)));
        Ok(sealed.committables)
    }

    /// The single file: only its end makes it visible.
    fn prepare_single(&mut self, checkpoint: CheckpointId) -> Result<Prepared> {
        let state = match (self.complete, self.parts.remove("")) {
            (Some(length), _) => Some((true, length)),
            (None, Some(mut part)) => {
                let length = part.sync()?;
                if self.finished {
                    self.complete = Some(length);
                    self.closed.push((String::new(), 0, part.close()?));
                } else {
                    let path = part.path().to_owned();
                    sync_folders(self.plan.folder(), [path.as_path()])?;
                    self.parts.insert(String::new(), part);
                }
                Some((self.finished, length))
            }
            (None, None) => None,
        };
        Ok(Prepared {
            committables: self.sealed(checkpoint)?,
            state: state.map(|(complete, length)| single_state(complete, length)),
        })
    }
}

/// Files that are closed, synced and left to a checkpoint; may wait for the disk.
struct Sealing {
    plan: Arc<Plan>,
    task: u32,
    checkpoint: CheckpointId,
    /// Files in work, by partition.
    parts: BTreeMap<String, Part>,
    /// Complete files.
    closed: Vec<(String, u32, Hidden)>,
}

impl Sealing {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.closed.is_empty()
    }

    fn run(mut self) -> Result<Prepared> {
        for (partition, part) in std::mem::take(&mut self.parts) {
            let number = part.number;
            self.closed.push((partition, number, part.close()?));
        }
        let root = self.plan.folder().to_owned();
        // The names of the hidden files must survive a crash of the machine, too.
        let paths = self.closed.iter().map(|(_, _, hidden)| hidden.path());
        if !self.closed.is_empty() {
            sync_folders(&root, paths)?;
        }
        let mut committables = Vec::with_capacity(self.closed.len());
        for (partition, number, hidden) in self.closed {
            let path = hidden.path();
            let below = path.strip_prefix(&root).unwrap_or(path);
            let name = (self.task, number);
            let file = Committable {
                hidden: below.to_string_lossy().into_owned(),
                name: self
                    .plan
                    .committed_name(&partition, name, self.checkpoint.0),
                length: fs::metadata(path).map_err(|e| unwritable(path, &e))?.len(),
            };
            committables.push(file.write()?);
            hidden.hand_over();
        }
        Ok(Prepared {
            committables,
            state: None,
        })
    }
}

/// What goes on with a single file: `version:u8 (1) complete:u8 length:u64`, in little endian.
fn single_state(complete: bool, length: u64) -> Vec<u8> {
    let mut state = vec![STATE_VERSION, u8::from(complete)];
    state.extend_from_slice(&length.to_le_bytes());
    state
}

fn read_state(state: &[u8]) -> Result<(bool, u64)> {
    let refused = |code, why: &str| {
        let message = format!("the state of a single output file {why}");
        Error::new(code, message)
    };
    match state {
        [STATE_VERSION, complete, length @ ..] => {
            let length = length
                .try_into()
                .map_err(|_| refused(ErrorCode::Corrupt, "in the checkpoint is damaged"))?;
            Ok((*complete != 0, u64::from_le_bytes(length)))
        }
        _ => Err(refused(
            ErrorCode::StateMismatch,
            "is of a version that this binary does not read",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in checkpoints: a writer must understand them for ever.
    #[test]
    fn states_of_the_first_version_are_read() {
        let golden = [1, 1, 2, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(single_state(true, 258), golden);
        assert_eq!(read_state(&golden).unwrap(), (true, 258));
        let code = |state: &[u8]| read_state(state).unwrap_err().code();
        assert_eq!(code(&golden[..9]), ErrorCode::Corrupt);
        assert_eq!(code(&[2, 1]), ErrorCode::StateMismatch);
        assert_eq!(code(&[]), ErrorCode::StateMismatch);
    }
}
