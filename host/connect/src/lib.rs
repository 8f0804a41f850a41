//! Sources and sinks: a folder a connector, each behind a feature of its name.
//! Needs: `model`, the contract in `engine::connector`. Refuses: knowledge of jobs, tasks and Wasm; other adapters.
//!
//! A connector is looked up by name in one table. Its options are strings, and an unknown one is an error. Sources
//! make exactly the columns that are needed, and never event times: those are assigned by an operator.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use pelton_engine::connector::{Delivery, Sink, Source};
use pelton_model::limits::Limits;
use pelton_model::schema::Schema;
use pelton_model::{Error, ErrorCode, Result};

#[cfg(feature = "blackhole")]
pub mod blackhole;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "generator")]
pub mod generator;
#[cfg(feature = "journal")]
pub mod journal;
#[cfg_attr(
    not(all(feature = "files", feature = "generator")),
    allow(dead_code, reason = "each connector uses its part")
)]
mod options;
#[cfg(feature = "print")]
pub mod print;
#[cfg(any(feature = "files", feature = "journal", feature = "print"))]
#[cfg_attr(
    not(all(feature = "files", feature = "journal", feature = "print")),
    allow(dead_code, reason = "each connector uses its part")
)]
mod text;
pub mod write_ahead;

/// The options of a connector, as the job graph has them.
pub type OptionMap = BTreeMap<String, String>;

/// Where the lines of `print` go: the standard output, or a buffer in tests.
pub type Output = Arc<Mutex<dyn Write + Send>>;

/// What a source is opened with.
#[derive(Clone, Copy, Debug)]
pub struct SourceRequest<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// Its options.
    pub options: &'a OptionMap,
    /// The whole record type that the job declares.
    pub declared: &'a Schema,
    /// The columns to make, exactly and in this order: `declared`, pruned to what somebody reads.
    pub needed: &'a Schema,
    /// What the job may use.
    pub limits: &'a Limits,
    /// How many tasks read.
    pub parallelism: u32,
}

/// What a sink is opened with.
#[derive(Clone)]
pub struct SinkRequest<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// Its options.
    pub options: &'a OptionMap,
    /// The rows that it will get.
    pub schema: &'a Schema,
    /// What the job may use.
    pub limits: &'a Limits,
    /// How many tasks write.
    pub parallelism: u32,
    /// Whether the job runs in batch mode: rows are final results.
    pub batch: bool,
    /// The start of a job with checkpoints: what is written becomes visible with them, where the sink can do that. None: a
    /// job without.
    pub start: Option<StartId>,
    /// Whether the job goes on from a checkpoint: what is there is its own.
    pub resumed: bool,
    /// Standard output, for those that write there.
    pub output: Output,
}

/// Tells the starts of jobs with checkpoints. One with a greater term in the same log has taken over from those before; of
/// two logs nobody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartId {
    /// The log that the start is in: a number that no other has, all but surely.
    pub log: u32,
    /// The number of the start in the log.
    pub term: u64,
}

/// One row of the table of connectors. A connector that cannot be read, or not be written, has `None` there.
struct Connector {
    name: &'static str,
    source: Option<SourceSide>,
    sink: Option<SinkSide>,
}

struct SourceSide {
    check: fn(&OptionMap, &Schema) -> Result<()>,
    /// Whether rows can be read again from a position.
    replays: bool,
    open: fn(&SourceRequest<'_>) -> Result<Arc<dyn Source>>,
}

struct SinkSide {
    check: fn(&OptionMap, &Schema) -> Result<()>,
    delivery: fn(&OptionMap) -> Result<Delivery>,
    open: fn(&SinkRequest<'_>) -> Result<Arc<dyn Sink>>,
}

const CONNECTORS: &[Connector] = &[
    #[cfg(feature = "blackhole")]
    Connector {
        name: "blackhole",
        source: None,
        sink: Some(SinkSide {
            check: blackhole::check_sink,
            delivery: blackhole::delivery,
            open: blackhole::open_sink,
        }),
    },
    #[cfg(feature = "files")]
    Connector {
        name: "files",
        source: Some(SourceSide {
            check: files::check_source,
            replays: true,
            open: files::open_source,
        }),
        sink: Some(SinkSide {
            check: files::check_sink,
            delivery: files::delivery,
            open: files::open_sink,
        }),
    },
    #[cfg(feature = "generator")]
    Connector {
        name: "generator",
        source: Some(SourceSide {
            check: generator::check_source,
            replays: true,
            open: generator::open_source,
        }),
        sink: None,
    },
    #[cfg(feature = "journal")]
    Connector {
        name: "journal",
        source: None,
        sink: Some(SinkSide {
            check: journal::check_sink,
            delivery: journal::delivery,
            open: journal::open_sink,
        }),
    },
    #[cfg(feature = "print")]
    Connector {
        name: "print",
        source: None,
        sink: Some(SinkSide {
            check: print::check_sink,
            delivery: print::delivery,
            open: print::open_sink,
        }),
    },
];

/// Opens a source. Errors: those of [`check_source`], and what the outside refuses.
pub fn open_source(request: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
    (find("source", request.connector, |c| c.source.as_ref())?.open)(request)
}

/// Opens a sink. Errors: those of [`check_sink`], and what the outside refuses.
pub fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    (find("sink", request.connector, |c| c.sink.as_ref())?.open)(request)
}

/// Whether a source could be opened, without touching the outside. Errors: an unknown connector or option, a value
/// that an option does not take, a record type that the connector cannot make.
pub fn check_source(connector: &str, options: &OptionMap, declared: &Schema) -> Result<()> {
    (find("source", connector, |c| c.source.as_ref())?.check)(options, declared)
}

/// Whether a sink could be opened, without touching the outside. Errors: an unknown connector or option, a value
/// that an option does not take, rows that the connector cannot write.
pub fn check_sink(connector: &str, options: &OptionMap, schema: &Schema) -> Result<()> {
    (find("sink", connector, |c| c.sink.as_ref())?.check)(options, schema)
}

/// What a connector promises after a crash, in the roles that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guarantees {
    /// As a source: whether rows can be read again from a position.
    pub replays: Option<bool>,
    /// As a sink: what happens to rows that come again.
    pub delivery: Option<Delivery>,
}

