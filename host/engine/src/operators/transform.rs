//! Users' functions without state, fused: chained ones run in one call a batch.
//!
//! The segment gets the columns that any of its functions reads of the input; what no function makes follows from the
//! input by the parent row of each output row, and is never copied into the sandbox and back.
//!
//! Where the last function generates watermarks, its output is cut after each row that a watermark or idleness follows;
//! the watermarks and idleness from above then go to the side outputs alone, but for the end. Each split of the source
//! above has a segment of its own then, and with it a generator of its own.

mod generated;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_model::barrier::Barrier;
use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::graph::Transform;
use pelton_model::schema::{Projection, Schema};
use pelton_model::time::Monotonic;
use pelton_model::watermark::Watermark;
use pelton_model::{Error, Result};

use self::generated::Generated;
use super::output::{From, assemble};
use crate::function::{Reply, Rows, Segment, SegmentSpec};
use crate::operator::{Context, Operator, OperatorMetrics, Wakeup};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::splits::{Said, Splits};

/// One function of a fused run.
pub struct Member {
    /// Its name, for messages.
    pub name: String,
    /// What it is.
    pub spec: Transform,
    /// Its declared output streams.
    pub declared: Vec<Schema>,
    /// Its own counters.
    pub metrics: Arc<OperatorMetrics>,
}

/// The operator.
pub struct TransformOperator {
    members: Vec<Member>,
    segment_spec: SegmentSpec,
    /// One; or one for each split, where the last function generates watermarks.
    segments: Vec<Option<Segment>>,
    projection: Projection,
    /// For the last function's main output: each field of the pruned stream.
    main: Vec<From>,
    ports: Vec<u32>,
    /// Where the last function generates watermarks, how far it is.
    generated: Option<Generated>,
}

impl TransformOperator {
    /// `input` and `output` are the pruned schemas of the streams around the run. A side output `port` of member
    /// `step` leaves the operator on the port that [`port`](Self::port) gives.
    pub fn new(members: Vec<Member>, input: &Schema, output: &Schema) -> Result<Self> {
        let mut need = Schema::default();
        let mut made: Vec<String> = Vec::new();
        for m in &members {
            let fields = m
                .spec
                .view
                .fields
                .iter()
                .filter(|f| !made.contains(&f.name))
                .cloned()
                .collect();
            need.merge(&Schema::new(fields));
            made.retain(|name| m.declared.first().is_some_and(|d| d.field(name).is_some()));
            made.extend(m.spec.produces.iter().cloned());
        }
        let view = input.restrict(&need);
        let declared = members
            .last()
            .and_then(|m| m.declared.first())
            .cloned()
            .unwrap_or_default();
        let returned = Schema::new(
            declared
                .fields
                .into_iter()
                .filter(|f| made.contains(&f.name))
                .collect(),
        );
        let main = output
            .fields
            .iter()
            .map(
                |f| match (returned.index_of(&f.name), input.index_of(&f.name)) {
                    (Some(i), _) => Ok(From::Made(i)),
                    (None, Some(i)) => Ok(From::Kept(i)),
                    (None, None) => Err(Error::bug(format!(
                        "field '{}' is neither made nor kept",
                        f.name
                    ))),
                },
            )
            .collect::<Result<_>>()?;
        let last = members.len().saturating_sub(1) as u32;
        let mut outputs = vec![((last, 0), returned)];
        let mut ports = Vec::new();
        for (step, m) in members.iter().enumerate() {
            ports.push(
                ports.last().copied().unwrap_or(0)
                    + if step == 0 {
                        0
                    } else {
                        side_outputs(members.get(step - 1))
                    },
            );
            for (port, schema) in m.declared.iter().enumerate().skip(1) {
                outputs.push(((step as u32, port as u32), schema.clone()));
            }
        }
        let segment_spec = SegmentSpec {
            functions: members.iter().map(|m| m.spec.function).collect(),
            names: members.iter().map(|m| m.name.clone()).collect(),
            input: view.clone(),
            outputs,
            ..SegmentSpec::default()
        };
        let projection = Projection::new(input, &view)?;
        let generates = members.last().is_some_and(|m| m.spec.watermarks);
        Ok(Self {
            members,
            segment_spec,
            segments: vec![None],
            projection,
            main,
            ports,
            generated: generates
                .then(|| Generated::new(Said::new(Splits::new(vec![String::new()])))),
        })
    }

    /// What its generators say is noted here, for each of these splits.
    #[must_use]
    pub fn noted_in(mut self, said: Arc<Said>) -> Self {
        if self.generated.is_some() {
            self.segments = vec![None; said.splits().names().len()];
            self.generated = Some(Generated::new(said));
        }
        self
    }

