//! When values are gone by themselves.
//!
//! Each value has a stamp, the time at which it was last written (or read, where that counts); it is over so many
//! milliseconds later. By event time, what was written before the first watermark counts from that on, and the end of
//! the input lets nothing expire: a function's last timers still see what their keys have.

use pelton_model::graph::Ttl;
use pelton_model::watermark::Watermark;

use super::StateTime;

/// The clock of one state whose values expire.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    ttl: Ttl,
    now: i64,
    /// The first watermark that was seen.
    first: Option<i64>,
}

impl Expiry {
    /// Before any time is known.
    #[must_use]
    pub fn new(ttl: Ttl) -> Self {
        Self {
            ttl,
            now: i64::MIN,
            first: None,
        }
    }

    /// The time from now on.
    pub fn at(&mut self, time: StateTime) {
        if !self.ttl.event_time {
            self.now = time.processing_time.0;
        } else if time.watermark > Watermark::MIN && time.watermark < Watermark::MAX {
            self.now = time.watermark.0;
            self.first.get_or_insert(self.now);
        }
    }

    /// The stamp of what is written now.
    #[must_use]
    pub fn stamp(&self) -> i64 {
        self.now
    }

    /// The time from which what has this stamp counts.
    #[must_use]
    pub fn since(&self, stamp: i64) -> i64 {
        match self.first {
            Some(first) if stamp == i64::MIN => first,
            _ => stamp,
        }
    }

    /// Whether what has this stamp has expired.
    #[must_use]
    pub fn is_over(&self, stamp: i64) -> bool {
        let since = self.since(stamp);
        let ms = i64::try_from(self.ttl.ms).unwrap_or(i64::MAX);
        self.now > i64::MIN && since.saturating_add(ms) <= self.now
    }

    /// Whether what has this stamp is not to be seen any more.
    #[must_use]
    pub fn hides(&self, stamp: i64) -> bool {
        !self.ttl.return_expired && self.is_over(stamp)
    }

    /// Whether reading renews.
    #[must_use]
    pub fn renews(&self) -> bool {
        self.ttl.on_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_model::time::ProcessingTime;

    fn ttl(event_time: bool) -> Ttl {
        Ttl {
            ms: 10,
            on_read: false,
            return_expired: false,
            event_time,
        }
    }

    fn time(processing_time: i64, watermark: i64) -> StateTime {
        StateTime {
            processing_time: ProcessingTime(processing_time),
            watermark: Watermark(watermark),
        }
    }

    #[test]
    fn a_value_is_over_at_its_last_write_and_its_time_to_live() {
        let mut e = Expiry::new(ttl(false));
        e.at(time(100, i64::MAX));
        let stamp = e.stamp();
        e.at(time(109, 0));
        assert!(!e.is_over(stamp));
        e.at(time(110, 0));
        assert!(e.is_over(stamp));
        e.at(time(i64::MAX, 0));
        assert!(!e.is_over(e.stamp()) || e.now == i64::MAX);
    }

    #[test]
    fn by_event_time_counting_starts_with_the_first_watermark_and_the_end_is_no_time() {
        let mut e = Expiry::new(ttl(true));
        e.at(time(5_000, i64::MIN));
        let stamp = e.stamp();
        assert!(!e.is_over(stamp));
        e.at(time(5_000, 1_000));
        assert!(!e.is_over(stamp), "it counts from here on");
        e.at(time(5_000, i64::MAX));
        assert!(!e.is_over(stamp), "the end is no time");
        e.at(time(5_000, 1_010));
        assert!(e.is_over(stamp));
    }
}
