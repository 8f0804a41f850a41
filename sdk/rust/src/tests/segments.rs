//! Segments: what several functions in one call make together.

use super::{AT, batch, open, parents, rows_of};
use crate::prelude::*;
use crate::runtime::{Body, Instance, Reply, describe};
use crate::value::{Schema, top_fields};

#[derive(Record, Clone, Debug, PartialEq)]
struct Bid {
    auction: i64,
    price: i64,
    url: String,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Euro {
    price: f64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct EuroBid {
    auction: i64,
    price: f64,
    url: String,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Word {
    word: String,
    n: i64,
}

fn bids(n: i64) -> Vec<Bid> {
    (0..n)
        .map(|i| Bid {
            auction: i % 10,
            price: i * 10,
            url: format!("a/{i}"),
        })
        .collect()
}

fn euro(bid: BidRef<'_>) -> Euro {
    Euro {
        price: bid.price as f64 / 2.0,
    }
}

fn source(job: &mut Job) -> Stream<Bid> {
    job.source("bids", generator::set("10k"))
}

/// Runs all functions of a job in one segment over bids.
fn run(instance: &mut Instance, rows: &[Bid]) -> Reply {
    let count = instance
        .graph()
        .operators
        .iter()
        .filter(|o| matches!(o.body, Body::Transform(_)))
        .count();
    let functions: Vec<u32> = (0..count as u32).collect();
    let segment = instance.prepare(&functions, 0, &Bid::schema()).unwrap();
    instance.transform(segment, AT, batch(rows)).unwrap()
}

#[test]
fn filters_compose_and_return_no_columns() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .filter("even", |b| b.price % 20 == 0)
            .filter("late", |b| b.price >= 100)
            .sink("x", blackhole());
        Ok(())
    });
    let reply = run(&mut instance, &bids(20));
    assert_eq!(reply.consumed, 20);
    assert_eq!(reply.step_rows, [10, 5]);
    let [out] = reply.outputs.as_slice() else {
        panic!("one output")
    };
    assert_eq!(
        (out.step, out.port, out.rows, out.columns.len()),
        (1, 0, 5, 0)
    );
    assert_eq!(parents(out).unwrap(), [10, 12, 14, 16, 18]);
}

#[test]
fn a_map_after_a_filter_has_the_filters_parents_and_a_map_alone_none() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .filter("even", |b| b.price % 20 == 0)
            .map("words", |b| Word {
                word: b.url.to_owned(),
                n: b.price,
            })
            .sink("x", blackhole());
        Ok(())
    });
    let reply = run(&mut instance, &bids(6));
    let out = &reply.outputs[0];
    assert_eq!(parents(out).unwrap(), [0, 2, 4]);
    let words = rows_of::<Word>(&out.columns, 3);
    assert_eq!(
        words[2],
        Word {
            word: "a/4".into(),
            n: 40
        }
    );
    let segment = instance.prepare(&[1], 0, &Bid::schema()).unwrap();
    let reply = instance.transform(segment, AT, batch(&bids(6))).unwrap();
    assert_eq!(
        (parents(&reply.outputs[0]), reply.outputs[0].rows),
        (None, 6)
    );
}

#[test]
fn a_filter_after_a_map_filters_the_columns_that_were_made() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .map_into("words", |b: BidRef, slot: Slot<Word>| {
                slot.fill(WordRef {
                    word: b.url,
                    n: b.price,
                })
            })
            .filter("some", |w| w.n >= 30)
            .sink("x", blackhole());
        Ok(())
    });
    let reply = run(&mut instance, &bids(5));
    let out = &reply.outputs[0];
    assert_eq!(reply.step_rows, [5, 2]);
    assert_eq!(parents(out).unwrap(), [3, 4]);
    assert_eq!(
        rows_of::<Word>(&out.columns, 2)[0],
        Word {
            word: "a/3".into(),
            n: 30
        }
    );
}

