//! The words of JSON: strings, escapes, numbers, and values that nobody reads. Strict as RFC 8259, eight bytes at a time.
//! Needs: a buffer in which each line ends with a newline, which no word may hold; so nothing runs past its line.
//! Refuses: to build anything; what is passed over costs a look at its bytes.

use super::fault::{Fault, Step};

/// The deepest nesting of objects and arrays in a line.
pub(super) const DEPTH_MAX: usize = 64;

/// The byte at `p`; a newline where the buffer ends.
#[inline(always)]
pub(super) fn at(buf: &[u8], p: usize) -> u8 {
    buf.get(p).copied().unwrap_or(b'\n')
}

/// Behind spaces, tabs and carriage returns.
#[inline(always)]
pub(super) fn space(buf: &[u8], mut p: usize) -> usize {
    while matches!(at(buf, p), b' ' | b'\t' | b'\r') {
        p += 1;
    }
    p
}

/// A string in the buffer.
pub(super) struct Text {
    /// Where its closing quote is.
    pub(super) end: usize,
    /// Whether it holds escapes.
    pub(super) escaped: bool,
}

/// Reads the string whose first byte behind the quote is at `start`; its bytes are UTF-8, its escapes are valid.
#[inline]
pub(super) fn string(buf: &[u8], start: usize) -> Step<Text> {
    let end = plain(buf, start);
    if at(buf, end) == b'"' {
        return Ok(Text {
            end,
            escaped: false,
        });
    }
    string_rest(buf, start, end)
}

fn string_rest(buf: &[u8], start: usize, mut p: usize) -> Step<Text> {
    let (mut escaped, mut ascii) = (false, true);
    loop {
        match at(buf, p) {
            b'"' => break,
            b'\\' => {
                escaped = true;
                p = escape(buf, p)?.1;
            }
            0x80.. => {
                ascii = false;
                while at(buf, p) >= 0x80 {
                    p += 1;
                }
            }
            b'\n' => return Fault::syntax(p, "the line ends within a string"),
            _ => return Fault::syntax(p, "a control character in a string must be escaped"),
        }
        p = plain(buf, p);
    }
    if !ascii && let Err(e) = std::str::from_utf8(buf.get(start..p).unwrap_or_default()) {
        return Fault::syntax(start + e.valid_up_to(), "the bytes are not UTF-8");
    }
    Ok(Text { end: p, escaped })
}

/// The first byte from `p` on that does not simply stand for itself in a string: a quote, a backslash, a control
/// character, or a part of a character beyond ASCII.
#[inline(always)]
fn plain(buf: &[u8], mut p: usize) -> usize {
    const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const QUOTE: u64 = u64::from_ne_bytes([b'"'; 8]);
    const BACKSLASH: u64 = u64::from_ne_bytes([b'\\'; 8]);
    const TO_SPACE: u64 = u64::from_ne_bytes([0x60; 8]);
    while let Some(eight) = buf.get(p..).and_then(<[u8]>::first_chunk::<8>) {
        let x = u64::from_le_bytes(*eight);
        let low = x & LOW;
        // The high bit of each byte: it is not a quote, not a backslash, at least a space, below 0x80. No sum carries
        // into the next byte.
        let fine = ((low ^ QUOTE) + LOW) & ((low ^ BACKSLASH) + LOW) & (low + TO_SPACE) & !x & HIGH;
        if fine != HIGH {
            return p + ((fine ^ HIGH).trailing_zeros() / 8) as usize;
        }
        p += 8;
    }
    while !matches!(at(buf, p), b'"' | b'\\' | 0..0x20 | 0x80..) {
        p += 1;
    }
    p
}

/// The character of the escape whose backslash is at `p`, and the place behind it.
fn escape(buf: &[u8], p: usize) -> Step<(char, usize)> {
    let c = match at(buf, p + 1) {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(buf, p),
        _ => return Fault::syntax(p, "there is no such escape in JSON"),
    };
    Ok((c, p + 2))
}

fn unicode_escape(buf: &[u8], p: usize) -> Step<(char, usize)> {
    let first = hex4(buf, p + 2)?;
    if !(0xd800..0xe000).contains(&first) {
        return Ok((
            char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
            p + 6,
        ));
    }
    if first < 0xdc00 && at(buf, p + 6) == b'\\' && at(buf, p + 7) == b'u' {
        let second = hex4(buf, p + 8)?;
        if (0xdc00..0xe000).contains(&second) {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return Ok((
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                p + 12,
            ));
        }
    }
    Fault::syntax(p, "half of a surrogate pair stands alone")
}

fn hex4(buf: &[u8], p: usize) -> Step<u32> {
    let mut code = 0;
    for i in p..p + 4 {
        match char::from(at(buf, i)).to_digit(16) {
            Some(d) => code = code << 4 | d,
            None => return Fault::syntax(i, "four hexadecimal digits are expected"),
        }
    }
    Ok(code)
}

/// Appends the string in `start..end`, which [`string`] has read, with its escapes undone.
pub(super) fn unescape(buf: &[u8], start: usize, end: usize, out: &mut Vec<u8>) -> Step<()> {
    let mut p = start;
    while let Some(rest) = buf.get(p..end).filter(|r| !r.is_empty()) {
        let n = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        out.extend_from_slice(rest.get(..n).unwrap_or_default());
        p += n;
        if p < end {
            let (c, next) = escape(buf, p)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            p = next;
        }
    }
    Ok(())
}

