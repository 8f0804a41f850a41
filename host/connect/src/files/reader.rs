//! Lines of files as a source: readers that take chunks and decode them.
//!
//! Needs: [`deal`](super::deal), [`lines`](super::lines), a decoder a format. A reader holds one chunk at a time; where it
//! stands in it is the byte behind the last row that it has handed out. A compressed file is read again up to there.

use std::path::Path;
use std::sync::Arc;

use pelton_engine::connector::{Poll, Position, Source, SourceProgress, SourceReader};
use pelton_model::batch::Batch;
use pelton_model::schema::Schema;
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, Result};

use super::columns::Record;
use super::deal::{Dealer, Piece, Seat};
use super::fault::{Fault, Step};
use super::json::Line;
use super::lines::{Fill, Lines, Range, count_lines};
use super::listing::{InputFile, unreadable};
use super::{csv, json, text};

/// A batch ends after so many bytes of input, however few its rows are.
const BATCH_BYTES: u64 = 4 << 20;
/// So many bytes of a compressed file are passed over at once.
const PASS_BYTES: u64 = 16 << 20;
/// Bytes of a bad line that an error shows.
const EXCERPT_BYTES: usize = 72;

/// How lines become rows.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Text(text::Layout),
    Json,
    /// By file where there is a header, else one layout for all.
    Csv(csv::Dialect, Vec<csv::Layout>),
}

/// The files of one source, listed and cut.
pub(super) struct FilesSource {
    pub(super) files: Vec<InputFile>,
    pub(super) dealer: Dealer,
    pub(super) format: Format,
    pub(super) needed: Schema,
    pub(super) skip_bad: bool,
    pub(super) line_bytes_max: usize,
}

/// A handle that readers share.
pub(super) struct Shared(pub(super) Arc<FilesSource>);

impl Source for Shared {
    fn reader(&self, index: u32, parallelism: u32) -> Result<Box<dyn SourceReader>> {
        self.reader_at(index, parallelism, &[])
    }

    fn reader_at(
        &self,
        index: u32,
        parallelism: u32,
        positions: &[Position],
    ) -> Result<Box<dyn SourceReader>> {
        let seat = self.0.dealer.seat(index, parallelism, positions)?;
        let before = seat.before().iter();
        let read = |(start, end): (u64, u64)| end - start;
        let total = self.0.files.iter().zip(before).try_fold(0, |sum, (f, b)| {
            let left = f.bytes.saturating_sub(b.iter().map(read).sum());
            (!f.gzip).then_some(sum + left)
        });
        Ok(Box::new(Reader {
            root: Record::new(&self.0.needed.fields),
            source: self.0.clone(),
            open: None,
            progress: SourceProgress {
                total,
                ..SourceProgress::default()
            },
            seat,
        }))
    }

    fn replays(&self) -> bool {
        true
    }
}

struct Reader {
    source: Arc<FilesSource>,
    root: Record,
    open: Option<Open>,
    progress: SourceProgress,
    seat: Seat,
}

/// The chunk in work.
struct Open {
    file: usize,
    gzip: bool,
    /// The path of its file.
    name: String,
    lines: Lines,
    /// Line ends passed since the first line of the chunk.
    line_ends: u64,
}

/// What became of a line.
enum Outcome {
    /// Rows, blank or bad lines: go on.
    Line(Line),
    /// The line goes on behind the buffer.
    Unfinished,
}

impl SourceReader for Reader {
    fn poll(&mut self, now: Monotonic, rows_max: usize) -> Result<Poll> {
        let from = self.progress.bytes;
        loop {
            let Some(mut open) = self
                .open
                .take()
                .map_or_else(|| self.next_chunk(), |o| Ok(Some(o)))?
            else {
                return Ok(Poll::End);
            };
            let refused = |e| unreadable(Path::new(&open.name), &e);
            if !open.lines.catch_up(PASS_BYTES).map_err(refused)? {
                self.open = Some(open);
                return Ok(Poll::Later(now));
            }
            let before = open.lines.offset();
            let (rows, ended) = self.decode(&mut open, rows_max.max(1))?;
            let offset = open.lines.offset();
            self.progress.bytes += offset - before;
            self.open = (!ended).then_some(open);
            match ended {
                true => self.seat.done(),
                false => self.seat.reached(offset),
            }
            if rows > 0 {
                self.progress.rows += rows as u64;
                return Ok(Poll::Rows(Batch::new(self.root.finish(rows)?, rows)?));
            }
            // Much was passed over: the task may have other things to do before the rest.
            if self.progress.bytes - from >= BATCH_BYTES {
                return Ok(Poll::Later(now));
            }
        }
    }

