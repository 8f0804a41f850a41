//! Values from text: times, dates, decimals, floats, integers, bytes. The same rules for JSON and CSV.
//! Needs: the calendar of the model. Refuses whatever would have to be rounded or wrapped, but for digits of a second
//! behind the millisecond, which are dropped, as a time has none.

use pelton_model::time::days_from_civil;

use super::scan::{Number, at};

/// Two digits at `p`.
fn two(text: &[u8], p: usize) -> Option<u32> {
    let (a, b) = (
        at(text, p).wrapping_sub(b'0'),
        at(text, p + 1).wrapping_sub(b'0'),
    );
    (a < 10 && b < 10).then(|| u32::from(a) * 10 + u32::from(b))
}

/// `yyyy-MM-dd` at the start of `text`, as days since 1970.
fn day(text: &[u8]) -> Option<i32> {
    let year = two(text, 0)? * 100 + two(text, 2)?;
    if at(text, 4) != b'-' || at(text, 7) != b'-' {
        return None;
    }
    days_from_civil(year as i32, two(text, 5)?, two(text, 8)?)
}

/// Days since 1970 of a date `yyyy-MM-dd`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    if text.len() == 10 { day(text) } else { None }
}

/// Milliseconds since 1970 of `yyyy-MM-dd HH:mm:ss[.S..]` or the same with `T`, behind it `Z`, `+hh:mm`, `-hh:mm`, or
/// nothing for UTC. There are no leap seconds. Digits behind the millisecond are dropped.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let days = day(text)?;
    if !matches!(at(text, 10), b' ' | b'T' | b't') || at(text, 13) != b':' || at(text, 16) != b':' {
        return None;
    }
    let (hour, minute, second) = (two(text, 11)?, two(text, 14)?, two(text, 17)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (mut p, mut milli, mut unit) = (19, 0, 100);
    if at(text, p) == b'.' {
        p += 1;
        let from = p;
        while at(text, p).is_ascii_digit() {
            milli += u32::from(at(text, p) - b'0') * unit;
            unit /= 10;
            p += 1;
        }
        if p == from || p - from > 9 {
            return None;
        }
    }
    let offset = match text.len().checked_sub(p)? {
        0 => 0,
        1 if matches!(at(text, p), b'Z' | b'z') => 0,
        6 => zone(text, p)?,
        _ => return None,
    };
    let seconds = i64::from(hour * 3_600 + minute * 60 + second) - offset;
    Some(i64::from(days) * 86_400_000 + seconds * 1_000 + i64::from(milli))
}

/// The seconds that `+hh:mm` or `-hh:mm` is ahead of UTC.
fn zone(text: &[u8], p: usize) -> Option<i64> {
    let (hour, minute) = (two(text, p + 1)?, two(text, p + 4)?);
    if at(text, p + 3) != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3_600 + minute * 60);
    match at(text, p) {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Powers of ten that a binary64 holds exactly.
const EXACT_F64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The nearest binary64 of a number written as `text`; `None` if it is beyond the largest.
#[inline]
pub(super) fn float64(n: &Number, text: &[u8]) -> Option<f64> {
    // Two exact numbers and one division: the one rounding is the right one.
    if !n.exponent
        && n.digits <= 15
        && let Some(power) = EXACT_F64.get(n.fraction)
    {
        let x = n.mantissa as f64 / power;
        return Some(if n.negative { -x } else { x });
    }
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|x: &f64| x.is_finite())
}

/// The nearest binary32 of a number written as `text`; `None` if it is beyond the largest.
pub(super) fn float32(n: &Number, text: &[u8]) -> Option<f32> {
    if !n.exponent && n.digits <= 7 && n.fraction <= 10 {
        let power = EXACT_F64.get(n.fraction).copied().unwrap_or(1.0);
        let x = n.mantissa as f32 / power as f32;
        return Some(if n.negative { -x } else { x });
    }
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|x: &f32| x.is_finite())
}

