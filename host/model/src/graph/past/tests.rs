use super::*;
use crate::graph::StateKind;
use crate::schema::Schema;

fn state(name: &str, past: Past) -> StateSpec {
    let n = Field::new("n", DataType::I64);
    let inner = vec![
        Field::new("a", DataType::I8),
        Field::new("b", DataType::String).nullable(),
    ];
    let r = Field::new("r", DataType::Struct(inner));
    StateSpec {
        name: name.into(),
        kind: StateKind::Value,
        map_key: None,
        schema: Schema::new(vec![n, r]),
        lazy: false,
        ttl: None,
        past,
    }
}

fn of(place: u32, names: &[&str], default: Option<&[u8]>) -> FieldPast {
    FieldPast {
        place,
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        default: default.map(<[u8]>::to_vec),
        is_tag: false,
    }
}

fn fault(fields: Vec<FieldPast>) -> String {
    let past = Past {
        fields,
        restores: None,
    };
    let result = check(&state("s", past), &[]);
    result.err().map_or(String::new(), |e| {
        assert_eq!(e.code(), ErrorCode::GraphInvalid);
        e.message().to_owned()
    })
}

#[test]
fn what_fields_were_must_make_sense() {
    let fine = vec![
        of(0, &["m", "k"], Some(&[0x80, 0, 0, 0, 0, 0, 0, 1])),
        of(2, &["x"], Some(&[0x81])),
        of(3, &["y"], Some(&[0])),
    ];
    assert_eq!(fault(fine), "");
    // A name is free in another record.
    assert_eq!(fault(vec![of(2, &["n"], None)]), "");
    assert_eq!(
        fault(vec![of(2, &["b"], None)]),
        "field 'a' was 'b' once, but there is a field 'b'"
    );
    assert_eq!(
        fault(vec![of(2, &["x"], None), of(3, &["x"], None)]),
        "two fields were 'x' once"
    );
    for wrong in [&[0x81][..], &[0x80, 0, 0, 0, 0, 0, 0, 1, 0], &[]] {
        assert_eq!(
            fault(vec![of(0, &[], Some(wrong))]),
            "the default of field 'n' is no i64"
        );
    }
    assert_eq!(
        fault(vec![of(4, &[], None)]),
        "field 4 has a past, and there are 4 fields"
    );
    assert_eq!(
        fault(vec![of(1, &[], None), of(1, &[], None)]),
        "field 1 has two pasts"
    );
    let tag = FieldPast {
        is_tag: true,
        ..of(0, &[], None)
    };
    assert_eq!(
        fault(vec![tag]),
        "field 'n' is no tag of the fields after it"
    );
}

#[test]
fn former_values_stand_behind_a_state_of_their_kind() {
    let behind = |name: &str, of: &str| {
        let restores = Some(of.to_owned());
        let past = Past {
            fields: vec![],
            restores,
        };
        state(name, past)
    };
    let own = || state("s", Past::default());
    let fault = |state: &StateSpec, all: &[StateSpec]| {
        let result = check(state, all);
        result
            .err()
            .map_or(String::new(), |e| e.message().to_owned())
    };
    assert_eq!(fault(&behind("s@former", "s"), &[own()]), "");
    assert_eq!(
        fault(&behind("other", "s"), &[own()]),
        "it keeps former values of 's', and its name is not 's@..'"
    );
    assert_eq!(
        fault(&behind("s@former", "s"), &[]),
        "it keeps former values of 's', and there is no such state"
    );
    let list = StateSpec {
        kind: StateKind::List,
        ..own()
    };
    let message = fault(&behind("s@former", "s"), &[list]);
    assert!(message.contains("not of its kind"), "{message}");
    let message = fault(&state("s@x", Past::default()), &[]);
    assert!(
        message.starts_with("the name of a state has no '@'"),
        "{message}"
    );
}
