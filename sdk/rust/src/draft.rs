//! A job graph in the making, shared by all streams of a job. Plain code: nothing here knows a record type.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::bindings::exports::pelton::job::graph::{
    Body, Edge, Emit, JobGraph, Operator, OutputStream, Partition, ProcessInput, Select, State,
    Transform, WindowAggregate, WindowColumn, WindowFunction, WindowValue,
};
use crate::digest::digest;
use crate::function::{Function, Open, Port};
use crate::value::Schema;

/// Makes a function when an instance opens.
pub(crate) type Make = Box<dyn FnOnce(&Open) -> crate::Result<Function>>;

/// A function of the job: of which operator, and how it is made.
pub(crate) struct FunctionDraft {
    pub(crate) operator: u32,
    pub(crate) make: Make,
}

#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) operators: Vec<Operator>,
    /// For each operator, its side outputs: what makes their buffers.
    pub(crate) ports: Vec<Vec<Port>>,
    /// Which operators were given a uid of their own.
    has_uid: Vec<bool>,
    /// All uids in use.
    uids: BTreeSet<String>,
    /// By name, the last number that was given to tell operators of that name apart.
    numbers: BTreeMap<String, u32>,
    edges: Vec<Edge>,
    pub(crate) functions: Vec<FunctionDraft>,
    /// Of the whole job, in place of the command line's.
    pub(crate) parallelism: Option<u32>,
    pub(crate) max_parallelism: Option<u32>,
    /// How often watermarks are emitted where their strategy does not say it.
    pub(crate) emit: Option<Emit>,
    /// What went wrong first.
    pub(crate) failure: Option<String>,
}

pub(crate) type Shared = Rc<RefCell<Draft>>;

/// Where a stream comes from.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) operator: u32,
    pub(crate) port: u32,
    pub(crate) partition: Partition,
}

impl Draft {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Adds an operator with its main output, if it has one.
    pub(crate) fn add(&mut self, name: &str, body: Body, output: Option<Schema>) -> u32 {
        let outputs = output
            .into_iter()
            .map(|schema| OutputStream {
                name: "main".into(),
                schema,
            })
            .collect();
        let uid = self.free_uid(name);
        self.operators.push(Operator {
            uid,
            name: name.into(),
            parallelism: None,
            body,
            outputs,
        });
        self.ports.push(Vec::new());
        self.has_uid.push(false);
        (self.operators.len() - 1) as u32
    }

    /// Takes a number for a function of the operator that is added next.
    pub(crate) fn function(&mut self, make: Make) -> u32 {
        self.functions.push(FunctionDraft {
            operator: self.operators.len() as u32,
            make,
        });
        (self.functions.len() - 1) as u32
    }

    fn free_uid(&mut self, name: &str) -> String {
        let mut slug: String = name
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect();
        if slug.is_empty() {
            slug = "operator".into();
        }
        // Numbers go on from the last of the same name, so that a job of many operators is described in linear time.
        while !self.uids.insert(slug.clone()) {
            let next = self.numbers.entry(slug.clone()).or_insert(1);
            *next += 1;
            let numbered = format!("{slug}-{next}");
            if self.uids.insert(numbered.clone()) {
                return numbered;
            }
        }
        slug
    }

    pub(crate) fn connect(&mut self, ends: &[End], operator: u32) {
        self.connect_input(ends, operator, 0);
    }

    pub(crate) fn connect_input(&mut self, ends: &[End], operator: u32, input: u32) {
        for end in ends {
            let source = (end.operator, end.port);
            self.edges.push(Edge {
                source,
                target: (operator, input),
                partition: end.partition.clone(),
            });
        }
    }

    pub(crate) fn rename(&mut self, operator: u32, name: &str) {
        let named = self.has_uid.get(operator as usize) == Some(&true);
        let Some(op) = self.operators.get_mut(operator as usize) else {
            return;
        };
        op.name = name.into();
        if !named {
            let former = std::mem::take(&mut op.uid);
            self.uids.remove(&former);
            let uid = self.free_uid(name);
            if let Some(op) = self.operators.get_mut(operator as usize) {
                op.uid = uid;
            }
        }
    }

    pub(crate) fn set_uid(&mut self, operator: u32, uid: &str) {
        if let (Some(op), Some(named)) = (
            self.operators.get_mut(operator as usize),
            self.has_uid.get_mut(operator as usize),
        ) {
            self.uids.remove(&op.uid);
            self.uids.insert(uid.into());
            op.uid = uid.into();
            *named = true;
        }
    }

