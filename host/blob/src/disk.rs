//! The calls of the file system that a store in a folder is made of, one step each.
//!
//! Needs: std. Invariant: every change of the disk passes [`Disk::step`], so that a test sees the order in which things
//! are written and synced, and can let each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One change of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    CreateFolder,
    CreateFile,
    Write,
    SyncFile,
    Link,
    Rename,
    SyncFolder,
}

/// The file system.
#[derive(Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) seam: tests::Seam,
}

impl Disk {
    /// Makes a folder; one that is there is fine.
    pub(crate) fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::CreateFolder, path)?;
        match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    /// Makes what a folder holds durable: its names, not its files' bytes.
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::SyncFolder, path)?;
        File::open(path)?.sync_all()
    }

    /// A file that was not there, in use until it is closed.
    pub(crate) fn create_file(&self, path: &Path) -> io::Result<File> {
        self.step(Step::CreateFile, path)?;
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Self::mark_in_use(&file);
        Ok(file)
    }

    /// Tells other processes, as long as the file is open here, that it is in use; by a lock, which goes with a process
    /// that is killed. A file system without locks does without.
    pub(crate) fn mark_in_use(file: &File) {
        let _ = file.try_lock_shared();
    }

    /// Removes a file unless it is in use.
    pub(crate) fn remove_unused(path: &Path) {
        if let Ok(file) = File::open(path)
            && file.try_lock().is_ok()
        {
            // Who makes a file of this name just now, and has not marked it yet, finds it gone and makes another.
            let _ = fs::remove_file(path);
        }
    }

    pub(crate) fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Write, path)?;
        file.write_all(bytes)
    }

    /// Copies a whole file.
    pub(crate) fn copy(&self, from: &mut File, to: &mut File, path: &Path) -> io::Result<()> {
        self.step(Step::Write, path)?;
        io::copy(from, to).map(drop)
    }

    /// Makes a file's bytes durable.
    pub(crate) fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.step(Step::SyncFile, path)?;
        file.sync_all()
    }

    /// A second name for a file; never in place of another.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Link, to)?;
        fs::hard_link(from, to)
    }

    /// How many names a file has.
    pub(crate) fn links(path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.nlink())
    }

    /// Another name for a file, in place of what had that name.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Rename, to)?;
        fs::rename(from, to)
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "a test's disk has a seam here"
    )]
    fn step(&self, _: Step, _: &Path) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, step: Step, path: &Path) -> io::Result<()> {
        self.seam.step(step, path)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// What a test sees of the disk, and where it lets it fail.
    #[derive(Default)]
    pub(crate) struct Seam(Mutex<Seen>);

    #[derive(Default)]
    struct Seen {
        steps: Vec<String>,
        /// The step that fails, and the system's number of the error.
        fails: Option<(usize, i32)>,
        /// Hard links are not supported.
        no_links: bool,
    }

    impl Seam {
        /// Lets the step with this number, from now on, fail with an error of the system.
        pub(crate) fn fail(&self, step: usize, errno: i32) {
            let mut seen = self.0.lock().unwrap();
            seen.fails = Some((seen.steps.len() + step, errno));
        }

        pub(crate) fn refuse_links(&self) {
            self.0.lock().unwrap().no_links = true;
        }

        /// The steps since the last call, each with the last part of its path; unfinished files are `tmp`.
        pub(crate) fn take(&self) -> Vec<String> {
            let mut seen = self.0.lock().unwrap();
            seen.fails = None;
            std::mem::take(&mut seen.steps)
        }

        pub(super) fn step(&self, step: Step, path: &Path) -> io::Result<()> {
            let mut seen = self.0.lock().unwrap();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = if name.starts_with(crate::name::UNFINISHED) {
                "tmp"
            } else {
                &*name
            };
            let number = seen.steps.len();
            seen.steps.push(format!("{step:?} {name}"));
            match seen.fails {
                Some((at, errno)) if at == number => Err(io::Error::from_raw_os_error(errno)),
                _ if seen.no_links && step == Step::Link => Err(io::ErrorKind::Unsupported.into()),
                _ => Ok(()),
            }
        }
    }
}
