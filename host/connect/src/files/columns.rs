//! Columns in the making: what the decoders write into, and what becomes a batch.
//! Needs: the model's types and Arrow's arrays. Knows nothing of any format.
//!
//! Rows come one at a time and may be taken back ([`Column::truncate`]), so that a bad line leaves no trace. A column
//! may lag behind: rows that nobody set are nulls (zeros under a null parent), filled in when the next value comes
//! ([`Column::align`]) or at the end. So a field that a line does not have costs nothing.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::{FieldRef, Fields};
use pelton_model::schema::{DataType, Field};
use pelton_model::{Error, Result};

/// One column, row by row.
pub(super) struct Column {
    pub(super) nullable: bool,
    /// Rows so far, set or filled in.
    pub(super) len: usize,
    valid: NullBufferBuilder,
    pub(super) values: Values,
}

/// The values of a column, by type.
pub(super) enum Values {
    Bool(BooleanBufferBuilder),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    String(Runs),
    Bytes(Runs),
    Timestamp(Vec<i64>),
    Date(Vec<i32>),
    Decimal(u8, Vec<i128>),
    List(Box<List>),
    Record(Box<Record>),
}

/// Byte strings, one behind the other. The bytes of the row in work stand behind the last offset.
pub(super) struct Runs {
    offsets: Vec<i32>,
    pub(super) bytes: Vec<u8>,
}

/// Lists, their items one behind the other.
pub(super) struct List {
    field: FieldRef,
    offsets: Vec<i32>,
    pub(super) item: Column,
}

/// The fields of a record.
pub(super) struct Record {
    fields: Fields,
    pub(super) names: Vec<Name>,
    pub(super) children: Vec<Column>,
    /// How many fields must have a value.
    pub(super) required: usize,
    /// By field: which field came behind it the last time; the entry behind the last one: which came first.
    pub(super) next: Vec<usize>,
}

/// The name of a field.
pub(super) struct Name {
    pub(super) plain: String,
    /// `"name":`, empty if the name must be escaped in JSON.
    quoted: Vec<u8>,
    /// The first 16 bytes of it, and which of their bits count.
    head: u128,
    mask: u128,
}

impl Runs {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }

    /// Ends the row: its bytes are those behind the last offset. The bytes of a batch are bounded far below 2 GiB.
    #[inline]
    pub(super) fn close(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes
            .truncate(self.offsets.last().map_or(0, |o| *o as usize));
    }

    fn fill(&mut self, rows: usize) {
        let last = self.offsets.last().copied().unwrap_or(0);
        self.offsets.resize(rows + 1, last);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let offsets = renew(&mut self.offsets);
        self.offsets.push(0);
        (
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(renew(&mut self.bytes)),
        )
    }
}

/// The vector's content; an empty one with as much room takes its place.
fn renew<T>(v: &mut Vec<T>) -> Vec<T> {
    let room = v.len() + v.len() / 16 + 1;
    std::mem::replace(v, Vec::with_capacity(room))
}

impl List {
    /// Items of the rows that are complete: where the next row's begin.
    pub(super) fn items(&self) -> usize {
        self.offsets.last().map_or(0, |o| *o as usize)
    }

    /// Ends the row, whose last item is before `items`.
    pub(super) fn close(&mut self, items: usize) {
        self.offsets.push(items as i32);
    }
}

impl Record {
    /// The columns of these fields, with no rows.
    pub(super) fn new(fields: &[Field]) -> Self {
        let count = fields.len();
        let mut next: Vec<usize> = (1..=count).collect();
        next.push(0);
        Self {
            fields: fields.iter().map(Field::to_arrow).collect(),
            names: fields.iter().map(|f| Name::new(&f.name)).collect(),
            children: fields
                .iter()
                .map(|f| Column::new(&f.data_type, f.nullable))
                .collect(),
            required: fields.iter().filter(|f| !f.nullable).count(),
            next,
        }
    }

    /// Takes back all rows from `rows` on, and what was begun of the next.
    pub(super) fn truncate(&mut self, rows: usize) {
        for c in &mut self.children {
            c.truncate(rows);
        }
    }

