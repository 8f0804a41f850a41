//! State of a former version of a job, in every form, by either backend.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use pelton_model::ErrorCode;
use pelton_model::graph::{FieldPast, Past};

use super::snapshots::{ALL, RestoreFrom, SnapshotForm, complete, settings, snapshot};
use super::*;

const KEYS: i64 = 100;

fn owner_of(states: Vec<StateSpec>) -> StateOwner {
    StateOwner {
        states,
        ..owner("op", DataType::I64, None)
    }
}

fn value(fields: Vec<Field>) -> StateSpec {
    spec("value", StateKind::Value, None, Schema::new(fields))
}

fn int(name: &str) -> Field {
    Field::new(name, DataType::I64)
}

fn change(state: u32, marks: Vec<u8>, values: Slots) -> StateChange {
    StateChange {
        state,
        marks,
        values,
        entries: None,
    }
}

fn slots_of(state: &mut dyn KeyedState, some: std::ops::Range<i64>) -> Vec<u32> {
    touch(state, keys(&DataType::I64, &some.collect::<Vec<_>>()))
}

fn write(state: &mut dyn KeyedState, some: std::ops::Range<i64>, changes: &[StateChange]) {
    let slots = slots_of(state, some);
    state.read(&slots).unwrap();
    state.write(&slots, changes).unwrap();
    state.forget(&slots, &|_| false);
    state.tidy(&|_| false).unwrap();
}

/// Runs `test` with each backend in each of its forms.
fn everywhere(test: impl Fn(&dyn StateBackend, &dyn Fn(&mut dyn KeyedState) -> RestoreFrom)) {
    for (rocks, form) in [
        (false, SnapshotForm::Canonical),
        (true, SnapshotForm::Canonical),
        (true, SnapshotForm::Native),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let made =
            |state: &mut dyn KeyedState| complete(&blobs, vec![(ALL, snapshot(state, form))]);
        match rocks {
            false => test(&HeapBackend, &made),
            true => {
                let backend = RocksBackend::open(&dir.path().join("state"), settings()).unwrap();
                test(&backend, &made);
            }
        }
    }
}

fn restored(
    backend: &dyn StateBackend,
    states: &[StateSpec],
    from: &RestoreFrom,
) -> pelton_model::Result<Box<dyn KeyedState>> {
    let mut state = backend.keyed(&owner_of(states.to_vec()))?;
    state.restore(&from.operator("op", (0, 1), ALL))?;
    Ok(state)
}

