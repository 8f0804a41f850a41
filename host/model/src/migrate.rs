//! From the fields that a state had to those that it has in a new version of its job: whether its values can be kept, and
//! how they are rewritten. Needs: schema, encoding. Refuses: what to do about values that cannot be kept.
//!
//! Fields are matched by name. Compatible is what loses nothing and needs no decision: another order; a field that may
//! be null now; a new field that may be null, and is; an integer or a float of more bits (an unsigned integer also
//! becomes a signed one of more bits); and all of that within records and lists. A field that is gone loses data, and is
//! only accepted where the caller says so: a field with another name is one that is gone and one that is new.
//!
//! Keys, and what stands below them, are never rewritten: their bytes say where an entry is found.

use crate::schema::{DataType, Field};
use crate::snapshot::SectionSpec;
use crate::{Error, ErrorCode, Result};

/// How values in the [canonical encoding](crate::encoding) of some fields become values of others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rewrite {
    old: Vec<Field>,
    new: Vec<Step>,
    identity: bool,
}

/// How one new field is made.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Step {
    /// The old field's place; none: null.
    from: Option<usize>,
    was_nullable: bool,
    nullable: bool,
    how: How,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum How {
    Keep,
    /// To more bytes.
    Integer(Integer, Integer),
    /// 32 to 64 bits.
    Float,
    Record(Rewrite),
    /// Each item; `Field` is what it was.
    List(Field, Box<Step>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Integer {
    signed: bool,
    bytes: usize,
}

/// What is different, field by field.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Differences {
    /// What was made good, in words: `field 'n' is i64, and was i32`.
    pub changes: Vec<String>,
    /// What cannot be: (path of the field, half a sentence).
    pub faults: Vec<(String, String)>,
    /// Paths of fields whose values would be lost.
    pub gone: Vec<String>,
}

impl Rewrite {
    /// How rows of `old` become rows of `new`, and what is different. With faults, or with fields that are gone and were
    /// not meant to, the rewrite must not be used.
    #[must_use]
    pub fn between(old: &[Field], new: &[Field]) -> (Self, Differences) {
        let mut differences = Differences::default();
        let rewrite = Self::of(old, new, "", &mut differences);
        (rewrite, differences)
    }

    fn of(old: &[Field], new: &[Field], path: &str, out: &mut Differences) -> Self {
        let mut last = None;
        let mut reordered = false;
        let mut steps = Vec::with_capacity(new.len());
        for field in new {
            let at = format!("{path}{}", field.name);
            let from = old.iter().position(|o| o.name == field.name);
            let was = from.and_then(|i| old.get(i));
            reordered |= from.is_some() && from < last;
            last = from.or(last);
            steps.push(match was {
                Some(was) => Step {
                    from,
                    ..Step::of(was, field, &at, out)
                },
                None => {
                    match field.nullable {
                        true => out.changes.push(format!("field '{at}' is new, and null")),
                        false => out
                            .faults
                            .push((at, "is new, but may not be null".to_owned())),
                    }
                    Step {
                        from: None,
                        was_nullable: true,
                        nullable: true,
                        how: How::Keep,
                    }
                }
            });
        }
        if reordered {
            let of = path.strip_suffix('.').map(|p| format!(" of '{p}'"));
            let of = of.unwrap_or_default();
            out.changes
                .push(format!("the fields{of} have another order"));
        }
        for field in old {
            if !new.iter().any(|n| n.name == field.name) {
                out.gone.push(format!("{path}{}", field.name));
            }
        }
        let kept = |(i, s): (usize, &Step)| {
            s.from == Some(i) && s.was_nullable == s.nullable && s.how.is_identity()
        };
        let identity = old.len() == new.len() && steps.iter().enumerate().all(kept);
        Self {
            old: old.to_vec(),
            new: steps,
            identity,
        }
    }

    /// Whether the bytes stay as they are.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.identity
    }

    /// Appends the new form of a row to `out`. Errors: `Corrupt` for bytes that are no row of the old fields.
    pub fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if self.identity {
            out.extend_from_slice(row);
            return Ok(());
        }
        let mut rest = row;
        let mut parts = Vec::with_capacity(self.old.len());
        for field in &self.old {
            parts.push(cut_field(field, &mut rest)?);
        }
        if !rest.is_empty() {
            return Err(corrupt());
        }
        for step in &self.new {
            match step.from.map(|i| parts.get(i)) {
                None => out.push(0),
                Some(part) => step.apply(part.ok_or_else(corrupt)?, out)?,
            }
        }
        Ok(())
    }
}

