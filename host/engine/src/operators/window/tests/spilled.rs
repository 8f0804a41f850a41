//! Windows that do not fit in memory: what comes out is what comes out of those that do, in another order.

use super::saved::{Case, Event, all, events, float_sums, sorted, stopped_between};
use super::*;
use crate::function::{Entries, Lists, StateChange};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::state::{HeapBackend, KeyedState, StateBackend, StateOwner, StateTime, Touched};
use pelton_model::barrier::SnapshotForm;

/// Keeps state as the heap does, and says that there is little room beside it.
pub(super) struct Tight(pub(super) u64);

struct TightState(Box<dyn KeyedState>, u64);

impl StateBackend for Tight {
    fn keyed(&self, owner: &StateOwner) -> Result<Box<dyn KeyedState>> {
        Ok(Box::new(TightState(HeapBackend.keyed(owner)?, self.0)))
    }
}

impl KeyedState for TightState {
    fn room(&self) -> Option<u64> {
        Some(self.1)
    }
    fn at(&mut self, time: StateTime) {
        self.0.at(time);
    }
    fn touch(&mut self, key: &[ArrayRef], rows: usize, touched: &mut Touched) -> Result<()> {
        self.0.touch(key, rows, touched)
    }
    fn keys(&self, slots: &[u32]) -> Result<Slots> {
        self.0.keys(slots)
    }
    fn affordable(&self, slots: &[u32], bytes: usize) -> usize {
        self.0.affordable(slots, bytes)
    }
    fn read(&mut self, slots: &[u32]) -> Result<Vec<Slots>> {
        self.0.read(slots)
    }
    fn values(&mut self, state: u32, slots: &[u32]) -> Result<Slots> {
        self.0.values(state, slots)
    }
    fn lists(
        &mut self,
        state: u32,
        slots: &[u32],
        map_keys: Option<&Slots>,
        bytes: usize,
    ) -> Result<Lists> {
        self.0.lists(state, slots, map_keys, bytes)
    }
    fn map_values(&mut self, state: u32, slots: &[u32], map_keys: &Slots) -> Result<Slots> {
        self.0.map_values(state, slots, map_keys)
    }
    fn maps(
        &mut self,
        state: u32,
        slots: &[u32],
        each_max: usize,
        bytes: usize,
    ) -> Result<Entries> {
        self.0.maps(state, slots, each_max, bytes)
    }
    fn scan(
        &mut self,
        state: u32,
        slot: u32,
        after: Option<&Slots>,
        limit: usize,
    ) -> Result<Entries> {
        // Few at once, so that a scan has several parts.
        self.0.scan(state, slot, after, limit.min(2))
    }
    fn write(&mut self, slots: &[u32], changes: &[StateChange]) -> Result<()> {
        self.0.write(slots, changes)
    }
    fn forget(&mut self, slots: &[u32], pinned: &dyn Fn(u32) -> bool) {
        self.0.forget(slots, pinned);
    }
    fn tidy(&mut self, pinned: &dyn Fn(u32) -> bool) -> Result<()> {
        self.0.tidy(pinned)
    }
    fn snapshot(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        self.0.snapshot(form, into)
    }
    fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        self.0.go_on_snapshot(into)
    }
    fn abort_snapshot(&mut self) {
        self.0.abort_snapshot();
    }
    fn restore(&mut self, from: &Restored<'_>) -> Result<()> {
        self.0.restore(from)
    }
    fn largest(&mut self, count: usize) -> Result<Vec<(String, u64)>> {
        self.0.largest(count)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// Nothing fits, one pane with few keys does, all does.
fn rooms() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(6_000), Just(1 << 30)]
}

/// In memory, slices of a sliding window are added up in another order, which the last bits of floats show.
fn functions(assigner: Assigner) -> Vec<WindowFunction> {
    let mut all = vec![native(), invertible(), users(true), users(false)];
    if matches!(assigner, Assigner::Tumbling { .. }) {
        all.push(float_sums());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn windows_beyond_memory_are_those_in_it(
        assigner in assigners(),
        lateness in prop_oneof![Just(0i64), 1i64..50],
        steps in steps(),
        (room, rows, text) in (rooms(), prop_oneof![Just(1usize), Just(7), Just(64)], any::<bool>()),
    ) {
        for function in functions(assigner) {
            let case = Case::new(assigner, lateness, function, text);
            let events = events(&steps, rows);
            let want = all(&case, &mut case.tasks(1), &events);
            let tight = case.clone().with_room(room);
            let mut tasks = tight.tasks(1);
            let got = all(&tight, &mut tasks, &events);
            prop_assert!(by_time(&got) == by_time(&want), "{tight:?}");
            let moved = sorted(all(&tight, &mut tight.tasks(3), &events));
            prop_assert!(moved == sorted(want), "{tight:?}");
        }
    }

    #[test]
    fn windows_beyond_memory_go_on_from_a_snapshot_anywhere(
        assigner in assigners(),
        lateness in prop_oneof![Just(0i64), 1i64..50],
        steps in steps(),
        (cut, rows, text) in (0.0..1.0f64, prop_oneof![Just(1usize), Just(7), Just(64)], any::<bool>()),
        (before, after) in (rooms(), prop::option::of(rooms())),
        parallelism in prop_oneof![Just((1, 1)), Just((2, 3)), Just((3, 1))],
    ) {
        for function in functions(assigner) {
            let case = Case::new(assigner, lateness, function, text);
            let events = events(&steps, rows);
            let at = (cut * events.len() as f64) as usize;
            let want = all(&case, &mut case.tasks(1), &events);
            let first = case.clone().with_room(before);
            let second = match after {
                Some(room) => case.clone().with_room(room),
                None => case.clone(),
            };
            let got = stopped_between((&first, &second), &events, at, parallelism);
            prop_assert!(sorted(got) == sorted(want.clone()), "{first:?} {after:?}");
            // From memory to a backend that has less of it.
            let got = stopped_between((&case, &first), &events, at, parallelism);
            prop_assert!(sorted(got) == sorted(want), "{first:?}");
        }
    }
}

/// Rows with those of one time in any order: windows fire in theirs.
fn by_time(rows: &[(u32, i64, Vec<u8>)]) -> Vec<(u32, i64, Vec<u8>)> {
    let mut rows = rows.to_vec();
    for part in rows.chunk_by_mut(|a, b| (a.0, a.1) == (b.0, b.1)) {
        part.sort_unstable();
    }
    rows
}

#[test]
fn what_is_over_is_removed() {
    let assigner = Assigner::Tumbling {
        size_ms: 10,
        offset_ms: 0,
    };
    let case = Case::new(assigner, 0, native(), false).with_room(1);
    let mut task = case.tasks(1).remove(0);
    for window in 0..50 {
        let rows = (0..40).map(|k| (k, Some(1), window * 10)).collect();
        task.on(&case, &Event::Rows(rows));
        let out = task.on(&case, &Event::Watermark(window * 10 + 9));
        assert_eq!(out.len(), 40);
    }
    for _ in 0..3 {
        task.on(&case, &Event::Watermark(1_000));
    }
    let (snapshot, mut writer) = task.begin();
    while !task.op.go_on_snapshot(&mut writer).unwrap() {}
    writer.finish();
    let (_, made) = snapshot.take().unwrap();
    let entries: u64 = made.sections.iter().map(|s| s.entries).sum();
    assert_eq!(entries, 0, "{:?}", made.sections);
}
