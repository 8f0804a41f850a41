//! A job's graph as text, as an object, and for Graphviz: chains, operators, schemas, states, imports.
//! Needs: an accepted job. Invariant: everything that decides how a job runs is shown, and nothing is run.

use std::fmt::Write as _;

use pelton_control::execution::Chain;
use pelton_model::graph::{
    Body, Connector, Edge, Emit, Operator, Partition, StateSpec, Times, Watermarks, WindowFunction,
    WindowSpec,
};
use pelton_model::id::OperatorId;
use pelton_model::window::Assigner;
use serde_json::{Value, json};

use crate::wire_up::Accepted;

/// For people.
pub(crate) fn text(job: &Accepted) -> String {
    let mut out = format!("job '{}'\n", job.graph.name);
    let _ = writeln!(out, "parameters: {}", listed(&job.graph.params));
    let _ = writeln!(out, "imports:    {}", listed(job.component.imports()));
    for chain in &job.plan.chains {
        let names: Vec<&str> = chain
            .operators
            .iter()
            .filter_map(|id| job.graph.operator(*id))
            .map(|o| o.name.as_str())
            .collect();
        let _ = writeln!(
            out,
            "\nchain {} (parallelism {}): {}",
            chain.id.0,
            chain.parallelism,
            names.join(" -> ")
        );
        for id in &chain.operators {
            operator_text(job, chain, *id, &mut out);
        }
    }
    out
}

fn operator_text(job: &Accepted, chain: &Chain, id: OperatorId, out: &mut String) {
    let Some(op) = job.graph.operator(id) else {
        return;
    };
    let _ = writeln!(out, "  '{}': {}", op.name, op.body.kind());
    if op.uid != op.name {
        let _ = writeln!(out, "    uid      {}", op.uid);
    }
    for edge in job.graph.edges_into(id) {
        let from = job.graph.operator(edge.source.0);
        let inside = chain.operators.contains(&edge.source.0);
        let way = if inside {
            "in the chain".to_owned()
        } else {
            partition(&edge.partition)
        };
        let _ = writeln!(out, "    from     {}: {way}", stream_name(from, edge));
    }
    for (label, value) in facts(op) {
        let _ = writeln!(out, "    {label:<8} {value}");
    }
    for state in states(op) {
        let _ = writeln!(out, "    state    {}", state_text(state));
    }
    for (port, output) in op.outputs.iter().enumerate() {
        let kept = job.needs.stream(id, port as u32).unwrap_or(&output.schema);
        let label = if port == 0 {
            "out".to_owned()
        } else {
            format!("side '{}'", output.name)
        };
        let _ = writeln!(out, "    {label:<8} {}", output.schema);
        if *kept != output.schema {
            let shown = if kept.fields.is_empty() {
                "nothing but the rows".to_owned()
            } else {
                kept.to_string()
            };
            let _ = writeln!(out, "    kept     {shown}");
        }
    }
}

/// For programs.
pub(crate) fn object(job: &Accepted) -> Value {
    let chains: Vec<Value> = job
        .plan
        .chains
        .iter()
        .map(|c| json!({"chain": c.id.0, "parallelism": c.parallelism, "operators": c.operators.iter().map(|o| o.0).collect::<Vec<_>>()}))
        .collect();
    let operators: Vec<Value> = job
        .graph
        .ids()
        .filter_map(|id| operator_object(job, id))
        .collect();
    let edges: Vec<Value> = job
        .graph
        .edges
        .iter()
        .map(|e| {
            json!({
                "source": e.source.0.0, "output": e.source.1, "target": e.target.0.0, "input": e.target.1,
                "partition": partition(&e.partition),
            })
        })
        .collect();
    json!({
        "kind": "job-graph",
        "name": job.graph.name,
        "params": job.graph.params,
        "imports": job.component.imports(),
        "chains": chains,
        "operators": operators,
        "edges": edges,
    })
}

