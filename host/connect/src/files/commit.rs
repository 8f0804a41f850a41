//! What the sink's writers hand over at a barrier, and how it becomes visible once the checkpoint is complete.
//!
//! Needs: the folder of the output. Invariant: a file is renamed once. Asked again after a crash, at whatever step, the
//! commit finds either the hidden file or the one with its name, and goes on from there; a file of which neither is there
//! is lost, and an error. So complete files must stay where they are until the next checkpoint.
//!
//! ```text
//! version:u8 (1)  hidden:u16 name:u16 length:u64  hidden name
//! ```
//!
//! with numbers in little endian, and names relative to the folder. There is no checksum: the checkpoint has one.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use pelton_model::{Error, ErrorCode, Result};

use super::part::{sync_folder, unwritable};

const VERSION: u8 = 1;

/// A complete file that waits for its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Committable {
    /// Below the folder.
    pub(super) hidden: String,
    /// Below the folder.
    pub(super) name: String,
    /// Bytes.
    pub(super) length: u64,
}

impl Committable {
    /// Errors: `OutputFailed` for a path that is too long.
    pub(super) fn write(&self) -> Result<Vec<u8>> {
        let length = |text: &str| {
            u16::try_from(text.len()).map_err(|_| {
                let message = format!("the path '{text}' of an output is too long");
                Error::new(ErrorCode::OutputFailed, message)
            })
        };
        let mut out = vec![VERSION];
        out.extend_from_slice(&length(&self.hidden)?.to_le_bytes());
        out.extend_from_slice(&length(&self.name)?.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(self.hidden.as_bytes());
        out.extend_from_slice(self.name.as_bytes());
        Ok(out)
    }

    /// Errors: `Corrupt`; `StateMismatch` for another version.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(version) => {
                let message = format!(
                    "a file to commit is of version {version}, but this binary reads {VERSION}"
                );
                return Err(Error::new(ErrorCode::StateMismatch, message));
            }
            None => return Err(damaged()),
        }
        take(bytes.get(1..).unwrap_or_default()).ok_or_else(damaged)
    }

    fn paths(&self, folder: &Path) -> (PathBuf, PathBuf) {
        (folder.join(&self.hidden), folder.join(&self.name))
    }
}

fn take(rest: &[u8]) -> Option<Committable> {
    let (hidden, rest) = rest.split_first_chunk()?;
    let (name, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (hidden, name) = rest
        .split_at_checked(usize::from(u16::from_le_bytes(*hidden)))
        .filter(|(_, behind)| behind.len() == usize::from(u16::from_le_bytes(*name)))?;
    let path = |bytes: &[u8]| {
        let path = String::from_utf8(bytes.to_vec()).ok()?;
        let inside = |c: Component<'_>| matches!(c, Component::Normal(_));
        let is_inside = !path.is_empty() && Path::new(&path).components().all(inside);
        is_inside.then_some(path)
    };
    Some(Committable {
        hidden: path(hidden)?,
        name: path(name)?,
        length: u64::from_le_bytes(*length),
    })
}

fn damaged() -> Error {
    Error::new(
        ErrorCode::Corrupt,
        "a file to commit is not understood: the checkpoint is damaged",
    )
}

/// Gives files their names, those that do not have them yet, and syncs their folders. Errors: `OutputFailed` for one that
/// is lost.
pub(super) fn commit(folder: &Path, committables: &[Vec<u8>]) -> Result<()> {
    let mut places = Vec::new();
    for bytes in committables {
        let file = Committable::read(bytes)?;
        let (hidden, place) = file.paths(folder);
        show(&hidden, &place, file.length)?;
        places.push(place);
    }
    if places.is_empty() {
        return Ok(());
    }
    // Also of those that had their names: a crash may have come before this.
    sync_folders(folder, places.iter().map(PathBuf::as_path))
}

fn show(hidden: &Path, place: &Path, length: u64) -> Result<()> {
    let refused = |why: String, help: &str| {
        let message = format!("output '{}' {why}", place.display());
        Err(Error::new(ErrorCode::OutputFailed, message).help(help.to_owned()))
    };
    let lost = "rows that the checkpoint counts as written are lost: go on from an earlier savepoint, or begin anew with '--fresh'";
    match (length_of(hidden)?, length_of(place)?) {
        (Some(is), None) if is == length => match fs::rename(hidden, place) {
            // Another start commits the same checkpoint, and was faster.
            Err(e) if e.kind() == ErrorKind::NotFound && length_of(place)? == Some(length) => {
                Ok(())
            }
            renamed => renamed.map_err(|e| unwritable(place, &e)),
        },
        (None, Some(is)) if is == length => Ok(()),
        (Some(is), None) | (None, Some(is)) => {
            refused(format!("has {is} bytes, but {length} were written"), lost)
        }
        (Some(_), Some(_)) => refused(
            "is there already, and is not what this job wrote".to_owned(),
            "move it away; the job goes on from its checkpoint",
        ),
        (None, None) => refused(
            "is gone: neither it nor its hidden file is there".to_owned(),
            lost,
        ),
    }
}

fn length_of(path: &Path) -> Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.len())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unwritable(path, &e)),
    }
}

/// Removes a hidden file, if it is there.
pub(super) fn remove(hidden: &Path) -> Result<()> {
    match fs::remove_file(hidden) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(unwritable(hidden, &e)),
        _ => Ok(()),
    }
}

/// Syncs the folders of some files, and those above them up to `root`.
pub(super) fn sync_folders<'a>(
    root: &Path,
    files: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let mut folders = BTreeSet::from([root]);
    for file in files {
        let above = file.ancestors().skip(1).take_while(|f| *f != root);
        folders.extend(above.filter(|f| f.starts_with(root)));
    }
    folders.into_iter().try_for_each(sync_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are in checkpoints: a reader must understand them for ever.
    #[test]
    fn committables_of_the_first_version_are_read() {
        let file = Committable {
            hidden: "d=1/.h".into(),
            name: "d=1/n".into(),
            length: 258,
        };
        let golden = b"\x01\x06\0\x05\0\x02\x01\0\0\0\0\0\0d=1/.hd=1/n";
        assert_eq!(file.write().unwrap(), golden);
        assert_eq!(Committable::read(golden).unwrap(), file);
        for length in 0..golden.len() {
            let e = Committable::read(&golden[..length]).unwrap_err();
            assert_eq!(e.code(), ErrorCode::Corrupt);
        }
        let mut later = golden.to_vec();
        later[0] = 2;
        let e = Committable::read(&later).unwrap_err();
        assert_eq!(e.code(), ErrorCode::StateMismatch);
    }

    #[test]
    fn a_committable_stays_within_the_folder() {
        for (hidden, name) in [("../h", "n"), ("h", "/n"), ("", "n"), ("h", "a/../../n")] {
            let file = Committable {
                hidden: hidden.into(),
                name: name.into(),
                length: 0,
            };
            let e = Committable::read(&file.write().unwrap()).unwrap_err();
            assert_eq!(e.code(), ErrorCode::Corrupt, "{hidden} {name}");
        }
    }
}
