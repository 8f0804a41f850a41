//! Windows that become one: which of them, and in which order.
//!
//! The elements of merged windows are put one behind the other. In Flink, in which order follows from a hash set; here it
//! is the same order, so that what depends on it (an evictor, the first value of a session) comes out the same.

use super::Window;
use crate::time::Timestamp;

/// Windows that become one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merge {
    /// Those that are merged, in the order in which their elements follow each other.
    pub windows: Vec<Window>,
    /// What they become.
    pub into: Window,
}

/// Merges windows that overlap or touch, as sessions do.
#[must_use]
pub fn merge_touching(windows: &[Window]) -> Vec<Merge> {
    let mut sorted = windows.to_vec();
    sorted.sort_by_key(|w| w.start);
    let mut merges: Vec<Merge> = Vec::new();
    for window in sorted {
        match merges.last_mut() {
            Some(last) if last.into.touches(window) => {
                last.into = last.into.cover(window);
                if !last.windows.contains(&window) {
                    last.windows.push(window);
                }
            }
            _ => merges.push(Merge {
                windows: vec![window],
                into: window,
            }),
        }
    }
    merges.retain(|m| m.windows.len() > 1);
    merges
        .iter_mut()
        .for_each(|m| in_hash_order(&mut m.windows));
    merges
}

impl Window {
    /// Whether two windows overlap, or one begins where the other ends.
    #[must_use]
    pub fn touches(self, other: Self) -> bool {
        self.start <= other.end && self.end >= other.start
    }

    /// The least window that covers both.
    #[must_use]
    pub fn cover(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// Sorts as a `java.util.HashSet` iterates over windows that were put into it in this order: by bucket, and within a
/// bucket as they came. A table of 16 buckets doubles when it is more than three quarters full.
fn in_hash_order(windows: &mut [Window]) {
    let mut buckets = 16_usize;
    while windows.len() * 4 > buckets * 3 {
        buckets *= 2;
    }
    windows.sort_by_key(|w| {
        let hash = hash(*w);
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    });
}

fn hash(window: Window) -> u32 {
    let Window {
        start: Timestamp(start),
        end: Timestamp(end),
    } = window;
    let mut mixed = start.wrapping_add(end) as u64;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window {
            start: Timestamp(start),
            end: Timestamp(end),
        }
    }

    #[test]
    fn windows_that_touch_become_one() {
        let merges = merge_touching(&[
            window(20, 30),
            window(0, 10),
            window(40, 50),
            window(10, 20),
        ]);
        assert_eq!(merges.len(), 1);
        assert_eq!(merges[0].into, window(0, 30));
        let mut merged = merges[0].windows.clone();
        merged.sort_by_key(|w| w.start);
        assert_eq!(merged, [window(0, 10), window(10, 20), window(20, 30)]);
    }

    #[test]
    fn equal_windows_are_one_from_the_start() {
        assert_eq!(merge_touching(&[window(0, 10), window(0, 10)]), []);
        assert_eq!(merge_touching(&[window(0, 10), window(11, 12)]), []);
    }
}
