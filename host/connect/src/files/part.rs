//! A file in work: under a hidden name until it is complete, then under its own.
//! Needs: the local file system, an encoding. Invariant: a file that is dropped before it is shown or handed over leaves
//! nothing, unless it is one that a later start goes on with.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pelton_model::batch::{Batch, RowKind};
use pelton_model::{Error, ErrorCode, Result};

use super::parquet::{Encoder, Layout};
use super::rows::Lines;

/// Bytes handed to the system at once.
const WRITE_BYTES: usize = 256 << 10;

/// How the rows of a sink are written.
pub(super) enum Encoding {
    Lines(Lines),
    Parquet(Layout),
}

/// A file under its hidden name; removed when it is dropped, unless it is kept.
pub(super) struct Hidden {
    hidden: PathBuf,
    place: PathBuf,
    /// Whether its folder was made for it, and may be removed with it.
    own_folder: bool,
    kept: bool,
}

impl Hidden {
    /// Gives the file its name. Its folder is not synced.
    pub(super) fn show(mut self) -> Result<PathBuf> {
        fs::rename(&self.hidden, &self.place).map_err(|e| unwritable(&self.place, &e))?;
        self.kept = true;
        Ok(std::mem::take(&mut self.place))
    }

    /// Leaves the file to others, who give it its name later. Says where it is.
    pub(super) fn hand_over(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.hidden)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.hidden
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // There is nobody left to tell; the file is hidden. A folder with other files stays.
        let _ = fs::remove_file(&self.hidden);
        if let Some(folder) = self.hidden.parent().filter(|_| self.own_folder) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// How a file is begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    /// What was there under the hidden name is nobody's.
    Over,
    /// Nothing may be there: no other start makes the name.
    New,
    /// One file for all starts, which stays when it is dropped; locked, as a process that was passed may still write to it.
    Shared,
}

/// The file in work.
pub(super) struct Part {
    hidden: Hidden,
    content: Content,
    with_op: bool,
    /// When it was last written to, in writes of its task.
    pub(super) used: u64,
    /// Which of its task's files it is.
    pub(super) number: u32,
}

enum Content {
    Lines {
        file: File,
        /// What the system has not got yet.
        buf: Vec<u8>,
        /// What it has got.
        bytes: u64,
    },
    Parquet(Box<Encoder>),
}

impl Part {
    /// Begins a file that is to be at `place`, and its folder if there is none.
    pub(super) fn begin(
        (place, hidden): (PathBuf, PathBuf),
        own_folder: bool,
        begin: Begin,
        encoding: &Encoding,
        with_op: bool,
    ) -> Result<Self> {
        if own_folder && let Some(folder) = hidden.parent() {
            fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
        }
        let file = match begin {
            Begin::Over => File::create(&hidden),
            Begin::New => File::create_new(&hidden),
            Begin::Shared => {
                let file = open_shared(&hidden)?;
                file.set_len(0).map(|()| file)
            }
        };
        let file = file.map_err(|e| unwritable(&hidden, &e))?;
        let hidden = Hidden {
            hidden,
            place,
            own_folder,
            kept: begin == Begin::Shared,
        };
        let content = match encoding {
            Encoding::Lines(lines) => {
                let mut buf = Vec::with_capacity(WRITE_BYTES / 4);
                lines.begin(&mut buf, with_op);
                Content::Lines {
                    file,
                    buf,
                    bytes: 0,
                }
            }
            Encoding::Parquet(layout) => {
                let encoder = layout.encoder(file);
                let encoder = encoder.map_err(|e| failed(&hidden.place, &e))?;
                Content::Parquet(Box::new(encoder))
            }
        };
        Ok(Self {
            hidden,
            content,
            with_op,
            used: 0,
            number: 0,
        })
    }

    /// Goes on with lines that an earlier start has written: the first `length` bytes. Errors: `OutputFailed` where there
    /// are less, or another process writes to it.
    pub(super) fn go_on(
        (place, hidden): (PathBuf, PathBuf),
        length: u64,
        with_op: bool,
    ) -> Result<Self> {
        let refused = |e: io::Error| unwritable(&hidden, &e);
        let mut file = open_shared(&hidden)?;
        let is = file.metadata().map_err(refused)?.len();
        if is < length {
            let message = format!(
                "output '{}' has {is} bytes, but the checkpoint counts {length} as written",
                hidden.display()
            );
            return Err(Error::new(ErrorCode::OutputFailed, message).help(
                "rows are lost: go on from an earlier savepoint, or begin anew with '--fresh'",
            ));
        }
        file.set_len(length).map_err(refused)?;
        file.seek(SeekFrom::End(0)).map_err(refused)?;
        Ok(Self {
            hidden: Hidden {
                hidden,
                place,
                own_folder: false,
                kept: true,
            },
            content: Content::Lines {
                file,
                buf: Vec::with_capacity(WRITE_BYTES / 4),
                bytes: length,
            },
            with_op,
            used: 0,
            number: 0,
        })
    }