fn column(slots: &Slots, column: usize) -> Vec<i64> {
    slots.columns[column]
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

#[test]
fn fields_are_renamed_added_and_dropped_and_states_dropped() {
    let before = [
        value(vec![int("n"), Field::new("m", DataType::String)]),
        spec("gone", StateKind::Value, None, int_schema()),
        spec("map", StateKind::Map, Some(text_schema()), int_schema()),
    ];
    let mut now = value(vec![int("level"), int("total")]);
    now.past.fields = vec![
        FieldPast {
            place: 0,
            default: Some((9_i64 ^ i64::MIN).to_be_bytes().to_vec()),
            ..FieldPast::default()
        },
        FieldPast {
            place: 1,
            names: vec!["n".into()],
            ..FieldPast::default()
        },
    ];
    let all: Vec<i64> = (0..KEYS).collect();
    everywhere(|backend, made| {
        let mut state = backend.keyed(&owner_of(before.to_vec())).unwrap();
        let names: Vec<String> = all.iter().map(|k| text(*k)).collect();
        let mut rows = ints(&all);
        rows.columns.extend(texts(&names).columns);
        let marks = || vec![1; all.len()];
        let changes = [change(0, marks(), rows), change(1, marks(), ints(&all))];
        write(state.as_mut(), 0..KEYS, &changes);
        let from = made(state.as_mut());
        let mut state = restored(backend, std::slice::from_ref(&now), &from).unwrap();
        // And once more, as it is now.
        for _ in 0..2 {
            let slots = slots_of(state.as_mut(), 0..KEYS);
            let read = state.read(&slots).unwrap();
            assert!(read.len() == 1 && read[0].present.is_none());
            assert_eq!(column(&read[0], 0), vec![9; all.len()]);
            assert_eq!(column(&read[0], 1), all);
            let from = made(state.as_mut());
            state = restored(backend, std::slice::from_ref(&now), &from).unwrap();
        }
    });
}

/// The state of now, and what keeps values of the former type.
fn migrating() -> [StateSpec; 2] {
    let former = StateSpec {
        name: "value@former".into(),
        lazy: true,
        past: Past {
            restores: Some("value".into()),
            ..Past::default()
        },
        ..value(vec![int("n")])
    };
    [value(text_schema().fields), former]
}

#[test]
fn values_of_a_former_type_wait_behind_those_of_now() {
    let before = value(vec![int("n")]);
    let all: Vec<i64> = (0..KEYS).collect();
    let half = KEYS / 2;
    everywhere(|backend, made| {
        let mut state = backend.keyed(&owner_of(vec![before.clone()])).unwrap();
        let changes = [change(0, vec![1; all.len()], ints(&all))];
        write(state.as_mut(), 0..KEYS, &changes);
        let from = made(state.as_mut());

        let now = migrating();
        let mut state = restored(backend, &now, &from).unwrap();
        let slots = slots_of(state.as_mut(), 0..KEYS);
        let none = vec!["-"; all.len()];
        assert_eq!(shown(&state.read(&slots).unwrap()[0]), none);
        assert_eq!(column(&state.values(1, &slots).unwrap(), 0), all);
        let names: Vec<String> = (0..half).map(text).collect();
        let changes = [
            change(0, vec![1; half as usize], texts(&names)),
            change(1, vec![2; half as usize], ints(&[])),
        ];
        write(state.as_mut(), 0..half, &changes);

        // Half of them have been migrated: so it stays.
        let halfway = made(state.as_mut());
        let mut state = restored(backend, &now, &halfway).unwrap();
        let slots = slots_of(state.as_mut(), 0..half);
        let read = state.read(&slots).unwrap();
        assert_eq!(
            read[0].columns[0].as_ref(),
            texts(&names).columns[0].as_ref()
        );
        assert_eq!(
            shown(&state.values(1, &slots).unwrap()),
            vec!["-"; half as usize]
        );
        let slots = slots_of(state.as_mut(), half..KEYS);
        assert_eq!(
            column(&state.values(1, &slots).unwrap(), 0),
            all[half as usize..]
        );

        // A version without the function, where what waits may be left behind.
        let mut state = restored(backend, &now[..1], &halfway).unwrap();
        let slots = slots_of(state.as_mut(), 0..KEYS);
        let read = shown(&state.read(&slots).unwrap()[0]);
        assert_eq!(
            read.iter().filter(|r| *r == "-").count(),
            all.len() - names.len()
        );
        // The former type cannot take back what was migrated.
        let back = restored(backend, std::slice::from_ref(&before), &halfway);
        let error = back.map(drop).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StateMismatch, "{error}");
    });
}

#[test]
fn what_fits_the_state_itself_does_not_wait() {
    everywhere(|backend, made| {
        let now = migrating();
        let mut state = backend.keyed(&owner_of(now[..1].to_vec())).unwrap();
        let names: Vec<String> = (0..KEYS).map(text).collect();
        let changes = [change(0, vec![1; names.len()], texts(&names))];
        write(state.as_mut(), 0..KEYS, &changes);
        let from = made(state.as_mut());
        let mut state = restored(backend, &now, &from).unwrap();
        let slots = slots_of(state.as_mut(), 0..KEYS);
        let read = state.read(&slots).unwrap();
        assert_eq!(
            read[0].columns[0].as_ref(),
            texts(&names).columns[0].as_ref()
        );
        assert_eq!(
            shown(&state.values(1, &slots).unwrap()),
            vec!["-"; names.len()]
        );
    });
}
