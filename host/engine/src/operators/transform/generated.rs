//! What the job's own generators say, one for each split of the source above, as elements of the stream.
//! Needs: splits. The least of the splits counts that are neither idle nor ended; idle is the stream where all are.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::schema::{DataType, Field};
use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind};
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

use crate::function::{GOES_IDLE, NO_WATERMARK};
use crate::operator::Context;
use crate::snapshot::{Restored, SnapshotWriter, keyed_section};
use crate::splits::Said;

/// The name of the section: by split, its watermark and whether it is idle.
const GENERATED: &str = "generated";

/// What the generators of one task have said so far.
#[derive(Debug)]
pub(super) struct Generated {
    pub(super) said: Arc<Said>,
    /// What was emitted.
    watermark: Watermark,
    /// It was emitted that all splits are idle.
    pub(super) idle: bool,
    /// They were idle at a checkpoint, and that is said again once the watermark has gone out.
    pub(super) untold: bool,
}

impl Generated {
    pub(super) fn new(said: Arc<Said>) -> Self {
        Self {
            said,
            watermark: Watermark::MIN,
            idle: false,
            untold: false,
        }
    }

    /// Emits rows of the split at hand, each followed by what its mark says. A watermark that does not rise is passed
    /// over; a split's idleness ends with its next row that does not ask for it again. Returns how many watermarks went
    /// back.
    pub(super) fn emit(&mut self, rows: &Batch, marks: &[i64], cx: &mut Context<'_>) -> u64 {
        let said = Arc::clone(&self.said);
        let split = said.splits().current();
        said.set_silent(split, false);
        let (mut start, mut back) = (0, 0);
        for (row, mark) in marks.iter().enumerate() {
            let goes_idle = *mark == GOES_IDLE;
            let was_idle = said.is_idle(split);
            said.set_idle(split, goes_idle);
            if self.idle && !goes_idle {
                self.untold = false;
                self.idle = false;
                cx.emit(0, rows.slice(start, row - start));
                cx.emit_element(0, Element::Active);
                start = row;
            }
            let rises = !goes_idle && Watermark(*mark) > said.mark(split);
            if rises {
                said.set_mark(split, Watermark(*mark));
            } else if !goes_idle && *mark != NO_WATERMARK {
                back += u64::from(Watermark(*mark) < said.mark(split));
            }
            let changed = rises || was_idle != goes_idle;
            if let Some(element) = changed.then(|| self.after(split)).flatten() {
                cx.emit(0, rows.slice(start, row + 1 - start));
                cx.emit_element(0, element);
                start = row + 1;
            }
        }
        cx.emit(0, rows.slice(start, marks.len() - start));
        back
    }

    /// What follows a row after which something has changed.
    fn after(&mut self, split: usize) -> Option<Element> {
        match self.said.least(Some(split)) {
            None => (!std::mem::replace(&mut self.idle, true)).then_some(Element::Idle),
            Some(least) if least > self.watermark => {
                self.watermark = least;
                Some(Element::Watermark(least))
            }
            Some(_) => None,
        }
    }

    pub(super) fn save(&self, into: &mut SnapshotWriter) {
        let sub = [Field::new("split", DataType::String)];
        let value = [
            Field::new("watermark", DataType::I64),
            Field::new("idle", DataType::Bool),
        ];
        let section = into.section(keyed_section(
            SectionKind::Watermark,
            GENERATED,
            &[],
            &sub,
            &value,
        ));
        for (split, name) in self.said.splits().names().iter().enumerate() {
            let mut sub = (name.len() as u32).to_be_bytes().to_vec();
            sub.extend_from_slice(name.as_bytes());
            let mark = self.said.mark(split);
            let mut value = (mark.0 ^ i64::MIN).to_be_bytes().to_vec();
            value.push(u8::from(self.said.is_idle(split)));
            let entry = Entry {
                key: &[],
                sub: &sub,
                value: &value,
            };
            into.put(section, NO_GROUP, entry);
        }
    }

    /// A split that was not there, or has no name, is where the one was that was behind all others. Errors: `Corrupt`.
    pub(super) fn take_back(&mut self, from: &Restored<'_>) -> Result<()> {
        let mut found: BTreeMap<Vec<u8>, (Watermark, bool)> = BTreeMap::new();
        from.entries(
            |s| s.kind == SectionKind::Watermark && s.name == GENERATED,
            |_, _, entry| {
                let (mark, idle) = read(entry.value)?;
                let name = entry.sub.get(4..).unwrap_or_default().to_vec();
                let split = found.entry(name).or_insert((mark, idle));
                *split = (split.0.min(mark), split.1 && idle);
                Ok(())
            },
        )?;
        let Some(behind) = found.values().map(|(mark, _)| *mark).min() else {
            return Ok(());
        };
        let all_idle = found.values().all(|(_, idle)| *idle);
        let names = self.said.splits().names();
        for (split, name) in names.iter().enumerate() {
            let known = found.get(name.as_bytes()).copied();
            let (mark, idle) = known.unwrap_or((behind, all_idle && name.is_empty()));
            self.said.set_mark(split, mark);
            self.said.set_idle(split, idle);
        }
        let least = self.said.least(None);
        self.idle = least.is_none() && !names.is_empty();
        self.untold = self.idle;
        self.watermark = least.unwrap_or(behind);
        Ok(())
    }
}

fn read(value: &[u8]) -> Result<(Watermark, bool)> {
    let (mark, idle) = value
        .split_first_chunk()
        .ok_or_else(|| Error::new(ErrorCode::Corrupt, "a watermark of a checkpoint is cut off"))?;
    let mark = Watermark(i64::from_be_bytes(*mark) ^ i64::MIN);
    Ok((mark, idle == [1]))
}
