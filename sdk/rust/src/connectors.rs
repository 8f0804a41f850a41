//! Sources and sinks: names of the host's connectors and their options as text. The host does all the rest.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::bindings::exports::pelton::job::graph::Connector as WitConnector;
use crate::bindings::pelton::job::types::Param;
use crate::value::Schema;

/// A source or a sink of the host: a kind and options.
#[derive(Clone, Debug)]
pub struct Connector {
    kind: String,
    options: BTreeMap<String, String>,
}

impl Connector {
    /// A connector by the name that the host knows it by.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            options: BTreeMap::new(),
        }
    }

    /// Sets an option.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.options.insert(name.into(), value.to_string());
        self
    }

    /// Of files: one task reads them all as one stream, in ascending order of an integer field; the order of a file's own
    /// lines is kept. A line without the field comes as early as its file allows, files in the order in which they are
    /// named; so without it in any line they come one after the other.
    #[must_use]
    pub fn merge_by(self, field: &str) -> Self {
        self.option("merge_by", field)
    }

    /// Of files: each is a split with a watermark of its own. A task reads its files in turn, and the least watermark of
    /// them counts, so that files which cover the same time need no merging.
    #[must_use]
    pub fn split_by_file(self) -> Self {
        self.option("splits", "files")
    }

    /// Of files that are merged: an integer field of the record gets the number of the file that the row comes from, from
    /// 0. A batch never has rows of two files, so that what is split by this field and comes together again keeps its order.
    #[must_use]
    pub fn file_field(self, field: &str) -> Self {
        self.option("file_field", field)
    }

    /// Of written files: a folder for each value of these columns, `dt=2024-03-09/hm=12%3A30`, as Hive has them. The rows
    /// have the other columns alone; with `.option("partition_columns", "keep")` all.
    #[must_use]
    pub fn partition_by(self, columns: &[&str]) -> Self {
        self.option("partition_by", columns.join(","))
    }

    /// Of written files: each row begins with its kind, `+I`, `-U`, `+U` or `-D`, as a column `op`. In batch mode there are
    /// but final results, and no such column. Files without it refuse rows that change earlier ones.
    #[must_use]
    pub fn changelog(self) -> Self {
        self.option("changelog", true)
    }

    pub(crate) fn into_wit(self, schema: Schema) -> WitConnector {
        let options = self
            .options
            .into_iter()
            .map(|(name, value)| Param { name, value })
            .collect();
        WitConnector {
            name: self.kind,
            options,
            schema,
        }
    }
}

/// Files: read whole, written rolling.
pub mod files {
    use super::{Connector, Display};

    fn of(path: impl Display, format: &str) -> Connector {
        Connector::new("files")
            .option("path", path)
            .option("format", format)
    }

    /// Several paths in this order, for any of the readers: `files::json(files::all([left, right]))`.
    pub fn all<P: Display>(paths: impl IntoIterator<Item = P>) -> String {
        let paths: Vec<String> = paths.into_iter().map(|p| p.to_string()).collect();
        paths.join("\n")
    }

    /// Writes JSON Lines into one file, which is there, in place of an older one, when the job has ended. The sink has
    /// one task: `.sink("out", files::single("out.jsonl")).parallelism(1)`. Other formats: `.option("format", "csv")`.
    pub fn single(path: impl Display) -> Connector {
        json(path).option("single", true).option("overwrite", true)
    }

    /// The lines of a file, of all files of a folder, or of those that a glob names. The record has one text field,
    /// that gets the line.
    pub fn lines(path: impl Display) -> Connector {
        of(path, "text")
    }

    /// JSON Lines, read into the record's fields by name.
    pub fn json(path: impl Display) -> Connector {
        of(path, "json")
    }

    /// CSV, read into the record's fields by the header's names, or in order: `.option("header", false)`,
    /// `.option("delimiter", ";")`.
    pub fn csv(path: impl Display) -> Connector {
        of(path, "csv")
    }

    /// Parquet, read into the record's fields by name; only the columns that somebody reads.
    pub fn parquet(path: impl Display) -> Connector {
        of(path, "parquet")
    }

    /// Writes Parquet into a folder.
    pub fn parquet_sink(folder: impl Display) -> Connector {
        parquet(folder)
    }

    /// Writes JSON Lines into a folder.
    pub fn json_sink(folder: impl Display) -> Connector {
        json(folder)
    }

    /// Writes CSV into a folder; with a header: `.option("header", true)`.
    pub fn csv_sink(folder: impl Display) -> Connector {
        csv(folder)
    }

    /// Writes the one text field of a record as lines into a folder.
    pub fn lines_sink(folder: impl Display) -> Connector {
        lines(folder)
    }
}

/// Events that the host makes up.
pub mod generator {
    use super::{Connector, Display};

    /// So many Nexmark events.
    pub fn nexmark(events: impl Display) -> Connector {
        Connector::new("generator").option("events", events)
    }

    /// One of the named sets of Nexmark events: `10k`, `200k`.
    pub fn set(name: impl Display) -> Connector {
        Connector::new("generator").option("set", name)
    }
}

/// Prints each row on the standard output.
#[must_use]
pub fn print() -> Connector {
    Connector::new("print")
}

/// Takes rows and forgets them.
#[must_use]
pub fn blackhole() -> Connector {
    Connector::new("blackhole")
}
