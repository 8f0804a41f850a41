use super::*;
use pelton_model::checkpoint::{
    Committable, JobRecord, NativeState, OperatorRecord, SectionRecord,
};
use pelton_model::graph::FieldPast;
use pelton_model::schema::DataType::{self, Bool, F32, F64, I8, I32, I64};
use pelton_model::schema::Field;

const TEXT: DataType = DataType::String;

fn f(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type)
}

fn state(name: &str, kind: SectionKind, value: Vec<Field>) -> SectionSpec {
    SectionSpec {
        uid: "op".into(),
        name: name.into(),
        kind,
        key: vec![f("k", I64), f("l", I64)],
        sub: vec![],
        value,
        stamped: false,
    }
}

fn value(fields: Vec<Field>) -> SectionSpec {
    state("count", SectionKind::Value, fields)
}

fn old(sections: Vec<SectionSpec>, entries: u64) -> Metadata {
    let task = TaskRecord {
        sections: sections
            .into_iter()
            .map(|spec| SectionRecord {
                spec,
                entries,
                bytes: 0,
            })
            .collect(),
        ..TaskRecord::default()
    };
    Metadata {
        id: 1,
        attempt: "a".into(),
        term: 1,
        job: JobRecord {
            max_parallelism: 128,
            ..JobRecord::default()
        },
        savepoint: true,
        finished: false,
        at_ms: 0,
        operators: vec![OperatorRecord {
            uid: "op".into(),
            name: "op".into(),
            parallelism: 1,
        }],
        tasks: vec![task.clone(), task],
    }
}

/// What becomes of it, a line for each state; or why it is refused.
fn check(old: &Metadata, sections: Option<Vec<SectionSpec>>, allow: bool) -> String {
    let declared = |s: Vec<SectionSpec>| s.into_iter().map(Declared::from).collect();
    check_declared(old, sections.map(declared), allow)
}

fn check_declared(old: &Metadata, sections: Option<Vec<Declared>>, allow: bool) -> String {
    let operators = sections.map(|s| ("op".to_owned(), s)).into_iter().collect();
    let new = NewJob {
        max_parallelism: 128,
        operators: &operators,
    };
    match check_state(old, new, allow) {
        Ok(report) => {
            let lines = report.sections.iter().map(|s| match &s.fate {
                Fate::Same => format!("{} same", s.name),
                Fate::New => format!("{} new", s.name),
                Fate::Dropped => format!("{} dropped", s.name),
                Fate::Migrated { keeper, changes } => {
                    let all = [&[format!("migrated from {keeper}")], changes.as_slice()];
                    format!("{} {}", s.name, all.concat().join("; "))
                }
                Fate::Compatible { changes, plan } => {
                    assert!(!plan.is_identity());
                    format!("{} {}", s.name, changes.join("; "))
                }
            });
            let dropped = report.dropped.iter().map(|uid| format!("without {uid}"));
            lines.chain(dropped).collect::<Vec<_>>().join("\n")
        }
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::StateMismatch);
            let more = error.detail_text().map(|d| format!("\n{d}"));
            format!("{error}{}", more.unwrap_or_default())
        }
    }
}

#[track_caller]
fn one(was: SectionSpec, is: SectionSpec, wants: &str) {
    assert_eq!(check(&old(vec![was], 1), Some(vec![is]), false), wants);
}

#[test]
fn the_same_state_is_the_same() {
    let count = || value(vec![f("n", I64)]);
    one(count(), count(), "count same");
    let renamed = SectionSpec {
        key: vec![f("user", I64), f("l", I64)],
        ..count()
    };
    one(count(), renamed, "count same");
}

#[test]
fn compatible_changes_have_a_plan() {
    let was = || value(vec![f("n", I32), f("m", F32)]);
    let is = vec![f("m", F64), f("n", I64), f("x", TEXT).nullable()];
    one(
        was(),
        value(is),
        "count field 'm' is f64, and was f32; field 'n' is i64, and was i32; \
         field 'x' is new, and null; the fields have another order",
    );
    let stamped = SectionSpec {
        stamped: true,
        ..was()
    };
    one(
        was(),
        stamped,
        "count values expire, as if they were written now",
    );
}

#[test]
fn a_plan_rewrites_values() {
    let operators = [(
        "op".to_owned(),
        vec![value(vec![f("n", I64), f("s", Bool).nullable()]).into()],
    )];
    let new = NewJob {
        max_parallelism: 128,
        operators: &operators.into(),
    };
    let report = check_state(&old(vec![value(vec![f("n", I8)])], 1), new, false).unwrap();
    assert!(!report.is_same());
    let Fate::Compatible { plan, .. } = &report.sections[0].fate else {
        panic!("{report:?}");
    };
    let mut out = Vec::new();
    plan.apply(&[0x80 + 5], 0, &mut out).unwrap();
    assert_eq!(out, [0x80, 0, 0, 0, 0, 0, 0, 5, 0]);
}

