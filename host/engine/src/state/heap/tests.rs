mod bounds;
mod expiry;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, StringArray};
use pelton_model::graph::{StateKind, Ttl};
use pelton_model::schema::{DataType, Schema};
use pelton_model::time::ProcessingTime;
use pelton_model::watermark::Watermark;
use proptest::prelude::*;

use super::*;
use crate::function::EntryChanges;

fn ints(v: &[i64]) -> Slots {
    Slots {
        rows: v.len(),
        present: None,
        columns: vec![Arc::new(Int64Array::from(v.to_vec()))],
    }
}

fn texts(v: &[String]) -> Slots {
    Slots {
        rows: v.len(),
        present: None,
        columns: vec![Arc::new(StringArray::from(v.to_vec()))],
    }
}

fn read_ints(s: &Slots) -> Vec<i64> {
    s.columns[0].as_primitive::<Int64Type>().values().to_vec()
}

fn read_texts(s: &Slots) -> Vec<String> {
    let column = s.columns[0].as_string::<i32>();
    (0..column.len()).map(|i| column.value(i).into()).collect()
}

const VALUE: u32 = 0;
const LAZY: u32 = 1;
const LIST: u32 = 2;
const MAP: u32 = 3;
const LISTS: u32 = 4;
const NUMBERS: u32 = 5;

/// A value, a lazy value, a list, a map from text, a map of lists, a list of fixed width.
fn specs(ttl: Option<Ttl>) -> Vec<StateSpec> {
    let text = || Schema::new(vec![Field::new("t", DataType::String)]);
    let int = || Schema::new(vec![Field::new("n", DataType::I64)]);
    let spec = |name: &str, kind, map_key, schema, lazy| StateSpec {
        name: name.into(),
        kind,
        map_key,
        schema,
        lazy,
        ttl,
        past: Default::default(),
    };
    vec![
        spec("value", StateKind::Value, None, int(), false),
        spec("lazy", StateKind::Value, None, text(), true),
        spec("list", StateKind::List, None, text(), false),
        spec("map", StateKind::Map, Some(text()), int(), false),
        spec("lists", StateKind::List, Some(int()), text(), false),
        spec("numbers", StateKind::List, None, int(), false),
    ]
}

fn state(ttl: Option<Ttl>) -> HeapState {
    HeapState::new(vec![Field::new("k", DataType::I64)], &specs(ttl), 128)
}

fn slots(s: &mut HeapState, keys: &[i64]) -> Vec<u32> {
    let mut touched = Touched::default();
    let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    s.touch(&[column], keys.len(), &mut touched).unwrap();
    let at = |o: &u32| touched.slots[*o as usize];
    touched.ordinals.iter().map(at).collect()
}

fn value(state: u32, marks: Vec<u8>, values: Slots) -> StateChange {
    StateChange {
        state,
        marks,
        values,
        entries: None,
    }
}

/// (change, ordinal) of each, their map keys, and the values that are put.
fn entries(state: u32, what: &[(u8, u32)], map_keys: Option<Slots>, values: Slots) -> StateChange {
    StateChange {
        state,
        marks: Vec::new(),
        values,
        entries: Some(EntryChanges {
            changes: what.iter().map(|w| w.0).collect(),
            ordinals: what.iter().map(|w| w.1).collect(),
            map_keys,
        }),
    }
}

fn at(s: &mut HeapState, ms: i64) {
    s.at(StateTime {
        processing_time: ProcessingTime(ms),
        watermark: Watermark(ms),
    });
}

fn text(n: i64) -> String {
    // Of very different lengths, so that small maps become large ones.
    format!("{n}{}", "x".repeat((n.unsigned_abs() as usize * 37) % 300))
}

/// The same by plain collections. Each value with the time at which it was written.
#[derive(Clone, Debug, Default)]
struct Key {
    value: Option<(i64, i64)>,
    list: Vec<(String, i64)>,
    map: BTreeMap<(usize, String), (i64, i64)>,
    lists: BTreeMap<i64, Vec<(String, i64)>>,
    numbers: Vec<(i64, i64)>,
}

