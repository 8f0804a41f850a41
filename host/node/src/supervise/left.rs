//! What the earlier starts of a process leave behind, and what it says of an error that ends a start.

use std::cell::Cell;

use pelton_model::{Error, ErrorCode};

use super::{Folder, Wishes};

/// What a process knows of its earlier starts.
#[derive(Default)]
pub(super) struct Left {
    /// The number of the one that began as asked.
    pub(super) since: Cell<Option<u64>>,
    /// Whether the last one has taken its term.
    pub(super) began: Cell<bool>,
    /// The entry of the checkpoint that it went on from.
    pub(super) from: Cell<Option<u64>>,
    /// Whether tasks ever ran.
    pub(super) ran: Cell<bool>,
}

impl Left {
    /// The checkpoint whose content is to blame for an end: the last start went on from it, and completed none.
    pub(super) fn damaged(&self, folder: &Folder, error: &Error) -> Option<u64> {
        let from = self
            .from
            .get()
            .filter(|_| error.code() == ErrorCode::Corrupt)?;
        let last = folder.read().ok()?.checkpoints.last().map(|(n, ..)| *n);
        last.filter(|last| *last == from)
    }

    /// Whether a job that is begun anew could not even open what it reads and writes. Who started it is there to mend it,
    /// and nothing would be gone on with.
    pub(super) fn never_began(&self, wishes: &Wishes<'_>) -> bool {
        let anew = self.from.get().is_none() && wishes.from.is_none();
        // Before the term is taken nobody knows whether there is something to go on with.
        self.began.get() && anew && !self.ran.get()
    }

    /// Whether what is damaged would be read again by each start to come.
    pub(super) fn is_at_a_loss(&self, wishes: &Wishes<'_>) -> bool {
        !self.began.get() || (wishes.from.is_some() && self.from.get().is_none())
    }
}
