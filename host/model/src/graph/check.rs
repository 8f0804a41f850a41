//! What makes a job graph valid. Refuses a wrong job before it runs, and names the operator.

use std::collections::BTreeMap;

use super::{
    Body, JobGraph, Operator, Partition, StateKind, WindowFunction, WindowSpec, WindowValue,
};
use crate::error::{Error, ErrorCode, Result};
use crate::id::OperatorId;
use crate::limits::{OPERATORS_MAX, PARALLELISM_MAX};
use crate::schema::{DataType, Field, Schema};

/// Checks a whole graph. Errors: `GraphInvalid` or `NoTimestamps`, with the operator's name.
pub fn check(graph: &JobGraph) -> Result<()> {
    check_shape(graph)?;
    let order = graph
        .topological()
        .ok_or_else(|| invalid("the graph has a cycle".into()))?;
    for id in &order {
        if let Some(op) = graph.operator(*id) {
            check_operator(graph, *id, op)
                .map_err(|e| e.at("operator", format!("'{}'", op.name)))?;
        }
    }
    check_event_time(graph, &order)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::GraphInvalid, message)
}

fn check_shape(graph: &JobGraph) -> Result<()> {
    let count = graph.operators.len();
    if count == 0 {
        return Err(
            invalid("the job has no operators".into()).help("a job needs a source and a sink")
        );
    }
    if count > OPERATORS_MAX {
        return Err(invalid(format!(
            "the job has {count} operators, and at most {OPERATORS_MAX} are allowed"
        )));
    }
    let mut uids = BTreeMap::new();
    for op in &graph.operators {
        if op.uid.is_empty() || op.uid.len() > 256 || op.name.len() > 256 {
            return Err(invalid(format!(
                "operator '{}' has no uid, or a name or uid of over 256 bytes",
                short(&op.name)
            )));
        }
        if let Some(other) = uids.insert(&op.uid, &op.name) {
            return Err(invalid(format!(
                "operators '{other}' and '{}' have the same uid '{}'",
                op.name, op.uid
            ))
            .help("give one of them another name, or a uid of its own by .uid(\"..\")"));
        }
        if let Some(p) = op.parallelism
            && (p == 0 || p > PARALLELISM_MAX)
        {
            return Err(invalid(format!(
                "parallelism {p} is not between 1 and {PARALLELISM_MAX}"
            ))
            .at("operator", format!("'{}'", op.name)));
        }
        for output in &op.outputs {
            output
                .schema
                .check_names()
                .map_err(|e| e.at("operator", format!("'{}'", op.name)))?;
        }
    }
    for e in &graph.edges {
        if graph.schema_of(e).is_none() || graph.operator(e.target.0).is_none() {
            return Err(invalid(format!(
                "an edge goes from output {} of operator {} to operator {}, and one of them does not exist",
                e.source.1, e.source.0.0, e.target.0.0
            )));
        }
    }
    Ok(())
}

fn short(name: &str) -> String {
    name.chars().take(40).collect()
}

/// The schema of an operator's input, and that all edges of a union agree.
fn input_schema(graph: &JobGraph, id: OperatorId, input: u32) -> Result<&Schema> {
    let mut found: Option<&Schema> = None;
    for e in graph.edges_into(id).filter(|e| e.target.1 == input) {
        let Some(schema) = graph.schema_of(e) else {
            continue;
        };
        match &e.partition {
            Partition::Key(fields) => check_key(schema, fields)?,
            Partition::Custom(name) if field(schema, name)?.data_type != DataType::U32 => {
                return Err(invalid(format!(
                    "rows are partitioned by field '{name}', which is not a u32"
                )));
            }
            _ => {}
        }
        match found {
            None => found = Some(schema),
            Some(first) if first == schema => {}
            Some(first) => {
                return Err(invalid(format!(
                    "united streams have different types: ({first}) and ({schema})"
                )));
            }
        }
    }
    found.ok_or_else(|| invalid(format!("input {input} has no stream")))
}

fn check_key(schema: &Schema, fields: &[String]) -> Result<()> {
    if fields.is_empty() {
        return Err(invalid("a key has no fields".into()));
    }
    for name in fields {
        field(schema, name)?;
    }
    Ok(())
}

fn field<'a>(schema: &'a Schema, name: &str) -> Result<&'a Field> {
    schema.field(name).ok_or_else(|| {
        let names: Vec<_> = schema.fields.iter().map(|f| f.name.as_str()).collect();
        invalid(format!(
            "there is no field '{name}'; the fields are: {}",
            names.join(", ")
        ))
    })
}

