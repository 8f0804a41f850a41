//! What is kept of a key's windows, as records: so the host knows their schema, whatever types the user's own parts have.
//!
//! `derive(Record)` makes no records with type parameters; the macro here makes the few that are needed.

use std::fmt;
use std::marker::PhantomData;

use super::Window;
use crate::column::Cursor;
use crate::error::Result;
use crate::record::{Emit, Record};
use crate::time::Timestamp;
use crate::value::{
    Column, ColumnBuilder, Item, Past, Row, Schema, Value, nodes, record_column, record_node,
};

/// A record with type parameters: the owned form, the borrowed form, columns, and columns under construction.
macro_rules! generic_record {
    ($(#[$doc:meta])* $name:ident, $row:ident, $columns:ident, $builder:ident, [$($p:ident),*], $count:literal,
     { $first:ident as $first_name:literal : $first_type:ty $(, $field:ident as $field_name:literal : $type:ty)* $(,)? }) => {
        $(#[$doc])*
        pub struct $name<$($p: Value),*> {
            pub(crate) $first: $first_type,
            $(pub(crate) $field: $type,)*
            pub(crate) of: PhantomData<fn() -> ($($p,)*)>,
        }

        #[doc = concat!("A row of [`", stringify!($name), "`], borrowed.")]
        pub struct $row<'a, $($p: Value),*> {
            pub(crate) $first: <$first_type as Value>::Ref<'a>,
            $(pub(crate) $field: <$type as Value>::Ref<'a>,)*
        }

        impl<$($p: Value),*> Clone for $row<'_, $($p),*> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($p: Value),*> Copy for $row<'_, $($p),*> {}
        impl<$($p: Value),*> PartialEq for $row<'_, $($p),*> {
            fn eq(&self, other: &Self) -> bool {
                self.$first == other.$first $(&& self.$field == other.$field)*
            }
        }
        impl<$($p: Value),*> fmt::Debug for $row<'_, $($p),*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field($first_name, &self.$first)
                    $(.field($field_name, &self.$field))*
                    .finish()
            }
        }

        #[doc = concat!("Columns of [`", stringify!($name), "`].")]
        pub struct $columns<'a, $($p: Value),*> {
            $first: <$first_type as Value>::Column<'a>,
            $($field: <$type as Value>::Column<'a>,)*
        }
        impl<$($p: Value),*> Clone for $columns<'_, $($p),*> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($p: Value),*> Copy for $columns<'_, $($p),*> {}

        #[doc = concat!("Columns of [`", stringify!($name), "`] under construction.")]
        pub struct $builder<$($p: Value),*> {
            $first: <$first_type as Value>::Builder,
            $($field: <$type as Value>::Builder,)*
        }
        impl<$($p: Value),*> Default for $builder<$($p),*> {
            fn default() -> Self {
                Self {
                    $first: Default::default(),
                    $($field: Default::default(),)*
                }
            }
        }

        impl<$($p: Value),*> Value for $name<$($p),*> {
            type Ref<'a> = $row<'a, $($p),*>;
            type Column<'a> = $columns<'a, $($p),*>;
            type Builder = $builder<$($p),*>;
            const HAS_DEFAULT: bool =
                <$first_type as Value>::HAS_DEFAULT $(|| <$type as Value>::HAS_DEFAULT)*;

            fn describe(name: &str, schema: &mut Schema) {
                schema.push(record_node(name, $count));
                schema.extend(Self::row_schema());
            }
            fn resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
                cursor.skip();
                Self::row_resolve(cursor, rows)
            }
            #[inline]
            fn read<'a>(column: &Self::Column<'a>, row: Row) -> Self::Ref<'a> {
                $row {
                    $first: <$first_type as Value>::read(&column.$first, row),
                    $($field: <$type as Value>::read(&column.$field, row),)*
                }
            }
            #[inline]
            fn own(value: Self::Ref<'_>) -> Self {
                Self {
                    $first: <$first_type as Value>::own(value.$first),
                    $($field: <$type as Value>::own(value.$field),)*
                    of: PhantomData,
                }
            }
            #[inline]
            fn lend(&self) -> Self::Ref<'_> {
                $row {
                    $first: <$first_type as Value>::lend(&self.$first),
                    $($field: <$type as Value>::lend(&self.$field),)*
                }
            }
            #[inline]
            fn push(builder: &mut Self::Builder, value: Self::Ref<'_>) {
                <$first_type as Value>::push(&mut builder.$first, value.$first);
                $(<$type as Value>::push(&mut builder.$field, value.$field);)*
            }
            fn encode(value: Self::Ref<'_>, out: &mut Vec<u8>) {
                <$first_type as Value>::encode(value.$first, out);
                $(<$type as Value>::encode(value.$field, out);)*
            }
            fn past(place: u32, out: &mut Vec<Past>) {
                Self::row_past(place + 1, out);
            }
            fn row_past(mut place: u32, out: &mut Vec<Past>) {
                <$first_type as Value>::past(place, out);
                place += nodes::<$first_type>();
                $(
                    <$type as Value>::past(place, out);
                    place += nodes::<$type>();
                )*
                let _ = place;
            }
            fn row_schema() -> Schema {
                let mut schema = Schema::new();
                <$first_type as Value>::describe($first_name, &mut schema);
                $(<$type as Value>::describe($field_name, &mut schema);)*
                schema
            }
            fn row_resolve<'a>(cursor: &mut Cursor<'a>, rows: usize) -> Result<Self::Column<'a>> {
                Ok($columns {
                    $first: <$first_type as Value>::resolve(cursor, rows)?,
                    $($field: <$type as Value>::resolve(cursor, rows)?,)*
                })
            }
            fn row_finish(builder: &mut Self::Builder, columns: &mut Vec<Column>) {
                builder.$first.finish(columns);
                $(builder.$field.finish(columns);)*
            }
        }

        impl<$($p: Value),*> ColumnBuilder for $builder<$($p),*> {
            fn len(&self) -> usize {
                self.$first.len()
            }
            fn bytes(&self) -> usize {
                self.$first.bytes() $(+ self.$field.bytes())*
            }
            fn reserve(&mut self, rows: usize) {
                self.$first.reserve(rows);
                $(self.$field.reserve(rows);)*
            }
            fn push_default(&mut self) {
                self.$first.push_default();
                $(self.$field.push_default();)*
            }
            fn finish(&mut self, columns: &mut Vec<Column>) {
                columns.push(record_column());
                <$name<$($p),*> as Value>::row_finish(self, columns);
            }
            fn is_even(&self) -> bool {
                let rows = self.len();
                self.$first.is_even() $(&& self.$field.len() == rows && self.$field.is_even())*
            }
        }

        impl<$($p: Value),*> Item for $name<$($p),*> {}
    };
}

