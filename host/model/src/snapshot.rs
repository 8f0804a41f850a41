//! The canonical format of state: what a task writes at a barrier, whatever backend keeps it, and what a savepoint has.
//! Needs: schema, key. Savepoints outlive releases: the bytes are frozen by golden tests.
//!
//! State is *sections* of *entries*. A section is one state of one operator (or its timers, its windows, a source's
//! positions); an entry has three byte strings, each in the [canonical encoding](crate::encoding) of the section's fields
//! or empty: the key, what stands below the key (a map's key, a timer's time, a window), and the value.
//!
//! A *state file* has the sections of one task, in blocks of one section and one key group each:
//!
//! ```text
//! file   = "PLTSTATE" version:u32 block* directory trailer
//! block  = length:u32 checksum:u64 section:u32 group:u32 count:u32 entry*        length: of the entries alone
//! entry  = varint(key) key varint(sub) sub varint(value) value                   varint: LEB128 of the length in bytes
//! directory = a block of section 0xffff_ffff: for each block  section:u32 group:u32 offset:u64 length:u32 count:u32
//! trailer   = offset of the directory:u64 "PLTSTEND"
//! ```
//!
//! Numbers are little endian; the checksum is XXH3-64 of everything in the block after it. `group` is
//! [`NO_GROUP`] in sections that have no key. Which number stands for which section is in the
//! [metadata](crate::checkpoint).

mod file;

use serde::{Deserialize, Serialize};

use crate::graph::StateKind;
use crate::schema::Field;

pub use file::{BLOCK_BYTES, Block, BlockRef, Entry, StateReader, StateWriter};

/// The version of state files that is written.
pub const STATE_VERSION: u32 = 1;

/// Stands for the key group of entries without a key.
pub const NO_GROUP: u32 = u32::MAX;

/// What a section is of, and of which types.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SectionSpec {
    /// The operator's uid.
    pub uid: String,
    /// The state's name; unique with the kind in its operator.
    pub name: String,
    /// What it is.
    pub kind: SectionKind,
    /// The key's fields; none where there is no key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Field>,
    /// The fields of what stands below the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sub: Vec<Field>,
    /// The value's fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub value: Vec<Field>,
    /// Values begin with the time by which they expire: when they were last written, or read; i64, big endian.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stamped: bool,
}

/// What a section is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SectionKind {
    /// A value of each key; also reducing and aggregating state.
    Value,
    /// A list of each key: an entry an item, those of a key in their order.
    List,
    /// A map of each key: `sub` is the map's key.
    Map,
    /// A map of lists of each key: `sub` is the map's key, an entry an item, in their order.
    MapOfLists,
    /// A list of the operator, of which each task has its share.
    OperatorList,
    /// A list of the operator, of which each task gets all after a restart.
    UnionList,
    /// A map of the operator that is the same in all tasks: `sub` is the map's key.
    Broadcast,
    /// Event-time timers: `sub` is the time.
    EventTimers,
    /// Processing-time timers: `sub` is the time.
    ProcessingTimers,
    /// What a window operator holds for a key: `sub` is the window or the slice.
    Windows,
    /// The event time that an operator has reached.
    Watermark,
    /// Where a source stands: `sub` is the split, the value its position.
    Positions,
    /// What a sink's writer needs to go on.
    Writer,
    /// What was in flight to an operator on one channel when a barrier overtook it: `sub` is a number that counts up, the
    /// value an element (of rows or of a watermark), and the value's fields are those of the rows.
    InFlight,
}

/// Who gets the entries of a section after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// The task that has the key group.
    KeyGroup,
    /// Each entry goes to one task; with the same parallelism to the one that wrote it, else in turn.
    Split,
    /// Every task gets all.
    Union,
    /// Every task gets those of the one task with the lowest number that has any.
    Broadcast,
    /// The task of the same number; with another parallelism, in turn.
    Task,
    /// The task of the same number; with another parallelism, every task gets all.
    Own,
}

impl SectionKind {
    /// Of a user's state.
    #[must_use]
    pub fn of_state(kind: StateKind, has_map_key: bool) -> Self {
        match kind {
            StateKind::List if has_map_key => Self::MapOfLists,
            StateKind::List => Self::List,
            StateKind::Map => Self::Map,
            StateKind::OperatorList => Self::OperatorList,
            StateKind::UnionList => Self::UnionList,
            StateKind::Broadcast => Self::Broadcast,
            _ if has_map_key => Self::Map,
            _ => Self::Value,
        }
    }

    /// Whether it is a state that a user has declared.
    #[must_use]
    pub fn is_state(self) -> bool {
        matches!(
            self,
            Self::Value
                | Self::List
                | Self::Map
                | Self::MapOfLists
                | Self::OperatorList
                | Self::UnionList
                | Self::Broadcast
        )
    }

    /// Who gets its entries.
    #[must_use]
    pub fn distribution(self) -> Distribution {
        match self {
            Self::Value
            | Self::List
            | Self::Map
            | Self::MapOfLists
            | Self::EventTimers
            | Self::ProcessingTimers
            | Self::Windows => Distribution::KeyGroup,
            Self::OperatorList => Distribution::Split,
            Self::UnionList | Self::Positions => Distribution::Union,
            Self::Watermark | Self::InFlight => Distribution::Own,
            Self::Broadcast => Distribution::Broadcast,
            Self::Writer => Distribution::Task,
        }
    }
}