impl Step {
    fn of(was: &Field, is: &Field, path: &str, out: &mut Differences) -> Self {
        if was.nullable && !is.nullable {
            let why = "may not be null, and it was allowed to be";
            out.faults.push((path.to_owned(), why.to_owned()));
        } else if was.nullable != is.nullable {
            out.changes.push(format!("field '{path}' may be null"));
        }
        let how = match (&was.data_type, &is.data_type) {
            (was, is) if was == is => How::Keep,
            (DataType::Struct(was), DataType::Struct(is)) => {
                How::Record(Rewrite::of(was, is, &format!("{path}."), out))
            }
            (DataType::List(was), DataType::List(is)) => {
                let item = Self::of(was, is, &format!("{path}[]"), out);
                How::List(was.as_ref().clone(), Box::new(item))
            }
            (was, is) => match widened(was, is) {
                Some(how) => {
                    let change = format!("field '{path}' is {is}, and was {was}");
                    out.changes.push(change);
                    how
                }
                None => {
                    let why = format!("is {is}, and was {was}");
                    out.faults.push((path.to_owned(), why));
                    How::Keep
                }
            },
        };
        Self {
            from: None,
            was_nullable: was.nullable,
            nullable: is.nullable,
            how,
        }
    }

    fn apply(&self, mut part: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if self.was_nullable {
            let (tag, rest) = part.split_first().ok_or_else(corrupt)?;
            part = rest;
            if *tag == 0 {
                out.push(0);
                return Ok(());
            }
        }
        if self.nullable {
            out.push(1);
        }
        match &self.how {
            How::Keep => out.extend_from_slice(part),
            How::Integer(from, to) => out.extend_from_slice(&from.widen(*to, part)?),
            How::Float => {
                let bits = u32::from_be_bytes(part.try_into().map_err(|_| corrupt())?);
                out.extend_from_slice(&widen_float(bits).to_be_bytes());
            }
            How::Record(rewrite) => rewrite.apply(part, out)?,
            How::List(field, item) => {
                let count = cut(&mut part, 4)?;
                out.extend_from_slice(count);
                while !part.is_empty() {
                    item.apply(cut_field(field, &mut part)?, out)?;
                }
            }
        }
        Ok(())
    }
}

impl How {
    fn is_identity(&self) -> bool {
        match self {
            Self::Keep => true,
            Self::Record(rewrite) => rewrite.identity,
            Self::List(_, item) => item.was_nullable == item.nullable && item.how.is_identity(),
            Self::Integer(..) | Self::Float => false,
        }
    }
}

fn widened(was: &DataType, is: &DataType) -> Option<How> {
    if (was, is) == (&DataType::F32, &DataType::F64) {
        return Some(How::Float);
    }
    let (from, to) = (Integer::of(was)?, Integer::of(is)?);
    let fits = from.bytes < to.bytes && (from.signed == to.signed || to.signed);
    fits.then_some(How::Integer(from, to))
}

impl Integer {
    fn of(data_type: &DataType) -> Option<Self> {
        let (signed, bytes) = match data_type {
            DataType::I8 => (true, 1),
            DataType::I16 => (true, 2),
            DataType::I32 => (true, 4),
            DataType::I64 => (true, 8),
            DataType::U8 => (false, 1),
            DataType::U16 => (false, 2),
            DataType::U32 => (false, 4),
            DataType::U64 => (false, 8),
            _ => return None,
        };
        Some(Self { signed, bytes })
    }

