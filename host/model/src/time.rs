//! Event time, processing time and durations.
//!
//! All time is milliseconds since 1970-01-01T00:00:00Z as `i64`; nothing here reads a clock.

use std::fmt;

/// When an event happened, by its own account: milliseconds since 1970, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventTime(pub i64);

/// The wall clock of the host at a wake-up: milliseconds since 1970, UTC. Constant within a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessingTime(pub i64);

/// A monotonic reading in nanoseconds from an arbitrary origin; for rates, idleness and flushing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// Nanoseconds since `earlier`, 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This reading plus some milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
}

/// Where a component's clock comes from: real in `node`, a value in tests and the simulation.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> ProcessingTime;
    /// The monotonic clock.
    fn monotonic(&self) -> Monotonic;
}

impl fmt::Display for EventTime {
    /// RFC 3339 with milliseconds where the year has four digits, else the plain number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match civil(self.0) {
            Some(c) => write!(
                f,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                c.year, c.month, c.day, c.hour, c.minute, c.second, c.milli
            ),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// A UTC date and time of day, as text formats write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// 0 to 9999.
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 to 999.
    pub milli: u32,
}

/// The calendar form of `ms` since 1970 UTC; `None` outside the years 0 to 9999.
///
/// Days to date by Howard Hinnant's `civil_from_days`.
#[must_use]
pub fn civil(ms: i64) -> Option<Civil> {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    if !(-719_528..=2_932_896).contains(&days) {
        return None;
    }
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let u = |x: i64| x as u32;
    Some(Civil {
        year: year as i32,
        month: u(month),
        day: u(doy - (153 * mp + 2) / 5 + 1),
        hour: u(in_day / 3_600_000),
        minute: u(in_day / 60_000 % 60),
        second: u(in_day / 1_000 % 60),
        milli: u(in_day % 1_000),
    })
}

/// Days since 1970 of a calendar date, by Howard Hinnant's `days_from_civil`; `None` if there is no such day.
#[must_use]
pub fn days_from_civil(year: i32, month: u32, day: u32) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > last || !(0..=9999).contains(&year) {
        return None;
    }
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = i64::from((month + 9) % 12);
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    i32::try_from(era * 146_097 + doe - 719_468).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_rfc_3339() {
        assert_eq!(
            EventTime(1_709_964_000_000).to_string(),
            "2024-03-09T06:00:00.000Z"
        );
        assert_eq!(EventTime(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(EventTime(i64::MAX).to_string(), "9223372036854775807 ms");
    }

    #[test]
    fn days_and_dates_agree_over_four_centuries() {
        for days in -200_000..200_000 {
            let c = civil(i64::from(days) * 86_400_000).expect("in range");
            assert_eq!(days_from_civil(c.year, c.month, c.day), Some(days));
        }
        assert_eq!(days_from_civil(2023, 2, 29), None);
        assert_eq!(days_from_civil(2024, 13, 1), None);
    }
}
