//! Every kind of state: what a call reads of it, what it changes, and that reads see changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use crate::prelude::*;
use crate::testing::Harness;

/// `what` is done to the state of `key`.
#[derive(Record, Clone, Debug, PartialEq)]
struct Op {
    key: u64,
    what: String,
    n: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Said {
    key: u64,
    text: String,
}

fn op(key: u64, what: &str, n: i64) -> (Timestamp, Op) {
    let what = what.to_owned();
    (Timestamp(n), Op { key, what, n })
}

fn texts(said: Vec<Said>) -> Vec<String> {
    said.into_iter()
        .map(|s| format!("{}: {}", s.key, s.text))
        .collect()
}

fn lists(ops: Stream<Op>) -> Stream<Said> {
    ops.key_by(Op::KEY).process_with("lists", |states| {
        let list = states.list::<String>("list");
        move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| {
            match op.what {
                "add" => list.add(format!("v{}", op.n)),
                "clear" => list.clear(),
                "keep" => {
                    let all = list.get();
                    let first = all.len().saturating_sub(op.n as usize);
                    list.set(all.into_iter().skip(first));
                }
                _ => {}
            }
            if op.what != "add" {
                let text = list.with(|items| {
                    assert_eq!(items.len(), items.clone().count());
                    items.collect::<Vec<_>>().join(" ")
                });
                assert_eq!(text.is_empty(), list.is_empty());
                out.emit(SaidRef { key, text: &text });
            }
        }
    })
}

#[test]
fn lists_are_read_for_many_keys_and_show_what_the_call_has_added() {
    let mut h = Harness::new(lists);
    h.push_batch((0..10).flat_map(|key| [op(key, "add", 1), op(key, "add", 2)]));
    assert!(h.take().is_empty());
    // More keys than one answer has; each adds before it reads.
    let rows = (0..10).flat_map(|key| [op(key, "add", 3), op(key, "get", 0)]);
    h.push_batch(rows);
    let expected: Vec<_> = (0..10).map(|key| format!("{key}: v1 v2 v3")).collect();
    assert_eq!(texts(h.take()), expected);
    h.push_batch([
        op(3, "clear", 0),
        op(3, "add", 7),
        op(4, "add", 4),
        op(4, "keep", 2),
        op(3, "get", 0),
        op(4, "add", 5),
        op(4, "keep", 2),
        op(5, "clear", 0),
    ]);
    assert_eq!(
        texts(h.take()),
        ["3: ", "4: v3 v4", "3: v7", "4: v4 v5", "5: "]
    );
    let list = |key: u64| h.list_state::<String, _>("list", &key);
    assert_eq!(list(3), ["v7"]);
    assert_eq!(list(4), ["v4", "v5"]);
    assert!(list(5).is_empty());
    assert_eq!(list(6), ["v1", "v2", "v3"]);
}

#[test]
fn a_call_that_stops_early_has_changed_only_what_its_rows_did() {
    let mut h = Harness::within(1, lists);
    let rows: Vec<_> = (0..100)
        .flat_map(|n| [op(n % 7, "add", n as i64), op(n % 7, "get", 0)])
        .collect();
    let mut expected = Vec::new();
    let mut all: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for n in 0..100u64 {
        let list = all.entry(n % 7).or_default();
        list.push(format!("v{n}"));
        expected.push(format!("{}: {}", n % 7, list.join(" ")));
    }
    h.push_batch(rows);
    assert_eq!(texts(h.take()), expected);
    for (key, list) in all {
        assert_eq!(h.list_state::<String, _>("list", &key), list);
    }
}

fn maps(ops: Stream<Op>) -> Stream<Said> {
    ops.key_by(Op::KEY).process_with("maps", |states| {
        let map = states.map::<i64, String>("map");
        move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| {
            let text = match op.what {
                "put" => {
                    map.put(op.n, format!("v{}", op.n));
                    return;
                }
                "fill" => {
                    (0..op.n).for_each(|n| map.put(n * 2, n.to_string()));
                    return;
                }
                "remove" => {
                    map.remove(op.n);
                    return;
                }
                "clear" => {
                    map.clear();
                    return;
                }
                "get" => format!("{:?} {}", map.get(op.n), map.contains(op.n)),
                "empty" => map.is_empty().to_string(),
                "near" => {
                    let mut near = Vec::new();
                    let bounds = (Bound::Included(op.n - 2), Bound::Excluded(op.n + 2));
                    map.each_within(bounds.0, bounds.1, |k, v| {
                        near.push(format!("{k}={v}"));
                        true
                    });
                    near.join(" ")
                }
                _ => {
                    let entries = map.entries().into_iter();
                    entries
                        .map(|(k, v)| format!("{k}={v}"))
                        .collect::<Vec<_>>()
                        .join(" ")
                }
            };
            out.emit(SaidRef { key, text: &text });
        }
    })
}

#[test]
fn small_maps_are_read_whole_and_show_what_the_call_has_changed() {
    let mut h = Harness::new(maps);
    h.push_batch((0..9).flat_map(|key| [op(key, "put", 5), op(key, "put", -3)]));
    h.push_batch((0..9).flat_map(|key| [op(key, "get", 5), op(key, "get", 6)]));
    let expected: Vec<_> = (0..9)
        .flat_map(|key| {
            [
                format!("{key}: Some(\"v5\") true"),
                format!("{key}: None false"),
            ]
        })
        .collect();
    assert_eq!(texts(h.take()), expected);
    h.push_batch([
        op(1, "put", 0),
        op(1, "all", 0),
        op(1, "remove", 5),
        op(1, "get", 5),
        op(2, "clear", 0),
        op(2, "empty", 0),
        op(2, "put", 1),
        op(2, "all", 0),
        op(1, "all", 0),
        op(3, "remove", 77),
        op(20, "empty", 0),
        op(1, "near", 0),
    ]);
    assert_eq!(
        texts(h.take()),
        [
            "1: -3=v-3 0=v0 5=v5",
            "1: None false",
            "2: true",
            "2: 1=v1",
            "1: -3=v-3 0=v0",
            "20: true",
            "1: 0=v0",
        ]
    );
    let map = |key: u64| h.map_state::<i64, String, _>("map", &key);
    assert_eq!(map(1), [(-3, "v-3".into()), (0, "v0".into())]);
    assert_eq!(map(2), [(1, "v1".into())]);
    assert_eq!(map(3), [(-3, "v-3".into()), (5, "v5".into())]);
    assert!(map(20).is_empty());
}

#[test]
fn large_maps_are_read_entry_by_entry_and_page_by_page() {
    let mut h = Harness::new(maps);
    h.push_batch([op(1, "fill", 3000), op(2, "put", 1)]);
    h.push_batch([
        op(1, "get", 4000),
        op(1, "get", 4001),
        op(1, "remove", 2000),
        op(1, "put", 2001),
        op(1, "near", 2000),
        op(1, "near", 4000),
        op(1, "near", -1),
        op(1, "near", 5999),
        op(1, "empty", 0),
        op(2, "get", 1),
    ]);
    assert_eq!(
        texts(h.take()),
        [
            "1: Some(\"2000\") true",
            "1: None false",
            "1: 1998=999 2001=v2001",
            "1: 3998=1999 4000=2000",
            "1: 0=0",
            "1: 5998=2999",
            "1: false",
            "2: Some(\"v1\") true",
        ]
    );
    h.push_batch([op(1, "put", -7), op(1, "put", 9999), op(1, "all", 0)]);
    let all = h.take().pop().unwrap().text;
    let mut expected: BTreeMap<i64, String> = (0..3000).map(|n| (n * 2, n.to_string())).collect();
    expected.remove(&2000);
    expected.extend([-7, 2001, 9999].map(|n| (n, format!("v{n}"))));
    let expected: Vec<_> = expected.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(all, expected.join(" "));
    h.push_batch([op(1, "clear", 0), op(1, "put", 3), op(1, "all", 0)]);
    assert_eq!(texts(h.take()), ["1: 3=v3"]);
    assert_eq!(h.map_state::<i64, String, _>("map", &1u64).len(), 1);
}

#[test]
fn maps_of_lists_keep_a_list_under_each_map_key() {
    let mut h = Harness::new(|ops: Stream<Op>| {
        ops.key_by(Op::KEY).process_with("lists", |states| {
            let state = states.list_map::<i64, i64>("lists");
            move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| {
                let at = op.n / 10;
                match op.what {
                    "add" => return state.add(at, op.n),
                    "remove" => return state.remove(at),
                    "clear" => return state.clear(),
                    "set" => return state.set(at, [op.n, op.n + 1]),
                    _ => {}
                }
                let text = match op.what {
                    "keys" => format!("{:?} {}", state.keys(), state.is_empty()),
                    "within" => {
                        let to = Bound::Included(at);
                        format!("{:?}", state.keys_within(Bound::Excluded(at - 2), to))
                    }
                    _ => format!("{:?}", state.get(at)),
                };
                out.emit(SaidRef { key, text: &text });
            }
        })
    });
    h.push_batch((0..60).map(|n| op(1 + n % 2, "add", n as i64)));
    h.push_batch([
        op(1, "get", 20),
        op(1, "add", 21),
        op(1, "get", 20),
        op(1, "remove", 30),
        op(1, "add", 70),
        op(1, "keys", 0),
        op(1, "within", 40),
        op(2, "clear", 0),
        op(2, "keys", 0),
        op(2, "add", 5),
        op(2, "get", 0),
        op(2, "keys", 0),
        op(1, "set", 50),
        op(1, "get", 50),
    ]);
    assert_eq!(
        texts(h.take()),
        [
            "1: [20, 22, 24, 26, 28]",
            "1: [20, 22, 24, 26, 28, 21]",
            "1: [0, 1, 2, 4, 5, 7] false",
            "1: [4]",
            "2: [] true",
            "2: [5]",
            "2: [0] false",
            "1: [50, 51]",
        ]
    );
    let state = |key: u64| h.list_map_state::<i64, i64, _>("lists", &key);
    assert_eq!(state(2), [(0, vec![5])]);
    let one = state(1);
    assert_eq!(one.len(), 6);
    assert_eq!(one[2], (2, vec![20, 22, 24, 26, 28, 21]));
    assert_eq!(one[4], (5, vec![50, 51]));
}

#[test]
fn lazy_values_are_fetched_when_they_are_asked_for() {
    let mut h = Harness::new(|ops: Stream<Op>| {
        ops.key_by(Op::KEY).process_with("lazy", |states| {
            let state = states.lazy_value::<String>("last");
            move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| {
                match op.what {
                    "set" => state.set(op.n.to_string()),
                    "clear" => state.clear(),
                    "more" => state.update(String::new, |s| s.push('!')),
                    _ => {}
                }
                if op.what != "set" {
                    let text = format!("{:?}", state.get());
                    out.emit(SaidRef { key, text: &text });
                }
            }
        })
    });
    h.push_batch(
        (0..50)
            .filter(|k| k % 5 != 0)
            .map(|key| op(key, "set", key as i64)),
    );
    h.push_batch((0..50).map(|key| op(key, "get", 0)));
    let expected: Vec<_> = (0..50)
        .map(|key| match key % 5 {
            0 => format!("{key}: None"),
            _ => format!("{key}: Some(\"{key}\")"),
        })
        .collect();
    assert_eq!(texts(h.take()), expected);
    h.push_batch([
        op(1, "more", 0),
        op(1, "more", 0),
        op(2, "clear", 0),
        op(5, "more", 0),
    ]);
    assert_eq!(
        texts(h.take()),
        [
            "1: Some(\"1!\")",
            "1: Some(\"1!!\")",
            "2: None",
            "5: Some(\"!\")"
        ]
    );
    assert_eq!(h.state::<String, _>("last", &1u64).unwrap(), "1!!");
    assert_eq!(h.state::<String, _>("last", &2u64), None);
    assert_eq!(h.state::<String, _>("last", &3u64).unwrap(), "3");
}

#[test]
fn reducing_and_aggregating_states_fold_values() {
    let mut h = Harness::new(|ops: Stream<Op>| {
        ops.key_by(Op::KEY).process_with("fold", |states| {
            let max = states.reducing("max", |a: i64, b: i64| a.max(b));
            let mean = states.aggregating(
                "mean",
                || Op {
                    key: 0,
                    what: String::new(),
                    n: 0,
                },
                |acc: &mut Op, n: i64| {
                    acc.key += 1;
                    acc.n += n;
                },
                |acc: &Op| acc.n as f64 / acc.key as f64,
            );
            move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| {
                if op.what == "clear" {
                    max.clear();
                    mean.clear();
                } else {
                    max.add(op.n);
                    mean.add(op.n);
                }
                let text = format!("{:?} {:?}", max.get(), mean.get());
                out.emit(SaidRef { key, text: &text });
            }
        })
    });
    h.push_batch([op(1, "", 5), op(2, "", 1), op(1, "", 2), op(1, "", 2)]);
    h.push_batch([op(1, "", 7), op(2, "clear", 0), op(2, "", -1)]);
    assert_eq!(
        texts(h.take()),
        [
            "1: Some(5) Some(5.0)",
            "2: Some(1) Some(1.0)",
            "1: Some(5) Some(3.5)",
            "1: Some(5) Some(3.0)",
            "1: Some(7) Some(4.0)",
            "2: None None",
            "2: Some(-1) Some(-1.0)",
        ]
    );
    let kinds: Vec<_> = h
        .graph()
        .operators
        .iter()
        .filter_map(|o| match &o.body {
            crate::runtime::Body::Process(p) => Some(p.states.iter().map(|s| s.kind)),
            _ => None,
        })
        .flatten()
        .collect();
    use crate::runtime::StateKind;
    assert_eq!(kinds, [StateKind::Reducing, StateKind::Aggregating]);
}

#[test]
fn a_time_to_live_is_part_of_the_declaration() {
    let h = Harness::new(|ops: Stream<Op>| {
        ops.key_by(Op::KEY).process_with("ttl", |states| {
            let _ = states
                .value::<i64>("a")
                .with_ttl(Ttl::of(seconds(5)).on_read());
            let _ = states
                .map::<i64, i64>("b")
                .with_ttl(Ttl::of(seconds(1)).return_expired().event_time());
            let _ = states.list::<i64>("c");
            move |_, _: OpRef<'_>, _: &mut Ctx, _: &mut Out<Said>| {}
        })
    });
    let crate::runtime::Body::Process(p) = &h.graph().operators[1].body else {
        panic!("no function")
    };
    let ttl = |at: usize| {
        let ttl = p.states[at].ttl?;
        Some((ttl.ms, ttl.on_read, ttl.return_expired, ttl.event_time))
    };
    assert_eq!(ttl(0), Some((5000, true, false, false)));
    assert_eq!(ttl(1), Some((1000, false, true, true)));
    assert_eq!(ttl(2), None);
    let lazy: Vec<_> = p.states.iter().map(|s| s.lazy).collect();
    assert_eq!(lazy, [false, true, true]);
}

#[test]
fn state_outside_of_a_call_is_refused_by_name() {
    let outside: Rc<RefCell<Option<ListState<i64>>>> = Rc::default();
    let inner = Rc::clone(&outside);
    let _h = Harness::new(move |ops: Stream<Op>| {
        ops.key_by(Op::KEY).process_with("list", move |states| {
            *inner.borrow_mut() = Some(states.list("mine"));
            move |_, _: OpRef<'_>, _: &mut Ctx, _: &mut Out<Said>| {}
        })
    });
    let list = outside.borrow().clone().unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| list.len()));
    let message = *refused.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(message, "state 'mine' is of a key, and no key is at hand");
}

