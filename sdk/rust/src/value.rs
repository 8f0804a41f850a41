//! What a field of a record can be: how it is described, read from a column, and written into one.
//!
//! A value has a borrowed form ([`Value::Ref`]), that is read without allocating, a column and a column under
//! construction. Users meet this trait through `#[derive(Record)]` alone.

use std::fmt::Debug;

use crate::bindings::pelton::job::types::{DataType, Field as WitField};
use crate::column::{Bits, Buffer, BytesColumn, Fixed, Plain, TextColumn};
use crate::error::Result;
use crate::time::{Date, Decimal, Timestamp};

pub(crate) mod encode;
mod list;
mod option;
mod pair;

pub use crate::bindings::exports::pelton::job::graph::Past;
pub use crate::bindings::pelton::job::types::Column;
pub use crate::column::{Cursor, Row};
pub use list::{Item, ListBuilder, ListColumn, ListIter, ListRef};
pub use option::{OptionBuilder, OptionColumn};
pub use pair::{PairBuilder, TripleBuilder};

/// The fields of a record in preorder, as they cross the boundary.
pub type Schema = Vec<WitField>;

/// A value that a field can hold.
pub trait Value: Sized + 'static {
    /// Its borrowed form.
    type Ref<'a>: Copy + Debug + PartialEq;
    /// A column of it, as the host ships it.
    type Column<'a>: Copy;
    /// A column of it under construction.
    type Builder: ColumnBuilder;
    /// Whether it can be null.
    const NULLABLE: bool = false;
    /// Whether a field of it has a default for values of former versions.
    const HAS_DEFAULT: bool = false;

    /// Appends its nodes to a schema.
    fn describe(name: &str, schema: &mut Schema);
    /// Finds its columns. Errors: buffers too short for `rows`.
    fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>>;
    /// Reads a row.
    fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a>;
    /// The owned form.
    fn own(value: Self::Ref<'_>) -> Self;
    /// The borrowed form.
    fn lend(&self) -> Self::Ref<'_>;
    /// Appends a row.
    fn push(builder: &mut Self::Builder, value: Self::Ref<'_>);
    /// Appends the canonical encoding, by which map keys are told apart and ordered.
    fn encode(value: Self::Ref<'_>, out: &mut Vec<u8>);

    /// The schema of rows of it: a record's fields, or the one field `value`.
    fn row_schema() -> Schema {
        let mut schema = Vec::new();
        Self::describe("value", &mut schema);
        schema
    }
    /// Appends what its fields were in former versions of the job; `place` is that of its first node in the schema.
    fn past(place: u32, out: &mut Vec<Past>) {
        let _ = (place, out);
    }
    /// As `past`, in the schema of rows of it.
    fn row_past(place: u32, out: &mut Vec<Past>) {
        Self::past(place, out);
    }
    /// Finds the columns of rows of it.
    fn row_resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
        Self::resolve(cursor, rows)
    }
    /// Appends the columns of rows of it.
    fn row_finish(builder: &mut Self::Builder, columns: &mut Vec<Column>) {
        builder.finish(columns);
    }
}

/// A column under construction.
pub trait ColumnBuilder: Default + 'static {
    /// Rows so far.
    fn len(&self) -> usize;
    /// Bytes so far.
    fn bytes(&self) -> usize;
    /// Makes room for so many rows more.
    fn reserve(&mut self, rows: usize);
    /// Appends a row that nobody reads, below a null.
    fn push_default(&mut self);
    /// Appends the finished columns in preorder and starts anew.
    fn finish(&mut self, columns: &mut Vec<Column>);
    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether all columns have as many rows.
    fn is_even(&self) -> bool {
        true
    }
}

/// Columns for which a list of them has room from the start.
pub(crate) const COLUMNS: usize = 8;

pub(crate) fn node(name: &str, data_type: DataType) -> WitField {
    WitField {
        name: name.to_owned(),
        data_type,
        nullable: false,
    }
}

/// A column of values of a fixed width under construction.
#[derive(Debug)]
pub struct FixedBuilder<T> {
    values: Buffer,
    of: std::marker::PhantomData<T>,
}

impl<T> Default for FixedBuilder<T> {
    fn default() -> Self {
        Self {
            values: Buffer::default(),
            of: std::marker::PhantomData,
        }
    }
}

impl<T: Plain> FixedBuilder<T> {
    /// Appends a value.
    #[inline(always)]
    pub fn push(&mut self, value: T) {
        self.values.push(value);
    }
}

impl<T: Plain> Extend<T> for FixedBuilder<T> {
    #[inline]
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        let values = values.into_iter();
        self.reserve(values.size_hint().0);
        values.for_each(|v| self.values.push(v));
    }
}

