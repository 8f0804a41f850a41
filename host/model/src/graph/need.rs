//! Which columns somebody reads: the pruned schema of each stream, from the sinks up.
//!
//! A stream keeps the order and the names of its declared schema and loses what nobody below it reads, nested fields
//! too. A source makes only what is left.

use super::{Body, Edge, JobGraph, Operator, Partition, WindowFunction, WindowValue};
use crate::error::{Error, ErrorCode, Result};
use crate::id::OperatorId;
use crate::schema::{DataType, Field, Schema};

/// The pruned schema of each stream: by operator, by output.
#[derive(Clone, Debug)]
pub struct Needs {
    streams: Vec<Vec<Schema>>,
}

impl Needs {
    /// The pruned schema of an operator's output.
    #[must_use]
    pub fn stream(&self, operator: OperatorId, output: u32) -> Option<&Schema> {
        self.streams.get(operator.0 as usize)?.get(output as usize)
    }

    /// The pruned schema of an operator's input: that of the stream (united ones agree).
    #[must_use]
    pub fn input(&self, graph: &JobGraph, operator: OperatorId, input: u32) -> Option<&Schema> {
        let edge = graph.edges_into(operator).find(|e| e.target.1 == input)?;
        self.stream(edge.source.0, edge.source.1)
    }
}

/// Works out what is needed of each stream. The graph must have passed [`check`](super::check()).
pub fn needs(graph: &JobGraph) -> Result<Needs> {
    let order = graph
        .topological()
        .ok_or_else(|| Error::new(ErrorCode::GraphInvalid, "the graph has a cycle"))?;
    // What is asked of each stream so far, in no order; restricted at the end.
    let mut asked: Vec<Vec<Schema>> = graph
        .operators
        .iter()
        .map(|op| vec![Schema::default(); op.outputs.len()])
        .collect();
    for id in order.iter().rev() {
        let Some(op) = graph.operator(*id) else {
            continue;
        };
        unite_groups(graph, *id, &mut asked);
        for edge in graph.edges_into(*id) {
            let Some(whole) = graph.schema_of(edge) else {
                continue;
            };
            let main = asked
                .get(id.0 as usize)
                .and_then(|o| o.first())
                .cloned()
                .unwrap_or_default();
            let mut need = reads(op, edge, whole, &main);
            for (i, output) in op.outputs.iter().enumerate().skip(1) {
                if is_late_output(op, i) {
                    let side = asked
                        .get(id.0 as usize)
                        .and_then(|o| o.get(i))
                        .cloned()
                        .unwrap_or_default();
                    need.merge(&output.schema.restrict(&side));
                }
            }
            if let Some(slot) = asked
                .get_mut(edge.source.0.0 as usize)
                .and_then(|o| o.get_mut(edge.source.1 as usize))
            {
                slot.merge(&need);
            }
        }
    }
    // United streams must agree: each gets what any of its siblings was asked for.
    agree(graph, &mut asked);
    let streams = graph
        .operators
        .iter()
        .zip(&asked)
        .map(|(op, asked)| {
            op.outputs
                .iter()
                .zip(asked)
                .map(|(out, need)| whole_where_made(op, &out.schema, need))
                .collect()
        })
        .collect();
    let mut needs = Needs { streams };
    late_rows_are_input_rows(graph, &order, &mut needs);
    Ok(needs)
}

/// A window's late output carries the rows of its input as they are: what they were pruned to.
fn late_rows_are_input_rows(graph: &JobGraph, order: &[OperatorId], needs: &mut Needs) {
    for id in order {
        let Some(op) = graph.operator(*id) else {
            continue;
        };
        let Some((late, output)) = (0..).zip(&op.outputs).find(|(i, _)| is_late_output(op, *i))
        else {
            continue;
        };
        let Some(input) = needs.input(graph, *id, 0).cloned() else {
            continue;
        };
        let stream = needs.streams.get_mut(id.0 as usize);
        if let Some(stream) = stream.and_then(|o| o.get_mut(late)) {
            *stream = output.schema.restrict(&input);
        }
    }
}

/// Functions and windows make all fields that they produce: only what follows from an input can be pruned.
fn whole_where_made(op: &Operator, declared: &Schema, need: &Schema) -> Schema {
    match &op.body {
        Body::Transform(t) => {
            let mut need = need.clone();
            for name in &t.produces {
                if let Some(f) = declared.field(name) {
                    need.merge(&Schema::new(vec![f.clone()]));
                    if let Some(n) = need.fields.iter_mut().find(|n| n.name == f.name) {
                        *n = f.clone();
                    }
                }
            }
            declared.restrict(&need)
        }
        Body::Source(_) | Body::Select(_) | Body::Timestamps(_) => declared.restrict(need),
        _ => declared.clone(),
    }
}

