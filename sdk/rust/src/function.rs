//! Functions of a job as the runtime sees them: each works on a whole batch, behind a trait object, in a loop that the
//! compiler has made for its closure.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;

use crate::bindings::exports::pelton::job::function::TaskContext;
use crate::bindings::pelton::job::types::Column;
use crate::column::Cursor;
use crate::column::{Buffer, Row, to_bytes};
use crate::error::Result;
use crate::metrics::{self, Counter, Gauge};
use crate::params::Params;
use crate::place;
use crate::record::{Emit, Record};
use crate::value::{COLUMNS, ColumnBuilder, Schema, Value, top_fields};

pub(crate) mod aggregate;
pub(crate) mod connected;
pub(crate) mod keyed;
pub(crate) mod segment;
pub(crate) mod transform;
pub(crate) mod watermark;

/// What an instance knows when it makes its functions.
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

/// Stands for the event time of the parent; no row has this time.
const FROM_PARENT: i64 = i64::MIN;

/// Stands for the kind of the parent.
const PARENTS_KIND: u8 = u8::MAX;

/// What a row does to the table that its stream stands for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum RowKind {
    /// It is new: `+I`.
    #[default]
    Insert = 0,
    /// What a row was that has changed: `-U`.
    UpdateBefore = 1,
    /// What it is now: `+U`.
    UpdateAfter = 2,
    /// It is gone: `-D`.
    Delete = 3,
}

impl RowKind {
    /// By its number in a batch.
    pub(crate) fn of(number: u8) -> Self {
        match number {
            1 => Self::UpdateBefore,
            2 => Self::UpdateAfter,
            3 => Self::Delete,
            _ => Self::Insert,
        }
    }

    /// Whether the row is part of the table: new, or what it is now.
    #[must_use]
    pub fn is_addition(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }
}

/// Where a function puts its rows.
pub struct Out<U: Record> {
    builder: U::Builder,
    parents: Vec<u32>,
    row: u32,
    /// Event times, from the first row on that was given one.
    times: Option<Buffer>,
    /// Row kinds, from the first row on that was given one.
    kinds: Option<Vec<u8>>,
    sides: Vec<Option<Box<dyn SideBuffer>>>,
    ports: Rc<[Port]>,
    failure: Option<crate::Error>,
}

impl<U: Record> Out<U> {
    pub(crate) fn new(ports: Rc<[Port]>) -> Self {
        Self {
            builder: U::Builder::default(),
            parents: Vec::new(),
            row: 0,
            times: None,
            kinds: None,
            sides: Vec::new(),
            ports,
            failure: None,
        }
    }

    /// Emits a row: a `U`, a `&U` or a `URef`. Its event time is that of the row at hand.
    #[inline(always)]
    pub fn emit(&mut self, row: impl Emit<U>) {
        row.push_to(&mut self.builder);
        self.parents.push(self.row);
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, row: U::Ref<'_>) {
        U::push(&mut self.builder, row);
        self.parents.push(self.row);
    }

    /// Emits a row with an event time of its own. For keyed functions alone.
    pub fn emit_at(&mut self, time: crate::time::Timestamp, row: impl Emit<U>) {
        let times = self.times.get_or_insert_with(Buffer::default);
        // Rows that were emitted before without a time of their own get theirs at the end.
        while times.len() < self.parents.len() * 8 {
            times.push(FROM_PARENT);
        }
        times.push(time.0);
        row.push_to(&mut self.builder);
        self.parents.push(self.row);
    }

    /// Emits a row of a kind of its own; others have that of the row at hand. For functions with state alone.
    pub fn emit_kind(&mut self, kind: RowKind, row: impl Emit<U>) {
        let kinds = self.kinds.get_or_insert_with(Vec::new);
        kinds.resize(self.parents.len(), PARENTS_KIND);
        kinds.push(kind as u8);
        self.emit(row);
    }

    /// As [`emit_kind`](Self::emit_kind), with an event time of its own, too.
    pub fn emit_kind_at(
        &mut self,
        kind: RowKind,
        time: crate::time::Timestamp,
        row: impl Emit<U>,
    ) {
        let kinds = self.kinds.get_or_insert_with(Vec::new);
        kinds.resize(self.parents.len(), PARENTS_KIND);
        kinds.push(kind as u8);
        self.emit_at(time, row);
    }

    /// As [`push`](Self::push), with a kind of its own.
    pub(crate) fn push_kind(&mut self, kind: RowKind, row: U::Ref<'_>) {
        let kinds = self.kinds.get_or_insert_with(Vec::new);
        kinds.resize(self.parents.len(), PARENTS_KIND);
        kinds.push(kind as u8);
        self.push(row);
    }