fn operator_object(job: &Accepted, id: OperatorId) -> Option<Value> {
    let op = job.graph.operator(id)?;
    let outputs: Vec<Value> = op
        .outputs
        .iter()
        .enumerate()
        .map(|(port, o)| {
            let kept = job.needs.stream(id, port as u32).unwrap_or(&o.schema);
            json!({"name": o.name, "schema": o.schema.to_string(), "kept": kept.to_string()})
        })
        .collect();
    let states: Vec<Value> = states(op)
        .iter()
        .map(|s| json!({"name": s.name, "kind": format!("{:?}", s.kind).to_lowercase(), "schema": s.schema.to_string(), "lazy": s.lazy, "ttl_ms": s.ttl.map(|t| t.ms)}))
        .collect();
    let facts: Vec<Value> = facts(op)
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    Some(json!({
        "id": id.0, "name": op.name, "uid": op.uid, "body": op.body.kind(), "facts": facts,
        "states": states, "outputs": outputs,
    }))
}

/// For Graphviz.
pub(crate) fn dot(job: &Accepted) -> String {
    let quote = |s: &str| {
        format!(
            "\"{}\"",
            s.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n")
        )
    };
    let mut out = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n",
        quote(&job.graph.name)
    );
    for chain in &job.plan.chains {
        let label = quote(&format!("chain {} x{}", chain.id.0, chain.parallelism));
        let _ = writeln!(
            out,
            "  subgraph cluster_{} {{\n    label={label};",
            chain.id.0
        );
        for id in &chain.operators {
            if let Some(op) = job.graph.operator(*id) {
                let _ = writeln!(
                    out,
                    "    o{} [label={}];",
                    id.0,
                    quote(&format!("{}\n{}", op.name, op.body.kind()))
                );
            }
        }
        out.push_str("  }\n");
    }
    for edge in &job.graph.edges {
        let label = quote(&partition(&edge.partition));
        let _ = writeln!(
            out,
            "  o{} -> o{} [label={label}];",
            edge.source.0.0, edge.target.0.0
        );
    }
    out.push_str("}\n");
    out
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn stream_name(from: Option<&Operator>, edge: &Edge) -> String {
    let name = from.map_or("", |op| op.name.as_str());
    match from.and_then(|op| op.outputs.get(edge.source.1 as usize)) {
        Some(output) if edge.source.1 > 0 => format!("'{name}', side '{}'", output.name),
        _ => format!("'{name}'"),
    }
}

fn partition(p: &Partition) -> String {
    match p {
        Partition::Forward => "forward".into(),
        Partition::Key(fields) => format!("by key ({})", fields.join(", ")),
        Partition::Rebalance => "rebalance".into(),
        Partition::Rescale => "rescale".into(),
        Partition::Shuffle => "shuffle".into(),
        Partition::Broadcast => "broadcast".into(),
        Partition::Global => "global".into(),
        Partition::Custom(field) => format!("by field {field}"),
    }
}

/// What is special about an operator, as (label, value).
fn facts(op: &Operator) -> Vec<(&'static str, String)> {
    match &op.body {
        Body::Source(c) | Body::Sink(c) => options(c),
        Body::Timestamps(t) => {
            let field = match &t.times {
                Times::Field(name) => name.clone(),
                Times::Given => "as the function above gives them".into(),
                Times::Ingestion => "the clock, when a row comes in".into(),
            };
            let emits = (t.watermarks != Watermarks::Generated).then(|| ("emits", emits(t.emit)));
            let idle = t.idle_ms.map(|ms| ("idle", format!("after {ms} ms")));
            let drift = t.drift_ms.map(|ms| ("drift", format!("at most {ms} ms")));
            [("times", field), ("marks", watermarks(t.watermarks))]
                .into_iter()
                .chain(emits)
                .chain(idle)
                .chain(drift)
                .collect()
        }
        Body::Select(s) => s.unnest.iter().map(|r| ("unnest", r.clone())).collect(),
        Body::Transform(t) => vec![
            ("reads", t.view.to_string()),
            ("makes", listed(&t.produces)),
        ],
        Body::Process(p) => {
            let inputs = p
                .inputs
                .iter()
                .flat_map(|i| [("key", i.key.join(", ")), ("reads", i.view.to_string())]);
            inputs.collect()
        }
        Body::Window(w) => window(w),
        Body::Combine(c) => vec![
            ("key", c.key.join(", ")),
            ("slices", format!("of {} ms", c.assigner.slice_ms())),
            ("computes", computed(&c.function)),
        ],
        Body::Opaque { bytes, .. } => vec![("bytes", bytes.len().to_string())],
    }
}

