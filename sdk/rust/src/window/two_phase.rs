//! Windows in two phases: each task combines the rows of a batch by key and part of a window before they are exchanged.

use std::rc::Rc;

use crate::bindings::exports::pelton::job::graph::{
    Body, Combine, Partition, WindowAggregate, WindowFunction, WindowValue,
};
use crate::bindings::pelton::job::types::DataType;
use crate::draft::{self, Draft, End};
use crate::function::Out;
use crate::function::aggregate::{Aggregate, Window};
use crate::key::Key;
use crate::record::{Record, RefOf};
use crate::stream::Stream;
use crate::value::{Schema, Value, top_field, top_fields};
use crate::window::{WindowedStream, make_aggregate};

type Values = Vec<(String, WindowValue)>;

/// What each phase computes, and the rows in between.
struct Phases {
    above: Values,
    between: Schema,
    below: Values,
}

/// One aggregate in both phases.
struct Both<A>(Rc<A>);

impl<A: Aggregate> Aggregate for Both<A> {
    type In = A::In;
    type Key = A::Key;
    type Acc = A::Acc;
    type Out = A::Out;
    const HAS_MERGE: bool = A::HAS_MERGE;

    fn create(&self) -> A::Acc {
        self.0.create()
    }
    fn add(&self, acc: &mut A::Acc, row: RefOf<'_, A::In>) {
        self.0.add(acc, row);
    }
    fn merge(&self, acc: &mut A::Acc, other: A::Acc) {
        self.0.merge(acc, other);
    }
    fn result(
        &self,
        key: <A::Key as Key>::Ref<'_>,
        window: Window,
        acc: A::Acc,
        out: &mut Out<A::Out>,
    ) {
        self.0.result(key, window, acc, out);
    }
}

impl<T: Record, V: Record, K: Key> WindowedStream<T, V, K> {
    /// Why two phases cannot be.
    fn refusal(&self, merges: bool) -> Option<&'static str> {
        if self.windows.is_session() {
            return Some("sessions have no parts that rows could be combined in");
        }
        if self.late.is_some() {
            return Some(
                "rows that come too late are combined already, and cannot go to .late_to(..)",
            );
        }
        (!merges).then_some("its aggregate cannot merge what each task has combined")
    }

    /// Host's aggregates in two phases.
    pub(super) fn native_in_two<U: Record>(
        self,
        name: &str,
        values: &[(String, WindowValue)],
    ) -> Stream<U> {
        if let Some(why) = self.refusal(true) {
            return self.refused(name, why);
        }
        let Some(input) = self.input() else {
            return self.refused(name, "its input has no fields");
        };
        let phases = match split(values, &self.key, &input, &U::schema()) {
            Ok(phases) => phases,
            Err(why) => return self.refused(name, &why),
        };
        let above = draft::columns(phases.above);
        let ends = self.combine(name, phases.between, |_| above);
        self.add(name, ends, |_| draft::columns(phases.below))
    }

    /// A user's aggregate in two phases.
    pub(super) fn aggregate_in_two<A>(self, name: &str, aggregate: A) -> Stream<A::Out>
    where
        A: Aggregate<In = V, Key = K>,
    {
        if let Some(why) = self.refusal(A::HAS_MERGE) {
            return self.refused(name, why);
        }
        let Some(input) = self.input() else {
            return self.refused(name, "its input has no fields");
        };
        let mut accumulator = A::Acc::row_schema();
        let tops: Vec<usize> = top_fields(&accumulator).map(|(at, _)| at).collect();
        for at in tops {
            if let Some(field) = accumulator.get_mut(at) {
                field.name = format!("__{}", field.name);
            }
        }
        let mut between = key_fields(&self.key, &input);
        between.extend(accumulator.iter().cloned());
        let aggregate = Rc::new(aggregate);
        let first = make_aggregate(Both(Rc::clone(&aggregate)), V::schema());
        let accumulators = accumulator.clone();
        let ends = self.combine(name, between, |d| {
            let function = d.function(first);
            draft::aggregate(function, V::schema(), accumulators, true)
        });
        let second = make_aggregate(Both(aggregate), accumulator.clone());
        self.add(name, ends, |d| {
            WindowFunction::Aggregate(WindowAggregate {
                function: d.function(second),
                view: accumulator.clone(),
                accumulator,
                has_merge: true,
                combined: true,
            })
        })
    }

    /// The rows that come in.
    fn input(&self) -> Option<Schema> {
        let d = self.draft.borrow();
        let end = self.ends.first()?;
        let operator = d.operators.get(end.operator as usize)?;
        let output = operator.outputs.get(end.port as usize)?;
        Some(output.schema.clone())
    }

    /// Adds the first phase. Returns where the second reads.
    fn combine(
        &self,
        name: &str,
        between: Schema,
        function: impl FnOnce(&mut Draft) -> WindowFunction,
    ) -> Vec<End> {
        let mut d = self.draft.borrow_mut();
        let function = function(&mut d);
        let combine = Combine {
            key: self.key.clone(),
            assigner: self.windows.assigner(),
            function,
        };
        let operator = d.add(
            &format!("{name} combine"),
            Body::Combine(combine),
            Some(between),
        );
        let mut ends = self.ends.clone();
        ends.iter_mut()
            .for_each(|end| end.partition = Partition::Forward);
        d.connect(&ends, operator);
        vec![End {
            operator,
            port: 0,
            partition: Partition::Key(self.key.clone()),
        }]
    }
}

