//! Event-time windows over keyed streams, as the host makes them.

use std::marker::PhantomData;

use crate::bindings::exports::pelton::job::graph::{
    Assigner, Body, Window as WitWindow, WindowFunction, WindowValue,
};
use crate::draft::{self, End, Make, Shared};
use crate::function::aggregate::{Aggregate, AggregateFunction, Windowed};
use crate::function::{Function, Open, Port, SideTag};
use crate::key::Key;
use crate::record::{Field, Record};
use crate::stream::{KeyedStream, Stream};
use crate::time::Duration;
use crate::value::{Schema, Value, top_field, top_fields};

mod two_phase;

/// How rows are put into windows.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Of a session: the gap.
    size: i64,
    slide: Option<i64>,
    offset: i64,
    session: bool,
}

/// Windows of this size, one after the other, aligned to the epoch.
#[must_use]
pub fn tumbling(size: Duration) -> Windows {
    Windows {
        size: size.millis(),
        slide: None,
        offset: 0,
        session: false,
    }
}

/// Windows of this size, one starting each `slide`, aligned to the epoch.
#[must_use]
pub fn sliding(size: Duration, slide: Duration) -> Windows {
    Windows {
        size: size.millis(),
        slide: Some(slide.millis()),
        offset: 0,
        session: false,
    }
}

/// Windows that grow with the rows of their key, and end when no row has come for `gap`: rows that are at most `gap`
/// apart are in one. They have no offset.
#[must_use]
pub fn session(gap: Duration) -> Windows {
    Windows {
        size: gap.millis(),
        slide: None,
        offset: 0,
        session: true,
    }
}

impl Windows {
    /// Starts all windows later by this, or earlier.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.offset = offset.millis();
        self
    }

    pub(crate) fn is_session(self) -> bool {
        self.session
    }

    pub(crate) fn assigner(self) -> Assigner {
        match self.slide {
            _ if self.session => Assigner::Session(self.size),
            None => Assigner::Tumbling((self.size, self.offset)),
            Some(slide) => Assigner::Sliding((self.size, slide, self.offset)),
        }
    }
}

/// Rows of a key in windows.
pub struct WindowedStream<T: Record, V: Record, K: Key> {
    pub(crate) draft: Shared,
    pub(crate) ends: Vec<End>,
    pub(crate) key: Vec<String>,
    pub(crate) windows: Windows,
    pub(crate) lateness: Duration,
    pub(crate) late: Option<Port>,
    pub(crate) two_phase: bool,
    of: PhantomData<fn() -> (T, V, K)>,
}

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// Puts the rows of each key into windows.
    #[must_use]
    pub fn window(self, windows: Windows) -> WindowedStream<T, V, K> {
        WindowedStream {
            draft: self.draft,
            ends: self.ends,
            key: self.key,
            windows,
            lateness: Duration(0),
            late: None,
            two_phase: false,
            of: PhantomData,
        }
    }
}

impl<T: Record, V: Record, K: Key> WindowedStream<T, V, K> {
    /// Each task combines the rows of a batch by key and part of a window before they are exchanged, so that a key with
    /// most of the rows does not burden one task. For tumbling and sliding windows with aggregates that merge; late rows
    /// are counted as combined, and cannot go to a side output.
    #[must_use]
    pub fn two_phase(mut self) -> Self {
        self.two_phase = true;
        self
    }

