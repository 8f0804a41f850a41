//! Two or three values as one, such as a row and its time in a state: a record with the fields `first`, `second`, `third`.

use crate::bindings::pelton::job::types::Column;
use crate::column::{Cursor, Row};
use crate::error::Result;
use crate::value::{ColumnBuilder, Item, Past, Schema, Value, nodes, record_column, record_node};

macro_rules! tuple {
    ($builder:ident, $count:literal: $($part:ident $n:tt $name:literal),*) => {
        /// Columns of values side by side, under construction.
        #[derive(Debug)]
        pub struct $builder<$($part: Value),*>($($part::Builder),*);

        impl<$($part: Value),*> Default for $builder<$($part),*> {
            fn default() -> Self {
                Self($($part::Builder::default()),*)
            }
        }

        impl<$($part: Value),*> ColumnBuilder for $builder<$($part),*> {
            fn len(&self) -> usize {
                self.0.len()
            }
            #[inline]
            fn bytes(&self) -> usize {
                0 $(+ self.$n.bytes())*
            }
            fn reserve(&mut self, rows: usize) {
                $(self.$n.reserve(rows);)*
            }
            fn push_default(&mut self) {
                $(self.$n.push_default();)*
            }
            fn finish(&mut self, columns: &mut Vec<Column>) {
                columns.push(record_column());
                $(self.$n.finish(columns);)*
            }
            fn is_even(&self) -> bool {
                let rows = self.len();
                true $(&& self.$n.len() == rows && self.$n.is_even())*
            }
        }

        impl<$($part: Value),*> Value for ($($part,)*) {
            type Ref<'a> = ($($part::Ref<'a>,)*);
            type Column<'a> = ($($part::Column<'a>,)*);
            type Builder = $builder<$($part),*>;
            const HAS_DEFAULT: bool = false $(|| $part::HAS_DEFAULT)*;

            fn describe(name: &str, schema: &mut Schema) {
                schema.push(record_node(name, $count));
                $($part::describe($name, schema);)*
            }
            fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
                cursor.skip();
                Self::row_resolve(cursor, rows)
            }
            #[inline(always)]
            fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
                ($($part::read(&column.$n, row),)*)
            }
            #[inline]
            fn own(value: Self::Ref<'_>) -> Self {
                ($($part::own(value.$n),)*)
            }
            #[inline(always)]
            fn lend(&self) -> Self::Ref<'_> {
                ($(self.$n.lend(),)*)
            }
            #[inline(always)]
            fn push(builder: &mut Self::Builder, value: Self::Ref<'_>) {
                $($part::push(&mut builder.$n, value.$n);)*
            }
            fn encode(value: Self::Ref<'_>, out: &mut Vec<u8>) {
                $($part::encode(value.$n, out);)*
            }
            fn past(place: u32, out: &mut Vec<Past>) {
                Self::row_past(place + 1, out);
            }
            fn row_past(mut place: u32, out: &mut Vec<Past>) {
                $(
                    $part::past(place, out);
                    place += nodes::<$part>();
                )*
                let _ = place;
            }
            fn row_schema() -> Schema {
                let mut schema = Schema::new();
                $($part::describe($name, &mut schema);)*
                schema
            }
            fn row_resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
                Ok(($($part::resolve(cursor, rows)?,)*))
            }
            fn row_finish(builder: &mut Self::Builder, columns: &mut Vec<Column>) {
                $(builder.$n.finish(columns);)*
            }
        }

        impl<$($part: Value),*> Item for ($($part,)*) {}
    };
}
tuple!(PairBuilder, 2: A 0 "first", B 1 "second");
tuple!(TripleBuilder, 3: A 0 "first", B 1 "second", C 2 "third");
