//! Rolling aggregates, the user's own partitioner, and the job's parallelism.

use super::open;
use crate::connectors::blackhole;
use crate::prelude::*;
use crate::runtime::Body;
use crate::stream::KeyedStream;
use crate::testing::Harness;

#[derive(Record, Clone, Debug, PartialEq)]
struct Bid {
    item: String,
    bidder: i64,
    price: i64,
    weight: Option<f64>,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Figure {
    item: String,
    value: f64,
}

fn bid(item: &str, bidder: i64, price: i64) -> Bid {
    Bid {
        item: item.into(),
        bidder,
        price,
        weight: (price % 2 == 0).then_some(price as f64),
    }
}

/// (bidder, price) of what comes out after each row.
#[track_caller]
fn check(
    f: impl FnOnce(KeyedStream<Bid, Bid, String>) -> Stream<Bid>,
    rows: &[(&str, i64, i64)],
    expected: &[(i64, i64)],
) {
    let mut h = Harness::new(|bids: Stream<Bid>| f(bids.key_by(Bid::ITEM)));
    rows.iter().for_each(|(i, b, p)| h.push(bid(i, *b, *p)));
    let got: Vec<_> = h.take().iter().map(|b| (b.bidder, b.price)).collect();
    assert_eq!(got, expected);
}

const ROWS: &[(&str, i64, i64)] = &[
    ("a", 1, 5),
    ("b", 2, 7),
    ("a", 3, 4),
    ("a", 4, 9),
    ("a", 5, 4),
    ("a", 6, 9),
];

#[test]
fn one_field_is_replaced_and_the_others_are_the_first_rows() {
    let sums = [(1, 5), (2, 7), (1, 9), (1, 18), (1, 22), (1, 31)];
    check(|k| k.sum("sum", Bid::PRICE), ROWS, &sums);
    let least = [(1, 5), (2, 7), (1, 4), (1, 4), (1, 4), (1, 4)];
    check(|k| k.min("min", Bid::PRICE), ROWS, &least);
    let greatest = [(1, 5), (2, 7), (1, 5), (1, 9), (1, 9), (1, 9)];
    check(|k| k.max("max", Bid::PRICE), ROWS, &greatest);
}

#[test]
fn the_whole_row_of_an_extreme_is_the_first_of_equals() {
    let least = [(1, 5), (2, 7), (3, 4), (3, 4), (3, 4), (3, 4)];
    check(|k| k.min_by("min", Bid::PRICE), ROWS, &least);
    let greatest = [(1, 5), (2, 7), (1, 5), (4, 9), (4, 9), (4, 9)];
    check(|k| k.max_by("max", Bid::PRICE), ROWS, &greatest);
}

#[test]
fn null_is_least_and_text_is_ordered_by_bytes() {
    let rows = [("a", 1, 4), ("a", 2, 3), ("a", 3, 2)];
    let expected = [(1, 4), (2, 3), (2, 3)];
    check(|k| k.min_by("min", Bid::WEIGHT), &rows, &expected);
    let mut h =
        Harness::new(|bids: Stream<Bid>| bids.key_by(Bid::BIDDER).max_by("last name", Bid::ITEM));
    ["b", "abc", "ba"]
        .iter()
        .for_each(|item| h.push(bid(item, 1, 0)));
    let items: Vec<_> = h.take().into_iter().map(|b| b.item).collect();
    assert_eq!(items, ["b", "b", "ba"]);
}

#[test]
fn averages_and_counts_come_with_the_key() {
    let mut h = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::ITEM)
            .avg("avg", Bid::PRICE, |item, value| Figure {
                item: item.to_owned(),
                value,
            })
    });
    ROWS.iter().for_each(|(i, b, p)| h.push(bid(i, *b, *p)));
    let got: Vec<_> = h.take().iter().map(|f| f.value).collect();
    assert_eq!(got, [5.0, 7.0, 4.5, 6.0, 5.5, 6.2]);
    let mut h = Harness::new(|bids: Stream<Bid>| {
        bids.key_by(Bid::ITEM).count("count", |item, n| Figure {
            item: item.to_owned(),
            value: n as f64,
        })
    });
    ROWS.iter().for_each(|(i, b, p)| h.push(bid(i, *b, *p)));
    let got: Vec<_> = h.take().iter().map(|f| f.value).collect();
    assert_eq!(got, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(h.state::<i64, _>("count", &"a".to_owned()), Some(5));
}

#[test]
fn a_sum_that_does_not_fit_fails_and_names_the_row() {
    let mut h = Harness::new(|bids: Stream<Bid>| bids.key_by(Bid::ITEM).sum("sum", Bid::PRICE));
    h.push(bid("a", 1, i64::MAX));
    let error = h.try_push(None, bid("a", 1, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a running sum is too great for its field (row 0)"
    );
}

#[test]
fn a_partitioner_adds_a_hidden_field_and_the_job_has_a_parallelism() {
    let instance = open(1 << 20, |job, _| {
        job.parallelism(3).max_parallelism(64);
        job.source::<Bid>("bids", blackhole())
            .partition_by("by price", |b| b.price as u32)
            .filter("dear", |b| b.price > 3)
            .sink("out", blackhole());
        Ok(())
    });
    let graph = instance.graph();
    assert_eq!(
        (graph.parallelism, graph.max_parallelism),
        (Some(3), Some(64))
    );
    let named = |name: &str| {
        let mut all = graph.operators.iter();
        all.position(|o| o.name == name).unwrap() as u32
    };
    let (by, filter) = (named("by price"), named("dear"));
    let edge = graph.edges.iter().find(|e| e.target.0 == filter).unwrap();
    assert_eq!(edge.source.0, by);
    assert_eq!(
        format!("{:?}", edge.partition),
        "Partition::Custom(\"__partition\")"
    );
    let fields = |at: u32| {
        let schema = &graph.operators[at as usize].outputs[0].schema;
        schema.iter().map(|f| f.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fields(by).last().unwrap(), "__partition");
    assert!(!fields(filter).contains(&"__partition".to_owned()));
    assert!(matches!(
        &graph.operators[by as usize].body,
        Body::Transform(t) if t.produces == ["__partition"]
    ));
}
