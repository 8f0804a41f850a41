//! Keys that stand for key groups: what belongs to no single key, and moves with key groups all the same.
//! Needs: the hash of keys.

use std::sync::Arc;

use pelton_model::key::{KeyGroup, KeyGroupRange, hash_bytes};

/// By key group of a task, the least salt with which a key is in it: `prefix`, the canonical encoding of the key's fields
/// before the salt, which is a `u32` and the last.
pub(crate) fn salts(prefix: &[u8], groups: KeyGroupRange, max_parallelism: u32) -> Arc<[u32]> {
    let count = groups.end.saturating_sub(groups.start) as usize;
    let mut salts = vec![None; count];
    let mut left = count;
    let mut bytes = prefix.to_vec();
    for salt in 0..u32::MAX {
        if left == 0 {
            break;
        }
        bytes.truncate(prefix.len());
        bytes.extend_from_slice(&salt.to_be_bytes());
        let group = KeyGroup::of(hash_bytes(&bytes), max_parallelism).0;
        let place = group.checked_sub(groups.start);
        if let Some(vacant @ None) = place.and_then(|p| salts.get_mut(p as usize)) {
            *vacant = Some(salt);
            left -= 1;
        }
    }
    salts.into_iter().map(Option::unwrap_or_default).collect()
}
