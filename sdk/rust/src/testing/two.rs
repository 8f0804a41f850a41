//! A harness of functions with two inputs.

use std::ops::{Deref, DerefMut};

use super::{Harness, one_row};
use crate::connectors::blackhole;
use crate::error::Result;
use crate::function::RowKind;
use crate::params::Params;
use crate::record::{Emit, Record};
use crate::stream::Stream;
use crate::time::Timestamp;

/// Runs the functions between two streams and one. It is a [`Harness`] whose own rows are those of the first stream.
///
/// The watermark is that of both.
pub struct TwoInputs<Left: Record, Right: Record, Out: Record> {
    harness: Harness<Left, Out>,
    of: std::marker::PhantomData<fn() -> Right>,
}

impl<L: Record, R: Record, O: Record> TwoInputs<L, R, O> {
    /// A harness around what `f` makes of two streams. Panics if the functions cannot be opened.
    #[track_caller]
    pub fn new(f: impl FnOnce(Stream<L>, Stream<R>) -> Stream<O>) -> Self {
        Self::try_new(&Params::default(), f).unwrap_or_else(|e| panic!("{e}"))
    }

    /// As [`new`](Self::new), with parameters of the job. Errors: the functions cannot be opened, or a harness cannot
    /// run what lies between the streams.
    pub fn try_new(
        params: &Params,
        f: impl FnOnce(Stream<L>, Stream<R>) -> Stream<O>,
    ) -> Result<Self> {
        let harness = Harness::open(params, 2, u64::MAX, false, |job| {
            let left = job.source::<L>("left", blackhole());
            let right = job.source::<R>("right", blackhole());
            f(left, right)
        })?;
        Ok(Self {
            harness,
            of: std::marker::PhantomData,
        })
    }

    /// Puts a row into the first stream.
    #[track_caller]
    pub fn push_left(&mut self, time: Timestamp, row: impl Emit<L>) {
        self.harness.push_at(time, row);
    }

    /// Puts a row into the second stream.
    #[track_caller]
    pub fn push_right(&mut self, time: Timestamp, row: impl Emit<R>) {
        self.push_right_kind(RowKind::Insert, time, row);
    }

    /// Puts a row of a kind into the second stream.
    #[track_caller]
    pub fn push_right_kind(&mut self, kind: RowKind, time: Timestamp, row: impl Emit<R>) {
        let row = one_row::<R>(Some(time), kind, row);
        self.harness.put(1, row).unwrap_or_else(|e| panic!("{e}"));
    }
}

impl<L: Record, R: Record, O: Record> Deref for TwoInputs<L, R, O> {
    type Target = Harness<L, O>;
    fn deref(&self) -> &Harness<L, O> {
        &self.harness
    }
}

impl<L: Record, R: Record, O: Record> DerefMut for TwoInputs<L, R, O> {
    fn deref_mut(&mut self) -> &mut Harness<L, O> {
        &mut self.harness
    }
}
