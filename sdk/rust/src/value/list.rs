//! Lists: any number of values in a field.

use std::fmt;

use crate::bindings::pelton::job::types::{Column, DataType};
use crate::column::{Cursor, Offsets, Row};
use crate::error::Result;
use crate::time::{Date, Decimal, Timestamp};
use crate::value::{ColumnBuilder, OffsetsBuilder, Past, Schema, Value, node};

/// Values that a list can hold: all but `u8`, since `Vec<u8>` is bytes.
pub trait Item: Value {}

macro_rules! items {
    ($($t:ty),*) => { $(impl Item for $t {})* };
}
items!(
    bool,
    i8,
    i16,
    i32,
    i64,
    u16,
    u32,
    u64,
    f32,
    f64,
    String,
    Vec<u8>,
    Timestamp,
    Date
);
impl<const SCALE: u8> Item for Decimal<SCALE> {}
impl<T: Item> Item for Option<T> {}
impl<T: Item> Item for Vec<T> {}

/// A column of lists.
pub struct ListColumn<'a, T: Value> {
    offsets: Offsets<'a>,
    items: T::Column<'a>,
    count: usize,
}

impl<T: Value> Clone for ListColumn<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Value> Copy for ListColumn<'_, T> {}

impl<T: Value> ListColumn<'_, T> {
    /// How many lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A borrowed list: part of a column, or a slice of values.
pub struct ListRef<'a, T: Value>(Form<'a, T>);

enum Form<'a, T: Value> {
    Column {
        items: T::Column<'a>,
        start: usize,
        end: usize,
    },
    Slice(&'a [T]),
}

impl<T: Value> Clone for ListRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Value> Copy for ListRef<'_, T> {}
impl<T: Value> Clone for Form<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Value> Copy for Form<'_, T> {}

impl<'a, T: Value> ListRef<'a, T> {
    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Form::Column { start, end, .. } => end - start,
            Form::Slice(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item; none beyond the last.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T::Ref<'a>> {
        match self.0 {
            Form::Column { items, start, end } => {
                // `end` is at most the rows that the items were resolved for.
                Some(T::read(&items, Row::below(start.checked_add(index)?, end)?))
            }
            Form::Slice(items) => items.get(index).map(T::lend),
        }
    }

    /// The items in order.
    #[must_use]
    pub fn iter(&self) -> ListIter<'a, T> {
        ListIter {
            list: *self,
            next: 0,
        }
    }
}

/// Items of a list in order.
pub struct ListIter<'a, T: Value> {
    list: ListRef<'a, T>,
    next: usize,
}

impl<'a, T: Value> Iterator for ListIter<'a, T> {
    type Item = T::Ref<'a>;
    #[inline]
    fn next(&mut self) -> Option<T::Ref<'a>> {
        let item = self.list.get(self.next)?;
        self.next += 1;
        Some(item)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.list.len() - self.next;
        (left, Some(left))
    }
}

impl<T: Value> ExactSizeIterator for ListIter<'_, T> {}

impl<'a, T: Value> IntoIterator for ListRef<'a, T> {
    type Item = T::Ref<'a>;
    type IntoIter = ListIter<'a, T>;
    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Value> From<&'a [T]> for ListRef<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self(Form::Slice(items))
    }
}

impl<'a, T: Value> From<&'a Vec<T>> for ListRef<'a, T> {
    fn from(items: &'a Vec<T>) -> Self {
        Self(Form::Slice(items))
    }
}

impl<T: Value> PartialEq for ListRef<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (0..self.len()).all(|i| same::<T>(self.get(i), other.get(i)))
    }
}

fn same<'a, T: Value>(a: Option<T::Ref<'a>>, b: Option<T::Ref<'a>>) -> bool {
    a == b
}

impl<T: Value> fmt::Debug for ListRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A column of lists under construction.
#[derive(Debug)]
pub struct ListBuilder<T: Value> {
    offsets: OffsetsBuilder,
    items: T::Builder,
}

impl<T: Value> Default for ListBuilder<T> {
    fn default() -> Self {
        Self {
            offsets: OffsetsBuilder::default(),
            items: T::Builder::default(),
        }
    }
}

impl<T: Value> ListBuilder<T> {
    /// Appends a list of these items.
    pub fn push<'a>(&mut self, items: impl IntoIterator<Item = T::Ref<'a>>) {
        items
            .into_iter()
            .for_each(|item| T::push(&mut self.items, item));
        self.offsets.push(self.items.len());
    }
}

impl<T: Value> ColumnBuilder for ListBuilder<T> {
    fn len(&self) -> usize {
        self.offsets.len()
    }
    fn bytes(&self) -> usize {
        self.offsets.bytes() + self.items.bytes()
    }
    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
    }
    fn push_default(&mut self) {
        self.offsets.push(self.items.len());
    }
    fn finish(&mut self, columns: &mut Vec<Column>) {
        columns.push(Column {
            validity: None,
            offsets: Some(self.offsets.take()),
            values: None,
        });
        self.items.finish(columns);
    }
}

impl<T: Item> Value for Vec<T> {
    type Ref<'a> = ListRef<'a, T>;
    type Column<'a> = ListColumn<'a, T>;
    type Builder = ListBuilder<T>;
    const HAS_DEFAULT: bool = T::HAS_DEFAULT;

    fn describe(name: &str, schema: &mut Schema) {
        schema.push(node(name, DataType::Sequence));
        T::describe("item", schema);
    }
    fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
        let offsets = cursor.offsets(rows)?;
        let count = offsets.end();
        Ok(ListColumn {
            offsets,
            items: T::resolve(cursor, count)?,
            count,
        })
    }
    #[inline(always)]
    fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
        let (start, end) = column.offsets.read(row);
        let end = end.min(column.count);
        ListRef(Form::Column {
            items: column.items,
            start: start.min(end),
            end,
        })
    }
    fn own(value: Self::Ref<'_>) -> Self {
        value.iter().map(T::own).collect()
    }
    #[inline(always)]
    fn lend(&self) -> Self::Ref<'_> {
        ListRef(Form::Slice(self))
    }
    #[inline(always)]
    fn push(builder: &mut Self::Builder, value: Self::Ref<'_>) {
        builder.push(value);
    }
    fn past(place: u32, out: &mut Vec<Past>) {
        T::past(place + 1, out);
    }
    fn encode(value: Self::Ref<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        value.iter().for_each(|item| T::encode(item, out));
    }
}
