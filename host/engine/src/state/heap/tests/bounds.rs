use super::*;
use crate::function::TOO_MANY;
use std::time::Instant;

fn refused<T>(answer: Result<T>) {
    let code = answer.err().map(|e| e.code());
    assert_eq!(code, Some(ErrorCode::BadReply));
}

#[test]
fn states_are_read_and_written_as_what_they_are() {
    let mut s = state(None);
    let one = slots(&mut s, &[7]);
    let (key, text) = (ints(&[1]), texts(&["m".into()]));
    refused(s.values(LIST, &one));
    refused(s.values(99, &one));
    refused(s.lists(MAP, &one, None, 10));
    refused(s.lists(LIST, &one, Some(&key), 10));
    refused(s.lists(LISTS, &one, None, 10));
    refused(s.lists(LISTS, &one, Some(&text), 10));
    refused(s.lists(LISTS, &one, Some(&ints(&[1, 2])), 10));
    refused(s.map_values(LISTS, &one, &key));
    refused(s.map_values(MAP, &one, &key));
    refused(s.maps(LISTS, &one, 10, 10));
    refused(s.maps(VALUE, &one, 10, 10));
    refused(s.scan(LIST, one[0], None, 10));
    refused(s.scan(MAP, one[0], Some(&key), 10));
    let put = [(0, 0)];
    for change in [
        entries(VALUE, &put, None, ints(&[1])),
        value(LIST, vec![1], texts(&["a".into()])),
        entries(LIST, &put, None, ints(&[1])),
        entries(LIST, &[(0, 1)], None, text.clone()),
        entries(LIST, &[(0, 0), (0, 0)], None, text.clone()),
        entries(LIST, &[(3, 0)], None, texts(&[])),
        entries(LIST, &[(1, 0)], None, texts(&[])),
        entries(LIST, &put, Some(text.clone()), text.clone()),
        entries(MAP, &put, None, ints(&[1])),
        entries(MAP, &put, Some(key.clone()), ints(&[1])),
        entries(MAP, &put, Some(texts(&[])), ints(&[1])),
        entries(99, &put, None, ints(&[1])),
    ] {
        refused(s.write(&one, &[change]));
    }
    let mut missing = text.clone();
    missing.present = Some(BooleanBuffer::collect_bool(1, |_| false));
    refused(s.map_values(MAP, &one, &missing));
    refused(s.write(&one, &[entries(LIST, &put, None, missing.clone())]));
    refused(s.write(&one, &[entries(MAP, &put, Some(missing), ints(&[1]))]));
}

#[test]
fn that_all_are_there_may_be_said_of_each() {
    let mut s = state(None);
    let one = slots(&mut s, &[7]);
    let mut key = texts(&["m".into()]);
    key.present = Some(BooleanBuffer::collect_bool(1, |_| true));
    let change = entries(MAP, &[(0, 0)], Some(key.clone()), ints(&[5]));
    s.write(&one, &[change]).unwrap();
    assert_eq!(read_ints(&s.map_values(MAP, &one, &key).unwrap()), [5]);
    assert_eq!(s.scan(MAP, one[0], Some(&key), 5).unwrap().keys.rows, 0);
}

#[test]
fn answers_are_prefixes_of_bounded_size() {
    let mut s = state(None);
    let keys = slots(&mut s, &[1, 2, 3, 4]);
    let long = "x".repeat(1_000);
    let what: Vec<_> = (0..4).map(|o| (0, o)).collect();
    let four = |t: &str| texts(&vec![t.to_owned(); 4]);
    let changes = [
        entries(LIST, &what, None, four(&long)),
        entries(MAP, &what, Some(four(&long)), ints(&[1, 2, 3, 4])),
        entries(LISTS, &what, Some(ints(&[5; 4])), four(&long)),
    ];
    s.write(&keys, &changes).unwrap();
    let lists = |s: &mut HeapState, bytes| {
        let read = s.lists(LIST, &keys, None, bytes).unwrap();
        let pairs = s.lists(LISTS, &keys, Some(&ints(&[5; 4])), bytes).unwrap();
        assert_eq!(read.lengths, pairs.lengths);
        assert_eq!(read.values.rows, read.lengths.len());
        read.lengths.len()
    };
    assert_eq!([1, 2_500, 5_000].map(|b| lists(&mut s, b)), [1, 2, 4]);
    let maps = |s: &mut HeapState, each, bytes| s.maps(MAP, &keys, each, bytes).unwrap();
    assert_eq!(maps(&mut s, 2_000, 1).counts, [1]);
    assert_eq!(maps(&mut s, 2_000, 2_500).counts, [1, 1]);
    let none = maps(&mut s, 500, 2_500);
    assert_eq!((none.counts, none.keys.rows), (vec![TOO_MANY; 4], 0));
}

#[test]
fn a_scan_ends_at_its_limit_or_at_so_many_bytes() {
    let mut s = state(None);
    let slot = slots(&mut s, &[1]);
    let names: Vec<String> = (0..10)
        .map(|i| format!("{i}{}", "x".repeat(1 << 20)))
        .collect();
    let change = entries(MAP, &[(0, 0); 10], Some(texts(&names)), ints(&[0; 10]));
    s.write(&slot, &[change]).unwrap();
    let part = s.scan(MAP, slot[0], None, 1_000).unwrap();
    assert_eq!(part.counts, [3]);
    assert_eq!(s.scan(MAP, slot[0], None, 2).unwrap().counts, [2]);
    let huge = "y".repeat(5 << 20);
    let change = entries(MAP, &[(0, 0)], Some(texts(&[huge])), ints(&[0]));
    s.write(&slot, &[change]).unwrap();
    let last = texts(&names[9..]);
    let part = s.scan(MAP, slot[0], Some(&last), 10).unwrap();
    assert_eq!(part.counts, [1], "at least one, however large");
}

