//! The operators of a harness, as the host would run them.

use super::keyed::{KeyedInput, KeyedStage};
use super::{longs, unsupported, words};
use crate::bindings::exports::pelton::job::function::{Moment, Output};
use crate::column::{bits_of, from_bytes, to_bytes};
use crate::error::{Error, Result};
use crate::gather::gather;
use crate::runtime::{Batch, Body, Column, Failure, Instance, JobGraph, Times};
use crate::value::{Schema, top_field, top_fields};

/// Rows between two operators, with all columns.
#[derive(Clone, Default)]
pub(super) struct Rows {
    pub(super) rows: usize,
    pub(super) columns: Vec<Column>,
    pub(super) times: Option<Vec<i64>>,
    pub(super) kinds: Option<Vec<u8>>,
}

impl Rows {
    /// Some of the rows.
    pub(super) fn take(&self, schema: &Schema, rows: &[u32]) -> Self {
        let mut columns = Vec::new();
        let mut whole = self.columns.iter();
        for (_, nodes) in top_fields(schema) {
            gather(nodes, &mut whole, rows, &mut columns);
        }
        Self {
            rows: rows.len(),
            columns,
            times: self.times.as_deref().map(|t| picked(t, rows)),
            kinds: self.kinds.as_deref().map(|k| picked(k, rows)),
        }
    }
}

fn picked<T: Copy>(all: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter()
        .filter_map(|r| all.get(*r as usize).copied())
        .collect()
}

/// What an operator makes: rows by port.
pub(super) type Made = Vec<(u32, Rows)>;

/// One operator, and where its rows go.
pub(super) struct Node {
    /// None for where rows are put in.
    pub(super) stage: Option<Stage>,
    /// The names of its output streams.
    pub(super) outputs: Vec<String>,
    /// From which output to which input of which operator.
    pub(super) targets: Vec<(u32, usize, u32)>,
}

/// What an operator does.
pub(super) enum Stage {
    Transform {
        segment: u32,
        input: Schema,
        output: Schema,
        produces: Vec<String>,
    },
    Timestamps {
        input: Schema,
        field: Option<String>,
    },
    Select {
        input: Schema,
        unnest: Option<String>,
        columns: Vec<(String, String)>,
    },
    Keyed(KeyedStage),
}

/// The operators of a job; the first `sources` are where rows are put in.
pub(super) fn plan(instance: &mut Instance, sources: usize) -> Result<Vec<Node>> {
    let graph = instance.graph().clone();
    let mut nodes = Vec::new();
    for (at, op) in graph.operators.iter().enumerate() {
        let stage = match at < sources {
            true => None,
            false => Some(stage(instance, &graph, at as u32)?),
        };
        let edges = graph.edges.iter().filter(|e| e.source.0 as usize == at);
        nodes.push(Node {
            stage,
            outputs: op.outputs.iter().map(|o| o.name.clone()).collect(),
            targets: edges
                .map(|e| (e.source.1, e.target.0 as usize, e.target.1))
                .collect(),
        });
    }
    Ok(nodes)
}

/// The schema of the streams into an input.
fn input_schema(graph: &JobGraph, at: u32, input: u32) -> Result<&Schema> {
    let edge = graph.edges.iter().find(|e| e.target == (at, input));
    edge.and_then(|e| {
        let above = graph.operators.get(e.source.0 as usize)?;
        above.outputs.get(e.source.1 as usize)
    })
    .map(|o| &o.schema)
    .ok_or_else(|| Error::new("an input of the graph has no stream"))
}

fn stage(instance: &mut Instance, graph: &JobGraph, at: u32) -> Result<Stage> {
    let missing = || Error::new("the graph has a hole");
    let op = graph.operators.get(at as usize).ok_or_else(missing)?;
    let input = input_schema(graph, at, 0)?;
    Ok(match &op.body {
        Body::Transform(t) => {
            let segment = instance.prepare(&[t.function], 0, input).map_err(of)?;
            let output = op.outputs.first().ok_or_else(missing)?;
            Stage::Transform {
                segment,
                input: input.clone(),
                output: output.schema.clone(),
                produces: t.produces.clone(),
            }
        }
        Body::Timestamps(t) => Stage::Timestamps {
            input: input.clone(),
            field: match &t.times {
                Times::Field(name) => Some(name.clone()),
                Times::Given | Times::Ingestion => None,
            },
        },
        Body::Select(s) => Stage::Select {
            input: input.clone(),
            unnest: s.unnest.clone(),
            columns: s.columns.clone(),
        },
        Body::Process(p) => {
            let mut inputs = Vec::new();
            for (number, of_input) in (0u32..).zip(&p.inputs) {
                let schema = input_schema(graph, at, number)?;
                let segment = instance.prepare(&[p.function], number, schema);
                inputs.push(KeyedInput {
                    segment: segment.map_err(of)?,
                    schema: schema.clone(),
                    key: of_input.key.clone(),
                    broadcast: of_input.broadcast,
                });
            }
            Stage::Keyed(KeyedStage::new(inputs, p))
        }
        other => {
            let what = unsupported(other).unwrap_or("this operator");
            return Err(Error::new(format_args!("a harness cannot run {what}")));
        }
    })
}

