//! From the fields that a state had to those that it has in a new version of its job: whether its values can be kept, and
//! how they are rewritten. Needs: schema, encoding, the graph's [`Past`]. Refuses: what to do about values that cannot be
//! kept.
//!
//! Fields are matched by name, or by a name that the declaration says they had. Compatible is what loses nothing and
//! needs no decision: another name or order; a field that may be null now; a new field that has a default, or may be
//! null and is; one that was null and has a default where it may not be null; an integer or a float of more bits (an
//! unsigned integer also becomes a signed one of more bits); another order of an enum's variants; and all of that within
//! records and lists. A field that is gone loses data, and is only accepted where the caller says so.
//!
//! Keys, and what stands below them, are never rewritten: their bytes say where an entry is found.

use crate::graph::{FieldPast, Past};
use crate::schema::{DataType, Field};
use crate::snapshot::SectionSpec;
use crate::{Error, ErrorCode, Result};

mod taker;

pub use taker::{Declared, key_fault, taker};

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
    /// The old field's place; none: there was none.
    from: Option<usize>,
    was_nullable: bool,
    nullable: bool,
    how: How,
    /// What it is where there is nothing to make it of.
    otherwise: Vec<u8>,
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
    /// The number of an enum's variant: for each that there was, the one that it is.
    Tag(Vec<i64>),
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
    /// How rows of `old` become rows of `new`, of which `past` tells what they were; and what is different. With faults, or
    /// with fields that are gone and were not meant to, the rewrite must not be used.
    #[must_use]
    pub fn between(old: &[Field], new: &[Field], past: &Past) -> (Self, Differences) {
        let mut differences = Differences::default();
        let rewrite = Self::of(old, new, (past, &mut 0), "", &mut differences);
        (rewrite, differences)
    }

    /// `place` is that of the first new field in the preorder, and becomes the one after the last.
    fn of(
        old: &[Field],
        new: &[Field],
        (past, place): (&Past, &mut u32),
        path: &str,
        out: &mut Differences,
    ) -> Self {
        let mut last = None;
        let mut reordered = false;
        let mut steps: Vec<Step> = Vec::with_capacity(new.len());
        let mut tag = None;
        let mut used = vec![false; old.len()];
        for field in new {
            let at = format!("{path}{}", field.name);
            let own = past.field(*place);
            if own.is_some_and(|p| p.is_tag) {
                tag = Some(steps.len());
            }
            let from = origin(old, field, own, &at, &mut used, out);
            reordered |= from.is_some() && from < last;
            last = from.or(last);
            let was = from.and_then(|i| old.get(i));
            steps.push(Step {
                from,
                ..Step::of(was, field, (past, &mut *place), &at, out)
            });
        }
        if let Some(tag) = tag {
            number_variants(&mut steps, tag, old, path, out);
        }
        if reordered {
            let of = path.strip_suffix('.').map(|p| format!(" of '{p}'"));
            let of = of.unwrap_or_default();
            out.changes
                .push(format!("the fields{of} have another order"));
        }
        let gone = old.iter().zip(used).filter(|(_, used)| !used);
        out.gone
            .extend(gone.map(|(field, _)| format!("{path}{}", field.name)));
        let kept = |(i, s): (usize, &Step)| s.from == Some(i) && s.is_identity();
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
                None => out.extend_from_slice(&step.otherwise),
                Some(part) => step.apply(part.ok_or_else(corrupt)?, out)?,
            }
        }
        Ok(())
    }
}

/// Which old field a new one was.
fn origin(
    old: &[Field],
    field: &Field,
    past: Option<&FieldPast>,
    at: &str,
    used: &mut [bool],
    out: &mut Differences,
) -> Option<usize> {
    let place = |name: &str| old.iter().position(|o| o.name == name);
    let former = past.map_or(&[][..], |p| &p.names);
    let names = std::iter::once(&field.name).chain(former);
    let all: Vec<_> = names.filter_map(|n| Some((n, place(n)?))).collect();
    for (_, place) in &all {
        if let Some(used) = used.get_mut(*place) {
            *used = true;
        }
    }
    if let [(one, _), (two, _), ..] = all.as_slice() {
        let why = format!("was '{one}' or '{two}', and the state has both");
        out.faults.push((at.to_owned(), why));
    }
    let (name, place) = all.first().copied()?;
    if *name != field.name {
        out.changes.push(format!("field '{at}' was '{name}'"));
    }
    Some(place)
}

