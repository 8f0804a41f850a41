//! Tests over several modules: records through columns, segments, keyed functions, windows, the harness.

use crate::bindings::exports::pelton::job::function::{Moment, TaskContext};
use crate::column::{Cursor, Row, from_bytes};
use crate::prelude::*;
use crate::runtime::{Batch, Column, Instance, Output};
use crate::value::Value;

mod connected;
mod general_windows;
mod interval;
mod keyed;
mod migration;
mod own_times;
mod records;
mod rolling;
mod segments;
mod states;
mod tables;
mod unique;
mod watermarks;
mod windows;

pub(crate) const AT: Moment = Moment {
    watermark: i64::MIN,
    processing_time: 0,
};

/// The columns of rows.
pub(crate) fn columns_of<T: Value>(rows: &[T]) -> Vec<Column> {
    let mut builder = T::Builder::default();
    rows.iter()
        .for_each(|row| T::push(&mut builder, row.lend()));
    let mut columns = Vec::new();
    T::row_finish(&mut builder, &mut columns);
    columns
}

/// The rows of columns.
pub(crate) fn rows_of<T: Value>(columns: &[Column], rows: usize) -> Vec<T> {
    let found = T::row_resolve(&mut Cursor::new(columns, None), rows).unwrap();
    (0..rows)
        .map(|i| T::own(T::read(&found, Row::below(i, rows).unwrap())))
        .collect()
}

pub(crate) fn batch<T: Value>(rows: &[T]) -> Batch {
    Batch {
        rows: rows.len() as u32,
        columns: columns_of(rows),
        times: None,
        kinds: None,
    }
}

pub(crate) fn open(budget: u64, job: impl FnOnce(&mut Job, &Params) -> Result<()>) -> Instance {
    let context = TaskContext {
        params: Vec::new(),
        job: "test".into(),
        task: 0,
        parallelism: 1,
        output_budget: budget,
        batch: false,
    };
    Instance::open("test", job, &context).unwrap()
}

pub(crate) fn parents(output: &Output) -> Option<Vec<u32>> {
    output.parents.as_deref().map(|bytes| {
        from_bytes::<u32>(bytes, bytes.len() / 4)
            .unwrap()
            .iter()
            .collect()
    })
}
