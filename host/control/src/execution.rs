//! The execution graph: the job graph cut into chains, each with parallel tasks, joined by channels.
//! Needs: model. The second and last graph; a pure function of the first and the parallelism.
//!
//! Two operators share a chain where the upper one forwards its rows to the lower one, the lower one has no other
//! stream, and both have the same parallelism. Everything else is a channel from task to task.

use pelton_model::graph::{Edge, JobGraph, Partition};
use pelton_model::id::{ChainId, ChannelId, OperatorId, TaskId};
use pelton_model::key::KeyGroupRange;
use pelton_model::limits::{CHANNELS_MAX, KEY_GROUPS_MAX, PARALLELISM_MAX};
use pelton_model::protocol::{InputSpec, OutputSpec, TaskSpec};
use pelton_model::{Error, ErrorCode, Result};

/// Operators that run in one task, one after the other, without a channel between them.
#[derive(Clone, PartialEq, Debug)]
pub struct Chain {
    /// Its place among the chains.
    pub id: ChainId,
    /// Each after those above it.
    pub operators: Vec<OperatorId>,
    /// How many tasks run it.
    pub parallelism: u32,
}

/// From one task to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    /// The edge of the job graph that it is a part of.
    pub edge: u32,
    /// Who sends.
    pub source: TaskId,
    /// Who receives.
    pub target: TaskId,
}

/// Chains, tasks and channels of a job.
#[derive(Clone, PartialEq, Debug)]
pub struct ExecutionGraph {
    /// In the order of their first operators.
    pub chains: Vec<Chain>,
    /// All tasks, chain by chain.
    pub tasks: Vec<TaskSpec>,
    /// A [`ChannelId`] is an index.
    pub channels: Vec<Channel>,
}

/// Plans a checked graph. `parallelism` holds where an operator has none of its own.
///
/// Errors: `Usage` if a parallelism is 0 or above the maximum, which itself is at most `KEY_GROUPS_MAX`.
pub fn plan(graph: &JobGraph, parallelism: u32, max_parallelism: u32) -> Result<ExecutionGraph> {
    if max_parallelism == 0 || max_parallelism > KEY_GROUPS_MAX {
        return Err(Error::new(
            ErrorCode::Usage,
            format!("max parallelism {max_parallelism} is not between 1 and {KEY_GROUPS_MAX}"),
        ));
    }
    for (name, p) in graph
        .operators
        .iter()
        .map(|op| (op.name.as_str(), op.parallelism.unwrap_or(parallelism)))
    {
        if p == 0 || p > PARALLELISM_MAX.min(max_parallelism) {
            let message = format!(
                "parallelism {p} is not between 1 and {}",
                PARALLELISM_MAX.min(max_parallelism)
            );
            return Err(Error::new(ErrorCode::Usage, message)
                .at("operator", format!("'{name}'"))
                .help("the job's max parallelism bounds it: --max-parallelism N"));
        }
    }
    let of = |id: OperatorId| {
        graph
            .operator(id)
            .and_then(|op| op.parallelism)
            .unwrap_or(parallelism)
    };
    let order = graph
        .topological()
        .ok_or_else(|| Error::new(ErrorCode::GraphInvalid, "the graph has a cycle"))?;
    let (chains, chain_of) = cut(graph, &order, &of);
    let mut tasks: Vec<TaskSpec> = chains
        .iter()
        .flat_map(|c| tasks_of(c, max_parallelism))
        .collect();
    let mut channels = Vec::new();
    let mut planned: u64 = 0;
    for (index, edge) in graph.edges.iter().enumerate() {
        let (Some(from), Some(to)) = (
            chain_at(&chain_of, edge.source.0),
            chain_at(&chain_of, edge.target.0),
        ) else {
            continue;
        };
        if from != to {
            let ends = ((from, of(edge.source.0)), (to, of(edge.target.0)));
            planned += channels_of(edge, of(edge.source.0), of(edge.target.0));
            if planned > CHANNELS_MAX {
                let message = format!(
                    "with this parallelism, tasks would have over {CHANNELS_MAX} channels to one another"
                );
                return Err(Error::new(ErrorCode::Usage, message).help(
                    "lower the parallelism: where rows go by key, each task has a channel to each below",
                ));
            }
            connect(index as u32, edge, ends, &mut tasks, &mut channels);
        }
    }
    Ok(ExecutionGraph {
        chains,
        tasks,
        channels,
    })
}

