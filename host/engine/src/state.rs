//! Keyed state of one operator, a batch of keys at a time; and the heap that keeps it.
//! Needs: model, function (for the shapes of values). Refuses: files, threads, knowledge of timers and operators.
//!
//! A key that is touched gets a *slot*, a number that stands for it until it is forgotten; values are read and written
//! by slots. Every batch is: [`touch`](KeyedState::touch) its keys (which dedupes them), [`read`](KeyedState::read) all
//! states of those at once, call the function (which may read more, by [`StateReader`](crate::function::StateReader)),
//! [`write`](KeyedState::write) all changes at once, [`forget`](KeyedState::forget) what has become empty. State of an
//! operator instead of a key is that of the one key that has no fields.

mod expiry;
mod heap;
mod keys;
mod restored;
mod rows;
mod salts;
mod show;
mod time_index;
mod values;

use arrow_array::ArrayRef;
use pelton_model::barrier::SnapshotForm;
use pelton_model::graph::StateSpec;
use pelton_model::key::KeyGroupRange;
use pelton_model::limits::Limits;
use pelton_model::migrate::Declared;
use pelton_model::schema::Field;
use pelton_model::time::ProcessingTime;
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

pub use expiry::Expiry;
pub use heap::HeapState;
pub use keys::{KeyIndex, RowSet, Touched};
pub use restored::SectionReader;
pub use rows::EncodedRows;
pub(crate) use salts::salts;
pub use show::key_text;
pub use time_index::{TimeIndex, Timed};
pub use values::ValueStore;

use crate::function::{Entries, Lists, Slots, StateChange};
use crate::snapshot::{Restored, SnapshotWriter, keyed_section};
use pelton_model::snapshot::{SectionKind, SectionSpec};

/// Whose state it is, and what it is.
#[derive(Clone, Debug)]
pub struct StateOwner {
    /// The operator's uid: what the state is found by.
    pub uid: String,
    /// Which task of it.
    pub task: u32,
    /// The key's fields; none for state of the operator.
    pub key: Vec<Field>,
    /// The states; changes name them by their place here.
    pub states: Vec<StateSpec>,
    /// The task's key groups.
    pub key_groups: KeyGroupRange,
    /// The job's number of key groups.
    pub max_parallelism: u32,
}

/// Makes state of one kind.
pub trait StateBackend: Send + Sync {
    /// The state of a task, empty. Errors: what the outside refuses.
    fn keyed(&self, owner: &StateOwner) -> Result<Box<dyn KeyedState>>;
}

/// The clocks by which values expire, constant within a call.
#[derive(Clone, Copy, Debug)]
pub struct StateTime {
    /// The host's wall clock.
    pub processing_time: ProcessingTime,
    /// The operator's watermark.
    pub watermark: Watermark,
}

/// Where an operator's keyed state is kept.
pub trait KeyedState: Send {
    /// The time from now on, by which values expire.
    fn at(&mut self, time: StateTime);

    /// Finds or makes the keys of `rows` rows; `key` has the key's columns.
    fn touch(&mut self, key: &[ArrayRef], rows: usize, touched: &mut Touched) -> Result<()>;

    /// The keys of slots.
    fn keys(&self, slots: &[u32]) -> Result<Slots>;

    /// How many of the first `slots` have values of at most so many bytes together; at least one.
    fn affordable(&self, slots: &[u32], bytes: usize) -> usize;

    /// The values of each eager state under these slots.
    fn read(&mut self, slots: &[u32]) -> Result<Vec<Slots>>;

    /// The values of a lazy state under these slots. Here and below: errors `BadReply` for a state that is not there or
    /// of another kind.
    fn values(&mut self, state: u32, slots: &[u32]) -> Result<Slots>;

    /// Lists of a prefix of these slots, at least one, of at most about so many bytes; with map keys, those under
    /// (slot, map key) pairs.
    fn lists(
        &mut self,
        state: u32,
        slots: &[u32],
        map_keys: Option<&Slots>,
        bytes: usize,
    ) -> Result<Lists>;

    /// The values under (slot, map key) pairs.
    fn map_values(&mut self, state: u32, slots: &[u32], map_keys: &Slots) -> Result<Slots>;

    /// The maps of a prefix of these slots, at least one, of at most about so many bytes, each whole if it has at most
    /// `each_max` bytes, else [`TOO_MANY`](crate::function::TOO_MANY).
    fn maps(&mut self, state: u32, slots: &[u32], each_max: usize, bytes: usize)
    -> Result<Entries>;

    /// At most so many entries of the map under a slot, from the one after `after` on; of a list with map keys, these.
    /// Fewer where no more follow, or (at least one) where they have 4 MiB or more.
    fn scan(
        &mut self,
        state: u32,
        slot: u32,
        after: Option<&Slots>,
        limit: usize,
    ) -> Result<Entries>;

