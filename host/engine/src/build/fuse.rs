//! Which functions of a chain run in one call.
//! Needs: the graph.

use pelton_model::graph::{Body, JobGraph};
use pelton_model::id::OperatorId;

/// The runs of operators that become one node each, in the order of the chain: chained functions without state are
/// fused where each is the only reader of the one above, up to one that generates watermarks.
#[must_use]
pub fn fuse(graph: &JobGraph, operators: &[OperatorId]) -> Vec<Vec<OperatorId>> {
    let is_transform = |id: OperatorId| {
        graph
            .operator(id)
            .is_some_and(|op| matches!(op.body, Body::Transform(_)))
    };
    let goes_on = |id: OperatorId| {
        graph
            .operator(id)
            .is_some_and(|op| matches!(&op.body, Body::Transform(t) if !t.watermarks))
    };
    let mut runs: Vec<Vec<OperatorId>> = Vec::new();
    for id in operators {
        let above = graph.edges_into(*id).next();
        let only_reader = above.is_some_and(|e| {
            e.source.1 == 0
                && graph
                    .edges_from(e.source.0)
                    .filter(|o| o.source.1 == 0)
                    .count()
                    == 1
        });
        let run = above
            .filter(|_| only_reader && is_transform(*id))
            .and_then(|e| {
                runs.iter_mut()
                    .find(|r| r.last() == Some(&e.source.0) && goes_on(e.source.0))
            });
        match run {
            Some(run) => run.push(*id),
            None => runs.push(vec![*id]),
        }
    }
    runs
}
