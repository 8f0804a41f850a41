//! Rows of a batch by the slice that their time falls into.

use std::collections::BTreeMap;

use pelton_model::time::EventTime;
use pelton_model::window::Assigner;

use crate::state::RowSet;

/// Rows of a batch that share a slice.
pub(in crate::operators) struct Group {
    pub(in crate::operators) start: Option<i64>,
    /// None: all.
    pub(in crate::operators) rows: Option<Vec<u32>>,
}

impl Group {
    pub(in crate::operators) fn set(&self, len: usize) -> RowSet<'_> {
        self.rows
            .as_deref()
            .map_or(RowSet::First(len), RowSet::These)
    }

    pub(in crate::operators) fn each(&self, len: usize) -> Vec<u32> {
        self.rows
            .clone()
            .unwrap_or_else(|| (0..len as u32).collect())
    }
}

/// Puts rows together that fall into one slice, in the order of their first rows.
pub(in crate::operators) fn group(assigner: Assigner, times: &[i64]) -> Vec<Group> {
    let slice = |t: i64| assigner.slice_start(EventTime(t));
    let (least, greatest) = times
        .iter()
        .fold((i64::MAX, i64::MIN), |(a, b), t| (a.min(*t), b.max(*t)));
    let first = slice(least);
    if first == slice(greatest) {
        return vec![Group {
            start: first,
            rows: None,
        }];
    }
    let mut groups: Vec<(Option<i64>, Vec<u32>)> = Vec::new();
    let mut places: BTreeMap<Option<i64>, usize> = BTreeMap::new();
    let length = assigner.slice_ms();
    let (mut current, mut place) = (None, usize::MAX);
    for (row, time) in times.iter().enumerate() {
        // Neighbours are mostly of the same slice.
        let same = current.is_some_and(|start: i64| {
            time.checked_sub(start)
                .is_some_and(|d| d >= 0 && d < length)
        });
        if !same {
            current = slice(*time);
            place = *places.entry(current).or_insert(groups.len());
            if place == groups.len() {
                groups.push((current, Vec::new()));
            }
        }
        if let Some((_, rows)) = groups.get_mut(place) {
            rows.push(row as u32);
        }
    }
    groups
        .into_iter()
        .map(|(start, rows)| Group {
            start,
            rows: Some(rows),
        })
        .collect()
}
