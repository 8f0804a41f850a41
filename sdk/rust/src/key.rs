//! Keys: what rows are grouped by. One field, or a tuple of up to four.

use crate::bindings::pelton::job::types::Column;
use crate::column::{Cursor, Row};
use crate::error::Result;
use crate::record::Field;
use crate::time::{Date, Timestamp};
use crate::value::{ColumnBuilder, Schema, Value};

/// A key: an integer, a bool, a float, text, bytes, a time, or a tuple of such.
pub trait Key: 'static {
    /// Its borrowed form.
    type Ref<'a>: Copy + PartialEq + std::fmt::Debug;
    #[doc(hidden)]
    type Columns<'a>: Copy;
    #[doc(hidden)]
    type Builder: Default;
    #[doc(hidden)]
    fn schema(name: &str) -> Schema;
    #[doc(hidden)]
    fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Columns<'a>>;
    #[doc(hidden)]
    fn read<'a>(columns: &Self::Columns<'a>, row: Row) -> Self::Ref<'a>;
    #[doc(hidden)]
    fn push_key(&self, builder: &mut Self::Builder);
    #[doc(hidden)]
    fn finish(builder: &mut Self::Builder, columns: &mut Vec<Column>);
}

/// The key of rows without one.
impl Key for () {
    type Ref<'a> = ();
    type Columns<'a> = ();
    type Builder = ();
    fn schema(_: &str) -> Schema {
        Schema::new()
    }
    fn resolve<'a>(_: &mut Cursor<'a>, _: usize) -> Result<()> {
        Ok(())
    }
    #[inline(always)]
    fn read<'a>(_: &Self::Columns<'a>, _: Row) -> Self::Ref<'a> {}
    fn push_key(&self, (): &mut ()) {}
    fn finish((): &mut (), _: &mut Vec<Column>) {}
}

/// A value that alone can be a key.
pub trait KeyValue: Value + Key {}

macro_rules! key {
    ($($t:ty),*) => { $(
        impl Key for $t {
            type Ref<'a> = <$t as Value>::Ref<'a>;
            type Columns<'a> = <$t as Value>::Column<'a>;
            type Builder = <$t as Value>::Builder;
            fn schema(name: &str) -> Schema {
                let mut schema = Schema::new();
                <$t>::describe(name, &mut schema);
                schema
            }
            fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Columns<'a>> {
                <$t as Value>::resolve(cursor, rows)
            }
            #[inline(always)]
            fn read<'a>(columns: &Self::Columns<'a>, row: Row) -> Self::Ref<'a> {
                <$t as Value>::read(columns, row)
            }
            #[inline(always)]
            fn push_key(&self, builder: &mut Self::Builder) {
                <$t as Value>::push(builder, self.lend());
            }
            fn finish(builder: &mut Self::Builder, columns: &mut Vec<Column>) {
                builder.finish(columns);
            }
        }
        impl KeyValue for $t {}
    )* };
}
key!(
    bool,
    i8,
    i16,
    i32,
    i64,
    u8,
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

macro_rules! tuple {
    ($($part:ident $n:tt),*) => {
        impl<$($part: KeyValue),*> Key for ($($part,)*) {
            type Ref<'a> = ($(<$part as Value>::Ref<'a>,)*);
            type Columns<'a> = ($(<$part as Value>::Column<'a>,)*);
            type Builder = ($(<$part as Value>::Builder,)*);
            fn schema(name: &str) -> Schema {
                let mut schema = Schema::new();
                $(<$part as Value>::describe(&format!("{name}_{}", $n), &mut schema);)*
                schema
            }
            fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Columns<'a>> {
                Ok(($(<$part as Value>::resolve(cursor, rows)?,)*))
            }
            #[inline(always)]
            fn read<'a>(columns: &Self::Columns<'a>, row: Row) -> Self::Ref<'a> {
                ($(<$part as Value>::read(&columns.$n, row),)*)
            }
            #[inline(always)]
            fn push_key(&self, builder: &mut Self::Builder) {
                $(<$part as Value>::push(&mut builder.$n, self.$n.lend());)*
            }
            fn finish(builder: &mut Self::Builder, columns: &mut Vec<Column>) {
                $(builder.$n.finish(columns);)*
            }
        }

        impl<R, $($part: KeyValue),*> KeyFields<R> for ($(Field<R, $part>,)*) {
            type Key = ($($part,)*);
            fn names(&self) -> Vec<String> {
                vec![$(self.$n.name().to_owned()),*]
            }
        }
    };
}
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

/// Fields of `R` that make a key: one, or a tuple of them.
pub trait KeyFields<R> {
    /// What they hold.
    type Key: Key;
    /// Their names.
    fn names(&self) -> Vec<String>;
}

impl<R, A: KeyValue> KeyFields<R> for Field<R, A> {
    type Key = A;
    fn names(&self) -> Vec<String> {
        vec![self.name().to_owned()]
    }
}
