//! Columns while they are made: fixed width and text, each only if it is needed.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use pelton_model::{Error, Result};

use super::draws::Draws;
use super::letters;

/// A column of `i64`. Rows of other kinds of events hold 0.
#[derive(Debug, Default)]
pub(super) struct Ints {
    pub(super) needed: bool,
    values: Vec<i64>,
}

impl Ints {
    /// Begins a batch of this many rows.
    pub(super) fn start(&mut self, rows: usize) {
        if self.needed {
            self.values = vec![0; rows];
        }
    }

    /// Sets the value of a row; does nothing where the column is not needed.
    pub(super) fn set(&mut self, row: u32, value: i64) {
        if let Some(slot) = self.values.get_mut(row as usize) {
            *slot = value;
        }
    }

    /// The values of the batch.
    pub(super) fn finish(&mut self) -> ScalarBuffer<i64> {
        std::mem::take(&mut self.values).into()
    }
}

/// A column of texts, written in the order of the rows. Rows of other kinds of events hold the empty text.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) needed: bool,
    /// Bytes of an event to begin with.
    per_event: usize,
    offsets: Vec<i32>,
    /// Longer than what is `used`, so that a text is written in place and in blocks.
    bytes: Vec<u8>,
    used: usize,
}

impl Text {
    /// A column whose texts need about this many bytes each.
    pub(super) fn new(per_event: usize) -> Self {
        Self {
            per_event,
            ..Self::default()
        }
    }

    /// Begins a batch of this many rows, of which some are events with this column.
    pub(super) fn start(&mut self, rows: usize, events: usize) {
        if self.needed {
            self.offsets = Vec::with_capacity(rows + 1);
            self.bytes = vec![0; events * self.per_event];
            self.used = 0;
        }
    }

    /// Begins the text of a row.
    pub(super) fn begin(&mut self, row: u32) {
        let wanted = row as usize + 1;
        if self.offsets.len() < wanted {
            self.offsets.resize(wanted, self.used as i32);
        }
    }

    /// Ends the text of the row that was begun.
    pub(super) fn end(&mut self) {
        self.offsets.push(self.used as i32);
    }

    /// Room for the next `N` bytes, of which [`advance`](Self::advance) takes what was written.
    pub(super) fn room<const N: usize>(&mut self) -> &mut [u8; N] {
        if self.bytes.len() < self.used + N {
            self.grow(N);
        }
        let free = self.bytes.get_mut(self.used..).unwrap_or_default();
        free.first_chunk_mut()
            .expect("the bytes were grown to hold it")
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        self.bytes.resize((self.used + more) * 3 / 2, 0);
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.used += bytes;
    }

    /// Appends some bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len() < self.used + bytes.len() {
            self.grow(bytes.len());
        }
        let end = self.used + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.used..end) {
            room.copy_from_slice(bytes);
            self.used = end;
        }
    }

    /// Appends random letters.
    pub(super) fn push_letters(&mut self, draws: &mut Draws, len: usize) {
        let whole = len.next_multiple_of(12);
        if self.bytes.len() < self.used + whole {
            self.grow(whole);
        }
        if let Some(room) = self.bytes.get_mut(self.used..self.used + whole) {
            letters::fill(draws, room.as_chunks_mut().0);
            self.used += len;
        }
    }

    /// The column of the batch.
    pub(super) fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        let mut offsets = std::mem::take(&mut self.offsets);
        let mut bytes = std::mem::take(&mut self.bytes);
        offsets.resize(rows + 1, self.used as i32);
        bytes.truncate(self.used);
        let (offsets, bytes) = (ScalarBuffer::from(offsets), Buffer::from_vec(bytes));
        if cfg!(debug_assertions) {
            return StringArray::try_new(OffsetBuffer::new(offsets), bytes, None)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| Error::bug(format!("generated text is not valid: {e}")));
        }
        // SAFETY: `offsets` are values that `used` had, which only grows within a batch; the last is the length of `bytes`; all that is written is ASCII.
        // Measured: checking it anew takes 16 of 68 ns an event. Tests, which have debug assertions, check it.
        Ok(Arc::new(unsafe {
            StringArray::new_unchecked(OffsetBuffer::new_unchecked(offsets), bytes, None)
        }))
    }
}
