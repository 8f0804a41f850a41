//! Checkpoints of deltas as they stand in a store: one that is kept from former releases, and damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use pelton_model::checkpoint::{self as envelope, Metadata};
use pelton_model::{Error, ErrorCode};
use xxhash_rust::xxh3::xxh3_64;

use super::deltas::{KEYS, NATIVE, Run, clear, large, read, set, take};
use super::snapshots::{ALL, Disk, RestoreFrom};
use super::*;

/// A checkpoint of a cut with a delta.
fn based() -> Run {
    let mut run = large();
    run.work(&set(0..6, 1));
    // It begins with a store that has something.
    run.complete(NATIVE);
    run.restart();
    drop(take(&mut run));
    run.work(&set(4..8, 2));
    run.work(&clear(0..2));
    drop(take(&mut run));
    run.work(&set([2], 3));
    run.complete(NATIVE);
    run
}

fn refused(run: &Run, from: &RestoreFrom) -> Error {
    let mut state = run.backend.keyed(&run.owner).unwrap();
    state
        .restore(&from.operator("op", (0, 1), ALL))
        .unwrap_err()
}

#[test]
fn a_delta_that_is_damaged_or_another_is_refused() {
    let run = based();
    let (from, _) = run.last.clone().unwrap();
    let blobs = run.dir.path().join(format!("blobs-{}", run.checkpoints));
    let files = &from.metadata.tasks[0].native[0].files;
    let deltas: Vec<_> = files
        .iter()
        .filter(|f| f.name.ends_with(".delta"))
        .collect();
    assert_eq!(deltas.len(), 2);
    let replace = |name: &str, bytes: &[u8]| {
        // Another file: others have links to the old one.
        fs::remove_file(blobs.join(name)).unwrap();
        fs::write(blobs.join(name), bytes).unwrap();
    };
    let whole: Vec<Vec<u8>> = deltas
        .iter()
        .map(|f| fs::read(blobs.join(&f.name)).unwrap())
        .collect();
    for (file, bytes) in deltas.iter().zip(&whole) {
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [&flipped[..], &bytes[..bytes.len() - 1]] {
            replace(&file.name, bad);
            let error = refused(&run, &from);
            assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
            assert!(error.to_string().contains(&file.name), "{error}");
        }
        replace(&file.name, bytes);
    }
    // One in the place of the other, with its length and checksum.
    let mut swapped = Metadata::clone(&from.metadata);
    for (file, (other, bytes)) in deltas
        .iter()
        .zip(deltas.iter().rev().zip(whole.iter().rev()))
    {
        let all = swapped.tasks[0].native[0].files.iter_mut();
        for own in all.filter(|f| f.name == file.name) {
            own.file.clone_from(&other.file);
            assert_eq!(own.file.checksum, xxh3_64(bytes));
        }
    }
    let swapped = RestoreFrom {
        metadata: Arc::new(swapped),
        ..from.clone()
    };
    let error = refused(&run, &swapped);
    assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
    assert!(error.to_string().contains(".delta"), "{error}");
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/golden/native")
}

/// Frozen: every release reads the checkpoints of those before it.
#[test]
fn the_golden_checkpoint_is_read() {
    let dir = tempfile::tempdir().unwrap();
    // The store makes links.
    for entry in fs::read_dir(golden()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let (metadata, inline) =
        envelope::decode::<Metadata>(&fs::read(dir.path().join("metadata")).unwrap()).unwrap();
    let run = based();
    let (_, model) = run.last.as_ref().unwrap();
    let from = RestoreFrom {
        metadata: Arc::new(metadata),
        inline: Arc::new(inline),
        blobs: Arc::new(Disk(dir.path().to_owned())),
    };
    let formats = from.metadata.tasks[0].native.iter().map(|n| &n.format);
    assert_eq!(formats.collect::<Vec<_>>(), ["rocksdb-2"]);
    let mut state = run.backend.keyed(&run.owner).unwrap();
    state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
    let all: Vec<i64> = (0..KEYS).collect();
    let found = read(state.as_mut(), &run.key, &all);
    assert_eq!(found, model.shown(&all));
}

/// Writes the golden checkpoint, for a format that is new: `cargo test -p pelton-state write_golden -- --ignored`.
#[test]
#[ignore = "it writes into the sources"]
fn write_golden() {
    let run = based();
    let (from, _) = run.last.as_ref().unwrap();
    let blobs = run.dir.path().join(format!("blobs-{}", run.checkpoints));
    if golden().exists() {
        fs::remove_dir_all(golden()).unwrap();
    }
    fs::create_dir_all(golden()).unwrap();
    for entry in fs::read_dir(blobs).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), golden().join(entry.file_name())).unwrap();
    }
    let bytes = envelope::encode(from.metadata.as_ref(), &from.inline).unwrap();
    fs::write(golden().join("metadata"), bytes).unwrap();
}