#[test]
fn any_order_of_reads_and_writes_gives_what_plain_maps_give() {
    // A small generator of its own: the same operations on every run.
    let mut seed = 7u64;
    let mut next = move |below: u64| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let whats = [
        "put", "put", "put", "remove", "get", "get", "all", "near", "clear",
    ];
    let mut plain: BTreeMap<u64, BTreeMap<i64, String>> = BTreeMap::new();
    let mut h = Harness::within(200, maps);
    for _ in 0..60 {
        let (mut rows, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..next(40) {
            let (key, n) = (next(5), next(12) as i64);
            let what = whats[next(whats.len() as u64) as usize];
            if what == "clear" && next(4) > 0 {
                continue;
            }
            rows.push(op(key, what, n));
            let map = plain.entry(key).or_default();
            let shown = |from: i64, to: i64| {
                let range = map.range(from..to);
                let all = range.map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
                format!("{key}: {}", all.join(" "))
            };
            match what {
                "put" => {
                    map.insert(n, format!("v{n}"));
                }
                "remove" => {
                    map.remove(&n);
                }
                "clear" => map.clear(),
                "get" => {
                    let found = map.get(&n);
                    expected.push(format!("{key}: {found:?} {}", found.is_some()));
                }
                "near" => expected.push(shown(n - 2, n + 2)),
                _ => expected.push(shown(i64::MIN, i64::MAX)),
            }
        }
        h.push_batch(rows);
        assert_eq!(texts(h.take()), expected);
    }
}
