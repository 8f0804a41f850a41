//! Keyed functions: state, timers, prefixes, and the harness over them.

use super::{AT, batch, columns_of, open, parents, rows_of};
use crate::column::to_bytes;
use crate::prelude::*;
use crate::runtime::{Body, KeyedBatch, KeyedReply, Slots, TimerBatch};
use crate::testing::Harness;
use crate::value::Value;

#[derive(Record, Clone, Debug, PartialEq)]
struct Payment {
    account: u64,
    cents: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Alert {
    account: u64,
    text: String,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Last {
    cents: i64,
    note: Option<String>,
}

/// Sums payments; after 10 ms without one, tells the sum and forgets it.
struct Sum {
    sum: ValueState<i64>,
    last: ValueState<Last>,
    due: ValueState<Timestamp>,
}

static BIG: SideTag<Payment> = SideTag::new("big");

impl KeyedProcess for Sum {
    type In = Payment;
    type Key = u64;
    type Out = Alert;

    fn process(&self, key: u64, row: PaymentRef<'_>, cx: &mut Ctx, out: &mut Out<Alert>) {
        assert_eq!(key, row.account);
        self.sum.set(self.sum.get().unwrap_or(0) + row.cents);
        self.last.set(Last {
            cents: row.cents,
            note: (row.cents > 50).then(|| "large".to_owned()),
        });
        if row.cents > 1000 {
            out.side(&BIG, row);
        }
        if let Some(due) = self.due.get() {
            cx.delete_timer(due);
        }
        let due = cx.event_time().unwrap_or_default() + millis(10);
        cx.set_timer(due);
        self.due.set(due);
    }

    fn on_timer(&self, key: u64, time: Timestamp, cx: &mut Ctx, out: &mut Out<Alert>) {
        assert_eq!(cx.event_time(), Some(time));
        let note = self
            .last
            .with(|l| l.and_then(|l| l.note).unwrap_or("small").to_owned());
        let text = format!("{} {note}", self.sum.get().unwrap_or(0));
        out.emit_at(
            time - millis(1),
            AlertRef {
                account: key,
                text: &text,
            },
        );
        self.sum.clear();
        self.last.clear();
        self.due.clear();
    }
}

fn sums(payments: Stream<Payment>) -> Stream<Alert> {
    let alerts = payments
        .key_by(Payment::ACCOUNT)
        .process("sum", |states| Sum {
            sum: states.value("sum"),
            last: states.value("last"),
            due: states.value("due"),
        });
    let _ = alerts.side(&BIG);
    alerts
}

#[test]
fn timers_are_rearmed_and_fire_in_order() {
    let mut h = Harness::new(sums);
    h.push_at(
        Timestamp(0),
        Payment {
            account: 1,
            cents: 5,
        },
    );
    h.push_at(
        Timestamp(2),
        Payment {
            account: 2,
            cents: 70,
        },
    );
    h.push_at(
        Timestamp(5),
        Payment {
            account: 1,
            cents: 6,
        },
    );
    assert_eq!(h.timers(), [Timestamp(12), Timestamp(15)]);
    assert_eq!(h.state::<i64, _>("sum", &1u64), Some(11));
    h.watermark(Timestamp(11));
    assert!(h.take().is_empty());
    h.watermark(Timestamp(40));
    let alert = |account, text: &str| Alert {
        account,
        text: text.into(),
    };
    assert_eq!(
        h.take_timed(),
        [
            (Some(Timestamp(11)), alert(2, "70 large")),
            (Some(Timestamp(14)), alert(1, "11 small"))
        ]
    );
    assert_eq!(h.state::<i64, _>("sum", &1u64), None);
    assert!(h.timers().is_empty());
    h.push_at(
        Timestamp(50),
        Payment {
            account: 1,
            cents: 2000,
        },
    );
    assert_eq!(
        h.state::<Last, _>("last", &1u64).unwrap().note.as_deref(),
        Some("large")
    );
    assert_eq!(
        h.take_side(&BIG),
        [Payment {
            account: 1,
            cents: 2000
        }]
    );
}

fn keyed_batch(
    rows: &[Payment],
    keys: &[u64],
    ordinals: &[u32],
    sums: &[Option<i64>],
) -> KeyedBatch {
    let values: Vec<i64> = sums.iter().map(|s| s.unwrap_or(-1)).collect();
    let mut present = vec![0u8; sums.len().div_ceil(8)];
    sums.iter()
        .enumerate()
        .filter(|(_, s)| s.is_some())
        .for_each(|(i, _)| present[i / 8] |= 1 << (i % 8));
    KeyedBatch {
        input: 0,
        rows: batch(rows),
        ordinals: to_bytes(ordinals.iter().copied()),
        keys: Slots {
            rows: keys.len() as u32,
            present: None,
            columns: columns_of(keys),
        },
        states: vec![Slots {
            rows: sums.len() as u32,
            present: Some(present),
            columns: columns_of(&values),
        }],
    }
}

fn running(job: &mut Job, _: &Params) -> Result<()> {
    job.source::<Payment>("in", generator::set("10k"))
        .key_by(Payment::ACCOUNT)
        .process_with("sum", |states| {
            let sum = states.value::<i64>("sum");
            move |key, row: PaymentRef, _: &mut Ctx, out: &mut Out<Payment>| match row.cents {
                0 => sum.clear(),
                cents => {
                    sum.set(sum.get().unwrap_or(0) + cents);
                    out.emit(PaymentRef {
                        account: key,
                        cents: sum.get().unwrap_or(0),
                    });
                }
            }
        })
        .sink("x", blackhole());
    Ok(())
}

fn process(budget: u64, batch: KeyedBatch) -> KeyedReply {
    let mut instance = open(budget, running);
    let Body::Process(spec) = &instance.graph().operators[1].body else {
        panic!("a process")
    };
    assert_eq!(
        (
            spec.states.len(),
            spec.timers,
            spec.inputs[0].key.as_slice()
        ),
        (1, false, &["account".to_owned()][..])
    );
    let segment = instance.prepare(&[0], 0, &Payment::schema()).unwrap();
    instance.process(segment, AT, batch).unwrap()
}

#[test]
fn states_of_a_batch_are_read_changed_and_marked() {
    let pay = |account, cents| Payment { account, cents };
    let rows = [
        pay(7, 1),
        pay(9, 2),
        pay(7, 3),
        pay(8, 0),
        pay(9, 0),
        pay(9, 4),
    ];
    let reply = process(
        u64::MAX,
        keyed_batch(
            &rows,
            &[7, 9, 8, 6],
            &[0, 1, 0, 2, 1, 1],
            &[Some(100), None, Some(5), Some(6)],
        ),
    );
    assert_eq!(reply.consumed, 6);
    let out = &reply.outputs[0];
    assert_eq!(parents(out).unwrap(), [0, 1, 2, 5]);
    let sums: Vec<i64> = rows_of::<Payment>(&out.columns, 4)
        .iter()
        .map(|p| p.cents)
        .collect();
    assert_eq!(sums, [101, 2, 104, 4]);
    let [change] = reply.states.as_slice() else {
        panic!("one state")
    };
    assert_eq!(
        (change.state, change.marks.as_slice()),
        (0, &[1u8, 1, 2, 0][..])
    );
    assert_eq!(rows_of::<i64>(&change.values.columns, 2), [104, 4]);
    assert_eq!((change.values.rows, reply.timers.is_none()), (2, true));
}

#[test]
fn a_prefix_leaves_the_state_of_its_rows() {
    let rows: Vec<_> = (0..100)
        .map(|i| Payment {
            account: i % 3,
            cents: 1,
        })
        .collect();
    let ordinals: Vec<u32> = (0..100).map(|i| i % 3).collect();
    let reply = process(
        200,
        keyed_batch(&rows, &[0, 1, 2], &ordinals, &[None, None, None]),
    );
    let done = reply.consumed as usize;
    assert!(done > 0 && done < 100);
    assert_eq!(reply.outputs[0].rows as usize, done);
    let sums = rows_of::<i64>(&reply.states[0].values.columns, 3);
    assert_eq!(sums.iter().sum::<i64>(), done as i64);
}

#[test]
fn due_timers_are_fired_with_the_state_of_their_keys() {
    let mut instance = open(u64::MAX, |job, _| {
        let timed = job
            .source::<Payment>("in", generator::set("10k"))
            .key_by(Payment::ACCOUNT)
            .process_with_timers("count", |states| {
                let n = states.value::<i64>("n");
                let fired = n.clone();
                (
                    move |_, _: PaymentRef, cx: &mut Ctx, _: &mut Out<Payment>| {
                        n.set(1);
                        cx.set_processing_timer(cx.processing_time() + seconds(1));
                        cx.delete_timer(Timestamp(5));
                    },
                    move |key, time: Timestamp, _: &mut Ctx, out: &mut Out<Payment>| {
                        out.emit(PaymentRef {
                            account: key,
                            cents: fired.get().unwrap_or(0) + time.0,
                        });
                    },
                )
            });
        timed.sink("x", blackhole());
        Ok(())
    });
    let segment = instance.prepare(&[0], 0, &Payment::schema()).unwrap();
    let mut timers = keyed_batch(&[], &[4, 5], &[], &[Some(10), None]);
    let due = TimerBatch {
        ordinals: to_bytes([0u32, 1, 0]),
        keys: timers.keys.clone(),
        times: to_bytes([100i64, 200, 300]),
        processing_time: false,
        states: std::mem::take(&mut timers.states),
    };
    let reply = instance.on_timers(segment, AT, due).unwrap();
    let sums: Vec<_> = rows_of::<Payment>(&reply.outputs[0].columns, 3)
        .iter()
        .map(|p| (p.account, p.cents))
        .collect();
    assert_eq!(sums, [(4, 110), (5, 200), (4, 310)]);
    let row = keyed_batch(
        &[Payment {
            account: 4,
            cents: 1,
        }],
        &[4],
        &[0],
        &[None],
    );
    let reply = instance.process(segment, AT, row).unwrap();
    let changes = reply.timers.unwrap();
    assert_eq!(
        (changes.times, changes.changes),
        (to_bytes([1000i64, 5]), vec![2, 1])
    );
}

#[test]
fn a_timer_that_changes_another_of_its_key_ends_the_call() {
    let mut instance = open(u64::MAX, |job, _| {
        let timed = job
            .source::<Payment>("in", generator::set("10k"))
            .key_by(Payment::ACCOUNT)
            .process_with_timers("again", |_| {
                (
                    |_, _: PaymentRef, _: &mut Ctx, _: &mut Out<Payment>| {},
                    |_, time: Timestamp, cx: &mut Ctx, _: &mut Out<Payment>| match time.0 {
                        100 => cx.set_timer(Timestamp(301)),
                        200 => cx.delete_timer(Timestamp(300)),
                        201 => cx.set_processing_timer(Timestamp(250)),
                        _ => {}
                    },
                )
            });
        timed.sink("x", blackhole());
        Ok(())
    });
    let segment = instance.prepare(&[0], 0, &Payment::schema()).unwrap();
    let consumed = |ordinals: &[u32], times: &[i64]| {
        let due = TimerBatch {
            ordinals: to_bytes(ordinals.iter().copied()),
            keys: keyed_batch(&[], &[4, 5], &[], &[]).keys,
            times: to_bytes(times.iter().copied()),
            processing_time: false,
            states: vec![],
        };
        instance.on_timers(segment, AT, due).unwrap().consumed
    };
    assert_eq!(consumed(&[0, 0, 1], &[100, 300, 300]), 3, "it is later");
    assert_eq!(
        consumed(&[0, 0, 1, 1], &[100, 300, 300, 302]),
        4,
        "another key's"
    );
    assert_eq!(
        consumed(&[0, 0, 1, 0], &[100, 300, 300, 301]),
        1,
        "the same"
    );
    assert_eq!(consumed(&[0, 0, 1], &[200, 250, 300]), 3);
    assert_eq!(consumed(&[0, 1, 1], &[100, 200, 300]), 2);
    assert_eq!(consumed(&[0, 0], &[201, 300]), 2, "of another clock");
}

#[test]
fn keys_can_be_made_by_functions_and_be_tuples_of_text() {
    #[derive(Record, Clone, Debug, PartialEq)]
    struct Visit {
        page: String,
        agent: String,
    }
    #[derive(Record, Clone, Debug, PartialEq)]
    struct Count {
        site: String,
        n: i64,
    }
    let mut h = Harness::new(|visits: Stream<Visit>| {
        visits
            .key_by_fn("site", |v| {
                (
                    v.page.split('/').next().unwrap_or("").to_owned(),
                    v.agent.len() as u32,
                )
            })
            .process_with("count", |states| {
                let n = states.value::<i64>("n");
                let seen = states.counter("seen");
                move |(site, len), _: VisitRef, _: &mut Ctx, out: &mut Out<Count>| {
                    seen.inc();
                    n.set(n.get().unwrap_or(0) + i64::from(len));
                    out.emit(CountRef {
                        site,
                        n: n.get().unwrap_or(0),
                    });
                }
            })
    });
    for page in ["a/1", "b/1", "a/2"] {
        h.push(VisitRef { page, agent: "xyz" });
    }
    let seen: Vec<_> = h.take().into_iter().map(|c| (c.site, c.n)).collect();
    assert_eq!(seen, [("a".into(), 3), ("b".into(), 3), ("a".into(), 6)]);
    assert_eq!(h.state::<i64, _>("n", &("a".to_owned(), 3u32)), Some(6));
    assert_eq!(h.metric("seen"), Some(3.0));
    let Body::Transform(keys) = &h.graph().operators[1].body else {
        panic!("a transform")
    };
    assert_eq!(keys.produces, ["__key_0", "__key_1"]);
}

#[test]
fn a_harness_runs_selections_and_event_times() {
    #[derive(Record, Clone, Debug, PartialEq)]
    struct Event {
        at: Timestamp,
        payment: Option<Payment>,
    }
    #[derive(Record, Clone, Debug, PartialEq)]
    struct Cents {
        amount: i64,
    }
    let mut h = Harness::new(|events: Stream<Event>| {
        events
            .assign_timestamps_by(bounded(seconds(1)), Event::AT)
            .only::<Payment>("payments", Event::PAYMENT)
            .select_renamed::<Cents>("cents", &[("cents", "amount")])
            .flat_map_with("log", |_| {
                move |c: CentsRef, out: &mut Out<Cents>| {
                    log::info!("saw {}", c.amount);
                    if c.amount < 0 {
                        out.fail("a negative amount");
                    }
                    out.emit(c);
                }
            })
    });
    h.push(Event {
        at: Timestamp(5),
        payment: None,
    });
    h.push(Event {
        at: Timestamp(6),
        payment: Some(Payment {
            account: 1,
            cents: 9,
        }),
    });
    assert_eq!(h.take_timed(), [(Some(Timestamp(6)), Cents { amount: 9 })]);
    assert_eq!(h.take_log(), [(log::Level::Info, "saw 9".to_owned())]);
    let bad = Event {
        at: Timestamp(7),
        payment: Some(Payment {
            account: 1,
            cents: -1,
        }),
    };
    let failed = h.try_push(None, bad).unwrap_err().to_string();
    assert_eq!(failed, "a negative amount (row 0)");
    assert_eq!(Cents { amount: 1 }.lend(), CentsRef { amount: 1 });
}
