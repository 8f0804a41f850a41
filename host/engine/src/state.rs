//! Keyed state of one operator, a batch of keys at a time; and the heap that keeps it.
//! Needs: model, function (for the shapes of values). Refuses: files, threads, knowledge of timers and operators.
//!
//! A key that is touched gets a *slot*, a number that stands for it until it is forgotten; values are read and written
//! by slots. Every batch is: [`touch`](KeyedState::touch) its keys (which dedupes them), [`read`](KeyedState::read) all
//! states of those at once, call the function, [`write`](KeyedState::write) all changes at once,
//! [`forget`](KeyedState::forget) what has become empty.

mod heap;
mod keys;
mod values;

use arrow_array::ArrayRef;
use pelton_model::limits::Limits;
use pelton_model::{Error, ErrorCode, Result};

pub use heap::HeapState;
pub use keys::{KeyIndex, RowSet, Touched};
pub use values::ValueStore;

use crate::function::{Slots, StateChange};

/// Where an operator's keyed state is kept.
pub trait KeyedState: Send {
    /// Finds or makes the keys of `rows` rows; `key` has the key's columns.
    fn touch(&mut self, key: &[ArrayRef], rows: usize, touched: &mut Touched) -> Result<()>;

    /// The keys of slots.
    fn keys(&self, slots: &[u32]) -> Result<Slots>;

    /// How many of the first `slots` have values of at most so many bytes together; at least one.
    fn affordable(&self, slots: &[u32], bytes: usize) -> usize;

    /// The values of each state under these slots.
    fn read(&mut self, slots: &[u32]) -> Result<Vec<Slots>>;

    /// Applies what became of the values under these slots. Errors: `BadReply` where a change does not fit them.
    fn write(&mut self, slots: &[u32], changes: &[StateChange]) -> Result<()>;

    /// Frees those slots that have no value in any state and that `pinned` does not hold.
    fn forget(&mut self, slots: &[u32], pinned: &dyn Fn(u32) -> bool);

    /// Keys held.
    fn len(&self) -> usize;

    /// Whether there is no key.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    fn bytes(&self) -> u64;
}

/// Refuses state beyond the limit.
pub fn check_bytes(bytes: u64, limits: &Limits) -> Result<()> {
    if bytes <= limits.state_bytes {
        return Ok(());
    }
    let message = format!(
        "the state has {bytes} bytes, more than the {} that state-bytes allows",
        limits.state_bytes
    );
    Err(Error::new(ErrorCode::StateLimit, message)
        .help("raise it with --limit state-bytes=N, or keep less under each key"))
}
