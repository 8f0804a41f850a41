//! Sessions of keys that do not fit in memory: a keyed state has them.
//!
//! A key is in memory or here, never in both: it is taken out as a whole, all its sessions at once. Beside the sessions
//! there is, for each key, when something is first to be done for it, and these times are found in their order. In the
//! state the key is a salt that is in the key group of the keys below it: a task finds its share wherever it goes on.
//!
//! Of each of its key groups the task knows a time before which nothing is due there. So it costs nothing to look for
//! what is due where nothing is, nor to look for a key in a key group that has none here.

mod due;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, TimestampMillisecondArray, UInt32Array, UInt64Array};
use arrow_select::concat::concat;
use arrow_select::take::take;
use pelton_model::encoding::decode;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::key::{KeyGroup, KeyGroupRange, hashes};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, Result};

use super::book::Leaving;
use crate::function::{EntryChange, EntryChanges, Slots, StateChange};
use crate::operators::process::StatePlace;
use crate::operators::window::saved::{Codec, Form, SPILLED};
use crate::state::{KeyedState, StateOwner, Touched, salts};

/// The state that has when something is first to be done for a key.
const SPILLED_DUE: &str = "spilled.due";
/// The places of the states.
const SESSIONS: u32 = 0;
const DUE: u32 = 1;

/// Keys in a keyed state.
pub(super) struct Spill {
    pub(super) state: Box<dyn KeyedState>,
    key: Vec<Field>,
    codec: Codec,
    groups: KeyGroupRange,
    max_parallelism: u32,
    /// By key group of the task.
    shares: Vec<Share>,
    touched: Touched,
    /// The state's part of the snapshot at hand is written.
    pub(super) saved: bool,
}

/// What is known of a key group.
struct Share {
    salt: u32,
    /// Nothing is due before. None: there is no key.
    first: Option<i64>,
    /// The last that was found due: all others stand behind it, what was before may still be in the backend's way.
    after: Option<After>,
}

struct After {
    time: i64,
    entry: Slots,
}

/// Sessions of some of the keys that were asked for.
pub(super) struct Found {
    /// Of each session, which key.
    pub(super) keys: Vec<u32>,
    /// Start and end.
    pub(super) bounds: Vec<(i64, i64)>,
    pub(super) arrivals: Vec<u64>,
    pub(super) fired: Vec<bool>,
    /// The accumulators' columns.
    pub(super) values: Vec<ArrayRef>,
}

/// The fields of the state's key.
fn state_key() -> [Field; 1] {
    [Field::new("salt", DataType::U32)]
}

/// The map key of a session: the key, and which of its sessions.
fn session_key(key: &[Field]) -> Vec<Field> {
    let number = Field::new("number", DataType::U32);
    key.iter().cloned().chain([number]).collect()
}

/// What stands before the accumulator of a session: of its key, when something is first to be done, when it came and how
/// many sessions it has; then its own bounds.
pub(super) fn first() -> [Field; FIRST] {
    [
        Field::new("due", DataType::Timestamp),
        Field::new("arrival", DataType::U64),
        Field::new("sessions", DataType::U32),
        Field::new("start", DataType::Timestamp),
        Field::new("end", DataType::Timestamp),
    ]
}

const FIRST: usize = 5;

fn session_fields(codec: &Codec) -> Vec<Field> {
    first().into_iter().chain(codec.fields()).collect()
}

fn due_key(key: &[Field]) -> Vec<Field> {
    let first = [
        Field::new("due", DataType::Timestamp),
        Field::new("arrival", DataType::U64),
    ];
    first.into_iter().chain(key.iter().cloned()).collect()
}

fn due_fields() -> Vec<Field> {
    vec![Field::new("sessions", DataType::U32)]
}

fn map(name: &str, map_key: Vec<Field>, value: Vec<Field>) -> StateSpec {
    StateSpec {
        name: name.to_owned(),
        kind: StateKind::Map,
        map_key: Some(Schema::new(map_key)),
        schema: Schema::new(value),
        lazy: true,
        ttl: None,
        past: Default::default(),
    }
}

