//! Timers through the operator.

use super::inputs::{Scripted, done, made, put, state, with};
use super::*;
use pelton_model::graph::Ttl;

fn timer(ordinal: u32, time: i64, processing_time: bool) -> TimerChange {
    TimerChange {
        ordinal,
        time,
        delete: false,
        processing_time,
    }
}

/// The watermark advances, however many steps its timers take.
fn advance(op: &mut ProcessOperator, f: &mut Scripted<'_>, watermark: i64) {
    with(f, 0, watermark, |cx| {
        op.watermark(cx)?;
        while op.busy() {
            op.wake(cx)?;
        }
        Ok(())
    })
    .unwrap();
}

/// A function whose timers are written down in `fired`, and set again by `again`.
fn noting<'a>(
    times: &'a [i64],
    fired: &'a std::sync::Mutex<Vec<i64>>,
    again: impl Fn(i64) -> Option<i64> + Send + 'a,
) -> Scripted<'a> {
    let mut f = Scripted::new(move |call, _| {
        let mut reply = done(call.rows.rows);
        reply.timers = times.iter().map(|t| timer(0, *t, false)).collect();
        Ok(reply)
    });
    f.timers = Box::new(move |due, _| {
        fired.lock().unwrap().extend(due.times);
        let mut reply = done(due.times.len());
        let set = due.ordinals.iter().zip(due.times);
        let set = set.filter_map(|(o, t)| Some(timer(*o, again(*t)?, false)));
        reply.timers = set.collect();
        Ok(reply)
    });
    f
}

#[test]
fn a_timer_in_the_past_fires_when_the_watermark_advances_next() {
    let fired = std::sync::Mutex::new(Vec::new());
    let mut op = made(&[Way::Keyed], &[]);
    let mut f = noting(&[10, 90, 200], &fired, |t| (t == 90).then_some(30));
    with(&mut f, 0, 100, |cx| op.watermark(cx).map(drop)).unwrap();
    put(&mut op, &mut f, 0, &[(1, 1)]).unwrap();
    assert!(fired.lock().unwrap().is_empty(), "not at once");
    advance(&mut op, &mut f, 101);
    // One that a timer sets for the past still comes before the watermark is forwarded.
    assert_eq!(*fired.lock().unwrap(), [10, 90, 30]);
    advance(&mut op, &mut f, 250);
    assert_eq!(fired.lock().unwrap().last(), Some(&200));
    assert!(op.stores.as_ref().unwrap().keyed.is_empty(), "nothing left");
}

#[test]
fn a_million_timers_of_one_key_fire_in_order_and_in_parts() {
    let fired = std::sync::Mutex::new(Vec::new());
    let times: Vec<i64> = (0..1_000_000).rev().collect();
    let mut op = made(&[Way::Keyed], &[]);
    let mut f = noting(&times, &fired, |_| None);
    put(&mut op, &mut f, 0, &[(1, 1)]).unwrap();
    put(&mut op, &mut f, 0, &[(1, 2)]).unwrap();
    assert_eq!(op.event.len(), 1_000_000, "each is there once");
    with(&mut f, 0, i64::MAX, |cx| {
        assert!(op.watermark(cx)?.is_none() && op.busy());
        Ok(())
    })
    .unwrap();
    let first = fired.lock().unwrap().len();
    assert_eq!(first, CALLS_A_STEP * BATCH_ROWS_MAX, "in the first part");
    advance(&mut op, &mut f, i64::MAX);
    assert_eq!(*fired.lock().unwrap(), (0..1_000_000).collect::<Vec<_>>());
    assert!(op.stores.as_ref().unwrap().keyed.is_empty());
}

#[test]
fn timers_fire_on_the_input_that_has_keys_and_hold_theirs() {
    let mut op = made(
        &[Way::Broadcast, Way::Keyed],
        &[state("rules", StateKind::Broadcast)],
    );
    let mut f = Scripted::new(|call, _| {
        let mut reply = done(call.rows.rows);
        reply.timers = vec![timer(0, 50, true)];
        Ok(reply)
    });
    f.timers = Box::new(|due, lent| {
        assert!(due.processing_time);
        assert_eq!(values(&due.keys.columns[0]), [7]);
        let rules = lent.as_mut().unwrap().scan(0, 0, None, 10)?;
        assert_eq!(rules.keys.rows, 0);
        Ok(done(due.times.len()))
    });
    put(&mut op, &mut f, 1, &[(7, 1)]).unwrap();
    assert_eq!(op.stores.as_ref().unwrap().keyed.len(), 1);
    assert_eq!(op.next_wake(), Some(Wakeup::Wall(ProcessingTime(51))));
    with(&mut f, 50, 0, |cx| op.wake(cx)).unwrap();
    assert_eq!(f.called, [1], "its millisecond is not over");
    with(&mut f, 51, 0, |cx| op.wake(cx)).unwrap();
    assert!(op.stores.as_ref().unwrap().keyed.is_empty());
    assert_eq!(f.called, [1, 1]);
}

#[test]
fn values_expire_by_the_clock_of_the_call() {
    let mut sum = state("sum", StateKind::Value);
    sum.ttl = Some(Ttl {
        ms: 100,
        on_read: false,
        return_expired: false,
        event_time: false,
    });
    let mut op = made(&[Way::Keyed], &[sum]);
    let seen = std::sync::Mutex::new(Vec::new());
    let mut f = Scripted::new(|call, _| {
        let here = call.states[0].present.as_ref().is_none_or(|p| p.value(0));
        seen.lock().unwrap().push(here);
        let mut reply = done(1);
        reply.states = vec![StateChange {
            state: 0,
            marks: vec![u8::from(!here)],
            values: slots(if here { vec![] } else { vec![1] }),
            entries: None,
        }];
        Ok(reply)
    });
    for now in [0, 99, 100, 150, 250] {
        let batch = Batch::new(vec![ints(vec![1]), ints(vec![1])], 1).unwrap();
        with(&mut f, now, 0, |cx| op.batch(0, batch, cx)).unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [false, true, false, true, false]);
}
