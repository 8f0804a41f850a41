//! Two streams that meet where they are near in time.

use pelton::prelude::*;

use crate::input::{Row, RowRef, rows};

/// Two bids of a bidder, one at each site.
#[derive(Record)]
pub(crate) struct Met {
    key: i64,
    left: Timestamp,
    right: Timestamp,
    left_price: i64,
    right_price: i64,
}

pub(crate) fn near(job: &mut Job, params: &Params) -> Result<Stream<Met>> {
    let left = rows(job, params, "left", 7, 1)?.key_by(Row::KEY);
    let right = rows(job, params, "right", 8, 1)?.key_by(Row::KEY);
    let near = left.interval_join(right, millis(-100), millis(150)).map(
        "near",
        |left: RowRef<'_>, right: RowRef<'_>| Met {
            key: left.key,
            left: left.time,
            right: right.time,
            left_price: left.price,
            right_price: right.price,
        },
    );
    Ok(near.uid("near"))
}