pub(super) fn of(failure: Failure) -> Error {
    let row = failure
        .row
        .map_or(String::new(), |row| format!(" (row {row})"));
    Error::new(format_args!("{}{row}", failure.message))
}

impl Stage {
    pub(super) fn run(
        &mut self,
        instance: &Instance,
        at: Moment,
        number: u32,
        rows: Rows,
    ) -> Result<Made> {
        match self {
            Self::Transform {
                segment,
                input,
                output,
                produces,
            } => {
                let batch = Batch {
                    rows: rows.rows as u32,
                    columns: rows.columns.clone(),
                    times: rows.times.as_ref().map(|t| to_bytes(t.iter().copied())),
                    kinds: rows.kinds.clone(),
                };
                let reply = instance.transform(*segment, at, batch).map_err(of)?;
                let outputs = reply.outputs.into_iter().map(|out| {
                    follow(&rows, out, |made, parents| {
                        complete(input, output, produces, &rows, made, parents)
                    })
                });
                Ok(outputs.collect())
            }
            Self::Timestamps { input, field } => {
                Ok(vec![(0, timestamps(input, field.as_deref(), rows))])
            }
            Self::Select {
                input,
                unnest,
                columns,
            } => Ok(vec![(0, select(input, unnest.as_deref(), columns, &rows))]),
            Self::Keyed(keyed) => keyed.run(instance, at, number, &rows),
        }
    }

    /// Fires some of the due timers. None where none is due.
    pub(super) fn fire(
        &mut self,
        instance: &Instance,
        at: Moment,
        processing_time: bool,
    ) -> Result<Option<Made>> {
        match self {
            Self::Keyed(keyed) => keyed.fire(instance, at, processing_time),
            _ => Ok(None),
        }
    }

    pub(super) fn keyed(&self) -> Option<&KeyedStage> {
        match self {
            Self::Keyed(keyed) => Some(keyed),
            _ => None,
        }
    }
}

/// Rows of an output with their event times and kinds, and of which port.
pub(super) fn follow(
    parents: &Rows,
    output: Output,
    complete: impl FnOnce(Vec<Column>, &[u32]) -> Vec<Column>,
) -> (u32, Rows) {
    let rows = output.rows as usize;
    let numbers = output
        .parents
        .map_or_else(|| (0..output.rows).collect(), |bytes| words(&bytes));
    let times = output.times.map(|own| longs(&own));
    let times = times.or_else(|| Some(picked(parents.times.as_deref()?, &numbers)));
    let kinds = output.kinds;
    let kinds = kinds.or_else(|| Some(picked(parents.kinds.as_deref()?, &numbers)));
    let columns = if output.port == 0 {
        complete(output.columns, &numbers)
    } else {
        output.columns
    };
    (
        output.port,
        Rows {
            rows,
            columns,
            times,
            kinds,
        },
    )
}

/// All columns of an output: those that were made, and the others from the parents.
fn complete(
    input: &Schema,
    output: &Schema,
    produces: &[String],
    rows: &Rows,
    made: Vec<Column>,
    parents: &[u32],
) -> Vec<Column> {
    let mut made = made.into_iter();
    let mut out = Vec::new();
    for (_, nodes) in top_fields(output) {
        let name = nodes.first().map_or("", |f| f.name.as_str());
        if produces.iter().any(|p| p == name) {
            out.extend(made.by_ref().take(nodes.len()));
        } else if let Some((start, nodes)) = top_field(input, name) {
            gather(
                nodes,
                &mut rows.columns.iter().skip(start),
                parents,
                &mut out,
            );
        }
    }
    out
}

fn timestamps(input: &Schema, field: Option<&str>, mut rows: Rows) -> Rows {
    if let Some((start, _)) = field.and_then(|name| top_field(input, name)) {
        let values = rows
            .columns
            .get(start)
            .and_then(|c| c.values.as_deref())
            .unwrap_or(&[]);
        rows.times = from_bytes::<i64>(values, rows.rows)
            .ok()
            .map(|c| c.iter().collect());
    }
    rows
}

fn select(input: &Schema, unnest: Option<&str>, columns: &[(String, String)], rows: &Rows) -> Rows {
    let mut kept: Vec<u32> = (0..rows.rows as u32).collect();
    let (mut schema, mut first) = (input.clone(), 0);
    if let Some((start, nodes)) = unnest.and_then(|name| top_field(input, name)) {
        let validity = rows.columns.get(start).and_then(|c| c.validity.as_deref());
        if let Some(bits) = validity.and_then(|bytes| bits_of(bytes, rows.rows).ok()) {
            kept.retain(|r| bits.get(*r as usize) == Some(true));
        }
        schema = nodes.get(1..).unwrap_or(&[]).to_vec();
        first = start + 1;
    }
    let mut out = Vec::new();
    for (here, _) in columns {
        if let Some((start, nodes)) = top_field(&schema, here) {
            gather(
                nodes,
                &mut rows.columns.iter().skip(first + start),
                &kept,
                &mut out,
            );
        }
    }
    Rows {
        rows: kept.len(),
        columns: out,
        times: rows.times.as_deref().map(|t| picked(t, &kept)),
        kinds: rows.kinds.as_deref().map(|k| picked(k, &kept)),
    }
}
