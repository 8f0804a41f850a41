//! What snapshots of values of 1 KiB cost, and how long a restore takes:
//! `cargo run --release -p pelton-state --example rocks_snapshots -- KEYS PERCENT SNAPSHOTS MEMORY_MIB PAUSE_MS [OPTION=VALUE..]`.
//!
//! Between two snapshots so many percent of the keys change, drawn at random, and then the job pauses. Uploaded is what
//! has an identity that no former snapshot had.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, not a part of the backend"
)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, BinaryArray, Int64Array};
use pelton_engine::function::{Slots, StateChange};
use pelton_engine::snapshot::memory::checkpoint;
use pelton_engine::snapshot::{Made, RestoreFrom, SnapshotOutput, SnapshotWriter};
use pelton_engine::state::{KeyedState, StateBackend, StateOwner, Touched};
use pelton_model::Result;
use pelton_model::barrier::SnapshotForm;
use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::checkpoint::{NativeFile, NativeState, StoredFile, TaskRecord};
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::KeyGroupRange;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_state::{RocksBackend, RocksSettings};
use xxhash_rust::xxh3::xxh3_64;

const BATCH: usize = 2_048;
const VALUE: usize = 1_024;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [keys, percent, snapshots, memory, pause, options @ ..] = args.as_slice() else {
        println!("KEYS PERCENT SNAPSHOTS MEMORY_MIB PAUSE_MS [OPTION=VALUE..]");
        return;
    };
    let keys: i64 = keys.parse().unwrap();
    let changed = (keys as f64 * percent.parse::<f64>().unwrap() / 100.0) as usize;
    let pause = Duration::from_millis(pause.parse().unwrap());
    let settings = RocksSettings {
        memory_bytes: memory.parse::<u64>().unwrap() << 20,
        threads: 1,
        overrides: options
            .iter()
            .map(|o| o.split_once('=').unwrap())
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect(),
    };
    let dir = tempfile::tempdir_in(".").unwrap();
    let blobs = dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let rocks = RocksBackend::open(&dir.path().join("state"), settings.clone()).unwrap();
    let all = owner(0, 1);
    let mut state = rocks.keyed(&all).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let from = Instant::now();
    for start in (0..keys).step_by(BATCH) {
        let batch: Vec<i64> = (start..keys.min(start + BATCH as i64)).collect();
        put(state.as_mut(), &batch, &mut random);
    }
    println!("filled in {:.1} s", from.elapsed().as_secs_f64());
    let mut known = HashSet::new();
    let mut last = None;
    let mut shares = Vec::new();
    for number in 0..=snapshots.parse::<usize>().unwrap() {
        if number > 0 {
            let some: Vec<i64> = (0..changed)
                .map(|_| (random.next() % keys as u64) as i64)
                .collect();
            some.chunks(BATCH)
                .for_each(|batch| put(state.as_mut(), batch, &mut random));
            std::thread::sleep(pause);
        }
        let (bytes, total) = snapshot(state.as_mut(), &blobs, &mut known, &mut last);
        if number > 0 {
            shares.push(100.0 * bytes as f64 / total as f64);
        }
    }
    shares.sort_by(f64::total_cmp);
    println!(
        "uploaded: median {:.2} %, mean {:.2} %, most {:.2} %",
        shares[shares.len() / 2],
        shares.iter().sum::<f64>() / shares.len() as f64,
        shares[shares.len() - 1]
    );
    drop(state);
    let from = complete(&blobs, last.unwrap());
    for tasks in [1, 2] {
        let place = dir.path().join(format!("restored-{tasks}"));
        let other = RocksBackend::open(&place, settings.clone()).unwrap();
        let begun = Instant::now();
        let owner = owner(0, tasks);
        let mut state = other.keyed(&owner).unwrap();
        let restored = from.operator("op", (0, tasks), owner.key_groups);
        state.restore(&restored).unwrap();
        let mut touched = Touched::default();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        state.touch(&[column], 3, &mut touched).unwrap();
        state.read(&touched.slots).unwrap();
        println!(
            "restored as task 0 of {tasks}, first read after {:.2} s",
            begun.elapsed().as_secs_f64()
        );
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn owner(task: u32, parallelism: u32) -> StateOwner {
    StateOwner {
        uid: "op".into(),
        task,
        key: vec![Field::new("k", DataType::I64)],
        states: vec![StateSpec {
            name: "value".into(),
            kind: StateKind::Value,
            map_key: None,
            schema: Schema::new(vec![Field::new("b", DataType::Bytes)]),
            lazy: true,
            ttl: None,
        }],
        key_groups: KeyGroupRange::of_task(task, parallelism, 128),
        max_parallelism: 128,
    }
}

fn put(state: &mut dyn KeyedState, keys: &[i64], random: &mut Random) {
    let mut touched = Touched::default();
    let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    state.touch(&[column], keys.len(), &mut touched).unwrap();
    let rows = touched.slots.len();
    let mut value = |_| -> Vec<u8> {
        let words = (0..VALUE / 8).map(|_| random.next().to_le_bytes());
        words.flatten().collect()
    };
    let values: Vec<Vec<u8>> = (0..rows).map(&mut value).collect();
    let change = StateChange {
        state: 0,
        marks: vec![1; rows],
        values: Slots {
            rows,
            present: None,
            columns: vec![Arc::new(BinaryArray::from_iter_values(values))],
        },
        entries: None,
    };
    state.write(&touched.slots, &[change]).unwrap();
    state.forget(&touched.slots, &|_| false);
    state.tidy(&|_| false).unwrap();
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Option<Made>>>);

impl SnapshotOutput for Output {
    fn has_room(&mut self) -> bool {
        true
    }
    fn write(&mut self, _: Vec<u8>) {}
    fn finish(self: Box<Self>, made: Made) {
        *self.0.lock().unwrap() = Some(made);
    }
    fn decline(self: Box<Self>, error: pelton_model::Error) {
        panic!("{error}");
    }
}

/// Bytes that are new, and all.
fn snapshot(
    state: &mut dyn KeyedState,
    blobs: &Path,
    known: &mut HashSet<String>,
    last: &mut Option<NativeState>,
) -> (u64, u64) {
    let output = Output::default();
    let mut writer = SnapshotWriter::new(Box::new(output.clone()));
    writer.operator("op");
    let begun = Instant::now();
    state.snapshot(SnapshotForm::Native, &mut writer).unwrap();
    let at_once = begun.elapsed();
    let mut longest = Duration::ZERO;
    loop {
        let step = Instant::now();
        let done = state.go_on_snapshot(&mut writer).unwrap();
        longest = longest.max(step.elapsed());
        if done {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let whole = begun.elapsed();
    writer.finish();
    let mut made = output.0.lock().unwrap().take().unwrap();
    let native = made.native.pop().unwrap();
    let (mut bytes, mut total, mut files) = (0, 0, Vec::new());
    for file in &native.files {
        let length = fs::metadata(&file.path).unwrap().len();
        total += length;
        let object = file.identity.clone().unwrap_or_else(|| file.name.clone());
        if file.identity.is_none() {
            bytes += length;
            fs::copy(&file.path, blobs.join(&object)).unwrap();
        } else if known.insert(object.clone()) {
            bytes += length;
            fs::hard_link(&file.path, blobs.join(&object)).unwrap();
        }
        files.push(NativeFile {
            name: file.name.clone(),
            file: StoredFile {
                name: Some(object),
                inline: None,
                length,
                checksum: 0,
            },
        });
    }
    println!(
        "barrier {:.2} ms, longest step {:.2} ms, complete after {:.0} ms, {} files, new {:.1} MiB of {:.1} MiB ({:.2} %)",
        at_once.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
        whole.as_secs_f64() * 1e3,
        files.len(),
        bytes as f64 / f64::from(1 << 20),
        total as f64 / f64::from(1 << 20),
        100.0 * bytes as f64 / total as f64
    );
    *last = Some(NativeState {
        uid: native.uid.clone(),
        format: native.format.clone(),
        sections: native.sections.clone(),
        files,
    });
    (bytes, total)
}

fn complete(blobs: &Path, mut native: NativeState) -> RestoreFrom {
    for file in &mut native.files {
        let path = blobs.join(file.file.name.as_deref().unwrap());
        file.file.checksum = xxh3_64(&fs::read(path).unwrap());
    }
    let mut from = checkpoint(128, &[]).unwrap();
    let mut metadata = (*from.metadata).clone();
    metadata.tasks.push(TaskRecord {
        operators: vec!["op".into()],
        key_groups: (0, 128),
        native: vec![native],
        ..TaskRecord::default()
    });
    from.metadata = Arc::new(metadata);
    from.blobs = Arc::new(Links(blobs.to_owned()));
    from
}

/// Objects in a folder.
struct Links(PathBuf);

impl Blobs for Links {
    fn put(&self, _: &str, _: &[u8]) -> Result<()> {
        unimplemented!()
    }
    fn put_new(&self, _: &str, _: &[u8]) -> Result<PutNew> {
        unimplemented!()
    }
    fn put_file(&self, _: &str, _: &Path) -> Result<()> {
        unimplemented!()
    }
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.0.join(name)).unwrap())
    }
    fn get_range(&self, _: &str, _: u64, _: u64) -> Result<Vec<u8>> {
        unimplemented!()
    }
    fn read(&self, _: &str) -> Result<Box<dyn std::io::Read + Send>> {
        unimplemented!()
    }
    fn get_file(&self, name: &str, file: &Path) -> Result<()> {
        fs::hard_link(self.0.join(name), file).unwrap();
        Ok(())
    }
    fn list(&self, _: &str) -> Result<Vec<BlobInfo>> {
        unimplemented!()
    }
    fn delete(&self, _: &str) -> Result<()> {
        unimplemented!()
    }
}