    /// Writes rows of the batch, which has no selection, from `from` on until the file has `roll_bytes`. Says how many rows
    /// the file took.
    pub(super) fn write(
        &mut self,
        encoding: &Encoding,
        batch: &Batch,
        from: usize,
        roll_bytes: u64,
    ) -> Result<usize> {
        match (&mut self.content, encoding) {
            (Content::Lines { file, buf, bytes }, Encoding::Lines(lines)) => {
                for row in from..batch.rows() {
                    let kind = batch.kinds().and_then(|k| k.get(row)).copied();
                    let op = self
                        .with_op
                        .then_some(kind.unwrap_or(RowKind::Insert as u8));
                    lines.row(buf, op, batch.columns(), row);
                    if buf.len() >= WRITE_BYTES {
                        drain(file, buf, bytes).map_err(|e| unwritable(&self.hidden.place, &e))?;
                    }
                    if *bytes + buf.len() as u64 >= roll_bytes {
                        return Ok(row + 1 - from);
                    }
                }
                Ok(batch.rows() - from)
            }
            (Content::Parquet(encoder), _) => {
                let rest = batch.slice(from, batch.rows() - from);
                let written = encoder.write(&rest, self.with_op);
                written.map_err(|e| failed(&self.hidden.place, &e))?;
                Ok(rest.rows())
            }
            (Content::Lines { .. }, Encoding::Parquet(_)) => {
                Err(Error::bug("lines are not encoded as Parquet"))
            }
        }
    }

    /// Where it is for now.
    pub(super) fn path(&self) -> &Path {
        self.hidden.path()
    }

    /// Bytes of the file so far, those in memory included.
    pub(super) fn bytes(&self) -> u64 {
        match &self.content {
            Content::Lines { buf, bytes, .. } => bytes + buf.len() as u64,
            Content::Parquet(encoder) => encoder.bytes(),
        }
    }

    /// Hands what is in memory to the system if it is more than `bytes_max`.
    pub(super) fn bound(&mut self, bytes_max: usize) -> Result<()> {
        let place = &self.hidden.place;
        match &mut self.content {
            Content::Lines { file, buf, bytes } if buf.len() > bytes_max => {
                drain(file, buf, bytes).map_err(|e| unwritable(place, &e))
            }
            Content::Lines { .. } => Ok(()),
            Content::Parquet(encoder) => encoder.bound(bytes_max).map_err(|e| failed(place, &e)),
        }
    }

    /// All that was written is on the disk. How many bytes that are. Errors: of a format that cannot be left unfinished.
    pub(super) fn sync(&mut self) -> Result<u64> {
        let place = &self.hidden.place;
        let Content::Lines { file, buf, bytes } = &mut self.content else {
            return Err(Error::bug("a file of Parquet is not continued"));
        };
        drain(file, buf, bytes).map_err(|e| unwritable(place, &e))?;
        file.sync_all().map_err(|e| unwritable(place, &e))?;
        Ok(*bytes)
    }

    /// Ends the file: all its bytes are on the disk.
    pub(super) fn close(self) -> Result<Hidden> {
        let place = &self.hidden.place;
        let file = match self.content {
            Content::Lines {
                mut file,
                mut buf,
                mut bytes,
            } => {
                drain(&mut file, &mut buf, &mut bytes).map_err(|e| unwritable(place, &e))?;
                file
            }
            Content::Parquet(encoder) => encoder.finish().map_err(|e| failed(place, &e))?,
        };
        file.sync_all().map_err(|e| unwritable(place, &e))?;
        Ok(self.hidden)
    }
}

fn open_shared(path: &Path) -> Result<File> {
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(false);
    let file = options.open(path).map_err(|e| unwritable(path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "output '{}' is still being written by another process",
                path.display()
            );
            Err(Error::new(ErrorCode::OutputFailed, message).help("end that process"))
        }
        Err(TryLockError::Error(e)) => Err(unwritable(path, &e)),
    }
}

fn drain(file: &mut File, buf: &mut Vec<u8>, bytes: &mut u64) -> io::Result<()> {
    file.write_all(buf)?;
    *bytes += buf.len() as u64;
    buf.clear();
    Ok(())
}

pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| unwritable(folder, &e))
}

pub(super) fn unwritable(path: &Path, reason: &io::Error) -> Error {
    failed(path, reason)
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::OutputFailed,
        format!("output '{}' cannot be written: {reason}", path.display()),
    )
}
