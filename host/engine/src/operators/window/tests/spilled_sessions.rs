//! Sessions that do not fit in memory: what comes out is what comes out of those that do, in the same order.

use super::saved::{Case, Event, all, events, float_sums, sorted, stopped_between};
use super::spilled::Tight;
use super::*;
use crate::operators::process::StatePlace;
use pelton_model::key::KeyGroupRange;

/// Nothing fits, a few keys do, all does.
fn rooms() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), 3_000u64..9_000, Just(1 << 30)]
}

fn case(gap_ms: i64, lateness: i64, function: WindowFunction, text: bool) -> Case {
    Case::new(Assigner::Session { gap_ms }, lateness, function, text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn sessions_beyond_memory_are_those_in_it(
        gap in 1i64..40,
        lateness in prop_oneof![Just(0i64), 1i64..60],
        steps in steps(),
        (room, rows, text) in (rooms(), prop_oneof![Just(1usize), Just(7), Just(64)], any::<bool>()),
    ) {
        for function in [native(), float_sums(), users(true)] {
            let case = case(gap, lateness, function, text);
            let events = events(&steps, rows);
            let want = all(&case, &mut case.tasks(1), &events);
            let tight = case.clone().with_room(room);
            let got = all(&tight, &mut tight.tasks(1), &events);
            prop_assert!(got == want, "in the same order, to the bit: {tight:?}");
            let moved = sorted(all(&tight, &mut tight.tasks(3), &events));
            prop_assert!(moved == sorted(want), "{tight:?}");
        }
    }

    #[test]
    fn sessions_beyond_memory_go_on_from_a_snapshot_anywhere(
        gap in 1i64..40,
        lateness in prop_oneof![Just(0i64), 1i64..60],
        steps in steps(),
        (cut, rows, text) in (0.0..1.0f64, prop_oneof![Just(1usize), Just(7), Just(64)], any::<bool>()),
        (before, after) in (rooms(), prop::option::of(rooms())),
        parallelism in prop_oneof![Just((1, 1)), Just((2, 3)), Just((3, 1))],
    ) {
        for function in [native(), float_sums(), users(true)] {
            let case = case(gap, lateness, function, text);
            let events = events(&steps, rows);
            let at = (cut * events.len() as f64) as usize;
            let want = all(&case, &mut case.tasks(1), &events);
            let first = case.clone().with_room(before);
            let second = match after {
                Some(room) => case.clone().with_room(room),
                None => case.clone(),
            };
            let got = stopped_between((&first, &second), &events, at, parallelism);
            if parallelism == (1, 1) {
                prop_assert!(got == want, "in the same order: {first:?} {after:?}");
            }
            prop_assert!(sorted(got) == sorted(want.clone()), "{first:?} {after:?}");
            // From memory to a backend that has less of it.
            let got = stopped_between((&case, &first), &events, at, parallelism);
            prop_assert!(sorted(got) == sorted(want), "{first:?}");
        }
    }
}

#[test]
fn what_is_over_is_removed() {
    for lateness in [0, 15] {
        let case = case(10, lateness, native(), false).with_room(1);
        let mut task = case.tasks(1).remove(0);
        for round in 0..50 {
            // Each key has two sessions.
            let rows = |at: i64| (0..40).map(move |k| (k, Some(1), round * 100 + at));
            let rows = rows(0).chain(rows(30)).collect();
            task.on(&case, &Event::Rows(rows));
            let out = task.on(&case, &Event::Watermark(round * 100 + 50));
            assert_eq!(out.len(), 80);
        }
        task.on(&case, &Event::Watermark(10_000));
        let (snapshot, mut writer) = task.begin();
        while !task.op.go_on_snapshot(&mut writer).unwrap() {}
        writer.finish();
        let (_, made) = snapshot.take().unwrap();
        let entries = |name: &str| {
            let of = made.sections.iter().filter(|s| s.spec.name == name);
            of.map(|s| s.entries).sum::<u64>()
        };
        let all = ["spilled", "spilled.due", "sessions"].map(entries);
        assert_eq!(all, [0, 0, 0]);
    }
}

#[test]
fn keys_that_rows_come_for_stay_in_memory() {
    let case = case(1_000, 0, native(), false).with_room(60_000);
    let mut task = case.tasks(1).remove(0);
    for round in 0..100 {
        let rows = (0..20).map(|k| (k, Some(1), round));
        let rows = rows.chain((0..30).map(|k| (1_000 + round * 30 + k, Some(1), round)));
        task.on(&case, &Event::Rows(rows.collect()));
    }
    let (snapshot, mut writer) = task.begin();
    while !task.op.go_on_snapshot(&mut writer).unwrap() {}
    writer.finish();
    let (_, made) = snapshot.take().unwrap();
    let entries = |name: &str| {
        let of = made.sections.iter().filter(|s| s.spec.name == name);
        of.map(|s| s.entries).sum::<u64>()
    };
    let [spilled, due, memory] = ["spilled", "spilled.due", "sessions"].map(entries);
    assert_eq!((spilled + memory, due), (3_020, spilled));
    assert!(memory > 20 && spilled > 2_000, "{memory} {spilled}");
    let out = task.on(&case, &Event::Watermark(1_000_000));
    assert_eq!(out.len(), 3_020);
}

#[test]
fn memory_stays_at_the_bound_whatever_the_keys() {
    const ROOM: u64 = 100_000;
    for function in [native(), users(true)] {
        let spec = spec(Assigner::Session { gap_ms: 1_000 }, 500, function);
        let declared = [result_schema(), schema(true)];
        let place = StatePlace {
            backend: &Tight(ROOM),
            uid: "w",
            task: 0,
            key_groups: KeyGroupRange { start: 0, end: 4 },
            max_parallelism: 4,
        };
        let operator = SessionOperator::new(&spec, "window", &schema(true), &declared).unwrap();
        let mut operator = operator.of_task(4).with_room(&place).unwrap();
        let mut bench = Bench::new(8192);
        let mut results = 0;
        for round in 0..100 {
            let rows = |at: i64| (0..30).map(move |k| (round * 30 + k, Some(1), round + at));
            let rows: Vec<Row> = rows(0).chain(rows(1_500)).collect();
            let out = bench.call(round, |cx| operator.batch(0, batch(&rows), cx));
            assert!(out.unwrap().is_empty());
            assert!(operator.memory() <= ROOM, "{}", operator.memory());
        }
        // The first of each key, over many watermarks; their lateness; then the others, all at once.
        for watermark in (0..30).map(|w| 1_000 + w * 5).chain([2_000, 100_000]) {
            let out = bench.call(watermark, |cx| operator.watermark(cx)).unwrap();
            results += out.iter().map(|(_, b)| b.rows()).sum::<usize>();
            assert!(operator.memory() <= ROOM, "{}", operator.memory());
        }
        assert_eq!(results, 6_000);
    }
}
