//! Which start of a job a single file belongs to: it has one name for all starts, so that names cannot tell.
//!
//! Needs: locks of the file system. Invariant: whoever removes or renames the file, or begins to write it, holds the claim
//! meanwhile, and is refused once a later start has claimed it. The claim stays beside the file, hidden, also when the job
//! has finished: a process that was passed may wake up at any time.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pelton_model::{Error, ErrorCode, Result};

use super::part::unwritable;
use crate::StartId;

/// The claims of one start on one file; its threads take turns.
pub(super) struct Owner {
    claim: PathBuf,
    start: StartId,
    turn: Mutex<()>,
}

/// Held while something is done with the file.
pub(super) struct Held<'a> {
    _lock: File,
    _turn: MutexGuard<'a, ()>,
}

impl Owner {
    /// Of a file that is, or will be, at `path`.
    pub(super) fn new(path: &Path, start: StartId) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            claim: path.with_file_name(format!(".{name}.owner")),
            start,
            turn: Mutex::new(()),
        }
    }

    /// The file is this start's, until a later one says the same. Errors: `Fenced` where one has; `OutputFailed` while
    /// another process does something with the file.
    pub(super) fn hold(&self) -> Result<Held<'_>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e: std::io::Error| unwritable(&self.claim, &e);
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&self.claim).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "the output of '{}' is held by another process",
                    self.claim.display()
                );
                return Err(Error::new(ErrorCode::OutputFailed, message).help("end that process"));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let mut text = String::new();
        // What is no text was not written here.
        let _ = file.read_to_string(&mut text);
        let StartId { log, term } = self.start;
        match read(&text) {
            Some(there) if there == self.start => {}
            Some(there) if there.log == log && there.term > term => {
                let message = format!(
                    "a later start of the job has taken over '{}'",
                    self.claim.display()
                );
                return Err(Error::new(ErrorCode::Fenced, message)
                    .help("let one process run a job at a time"));
            }
            _ => {
                let written = file.set_len(0).and_then(|()| {
                    file.rewind()?;
                    file.write_all(format!("{log:08x} {term}\n").as_bytes())?;
                    file.sync_all()
                });
                written.map_err(failed)?;
            }
        }
        Ok(Held {
            _lock: file,
            _turn: turn,
        })
    }
}

fn read(text: &str) -> Option<StartId> {
    let (log, term) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(StartId {
        log: u32::from_str_radix(log, 16).ok()?,
        term: term.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_keeps_earlier_ones_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let owner = |log, term| Owner::new(&path, StartId { log, term });
        let (first, second) = (owner(1, 5), owner(1, 7));
        let held = first.hold().unwrap();
        let code = |owner: &Owner| owner.hold().err().map(|e| e.code());
        assert_eq!(code(&second), Some(ErrorCode::OutputFailed));
        drop(held);
        drop(second.hold().unwrap());
        assert_eq!(code(&first), Some(ErrorCode::Fenced));
        drop(second.hold().unwrap());
        // Of another log nobody knows whether it is later.
        drop(owner(2, 1).hold().unwrap());
        std::fs::write(dir.path().join(".out.csv.owner"), b"\xff half").unwrap();
        drop(first.hold().unwrap());
        assert_eq!(code(&second), None);
    }
}
