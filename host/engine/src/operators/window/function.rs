//! What a window computes: native aggregates or a user's, over accumulators by slot.

use arrow_array::ArrayRef;
use pelton_model::batch::Batch;
use pelton_model::graph::WindowFunction;
use pelton_model::schema::{Field, Schema};
use pelton_model::window::Window;
use pelton_model::{Error, Result};

use super::accumulator::Acc;
use super::native::Native;
use super::saved::Codec;
use super::user::User;
use crate::operator::Context;
use crate::state::{KeyIndex, RowSet, ValueStore};

/// An aggregate.
pub(in crate::operators) enum Function {
    Native(Native),
    User(Box<User>),
}

/// Accumulators by slot.
#[derive(Clone)]
pub(in crate::operators) enum Values {
    Native(Vec<Acc>),
    User(ValueStore),
}

/// Accumulators by key.
#[derive(Clone)]
pub(in crate::operators) struct Pane {
    pub(in crate::operators) index: KeyIndex,
    pub(in crate::operators) values: Values,
}

/// Windows that fire together, a row each.
pub(in crate::operators) struct Firing<'a> {
    /// The accumulator of each.
    pub(in crate::operators) slots: &'a [u32],
    pub(in crate::operators) keys: Vec<ArrayRef>,
    pub(in crate::operators) starts: Vec<i64>,
    pub(in crate::operators) ends: Vec<i64>,
}

impl Firing<'_> {
    pub(in crate::operators) fn times(&self) -> Vec<i64> {
        let last = |end: &i64| end.saturating_sub(1);
        self.ends.iter().map(last).collect()
    }
}

impl Values {
    pub(in crate::operators) fn bytes(&self) -> u64 {
        match self {
            Self::Native(accs) => accs.iter().map(Acc::bytes).sum(),
            Self::User(store) => store.bytes(),
        }
    }

    /// Takes the value of a slot away.
    pub(in crate::operators) fn reset(&mut self, slot: u32) {
        match self {
            Self::Native(accs) => accs.iter_mut().for_each(|a| a.reset(slot)),
            Self::User(store) => store.clear(slot),
        }
    }
}

impl Pane {
    pub(in crate::operators) fn clear(&mut self) {
        self.index.clear();
        match &mut self.values {
            Values::Native(accs) => accs.iter_mut().for_each(Acc::clear),
            Values::User(store) => store.clear_all(),
        }
    }

    pub(in crate::operators) fn bytes(&self) -> u64 {
        self.index.bytes() + self.values.bytes()
    }

    /// A copy in which no key is found.
    pub(in crate::operators) fn names(&self) -> Self {
        Self {
            index: self.index.names(),
            values: self.values.clone(),
        }
    }
}

impl Function {
    /// `input` is the pruned schema of the stream, `declared` those of the outputs.
    pub(in crate::operators) fn new(
        function: &WindowFunction,
        name: &str,
        input: &Schema,
        key: &[Field],
        declared: &[Schema],
        late_output: Option<u32>,
    ) -> Result<Self> {
        let main = declared
            .first()
            .ok_or_else(|| Error::bug("a window without an output"))?;
        Ok(match function {
            WindowFunction::Columns(columns) => {
                Self::Native(Native::new(columns, input, key, main)?)
            }
            WindowFunction::Aggregate { .. } => Self::User(Box::new(User::new(
                function,
                name,
                input,
                key,
                declared,
                late_output,
            )?)),
        })
    }

    /// How accumulators are written into snapshots.
    pub(super) fn codec(&self) -> Codec {
        match self {
            Self::Native(n) => Codec::Native(n.wanted().to_vec()),
            Self::User(u) => Codec::User(u.accumulator().fields.clone()),
        }
    }

    pub(in crate::operators) fn values(&self) -> Values {
        match self {
            Self::Native(n) => Values::Native(n.accumulators()),
            Self::User(u) => Values::User(u.store()),
        }
    }

    pub(in crate::operators) fn pane(&self, key: &[Field], room: usize) -> Pane {
        Pane {
            index: KeyIndex::new(key.to_vec(), room),
            values: self.values(),
        }
    }

    /// Adds rows to a pane.
    pub(in crate::operators) fn add(
        &mut self,
        pane: &mut Pane,
        batch: &Batch,
        key: &[ArrayRef],
        rows: RowSet<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        match (self, &mut pane.values) {
            (Self::Native(n), Values::Native(accs)) => {
                n.add(&mut pane.index, accs, batch, key, rows)
            }
            (Self::User(u), Values::User(store)) => {
                u.add(&mut pane.index, store, batch, key, rows, cx)
            }
            _ => Err(mixed()),
        }
    }

