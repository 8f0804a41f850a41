//! What is read out of text, and times as text. No function here allocates.

use pelton::prelude::*;

/// How often a byte stands in a text.
pub fn count(text: &str, byte: u8) -> i64 {
    // Sums of at most 255 ones fit in a byte each, so that the processor adds sixteen at a time.
    let parts = text.as_bytes().chunks(255);
    parts
        .map(|part| i64::from(part.iter().map(|b| u8::from(*b == byte)).sum::<u8>()))
        .sum()
}

/// The number of a well-known channel, or else the value of `channel_id` in the url's query.
pub fn channel_id<'a>(channel: &str, url: &'a str) -> Option<&'a str> {
    const KNOWN: [(&str, &str); 4] = [
        ("apple", "0"),
        ("google", "1"),
        ("facebook", "2"),
        ("baidu", "3"),
    ];
    let known = KNOWN
        .iter()
        .find(|(name, _)| channel.eq_ignore_ascii_case(name));
    known.map_or_else(|| parameter(url, "channel_id="), |(_, id)| Some(id))
}

/// The value behind `name` (with its `=`) in a url's query.
fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    query.split('&').find_map(|pair| pair.strip_prefix(name))
}

/// What stands between the third and the sixth slash of a url, part by part: the first three folders of its path.
pub fn folders(url: &str) -> [Option<&str>; 3] {
    let mut folders = [None; 3];
    let mut slashes = url
        .bytes()
        .enumerate()
        .filter(|(_, b)| *b == b'/')
        .map(|(at, _)| at)
        .skip(2);
    let Some(mut before) = slashes.next() else {
        return folders;
    };
    for folder in &mut folders {
        let next = slashes.next();
        *folder = url.get(before + 1..next.unwrap_or(url.len()));
        match next {
            Some(at) => before = at,
            None => break,
        }
    }
    folders
}

/// Days since 1970 of a time.
pub fn day_of(at: Timestamp) -> i64 {
    at.millis().div_euclid(DAY_MS)
}

/// Minutes of its day that a time is behind midnight.
pub fn minute_of(at: Timestamp) -> i64 {
    at.millis().rem_euclid(DAY_MS) / 60_000
}

const DAY_MS: i64 = 86_400_000;

/// A short text on the stack.
#[derive(Clone, Copy)]
pub struct Digits<const N: usize>([u8; N]);

impl<const N: usize> Digits<N> {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Puts a number of two digits at a place.
    fn two(&mut self, at: usize, number: i64) {
        if let Some([tens, ones]) = self.0.get_mut(at..at + 2) {
            *tens = b'0' + (number / 10 % 10) as u8;
            *ones = b'0' + (number % 10) as u8;
        }
    }
}

/// A day, counted from 1970, as `yyyy-MM-dd`; years beyond 9999 lose their first digits.
pub fn date(day: i64) -> Digits<10> {
    // Years begin in March here, so that the leap day is their last; 719,468 days lie between March of year 0 and 1970.
    let days = day + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let mut text = Digits(*b"0000-00-00");
    text.two(0, year / 100);
    text.two(2, year % 100);
    text.two(5, month);
    text.two(8, day);
    text
}

/// A minute of the day as `HH:mm`.
pub fn clock(minute: i64) -> Digits<5> {
    let mut text = Digits(*b"00:00");
    text.two(0, minute / 60);
    text.two(3, minute % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_minutes_have_their_usual_texts() {
        let at = Timestamp(1_709_963_990_000);
        assert_eq!(date(day_of(at)).as_str(), "2024-03-09");
        assert_eq!(clock(minute_of(at)).as_str(), "05:59");
        let texts =
            [0, 59, 60, 11_016, 19_782, -1, 2_932_896].map(|day| date(day).as_str().to_owned());
        assert_eq!(
            texts,
            [
                "1970-01-01",
                "1970-03-01",
                "1970-03-02",
                "2000-02-29",
                "2024-02-29",
                "1969-12-31",
                "9999-12-31"
            ]
        );
        assert_eq!(
            (day_of(Timestamp(-1)), minute_of(Timestamp(-1))),
            (-1, 1_439)
        );
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!(count("cocoC", b'c'), 2);
        assert_eq!(count("", b'c'), 0);
        assert_eq!(count(&"c".repeat(1_000), b'c'), 1_000);
    }

    #[test]
    fn channels_are_known_in_any_case() {
        assert_eq!(channel_id("ApPle", "x"), Some("0"));
        assert_eq!(channel_id("Google", "x?channel_id=7"), Some("1"));
        assert_eq!(channel_id("facebook", ""), Some("2"));
        assert_eq!(channel_id("BAIDU", ""), Some("3"));
    }

    #[test]
    fn other_channels_are_looked_up_in_the_query() {
        assert_eq!(
            channel_id("channel-1", "https://a.b/c?query=1&channel_id=77"),
            Some("77")
        );
        assert_eq!(
            channel_id("channel-1", "https://a.b/c?channel_id=77&query=1#x"),
            Some("77")
        );
        assert_eq!(
            channel_id("channel-1", "https://a.b/c?channel_id=77#top"),
            Some("77")
        );
        assert_eq!(channel_id("channel-1", "https://a.b/c?query=1"), None);
        assert_eq!(channel_id("channel-1", "https://a.b/channel_id=1"), None);
        assert_eq!(
            channel_id("channel-1", "https://a.b/c?my_channel_id=1"),
            None
        );
    }

    #[test]
    fn folders_are_counted_from_the_host() {
        assert_eq!(
            folders("https://a.b/one/two/three/item.htm?query=1"),
            [Some("one"), Some("two"), Some("three")]
        );
        assert_eq!(folders("https://a.b/one"), [Some("one"), None, None]);
        assert_eq!(folders("https://a.b/é//"), [Some("é"), Some(""), Some("")]);
        assert_eq!(folders("nothing"), [None, None, None]);
    }
}
