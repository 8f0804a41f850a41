//! Sessions against Flink's rules, a row at a time.

use super::*;

/// A session of the model: its bounds, and its values in order.
#[derive(Clone, Debug)]
struct Session {
    start: i64,
    end: i64,
    values: Vec<Option<i64>>,
}

fn told(key: i64, s: &Session) -> Out {
    let there: Vec<i64> = s.values.iter().flatten().copied().collect();
    let sum: i64 = there.iter().sum();
    let or_null = |v: Option<i64>| v.unwrap_or(i64::MAX);
    (
        key,
        s.start,
        s.values.len() as i64,
        sum,
        or_null(there.iter().min().copied()),
        or_null(there.iter().max().copied()),
        or_null(sum.checked_div(there.len() as i64)),
        s.end - 1,
    )
}

/// `MergingWindowSet` and `EventTimeTrigger`, as `WindowOperator.processElement` puts them together.
fn model(gap: i64, lateness: i64, steps: &[Step]) -> (Vec<Out>, Vec<Row>) {
    // Keys in the order in which they came since they last had nothing.
    let mut keys: Vec<(i64, Vec<Session>)> = Vec::new();
    let (mut seen, mut late, mut now) = (Vec::new(), Vec::new(), i64::MIN);
    for (rows, watermark) in steps {
        for (key, value, time) in rows {
            let mut new = Session {
                start: *time,
                end: *time + gap,
                values: vec![],
            };
            let place = keys.iter().position(|(k, _)| k == key);
            let mut empty = Vec::new();
            let sessions = match place {
                Some(at) => &mut keys[at].1,
                None => &mut empty,
            };
            for s in std::mem::take(sessions) {
                if s.start <= new.end && s.end >= new.start {
                    assert!(s.end - 1 + lateness > now);
                    new.start = new.start.min(s.start);
                    new.end = new.end.max(s.end);
                    new.values.extend(s.values);
                } else {
                    sessions.push(s);
                }
            }
            if new.end - 1 + lateness <= now {
                assert!(new.values.is_empty(), "only a new one can be late");
                late.push((*key, *value, *time));
                continue;
            }
            new.values.push(*value);
            if new.end - 1 <= now {
                seen.push(told(*key, &new));
            }
            sessions.push(new);
            if place.is_none() {
                keys.push((*key, empty));
            }
        }
        let mut due: Vec<(i64, usize, Out)> = Vec::new();
        for (at, (key, sessions)) in keys.iter().enumerate() {
            let fires = sessions
                .iter()
                .filter(|s| now < s.end - 1 && s.end - 1 <= *watermark);
            due.extend(fires.map(|s| (s.end, at, told(*key, s))));
        }
        due.sort_by_key(|(end, at, _)| (*end, *at));
        seen.extend(due.into_iter().map(|(_, _, out)| out));
        now = *watermark;
        for (_, sessions) in &mut keys {
            sessions.retain(|s| s.end - 1 + lateness > now);
        }
        keys.retain(|(_, sessions)| !sessions.is_empty());
    }
    (seen, late)
}

fn sessions(gap_ms: i64, lateness_ms: i64, function: WindowFunction) -> WindowSpec {
    spec(Assigner::Session { gap_ms }, lateness_ms, function)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn sessions_are_those_of_the_model(gap in 1i64..40, lateness in prop_oneof![Just(0i64), 1i64..60], steps in steps()) {
        let want = model(gap, lateness, &steps);
        for function in [native(), users(true)] {
            let spec = sessions(gap, lateness, function);
            for size in [1, 7, 8192] {
                let mut got = run(&spec, &steps, size);
                let mut want = want.clone();
                prop_assert_eq!(&got.0, &want.0, "batches of {}", size);
                got.1.sort_unstable();
                want.1.sort_unstable();
                prop_assert_eq!(got.1, want.1);
            }
        }
    }
}