    pub(crate) fn set_parallelism(&mut self, operator: u32, parallelism: u32) {
        if let Some(op) = self.operators.get_mut(operator as usize) {
            op.parallelism = Some(parallelism);
        }
    }

    pub(crate) fn fail(&mut self, message: String) {
        self.failure.get_or_insert(message);
    }

    /// The number of an operator's side output, added if it is new.
    pub(crate) fn side(&mut self, operator: u32, port: Port, schema: Schema) -> u32 {
        let at = operator as usize;
        let (Some(op), Some(ports)) = (self.operators.get_mut(at), self.ports.get_mut(at)) else {
            return 0;
        };
        let sides = op.outputs.iter().enumerate().skip(1);
        if let Some((found, output)) = sides.into_iter().find(|(_, o)| o.name == port.name) {
            if output.schema != schema {
                let (name, operator) = (output.name.clone(), op.name.clone());
                self.fail(format!(
                    "side output '{name}' of '{operator}' is asked for with two record types"
                ));
            }
            return found as u32;
        }
        op.outputs.push(OutputStream {
            name: port.name.to_owned(),
            schema,
        });
        ports.push(port);
        (op.outputs.len() - 1) as u32
    }

    /// The graph as it stands.
    pub(crate) fn graph(&self, params: Vec<String>) -> JobGraph {
        let mut graph = JobGraph {
            name: self.name.clone(),
            operators: self.operators.clone(),
            edges: self.edges.clone(),
            params,
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
            digest: 0,
        };
        in_one_task(&mut graph);
        if let Some(emit) = self.emit {
            let strategies = graph
                .operators
                .iter_mut()
                .filter_map(|op| match &mut op.body {
                    Body::Timestamps(t) if matches!(t.emit, Emit::Regular) => Some(t),
                    _ => None,
                });
            strategies.for_each(|t| t.emit = emit);
        }
        graph.digest = digest(&graph);
        graph
    }
}

/// Files that are merged are read by one task, and what is fed by it alone without an exchange stays there: dealt out to
/// more tasks, their rows would lose the order.
fn in_one_task(graph: &mut JobGraph) {
    let mut one = vec![false; graph.operators.len()];
    for (at, op) in graph.operators.iter_mut().enumerate() {
        let mut into = graph.edges.iter().filter(|e| e.target.0 as usize == at);
        let fed = match &op.body {
            Body::Source(c) => c.options.iter().any(|o| o.name == "merge_by"),
            _ => {
                into.clone().next().is_some()
                    && into.all(|e| {
                        matches!(e.partition, Partition::Forward)
                            && one.get(e.source.0 as usize) == Some(&true)
                    })
            }
        };
        if fed && op.parallelism.is_none() {
            op.parallelism = Some(1);
        }
        if let Some(slot) = one.get_mut(at) {
            *slot = fed && op.parallelism == Some(1);
        }
    }
}

/// A function without state; and whether it gives event times, and watermarks.
pub(crate) fn transform(
    function: u32,
    view: Schema,
    produces: Vec<String>,
    (times, watermarks): (bool, bool),
) -> Body {
    Body::Transform(Transform {
        function,
        view,
        produces,
        times,
        watermarks,
    })
}

pub(crate) fn process(
    function: u32,
    inputs: Vec<ProcessInput>,
    states: Vec<State>,
    timers: bool,
) -> Body {
    Body::Process(crate::bindings::exports::pelton::job::graph::Process {
        function,
        inputs,
        states,
        timers,
    })
}

pub(crate) fn select(unnest: Option<&str>, columns: Vec<(String, String)>) -> Body {
    Body::Select(Select {
        unnest: unnest.map(str::to_owned),
        columns,
    })
}

pub(crate) fn columns(columns: Vec<(String, WindowValue)>) -> WindowFunction {
    WindowFunction::Columns(
        columns
            .into_iter()
            .map(|(name, value)| WindowColumn { name, value })
            .collect(),
    )
}

pub(crate) fn aggregate(
    function: u32,
    view: Schema,
    accumulator: Schema,
    has_merge: bool,
) -> WindowFunction {
    WindowFunction::Aggregate(WindowAggregate {
        function,
        view,
        accumulator,
        has_merge,
        combined: false,
    })
}