    /// Applies what became of the values under these slots; ordinals of changes are places in `slots`. Errors: `BadReply`
    /// where a change does not fit them.
    fn write(&mut self, slots: &[u32], changes: &[StateChange]) -> Result<()>;

    /// Frees those slots that have no value in any state and that `pinned` does not hold.
    fn forget(&mut self, slots: &[u32], pinned: &dyn Fn(u32) -> bool);

    /// Makes room in memory, if the backend has a bound on it: slots that `pinned` does not hold may be given to other
    /// keys. Called between batches, when no slot is in use; also cleans up some of what has expired.
    fn tidy(&mut self, pinned: &dyn Fn(u32) -> bool) -> Result<()>;

    /// The barrier: what there is now is what the snapshot will have, though it is written later. Sections are those of
    /// [`section_of`]. In the native form a backend may give files instead. Errors: as the operator's.
    fn snapshot(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()>;

    /// Writes more of it, a few milliseconds' worth; whether it is complete. Errors: it is given up.
    fn go_on_snapshot(&mut self, into: &mut SnapshotWriter) -> Result<bool>;

    /// It is not wanted any more.
    fn abort_snapshot(&mut self);

    /// Takes what it had at a checkpoint; it is empty. Errors: `Corrupt`; what the outside refuses.
    fn restore(&mut self, from: &Restored<'_>) -> Result<()>;

    /// The keys with the most bytes, as text, with their bytes, the most first: for a message.
    fn largest(&mut self, count: usize) -> Result<Vec<(String, u64)>>;

    /// Bytes that whoever keeps a part of the state in memory, and the rest here, may hold there. None: all is in memory
    /// here too, so that nothing is won.
    fn room(&self) -> Option<u64> {
        None
    }

    /// Bytes that a key in memory takes there, about, where there is a [`room`](Self::room).
    fn key_bytes(&self) -> u64 {
        0
    }

    /// Another state, empty, that is kept where this one is: for what whoever uses this one has beside it. None where
    /// there is no [`room`](Self::room). Errors: what the outside refuses.
    fn beside(&self, _owner: &StateOwner) -> Result<Option<Box<dyn KeyedState>>> {
        Ok(None)
    }

    /// Keys held in memory.
    fn len(&self) -> usize;

    /// Whether there is no key.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, in memory and on disk.
    fn bytes(&self) -> u64;
}

/// State in memory, all of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapBackend;

impl StateBackend for HeapBackend {
    fn keyed(&self, owner: &StateOwner) -> Result<Box<dyn KeyedState>> {
        Ok(Box::new(HeapState::new(
            owner.key.clone(),
            &owner.states,
            owner.max_parallelism,
        )))
    }
}

/// The section of a state in snapshots, whatever the backend: the key and the map's key are those of the entries, the
/// value is the state's, a field after the other.
#[must_use]
pub fn section_of(key: &[Field], state: &StateSpec) -> SectionSpec {
    let sub = state.map_key.as_ref().map_or(&[][..], |s| &s.fields);
    let kind = SectionKind::of_state(state.kind, state.map_key.is_some());
    SectionSpec {
        stamped: state.ttl.is_some(),
        ..keyed_section(kind, &state.name, key, sub, &state.schema.fields)
    }
}

/// The section of a state, and what it was in former versions of the job.
#[must_use]
pub fn declared(key: &[Field], state: &StateSpec) -> Declared {
    Declared {
        section: section_of(key, state),
        past: state.past.clone(),
    }
}

/// Refuses state beyond the limit.
pub fn check_bytes(bytes: u64, limits: &Limits) -> Result<()> {
    if bytes <= limits.state_bytes {
        return Ok(());
    }
    Err(over_limit(bytes, limits))
}

/// Refuses state beyond the limit, and names its largest keys. `more`: bytes that belong to it and lie elsewhere.
pub fn check_keyed(state: &mut dyn KeyedState, more: u64, limits: &Limits) -> Result<()> {
    let bytes = state.bytes() + more;
    if bytes <= limits.state_bytes {
        return Ok(());
    }
    let largest = state.largest(LARGEST)?;
    let named: Vec<String> = largest
        .iter()
        .map(|(key, bytes)| format!("{key} ({bytes} bytes)"))
        .collect();
    let error = over_limit(bytes, limits);
    Err(if named.is_empty() {
        error
    } else {
        error.at("largest keys", named.join(" "))
    })
}

/// Keys that a message names.
const LARGEST: usize = 3;

fn over_limit(bytes: u64, limits: &Limits) -> Error {
    let message = format!(
        "the state has {bytes} bytes, more than the {} that state-bytes allows",
        limits.state_bytes
    );
    Error::new(ErrorCode::StateLimit, message)
        .help("raise it with --limit state-bytes=N, or keep less under each key")
}