    fn progress(&self) -> SourceProgress {
        self.progress
    }

    fn positions(&self) -> Vec<Position> {
        self.seat.positions()
    }
}

impl Reader {
    /// Opens the next chunk that it is dealt.
    fn next_chunk(&mut self) -> Result<Option<Open>> {
        let Some(piece) = self.seat.next() else {
            return Ok(None);
        };
        let Some(file) = self.source.files.get(piece.file) else {
            return Err(Error::bug("a chunk of no file"));
        };
        let refused = |e| unreadable(&file.path, &e);
        let range = Range {
            start: piece.start,
            end: piece.end,
            gzip: file.gzip,
        };
        let line_bytes_max = self.source.line_bytes_max;
        let lines = match piece.at {
            None => Lines::open(&file.path, range, line_bytes_max),
            Some(at) => Lines::open_at(&file.path, range, at, line_bytes_max),
        };
        let mut open = Open {
            file: piece.file,
            gzip: file.gzip,
            name: file.path.display().to_string(),
            lines: lines.map_err(refused)?,
            line_ends: 0,
        };
        match piece {
            Piece {
                start: 0, at: None, ..
            } => pass_header(&self.source.format, &mut open, &file.path)?,
            Piece { start, at, .. } => {
                self.progress.bytes += at.map_or(0, |at| at.saturating_sub(start));
            }
        }
        Ok(Some(open))
    }

    /// Decodes up to `rows_max` rows; says how many, and whether the chunk ended.
    fn decode(&mut self, open: &mut Open, rows_max: usize) -> Result<(usize, bool)> {
        let source = self.source.clone();
        let refused = |name: &str, e| unreadable(Path::new(name), &e);
        let begin = open.lines.offset();
        let mut rows = 0;
        while rows < rows_max && open.lines.offset() - begin < BATCH_BYTES {
            match open.lines.fill().map_err(|e| refused(&open.name, e))? {
                Fill::Lines => {}
                Fill::End => return Ok((rows, true)),
                Fill::TooLong => {
                    self.too_long(open)?;
                    continue;
                }
            }
            let p = open.lines.pos;
            let step = decode_line(&source.format, &mut self.root, open, rows);
            let (next, row) = match step {
                Ok(Outcome::Line(Line::Row(next))) => (next, true),
                Ok(Outcome::Line(Line::Blank(next))) => (next, false),
                Ok(Outcome::Unfinished) => {
                    self.root.truncate(rows);
                    match open.lines.more().map_err(|e| refused(&open.name, e))? {
                        Fill::Lines => {}
                        Fill::TooLong => self.too_long(open)?,
                        Fill::End => {
                            let fault =
                                Fault::syntax::<()>(open.lines.pos, "the file ends within quotes")
                                    .err();
                            self.bad_line(open, rows, fault)?;
                        }
                    }
                    continue;
                }
                Err(fault) => {
                    self.bad_line(open, rows, Some(fault))?;
                    continue;
                }
            };
            if next - p > source.line_bytes_max + 1 {
                self.root.truncate(rows);
                self.too_long(open)?;
                continue;
            }
            open.line_ends += match &source.format {
                Format::Csv(dialect, _) if dialect.multiline => {
                    newlines(open.lines.buf().get(p..next).unwrap_or_default())
                }
                _ => 1,
            };
            open.lines.pos = next;
            rows += usize::from(row);
        }
        Ok((rows, false))
    }

    /// A line that can't be decoded: passed over and counted, or the error that it is.
    #[cold]
    fn bad_line(&mut self, open: &mut Open, row: usize, fault: Option<Box<Fault>>) -> Result<()> {
        if let Some(fault) = fault.filter(|_| !self.source.skip_bad) {
            return Err(self.bad_record(open, &fault));
        }
        self.root.truncate(row);
        self.pass_over(open)
    }

    #[cold]
    fn too_long(&mut self, open: &mut Open) -> Result<()> {
        if self.source.skip_bad {
            return self.pass_over(open);
        }
        let message = format!("a line is longer than {} bytes", self.source.line_bytes_max);
        let error = Error::new(ErrorCode::RecordTooLarge, message)
            .help("raise the limit with '--limit record-bytes=N', or pass over such lines with the option on_error = skip");
        Err(self.locate(open, error))
    }

    fn pass_over(&mut self, open: &mut Open) -> Result<()> {
        self.progress.skipped += 1;
        open.line_ends += 1;
        open.lines
            .skip_line()
            .map_err(|e| unreadable(Path::new(&open.name), &e))
    }

