//! From the record type that a job declares to the columns to make, and from events to a batch.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int32Array, Int64Array, StructArray, TimestampMillisecondArray, UInt8Array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::Fields;
use pelton_model::batch::Batch;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, ErrorCode, Result};

use super::draws::Channel;
use super::event::{Auctions, Bids, Column, Columns, Persons};
use super::settings::Nexmark;
use super::split::{AUCTION, BID, PERSON, Rows};

/// Makes batches of some columns.
pub(super) struct Plan {
    slots: Vec<Slot>,
    /// Whether an event's own time is among the columns.
    times: bool,
    persons: Persons,
    auctions: Auctions,
    bids: Bids,
}

/// A column of the batch.
enum Slot {
    EventType(DataType),
    Time,
    /// A record of one kind of event, null in rows of other kinds.
    Record {
        kind: u8,
        names: Vec<String>,
        fields: Fields,
    },
    /// A field of bids that are rows by themselves.
    OfBid(String),
}

/// The columns that all rows of a batch share.
struct Shared<'a> {
    rows: &'a Rows,
    times: ScalarBuffer<i64>,
}

impl Plan {
    /// Errors: a field that no event has, or has as another type.
    pub(super) fn new(schema: &Schema, bids_only: bool) -> Result<Self> {
        schema.check_names()?;
        let mut plan = Self {
            slots: Vec::new(),
            times: false,
            persons: Persons::default(),
            auctions: Auctions::default(),
            bids: Bids::default(),
        };
        let nested = schema
            .fields
            .iter()
            .any(|f| matches!(f.data_type, DataType::Struct(_)));
        // A pruned record may be left with what both shapes have: the type and the time, which mean the same in both.
        let of_bid =
            |name: &str| bids_only && !nested && (name == "ts" || Bids::NAMES.contains(&name));
        for field in &schema.fields {
            let slot = if of_bid(&field.name) {
                plan.of_bid(field)?
            } else {
                plan.slot(field, bids_only)?
            };
            plan.slots.push(slot);
        }
        Ok(plan)
    }

    fn slot(&mut self, field: &Field, bids_only: bool) -> Result<Slot> {
        match (field.name.as_str(), &field.data_type) {
            ("event_type", DataType::I64 | DataType::I32 | DataType::U8) => {
                return Ok(Slot::EventType(field.data_type.clone()));
            }
            ("event_type", _) => {
                return Err(misfit("event_type", &field.data_type, "i64, i32 or u8"));
            }
            ("ts", DataType::Timestamp) => {
                self.times = true;
                return Ok(Slot::Time);
            }
            ("ts", _) => return Err(misfit("ts", &field.data_type, &DataType::Timestamp)),
            ("person" | "auction" | "bid", DataType::Struct(_)) => {}
            (name @ ("person" | "auction" | "bid"), _) => {
                return Err(misfit(name, &field.data_type, "a record"));
            }
            (name, _) => {
                let names = ["event_type", "ts", "person", "auction", "bid"];
                return Err(unknown(name, if bids_only { Bids::NAMES } else { &names }));
            }
        }
        let kind = match field.name.as_str() {
            "person" => PERSON,
            "auction" => AUCTION,
            _ => BID,
        };
        let always = bids_only && kind == BID;
        if !field.nullable && !always {
            let message = format!(
                "field '{}' must be nullable: an event is one of person, auction and bid",
                field.name
            );
            return Err(Error::new(ErrorCode::GraphInvalid, message));
        }
        let DataType::Struct(inner) = &field.data_type else {
            return Err(Error::bug("a record has no fields"));
        };
        for f in inner {
            self.times |= match kind {
                PERSON => need(&mut self.persons, &field.name, f)?,
                AUCTION => need(&mut self.auctions, &field.name, f)?,
                _ => need(&mut self.bids, &field.name, f)?,
            };
        }
        let names = inner.iter().map(|f| f.name.clone()).collect();
        Ok(Slot::Record {
            kind,
            names,
            fields: inner.iter().map(Field::to_arrow).collect(),
        })
    }

    /// A field of a record that is a bid, where `ts` is another name of its time.
    fn of_bid(&mut self, field: &Field) -> Result<Slot> {
        if field.name == "ts" {
            return self.slot(field, true);
        }
        self.times |= need(&mut self.bids, "bid", field)?;
        Ok(Slot::OfBid(field.name.clone()))
    }

