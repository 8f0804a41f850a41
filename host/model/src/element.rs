//! What flows along a channel: a closed enum.
//! Needs: batch, watermark, barrier. Invariant: watermarks and barriers stand *between* batches.

use crate::{barrier::Barrier, batch::Batch, watermark::Watermark};

/// One element of a stream.
#[derive(Clone, Debug)]
pub enum Element {
    /// Rows.
    Batch(Batch),
    /// No row at or below this time follows, but for late ones.
    Watermark(Watermark),
    /// This channel has nothing for now: it does not hold the watermark back.
    Idle,
    /// The channel has rows again.
    Active,
    /// A checkpoint's cut.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

impl Element {
    /// Bytes of memory that this element keeps alive, for the bound on data in flight.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.bytes(),
            _ => 16,
        }
    }
}
