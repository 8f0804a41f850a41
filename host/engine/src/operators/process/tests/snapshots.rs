//! Snapshots of the operator, and going on from them.

use super::inputs::{Scripted, done, made, put, puts, reader, state, with};
use super::*;
use crate::snapshot::RestoreFrom;
use crate::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};

fn begin(op: &mut ProcessOperator) -> (MemorySnapshot, SnapshotWriter) {
    let (snapshot, mut writer) = MemorySnapshot::new();
    writer.operator("op");
    op.snapshot(None, &mut writer).unwrap();
    (snapshot, writer)
}

fn end(op: &mut ProcessOperator, mut writer: SnapshotWriter) {
    while !op.go_on_snapshot(&mut writer).unwrap() {}
    assert!(op.saving.is_none());
    writer.finish();
}

fn written(op: &mut ProcessOperator) -> MemorySnapshot {
    let (snapshot, writer) = begin(op);
    end(op, writer);
    snapshot
}

fn of_tasks(snapshots: Vec<MemorySnapshot>) -> RestoreFrom {
    let tasks = snapshots.len() as u32;
    let task = |(index, snapshot): (usize, MemorySnapshot)| {
        let range = KeyGroupRange::of_task(index as u32, tasks, 128);
        MemoryTask {
            index: index as u32,
            key_groups: (range.start, range.end),
            operators: &["op"],
            snapshot,
        }
    };
    let tasks: Vec<_> = snapshots.into_iter().enumerate().map(task).collect();
    checkpoint(128, &tasks).unwrap()
}

fn restore(
    op: &mut ProcessOperator,
    from: &RestoreFrom,
    (task, parallelism): (u32, u32),
) -> Result<()> {
    let mut f = Scripted::new(|_, _| panic!("nothing is called"));
    let range = KeyGroupRange::of_task(task, parallelism, 128);
    let from = from.operator("op", (task, parallelism), range);
    with(&mut f, 0, 0, |cx| op.restore(&from, cx)).map(drop)
}

proptest! {
    #[test]
    fn what_goes_on_from_a_snapshot_does_what_the_first_does(
        steps in steps(),
        at in 0usize..12,
        late in 0usize..4,
        greedy in 1usize..20,
    ) {
        let limits = Limits::default();
        let at = at.min(steps.len());
        let mut op = operator();
        let mut functions = Sums { greedy, calls: 0 };
        for step in &steps[..at] {
            feed(&mut op, &mut functions, step, 7, &limits).unwrap();
        }
        let (snapshot, writer) = begin(&mut op);
        let mut writer = Some(writer);
        let mut seen = Vec::new();
        for (i, step) in steps[at..].iter().enumerate() {
            if i == late && let Some(writer) = writer.take() {
                end(&mut op, writer);
            }
            seen.push(feed(&mut op, &mut functions, step, 7, &limits).unwrap());
        }
        if let Some(writer) = writer.take() {
            end(&mut op, writer);
        }
        let mut again = operator();
        restore(&mut again, &of_tasks(vec![snapshot]), (0, 1)).unwrap();
        let mut functions = Sums { greedy, calls: 0 };
        for (step, seen) in steps[at..].iter().zip(&seen) {
            let got = feed(&mut again, &mut functions, step, 7, &limits).unwrap();
            prop_assert_eq!(&got, seen, "in the same order");
        }
        let keys = |op: &ProcessOperator| op.stores.as_ref().unwrap().keyed.len();
        prop_assert_eq!(keys(&again), keys(&op));
    }
}

#[test]
fn timers_of_one_time_fire_in_the_order_in_which_they_were_set_also_after_a_restart() {
    let order: Vec<i64> = (0..3_000).map(|n| n * 7_919 % 3_000).collect();
    let setting = || {
        Scripted::new(|call, _| {
            let mut reply = done(call.rows.rows);
            let timer = |processing_time| {
                move |ordinal: u32| TimerChange {
                    ordinal,
                    time: 50,
                    delete: false,
                    processing_time,
                }
            };
            let ordinals = 0..call.keys.rows as u32;
            reply.timers = ordinals.clone().map(timer(false)).collect();
            reply.timers.extend(ordinals.map(timer(true)));
            Ok(reply)
        })
    };
    let rows: Vec<(i64, i64)> = order.iter().map(|k| (*k, 0)).collect();
    let mut op = made(&[Way::Keyed], &[]);
    let mut f = setting();
    put(&mut op, &mut f, 0, &rows).unwrap();
    let from = of_tasks(vec![written(&mut op)]);
    let fire = |op: &mut ProcessOperator| {
        let fired = std::sync::Mutex::new([Vec::new(), Vec::new()]);
        let mut f = setting();
        f.timers = Box::new(|due, _| {
            let fired = &mut fired.lock().unwrap()[usize::from(due.processing_time)];
            fired.extend(values(&due.keys.columns[0]));
            Ok(done(due.times.len()))
        });
        with(&mut f, 0, 100, |cx| op.watermark(cx).map(drop)).unwrap();
        with(&mut f, 51, 100, |cx| op.wake(cx)).unwrap();
        assert!(op.stores.as_ref().unwrap().keyed.is_empty());
        drop(f);
        fired.into_inner().unwrap()
    };
    let mut again = made(&[Way::Keyed], &[]);
    restore(&mut again, &from, (0, 1)).unwrap();
    assert_eq!(fire(&mut again), [order.clone(), order.clone()]);
    let mut all = Vec::new();
    for task in 0..3 {
        let mut part = made(&[Way::Keyed], &[]);
        restore(&mut part, &from, (task, 3)).unwrap();
        let [event, processing] = fire(&mut part);
        assert_eq!(event, processing);
        let place = |k: &i64| order.iter().position(|o| o == k);
        assert!(event.is_sorted_by_key(place), "each task keeps the order");
        all.extend(event);
    }
    all.sort_unstable();
    assert_eq!(all, (0..3_000).collect::<Vec<_>>());
}

