//! Windows: what the graph says of them, and users' aggregates over many accumulators.

use super::{AT, batch, columns_of, open, parents, rows_of};
use crate::column::to_bytes;
use crate::prelude::*;
use crate::runtime::{Assigner, Body, Slots, WindowFunction, WindowValue, describe};
use crate::testing;

#[derive(Record, Clone, Debug, PartialEq)]
struct Word {
    word: String,
    n: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Hot {
    end: Timestamp,
    best: i64,
    word: String,
    num: i64,
}

static LATE: SideTag<Word> = SideTag::new("late");

fn words(job: &mut Job) -> Stream<Word> {
    job.source::<Word>("words", files::json("x"))
        .assign_timestamps(bounded(seconds(5)), |w| Timestamp(w.n))
}

#[test]
fn native_windows_name_each_field_once_in_order() {
    let graph = describe(
        "x",
        |job: &mut Job, _: &Params| {
            let hot = words(job)
                .key_by(Word::WORD)
                .window(sliding(seconds(10), seconds(2)).offset(-seconds(1)))
                .allowed_lateness(seconds(3))
                .late_to(&LATE)
                .columns::<Hot>("hot", |w| {
                    w.key(Hot::WORD)
                        .count(Hot::NUM)
                        .end(Hot::END)
                        .max(Hot::BEST, Word::N);
                });
            hot.side(&LATE).sink("late", print());
            hot.sink("x", print());
            Ok(())
        },
        &[],
    )
    .unwrap();
    let Body::Window(window) = &graph.operators[3].body else {
        panic!("a window")
    };
    assert_eq!(window.assigner, Assigner::Sliding((10_000, 2_000, -1_000)));
    assert_eq!((window.lateness_ms, window.late_output), (3_000, Some(1)));
    let WindowFunction::Columns(columns) = &window.function else {
        panic!("columns")
    };
    let values: Vec<_> = columns
        .iter()
        .map(|c| (c.name.as_str(), c.value.clone()))
        .collect();
    assert_eq!(
        values,
        [
            ("end", WindowValue::End),
            ("best", WindowValue::Max("n".into())),
            ("word", WindowValue::Key("word".into())),
            ("num", WindowValue::Count)
        ]
    );
    assert_eq!(graph.operators[3].outputs[1].schema, Word::schema());
    assert!(graph.edges.iter().any(|e| e.source == (3, 1)));
}

#[test]
fn windows_that_leave_a_field_open_are_refused() {
    let message = |f: fn(crate::WindowedStream<Word, Word, String>) -> Stream<Hot>| {
        let job = |job: &mut Job, _: &Params| {
            f(words(job).key_by(Word::WORD).window(tumbling(seconds(1)))).sink("x", print());
            Ok(())
        };
        describe("x", job, &[]).unwrap_err().message
    };
    let open = message(|w| {
        w.columns("w", |w| {
            w.key(Hot::WORD).count(Hot::NUM).end(Hot::END);
        })
    });
    assert_eq!(open, "'w': nothing says what field 'best' is");
    let twice = message(|w| {
        w.columns("w", |w| {
            w.key(Hot::WORD)
                .count(Hot::NUM)
                .end(Hot::END)
                .sum(Hot::BEST, Word::N)
                .sum(Hot::BEST, Word::N);
        })
    });
    assert_eq!(twice, "'w': field 'best' is given twice");
    let other = describe(
        "x",
        |job: &mut Job, _: &Params| {
            let hot = job
                .source::<Hot>("hot", files::json("x"))
                .assign_timestamps_by(monotonous(), Hot::END);
            hot.key_by(Hot::WORD)
                .window(tumbling(seconds(1)))
                .sum("sum", Hot::NUM)
                .sink("x", print());
            Ok(())
        },
        &[],
    );
    let other = other.unwrap_err().message;
    assert!(
        other.starts_with("'sum': field 'end' is neither of the key nor 'num'"),
        "{other}"
    );
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Top {
    total: i64,
    words: Vec<Word>,
}

struct TopWords;

impl Aggregate for TopWords {
    type In = Word;
    type Key = String;
    type Acc = Top;
    type Out = Hot;

    fn create(&self) -> Top {
        Top {
            total: 0,
            words: Vec::new(),
        }
    }
    fn add(&self, acc: &mut Top, row: WordRef<'_>) {
        acc.total += row.n;
        acc.words.push(row.to_owned());
    }
    fn merge(&self, acc: &mut Top, other: Top) {
        acc.total += other.total;
        acc.words.extend(other.words);
    }
    fn result(&self, key: &str, window: Window, acc: Top, out: &mut Out<Hot>) {
        let best = acc.words.iter().map(|w| w.n).max().unwrap_or(0);
        out.emit(HotRef {
            end: window.end,
            best,
            word: key,
            num: acc.total,
        });
        if best > 10 {
            out.emit(HotRef {
                end: window.end,
                best,
                word: "large",
                num: acc.words.len() as i64,
            });
        }
    }
}

fn word(word: &str, n: i64) -> Word {
    Word {
        word: word.into(),
        n,
    }
}

#[test]
fn accumulators_are_made_added_to_merged_and_told() {
    let mut instance = open(u64::MAX, |job, _| {
        words(job)
            .key_by(Word::WORD)
            .window(tumbling(seconds(1)))
            .aggregate("top", TopWords)
            .sink("x", print());
        Ok(())
    });
    // Function 0 gives the event times.
    let segment = instance.prepare(&[1], 0, &Word::schema()).unwrap();
    let rows = [word("a", 1), word("b", 20), word("a", 3)];
    let known = [
        Top {
            total: 0,
            words: Vec::new(),
        },
        Top {
            total: 5,
            words: vec![word("b", 5)],
        },
    ];
    let slots = Slots {
        rows: 2,
        present: Some(vec![0b10]),
        columns: columns_of(&known),
    };
    let ordinals = to_bytes([0u32, 1, 0]);
    let all = instance
        .accumulate(segment, AT, batch(&rows), &ordinals, slots)
        .unwrap();
    let tops = rows_of::<Top>(&all.columns, 2);
    assert_eq!(
        tops[0],
        Top {
            total: 4,
            words: vec![word("a", 1), word("a", 3)]
        }
    );
    assert_eq!(
        tops[1],
        Top {
            total: 25,
            words: vec![word("b", 5), word("b", 20)]
        }
    );
    let other = Slots {
        rows: 2,
        present: Some(vec![0b01]),
        columns: all.columns.clone(),
    };
    let merged = instance.merge(segment, all, other).unwrap();
    let totals: Vec<_> = rows_of::<Top>(&merged.columns, 2)
        .iter()
        .map(|t| t.total)
        .collect();
    assert_eq!(totals, [8, 25]);
    let keys = Slots {
        rows: 2,
        present: None,
        columns: columns_of(&["a".to_owned(), "b".to_owned()]),
    };
    let (starts, ends) = (to_bytes([0i64, 1000]), to_bytes([1000i64, 2000]));
    let reply = instance
        .results(segment, AT, keys, &starts, &ends, merged)
        .unwrap();
    let out = &reply.outputs[0];
    assert_eq!(parents(out).unwrap(), [0, 1, 1]);
    let hot = rows_of::<Hot>(&out.columns, 3);
    assert_eq!(
        hot[0],
        Hot {
            end: Timestamp(1000),
            best: 3,
            word: "a".into(),
            num: 8
        }
    );
    assert_eq!((hot[2].word.as_str(), hot[2].num), ("large", 2));
}

#[test]
fn an_aggregate_is_tested_alone() {
    let window = Window {
        start: Timestamp(0),
        end: Timestamp(10),
    };
    let rows = testing::aggregate(
        &TopWords,
        &"k".to_owned(),
        window,
        [word("k", 2), word("k", 7), word("k", 4)],
    );
    assert_eq!(
        rows,
        [Hot {
            end: Timestamp(10),
            best: 7,
            word: "k".into(),
            num: 13
        }]
    );
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Told {
    word: String,
    num: i64,
    mean: f64,
    least: i64,
}

fn bodies(job: fn(crate::WindowedStream<Word, Word, String>)) -> Result<Vec<(String, Body)>> {
    let graph = describe(
        "x",
        move |j: &mut Job, _: &Params| {
            job(words(j).key_by(Word::WORD).window(tumbling(seconds(1))));
            Ok(())
        },
        &[],
    );
    let graph = graph.map_err(|f| Error::new(f.message))?;
    let operators = graph.operators.into_iter();
    Ok(operators.map(|o| (o.name, o.body)).collect())
}

fn values(function: &WindowFunction) -> Vec<(&str, WindowValue)> {
    let WindowFunction::Columns(columns) = function else {
        panic!("columns")
    };
    let one = |c: &'_ crate::bindings::exports::pelton::job::graph::WindowColumn| c.value.clone();
    columns.iter().map(|c| (c.name.as_str(), one(c))).collect()
}

#[test]
fn two_phases_combine_before_the_exchange() {
    let found = bodies(|w| {
        w.two_phase()
            .columns::<Told>("told", |w| {
                w.key(Told::WORD)
                    .count(Told::NUM)
                    .avg(Told::MEAN, Word::N)
                    .min(Told::LEAST, Word::N);
            })
            .sink("x", print());
    })
    .unwrap();
    let [
        ..,
        (first, Body::Combine(above)),
        (second, Body::Window(below)),
        _,
    ] = found.as_slice()
    else {
        panic!("a combine and a window")
    };
    assert_eq!((first.as_str(), second.as_str()), ("told combine", "told"));
    let n = || "n".to_owned();
    let named = |name: &str| name.to_owned();
    assert_eq!(
        values(&above.function),
        [
            ("word", WindowValue::Key("word".into())),
            ("__1", WindowValue::Count),
            ("__2", WindowValue::Sum(n())),
            ("__3", WindowValue::Count),
            ("__4", WindowValue::Min(n())),
        ]
    );
    assert_eq!(
        values(&below.function),
        [
            ("word", WindowValue::Key("word".into())),
            ("num", WindowValue::Sum(named("__1"))),
            ("mean", WindowValue::Ratio((named("__2"), named("__3")))),
            ("least", WindowValue::Min(named("__4"))),
        ]
    );
}

#[test]
fn a_users_aggregate_takes_in_what_was_combined() {
    let found = bodies(|w| {
        let told = w.two_phase().aggregate("top", TopWords);
        told.sink("x", print());
    })
    .unwrap();
    let [.., (_, Body::Combine(above)), (_, Body::Window(below)), _] = found.as_slice() else {
        panic!("a combine and a window")
    };
    let (WindowFunction::Aggregate(above), WindowFunction::Aggregate(below)) =
        (&above.function, &below.function)
    else {
        panic!("users' aggregates")
    };
    assert!(!above.combined && below.combined);
    assert_eq!(above.accumulator, below.accumulator);
    assert_eq!(below.view, below.accumulator);
    assert_ne!(above.function, below.function);
}

#[test]
fn two_phases_that_cannot_be_are_refused() {
    let refused =
        |job: fn(crate::WindowedStream<Word, Word, String>)| bodies(job).unwrap_err().to_string();
    let late = refused(|w| {
        w.late_to(&LATE)
            .two_phase()
            .sum("sum", Word::N)
            .sink("x", print());
    });
    assert!(late.contains("cannot go to .late_to(..)"), "{late}");
    let sessions = describe(
        "x",
        |job: &mut Job, _: &Params| {
            let words = words(job).key_by(Word::WORD);
            words
                .window(session(seconds(1)))
                .two_phase()
                .sum("sum", Word::N)
                .sink("x", print());
            Ok(())
        },
        &[],
    );
    let sessions = sessions.unwrap_err().message;
    assert!(
        sessions.starts_with("'sum': sessions have no parts"),
        "{sessions}"
    );
}