    /// Adds each row to the accumulator in its slot; `total` is above all slots.
    pub(in crate::operators) fn accumulate(
        &mut self,
        values: &mut Values,
        total: usize,
        batch: &Batch,
        rows: RowSet<'_>,
        slots: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        match (self, values) {
            (Self::Native(n), Values::Native(accs)) => {
                n.accumulate(accs, total, batch, rows, slots)
            }
            (Self::User(u), Values::User(store)) => u.accumulate(store, batch, rows, slots, cx),
            _ => Err(mixed()),
        }
    }

    /// Merges each accumulator of `from` into that of `into`; no slot stands twice.
    pub(in crate::operators) fn join(
        &mut self,
        values: &mut Values,
        into: &[u32],
        from: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        match (self, values) {
            (Self::Native(_), Values::Native(accs)) => accs.iter_mut().try_for_each(|acc| {
                let picked = acc.pick(from);
                let all: Vec<u32> = (0..from.len() as u32).collect();
                let total = acc.slots();
                acc.merge(&picked, into, &all, total)
            }),
            (Self::User(u), Values::User(store)) => u.join(store, into, from, cx),
            _ => Err(mixed()),
        }
    }

    /// Merges some keys of a pane into another. Returns the slot of each there.
    pub(in crate::operators) fn merge(
        &mut self,
        into: &mut Pane,
        from: &Pane,
        slots: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<Vec<u32>> {
        let keys = from.index.columns(slots)?;
        self.merge_named(into, &from.values, &keys, slots, cx)
    }

    /// The same, of values whose keys are these.
    pub(in crate::operators) fn merge_named(
        &mut self,
        into: &mut Pane,
        from: &Values,
        keys: &[ArrayRef],
        slots: &[u32],
        cx: &mut Context<'_>,
    ) -> Result<Vec<u32>> {
        let known = into.index.slots();
        let mut places = Vec::new();
        into.index
            .locate(keys, RowSet::First(slots.len()), &mut places)?;
        match (self, &mut into.values, from) {
            (Self::Native(_), Values::Native(into_accs), Values::Native(accs)) => into_accs
                .iter_mut()
                .zip(accs)
                .try_for_each(|(i, f)| i.merge(f, &places, slots, into.index.slots()))?,
            (Self::User(u), Values::User(into), Values::User(from)) => {
                u.merge(into, &places, known, from, slots, cx)?
            }
            _ => return Err(mixed()),
        }
        Ok(places)
    }

    /// Merges all of a pane into another.
    pub(in crate::operators) fn merge_all(
        &mut self,
        into: &mut Pane,
        from: &Pane,
        cx: &mut Context<'_>,
    ) -> Result<Vec<u32>> {
        let slots: Vec<u32> = (0..from.index.slots() as u32).collect();
        self.merge(into, from, &slots, cx)
    }

    /// Emits a window's results for all keys of a pane.
    pub(in crate::operators) fn emit(
        &mut self,
        pane: &Pane,
        window: Window,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let slots: Vec<u32> = (0..pane.index.slots() as u32).collect();
        self.emit_some(&pane.values, &pane.index, &slots, window, cx)
    }

    /// The same for the keys in these slots alone.
    pub(in crate::operators) fn emit_some(
        &mut self,
        values: &Values,
        index: &KeyIndex,
        slots: &[u32],
        window: Window,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        if let (Self::Native(n), Values::Native(accs)) = (&*self, values) {
            return n.emit_window(accs, index, slots, window, cx);
        }
        let firing = Firing {
            keys: index.columns(slots)?,
            slots,
            starts: vec![window.start; slots.len()],
            ends: vec![window.end; slots.len()],
        };
        self.tell(values, firing, cx)
    }

    /// Emits the results of windows.
    pub(in crate::operators) fn tell(
        &mut self,
        values: &Values,
        firing: Firing<'_>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        match (self, values) {
            (Self::Native(n), Values::Native(accs)) => n.emit(accs, firing, cx),
            (Self::User(u), Values::User(store)) => u.emit(store, firing, cx),
            _ => Err(mixed()),
        }
    }
}

fn mixed() -> Error {
    Error::bug("accumulators are of another function")
}
