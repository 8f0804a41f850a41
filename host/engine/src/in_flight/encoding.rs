//! An element in flight as bytes. Checkpoints outlive releases: the bytes are frozen by golden tests.
//!
//! ```text
//! element = version:u8 (1)  what:u8  body
//! rows (what = 0):       flags:u8 count:u32 time:i64* kind:u8* (length:u32 row)*
//! watermark (what = 1):  time:i64
//! ```
//!
//! Numbers are big endian. Flag 1: each row has an event time; flag 2: each has a kind. A row is the
//! [canonical encoding](pelton_model::encoding) of the stream's fields, one after the other.

use pelton_model::batch::Batch;
use pelton_model::element::Element;
use pelton_model::encoding::{decode, encode};
use pelton_model::schema::Field;
use pelton_model::watermark::Watermark;
use pelton_model::{Error, ErrorCode, Result};

const VERSION: u8 = 1;
const ROWS: u8 = 0;
const WATERMARK: u8 = 1;
const HAS_TIMES: u8 = 1;
const HAS_KINDS: u8 = 2;

/// Appends an element of a stream of these fields. Errors: `Bug` for one that is neither rows nor a watermark, and for
/// columns that are not of the fields.
pub(super) fn put(fields: &[Field], element: &Element, out: &mut Vec<u8>) -> Result<()> {
    out.push(VERSION);
    match element {
        Element::Batch(batch) => put_rows(fields, &batch.materialize()?, out),
        Element::Watermark(w) => {
            out.push(WATERMARK);
            out.extend_from_slice(&w.0.to_be_bytes());
            Ok(())
        }
        _ => Err(Error::bug("only rows and watermarks are kept in flight")),
    }
}

