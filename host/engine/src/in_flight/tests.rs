//! Who gets what was in flight.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use pelton_model::checkpoint::OperatorRecord;
use pelton_model::graph::{Body, Connector, Operator, Output};
use pelton_model::id::OperatorId;
use pelton_model::key::{KeyGroupRange, hash_i64};
use pelton_model::schema::DataType;
use pelton_model::watermark::Watermark;

use super::*;
use crate::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};

const MAX: u32 = 16;

fn schema(names: &[&str]) -> Schema {
    Schema::new(
        names
            .iter()
            .map(|n| Field::new(*n, DataType::I64))
            .collect(),
    )
}

/// Above, with parallelism `above`, has two edges of this partition to the same input of below.
fn graph(partition: &Partition, above: Option<u32>) -> JobGraph {
    let connector = Connector {
        name: "c".into(),
        options: Default::default(),
        schema: schema(&["k"]),
    };
    let operator = |uid: &str, parallelism| Operator {
        uid: uid.into(),
        name: uid.into(),
        parallelism,
        body: Body::Source(connector.clone()),
        outputs: vec![Output {
            name: "main".into(),
            schema: schema(&["k"]),
        }],
    };
    let edge = Edge {
        source: (OperatorId(0), 0),
        target: (OperatorId(1), 0),
        partition: partition.clone(),
    };
    JobGraph {
        name: "j".into(),
        operators: vec![operator("above", above), operator("below@1", None)],
        edges: vec![edge.clone(), edge],
        params: vec![],
        parallelism: None,
        max_parallelism: None,
    }
}

fn ways(partition: &Partition, schema: &Schema, channels: usize) -> Vec<Way> {
    let graph = graph(partition, None);
    let entries = |edge: usize| -> Vec<Entry> {
        let entry = |channel| Entry {
            node: 0,
            input: 0,
            channel: edge * channels + channel,
        };
        (0..channels).map(entry).collect()
    };
    let way = |edge| Way::new(&graph, edge, schema, &entries(edge)).unwrap();
    vec![way(0), way(1)]
}

fn batch(keys: &[i64]) -> Element {
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let len = keys.len();
    Element::Batch(Batch::new(vec![keys.clone(), keys], len).unwrap())
}

/// Of two tasks below, of two above: in flight on the last channel of the second edge.
fn written(partition: &Partition) -> RestoreFrom {
    let lines = ways(partition, &schema(&["k", "other"]), 2);
    let line = &lines[1].lines()[1];
    assert_eq!(
        (line.uid.as_str(), line.name.as_str()),
        ("below@1", "0.0.1.1@above")
    );
    let task = |index: u32| {
        let (snapshot, mut writer) = MemorySnapshot::new();
        let mut captured = Captured::default();
        let own = i64::from(index) * 100;
        let keys: Vec<i64> = (own..own + 40).collect();
        for element in [
            batch(&keys),
            Element::Watermark(Watermark(5)),
            Element::Idle,
            Element::End,
            batch(&[own]),
        ] {
            captured.add(line, &element);
        }
        assert!(!captured.is_full());
        while !captured.is_written() {
            captured.write(&mut writer).unwrap();
        }
        let large: Vec<i64> = vec![0; 1 << 20];
        (0..4).for_each(|_| captured.add(line, &batch(&large)));
        assert!(captured.is_full());
        captured = Captured::default();
        assert!(captured.is_written());
        writer.finish();
        MemoryTask {
            index,
            key_groups: (index * 8, index * 8 + 8),
            operators: &["below@1"],
            snapshot,
        }
    };
    let from = checkpoint(MAX, &[task(0), task(1)]).unwrap();
    let mut metadata = (*from.metadata).clone();
    metadata.operators.push(OperatorRecord {
        uid: "above".into(),
        name: "above".into(),
        parallelism: 2,
    });
    RestoreFrom {
        metadata: Arc::new(metadata),
        ..from
    }
}

/// The channel, and the keys or the watermark.
type Shared = (usize, Vec<i64>);

