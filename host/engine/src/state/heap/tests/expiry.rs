use super::*;

/// One value of each kind under key 7, written at 100 ms, to live 40 ms.
fn written(ttl: Ttl) -> (HeapState, Vec<u32>) {
    let mut s = state(Some(ttl));
    at(&mut s, 100);
    let slots = slots(&mut s, &[7]);
    let changes = [
        value(VALUE, vec![1], ints(&[1])),
        value(LAZY, vec![1], texts(&["a".into()])),
        entries(LIST, &[(0, 0)], None, texts(&["a".into()])),
        entries(MAP, &[(0, 0)], Some(texts(&["m".into()])), ints(&[1])),
        entries(LISTS, &[(0, 0)], Some(ints(&[1])), texts(&["a".into()])),
        entries(NUMBERS, &[(0, 0)], None, ints(&[1])),
    ];
    s.write(&slots, &changes).unwrap();
    (s, slots)
}

/// How many of the values are seen, each kind and each way of reading once.
fn seen(s: &mut HeapState, slots: &[u32]) -> [usize; 8] {
    let there = |s: &Slots| s.present.as_ref().map_or(s.rows, |p| p.count_set_bits());
    let key = texts(&["m".into()]);
    [
        there(&s.read(slots).unwrap()[0]),
        there(&s.values(LAZY, slots).unwrap()),
        s.lists(LIST, slots, None, 1 << 20).unwrap().values.rows,
        there(&s.map_values(MAP, slots, &key).unwrap()),
        s.maps(MAP, slots, 1 << 20, 1 << 20).unwrap().values.rows,
        s.scan(MAP, slots[0], None, 10).unwrap().values.rows,
        s.scan(LISTS, slots[0], None, 10).unwrap().keys.rows,
        s.lists(LISTS, slots, Some(&ints(&[1])), 1 << 20)
            .unwrap()
            .values
            .rows,
    ]
}

#[test]
fn what_has_expired_is_not_seen_in_any_way() {
    let (mut s, slots) = written(ttl(false, false));
    at(&mut s, 139);
    assert_eq!(seen(&mut s, &slots), [1; 8]);
    at(&mut s, 140);
    assert_eq!(seen(&mut s, &slots), [0; 8]);
    s.forget(&slots, &|_| false);
    let left: Vec<usize> = s.states.iter().map(|s| s.size_of(slots[0])).collect();
    assert_eq!(left[..3], [0; 3], "met when their key is touched");
    s.tidy(&|_| false).unwrap();
    assert!(s.is_empty(), "and maps by the sweep");
}

#[test]
fn reading_renews_where_it_counts() {
    let (mut s, slots) = written(ttl(true, false));
    for now in [139, 178, 217] {
        at(&mut s, now);
        assert_eq!(seen(&mut s, &slots), [1; 8], "at {now}");
    }
    at(&mut s, 257);
    assert_eq!(seen(&mut s, &slots), [0; 8]);
    assert_eq!(seen(&mut s, &slots), [0; 8], "what is over is not renewed");
}

#[test]
fn what_has_expired_may_be_seen_until_it_is_cleaned_up() {
    let (mut s, slots) = written(ttl(true, true));
    at(&mut s, 1_000);
    assert_eq!(seen(&mut s, &slots), [1; 8]);
    at(&mut s, 1_010);
    assert_eq!(seen(&mut s, &slots), [1; 8], "it was not renewed either");
    s.tidy(&|_| false).unwrap();
    assert!(s.is_empty());
}

