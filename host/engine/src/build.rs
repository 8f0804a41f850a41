//! From a task's specification to the task: makes its operators, joins them, fuses what can be fused.
//! Needs: everything else in this crate. What comes from outside (connectors, functions, channels) is passed in.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pelton_model::graph::{
    Body, Combine, Edge, JobGraph, Needs, Operator as Spec, Transform, WindowFunction, WindowSpec,
};
use pelton_model::id::{ChannelId, OperatorId};
use pelton_model::limits::Limits;
use pelton_model::protocol::TaskSpec;
use pelton_model::schema::Schema;
use pelton_model::snapshot::SectionKind;
use pelton_model::{Error, Result};

use crate::chain::{Chain, Entry, Node, Part, Target};
use crate::connector::{Position, Sink, Source};
use crate::function::Functions;
use crate::in_flight::{self, Line, Way, is_pinned};
use crate::operator::{NoFunctions, Operator, OperatorMetrics};
use crate::operators::combine::CombineOperator;
use crate::operators::process::{ProcessOperator, StatePlace};
use crate::operators::select::SelectOperator;
use crate::operators::sink::SinkOperator;
use crate::operators::timestamps::TimestampsOperator;
use crate::operators::transform::{Member, TransformOperator};
use crate::operators::window;
use crate::shuffle::partition::Partitioner;
use crate::shuffle::{Receiver, Sender};
use crate::snapshot::{RestoreFrom, SnapshotStore};
use crate::splits::{Alignment, Said, Splits};
use crate::state::StateBackend;
use crate::task::{Durable, Gate, Head, Task};

mod fuse;

pub use fuse::fuse;

/// What a job's tasks share.
pub struct JobParts<'a> {
    /// The checked graph.
    pub graph: &'a JobGraph,
    /// Its pruned streams.
    pub needs: &'a Needs,
    /// Opened sources, by operator.
    pub sources: &'a BTreeMap<OperatorId, Arc<dyn Source>>,
    /// Opened sinks, by operator.
    pub sinks: &'a BTreeMap<OperatorId, Arc<dyn Sink>>,
    /// What each task may use.
    pub limits: &'a Limits,
    /// Rows in a batch at most.
    pub batch_rows: usize,
    /// Where state is kept.
    pub backend: &'a dyn StateBackend,
    /// Whether it runs as a batch: no watermark before the end, final results only.
    pub batch: bool,
    /// The splits that stay together.
    pub alignment: Arc<Alignment>,
    /// What the job goes on from.
    pub restore: Option<RestoreFrom>,
}

/// What one task gets of its own.
pub struct TaskParts<'a> {
    /// Counters, by operator of its chain.
    pub metrics: &'a BTreeMap<OperatorId, Arc<OperatorMetrics>>,
    /// The instance of the user's functions; none where the chain has no function.
    pub functions: Option<Box<dyn Functions>>,
    /// The ends of its channels.
    pub senders: BTreeMap<ChannelId, Box<dyn Sender>>,
    /// Its input gates, one for each task that sends to it, with their channels.
    pub gates: Vec<(Vec<ChannelId>, Box<dyn Receiver>)>,
    /// Where its snapshots go; none where there are no checkpoints.
    pub snapshots: Option<Box<dyn SnapshotStore>>,
}

/// Whether a chain calls users' functions.
#[must_use]
pub fn needs_functions(graph: &JobGraph, spec: &TaskSpec) -> bool {
    spec.operators
        .iter()
        .filter_map(|id| graph.operator(*id))
        .any(|op| match &op.body {
            Body::Transform(_) | Body::Process(_) => true,
            Body::Window(WindowSpec { function, .. }) | Body::Combine(Combine { function, .. }) => {
                matches!(function, WindowFunction::Aggregate { .. })
            }
            _ => false,
        })
}