#[test]
fn with_makes_some_fields_and_keeps_the_others_in_the_host() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .filter("even", |b| b.price % 20 == 0)
            .with::<EuroBid, _>("euro", euro)
            // Reads a field that was made and one that was kept.
            .filter("both", |b| b.price > 5.0 && b.url != "a/4")
            .sink("x", blackhole());
        Ok(())
    });
    let produces: Vec<Vec<String>> = instance
        .graph()
        .operators
        .iter()
        .filter_map(|o| match &o.body {
            Body::Transform(t) => Some(t.produces.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(produces, [vec![], vec!["price".to_owned()], vec![]]);
    let reply = run(&mut instance, &bids(8));
    let out = &reply.outputs[0];
    assert_eq!(parents(out).unwrap(), [2, 6]);
    assert_eq!(out.columns.len(), 1, "the price alone crosses");
    assert_eq!(
        rows_of::<Euro>(&out.columns, 2),
        [Euro { price: 10.0 }, Euro { price: 30.0 }]
    );
}

#[test]
fn flat_maps_compose_their_parents() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .flat_map("twice", |b: BidRef, out: &mut Out<Word>| {
                for n in 0..b.auction {
                    out.emit(WordRef { word: b.url, n });
                }
            })
            .filter("odd", |w| w.n % 2 == 1)
            .flat_map("again", |w: WordRef, out: &mut Out<Word>| {
                out.emit(w);
                out.emit(Word {
                    word: "own".into(),
                    n: w.n + 100,
                });
                out.emit(&Word {
                    word: "lent".into(),
                    n: -w.n,
                });
            })
            .sink("x", blackhole());
        Ok(())
    });
    let reply = run(&mut instance, &bids(5));
    let out = &reply.outputs[0];
    assert_eq!(reply.step_rows, [10, 4, 12]);
    assert_eq!(parents(out).unwrap(), [2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4]);
    let words = rows_of::<Word>(&out.columns, 12);
    assert_eq!(
        words[9],
        Word {
            word: "a/4".into(),
            n: 3
        }
    );
    assert_eq!(words[10].n, 103);
}

#[test]
fn a_view_ships_only_its_fields_and_reads_them_in_another_order() {
    #[derive(Record)]
    struct View {
        url: String,
        auction: i64,
    }
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .view::<View>()
            .filter("some", |v| v.auction > 1 && v.url.ends_with('3'))
            .sink("x", blackhole());
        Ok(())
    });
    let reply = run(&mut instance, &bids(24));
    assert_eq!(parents(&reply.outputs[0]).unwrap(), [3, 13, 23]);
    // The host ships what the view needs, in the order of the stream.
    let shipped: Schema = Bid::schema()
        .into_iter()
        .filter(|f| f.name != "price")
        .collect();
    let segment = instance.prepare(&[0], 0, &shipped).unwrap();
    let mut rows = batch(&bids(24));
    rows.columns.remove(1);
    assert_eq!(
        parents(&instance.transform(segment, AT, rows).unwrap().outputs[0]).unwrap(),
        [3, 13, 23]
    );
    let refused = instance
        .prepare(&[0], 0, &shipped[1..].to_vec())
        .unwrap_err();
    assert!(refused.message.contains("'auction'"), "{}", refused.message);
}

#[test]
fn nested_records_are_read_in_part() {
    #[derive(Record, Clone)]
    struct Event {
        id: i64,
        bid: Option<Bid>,
    }
    #[derive(Record)]
    struct Price {
        price: i64,
    }
    #[derive(Record)]
    struct Part {
        bid: Option<Price>,
    }
    let mut instance = open(u64::MAX, |job, _| {
        let events = job.source::<Event>("events", generator::set("10k"));
        events
            .clone()
            .view::<Part>()
            .filter("dear", |e| e.bid.is_some_and(|b| b.price > 10))
            .sink("x", blackhole());
        events
            .only::<Bid>("bids", Event::BID)
            .sink("y", blackhole());
        Ok(())
    });
    let rows: Vec<Event> = bids(4)
        .into_iter()
        .map(|b| Event {
            id: b.price,
            bid: (b.price != 20).then_some(b),
        })
        .collect();
    let segment = instance.prepare(&[0], 0, &Event::schema()).unwrap();
    let reply = instance.transform(segment, AT, batch(&rows)).unwrap();
    assert_eq!(parents(&reply.outputs[0]).unwrap(), [3]);
    // The host may have pruned the nested record.
    let mut pruned = Event::schema();
    pruned[1].data_type = crate::runtime::DataType::Nested(1);
    pruned.retain(|f| f.name != "auction" && f.name != "url");
    let segment = instance.prepare(&[0], 0, &pruned).unwrap();
    let mut rows = batch(&rows);
    rows.columns.remove(4);
    rows.columns.remove(2);
    assert_eq!(
        parents(&instance.transform(segment, AT, rows).unwrap().outputs[0]).unwrap(),
        [3]
    );
}

