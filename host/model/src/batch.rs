//! A batch: rows of one stream as columns, with their event times, and optionally kinds and a selection.
//!
//! A *selection* names the rows that are really there, in order, as indices into the columns. Filters only select; an
//! exchange, and whatever keeps rows, materialises first. The schema is a property of the stream, not of the batch.

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_select::take::take;

use crate::error::{Error, Result};

/// What a row does to the table that its stream stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`
    Insert = 0,
    /// `-U`: takes the former version back
    UpdateBefore = 1,
    /// `+U`
    UpdateAfter = 2,
    /// `-D`
    Delete = 3,
}

/// Rows of one stream. Cheap to clone: columns are shared.
#[derive(Clone, Debug)]
pub struct Batch {
    columns: Vec<ArrayRef>,
    /// Rows in the columns, selected or not.
    len: usize,
    times: Option<ScalarBuffer<i64>>,
    kinds: Option<ScalarBuffer<u8>>,
    selection: Option<ScalarBuffer<u32>>,
}

impl Batch {
    /// A batch of columns, each of `len` rows. Errors: a column of another length, more than `u32::MAX` rows.
    pub fn new(columns: Vec<ArrayRef>, len: usize) -> Result<Self> {
        if columns.iter().any(|c| c.len() != len) || u32::try_from(len).is_err() {
            return Err(Error::bug("columns of a batch differ in length"));
        }
        Ok(Self {
            columns,
            len,
            times: None,
            kinds: None,
            selection: None,
        })
    }

    /// The same rows with event times, one for each row in the columns.
    pub fn with_times(mut self, times: Option<ScalarBuffer<i64>>) -> Result<Self> {
        if times.as_ref().is_some_and(|t| t.len() != self.len) {
            return Err(Error::bug("event times differ in length from their batch"));
        }
        self.times = times;
        Ok(self)
    }

    /// The same rows with [`RowKind`]s, one for each row in the columns; none means that all are inserts.
    pub fn with_kinds(mut self, kinds: Option<ScalarBuffer<u8>>) -> Result<Self> {
        if kinds.as_ref().is_some_and(|k| k.len() != self.len) {
            return Err(Error::bug("row kinds differ in length from their batch"));
        }
        self.kinds = kinds;
        Ok(self)
    }

    /// The same rows with other columns of the same length (a selection stays).
    pub fn with_columns(mut self, columns: Vec<ArrayRef>) -> Result<Self> {
        if columns.iter().any(|c| c.len() != self.len) {
            return Err(Error::bug("columns of a batch differ in length"));
        }
        self.columns = columns;
        Ok(self)
    }

    /// Of the selected rows, only those that `rows` names (indices into the selected rows, any order, repeats allowed).
    /// Errors: an index out of bounds.
    pub fn select(&self, rows: ScalarBuffer<u32>) -> Result<Self> {
        let bound = self.rows();
        if rows.iter().any(|r| *r as usize >= bound) {
            return Err(Error::bug("a selection names a row that is not there"));
        }
        let selection = match &self.selection {
            None => rows,
            Some(old) => rows
                .iter()
                .map(|r| old.get(*r as usize).copied().unwrap_or(0))
                .collect(),
        };
        Ok(Self {
            selection: Some(selection),
            ..self.clone()
        })
    }

    /// Rows that are there: those selected.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.selection.as_ref().map_or(self.len, |s| s.len())
    }

    /// Rows in the columns, selected or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// The columns, with rows that may not be selected.
    #[must_use]
    pub fn columns(&self) -> &[ArrayRef] {
        &self.columns
    }

    /// Event times of all rows in the columns.
    #[must_use]
    pub fn times(&self) -> Option<&ScalarBuffer<i64>> {
        self.times.as_ref()
    }

    /// Row kinds of all rows in the columns; none means that all are inserts.
    #[must_use]
    pub fn kinds(&self) -> Option<&ScalarBuffer<u8>> {
        self.kinds.as_ref()
    }

    /// Which rows are there; none means all.
    #[must_use]
    pub fn selection(&self) -> Option<&ScalarBuffer<u32>> {
        self.selection.as_ref()
    }

    /// The same rows with nothing left out of the columns. Free where there is no selection.
    pub fn materialize(&self) -> Result<Self> {
        let Some(selection) = &self.selection else {
            return Ok(self.clone());
        };
        let whole = selection.len() == self.len
            && selection.iter().enumerate().all(|(i, s)| i == *s as usize);
        if whole {
            return Ok(Self {
                selection: None,
                ..self.clone()
            });
        }
        let indices = UInt32Array::new(selection.clone(), None);
        let columns = self
            .columns
            .iter()
            .map(|c| gather(c, &indices))
            .collect::<Result<_>>()?;
        let times = self.times.as_ref().map(|t| pick(t, selection));
        let kinds = self.kinds.as_ref().map(|k| pick(k, selection));
        Ok(Self {
            columns,
            len: selection.len(),
            times,
            kinds,
            selection: None,
        })
    }

    /// `len` rows from `offset` on, of the selected ones. Copies nothing.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        match &self.selection {
            Some(s) => Self {
                selection: Some(s.slice(offset, len)),
                ..self.clone()
            },
            None => Self {
                columns: self.columns.iter().map(|c| c.slice(offset, len)).collect(),
                len,
                times: self.times.as_ref().map(|t| t.slice(offset, len)),
                kinds: self.kinds.as_ref().map(|k| k.slice(offset, len)),
                selection: None,
            },
        }
    }

    /// Bytes of memory that the columns keep alive.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let columns: usize = self
            .columns
            .iter()
            .map(|c| c.get_buffer_memory_size())
            .sum();
        columns + self.times.as_ref().map_or(0, |t| t.len() * 8)
    }
}