impl<T: Plain> ColumnBuilder for FixedBuilder<T> {
    fn len(&self) -> usize {
        self.values.len() / size_of::<T>()
    }
    fn bytes(&self) -> usize {
        self.values.len()
    }
    fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows * size_of::<T>());
    }
    #[inline]
    fn push_default(&mut self) {
        self.values.push(T::default());
    }
    fn finish(&mut self, columns: &mut Vec<Column>) {
        columns.push(Column {
            validity: None,
            offsets: None,
            values: Some(self.values.take()),
        });
    }
}

macro_rules! fixed {
    ($($t:ty => $kind:expr, [$($generics:tt)*];)*) => { $(
        impl<$($generics)*> Value for $t {
            type Ref<'a> = $t;
            type Column<'a> = Fixed<'a, $t>;
            type Builder = FixedBuilder<$t>;

            fn describe(name: &str, schema: &mut Schema) {
                schema.push(node(name, $kind));
            }
            fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
                cursor.fixed(rows)
            }
            #[inline(always)]
            fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
                column.read(row)
            }
            #[inline(always)]
            fn own(value: Self) -> Self {
                value
            }
            #[inline(always)]
            fn lend(&self) -> Self {
                *self
            }
            #[inline(always)]
            fn push(builder: &mut Self::Builder, value: Self) {
                builder.push(value);
            }
            #[inline(always)]
            fn encode(value: Self, out: &mut Vec<u8>) {
                encode::Encode::encode(value, out);
            }
        }
    )* };
}
fixed! {
    i8 => DataType::Int8, [];
    i16 => DataType::Int16, [];
    i32 => DataType::Int32, [];
    i64 => DataType::Int64, [];
    u8 => DataType::Uint8, [];
    u16 => DataType::Uint16, [];
    u32 => DataType::Uint32, [];
    u64 => DataType::Uint64, [];
    f32 => DataType::Float32, [];
    f64 => DataType::Float64, [];
    Timestamp => DataType::Timestamp, [];
    Date => DataType::Date, [];
    Decimal<SCALE> => DataType::Decimal(SCALE), [const SCALE: u8];
}

/// A column of bits under construction.
#[derive(Default, Debug)]
pub struct BitsBuilder {
    bytes: Buffer,
    len: usize,
}

impl BitsBuilder {
    /// Appends a bit.
    #[inline]
    pub fn push(&mut self, value: bool) {
        let bit = u8::from(value) << (self.len % 8);
        if self.len.is_multiple_of(8) {
            self.bytes.push(bit);
        } else if let Some(last) = self.bytes.last_mut() {
            *last |= bit;
        }
        self.len += 1;
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.len = 0;
        self.bytes.take()
    }
}

impl Extend<bool> for BitsBuilder {
    fn extend<I: IntoIterator<Item = bool>>(&mut self, values: I) {
        values.into_iter().for_each(|v| self.push(v));
    }
}

impl ColumnBuilder for BitsBuilder {
    fn len(&self) -> usize {
        self.len
    }
    fn bytes(&self) -> usize {
        self.bytes.len()
    }
    fn reserve(&mut self, rows: usize) {
        self.bytes.reserve(rows.div_ceil(8));
    }
    #[inline]
    fn push_default(&mut self) {
        self.push(false);
    }
    fn finish(&mut self, columns: &mut Vec<Column>) {
        columns.push(Column {
            validity: None,
            offsets: None,
            values: Some(self.take()),
        });
    }
}

impl Value for bool {
    type Ref<'a> = bool;
    type Column<'a> = Bits<'a>;
    type Builder = BitsBuilder;

    fn describe(name: &str, schema: &mut Schema) {
        schema.push(node(name, DataType::Boolean));
    }
    fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
        cursor.bits(rows)
    }
    #[inline(always)]
    fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
        column.read(row)
    }
    #[inline(always)]
    fn own(value: bool) -> bool {
        value
    }
    #[inline(always)]
    fn lend(&self) -> bool {
        *self
    }
    #[inline(always)]
    fn push(builder: &mut BitsBuilder, value: bool) {
        builder.push(value);
    }
    fn encode(value: bool, out: &mut Vec<u8>) {
        out.push(u8::from(value));
    }
}

/// A column of text or bytes under construction.
#[derive(Default, Debug)]
pub struct BytesBuilder {
    offsets: OffsetsBuilder,
    data: Buffer,
}

impl BytesBuilder {
    /// Appends a value.
    #[inline(always)]
    pub fn push(&mut self, value: impl AsRef<[u8]>) {
        self.data.extend(value.as_ref());
        self.offsets.push(self.data.len());
    }
}

impl ColumnBuilder for BytesBuilder {
    fn len(&self) -> usize {
        self.offsets.len()
    }
    fn bytes(&self) -> usize {
        self.offsets.bytes() + self.data.len()
    }
    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
    }
    #[inline]
    fn push_default(&mut self) {
        self.offsets.push(self.data.len());
    }
    fn finish(&mut self, columns: &mut Vec<Column>) {
        let offsets = Some(self.offsets.take());
        columns.push(Column {
            validity: None,
            offsets,
            values: Some(self.data.take()),
        });
    }
}

