//! `file://`: objects as files below a local folder.
//!
//! Needs: `model::blob`, disk. Invariants: a file has its final name only once its bytes are synced; a write returns only
//! once that name, and all folders above it, are synced; no name leads out of the folder; what a killed process left
//! unfinished is removed by the first write of another one beside it. Refuses: to make the folder before the first write,
//! so that reading from a wrong path leaves nothing behind.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::{Error, ErrorCode, Result};

use crate::disk::Disk;
use crate::memory::{locked, not_found};
use crate::name;

/// How often a write begins again because its folder was removed, by who deleted the last object in it.
const FOLDER_GONE_MAX: u32 = 16;

/// A store in a local folder.
pub struct Folder {
    root: PathBuf,
    /// Folders that are there and synced, all the way up to the root of the file system.
    synced: Mutex<HashSet<PathBuf>>,
    disk: Disk,
}

impl Folder {
    /// The store below `root`, an absolute path.
    ///
    /// # Errors
    /// `StoreFailed` where the path is something else than a folder, or may not be looked at.
    pub fn open(root: PathBuf) -> Result<Self> {
        let folder = Self {
            root,
            synced: Mutex::default(),
            disk: Disk::default(),
        };
        match fs::metadata(&folder.root) {
            Ok(found) if found.is_dir() => Ok(folder),
            Ok(_) => Err(folder.failed("open", "", &io::ErrorKind::NotADirectory.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(folder),
            Err(e) => Err(folder.failed("open", "", &e)),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        name::check(name)?;
        Ok(self.root.join(name))
    }

    /// The file of an object, open for reading.
    fn file(&self, name: &str) -> Result<File> {
        let path = self.path(name)?;
        let opened = File::open(&path).and_then(|file| {
            let is_file = file.metadata()?.is_file();
            Ok(is_file.then_some(file))
        });
        match opened {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(not_found(name)),
            Err(e) => Err(self.failed("read", name, &e)),
        }
    }

    /// Writes by `fill` under an unfinished name, then gives it its own by `finish`.
    fn write<T>(
        &self,
        name: &str,
        mut fill: impl FnMut(&Path) -> io::Result<File>,
        finish: impl Fn(&Path, &Path) -> io::Result<T>,
    ) -> Result<T> {
        let path = self.path(name)?;
        let folder = path.parent().unwrap_or(&self.root);
        let mut gone = 0;
        loop {
            let written = self.ensure(folder).and_then(|()| {
                let unfinished = Unfinished::fill(folder, &mut fill)?;
                let made = finish(&unfinished.path, &path)?;
                self.disk.sync_folder(folder)?;
                Ok(made)
            });
            match written {
                Err(e) if e.kind() == io::ErrorKind::NotFound && gone < FOLDER_GONE_MAX => {
                    // It, or one above it: all are looked at again.
                    locked(&self.synced).clear();
                    gone += 1;
                }
                Err(e) => return Err(self.failed("write", name, &e)),
                Ok(made) => return Ok(made),
            }
        }
    }

    /// Makes a folder and those above it, and their names durable. A folder that is there may have been made a moment
    /// ago by somebody who has not synced it yet: so each is synced once a process.
    fn ensure(&self, folder: &Path) -> io::Result<()> {
        if locked(&self.synced).contains(folder) {
            return Ok(());
        }
        let found = folder.is_dir();
        if let Some(parent) = folder.parent() {
            // Folders above the store were made by others, some time ago.
            if found && !folder.starts_with(&self.root) {
                return Ok(());
            }
            self.ensure(parent)?;
            self.disk.create_folder(folder)?;
            match self.disk.sync_folder(parent) {
                // The store's own folder may lie in one that we may not read.
                Err(e)
                    if found
                        && folder == self.root
                        && e.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        if found && folder.starts_with(&self.root) {
            sweep(folder);
        }
        locked(&self.synced).insert(folder.to_owned());
        Ok(())
    }

    fn write_bytes(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut file = self.disk.create_file(path)?;
        self.disk.write(&mut file, path, bytes)?;
        self.disk.sync_file(&file, path)?;
        Ok(file)
    }

    /// Gives an unfinished file its name unless something has it.
    fn link_new(&self, unfinished: &Path, path: &Path) -> io::Result<PutNew> {
        match self.disk.link(unfinished, path) {
            Ok(()) => Ok(PutNew::Created),
            // On a network's file system the reply to a link that was made may be lost, and the second try finds the
            // first. Nobody else knows the unfinished file, so a second name of it is this one.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !path.is_dir() => {
                let ours = Disk::links(unfinished)? > 1;
                Ok(if ours {
                    PutNew::Created
                } else {
                    PutNew::Exists
                })
            }
            Err(e) => Err(e),
        }
    }

    fn failed(&self, verb: &str, name: &str, e: &io::Error) -> Error {
        use io::ErrorKind as Kind;
        let path = self.root.join(name);
        let code = match e.kind() {
            // Not a directory: a part of the name is an object.
            Kind::NotFound | Kind::NotADirectory if verb == "read" => return not_found(name),
            Kind::Interrupted
            | Kind::TimedOut
            | Kind::WouldBlock
            | Kind::ResourceBusy
            | Kind::StaleNetworkFileHandle
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown => ErrorCode::StoreUnavailable,
            _ => ErrorCode::StoreFailed,
        };
        Error::new(code, format!("cannot {verb} {}: {e}", path.display()))
    }

    /// Removes unfinished files in a folder and those below, and these if nothing else is in them. What cannot be removed
    /// takes room and is never listed.
    fn sweep_below(&self, folder: &Path) {
        sweep(folder);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let below = entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
        for folder in below.map(|e| e.path()) {
            self.sweep_below(&folder);
            if fs::remove_dir(&folder).is_ok() {
                locked(&self.synced).remove(&folder);
            }
        }
    }

    /// Adds the objects below a folder, whose names begin with `prefix`.
    fn walk(&self, folder: &Path, prefix: &str, found: &mut Vec<BlobInfo>) -> io::Result<()> {
        // Folders and files may vanish meanwhile.
        let Some(entries) = unless_gone(fs::read_dir(folder))? else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry?;
            let part = entry.file_name();
            let Some(part) = part
                .to_str()
                .filter(|part| !part.starts_with(name::UNFINISHED))
            else {
                continue;
            };
            let name = format!("{prefix}{part}");
            let Some(kind) = unless_gone(entry.file_type())? else {
                continue;
            };
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{name}/"), found)?;
            } else if kind.is_file()
                && let Some(metadata) = unless_gone(entry.metadata())?
            {
                found.push(BlobInfo {
                    name,
                    length: metadata.len(),
                });
            }
        }
        Ok(())
    }
}

impl Blobs for Folder {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(
            name,
            |unfinished| self.write_bytes(unfinished, bytes),
            |unfinished, path| self.disk.rename(unfinished, path),
        )
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew> {
        self.write(
            name,
            |unfinished| self.write_bytes(unfinished, bytes),
            |unfinished, path| self.link_new(unfinished, path),
        )
    }

    fn put_file(&self, name: &str, file: &Path) -> Result<()> {
        name::check(name)?;
        let mut source = File::open(file).map_err(|e| local("read", file, &e))?;
        if source.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(local("read", file, &io::ErrorKind::IsADirectory.into()));
        }
        self.disk
            .sync_file(&source, file)
            .map_err(|e| local("sync", file, &e))?;
        // A link to a symbolic link would be one, too.
        let linkable = fs::symlink_metadata(file).is_ok_and(|found| found.is_file());
        Disk::mark_in_use(&source);
        self.write(
            name,
            |unfinished| {
                // Where a link fails: another file system, one without links, a file of somebody else's.
                if linkable && self.disk.link(file, unfinished).is_ok() {
                    return source.try_clone();
                }
                let mut copy = self.disk.create_file(unfinished)?;
                source.rewind()?;
                self.disk.copy(&mut source, &mut copy, unfinished)?;
                self.disk.sync_file(&copy, unfinished)?;
                Ok(copy)
            },
            |unfinished, path| self.disk.rename(unfinished, path),
        )
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = self.file(name)?;
        file.read_to_end(&mut bytes)
            .map_err(|e| self.failed("read", name, &e))?;
        Ok(bytes)
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        let mut file = self.file(name)?;
        let mut read = || {
            let there = file.metadata()?.len().saturating_sub(offset).min(length);
            let mut bytes = Vec::with_capacity(usize::try_from(there).unwrap_or(0));
            // No file system seeks to any number.
            if there > 0 {
                file.seek(SeekFrom::Start(offset))?;
                file.by_ref().take(there).read_to_end(&mut bytes)?;
            }
            Ok(bytes)
        };
        read().map_err(|e| self.failed("read", name, &e))
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.file(name)?))
    }

    fn get_file(&self, name: &str, file: &Path) -> Result<()> {
        let mut object = self.file(name)?;
        remove_old(file)?;
        // Who reads a restored file need not survive a power cut: nothing is synced.
        if fs::hard_link(self.path(name)?, file).is_ok() {
            return Ok(());
        }
        File::create_new(file)
            .and_then(|mut copy| io::copy(&mut object, &mut copy))
            .map(drop)
            .map_err(|e| local("write", file, &e))
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let prefix = prefix.trim_end_matches('/');
        name::check_prefix(prefix)?;
        let (folder, begin) = match prefix {
            "" => (self.root.clone(), String::new()),
            _ => (self.root.join(prefix), format!("{prefix}/")),
        };
        let mut found = Vec::new();
        match self.walk(&folder, &begin, &mut found) {
            // The prefix is an object, or lies below one.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {}
            walked => walked.map_err(|e| self.failed("list", prefix, &e))?,
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            // Some objects' names begin so; none is called so.
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => return Ok(()),
            removed => removed.map_err(|e| self.failed("delete", name, &e))?,
        }
        // Folders without objects go, too. One that is not empty stays by the system's own rule.
        for folder in path.ancestors().skip(1) {
            if folder == self.root || fs::remove_dir(folder).is_err() {
                break;
            }
            locked(&self.synced).remove(folder);
        }
        Ok(())
    }

    fn sweep(&self, prefix: &str) -> Result<()> {
        let prefix = prefix.trim_end_matches('/');
        name::check_prefix(prefix)?;
        let root = match prefix {
            "" => self.root.clone(),
            _ => self.root.join(prefix),
        };
        self.sweep_below(&root);
        Ok(())
    }
}