#[test]
fn a_call_stops_at_a_prefix_when_its_output_is_large() {
    let long = |job: &mut Job, _: &Params| {
        static NOTED: SideTag<Word> = SideTag::new("noted");
        let noted = source(job).filter("all", |b| b.price % 30 != 0).flat_map(
            "note",
            |b, out: &mut Out<Word>| {
                out.side(
                    &NOTED,
                    WordRef {
                        word: "noted",
                        n: b.price,
                    },
                );
                out.emit(WordRef {
                    word: b.url,
                    n: b.price,
                });
                out.emit(WordRef {
                    word: b.url,
                    n: b.price,
                });
            },
        );
        noted.side(&NOTED).sink("noted", blackhole());
        noted
            .flat_map("long", |w: WordRef, out: &mut Out<Word>| {
                let word = "x".repeat(100);
                (0..3).for_each(|n| {
                    out.emit(Word {
                        word: word.clone(),
                        n: w.n + n,
                    })
                });
            })
            .sink("x", blackhole());
        Ok(())
    };
    let rows = bids(300);
    let whole = run(&mut open(u64::MAX, long), &rows);
    assert_eq!(whole.consumed, 300);
    let mut instance = open(20_000, long);
    let (mut done, mut main, mut noted, mut calls) = (0, Vec::new(), Vec::new(), 0);
    while done < rows.len() {
        let reply = run(&mut instance, &rows[done..]);
        assert!(reply.consumed > 0);
        let last = done + reply.consumed as usize;
        for out in &reply.outputs {
            let from_here = parents(out).unwrap();
            assert!(from_here.iter().all(|p| *p < reply.consumed));
            let words = rows_of::<Word>(&out.columns, out.rows as usize);
            if out.port == 1 {
                noted.extend(words)
            } else {
                main.extend(words)
            }
        }
        let kept = (done..last).filter(|i| i % 3 != 0).count() as u32;
        assert_eq!(reply.step_rows, [kept, kept * 2, kept * 6]);
        done = last;
        calls += 1;
    }
    assert!(calls > 5, "{calls}");
    let all = |port: u32| {
        let out = whole.outputs.iter().find(|o| o.port == port).unwrap();
        rows_of::<Word>(&out.columns, out.rows as usize)
    };
    assert_eq!(main, all(0));
    assert_eq!(noted, all(1));
}

#[test]
fn event_times_follow_what_comes_after() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .assign_timestamps(monotonous(), |b| Timestamp(b.price + 1))
            .filter("even", |b| b.price % 20 == 0)
            .sink("x", blackhole());
        Ok(())
    });
    let Body::Transform(first) = &instance.graph().operators[1].body else {
        panic!("a transform")
    };
    assert!(first.times && first.produces.is_empty());
    let reply = run(&mut instance, &bids(6));
    let out = &reply.outputs[0];
    let times = out.times.as_deref().unwrap();
    assert_eq!(
        times
            .chunks(8)
            .map(|t| i64::from_le_bytes(t.try_into().unwrap()))
            .collect::<Vec<_>>(),
        [1, 21, 41]
    );
}