    /// Rows that are behind the watermark by up to this still count: their window fires again.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = lateness;
        self
    }

    /// Rows that are too late go to a side output: `result.side(&TAG)`. Without, they are counted and dropped.
    #[must_use]
    pub fn late_to(mut self, tag: &SideTag<T>) -> Self {
        self.late = Some(tag.port());
        self
    }

    /// The host's own aggregates, each field of `U` given once:
    /// `.columns::<Hot>("hot", |w| { w.key(Hot::AUCTION); w.count(Hot::NUM); w.end(Hot::END); })`.
    pub fn columns<U: Record>(
        self,
        name: &str,
        assign: impl FnOnce(&mut WindowColumns<T, U>),
    ) -> Stream<U> {
        let mut columns = WindowColumns {
            key: self.key.clone(),
            values: Vec::new(),
            wrong: None,
            of: PhantomData,
        };
        assign(&mut columns);
        let output = U::schema();
        let ordered =
            in_order(name, &output, columns.values).map_err(|e| columns.wrong.unwrap_or(e));
        self.native(name, ordered)
    }

    fn native<U: Record>(
        self,
        name: &str,
        values: Result<Vec<(String, WindowValue)>, String>,
    ) -> Stream<U> {
        let values = values.unwrap_or_else(|message| {
            self.draft.borrow_mut().fail(message);
            Vec::new()
        });
        if self.two_phase {
            return self.native_in_two(name, &values);
        }
        let ends = self.ends.clone();
        self.add(name, ends, |_| draft::columns(values))
    }

    fn add<U: Record>(
        self,
        name: &str,
        ends: Vec<End>,
        function: impl FnOnce(&mut draft::Draft) -> WindowFunction,
    ) -> Stream<U> {
        let mut d = self.draft.borrow_mut();
        let function = function(&mut d);
        let window = WitWindow {
            key: self.key,
            assigner: self.windows.assigner(),
            lateness_ms: self.lateness.millis().max(0) as u64,
            late_output: self.late.map(|_| 1),
            function,
        };
        let operator = d.add(name, Body::Window(window), Some(U::schema()));
        if let Some(port) = self.late {
            d.side(operator, port, T::schema());
        }
        d.connect(&ends, operator);
        if self.windows.session && self.windows.offset != 0 {
            d.fail(format!("'{name}': sessions have no offset"));
        }
        drop(d);
        Stream::of(self.draft, operator)
    }

    /// For each key and window, the sum of a field. `T` has no fields but the key's and this.
    pub fn sum<N>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        self.same_record(name, field.name(), WindowValue::Sum)
    }

    /// For each key and window, the least value of a field. `T` has no fields but the key's and this.
    pub fn min<N>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        self.same_record(name, field.name(), WindowValue::Min)
    }

    /// For each key and window, the greatest value of a field. `T` has no fields but the key's and this.
    pub fn max<N>(self, name: &str, field: Field<T, N>) -> Stream<T> {
        self.same_record(name, field.name(), WindowValue::Max)
    }

    fn same_record(self, name: &str, field: &str, value: fn(String) -> WindowValue) -> Stream<T> {
        let values = top_fields(&T::schema())
            .filter_map(|(_, nodes)| nodes.first())
            .map(|f| {
                let value = if f.name == field {
                    value(f.name.clone())
                } else if self.key.contains(&f.name) {
                    WindowValue::Key(f.name.clone())
                } else {
                    return Err(format!(
                        "'{name}': field '{}' is neither of the key nor '{field}', so that nothing says what becomes \
                         of it: use .columns(..)",
                        f.name
                    ));
                };
                Ok((f.name.clone(), value))
            })
            .collect();
        self.native(name, values)
    }

    /// For each key and window, how many rows: `U` has the key's fields, a count field, and if wanted fields
    /// `start` and `end`.
    pub fn count<U: Record>(self, name: &str, count: Field<U, impl Value>) -> Stream<U> {
        let values = top_fields(&U::schema())
            .filter_map(|(_, nodes)| nodes.first())
            .map(|f| {
                let value = match f.name.as_str() {
                    n if n == count.name() => WindowValue::Count,
                    n if self.key.iter().any(|k| k == n) => WindowValue::Key(n.to_owned()),
                    "start" => WindowValue::Start,
                    "end" => WindowValue::End,
                    n => {
                        return Err(format!(
                            "'{name}': nothing says what field '{n}' is: use .columns(..)"
                        ));
                    }
                };
                Ok((f.name.clone(), value))
            })
            .collect();
        self.native(name, values)
    }

    /// For each key and window, what the user's accumulator gives.
    pub fn aggregate<A>(self, name: &str, aggregate: A) -> Stream<A::Out>
    where
        A: Aggregate<In = V, Key = K>,
    {
        if self.two_phase {
            return self.aggregate_in_two(name, aggregate);
        }
        let make = make_aggregate(aggregate, V::schema());
        let ends = self.ends.clone();
        self.add(name, ends, |d| {
            let function = d.function(make);
            draft::aggregate(function, V::schema(), A::Acc::row_schema(), A::HAS_MERGE)
        })
    }
}

