//! What snapshots of one task's keyed state cost, natively: of state in memory, and of state in RocksDB.
//! Needs: Linux, which tells the memory of a process; for RocksDB some gigabytes in the settings' folder for state.
//! Refuses: barriers and stores, which whole jobs have. The bytes of a snapshot are counted, and its files compared.

mod heap;
mod rocks;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{Mark, Slots, StateChange};
use pelton_engine::snapshot::{Made, SnapshotOutput, SnapshotWriter};
use pelton_engine::state::{KeyedState, StateOwner, Touched};
use pelton_model::barrier::SnapshotForm;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::{KeyGroupRange, MAX_PARALLELISM_DEFAULT};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, Result};

pub(super) use heap::memory;
pub(super) use rocks::{restore, snapshots};

use crate::process;
use crate::settings::StateSettings;
use crate::state::JobState;

/// The operator that has the state.
const UID: &str = "op";

/// One task's state: a value for each of many numbers.
struct Table {
    state: Box<dyn KeyedState>,
    touched: Touched,
    random: Random,
    /// Outlives the state.
    _job: JobState,
}

impl Table {
    /// An empty one.
    fn open(settings: &StateSettings, value: DataType) -> Result<Self> {
        let job = JobState::open(settings)?;
        Ok(Self {
            state: job.backend().keyed(&owner(value, (0, 1)))?,
            touched: Touched::default(),
            random: Random(0x9e37_79b9_7f4a_7c15),
            _job: job,
        })
    }

    /// Goes to these keys: how many distinct ones there are.
    fn touch(&mut self, keys: Vec<i64>) -> Result<usize> {
        let rows = keys.len();
        let column: ArrayRef = Arc::new(Int64Array::from(keys));
        self.state.touch(&[column], rows, &mut self.touched)?;
        Ok(self.touched.slots.len())
    }

    /// Sets the values of the keys that it was gone to.
    fn put(&mut self, values: ArrayRef) -> Result<()> {
        let slots = &self.touched.slots;
        let change = StateChange {
            state: 0,
            marks: vec![Mark::Set as u8; slots.len()],
            values: Slots {
                rows: slots.len(),
                present: None,
                columns: vec![values],
            },
            entries: None,
        };
        self.state.write(slots, &[change])?;
        self.state.forget(slots, &|_| false);
        self.state.tidy(&|_| false)
    }

    /// Begins a snapshot.
    fn freeze(&mut self) -> Result<Snapshot> {
        let output = Output::default();
        let mut writer = SnapshotWriter::new(Box::new(output.clone()));
        writer.operator(UID);
        let began = process::monotonic();
        self.state.snapshot(SnapshotForm::Native, &mut writer)?;
        Ok(Snapshot {
            output,
            writer,
            frozen_ns: process::monotonic().since(began),
        })
    }
}

/// A snapshot under way.
struct Snapshot {
    output: Output,
    writer: SnapshotWriter,
    /// What the barrier itself took.
    frozen_ns: u64,
}

impl Snapshot {
    /// Goes on with it; whether it is complete.
    fn go_on(&mut self, table: &mut Table) -> Result<bool> {
        table.state.go_on_snapshot(&mut self.writer)
    }

    /// What was made. Errors: why it was declined.
    fn finish(self) -> Result<Made> {
        self.writer.finish();
        let made = self.output.made().take();
        made.ok_or_else(|| Error::bug("a snapshot was not finished"))?
    }
}

/// Always has room, and keeps no bytes: the task's own part is what is measured.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Option<Result<Made>>>>);

impl Output {
    fn made(&self) -> MutexGuard<'_, Option<Result<Made>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotOutput for Output {
    fn has_room(&mut self) -> bool {
        true
    }

    fn write(&mut self, bytes: Vec<u8>) {
        std::hint::black_box(bytes);
    }

    fn finish(self: Box<Self>, made: Made) {
        *self.made() = Some(Ok(made));
    }

    fn decline(self: Box<Self>, error: Error) {
        *self.made() = Some(Err(error));
    }
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A key below `keys`.
    fn key(&mut self, keys: u64) -> i64 {
        ((self.next() >> 11) % keys.max(1)) as i64
    }
}

/// Who has the state, as one task of several.
fn owner(value: DataType, (task, parallelism): (u32, u32)) -> StateOwner {
    StateOwner {
        uid: UID.into(),
        task,
        key: vec![Field::new("key", DataType::I64)],
        states: vec![StateSpec {
            name: "value".into(),
            kind: StateKind::Value,
            map_key: None,
            // Large values are read when they are asked for.
            lazy: value == DataType::Bytes,
            schema: Schema::new(vec![Field::new("value", value)]),
            ttl: None,
            past: Default::default(),
        }],
        key_groups: KeyGroupRange::of_task(task, parallelism, MAX_PARALLELISM_DEFAULT),
        max_parallelism: MAX_PARALLELISM_DEFAULT,
    }
}