/// Where variants have other numbers than they had, the tag is rewritten, too.
fn number_variants(
    steps: &mut [Step],
    tag: usize,
    old: &[Field],
    path: &str,
    out: &mut Differences,
) {
    let Some(was) = steps.get(tag).and_then(|s| s.from) else {
        return;
    };
    let mut numbers = Vec::new();
    for (place, variant) in old.iter().enumerate().skip(was + 1) {
        let now = steps.iter().position(|s| s.from == Some(place));
        match now.filter(|now| *now > tag) {
            Some(now) => numbers.push((now - tag - 1) as i64),
            None => {
                let at = format!("{path}{}", variant.name);
                let why = "is a variant that is gone, and values may be of it";
                out.faults.push((at, why.to_owned()));
            }
        }
    }
    let same = numbers.iter().zip(0..).all(|(now, was)| *now == was);
    if let (Some(step), false) = (steps.get_mut(tag), same)
        && step.how == How::Keep
    {
        step.how = How::Tag(numbers);
    }
}

impl Step {
    fn of(
        was: Option<&Field>,
        is: &Field,
        (past, place): (&Past, &mut u32),
        path: &str,
        out: &mut Differences,
    ) -> Self {
        let default = past.field(*place).and_then(|p| p.default.as_ref());
        let otherwise = default.cloned().unwrap_or_else(|| vec![0]);
        let inner = *place + 1;
        *place += nodes(is);
        let Some(was) = was else {
            match (default, is.nullable) {
                (Some(_), _) => out
                    .changes
                    .push(format!("field '{path}' is new, and has its default")),
                (None, true) => out.changes.push(format!("field '{path}' is new, and null")),
                (None, false) => {
                    let why = "is new, has no default, and may not be null";
                    out.faults.push((path.to_owned(), why.to_owned()));
                }
            }
            return Self {
                from: None,
                was_nullable: true,
                nullable: true,
                how: How::Keep,
                otherwise,
            };
        };
        match (was.nullable, is.nullable, default) {
            (true, false, None) => {
                let why = "may not be null, and it was allowed to be";
                out.faults.push((path.to_owned(), why.to_owned()));
            }
            (true, false, Some(_)) => {
                let change = format!("field '{path}' has its default where it was null");
                out.changes.push(change);
            }
            (false, true, _) => out.changes.push(format!("field '{path}' may be null")),
            _ => {}
        }
        Self {
            from: None,
            was_nullable: was.nullable,
            nullable: is.nullable,
            how: How::of(&was.data_type, &is.data_type, (past, inner), path, out),
            otherwise: match is.nullable {
                true => vec![0],
                false => otherwise,
            },
        }
    }

    fn is_identity(&self) -> bool {
        self.was_nullable == self.nullable && self.how.is_identity()
    }

    fn apply(&self, mut part: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if self.was_nullable {
            let (tag, rest) = part.split_first().ok_or_else(corrupt)?;
            part = rest;
            if *tag == 0 {
                out.extend_from_slice(&self.otherwise);
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
            How::Tag(numbers) => {
                let bytes: [u8; 8] = part.try_into().map_err(|_| corrupt())?;
                let number = usize::try_from(i64::from_be_bytes(bytes) ^ i64::MIN);
                let number = number.ok().and_then(|n| numbers.get(n));
                let number = number.ok_or_else(corrupt)? ^ i64::MIN;
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        Ok(())
    }
}

impl How {
    /// `inner` is the place of the first field below this one.
    fn of(
        was: &DataType,
        is: &DataType,
        (past, mut inner): (&Past, u32),
        path: &str,
        out: &mut Differences,
    ) -> Self {
        match (was, is) {
            (DataType::Struct(was), DataType::Struct(is)) => {
                let path = format!("{path}.");
                Self::Record(Rewrite::of(was, is, (past, &mut inner), &path, out))
            }
            (DataType::List(was), DataType::List(is)) => {
                let path = format!("{path}[]");
                let item = Step::of(Some(was), is, (past, &mut inner), &path, out);
                Self::List(was.as_ref().clone(), Box::new(item))
            }
            (was, is) if was == is => Self::Keep,
            (was, is) => match widened(was, is) {
                Some(how) => {
                    let change = format!("field '{path}' is {is}, and was {was}");
                    out.changes.push(change);
                    how
                }
                None => {
                    let why = format!("is {is}, and was {was}");
                    out.faults.push((path.to_owned(), why));
                    Self::Keep
                }
            },
        }
    }

    fn is_identity(&self) -> bool {
        match self {
            Self::Keep => true,
            Self::Record(rewrite) => rewrite.identity,
            Self::List(_, item) => item.is_identity(),
            Self::Integer(..) | Self::Float | Self::Tag(_) => false,
        }
    }
}

/// How many fields a field is in the preorder, itself included.
fn nodes(field: &Field) -> u32 {
    1 + match &field.data_type {
        DataType::Struct(fields) => fields.iter().map(nodes).sum(),
        DataType::List(item) => nodes(item),
        _ => 0,
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
    pub fn between(old: &SectionSpec, declared: &Declared) -> (Self, Differences) {
        let Declared { section: new, past } = declared;
        let (value, mut differences) = Rewrite::between(&old.value, &new.value, past);
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
