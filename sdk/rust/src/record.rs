//! Records: the rows of streams. `#[derive(Record)]` makes all that is needed.

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
    of: PhantomData<fn() -> (R, T)>,
}

impl<R, T> Field<R, T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            of: PhantomData,
        }
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