    /// What is added to a value where it is encoded: half of the range, where it has a sign.
    fn bias(self) -> i128 {
        match self.signed {
            true => 1 << (self.bytes * 8 - 1),
            false => 0,
        }
    }

    fn widen(self, to: Self, part: &[u8]) -> Result<Vec<u8>> {
        if part.len() != self.bytes {
            return Err(corrupt());
        }
        let encoded = part.iter().fold(0, |n, b| n << 8 | i128::from(*b));
        let bytes = (encoded - self.bias() + to.bias()).to_be_bytes();
        let bytes = bytes.get(bytes.len() - to.bytes..);
        Ok(bytes.unwrap_or_default().to_vec())
    }
}

fn widen_float(encoded: u32) -> u64 {
    let bits = match encoded >> 31 {
        1 => encoded & !(1 << 31),
        _ => !encoded,
    };
    let value = f64::from(f32::from_bits(bits));
    let bits = match value.is_nan() {
        true => 0x7ff8_0000_0000_0000,
        false => value.to_bits(),
    };
    match bits >> 63 {
        1 => !bits,
        _ => bits | 1 << 63,
    }
}

/// The bytes of one field, which stand first in `rest`.
fn cut_field<'a>(field: &Field, rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let start = *rest;
    let null = field.nullable && cut(rest, 1)? == [0];
    if !null {
        match &field.data_type {
            DataType::String | DataType::Bytes => {
                let length = cut_length(rest)?;
                cut(rest, length)?;
            }
            DataType::List(item) => {
                for _ in 0..cut_length(rest)? {
                    cut_field(item, rest)?;
                }
            }
            DataType::Struct(fields) => {
                for field in fields {
                    cut_field(field, rest)?;
                }
            }
            DataType::Bool => {
                cut(rest, 1)?;
            }
            fixed => {
                cut(rest, fixed.fixed_width().ok_or_else(corrupt)?)?;
            }
        }
    }
    start.get(..start.len() - rest.len()).ok_or_else(corrupt)
}

fn cut_length(rest: &mut &[u8]) -> Result<usize> {
    let four = cut(rest, 4)?.try_into().map_err(|_| corrupt())?;
    Ok(u32::from_be_bytes(four) as usize)
}

fn cut<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n).ok_or_else(corrupt)?;
    *rest = tail;
    Ok(head)
}

fn corrupt() -> Error {
    Error::new(ErrorCode::Corrupt, "an encoded row is not of its schema")
}

/// How the values of a section are rewritten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migration {
    /// The value's fields.
    pub value: Rewrite,
    /// Whether values had a time before them, and have one: see [`SectionSpec::stamped`].
    pub stamped: (bool, bool),
}

impl Migration {
    /// From what a section was to what it is; only the values are looked at. As [`Rewrite::between`].
    #[must_use]
    pub fn between(old: &SectionSpec, new: &SectionSpec) -> (Self, Differences) {
        let (value, mut differences) = Rewrite::between(&old.value, &new.value);
        let change = match (old.stamped, new.stamped) {
            (true, false) => Some("values do not expire any more"),
            (false, true) => Some("values expire, as if they were written now"),
            _ => None,
        };
        differences.changes.extend(change.map(str::to_owned));
        let migration = Self {
            value,
            stamped: (old.stamped, new.stamped),
        };
        (migration, differences)
    }

    /// Whether values stay as they are.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.value.is_identity() && self.stamped.0 == self.stamped.1
    }

    /// Appends the new form of a value to `out`; `now` is the time of values that had none. Errors: `Corrupt`.
    pub fn apply(&self, value: &[u8], now: i64, out: &mut Vec<u8>) -> Result<()> {
        let (time, row) = match self.stamped.0 {
            true => value.split_at_checked(8).ok_or_else(corrupt)?,
            false => (&[][..], value),
        };
        match self.stamped {
            (true, true) => out.extend_from_slice(time),
            (false, true) => out.extend_from_slice(&now.to_be_bytes()),
            _ => {}
        }
        self.value.apply(row, out)
    }
}

#[cfg(test)]
mod tests;
