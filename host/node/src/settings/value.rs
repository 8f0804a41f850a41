//! Values of settings as people write them: counts, sizes, durations; and names that are nearly right.

use std::fmt;

/// What a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A number from 1 on.
    Count {
        /// The greatest one.
        max: u64,
    },
    /// `1048576`, `64MiB`, `1GB`.
    Bytes,
    /// `10`, `500ms`, `10s`, `5m`.
    Millis,
    /// A number from 0 on.
    Number,
    /// A folder.
    Path,
    /// A URL, or nothing.
    Url,
    /// One of several.
    Choice(&'static [&'static str]),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { max } => write!(f, "a number from 1 to {max}"),
            Self::Bytes => f.write_str("a size, such as 1048576 or 64MiB"),
            Self::Millis => f.write_str("milliseconds, or a duration such as 500ms, 10s or 5m"),
            Self::Number => f.write_str("a number from 0 on"),
            Self::Path => f.write_str("a folder"),
            Self::Url => f.write_str("a URL, such as file:///var/lib/pelton/checkpoints"),
            Self::Choice(all) => f.write_str(&all.join(" or ")),
        }
    }
}

const SIZES: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// A number of the kind's own unit. The error is the end of a sentence about the setting.
pub(crate) fn parse(kind: Kind, text: &str) -> Result<u64, String> {
    let bad = || format!("cannot be '{text}'");
    let number = match kind {
        Kind::Bytes => with_unit(text, &SIZES),
        Kind::Millis => with_unit(text, &TIMES),
        Kind::Count { .. } | Kind::Number | Kind::Path | Kind::Url | Kind::Choice(_) => {
            text.parse().ok()
        }
    };
    let number = number.ok_or_else(bad)?;
    match kind {
        Kind::Count { max } if number == 0 || number > max => Err(bad()),
        _ => Ok(number),
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*factor)
    })
}

/// The name that was probably meant: at most a third of its letters differ.
pub(crate) fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(wrong, name);
    let best = names.iter().copied().min_by_key(|name| distance(name))?;
    (distance(best) <= best.chars().count().div_ceil(3)).then_some(best)
}