#[test]
fn incompatible_changes_name_operator_state_and_field() {
    one(
        value(vec![f("n", I64)]),
        value(vec![f("n", TEXT)]),
        "the field is string, and was i64, operator 'op', state 'count', field 'n'",
    );
    one(
        value(vec![f("n", I64)]),
        value(vec![f("n", I64), f("m", I64)]),
        "the field is new, has no default, and may not be null, operator 'op', state 'count', field 'm'",
    );
    one(
        value(vec![f("n", I64)]),
        state("count", SectionKind::List, vec![f("n", I64)]),
        "it is a list, and was a value, operator 'op', state 'count'",
    );
}

#[test]
fn keys_cannot_change() {
    let was = || value(vec![]);
    let with = |key: Vec<Field>| SectionSpec { key, ..was() };
    for (key, text) in [
        (vec![f("k", I64)], "k: i64"),
        (vec![f("k", I64), f("l", I32)], "k: i64, l: i32"),
        (vec![f("k", I64), f("l", I64).nullable()], "k: i64, l: i64?"),
        // The same types, but the other way round.
        (vec![f("l", I64), f("k", I64)], "l: i64, k: i64"),
    ] {
        let wants = format!(
            "its key is ({text}), and was (k: i64, l: i64): keys cannot change, \
             operator 'op', state 'count'"
        );
        one(was(), with(key), &wants);
    }
    let map = |sub| SectionSpec {
        sub: vec![f("m", sub)],
        ..state("map", SectionKind::Map, vec![])
    };
    one(
        map(I64),
        map(I32),
        "its map key is (m: i32), and was (m: i64): keys cannot change, operator 'op', state 'map'",
    );
    let timers = |key: DataType| SectionSpec {
        key: vec![f("k", key)],
        ..state("", SectionKind::EventTimers, vec![])
    };
    one(
        timers(I64),
        timers(TEXT),
        "its key is (k: string), and was (k: i64): keys cannot change, \
         operator 'op', state event-time timers",
    );
}

#[test]
fn what_has_no_place_is_refused_unless_allowed() {
    let was = old(
        vec![
            value(vec![f("n", I64), f("m", I64)]),
            state("gone", SectionKind::List, vec![]),
            state("", SectionKind::ProcessingTimers, vec![]),
        ],
        1,
    );
    let is = || {
        Some(vec![
            value(vec![f("n", I64)]),
            state("more", SectionKind::Map, vec![]),
        ])
    };
    assert_eq!(
        check(&was, is(), false),
        "the field is gone, and its values would be lost, operator 'op', state 'count', field 'm'\n\
         the operator has no such state any more, operator 'op', state 'gone'\n\
         the operator has no such state any more, operator 'op', state processing-time timers"
    );
    assert_eq!(
        check(&was, is(), true),
        "count field 'm' is dropped\ngone dropped\n dropped\nmore new"
    );
    // What does not fit is refused in any case, and not hidden by what may be lost.
    let wrong = Some(vec![value(vec![f("n", I8)])]);
    assert_eq!(
        check(&was, wrong, true),
        "the field is i8, and was i64, operator 'op', state 'count', field 'n'"
    );
}

#[test]
fn operators_that_are_gone_are_refused_where_they_had_something() {
    let was = old(vec![value(vec![f("n", I64)])], 1);
    let refused = "the job has no operator with this uid any more, operator 'op'";
    assert_eq!(check(&was, None, false), refused);
    assert_eq!(check(&was, None, true), "without op");
    assert_eq!(check(&old(vec![value(vec![])], 0), None, false), "");
    let passing = state("", SectionKind::Watermark, vec![]);
    assert_eq!(check(&old(vec![passing], 1), None, false), "");
    let positions = state("", SectionKind::Positions, vec![]);
    assert_eq!(check(&old(vec![positions], 1), None, false), refused);
    let mut sink = old(vec![], 0);
    sink.tasks[0].committables.push(Committable {
        uid: "op".into(),
        checkpoint: 1,
        payload: vec![],
    });
    assert_eq!(check(&sink, None, false), refused);
    let mut native = old(vec![], 0);
    native.tasks[0].native.push(NativeState {
        uid: "op".into(),
        format: "rocksdb-1".into(),
        sections: vec![value(vec![f("n", I64)])],
        files: vec![],
    });
    assert_eq!(check(&native, None, false), refused);
    let narrow = Some(vec![value(vec![f("n", I32)])]);
    let refused = "the field is i32, and was i64, operator 'op', state 'count', field 'n'";
    assert_eq!(check(&native, narrow, false), refused);
}