fn key_fields(key: &[String], input: &Schema) -> Schema {
    let fields = key.iter().filter_map(|k| top_field(input, k));
    fields
        .flat_map(|(_, nodes)| nodes.iter().cloned())
        .collect()
}

/// Errors: an average that cannot be made of what was combined.
fn split(
    values: &[(String, WindowValue)],
    key: &[String],
    input: &Schema,
    output: &Schema,
) -> Result<Phases, String> {
    let mut between = key_fields(key, input);
    let mut above: Values = key
        .iter()
        .map(|k| (k.clone(), WindowValue::Key(k.clone())))
        .collect();
    let node = |schema: &Schema, name: &str| {
        let found = top_field(schema, name).and_then(|(_, nodes)| nodes.first().cloned());
        found.ok_or_else(|| format!("there is no field '{name}'"))
    };
    let mut below = Vec::new();
    for (name, value) in values {
        let out = node(output, name)?;
        // Adds a field of the rows in between.
        let mut partial = |of: WindowValue, data_type: DataType, nullable: bool| {
            let mut field = out.clone();
            field.name = format!("__{}", above.len());
            (field.data_type, field.nullable) = (data_type, nullable);
            above.push((field.name.clone(), of));
            let made = field.name.clone();
            between.push(field);
            made
        };
        let value = match value {
            WindowValue::Count => WindowValue::Sum(partial(value.clone(), out.data_type, false)),
            WindowValue::Sum(_) => {
                WindowValue::Sum(partial(value.clone(), out.data_type, out.nullable))
            }
            WindowValue::Min(f) | WindowValue::Max(f) => {
                let of = node(input, f)?;
                let made = partial(value.clone(), of.data_type, of.nullable);
                match value {
                    WindowValue::Min(_) => WindowValue::Min(made),
                    _ => WindowValue::Max(made),
                }
            }
            WindowValue::Avg(f) => {
                let of = node(input, f)?;
                if of.nullable {
                    return Err(format!(
                        "field '{f}' may be null, and its average cannot be made of what each task has combined"
                    ));
                }
                let wide = match of.data_type {
                    DataType::Float32 => DataType::Float64,
                    DataType::Int8
                    | DataType::Int16
                    | DataType::Int32
                    | DataType::Uint8
                    | DataType::Uint16
                    | DataType::Uint32 => DataType::Int64,
                    other => other,
                };
                let sum = partial(WindowValue::Sum(f.clone()), wide, false);
                WindowValue::Ratio((sum, partial(WindowValue::Count, DataType::Int64, false)))
            }
            other => other.clone(),
        };
        below.push((name.clone(), value));
    }
    Ok(Phases {
        above,
        between,
        below,
    })
}
