//! How many keys are read ahead: more as long as most of what was read is used, fewer when it is not.

/// Where it begins.
const FIRST: usize = 16;
/// No call has more keys.
const MOST: usize = 8192;
/// What one read should bring at most.
const BYTES: usize = 1 << 20;

pub(super) struct Ahead {
    keys: usize,
    asked: usize,
    used: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            keys: FIRST,
            asked: 0,
            used: 0,
        }
    }
}

impl Ahead {
    /// A key that was read is used.
    #[inline(always)]
    pub(super) fn used(&mut self) {
        self.used += 1;
    }

    /// How many keys to read now.
    pub(super) fn next(&mut self) -> usize {
        if self.asked > 0 {
            self.keys = if self.used * 2 >= self.asked {
                (self.keys * 4).min(MOST)
            } else {
                (self.keys / 4).max(1)
            };
        }
        self.used = 0;
        self.keys
    }

    /// So many were read, of so many bytes.
    pub(super) fn read(&mut self, keys: usize, bytes: usize) {
        self.asked = keys;
        let each = (bytes / keys.max(1)).max(1);
        self.keys = self.keys.min((BYTES / each).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_keys_are_used_and_shrinks_when_they_are_not() {
        let mut ahead = Ahead::default();
        let mut seen = Vec::new();
        for used in [16, 64, 1, 0, 0, 0] {
            let keys = ahead.next();
            seen.push(keys);
            ahead.read(keys, keys * 10);
            (0..used).for_each(|_| ahead.used());
        }
        assert_eq!(seen, [16, 64, 256, 64, 16, 4]);
    }

    #[test]
    fn large_values_are_read_a_few_at_a_time() {
        let mut ahead = Ahead::default();
        let keys = ahead.next();
        ahead.read(keys, keys << 19);
        (0..keys).for_each(|_| ahead.used());
        assert_eq!(ahead.next(), 8);
        ahead.read(8, 8 << 19);
        assert_eq!(ahead.next(), 1);
    }
}
