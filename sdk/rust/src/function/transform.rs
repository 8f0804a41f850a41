//! Stateless functions: a loop for each form of closure.

use std::marker::PhantomData;
use std::rc::Rc;

use super::{Columns, Input, Made, Out, Port, Ran, Step};
use crate::column::Buffer;
use crate::column::{Cursor, to_bytes};
use crate::error::{Error, Result};
use crate::gather::gather;
use crate::key::Key;
use crate::record::{Emit, Record};
use crate::time::Timestamp;
use crate::value::{COLUMNS, ColumnBuilder, Schema, top_fields};

macro_rules! step {
    ($(#[$doc:meta])* $name:ident<$($of:ident),*>) => {
        $(#[$doc])*
        pub(crate) struct $name<$($of,)* F> {
            f: F,
            of: PhantomData<fn() -> ($($of,)*)>,
        }

        impl<$($of,)* F> $name<$($of,)* F> {
            pub(crate) fn new(f: F) -> Self {
                Self { f, of: PhantomData }
            }
        }
    };
}
step!(FilterStep<V>);
step!(MapStep<V, U>);
step!(MapIntoStep<V, U>);
step!(TryMapStep<V, U>);
step!(MapBatchStep<V, U>);
step!(TimesStep<V>);

impl<V: Record, F: Fn(V::Ref<'_>) -> bool> Step for FilterStep<V, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        // Each row's number is written, and counted if it is kept: no branch to mispredict.
        let mut kept = vec![0u32; input.rows];
        let mut count = 0;
        let done = input.each::<V>(|i, row| {
            if let Some(slot) = kept.get_mut(count) {
                *slot = i as u32;
            }
            count += usize::from((self.f)(row));
            Ok(false)
        })?;
        kept.truncate(count);
        Ok(Ran {
            made: Made::Selected(kept),
            done,
            sides: Vec::new(),
        })
    }
}

/// Runs a function that makes a row of each row.
#[inline(always)]
fn one_each<V: Record, U: Record>(
    input: &Input<'_>,
    mut push: impl FnMut(&mut U::Builder, V::Ref<'_>) -> Result<()>,
) -> Result<Ran> {
    let mut builder = U::Builder::default();
    builder.reserve(input.rows);
    let done = input.each::<V>(|i, row| {
        push(&mut builder, row)?;
        Ok(input.is_passed(i, || builder.bytes()))
    })?;
    let mut columns = Vec::with_capacity(COLUMNS);
    U::row_finish(&mut builder, &mut columns);
    Ok(Ran {
        made: Made::Rows {
            rows: done,
            parents: None,
            columns,
            times: None,
            kinds: None,
        },
        done,
        sides: Vec::new(),
    })
}

impl<V: Record, U: Record + Emit<U>, F: Fn(V::Ref<'_>) -> U> Step for MapStep<V, U, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        one_each::<V, U>(input, |builder, row| {
            (self.f)(row).push_to(builder);
            Ok(())
        })
    }
}

impl<V: Record, U: Record, F: Fn(V::Ref<'_>, Slot<'_, U>) -> Filled<U>> Step
    for MapIntoStep<V, U, F>
{
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        one_each::<V, U>(input, |builder, row| {
            (self.f)(row, Slot { builder });
            Ok(())
        })
    }
}

impl<V: Record, U: Record, F: Fn(V::Ref<'_>) -> Result<U>> Step for TryMapStep<V, U, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        one_each::<V, U>(input, |builder, row| {
            U::push(builder, (self.f)(row)?.lend());
            Ok(())
        })
    }
}

impl<V: Record, F: Fn(V::Ref<'_>) -> Timestamp> Step for TimesStep<V, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        let mut times = Buffer::default();
        times.reserve(input.rows * 8);
        let done = input.each::<V>(|_, row| {
            times.push((self.f)(row));
            Ok(false)
        })?;
        Ok(Ran {
            made: Made::Times(times.take()),
            done,
            sides: Vec::new(),
        })
    }
}