fn check_operator(graph: &JobGraph, id: OperatorId, op: &Operator) -> Result<()> {
    let inputs = match &op.body {
        Body::Source(_) => 0,
        Body::Process(p) => p.inputs.len() as u32,
        Body::Opaque { .. } => return Ok(()),
        _ => 1,
    };
    if let Some(e) = graph.edges_into(id).find(|e| e.target.1 >= inputs) {
        return Err(invalid(format!(
            "it has {inputs} inputs, and a stream goes into input {}",
            e.target.1
        )));
    }
    let outputs_min = usize::from(!matches!(op.body, Body::Sink(_)));
    if op.outputs.len() < outputs_min {
        return Err(invalid("it has no output stream".into()));
    }
    let main = op.outputs.first().map(|o| &o.schema);
    match (&op.body, main) {
        (Body::Source(c), Some(main)) if c.schema != *main => Err(invalid(
            "a source's stream differs from its record type".into(),
        )),
        (Body::Sink(c), _) => input_schema(graph, id, 0)?.check_view(&c.schema),
        (Body::Timestamps(t), Some(main)) => {
            let input = input_schema(graph, id, 0)?;
            same(input, main)?;
            match &t.times {
                super::Times::Field(name)
                    if field(input, name)?.data_type != DataType::Timestamp =>
                {
                    Err(invalid(format!(
                        "field '{name}' is {}, not a timestamp",
                        field(input, name)?.data_type
                    )))
                }
                _ => Ok(()),
            }
        }
        (Body::Select(s), Some(main)) => check_select(input_schema(graph, id, 0)?, s, main),
        (Body::Transform(t), Some(main)) => {
            let input = input_schema(graph, id, 0)?;
            input.check_view(&t.view)?;
            for name in &t.produces {
                field(main, name)?;
            }
            let kept = main
                .fields
                .iter()
                .filter(|f| !t.produces.contains(&f.name))
                .cloned()
                .collect();
            exact(input, &Schema::new(kept))
        }
        (Body::Process(p), Some(_)) => check_process(graph, id, p),
        (Body::Combine(c), Some(main)) => check_combine(input_schema(graph, id, 0)?, c, main),
        (Body::Window(w), Some(main)) => {
            check_window(input_schema(graph, id, 0)?, w, main, op.outputs.len())
        }
        _ => Ok(()),
    }
}

fn same(input: &Schema, output: &Schema) -> Result<()> {
    if input == output {
        Ok(())
    } else {
        Err(invalid(format!(
            "its output ({output}) differs from its input ({input})"
        )))
    }
}

/// Each field of `kept` stands in `input` with the very same type.
fn exact(input: &Schema, kept: &Schema) -> Result<()> {
    for k in &kept.fields {
        let f = field(input, &k.name)?;
        if f != k {
            return Err(invalid(format!(
                "field '{}' is kept as {}, but is {}",
                k.name, k.data_type, f.data_type
            )));
        }
    }
    Ok(())
}

fn check_select(input: &Schema, select: &super::Select, main: &Schema) -> Result<()> {
    let nested;
    let from = match &select.unnest {
        None => input,
        Some(name) => match &field(input, name)?.data_type {
            DataType::Struct(fields) => {
                nested = Schema::new(fields.clone());
                &nested
            }
            other => return Err(invalid(format!("field '{name}' is {other}, not a record"))),
        },
    };
    if select.columns.len() != main.fields.len() {
        return Err(invalid(
            "a selection does not name each output field once".into(),
        ));
    }
    for ((here, there), out) in select.columns.iter().zip(&main.fields) {
        let f = field(from, here)?;
        if *there != out.name || f.data_type != out.data_type || f.nullable & !out.nullable {
            return Err(invalid(format!(
                "field '{here}' is {}, but is selected as '{}' of {}",
                f.data_type, out.name, out.data_type
            )));
        }
    }
    Ok(())
}

