//! State in RocksDB, of values of 1 KiB that do not compress: what checkpoints upload of it when little has changed, and
//! how long a task waits for its first value after a restart.
//!
//! The full size of what checkpoints are made of is 10 GB; `PELTON_BENCH_STATE_GB` says another than the usual fifth of
//! that. Memory is in proportion. Uploaded is what has an identity that no earlier snapshot had.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, BinaryArray, Int64Array};
use pelton_engine::snapshot::memory::checkpoint;
use pelton_engine::snapshot::{Made, NativeFiles, RestoreFrom};
use pelton_engine::state::{StateBackend, Touched};
use pelton_model::blob::Blobs;
use pelton_model::checkpoint::{NativeFile, NativeState, StoredFile, TaskRecord};
use pelton_model::key::MAX_PARALLELISM_DEFAULT;
use pelton_model::schema::DataType;
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::{Table, UID, owner};
use crate::bench::measure::median;
use crate::bench::{Bench, Figure};
use crate::process;
use crate::settings::StateSettings;
use crate::state::JobState;
use crate::summary::grouped;

const BATCH: usize = 2_048;
const VALUE: u64 = 1_024;
const GB: u64 = 1_000_000_000;
/// What RocksDB has for ten gigabytes, and at least.
const MEMORY: u64 = 512 << 20;
const MEMORY_MIN: u64 = 32 << 20;
/// Checkpoints in a row, each after so many in a hundred keys have changed and some time has passed.
const CHECKPOINTS: usize = 20;
const CHANGED: u64 = 100;
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at a snapshot that another thread makes.
const LOOK: Duration = Duration::from_micros(200);
/// Keys that are read first.
const FIRST: i64 = 64;

pub(in crate::bench) fn snapshots(bench: &mut Bench<'_>) -> Result<()> {
    if !cfg!(feature = "rocksdb") {
        return Ok(());
    }
    let bytes = bench.scaled(size()?);
    let keys = bytes / VALUE;
    let mut table = fill(bench, bytes)?;
    let mut known = HashSet::new();
    let (mut shares, mut barrier, mut step, mut complete) = (Vec::new(), 0, 0, Vec::new());
    for number in 0..=CHECKPOINTS {
        if number > 0 {
            let changed: Vec<i64> = (0..keys / CHANGED)
                .map(|_| table.random.key(keys))
                .collect();
            changed
                .chunks(BATCH)
                .try_for_each(|some| put(&mut table, some))?;
            std::thread::sleep(PAUSE);
        }
        let taken = take(&mut table)?;
        let (new, all) = uploaded(&taken.made, &mut known)?;
        // The first one has everything.
        if number > 0 {
            shares.push(100.0 * new as f64 / all.max(1) as f64);
            barrier = barrier.max(taken.frozen_ns);
            step = step.max(taken.step_ns);
            complete.push(taken.ns as f64 / 1e6);
        }
    }
    let name = format!(
        "{CHECKPOINTS} checkpoints of {} on rocksdb, 1 % changed",
        megabytes(bytes)
    );
    let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    for (what, value, unit, mark) in [
        ("median uploaded", median(shares), "%", 1.5),
        ("mean uploaded", mean, "%", 12.0),
        ("longest synchronous part", barrier as f64 / 1e6, "ms", 50.0),
        ("longest call after it", step as f64 / 1e6, "ms", 50.0),
    ] {
        bench.add(Figure::bounded(
            format!("{name}: {what}"),
            value,
            unit,
            mark,
        ));
    }
    let ms = median(complete);
    bench.add(Figure::plain(format!("{name}: time of one"), ms, "ms"));
    Ok(())
}

pub(in crate::bench) fn restore(bench: &mut Bench<'_>) -> Result<()> {
    if !cfg!(feature = "rocksdb") {
        return Ok(());
    }
    let bytes = bench.scaled(2 * GB);
    let settings = settings(bench, bytes);
    let mut table = fill(bench, bytes)?;
    let made = take(&mut table)?.made;
    // On the disk of the state: a local store links its files.
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&settings.dir)
        .map_err(|e| {
            Error::new(
                ErrorCode::Io,
                format!("a folder for a checkpoint cannot be made: {e}"),
            )
        })?;
    let url = folder.path().display().to_string();
    let blobs = pelton_blob::open(&url, &pelton_blob::Settings::default())?;
    (bench.progress)("the snapshot is stored");
    let from = stored(made, blobs)?;
    drop(table);
    for (tasks, mark) in [(1, Some(5.0)), (2, None)] {
        (bench.progress)(&format!("a restore from 1 task to {tasks}"));
        let seconds = restored(&settings, &from, tasks)?;
        let name = format!(
            "restore of {} on rocksdb to the first read, 1 task to {tasks}",
            megabytes(bytes)
        );
        bench.add(match mark {
            Some(mark) => Figure::bounded(name, seconds, "s", mark),
            None => Figure::plain(name, seconds, "s"),
        });
    }
    Ok(())
}