/// A list, a union list and broadcast state, into which rows of two inputs go.
fn of_operator() -> ProcessOperator {
    let states = [
        state("list", StateKind::OperatorList),
        state("union", StateKind::UnionList),
        state("rules", StateKind::Broadcast),
    ];
    made(&[Way::Unkeyed, Way::Broadcast], &states)
}

#[test]
fn state_of_the_operator_is_shared_out() {
    let writing = || {
        Scripted::new(|call, _| {
            let n = values(&call.rows.columns[0]);
            let zeros = vec![0; n.len()];
            let mut reply = done(n.len());
            reply.states = match call.input {
                0 => vec![puts(0, &zeros, None, n.clone()), puts(1, &zeros, None, n)],
                _ => vec![puts(2, &zeros, Some(n.clone()), n)],
            };
            Ok(reply)
        })
    };
    let mut snapshots = Vec::new();
    for task in 0..2 {
        let mut op = of_operator();
        let mut f = writing();
        let own: Vec<(i64, i64)> = (0..5).map(|n| (0, task * 10 + n)).collect();
        put(&mut op, &mut f, 0, &own).unwrap();
        put(&mut op, &mut f, 1, &[(0, 70), (0, 71)]).unwrap();
        let (snapshot, writer) = begin(&mut op);
        // What comes after the barrier is not in it.
        put(&mut op, &mut f, 0, &[(0, 99)]).unwrap();
        put(&mut op, &mut f, 1, &[(0, 72)]).unwrap();
        end(&mut op, writer);
        snapshots.push(snapshot);
    }
    let from = of_tasks(snapshots);
    let read = |(task, parallelism): (u32, u32)| {
        let mut op = of_operator();
        restore(&mut op, &from, (task, parallelism)).unwrap();
        let found = std::sync::Mutex::new(Vec::new());
        let mut f = Scripted::new(|call, lent| {
            let state = reader(lent);
            for list in [0, 1] {
                let list = state.lists(list, &[0], None)?;
                found.lock().unwrap().push(values(&list.values.columns[0]));
            }
            let rules = state.scan(2, 0, None, 10)?;
            found.lock().unwrap().push(values(&rules.values.columns[0]));
            Ok(done(call.rows.rows))
        });
        put(&mut op, &mut f, 0, &[(0, 0)]).unwrap();
        drop(f);
        found.into_inner().unwrap()
    };
    let all = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14];
    for parallelism in [1, 2, 3] {
        let mut shares = Vec::new();
        for task in 0..parallelism {
            let [list, union, rules] = <[_; 3]>::try_from(read((task, parallelism))).unwrap();
            assert_eq!(
                (union.as_slice(), rules.as_slice()),
                (&all[..], &[70, 71][..])
            );
            assert!(list.len() >= all.len() / parallelism as usize);
            shares.extend(list);
        }
        if parallelism == 2 {
            assert_eq!(shares, all, "each its own");
        }
        shares.sort_unstable();
        assert_eq!(shares, all);
    }
}

#[test]
fn timers_that_the_function_would_not_take_are_refused() {
    let mut op = operator();
    let mut functions = Sums {
        greedy: 9,
        calls: 0,
    };
    let step = (vec![(1, 1, 10)], 0);
    feed(&mut op, &mut functions, &step, 7, &Limits::default()).unwrap();
    let from = of_tasks(vec![written(&mut op)]);
    let mut other = operator();
    other.may_set_timers = false;
    let error = restore(&mut other, &from, (0, 1)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateMismatch);
    let mut renamed = operator();
    renamed.key[0].name = "other".into();
    restore(&mut renamed, &from, (0, 1)).unwrap();
    let mut other = operator();
    other.key[0].nullable = true;
    let error = restore(&mut other, &from, (0, 1)).unwrap_err();
    assert!(
        error.to_string().contains("'timers' of operator 'op'"),
        "{error}"
    );
}

#[test]
fn a_snapshot_that_is_given_up_leaves_nothing_behind() {
    let mut op = operator();
    let mut functions = Sums {
        greedy: 9,
        calls: 0,
    };
    let limits = Limits::default();
    let step = (vec![(1, 1, 10), (2, 2, 10)], 0);
    feed(&mut op, &mut functions, &step, 7, &limits).unwrap();
    let (_, writer) = begin(&mut op);
    op.abort_snapshot();
    drop(writer);
    let whole = of_tasks(vec![written(&mut op)]);
    let mut again = operator();
    restore(&mut again, &whole, (0, 1)).unwrap();
    let last = (vec![], 1_000);
    let mut rest = |op: &mut ProcessOperator| feed(op, &mut functions, &last, 7, &limits).unwrap();
    assert_eq!(rest(&mut again), rest(&mut op));
}
