//! The watermark, and how those of several channels become one.
//! Needs: time. The rule is that of Apache Flink's `StatusWatermarkValve` for the channels of one input.

use crate::time::EventTime;

/// No row at or below this time follows, but for late ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Watermark(pub i64);

impl Watermark {
    /// Before the first: nothing is known.
    pub const MIN: Self = Self(i64::MIN);
    /// The end of a bounded input.
    pub const MAX: Self = Self(i64::MAX);

    /// The watermark of bounded out-of-orderness after the greatest time seen: `max - bound - 1 ms`, saturating.
    #[must_use]
    pub fn bounded(max: EventTime, bound_ms: i64) -> Self {
        Self(max.0.saturating_sub(bound_ms).saturating_sub(1))
    }

    /// Whether a row of this time comes too late for what this watermark has closed.
    #[must_use]
    pub fn has_passed(self, time: EventTime) -> bool {
        time.0 <= self.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    watermark: Watermark,
    idle: bool,
    /// Whether it counts for the minimum: active, and not behind what was emitted.
    aligned: bool,
    ended: bool,
}

/// Merges the watermarks of the channels of one input: the least of those that are active and not behind what was
/// already emitted. A channel that comes back from idleness counts again once it has caught up. When the channel that
/// held the last emitted watermark becomes idle as the last active one, the greatest watermark of all is emitted. A
/// channel that has ended is active with the greatest watermark that there is: where all others are idle, the input is
/// at its end, and what they still bring is late.
#[derive(Clone, Debug)]
pub struct Merge {
    channels: Vec<Channel>,
    emitted: Watermark,
    idle: bool,
}

/// What a merge has to say after a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// A greater watermark than the last.
    pub watermark: Option<Watermark>,
    /// The input as a whole became idle (true) or active (false).
    pub idle: Option<bool>,
}

