//! Snapshots as the store's own files: which there are, what they are called, and how they come back.
//!
//! The format is `rocksdb-1`: the files of a RocksDB database with the crate's layout. Tables never change; each has a
//! name that no other file in the world has, the identity of the database that made it before its number. `CURRENT` and
//! `MANIFEST-*` are of one cut alone. `OPTIONS-*` is left out: options come from the settings.
//!
//! In `rocksdb-2` there are [deltas](crate::delta) besides, called as tables are, which are applied in the order of their
//! numbers; where nothing was ever in the database, there are deltas alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pelton_engine::snapshot::{LocalFile, RestoreFrom};
use pelton_model::checkpoint::{NativeFile, NativeState};
use pelton_model::{Error, ErrorCode, Result};
use xxhash_rust::xxh3::Xxh3;

use crate::fault::damaged;
use crate::folder::{Folder, unusable};
use crate::store::{Adopted, Store};

/// What files of a cut alone are.
pub(crate) const FORMAT: &str = "rocksdb-1";
/// What they are with deltas.
pub(crate) const FORMAT_DELTAS: &str = "rocksdb-2";
/// Files that are fetched at once.
const FETCHED: usize = 4;

/// The files of a cut. They are there as long as anybody has them.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) files: Vec<LocalFile>,
    _folder: Folder,
}

/// Links the files of the store's cut into a folder of their own. Waits for the disk.
pub(crate) fn link(store: &Store, given_up: &AtomicBool) -> Result<Linked> {
    let folder = store.shared().folder("snapshot");
    store.link(folder.path(), given_up)?;
    let io = |e: std::io::Error| unusable(folder.path(), &e);
    // No other cut of this database has it.
    let cut = folder.path().file_name().unwrap_or_default();
    let cut = cut.to_string_lossy();
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.path()).map_err(io)? {
        let entry = entry.map_err(io)?;
        let local = entry.file_name().to_string_lossy().into_owned();
        let (name, identity) = match Kind::of(&local) {
            Some(Kind::Table) => {
                let name = store.unique_name(&local);
                (name.clone(), Some(name))
            }
            Some(Kind::Head) => {
                let identity = store.unique_name(&format!("{cut}-{local}"));
                (local, Some(identity))
            }
            Some(Kind::Delta) => continue,
            // Options, and a log that nobody writes.
            None if entry.metadata().map_err(io)?.len() == 0 || !local.ends_with(".log") => {
                continue;
            }
            None => return Err(Error::bug("the store has written a log")),
        };
        files.push(LocalFile {
            name,
            path: entry.path(),
            identity,
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Linked {
        files,
        _folder: folder,
    })
}

/// The name of a delta.
pub(crate) fn delta_name(store: &Store, number: u64) -> String {
    store.unique_name(&format!("{number:06}.delta"))
}

/// A file of a database, by its name in the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Data; it never changes.
    Table,
    /// What tables there are.
    Head,
    /// What came after them.
    Delta,
}

impl Kind {
    fn of(local: &str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if local.strip_suffix(".sst").is_some_and(digits) {
            return Some(Self::Table);
        }
        if local.strip_suffix(".delta").is_some_and(digits) {
            return Some(Self::Delta);
        }
        let head = local == "CURRENT" || local.strip_prefix("MANIFEST-").is_some_and(digits);
        head.then_some(Self::Head)
    }
}

/// The name of a file in its folder. Errors: `Corrupt` for one that no snapshot has.
fn local_name(name: &str) -> Result<(&str, Kind)> {
    let table = name
        .rsplit_once('-')
        .map(|(_, local)| (local, Kind::of(local)));
    match (Kind::of(name), table) {
        (Some(kind), _) => Ok((name, kind)),
        (None, Some((local, Some(kind @ (Kind::Table | Kind::Delta))))) => Ok((local, kind)),
        _ => Err(Error::new(
            ErrorCode::Corrupt,
            "a snapshot of the state has an unknown file",
        )
        .at("file", name)),
    }
}