/// By task.
fn shared_out(from: &RestoreFrom, tasks: u32, ways: &[Way]) -> Result<Vec<Vec<Shared>>> {
    let task = |task| {
        let part = Part {
            task,
            parallelism: tasks,
            key_groups: KeyGroupRange::of_task(task, tasks, MAX),
        };
        let pieces = restore(from, part, MAX, std::iter::once("below@1"), ways)?;
        let seen = |(line, element): Piece| {
            let values = match element {
                Element::Batch(b) => {
                    assert_eq!(b.columns().len(), 1, "fields that nobody reads are gone");
                    b.columns()[0].as_primitive::<Int64Type>().values().to_vec()
                }
                Element::Watermark(w) => vec![-w.0],
                other => panic!("{other:?}"),
            };
            (line.entry.channel, values)
        };
        Ok(pieces.into_iter().map(seen).collect())
    };
    (0..tasks).map(task).collect()
}

#[test]
fn with_the_same_tasks_each_channel_gets_what_it_had() {
    for partition in [Partition::Key(vec!["k".into()]), Partition::Rebalance] {
        let from = written(&partition);
        let ways = ways(&partition, &schema(&["k"]), 2);
        let of = |own: i64| {
            vec![
                (3, (own..own + 40).collect()),
                (3, vec![-5]),
                (3, vec![own]),
            ]
        };
        assert_eq!(shared_out(&from, 2, &ways).unwrap(), [of(0), of(100)]);
    }
}

#[test]
fn other_senders_take_no_watermark_along() {
    let partition = Partition::Rebalance;
    let ways = ways(&partition, &schema(&["k"]), 3);
    let of = |own: i64| vec![(3, (own..own + 40).collect()), (3, vec![own])];
    let all = shared_out(&written(&partition), 2, &ways).unwrap();
    assert_eq!(all, [of(0), of(100)]);
}

#[test]
fn other_tasks_get_the_rows_of_their_key_groups_or_batches_in_turn() {
    let key = Partition::Key(vec!["k".into()]);
    let all = shared_out(&written(&key), 3, &ways(&key, &schema(&["k"]), 2)).unwrap();
    let mut rows = 0;
    for (task, pieces) in (0..).zip(&all) {
        for (channel, keys) in pieces {
            assert!(*channel == 2 && keys.is_sorted());
            let range = KeyGroupRange::of_task(task, 3, MAX);
            let is_mine = |k: &i64| range.contains(KeyGroup::of(hash_i64(*k), MAX));
            assert!(keys.iter().all(is_mine));
            rows += keys.len();
        }
    }
    assert_eq!(rows, 82);
    let turn = Partition::Rescale;
    let all = shared_out(&written(&turn), 3, &ways(&turn, &schema(&["k"]), 1)).unwrap();
    let batches: Vec<Vec<usize>> = all
        .iter()
        .map(|p| p.iter().map(|(_, keys)| keys.len()).collect())
        .collect();
    assert_eq!(batches, [vec![40, 1], vec![1], vec![40]]);
    let first = Partition::Global;
    let all = shared_out(&written(&first), 3, &ways(&first, &schema(&["k"]), 2)).unwrap();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [4, 0, 0]);
}

#[test]
fn rows_that_have_no_place_are_refused() {
    let key = Partition::Key(vec!["k".into()]);
    let from = written(&key);
    let code = |ways: &[Way]| shared_out(&from, 2, ways).unwrap_err().code();
    let all = ways(&key, &schema(&["k"]), 2);
    assert_eq!(
        code(&all[..1]),
        ErrorCode::StateMismatch,
        "the edge is gone"
    );
    let new = ways(&key, &schema(&["k", "new"]), 2);
    assert_eq!(code(&new), ErrorCode::StateMismatch);
}

#[test]
fn what_cannot_be_dealt_out_anew_is_pinned() {
    let pinned = |partition: Partition, above, tasks, channels| {
        let graph = graph(&partition, above);
        is_pinned(&graph, &graph.edges[0], tasks, channels)
    };
    assert!(pinned(Partition::Broadcast, Some(2), 4, 2));
    assert!(pinned(Partition::Custom("k".into()), None, 4, 4));
    assert!(pinned(Partition::Forward, None, 4, 1));
    assert!(pinned(Partition::Forward, Some(4), 4, 1));
    assert!(
        !pinned(Partition::Forward, Some(1), 4, 1),
        "it is rebalanced"
    );
    assert!(!pinned(Partition::Key(vec!["k".into()]), None, 4, 4));
    assert!(!pinned(Partition::Rescale, None, 4, 1));
}
