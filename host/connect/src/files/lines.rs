//! The lines of one chunk of a file, from a buffer of moderate size. A chunk owns the lines that start in its range.
//!
//! Needs: an open file. The part of the buffer from `pos` to `safe` always holds whole lines, each with its newline; to
//! the last line of a file that has none, one is added. A line longer than the limit is passed over without being kept.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use memchr::{memchr, memrchr};

/// Bytes asked of the system at once: they stay in the cache of a core until they are decoded.
const READ_BYTES: usize = 256 << 10;
/// The same behind the end of a chunk, where only the rest of one line is wanted.
const OVERRUN_BYTES: usize = 16 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A range of a file: the lines that start in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) start: u64,
    /// `u64::MAX` for the whole of a compressed file.
    pub(super) end: u64,
    pub(super) gzip: bool,
}

/// What [`Lines::fill`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fill {
    /// Whole lines from `pos` to `safe`.
    Lines,
    /// The line at `pos` is too long. [`Lines::skip_line`] passes over it.
    TooLong,
    /// The chunk has no more lines.
    End,
}

/// Reads the lines of a range.
pub(super) struct Lines {
    input: Box<dyn Read + Send>,
    buf: Vec<u8>,
    /// The next line.
    pub(super) pos: usize,
    /// Behind the last whole line.
    pub(super) safe: usize,
    filled: usize,
    /// Where the buffer begins in the file (in its content, if compressed).
    base: u64,
    end: u64,
    /// The input has nothing more for this chunk.
    done: bool,
    line_bytes_max: usize,
    /// Where the first line of the range begins; where an earlier reader has stopped, the next one.
    pub(super) first: u64,
    /// Bytes of a compressed file that are to be passed over before anything else.
    behind: u64,
}

impl Lines {
    /// Goes to the first line that starts in `range`.
    pub(super) fn open(path: &Path, range: Range, line_bytes_max: usize) -> io::Result<Self> {
        // The byte before tells whether a line starts with the range.
        let mut lines = Self::at(path, range, range.start.saturating_sub(1), line_bytes_max)?;
        if range.start > 0 {
            lines.skip_line()?;
        } else {
            lines.skip_mark()?;
        }
        lines.first = lines.offset();
        Ok(lines)
    }

    /// Goes to a line that begins at `offset`, where an earlier reader of the range has stopped. Of a compressed file the
    /// bytes before are still to be passed over by [`catch_up`](Self::catch_up).
    pub(super) fn open_at(
        path: &Path,
        range: Range,
        offset: u64,
        line_bytes_max: usize,
    ) -> io::Result<Self> {
        let mut lines = Self::at(path, range, offset, line_bytes_max)?;
        lines.behind = if range.gzip { offset } else { 0 };
        lines.first = offset;
        // A line that starts there is another chunk's.
        lines.done = offset >= range.end;
        Ok(lines)
    }

