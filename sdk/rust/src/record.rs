//! Records: the rows of streams. `#[derive(Record)]` makes all that is needed.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use crate::value::{Schema, Value};

/// A row of a stream, by `#[derive(Record)]`: its fields by name and type.
///
/// The derive also makes, for `struct Bid { price: i64, url: String }`:
/// - `BidRef<'a>`: the borrowed row that functions get, with fields `price: i64` and `url: &'a str`,
/// - `Bid::PRICE` and `Bid::URL`: the fields by name, for `key_by` and the host's own operators,
/// - `BidColumns` and `BidBuilder`: columns, for functions that work on a batch at once.
pub trait Record: Value {
    /// Its fields in preorder.
    #[must_use]
    fn schema() -> Schema {
        Self::row_schema()
    }
}

/// The borrowed row of a record.
pub type RefOf<'a, T> = <T as Value>::Ref<'a>;

/// A field of a record, by name.
pub struct Field<R, T> {
    name: &'static str,
    /// An [`Access`] to it, erased so that a field can be named where nothing is known of its type.
    access: Option<&'static (dyn Any + Send + Sync)>,
    of: PhantomData<fn() -> (R, T)>,
}

/// Reads and writes a field of a row.
#[doc(hidden)]
pub struct Access<R: Value, T: Value> {
    /// The second argument only ties the lifetimes together.
    pub read: for<'a> fn(RefOf<'a, R>, PhantomData<&'a ()>) -> RefOf<'a, T>,
    pub write: fn(&mut R, T),
}

impl<R: Value, T: Value> Access<R, T> {
    #[inline]
    pub(crate) fn get<'a>(&self, row: RefOf<'a, R>) -> RefOf<'a, T> {
        (self.read)(row, PhantomData)
    }

    #[inline]
    pub(crate) fn set(&self, row: &mut R, value: T) {
        (self.write)(row, value);
    }
}

impl<R: Value, T: Value> Clone for Access<R, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: Value, T: Value> Copy for Access<R, T> {}

impl<R, T> Field<R, T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            access: None,
            of: PhantomData,
        }
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn with(name: &'static str, access: &'static (dyn Any + Send + Sync)) -> Self {
        Self {
            name,
            access: Some(access),
            of: PhantomData,
        }
    }

    /// How it is read and written; none for what an enum makes of its variants.
    pub(crate) fn access(&self) -> Option<Access<R, T>>
    where
        R: Value,
        T: Value,
    {
        self.access?.downcast_ref::<Access<R, T>>().copied()
    }

    /// Its name in the schema.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<R, T> Clone for Field<R, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R, T> Copy for Field<R, T> {}

impl<R, T> fmt::Debug for Field<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What can be emitted as a row of `T`: a `T`, a `&T` or a `TRef`.
pub trait Emit<T: Value> {
    /// Appends the row.
    fn push_to(self, builder: &mut T::Builder);
}

/// A column that is a nested record which may be null.
pub trait Nested {
    /// The record.
    type Record: Record;
}

impl<R: Record> Nested for Option<R> {
    type Record = R;
}
