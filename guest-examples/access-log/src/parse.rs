//! Lines of the common log format: `host ident user [day/month/year:h:m:s zone] "METHOD path protocol" status bytes`.
//! Needs: nothing. Refuses: a line that lacks one of these parts, or has one that is not what it should be. What
//! stands behind the bytes (referrer and user agent, in the combined format) is left alone.

use pelton::prelude::*;

/// What a line says, borrowed from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// When the request came.
    pub time: Timestamp,
    /// What was asked for, without its query.
    pub path: &'a str,
    /// Such as 200.
    pub status: u16,
    /// Of the answer; 0 where the line has `-`.
    pub bytes: i64,
}

/// Reads a line.
pub fn entry(line: &str) -> Option<Entry<'_>> {
    let (client, rest) = line.split_once('[')?;
    if client.split_ascii_whitespace().count() < 3 {
        return None;
    }
    let (stamp, rest) = rest.split_once(']')?;
    let rest = rest.trim_start().strip_prefix('"')?;
    let end = end_of_quote(rest)?;
    let (request, rest) = rest.split_at_checked(end)?;
    let mut words = request.split_ascii_whitespace();
    let (_method, target) = (words.next()?, words.next()?);
    let mut numbers = rest.strip_prefix('"')?.split_ascii_whitespace();
    let status = numbers
        .next()?
        .parse()
        .ok()
        .filter(|s| (100..=599).contains(s))?;
    let bytes = match numbers.next()? {
        "-" => 0,
        digits => digits.parse().ok().filter(|b| *b >= 0)?,
    };
    let path = target.split('?').next().filter(|p| !p.is_empty())?;
    Some(Entry {
        time: timestamp(stamp)?,
        path,
        status,
        bytes,
    })
}

/// Where the quote ends: the first `"` that has no `\` before it.
fn end_of_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let end = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        end
    })
}

/// `10/Oct/2000:13:55:36 -0700`
fn timestamp(text: &str) -> Option<Timestamp> {
    let (local, zone) = text.split_once(' ')?;
    let mut parts = local.split(['/', ':']);
    let mut part = || parts.next();
    let (day, month, year) = (number(part()?, 2)?, month(part()?)?, number(part()?, 4)?);
    let (hour, minute, second) = (
        number(part()?, 2)?,
        number(part()?, 2)?,
        number(part()?, 2)?,
    );
    // 60 is a leap second: the first of the next minute.
    if part().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = ((day_number(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_millis((seconds - offset(zone)?) * 1_000))
}

/// A number of so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let right = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    right.then(|| text.parse().ok())?
}

fn month(name: &str) -> Option<i64> {
    const NAMES: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    (1..)
        .zip(NAMES)
        .find(|(_, n)| n.eq_ignore_ascii_case(name))
        .map(|(month, _)| month)
}

/// `-0700` in seconds.
fn offset(zone: &str) -> Option<i64> {
    let (sign, digits) = zone.split_at_checked(1)?;
    let (hours, minutes) = digits.split_at_checked(2)?;
    let seconds = number(hours, 2)? * 3_600 + number(minutes, 2).filter(|m| *m < 60)? * 60;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

/// Days from 1970-01-01 to a day that is on the calendar.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Years begin in March here, so that a leap day is the last of its year.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let in_year = (153 * m + 2) / 5 + day - 1;
    Some(y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + in_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif?x=1 HTTP/1.0" 200 2326"#;

    #[test]
    fn a_line_is_read() {
        let expected = Entry {
            time: Timestamp(971_211_336_000),
            path: "/a.gif",
            status: 200,
            bytes: 2_326,
        };
        assert_eq!(entry(LINE), Some(expected));
        let combined = format!(r#"{LINE} "http://a.b/" "Mozilla/4.08 [en]""#);
        assert_eq!(entry(&combined), Some(expected));
    }

    #[test]
    fn no_bytes_are_no_bytes() {
        let line = LINE.replace("2326", "-").replace("200 ", "304 ");
        assert_eq!(entry(&line).map(|e| (e.status, e.bytes)), Some((304, 0)));
    }

    #[test]
    fn a_quote_in_the_request_does_not_end_it() {
        let line = LINE.replace("/a.gif?x=1", r#"/a\".gif"#);
        assert_eq!(entry(&line).map(|e| e.path), Some(r#"/a\".gif"#));
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        for (part, by) in [
            ("127.0.0.1 - frank ", ""),
            ("[", ""),
            ("]", ""),
            ("\"GET", "GET"),
            ("GET /a.gif?x=1 HTTP/1.0", "-"),
            ("/a.gif", ""),
            (" 200 ", " 99 "),
            (" 200 ", " ok "),
            ("2326", "-1"),
            ("2326", "99999999999999999999"),
            (" 2326", ""),
            ("10/Oct", "31/Sep"),
            ("10/Oct", "0/Oct"),
            ("Oct", "Okt"),
            ("2000", "00"),
            ("13:55", "24:00"),
            (":36", ""),
            (":36", ":36:01"),
            ("-0700", "0700"),
            ("-0700", "é"),
            (" -0700", ""),
        ] {
            let line = LINE.replace(part, by);
            assert_ne!(line, LINE, "{part}");
            assert_eq!(entry(&line), None, "{line}");
        }
        assert_eq!(entry(""), None);
    }

    #[test]
    fn the_calendar_is_right() {
        let at = |text| timestamp(text).map(Timestamp::millis);
        assert_eq!(at("01/Jan/1970:00:00:00 +0000"), Some(0));
        assert_eq!(at("31/Dec/1969:23:59:59 +0000"), Some(-1_000));
        assert_eq!(at("29/Feb/2024:12:00:00 +0130"), Some(1_709_202_600_000));
        assert_eq!(at("01/Mar/2000:00:00:00 +0000"), Some(951_868_800_000));
        assert_eq!(at("29/Feb/2023:12:00:00 +0000"), None);
        assert_eq!(at("29/Feb/1900:12:00:00 +0000"), None);
    }
}