fn chain_at(chain_of: &[Option<ChainId>], id: OperatorId) -> Option<ChainId> {
    chain_of.get(id.0 as usize).copied().flatten()
}

fn cut(
    graph: &JobGraph,
    order: &[OperatorId],
    of: &dyn Fn(OperatorId) -> u32,
) -> (Vec<Chain>, Vec<Option<ChainId>>) {
    let mut chains: Vec<Chain> = Vec::new();
    let mut chain_of: Vec<Option<ChainId>> = vec![None; graph.operators.len()];
    for id in order {
        let mut above = graph.edges_into(*id);
        let only = above.next().filter(|_| above.next().is_none());
        let joined = only
            .filter(|e| e.partition == Partition::Forward && of(e.source.0) == of(*id))
            .and_then(|e| chain_at(&chain_of, e.source.0));
        let chain = joined.unwrap_or_else(|| {
            let id = ChainId(chains.len() as u32);
            chains.push(Chain {
                id,
                operators: Vec::new(),
                parallelism: 0,
            });
            id
        });
        if let Some(c) = chains.get_mut(chain.0 as usize) {
            c.operators.push(*id);
            c.parallelism = of(*id);
        }
        if let Some(slot) = chain_of.get_mut(id.0 as usize) {
            *slot = Some(chain);
        }
    }
    (chains, chain_of)
}

fn tasks_of(chain: &Chain, max_parallelism: u32) -> impl Iterator<Item = TaskSpec> + '_ {
    (0..chain.parallelism).map(move |index| TaskSpec {
        task: TaskId {
            chain: chain.id,
            index,
        },
        parallelism: chain.parallelism,
        max_parallelism,
        key_groups: KeyGroupRange::of_task(index, chain.parallelism, max_parallelism),
        operators: chain.operators.clone(),
        inputs: Vec::new(),
        outputs: Vec::new(),
    })
}

/// How many channels an edge between two chains has.
fn channels_of(edge: &Edge, senders: u32, receivers: u32) -> u64 {
    let (s, r) = (u64::from(senders), u64::from(receivers));
    match edge.partition {
        Partition::Forward if s == r => s,
        Partition::Global => s,
        Partition::Rescale => s.max(r),
        _ => s * r,
    }
}