#[derive(Clone, Debug)]
enum Step {
    Value(i64, Option<i64>),
    Push(i64, i64),
    PushNumber(i64, i64),
    ClearList(i64),
    Put(i64, i64, i64),
    Remove(i64, i64),
    ClearMap(i64),
    Add(i64, i64, i64),
    RemoveList(i64, i64),
    Wait(i64),
    Tidy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0i64..4;
    let small = 0i64..20;
    let step = prop_oneof![
        (key.clone(), prop::option::of(small.clone())).prop_map(|(k, v)| Step::Value(k, v)),
        (key.clone(), small.clone()).prop_map(|(k, v)| Step::Push(k, v)),
        (key.clone(), small.clone()).prop_map(|(k, v)| Step::PushNumber(k, v)),
        key.clone().prop_map(Step::ClearList),
        (key.clone(), small.clone(), small.clone()).prop_map(|(k, m, v)| Step::Put(k, m, v)),
        (key.clone(), small.clone(), small.clone()).prop_map(|(k, m, v)| Step::Put(k, m, v)),
        (key.clone(), small.clone()).prop_map(|(k, m)| Step::Remove(k, m)),
        key.clone().prop_map(Step::ClearMap),
        (key.clone(), small.clone(), small.clone()).prop_map(|(k, m, v)| Step::Add(k, m, v)),
        (key.clone(), small.clone()).prop_map(|(k, m)| Step::RemoveList(k, m)),
        (0i64..30).prop_map(Step::Wait),
        Just(Step::Tidy),
    ];
    prop::collection::vec(step, 0..150)
}

/// One change on one key, on both; at `now`.
fn apply(s: &mut HeapState, model: &mut BTreeMap<i64, Key>, step: &Step, now: &mut i64) {
    let nothing = || Slots {
        rows: 0,
        present: None,
        columns: vec![Arc::new(Int64Array::from(Vec::<i64>::new()))],
    };
    let no_text = || texts(&[]);
    let mut write = |k: i64, change: StateChange| {
        let slots = slots(s, &[k]);
        s.write(&slots, &[change]).unwrap();
        s.forget(&slots, &|_| false);
    };
    let t = *now;
    let key = |m: &i64| (text(*m).len(), text(*m));
    match step {
        Step::Value(k, Some(v)) => {
            write(*k, value(VALUE, vec![1], ints(&[*v])));
            write(*k, value(LAZY, vec![1], texts(&[text(*v)])));
            model.entry(*k).or_default().value = Some((*v, t));
        }
        Step::Value(k, None) => {
            write(*k, value(VALUE, vec![2], nothing()));
            write(*k, value(LAZY, vec![2], no_text()));
            model.entry(*k).or_default().value = None;
        }
        Step::Push(k, v) => {
            write(*k, entries(LIST, &[(0, 0)], None, texts(&[text(*v)])));
            model.entry(*k).or_default().list.push((text(*v), t));
        }
        Step::PushNumber(k, v) => {
            let twice = ints(&[*v, v + 1]);
            write(*k, entries(NUMBERS, &[(0, 0), (0, 0)], None, twice));
            let numbers = &mut model.entry(*k).or_default().numbers;
            numbers.extend([(*v, t), (v + 1, t)]);
        }
        Step::ClearList(k) => {
            let both = texts(&[text(1)]);
            // What stands behind a clear in the same call stays.
            write(*k, entries(LIST, &[(2, 0), (0, 0)], None, both));
            model.entry(*k).or_default().list = vec![(text(1), t)];
        }
        Step::Put(k, m, v) => {
            let keys = Some(texts(&[text(*m)]));
            write(*k, entries(MAP, &[(0, 0)], keys, ints(&[*v])));
            model.entry(*k).or_default().map.insert(key(m), (*v, t));
        }
        Step::Remove(k, m) => {
            let keys = Some(texts(&[text(*m)]));
            write(*k, entries(MAP, &[(1, 0)], keys, nothing()));
            model.entry(*k).or_default().map.remove(&key(m));
        }
        Step::ClearMap(k) => {
            let mut keys = texts(&["".into()]);
            keys.present = Some(BooleanBuffer::collect_bool(1, |_| false));
            write(*k, entries(MAP, &[(2, 0)], Some(keys.clone()), nothing()));
            write(*k, entries(LISTS, &[(2, 0)], Some(ints(&[0])), no_text()));
            let key = model.entry(*k).or_default();
            key.map.clear();
            key.lists.clear();
        }
        Step::Add(k, m, v) => {
            let keys = Some(ints(&[*m]));
            write(*k, entries(LISTS, &[(0, 0)], keys, texts(&[text(*v)])));
            let lists = &mut model.entry(*k).or_default().lists;
            lists.entry(*m).or_default().push((text(*v), t));
        }
        Step::RemoveList(k, m) => {
            let keys = Some(ints(&[*m]));
            write(*k, entries(LISTS, &[(1, 0)], keys, no_text()));
            model.entry(*k).or_default().lists.remove(m);
        }
        Step::Wait(ms) => {
            *now += ms;
            at(s, *now);
        }
        Step::Tidy => s.tidy(&|_| false).unwrap(),
    }
}

