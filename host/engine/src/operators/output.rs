//! From what a function returns to a batch: made columns, and those that follow from the parents of its rows.

use pelton_model::batch::Batch;
use pelton_model::{Error, Result};

use crate::function::OutputRows;

/// Where a column of an output stream comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// The function made it: an index into [`OutputRows::columns`].
    Made(usize),
    /// It follows from the parent rows: an index into the parent's columns.
    Kept(usize),
}

/// The batch that `rows` stand for, of these columns in order. `parent` is what the call consumed; its selected rows
/// are those that parents count. Event times and row kinds follow by parent where the function gave none.
///
/// Where no column is made, rows are only selected, and nothing is copied. Errors: indices that are not there.
pub fn assemble(rows: OutputRows, parent: &Batch, columns: &[From]) -> Result<Batch> {
    let missing = || Error::bug("an output names a column that is not there");
    let kept = columns
        .iter()
        .filter_map(|c| {
            if let From::Kept(i) = c {
                Some(parent.columns().get(*i).cloned().ok_or_else(missing))
            } else {
                None
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let all_kept = kept.len() == columns.len();
    let own_rows = rows.times.is_some() || rows.kinds.is_some();
    let base = parent.clone().with_columns(kept)?;
    let base = match rows.parents {
        Some(parents) => base.select(parents)?,
        None if base.rows() == rows.rows => base,
        None => {
            return Err(Error::bug(
                "an output has other rows than its input, and no parents",
            ));
        }
    };
    if all_kept {
        if !own_rows {
            return Ok(base);
        }
        let base = base.materialize()?;
        let times = rows.times.or_else(|| base.times().cloned());
        let kinds = rows.kinds.or_else(|| base.kinds().cloned());
        return base.with_times(times)?.with_kinds(kinds);
    }
    let base = base.materialize()?;
    let (times, kinds) = (
        rows.times.or_else(|| base.times().cloned()),
        rows.kinds.or_else(|| base.kinds().cloned()),
    );
    let mut kept = base.columns().iter();
    let all = columns
        .iter()
        .map(|c| match c {
            From::Made(i) => rows.columns.get(*i).cloned(),
            From::Kept(_) => kept.next().cloned(),
        })
        .map(|c| c.ok_or_else(missing))
        .collect::<Result<Vec<_>>>()?;
    Batch::new(all, rows.rows)?
        .with_times(times)?
        .with_kinds(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array, cast::AsArray, types::Int64Type};
    use std::sync::Arc;

    fn column(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn parent() -> Batch {
        let all = Batch::new(
            vec![column(&[10, 11, 12, 13]), column(&[20, 21, 22, 23])],
            4,
        )
        .unwrap();
        all.with_times(Some(vec![0, 1, 2, 3].into()))
            .unwrap()
            .select(vec![1, 2, 3].into())
            .unwrap()
    }

    fn output(rows: usize, parents: Option<Vec<u32>>, columns: Vec<ArrayRef>) -> OutputRows {
        OutputRows {
            step: 0,
            port: 0,
            rows,
            parents: parents.map(Into::into),
            columns,
            times: None,
            kinds: None,
            watermarks: None,
        }
    }

    fn show(batch: &Batch) -> (Vec<Vec<i64>>, Vec<i64>) {
        let b = batch.materialize().unwrap();
        let columns = b
            .columns()
            .iter()
            .map(|c| c.as_primitive::<Int64Type>().values().to_vec())
            .collect();
        (columns, b.times().unwrap().to_vec())
    }

    #[test]
    fn kept_columns_are_only_selected() {
        let b = assemble(
            output(2, Some(vec![0, 2]), vec![]),
            &parent(),
            &[From::Kept(1)],
        )
        .unwrap();
        assert!(
            b.selection().is_some() && b.len() == 4,
            "nothing was copied"
        );
        assert_eq!(show(&b), (vec![vec![21, 23]], vec![1, 3]));
    }

    #[test]
    fn made_columns_stand_beside_kept_ones() {
        let made = column(&[7, 8, 9, 7]);
        let from = [From::Made(0), From::Kept(0)];
        let b = assemble(
            output(4, Some(vec![0, 0, 1, 2]), vec![made]),
            &parent(),
            &from,
        )
        .unwrap();
        assert_eq!(
            show(&b),
            (
                vec![vec![7, 8, 9, 7], vec![11, 11, 12, 13]],
                vec![1, 1, 2, 3]
            )
        );
        let b = assemble(output(3, None, vec![column(&[1, 2, 3])]), &parent(), &from).unwrap();
        assert_eq!(
            show(&b),
            (vec![vec![1, 2, 3], vec![11, 12, 13]], vec![1, 2, 3])
        );
    }

    #[test]
    fn rows_without_parents_must_be_the_same_rows() {
        assert!(
            assemble(
                output(2, None, vec![column(&[1, 2])]),
                &parent(),
                &[From::Made(0)]
            )
            .is_err()
        );
    }
}
