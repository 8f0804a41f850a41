//! Keys and values as they stand in the database: the table is in the crate's documentation.

use pelton_model::key::{KeyGroup, hash_bytes};

/// Bytes before a key: its key group.
const GROUP: usize = 2;
/// Bytes of a key's length.
const LENGTH: usize = 4;
/// Bytes of an item's number.
pub(crate) const NUMBER: usize = 8;
/// Bytes of a stamp.
pub(crate) const STAMP: usize = 8;

/// What keys begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The key group, of so many.
    Keyed {
        /// The job's number of key groups.
        max_parallelism: u32,
    },
    /// The number of the task whose state it is.
    Task(u32),
}

impl Place {
    fn put(self, key: &[u8], out: &mut Vec<u8>) {
        let number = match self {
            Self::Keyed { max_parallelism } => KeyGroup::of(hash_bytes(key), max_parallelism).0,
            Self::Task(task) => task,
        };
        // Neither is above u16: `model::limits` says so.
        out.extend_from_slice(&(number as u16).to_be_bytes());
    }

    /// Appends the whole key of a value.
    pub(crate) fn value_key(self, key: &[u8], out: &mut Vec<u8>) {
        self.put(key, out);
        out.extend_from_slice(key);
    }

    /// Appends what all keys of a list or a map begin with.
    pub(crate) fn entry_prefix(self, key: &[u8], out: &mut Vec<u8>) {
        self.put(key, out);
        out.extend_from_slice(&(key.len() as u32).to_be_bytes());
        out.extend_from_slice(key);
    }
}

const _: () = assert!(
    pelton_model::limits::KEY_GROUPS_MAX <= 1 << 16
        && pelton_model::limits::PARALLELISM_MAX <= 1 << 16,
    "two bytes hold a key group, and a task's number"
);

/// What the key of a list's item or a map's entry has in common with all others of its key; all of it where it is none.
pub(crate) fn entry_prefix_of(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .get(GROUP..GROUP + LENGTH)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    let end = (GROUP + LENGTH).saturating_add(length as usize);
    bytes.get(..end).unwrap_or(bytes)
}

/// How what stands below a key is told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// There is one value.
    Value,
    /// By numbers.
    List,
    /// By map keys.
    Map,
    /// By map keys, then by numbers.
    MapOfLists,
}

/// The key and the map key in a whole key. None where it is too short.
pub(crate) fn split_entry(shape: Shape, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if shape == Shape::Value {
        return Some((bytes.get(GROUP..)?, &[]));
    }
    let prefix = entry_prefix_of(bytes);
    let key = prefix.get(GROUP + LENGTH..)?;
    let below = bytes.get(prefix.len()..)?;
    match shape {
        Shape::Value | Shape::Map => Some((key, below)),
        Shape::List | Shape::MapOfLists => {
            let end = below.len().checked_sub(NUMBER)?;
            Some((key, below.get(..end)?))
        }
    }
}

/// The key group that an entry's key begins with, or the task's number.
pub(crate) fn group_of(bytes: &[u8]) -> u32 {
    let group = bytes.get(..GROUP).and_then(|b| b.try_into().ok());
    u32::from(group.map_or(0, u16::from_be_bytes))
}

/// The key in a prefix of entries.
pub(crate) fn key_of(prefix: &[u8]) -> &[u8] {
    prefix.get(GROUP + LENGTH..).unwrap_or_default()
}

/// Splits a value into its stamp and its encoding. None where it is too short.
pub(crate) fn unstamp(stamped: bool, bytes: &[u8]) -> Option<(i64, &[u8])> {
    if !stamped {
        return Some((0, bytes));
    }
    let (stamp, value) = bytes.split_at_checked(STAMP)?;
    Some((i64::from_be_bytes(stamp.try_into().ok()?), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Frozen: savepoints depend on these bytes.
    #[test]
    fn golden_keys() {
        let keyed = Place::Keyed {
            max_parallelism: 128,
        };
        let key = (42_i64 ^ i64::MIN).to_be_bytes();
        let mut out = Vec::new();
        keyed.value_key(&key, &mut out);
        assert_eq!(hex(&out), "004c800000000000002a");
        out.clear();
        keyed.entry_prefix(&key, &mut out);
        assert_eq!(hex(&out), "004c00000008800000000000002a");
        out.extend_from_slice(&7_u64.to_be_bytes());
        assert_eq!(hex(&out), "004c00000008800000000000002a0000000000000007");
        out.clear();
        Place::Task(3).entry_prefix(&[], &mut out);
        assert_eq!(hex(&out), "000300000000");
    }

    #[test]
    fn entries_of_a_key_have_their_prefix_in_common_and_no_other_key_has_it() {
        let place = Place::Keyed { max_parallelism: 1 };
        let mut a = Vec::new();
        place.entry_prefix(b"ab", &mut a);
        let prefix = a.len();
        a.extend_from_slice(b"cd");
        assert_eq!(entry_prefix_of(&a), &a[..prefix]);
        let mut b = Vec::new();
        place.entry_prefix(b"abcd", &mut b);
        assert!(!b.starts_with(&a[..prefix]));
        assert_eq!(entry_prefix_of(b"xyz"), b"xyz");
        assert_eq!(
            split_entry(Shape::Map, &a).unwrap(),
            (&b"ab"[..], &b"cd"[..])
        );
        a.extend_from_slice(&7_u64.to_be_bytes());
        let split = split_entry(Shape::MapOfLists, &a).unwrap();
        assert_eq!(split, (&b"ab"[..], &b"cd"[..]));
        assert_eq!(split_entry(Shape::List, &b), None);
        assert_eq!(
            split_entry(Shape::Value, b"..ab").unwrap(),
            (&b"ab"[..], &b""[..])
        );
    }

    #[test]
    fn stamps_stand_before_values() {
        let mut bytes = 5_i64.to_be_bytes().to_vec();
        bytes.push(9);
        assert_eq!(unstamp(true, &bytes), Some((5, &[9_u8][..])));
        assert_eq!(unstamp(false, &bytes), Some((0, bytes.as_slice())));
        assert_eq!(unstamp(true, b"short"), None);
    }
}
