//! A file in work: under a hidden name until it is complete, then under its own.
//! Needs: the local file system, an encoding. Invariant: a file that is dropped before it is shown leaves nothing.

use std::fs::{self, File};
use std::io::{self, Write};
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

/// A file under its hidden name; removed when it is dropped before it is shown.
pub(super) struct Hidden {
    hidden: PathBuf,
    place: PathBuf,
    /// Whether its folder was made for it, and may be removed with it.
    own_folder: bool,
    shown: bool,
}

impl Hidden {
    /// Gives the file its name. Its folder is not synced.
    pub(super) fn show(mut self) -> Result<PathBuf> {
        fs::rename(&self.hidden, &self.place).map_err(|e| unwritable(&self.place, &e))?;
        self.shown = true;
        Ok(std::mem::take(&mut self.place))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.shown {
            return;
        }
        // There is nobody left to tell; the file is hidden. A folder with other files stays.
        let _ = fs::remove_file(&self.hidden);
        if let Some(folder) = self.hidden.parent().filter(|_| self.own_folder) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The file in work.
pub(super) struct Part {
    hidden: Hidden,
    content: Content,
    with_op: bool,
    /// When it was last written to, in writes of its task.
    pub(super) used: u64,
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
        place: PathBuf,
        hidden: PathBuf,
        own_folder: bool,
        encoding: &Encoding,
        with_op: bool,
    ) -> Result<Self> {
        if own_folder && let Some(folder) = hidden.parent() {
            fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
        }
        let file = File::create(&hidden).map_err(|e| unwritable(&hidden, &e))?;
        let hidden = Hidden {
            hidden,
            place,
            own_folder,
            shown: false,
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
