//! What a session operator writes at a barrier, and how it goes on from that. When sessions are looked at again follows
//! from when they end.
//!
//! What has left memory is in the snapshot as the keyed state that has it: other keys than those that were in memory.
//! Where the backend has nothing else, it comes back.

use pelton_model::barrier::SnapshotForm;
use pelton_model::encoding::decode;
use pelton_model::schema::{DataType, Field};
use pelton_model::snapshot::{Entry, NO_GROUP, SectionKind, SectionSpec};
use pelton_model::time::EventTime;
use pelton_model::{Error, Result};

use super::SessionOperator;
use super::book::Open;
use super::spill;
use crate::operator::Context;
use crate::operators::window::function::Values;
use crate::operators::window::saved::{
    ENTRIES_A_CALL, Form, SPILLED, bounds, cut_off, read_bounds, take, take_i64,
};
use crate::snapshot::{Restored, SnapshotWriter, section};
use crate::state::{KeyIndex, RowSet};

const SESSIONS: &str = "sessions";
/// Of each task of which keys may have left memory: how many keys had come.
const ARRIVALS: &str = "arrivals";
/// Bytes behind the key of a session that has left memory: which of its sessions.
const NUMBER_BYTES: usize = 4;
/// Sessions that are encoded or decoded at once.
const CHUNK: usize = 1024;

/// Sessions of a snapshot that are not written yet.
pub(super) struct Writing {
    section: u32,
    /// Copies: a session may change with any row.
    index: KeyIndex,
    values: Values,
    left: std::vec::IntoIter<Open>,
}

/// When the key came, in the order of all.
fn first() -> [Field; 1] {
    [Field::new("arrival", DataType::U64)]
}

impl Writing {
    /// Writes more; whether that was all.
    pub(super) fn go_on(&mut self, form: &Form, into: &mut SnapshotWriter) -> Result<bool> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut written = 0;
        while !self.left.as_slice().is_empty() {
            if written >= ENTRIES_A_CALL || !into.has_room() {
                return Ok(false);
            }
            let some: Vec<Open> = self.left.by_ref().take(CHUNK).collect();
            written += some.len();
            let slots: Vec<u32> = some.iter().map(|s| s.session).collect();
            let mut sessions = some.iter();
            form.codec.encode(&self.values, &slots, |_, accumulator| {
                let Some(session) = sessions.next() else {
                    return;
                };
                key.clear();
                self.index.encoding(session.key, &mut key);
                value.clear();
                value.extend_from_slice(&session.arrival.to_be_bytes());
                value.extend_from_slice(accumulator);
                let entry = Entry {
                    key: &key,
                    sub: &bounds(session.start, session.end),
                    value: &value,
                };
                into.put(self.section, form.group(&key), entry);
            })?;
        }
        Ok(true)
    }
}

/// Sessions as they were read, before they are taken in together.
#[derive(Default)]
struct Read {
    bytes: Vec<u8>,
    /// Where the key begins, the accumulator does, and both end.
    at: Vec<[usize; 3]>,
    sessions: Vec<Session>,
}

struct Session {
    bounds: (i64, i64),
    arrival: u64,
    fired: bool,
}

impl Read {
    /// Errors: `Corrupt` for bounds that are none.
    fn push(&mut self, key: &[u8], session: Session, accumulator: &[u8]) -> Result<()> {
        if session.bounds.0 >= session.bounds.1 {
            return Err(cut_off());
        }
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(accumulator);
        self.at.push([begin, middle, self.bytes.len()]);
        self.sessions.push(session);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.at.len() >= CHUNK
    }
}

impl SessionOperator {
    /// What there is now goes into the snapshot.
    pub(super) fn freeze(&mut self, form: SnapshotForm, into: &mut SnapshotWriter) -> Result<()> {
        self.thaw();
        if let Some(spill) = &mut self.spill {
            spill.state.snapshot(form, into)?;
            spill.saved = false;
            let number = into.section(section(SectionKind::Windows, ARRIVALS));
            let entry = Entry {
                key: &[],
                sub: &[],
                value: &self.book.arrivals().to_be_bytes(),
            };
            into.put(number, NO_GROUP, entry);
        }
        let section = into.section(self.form.section(SESSIONS, &first()));
        self.writing = Some(Writing {
            section,
            index: self.index.names(),
            values: self.values.clone(),
            left: self.book.open_sessions().into_iter(),
        });
        Ok(())
    }

    /// Writes more of what was frozen; whether that was all.
    pub(super) fn write_frozen(&mut self, into: &mut SnapshotWriter) -> Result<bool> {
        if let Some(spill) = self.spill.as_mut().filter(|s| !s.saved) {
            if !spill.state.go_on_snapshot(into)? {
                return Ok(false);
            }
            spill.saved = true;
        }
        let Some(writing) = &mut self.writing else {
            return Ok(true);
        };
        let over = writing.go_on(&self.form, into)?;
        if over {
            self.writing = None;
        }
        Ok(over)
    }