fn connect(
    index: u32,
    edge: &Edge,
    ((from, senders), (to, receivers)): ((ChainId, u32), (ChainId, u32)),
    tasks: &mut [TaskSpec],
    channels: &mut Vec<Channel>,
) {
    let reaches = |s: u32, r: u32| match edge.partition {
        Partition::Forward if senders == receivers => s == r,
        Partition::Global => r == 0,
        // A group of tasks for each task of the smaller side.
        Partition::Rescale if senders >= receivers => s * receivers / senders == r,
        Partition::Rescale => r * senders / receivers == s,
        _ => true,
    };
    // Tasks stand chain by chain, in the order of their indices.
    let first = |chain: ChainId| tasks.iter().position(|t| t.task.chain == chain);
    let (Some(first_from), Some(first_to)) = (first(from), first(to)) else {
        return;
    };
    for (first, count, sends) in [(first_from, senders, true), (first_to, receivers, false)] {
        for t in 0..count as usize {
            if let Some(task) = tasks.get_mut(first + t) {
                if sends {
                    task.outputs.push(OutputSpec {
                        edge: index,
                        channels: Vec::new(),
                    });
                } else {
                    task.inputs.push(InputSpec {
                        edge: index,
                        channels: Vec::new(),
                    });
                }
            }
        }
    }
    for s in 0..senders {
        for r in (0..receivers).filter(|r| reaches(s, *r)) {
            let (source, target) = (
                TaskId {
                    chain: from,
                    index: s,
                },
                TaskId {
                    chain: to,
                    index: r,
                },
            );
            let id = ChannelId(channels.len() as u32);
            channels.push(Channel {
                edge: index,
                source,
                target,
            });
            let (at, to) = (first_from + s as usize, first_to + r as usize);
            if let Some(o) = tasks.get_mut(at).and_then(|t| t.outputs.last_mut()) {
                o.channels.push(id);
            }
            if let Some(i) = tasks.get_mut(to).and_then(|t| t.inputs.last_mut()) {
                i.channels.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_model::graph::{Body, Connector, Operator, Output};
    use pelton_model::schema::{DataType, Field, Schema};

    fn graph(ops: &[Option<u32>], edges: &[(u32, u32, Partition)]) -> JobGraph {
        let schema = Schema::new(vec![Field::new("k", DataType::I64)]);
        let connector = Connector {
            name: "c".into(),
            options: Default::default(),
            schema: schema.clone(),
        };
        let operators = ops.iter().enumerate().map(|(i, p)| Operator {
            uid: i.to_string(),
            name: i.to_string(),
            parallelism: *p,
            body: Body::Source(connector.clone()),
            outputs: vec![Output {
                name: "main".into(),
                schema: schema.clone(),
            }],
        });
        let edges = edges.iter().map(|(s, t, p)| Edge {
            source: (OperatorId(*s), 0),
            target: (OperatorId(*t), 0),
            partition: p.clone(),
        });
        JobGraph {
            name: "j".into(),
            operators: operators.collect(),
            edges: edges.collect(),
            params: vec![],
            parallelism: None,
            max_parallelism: None,
        }
    }

    fn chains(g: &JobGraph) -> Vec<Vec<u32>> {
        plan(g, 2, 128)
            .unwrap()
            .chains
            .iter()
            .map(|c| c.operators.iter().map(|o| o.0).collect())
            .collect()
    }

    #[test]
    fn a_chain_ends_at_an_exchange_a_union_and_another_parallelism() {
        use Partition::{Forward, Key};
        let key = || Key(vec!["k".into()]);
        assert_eq!(
            chains(&graph(&[None; 3], &[(0, 1, Forward), (1, 2, key())])),
            [vec![0, 1], vec![2]]
        );
        assert_eq!(
            chains(&graph(&[None; 3], &[(0, 2, Forward), (1, 2, Forward)])),
            [vec![0], vec![1], vec![2]]
        );
        assert_eq!(
            chains(&graph(&[None, Some(1)], &[(0, 1, Forward)])),
            [vec![0], vec![1]]
        );
        assert_eq!(
            chains(&graph(&[None; 3], &[(0, 1, Forward), (0, 2, Forward)])),
            [vec![0, 1, 2]]
        );
    }

    #[test]
    fn channels_join_the_right_tasks() {
        let pairs = |p: Partition, below: u32| {
            let e = plan(
                &graph(
                    &[Some(2), Some(below), Some(1)],
                    &[(0, 1, p), (1, 2, Partition::Global)],
                ),
                1,
                128,
            )
            .unwrap();
            let first = e.channels.iter().filter(|c| c.edge == 0);
            first
                .map(|c| (c.source.index, c.target.index))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            pairs(Partition::Rebalance, 2),
            [(0, 0), (0, 1), (1, 0), (1, 1)]
        );
        assert_eq!(pairs(Partition::Global, 2), [(0, 0), (1, 0)]);
        assert_eq!(
            pairs(Partition::Rescale, 4),
            [(0, 0), (0, 1), (1, 2), (1, 3)]
        );
        assert_eq!(
            pairs(Partition::Forward, 4).len(),
            8,
            "another parallelism: rebalanced"
        );
    }

    #[test]
    fn channels_are_counted_before_they_are_made() {
        for (partition, from, to) in [
            (Partition::Forward, 3, 3),
            (Partition::Forward, 3, 2),
            (Partition::Rescale, 2, 5),
            (Partition::Rescale, 5, 2),
            (Partition::Global, 3, 4),
            (Partition::Key(vec!["k".into()]), 3, 4),
        ] {
            // Two edges into one operator are never chained.
            let edge = (0, 1, partition);
            let g = graph(&[Some(from), Some(to)], &[edge.clone(), edge]);
            let made = plan(&g, 1, 128).unwrap().channels.len() as u64;
            assert_eq!(made, 2 * channels_of(&g.edges[0], from, to));
        }
        let by_key = (0, 1, Partition::Key(vec!["k".into()]));
        let g = graph(&[None, None], &[by_key]);
        let error = plan(&g, 4_096, 4_096).unwrap_err();
        assert_eq!(
            error.message(),
            "with this parallelism, tasks would have over 1048576 channels to one another"
        );
        assert_eq!(plan(&g, 1_024, 4_096).unwrap().channels.len(), 1 << 20);
    }

    #[test]
    fn parallelism_stays_below_the_maximum() {
        let g = graph(&[Some(129)], &[]);
        assert!(
            plan(&g, 1, 128)
                .unwrap_err()
                .to_string()
                .contains("parallelism 129 is not between 1 and 128")
        );
        assert!(plan(&g, 1, 0).is_err());
    }
}
