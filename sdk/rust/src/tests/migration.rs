//! What records say of their past, and values of former types that become those of now.

use crate::prelude::*;
use crate::runtime::StateKind;
use crate::testing::Harness;
use crate::value::{Past, Value};

#[derive(Record, Clone, Debug, PartialEq)]
struct Op {
    key: u64,
    what: String,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Said {
    key: u64,
    text: String,
}

/// What a later version keeps.
#[derive(Record, Clone, Debug, PartialEq)]
struct Visits {
    #[record(renamed_from = "count", renamed_from = "n")]
    total: u64,
    #[record(default = "nobody")]
    by: String,
    last: Option<Place>,
    #[record(name = "spent_ms", default = -5)]
    spent: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Place {
    city: String,
    #[record(default)]
    floor: i8,
}

#[derive(Record, Clone, Debug, PartialEq)]
enum Seen {
    #[record(renamed_from = "spot")]
    Place(Place),
    Visits(Visits),
}

fn op(key: u64, what: &str) -> (Timestamp, Op) {
    let what = what.to_owned();
    (Timestamp(0), Op { key, what })
}

fn texts(said: Vec<Said>) -> Vec<String> {
    let text = |s: Said| format!("{}: {}", s.key, s.text);
    said.into_iter().map(text).collect()
}

fn past(field: u32, names: &[&str], default: Option<&[u8]>) -> Past {
    Past {
        field,
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        default: default.map(<[u8]>::to_vec),
        tag: false,
    }
}

fn row_past<T: Value>() -> String {
    let mut out = Vec::new();
    T::row_past(0, &mut out);
    format!("{out:?}")
}

#[test]
fn records_say_what_their_fields_were() {
    let nobody = [&[0, 0, 0, 6], b"nobody".as_slice()].concat();
    let spent = (-5_i64 ^ i64::MIN).to_be_bytes();
    let visits = |first| {
        [
            past(first, &["count", "n"], None),
            past(first + 1, &[], Some(&nobody)),
            past(first + 4, &[], Some(&[0x80])),
            past(first + 5, &[], Some(&spent)),
        ]
    };
    assert_eq!(row_past::<Visits>(), format!("{:?}", visits(0)));
    assert_eq!(row_past::<Vec<Visits>>(), format!("{:?}", visits(2)));
    assert_eq!(
        row_past::<(u8, Option<Visits>)>(),
        format!("{:?}", visits(2))
    );
    let tag = Past {
        tag: true,
        ..past(0, &[], None)
    };
    let mut all = vec![tag, past(3, &[], Some(&[0x80])), past(1, &["spot"], None)];
    all.extend(visits(5));
    assert_eq!(row_past::<Seen>(), format!("{all:?}"));
    assert_eq!(row_past::<(u8, String)>(), "[]");
}

fn counts(ops: Stream<Op>) -> Stream<Said> {
    ops.key_by(Op::KEY).process_with("counts", |states| {
        let count = states
            .value::<String>("count")
            .migrate_from(|n: u64| format!("was {n}"))
            .migrate_from(|old: bool| format!("was {old}"))
            .with_ttl(Ttl::of(hours(1)));
        move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| {
            match op.what {
                "clear" => count.clear(),
                "set" => count.set("set".into()),
                "more" => count.update(String::new, |s| s.push('+')),
                _ => {}
            }
            if op.what != "set" && op.what != "clear" {
                let text = count.get().unwrap_or("none".into());
                out.emit(SaidRef { key, text: &text });
            }
        }
    })
}

#[test]
fn former_values_become_those_of_now_when_they_are_looked_at() {
    let mut h = Harness::new(counts);
    for key in 0..6_u64 {
        h.set_state::<u64, _>("count@former", &key, 10 + key);
    }
    h.set_state::<bool, _>("count@former-2", &6_u64, true);
    h.set_state::<String, _>("count", &7_u64, "own".into());
    h.push_batch([
        op(0, "get"),
        op(0, "more"),
        op(1, "more"),
        op(2, "clear"),
        op(2, "get"),
        op(3, "set"),
        op(6, "get"),
        op(7, "more"),
        op(8, "get"),
    ]);
    assert_eq!(
        texts(h.take()),
        [
            "0: was 10",
            "0: was 10+",
            "1: was 11+",
            "2: none",
            "6: was true",
            "7: own+",
            "8: none"
        ]
    );
    let now = |h: &Harness<Op, Said>, key: u64| h.state::<String, _>("count", &key);
    let former = |h: &Harness<Op, Said>, key: u64| h.state::<u64, _>("count@former", &key);
    assert_eq!(now(&h, 0).as_deref(), Some("was 10+"));
    assert_eq!(now(&h, 3).as_deref(), Some("set"));
    for key in 0..4 {
        assert_eq!(former(&h, key), None, "{key}");
    }
    // Those that nobody looked at wait.
    assert_eq!((former(&h, 4), now(&h, 4)), (Some(14), None));
    // What was removed does not come back.
    h.push_batch([op(3, "clear"), op(2, "get"), op(3, "get"), op(4, "get")]);
    assert_eq!(texts(h.take()), ["2: none", "3: none", "4: was 14"]);
    assert_eq!(former(&h, 5), Some(15));
}

#[test]
fn reduced_and_aggregated_values_are_migrated() {
    let mut h = Harness::new(|ops: Stream<Op>| {
        ops.key_by(Op::KEY).process_with("sums", |states| {
            let most = states
                .reducing::<String>("most", |a, b| a.max(b))
                .migrate_from(|n: u8| n.to_string());
            let sum = states
                .aggregating("sum", || 0_u64, |acc, n: u64| *acc += n, |acc| *acc)
                .migrate_from(|n: i8| n.unsigned_abs().into());
            move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| {
                most.add(op.what.to_owned());
                sum.add(op.what.len() as u64);
                let text = format!("{:?} {:?}", most.get(), sum.get());
                out.emit(SaidRef { key, text: &text });
            }
        })
    });
    h.set_state::<u8, _>("most@former", &1_u64, 7);
    h.set_state::<i8, _>("sum@former", &1_u64, -3);
    h.push_batch([op(1, "5"), op(2, "5")]);
    assert_eq!(
        texts(h.take()),
        ["1: Some(\"7\") Some(4)", "2: Some(\"5\") Some(1)"]
    );
}

#[test]
fn former_values_are_declared_behind_those_of_now() {
    let mut states = States::default();
    let _ = states
        .lazy_value::<Visits>("visits")
        .with_ttl(Ttl::of(hours(1)))
        .migrate_from(|n: u64| Visits {
            total: n,
            by: String::new(),
            last: None,
            spent: 0,
        });
    let specs = states.specs();
    let former = &specs[1];
    assert_eq!(former.name, "visits@former");
    assert_eq!(former.restores.as_deref(), Some("visits"));
    assert!(former.lazy && former.kind == StateKind::Value);
    assert_eq!(former.ttl.map(|t| t.ms), Some(3_600_000));
    assert_eq!((specs[0].past.len(), former.past.len()), (4, 0));
}

fn many(ops: Stream<Op>) -> Stream<Said> {
    ops.key_by(Op::KEY).process_with("many", |states| {
        let list = states
            .list::<String>("list")
            .migrate_from(|n: u8| format!("was {n}"));
        let map = states
            .map::<i64, String>("map")
            .migrate_from(|n: bool| format!("was {n}"));
        move |key, op: OpRef<'_>, _: &mut Ctx, out: &mut Out<Said>| match op.what {
            "add" => list.add("new".into()),
            "put" => map.put(2, "new".into()),
            "clear" => {
                list.clear();
                map.clear();
            }
            _ => {
                let text = format!("{:?} {:?} {:?}", list.get(), map.get(1), map.entries());
                out.emit(SaidRef { key, text: &text });
            }
        }
    })
}

#[test]
fn lists_and_maps_are_moved_over_by_key() {
    let mut h = Harness::new(many);
    for key in 0..4_u64 {
        h.add_to_list::<u8, _>("list@former", &key, 1);
        h.add_to_list::<u8, _>("list@former", &key, 2);
        h.put_into_map::<i64, bool, _>("map@former", &key, 1, true);
        h.put_into_map::<i64, bool, _>("map@former", &key, 2, false);
    }
    h.push_batch([
        op(0, "get"),
        op(1, "add"),
        op(1, "put"),
        op(2, "clear"),
        op(2, "add"),
        op(1, "get"),
        op(2, "get"),
        op(9, "get"),
    ]);
    let moved = |list: &str, two: &str| {
        format!(r#"["was 1", "was 2"{list}] Some("was true") [(1, "was true"), (2, "{two}")]"#)
    };
    assert_eq!(
        texts(h.take()),
        [
            format!("0: {}", moved("", "was false")),
            format!("1: {}", moved(r#", "new""#, "new")),
            r#"2: ["new"] None []"#.to_owned(),
            "9: [] None []".to_owned(),
        ]
    );
    let former = |h: &Harness<Op, Said>, key: u64| {
        let list = h.list_state::<u8, _>("list@former", &key);
        (list, h.map_state::<i64, bool, _>("map@former", &key))
    };
    for key in 0..3 {
        assert_eq!(former(&h, key), (vec![], vec![]), "{key}");
    }
    assert_eq!(former(&h, 3), (vec![1, 2], vec![(1, true), (2, false)]));
    h.push_batch([op(1, "get"), op(3, "put"), op(3, "get")]);
    assert_eq!(
        texts(h.take()),
        [
            format!("1: {}", moved(r#", "new""#, "new")),
            format!("3: {}", moved("", "new")),
        ]
    );
}