/// Why a decimal can't be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadDecimal {
    /// It is not a number.
    Malformed,
    /// A digit that is not 0 stands behind the last place.
    TooFine,
    /// More than 38 digits.
    TooLarge,
}

/// A decimal with `scale` places behind the point, exactly: `-12.50`, `1e3`.
pub(super) fn decimal(text: &[u8], scale: u8) -> Result<i128, BadDecimal> {
    let n = super::scan::number(text, 0).map_err(|_| BadDecimal::Malformed)?;
    if n.end != text.len() {
        return Err(BadDecimal::Malformed);
    }
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        None => (text, 0),
        Some(e) => {
            let power = text
                .get(e + 1..)
                .and_then(|t| std::str::from_utf8(t).ok())
                .unwrap_or_default();
            // An exponent beyond i64 is as good as this one.
            let far = if power.starts_with('-') {
                -1_000_000
            } else {
                1_000_000
            };
            (
                text.get(..e).unwrap_or_default(),
                power
                    .parse::<i64>()
                    .unwrap_or(far)
                    .clamp(-1_000_000, 1_000_000),
            )
        }
    };
    // The digits without their point, and how many places the point has to move to the right.
    let mut places = exponent + i64::from(scale) - n.fraction as i64;
    let mut value: i128 = 0;
    let mut zeros = 0;
    for d in mantissa
        .iter()
        .filter(|b| b.is_ascii_digit())
        .map(|b| b - b'0')
    {
        // Zeros wait: behind the last place they say nothing.
        if d == 0 {
            zeros += 1;
            continue;
        }
        value = grow(value, zeros + 1)?
            .checked_add(i128::from(d))
            .ok_or(BadDecimal::TooLarge)?;
        zeros = 0;
    }
    if value == 0 {
        return Ok(0);
    }
    places += i64::from(zeros);
    let moved = u32::try_from(places).map_err(|_| BadDecimal::TooFine)?;
    let value = grow(value, moved)?;
    if value >= 10_i128.pow(38) {
        return Err(BadDecimal::TooLarge);
    }
    Ok(if n.negative { -value } else { value })
}

/// `value` with so many zeros behind it.
fn grow(value: i128, zeros: u32) -> Result<i128, BadDecimal> {
    if value == 0 {
        return Ok(0);
    }
    10_i128
        .checked_pow(zeros)
        .and_then(|p| value.checked_mul(p))
        .ok_or(BadDecimal::TooLarge)
}

/// Appends the bytes of standard base64 with padding; `None` if it is not that.
pub(super) fn base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let last = text.len() / 4;
    for (i, four) in text.chunks_exact(4).enumerate() {
        let padding = if i + 1 == last {
            four.iter().rev().take_while(|b| **b == b'=').count()
        } else {
            0
        };
        if padding > 2 {
            return None;
        }
        let mut bits = 0_u32;
        for b in four.iter().take(4 - padding) {
            bits = bits << 6 | six(*b)?;
        }
        bits <<= 6 * padding;
        let [_, bytes @ ..] = bits.to_be_bytes();
        let kept = 3 - padding;
        // Bits behind the last byte must be 0: one text for each value.
        if bytes.iter().skip(kept).any(|b| *b != 0) {
            return None;
        }
        out.extend(bytes.iter().take(kept));
    }
    Some(())
}