    /// Emits that a row has changed: what it was, and what it is now.
    pub fn update(&mut self, before: impl Emit<U>, after: impl Emit<U>) {
        self.emit_kind(RowKind::UpdateBefore, before);
        self.emit_kind(RowKind::UpdateAfter, after);
    }

    /// Emits a row into a side output. Where nobody reads it, nothing happens.
    pub fn side<S: Record>(&mut self, tag: &SideTag<S>, row: impl Emit<S>) {
        let Some(at) = self
            .ports
            .iter()
            .position(|p| std::ptr::eq(p.name, tag.name) || p.name == tag.name)
        else {
            return;
        };
        if self.sides.len() <= at {
            self.sides.resize_with(self.ports.len(), || None);
        }
        let (Some(slot), Some(port)) = (self.sides.get_mut(at), self.ports.get(at)) else {
            return;
        };
        let buffer = slot.get_or_insert_with(port.make);
        match buffer.as_any().downcast_mut::<SideOf<S>>() {
            Some(side) => {
                row.push_to(&mut side.builder);
                side.parents.push(self.row);
            }
            None => self.fail(format_args!(
                "side output '{}' is used with two record types",
                tag.name
            )),
        }
    }

    /// Gives up: the task fails with this message and names the row.
    pub fn fail(&mut self, message: impl std::fmt::Display) {
        self.failure
            .get_or_insert_with(|| crate::Error::new(message));
    }

    #[inline(always)]
    pub(crate) fn at(&mut self, row: usize) {
        self.row = row as u32;
    }

    #[inline(always)]
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.failure.is_some() {
            self.failed()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn failed(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Rows so far, those of side outputs apart.
    pub(crate) fn rows(&self) -> usize {
        self.parents.len()
    }

    /// Gives the rows from `first` on an event time, but for those that have one of their own.
    pub(crate) fn stamp(&mut self, first: usize, time: crate::time::Timestamp) {
        if first == self.parents.len() {
            return;
        }
        let mut times = self.times.take().unwrap_or_default();
        if times.len() > first * 8 {
            // Some of these rows have a time of their own, among others that have not.
            let known = times.take();
            for (row, own) in known.chunks_exact(8).enumerate() {
                let own = own.try_into().map_or(FROM_PARENT, i64::from_le_bytes);
                let is_open = row >= first && own == FROM_PARENT;
                times.push(if is_open { time.0 } else { own });
            }
        }
        while times.len() < first * 8 {
            times.push(FROM_PARENT);
        }
        while times.len() < self.parents.len() * 8 {
            times.push(time.0);
        }
        self.times = Some(times);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.builder.bytes()
            + self
                .sides
                .iter()
                .flatten()
                .map(|s| s.bytes())
                .sum::<usize>()
    }

    /// (rows, parents, columns, times), the times of rows without one of their own by their parent.
    pub(crate) fn finish(
        &mut self,
        parent_time: impl Fn(u32) -> i64,
    ) -> (usize, Vec<u32>, Vec<Column>, Option<Vec<u8>>) {
        let mut columns = Vec::with_capacity(COLUMNS);
        U::row_finish(&mut self.builder, &mut columns);
        let parents = std::mem::take(&mut self.parents);
        let times = self.times.take().map(|mut own| {
            let own = own.take();
            let own = own
                .chunks_exact(8)
                .map(|t| t.try_into().map_or(FROM_PARENT, i64::from_le_bytes));
            let own = own.chain(std::iter::repeat(FROM_PARENT));
            to_bytes(
                parents
                    .iter()
                    .zip(own)
                    .map(|(p, t)| if t == FROM_PARENT { parent_time(*p) } else { t }),
            )
        });
        (parents.len(), parents, columns, times)
    }

    /// The kinds of the rows, where one has its own; taken before [`finish`](Self::finish).
    pub(crate) fn finish_kinds(&mut self, parent_kind: impl Fn(u32) -> u8) -> Option<Vec<u8>> {
        let mut kinds = self.kinds.take()?;
        kinds.resize(self.parents.len(), PARENTS_KIND);
        for (kind, parent) in kinds.iter_mut().zip(&self.parents) {
            if *kind == PARENTS_KIND {
                *kind = parent_kind(*parent);
            }
        }
        Some(kinds)
    }

    pub(crate) fn finish_sides(&mut self) -> Vec<SideRows> {
        let sides = std::mem::take(&mut self.sides);
        (1..)
            .zip(sides)
            .filter_map(|(port, side)| Some(side?.finish(port)))
            .collect()
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
