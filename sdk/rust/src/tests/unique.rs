//! Unique counts by window: what the host is asked to do, and what an accumulator makes of rows.

use super::open;
use crate::bindings::exports::pelton::job::graph::Assigner;
use crate::connectors::blackhole;
use crate::prelude::*;
use crate::runtime::{Body, JobGraph};

#[derive(Record, Clone, Debug, PartialEq)]
struct Visit {
    site: String,
    user: u64,
    time: Timestamp,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Users {
    site: String,
    users: i64,
    start: Timestamp,
    end: Timestamp,
}

fn graph(windows: crate::Windows, offset: Duration) -> JobGraph {
    let instance = open(1 << 20, |job, _| {
        job.source::<Visit>("visits", blackhole())
            .assign_timestamps_by(monotonous(), Visit::TIME)
            .key_by(Visit::SITE)
            .window(windows.offset(offset))
            .unique_exact("users", Visit::USER, Users::USERS)
            .sink("out", blackhole());
        Ok(())
    });
    instance.graph().clone()
}

/// (key, assigner) of the two stages.
fn stages(graph: &JobGraph) -> Vec<(Vec<String>, Assigner)> {
    let bodies = graph.operators.iter().map(|o| &o.body);
    bodies
        .filter_map(|b| match b {
            Body::Window(w) => Some((w.key.clone(), w.assigner)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_exact_count_has_two_stages() {
    let graph = graph(sliding(seconds(10), seconds(4)), seconds(1));
    let stages = stages(&graph);
    let [(pairs, first), (keys, second)] = stages.as_slice() else {
        panic!("{} stages", stages.len());
    };
    assert_eq!(*pairs, ["site", "user"]);
    assert_eq!(*keys, ["site"]);
    assert!(matches!(first, Assigner::Sliding((10_000, 4_000, 1_000))));
    // A window that ends at 11,000 has its last millisecond in [7,000, 11,000): 3,000 past a multiple of 4,000.
    assert!(matches!(second, Assigner::Tumbling((4_000, 3_000))));
    let between = graph.operators.iter().find(|o| o.name == "users by value");
    let fields = between.unwrap().outputs[0].schema.iter();
    let fields: Vec<_> = fields.map(|f| f.name.as_str()).collect();
    assert_eq!(fields, ["site", "__start"]);
}

#[test]
fn a_tumbling_window_has_the_same_in_both_stages() {
    let graph = graph(tumbling(seconds(10)), seconds(-1));
    for (_, assigner) in stages(&graph) {
        assert!(matches!(assigner, Assigner::Tumbling((10_000, -1_000))));
    }
}

#[test]
fn what_cannot_be_counted_exactly_is_refused() {
    #[track_caller]
    fn refused(why: &str, windows: crate::Windows, lateness: Duration) {
        let job = |job: &mut Job, _: &Params| {
            job.source::<Visit>("visits", blackhole())
                .assign_timestamps_by(monotonous(), Visit::TIME)
                .key_by(Visit::SITE)
                .window(windows)
                .allowed_lateness(lateness)
                .unique_exact("users", Visit::USER, Users::USERS)
                .sink("out", blackhole());
            Ok(())
        };
        let failure = crate::runtime::describe("test", job, &[]).err();
        let message = failure.map(|f| f.message).unwrap_or_default();
        assert!(message.contains(why), "{message}");
    }
    refused("late rows", tumbling(seconds(1)), seconds(1));
    refused("sessions", session(seconds(1)), seconds(0));
}