impl Spill {
    /// None where the backend keeps all in memory. Errors: what the outside refuses.
    pub(super) fn open(place: &StatePlace<'_>, form: &Form) -> Result<Option<Self>> {
        let state = place.backend.keyed(&StateOwner {
            uid: place.uid.to_owned(),
            task: place.task,
            key: state_key().to_vec(),
            states: vec![
                map(SPILLED, session_key(&form.key), session_fields(&form.codec)),
                map(SPILLED_DUE, due_key(&form.key), due_fields()),
            ],
            key_groups: place.key_groups,
            max_parallelism: place.max_parallelism,
        })?;
        if state.room().is_none() {
            return Ok(None);
        }
        let salts = salts(&[], place.key_groups, place.max_parallelism);
        let share = |salt: &u32| Share {
            salt: *salt,
            first: None,
            after: None,
        };
        Ok(Some(Self {
            state,
            key: form.key.clone(),
            codec: form.codec.clone(),
            groups: place.key_groups,
            max_parallelism: place.max_parallelism,
            shares: salts.iter().map(share).collect(),
            touched: Touched::default(),
            saved: true,
        }))
    }

    /// Bytes that may be in memory.
    pub(super) fn room(&self) -> u64 {
        self.state.room().unwrap_or(u64::MAX)
    }

    /// Whether there may be a key here.
    pub(super) fn has_any(&self) -> bool {
        self.shares.iter().any(|s| s.first.is_some())
    }

    /// There may be keys in any key group, due at any time.
    pub(super) fn enter_unknown(&mut self) {
        for share in &mut self.shares {
            share.first = Some(i64::MIN);
        }
    }

    /// By row, the place of the key group.
    fn places(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
        let hashes = hashes(&self.key, keys, rows)?;
        let place = |hash: u64| {
            let group = KeyGroup::of(hash, self.max_parallelism).0;
            let place = group.checked_sub(self.groups.start).map(|p| p as usize);
            place
                .filter(|p| *p < self.shares.len())
                .ok_or_else(|| Error::bug("a row came to a task that has not its key group"))
        };
        hashes.into_iter().map(place).collect()
    }

    /// Touches the state's keys of these key groups.
    fn touch(&mut self, places: &[usize]) -> Result<()> {
        let salt = |p: &usize| self.shares.get(*p).map_or(0, |s| s.salt);
        let salts: UInt32Array = places.iter().map(|p| Some(salt(p))).collect();
        let columns: [ArrayRef; 1] = [Arc::new(salts)];
        self.state.touch(&columns, places.len(), &mut self.touched)
    }

    /// Done with the keys that were touched.
    fn release(&mut self) -> Result<()> {
        self.state.forget(&self.touched.slots, &|_| false);
        self.state.tidy(&|_| false)
    }

    /// Writes what leaves memory; `keys` has a row for each key, `values` one for each session.
    pub(super) fn put(
        &mut self,
        keys: &[ArrayRef],
        leaving: &Leaving,
        values: Vec<ArrayRef>,
    ) -> Result<()> {
        let places = self.places(keys, leaving.counts.len())?;
        self.touch(&places)?;
        for (due, place) in leaving.due.iter().zip(&places) {
            if let Some(share) = self.shares.get_mut(*place) {
                share.first = Some(share.first.map_or(*due, |first| first.min(*due)));
                share.after.take_if(|after| after.time >= *due);
            }
        }
        let ordinals = &self.touched.ordinals;
        let (mut rows, mut ordinals_of, mut numbers) = (vec![], vec![], vec![]);
        let (mut counts_of, mut due_of) = (vec![], vec![]);
        let of_keys = leaving.counts.iter().zip(&leaving.due).zip(ordinals);
        for (row, ((count, due), ordinal)) in (0u32..).zip(of_keys) {
            for number in 0..*count {
                rows.push(row);
                ordinals_of.push(*ordinal);
                numbers.push(number);
                counts_of.push(*count);
                due_of.push(*due);
            }
        }
        let all = &leaving.sessions;
        let mut fields: Vec<ArrayRef> = vec![
            timestamps(due_of),
            unsigned(all.iter().map(|s| s.arrival).collect()),
            Arc::new(UInt32Array::from(counts_of)),
            timestamps(all.iter().map(|s| s.start).collect()),
            timestamps(all.iter().map(|s| s.end).collect()),
        ];
        fields.extend(values);
        let mut map_keys = picked(keys, rows)?;
        map_keys.push(Arc::new(UInt32Array::from(numbers)));
        let mut due_keys = vec![
            timestamps(leaving.due.clone()),
            unsigned(leaving.arrivals.clone()),
        ];
        due_keys.extend(keys.iter().cloned());
        let counts: ArrayRef = Arc::new(UInt32Array::from(leaving.counts.clone()));
        let put = EntryChange::Put;
        let changes = [
            change(SESSIONS, put, ordinals_of, map_keys, fields),
            change(DUE, put, ordinals.clone(), due_keys, vec![counts]),
        ];
        self.state.write(&self.touched.slots, &changes)?;
        self.release()
    }

