//! Two inputs: bids by key, and rules that all tasks are told. A bucket is judged by the last rule before its end, which
//! is known once both inputs have come to that time.

use pelton::prelude::*;

use crate::input::{Row, RowRef, bucket_end, rows};

/// A rule: what has at least this price meets it.
#[derive(Record)]
struct Rule {
    since: Timestamp,
    min: i64,
}

/// How many bids of a bucket met its rule.
#[derive(Record)]
pub(crate) struct Met {
    key: i64,
    /// Counts the rows of the key, from 1.
    seq: i64,
    at: Timestamp,
    min: i64,
    met: i64,
}

const BUCKET: fn() -> Duration = || seconds(2);

struct Judge {
    rules: BroadcastState<Timestamp, i64>,
    prices: MapState<Timestamp, i64>,
    seq: ValueState<i64>,
}

impl BroadcastProcess for Judge {
    type In = Row;
    type Broadcast = Rule;
    type Key = i64;
    type Out = Met;

    fn process(&self, _: i64, row: RowRef<'_>, cx: &mut Ctx, _: &mut Out<Met>) {
        self.prices.put(row.time, row.price);
        cx.set_timer(bucket_end(row.time, BUCKET()));
    }

    fn process_broadcast(&self, rule: RuleRef<'_>, cx: &mut BroadcastCtx, _: &mut Out<Met>) {
        self.rules.put(cx, rule.since, rule.min);
    }

    fn on_timer(&self, key: i64, at: Timestamp, _: &mut Ctx, out: &mut Out<Met>) {
        let mut last = (Timestamp(i64::MIN), -1);
        self.rules.for_each(|since, min| {
            if since < at && since > last.0 {
                last = (since, min);
            }
        });
        let (mut met, min) = (0, last.1);
        for (time, price) in self.prices.entries() {
            if time < at {
                met += i64::from(price >= min);
                self.prices.remove(time);
            }
        }
        let seq = self.seq.get().unwrap_or(0) + 1;
        self.seq.set(seq);
        out.emit(MetRef {
            key,
            seq,
            at,
            min,
            met,
        });
    }
}

pub(crate) fn met(job: &mut Job, params: &Params) -> Result<Stream<Met>> {
    let bids = rows(job, params, "bids", 7, 1)?.key_by(Row::KEY);
    let rules = rows(job, params, "rules", 9, 20)?.map("rule", |row: RowRef<'_>| Rule {
        since: row.time,
        min: row.price,
    });
    let met = bids
        .connect_broadcast(rules)
        .process("judge", |states| Judge {
            rules: states.broadcast("rules"),
            prices: states.map("prices"),
            seq: states.value("seq"),
        });
    Ok(met.uid("judge"))
}