/// A number as it is written.
pub(super) struct Number {
    pub(super) negative: bool,
    /// The digits without the point, the first 19 of them.
    pub(super) mantissa: u64,
    /// All digits, without leading zeros.
    pub(super) digits: usize,
    /// How many of the digits stand behind the point.
    pub(super) fraction: usize,
    pub(super) exponent: bool,
    pub(super) point: bool,
    pub(super) end: usize,
}

/// Reads a number. `p` is at its first byte.
#[inline]
pub(super) fn number(buf: &[u8], p: usize) -> Step<Number> {
    let negative = at(buf, p) == b'-';
    let first = p + usize::from(negative);
    let mut n = Number {
        negative,
        mantissa: 0,
        digits: 0,
        fraction: 0,
        exponent: false,
        point: false,
        end: first,
    };
    digits(buf, &mut n);
    if n.end == first {
        return Fault::syntax(p, "a value is expected");
    }
    if at(buf, first) == b'0' && n.end > first + 1 {
        return Fault::syntax(first, "a number may not begin with 0");
    }
    if at(buf, n.end) == b'.' {
        n.point = true;
        n.end += 1;
        let from = n.end;
        digits(buf, &mut n);
        n.fraction = n.end - from;
        if n.fraction == 0 {
            return Fault::syntax(n.end, "a digit is expected");
        }
    }
    if matches!(at(buf, n.end), b'e' | b'E') {
        n.exponent = true;
        n.end += 1 + usize::from(matches!(at(buf, n.end + 1), b'+' | b'-'));
        let from = n.end;
        while at(buf, n.end).is_ascii_digit() {
            n.end += 1;
        }
        if n.end == from {
            return Fault::syntax(n.end, "a digit is expected");
        }
    }
    Ok(n)
}

#[inline(always)]
fn digits(buf: &[u8], n: &mut Number) {
    loop {
        let d = at(buf, n.end).wrapping_sub(b'0');
        if d > 9 {
            return;
        }
        if n.digits < 19 {
            n.mantissa = n.mantissa * 10 + u64::from(d);
        }
        n.digits += usize::from(n.mantissa != 0);
        n.end += 1;
    }
}

/// Behind a value that nobody reads. It must be valid all the same. `depth`: how many containers are around it.
pub(super) fn skip(buf: &[u8], p: usize, depth: usize) -> Step {
    match at(buf, p) {
        b'"' => Ok(string(buf, p + 1)?.end + 1),
        b'{' => skip_object(buf, p, depth + 1),
        b'[' => skip_array(buf, p, depth + 1),
        b't' => word(buf, p, b"true"),
        b'f' => word(buf, p, b"false"),
        b'n' => word(buf, p, b"null"),
        b'-' | b'0'..=b'9' => Ok(number(buf, p)?.end),
        _ => Fault::syntax(p, "a value is expected"),
    }
}

/// Behind `true`, `false` or `null`.
#[inline]
pub(super) fn word(buf: &[u8], p: usize, word: &'static [u8]) -> Step {
    if buf.get(p..).is_some_and(|b| b.starts_with(word)) {
        Ok(p + word.len())
    } else {
        Fault::syntax(p, "a value is expected")
    }
}

/// Refuses one container more than [`DEPTH_MAX`].
#[inline]
pub(super) fn check_depth(p: usize, depth: usize) -> Step<()> {
    if depth > DEPTH_MAX {
        return Fault::syntax(
            p,
            format!("objects and arrays are nested deeper than {DEPTH_MAX}"),
        );
    }
    Ok(())
}

fn skip_object(buf: &[u8], p: usize, depth: usize) -> Step {
    check_depth(p, depth)?;
    let mut p = space(buf, p + 1);
    if at(buf, p) == b'}' {
        return Ok(p + 1);
    }
    loop {
        p = key(buf, p)?.1;
        p = space(buf, skip(buf, p, depth)?);
        match at(buf, p) {
            b',' => p = space(buf, p + 1),
            b'}' => return Ok(p + 1),
            _ => return Fault::syntax(p, "a ',' or '}' is expected"),
        }
    }
}

/// The key at `p`, and where its value begins.
#[inline]
pub(super) fn key(buf: &[u8], p: usize) -> Step<(Text, usize)> {
    if at(buf, p) != b'"' {
        return Fault::syntax(p, "a field name in quotes is expected");
    }
    let text = string(buf, p + 1)?;
    let p = space(buf, text.end + 1);
    if at(buf, p) != b':' {
        return Fault::syntax(p, "a ':' is expected");
    }
    Ok((text, space(buf, p + 1)))
}

fn skip_array(buf: &[u8], p: usize, depth: usize) -> Step {
    check_depth(p, depth)?;
    let mut p = space(buf, p + 1);
    if at(buf, p) == b']' {
        return Ok(p + 1);
    }
    loop {
        p = space(buf, skip(buf, p, depth)?);
        match at(buf, p) {
            b',' => p = space(buf, p + 1),
            b']' => return Ok(p + 1),
            _ => return Fault::syntax(p, "a ',' or ']' is expected"),
        }
    }
}
