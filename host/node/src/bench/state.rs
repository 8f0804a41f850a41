//! A keyed running sum of 64-byte values in RocksDB, natively: state that fits its memory, and state that is larger by
//! far. Needs: some gigabytes of disk in the settings' folder for state. CPU time is that of the whole process, with
//! the threads that merge files; memory is what the process has gained.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use pelton_engine::function::{Mark, Slots, StateChange};
use pelton_engine::state::{KeyedState, StateOwner, Touched};
use pelton_model::Result;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::{KeyGroupRange, MAX_PARALLELISM_DEFAULT};
use pelton_model::schema::{DataType, Field, Schema};

use super::measure::{median, thread_cpu_ns};
use super::{Bench, Figure};
use crate::process;
use crate::settings::StateSettings;
use crate::state::JobState;
use crate::summary::grouped;

const BATCH: usize = 8_192;
/// Of eight bytes each.
const FIELDS: usize = 8;
const MEMORY: u64 = 512 << 20;
/// Keys whose values don't fit the memory, by far.
const MANY: u64 = 50_000_000;
/// Keys whose values fit.
const FEW: u64 = 1_000_000;
/// Rows that are measured.
const ROWS: u64 = 8_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Law {
    Uniform,
    /// With exponent 1.
    Zipf,
}

/// The sums, and what they are drawn by.
struct Sums {
    state: Box<dyn KeyedState>,
    touched: Touched,
    random: u64,
    keys: u64,
    /// Outlives the state.
    _job: JobState,
}

pub(super) fn state(bench: &mut Bench<'_>) -> Result<()> {
    if !cfg!(feature = "rocksdb") {
        return Ok(());
    }
    // The larger first: what it gains in memory is not hidden by what came before.
    larger(bench)?;
    let (mut heap, mut rocks) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        for (rocksdb, rates) in [(false, &mut heap), (true, &mut rocks)] {
            let mut sums = Sums::fill(bench, FEW, MEMORY, rocksdb)?;
            rates.push(sums.rate(Law::Uniform, bench.scaled(ROWS))?);
        }
    }
    let (heap, rocks) = (median(heap), median(rocks));
    let name = format!("sums of 64 bytes, {} keys", grouped(FEW));
    let unit = "rows a CPU-second";
    bench.add(Figure::plain(format!("{name}, heap"), heap, unit));
    bench.add(Figure::plain(format!("{name}, rocksdb"), rocks, unit));
    let ratio = heap / rocks.max(1e-9);
    let name = format!("{name}, heap to rocksdb");
    bench.add(Figure::bounded(name, ratio, "x", 3.0));
    Ok(())
}

/// State that is larger than its memory, by far.
fn larger(bench: &mut Bench<'_>) -> Result<()> {
    let unit = "rows a CPU-second";
    // A tenth of the keys in a tenth of the memory.
    let (keys, memory) = (bench.scaled(MANY), bench.scaled(MEMORY));
    let before = process::peak_memory_bytes();
    let mut sums = Sums::fill(bench, keys, memory, true)?;
    for (law, word, mark) in [
        (Law::Uniform, "uniform", 120_000.0),
        (Law::Zipf, "Zipf 1.0", 500_000.0),
    ] {
        (bench.progress)(&format!("{} keys, {word}", grouped(keys)));
        let rate = sums.rate(law, bench.scaled(ROWS))?;
        let name = format!(
            "sums of 64 bytes, {} keys in {} MiB, {word}",
            grouped(keys),
            memory >> 20
        );
        bench.add(Figure {
            mark: format!(">= {} {unit}", grouped(mark as u64)),
            holds: Some(rate >= mark),
            ..Figure::plain(name, rate, unit)
        });
    }
    let gained = process::peak_memory_bytes().saturating_sub(before);
    bench.add(Figure::bounded(
        format!("sums of 64 bytes, {} keys: memory gained", grouped(keys)),
        gained as f64 / f64::from(1 << 20),
        "MiB",
        memory as f64 / f64::from(1 << 20),
    ));
    Ok(())
}