#[test]
fn sessions_that_touch_are_one() {
    let at = |times: &[i64]| {
        let rows = times.iter().map(|t| (1, Some(1), *t)).collect();
        let steps = vec![(rows, i64::MAX)];
        let (seen, _) = run(&sessions(10, 0, native()), &steps, 8192);
        seen.iter().map(|s| (s.1, s.7 + 1)).collect::<Vec<_>>()
    };
    assert_eq!(at(&[0, 10]), [(0, 20)], "exactly a gap apart");
    assert_eq!(at(&[0, 11]), [(0, 10), (11, 21)]);
    assert_eq!(at(&[0, 20, 10]), [(0, 30)], "a row that touches both");
}

#[test]
fn a_row_that_alone_would_be_late_counts_where_its_session_is_kept() {
    let steps = vec![
        (vec![(1, Some(1), 0)], 5),
        (vec![(1, Some(2), -6), (2, Some(4), -6)], i64::MAX),
    ];
    let (seen, late) = run(&sessions(10, 0, native()), &steps, 8192);
    assert_eq!(
        seen.iter().map(|s| (s.0, s.1, s.3)).collect::<Vec<_>>(),
        [(1, -6, 3)]
    );
    assert_eq!(late, [(2, Some(4), -6)]);
}

#[test]
fn a_row_that_joins_two_fired_sessions_fires_them_as_one() {
    let steps = vec![
        (vec![(1, Some(1), 0), (1, Some(2), 20)], 40),
        (vec![(1, Some(4), 10)], i64::MAX),
    ];
    let (seen, _) = run(&sessions(10, 100, users(true)), &steps, 8192);
    let shown: Vec<_> = seen.iter().map(|s| (s.1, s.7, s.3)).collect();
    assert_eq!(shown, [(0, 9, 1), (20, 29, 2), (0, 29, 7)]);
}

#[test]
fn times_far_ahead_make_sessions_of_their_own_and_those_at_the_end_of_time_are_late() {
    let year = 31_536_000_000_i64;
    let steps = vec![
        (
            vec![
                (1, Some(1), 0),
                (1, Some(2), 300 * year),
                (1, Some(4), i64::MAX - 9),
                (1, Some(8), i64::MAX - 10),
                (1, Some(16), i64::MIN),
            ],
            i64::MIN,
        ),
        (vec![], i64::MAX),
    ];
    let (seen, late) = run(&sessions(10, 50, native()), &steps, 8192);
    let shown: Vec<_> = seen.iter().map(|s| (s.1, s.3)).collect();
    assert_eq!(
        shown,
        [(i64::MIN, 16), (0, 1), (300 * year, 2), (i64::MAX - 10, 8)]
    );
    assert_eq!(late, [(1, Some(4), i64::MAX - 9)]);
}

#[test]
fn a_watermark_that_goes_back_changes_nothing() {
    let steps = vec![
        (vec![(1, Some(1), 0)], 20),
        (vec![(1, Some(2), 0)], 5),
        (vec![(1, Some(4), 30)], i64::MAX),
    ];
    let (seen, late) = run(&sessions(10, 0, native()), &steps, 8192);
    assert_eq!(
        seen.iter().map(|s| (s.1, s.3)).collect::<Vec<_>>(),
        [(0, 1), (30, 4)]
    );
    assert_eq!(late, [(1, Some(2), 0)]);
}

#[test]
fn many_sessions_of_a_key_in_any_order_are_found() {
    let gap = 2;
    let rows: Vec<Row> = (0..3_000)
        .map(|i| (1, Some(1), i * 7_919 % 3_000 * 4))
        .collect();
    let steps = vec![(rows, i64::MAX)];
    let (seen, _) = run(&sessions(gap, 0, native()), &steps, 8192);
    assert_eq!(seen.len(), 3_000);
    assert!(seen.windows(2).all(|w| w[0].7 < w[1].7), "by end");
}
