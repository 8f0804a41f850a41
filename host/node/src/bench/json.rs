//! JSON Lines through a whole job against `arrow-json` alone, over the same bytes and for the same columns.
//! Needs: arrow-json. It gets the bytes in memory; the job reads its file, checks strictly, and pays for its start.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::{LineDelimitedWriter, ReaderBuilder, WriterBuilder, writer::LineDelimited};
use arrow_schema::Schema as ArrowSchema;
use pelton_connect::{SourceRequest, open_source};
use pelton_engine::connector::Poll;
use pelton_model::graph::Body;
use pelton_model::limits::{BATCH_ROWS_MAX, Limits};
use pelton_model::time::Monotonic;
use pelton_model::{Error, ErrorCode, Result};

use super::jobs::run;
use super::measure::{cpu_ns, in_turns};
use super::{Bench, Figure};
use crate::settings::Settings;
use crate::summary::grouped;

/// A folder that goes when its value goes.
pub(super) fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|e| {
        Error::new(
            ErrorCode::Io,
            format!("a temporary folder cannot be made: {e}"),
        )
    })
}

fn params(query: &str, input: &str) -> Vec<(String, String)> {
    [("query", query), ("input", input), ("output", "blackhole")]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .to_vec()
}

/// Writes generated events with all their columns as JSON Lines, as the data sets have them.
pub(super) fn write_events(
    component: &Path,
    settings: &Settings,
    events: u64,
    to: &Path,
) -> Result<()> {
    let job = super::calls::job(
        component,
        &params("q0", &format!("generator:{events}")),
        settings,
    )?;
    let source = job.graph.operators.iter().find_map(|op| match &op.body {
        Body::Source(c) => Some(c),
        _ => None,
    });
    let source = source.ok_or_else(|| Error::bug("the job has no source"))?;
    let opened = open_source(&SourceRequest {
        connector: &source.name,
        options: &source.options,
        declared: &source.schema,
        needed: &source.schema,
        limits: &Limits::default(),
        parallelism: 1,
    })?;
    let unwritten = |e: &dyn std::fmt::Display| {
        Error::new(ErrorCode::Io, format!("events cannot be written: {e}")).at("file", to.display())
    };
    let file = fs::File::create(to).map_err(|e| unwritten(&e))?;
    let mut writer: LineDelimitedWriter<_> = WriterBuilder::new()
        .with_timestamp_format("%Y-%m-%d %H:%M:%S%.3f".into())
        .build::<_, LineDelimited>(std::io::BufWriter::new(file));
    let schema = Arc::new(ArrowSchema::new(source.schema.to_arrow()));
    let mut reader = opened.reader(0, 1)?;
    while let Poll::Rows(batch) = reader.poll(Monotonic(0), BATCH_ROWS_MAX)? {
        let rows = RecordBatch::try_new(schema.clone(), batch.columns().to_vec());
        let rows = rows.map_err(|e| Error::bug(e.to_string()))?;
        writer.write(&rows).map_err(|e| unwritten(&e))?;
    }
    writer.finish().map_err(|e| unwritten(&e))
}

/// The section.
pub(super) fn json(bench: &mut Bench<'_>) -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("events.jsonl");
    let component = bench.component("nexmark");
    let events = bench.scaled(1_000_000);
    write_events(&component, &bench.settings, events, &file)?;
    let bytes = fs::read(&file).map_err(|e| {
        Error::new(ErrorCode::Io, format!("events cannot be read: {e}")).at("file", file.display())
    })?;
    let params = params("q0", &file.display().to_string());
    let job = super::calls::job(&component, &params, &bench.settings)?;
    let source = job.graph.ids().find(|id| job.sources.contains_key(id));
    let needed = source.and_then(|id| job.needs.stream(id, 0));
    let needed = needed.ok_or_else(|| Error::bug("the job has no source"))?;
    let schema = Arc::new(ArrowSchema::new(needed.to_arrow()));
    let (ours, theirs) = in_turns(
        bench.rounds,
        || Ok(run(&component, &params)?.cpu_seconds * 1e9),
        || cpu_ns(|| decode(&bytes, &schema, events)),
    )?;
    let of_bytes = |ns: f64| ns / bytes.len() as f64;
    let name = format!("q0 from {} lines of JSON", grouped(events));
    bench.add(Figure::plain(
        format!("{name}: CPU"),
        of_bytes(ours),
        "ns a byte",
    ));
    let alone = "arrow-json alone over the same bytes: CPU";
    bench.add(Figure::plain(alone, of_bytes(theirs), "ns a byte"));
    let name = format!("{name}, CPU to that of arrow-json alone");
    bench.add(Figure::bounded(name, ours / theirs.max(1.0), "x", 1.25));
    Ok(())
}

fn decode(mut bytes: &[u8], schema: &Arc<ArrowSchema>, rows: u64) -> Result<()> {
    let refused = |e: &dyn std::fmt::Display| Error::bug(format!("arrow-json refuses: {e}"));
    let mut decoder = ReaderBuilder::new(schema.clone())
        .with_batch_size(BATCH_ROWS_MAX)
        .build_decoder()
        .map_err(|e| refused(&e))?;
    let mut found = 0;
    loop {
        let taken = decoder.decode(bytes).map_err(|e| refused(&e))?;
        bytes = bytes.get(taken..).unwrap_or_default();
        match decoder.flush().map_err(|e| refused(&e))? {
            Some(batch) => found += batch.num_rows() as u64,
            None if bytes.is_empty() => break,
            None => {}
        }
    }
    match found == rows {
        true => Ok(()),
        false => Err(Error::bug(format!(
            "arrow-json has found {found} of {rows} rows"
        ))),
    }
}