fn put_rows(fields: &[Field], batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
    if batch.columns().len() != fields.len() {
        return Err(Error::bug("a batch in flight is not of its stream"));
    }
    let flag = |has: bool, flag: u8| if has { flag } else { 0 };
    out.push(ROWS);
    out.push(flag(batch.times().is_some(), HAS_TIMES) | flag(batch.kinds().is_some(), HAS_KINDS));
    out.extend_from_slice(&(batch.len() as u32).to_be_bytes());
    for time in batch.times().into_iter().flat_map(|t| t.iter()) {
        out.extend_from_slice(&time.to_be_bytes());
    }
    out.extend_from_slice(batch.kinds().map_or(&[][..], |k| k));
    for row in 0..batch.len() {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        for (field, column) in fields.iter().zip(batch.columns()) {
            encode(field, column.as_ref(), row, out)?;
        }
        let length = (out.len() - at - 4) as u32;
        if let Some(place) = out.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

/// An element of a stream of these fields. Errors: `Corrupt`, also for a version that is not known.
pub(super) fn get(fields: &[Field], mut bytes: &[u8]) -> Result<Element> {
    let rest = &mut bytes;
    if u8::from_be_bytes(take(rest)?) != VERSION {
        return Err(corrupt("it is of a version that is not known"));
    }
    let element = match u8::from_be_bytes(take(rest)?) {
        ROWS => Element::Batch(get_rows(fields, rest)?),
        WATERMARK => Element::Watermark(Watermark(i64::from_be_bytes(take(rest)?))),
        _ => return Err(corrupt("it is neither rows nor a watermark")),
    };
    match rest.is_empty() {
        true => Ok(element),
        false => Err(corrupt("something follows it")),
    }
}

fn get_rows(fields: &[Field], rest: &mut &[u8]) -> Result<Batch> {
    let flags = u8::from_be_bytes(take(rest)?);
    let count = u32::from_be_bytes(take(rest)?) as usize;
    // Each row has its length at least, so that a wrong count reserves no memory.
    if count.saturating_mul(4) > rest.len() {
        return Err(corrupt("it is cut off"));
    }
    let times = (flags & HAS_TIMES != 0)
        .then(|| {
            (0..count)
                .map(|_| Ok(i64::from_be_bytes(take(rest)?)))
                .collect()
        })
        .transpose()?;
    let times: Option<Vec<i64>> = times;
    let kinds = (flags & HAS_KINDS != 0)
        .then(|| cut(rest, count).map(<[u8]>::to_vec))
        .transpose()?;
    let row = |_| {
        let length = u32::from_be_bytes(take(rest)?);
        cut(rest, length as usize)
    };
    let rows: Vec<&[u8]> = (0..count).map(row).collect::<Result<_>>()?;
    let columns = decode(fields, rows.into_iter())?;
    Batch::new(columns, count)?
        .with_times(times.map(Into::into))?
        .with_kinds(kinds.map(Into::into))
}

fn cut<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest
        .split_at_checked(n)
        .ok_or_else(|| corrupt("it is cut off"))?;
    *rest = tail;
    Ok(head)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    cut(rest, N)?
        .try_into()
        .map_err(|_| corrupt("it is cut off"))
}

fn corrupt(why: &str) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!("an element in flight is damaged: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use pelton_model::schema::DataType;

    fn fields() -> Vec<Field> {
        vec![
            Field::new("k", DataType::I64),
            Field::new("s", DataType::String).nullable(),
        ]
    }

    fn rows() -> Batch {
        let k: ArrayRef = Arc::new(Int64Array::from(vec![9, -1, 7]));
        let s: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("ab")]));
        let all = Batch::new(vec![k, s], 3)
            .unwrap()
            .with_times(Some(vec![90, -1, 70].into()))
            .unwrap()
            .with_kinds(Some(vec![0, 3, 1].into()))
            .unwrap();
        all.select(vec![1, 2].into()).unwrap()
    }

    fn bytes(element: &Element) -> Vec<u8> {
        let mut out = Vec::new();
        put(&fields(), element, &mut out).unwrap();
        out
    }

    /// Frozen: checkpoints depend on these bytes.
    #[test]
    fn golden_bytes() {
        let hex = |b: Vec<u8>| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(bytes(&Element::Watermark(Watermark(-2)))),
            "0101fffffffffffffffe"
        );
        let golden = concat!(
            "0100",
            "03",
            "00000002",
            "ffffffffffffffff",
            "0000000000000046",
            "0301",
            "00000009",
            "7fffffffffffffff",
            "00",
            "0000000f",
            "8000000000000007",
            "01",
            "00000002",
            "6162",
        );
        assert_eq!(hex(bytes(&Element::Batch(rows()))), golden);
    }

    #[test]
    fn elements_come_back_and_damaged_ones_are_refused() {
        let good = bytes(&Element::Batch(rows()));
        let Element::Batch(batch) = get(&fields(), &good).unwrap() else {
            panic!("rows")
        };
        let whole = rows().materialize().unwrap();
        assert_eq!(batch.columns(), whole.columns());
        assert_eq!(
            (batch.times(), batch.kinds()),
            (whole.times(), whole.kinds())
        );
        let code = |bytes: &[u8]| get(&fields(), bytes).unwrap_err().code();
        for cut in 0..good.len() {
            assert_eq!(code(&good[..cut]), ErrorCode::Corrupt, "{cut}");
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            code(&bytes)
        };
        assert_eq!(changed(0, 2), ErrorCode::Corrupt);
        assert_eq!(changed(1, 9), ErrorCode::Corrupt);
        assert_eq!(changed(3, 0xff), ErrorCode::Corrupt);
        assert_eq!(code(&[good.clone(), vec![0]].concat()), ErrorCode::Corrupt);
        let mut out = Vec::new();
        assert!(put(&fields(), &Element::Idle, &mut out).is_err());
        let none = Element::Batch(Batch::new(Vec::new(), 2).unwrap());
        out.clear();
        put(&[], &none, &mut out).unwrap();
        let Element::Batch(batch) = get(&[], &out).unwrap() else {
            panic!("rows")
        };
        assert_eq!((batch.len(), batch.times()), (2, None));
    }
}
