//! Points and lengths of time, and exact decimals.

use std::fmt;

/// A point in time: milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From milliseconds since 1970 UTC.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970 UTC.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    /// Saturates at the ends of time.
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d.0))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    /// Saturates at the ends of time.
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(d.0))
    }
}

impl std::ops::Sub for Timestamp {
    type Output = Duration;
    /// Saturates at the ends of time.
    fn sub(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

/// A day: days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct Date(pub i32);

/// An exact number of up to 38 digits, `SCALE` of them behind the point: `Decimal::<2>(1234)` is 12.34.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct Decimal<const SCALE: u8>(pub i128);

impl<const SCALE: u8> fmt::Display for Decimal<SCALE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, digits) = (
            if self.0 < 0 { "-" } else { "" },
            self.0.unsigned_abs().to_string(),
        );
        let scale = usize::from(SCALE);
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, part) = padded.split_at(padded.len() - scale);
        write!(f, "{sign}{whole}.{part}")
    }
}

/// A length of time in milliseconds; may be negative, as an offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Duration(pub i64);

impl Duration {
    /// In milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }
}

impl std::ops::Neg for Duration {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

/// So many milliseconds.
#[must_use]
pub const fn millis(n: i64) -> Duration {
    Duration(n)
}

/// So many seconds.
#[must_use]
pub const fn seconds(n: i64) -> Duration {
    Duration(n.saturating_mul(1_000))
}

/// So many minutes.
#[must_use]
pub const fn minutes(n: i64) -> Duration {
    Duration(n.saturating_mul(60_000))
}

/// So many hours.
#[must_use]
pub const fn hours(n: i64) -> Duration {
    Duration(n.saturating_mul(3_600_000))
}

/// So many days of 24 hours.
#[must_use]
pub const fn days(n: i64) -> Duration {
    Duration(n.saturating_mul(86_400_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_with_their_scale() {
        assert_eq!(Decimal::<2>(1234).to_string(), "12.34");
        assert_eq!(Decimal::<3>(-5).to_string(), "-0.005");
        assert_eq!(Decimal::<0>(-7).to_string(), "-7");
        assert_eq!(
            Decimal::<38>(i128::MIN).to_string(),
            "-1.70141183460469231731687303715884105728"
        );
    }
}