#[test]
fn a_million_entries_under_one_key_stay_fast() {
    let mut s = state(None);
    let slot = slots(&mut s, &[1]);
    #[expect(
        clippy::disallowed_methods,
        reason = "a bound on time is what is tested"
    )]
    let from = Instant::now();
    for chunk in 0..1_000 {
        let keys: Vec<i64> = (0..1_000)
            .map(|i| (chunk * 1_000 + i) * 7 % 1_000_000)
            .collect();
        let names: Vec<String> = keys.iter().map(|k| format!("{k:07}")).collect();
        let changes = [
            entries(MAP, &[(0, 0); 1_000], Some(texts(&names)), ints(&keys)),
            entries(NUMBERS, &[(0, 0); 1_000], None, ints(&keys)),
        ];
        s.write(&slot, &changes).unwrap();
        s.forget(&slot, &|_| false);
        let found = s.map_values(
            MAP,
            &[slot[0]; 2],
            &texts(&[names[0].clone(), "none".into()]),
        );
        assert_eq!(found.unwrap().present.unwrap().count_set_bits(), 1);
        let after = texts(std::slice::from_ref(&names[0]));
        s.scan(MAP, slot[0], Some(&after), 10).unwrap();
        assert!(s.bytes() > 0);
    }
    assert!(from.elapsed().as_secs() < 30, "{:?}", from.elapsed());
    assert_eq!(
        s.maps(MAP, &slot, 4 << 20, 4 << 20).unwrap().counts,
        [TOO_MANY]
    );
    let (mut seen, mut after) = (0, None);
    loop {
        let part = s.scan(MAP, slot[0], after.as_ref(), 10_000).unwrap();
        let Some(last) = read_texts(&part.keys).pop() else {
            break;
        };
        seen += part.keys.rows;
        after = Some(texts(&[last]));
    }
    assert_eq!(seen, 1_000_000);
    let all = s.lists(NUMBERS, &slot, None, 1).unwrap();
    assert_eq!(all.lengths, [1_000_000]);
    let change = entries(MAP, &[(2, 0)], Some(texts(&["".into()])), ints(&[]));
    s.write(&slot, &[change]).unwrap();
    assert_eq!(s.states[MAP as usize].size_of(slot[0]), 0);
}

#[test]
fn the_largest_keys_are_told_by_their_values() {
    let mut s = state(None);
    let keys = slots(&mut s, &[11, 12, 13]);
    let what = [(0, 0), (0, 1), (0, 1), (0, 2)];
    s.write(&keys, &[entries(NUMBERS, &what, None, ints(&[1, 2, 3, 4]))])
        .unwrap();
    let text = texts(&["a rather long one".into()]);
    s.write(&keys[2..], &[entries(LIST, &[(0, 0)], None, text)])
        .unwrap();
    let largest = s.largest(2).unwrap();
    assert_eq!(
        largest,
        [("[k=13]".to_owned(), 8 + 22), ("[k=12]".to_owned(), 16)]
    );
    let limits = pelton_model::limits::Limits {
        state_bytes: 10,
        ..Default::default()
    };
    let error = crate::state::check_keyed(&mut s, 0, &limits).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateLimit);
    assert!(
        error
            .to_string()
            .ends_with("largest keys [k=13] (30 bytes) [k=12] (16 bytes) [k=11] (8 bytes)"),
        "{error}"
    );
}

#[test]
fn a_key_of_10_mb_and_a_value_of_100_mb_are_kept_like_any_other() {
    let fields = vec![Field::new("k", DataType::String)];
    let mut s = HeapState::new(fields, &specs(None), 128);
    let large: Vec<String> = (0..3)
        .map(|i| format!("{i}{}", "k".repeat(10 << 20)))
        .collect();
    let mut touched = Touched::default();
    let column = texts(&large).columns;
    s.touch(&column, 3, &mut touched).unwrap();
    let slots = touched.slots.clone();
    assert_eq!(s.affordable(&slots, 4 << 20), 1, "keys are shipped, too");
    assert_eq!(read_texts(&s.keys(&slots).unwrap()), large);
    let value_text = "v".repeat(100 << 20);
    let list = texts(std::slice::from_ref(&value_text));
    s.write(&slots[..1], &[value(LAZY, vec![1], list.clone())])
        .unwrap();
    s.write(&slots[..1], &[entries(LIST, &[(0, 0)], None, list)])
        .unwrap();
    assert_eq!(
        read_texts(&s.values(LAZY, &slots[..1]).unwrap())[0],
        value_text
    );
    let read = s.lists(LIST, &slots, None, 4 << 20).unwrap();
    assert_eq!((read.lengths.len(), read.values.rows), (1, 1));
    assert!(s.bytes() > 230 << 20);
    // What no array of strings could hold is refused before it is read.
    let error = s.values(LAZY, &[slots[0]; 11]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateLimit);
    s.write(&slots[..1], &[value(LAZY, vec![2], texts(&[]))])
        .unwrap();
    s.write(&slots[..1], &[entries(LIST, &[(2, 0)], None, texts(&[]))])
        .unwrap();
    s.forget(&slots, &|_| false);
    assert!(s.is_empty() && s.bytes() < 1 << 20, "{} bytes", s.bytes());
}
