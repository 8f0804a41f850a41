//! Unique counts by window.

use super::UniqueApprox;
use crate::bindings::exports::pelton::job::graph::{
    Assigner, Body, Partition, Window as WitWindow, WindowValue,
};
use crate::draft::{self, End};
use crate::function::aggregate::Window;
use crate::key::Key;
use crate::record::{Field, Record};
use crate::stream::Stream;
use crate::value::{Schema, Value, top_field, top_fields};
use crate::window::WindowedStream;

/// The first stage's field for a window's first millisecond.
const START: &str = "__start";

impl<T: Record, V: Record, K: Key> WindowedStream<T, V, K> {
    /// For each key and window, about how many different values a field has, with a standard error of 0.81 %: `make` gets the
    /// key, the window and the estimate. A window has at most 16 KiB, and sliding windows share their parts: see
    /// [`unique`](crate::unique).
    pub fn unique_approx<N: Value, O: Record>(
        self,
        name: &str,
        field: Field<V, N>,
        make: impl Fn(K::Ref<'_>, Window, u64) -> O + 'static,
    ) -> Stream<O> {
        match field.access() {
            Some(access) => self.aggregate(name, UniqueApprox::new(access, make)),
            None => self.refused(name, "values of an enum's variants cannot be counted"),
        }
    }

    /// For each key and window, exactly how many different values a field has: `O` has the key's fields, the count, and if
    /// wanted fields `start` and `end`.
    ///
    /// The host does it in two stages, by (key, value) and by key, so that one key's values are spread over all tasks. Its
    /// state is a count for each (key, value) and part of a window. For tumbling and sliding windows without allowed lateness;
    /// late rows are counted and dropped.
    pub fn unique_exact<N, O: Record>(
        self,
        name: &str,
        field: Field<T, N>,
        count: Field<O, impl Value>,
    ) -> Stream<O> {
        if self.lateness.millis() > 0 || self.late.is_some() {
            return self.refused(name, "late rows cannot be told from earlier results");
        }
        let first = self.windows.assigner();
        // The window of the second stage that has the last millisecond of one of the first, and of no other.
        let second = match first {
            Assigner::Tumbling((size, offset)) => Assigner::Tumbling((size, offset)),
            Assigner::Sliding((size, slide, offset)) => {
                let shift = offset.wrapping_add(size).checked_rem_euclid(slide);
                Assigner::Tumbling((slide, shift.unwrap_or(0)))
            }
            Assigner::Session(_) => {
                return self.refused(name, "sessions of a value are not sessions of its key");
            }
        };
        let columns = match self.second_stage::<O>(count.name()) {
            Ok(columns) => columns,
            Err(message) => return self.refused(name, &message),
        };
        let pairs = self.by_value::<N, O>(name, field, first);
        let ends = [End {
            operator: pairs,
            port: 0,
            partition: Partition::Key(self.key.clone()),
        }];
        let body = window(self.key.clone(), second, columns);
        let operator = {
            let mut d = self.draft.borrow_mut();
            let operator = d.add(name, body, Some(O::schema()));
            d.connect(&ends, operator);
            operator
        };
        Stream::of(self.draft, operator)
    }

    /// Adds the first stage: a row for each (key, value) and window.
    fn by_value<N, O: Record>(&self, name: &str, field: Field<T, N>, assigner: Assigner) -> u32 {
        let input = T::schema();
        let mut key = self.key.clone();
        key.push(field.name().to_owned());
        let (mut output, mut columns) = (Schema::new(), Vec::new());
        for part in &self.key {
            output.extend(top_field(&input, part).map_or(Vec::new(), |(_, n)| n.to_vec()));
            columns.push((part.clone(), WindowValue::Key(part.clone())));
        }
        if let Some((_, [node])) = top_field(&O::schema(), "start") {
            let mut node = node.clone();
            START.clone_into(&mut node.name);
            output.push(node);
            columns.push((START.to_owned(), WindowValue::Start));
        }
        let mut ends = self.ends.clone();
        for end in &mut ends {
            end.partition = Partition::Key(key.clone());
        }
        let mut d = self.draft.borrow_mut();
        let body = window(key, assigner, columns);
        let operator = d.add(&format!("{name} by value"), body, Some(output));
        d.connect(&ends, operator);
        operator
    }

    /// What each field of the result is in the second stage.
    fn second_stage<O: Record>(&self, count: &str) -> Result<Columns, String> {
        top_fields(&O::schema())
            .filter_map(|(_, nodes)| nodes.first())
            .map(|f| {
                let value = match f.name.as_str() {
                    n if n == count => WindowValue::Count,
                    n if self.key.iter().any(|k| k == n) => WindowValue::Key(n.to_owned()),
                    "start" => WindowValue::Min(START.to_owned()),
                    "end" => WindowValue::End,
                    n => return Err(format!("nothing says what field '{n}' is")),
                };
                Ok((f.name.clone(), value))
            })
            .collect()
    }

    /// The job is refused.
    pub(crate) fn refused<O: Record>(self, name: &str, why: &str) -> Stream<O> {
        self.draft.borrow_mut().fail(format!("'{name}': {why}"));
        let operator = self.ends.first().map_or(0, |end| end.operator);
        Stream::of(self.draft, operator)
    }
}

type Columns = Vec<(String, WindowValue)>;

fn window(key: Vec<String>, assigner: Assigner, columns: Columns) -> Body {
    Body::Window(WitWindow {
        key,
        assigner,
        lateness_ms: 0,
        late_output: None,
        function: draft::columns(columns),
    })
}
