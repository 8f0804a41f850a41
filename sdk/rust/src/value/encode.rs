//! The canonical encoding of values: what map keys are told apart and ordered by, here as in the host.
//!
//! Fields stand one after the other. Numbers and times are big-endian so that bytes sort as values (signed: sign bit
//! flipped; floats: as IEEE total order, all NaN alike), text and bytes have their length before them (so that shorter
//! ones sort first), a value that may be null has 0 or 1 before it.

use crate::time::{Date, Decimal, Timestamp};

/// A value of a fixed width that can be encoded.
pub trait Encode: Copy {
    /// Appends the encoding.
    fn encode(self, out: &mut Vec<u8>);
}

macro_rules! encode {
    ($($t:ty: |$v:ident| $as:expr;)*) => { $(
        impl Encode for $t {
            #[inline(always)]
            fn encode(self, out: &mut Vec<u8>) {
                let $v = self;
                out.extend_from_slice(&$as.to_be_bytes());
            }
        }
    )* };
}
encode! {
    i8: |v| (v ^ i8::MIN);
    i16: |v| (v ^ i16::MIN);
    i32: |v| (v ^ i32::MIN);
    i64: |v| (v ^ i64::MIN);
    u8: |v| v;
    u16: |v| v;
    u32: |v| v;
    u64: |v| v;
    Timestamp: |v| (v.0 ^ i64::MIN);
    Date: |v| (v.0 ^ i32::MIN);
    f32: |v| {
        let bits = if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() };
        if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
    };
    f64: |v| {
        let bits = if v.is_nan() { 0x7ff8_0000_0000_0000 } else { v.to_bits() };
        if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
    };
}

impl<const SCALE: u8> Encode for Decimal<SCALE> {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0 ^ i128::MIN).to_be_bytes());
    }
}

/// Appends bytes of varying length.
pub(crate) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}
