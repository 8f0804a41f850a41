//! A keyed sum with timers: buckets of event time, each written when it is over.

use pelton::prelude::*;

use crate::input::{Row, RowRef, bucket_end, rows};

/// What a bidder bade in a bucket.
#[derive(Record)]
pub(crate) struct Sum {
    key: i64,
    /// Counts the rows of the key, from 1.
    seq: i64,
    at: Timestamp,
    sum: i64,
    /// What the key kept until now, in short.
    before: String,
}

const BUCKET: fn() -> Duration = || seconds(2);

pub(crate) fn sums(job: &mut Job, params: &Params) -> Result<Stream<Sum>> {
    let pad: usize = params.get_or("pad", 0)?;
    let rows = rows(job, params, "bids", 7, 1)?;
    let sums = rows
        .key_by(Row::KEY)
        .process_with_timers("sums", move |states| {
            let sums = states.map::<Timestamp, i64>("sums");
            let (seq, kept) = (states.value::<i64>("seq"), states.value::<String>("kept"));
            let ended = sums.clone();
            let on_row = move |_: i64, row: RowRef<'_>, cx: &mut Ctx, _: &mut Out<Sum>| {
                let end = bucket_end(row.time, BUCKET());
                sums.put(end, sums.get(end).unwrap_or(0) + row.price);
                cx.set_timer(end);
            };
            let on_timer = move |key: i64, at: Timestamp, _: &mut Ctx, out: &mut Out<Sum>| {
                let number = seq.get().unwrap_or(0) + 1;
                seq.set(number);
                let sum = ended.get(at).unwrap_or(-1);
                ended.remove(at);
                let before = kept.get().unwrap_or_default();
                let before = format!("{}{}", before.len(), before.get(..20).unwrap_or_default());
                if pad > 0 {
                    kept.set(padding(key, number, pad));
                }
                out.emit(SumRef {
                    key,
                    seq: number,
                    at,
                    sum,
                    before: &before,
                });
            };
            (on_row, on_timer)
        });
    Ok(sums.uid("sums"))
}

/// So many letters, which no compression makes short.
fn padding(key: i64, number: i64, bytes: usize) -> String {
    let mut seed = (key as u64) << 32 ^ number as u64;
    let letters = (0..bytes).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + ((seed >> 33) % 26) as u8)
    });
    letters.collect()
}