/// What a connector with these options would promise, without touching the outside. Errors: an unknown connector; an
/// option on which it depends, and that is not valid.
pub fn guarantees(connector: &str, options: &OptionMap) -> Result<Guarantees> {
    let Some(found) = CONNECTORS.iter().find(|c| c.name == connector) else {
        let names: Vec<&str> = CONNECTORS.iter().map(|c| c.name).collect();
        let nearest = options::did_you_mean(connector, &names);
        let message = format!("there is no connector '{connector}'{nearest}");
        return Err(Error::new(ErrorCode::UnknownConnector, message)
            .help(format!("there are: {}", names.join(", "))));
    };
    let delivery = found.sink.as_ref().map(|sink| (sink.delivery)(options));
    Ok(Guarantees {
        replays: found.source.as_ref().map(|source| source.replays),
        delivery: delivery.transpose()?,
    })
}

fn find<T>(
    role: &str,
    name: &str,
    side: impl Fn(&'static Connector) -> Option<&'static T>,
) -> Result<&'static T> {
    if let Some(found) = CONNECTORS.iter().filter(|c| c.name == name).find_map(&side) {
        return Ok(found);
    }
    let names: Vec<&str> = CONNECTORS
        .iter()
        .filter(|c| side(c).is_some())
        .map(|c| c.name)
        .collect();
    let message = if CONNECTORS.iter().any(|c| c.name == name) {
        format!("connector '{name}' cannot be a {role}")
    } else {
        format!(
            "there is no connector '{name}'{}",
            options::did_you_mean(name, &names)
        )
    };
    Err(Error::new(ErrorCode::UnknownConnector, message)
        .help(format!("as a {role} there are: {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_connector_names_the_nearest_and_the_list() {
        let e = check_source("genrator", &OptionMap::new(), &Schema::default()).unwrap_err();
        assert_eq!(e.code(), ErrorCode::UnknownConnector);
        assert_eq!(
            e.to_string(),
            "there is no connector 'genrator', did you mean 'generator'?"
        );
        assert_eq!(
            e.help_text(),
            Some("as a source there are: files, generator")
        );
    }

    #[test]
    fn a_connector_in_the_wrong_role_is_said_so() {
        let e = check_sink("generator", &OptionMap::new(), &Schema::default()).unwrap_err();
        assert_eq!(e.to_string(), "connector 'generator' cannot be a sink");
        assert_eq!(
            e.help_text(),
            Some("as a sink there are: blackhole, files, journal, print")
        );
    }

    #[test]
    fn guarantees_are_known_without_opening_anything() {
        let options = |mode: &str| OptionMap::from([("mode".to_owned(), mode.to_owned())]);
        let of = |connector: &str, options: &OptionMap| {
            let found = guarantees(connector, options).unwrap();
            (found.replays, found.delivery)
        };
        let none = OptionMap::new();
        assert_eq!(of("generator", &none), (Some(true), None));
        let files = (Some(true), Some(Delivery::Committed));
        assert_eq!(of("files", &none), files);
        assert_eq!(of("print", &none), (None, Some(Delivery::AtLeastOnce)));
        assert_eq!(of("blackhole", &none), (None, Some(Delivery::Committed)));
        let upsert = of("journal", &options("upsert"));
        assert_eq!(upsert, (None, Some(Delivery::Idempotent)));
        let e = guarantees("file", &none).unwrap_err();
        assert!(e.to_string().contains("did you mean 'files'?"), "{e}");
    }
}