/// A file under a name that no listing shows; it is removed when this goes.
struct Unfinished {
    path: PathBuf,
    /// Open, so that nobody takes it for what a killed process left.
    _in_use: File,
}

impl Unfinished {
    /// Makes one by `fill`, under a name that is free.
    fn fill(folder: &Path, mut fill: impl FnMut(&Path) -> io::Result<File>) -> io::Result<Self> {
        // Processes in containers may have one number, and leave files behind: then the next number is taken.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let part = format!("{}{}-{number}", name::UNFINISHED, std::process::id());
            let path = folder.join(part);
            match fill(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    let _ = fs::remove_file(&path);
                    return Err(e);
                }
                Ok(file) => {
                    return Ok(Self {
                        path,
                        _in_use: file,
                    });
                }
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone after most renames; but not after one between two names of the same file. One that cannot be removed
        // takes room and is never listed.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes unfinished files of processes that are no more.
fn sweep(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let unfinished = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(name::UNFINISHED.as_bytes());
        if unfinished && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            Disk::remove_unused(&entry.path());
        }
    }
}

/// An error with a file that is no object.
pub(crate) fn local(verb: &str, file: &Path, e: &io::Error) -> Error {
    Error::new(
        ErrorCode::Io,
        format!("cannot {verb} the file {}: {e}", file.display()),
    )
}

/// Removes what has the name of a file to come. To write into it instead could change an object that it is a link to.
pub(crate) fn remove_old(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(local("replace", file, &e)),
        _ => Ok(()),
    }
}

fn unless_gone<T>(got: io::Result<T>) -> io::Result<Option<T>> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