fn check_process(graph: &JobGraph, id: OperatorId, p: &super::Process) -> Result<()> {
    let mut key_types: Option<Vec<DataType>> = None;
    for (i, input) in p.inputs.iter().enumerate() {
        let schema = input_schema(graph, id, i as u32)?;
        schema.check_view(&input.view)?;
        if input.key.is_empty() {
            continue;
        }
        if input.broadcast {
            return Err(invalid(format!("input {i} is broadcast, and has a key")));
        }
        check_key(schema, &input.key)?;
        let types: Vec<_> = input
            .key
            .iter()
            .filter_map(|k| schema.field(k))
            .map(|f| f.data_type.clone())
            .collect();
        if key_types.get_or_insert_with(|| types.clone()) != &types {
            return Err(invalid("its inputs have keys of different types".into()));
        }
    }
    let mut names = BTreeMap::new();
    for s in &p.states {
        s.schema.check_names()?;
        if let Some(former) = names.insert(&s.name, &s.schema) {
            let what = if former == &s.schema {
                "twice".into()
            } else {
                format!("with two types: ({former}) and ({})", s.schema)
            };
            return Err(invalid(format!("state '{}' is declared {what}", s.name)));
        }
        check_state(p, s)
            .and_then(|()| super::past::check(s, &p.states))
            .map_err(|e| e.at("state", format!("'{}'", s.name)))?;
    }
    Ok(())
}

fn check_state(p: &super::Process, s: &super::StateSpec) -> Result<()> {
    let keyed = p.inputs.iter().any(|i| !i.key.is_empty());
    if !s.kind.is_operator() && !keyed {
        return Err(
            invalid("keyed state in a function whose rows have no key".into())
                .help("put .key_by(..) above the function, or use operator state"),
        );
    }
    let needs_map_key = matches!(s.kind, StateKind::Map | StateKind::Broadcast);
    match &s.map_key {
        None if needs_map_key => return Err(invalid("a map without a type of its keys".into())),
        Some(_) if !needs_map_key && s.kind != StateKind::List => {
            return Err(invalid("map keys in a state that is no map".into()));
        }
        Some(key) => key.check_names()?,
        None => {}
    }
    match s.ttl {
        Some(_) if s.kind.is_operator() => Err(invalid(
            "a time to live is for keyed state, and this is the operator's".into(),
        )),
        Some(ttl) if ttl.ms == 0 || i64::try_from(ttl.ms).is_err() => Err(invalid(format!(
            "a time to live of {} ms is not above 0",
            ttl.ms
        ))),
        _ => Ok(()),
    }
}

fn check_window(input: &Schema, w: &WindowSpec, main: &Schema, outputs: usize) -> Result<()> {
    w.assigner.check()?;
    check_key(input, &w.key)?;
    if w.lateness_ms < 0 {
        return Err(invalid(format!(
            "allowed lateness {} ms is below 0",
            w.lateness_ms
        )));
    }
    if let Some(late) = w.late_output
        && (late == 0 || late as usize >= outputs)
    {
        return Err(invalid(format!(
            "late rows go to output {late}, which does not exist"
        )));
    }
    match &w.function {
        WindowFunction::Aggregate {
            has_merge: false, ..
        } if w.assigner.is_session() => Err(invalid(
            "sessions merge, and its aggregate cannot merge accumulators".into(),
        )
        .help("give the aggregate a merge, and leave HAS_MERGE true")),
        WindowFunction::Aggregate { combined: true, .. } if w.assigner.is_session() => Err(
            invalid("sessions have no slices, so that their rows cannot be combined".into()),
        ),
        WindowFunction::Aggregate {
            view, accumulator, ..
        } => {
            accumulator.check_names()?;
            input.check_view(view)
        }
        WindowFunction::Columns(columns) => {
            if columns.len() != main.fields.len() {
                return Err(invalid(
                    "a window does not give each output field once".into(),
                ));
            }
            for ((name, value), out) in columns.iter().zip(&main.fields) {
                if *name != out.name {
                    return Err(invalid(format!(
                        "a window gives '{name}' where its output has '{}'",
                        out.name
                    )));
                }
                check_window_value(input, &w.key, value, out)
                    .map_err(|e| e.at("field", format!("'{name}'")))?;
            }
            Ok(())
        }
    }
}