/// The files of a snapshot, whole and checked.
pub(crate) struct Fetched {
    /// Whether there is a database; else there are deltas alone.
    pub(crate) based: bool,
    pub(crate) adopted: Adopted,
    /// In their order: names, and where they are.
    pub(crate) deltas: Vec<(String, PathBuf)>,
}

/// Brings the files of a snapshot into a folder, whole and checked. Errors: `Corrupt` and `NotFound`, with the object's
/// name; the store's; `StateFailed`.
pub(crate) fn fetch(from: &RestoreFrom, native: &NativeState, folder: Folder) -> Result<Fetched> {
    let path = folder.path();
    fs::create_dir_all(path).map_err(|e| unusable(path, &e))?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(file) = native.files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let object = file.file.name.as_deref().unwrap_or("inline");
            fetch_one(from, file, path).map_err(|e| e.at("object", object))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..FETCHED.min(native.files.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut all = Ok(());
        for thread in threads {
            let one = thread.join();
            all = all.and(one.unwrap_or_else(|_| Err(Error::bug("fetching a file panicked"))));
        }
        all
    })?;
    let (mut based, mut origins, mut deltas) = (false, BTreeMap::new(), Vec::new());
    for file in &native.files {
        match local_name(&file.name)? {
            (local, Kind::Table) => {
                origins.insert(local.to_owned(), file.name.clone());
            }
            (_, Kind::Head) => based = true,
            (local, Kind::Delta) => {
                let number = local.strip_suffix(".delta").and_then(|n| n.parse().ok());
                let number: u64 = number.ok_or_else(|| damaged("its number is too large"))?;
                deltas.push((number, file.name.clone(), path.join(local)));
            }
        }
    }
    deltas.sort_by_key(|(number, ..)| *number);
    let deltas = deltas.into_iter();
    let deltas = deltas.map(|(_, name, path)| (name, path)).collect();
    Ok(Fetched {
        based,
        adopted: Adopted { folder, origins },
        deltas,
    })
}

fn fetch_one(from: &RestoreFrom, file: &NativeFile, folder: &Path) -> Result<()> {
    let (local, kind) = local_name(&file.name)?;
    let path = folder.join(local);
    let io = |e: std::io::Error| unusable(folder, &e);
    match (&file.file.name, kind) {
        (Some(object), Kind::Table | Kind::Delta) => from.blobs.get_file(object, &path)?,
        // Never a link: these are small, and the store is free to change its own.
        (Some(object), Kind::Head) => fs::write(&path, from.blobs.get(object)?).map_err(io)?,
        (None, _) => {
            let start = usize::try_from(file.file.inline.unwrap_or_default()).ok();
            let bytes = start.and_then(|s| {
                let end = s.checked_add(usize::try_from(file.file.length).ok()?)?;
                from.inline.get(s..end)
            });
            fs::write(&path, bytes.ok_or_else(|| damaged("it is cut off"))?).map_err(io)?;
        }
    }
    let (length, checksum) = sum(&path).map_err(io)?;
    if length != file.file.length {
        return Err(damaged("its length is wrong"));
    }
    if checksum != file.file.checksum {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(())
}

/// Length and checksum.
fn sum(path: &Path) -> std::io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut length, mut buffer) = (Xxh3::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, hash.digest()));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        assert_eq!(local_name("CURRENT").unwrap(), ("CURRENT", Kind::Head));
        let manifest = "MANIFEST-000005";
        assert_eq!(local_name(manifest).unwrap(), (manifest, Kind::Head));
        let table = local_name("0a-1b-2c-000017.sst").unwrap();
        assert_eq!(table, ("000017.sst", Kind::Table));
        let delta = local_name("0a-1b-2c-000017.delta").unwrap();
        assert_eq!(delta, ("000017.delta", Kind::Delta));
        for bad in [
            "",
            "..",
            "a/000017.sst",
            "a-../7.sst",
            "MANIFEST-",
            "a-.delta",
            "a-b.delta",
            "OPTIONS-000007",
            "7.log",
        ] {
            assert_eq!(
                local_name(bad).unwrap_err().code(),
                ErrorCode::Corrupt,
                "{bad}"
            );
        }
    }
}
