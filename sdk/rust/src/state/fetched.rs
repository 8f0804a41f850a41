//! Columns that were read from the host in this call.

use crate::bindings::pelton::job::types::{Column, Slots};
use crate::column::{Cursor, bits_of};
use crate::value::Value;

use super::Spec;

/// What is kept of reads in one state and call; beyond it, all of it is dropped and read again where it is needed.
pub(super) const KEPT_BYTES: usize = 16 << 20;

/// The rows of one read.
#[derive(Default)]
pub(super) struct Chunk {
    columns: Vec<Column>,
    present: Option<Vec<u8>>,
    pub(super) rows: usize,
}

impl Chunk {
    /// Takes what the host has answered, if it is `T`'s.
    pub(super) fn take<T: Value>(spec: &Spec, slots: Slots) -> Self {
        let rows = slots.rows as usize;
        if let Some(bits) = &slots.present {
            spec.shipped(bits_of(bits, rows));
        }
        let chunk = Self {
            columns: slots.columns,
            present: slots.present,
            rows,
        };
        spec.shipped(T::row_resolve(&mut Cursor::new(&chunk.columns, None), rows));
        chunk
    }

    /// A reader of the rows; none if they are not `T`'s.
    #[inline]
    pub(super) fn reader<T: Value>(&self) -> Option<T::Column<'_>> {
        T::row_resolve(&mut Cursor::new(&self.columns, None), self.rows).ok()
    }

    #[inline]
    pub(super) fn is_present(&self, row: usize) -> bool {
        row < self.rows
            && match &self.present {
                None => true,
                Some(bits) => bits.get(row / 8).is_some_and(|b| b >> (row % 8) & 1 == 1),
            }
    }

    pub(super) fn bytes(&self) -> usize {
        self.columns
            .iter()
            .flat_map(|c| [&c.validity, &c.offsets, &c.values])
            .flatten()
            .map(Vec::len)
            .sum()
    }
}

/// The one slot of a value, as the host takes it.
pub(super) fn slot<'a, T: Value>(values: impl Iterator<Item = T::Ref<'a>>) -> Slots {
    let mut builder = T::Builder::default();
    let mut rows = 0;
    values.for_each(|v| {
        T::push(&mut builder, v);
        rows += 1;
    });
    slots::<T>(&mut builder, rows, None)
}

/// The rows of a builder.
pub(super) fn slots<T: Value>(
    builder: &mut T::Builder,
    rows: u32,
    present: Option<Vec<u8>>,
) -> Slots {
    let mut columns = Vec::with_capacity(crate::value::COLUMNS);
    T::row_finish(builder, &mut columns);
    Slots {
        rows,
        present,
        columns,
    }
}