impl Merge {
    /// A merge of this many channels, all active, none with a watermark.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        let channel = Channel {
            watermark: Watermark::MIN,
            idle: false,
            aligned: true,
            ended: false,
        };
        Self {
            channels: vec![channel; channels],
            emitted: Watermark::MIN,
            idle: false,
        }
    }

    /// A merge that has emitted a watermark, of channels that will say again where they are.
    pub fn restore(&mut self, emitted: Watermark) {
        self.emitted = self.emitted.max(emitted);
    }

    /// The last watermark that was emitted.
    #[must_use]
    pub fn current(&self) -> Watermark {
        self.emitted
    }

    /// Whether all channels are idle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// A channel's watermark. One that is not above the channel's last, or comes from an idle channel, changes nothing.
    /// The last of all ends the channel.
    pub fn watermark(&mut self, channel: usize, watermark: Watermark) -> Merged {
        if watermark == Watermark::MAX {
            return self.end(channel);
        }
        let Some(c) = self.channels.get_mut(channel) else {
            return Merged::default();
        };
        if c.idle || watermark <= c.watermark {
            return Merged::default();
        }
        c.watermark = watermark;
        if !c.aligned && watermark >= self.emitted {
            c.aligned = true;
        }
        Merged {
            watermark: self.advance(),
            idle: None,
        }
    }

    /// A channel has ended: it is active, and has said the greatest watermark.
    pub fn end(&mut self, channel: usize) -> Merged {
        let Some(c) = self.channels.get_mut(channel) else {
            return Merged::default();
        };
        c.watermark = Watermark::MAX;
        (c.ended, c.idle, c.aligned) = (true, false, true);
        Merged {
            watermark: self.advance(),
            idle: std::mem::take(&mut self.idle).then_some(false),
        }
    }

    /// A channel becomes idle or active.
    pub fn idle(&mut self, channel: usize, idle: bool) -> Merged {
        let emitted = self.emitted;
        let Some(c) = self.channels.get_mut(channel) else {
            return Merged::default();
        };
        if c.idle == idle || c.ended {
            return Merged::default();
        }
        c.idle = idle;
        if !idle {
            c.aligned = c.watermark >= emitted;
            let woke = std::mem::take(&mut self.idle);
            return Merged {
                watermark: None,
                idle: woke.then_some(false),
            };
        }
        c.aligned = false;
        let held_last = c.watermark == emitted;
        if self.channels.iter().any(|c| !c.idle) {
            return Merged {
                watermark: self.advance(),
                idle: None,
            };
        }
        let greatest = self.channels.iter().map(|c| c.watermark).max();
        let greatest = greatest.filter(|g| held_last && *g > self.emitted);
        self.emitted = greatest.unwrap_or(self.emitted);
        Merged {
            watermark: greatest,
            idle: (!std::mem::replace(&mut self.idle, true)).then_some(true),
        }
    }

    fn advance(&mut self) -> Option<Watermark> {
        let least = self
            .channels
            .iter()
            .filter(|c| c.aligned)
            .map(|c| c.watermark)
            .min()?;
        if least <= self.emitted {
            return None;
        }
        self.emitted = least;
        Some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wm(v: i64) -> Option<Watermark> {
        Some(Watermark(v))
    }

    #[test]
    fn the_least_of_the_active_channels_counts() {
        let mut m = Merge::new(2);
        assert_eq!(m.watermark(0, Watermark(5)).watermark, None);
        assert_eq!(m.watermark(1, Watermark(3)).watermark, wm(3));
        assert_eq!(
            m.watermark(1, Watermark(2)).watermark,
            None,
            "a watermark never goes back"
        );
        assert_eq!(m.idle(1, true).watermark, wm(5));
        assert_eq!(
            m.idle(1, false),
            Merged {
                watermark: None,
                idle: None
            }
        );
        assert_eq!(
            m.watermark(0, Watermark(9)).watermark,
            wm(9),
            "one that is behind does not hold"
        );
        assert_eq!(m.watermark(1, Watermark(9)).watermark, None);
        assert_eq!(
            m.watermark(0, Watermark(12)).watermark,
            None,
            "it has caught up and holds again"
        );
        assert_eq!(m.watermark(1, Watermark(11)).watermark, wm(11));
    }

    #[test]
    fn the_last_to_become_idle_releases_the_greatest() {
        let mut m = Merge::new(2);
        m.watermark(0, Watermark(10));
        m.watermark(1, Watermark(4));
        assert_eq!(
            m.idle(0, true),
            Merged {
                watermark: None,
                idle: None
            }
        );
        assert_eq!(
            m.idle(1, true),
            Merged {
                watermark: wm(10),
                idle: Some(true)
            }
        );
        assert_eq!(m.idle(0, false).idle, Some(false));
    }

    #[test]
    fn ended_channels_hold_nothing_back() {
        let mut m = Merge::new(2);
        m.watermark(1, Watermark(4));
        assert_eq!(m.end(0).watermark, wm(4));
        assert_eq!(m.end(1).watermark, Some(Watermark::MAX));
    }

    #[test]
    fn an_ended_channel_stands_at_the_end_of_time_and_is_never_idle() {
        let mut m = Merge::new(3);
        m.end(0);
        assert_eq!(m.idle(0, true), Merged::default(), "it has ended");
        m.watermark(1, Watermark(10));
        m.watermark(2, Watermark(4));
        m.idle(2, true);
        assert_eq!(m.current(), Watermark(10));
        let end = Merged {
            watermark: Some(Watermark::MAX),
            idle: None,
        };
        assert_eq!(m.idle(1, true), end, "no active one holds it back");
        assert_eq!(m.idle(2, false), Merged::default());
        assert_eq!(
            m.watermark(2, Watermark(12)).watermark,
            None,
            "what an idle one still brings is late"
        );
    }

    #[test]
    fn an_input_that_was_idle_is_active_at_the_end_of_a_channel() {
        let mut m = Merge::new(2);
        m.watermark(0, Watermark(5));
        m.idle(0, true);
        assert_eq!(m.idle(1, true).idle, Some(true));
        let end = Merged {
            watermark: Some(Watermark::MAX),
            idle: Some(false),
        };
        assert_eq!(m.end(1), end);
        assert_eq!(m.end(0), Merged::default());
    }
}