    /// Takes keys out: what is here of those of the first `rows` rows, none of which stands twice. `due`: those that were
    /// found due.
    pub(super) fn take(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        due: bool,
    ) -> Result<Option<Found>> {
        let places = self.places(keys, rows)?;
        let has = |p: &usize| due || self.shares.get(*p).is_some_and(|s| s.first.is_some());
        let some = (0u32..).zip(places).filter(|(_, place)| has(place));
        let (rows, places): (Vec<u32>, Vec<usize>) = some.unzip();
        if rows.is_empty() {
            return Ok(None);
        }
        self.touch(&places)?;
        let first = self.read(
            keys,
            &rows,
            &vec![0; rows.len()],
            &self.touched.ordinals.clone(),
        )?;
        let there = |row: &usize| first.present.as_ref().is_none_or(|p| p.value(*row));
        let there: Vec<usize> = (0..rows.len()).filter(there).collect();
        if there.is_empty() {
            self.release()?;
            return Ok(None);
        }
        let pick = |from: &[u32]| -> Vec<u32> {
            let one = |row: &usize| from.get(*row).copied().unwrap_or_default();
            there.iter().map(one).collect()
        };
        let (rows, ordinals) = (pick(&rows), pick(&self.touched.ordinals));
        let values = picked(&first.columns, there.iter().map(|r| *r as u32).collect())?;
        // Keys with more than one session: the others.
        let (mut more, mut numbers_of, mut more_ordinals) = (vec![], vec![], vec![]);
        for ((count, row), ordinal) in counts(&values, 2)?.iter().zip(&rows).zip(&ordinals) {
            for number in 1..*count {
                more.push(*row);
                numbers_of.push(number);
                more_ordinals.push(*ordinal);
            }
        }
        let mut found = (rows.clone(), vec![0; rows.len()], ordinals.clone());
        let mut columns = values.clone();
        if !more.is_empty() {
            let others = self.read(keys, &more, &numbers_of, &more_ordinals)?;
            if others.present.is_some() {
                return Err(Error::bug("a session that left memory is not in the state"));
            }
            columns = joined(&[columns, others.columns])?;
            found.0.extend(more);
            found.1.extend(numbers_of);
            found.2.extend(more_ordinals);
        }
        self.remove(keys, (&rows, ordinals), &values, &found)?;
        let due = times(&columns, 0)?;
        let bounds = times(&columns, 3)?.iter().zip(times(&columns, 4)?);
        let bounds: Vec<(i64, i64)> = bounds.map(|(start, end)| (*start, *end)).collect();
        // What was due before had fired.
        let fired = bounds
            .iter()
            .zip(due)
            .map(|((_, end), due)| end.saturating_sub(1) < *due);
        Ok(Some(Found {
            keys: found.0,
            fired: fired.collect(),
            arrivals: numbers(&columns, 1)?.to_vec(),
            bounds,
            values: columns.split_off(FIRST.min(columns.len())),
        }))
    }

