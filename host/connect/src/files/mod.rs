//! Files as a source and as a sink: text lines, JSON Lines, CSV, Parquet.
//! Needs: the local file system. Refuses: to show a half-written file under its final name.
//!
//! Options of the source:
//!
//! | option | value |
//! |---|---|
//! | `path` | a file, a folder (its regular files; names with `.` or `_` in front are left out), or a glob with `*` and `?`; or several of these, a line each |
//! | `format` | `text`, `json`, `csv` or `parquet` (see [`parquet`]) |
//! | `on_error` | `fail` (default): a bad line is an error with file, line and column; `skip`: it is counted |
//! | `header` | of CSV: `true` (default): fields by name; `false`: by their place in the record |
//! | `delimiter` | of CSV: one ASCII character, `,` by default; `\t` for a tab |
//! | `multiline` | of CSV: `true`: fields in quotes may hold line ends, and each file is read by one task |
//! | `merge_by` | an integer field: one task reads all files as one stream, ascending by it (see [`merge`]) |
//! | `file_field` | with `merge_by`: an integer field that gets the number of the row's file, from 0 |
//! | `splits` | `none` (default): all files are one stream; `files`: each has a watermark of its own (see [`turns`]) |
//!
//! Files are read in the order of their paths, in chunks of 8 MiB; compressed ones (gzip) whole.
//!
//! Options of the sink: see [`sink`].

mod columns;
mod commit;
mod csv;
mod deal;
mod fault;
mod json;
mod lines;
mod listing;
mod merge;
mod names;
mod owner;
mod parquet;
mod part;
mod partition;
mod positions;
mod reader;
mod rows;
mod scan;
mod sink;
mod text;
mod turns;
mod values;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pelton_engine::connector::Source;
use pelton_model::schema::Schema;
use pelton_model::{Error, ErrorCode, Result};

use self::columns::Record;
use self::deal::{Dealer, Unit};
use self::lines::{Lines, Range};
use self::listing::InputFile;
use self::merge::MergeBy;
use self::reader::{FilesSource, Format, Shared};
use crate::options::Options;
use crate::{OptionMap, SourceRequest};

pub(crate) use self::sink::{check_sink, delivery, open_sink};

/// Bytes of a chunk.
const CHUNK_BYTES: u64 = 8 << 20;
/// The longest line that any limit allows: a batch of one line must fit in Arrow's 32-bit offsets.
const LINE_BYTES_MAX: u64 = 1 << 30;
const SOURCE_OPTIONS: [&str; 9] = [
    "path",
    "format",
    "on_error",
    "header",
    "delimiter",
    "multiline",
    "merge_by",
    "file_field",
    "splits",
];

/// Whether the options make a source of `declared` records.
pub(crate) fn check_source(options: &OptionMap, declared: &Schema) -> Result<()> {
    Plan::new(options, declared).map(|_| ())
}

/// Lists the files and opens each once. Errors: as [`check_source`], `InputMissing`, `BadRecord` for a header that lacks
/// a field.
pub(crate) fn open_source(request: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
    open(request, CHUNK_BYTES)
}

fn open(request: &SourceRequest<'_>, chunk_bytes: u64) -> Result<Arc<dyn Source>> {
    let plan = Plan::new(request.options, request.declared)?;
    let files = listing::files(plan.path)?;
    if plan.each_file {
        let each = files
            .into_iter()
            .map(|f| Ok((f.clone(), source(request, &plan, vec![f], chunk_bytes)?)))
            .collect::<Result<_>>()?;
        return Ok(Arc::new(turns::Turns(each)));
    }
    let Some(merge) = &plan.merge else {
        return source(request, &plan, files, chunk_bytes);
    };
    let (declared, needed) = (merge.read(request.declared), merge.read(request.needed));
    let one = SourceRequest {
        declared: &declared,
        needed: &needed,
        ..*request
    };
    let sources = files
        .into_iter()
        .map(|f| Ok((f.clone(), source(&one, &plan, vec![f], chunk_bytes)?)))
        .collect::<Result<_>>()?;
    merge.source(sources, request.needed)
}

fn source(
    request: &SourceRequest<'_>,
    plan: &Plan<'_>,
    files: Vec<InputFile>,
    chunk_bytes: u64,
) -> Result<Arc<dyn Source>> {
    let line_bytes_max = request.limits.record_bytes.min(LINE_BYTES_MAX) as usize;
    let format = match plan.kind {
        Kind::Parquet => return parquet::source(&files, request.needed),
        Kind::Text => Format::Text(text::Layout::new(request.declared, request.needed)?),
        Kind::Json => Format::Json,
        Kind::Csv => Format::Csv(
            plan.dialect,
            csv_layouts(plan, request, &files, line_bytes_max)?,
        ),
    };
    let whole = plan.kind == Kind::Csv && plan.dialect.multiline;
    let unit = |file: &InputFile| Unit {
        file: file.clone(),
        limit: match file.bytes {
            0 => 0,
            _ if file.gzip || whole => u64::MAX,
            bytes => bytes,
        },
        step: match file.gzip || whole {
            true => u64::MAX,
            false => chunk_bytes,
        },
    };
    Ok(Arc::new(Shared(Arc::new(FilesSource {
        dealer: Dealer::new(files.iter().map(unit).collect()),
        files,
        format,
        needed: request.needed.clone(),
        skip_bad: plan.skip_bad,
        line_bytes_max,
    }))))
}

