//! Buffers as columns: how a row is read from the host's buffers and written into our own. The one module with `unsafe`.
//!
//! Needs: the records of `wit/types.wit`. Refuses: a buffer that is too short for its rows, once, when a column is resolved.
//!
//! Why `unsafe` is sound here. [`Cursor`] hands out a reader only after its buffers were found long enough for the rows
//! asked for. A [`Row`] is made by [`Row::below`] only, once a row, with the number of those rows, so that reading its fields needs
//! no check. Reads and writes are unaligned, which costs nothing on Wasm and x86, so that any `Vec<u8>` will do. Every bit
//! pattern is a value of the types that are [`Plain`]. Offsets are not relied on: a range outside of its bytes reads as
//! empty. Only UTF-8 is taken on trust: the host has checked it (debug builds check it again).

use std::fmt;
use std::marker::PhantomData;

use crate::bindings::pelton::job::types::Column;
use crate::error::{Error, Result};
use crate::time::{Date, Decimal, Timestamp};

#[cfg(target_endian = "big")]
compile_error!("columns are little-endian, and are read in place");

/// A row of a column that was resolved for more rows than this.
#[derive(Clone, Copy)]
pub struct Row(usize);

impl Row {
    /// A row of columns that were resolved for `rows` rows; none beyond the last.
    #[inline(always)]
    pub(crate) fn below(index: usize, rows: usize) -> Option<Self> {
        (index < rows).then_some(Self(index))
    }
}

/// Types whose values are their bytes: any bytes are a value, and there is no padding.
///
/// # Safety
/// As said.
pub unsafe trait Plain: Copy + Default + fmt::Debug + PartialEq + 'static {}

macro_rules! plain {
    // SAFETY: numbers, and transparent wrappers of numbers.
    ($($t:ty),*) => { $(unsafe impl Plain for $t {})* };
}
plain!(
    i8, i16, i32, i64, i128, u8, u16, u32, u64, f32, f64, Timestamp, Date
);
// SAFETY: transparent over an i128.
unsafe impl<const SCALE: u8> Plain for Decimal<SCALE> {}

/// Walks the columns of a view in preorder.
pub struct Cursor<'a> {
    columns: &'a [Column],
    /// For each node of the view, its column; none: the columns are the view's own.
    plan: Option<&'a [u32]>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(columns: &'a [Column], plan: Option<&'a [u32]>) -> Self {
        Self {
            columns,
            plan,
            at: 0,
        }
    }

    fn peek(&self) -> Result<&'a Column> {
        let index = match self.plan {
            None => Some(self.at),
            Some(plan) => plan.get(self.at).map(|p| *p as usize),
        };
        index
            .and_then(|i| self.columns.get(i))
            .ok_or_else(|| Error::new("the host has shipped too few columns"))
    }

    /// Steps over a node that has no buffers: a record.
    pub fn skip(&mut self) {
        self.at += 1;
    }

    /// A column of values of a fixed width. Errors: too few bytes for `rows`.
    pub fn fixed<T: Plain>(&mut self, rows: usize) -> Result<Fixed<'a, T>> {
        let bytes = buffer(&self.peek()?.values, rows, rows * size_of::<T>())?;
        self.at += 1;
        Ok(Fixed {
            start: bytes.as_ptr(),
            rows,
            lives: PhantomData,
        })
    }

    /// A column of bits. Errors: too few bytes for `rows`.
    pub fn bits(&mut self, rows: usize) -> Result<Bits<'a>> {
        let bytes = buffer(&self.peek()?.values, rows, rows.div_ceil(8))?;
        self.at += 1;
        Ok(Bits {
            start: bytes.as_ptr(),
            rows,
            lives: PhantomData,
        })
    }

    /// The validity of the node at hand, without stepping over it.
    pub fn validity(&self, rows: usize) -> Result<Option<Bits<'a>>> {
        match &self.peek()?.validity {
            None => Ok(None),
            some => {
                let bytes = buffer(some, rows, rows.div_ceil(8))?;
                Ok(Some(Bits {
                    start: bytes.as_ptr(),
                    rows,
                    lives: PhantomData,
                }))
            }
        }
    }

    /// A column of offsets and bytes. Errors: too few offsets for `rows`.
    pub fn bytes(&mut self, rows: usize) -> Result<BytesColumn<'a>> {
        let data = self.peek()?.values.as_deref().unwrap_or(&[]);
        Ok(BytesColumn {
            offsets: self.offsets(rows)?,
            data,
        })
    }

    /// A column of text. Errors: too few offsets for `rows`.
    pub fn text(&mut self, rows: usize) -> Result<TextColumn<'a>> {
        let column = self.bytes(rows)?;
        if cfg!(debug_assertions)
            && (0..rows).any(|i| std::str::from_utf8(column.read(Row(i))).is_err())
        {
            return Err(Error::new("the host has shipped text that is not UTF-8"));
        }
        Ok(TextColumn(column))
    }

    /// The offsets of the node at hand, and steps over it. Errors: too few for `rows`.
    pub fn offsets(&mut self, rows: usize) -> Result<Offsets<'a>> {
        let bytes = buffer(&self.peek()?.offsets, rows, (rows + 1) * 4)?;
        self.at += 1;
        Ok(Offsets {
            start: bytes.as_ptr(),
            rows,
            lives: PhantomData,
        })
    }
}