generic_record! {
    /// What is kept of a window of a key: `S` of its trigger, `A` of its rows, `P` of the function.
    Pane, PaneRef, PaneColumns, PaneBuilder, [S, A, P], 7, {
        start as "start": Timestamp,
        end as "end": Timestamp,
        home_start as "state_start": Timestamp,
        home_end as "state_end": Timestamp,
        trigger as "trigger": Option<S>,
        contents as "accumulator": Option<A>,
        own as "own": Option<P>,
    }
}

impl<S: Value, A: Value, P: Value> Pane<S, A, P> {
    /// A window of which nothing is known yet; its elements stand under itself.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            start: window.start,
            end: window.end,
            home_start: window.start,
            home_end: window.end,
            trigger: None,
            contents: None,
            own: None,
            of: PhantomData,
        }
    }

    pub(crate) fn window(&self) -> Window {
        Window {
            start: self.start,
            end: self.end,
        }
    }

    /// The window under which its elements stand: the first of those that were merged into it.
    pub(crate) fn home(&self) -> Window {
        Window {
            start: self.home_start,
            end: self.home_end,
        }
    }

    pub(crate) fn set_home(&mut self, home: Window) {
        (self.home_start, self.home_end) = (home.start, home.end);
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.trigger.is_none() && self.contents.is_none() && self.own.is_none()
    }
}

generic_record! {
    /// A timer of a window.
    Armed, ArmedRef, ArmedColumns, ArmedBuilder, [], 3, {
        time as "time": Timestamp,
        start as "start": Timestamp,
        end as "end": Timestamp,
    }
}

generic_record! {
    /// All windows of a key with their timers, those as a heap.
    KeyWindows, KeyWindowsRef, KeyWindowsColumns, KeyWindowsBuilder, [S, A, P], 3, {
        panes as "windows": Vec<Pane<S, A, P>>,
        event as "event_timers": Vec<Armed>,
        processing as "processing_timers": Vec<Armed>,
    }
}

impl<S: Value, A: Value, P: Value> Default for KeyWindows<S, A, P> {
    fn default() -> Self {
        Self {
            panes: Vec::new(),
            event: Vec::new(),
            processing: Vec::new(),
            of: PhantomData,
        }
    }
}

impl<S: Value, A: Value, P: Value> KeyWindows<S, A, P> {
    pub(crate) fn is_empty(&self) -> bool {
        self.panes.is_empty() && self.event.is_empty() && self.processing.is_empty()
    }
}

generic_record! {
    /// A row that a window keeps, with its event time.
    Element, ElementRef, ElementColumns, ElementBuilder, [V], 2, {
        time as "time": Option<Timestamp>,
        row as "row": V,
    }
}

impl<V: Value> Element<V> {
    pub(crate) fn new(time: Option<Timestamp>, row: V) -> Self {
        Self {
            time,
            row,
            of: PhantomData,
        }
    }

    /// Its event time; none where the stream has none.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The row.
    #[must_use]
    pub fn row(&self) -> V::Ref<'_> {
        self.row.lend()
    }
}

/// A copy of a value.
pub(crate) fn copy<T: Value>(value: &T) -> T {
    T::own(value.lend())
}

generic_record! {
    /// A window, as a map key.
    WindowKey, WindowKeyRef, WindowKeyColumns, WindowKeyBuilder, [], 2, {
        start as "start": Timestamp,
        end as "end": Timestamp,
    }
}

generic_record! {
    /// A row of one of two streams.
    Tagged, TaggedRef, TaggedColumns, TaggedBuilder, [A, B], 2, {
        left as "__left": Option<A>,
        right as "__right": Option<B>,
    }
}

impl<A: Record, B: Record> Record for Tagged<A, B> {}

impl<'a, A: Value, B: Value> TaggedRef<'a, A, B> {
    /// The row, if it is of the first stream.
    #[must_use]
    pub fn left(self) -> Option<A::Ref<'a>> {
        self.left
    }

    /// The row, if it is of the second stream.
    #[must_use]
    pub fn right(self) -> Option<B::Ref<'a>> {
        self.right
    }
}

/// A borrowed row, to be emitted.
pub(crate) struct Lent<'a, V: Value>(pub(crate) V::Ref<'a>);

impl<V: Value> Emit<V> for Lent<'_, V> {
    fn push_to(self, builder: &mut V::Builder) {
        V::push(builder, self.0);
    }
}