    /// What is here of sessions, each of a row's key with a number.
    fn read(
        &mut self,
        keys: &[ArrayRef],
        rows: &[u32],
        numbers: &[u32],
        ordinals: &[u32],
    ) -> Result<Slots> {
        let slot = |o: &u32| self.touched.slots.get(*o as usize).copied();
        let slots: Option<Vec<u32>> = ordinals.iter().map(slot).collect();
        let slots = slots.ok_or_else(|| Error::bug("a key without a slot"))?;
        let mut columns = picked(keys, rows.to_vec())?;
        columns.push(Arc::new(UInt32Array::from(numbers.to_vec())));
        let keys = Slots {
            rows: rows.len(),
            present: None,
            columns,
        };
        self.state.map_values(SESSIONS, &slots, &keys)
    }

    /// Removes keys of these rows, of which `first` has the first sessions, and all their sessions.
    fn remove(
        &mut self,
        keys: &[ArrayRef],
        (rows, ordinals): (&[u32], Vec<u32>),
        first: &[ArrayRef],
        (of, numbers, of_ordinals): &(Vec<u32>, Vec<u32>, Vec<u32>),
    ) -> Result<()> {
        let remove = EntryChange::Remove;
        let none = |fields: &[Field]| decode(fields, std::iter::empty());
        let mut map_keys = picked(keys, of.clone())?;
        map_keys.push(Arc::new(UInt32Array::from(numbers.clone())));
        let mut due_keys = first.get(..2).unwrap_or_default().to_vec();
        due_keys.extend(picked(keys, rows.to_vec())?);
        let changes = [
            change(
                SESSIONS,
                remove,
                of_ordinals.clone(),
                map_keys,
                none(&session_fields(&self.codec))?,
            ),
            change(DUE, remove, ordinals, due_keys, none(&due_fields())?),
        ];
        self.state.write(&self.touched.slots, &changes)?;
        self.release()
    }
}

fn change(
    state: u32,
    change: EntryChange,
    ordinals: Vec<u32>,
    map_keys: Vec<ArrayRef>,
    values: Vec<ArrayRef>,
) -> StateChange {
    let slots = |columns: Vec<ArrayRef>| Slots {
        rows: columns.first().map_or(0, |c| c.len()),
        present: None,
        columns,
    };
    StateChange {
        state,
        marks: Vec::new(),
        values: slots(values),
        entries: Some(EntryChanges {
            changes: vec![change as u8; ordinals.len()],
            ordinals,
            map_keys: Some(slots(map_keys)),
        }),
    }
}

fn timestamps(times: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(times))
}

fn unsigned(numbers: Vec<u64>) -> ArrayRef {
    Arc::new(UInt64Array::from(numbers))
}

fn other() -> Error {
    Error::bug("the state of sessions has columns of other types")
}

fn times(columns: &[ArrayRef], at: usize) -> Result<&[i64]> {
    let column = columns.get(at).ok_or_else(other)?;
    let column = column.as_primitive_opt::<TimestampMillisecondType>();
    Ok(column.ok_or_else(other)?.values())
}

fn numbers(columns: &[ArrayRef], at: usize) -> Result<&[u64]> {
    let column = columns.get(at).ok_or_else(other)?;
    let column = column.as_primitive_opt::<UInt64Type>();
    Ok(column.ok_or_else(other)?.values())
}

fn counts(columns: &[ArrayRef], at: usize) -> Result<&[u32]> {
    let column = columns.get(at).ok_or_else(other)?;
    let column = column.as_primitive_opt::<UInt32Type>();
    Ok(column.ok_or_else(other)?.values())
}

fn picked(columns: &[ArrayRef], rows: Vec<u32>) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows);
    let one = |c: &ArrayRef| take(c, &rows, None).map_err(|e| Error::bug(e.to_string()));
    columns.iter().map(one).collect()
}

/// Columns one after the other.
fn joined(parts: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
    if let [only] = parts {
        return Ok(only.clone());
    }
    let columns = parts.first().map_or(0, Vec::len);
    let column = |at: usize| {
        let all: Vec<&dyn Array> = parts
            .iter()
            .filter_map(|p| Some(p.get(at)?.as_ref()))
            .collect();
        concat(&all).map_err(|e| Error::bug(e.to_string()))
    };
    (0..columns).map(column).collect()
}