    fn bad_record(&self, open: &Open, fault: &Fault) -> Error {
        let (buf, begin) = (open.lines.buf(), open.lines.pos);
        // A record over several lines is blamed as a whole: line and column are those of its beginning.
        let column = fault.at.saturating_sub(begin);
        let prefix = match (&self.source.format, fault.is_syntax()) {
            (Format::Json, true) => "not valid JSON: ",
            (Format::Csv(..), true) => "not valid CSV: ",
            _ => "",
        };
        let error = Error::new(ErrorCode::BadRecord, format!("{prefix}{fault}"))
            .at("column", column + 1)
            .detail(excerpt(buf.get(begin..).unwrap_or_default(), column));
        self.locate(open, error)
    }

    /// Adds line and file. To count lines, the file is read again from its start to the chunk.
    fn locate(&self, open: &Open, error: Error) -> Error {
        let path = Path::new(&open.name);
        match count_lines(path, open.gzip, open.lines.first) {
            Ok(before) => error.at("line", before + open.line_ends + 1),
            // The file is not what it was: the byte says it.
            Err(_) => error.at("byte", open.lines.offset()),
        }
        .at("file", &open.name)
    }
}

/// Goes behind the header of a file that has one.
fn pass_header(format: &Format, open: &mut Open, path: &Path) -> Result<()> {
    if let Format::Csv(dialect, _) = format
        && dialect.header
    {
        let begin = open.lines.pos;
        if read_header(*dialect, &mut open.lines, path)?.is_some() {
            let end = open.lines.pos;
            let header = open.lines.buf().get(begin.min(end)..end);
            open.line_ends = newlines(header.unwrap_or_default()).max(1);
        }
    }
    Ok(())
}

/// Decodes the line at the reader's position as row `row`.
#[inline]
fn decode_line(format: &Format, root: &mut Record, open: &Open, row: usize) -> Step<Outcome> {
    let (buf, p) = (open.lines.buf(), open.lines.pos);
    match format {
        Format::Json => json::line(root, buf, p, row).map(Outcome::Line),
        Format::Text(layout) => {
            let place = text::Place {
                file: &open.name,
                offset: open.lines.offset(),
            };
            text::line(layout, root, buf, p, row, place).map(Outcome::Line)
        }
        Format::Csv(dialect, layouts) => {
            let Some(layout) = layouts.get(open.file).or(layouts.first()) else {
                return Fault::syntax(p, "there is no header");
            };
            let whole = buf.get(..open.lines.safe).unwrap_or_default();
            let line = csv::line(*dialect, layout, root, whole, p, row)?;
            Ok(line.map_or(Outcome::Unfinished, Outcome::Line))
        }
    }
}

/// Reads the header line of a CSV file and goes behind it; `None` if the file is empty.
pub(super) fn read_header(
    dialect: csv::Dialect,
    lines: &mut Lines,
    path: &Path,
) -> Result<Option<Vec<String>>> {
    let bad = |what: String| {
        Error::new(ErrorCode::BadRecord, what)
            .at("line", 1)
            .at("file", path.display())
    };
    let mut fill = lines.fill();
    loop {
        match fill.map_err(|e| unreadable(path, &e))? {
            Fill::Lines => {}
            Fill::TooLong => return Err(bad("the header line is too long".to_string())),
            Fill::End if lines.pos == lines.safe => return Ok(None),
            Fill::End => return Err(bad("not valid CSV: the file ends within quotes".to_string())),
        }
        let whole = lines.buf().get(..lines.safe).unwrap_or_default();
        match csv::header(dialect, whole, lines.pos) {
            Ok(Some((names, next))) => {
                lines.pos = next;
                return Ok(Some(names));
            }
            Ok(None) => fill = lines.more(),
            Err(fault) => return Err(bad(format!("not valid CSV: {fault}"))),
        }
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// The line around `column` (from 0), and a mark below it.
fn excerpt(rest: &[u8], column: usize) -> String {
    let end = memchr::memchr(b'\n', rest)
        .unwrap_or(rest.len())
        .max(column.min(rest.len()));
    let line = rest.get(..end).unwrap_or_default();
    let from = column
        .saturating_sub(EXCERPT_BYTES / 2)
        .min(line.len().saturating_sub(EXCERPT_BYTES));
    let to = line.len().min(from + EXCERPT_BYTES);
    let shown = |range: std::ops::Range<usize>| {
        let text = String::from_utf8_lossy(line.get(range).unwrap_or_default());
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>()
    };
    let (left, right) = (
        if from > 0 { ".." } else { "" },
        if to < line.len() { ".." } else { "" },
    );
    let mark = left.len() + shown(from..column.clamp(from, to)).chars().count();
    format!("{left}{}{right}\n{:mark$}^", shown(from..to), "")
}