fn buffer(buffer: &Option<Vec<u8>>, rows: usize, len: usize) -> Result<&[u8]> {
    match buffer {
        _ if rows == 0 => Ok(&[]),
        Some(bytes) if bytes.len() >= len => Ok(bytes),
        _ => Err(Error::new(
            "the host has shipped a buffer that is too short for its rows",
        )),
    }
}

/// Values of a fixed width.
pub struct Fixed<'a, T> {
    start: *const u8,
    rows: usize,
    lives: PhantomData<&'a [T]>,
}

impl<T> Clone for Fixed<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Fixed<'_, T> {}

impl<'a, T: Plain> Fixed<'a, T> {
    #[inline(always)]
    pub(crate) fn read(&self, row: Row) -> T {
        // SAFETY: a row is below the rows that the buffer was found long enough for.
        unsafe {
            self.start
                .add(row.0 * size_of::<T>())
                .cast::<T>()
                .read_unaligned()
        }
    }

    /// How many.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The value of a row; none beyond the last.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<T> {
        (row < self.rows).then(|| self.read(Row(row)))
    }

    /// All values in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + Clone + use<'a, T> {
        let column = *self;
        (0..self.rows).map(move |i| column.read(Row(i)))
    }
}

/// Bits, least significant first.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    start: *const u8,
    rows: usize,
    lives: PhantomData<&'a [u8]>,
}

impl<'a> Bits<'a> {
    #[inline(always)]
    pub(crate) fn read(&self, row: Row) -> bool {
        // SAFETY: a row is below the rows that the buffer was found long enough for.
        let byte = unsafe { *self.start.add(row.0 / 8) };
        byte >> (row.0 % 8) & 1 == 1
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The value of a row; none beyond the last.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<bool> {
        (row < self.rows).then(|| self.read(Row(row)))
    }

    /// All values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> + Clone + use<'a> {
        let column = *self;
        (0..self.rows).map(move |i| column.read(Row(i)))
    }
}

/// Where values of varying length begin and end.
#[derive(Clone, Copy)]
pub struct Offsets<'a> {
    start: *const u8,
    rows: usize,
    lives: PhantomData<&'a [u32]>,
}

impl Offsets<'_> {
    #[inline(always)]
    fn at(&self, index: usize) -> usize {
        // SAFETY: there is one offset more than rows, and `index` is at most the rows.
        unsafe { self.start.add(index * 4).cast::<u32>().read_unaligned() as usize }
    }

    /// The range of a row; nothing says that it lies within its bytes.
    #[inline(always)]
    pub(crate) fn read(&self, row: Row) -> (usize, usize) {
        (self.at(row.0), self.at(row.0 + 1))
    }

    /// Where the last value ends.
    pub(crate) fn end(&self) -> usize {
        if self.rows == 0 {
            0
        } else {
            self.at(self.rows)
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }
}

/// Bytes of varying length.
#[derive(Clone, Copy)]
pub struct BytesColumn<'a> {
    offsets: Offsets<'a>,
    data: &'a [u8],
}

impl<'a> BytesColumn<'a> {
    #[inline(always)]
    pub(crate) fn read(&self, row: Row) -> &'a [u8] {
        let (start, end) = self.offsets.read(row);
        self.data.get(start..end).unwrap_or(&[])
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a row; none beyond the last.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        (row < self.len()).then(|| self.read(Row(row)))
    }

    /// All values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let column = *self;
        (0..self.len()).map(move |i| column.read(Row(i)))
    }
}

/// Text.
#[derive(Clone, Copy)]
pub struct TextColumn<'a>(BytesColumn<'a>);