/// Makes a task. Errors: a plan that does not fit its graph (a bug), a connector that refuses.
pub fn task(job: &JobParts<'_>, spec: &TaskSpec, mut parts: TaskParts<'_>) -> Result<Task> {
    let runs = fuse(job.graph, &spec.operators);
    let builder = Builder {
        job,
        spec,
        runs: &runs,
        splits: RefCell::default(),
        said: RefCell::default(),
    };
    let mut nodes = Vec::new();
    let mut heads = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        nodes.push(builder.node(index, run, &parts, &mut heads)?);
    }
    let mut exits = Vec::new();
    for (position, output) in spec.outputs.iter().enumerate() {
        let edge = job
            .graph
            .edges
            .get(output.edge as usize)
            .ok_or_else(|| Error::bug("a plan names an edge that is not there"))?;
        let senders = output
            .channels
            .iter()
            .filter_map(|c| parts.senders.remove(c))
            .collect();
        let schema = stream(job.needs, edge)?;
        exits.push(Partitioner::new(
            &edge.partition,
            schema,
            senders,
            spec.max_parallelism,
            u64::from(spec.task.index),
        )?);
        let (node, port) = builder.exit_port(edge)?;
        if let Some(targets) = nodes.get_mut(node).map(|n| &mut n.targets) {
            at(targets, port).push(Target::Exit(position));
        }
    }
    let joined = builder.join(&mut nodes)?;
    let gates = gates(parts.gates, &joined)?;
    let splits = builder.splits.take().into_values().collect();
    let functions = parts.functions.unwrap_or_else(|| Box::new(NoFunctions));
    let part = Part {
        task: spec.task.index,
        parallelism: spec.parallelism,
        key_groups: spec.key_groups,
    };
    let in_flight = match &job.restore {
        Some(from) => {
            let operators = spec
                .operators
                .iter()
                .filter_map(|id| job.graph.operator(*id));
            let uids = operators.map(|op| op.uid.as_str());
            in_flight::restore(from, part, spec.max_parallelism, uids, &joined.ways)?
        }
        None => VecDeque::new(),
    };
    let durable = parts.snapshots.map(|store| Durable {
        task: spec.task,
        part,
        store,
        restore: job.restore.clone(),
        in_flight,
    });
    Ok(Task::new(
        Chain::new(nodes, exits),
        (heads, splits),
        gates,
        functions,
        job.limits.clone(),
        job.batch_rows,
        durable,
    ))
}

/// How the operators of a task are joined to others.
#[derive(Default)]
struct Joined {
    /// Channels from other tasks, and whether their barriers are waited for.
    lines: BTreeMap<ChannelId, (Arc<Line>, bool)>,
    /// All edges into its operators, also those within the chain: with another parallelism there was a channel.
    ways: Vec<Way>,
}

/// The gates, with where the elements of their channels go.
fn gates(ends: Vec<(Vec<ChannelId>, Box<dyn Receiver>)>, joined: &Joined) -> Result<Vec<Gate>> {
    let gate = |(channels, receiver): (Vec<ChannelId>, _)| {
        let lines = channels.iter().map(|c| joined.lines.get(c).cloned());
        let lines: Option<Vec<(Arc<Line>, bool)>> = lines.collect();
        let lines = lines.ok_or_else(|| Error::bug("a channel that leads nowhere"))?;
        Ok(Gate {
            pinned: lines.iter().any(|(_, pinned)| *pinned),
            lines: lines.into_iter().map(|(line, _)| line).collect(),
            receiver,
        })
    };
    let gates = ends.into_iter().map(gate).collect::<Result<Vec<_>>>()?;
    if gates.iter().map(|g| g.lines.len()).sum::<usize>() != joined.lines.len() {
        return Err(Error::bug("a channel without an end"));
    }
    Ok(gates)
}

fn at(targets: &mut Vec<Vec<Target>>, port: usize) -> &mut Vec<Target> {
    if targets.len() <= port {
        targets.resize_with(port + 1, Vec::new);
    }
    // Just made long enough.
    #[expect(
        clippy::indexing_slicing,
        reason = "the line above makes it long enough"
    )]
    &mut targets[port]
}