/// Where each file's fields go: by its header, or by the declared record.
fn csv_layouts(
    plan: &Plan<'_>,
    request: &SourceRequest<'_>,
    files: &[InputFile],
    line_bytes_max: usize,
) -> Result<Vec<csv::Layout>> {
    if !plan.dialect.header {
        let columns = request
            .declared
            .fields
            .iter()
            .map(|f| request.needed.index_of(&f.name))
            .collect();
        return Ok(vec![csv::Layout { columns }]);
    }
    let record = Record::new(&request.needed.fields);
    let layout = |file: &InputFile| {
        let range = Range {
            start: 0,
            end: u64::MAX,
            gzip: file.gzip,
        };
        let mut lines = Lines::open(&file.path, range, line_bytes_max)
            .map_err(|e| listing::unreadable(&file.path, &e))?;
        match reader::read_header(plan.dialect, &mut lines, &file.path)? {
            None => Ok(csv::Layout::default()),
            Some(names) => csv::Layout::of_header(&names, &record).map_err(|why| {
                Error::new(ErrorCode::BadRecord, why)
                    .at("line", 1)
                    .at("file", file.path.display())
            }),
        }
    };
    files.iter().map(layout).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Json,
    Csv,
    Parquet,
}

/// The words of the option `format`.
const KINDS: [(&str, Kind); 4] = [
    ("text", Kind::Text),
    ("json", Kind::Json),
    ("csv", Kind::Csv),
    ("parquet", Kind::Parquet),
];

/// The options of a source, read.
struct Plan<'a> {
    path: &'a str,
    kind: Kind,
    skip_bad: bool,
    dialect: csv::Dialect,
    merge: Option<MergeBy>,
    /// Each file is a split.
    each_file: bool,
}

impl<'a> Plan<'a> {
    fn new(map: &'a OptionMap, declared: &Schema) -> Result<Self> {
        let options = Options::new("files", map, &SOURCE_OPTIONS)?;
        let path = options.require("path", "a file, a folder or a glob")?;
        let kind = kind(&options)?;
        let of_csv = ["header", "delimiter", "multiline"];
        refuse_of(&options, kind, &[Kind::Csv], &of_csv)?;
        let of_lines = [Kind::Text, Kind::Json, Kind::Csv];
        refuse_of(&options, kind, &of_lines, &["on_error"])?;
        if kind == Kind::Text {
            text::Layout::new(declared, declared)?;
        }
        let merge = MergeBy::new(&options, declared)?;
        let each_file = options.choice("splits", &[("none", false), ("files", true)], false)?;
        if each_file && merge.is_some() {
            return Err(options.bad("splits", "none where files are merged"));
        }
        Ok(Self {
            path,
            kind,
            skip_bad: options.choice("on_error", &[("fail", false), ("skip", true)], false)?,
            dialect: csv::Dialect {
                header: options.flag("header", true)?,
                delimiter: delimiter(&options)?,
                multiline: options.flag("multiline", false)?,
            },
            merge,
            each_file,
        })
    }
}

fn kind(options: &Options<'_>) -> Result<Kind> {
    options.require("format", "one of text, json, csv, parquet")?;
    options.choice("format", &KINDS, Kind::Text)
}

/// Refuses options that are for the formats `of` alone, if the format is another.
fn refuse_of(options: &Options<'_>, kind: Kind, of: &[Kind], names: &[&str]) -> Result<()> {
    let given = names.iter().find(|n| options.get(n).is_some());
    let Some(name) = given.filter(|_| !of.contains(&kind)) else {
        return Ok(());
    };
    let words: Vec<&str> = KINDS
        .iter()
        .filter(|(_, k)| of.contains(k))
        .map(|(word, _)| *word)
        .collect();
    let message = format!(
        "option '{name}' of connector 'files' is only for the format {}",
        words.join(", ")
    );
    Err(Error::new(ErrorCode::UnknownConnector, message))
}

fn delimiter(options: &Options<'_>) -> Result<u8> {
    match options.get("delimiter").map(str::as_bytes) {
        None => Ok(b','),
        Some(b"\\t") => Ok(b'\t'),
        Some([b]) if b.is_ascii() && !matches!(b, b'"' | b'\n' | b'\r') => Ok(*b),
        Some(_) => Err(options.bad(
            "delimiter",
            "one ASCII character other than a quote or a line end",
        )),
    }
}