impl<'a> TextColumn<'a> {
    #[inline(always)]
    pub(crate) fn read(&self, row: Row) -> &'a str {
        // SAFETY: the host has checked that each value is UTF-8.
        unsafe { std::str::from_utf8_unchecked(self.0.read(row)) }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a row; none beyond the last.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        (row < self.len()).then(|| self.read(Row(row)))
    }

    /// All values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + Clone + use<'a> {
        let column = *self;
        (0..self.len()).map(move |i| column.read(Row(i)))
    }
}

/// Bytes under construction. Always a `Vec<u8>`, so that what is handed to the host is freed as it was allocated.
#[derive(Default, Debug)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// Appends the bytes of a value.
    #[inline(always)]
    pub(crate) fn push<T: Plain>(&mut self, value: T) {
        self.0.reserve(size_of::<T>());
        // SAFETY: there is room for one more value, and all its bytes are initialised by the write.
        unsafe {
            self.0
                .as_mut_ptr()
                .add(self.0.len())
                .cast::<T>()
                .write_unaligned(value);
            self.0.set_len(self.0.len() + size_of::<T>());
        }
    }

    /// Appends bytes. Short ones, as text mostly is, by two overlapping moves rather than a call.
    #[inline(always)]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        self.0.reserve(len);
        // SAFETY: there is room for `len` bytes more, and each move stays within `len` bytes on both sides.
        unsafe {
            let (from, to) = (bytes.as_ptr(), self.0.as_mut_ptr().add(self.0.len()));
            match len {
                8..=16 => {
                    move_as::<u64>(from, to);
                    move_as::<u64>(from.add(len - 8), to.add(len - 8));
                }
                4..8 => {
                    move_as::<u32>(from, to);
                    move_as::<u32>(from.add(len - 4), to.add(len - 4));
                }
                1..4 => {
                    to.write(from.read());
                    to.add(len / 2).write(from.add(len / 2).read());
                    to.add(len - 1).write(from.add(len - 1).read());
                }
                _ => from.copy_to_nonoverlapping(to, len),
            }
            self.0.set_len(self.0.len() + len);
        }
    }

    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.0.reserve(bytes);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut u8> {
        self.0.last_mut()
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Moves one value's bytes.
///
/// # Safety
/// There are as many bytes to read and to write.
#[inline(always)]
unsafe fn move_as<T: Plain>(from: *const u8, to: *mut u8) {
    unsafe {
        to.cast::<T>()
            .write_unaligned(from.cast::<T>().read_unaligned())
    }
}

/// The bytes of whole values, in order.
pub(crate) fn to_bytes<T: Plain>(values: impl IntoIterator<Item = T>) -> Vec<u8> {
    let values = values.into_iter();
    let mut out = Buffer::default();
    out.reserve(values.size_hint().0 * size_of::<T>());
    values.for_each(|v| out.push(v));
    out.take()
}

/// A bare buffer as values. Errors: too few bytes for `rows`.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8], rows: usize) -> Result<Fixed<'_, T>> {
    if bytes.len() < rows * size_of::<T>() {
        return Err(Error::new(
            "the host has shipped a buffer that is too short for its rows",
        ));
    }
    Ok(Fixed {
        start: bytes.as_ptr(),
        rows,
        lives: PhantomData,
    })
}

/// A bare buffer as bits. Errors: too few bytes for `rows`.
pub(crate) fn bits_of(bytes: &[u8], rows: usize) -> Result<Bits<'_>> {
    if bytes.len() < rows.div_ceil(8) {
        return Err(Error::new(
            "the host has shipped a buffer that is too short for its rows",
        ));
    }
    Ok(Bits {
        start: bytes.as_ptr(),
        rows,
        lives: PhantomData,
    })
}

/// Columns together with a reader of them.
pub(crate) struct Held<R> {
    /// What the reader points into: it stays as it is as long as this lives.
    _columns: Vec<Column>,
    reader: R,
}

impl<R: Copy> Held<R> {
    /// The reader for as long as `self` is borrowed, to be used at once.
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    /// Resolves a reader of columns and keeps both.
    ///
    /// # Safety
    /// `resolve` must not hand the columns' lifetime to anything but the reader, and what is read by the reader must
    /// not outlive this.
    pub(crate) unsafe fn new(
        columns: Vec<Column>,
        resolve: impl FnOnce(&mut Cursor<'static>) -> Result<R>,
    ) -> Result<Self> {
        // SAFETY: moving a `Vec` does not move what it points to, and nothing changes it while `Self` lives.
        let long: &'static [Column] =
            unsafe { std::slice::from_raw_parts(columns.as_ptr(), columns.len()) };
        let reader = resolve(&mut Cursor::new(long, None))?;
        Ok(Self {
            _columns: columns,
            reader,
        })
    }
}