#[test]
fn by_event_time_the_watermark_is_the_clock() {
    let by_watermark = Ttl {
        event_time: true,
        ..ttl(false, false)
    };
    let mut s = state(Some(by_watermark));
    let now = |s: &mut HeapState, watermark: i64| {
        s.at(StateTime {
            processing_time: ProcessingTime(1 << 40),
            watermark: Watermark(watermark),
        })
    };
    now(&mut s, i64::MIN);
    let slots = slots(&mut s, &[7]);
    let put = |n| entries(NUMBERS, &[(0, 0)], None, ints(&[n]));
    s.write(&slots, &[put(1)]).unwrap();
    let get = |s: &mut HeapState, watermark| {
        now(s, watermark);
        read_ints(&s.lists(NUMBERS, &slots, None, 1000).unwrap().values)
    };
    assert_eq!(get(&mut s, 5_000), [1], "it counts from the first on");
    s.write(&slots, &[put(2)]).unwrap();
    assert_eq!(get(&mut s, 5_039), [1, 2]);
    s.write(&slots, &[put(3)]).unwrap();
    assert_eq!(get(&mut s, i64::MAX), [1, 2, 3], "the end is no time");
    assert_eq!(get(&mut s, 5_040), [3]);
}

#[test]
fn the_sweep_frees_keys_that_nobody_touches_and_not_those_with_timers() {
    let mut s = state(Some(ttl(false, false)));
    at(&mut s, 0);
    let keys: Vec<i64> = (0..10_000).collect();
    let slots = slots(&mut s, &keys);
    let all: Vec<(u8, u32)> = (0..10_000).map(|o| (0, o)).collect();
    let change = entries(
        MAP,
        &all,
        Some(texts(&vec!["m".into(); 10_000])),
        ints(&keys),
    );
    s.write(&slots, &[change]).unwrap();
    let full = s.bytes();
    s.tidy(&|_| false).unwrap();
    at(&mut s, 40);
    let kept = slots[77];
    let mut steps = 0;
    while s.len() > 1 {
        let before = s.len();
        s.tidy(&|slot| slot == kept).unwrap();
        assert!(before - s.len() <= 64, "a little at a time");
        steps += 1;
        assert!(steps < 1_000);
    }
    assert!(steps > 100);
    assert_eq!(
        s.keys(&[kept]).unwrap().columns[0]
            .as_primitive::<Int64Type>()
            .value(0),
        77
    );
    assert!(s.bytes() < full);
}

#[test]
fn a_large_map_is_swept_in_parts() {
    let mut s = state(Some(ttl(false, false)));
    at(&mut s, 0);
    let slots = slots(&mut s, &[7]);
    let put = |s: &mut HeapState, from: i64, to: i64| {
        let names: Vec<String> = (from..to).map(|i| format!("{i:06}")).collect();
        let all = vec![(0, 0); names.len()];
        let values: Vec<i64> = (from..to).collect();
        s.write(
            &slots,
            &[entries(MAP, &all, Some(texts(&names)), ints(&values))],
        )
        .unwrap();
    };
    put(&mut s, 0, 5_000);
    at(&mut s, 20);
    put(&mut s, 5_000, 6_000);
    at(&mut s, 45);
    let full = s.states[MAP as usize].size_of(slots[0]);
    s.forget(&slots, &|_| false);
    assert_eq!(
        s.states[MAP as usize].size_of(slots[0]),
        full,
        "not at once"
    );
    let seen = s.scan(MAP, slots[0], None, 10_000).unwrap();
    assert_eq!(read_ints(&seen.values), (5_000..6_000).collect::<Vec<_>>());
    s.tidy(&|_| false).unwrap();
    let after = s.states[MAP as usize].size_of(slots[0]);
    assert!(after < full / 5, "{after} of {full}");
    let seen = s.scan(MAP, slots[0], None, 10_000).unwrap();
    assert_eq!(seen.keys.rows, 1_000);
}

#[test]
fn state_without_a_time_to_live_has_no_stamps() {
    let (mut with, mut without) = (state(Some(ttl(false, false))), state(None));
    for s in [&mut with, &mut without] {
        at(s, 0);
        let slots = slots(s, &[7]);
        s.write(&slots, &[entries(NUMBERS, &[(0, 0)], None, ints(&[1]))])
            .unwrap();
    }
    let size = |s: &HeapState| s.states[NUMBERS as usize].size_of(0);
    assert_eq!((size(&with), size(&without)), (16, 8));
}