    /// The snapshot at hand is given up.
    pub(super) fn thaw(&mut self) {
        self.writing = None;
        if let Some(spill) = self.spill.as_mut().filter(|s| !s.saved) {
            spill.state.abort_snapshot();
            spill.saved = true;
        }
    }

    /// Takes what was there at a checkpoint. Errors: `StateMismatch`, `Corrupt`.
    pub(super) fn take_back(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        self.watermark = cx.watermark;
        self.reached = cx.watermark;
        let wanted = |s: &SectionSpec| s.kind == SectionKind::Windows && s.name == SESSIONS;
        for section in from.sections().into_iter().filter(|s| wanted(s)) {
            self.form.check(section, &first())?;
        }
        self.take_back_spilled(from)?;
        let mut read = Read::default();
        from.entries(wanted, |_, _, entry| {
            let bounds = read_bounds(entry.sub)?;
            let mut value = entry.value;
            let session = Session {
                bounds,
                arrival: u64::from_be_bytes(take(&mut value)?),
                fired: self
                    .watermark
                    .has_passed(EventTime(bounds.1.saturating_sub(1))),
            };
            read.push(entry.key, session, value)?;
            if !read.is_full() {
                return Ok(());
            }
            self.take_in_read(std::mem::take(&mut read))
        })?;
        self.take_in_read(read)?;
        self.count(cx)
    }

    /// Takes what had left memory: into the state that is there for it, or else into memory.
    fn take_back_spilled(&mut self, from: &Restored<'_>) -> Result<()> {
        let wanted = |s: &SectionSpec| s.kind == SectionKind::Map && s.name == SPILLED;
        for section in from.sections().into_iter().filter(|s| wanted(s)) {
            // Below the key group stands the key, and the number of the session.
            let (_, key) = section.sub.split_last().ok_or_else(cut_off)?;
            let as_window = SectionSpec {
                key: key.to_vec(),
                ..section.clone()
            };
            self.form.check(&as_window, &spill::first())?;
        }
        if let Some(spill) = &mut self.spill {
            spill.state.restore(from)?;
            let (book, mut some) = (&mut self.book, false);
            let wanted = |s: &SectionSpec| s.kind == SectionKind::Windows && s.name == ARRIVALS;
            from.entries(wanted, |_, _, entry| {
                book.count_from(u64::from_be_bytes(take(&mut { entry.value })?));
                some = true;
                Ok(())
            })?;
            if some {
                spill.enter_unknown();
            }
            return Ok(());
        }
        let mut read = Read::default();
        from.entries(wanted, |_, _, entry| {
            let end = entry.sub.len().checked_sub(NUMBER_BYTES);
            let key = end.and_then(|end| entry.sub.get(..end));
            let mut value = entry.value;
            let due = take_i64(&mut value)?;
            let arrival = u64::from_be_bytes(take(&mut value)?);
            let _sessions: [u8; 4] = take(&mut value)?;
            let bounds = (take_i64(&mut value)?, take_i64(&mut value)?);
            let session = Session {
                bounds,
                arrival,
                fired: bounds.1.saturating_sub(1) < due,
            };
            read.push(key.ok_or_else(cut_off)?, session, value)?;
            if !read.is_full() {
                return Ok(());
            }
            self.take_in_read(std::mem::take(&mut read))
        })?;
        self.take_in_read(read)
    }

    fn take_in_read(&mut self, read: Read) -> Result<()> {
        let bytes = |from: usize, to: usize| read.bytes.get(from..to).unwrap_or_default();
        let keys = decode(
            &self.frame.key,
            read.at.iter().map(|[key, value, _]| bytes(*key, *value)),
        )?;
        let index = &mut self.index;
        let mut slots = Vec::new();
        index.locate(&keys, RowSet::First(read.at.len()), &mut slots)?;
        self.book.grow(index.slots());
        // Another session of the key may have been read, and have left memory again.
        self.bring(&slots)?;
        let mut sessions = Vec::with_capacity(slots.len());
        for (key, s) in slots.iter().zip(&read.sessions) {
            let session = self.book.take_back(*key, s.bounds, s.arrival, s.fired);
            sessions.push(session.ok_or_else(|| Error::bug("a key of a session is gone"))?);
        }
        let encoded = read.at.iter().map(|[_, value, end]| bytes(*value, *end));
        let values = &mut self.values;
        let total = self.book.slots();
        self.form.codec.load(values, &sessions, total, encoded)?;
        self.keep_to_room()
    }
}