    fn at(path: &Path, range: Range, base: u64, line_bytes_max: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let input: Box<dyn Read + Send> = if range.gzip {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(
                64 << 10,
                file,
            )))
        } else {
            file.seek(SeekFrom::Start(base))?;
            Box::new(file)
        };
        Ok(Self {
            input,
            buf: Vec::new(),
            pos: 0,
            safe: 0,
            filled: 0,
            base,
            end: range.end,
            done: false,
            line_bytes_max,
            first: base,
            behind: 0,
        })
    }

    /// Passes over at most `bytes_max` of what is read already; whether that was all.
    pub(super) fn catch_up(&mut self, bytes_max: u64) -> io::Result<bool> {
        if self.behind > 0 {
            let wanted = self.behind.min(bytes_max);
            let passed = io::copy(&mut self.input.by_ref().take(wanted), &mut io::sink())?;
            // The end of the last line may lack its newline, which counts all the same.
            self.behind = if passed < wanted {
                0
            } else {
                self.behind - passed
            };
        }
        Ok(self.behind == 0)
    }

    /// The buffer; lines stand from `pos` to `safe`.
    #[inline]
    pub(super) fn buf(&self) -> &[u8] {
        self.buf.get(..self.filled).unwrap_or_default()
    }

    /// Where the next line begins in the file.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    /// Makes sure that whole lines stand at `pos`, if there are more.
    #[inline]
    pub(super) fn fill(&mut self) -> io::Result<Fill> {
        if self.pos < self.safe {
            Ok(Fill::Lines)
        } else {
            self.more()
        }
    }

    /// Reads on until there is a whole line more, keeping what stands at `pos`.
    pub(super) fn more(&mut self) -> io::Result<Fill> {
        let had = self.safe - self.pos;
        loop {
            if self.done {
                return Ok(Fill::End);
            }
            if self.filled - self.pos > self.line_bytes_max {
                return Ok(Fill::TooLong);
            }
            self.read()?;
            if self.safe - self.pos > had {
                return Ok(Fill::Lines);
            }
        }
    }

    /// Goes behind the next newline, keeping nothing of what is before it.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let rest = self.buf.get(self.pos..self.filled).unwrap_or_default();
            if let Some(i) = memchr(b'\n', rest) {
                self.pos += i + 1;
                self.safe = self.safe.max(self.pos);
                return Ok(());
            }
            self.pos = self.filled;
            self.safe = self.filled;
            // The next line starts behind the range: it is another chunk's.
            if self.done || self.offset() >= self.end {
                self.done = true;
                return Ok(());
            }
            self.read()?;
        }
    }

    /// Moves what is left to the front of the buffer and reads more behind it.
    fn read(&mut self) -> io::Result<()> {
        self.buf.copy_within(self.pos..self.filled, 0);
        self.base += self.pos as u64;
        self.filled -= self.pos;
        self.safe -= self.pos;
        self.pos = 0;
        let from = self.base + self.filled as u64;
        let wanted = self
            .end
            .saturating_sub(from)
            .clamp(OVERRUN_BYTES as u64, READ_BYTES as u64) as usize;
        // One byte more for the newline that the end of the file may lack.
        if self.buf.len() < self.filled + wanted + 1 {
            self.buf.resize(self.filled + wanted + 1, 0);
        }
        let room = self
            .buf
            .get_mut(self.filled..self.filled + wanted)
            .unwrap_or_default();
        let n = match self.input.read(room) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            n => n?,
        };
        let fresh = self
            .buf
            .get(self.filled..self.filled + n)
            .unwrap_or_default();
        // The chunk ends with the first newline that is not before its last byte.
        let past = usize::try_from((self.end - 1).saturating_sub(from)).unwrap_or(usize::MAX);
        if n == 0 {
            self.done = true;
            if self.filled > self.safe {
                if let Some(behind) = self.buf.get_mut(self.filled) {
                    *behind = b'\n';
                }
                self.filled += 1;
                self.safe = self.filled;
            }
        } else if let Some(i) = fresh.get(past..).and_then(|tail| memchr(b'\n', tail)) {
            self.done = true;
            self.filled += past + i + 1;
            self.safe = self.filled;
        } else {
            if let Some(i) = memrchr(b'\n', fresh) {
                self.safe = self.filled + i + 1;
            }
            self.filled += n;
        }
        Ok(())
    }

    /// Passes over a byte order mark.
    fn skip_mark(&mut self) -> io::Result<()> {
        while self.filled < BYTE_ORDER_MARK.len() && !self.done {
            self.read()?;
        }
        if self.buf().starts_with(BYTE_ORDER_MARK) {
            self.pos = BYTE_ORDER_MARK.len();
            self.safe = self.safe.max(self.pos);
        }
        Ok(())
    }
}

/// How many newlines stand before `offset` in a file (in its content, if compressed).
pub(super) fn count_lines(path: &Path, gzip: bool, offset: u64) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut input: Box<dyn Read> = if gzip {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    let mut input = input.by_ref().take(offset);
    let mut buf = vec![0; READ_BYTES];
    let mut count = 0;
    loop {
        let n = match input.read(&mut buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            n => n?,
        };
        if n == 0 {
            return Ok(count);
        }
        count += memchr::memchr_iter(b'\n', buf.get(..n).unwrap_or_default()).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        std::fs::write(&path, format!("a\n{}\nb\n", "x".repeat(8 << 20))).unwrap();
        let range = Range {
            start: 0,
            end: u64::MAX,
            gzip: false,
        };
        let mut lines = Lines::open(&path, range, 1_000).unwrap();
        assert_eq!(lines.fill().unwrap(), Fill::Lines);
        lines.pos = lines.safe;
        assert_eq!(lines.fill().unwrap(), Fill::TooLong);
        lines.skip_line().unwrap();
        assert_eq!(
            lines.buf().get(lines.pos..lines.safe),
            Some(b"b\n".as_slice())
        );
        assert_eq!(lines.offset(), 2 + (8 << 20) + 1);
        assert!(
            lines.buf.capacity() < 2 * READ_BYTES,
            "{}",
            lines.buf.capacity()
        );
        lines.pos = lines.safe;
        assert_eq!(lines.fill().unwrap(), Fill::End);
        assert_eq!(count_lines(&path, false, lines.offset()).unwrap(), 3);
    }
}
