//! The types of rows: what a record is, and how a view of it fits.
//!
//! A function names the columns it reads by declaring a *view*: a schema whose fields exist, by name and type, in the
//! schema of the stream. Streams are pruned to what somebody reads: the pruned schema keeps the names and the order.
//! Nested records are viewed and pruned the same way, field by field.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StructArray};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};

/// The type of a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// true or false
    Bool,
    /// 8-bit signed integer
    I8,
    /// 16-bit signed integer
    I16,
    /// 32-bit signed integer
    I32,
    /// 64-bit signed integer
    I64,
    /// 8-bit unsigned integer
    U8,
    /// 16-bit unsigned integer
    U16,
    /// 32-bit unsigned integer
    U32,
    /// 64-bit unsigned integer
    U64,
    /// IEEE 754 binary32
    F32,
    /// IEEE 754 binary64
    F64,
    /// UTF-8 text
    String,
    /// bytes
    Bytes,
    /// milliseconds since 1970 UTC, as i64
    Timestamp,
    /// days since 1970, as i32
    Date,
    /// 38 digits, of which `scale` stand behind the point, as i128
    Decimal {
        /// 0 to 38
        scale: u8,
    },
    /// any number of values of one type
    List(Box<Field>),
    /// a record within a record
    Struct(Vec<Field>),
}

/// A named value of a record.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Field {
    /// Unique within its record.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Whether it may be null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nullable: bool,
}

impl Field {
    /// A field that is never null.
    #[must_use]
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self {
            name: name.into(),
            data_type,
            nullable: false,
        }
    }

    /// The same field, but it may be null.
    #[must_use]
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// Arrow's form of this field.
    #[must_use]
    pub fn to_arrow(&self) -> ArrowField {
        ArrowField::new(&self.name, self.data_type.to_arrow(), self.nullable)
    }
}

/// The fields of a record, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Schema {
    /// In the order of the columns.
    pub fields: Vec<Field>,
}

impl DataType {
    /// Arrow's form of this type.
    #[must_use]
    pub fn to_arrow(&self) -> ArrowType {
        match self {
            Self::Bool => ArrowType::Boolean,
            Self::I8 => ArrowType::Int8,
            Self::I16 => ArrowType::Int16,
            Self::I32 => ArrowType::Int32,
            Self::I64 => ArrowType::Int64,
            Self::U8 => ArrowType::UInt8,
            Self::U16 => ArrowType::UInt16,
            Self::U32 => ArrowType::UInt32,
            Self::U64 => ArrowType::UInt64,
            Self::F32 => ArrowType::Float32,
            Self::F64 => ArrowType::Float64,
            Self::String => ArrowType::Utf8,
            Self::Bytes => ArrowType::Binary,
            Self::Timestamp => ArrowType::Timestamp(TimeUnit::Millisecond, None),
            Self::Date => ArrowType::Date32,
            Self::Decimal { scale } => {
                ArrowType::Decimal128(38, i8::try_from(*scale).unwrap_or(i8::MAX))
            }
            Self::List(item) => ArrowType::List(Arc::new(item.to_arrow())),
            Self::Struct(fields) => ArrowType::Struct(fields.iter().map(Field::to_arrow).collect()),
        }
    }

    /// Bytes of one value in a values buffer; `None` for types without a fixed width (also for bool: it is a bitmap).
    #[must_use]
    pub fn fixed_width(&self) -> Option<usize> {
        Some(match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 | Self::Date => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::Timestamp => 8,
            Self::Decimal { .. } => 16,
            Self::Bool | Self::String | Self::Bytes | Self::List(_) | Self::Struct(_) => {
                return None;
            }
        })
    }

    /// Whether a column of this type can be read where `view` is asked for: equal, or a record that has at least the
    /// view's fields.
    fn serves(&self, view: &Self) -> bool {
        match (self, view) {
            (Self::Struct(have), Self::Struct(want)) => misfit(have, want).is_none(),
            (Self::List(have), Self::List(want)) => {
                have.nullable <= want.nullable && have.data_type == want.data_type
            }
            _ => self == view,
        }
    }
}

