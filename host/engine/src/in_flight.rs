//! What is in flight on the channels into a task when a barrier overtakes it: kept in the task's snapshot, and given to
//! the tasks of the next start before anything else.
//! Needs: chain, snapshot, model. Refuses: when a barrier overtakes (`align` knows), and what has no place after a restart
//! with other tasks (see [`is_pinned`]).
//!
//! A section of kind `InFlight` has the elements of one channel, under the uid of the operator that it leads to. Its name
//! is `I.O.N.C@UID`: input I of that operator, output O of the operator UID above, of the edges between these two the Nth,
//! and of the channels of this edge the Cth. Only rows and watermarks are kept. Whether a channel is idle or has ended, its
//! sender says again after a restart; and a channel that was idle and is not yet again only holds a watermark back.
//!
//! Where both operators have the parallelism that they had, each channel gets its elements as they were. Else rows are
//! dealt out anew: by key group where the edge is partitioned by key, so that the rows of a key keep their order, and
//! batches in turn elsewhere; their watermarks are those of senders that are not there any more, and are left out.

mod encoding;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::graph::{Edge, JobGraph, Partition};
use pelton_model::key::{KeyGroup, hashes};
use pelton_model::schema::{Field, Projection, Schema};
use pelton_model::snapshot::{Entry as StateEntry, NO_GROUP, SectionKind, SectionSpec};
use pelton_model::{Error, ErrorCode, Result};

use crate::chain::{Entry, Part};
use crate::snapshot::{RestoreFrom, SnapshotWriter, section};

/// Bytes that are captured and not written at most, before no more is taken by gates that are recorded.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Bytes that are encoded at once.
const PORTION_BYTES: usize = 1 << 20;

/// A channel into a task, as snapshots know it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Of the operator that it leads to.
    pub uid: String,
    /// Which of the channels to that operator.
    pub name: String,
    /// What its rows are of.
    pub schema: Schema,
    /// Where its elements go in the chain.
    pub entry: Entry,
}

/// Elements of a line.
pub type Piece = (Arc<Line>, Element);

/// Elements that were captured for a snapshot and are not in it yet.
#[derive(Default)]
pub struct Captured {
    pieces: VecDeque<Piece>,
    /// Bytes of memory that they keep alive.
    held: usize,
    /// By uid and name, the section and how many entries it has.
    sections: BTreeMap<(String, String), (u32, u64)>,
    bytes: Vec<u8>,
}

impl Captured {
    /// Takes an element; what is neither rows nor a watermark is not kept.
    pub fn add(&mut self, line: &Arc<Line>, element: &Element) {
        if matches!(element, Element::Batch(_) | Element::Watermark(_)) {
            self.held += element.bytes();
            self.pieces.push_back((Arc::clone(line), element.clone()));
        }
    }

    /// Whether all that was captured is written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether so much waits to be written that it would be better not to add more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.held >= HELD_BYTES_MAX
    }

    /// Writes more of it, about a megabyte. Errors: rows that are not of their line.
    pub fn write(&mut self, into: &mut SnapshotWriter) -> Result<()> {
        let mut written = 0;
        while written < PORTION_BYTES
            && into.has_room()
            && let Some((line, element)) = self.pieces.pop_front()
        {
            self.held -= element.bytes();
            self.bytes.clear();
            encoding::put(&line.schema.fields, &element, &mut self.bytes)?;
            let key = (line.uid.clone(), line.name.clone());
            let (number, count) = self.sections.entry(key).or_insert_with(|| {
                into.operator(&line.uid);
                let spec = SectionSpec {
                    value: line.schema.fields.clone(),
                    ..section(SectionKind::InFlight, &line.name)
                };
                (into.section(spec), 0)
            });
            let entry = StateEntry {
                key: &[],
                sub: &count.to_be_bytes(),
                value: &self.bytes,
            };
            into.put(*number, NO_GROUP, entry);
            *count += 1;
            written += self.bytes.len();
        }
        Ok(())
    }
}