impl Sums {
    /// Every key has its sum once.
    fn fill(bench: &Bench<'_>, keys: u64, memory_bytes: u64, rocksdb: bool) -> Result<Self> {
        (bench.progress)(&format!("{} keys are filled in", grouped(keys)));
        let job = JobState::open(&StateSettings {
            rocksdb,
            memory_bytes,
            ..bench.settings.state.clone()
        })?;
        let mut sums = Self {
            state: job.backend().keyed(&owner())?,
            touched: Touched::default(),
            random: 0x9e37_79b9_7f4a_7c15,
            keys,
            _job: job,
        };
        for start in (0..keys).step_by(BATCH) {
            let end = keys.min(start + BATCH as u64);
            sums.add(&(start as i64..end as i64).collect::<Vec<_>>())?;
        }
        Ok(sums)
    }

    /// Rows a CPU-second, without what drawing keys takes.
    fn rate(&mut self, law: Law, rows: u64) -> Result<f64> {
        let (began, mut drawing) = (process::cpu_seconds(), 0);
        for _ in 0..rows.div_ceil(BATCH as u64) {
            let from = thread_cpu_ns()?;
            let keys: Vec<i64> = (0..BATCH).map(|_| self.draw(law)).collect();
            drawing += thread_cpu_ns()?.saturating_sub(from);
            self.add(&keys)?;
        }
        let spent = process::cpu_seconds() - began - drawing as f64 / 1e9;
        Ok(rows as f64 / spent.max(1e-9))
    }

    fn draw(&mut self, law: Law) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        let part = bits as f64 / (1_u64 << 53) as f64;
        match law {
            Law::Uniform => (part * self.keys as f64) as i64,
            // The rank by the inverse of its law; ranks lie anywhere among the keys.
            Law::Zipf => {
                let rank = (self.keys as f64).powf(part) as u64;
                (rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.keys) as i64
            }
        }
    }

    fn add(&mut self, keys: &[i64]) -> Result<()> {
        let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        self.state.touch(&[column], keys.len(), &mut self.touched)?;
        let slots = &self.touched.slots;
        let had = self.state.read(slots)?.pop();
        let present = had.as_ref().and_then(|had| had.present.clone());
        let columns = had.map(|had| had.columns).unwrap_or_default();
        let columns = columns.iter().enumerate().map(|(field, column)| {
            let mut sums = column.as_primitive::<Int64Type>().values().to_vec();
            if let Some(present) = &present {
                let absent = sums.iter_mut().zip(present).filter(|(_, has)| !has);
                absent.for_each(|(sum, _)| *sum = 0);
            }
            for (ordinal, key) in self.touched.ordinals.iter().zip(keys) {
                // Half of a number is noise, so that it does not compress to nothing.
                let noise = (*key as u64 ^ field as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                if let Some(sum) = sums.get_mut(*ordinal as usize) {
                    *sum = sum.wrapping_add(noise as i64);
                }
            }
            Arc::new(Int64Array::from(sums)) as ArrayRef
        });
        let change = StateChange {
            state: 0,
            marks: vec![Mark::Set as u8; slots.len()],
            values: Slots {
                rows: slots.len(),
                present: None,
                columns: columns.collect(),
            },
            entries: None,
        };
        self.state.write(slots, &[change])?;
        self.state.forget(slots, &|_| false);
        self.state.tidy(&|_| false)
    }
}

fn owner() -> StateOwner {
    let fields = (0..FIELDS).map(|i| Field::new(format!("n{i}"), DataType::I64));
    StateOwner {
        uid: "sums".into(),
        task: 0,
        key: vec![Field::new("key", DataType::I64)],
        states: vec![StateSpec {
            name: "sums".into(),
            kind: StateKind::Value,
            map_key: None,
            schema: Schema::new(fields.collect()),
            lazy: false,
            ttl: None,
            past: Default::default(),
        }],
        key_groups: KeyGroupRange {
            start: 0,
            end: MAX_PARALLELISM_DEFAULT,
        },
        max_parallelism: MAX_PARALLELISM_DEFAULT,
    }
}