fn check_combine(input: &Schema, c: &super::Combine, main: &Schema) -> Result<()> {
    c.assigner.check()?;
    if c.assigner.is_session() {
        return Err(invalid(
            "sessions have no slices, so that their rows cannot be combined".into(),
        ));
    }
    check_key(input, &c.key)?;
    for key in &c.key {
        if main.field(key) != Some(field(input, key)?) {
            return Err(invalid(format!(
                "its output does not have the key's field '{key}'"
            )));
        }
    }
    match &c.function {
        WindowFunction::Aggregate {
            view, accumulator, ..
        } => {
            main.check_view(accumulator)?;
            input.check_view(view)
        }
        WindowFunction::Columns(columns) => {
            if columns.len() != main.fields.len() {
                return Err(invalid("it does not give each output field once".into()));
            }
            for ((name, value), out) in columns.iter().zip(&main.fields) {
                let combines = !matches!(
                    value,
                    WindowValue::Start
                        | WindowValue::End
                        | WindowValue::Avg(_)
                        | WindowValue::Ratio(..)
                );
                if *name != out.name || !combines {
                    return Err(invalid(format!("{value:?} cannot be combined as '{name}'")));
                }
                check_window_value(input, &c.key, value, out)
                    .map_err(|e| e.at("field", format!("'{name}'")))?;
            }
            Ok(())
        }
    }
}

fn check_window_value(
    input: &Schema,
    key: &[String],
    value: &WindowValue,
    out: &Field,
) -> Result<()> {
    use DataType as T;
    let is_int = |t: &T| {
        matches!(
            t,
            T::I8 | T::I16 | T::I32 | T::I64 | T::U8 | T::U16 | T::U32 | T::U64
        )
    };
    let is_number = |t: &T| is_int(t) || matches!(t, T::F32 | T::F64 | T::Decimal { .. });
    let fits = match value {
        WindowValue::Key(k) => {
            let f = field(input, k)?;
            key.contains(k) && f.data_type == out.data_type && f.nullable <= out.nullable
        }
        WindowValue::Start | WindowValue::End => matches!(out.data_type, T::Timestamp | T::I64),
        WindowValue::Count => matches!(out.data_type, T::I64 | T::U64),
        WindowValue::Sum(f) => {
            let f = &field(input, f)?.data_type;
            is_number(f)
                && (*f == out.data_type
                    || matches!((f, &out.data_type), (_, T::I64) if is_int(f) && *f != T::U64)
                    || matches!((f, &out.data_type), (T::F32, T::F64)))
        }
        WindowValue::Min(f) | WindowValue::Max(f) => {
            let f = field(input, f)?;
            (is_number(&f.data_type) || matches!(f.data_type, T::Timestamp | T::Date))
                && f.data_type == out.data_type
        }
        WindowValue::Ratio(sum, count) => {
            let (s, c) = (
                &field(input, sum)?.data_type,
                &field(input, count)?.data_type,
            );
            let narrows = is_int(s) && is_int(&out.data_type)
                || matches!((s, &out.data_type), (T::F64, T::F32));
            let fits = out.data_type == T::F64 || *s == out.data_type || narrows;
            is_number(s) && is_int(c) && fits
        }
        WindowValue::Avg(f) => {
            let f = &field(input, f)?.data_type;
            is_number(f) && (out.data_type == T::F64 || *f == out.data_type)
        }
    };
    if fits {
        Ok(())
    } else {
        Err(invalid(format!(
            "{value:?} cannot give a field of {}",
            out.data_type
        )))
    }
}

/// Every operator that works by event time has a timestamp assigner on each way up to a source.
fn check_event_time(graph: &JobGraph, order: &[OperatorId]) -> Result<()> {
    // For each operator, a source above it from which rows come without event times.
    let mut untimed: Vec<Option<OperatorId>> = vec![None; graph.operators.len()];
    for id in order {
        let Some(op) = graph.operator(*id) else {
            continue;
        };
        let above = graph
            .edges_into(*id)
            .find_map(|e| untimed.get(e.source.0.0 as usize).copied().flatten());
        let mine = match &op.body {
            Body::Source(_) => Some(*id),
            Body::Timestamps(_) => None,
            Body::Window(_) => above,
            Body::Process(p) if p.timers => above,
            _ => above,
        };
        let by_event_time =
            matches!(&op.body, Body::Window(_)) || matches!(&op.body, Body::Process(p) if p.timers);
        if let (true, Some(source)) = (by_event_time, mine) {
            let name = graph.operator(source).map_or("", |s| s.name.as_str());
            return Err(Error::new(
                ErrorCode::NoTimestamps,
                format!(
                    "'{}' works by event time, but rows from source '{name}' have no timestamps",
                    op.name
                ),
            )
            .help(format!(
                "add .assign_timestamps(..) after the source '{name}'"
            )));
        }
        if let Some(slot) = untimed.get_mut(id.0 as usize) {
            *slot = mine;
        }
    }
    Ok(())
}