impl<V: Record, U: Record, F: Fn(&Columns<'_, V>, &mut U::Builder)> Step for MapBatchStep<V, U, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        let picked;
        let (columns, plan) = match input.map {
            None => (input.columns, input.plan),
            Some(map) => {
                picked = pick(&V::schema(), input, map);
                (picked.as_slice(), None)
            }
        };
        let batch = Columns {
            columns: V::row_resolve(&mut Cursor::new(columns, plan), input.rows)?,
            rows: input.rows,
        };
        let mut builder = U::Builder::default();
        builder.reserve(input.rows);
        crate::place::enter(None);
        (self.f)(&batch, &mut builder);
        if builder.len() != input.rows || !builder.is_even() {
            return Err(Error::new(format_args!(
                "a function over whole batches made columns of other lengths than the batch's {} rows",
                input.rows
            )));
        }
        let mut columns = Vec::with_capacity(COLUMNS);
        U::row_finish(&mut builder, &mut columns);
        Ok(Ran {
            made: Made::Rows {
                rows: input.rows,
                parents: None,
                columns,
                times: None,
                kinds: None,
            },
            done: input.rows,
            sides: Vec::new(),
        })
    }
}

/// The selected rows of a view's columns.
fn pick(schema: &Schema, input: &Input<'_>, map: &[u32]) -> Vec<crate::value::Column> {
    let mut out = Vec::new();
    for (start, nodes) in top_fields(schema) {
        let indices = (start..start + nodes.len())
            .map(|i| input.plan.map_or(Some(i), |p| Some(*p.get(i)? as usize)));
        let mut columns = indices.filter_map(|i| input.columns.get(i?));
        gather(
            nodes,
            &mut columns,
            map.get(..input.rows).unwrap_or(map),
            &mut out,
        );
    }
    out
}

/// The place of the one row that a function makes of each row.
pub struct Slot<'a, U: Record> {
    builder: &'a mut U::Builder,
}

impl<U: Record> Slot<'_, U> {
    /// Puts the row: a `U`, a `&U` or a `URef`, so that text that is passed on is not allocated.
    #[inline(always)]
    pub fn fill(self, row: impl Emit<U>) -> Filled<U> {
        row.push_to(self.builder);
        Filled(PhantomData)
    }
}

/// Says that a [`Slot`] was filled.
pub struct Filled<U>(PhantomData<fn() -> U>);

/// Any number of rows of each.
pub(crate) struct FlatMapStep<V, U, F> {
    f: F,
    ports: Rc<[Port]>,
    of: PhantomData<fn() -> (V, U)>,
}

impl<V, U, F> FlatMapStep<V, U, F> {
    pub(crate) fn new(f: F, ports: Rc<[Port]>) -> Self {
        Self {
            f,
            ports,
            of: PhantomData,
        }
    }
}

impl<V: Record, U: Record, F: Fn(V::Ref<'_>, &mut Out<U>)> Step for FlatMapStep<V, U, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        let mut out = Out::<U>::new(Rc::clone(&self.ports));
        let done = input.each::<V>(|i, row| {
            out.at(i);
            (self.f)(row, &mut out);
            out.check()?;
            Ok(input.is_passed(i, || out.bytes()))
        })?;
        let kinds = out.finish_kinds(|row| input.kind_of(row as usize));
        let (rows, parents, columns, times) = out.finish(|row| input.time_of(row as usize));
        Ok(Ran {
            made: Made::Rows {
                rows,
                parents: Some(parents),
                columns,
                times,
                kinds,
            },
            done,
            sides: out.finish_sides(),
        })
    }
}

/// The bytes of row numbers.
pub(crate) fn row_bytes(rows: &[u32]) -> Vec<u8> {
    to_bytes(rows.iter().copied())
}

step!(KeyStep<V, K>);

impl<V: Record, K: Key, F: Fn(V::Ref<'_>) -> K> Step for KeyStep<V, K, F> {
    fn run(&self, input: &Input<'_>) -> Result<Ran> {
        let mut builder = K::Builder::default();
        let done = input.each::<V>(|_, row| {
            (self.f)(row).push_key(&mut builder);
            Ok(false)
        })?;
        let mut columns = Vec::with_capacity(COLUMNS);
        K::finish(&mut builder, &mut columns);
        Ok(Ran {
            made: Made::Rows {
                rows: done,
                parents: None,
                columns,
                times: None,
                kinds: None,
            },
            done,
            sides: Vec::new(),
        })
    }
}
