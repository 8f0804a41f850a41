//! Where functions put their rows, each with the row that it comes from.

use std::rc::Rc;

use super::{Port, SideBuffer, SideOf, SideRows, SideTag};
use crate::bindings::pelton::job::types::Column;
use crate::column::{Buffer, to_bytes};
use crate::error::Result;
use crate::record::{Emit, Record};
use crate::value::{COLUMNS, ColumnBuilder};

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

    /// Emits a row with an event time of its own.
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

    /// Emits a row of a kind of its own; others have that of the row at hand.
    pub fn emit_kind(&mut self, kind: RowKind, row: impl Emit<U>) {
        let kinds = self.kinds.get_or_insert_with(Vec::new);
        kinds.resize(self.parents.len(), PARENTS_KIND);
        kinds.push(kind as u8);
        self.emit(row);
    }

    /// As [`emit_kind`](Self::emit_kind), with an event time of its own, too.
    pub fn emit_kind_at(&mut self, kind: RowKind, time: crate::time::Timestamp, row: impl Emit<U>) {
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
