//! Functions of a job as the runtime sees them: each works on a whole batch, behind a trait object, in a loop that the
//! compiler has made for its closure.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;

use crate::bindings::exports::pelton::job::function::TaskContext;
use crate::bindings::pelton::job::types::Column;
use crate::column::{Cursor, Row};
use crate::error::Result;
use crate::metrics::{self, Counter, Gauge};
use crate::params::Params;
use crate::place;
use crate::record::Record;
use crate::value::{COLUMNS, ColumnBuilder, Schema, Value, top_fields};

pub(crate) mod aggregate;
pub(crate) mod connected;
pub(crate) mod keyed;
mod out;
pub(crate) mod segment;
pub(crate) mod transform;
pub(crate) mod watermark;

pub use out::{Out, RowKind};

/// What an instance knows when it makes its functions.
#[derive(Clone)]
pub struct Open {
    params: Params,
    task: u32,
    parallelism: u32,
    is_batch: bool,
    ports: Rc<[Port]>,
}

impl Open {
    pub(crate) fn new(params: Params, context: &TaskContext, ports: Rc<[Port]>) -> Self {
        Self {
            params,
            task: context.task,
            parallelism: context.parallelism,
            is_batch: context.batch,
            ports,
        }
    }

    /// The job's parameters. Those that only a function asks for must be asked for by the job function, too.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Which task this is, from 0.
    #[must_use]
    pub fn task(&self) -> u32 {
        self.task
    }

    /// How many tasks the operator has.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// Whether the job runs as a batch: no watermark before the end, final results only.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.is_batch
    }

    /// A counter of this operator.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        let (counter, declared) = metrics::counter(name);
        declared.register();
        counter
    }

    /// A gauge of this operator.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Gauge {
        let (gauge, declared) = metrics::gauge(name);
        declared.register();
        gauge
    }

    pub(crate) fn ports(&self) -> Rc<[Port]> {
        Rc::clone(&self.ports)
    }
}

/// A function that was opened.
pub(crate) enum Function {
    Step(StepFunction, Box<dyn Step>),
    Keyed {
        /// Of each input.
        views: Vec<Schema>,
        function: Box<dyn keyed::Keyed>,
    },
    Aggregate {
        view: Schema,
        function: Box<dyn aggregate::Windowed>,
    },
}

/// What a stateless function reads and makes.
#[derive(Clone)]
pub(crate) struct StepFunction {
    pub(crate) view: Schema,
    /// Of the stream that leaves it.
    pub(crate) output: Schema,
    pub(crate) effect: Effect,
}

/// What becomes of the rows.
#[derive(Clone)]
pub(crate) enum Effect {
    /// Some of them, as they are.
    Select,
    /// Rows with these fields made anew; other fields of the output are kept.
    Make(Schema),
    /// The same rows with event times.
    Times,
    /// The same rows, with what follows each in the way of watermarks.
    Watermarks,
}

impl Effect {
    /// The names of the fields that are made.
    pub(crate) fn produces(&self) -> Vec<String> {
        match self {
            Self::Make(schema) => top_fields(schema)
                .filter_map(|(_, n)| Some(n.first()?.name.clone()))
                .collect(),
            Self::Select | Self::Times | Self::Watermarks => Vec::new(),
        }
    }
}

/// A stateless function over a batch.
pub(crate) trait Step {
    fn run(&self, input: &Input<'_>) -> Result<Ran>;
}

/// The rows that a step works on.
pub(crate) struct Input<'a> {
    pub(crate) columns: &'a [Column],
    /// For each node of the step's view, its column.
    pub(crate) plan: Option<&'a [u32]>,
    /// Rows of the columns.
    pub(crate) physical: usize,
    /// For each row, where it stands in the columns; none: in the same place.
    pub(crate) map: Option<&'a [u32]>,
    /// Rows.
    pub(crate) rows: usize,
    /// Event times, 8 bytes each, and for each row, where it stands in them; none: in the same place.
    pub(crate) times: Option<(&'a [u8], Option<&'a [u32]>)>,
    /// Likewise what each row does to the table, 1 byte each.
    pub(crate) kinds: Option<(&'a [u8], Option<&'a [u32]>)>,
    /// In which segment the step runs.
    pub(crate) segment: u32,
    /// For each row, the row of the call's batch that it comes from; none: the same.
    pub(crate) origin: Option<&'a Rc<Vec<u32>>>,
    /// Bytes of output after which the step stops.
    pub(crate) budget: usize,
}