fn six(b: u8) -> Option<u32> {
    Some(u32::from(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let t = |s: &str| timestamp(s.as_bytes());
        assert_eq!(t("2024-03-09 05:59:50.000"), Some(1_709_963_990_000));
        assert_eq!(t("2024-03-09 05:59:50"), Some(1_709_963_990_000));
        assert_eq!(t("2024-03-09T05:59:50.25Z"), Some(1_709_963_990_250));
        assert_eq!(
            t("2024-03-09T06:59:50.250999+01:00"),
            Some(1_709_963_990_250)
        );
        assert_eq!(t("2024-03-09t05:29:50-00:30"), Some(1_709_963_990_000));
        assert_eq!(t("1969-12-31 23:59:59.999"), Some(-1));
        assert_eq!(t("0000-01-01 00:00:00"), Some(-62_167_219_200_000));
        assert_eq!(t("9999-12-31 23:59:59.999"), Some(253_402_300_799_999));
        for bad in [
            "",
            "2024-03-09",
            "2024-02-30 00:00:00",
            "2024-03-09 24:00:00",
            "2016-12-31 23:59:60",
            "2024-03-09 05:59:50.",
            "2024-03-09 05:59:50 ",
            "2024-03-09 05:59:50+0100",
            "2024-03-09 05:59:50.0000000001",
            "2024-3-09 05:59:50",
            "+024-03-09 05:59:50",
            "2024-03-09 05:59",
            "2024-03-09 05:59:50x01:00",
        ] {
            assert_eq!(t(bad), None, "{bad}");
        }
        assert_eq!(date(b"1970-01-02"), Some(1));
        assert_eq!(date(b"1970-01-02 "), None);
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let d = |s: &str, scale| decimal(s.as_bytes(), scale);
        assert_eq!(d("12.5", 3), Ok(12_500));
        assert_eq!(d("-0.001", 3), Ok(-1));
        assert_eq!(d("1.5000", 1), Ok(15));
        assert_eq!(d("1e3", 2), Ok(100_000));
        assert_eq!(d("1500e-2", 0), Ok(15));
        assert_eq!(d("0e999999999999999999999", 0), Ok(0));
        assert_eq!(
            d("0.00000000000000000000000000000000000000000000", 2),
            Ok(0)
        );
        assert_eq!(d("1.25", 1), Err(BadDecimal::TooFine));
        assert_eq!(d("1e-999999999999999999999", 38), Err(BadDecimal::TooFine));
        assert_eq!(d("1e99999999999999999999", 0), Err(BadDecimal::TooLarge));
        let nines = "9".repeat(38);
        assert_eq!(d(&nines, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(d(&nines, 1), Err(BadDecimal::TooLarge));
        assert_eq!(
            d(&format!("1{}", "0".repeat(38)), 0),
            Err(BadDecimal::TooLarge)
        );
        for bad in ["", "-", "1.", ".5", "1e", "abc", "1 ", "01", "+1", "NaN"] {
            assert_eq!(d(bad, 2), Err(BadDecimal::Malformed), "{bad}");
        }
    }

    #[test]
    fn base64_has_one_text_for_each_value() {
        let b = |s: &str| {
            let mut out = Vec::new();
            base64(s.as_bytes(), &mut out).map(|()| out)
        };
        assert_eq!(b("").as_deref(), Some(&b""[..]));
        assert_eq!(b("aGk=").as_deref(), Some(&b"hi"[..]));
        assert_eq!(b("/+8A").as_deref(), Some(&[0xff, 0xef, 0][..]));
        assert_eq!(b("aA==").as_deref(), Some(&b"h"[..]));
        for bad in [
            "a", "aGk", "aB==", "a===", "====", "aA==aA==", "aG_=", "aG k",
        ] {
            assert_eq!(b(bad), None, "{bad}");
        }
    }

    #[test]
    fn floats_are_the_nearest() {
        for text in [
            "0",
            "-0",
            "0.1",
            "3.14159",
            "123456789012345",
            "1e308",
            "4.9e-324",
            "0.3",
            "9007199254740993",
            "16777217",
            "0.000001",
        ] {
            let n = super::super::scan::number(text.as_bytes(), 0).ok().unwrap();
            let (x, y): (f64, f32) = (text.parse().unwrap(), text.parse().unwrap());
            assert_eq!(
                float64(&n, text.as_bytes()).map(f64::to_bits),
                Some(x.to_bits()),
                "{text}"
            );
            assert_eq!(
                float32(&n, text.as_bytes()).map(f32::to_bits),
                y.is_finite().then(|| y.to_bits()),
                "{text}"
            );
        }
        let n = super::super::scan::number(b"1e400", 0).ok().unwrap();
        assert_eq!(float64(&n, b"1e400"), None);
    }
}
