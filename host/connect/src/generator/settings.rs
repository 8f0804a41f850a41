//! What the options of `generator` ask for.

use pelton_model::Result;

use super::split::Layout;
use crate::OptionMap;
use crate::options::Options;

/// All options, each with a value that it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    pub(super) content: Content,
    /// Rows a second over all readers.
    pub(super) rate: Option<u64>,
    /// Whether the columns that nobody needs are made as well.
    pub(super) all_columns: bool,
    /// Whether all rows are made when a reader is opened.
    pub(super) preload: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// Events of an auction site.
    Nexmark(Nexmark),
    /// Records of one random number each.
    Keys { events: u64, keys: u64, splits: u32 },
}

/// The parameters of a stream of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nexmark {
    pub(super) seed: u64,
    /// The time of event 0.
    pub(super) base_ms: i64,
    /// From one event to the next.
    pub(super) step_us: u64,
    /// Events between two leaps of time; 0 for no leaps.
    pub(super) burst: u64,
    /// How far time leaps.
    pub(super) gap_ms: i64,
    pub(super) layout: Layout,
}

/// 2024-03-09T06:00:00Z
const BASE_MS: i64 = 1_709_964_000_000;
/// The named sets begin ten seconds earlier.
const SET_BASE_MS: i64 = BASE_MS - 10_000;

const NAMES: [&str; 11] = [
    "all_columns",
    "events",
    "keys",
    "kind",
    "only",
    "preload",
    "rate",
    "seed",
    "set",
    "splits",
    "step_us",
];
/// With this many events at the longest step, times are still in the range of an `i64`.
const EVENTS_MAX: u64 = 1 << 43;
/// Twice the horizon of 1,666 steps in milliseconds is below 2^31.
const STEP_US_MAX: u64 = 600_000_000;
const SPLITS_MAX: u32 = 4_096;
const RATE_MAX: u64 = 1_000_000_000_000;

impl Settings {
    pub(super) fn parse(map: &OptionMap) -> Result<Self> {
        let options = Options::new("generator", map, &NAMES)?;
        let keys = options.choice("kind", &[("nexmark", false), ("keys", true)], false)?;
        let content = match (keys, options.get("set")) {
            (true, _) => {
                refuse(
                    &options,
                    &["only", "seed", "set", "step_us"],
                    "with kind 'keys'",
                )?;
                Content::Keys {
                    events: events(&options)?,
                    keys: options
                        .number("keys", 1, i64::MAX as u64)?
                        .unwrap_or(1_000_000),
                    splits: splits(&options)?,
                }
            }
            (false, Some(name)) => {
                refuse(
                    &options,
                    &["events", "keys", "only", "seed", "splits", "step_us"],
                    "with a named set",
                )?;
                let set =
                    Nexmark::named(name).ok_or_else(|| options.bad("set", "one of 10k, 200k"))?;
                Content::Nexmark(set)
            }
            (false, None) => {
                refuse(&options, &["keys"], "without kind 'keys'")?;
                Content::Nexmark(Nexmark::bench(&options)?)
            }
        };
        let rate = options.number("rate", 1, RATE_MAX)?;
        Ok(Self {
            content,
            rate,
            all_columns: options.flag("all_columns", false)?,
            preload: options.flag("preload", false)?,
        })
    }
}

/// Refuses options that mean nothing in the company of others.
fn refuse(options: &Options<'_>, names: &[&str], company: &str) -> Result<()> {
    match names.iter().find(|n| options.get(n).is_some()) {
        None => Ok(()),
        Some(name) => Err(options.bad(name, format!("left out {company}"))),
    }
}

fn events(options: &Options<'_>) -> Result<u64> {
    let events = options.number("events", 0, EVENTS_MAX)?;
    events.ok_or_else(|| {
        options.missing(
            "events",
            "the number of events to make, or 'set', one of 10k, 200k",
        )
    })
}

fn splits(options: &Options<'_>) -> Result<u32> {
    Ok(options.number("splits", 1, SPLITS_MAX)?.unwrap_or(2))
}

