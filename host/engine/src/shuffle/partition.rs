//! Which task below gets a row. Watermarks, idleness and the end go to all.
//! Needs: model::{element, key}. A selection is materialised here: what crosses an exchange stands alone.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_buffer::ScalarBuffer;
use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::graph::Partition;
use pelton_model::key::{KeyGroup, hashes};
use pelton_model::schema::{Field, Schema};
use pelton_model::{Error, Result};

use super::Sender;

/// Distributes one stream over channels.
pub struct Partitioner {
    senders: Vec<Box<dyn Sender>>,
    way: Way,
}

enum Way {
    /// One channel.
    Only,
    /// By key group: the key's ordinals and fields, and the channel of each group.
    Key {
        ordinals: Vec<usize>,
        fields: Vec<Field>,
        owners: Vec<u32>,
    },
    /// Whole batches in turn.
    Turn { next: usize },
    /// By a seeded sequence.
    Chance { state: u64 },
    /// All.
    All,
    /// By the number in this column.
    Custom { ordinal: usize },
}

impl Partitioner {
    /// A partitioner over the channels to `parallelism` tasks (fewer, where the plan joined fewer). `schema` is the
    /// stream's; `seed` decides a shuffle. Errors: a field that the stream does not have.
    pub fn new(
        partition: &Partition,
        schema: &Schema,
        senders: Vec<Box<dyn Sender>>,
        max_parallelism: u32,
        seed: u64,
    ) -> Result<Self> {
        let count = senders.len() as u32;
        let way = match partition {
            _ if count <= 1 => Way::Only,
            Partition::Key(names) => {
                let ordinals: Vec<usize> = names
                    .iter()
                    .map(|n| {
                        schema.index_of(n).ok_or_else(|| {
                            Error::bug(format!("key field '{n}' is not in the stream"))
                        })
                    })
                    .collect::<Result<_>>()?;
                let fields = ordinals
                    .iter()
                    .filter_map(|o| schema.fields.get(*o))
                    .cloned()
                    .collect();
                let owners = (0..max_parallelism)
                    .map(|g| KeyGroup(g).task(count, max_parallelism))
                    .collect();
                Way::Key {
                    ordinals,
                    fields,
                    owners,
                }
            }
            Partition::Broadcast => Way::All,
            Partition::Custom(name) => Way::Custom {
                ordinal: schema.index_of(name).ok_or_else(|| {
                    Error::bug(format!("partition field '{name}' is not in the stream"))
                })?,
            },
            Partition::Shuffle => Way::Chance { state: seed },
            Partition::Forward | Partition::Rebalance | Partition::Rescale | Partition::Global => {
                Way::Turn {
                    next: seed as usize % count.max(1) as usize,
                }
            }
        };
        Ok(Self { senders, way })
    }

    /// Whether every channel has room.
    pub fn has_room(&mut self) -> bool {
        self.senders.iter_mut().all(|s| s.has_room())
    }

    /// Sends an element to whom it belongs.
    pub fn send(&mut self, element: Element) -> Result<()> {
        match element {
            Element::Batch(batch) => self.send_rows(&batch.materialize()?),
            other => {
                for s in &mut self.senders {
                    s.send(other.clone());
                }
                Ok(())
            }
        }
    }

    fn send_rows(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let count = self.senders.len();
        let target = match &mut self.way {
            Way::Only => 0,
            Way::Turn { next } => {
                let this = *next % count.max(1);
                *next = this + 1;
                this
            }
            Way::Chance { state } => {
                *state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (*state >> 33) as usize % count.max(1)
            }
            Way::All => {
                for s in &mut self.senders {
                    s.send(Element::Batch(batch.clone()));
                }
                return Ok(());
            }
            Way::Key {
                ordinals,
                fields,
                owners,
            } => {
                let parts = split(batch, ordinals, fields, owners, count)?;
                return self.send_parts(batch, parts);
            }
            Way::Custom { ordinal } => {
                let parts = split_by_number(batch, *ordinal, count)?;
                return self.send_parts(batch, parts);
            }
        };
        if let Some(s) = self.senders.get_mut(target) {
            s.send(Element::Batch(batch.clone()));
        }
        Ok(())
    }

    fn send_parts(&mut self, batch: &Batch, parts: Vec<Vec<u32>>) -> Result<()> {
        for (s, rows) in self
            .senders
            .iter_mut()
            .zip(parts)
            .filter(|(_, rows)| !rows.is_empty())
        {
            s.send(Element::Batch(
                batch.select(ScalarBuffer::from(rows))?.materialize()?,
            ));
        }
        Ok(())
    }
}