fn stream<'a>(needs: &'a Needs, edge: &Edge) -> Result<&'a Schema> {
    needs
        .stream(edge.source.0, edge.source.1)
        .ok_or_else(|| Error::bug("a stream without a schema"))
}

struct Builder<'a> {
    job: &'a JobParts<'a>,
    spec: &'a TaskSpec,
    runs: &'a [Vec<OperatorId>],
    /// Those of the sources of the chain, and for operators that make watermarks without a source above, one of their own.
    splits: RefCell<BTreeMap<OperatorId, Arc<Splits>>>,
    /// What generators say, by the operator that calls them.
    said: RefCell<BTreeMap<OperatorId, Arc<Said>>>,
}

impl Builder<'_> {
    fn spec_of(&self, id: OperatorId) -> Result<&Spec> {
        self.job
            .graph
            .operator(id)
            .ok_or_else(|| Error::bug("a plan names an operator that is not there"))
    }

    fn place<'b>(&'b self, op: &'b Spec) -> StatePlace<'b> {
        StatePlace {
            backend: self.job.backend,
            uid: &op.uid,
            task: self.spec.task.index,
            key_groups: self.spec.key_groups,
            max_parallelism: self.spec.max_parallelism,
        }
    }

    fn input(&self, id: OperatorId, input: u32) -> Result<&Schema> {
        self.job
            .needs
            .input(self.job.graph, id, input)
            .ok_or_else(|| Error::bug("an input without a schema"))
    }

    fn output(&self, id: OperatorId) -> Result<&Schema> {
        self.job
            .needs
            .stream(id, 0)
            .ok_or_else(|| Error::bug("an operator without an output"))
    }

    fn members(&self, run: &[OperatorId], parts: &TaskParts<'_>) -> Result<Vec<Member>> {
        run.iter()
            .map(|id| {
                let op = self.spec_of(*id)?;
                let Body::Transform(spec) = &op.body else {
                    return Err(Error::bug("only functions are fused"));
                };
                Ok(self.member(op, spec, parts.metrics.get(id)))
            })
            .collect()
    }

    fn member(
        &self,
        op: &Spec,
        spec: &Transform,
        metrics: Option<&Arc<OperatorMetrics>>,
    ) -> Member {
        Member {
            name: op.name.clone(),
            spec: spec.clone(),
            declared: op.outputs.iter().map(|o| o.schema.clone()).collect(),
            metrics: metrics.cloned().unwrap_or_else(OperatorMetrics::new),
        }
    }

    fn node(
        &self,
        index: usize,
        run: &[OperatorId],
        parts: &TaskParts<'_>,
        heads: &mut Vec<Head>,
    ) -> Result<Node> {
        let first = *run.first().ok_or_else(|| Error::bug("an empty run"))?;
        let last = *run.last().unwrap_or(&first);
        let op = self.spec_of(first)?;
        // Fused functions count for themselves.
        let own = parts
            .metrics
            .get(&first)
            .filter(|_| !matches!(op.body, Body::Transform(_)));
        let metrics = own.cloned().unwrap_or_else(OperatorMetrics::new);
        let declared: Vec<Schema> = op.outputs.iter().map(|o| o.schema.clone()).collect();
        let operator: Option<Box<dyn Operator>> = match &op.body {
            Body::Source(_) => {
                let source = self
                    .job
                    .sources
                    .get(&first)
                    .ok_or_else(|| Error::bug("a source that was not opened"))?;
                let (task, of) = (self.spec.task.index, self.spec.parallelism);
                let reader = match self.positions(op)? {
                    Some(positions) => source.reader_at(task, of, &positions)?,
                    None => source.reader(task, of)?,
                };
                let names = reader.splits();
                heads.push(Head {
                    node: index,
                    uid: op.uid.clone(),
                    paused: match names.len() {
                        0 | 1 => Vec::new(),
                        several => vec![false; several],
                    },
                    splits: self.splits_of(first, names),
                    reader,
                    metrics: Arc::clone(&metrics),
                });
                None
            }
            Body::Sink(c) => {
                let sink = self
                    .job
                    .sinks
                    .get(&first)
                    .ok_or_else(|| Error::bug("a sink that was not opened"))?;
                let writer = sink.writer(self.spec.task.index, self.spec.parallelism)?;
                Some(Box::new(SinkOperator::new(
                    writer,
                    self.input(first, 0)?,
                    &c.schema,
                )?))
            }
            Body::Timestamps(t) => {
                let above = self.job.graph.edges_into(first).next();
                let said = above.and_then(|e| self.said.borrow().get(&e.source.0).cloned());
                let operator = TimestampsOperator::new(
                    t,
                    self.input(first, 0)?,
                    self.output(first)?,
                    match &said {
                        Some(said) => Arc::clone(said.splits()),
                        None => self.splits_above(first),
                    },
                    &self.job.alignment,
                    self.job.batch,
                )?;
                let operator = match said {
                    Some(said) => operator.told_by(said),
                    None => operator,
                };
                // Set once: counters belong to one task.
                let _ = metrics.splits.set(operator.watch());
                Some(Box::new(operator))
            }
            Body::Select(s) => Some(Box::new(SelectOperator::new(
                s,
                self.input(first, 0)?,
                self.output(first)?,
            )?)),
            Body::Transform(_) => {
                let members = self.members(run, parts)?;
                let generates = members.last().is_some_and(|m| m.spec.watermarks);
                let operator =
                    TransformOperator::new(members, self.input(first, 0)?, self.output(last)?)?;
                Some(Box::new(match generates {
                    true => operator.noted_in(self.said_at(first, last)),
                    false => operator,
                }))
            }
            Body::Process(p) => {
                let inputs = (0..p.inputs.len())
                    .map(|i| self.input(first, i as u32).cloned())
                    .collect::<Result<Vec<_>>>()?;
                Some(Box::new(ProcessOperator::new(
                    p,
                    &op.name,
                    &inputs,
                    &declared,
                    &self.place(op),
                )?))
            }
            Body::Window(w) => {
                let input = self.input(first, 0)?;
                let place = self.place(op);
                let operator = window::operator_of_task(w, &op.name, input, &declared, &place)?;
                Some(operator)
            }
            Body::Combine(c) => Some(Box::new(CombineOperator::new(
                c,
                &op.name,
                self.input(first, 0)?,
                &declared,
            )?)),
            Body::Opaque { kind, .. } => {
                return Err(Error::bug(format!(
                    "nobody makes operators of kind '{kind}'"
                )));
            }
        };
        Ok(Node {
            name: op.name.clone(),
            uid: op.uid.clone(),
            operator,
            metrics,
            channels: Vec::new(),
            targets: Vec::new(),
        })
    }

    fn splits_of(&self, id: OperatorId, names: Vec<String>) -> Arc<Splits> {
        let mut all = self.splits.borrow_mut();
        Arc::clone(all.entry(id).or_insert_with(|| Splits::new(names)))
    }

    /// What the generators of a run say: the last of its functions calls them.
    fn said_at(&self, first: OperatorId, last: OperatorId) -> Arc<Said> {
        let said = Said::new(self.splits_above(first));
        self.said.borrow_mut().insert(last, Arc::clone(&said));
        said
    }

    /// Where the readers of a source stood at the checkpoint that the job goes on from, if it had the source.
    fn positions(&self, op: &Spec) -> Result<Option<Vec<Position>>> {
        let Some(from) = &self.job.restore else {
            return Ok(None);
        };
        let part = (self.spec.task.index, self.spec.parallelism);
        let restored = from.operator(&op.uid, part, self.spec.key_groups);
        if restored.tasks().next().is_none() {
            return Ok(None);
        }
        let mut positions = Vec::new();
        restored.entries(
            |s| s.kind == SectionKind::Positions,
            |_, _, entry| {
                positions.push(Position {
                    split: String::from_utf8_lossy(entry.sub).into_owned(),
                    at: entry.value.to_vec(),
                });
                Ok(())
            },
        )?;
        Ok(Some(positions))
    }

    /// The splits of the source above an operator in this chain, if no watermarks are made in between; else one.
    fn splits_above(&self, id: OperatorId) -> Arc<Splits> {
        let graph = self.job.graph;
        let mut at = id;
        while let Some(edge) = graph.edges_into(at).next() {
            at = edge.source.0;
            match graph.operator(at).map(|op| &op.body) {
                Some(Body::Source(_)) => {
                    if let Some(splits) = self.splits.borrow().get(&at) {
                        return Arc::clone(splits);
                    }
                }
                None | Some(Body::Timestamps(_)) => break,
                Some(_) if self.spec.operators.contains(&at) => {}
                Some(_) => break,
            }
        }
        self.splits_of(id, vec![String::new()])
    }

    /// The node that holds an operator.
    fn node_of(&self, id: OperatorId) -> Result<usize> {
        self.runs
            .iter()
            .position(|r| r.contains(&id))
            .ok_or_else(|| Error::bug("an operator is not in its chain"))
    }

    /// The node and port on which an edge leaves.
    fn exit_port(&self, edge: &Edge) -> Result<(usize, usize)> {
        let node = self.node_of(edge.source.0)?;
        let run = self.runs.get(node).map(Vec::as_slice).unwrap_or_default();
        let step = run.iter().position(|id| *id == edge.source.0).unwrap_or(0);
        if !matches!(self.spec_of(edge.source.0)?.body, Body::Transform(_)) {
            return Ok((node, edge.source.1 as usize));
        }
        let before = run
            .iter()
            .take(step)
            .map(|id| Ok(self.spec_of(*id)?.outputs.len().saturating_sub(1)))
            .sum::<Result<usize>>()?;
        Ok((
            node,
            if edge.source.1 == 0 {
                0
            } else {
                before + edge.source.1 as usize
            },
        ))
    }

    /// Gives each way into each operator its channel.
    fn join(&self, nodes: &mut [Node]) -> Result<Joined> {
        let mut joined = Joined::default();
        for (node, run) in self.runs.iter().enumerate() {
            let Some(first) = run.first().copied() else {
                continue;
            };
            let edges: Vec<(u32, &Edge)> = self
                .job
                .graph
                .edges
                .iter()
                .enumerate()
                .filter(|(_, e)| e.target.0 == first)
                .map(|(i, e)| (i as u32, e))
                .collect();
            let inputs = edges
                .iter()
                .map(|(_, e)| e.target.1 as usize + 1)
                .max()
                .unwrap_or(0);
            let mut channels = vec![0usize; inputs];
            for (index, edge) in edges {
                let input = edge.target.1 as usize;
                let mut next = |n: usize| {
                    let slot = channels.get_mut(input);
                    slot.map_or(0, |c| std::mem::replace(c, *c + n))
                };
                let outside = self.spec.inputs.iter().find(|i| i.edge == index);
                let entries: Vec<Entry> = (0..outside.map_or(1, |o| o.channels.len()))
                    .map(|_| Entry {
                        node,
                        input,
                        channel: next(1),
                    })
                    .collect();
                let schema = stream(self.job.needs, edge)?;
                let way = Way::new(self.job.graph, index as usize, schema, &entries)?;
                match outside {
                    Some(outside) => {
                        let (tasks, count) = (self.spec.parallelism, outside.channels.len());
                        let pinned = is_pinned(self.job.graph, edge, tasks, count);
                        let lines = way.lines().iter().map(|l| (Arc::clone(l), pinned));
                        let channels = outside.channels.iter().copied();
                        joined.lines.extend(channels.zip(lines));
                    }
                    None => {
                        let (from, port) = self.exit_port(edge)?;
                        let inner = entries.iter().copied().map(Target::Inner);
                        if let Some(n) = nodes.get_mut(from) {
                            at(&mut n.targets, port).extend(inner);
                        }
                    }
                }
                joined.ways.push(way);
            }
            if let Some(n) = nodes.get_mut(node) {
                n.channels = channels;
            }
        }
        Ok(joined)
    }
}
