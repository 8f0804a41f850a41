//! Folders of state: gone when nobody needs them, also where their process was killed.
//!
//! State is rebuilt from checkpoints, so what a process leaves is of no use to anyone. A process holds a lock on the
//! file [`OWNER`] in its folder as long as it lives, whatever ends it; a folder whose file nobody holds is removed by the
//! next that comes. A folder without such a file is somebody else's.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use pelton_model::{Error, ErrorCode, Result};

/// The file whose lock says that the folder's process lives.
const OWNER: &str = "owner";

/// A folder that goes when this does.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, and those above it. Errors: `StateFailed`.
    pub(crate) fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|e| unusable(&path, &e))?;
        Ok(Self(path))
    }

    /// A folder that somebody will make.
    pub(crate) fn later(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is removed with the job's folder, or at the next start.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says that the folder belongs to this process, as long as the file that is returned is open.
/// Errors: `StateFailed` for a folder that is not writable or not empty.
pub(crate) fn own(dir: &Path) -> Result<File> {
    let io = |e: io::Error| unusable(dir, &e);
    fs::create_dir_all(dir).map_err(io)?;
    if fs::read_dir(dir).map_err(io)?.next().is_some() {
        return Err(Error::new(
            ErrorCode::StateFailed,
            "the folder of the state is not empty",
        )
        .at("folder", dir.display())
        .help("remove what is in it, or name another folder with `state.dir`"));
    }
    // It is locked before anyone can see it under its name.
    let fresh = dir.join("owner.new");
    let file = File::create_new(&fresh).map_err(io)?;
    file.lock().map_err(io)?;
    fs::rename(&fresh, dir.join(OWNER)).map_err(io)?;
    Ok(file)
}

/// Removes the folders of state in `parent` whose processes are dead; how many. Errors: `StateFailed` where `parent`
/// cannot be listed; what cannot be removed stays.
pub fn remove_stale(parent: &Path) -> Result<usize> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(unusable(parent, &e)),
    };
    let mut removed = 0;
    for entry in entries {
        let dir = entry.map_err(|e| unusable(parent, &e))?.path();
        let Ok(file) = File::open(dir.join(OWNER)) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => removed += usize::from(fs::remove_dir_all(&dir).is_ok()),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(removed)
}

pub(crate) fn unusable(dir: &Path, e: &io::Error) -> Error {
    let full = e.kind() == io::ErrorKind::StorageFull;
    Error::new(
        ErrorCode::StateFailed,
        format!("the folder of the state cannot be used: {e}"),
    )
    .at("folder", dir.display())
    .help(match full {
        true => "free some space, or name a folder on another disk with `state.dir`",
        false => "name a folder that is writable with `state.dir`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_processes_are_removed_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let dir = |name: &str| parent.path().join(name);
        let alive = own(&dir("alive")).unwrap();
        drop(own(&dir("dead")).unwrap());
        fs::create_dir_all(dir("dead/0")).unwrap();
        fs::write(dir("dead/0/000007.sst"), "x").unwrap();
        fs::create_dir(dir("strange")).unwrap();
        fs::write(dir("file"), "x").unwrap();
        assert_eq!(remove_stale(parent.path()).unwrap(), 1);
        assert!(dir("alive").exists() && dir("strange").exists() && dir("file").exists());
        assert!(!dir("dead").exists());
        drop(alive);
        assert_eq!(remove_stale(parent.path()).unwrap(), 1);
        assert_eq!(remove_stale(&dir("missing")).unwrap(), 0);
    }

    #[test]
    fn a_folder_goes_with_its_guard() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let folder = Folder::make(path.clone()).unwrap();
        fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists() && parent.path().join("a").exists());
        drop(Folder::later(path));
    }
}