    /// The batch of some events.
    pub(super) fn make(
        &mut self,
        nexmark: &Nexmark,
        channels: &[Channel],
        rows: &Rows,
    ) -> Result<Batch> {
        self.persons.start(rows.len(), rows.persons.rows.len());
        self.auctions.start(rows.len(), rows.auctions.rows.len());
        self.bids.start(rows.len(), rows.bids.rows.len());
        self.persons.make(nexmark.seed, &rows.persons);
        self.auctions
            .make(nexmark.seed, &rows.auctions, nexmark.life(), |n| {
                nexmark.time(n)
            });
        self.bids.make(nexmark.seed, &rows.bids, channels);
        let times = if self.times {
            rows.numbers.iter().map(|n| nexmark.time(*n)).collect()
        } else {
            Vec::new()
        };
        let shared = Shared {
            rows,
            times: times.into(),
        };
        let (persons, auctions, bids) = (&mut self.persons, &mut self.auctions, &mut self.bids);
        let columns = self.slots.iter().map(|slot| match slot {
            Slot::EventType(data_type) => Ok(shared.event_types(data_type)),
            Slot::Time => Ok(shared.time()),
            Slot::Record {
                kind: PERSON,
                names,
                fields,
            } => shared.record(PERSON, persons, names, fields),
            Slot::Record {
                kind: AUCTION,
                names,
                fields,
            } => shared.record(AUCTION, auctions, names, fields),
            Slot::Record { names, fields, .. } => shared.record(BID, bids, names, fields),
            Slot::OfBid(name) => shared.column(bids, name),
        });
        Batch::new(columns.collect::<Result<_>>()?, rows.len())
    }
}

/// Marks a column as needed; says whether it is the event's own time.
fn need(columns: &mut impl Columns, record: &str, field: &Field) -> Result<bool> {
    let names = names_of(columns);
    let Some(column) = columns.column(&field.name) else {
        return Err(unknown(&format!("{record}.{}", field.name), names));
    };
    let made = match column {
        Column::Ints(_) => DataType::I64,
        Column::Text(_) => DataType::String,
        Column::Time | Column::OtherTime(_) => DataType::Timestamp,
    };
    if field.data_type != made {
        return Err(misfit(
            &format!("{record}.{}", field.name),
            &field.data_type,
            &made,
        ));
    }
    match column {
        Column::Ints(c) | Column::OtherTime(c) => c.needed = true,
        Column::Text(c) => c.needed = true,
        Column::Time => return Ok(true),
    }
    Ok(false)
}

fn names_of<C: Columns>(_columns: &C) -> &'static [&'static str] {
    C::NAMES
}

fn unknown(name: &str, names: &[&str]) -> Error {
    let last = name.rsplit('.').next().unwrap_or(name);
    let nearest = crate::options::did_you_mean(last, names);
    Error::new(
        ErrorCode::GraphInvalid,
        format!("the generator makes no field '{name}'{nearest}"),
    )
    .help(format!("it makes: {}", names.join(", ")))
}

fn misfit(name: &str, declared: &DataType, made: impl std::fmt::Display) -> Error {
    let message =
        format!("field '{name}' is declared as {declared}, but the generator makes {made}");
    Error::new(ErrorCode::GraphInvalid, message)
}

impl Shared<'_> {
    fn event_types(&self, data_type: &DataType) -> ArrayRef {
        let kinds = &self.rows.kinds;
        match data_type {
            DataType::U8 => Arc::new(UInt8Array::from(kinds.clone())),
            DataType::I32 => Arc::new(Int32Array::from_iter_values(
                kinds.iter().map(|k| i32::from(*k)),
            )),
            _ => Arc::new(Int64Array::from_iter_values(
                kinds.iter().map(|k| i64::from(*k)),
            )),
        }
    }

    fn time(&self) -> ArrayRef {
        Arc::new(TimestampMillisecondArray::new(self.times.clone(), None))
    }

    fn column(&self, columns: &mut impl Columns, name: &str) -> Result<ArrayRef> {
        match columns.column(name) {
            Some(Column::Ints(c)) => Ok(Arc::new(Int64Array::new(c.finish(), None))),
            Some(Column::OtherTime(c)) => {
                Ok(Arc::new(TimestampMillisecondArray::new(c.finish(), None)))
            }
            Some(Column::Text(c)) => c.finish(self.rows.len()),
            Some(Column::Time) => Ok(self.time()),
            None => Err(Error::bug(format!("the generator has no column '{name}'"))),
        }
    }

    fn record(
        &self,
        kind: u8,
        columns: &mut impl Columns,
        names: &[String],
        fields: &Fields,
    ) -> Result<ArrayRef> {
        let made = names
            .iter()
            .map(|name| self.column(columns, name))
            .collect::<Result<_>>()?;
        let kinds = &self.rows.kinds;
        let valid = BooleanBuffer::collect_bool(kinds.len(), |row| kinds.get(row) == Some(&kind));
        let nulls = Some(NullBuffer::new(valid)).filter(|n| n.null_count() > 0);
        StructArray::try_new_with_length(fields.clone(), made, nulls, kinds.len())
            .map(|a| Arc::new(a) as ArrayRef)
            .map_err(|e| Error::bug(format!("generated records are not valid: {e}")))
    }
}