/// Bytes of values that checkpoints are made of. Errors: `Usage` for a variable that is no number of gigabytes.
fn size() -> Result<u64> {
    let Ok(text) = std::env::var("PELTON_BENCH_STATE_GB") else {
        return Ok(2 * GB);
    };
    let number = text.parse().ok().filter(|n| (1..=1_000).contains(n));
    number.map(|n: u64| n * GB).ok_or_else(|| {
        Error::new(
            ErrorCode::Usage,
            "PELTON_BENCH_STATE_GB is not a number of gigabytes from 1 to 1000",
        )
        .at("value", text)
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", grouped(bytes / 1_000_000))
}

/// Memory in proportion to the state.
fn settings(bench: &Bench<'_>, bytes: u64) -> StateSettings {
    let memory = u128::from(MEMORY) * u128::from(bytes) / u128::from(10 * GB);
    StateSettings {
        rocksdb: true,
        memory_bytes: (memory as u64).clamp(MEMORY_MIN, MEMORY),
        ..bench.settings.state.clone()
    }
}

/// Every key has a value.
fn fill(bench: &Bench<'_>, bytes: u64) -> Result<Table> {
    (bench.progress)(&format!("{} are filled in", megabytes(bytes)));
    let mut table = Table::open(&settings(bench, bytes), DataType::Bytes)?;
    let keys = (bytes / VALUE) as i64;
    for start in (0..keys).step_by(BATCH) {
        let some: Vec<i64> = (start..keys.min(start + BATCH as i64)).collect();
        put(&mut table, &some)?;
    }
    Ok(table)
}

/// Each of these keys has a new value.
fn put(table: &mut Table, keys: &[i64]) -> Result<()> {
    let rows = table.touch(keys.to_vec())?;
    let mut value = || -> Vec<u8> {
        let words = (0..VALUE / 8).flat_map(|_| table.random.next().to_le_bytes());
        words.collect()
    };
    let values: Vec<Vec<u8>> = (0..rows).map(|_| value()).collect();
    table.put(Arc::new(BinaryArray::from_iter_values(values)))
}

/// A snapshot, and what it took.
struct Taken {
    made: Made,
    frozen_ns: u64,
    /// The longest call after the barrier.
    step_ns: u64,
    ns: u64,
}

fn take(table: &mut Table) -> Result<Taken> {
    let began = process::monotonic();
    let mut snapshot = table.freeze()?;
    let mut step_ns = 0;
    loop {
        let call = process::monotonic();
        let complete = snapshot.go_on(table)?;
        step_ns = step_ns.max(process::monotonic().since(call));
        if complete {
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(Taken {
        frozen_ns: snapshot.frozen_ns,
        step_ns,
        ns: process::monotonic().since(began),
        made: snapshot.finish()?,
    })
}

/// Bytes that are new, and all.
fn uploaded(made: &Made, known: &mut HashSet<String>) -> Result<(u64, u64)> {
    let (mut new, mut all) = (made.length, made.length);
    for file in made.native.iter().flat_map(|n| &n.files) {
        let length = length(&file.path)?;
        all += length;
        // Without an identity a file is another one each time.
        if file
            .identity
            .as_ref()
            .is_none_or(|i| known.insert(i.clone()))
        {
            new += length;
        }
    }
    Ok((new, all))
}

fn length(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).map_err(|e| unreadable(path, &e))?;
    Ok(metadata.len())
}

fn unreadable(path: &Path, e: &std::io::Error) -> Error {
    let message = format!("a file of the state cannot be read: {e}");
    Error::new(ErrorCode::Io, message).at("file", path.display())
}

/// A checkpoint of one task in a store.
fn stored(made: Made, blobs: Arc<dyn Blobs>) -> Result<RestoreFrom> {
    let native = made.native.iter().map(|n| keep(n, blobs.as_ref()));
    let record = TaskRecord {
        operators: vec![UID.into()],
        key_groups: (0, MAX_PARALLELISM_DEFAULT),
        native: native.collect::<Result<_>>()?,
        ..TaskRecord::default()
    };
    let mut from = checkpoint(MAX_PARALLELISM_DEFAULT, &[])?;
    let mut metadata = (*from.metadata).clone();
    metadata.tasks.push(record);
    from.metadata = Arc::new(metadata);
    from.blobs = blobs;
    Ok(from)
}

fn keep(native: &NativeFiles, blobs: &dyn Blobs) -> Result<NativeState> {
    let mut files = Vec::new();
    for file in &native.files {
        let bytes = std::fs::read(&file.path).map_err(|e| unreadable(&file.path, &e))?;
        let object = file.identity.clone().unwrap_or_else(|| file.name.clone());
        let object = format!("shared/{object}");
        blobs.put_file(&object, &file.path)?;
        files.push(NativeFile {
            name: file.name.clone(),
            file: StoredFile {
                name: Some(object),
                inline: None,
                length: bytes.len() as u64,
                checksum: xxh3_64(&bytes),
            },
        });
    }
    Ok(NativeState {
        uid: native.uid.clone(),
        format: native.format.clone(),
        sections: native.sections.clone(),
        files,
    })
}

/// Seconds until the last of so many tasks, side by side, has read its first values.
fn restored(settings: &StateSettings, from: &RestoreFrom, tasks: u32) -> Result<f64> {
    let began = process::monotonic();
    let job = JobState::open(settings)?;
    let backend = job.backend();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..tasks)
            .map(|task| scope.spawn(move || first_read(backend, from, (task, tasks))))
            .collect();
        let mut last = began;
        for thread in threads {
            let read = thread
                .join()
                .map_err(|_| Error::bug("a restore panicked"))??;
            last = last.max(read);
        }
        Ok(last.since(began) as f64 / 1e9)
    })
}

/// When the first values were there.
fn first_read(backend: &dyn StateBackend, from: &RestoreFrom, of: (u32, u32)) -> Result<Monotonic> {
    let owner = owner(DataType::Bytes, of);
    let mut state = backend.keyed(&owner)?;
    state.restore(&from.operator(UID, of, owner.key_groups))?;
    let mut touched = Touched::default();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..FIRST));
    state.touch(&[keys], FIRST as usize, &mut touched)?;
    let values = state.values(0, &touched.slots)?;
    let read = process::monotonic();
    match values
        .present
        .is_none_or(|present| present.iter().any(|has| has))
    {
        true => Ok(read),
        false => Err(Error::bug("a restored task has none of its values")),
    }
}