fn pick<T: arrow_buffer::ArrowNativeType>(
    values: &ScalarBuffer<T>,
    rows: &ScalarBuffer<u32>,
) -> ScalarBuffer<T> {
    rows.iter()
        .map(|r| values.get(*r as usize).copied().unwrap_or_default())
        .collect()
}

/// The rows of `column` that `indices` names.
pub fn gather(column: &ArrayRef, indices: &UInt32Array) -> Result<ArrayRef> {
    take(column, indices, None).map_err(|e| Error::bug(format!("rows could not be gathered: {e}")))
}

/// One batch of the rows of several, in order; all must have the same types. Selections are materialised.
pub fn concat(batches: &[Batch]) -> Result<Batch> {
    let whole: Vec<Batch> = batches
        .iter()
        .map(Batch::materialize)
        .collect::<Result<_>>()?;
    let Some(first) = whole.first() else {
        return Batch::new(Vec::new(), 0);
    };
    if whole.len() == 1 {
        return Ok(first.clone());
    }
    let columns = (0..first.columns.len())
        .map(|i| {
            let parts: Vec<&dyn Array> = whole
                .iter()
                .filter_map(|b| b.columns.get(i))
                .map(|c| c.as_ref())
                .collect();
            arrow_select::concat::concat(&parts)
                .map_err(|e| Error::bug(format!("batches could not be joined: {e}")))
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let len = whole.iter().map(Batch::len).sum();
    let times = whole.iter().all(|b| b.times.is_some()).then(|| {
        whole
            .iter()
            .flat_map(|b| b.times.iter().flat_map(|t| t.iter().copied()))
            .collect::<ScalarBuffer<i64>>()
    });
    let kinds = whole.iter().any(|b| b.kinds.is_some()).then(|| {
        whole
            .iter()
            .flat_map(|b| match &b.kinds {
                Some(k) => k.to_vec(),
                None => vec![RowKind::Insert as u8; b.len],
            })
            .collect::<ScalarBuffer<u8>>()
    });
    Batch::new(columns, len)?
        .with_times(times)?
        .with_kinds(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, cast::AsArray, types::Int64Type};
    use std::sync::Arc;

    fn numbers(n: i64) -> Batch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
        Batch::new(vec![column], n as usize)
            .unwrap()
            .with_times(Some((0..n).map(|i| i * 10).collect()))
            .unwrap()
    }

    fn values(b: &Batch) -> Vec<i64> {
        b.materialize().unwrap().columns()[0]
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    }

    #[test]
    fn selections_compose_and_materialise_with_their_times() {
        let odd = numbers(10).select(vec![1, 3, 5, 7, 9].into()).unwrap();
        let two = odd.select(vec![4, 0].into()).unwrap();
        assert_eq!(values(&two), [9, 1]);
        assert_eq!(
            two.materialize().unwrap().times().unwrap().to_vec(),
            [90, 10]
        );
        assert_eq!(values(&odd.slice(1, 2)), [3, 5]);
        assert!(odd.select(vec![5].into()).is_err());
    }

    #[test]
    fn joining_keeps_order() {
        let b = concat(&[numbers(2), numbers(5).select(vec![4].into()).unwrap()]).unwrap();
        assert_eq!(values(&b), [0, 1, 4]);
        assert_eq!(b.times().unwrap().to_vec(), [0, 10, 40]);
    }
}
