//! Streams as tables: the latest row, groups that change, ranks, duplicates.

use crate::prelude::*;
use crate::state::Ttl;
use crate::stream::KeyedStream;
use crate::testing::Harness;

#[derive(Record, Clone, Debug, PartialEq)]
struct Bid {
    item: u64,
    bidder: i64,
    price: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Ranked {
    bidder: i64,
    rank: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Sum {
    item: u64,
    sum: i64,
    rows: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Mean {
    item: u64,
    value: f64,
}

const END: Timestamp = Timestamp(i64::MAX);

fn bid(item: u64, bidder: i64, price: i64) -> Bid {
    Bid {
        item,
        bidder,
        price,
    }
}

fn sign(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Insert => "+I",
        RowKind::UpdateBefore => "-U",
        RowKind::UpdateAfter => "+U",
        RowKind::Delete => "-D",
    }
}

/// What comes out since it was last asked, as text.
fn changes<O: Record, R: std::fmt::Debug>(
    h: &mut Harness<Bid, O>,
    show: impl Fn(&O) -> R,
) -> Vec<String> {
    let rows = h.take_kinds();
    rows.iter()
        .map(|(kind, row)| format!("{} {:?}", sign(*kind), show(row)))
        .collect()
}

fn by_item<O: Record>(
    f: impl FnOnce(KeyedStream<Bid, Bid, u64>) -> Stream<O>,
) -> impl FnOnce(Stream<Bid>) -> Stream<O> {
    |bids| f(bids.key_by(Bid::ITEM))
}

#[test]
fn the_latest_row_tells_what_it_was() {
    let mut h = Harness::new(by_item(|k| k.latest("latest")));
    h.push(bid(1, 1, 10));
    h.push(bid(2, 2, 20));
    h.push(bid(1, 1, 10));
    h.push(bid(1, 3, 15));
    h.push_kind(RowKind::UpdateBefore, None, bid(1, 3, 15));
    h.push_kind(RowKind::UpdateAfter, None, bid(1, 3, 16));
    h.push_kind(RowKind::Delete, None, bid(2, 2, 20));
    h.push_kind(RowKind::Delete, None, bid(2, 2, 20));
    let prices = changes(&mut h, |b| (b.item, b.price));
    let expected = [
        "+I (1, 10)",
        "+I (2, 20)",
        "-U (1, 10)",
        "+U (1, 15)",
        "-U (1, 15)",
        "+U (1, 16)",
        "-D (2, 20)",
    ];
    assert_eq!(prices, expected);
    assert_eq!(h.state::<Bid, _>("latest", &2u64), None);
}

#[test]
fn a_batch_has_final_rows_alone() {
    let mut h = Harness::batch(by_item(|k| k.latest("latest")));
    for b in [bid(1, 1, 10), bid(2, 2, 20), bid(1, 3, 15)] {
        h.push_at(Timestamp(5), b);
    }
    assert!(h.take_kinds().is_empty());
    h.watermark(END);
    let mut prices = changes(&mut h, |b| (b.item, b.price));
    prices.sort();
    assert_eq!(prices, ["+I (1, 15)", "+I (2, 20)"]);

    let mut h = Harness::batch(by_item(|k| k.sum("sum", Bid::PRICE)));
    [bid(1, 1, 10), bid(1, 2, 20)]
        .iter()
        .for_each(|b| h.push(b));
    assert!(h.take_kinds().is_empty());
    h.watermark(END);
    assert_eq!(changes(&mut h, |b| (b.bidder, b.price)), ["+I (1, 30)"]);

    let mut h = Harness::batch(by_item(|k| k.table().sum("sum", Bid::PRICE, sum)));
    h.push(bid(1, 1, 10));
    h.push_kind(RowKind::Delete, None, bid(1, 1, 10));
    h.push(bid(2, 1, 7));
    h.watermark(END);
    assert_eq!(
        changes(&mut h, |s| (s.item, s.sum, s.rows)),
        ["+I (2, 7, 1)"]
    );

    let top = |k: KeyedStream<Bid, Bid, u64>| k.top_n("top", 2, desc(Bid::PRICE), ranked);
    let mut h = Harness::batch(by_item(top));
    for (time, b) in [(3, bid(1, 1, 5)), (1, bid(1, 2, 9)), (2, bid(1, 3, 7))] {
        h.push_at(Timestamp(time), b);
    }
    h.watermark(END);
    let rows = h.take_timed();
    let rows: Vec<_> = rows.iter().map(|(t, r)| (t.unwrap().0, r.bidder)).collect();
    assert_eq!(rows, [(1, 2), (2, 3)]);
}

fn sum(item: u64, sum: i64, rows: i64) -> Sum {
    Sum { item, sum, rows }
}

fn ranked(bid: BidRef<'_>, rank: i64) -> Ranked {
    let bidder = bid.bidder;
    Ranked { bidder, rank }
}

#[test]
fn groups_take_rows_back() {
    let mut h = Harness::new(by_item(|k| k.table().sum("sum", Bid::PRICE, sum)));
    h.push(bid(1, 1, 10));
    h.push(bid(1, 2, 5));
    h.push(bid(1, 3, 0));
    h.push_kind(RowKind::UpdateBefore, None, bid(1, 1, 10));
    h.push_kind(RowKind::UpdateAfter, None, bid(1, 1, 11));
    h.push_kind(RowKind::Delete, None, bid(9, 1, 1));
    let sums = changes(&mut h, |s| (s.sum, s.rows));
    let expected = [
        "+I (10, 1)",
        "-U (10, 1)",
        "+U (15, 2)",
        "-U (15, 2)",
        "+U (15, 3)",
        "-U (15, 3)",
        "+U (5, 2)",
        "-U (5, 2)",
        "+U (16, 3)",
    ];
    assert_eq!(sums, expected);
    for b in [bid(1, 1, 11), bid(1, 2, 5), bid(1, 3, 0)] {
        h.push_kind(RowKind::Delete, None, b);
    }
    let sums = changes(&mut h, |s| s.rows);
    assert_eq!(sums, ["-U 3", "+U 2", "-U 2", "+U 1", "-D 1"]);
}

/// The average of the highest bids: a table over a table.
#[test]
fn an_average_follows_maxima_that_change() {
    let mut h = Harness::new(|bids: Stream<Bid>| {
        let highest = bids.key_by(Bid::BIDDER).max_by("highest", Bid::PRICE);
        let highest = highest.key_by(Bid::BIDDER).latest("tell");
        highest
            .key_by(Bid::ITEM)
            .table()
            .avg("avg", Bid::PRICE, |item, value| Mean { item, value })
    });
    h.push(bid(1, 1, 10));
    h.push(bid(1, 2, 20));
    h.push(bid(1, 1, 5));
    assert_eq!(
        changes(&mut h, |m| m.value),
        ["+I 10.0", "-U 10.0", "+U 15.0"]
    );
    h.push(bid(1, 1, 30));
    let last = changes(&mut h, |m| m.value);
    assert_eq!(last, ["-U 15.0", "+U 20.0", "-U 20.0", "+U 25.0"]);
}

#[test]
fn counts_do_not_tell_what_does_not_change() {
    let parity = |k: KeyedStream<Bid, Bid, u64>| {
        k.table().count("count", |item, n| Sum {
            item,
            sum: 0,
            rows: n % 2,
        })
    };
    let mut h = Harness::new(by_item(parity));
    h.push(bid(1, 1, 1));
    h.push(bid(1, 1, 1));
    assert_eq!(changes(&mut h, |s| s.rows), ["+I 1", "-U 1", "+U 0"]);
}

#[test]
fn the_first_rows_by_rank() {
    let order = || desc(Bid::PRICE).then(asc(Bid::BIDDER));
    let mut h = Harness::new(by_item(|k| k.top_n("top", 2, order(), ranked)));
    let show = |r: &Ranked| (r.rank, r.bidder);
    h.push(bid(1, 5, 10));
    h.push(bid(1, 6, 10));
    assert_eq!(changes(&mut h, show), ["+I (1, 5)", "+I (2, 6)"]);
    // Worse than both, then equal to the second by all: it came later.
    h.push(bid(1, 1, 9));
    h.push(bid(1, 6, 10));
    assert!(changes(&mut h, show).is_empty());
    h.push(bid(1, 4, 10));
    let expected = ["-U (1, 5)", "+U (1, 4)", "-U (2, 6)", "+U (2, 5)"];
    assert_eq!(changes(&mut h, show), expected);
    h.push(bid(2, 1, 1));
    assert_eq!(changes(&mut h, show), ["+I (1, 1)"]);
    h.push_kind(RowKind::UpdateAfter, None, bid(2, 2, 2));
    assert_eq!(
        changes(&mut h, show),
        ["-U (1, 1)", "+U (1, 2)", "+I (2, 1)"]
    );
}

#[test]
fn ranks_of_rows_that_are_taken_back() {
    let top = |k: KeyedStream<Bid, Bid, u64>| k.table().top_n("top", 2, asc(Bid::PRICE), ranked);
    let mut h = Harness::new(by_item(top));
    for (bidder, price) in [(1, 1), (2, 2), (3, 3)] {
        h.push(bid(1, bidder, price));
    }
    h.take_kinds();
    h.push_kind(RowKind::Delete, None, bid(1, 1, 1));
    let show = |r: &Ranked| (r.rank, r.bidder);
    let expected = ["-U (1, 1)", "+U (1, 2)", "-U (2, 2)", "+U (2, 3)"];
    assert_eq!(changes(&mut h, show), expected);
    h.push_kind(RowKind::Delete, None, bid(1, 9, 9));
    h.push_kind(RowKind::Delete, None, bid(1, 2, 2));
    assert_eq!(
        changes(&mut h, show),
        ["-U (1, 2)", "+U (1, 3)", "-D (2, 3)"]
    );
    h.push_kind(RowKind::Delete, None, bid(1, 3, 3));
    assert_eq!(changes(&mut h, show), ["-D (1, 3)"]);
}

#[test]
fn functions_over_rows_that_stay_refuse_those_that_do_not() {
    let top = |k: KeyedStream<Bid, Bid, u64>| k.top_n("top", 2, asc(Bid::PRICE), ranked);
    let first = |k: KeyedStream<Bid, Bid, u64>| k.deduplicate("first", Keep::First);
    let sum = |k: KeyedStream<Bid, Bid, u64>| k.sum("sum", Bid::PRICE);
    let message = |error: std::thread::Result<()>| {
        let text = error.unwrap_err();
        text.downcast_ref::<String>().unwrap().clone()
    };
    let refused = |mut h: Harness<Bid, Bid>| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            h.push_kind(RowKind::Delete, None, bid(1, 1, 1));
        }))
    };
    assert!(message(refused(Harness::new(by_item(first)))).contains("takes rows back"));
    assert!(message(refused(Harness::new(by_item(sum)))).contains("takes rows back"));
    let mut h = Harness::new(by_item(top));
    let ranked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        h.push_kind(RowKind::Delete, None, bid(1, 1, 1));
    }));
    assert!(message(ranked).contains(".table().top_n"));
}

