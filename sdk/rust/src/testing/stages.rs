//! The operators of a harness, one after the other, as the host would run them.

use std::collections::BTreeMap;

use super::keyed::KeyedStage;
use super::{longs, unsupported, words};
use crate::bindings::exports::pelton::job::function::{Moment, Output};
use crate::column::{bits_of, from_bytes, to_bytes};
use crate::error::{Error, Result};
use crate::gather::gather;
use crate::runtime::{Batch, Body, Column, Failure, Instance, JobGraph, Times};
use crate::value::{Schema, top_field, top_fields};

/// Rows between two operators, with all columns.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) rows: usize,
    pub(super) columns: Vec<Column>,
    pub(super) times: Option<Vec<i64>>,
}

pub(super) type Sides = BTreeMap<String, Vec<Rows>>;

/// One operator.
pub(super) enum Stage {
    Transform {
        segment: u32,
        input: Schema,
        output: Schema,
        produces: Vec<String>,
        sides: Vec<String>,
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

/// The operators on the way from the source to an operator's main output.
pub(super) fn plan(instance: &mut Instance, last: (u32, u32)) -> Result<Vec<Stage>> {
    if last.1 != 0 {
        return Err(Error::new(
            "a harness ends in a main output: take side outputs by take_side",
        ));
    }
    let graph = instance.graph().clone();
    let mut stages = Vec::new();
    let mut at = last.0;
    while at != 0 {
        let into: Vec<_> = graph.edges.iter().filter(|e| e.target.0 == at).collect();
        let [edge] = into.as_slice() else {
            return Err(Error::new("a harness cannot run a union"));
        };
        if edge.source.1 != 0 {
            return Err(Error::new(
                "a harness cannot run what follows a side output",
            ));
        }
        stages.push(stage(instance, &graph, at, edge.source.0)?);
        at = edge.source.0;
    }
    stages.reverse();
    Ok(stages)
}

fn stage(instance: &mut Instance, graph: &JobGraph, at: u32, above: u32) -> Result<Stage> {
    let missing = || Error::new("the graph has a hole");
    let op = graph.operators.get(at as usize).ok_or_else(missing)?;
    let input = &graph
        .operators
        .get(above as usize)
        .and_then(|o| o.outputs.first())
        .ok_or_else(missing)?
        .schema;
    let output = &op.outputs.first().ok_or_else(missing)?.schema;
    let sides = op.outputs.iter().map(|o| o.name.clone()).collect();
    Ok(match &op.body {
        Body::Transform(t) => {
            let segment = instance.prepare(&[t.function], 0, input).map_err(of)?;
            let (input, output) = (input.clone(), output.clone());
            Stage::Transform {
                segment,
                input,
                output,
                produces: t.produces.clone(),
                sides,
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
            let segment = instance.prepare(&[p.function], 0, input).map_err(of)?;
            Stage::Keyed(KeyedStage::new(segment, input, p, sides))
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
        rows: Rows,
        sides: &mut Sides,
    ) -> Result<Vec<Rows>> {
        match self {
            Self::Transform {
                segment,
                input,
                output,
                produces,
                sides: names,
            } => {
                let kinds = None;
                let times = rows.times.as_ref().map(|t| to_bytes(t.iter().copied()));
                let batch = Batch {
                    rows: rows.rows as u32,
                    columns: rows.columns.clone(),
                    times,
                    kinds,
                };
                let reply = instance.transform(*segment, at, batch).map_err(of)?;
                let mut main = Rows::default();
                for out in reply.outputs {
                    let made = follow(&rows, out, |made, parents| {
                        complete(input, output, produces, &rows, made, parents)
                    });
                    file(names, made, &mut main, sides);
                }
                Ok(vec![main])
            }
            Self::Timestamps { input, field } => {
                Ok(vec![timestamps(input, field.as_deref(), rows)])
            }
            Self::Select {
                input,
                unnest,
                columns,
            } => Ok(vec![select(input, unnest.as_deref(), columns, &rows)]),
            Self::Keyed(keyed) => keyed.run(instance, at, &rows, sides),
        }
    }

    /// Fires one round of due timers. None where none is due.
    pub(super) fn fire(
        &mut self,
        instance: &Instance,
        at: Moment,
        processing_time: bool,
        sides: &mut Sides,
    ) -> Result<Option<Rows>> {
        match self {
            Self::Keyed(keyed) => keyed.fire(instance, at, processing_time, sides),
            _ => Ok(None),
        }
    }

    pub(super) fn state(&self, name: &str, key: &[Column]) -> Option<&Vec<Column>> {
        match self {
            Self::Keyed(keyed) => keyed.state(name, key),
            _ => None,
        }
    }

    pub(super) fn timers(&self) -> Vec<i64> {
        match self {
            Self::Keyed(keyed) => keyed.timers(),
            _ => Vec::new(),
        }
    }
}

/// Rows of an output with their event times, and of which port.
pub(super) fn follow(
    parents: &Rows,
    output: Output,
    complete: impl FnOnce(Vec<Column>, &[u32]) -> Vec<Column>,
) -> (u32, Rows) {
    let rows = output.rows as usize;
    let numbers = output
        .parents
        .map_or_else(|| (0..output.rows).collect(), |bytes| words(&bytes));
    let times = match (output.times, &parents.times) {
        (Some(own), _) => Some(longs(&own)),
        (None, Some(all)) => Some(
            numbers
                .iter()
                .filter_map(|n| all.get(*n as usize).copied())
                .collect(),
        ),
        (None, None) => None,
    };
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
        },
    )
}

/// Puts rows where their port leads.
pub(super) fn file(
    names: &[String],
    (port, rows): (u32, Rows),
    main: &mut Rows,
    sides: &mut Sides,
) {
    match names.get(port as usize) {
        Some(name) if port > 0 => sides.entry(name.clone()).or_default().push(rows),
        _ => *main = rows,
    }
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
    let times = rows.times.as_ref().map(|t| {
        kept.iter()
            .filter_map(|r| t.get(*r as usize).copied())
            .collect()
    });
    Rows {
        rows: kept.len(),
        columns: out,
        times,
    }
}