    /// The columns with `rows` rows; empty ones take their place.
    pub(super) fn finish(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        self.children.iter_mut().map(|c| c.finish(rows)).collect()
    }
}

impl Name {
    fn new(name: &str) -> Self {
        let simple = name.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\');
        let quoted = if simple {
            format!("\"{name}\":").into_bytes()
        } else {
            Vec::new()
        };
        let word = |byte: fn(u8) -> u8| {
            let bytes = quoted.iter().take(16).enumerate();
            bytes.fold(0, |word, (i, b)| word | u128::from(byte(*b)) << (8 * i))
        };
        Self {
            plain: name.to_string(),
            head: word(|b| b),
            mask: word(|_| 0xff),
            quoted,
        }
    }

    /// The place behind this name, quoted, and its colon, if that is what stands at `p`.
    #[inline(always)]
    pub(super) fn behind(&self, buf: &[u8], p: usize) -> Option<usize> {
        let rest = buf.get(p..)?;
        let same = match rest.first_chunk::<16>() {
            // Most names end within: one comparison, no call.
            Some(first) if (u128::from_le_bytes(*first) ^ self.head) & self.mask != 0 => false,
            Some(_) if self.quoted.len() <= 16 => !self.quoted.is_empty(),
            _ => !self.quoted.is_empty() && rest.starts_with(&self.quoted),
        };
        same.then_some(p + self.quoted.len())
    }
}

/// One arm for all vectors of fixed-width values.
macro_rules! each_vec {
    ($values:expr, $v:ident => $fixed:expr, $($other:tt)*) => {
        match $values {
            Values::I8($v) => $fixed,
            Values::I16($v) => $fixed,
            Values::I32($v) | Values::Date($v) => $fixed,
            Values::I64($v) | Values::Timestamp($v) => $fixed,
            Values::U8($v) => $fixed,
            Values::U16($v) => $fixed,
            Values::U32($v) => $fixed,
            Values::U64($v) => $fixed,
            Values::F32($v) => $fixed,
            Values::F64($v) => $fixed,
            Values::Decimal(_, $v) => $fixed,
            $($other)*
        }
    };
}

impl Values {
    /// The type, in a word or two.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "i8",
            Self::I16(_) => "i16",
            Self::I32(_) => "i32",
            Self::I64(_) => "i64",
            Self::U8(_) => "u8",
            Self::U16(_) => "u16",
            Self::U32(_) => "u32",
            Self::U64(_) => "u64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "timestamp",
            Self::Date(_) => "date",
            Self::Decimal(..) => "decimal",
            Self::List(_) => "a list",
            Self::Record(_) => "a record",
        }
    }
}

impl Column {
    /// A column of `data_type` with no rows.
    pub(super) fn new(data_type: &DataType, nullable: bool) -> Self {
        let values = match data_type {
            DataType::Bool => Values::Bool(BooleanBufferBuilder::new(0)),
            DataType::I8 => Values::I8(Vec::new()),
            DataType::I16 => Values::I16(Vec::new()),
            DataType::I32 => Values::I32(Vec::new()),
            DataType::I64 => Values::I64(Vec::new()),
            DataType::U8 => Values::U8(Vec::new()),
            DataType::U16 => Values::U16(Vec::new()),
            DataType::U32 => Values::U32(Vec::new()),
            DataType::U64 => Values::U64(Vec::new()),
            DataType::F32 => Values::F32(Vec::new()),
            DataType::F64 => Values::F64(Vec::new()),
            DataType::String => Values::String(Runs::new()),
            DataType::Bytes => Values::Bytes(Runs::new()),
            DataType::Timestamp => Values::Timestamp(Vec::new()),
            DataType::Date => Values::Date(Vec::new()),
            DataType::Decimal { scale } => Values::Decimal(*scale, Vec::new()),
            DataType::List(item) => Values::List(Box::new(List {
                field: Arc::new(item.to_arrow()),
                offsets: vec![0],
                item: Self::new(&item.data_type, item.nullable),
            })),
            DataType::Struct(fields) => Values::Record(Box::new(Record::new(fields))),
        };
        Self {
            nullable,
            len: 0,
            valid: NullBufferBuilder::new(1_024),
            values,
        }
    }