/// All that four keys have, read in every way there is, is what the model has at `now`.
fn compare(s: &mut HeapState, model: &BTreeMap<i64, Key>, now: i64, ttl: Option<Ttl>) {
    let lives = |t: i64| ttl.is_none_or(|ttl| t + ttl.ms as i64 > now);
    let before = s.len();
    let slots = slots(s, &[0, 1, 2, 3]);
    let empty = Key::default();
    let key = |k: usize| model.get(&(k as i64)).unwrap_or(&empty);
    let live: Vec<Option<i64>> = (0..4)
        .map(|k| key(k).value.filter(|v| lives(v.1)).map(|v| v.0))
        .collect();
    let eager = s.read(&slots).unwrap();
    let lazy = s.values(LAZY, &slots).unwrap();
    assert_eq!(eager.len(), 1);
    for (k, want) in live.iter().enumerate() {
        let has = |s: &Slots| s.present.as_ref().is_none_or(|p| p.value(k));
        assert_eq!(has(&eager[0]).then(|| read_ints(&eager[0])[k]), *want);
        assert_eq!(
            has(&lazy).then(|| read_texts(&lazy)[k].clone()),
            want.map(text)
        );
    }
    let lists = s.lists(LIST, &slots, None, usize::MAX).unwrap();
    let numbers = s.lists(NUMBERS, &slots, None, usize::MAX).unwrap();
    let (mut want, mut want_numbers) = (vec![], vec![]);
    for k in 0..4 {
        let of_key = key(k).list.iter().filter(|(_, t)| lives(*t));
        let before = want.len();
        want.extend(of_key.map(|(v, _)| v.clone()));
        assert_eq!(lists.lengths[k] as usize, want.len() - before);
        let of_key = key(k).numbers.iter().filter(|(_, t)| lives(*t));
        want_numbers.extend(of_key.map(|(v, _)| *v));
    }
    assert_eq!(read_texts(&lists.values), want);
    assert_eq!(read_ints(&numbers.values), want_numbers);
    let maps = s.maps(MAP, &slots, usize::MAX, usize::MAX).unwrap();
    let mut want: Vec<(String, i64)> = vec![];
    for (k, slot) in slots.iter().enumerate() {
        let of_key = key(k).map.iter().filter(|(_, v)| lives(v.1));
        let of_key: Vec<_> = of_key.map(|((_, m), v)| (m.clone(), v.0)).collect();
        assert_eq!(maps.counts[k] as usize, of_key.len());
        // In parts of 3, each from the last of the one before.
        let (mut got, mut after) = (vec![], None);
        loop {
            let part = s.scan(MAP, *slot, after.as_ref(), 3).unwrap();
            let keys = read_texts(&part.keys);
            let Some(last) = keys.last() else { break };
            after = Some(texts(std::slice::from_ref(last)));
            got.extend(keys.into_iter().zip(read_ints(&part.values)));
        }
        assert_eq!(got, of_key);
        want.extend(of_key);
        let asked: Vec<String> = (0..20).map(text).collect();
        let point = s.map_values(MAP, &[*slot; 20], &texts(&asked)).unwrap();
        for (i, m) in asked.iter().enumerate() {
            let has = point.present.as_ref().is_none_or(|p| p.value(i));
            let value = key(k).map.get(&(m.len(), m.clone())).filter(|v| lives(v.1));
            let got = has.then(|| read_ints(&point)[i]);
            assert_eq!(got, value.map(|v| v.0));
        }
        let lists: Vec<(i64, Vec<String>)> = key(k)
            .lists
            .iter()
            .map(|(m, list)| {
                let live = list.iter().filter(|(_, t)| lives(*t));
                (*m, live.map(|(v, _)| v.clone()).collect::<Vec<_>>())
            })
            .filter(|(_, list)| !list.is_empty())
            .collect();
        let keys = s.scan(LISTS, *slot, None, usize::MAX).unwrap();
        assert!(keys.values.columns.is_empty());
        let names: Vec<i64> = lists.iter().map(|l| l.0).collect();
        assert_eq!(read_ints(&keys.keys), names);
        let of_keys = vec![*slot; names.len()];
        let got = s.lists(LISTS, &of_keys, Some(&ints(&names)), usize::MAX);
        let got = got.unwrap();
        let lengths: Vec<u32> = lists.iter().map(|l| l.1.len() as u32).collect();
        assert_eq!(got.lengths, lengths);
        let all: Vec<String> = lists.into_iter().flat_map(|l| l.1).collect();
        assert_eq!(read_texts(&got.values), all);
    }
    let got: Vec<_> = read_texts(&maps.keys)
        .into_iter()
        .zip(read_ints(&maps.values))
        .collect();
    assert_eq!(got, want);
    s.forget(&slots, &|_| false);
    assert!(s.len() <= before.max(4));
}