/// The rows of each channel, in order: a row goes to its number modulo the channels.
fn split_by_number(batch: &Batch, ordinal: usize, count: usize) -> Result<Vec<Vec<u32>>> {
    let column = batch.columns().get(ordinal);
    let numbers = column
        .and_then(|c| c.as_primitive_opt::<UInt32Type>())
        .ok_or_else(|| Error::bug("rows are partitioned by what is not a u32"))?;
    let mut parts = vec![Vec::new(); count];
    for (row, number) in (0u32..).zip(numbers.values()) {
        if let Some(part) = parts.get_mut(*number as usize % count.max(1)) {
            part.push(row);
        }
    }
    Ok(parts)
}

/// The rows of each channel, in order.
fn split(
    batch: &Batch,
    ordinals: &[usize],
    fields: &[Field],
    owners: &[u32],
    count: usize,
) -> Result<Vec<Vec<u32>>> {
    let columns: Vec<_> = ordinals
        .iter()
        .filter_map(|o| batch.columns().get(*o))
        .cloned()
        .collect();
    let hashes = hashes(fields, &columns, batch.len())?;
    let max = owners.len() as u64;
    let mut parts: Vec<Vec<u32>> = (0..count)
        .map(|_| Vec::with_capacity(batch.len() / count + batch.len() / 8))
        .collect();
    for (row, hash) in hashes.iter().enumerate() {
        let owner = owners
            .get((hash % max.max(1)) as usize)
            .copied()
            .unwrap_or(0);
        if let Some(part) = parts.get_mut(owner as usize) {
            part.push(row as u32);
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, UInt32Array, types::Int64Type};
    use pelton_model::schema::DataType;
    use std::sync::{Arc, Mutex};

    struct Sink(Arc<Mutex<Vec<Element>>>);
    impl Sender for Sink {
        fn send(&mut self, e: Element) {
            self.0.lock().unwrap().push(e);
        }
        fn has_room(&mut self) -> bool {
            true
        }
    }

    fn run(partition: Partition, channels: usize) -> Vec<Vec<i64>> {
        let schema = Schema::new(vec![Field::new("k", DataType::I64)]);
        let sinks: Vec<_> = (0..channels)
            .map(|_| Arc::new(Mutex::new(Vec::new())))
            .collect();
        let senders = sinks
            .iter()
            .map(|s| Box::new(Sink(Arc::clone(s))) as Box<dyn Sender>)
            .collect();
        let mut p = Partitioner::new(&partition, &schema, senders, 128, 0).unwrap();
        for start in [0, 50] {
            let column = Arc::new(Int64Array::from_iter_values(start..start + 50));
            p.send(Element::Batch(Batch::new(vec![column], 50).unwrap()))
                .unwrap();
        }
        let rows = |e: &Element| match e {
            Element::Batch(b) => b.columns()[0].as_primitive::<Int64Type>().values().to_vec(),
            _ => vec![],
        };
        sinks
            .iter()
            .map(|s| s.lock().unwrap().iter().flat_map(rows).collect())
            .collect()
    }

    #[test]
    fn a_key_goes_to_the_owner_of_its_group_in_order() {
        let parts = run(Partition::Key(vec!["k".into()]), 3);
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 100);
        for (task, rows) in parts.iter().enumerate() {
            assert!(rows.is_sorted() && !rows.is_empty());
            for r in rows {
                let group = KeyGroup::of(pelton_model::key::hash_i64(*r), 128);
                assert_eq!(group.task(3, 128), task as u32);
            }
        }
    }

    #[test]
    fn a_number_goes_to_the_task_of_that_number_modulo_their_count() {
        let schema = Schema::new(vec![Field::new("to", DataType::U32)]);
        let sinks = [(); 3].map(|()| Arc::new(Mutex::new(Vec::new())));
        let senders = sinks
            .iter()
            .map(|s| Box::new(Sink(Arc::clone(s))) as Box<dyn Sender>)
            .collect();
        let custom = |name: &str| Partition::Custom(name.into());
        let mut p = Partitioner::new(&custom("to"), &schema, senders, 128, 0).unwrap();
        let numbers = UInt32Array::from(vec![0, 4, 2, u32::MAX, 3, 1]);
        p.send(Element::Batch(
            Batch::new(vec![Arc::new(numbers)], 6).unwrap(),
        ))
        .unwrap();
        p.send(Element::End).unwrap();
        let got = sinks.map(|s| {
            let elements = s.lock().unwrap();
            assert_eq!(elements.len(), 2);
            match &elements[0] {
                Element::Batch(b) => b.columns()[0]
                    .as_primitive::<UInt32Type>()
                    .values()
                    .to_vec(),
                _ => vec![],
            }
        });
        assert_eq!(got, [vec![0, u32::MAX, 3], vec![4, 1], vec![2]]);
        let two = || (0..2).map(|_| Box::new(Sink(Arc::default())) as Box<dyn Sender>);
        assert!(Partitioner::new(&custom("none"), &schema, two().collect(), 128, 0).is_err());
    }

    #[test]
    fn others_keep_batches_whole() {
        assert_eq!(
            run(Partition::Rebalance, 2)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [50, 50]
        );
        assert_eq!(
            run(Partition::Broadcast, 2)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [100, 100]
        );
    }
}