fn watermarks(w: Watermarks) -> String {
    match w {
        Watermarks::Monotonous => "times never descend".to_owned(),
        Watermarks::Bounded(ms) => format!("at most {ms} ms out of order"),
        Watermarks::Generated => "as the function above gives them".to_owned(),
    }
}

fn emits(e: Emit) -> String {
    match e {
        Emit::Regular => "as often as the settings say".to_owned(),
        Emit::Batch => "after each batch".to_owned(),
        Emit::Interval(0) => "nothing before the end".to_owned(),
        Emit::Interval(ms) => format!("each {ms} ms"),
        Emit::Row => "after each row".to_owned(),
    }
}

fn options(c: &Connector) -> Vec<(&'static str, String)> {
    c.options
        .iter()
        .map(|(k, v)| ("option", format!("{k} = {v}")))
        .collect()
}

fn assigner(a: Assigner) -> String {
    match a {
        Assigner::Tumbling { size_ms, offset_ms } => {
            format!("tumbling, {size_ms} ms, offset {offset_ms} ms")
        }
        Assigner::Sliding {
            size_ms,
            slide_ms,
            offset_ms,
        } => {
            format!("sliding, {size_ms} ms every {slide_ms} ms, offset {offset_ms} ms")
        }
        Assigner::Session { gap_ms } => format!("sessions, a gap of {gap_ms} ms"),
    }
}

fn computed(function: &WindowFunction) -> String {
    match function {
        WindowFunction::Columns(columns) => columns
            .iter()
            .map(|(name, v)| format!("{name} = {}", value(v)))
            .collect::<Vec<_>>()
            .join(", "),
        WindowFunction::Aggregate { accumulator, .. } => {
            format!("the job's aggregate over {{{accumulator}}}")
        }
    }
}

fn window(w: &WindowSpec) -> Vec<(&'static str, String)> {
    let mergeable = match &w.function {
        WindowFunction::Columns(_) => true,
        WindowFunction::Aggregate { has_merge, .. } => *has_merge,
    };
    let panes = match (w.assigner, mergeable) {
        (Assigner::Tumbling { .. }, _) => "one a window".to_owned(),
        (Assigner::Sliding { .. }, true) => {
            format!("slices of {} ms, shared by windows", w.assigner.slice_ms())
        }
        (Assigner::Sliding { .. }, false) => {
            "one a window, since the aggregate has no merge".to_owned()
        }
        (Assigner::Session { .. }, _) => "one a session".to_owned(),
    };
    vec![
        ("key", w.key.join(", ")),
        ("windows", assigner(w.assigner)),
        ("late", format!("{} ms behind the watermark", w.lateness_ms)),
        ("panes", panes),
        ("computes", computed(&w.function)),
    ]
}

fn value(v: &pelton_model::graph::WindowValue) -> String {
    use pelton_model::graph::WindowValue as V;
    match v {
        V::Key(f) => format!("key {f}"),
        V::Start => "start".into(),
        V::End => "end".into(),
        V::Count => "count".into(),
        V::Sum(f) => format!("sum({f})"),
        V::Min(f) => format!("min({f})"),
        V::Max(f) => format!("max({f})"),
        V::Avg(f) => format!("avg({f})"),
        V::Ratio(s, c) => format!("{s} / {c}"),
    }
}

fn states(op: &Operator) -> &[StateSpec] {
    match &op.body {
        Body::Process(p) => &p.states,
        _ => &[],
    }
}

fn state_text(s: &StateSpec) -> String {
    let kind = format!("{:?}", s.kind).to_lowercase();
    let key = s
        .map_key
        .as_ref()
        .map(|k| format!(" by {{{k}}}"))
        .unwrap_or_default();
    let lazy = if s.lazy { ", lazy" } else { "" };
    let ttl = s
        .ttl
        .map(|t| format!(", expires after {} ms", t.ms))
        .unwrap_or_default();
    format!("'{}': {kind}{key} of {{{}}}{lazy}{ttl}", s.name, s.schema)
}