/// The first field of `want` that `have` does not serve, and why.
fn misfit(have: &[Field], want: &[Field]) -> Option<String> {
    want.iter()
        .find_map(|w| match have.iter().find(|h| h.name == w.name) {
            None => {
                let names: Vec<_> = have.iter().map(|h| h.name.as_str()).collect();
                Some(format!(
                    "there is no field '{}'; the fields are: {}",
                    w.name,
                    names.join(", ")
                ))
            }
            Some(h) if h.nullable && !w.nullable => Some(format!(
                "field '{}' may be null, but is read as if it never were",
                w.name
            )),
            Some(h) if !h.data_type.serves(&w.data_type) => Some(format!(
                "field '{}' is {}, but is read as {}",
                w.name, h.data_type, w.data_type
            )),
            Some(_) => None,
        })
}

/// The parts of `fields` that `needed` names, in the order of `fields`.
fn restrict(fields: &[Field], needed: &[Field]) -> Vec<Field> {
    fields
        .iter()
        .filter_map(|f| {
            let n = needed.iter().find(|n| n.name == f.name)?;
            let data_type = match (&f.data_type, &n.data_type) {
                (DataType::Struct(have), DataType::Struct(want)) => {
                    DataType::Struct(restrict(have, want))
                }
                (whole, _) => whole.clone(),
            };
            Some(Field {
                name: f.name.clone(),
                data_type,
                nullable: f.nullable,
            })
        })
        .collect()
}

fn merge(into: &mut Vec<Field>, other: &[Field]) {
    for o in other {
        match into.iter_mut().find(|f| f.name == o.name) {
            None => into.push(o.clone()),
            Some(f) => {
                if let (DataType::Struct(have), DataType::Struct(more)) =
                    (&mut f.data_type, &o.data_type)
                {
                    merge(have, more);
                }
            }
        }
    }
}