impl Nexmark {
    /// A named data set, in groups of which the events come mixed, with leaps of time between bursts.
    fn named(name: &str) -> Option<Self> {
        let (events, seed, step_us, group, burst, gap_ms) = match name {
            // Ten bursts, 20 ms from event to event, each 2 h 45 min after the end of the one before.
            "10k" => (10_000, 42, 20_000, 100, 1_000, 9_900_000),
            // Twenty bursts, 4 ms from event to event, gaps of 1 h 30 min.
            "200k" => (200_000, 4_242, 4_000, 500, 10_000, 5_400_000),
            _ => return None,
        };
        let layout = Layout {
            events,
            splits: 1,
            group,
            bids_only: false,
        };
        Some(Self {
            seed,
            base_ms: SET_BASE_MS,
            step_us,
            burst,
            gap_ms,
            layout,
        })
    }

    /// An even stream of any length.
    fn bench(options: &Options<'_>) -> Result<Self> {
        let bids_only = options.choice("only", &[("bid", true)], false)?;
        let layout = Layout {
            events: events(options)?,
            splits: splits(options)?,
            group: 0,
            bids_only,
        };
        let step_us = options.number("step_us", 1, STEP_US_MAX)?.unwrap_or(10);
        let seed = options.number("seed", i64::MIN, i64::MAX)?.unwrap_or(7) as u64;
        // Bids come 46 to 50 numbers: twice the events is more than the last number.
        if layout
            .events
            .checked_mul(2 * step_us)
            .is_none_or(|us| i64::try_from(us).is_err())
        {
            return Err(options.bad(
                "events",
                "fewer, or 'step_us' smaller: time would leave its range",
            ));
        }
        Ok(Self {
            seed,
            base_ms: BASE_MS,
            step_us,
            burst: 0,
            gap_ms: 0,
            layout,
        })
    }

    /// The event time of an event number.
    pub(super) fn time(&self, number: u64) -> i64 {
        let leaps = number.checked_div(self.burst).unwrap_or(0) as i64 * self.gap_ms;
        self.base_ms + (number * self.step_us / 1_000) as i64 + leaps
    }

    /// The bound of the draw that says how long an auction lives, in milliseconds.
    pub(super) fn life(&self) -> u32 {
        let horizon_ms = 1_666 * self.step_us / 1_000;
        u32::try_from(2 * horizon_ms).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Settings> {
        Settings::parse(
            &options
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn defaults_are_those_of_the_bench_set() {
        let settings = parse(&[("events", "1_000")]).unwrap();
        let layout = Layout {
            events: 1_000,
            splits: 2,
            group: 0,
            bids_only: false,
        };
        let nexmark = Nexmark {
            seed: 7,
            base_ms: BASE_MS,
            step_us: 10,
            burst: 0,
            gap_ms: 0,
            layout,
        };
        let expected = Settings {
            content: Content::Nexmark(nexmark),
            rate: None,
            all_columns: false,
            preload: false,
        };
        assert_eq!(settings, expected);
        assert_eq!(nexmark.life(), 32);
    }

    #[test]
    fn values_and_their_company_are_checked() {
        for (options, message) in [
            (&[][..], "connector 'generator' needs the option 'events'"),
            (
                &[("events", "many")],
                "but must be a whole number from 0 to",
            ),
            (&[("events", "-1")], "but must be a whole number from 0 to"),
            (
                &[("set", "11k")],
                "option 'set' of connector 'generator' is '11k', but must be one of 10k, 200k",
            ),
            (
                &[("set", "10k"), ("seed", "1")],
                "'1', but must be left out with a named set",
            ),
            (
                &[("events", "1"), ("keys", "1")],
                "but must be left out without kind 'keys'",
            ),
            (
                &[("kind", "keys"), ("events", "1"), ("only", "bid")],
                "but must be left out with kind 'keys'",
            ),
            (
                &[("events", "1"), ("only", "person")],
                "but must be one of bid",
            ),
            (
                &[("events", "1"), ("rate", "0")],
                "but must be a whole number from 1 to",
            ),
            (
                &[("events", "1"), ("splits", "5000")],
                "but must be a whole number from 1 to 4096",
            ),
            (
                &[("events", "8_000_000_000_000"), ("step_us", "600_000_000")],
                "time would leave its range",
            ),
            (
                &[("events", "1"), ("evnts", "1")],
                "has no option 'evnts', did you mean 'events'?",
            ),
        ] {
            let e = parse(options).unwrap_err();
            assert_eq!(e.code(), pelton_model::ErrorCode::UnknownConnector);
            assert!(e.message().contains(message), "{e}");
        }
        assert!(parse(&[("events", "1"), ("seed", "-5")]).is_ok());
    }
}