/// Bidders that come out for rows of (time, bidder), in streaming mode.
fn kept(keep: Keep, rows: &[(i64, i64)]) -> Vec<String> {
    let mut h = Harness::new(by_item(|k| k.deduplicate("one", keep)));
    for (time, bidder) in rows {
        h.push_at(Timestamp(*time), bid(1, *bidder, 0));
    }
    changes(&mut h, |b| b.bidder)
}

#[test]
fn one_row_of_each_key_stays() {
    let rows = [(5, 1), (7, 2), (5, 3), (7, 4), (3, 5)];
    assert_eq!(kept(Keep::First, &rows), ["+I 1"]);
    let last = [
        "+I 1", "-U 1", "+U 2", "-U 2", "+U 3", "-U 3", "+U 4", "-U 4", "+U 5",
    ];
    assert_eq!(kept(Keep::Last, &rows), last);
    assert_eq!(kept(Keep::Earliest, &rows), ["+I 1", "-U 1", "+U 5"]);
    assert_eq!(
        kept(Keep::Latest, &rows),
        ["+I 1", "-U 1", "+U 2", "-U 2", "+U 4"]
    );
    let mut h = Harness::batch(by_item(|k| k.deduplicate("one", Keep::Latest)));
    rows.iter()
        .for_each(|(time, bidder)| h.push_at(Timestamp(*time), bid(1, *bidder, 0)));
    h.watermark(END);
    assert_eq!(h.take_timed(), [(Some(Timestamp(7)), bid(1, 4, 0))]);
}

#[test]
fn duplicates_are_remembered_for_a_time_to_live() {
    let h = Harness::new(by_item(|k| {
        k.deduplicate_within("one", Keep::First, Ttl::of(hours(1)))
    }));
    let states = h.graph().operators.iter().find_map(|o| match &o.body {
        crate::runtime::Body::Process(p) => Some(p.states.clone()),
        _ => None,
    });
    assert_eq!(states.unwrap()[0].ttl.unwrap().ms, 3_600_000);
}