#[test]
fn whole_batches_are_mapped_after_a_filter() {
    let job = |even: bool| {
        move |job: &mut Job, _: &Params| {
            let batched = |batch: &Columns<'_, Bid>, out: &mut WordBuilder| {
                out.n.extend(
                    batch
                        .price
                        .iter()
                        .zip(batch.auction.iter())
                        .map(|(p, a)| p + a),
                );
                batch
                    .url
                    .iter()
                    .take(if batch.len() > 7 { 1 } else { 99 })
                    .for_each(|u| out.word.push(u));
            };
            let stream = source(job).filter("odd", move |b| (b.auction % 2 == 1) == even);
            stream
                .map_batch::<Word>("batched", batched)
                .sink("x", blackhole());
            Ok(())
        }
    };
    let reply = run(&mut open(u64::MAX, job(true)), &bids(8));
    let words = rows_of::<Word>(&reply.outputs[0].columns, 4);
    assert_eq!(
        words[3],
        Word {
            word: "a/7".into(),
            n: 77
        }
    );
    assert_eq!(parents(&reply.outputs[0]).unwrap(), [1, 3, 5, 7]);
    // Columns of different lengths are refused.
    let mut instance = open(u64::MAX, job(true));
    let segment = instance.prepare(&[0, 1], 0, &Bid::schema()).unwrap();
    let failure = instance
        .transform(segment, AT, batch(&bids(16)))
        .unwrap_err();
    assert!(
        failure.message.contains("other lengths"),
        "{}",
        failure.message
    );
}

#[test]
fn an_error_names_the_row_of_the_batch() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .filter("odd", |b| b.auction % 2 == 1)
            .try_map("parse", |b| match b.price {
                70 => Err(Error::new("no price of 70")),
                n => Ok(Word {
                    word: String::new(),
                    n,
                }),
            })
            .sink("x", blackhole());
        Ok(())
    });
    let segment = instance.prepare(&[0, 1], 0, &Bid::schema()).unwrap();
    let failure = instance
        .transform(segment, AT, batch(&bids(9)))
        .unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.row),
        ("no price of 70", Some(7))
    );
}

#[test]
fn what_does_not_fit_is_said_when_the_job_is_described() {
    #[derive(Record)]
    struct Wrong {
        auction: i64,
        price: f64,
        missing: String,
    }
    let message =
        |job: fn(&mut Job, &Params) -> Result<()>| describe("x", job, &[]).unwrap_err().message;
    let with = message(|job, _| {
        source(job)
            .with::<Wrong, _>("euro", euro)
            .sink("x", blackhole());
        Ok(())
    });
    assert_eq!(
        with,
        "'euro': field 'missing' of its output is neither made nor kept: no field of that name and type"
    );
    let missing = message(|job, params| {
        job.source::<Bid>("x", files::json(params.require("input")?))
            .sink("x", print());
        Ok(())
    });
    assert!(missing.contains("--param input="));
}

#[test]
fn a_graph_is_the_same_each_time_and_names_what_it_asked_for() {
    let job = |job: &mut Job, params: &Params| {
        let n: i64 = params.get_or("n", 3)?;
        let bids = source(job);
        let more = source(job)
            .filter("some", move |b| b.price > n)
            .parallelism(2)
            .uid("mine");
        bids.union(&more)
            .rebalance()
            .select_renamed::<EuroBid>("pick", &[("url", "url")])
            .sink("x", print());
        Ok(())
    };
    let graph = describe("my-job", job, &[]).unwrap();
    assert_eq!(describe("my-job", job, &[]).unwrap().digest, graph.digest);
    assert_ne!(describe("other", job, &[]).unwrap().digest, graph.digest);
    assert_eq!(
        (graph.name.as_str(), graph.params.as_slice()),
        ("my-job", &["n".to_owned()][..])
    );
    let uids: Vec<_> = graph.operators.iter().map(|o| o.uid.as_str()).collect();
    assert_eq!(uids, ["bids", "bids-2", "mine", "pick", "x"]);
    assert_eq!(graph.operators[2].parallelism, Some(2));
    assert_eq!(graph.edges.iter().filter(|e| e.target.0 == 3).count(), 2);
    assert_eq!(top_fields(&graph.operators[3].outputs[0].schema).count(), 3);
}
