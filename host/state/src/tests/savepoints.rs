//! Savepoints that are copied from the caches: they have what was there at the barrier, and leave no trace.

use super::deltas::{NATIVE, Run, SAVEPOINT, clear, large, set, take};
use super::snapshots::{ALL, RestoreFrom, begin, complete, finish, snapshot};
use super::*;

/// The savepoint at hand is given up.
fn abort(run: &mut Run) {
    run.state.abort_snapshot();
    run.begun = None;
}

/// Entries of the savepoint at hand that were written so far.
fn entries(run: &Run) -> u64 {
    run.begun.as_ref().unwrap().0.writer.entries()
}

#[test]
fn the_chain_of_deltas_goes_on() {
    let mut run = large();
    run.work(&set(0..60, 1));
    let (_, first) = take(&mut run);
    run.work(&set(5..8, 2));
    run.begin(SAVEPOINT);
    run.go_on();
    run.work(&set(30..33, 3));
    run.work(&clear(50..52));
    assert!((1..120).contains(&entries(&run)), "some is copied");
    run.complete(SAVEPOINT);
    run.work(&set(33..35, 4));
    let (tables, second) = take(&mut run);
    assert!(tables.is_empty() && second.len() == 2, "{second:?}");
    assert_eq!(second[0], first[0]);
    // It has what came before the barrier of the savepoint, and after.
    run.complete(NATIVE);
    assert_eq!(take(&mut run).1, second);
    // A task's first snapshot may be one, and its last.
    let mut run = large();
    run.complete(SAVEPOINT);
    run.work(&set(0..9, 1));
    run.complete(SAVEPOINT);
    assert!(!run.dir.path().join("state/snapshot").exists());
    run.complete(NATIVE);
    run.complete(SAVEPOINT);
    run.restart();
    run.complete(SAVEPOINT);
    assert!(!take(&mut run).0.is_empty());
}

#[test]
fn one_that_is_given_up_leaves_the_chain_as_it_is() {
    let mut run = large();
    run.work(&set(0..60, 1));
    let (_, first) = take(&mut run);
    run.work(&clear([20]));
    for steps in 0..12 {
        run.begin(SAVEPOINT);
        (0..steps).for_each(|_| run.go_on());
        run.work(&set([3 * steps], i64::from(steps as i32) + 2));
        run.work(&clear([3 * steps + 1]));
        run.work(&set([3 * steps + 1], 7));
        abort(&mut run);
    }
    let (tables, deltas) = take(&mut run);
    assert!(tables.is_empty());
    assert_eq!((deltas.len(), &deltas[0]), (2, &first[0]));
    run.complete(NATIVE);
    run.complete(SAVEPOINT);
    run.check(3);
}

#[test]
fn slots_are_given_up_and_given_to_others_meanwhile() {
    let mut run = large();
    run.work(&set(0..40, 1));
    run.begin(SAVEPOINT);
    run.go_on();
    let slots = run.state.len();
    // Copied before they go; their slots are others' before the savepoint comes by.
    run.work(&clear(20..40));
    assert_eq!(run.state.len(), slots - 20);
    run.work(&set(40..60, 2));
    assert_eq!(run.state.len(), slots);
    run.complete(SAVEPOINT);
    run.complete(NATIVE);
    run.restart();
    run.complete(NATIVE);
}

#[test]
fn eviction_is_no_change() {
    let mut run = Run::new(DataType::I64, None, 40_000);
    run.work(&set(0..60, 1));
    assert!(take(&mut run).0.is_empty(), "all of it is cached");
    run.begin(SAVEPOINT);
    run.go_on();
    for some in 1..10 {
        run.work(&set(100 * some..100 * some + 60, 2));
    }
    assert!(run.state.len() < 10 * 60, "there is no room for all");
    run.work(&set(10..30, 3));
    assert!(run.begun.as_ref().is_some_and(|b| !b.2));
    run.complete(SAVEPOINT);
    assert!(!take(&mut run).0.is_empty(), "it has reached the store");
    run.complete(NATIVE);
    run.complete(SAVEPOINT);
}

#[test]
fn what_was_over_at_the_barrier_is_left_out() {
    let mut run = Run::new(DataType::I64, Some(ttl(false, false)), 1 << 20);
    run.work(&set(0..20, 1));
    run.work(&set(20..50, 10));
    at(run.state.as_mut(), run.model.now + 10);
    run.begin(SAVEPOINT);
    // What is over after the barrier was there at it.
    at(run.state.as_mut(), run.model.now + 100);
    for _ in 0..20 {
        run.state.tidy(&|_| false).unwrap();
        run.go_on();
    }
    assert_eq!(entries(&run), 2 * 30);
    let (begun, ..) = run.begun.take().unwrap();
    let mut restored = HeapBackend.keyed(&run.owner).unwrap();
    at(restored.as_mut(), run.model.now + 10);
    let from = complete(
        run.dir.path(),
        vec![(ALL, finish(run.state.as_mut(), begun))],
    );
    restored.restore(&from.operator("op", (0, 1), ALL)).unwrap();
    assert_eq!(restored.len(), 30);
}

#[test]
fn it_waits_for_room_and_holds_only_what_changes() {
    let mut run = large();
    run.work(&set(0..60, 1));
    run.begin(SAVEPOINT);
    let (begun, ..) = run.begun.as_ref().unwrap();
    begun.made.set_room(0);
    (0..20).for_each(|_| run.go_on());
    assert_eq!(entries(&run), 0);
    run.work(&set(0..60, 2));
    run.work(&clear(7..50));
    (0..20).for_each(|_| run.go_on());
    let (begun, _, done) = run.begun.as_ref().unwrap();
    assert!(!done && begun.writer.entries() == 0);
    begun.made.set_room(1 << 20);
    run.complete(SAVEPOINT);
    run.complete(NATIVE);
}

#[test]
fn state_of_an_operator_is_copied_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::open(&dir.path().join("s"), RocksSettings::default()).unwrap();
    let owner = StateOwner {
        key: Vec::new(),
        states: vec![spec("value", StateKind::Value, None, int_schema())],
        ..owner("op", DataType::I64, None)
    };
    let mut state = backend.keyed(&owner).unwrap();
    for n in 0..3 {
        let mut touched = Touched::default();
        state.touch(&[], 1, &mut touched).unwrap();
        let change = StateChange {
            state: VALUE,
            marks: vec![1],
            values: ints(&[n]),
            entries: None,
        };
        // What comes after the barrier is not in it.
        let begun = begin(state.as_mut(), NATIVE);
        state.write(&touched.slots, &[change]).unwrap();
        let before = complete(dir.path(), vec![(ALL, finish(state.as_mut(), begun))]);
        let after = complete(dir.path(), vec![(ALL, snapshot(state.as_mut(), NATIVE))]);
        let backends: [&dyn StateBackend; 2] = [&HeapBackend, &backend];
        for backend in backends {
            let read = |from: &RestoreFrom| {
                let mut state = backend.keyed(&owner).unwrap();
                state.restore(&from.operator("op", (0, 1), ALL)).unwrap();
                let mut touched = Touched::default();
                state.touch(&[], 1, &mut touched).unwrap();
                shown(&state.read(&touched.slots).unwrap()[0])
            };
            let old = if n == 0 {
                vec!["-".to_owned()]
            } else {
                shown(&ints(&[n - 1]))
            };
            assert_eq!((read(&before), read(&after)), (old, shown(&ints(&[n]))));
        }
    }
}
