//! From the contract's records to the model's values. Errors: `GraphInvalid`, naming the operator.

use std::collections::BTreeMap;

use pelton_model::graph::{
    Body, Combine, Connector, Edge, Emit, FieldPast, JobGraph, Operator, Output, Partition, Past,
    Process, ProcessInput, Select, StateKind, StateSpec, Times, Timestamps, Transform, Ttl,
    Watermarks, WindowFunction, WindowSpec, WindowValue,
};
use pelton_model::id::{FunctionId, OperatorId};
use pelton_model::limits::OPERATORS_MAX;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::window::Assigner;
use pelton_model::{Error, ErrorCode, Result};

use super::wire;
use crate::convert::wire as types;

/// How deep records and lists may be nested.
const DEPTH_MAX: usize = 32;
/// The most fields of one schema, nested ones included.
const FIELDS_MAX: usize = 4_096;
/// The most edges of a job.
const EDGES_MAX: usize = 16 * OPERATORS_MAX;

/// The whole graph.
pub(crate) fn graph(graph: wire::JobGraph) -> Result<JobGraph> {
    let (operators, edges) = (graph.operators.len(), graph.edges.len());
    if operators > OPERATORS_MAX || edges > EDGES_MAX {
        return Err(invalid(format!(
            "the job has {operators} operators and {edges} edges; at most {OPERATORS_MAX} and {EDGES_MAX} are allowed"
        )));
    }
    let operators = graph
        .operators
        .into_iter()
        .map(|o| {
            let name = o.name.clone();
            operator(o).map_err(|e| e.at("operator", format!("'{name}'")))
        })
        .collect::<Result<Vec<_>>>()?;
    let edges = graph
        .edges
        .into_iter()
        .map(|e| edge(e, operators.len()))
        .collect::<Result<_>>()?;
    Ok(JobGraph {
        name: graph.name,
        operators,
        edges,
        params: graph.params,
        parallelism: graph.parallelism,
        max_parallelism: graph.max_parallelism,
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::GraphInvalid, message)
}

fn operator(operator: wire::Operator) -> Result<Operator> {
    let outputs = operator
        .outputs
        .into_iter()
        .map(|o| {
            Ok(Output {
                schema: schema(&o.schema)?,
                name: o.name,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Operator {
        uid: operator.uid,
        name: operator.name,
        parallelism: operator.parallelism,
        body: body(operator.body)?,
        outputs,
    })
}

fn body(body: wire::Body) -> Result<Body> {
    Ok(match body {
        wire::Body::Source(c) => Body::Source(connector(c)?),
        wire::Body::Sink(c) => Body::Sink(connector(c)?),
        wire::Body::Timestamps(t) => Body::Timestamps(Timestamps {
            times: match t.times {
                wire::Times::Field(name) => Times::Field(name),
                wire::Times::Given => Times::Given,
                wire::Times::Ingestion => Times::Ingestion,
            },
            watermarks: match t.watermarks {
                wire::Watermarks::Monotonous => Watermarks::Monotonous,
                wire::Watermarks::Bounded(ms) => Watermarks::Bounded(millis(ms, "a bound")?),
                wire::Watermarks::Generated => Watermarks::Generated,
            },
            emit: match t.emit {
                wire::Emit::Regular => Emit::Regular,
                wire::Emit::Batch => Emit::Batch,
                wire::Emit::Interval(ms) => Emit::Interval(ms),
                wire::Emit::Row => Emit::Row,
            },
            idle_ms: t.idle_ms,
            drift_ms: t.drift_ms,
        }),
        wire::Body::Select(s) => Body::Select(Select {
            unnest: s.unnest,
            columns: s.columns,
        }),
        wire::Body::Transform(t) => Body::Transform(Transform {
            function: FunctionId(t.function),
            view: schema(&t.view)?,
            produces: t.produces,
            times: t.times,
            watermarks: t.watermarks,
        }),
        wire::Body::Process(p) => Body::Process(process(p)?),
        wire::Body::Window(w) => Body::Window(window(w)?),
        wire::Body::Combine(c) => Body::Combine(Combine {
            key: c.key,
            assigner: assigner(c.assigner),
            function: window_function(c.function)?,
        }),
    })
}

fn connector(connector: wire::Connector) -> Result<Connector> {
    let mut options = BTreeMap::new();
    for option in connector.options {
        if options.contains_key(&option.name) {
            return Err(invalid(format!(
                "connector '{}' has the option '{}' twice",
                connector.name, option.name
            )));
        }
        options.insert(option.name, option.value);
    }
    Ok(Connector {
        schema: schema(&connector.schema)?,
        name: connector.name,
        options,
    })
}

fn process(process: wire::Process) -> Result<Process> {
    let inputs = process
        .inputs
        .into_iter()
        .map(|i| {
            Ok(ProcessInput {
                view: schema(&i.view)?,
                key: i.key,
                broadcast: i.broadcast,
            })
        })
        .collect::<Result<_>>()?;
    let states = process
        .states
        .into_iter()
        .map(state)
        .collect::<Result<_>>()?;
    Ok(Process {
        function: FunctionId(process.function),
        inputs,
        states,
        timers: process.timers,
    })
}

fn state(state: wire::State) -> Result<StateSpec> {
    Ok(StateSpec {
        name: state.name,
        kind: match state.kind {
            wire::StateKind::Value => StateKind::Value,
            wire::StateKind::Sequence => StateKind::List,
            wire::StateKind::Map => StateKind::Map,
            wire::StateKind::Reducing => StateKind::Reducing,
            wire::StateKind::Aggregating => StateKind::Aggregating,
            wire::StateKind::Broadcast => StateKind::Broadcast,
            wire::StateKind::OperatorList => StateKind::OperatorList,
            wire::StateKind::UnionList => StateKind::UnionList,
        },
        map_key: state.map_key.as_deref().map(schema).transpose()?,
        schema: schema(&state.schema)?,
        lazy: state.lazy,
        ttl: state.ttl.map(|t| Ttl {
            ms: t.ms,
            on_read: t.on_read,
            return_expired: t.return_expired,
            event_time: t.event_time,
        }),
        past: Past {
            fields: state.past.into_iter().map(field_past).collect(),
            restores: state.restores,
        },
    })
}

fn field_past(past: wire::Past) -> FieldPast {
    FieldPast {
        place: past.field,
        names: past.names,
        default: past.default,
        is_tag: past.tag,
    }
}

fn window(window: wire::Window) -> Result<WindowSpec> {
    Ok(WindowSpec {
        key: window.key,
        assigner: assigner(window.assigner),
        lateness_ms: millis(window.lateness_ms, "a lateness")?,
        late_output: window.late_output,
        function: window_function(window.function)?,
    })
}

fn assigner(assigner: wire::Assigner) -> Assigner {
    match assigner {
        wire::Assigner::Tumbling((size_ms, offset_ms)) => Assigner::Tumbling { size_ms, offset_ms },
        wire::Assigner::Sliding((size_ms, slide_ms, offset_ms)) => Assigner::Sliding {
            size_ms,
            slide_ms,
            offset_ms,
        },
        wire::Assigner::Session(gap_ms) => Assigner::Session { gap_ms },
    }
}

fn window_function(function: wire::WindowFunction) -> Result<WindowFunction> {
    Ok(match function {
        wire::WindowFunction::Columns(columns) => WindowFunction::Columns(
            columns
                .into_iter()
                .map(|c| (c.name, window_value(c.value)))
                .collect(),
        ),
        wire::WindowFunction::Aggregate(a) => WindowFunction::Aggregate {
            function: FunctionId(a.function),
            view: schema(&a.view)?,
            accumulator: schema(&a.accumulator)?,
            has_merge: a.has_merge,
            combined: a.combined,
        },
    })
}

fn window_value(value: wire::WindowValue) -> WindowValue {
    match value {
        wire::WindowValue::Key(field) => WindowValue::Key(field),
        wire::WindowValue::Start => WindowValue::Start,
        wire::WindowValue::End => WindowValue::End,
        wire::WindowValue::Count => WindowValue::Count,
        wire::WindowValue::Sum(field) => WindowValue::Sum(field),
        wire::WindowValue::Min(field) => WindowValue::Min(field),
        wire::WindowValue::Max(field) => WindowValue::Max(field),
        wire::WindowValue::Avg(field) => WindowValue::Avg(field),
        wire::WindowValue::Ratio((sum, count)) => WindowValue::Ratio(sum, count),
    }
}

fn edge(edge: wire::Edge, operators: usize) -> Result<Edge> {
    let end = |(operator, stream): (u32, u32)| {
        if operator as usize >= operators {
            return Err(invalid(format!(
                "an edge names operator {operator} where there are {operators}"
            )));
        }
        Ok((OperatorId(operator), stream))
    };
    Ok(Edge {
        source: end(edge.source)?,
        target: end(edge.target)?,
        partition: match edge.partition {
            wire::Partition::Forward => Partition::Forward,
            wire::Partition::Key(fields) => Partition::Key(fields),
            wire::Partition::Rebalance => Partition::Rebalance,
            wire::Partition::Rescale => Partition::Rescale,
            wire::Partition::Shuffle => Partition::Shuffle,
            wire::Partition::Broadcast => Partition::Broadcast,
            wire::Partition::Global => Partition::Global,
            wire::Partition::Custom(field) => Partition::Custom(field),
        },
    })
}

/// Milliseconds as the model has them.
fn millis(ms: u64, what: &str) -> Result<i64> {
    i64::try_from(ms).map_err(|_| invalid(format!("{what} of {ms} ms is out of range")))
}

/// A schema from its fields in preorder. Errors: too deep, too many, or fields that are missing or left over.
pub(crate) fn schema(nodes: &[types::Field]) -> Result<Schema> {
    if nodes.len() > FIELDS_MAX {
        return Err(invalid(format!(
            "a schema has {} fields, and at most {FIELDS_MAX} are allowed",
            nodes.len()
        )));
    }
    let mut nodes = nodes.iter();
    let mut fields = Vec::new();
    while !nodes.as_slice().is_empty() {
        fields.push(field(&mut nodes, 0)?);
    }
    Ok(Schema { fields })
}

/// A schema's fields in preorder.
pub(crate) fn preorder(schema: &Schema) -> Vec<types::Field> {
    fn push(field: &Field, out: &mut Vec<types::Field>) {
        out.push(types::Field {
            name: field.name.clone(),
            data_type: wire_type(&field.data_type),
            nullable: field.nullable,
        });
        match &field.data_type {
            DataType::List(item) => push(item, out),
            DataType::Struct(fields) => fields.iter().for_each(|f| push(f, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    schema.fields.iter().for_each(|f| push(f, &mut out));
    out
}

fn field(nodes: &mut std::slice::Iter<'_, types::Field>, depth: usize) -> Result<Field> {
    if depth > DEPTH_MAX {
        return Err(invalid(format!(
            "a schema is nested more than {DEPTH_MAX} deep"
        )));
    }
    let node = nodes
        .next()
        .ok_or_else(|| invalid("a schema ends within a record or a list"))?;
    let data_type = match node.data_type {
        types::DataType::Sequence => DataType::List(Box::new(field(nodes, depth + 1)?)),
        types::DataType::Nested(count) => {
            if count as usize > nodes.len() {
                return Err(invalid(format!(
                    "field '{}' has {count} fields, but the schema ends before",
                    node.name
                )));
            }
            let fields = (0..count).map(|_| field(nodes, depth + 1));
            DataType::Struct(fields.collect::<Result<_>>()?)
        }
        types::DataType::Decimal(scale) if scale > 38 => {
            return Err(invalid(format!(
                "field '{}' has a scale of {scale}, and at most 38 are allowed",
                node.name
            )));
        }
        leaf => leaf_type(leaf),
    };
    Ok(Field {
        name: node.name.clone(),
        data_type,
        nullable: node.nullable,
    })
}

fn leaf_type(leaf: types::DataType) -> DataType {
    match leaf {
        types::DataType::Boolean => DataType::Bool,
        types::DataType::Int8 => DataType::I8,
        types::DataType::Int16 => DataType::I16,
        types::DataType::Int32 => DataType::I32,
        types::DataType::Int64 => DataType::I64,
        types::DataType::Uint8 => DataType::U8,
        types::DataType::Uint16 => DataType::U16,
        types::DataType::Uint32 => DataType::U32,
        types::DataType::Uint64 => DataType::U64,
        types::DataType::Float32 => DataType::F32,
        types::DataType::Float64 => DataType::F64,
        types::DataType::Utf8 => DataType::String,
        types::DataType::Bytes => DataType::Bytes,
        types::DataType::Timestamp => DataType::Timestamp,
        types::DataType::Date => DataType::Date,
        types::DataType::Decimal(scale) => DataType::Decimal { scale },
        // Callers have taken these two apart before.
        types::DataType::Sequence | types::DataType::Nested(_) => DataType::Struct(Vec::new()),
    }
}

fn wire_type(data_type: &DataType) -> types::DataType {
    match data_type {
        DataType::Bool => types::DataType::Boolean,
        DataType::I8 => types::DataType::Int8,
        DataType::I16 => types::DataType::Int16,
        DataType::I32 => types::DataType::Int32,
        DataType::I64 => types::DataType::Int64,
        DataType::U8 => types::DataType::Uint8,
        DataType::U16 => types::DataType::Uint16,
        DataType::U32 => types::DataType::Uint32,
        DataType::U64 => types::DataType::Uint64,
        DataType::F32 => types::DataType::Float32,
        DataType::F64 => types::DataType::Float64,
        DataType::String => types::DataType::Utf8,
        DataType::Bytes => types::DataType::Bytes,
        DataType::Timestamp => types::DataType::Timestamp,
        DataType::Date => types::DataType::Date,
        DataType::Decimal { scale } => types::DataType::Decimal(*scale),
        DataType::List(_) => types::DataType::Sequence,
        DataType::Struct(fields) => types::DataType::Nested(fields.len() as u32),
    }
}
