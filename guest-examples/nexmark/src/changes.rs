//! Results that change: a changelog as input comes, or in batch mode the last of each key.

use pelton::Emit;
use pelton::prelude::*;

/// When a timer fires that waits for the end of the input in batch mode.
pub const END: Timestamp = Timestamp(i64::MAX);

/// Emits that a key's result has changed, `row` makes the rows. In batch mode nothing is emitted: a timer is set, which is to
/// emit the last result.
#[inline]
pub fn tell<S, O: Record, E: Emit<O>>(
    former: Option<&S>,
    now: &S,
    cx: &mut Ctx,
    out: &mut Out<O>,
    row: impl Fn(&S) -> E,
) {
    match (cx.is_batch(), former) {
        (true, None) => cx.set_timer(END),
        (true, Some(_)) => {}
        (false, None) => out.emit_kind(RowKind::Insert, row(now)),
        (false, Some(former)) => out.update(row(former), row(now)),
    }
}