impl<'a> Input<'a> {
    /// Calls `each` with every row. Answers how many rows are done: once `each` says that its output is full, those up to
    /// where the next row comes from another row of the call's batch.
    #[inline(always)]
    pub(crate) fn each<V: Value>(
        &self,
        mut each: impl FnMut(usize, V::Ref<'a>) -> Result<bool>,
    ) -> Result<usize> {
        let columns = V::row_resolve(&mut Cursor::new(self.columns, self.plan), self.physical)?;
        place::enter(self.origin);
        let mut stop = self.rows;
        let mut i = 0;
        while i < stop {
            let at = match self.map {
                None => i,
                Some(map) => map.get(i).map_or(usize::MAX, |at| *at as usize),
            };
            let Some(row) = Row::below(at, self.physical) else {
                break;
            };
            place::set(i);
            match each(i, V::read(&columns, row)) {
                Ok(false) => {}
                Ok(true) => stop = self.next_origin(i),
                Err(e) => return Err(e.at_row(self.origin_of(i))),
            }
            i += 1;
        }
        Ok(stop)
    }

    /// The event time of a row; the least where rows have none.
    pub(crate) fn time_of(&self, row: usize) -> i64 {
        let Some((times, map)) = self.times else {
            return i64::MIN;
        };
        let at = map.map_or(Some(row), |map| map.get(row).map(|at| *at as usize));
        at.and_then(|at| times.get(at * 8..at * 8 + 8)?.try_into().ok())
            .map_or(i64::MIN, i64::from_le_bytes)
    }

    /// What a row does to the table.
    pub(crate) fn kind_of(&self, row: usize) -> u8 {
        let Some((kinds, map)) = self.kinds else {
            return 0;
        };
        let at = map.map_or(Some(row), |map| map.get(row).map(|at| *at as usize));
        at.and_then(|at| kinds.get(at)).copied().unwrap_or(0)
    }

    pub(crate) fn origin_of(&self, row: usize) -> u32 {
        self.origin
            .map_or(Some(row as u32), |o| o.get(row).copied())
            .unwrap_or(row as u32)
    }

    /// Whether the budget is passed, as far as it is looked at: after each sixteenth row.
    #[inline(always)]
    pub(crate) fn is_passed(&self, row: usize, bytes: impl FnOnce() -> usize) -> bool {
        row % 16 == 15 && bytes() >= self.budget
    }

    /// The first row after this one that comes from another row of the call's batch.
    #[cold]
    fn next_origin(&self, row: usize) -> usize {
        let mut rows = row + 1..self.rows;
        rows.find(|next| self.origin_of(*next) != self.origin_of(row))
            .unwrap_or(self.rows)
    }
}

/// What a step made.
pub(crate) struct Ran {
    pub(crate) made: Made,
    /// Rows of the input that are done: fewer than there are where the budget was passed.
    pub(crate) done: usize,
    pub(crate) sides: Vec<SideRows>,
}

pub(crate) enum Made {
    /// The rows that are kept.
    Selected(Vec<u32>),
    /// New rows, each with the row that it comes from; none: the same rows in order.
    Rows {
        rows: usize,
        parents: Option<Vec<u32>>,
        columns: Vec<Column>,
        /// Event times, 8 bytes each, and what each does to the table, 1 byte each, where they are not all those of the
        /// parents.
        times: Option<Vec<u8>>,
        kinds: Option<Vec<u8>>,
    },
    /// An event time for each row.
    Times(Vec<u8>),
    /// What follows each row in the way of watermarks.
    Watermarks(Vec<u8>),
}

/// Rows of a side output.
pub(crate) struct SideRows {
    /// From 1.
    pub(crate) port: u32,
    pub(crate) parents: Vec<u32>,
    pub(crate) columns: Vec<Column>,
    pub(crate) schema: Schema,
}

/// Names a side output and the record type of its rows: `static LATE: SideTag<Bid> = SideTag::new("late");`
pub struct SideTag<U> {
    name: &'static str,
    of: PhantomData<fn() -> U>,
}

impl<U: Record> SideTag<U> {
    /// A tag by name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            of: PhantomData,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn port(&self) -> Port {
        Port {
            name: self.name,
            make: || {
                Box::new(SideOf::<U> {
                    builder: U::Builder::default(),
                    parents: Vec::new(),
                })
            },
        }
    }
}

/// A side output of an operator.
#[derive(Clone, Copy)]
pub(crate) struct Port {
    pub(crate) name: &'static str,
    make: fn() -> Box<dyn SideBuffer>,
}

trait SideBuffer {
    fn as_any(&mut self) -> &mut dyn Any;
    fn bytes(&self) -> usize;
    fn finish(&mut self, port: u32) -> SideRows;
}

struct SideOf<U: Record> {
    builder: U::Builder,
    parents: Vec<u32>,
}

impl<U: Record> SideBuffer for SideOf<U> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn bytes(&self) -> usize {
        self.builder.bytes()
    }
    fn finish(&mut self, port: u32) -> SideRows {
        let mut columns = Vec::with_capacity(COLUMNS);
        U::row_finish(&mut self.builder, &mut columns);
        SideRows {
            port,
            parents: std::mem::take(&mut self.parents),
            columns,
            schema: U::schema(),
        }
    }
}

/// The columns of a batch, by field: `batch.price.iter()`.
pub struct Columns<'a, V: Value> {
    columns: V::Column<'a>,
    rows: usize,
}

impl<'a, V: Value> Columns<'a, V> {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A row; none beyond the last.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<V::Ref<'a>> {
        Row::below(index, self.rows).map(|row| V::read(&self.columns, row))
    }
}

impl<'a, V: Value> Deref for Columns<'a, V> {
    type Target = V::Column<'a>;
    fn deref(&self) -> &V::Column<'a> {
        &self.columns
    }
}