/// Whether the barriers of an edge's channels are waited for, since what is in flight there has no place in a task of
/// another number: rows that are forwarded, that all get, or whose task the user has chosen. `tasks` is the parallelism of
/// the operator below, `channels` how many channels each of its tasks has.
#[must_use]
pub fn is_pinned(graph: &JobGraph, edge: &Edge, tasks: u32, channels: usize) -> bool {
    let own = |id| graph.operator(id).and_then(|op| op.parallelism);
    match edge.partition {
        Partition::Broadcast | Partition::Custom(_) => true,
        // Between different parallelisms rows are rebalanced.
        Partition::Forward => match (own(edge.source.0), own(edge.target.0)) {
            (Some(above), _) => above == tasks,
            (None, None) => true,
            (None, Some(_)) => channels == 1,
        },
        _ => false,
    }
}

/// An edge into an operator of a task, with the task's channels of it.
pub struct Way {
    /// Without the number of the channel: `I.O.N@UID`.
    name: String,
    source: String,
    target: String,
    partition: Partition,
    schema: Schema,
    lines: Vec<Arc<Line>>,
}

impl Way {
    /// The way of an edge of the graph, of these rows, with where each of its channels goes. Errors: `Bug` for an edge that
    /// is not in the graph.
    pub fn new(graph: &JobGraph, edge: usize, schema: &Schema, entries: &[Entry]) -> Result<Self> {
        let missing = || Error::bug("a plan names an edge that is not there");
        let this = graph.edges.get(edge).ok_or_else(missing)?;
        let twin = |e: &&Edge| e.source == this.source && e.target == this.target;
        let nth = graph.edges.iter().take(edge).filter(twin).count();
        let uid = |id| graph.operator(id).map(|op| op.uid.clone());
        let source = uid(this.source.0).ok_or_else(missing)?;
        let target = uid(this.target.0).ok_or_else(missing)?;
        let ports = format!("{}.{}.{nth}", this.target.1, this.source.1);
        let lines = entries.iter().enumerate().map(|(channel, entry)| Line {
            uid: target.clone(),
            name: format!("{ports}.{channel}@{source}"),
            schema: schema.clone(),
            entry: *entry,
        });
        Ok(Self {
            name: format!("{ports}@{source}"),
            lines: lines.map(Arc::new).collect(),
            partition: this.partition.clone(),
            schema: schema.clone(),
            source,
            target,
        })
    }

    /// Its channels.
    #[must_use]
    pub fn lines(&self) -> &[Arc<Line>] {
        &self.lines
    }
}

/// What a task of a chain gets of what was in flight to these operators, its own, in the order of each channel. `ways` are
/// the edges by which elements can be given to them. Errors: as
/// [`Restored::entries`](crate::snapshot::Restored::entries); `StateMismatch` for elements of a way that is not among
/// them, or of a stream that has lost fields.
pub fn restore<'a>(
    from: &'a RestoreFrom,
    part: Part,
    max_parallelism: u32,
    operators: impl Iterator<Item = &'a str>,
    ways: &'a [Way],
) -> Result<VecDeque<Piece>> {
    let mut pieces = VecDeque::new();
    for uid in operators {
        let restored = from.operator(uid, (part.task, part.parallelism), part.key_groups);
        let mut dealers = BTreeMap::new();
        restored.entries(
            |s| s.kind == SectionKind::InFlight,
            |section, _, entry| {
                let (way, channel) = way_of(ways, uid, &section.name)?;
                let dealer = dealers.entry(way.name.as_str()).or_insert_with(|| Dealer {
                    way,
                    part,
                    max_parallelism,
                    same: restored.same(),
                    exact: restored.same() && way.is_as_before(from),
                    turn: 0,
                });
                let element = encoding::get(&section.value, entry.value)
                    .and_then(|e| project(&section.value, &way.schema, e))
                    .map_err(|e| e.at("operator", format!("'{uid}'")))?;
                pieces.extend(dealer.deal(channel, element)?);
                Ok(())
            },
        )?;
    }
    Ok(pieces)
}

/// The way of a section of an operator, and the number of the channel.
fn way_of<'a>(ways: &'a [Way], uid: &str, name: &str) -> Result<(&'a Way, usize)> {
    let parts = name.split_once('@').and_then(|(numbers, source)| {
        let (ports, channel) = numbers.rsplit_once('.')?;
        let way = format!("{ports}@{source}");
        let way = ways.iter().find(|w| w.target == uid && w.name == way)?;
        Some((way, channel.parse().ok()?))
    });
    parts.ok_or_else(|| mismatch(uid, format!("rows were in flight on the way '{name}'")))
}

