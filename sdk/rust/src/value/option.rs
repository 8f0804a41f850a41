//! Values that may be null.

use crate::bindings::pelton::job::types::Column;
use crate::column::{Bits, Cursor, Row};
use crate::error::Result;
use crate::value::{BitsBuilder, ColumnBuilder, Past, Schema, Value};

/// A column whose rows may be null.
pub struct OptionColumn<'a, T: Value> {
    validity: Option<Bits<'a>>,
    inner: T::Column<'a>,
}

impl<T: Value> Clone for OptionColumn<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Value> Copy for OptionColumn<'_, T> {}

impl<'a, T: Value> OptionColumn<'a, T> {
    /// Which rows are there; none: all.
    #[must_use]
    pub fn validity(&self) -> Option<Bits<'a>> {
        self.validity
    }

    /// The values; those of null rows mean nothing.
    #[must_use]
    pub fn values(&self) -> T::Column<'a> {
        self.inner
    }

    #[inline(always)]
    pub(crate) fn is_there(&self, row: Row) -> bool {
        self.validity.is_none_or(|v| v.read(row))
    }
}

/// A column under construction whose rows may be null.
#[derive(Debug)]
pub struct OptionBuilder<T: Value> {
    validity: BitsBuilder,
    nulls: usize,
    inner: T::Builder,
}

impl<T: Value> Default for OptionBuilder<T> {
    fn default() -> Self {
        Self {
            validity: BitsBuilder::default(),
            nulls: 0,
            inner: T::Builder::default(),
        }
    }
}

impl<T: Value> OptionBuilder<T> {
    /// Appends a value or a null.
    #[inline(always)]
    pub fn push(&mut self, value: Option<T::Ref<'_>>) {
        self.validity.push(value.is_some());
        match value {
            Some(v) => T::push(&mut self.inner, v),
            None => {
                self.nulls += 1;
                self.inner.push_default();
            }
        }
    }
}

impl<T: Value> ColumnBuilder for OptionBuilder<T> {
    fn len(&self) -> usize {
        self.validity.len()
    }
    fn bytes(&self) -> usize {
        self.validity.bytes() + self.inner.bytes()
    }
    fn reserve(&mut self, rows: usize) {
        self.validity.reserve(rows);
        self.inner.reserve(rows);
    }
    #[inline]
    fn push_default(&mut self) {
        self.push(None);
    }
    fn finish(&mut self, columns: &mut Vec<Column>) {
        let at = columns.len();
        self.inner.finish(columns);
        let validity = self.validity.take();
        if std::mem::take(&mut self.nulls) > 0
            && let Some(column) = columns.get_mut(at)
        {
            column.validity = Some(validity);
        }
    }
}

impl<T: Value> Value for Option<T> {
    type Ref<'a> = Option<T::Ref<'a>>;
    type Column<'a> = OptionColumn<'a, T>;
    type Builder = OptionBuilder<T>;
    const NULLABLE: bool = true;
    const HAS_DEFAULT: bool = T::HAS_DEFAULT;

    fn describe(name: &str, schema: &mut Schema) {
        const { assert!(!T::NULLABLE, "an Option of an Option has no column type") };
        let at = schema.len();
        T::describe(name, schema);
        if let Some(field) = schema.get_mut(at) {
            field.nullable = true;
        }
    }
    fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
        let validity = cursor.validity(rows)?;
        Ok(OptionColumn {
            validity,
            inner: T::resolve(cursor, rows)?,
        })
    }
    #[inline(always)]
    fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
        if column.is_there(row) {
            Some(T::read(&column.inner, row))
        } else {
            None
        }
    }
    #[inline]
    fn own(value: Self::Ref<'_>) -> Self {
        value.map(T::own)
    }
    #[inline(always)]
    fn lend(&self) -> Self::Ref<'_> {
        self.as_ref().map(T::lend)
    }
    #[inline(always)]
    fn push(builder: &mut Self::Builder, value: Self::Ref<'_>) {
        builder.push(value);
    }
    fn past(place: u32, out: &mut Vec<Past>) {
        T::past(place, out);
    }
    fn encode(value: Self::Ref<'_>, out: &mut Vec<u8>) {
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            T::encode(value, out);
        }
    }
}