#[test]
fn empty_and_internal_sections_have_nothing_to_lose() {
    let was = old(
        vec![
            value(vec![f("n", I64)]),
            state("gone", SectionKind::Value, vec![]),
        ],
        0,
    );
    let is = Some(vec![value(vec![f("n", TEXT)])]);
    assert_eq!(check(&was, is, false), "count new");
    let internal = [
        SectionKind::Watermark,
        SectionKind::Positions,
        SectionKind::Writer,
        SectionKind::InFlight,
    ];
    for kind in internal {
        let was = old(vec![state("", kind, vec![f("n", I64)])], 1);
        assert_eq!(check(&was, Some(vec![]), false), "");
    }
}

#[test]
fn the_number_of_key_groups_stays() {
    let operators = BTreeMap::new();
    let new = NewJob {
        max_parallelism: 64,
        operators: &operators,
    };
    let error = check_state(&old(vec![], 0), new, true).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateMismatch);
    assert_eq!(
        error.message(),
        "the state has 128 key groups, and the job 64"
    );
}

fn keeper(fields: Vec<Field>) -> Declared {
    Declared {
        section: SectionSpec {
            name: "count@former".into(),
            ..value(fields)
        },
        past: Past {
            restores: Some("count".into()),
            ..Past::default()
        },
    }
}

#[test]
fn former_names_and_defaults_are_compatible() {
    let is = Declared {
        past: Past {
            fields: vec![
                FieldPast {
                    place: 0,
                    names: vec!["n".into()],
                    ..FieldPast::default()
                },
                FieldPast {
                    place: 1,
                    default: Some(vec![0x87]),
                    ..FieldPast::default()
                },
            ],
            restores: None,
        },
        ..value(vec![f("total", I64), f("level", I8)]).into()
    };
    let was = old(vec![value(vec![f("n", I32)])], 1);
    assert_eq!(
        check_declared(&was, Some(vec![is]), false),
        "count field 'total' was 'n'; field 'total' is i64, and was i32; \
         field 'level' is new, and has its default"
    );
}

#[test]
fn the_users_function_migrates_what_fits_its_type_alone() {
    let now = || Declared::from(value(vec![f("n", TEXT)]));
    let former = || keeper(vec![f("n", I64)]);
    let saved = |sections| old(sections, 1);
    let check = |was: &Metadata| check_declared(was, Some(vec![now(), former()]), false);
    let new = "count@former new";
    let was = saved(vec![value(vec![f("n", I64)])]);
    assert_eq!(
        check(&was),
        format!("count migrated from count@former\n{new}")
    );
    let was = saved(vec![value(vec![f("n", I32)])]);
    assert_eq!(
        check(&was),
        format!("count migrated from count@former; field 'n' is i64, and was i32\n{new}")
    );
    let was = saved(vec![value(vec![f("n", TEXT)])]);
    assert_eq!(check(&was), format!("count same\n{new}"));
    let refused = check(&saved(vec![value(vec![f("n", F64)])]));
    assert_eq!(
        refused,
        "the field is string, and was f64, operator 'op', state 'count', field 'n'"
    );
    // Half of the keys have been seen.
    let half = || saved(vec![now().section, former().section]);
    assert_eq!(check(&half()), "count same\ncount@former same");
    // The function is gone too early.
    let early = |allow| check_declared(&half(), Some(vec![now()]), allow);
    assert_eq!(
        early(false),
        "values of 'count' that wait to be migrated have no place any more: keep its migrate \
         function until a savepoint has none, operator 'op', state 'count@former'"
    );
    assert_eq!(early(true), "count same\ncount@former dropped");
    let mut done = half();
    for task in &mut done.tasks {
        task.sections[1].entries = 0;
    }
    assert_eq!(
        check_declared(&done, Some(vec![now()]), false),
        "count same"
    );
    // Back to the former type: what was migrated is not taken, what waits would be.
    let back = check_declared(&half(), Some(vec![value(vec![f("n", I64)]).into()]), false);
    assert_eq!(
        back,
        "the field is i64, and was string, operator 'op', state 'count', field 'n'"
    );
}

#[test]
fn what_is_of_the_type_that_a_function_takes_is_migrated_even_if_it_could_be_kept() {
    let now = Declared::from(value(vec![f("n", I64), f("m", I64).nullable()]));
    let was = old(vec![value(vec![f("n", I64)])], 1);
    let states = Some(vec![now, keeper(vec![f("n", I64)])]);
    assert_eq!(
        check_declared(&was, states, false),
        "count migrated from count@former\ncount@former new"
    );
}
