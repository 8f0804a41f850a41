//! What a session operator writes at a barrier, and how it goes on from that. When sessions are looked at again follows
//! from when they end.

use pelton_model::encoding::decode;
use pelton_model::schema::{DataType, Field};
use pelton_model::snapshot::{Entry, SectionKind, SectionSpec};
use pelton_model::{Error, Result};

use super::SessionOperator;
use super::book::Open;
use crate::operator::Context;
use crate::operators::window::function::Values;
use crate::operators::window::saved::{ENTRIES_A_CALL, Form, bounds, cut_off, read_bounds, take};
use crate::snapshot::{Restored, SnapshotWriter};
use crate::state::{KeyIndex, RowSet};

const SESSIONS: &str = "sessions";
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
    /// Start, end, arrival.
    sessions: Vec<(i64, i64, u64)>,
}

impl SessionOperator {
    /// What there is now goes into the snapshot.
    pub(super) fn freeze(&mut self, into: &mut SnapshotWriter) {
        let section = into.section(self.form.section(SESSIONS, &first()));
        self.writing = Some(Writing {
            section,
            index: self.index.names(),
            values: self.values.clone(),
            left: self.book.open_sessions().into_iter(),
        });
    }

    /// Takes what was there at a checkpoint. Errors: `StateMismatch`, `Corrupt`.
    pub(super) fn take_back(&mut self, from: &Restored<'_>, cx: &mut Context<'_>) -> Result<()> {
        self.watermark = cx.watermark;
        let wanted = |s: &SectionSpec| s.kind == SectionKind::Windows && s.name == SESSIONS;
        for section in from.sections().into_iter().filter(|s| wanted(s)) {
            self.form.check(section, &first())?;
        }
        let mut read = Read::default();
        from.entries(wanted, |_, _, entry| {
            let (start, end) = read_bounds(entry.sub)?;
            let mut value = entry.value;
            let arrival = u64::from_be_bytes(take(&mut value)?);
            if start >= end {
                return Err(cut_off());
            }
            let begin = read.bytes.len();
            read.bytes.extend_from_slice(entry.key);
            let middle = read.bytes.len();
            read.bytes.extend_from_slice(value);
            read.at.push([begin, middle, read.bytes.len()]);
            read.sessions.push((start, end, arrival));
            if read.at.len() < CHUNK {
                return Ok(());
            }
            self.take_in_read(std::mem::take(&mut read))
        })?;
        self.take_in_read(read)?;
        self.count(cx)
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
        let mut sessions = Vec::with_capacity(slots.len());
        for (key, (start, end, arrival)) in slots.iter().zip(&read.sessions) {
            let session = self
                .book
                .take_back(*key, (*start, *end), *arrival, self.watermark)
                .ok_or_else(|| Error::bug("a key of a session is gone"))?;
            sessions.push(session);
        }
        let encoded = read.at.iter().map(|[_, value, end]| bytes(*value, *end));
        let values = &mut self.values;
        let total = self.book.slots();
        self.form.codec.load(values, &sessions, total, encoded)
    }
}