/// Offsets under construction: the first is 0.
#[derive(Default, Debug)]
pub(crate) struct OffsetsBuilder(Buffer);

impl OffsetsBuilder {
    #[inline(always)]
    pub(crate) fn push(&mut self, end: usize) {
        if self.0.is_empty() {
            self.0.push(0u32);
        }
        self.0.push(end as u32);
    }

    pub(crate) fn len(&self) -> usize {
        (self.0.len() / 4).saturating_sub(1)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn reserve(&mut self, rows: usize) {
        self.0.reserve((rows + 1) * 4);
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(0u32);
        }
        self.0.take()
    }
}

/// A column of text under construction.
#[derive(Default, Debug)]
pub struct TextBuilder(BytesBuilder);

impl TextBuilder {
    /// Appends a value.
    #[inline(always)]
    pub fn push(&mut self, value: impl AsRef<str>) {
        self.0.push(value.as_ref());
    }
}

impl ColumnBuilder for TextBuilder {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
    fn reserve(&mut self, rows: usize) {
        self.0.reserve(rows);
    }
    #[inline]
    fn push_default(&mut self) {
        self.0.push_default();
    }
    fn finish(&mut self, columns: &mut Vec<Column>) {
        self.0.finish(columns);
    }
}

macro_rules! varying {
    ($owned:ty, $borrowed:ty, $column:ident, $builder:ty, $kind:expr, $resolve:ident) => {
        impl Value for $owned {
            type Ref<'a> = &'a $borrowed;
            type Column<'a> = $column<'a>;
            type Builder = $builder;

            fn describe(name: &str, schema: &mut Schema) {
                schema.push(node(name, $kind));
            }
            fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
                cursor.$resolve(rows)
            }
            #[inline(always)]
            fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
                column.read(row)
            }
            #[inline]
            fn own(value: &$borrowed) -> Self {
                value.to_owned()
            }
            #[inline(always)]
            fn lend(&self) -> &$borrowed {
                self
            }
            #[inline(always)]
            fn push(builder: &mut $builder, value: &$borrowed) {
                builder.push(value);
            }
            fn encode(value: &$borrowed, out: &mut Vec<u8>) {
                encode::bytes(value.as_ref(), out);
            }
        }
    };
}
varying!(String, str, TextColumn, TextBuilder, DataType::Utf8, text);
varying!(
    Vec<u8>,
    [u8],
    BytesColumn,
    BytesBuilder,
    DataType::Bytes,
    bytes
);

#[doc(hidden)]
#[must_use]
pub fn record_node(name: &str, fields: u32) -> WitField {
    node(name, DataType::Nested(fields))
}

#[doc(hidden)]
#[must_use]
pub fn record_column() -> Column {
    Column {
        validity: None,
        offsets: None,
        values: None,
    }
}

/// How many nodes of a schema a value has.
#[doc(hidden)]
#[must_use]
pub fn nodes<T: Value>() -> u32 {
    let mut schema = Schema::new();
    T::describe("", &mut schema);
    schema.len() as u32
}

#[doc(hidden)]
pub fn field_past<T: Value>(place: u32, names: &[&str], default: Option<T>, out: &mut Vec<Past>) {
    let encoded = |value: T| {
        let mut bytes = Vec::new();
        T::encode(value.lend(), &mut bytes);
        bytes
    };
    out.push(Past {
        field: place,
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        default: default.map(encoded),
        tag: false,
    });
}

#[doc(hidden)]
pub fn tag_past(place: u32, out: &mut Vec<Past>) {
    out.push(Past {
        field: place,
        names: Vec::new(),
        default: None,
        tag: true,
    });
}

#[doc(hidden)]
#[cold]
pub fn unknown_tag(field: &str, tag: i64) -> ! {
    panic!("field '{field}' is {tag}, and no variant has that tag")
}

/// How many nodes the first field of these has, itself included.
pub(crate) fn width(schema: &[WitField]) -> usize {
    match schema.first().map(|f| f.data_type) {
        None => 0,
        Some(DataType::Sequence) => 1 + width(schema.get(1..).unwrap_or(&[])),
        Some(DataType::Nested(fields)) => {
            let mut at = 1;
            for _ in 0..fields {
                at += width(schema.get(at..).unwrap_or(&[]));
            }
            at
        }
        Some(_) => 1,
    }
}

/// The outermost fields, each with its nodes, and where it begins.
pub(crate) fn top_fields(schema: &[WitField]) -> impl Iterator<Item = (usize, &[WitField])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = schema.get(at..)?;
        let nodes = rest.get(..width(rest))?;
        let start = at;
        at += nodes.len();
        (!nodes.is_empty()).then_some((start, nodes))
    })
}

/// The outermost field of this name.
pub(crate) fn top_field<'a>(schema: &'a [WitField], name: &str) -> Option<(usize, &'a [WitField])> {
    top_fields(schema).find(|(_, nodes)| nodes.first().is_some_and(|f| f.name == name))
}