fn ttl(on_read: bool, return_expired: bool) -> Ttl {
    Ttl {
        ms: 40,
        on_read,
        return_expired,
        event_time: false,
    }
}

proptest! {
    #[test]
    fn collections_are_what_plain_ones_are(steps in steps(), every in 1usize..20, expire: bool) {
        let ttl = expire.then(|| ttl(false, false));
        let (mut s, mut model, mut now) = (state(ttl), BTreeMap::new(), 1_000);
        at(&mut s, now);
        for (i, step) in steps.iter().enumerate() {
            apply(&mut s, &mut model, step, &mut now);
            if i % every == 0 {
                compare(&mut s, &model, now, ttl);
            }
        }
        compare(&mut s, &model, now, ttl);
        if ttl.is_some() {
            now += 1_000;
            at(&mut s, now);
            (0..20).for_each(|_| s.tidy(&|_| false).unwrap());
        } else {
            let all = slots(&mut s, &[0, 1, 2, 3]);
            for kind in [LIST, NUMBERS] {
                let what: Vec<_> = (0..4).map(|o| (2, o)).collect();
                let none = if kind == LIST { texts(&[]) } else { ints(&[]) };
                s.write(&all, &[entries(kind, &what, None, none)]).unwrap();
            }
            for k in 0..4 {
                apply(&mut s, &mut model, &Step::ClearMap(k), &mut now);
                apply(&mut s, &mut model, &Step::Value(k, None), &mut now);
            }
            s.forget(&all, &|_| false);
        }
        prop_assert!(s.is_empty(), "nothing is left behind");
        let bytes: usize = s.states.iter().map(|x| (0..4).map(|slot| x.size_of(slot)).sum::<usize>()).sum();
        prop_assert_eq!(bytes, 0);
    }
}