    /// The port of this operator on which stream `port` of member `step` leaves: 0 for the last one's main output,
    /// then all side outputs in order.
    #[must_use]
    pub fn port(members: &[Member], step: usize, port: u32) -> u32 {
        if port == 0 {
            return 0;
        }
        members
            .iter()
            .take(step)
            .map(|m| side_outputs(Some(m)))
            .sum::<u32>()
            + port
    }

    fn count(&self, reply: &Reply, rows: usize, cx: &Context<'_>) {
        let mut into = rows as u64;
        for (m, out) in self.members.iter().zip(&reply.step_rows) {
            let out = u64::from(*out);
            OperatorMetrics::add(&m.metrics.rows_in, into);
            OperatorMetrics::add(&m.metrics.rows_out, out);
            m.metrics.watermark.store(cx.watermark.0, Ordering::Relaxed);
            into = out;
        }
    }
}

fn side_outputs(member: Option<&Member>) -> u32 {
    member.map_or(0, |m| m.declared.len().saturating_sub(1) as u32)
}

impl Operator for TransformOperator {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        let split = self.generated.as_ref();
        let split = split.map_or(0, |g| g.said.splits().current());
        let segment = self.segments.get_mut(split);
        let segment = segment.ok_or_else(|| Error::bug("rows of a split that is not there"))?;
        let segment = match segment {
            Some(s) => *s,
            None => *segment.insert(cx.functions.prepare(&self.segment_spec)?),
        };
        // Only what is shipped is materialised; the rest stays selected.
        let shipped = batch
            .clone()
            .with_columns(self.projection.apply(batch.columns())?)?
            .materialize()?;
        let mut done = 0;
        while done < shipped.len() {
            let part = if done == 0 {
                shipped.clone()
            } else {
                shipped.slice(done, shipped.len() - done)
            };
            let rows = Rows {
                rows: part.len(),
                columns: part.columns(),
                times: part.times(),
                kinds: part.kinds(),
            };
            let reply = cx.functions.transform(segment, cx.moment(), rows)?;
            let consumed = reply.consumed.min(part.len());
            if consumed == 0 {
                return Err(Error::bug("a function consumed no row"));
            }
            self.count(&reply, consumed, cx);
            let parent = batch.slice(done, consumed);
            for rows in reply.outputs {
                let (step, port) = (rows.step as usize, rows.port);
                let out = if port == 0 {
                    0
                } else {
                    self.ports.get(step).copied().unwrap_or(0) + port
                };
                let all: Vec<From>;
                let columns = if port == 0 {
                    &self.main
                } else {
                    all = (0..rows.columns.len()).map(From::Made).collect();
                    &all
                };
                let mut rows = rows;
                let marks = rows.watermarks.take();
                let made = assemble(rows, &parent, columns)?;
                match (&mut self.generated, marks) {
                    (Some(generated), Some(marks)) if port == 0 => {
                        let back = generated.emit(&made, &marks, cx);
                        if let Some(m) = self.members.last() {
                            OperatorMetrics::add(&m.metrics.watermarks_back, back);
                        }
                    }
                    _ => cx.emit(out, made),
                }
            }
            done += consumed;
        }
        Ok(())
    }

    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        let sides = self.side_ports();
        let Some(generated) = &mut self.generated else {
            return Ok(Some(cx.watermark));
        };
        if cx.watermark == Watermark::MAX {
            generated.untold = false;
            if std::mem::take(&mut generated.idle) {
                cx.emit_element(0, Element::Active);
            }
            return Ok(Some(Watermark::MAX));
        }
        for port in sides {
            cx.emit_element(port, Element::Watermark(cx.watermark));
        }
        Ok(None)
    }

    fn next_wake(&self) -> Option<Wakeup> {
        let untold = self.generated.as_ref().is_some_and(|g| g.untold);
        untold.then_some(Wakeup::Monotonic(Monotonic::default()))
    }

    fn wake(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if let Some(generated) = &mut self.generated
            && std::mem::take(&mut generated.untold)
        {
            cx.emit_element(0, Element::Idle);
        }
        Ok(())
    }

    fn snapshot(&mut self, _barrier: Option<Barrier>, into: &mut SnapshotWriter) -> Result<()> {
        if let Some(generated) = &self.generated {
            generated.save(into);
        }
        Ok(())
    }

    fn restore(&mut self, from: &Restored<'_>, _cx: &mut Context<'_>) -> Result<()> {
        match &mut self.generated {
            Some(generated) => generated.take_back(from),
            None => Ok(()),
        }
    }

    fn idle(&mut self, idle: bool, cx: &mut Context<'_>) -> Result<bool> {
        if self.generated.is_none() {
            return Ok(true);
        }
        for port in self.side_ports() {
            let element = if idle { Element::Idle } else { Element::Active };
            cx.emit_element(port, element);
        }
        Ok(false)
    }
}

impl TransformOperator {
    fn side_ports(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.members.iter().map(|m| side_outputs(Some(m))).sum()
    }
}

#[cfg(test)]
mod tests;
