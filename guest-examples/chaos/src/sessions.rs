//! Sessions: bids of a bidder without a pause, with an accumulator of our own, numbered by a function behind them.

use pelton::prelude::*;

use crate::input::{Row, RowRef, rows};

/// A session, not yet numbered.
#[derive(Record)]
struct Session {
    key: i64,
    start: Timestamp,
    end: Timestamp,
    count: i64,
    sum: i64,
}

/// A session of a bidder.
#[derive(Record)]
pub(crate) struct Numbered {
    key: i64,
    /// Counts the rows of the key, from 1.
    seq: i64,
    start: Timestamp,
    end: Timestamp,
    count: i64,
    sum: i64,
}

/// Bids and the sum of their prices.
#[derive(Record)]
struct Bids {
    count: i64,
    sum: i64,
}

struct Add;

impl Aggregate for Add {
    type In = Row;
    type Key = i64;
    type Acc = Bids;
    type Out = Session;

    fn create(&self) -> Bids {
        Bids { count: 0, sum: 0 }
    }

    fn add(&self, acc: &mut Bids, row: RowRef<'_>) {
        acc.count += 1;
        acc.sum += row.price;
    }

    fn merge(&self, acc: &mut Bids, other: Bids) {
        acc.count += other.count;
        acc.sum += other.sum;
    }

    fn result(&self, key: i64, window: Window, acc: Bids, out: &mut Out<Session>) {
        let Bids { count, sum } = acc;
        let Window { start, end } = window;
        out.emit(SessionRef {
            key,
            start,
            end,
            count,
            sum,
        });
    }
}

pub(crate) fn sessions(job: &mut Job, params: &Params) -> Result<Stream<Numbered>> {
    let sessions = rows(job, params, "bids", 7, 1)?
        .key_by(Row::KEY)
        .window(session(millis(900)))
        .aggregate("sessions", Add)
        .uid("sessions");
    let numbered = sessions
        .key_by(Session::KEY)
        .process_with("number", |states| {
            let seq = states.value::<i64>("seq");
            move |key: i64, row: SessionRef<'_>, _: &mut Ctx, out: &mut Out<Numbered>| {
                let number = seq.get().unwrap_or(0) + 1;
                seq.set(number);
                out.emit(NumberedRef {
                    key,
                    seq: number,
                    start: row.start,
                    end: row.end,
                    count: row.count,
                    sum: row.sum,
                });
            }
        });
    Ok(numbered.uid("number"))
}
