//! What generates watermarks, in snapshots: how far each split had come. After a restart the same rows are late.

use std::collections::BTreeMap;

use pelton_model::schema::{DataType, Field};
use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind, SectionSpec};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

use super::{From, TimestampsOperator};
use crate::operator::Context;
use crate::snapshot::{Restored, SnapshotWriter, keyed_section};
use crate::splits::SplitState;

/// By split: its greatest time (the least there is, where no row came), and whether it is idle.
const SPLITS: &str = "generator";
/// The last watermark that was emitted, and the last time that the clock gave.
const CLOCK: &str = "clock";

fn spec(name: &str, sub: &[Field], value: &[Field]) -> SectionSpec {
    keyed_section(SectionKind::Watermark, name, &[], sub, value)
}

fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp)
}

fn put_time(time: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(time ^ i64::MIN).to_be_bytes());
}

fn time_at(bytes: &[u8], at: usize) -> Result<i64> {
    let part = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    let time = part.map(|b| i64::from_be_bytes(b) ^ i64::MIN);
    time.ok_or_else(|| {
        let message = "how far the splits of a checkpoint had come is cut off";
        Error::new(ErrorCode::Corrupt, message)
    })
}

impl TimestampsOperator {
    pub(super) fn save(&self, into: &mut SnapshotWriter) {
        let sub = [Field::new("split", DataType::String)];
        let value = [time("greatest"), Field::new("idle", DataType::Bool)];
        let section = into.section(spec(SPLITS, &sub, &value));
        for (name, lane) in self.watch.splits.names().iter().zip(&self.lanes) {
            let mut sub = (name.len() as u32).to_be_bytes().to_vec();
            sub.extend_from_slice(name.as_bytes());
            let mut value = Vec::with_capacity(9);
            put_time(lane.greatest, &mut value);
            value.push(u8::from(lane.idle));
            let entry = Entry {
                key: &[],
                sub: &sub,
                value: &value,
            };
            into.put(section, NO_GROUP, entry);
        }
        let section = into.section(spec(CLOCK, &[], &[time("emitted"), time("given")]));
        let mut value = Vec::with_capacity(16);
        put_time(self.emitted.0, &mut value);
        let given = match self.times {
            From::Ingestion(last) => last,
            _ => i64::MIN,
        };
        put_time(given, &mut value);
        let entry = Entry {
            key: &[],
            sub: &[],
            value: &value,
        };
        into.put(section, NO_GROUP, entry);
    }

    /// A split that was not there, or has no name, is where the one was that was behind all others. Errors: `Corrupt`.
    pub(super) fn take_back(&mut self, from: &Restored<'_>, cx: &Context<'_>) -> Result<()> {
        let is = |s: &SectionSpec, name: &str| s.kind == SectionKind::Watermark && s.name == name;
        let mut found: BTreeMap<Vec<u8>, (i64, bool)> = BTreeMap::new();
        from.entries(
            |s| is(s, SPLITS),
            |_, _, entry| {
                let greatest = time_at(entry.value, 0)?;
                let idle = entry.value.get(8) == Some(&1);
                let name = entry.sub.get(4..).unwrap_or_default().to_vec();
                let split = found.entry(name).or_insert((greatest, idle));
                *split = (split.0.min(greatest), split.1 && idle);
                Ok(())
            },
        )?;
        let mut clock: Option<(i64, i64)> = None;
        from.entries(
            |s| is(s, CLOCK),
            |_, _, entry| {
                let (emitted, given) = (time_at(entry.value, 0)?, time_at(entry.value, 8)?);
                let before = clock.unwrap_or((emitted, given));
                clock = Some((before.0.min(emitted), before.1.max(given)));
                Ok(())
            },
        )?;
        let Some((emitted, given)) = clock else {
            return Ok(());
        };
        self.emitted = Watermark(emitted);
        self.go_to_next_tick(cx.monotonic);
        if let From::Ingestion(last) = &mut self.times {
            *last = given;
        }
        let behind = found.values().map(|(greatest, _)| *greatest).min();
        let names = self.watch.splits.names();
        for (lane, name) in self.lanes.iter_mut().zip(names) {
            let (greatest, idle) = match (found.get(name.as_bytes()), behind) {
                (Some(split), _) => *split,
                (None, behind) => (behind.unwrap_or(i64::MIN), false),
            };
            lane.greatest = greatest;
            // In a job that asks for no idleness, none is.
            lane.idle = idle && self.idle_ns.is_some();
        }
        for (split, (lane, gauge)) in self.lanes.iter().zip(&self.watch.gauges).enumerate() {
            self.said
                .iter()
                .for_each(|s| s.set_silent(split, lane.idle));
            if lane.greatest == i64::MIN {
                continue;
            }
            gauge.rows(self.watermark_of(split, lane), cx.monotonic);
            gauge.set(match lane.idle {
                true => SplitState::Idle,
                false => SplitState::Active,
            });
        }
        // Where all are idle, that is said after the watermark, which counts no more behind it.
        self.say_idle = !self.lanes.is_empty() && self.lanes.iter().all(|l| l.idle);
        Ok(())
    }
}