    /// Makes the next row to write `row`: takes back a value that is there already, fills in what was left out.
    #[inline]
    pub(super) fn align(&mut self, row: usize) {
        if self.len > row {
            self.truncate(row);
        }
        if self.len < row {
            self.fill(row);
        }
    }

    /// Ends a row whose value was written.
    #[inline]
    pub(super) fn set(&mut self, row: usize) {
        if self.nullable {
            self.valid.append_non_null();
        }
        self.len = row + 1;
    }

    /// Takes back all rows from `rows` on, and what was begun of the next.
    pub(super) fn truncate(&mut self, rows: usize) {
        let rows = rows.min(self.len);
        self.len = rows;
        if self.nullable {
            self.valid.truncate(rows);
        }
        each_vec!(&mut self.values, v => v.truncate(rows),
            Values::Bool(b) => b.truncate(rows),
            Values::String(r) | Values::Bytes(r) => r.truncate(rows),
            Values::List(l) => {
                l.offsets.truncate(rows + 1);
                let items = l.items();
                l.item.truncate(items);
            }
            Values::Record(r) => r.truncate(rows),
        );
    }

    fn fill(&mut self, rows: usize) {
        if self.nullable {
            self.valid.append_n_nulls(rows - self.len);
        }
        self.len = rows;
        each_vec!(&mut self.values, v => v.resize(rows, Default::default()),
            Values::Bool(b) => b.resize(rows),
            Values::String(r) | Values::Bytes(r) => r.fill(rows),
            Values::List(l) => {
                let items = l.items() as i32;
                l.offsets.resize(rows + 1, items);
            }
            // The fields lag behind until they are needed.
            Values::Record(_) => {}
        );
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        if self.len < rows {
            self.fill(rows);
        }
        self.len = 0;
        let nulls = self.valid.finish();
        Ok(match &mut self.values {
            Values::Bool(b) => Arc::new(BooleanArray::new(b.finish(), nulls)),
            Values::I8(v) => fixed::<Int8Type>(v, nulls),
            Values::I16(v) => fixed::<Int16Type>(v, nulls),
            Values::I32(v) => fixed::<Int32Type>(v, nulls),
            Values::I64(v) => fixed::<Int64Type>(v, nulls),
            Values::U8(v) => fixed::<UInt8Type>(v, nulls),
            Values::U16(v) => fixed::<UInt16Type>(v, nulls),
            Values::U32(v) => fixed::<UInt32Type>(v, nulls),
            Values::U64(v) => fixed::<UInt64Type>(v, nulls),
            Values::F32(v) => fixed::<Float32Type>(v, nulls),
            Values::F64(v) => fixed::<Float64Type>(v, nulls),
            Values::Timestamp(v) => fixed::<TimestampMillisecondType>(v, nulls),
            Values::Date(v) => fixed::<Date32Type>(v, nulls),
            Values::Decimal(scale, v) => {
                let array = PrimitiveArray::<Decimal128Type>::new(renew(v).into(), nulls);
                Arc::new(
                    array
                        .with_precision_and_scale(38, *scale as i8)
                        .map_err(refused)?,
                )
            }
            Values::String(r) => {
                let (offsets, bytes) = r.take();
                Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(refused)?)
            }
            Values::Bytes(r) => {
                let (offsets, bytes) = r.take();
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls).map_err(refused)?)
            }
            Values::List(l) => {
                let items = l.items();
                let offsets = OffsetBuffer::new(ScalarBuffer::from(renew(&mut l.offsets)));
                l.offsets.push(0);
                let item = l.item.finish(items)?;
                Arc::new(
                    ListArray::try_new(l.field.clone(), offsets, item, nulls).map_err(refused)?,
                )
            }
            Values::Record(r) => {
                let columns = r.finish(rows)?;
                let fields = r.fields.clone();
                Arc::new(
                    StructArray::try_new_with_length(fields, columns, nulls, rows)
                        .map_err(refused)?,
                )
            }
        })
    }
}

fn fixed<T: ArrowPrimitiveType>(v: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(renew(v).into(), nulls))
}

fn refused(e: arrow_schema::ArrowError) -> Error {
    Error::bug(format!("a decoded column is not valid: {e}"))
}
