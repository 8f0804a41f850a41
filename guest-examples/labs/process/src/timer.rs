//! Results at the time of a timer.

use pelton::prelude::*;

use crate::input::{Event, EventRef};
use crate::state::{Value, ValueRef};

type Events = KeyedStream<Event, Event, String>;

/// A key went without a record for too long.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Fired {
    pub(crate) fired: i64,
    pub(crate) key: String,
    pub(crate) ts: i64,
}

/// One timer a key, set anew by each record, be it to an earlier time.
pub(crate) fn timeout(events: Events, after: Duration) -> Stream<Fired> {
    events.process_with_timers("timeout", move |states| {
        let due = states.value::<Timestamp>("due");
        let fired = due.clone();
        let on_row = move |_: &str, event: EventRef<'_>, cx: &mut Ctx, _: &mut Out<Fired>| {
            if let Some(former) = due.get() {
                cx.delete_timer(former);
            }
            let time = Timestamp(event.ts) + after;
            cx.set_timer(time);
            due.set(time);
        };
        let on_timer = move |key: &str, time: Timestamp, _: &mut Ctx, out: &mut Out<Fired>| {
            fired.clear();
            let (fired, ts) = (time.millis(), time.millis());
            out.emit(FiredRef { fired, key, ts });
        };
        (on_row, on_timer)
    })
}

/// A record counts for the end of its bucket: the least multiple of the size above its time.
pub(crate) fn buckets(events: Events, size: Duration) -> Stream<Value> {
    events.process_with_timers("buckets", move |states| {
        let sums = states.map::<Timestamp, i64>("sums");
        let ended = sums.clone();
        let on_row = move |_: &str, event: EventRef<'_>, cx: &mut Ctx, _: &mut Out<Value>| {
            let size = size.millis();
            let end = (event.ts.div_euclid(size) + 1).saturating_mul(size);
            let end = Timestamp(end);
            let sum = sums.get(end).unwrap_or(0).wrapping_add(event.value);
            sums.put(end, sum);
            cx.set_timer(end);
        };
        let on_timer = move |key: &str, time: Timestamp, _: &mut Ctx, out: &mut Out<Value>| {
            if let Some(value) = ended.get(time) {
                let ts = time.millis();
                out.emit(ValueRef { key, ts, value });
                ended.remove(time);
            }
        };
        (on_row, on_timer)
    })
}

#[cfg(test)]
mod tests {
    use pelton::testing::Harness;

    use super::*;

    fn push<O: Record>(harness: &mut Harness<Event, O>, key: &str, ts: i64, value: i64) {
        harness.push_at(Timestamp(ts), EventRef { key, ts, value });
    }

    #[test]
    fn a_timeout_is_moved_by_each_record() {
        let f = |events: Stream<Event>| timeout(events.key_by(Event::KEY), millis(10));
        let mut harness = Harness::new(f);
        push(&mut harness, "a", 5, 1);
        push(&mut harness, "b", 6, 1);
        push(&mut harness, "a", 0, 1);
        harness.watermark(Timestamp(14));
        let fired = |key: &str, fired| Fired {
            fired,
            key: key.to_owned(),
            ts: fired,
        };
        assert_eq!(harness.take(), [fired("a", 10)]);
        harness.watermark(Timestamp(100));
        assert_eq!(harness.take(), [fired("b", 16)]);
    }

    #[test]
    fn buckets_are_summed_and_cleared() {
        let f = |events: Stream<Event>| buckets(events.key_by(Event::KEY), millis(10));
        let mut harness = Harness::new(f);
        for (ts, value) in [(0, 1), (9, 2), (10, 4), (-1, 8)] {
            push(&mut harness, "a", ts, value);
        }
        harness.watermark(Timestamp(10));
        // A record that comes too late has its bucket to itself.
        push(&mut harness, "a", 3, 16);
        harness.watermark(Timestamp(20));
        let values = harness.take();
        let values: Vec<_> = values.iter().map(|v| (v.ts, v.value)).collect();
        assert_eq!(values, [(0, 8), (10, 3), (10, 16), (20, 4)]);
    }
}