fn mismatch(uid: &str, what: String) -> Error {
    let message = format!("{what}, which the job does not have any more");
    Error::new(ErrorCode::StateMismatch, message)
        .at("operator", format!("'{uid}'"))
        .help("go on from a savepoint: nothing is in flight in one")
}

fn project(have: &[Field], want: &Schema, element: Element) -> Result<Element> {
    let Element::Batch(batch) = element else {
        return Ok(element);
    };
    if have == want.fields {
        return Ok(Element::Batch(batch));
    }
    let projection = Projection::new(&Schema::new(have.to_vec()), want).map_err(|e| {
        let message = "rows were in flight that lack fields which the job reads now";
        Error::new(ErrorCode::StateMismatch, message)
            .detail(e.message())
            .help("go on from a savepoint: nothing is in flight in one")
    })?;
    let columns = projection.apply(batch.columns())?;
    Ok(Element::Batch(batch.with_columns(columns)?))
}

impl Way {
    /// Whether the operator above has the parallelism that it had. Where the number of a task's channels does not say so,
    /// that is not known.
    fn is_as_before(&self, from: &RestoreFrom) -> bool {
        let all_to_all = !matches!(self.partition, Partition::Forward | Partition::Rescale);
        let operators = &from.metadata.operators;
        let above = operators.iter().find(|o| o.uid == self.source);
        all_to_all && above.is_some_and(|o| o.parallelism as usize == self.lines.len())
    }
}

/// Says which elements of a way are a task's.
struct Dealer<'a> {
    way: &'a Way,
    part: Part,
    max_parallelism: u32,
    /// The operator below has the parallelism that it had: all that is read was this task's before.
    same: bool,
    /// The operator above, too.
    exact: bool,
    /// Batches seen that are dealt in turn.
    turn: u32,
}

impl Dealer<'_> {
    fn deal(&mut self, channel: usize, element: Element) -> Result<Option<Piece>> {
        if self.exact {
            let line = self.way.lines.get(channel);
            let line = line.ok_or_else(|| Error::bug("a channel beyond those of its edge"))?;
            return Ok(Some((Arc::clone(line), element)));
        }
        let Element::Batch(batch) = element else {
            return Ok(None);
        };
        let mine = match (&self.way.partition, self.same) {
            (_, true) => Some(batch),
            (Partition::Key(names), false) => self.of_groups(names, &batch)?,
            (Partition::Global, false) => (self.part.task == 0).then_some(batch),
            _ => {
                self.turn += 1;
                let task = (self.turn - 1) % self.part.parallelism.max(1);
                (task == self.part.task).then_some(batch)
            }
        };
        let mine = mine.filter(|b| !b.is_empty()).map(Element::Batch);
        let Some(mine) = mine else {
            return Ok(None);
        };
        // Any channel of the edge will do: which one a row comes by does not matter to the operator.
        let line = self.way.lines.first();
        let line =
            line.ok_or_else(|| Error::bug("rows of an edge that does not lead to the task"))?;
        Ok(Some((Arc::clone(line), mine)))
    }

    fn of_groups(&self, names: &[String], batch: &Batch) -> Result<Option<Batch>> {
        let schema = &self.way.schema;
        let ordinals: Vec<usize> = names.iter().filter_map(|n| schema.index_of(n)).collect();
        let fields: Vec<Field> = ordinals
            .iter()
            .filter_map(|o| schema.fields.get(*o).cloned())
            .collect();
        let columns: Vec<_> = ordinals
            .iter()
            .filter_map(|o| batch.columns().get(*o).cloned())
            .collect();
        let is_mine = |hash: &u64| {
            let group = KeyGroup::of(*hash, self.max_parallelism);
            self.part.key_groups.contains(group)
        };
        let hashes = hashes(&fields, &columns, batch.len())?;
        let rows = (0u32..).zip(&hashes).filter(|(_, hash)| is_mine(hash));
        let rows: Vec<u32> = rows.map(|(row, _)| row).collect();
        Ok(Some(batch.select(rows.into())?.materialize()?))
    }
}

#[cfg(test)]
mod tests;