fn is_late_output(op: &Operator, output: usize) -> bool {
    matches!(&op.body, Body::Window(w) if w.late_output == Some(output as u32))
}

/// What an operator reads of one of its input streams, given what is asked of its main output.
fn reads(op: &Operator, edge: &Edge, whole: &Schema, main: &Schema) -> Schema {
    let mut need = match &op.body {
        Body::Source(_) => Schema::default(),
        Body::Sink(c) => c.schema.clone(),
        Body::Timestamps(t) => {
            let mut need = main.clone();
            if let super::Times::Field(name) = &t.times {
                need.merge(&named(whole, std::iter::once(name)));
            }
            need
        }
        Body::Select(s) => {
            let wanted = s
                .columns
                .iter()
                .filter(|(_, there)| main.field(there).is_some());
            let renamed = wanted.filter_map(|(here, there)| {
                let n = main.field(there)?;
                Some(Field {
                    name: here.clone(),
                    ..n.clone()
                })
            });
            let inner = Schema::new(renamed.collect());
            match &s.unnest {
                None => inner,
                Some(record) => Schema::new(vec![
                    Field::new(record.clone(), DataType::Struct(inner.fields)).nullable(),
                ]),
            }
        }
        Body::Transform(t) => {
            let mut need = t.view.clone();
            need.merge(&Schema::new(
                main.fields
                    .iter()
                    .filter(|f| !t.produces.contains(&f.name))
                    .cloned()
                    .collect(),
            ));
            need
        }
        Body::Process(p) => match p.inputs.get(edge.target.1 as usize) {
            Some(input) => {
                let mut need = input.view.clone();
                need.merge(&named(whole, input.key.iter()));
                need
            }
            None => Schema::default(),
        },
        Body::Window(w) => aggregated(whole, &w.key, &w.function),
        Body::Combine(c) => aggregated(whole, &c.key, &c.function),
        Body::Opaque { .. } => whole.clone(),
    };
    match &edge.partition {
        Partition::Key(fields) => need.merge(&named(whole, fields.iter())),
        Partition::Custom(field) => need.merge(&named(whole, std::iter::once(field))),
        _ => {}
    }
    need
}

/// The key, and what is aggregated.
fn aggregated(whole: &Schema, key: &[String], function: &WindowFunction) -> Schema {
    let mut need = named(whole, key.iter());
    match function {
        WindowFunction::Aggregate { view, .. } => need.merge(view),
        WindowFunction::Columns(columns) => {
            for (_, value) in columns {
                match value {
                    WindowValue::Sum(f)
                    | WindowValue::Min(f)
                    | WindowValue::Max(f)
                    | WindowValue::Avg(f) => need.merge(&named(whole, std::iter::once(f))),
                    WindowValue::Ratio(s, c) => need.merge(&named(whole, [s, c].into_iter())),
                    WindowValue::Key(_)
                    | WindowValue::Start
                    | WindowValue::End
                    | WindowValue::Count => {}
                }
            }
        }
    }
    need
}

fn named<'a>(whole: &Schema, names: impl Iterator<Item = &'a String>) -> Schema {
    Schema::new(names.filter_map(|n| whole.field(n)).cloned().collect())
}

/// Before an operator's own needs are worked out, its outputs that feed united inputs get their siblings' needs.
fn unite_groups(graph: &JobGraph, id: OperatorId, asked: &mut [Vec<Schema>]) {
    for edge in graph.edges_from(id) {
        let siblings = graph
            .edges_into(edge.target.0)
            .filter(|e| e.target.1 == edge.target.1);
        let mut all = Schema::default();
        for s in siblings {
            if let Some(need) = asked
                .get(s.source.0.0 as usize)
                .and_then(|o| o.get(s.source.1 as usize))
            {
                all.merge(need);
            }
        }
        if let Some(slot) = asked
            .get_mut(id.0 as usize)
            .and_then(|o| o.get_mut(edge.source.1 as usize))
        {
            slot.merge(&all);
        }
    }
}

fn agree(graph: &JobGraph, asked: &mut [Vec<Schema>]) {
    for _ in 0..2 {
        for id in graph.ids() {
            unite_groups(graph, id, asked);
        }
    }
}

#[cfg(test)]
mod tests;
