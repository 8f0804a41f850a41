//! What a sink shows against what it should show: nothing lost, nothing twice, the rows of a key in order.

use std::collections::BTreeMap;

use crate::world::Row;

/// What is wrong. A key is the first `columns` numbers of a row.
#[must_use]
pub fn compare(uid: &str, columns: usize, there: &[Row], wanted: &[Row]) -> Option<String> {
    let (mut lost, mut twice) = (0, 0);
    let mut counts: BTreeMap<&Row, i64> = BTreeMap::new();
    wanted
        .iter()
        .for_each(|row| *counts.entry(row).or_default() += 1);
    there
        .iter()
        .for_each(|row| *counts.entry(row).or_default() -= 1);
    for count in counts.values() {
        lost += (*count).max(0);
        twice += (-count).max(0);
    }
    if lost + twice > 0 {
        let sample = counts.iter().find(|(_, count)| **count != 0);
        return Some(format!(
            "sink '{uid}' has {} rows: {lost} are missing and {twice} are too many, such as {:?}",
            there.len(),
            sample.map(|(row, _)| row)
        ));
    }
    let (there, wanted) = (by_key(columns, there), by_key(columns, wanted));
    let unordered = wanted
        .iter()
        .filter(|(key, rows)| there.get(*key) != Some(rows));
    let unordered: Vec<_> = unordered.map(|(key, _)| key).collect();
    unordered.first().map(|key| {
        format!(
            "sink '{uid}' has the rows of {} keys in another order, such as {key:?}",
            unordered.len()
        )
    })
}

fn by_key(columns: usize, rows: &[Row]) -> BTreeMap<Vec<i64>, Vec<Row>> {
    let mut keys: BTreeMap<Vec<i64>, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let key = row.iter().take(columns).copied().collect();
        keys.entry(key).or_default().push(*row);
    }
    keys
}