impl Schema {
    /// A schema of these fields.
    #[must_use]
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// The place of a field by name.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// A field by name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// Refuses a schema with two fields of one name, or a nested one with such.
    pub fn check_names(&self) -> Result<()> {
        fn check(fields: &[Field]) -> Result<()> {
            let mut seen = BTreeSet::new();
            for f in fields {
                if f.name.is_empty() || !seen.insert(&f.name) {
                    return Err(Error::new(
                        ErrorCode::GraphInvalid,
                        format!("field name '{}' is empty or stands twice", f.name),
                    ));
                }
                match &f.data_type {
                    DataType::Struct(inner) => check(inner)?,
                    DataType::List(item) => {
                        if let DataType::Struct(inner) = &item.data_type {
                            check(inner)?;
                        }
                    }
                    DataType::Decimal { scale } if *scale > 38 => {
                        return Err(Error::new(
                            ErrorCode::GraphInvalid,
                            format!("field '{}' has a scale above 38", f.name),
                        ));
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        check(&self.fields)
    }

    /// Refuses a view that this schema does not serve, and says which field and why.
    pub fn check_view(&self, view: &Self) -> Result<()> {
        match misfit(&self.fields, &view.fields) {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorCode::GraphInvalid, why)),
        }
    }

    /// This schema without what `needed` does not name; the order stays. Names in `needed` that don't exist are passed over.
    #[must_use]
    pub fn restrict(&self, needed: &Self) -> Self {
        Self {
            fields: restrict(&self.fields, &needed.fields),
        }
    }

    /// Adds to this set of needed fields those of `other`.
    pub fn merge(&mut self, other: &Self) {
        merge(&mut self.fields, &other.fields);
    }

    /// Arrow's form of the fields.
    #[must_use]
    pub fn to_arrow(&self) -> Fields {
        self.fields.iter().map(Field::to_arrow).collect()
    }
}

/// How to get the columns of a view from those of a stream, resolved once: by field, the ordinal, and for a nested
/// record that is only partly read, the same of its fields.
#[derive(Clone, Debug)]
pub struct Projection {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    ordinal: usize,
    nested: Option<(Fields, Projection)>,
}

impl Projection {
    /// Errors: as [`Schema::check_view`].
    pub fn new(from: &Schema, view: &Schema) -> Result<Self> {
        from.check_view(view)?;
        Self::of(&from.fields, &view.fields)
    }

    fn of(from: &[Field], view: &[Field]) -> Result<Self> {
        let nodes = view
            .iter()
            .map(|v| {
                let ordinal = from.iter().position(|f| f.name == v.name).ok_or_else(|| {
                    Error::bug(format!("field '{}' is not in the stream", v.name))
                })?;
                let nested = match (from.get(ordinal).map(|f| &f.data_type), &v.data_type) {
                    (Some(DataType::Struct(have)), DataType::Struct(want)) if have != want => {
                        Some((
                            want.iter().map(Field::to_arrow).collect(),
                            Self::of(have, want)?,
                        ))
                    }
                    _ => None,
                };
                Ok(Node { ordinal, nested })
            })
            .collect::<Result<_>>()?;
        Ok(Self { nodes })
    }

    /// The ordinal of each column of the view.
    pub fn ordinals(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes.iter().map(|n| n.ordinal)
    }

    /// The view's columns. Costs a pointer a column. Errors: fewer columns than the stream's schema has.
    pub fn apply(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        self.nodes
            .iter()
            .map(|node| {
                let column = columns
                    .get(node.ordinal)
                    .ok_or_else(|| Error::bug("a batch has too few columns"))?;
                let Some((fields, inner)) = &node.nested else {
                    return Ok(column.clone());
                };
                let record = column
                    .as_any()
                    .downcast_ref::<StructArray>()
                    .ok_or_else(|| Error::bug("a nested column is not a record"))?;
                let children = inner.apply(record.columns())?;
                StructArray::try_new_with_length(
                    fields.clone(),
                    children,
                    record.nulls().cloned(),
                    record.len(),
                )
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| Error::bug(e.to_string()))
            })
            .collect()
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::I8 => f.write_str("i8"),
            Self::I16 => f.write_str("i16"),
            Self::I32 => f.write_str("i32"),
            Self::I64 => f.write_str("i64"),
            Self::U8 => f.write_str("u8"),
            Self::U16 => f.write_str("u16"),
            Self::U32 => f.write_str("u32"),
            Self::U64 => f.write_str("u64"),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Date => f.write_str("date"),
            Self::Decimal { scale } => write!(f, "decimal(38, {scale})"),
            Self::List(item) => write!(
                f,
                "list<{}{}>",
                item.data_type,
                if item.nullable { "?" } else { "" }
            ),
            Self::Struct(fields) => {
                f.write_str("{")?;
                write_fields(f, fields)?;
                f.write_str("}")
            }
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[Field]) -> fmt::Result {
    for (i, field) in fields.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(
            f,
            "{comma}{}: {}{}",
            field.name,
            field.data_type,
            if field.nullable { "?" } else { "" }
        )?;
    }
    Ok(())
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fields(f, &self.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bid() -> Schema {
        let nested = vec![
            Field::new("price", DataType::I64),
            Field::new("url", DataType::String),
        ];
        Schema::new(vec![
            Field::new("ts", DataType::Timestamp),
            Field::new("bid", DataType::Struct(nested)).nullable(),
            Field::new("extra", DataType::String),
        ])
    }

    #[test]
    fn a_view_is_by_name_and_type() {
        let view = |f: Field| {
            bid()
                .check_view(&Schema::new(vec![f]))
                .map_err(|e| e.to_string())
        };
        assert!(view(Field::new("extra", DataType::String)).is_ok());
        assert_eq!(
            view(Field::new("extra", DataType::I64)).unwrap_err(),
            "field 'extra' is string, but is read as i64"
        );
        let part = DataType::Struct(vec![Field::new("price", DataType::I64)]);
        assert!(view(Field::new("bid", part.clone()).nullable()).is_ok());
        assert!(
            view(Field::new("bid", part))
                .unwrap_err()
                .contains("may be null")
        );
        assert!(
            view(Field::new("x", DataType::I64))
                .unwrap_err()
                .contains("ts, bid, extra")
        );
    }

    #[test]
    fn restricting_keeps_the_order_and_prunes_nested_records() {
        let mut needed = Schema::new(vec![Field::new("extra", DataType::String)]);
        needed.merge(&Schema::new(vec![Field::new(
            "bid",
            DataType::Struct(vec![Field::new("url", DataType::String)]),
        )]));
        assert_eq!(
            bid().restrict(&needed).to_string(),
            "bid: {url: string}?, extra: string"
        );
    }
}
