//! What is read out of text. All of it is borrowed: no function here allocates.

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

#[cfg(test)]
mod tests {
    use super::*;

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