/// `view` is what the host ships of each row.
fn make_aggregate<A: Aggregate>(aggregate: A, view: Schema) -> Make {
    Box::new(move |open: &Open| {
        let function =
            Box::new(AggregateFunction::new(aggregate, open.ports())) as Box<dyn Windowed>;
        Ok(Function::Aggregate { view, function })
    })
}

/// Says what each field of a window's result is.
pub struct WindowColumns<T, U> {
    key: Vec<String>,
    values: Vec<(String, WindowValue)>,
    wrong: Option<String>,
    of: PhantomData<fn() -> (T, U)>,
}

impl<T: Record, U: Record> WindowColumns<T, U> {
    fn set<O>(&mut self, field: Field<U, O>, value: WindowValue) -> &mut Self {
        self.values.push((field.name().to_owned(), value));
        self
    }

    /// The key's field of the same name; or the only one, whatever its name.
    pub fn key<O>(&mut self, field: Field<U, O>) -> &mut Self {
        let found = match self.key.as_slice() {
            [one] => Some(one.clone()),
            many => many.iter().find(|k| *k == field.name()).cloned(),
        };
        match found {
            Some(key) => self.set(field, WindowValue::Key(key)),
            None => {
                let known = self.key.join(", ");
                self.wrong.get_or_insert(format!(
                    "the key has no field '{}', but: {known}",
                    field.name()
                ));
                self
            }
        }
    }

    /// A part of the key, by its place in the tuple.
    pub fn key_at<O>(&mut self, place: usize, field: Field<U, O>) -> &mut Self {
        match self.key.get(place).cloned() {
            Some(key) => self.set(field, WindowValue::Key(key)),
            None => {
                self.wrong
                    .get_or_insert(format!("the key has no field at place {place}"));
                self
            }
        }
    }

    /// The window's first millisecond.
    pub fn start<O>(&mut self, field: Field<U, O>) -> &mut Self {
        self.set(field, WindowValue::Start)
    }

    /// The first millisecond after the window.
    pub fn end<O>(&mut self, field: Field<U, O>) -> &mut Self {
        self.set(field, WindowValue::End)
    }

    /// How many rows.
    pub fn count<O>(&mut self, field: Field<U, O>) -> &mut Self {
        self.set(field, WindowValue::Count)
    }

    /// The sum of a field; overflow is an error.
    pub fn sum<O, I>(&mut self, field: Field<U, O>, of: Field<T, I>) -> &mut Self {
        self.set(field, WindowValue::Sum(of.name().to_owned()))
    }

    /// The least value of a field.
    pub fn min<O>(&mut self, field: Field<U, O>, of: Field<T, O>) -> &mut Self {
        self.set(field, WindowValue::Min(of.name().to_owned()))
    }

    /// The greatest value of a field.
    pub fn max<O>(&mut self, field: Field<U, O>, of: Field<T, O>) -> &mut Self {
        self.set(field, WindowValue::Max(of.name().to_owned()))
    }

    /// The average of a field; truncated where the result is an integer.
    pub fn avg<O, I>(&mut self, field: Field<U, O>, of: Field<T, I>) -> &mut Self {
        self.set(field, WindowValue::Avg(of.name().to_owned()))
    }
}

/// One value for each field of the output, in its order. Errors: a field without, or with two.
fn in_order(
    name: &str,
    output: &Schema,
    values: Vec<(String, WindowValue)>,
) -> Result<Vec<(String, WindowValue)>, String> {
    if let Some((field, _)) = values.iter().find(|(f, _)| top_field(output, f).is_none()) {
        return Err(format!("'{name}': its output has no field '{field}'"));
    }
    top_fields(output)
        .filter_map(|(_, nodes)| nodes.first())
        .map(|f| {
            let mut given = values.iter().filter(|(n, _)| *n == f.name);
            match (given.next(), given.next()) {
                (Some(one), None) => Ok(one.clone()),
                (None, _) => Err(format!("'{name}': nothing says what field '{}' is", f.name)),
                _ => Err(format!("'{name}': field '{}' is given twice", f.name)),
            }
        })
        .collect()
}
