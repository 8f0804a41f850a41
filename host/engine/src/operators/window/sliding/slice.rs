//! A pane of an operator, and what has become of it.

use std::sync::Arc;

use arrow_array::ArrayRef;
use pelton_model::Result;

use crate::operators::window::function::Pane;

/// Where the keys of a slice's accumulators are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keys {
    /// In its pane.
    Own,
    /// The accumulator in slot `i` is that of the id `ids[i]`.
    Listed,
    /// Accumulators stand by id; `ids` are those that have one, in the order of arrival.
    Spread,
}

/// A slice, or where panes are not shared a window.
pub(super) struct Slice {
    pub(super) pane: Arc<Pane>,
    /// What [`Running`](super::running::Running) calls its keys; none where it has not met them.
    pub(super) ids: Arc<Vec<u32>>,
    pub(super) keys: Keys,
    /// [`Running`](super::running::Running) has taken it in.
    pub(super) is_taken_in: bool,
    /// The last batch that added to it.
    pub(super) added: u64,
}

impl Slice {
    pub(super) fn new(pane: Pane) -> Self {
        Self {
            pane: Arc::new(pane),
            ids: Arc::default(),
            keys: Keys::Own,
            is_taken_in: false,
            added: 0,
        }
    }

    /// How many keys it has.
    pub(super) fn entries(&self) -> usize {
        self.pane.index.len().max(self.ids.len())
    }

    /// The slot of one row's key in its pane, and the key, if it is there.
    pub(super) fn find(&self, key: &[ArrayRef], row: u32) -> Result<Option<(Vec<ArrayRef>, u32)>> {
        let found = self.pane.index.find(key, row)?;
        let named = |slot| Ok((self.pane.index.columns(&[slot])?, slot));
        found.map(named).transpose()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pane.bytes() + self.ids.len() as u64 * 4
    }
}
