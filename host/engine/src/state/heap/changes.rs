//! Changes of lists and maps, as functions return them.

use pelton_model::Result;

use super::is_full;
use super::lists::ListStore;
use super::maps::MapStore;
use super::packed::{CHUNK, chunk};
use crate::function::{EntryChange, EntryChanges, Slots};
use crate::state::EncodedRows;
use crate::state::rows::misfit;

pub(super) fn write_list(
    list: &mut ListStore,
    slots: &[u32],
    entries: &EntryChanges,
    values: &Slots,
) -> Result<()> {
    if entries.map_keys.is_some() {
        return Err(misfit());
    }
    let (kinds, slots) = changes(slots, entries, values)?;
    let values = EncodedRows::new(list.fields(), values)?;
    let mut next = 0;
    for (row, (change, slot)) in kinds.zip(&slots).enumerate() {
        if row % CHUNK == 0 {
            list.fetch(chunk(&slots, row));
        }
        let slot = *slot;
        match change {
            EntryChange::Put => {
                list.push(slot, values.row(next));
                next += 1;
            }
            EntryChange::Clear => list.clear(slot),
            EntryChange::Remove => return Err(misfit()),
        }
    }
    Ok(())
}

pub(super) fn write_map(
    map: &mut MapStore,
    slots: &[u32],
    entries: &EntryChanges,
    values: &Slots,
) -> Result<()> {
    let keys = entries.map_keys.as_ref().ok_or_else(misfit)?;
    if keys.rows != entries.changes.len() {
        return Err(misfit());
    }
    let missing = |row: usize| keys.present.as_ref().is_some_and(|p| !p.value(row));
    let (kinds, slots) = changes(slots, entries, values)?;
    let (encoded, values) = (map.keys(keys)?, EncodedRows::new(map.fields(), values)?);
    let (mut next, mut scratch) = (0, Vec::new());
    for (row, (change, slot)) in kinds.zip(&slots).enumerate() {
        if row % CHUNK == 0 {
            map.fetch(chunk(&slots, row));
        }
        let slot = *slot;
        match change {
            EntryChange::Clear => map.clear(slot),
            _ if missing(row) => return Err(misfit()),
            EntryChange::Put => {
                map.put(slot, encoded.row(row), values.row(next), &mut scratch);
                next += 1;
            }
            EntryChange::Remove => map.remove(slot, encoded.row(row)),
        }
    }
    Ok(())
}

/// Each change, and the slot of each. Errors: `BadReply` where lengths don't agree, or an ordinal or a change is none.
fn changes<'a>(
    slots: &[u32],
    entries: &'a EntryChanges,
    values: &Slots,
) -> Result<(impl Iterator<Item = EntryChange> + 'a, Vec<u32>)> {
    let put = |c: &&u8| **c == EntryChange::Put as u8;
    let is_change = |c: &u8| *c <= EntryChange::Clear as u8;
    if entries.ordinals.len() != entries.changes.len()
        || entries.changes.iter().filter(put).count() != values.rows
        || !is_full(values)
        || !entries.changes.iter().all(is_change)
    {
        return Err(misfit());
    }
    let change = |c: &u8| match *c {
        0 => EntryChange::Put,
        1 => EntryChange::Remove,
        _ => EntryChange::Clear,
    };
    let slot = |o: &u32| slots.get(*o as usize).copied().ok_or_else(misfit);
    let slots = entries.ordinals.iter().map(slot).collect::<Result<_>>()?;
    Ok((entries.changes.iter().map(change), slots))
}
