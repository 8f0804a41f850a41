//! The operators of the job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use pelton_model::Result;
use pelton_model::barrier::Barrier;
use pelton_model::batch::Batch;
use pelton_model::id::CheckpointId;
use pelton_model::key::{KeyGroup, hash_i64};
use pelton_model::schema::{DataType, Field};
use pelton_model::snapshot::{Entry as StateEntry, SectionKind};
use pelton_model::time::Monotonic;

use super::{KEYS, MAX, World};
use crate::connector::{Poll, Position, Prepared, SinkWriter, SourceProgress, SourceReader};
use crate::operator::{Context, Operator};
use crate::snapshot::{Restored, SnapshotWriter, keyed_section};

/// A source of rows with numbers: its splits are dealt to its tasks.
pub(super) struct Reader {
    pub(super) source: i64,
    pub(super) splits: Vec<(i64, i64)>,
    pub(super) rows: i64,
}

impl SourceReader for Reader {
    fn poll(&mut self, _now: Monotonic, rows_max: usize) -> Result<Poll> {
        let rows = self.rows;
        // The one that is behind.
        let open = self.splits.iter_mut().filter(|(_, at)| *at < rows);
        let Some((split, at)) = open.min_by_key(|(_, at)| *at) else {
            return Ok(Poll::End);
        };
        let to = rows.min(*at + rows_max as i64);
        let column = |f: &dyn Fn(i64) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values((*at..to).map(f)))
        };
        let (source, split) = (self.source, *split);
        let columns = vec![
            column(&|n| (n * 31 + split) % KEYS),
            column(&|_| source),
            column(&|_| split),
            column(&|n| n),
            column(&|_| 0),
        ];
        let batch = Batch::new(columns, (to - *at) as usize)?;
        *at = to;
        Ok(Poll::Rows(batch))
    }
    fn progress(&self) -> SourceProgress {
        SourceProgress::default()
    }
    fn positions(&self) -> Vec<Position> {
        let position = |(split, at): &(i64, i64)| Position {
            split: split.to_string(),
            at: at.to_be_bytes().to_vec(),
        };
        self.splits.iter().map(position).collect()
    }
}

/// Counts the rows of each key and says with each row which it is.
pub(super) struct Count {
    pub(super) counts: BTreeMap<i64, i64>,
    pub(super) world: Arc<World>,
}

impl Operator for Count {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        let batch = batch.materialize()?;
        self.world
            .processed
            .fetch_add(batch.len(), Ordering::SeqCst);
        let keys = batch.columns()[0].as_primitive::<Int64Type>().clone();
        let counts = keys.values().iter().map(|key| {
            let count = self.counts.entry(*key).or_default();
            *count += 1;
            *count
        });
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(counts));
        let mut columns = batch.columns().to_vec();
        columns[4] = counts;
        cx.emit(0, batch.with_columns(columns)?);
        Ok(())
    }
    fn snapshot(&mut self, _barrier: Option<Barrier>, into: &mut SnapshotWriter) -> Result<()> {
        let field = |name: &str| [Field::new(name, DataType::I64)];
        let spec = keyed_section(SectionKind::Value, "count", &field("k"), &[], &field("n"));
        let number = into.section(spec);
        for (key, count) in &self.counts {
            let group = KeyGroup::of(hash_i64(*key), MAX).0;
            let entry = StateEntry {
                key: &key.to_be_bytes(),
                sub: &[],
                value: &count.to_be_bytes(),
            };
            into.put(number, group, entry);
        }
        Ok(())
    }
    fn restore(&mut self, from: &Restored<'_>, _cx: &mut Context<'_>) -> Result<()> {
        let number = |b: &[u8]| i64::from_be_bytes(b.try_into().unwrap());
        from.entries(
            |s| s.name == "count",
            |_, _, entry| {
                self.counts.insert(number(entry.key), number(entry.value));
                Ok(())
            },
        )
    }
}

/// Makes rows visible with their checkpoint; takes none while the world is blocked.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) world: Arc<World>,
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        for row in 0..batch.len() {
            for column in batch.columns() {
                let value = column.as_primitive::<Int64Type>().value(row);
                self.bytes.extend_from_slice(&value.to_be_bytes());
            }
        }
        Ok(())
    }
    fn has_room(&mut self) -> bool {
        !self.world.blocked.load(Ordering::SeqCst)
    }
    fn prepare(&mut self, _checkpoint: CheckpointId) -> Result<Prepared> {
        Ok(Prepared {
            committables: vec![std::mem::take(&mut self.bytes)],
            state: None,
        })
    }
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
