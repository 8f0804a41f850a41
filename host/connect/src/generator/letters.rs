//! Random letters, 12 of each draw: most of the work that an event makes.
//!
//! Each 5 bits of a draw, from the low end, choose one of 32 letters. By pairs of letters from a table; on x86-64 with
//! AVX2 two draws at a time, which brings an event with all columns from 52 to 41 ns.

use super::draws::Draws;

const LETTERS: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyzaeiost";

/// The two letters of each pair of 5 bits, the first in the low byte.
static PAIRS: [u16; 1_024] = {
    let mut pairs = [0; 1_024];
    let mut i = 0;
    while i < pairs.len() {
        pairs[i] = LETTERS[i % 32] as u16 | (LETTERS[i / 32] as u16) << 8;
        i += 1;
    }
    pairs
};

/// Fills each group of 12 from a draw.
pub(super) fn fill(draws: &mut Draws, into: &mut [[u8; 12]]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: all that the function asks of its caller is that the processor has AVX2.
        return unsafe { avx2::fill(draws, into) };
    }
    fill_plain(draws, into);
}

fn fill_plain(draws: &mut Draws, into: &mut [[u8; 12]]) {
    for twelve in into {
        let draw = draws.next();
        let pair = |i: u32| u64::from(PAIRS[(draw >> (10 * i)) as usize & 1_023]);
        let eight = pair(0) | pair(1) << 16 | pair(2) << 32 | pair(3) << 48;
        let four = (pair(4) | pair(5) << 16) as u32;
        store(twelve, eight, four);
    }
}

fn store(into: &mut [u8; 12], eight: u64, four: u32) {
    into[..8].copy_from_slice(&eight.to_le_bytes());
    into[8..].copy_from_slice(&four.to_le_bytes());
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{Draws, LETTERS, store};

    /// 32 bytes as a vector is made of them.
    type Quads = [i64; 4];

    /// Of each letter the two bytes that hold its bits, and zeros for the last four of 16.
    const WINDOWS: Quads = {
        let mut bytes = [0x80; 32];
        let mut i = 0;
        while i < 12 {
            bytes[2 * i] = (5 * i / 8) as u8;
            bytes[2 * i + 1] = (5 * i / 8) as u8 + 1;
            i += 1;
        }
        quads(bytes)
    };

    /// Of each letter the factor that brings its bits to the top of 16.
    const FACTORS: Quads = {
        let mut bytes = [0; 32];
        let mut i = 0;
        while i < 12 {
            let factor: u16 = 1 << (11 - 5 * i % 8);
            bytes[2 * i] = factor as u8;
            bytes[2 * i + 1] = (factor >> 8) as u8;
            i += 1;
        }
        quads(bytes)
    };

    /// Half of the letters, twice: the instruction looks up in each half of a vector for itself.
    const fn half(offset: usize) -> Quads {
        let mut bytes = [0; 32];
        let mut i = 0;
        while i < 32 {
            bytes[i] = LETTERS[offset + i % 16];
            i += 1;
        }
        quads(bytes)
    }

    const fn quads(bytes: [u8; 32]) -> Quads {
        let mut quads = [0; 4];
        let mut i = 0;
        while i < 32 {
            quads[i / 8] |= (bytes[i] as i64) << (8 * (i % 8));
            i += 1;
        }
        quads
    }

    #[target_feature(enable = "avx2")]
    fn vector(quads: Quads) -> __m256i {
        let [a, b, c, d] = quads;
        _mm256_set_epi64x(d, c, b, a)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn fill(draws: &mut Draws, into: &mut [[u8; 12]]) {
        let (pairs, rest) = into.as_chunks_mut::<2>();
        for [first, second] in pairs {
            let letters = two(draws.next(), draws.next());
            store_low(first, _mm256_castsi256_si128(letters));
            store_low(second, _mm256_extracti128_si256::<1>(letters));
        }
        for last in rest {
            store_low(last, _mm256_castsi256_si128(two(draws.next(), 0)));
        }
    }

    #[target_feature(enable = "avx2")]
    fn store_low(into: &mut [u8; 12], letters: __m128i) {
        store(
            into,
            _mm_extract_epi64::<0>(letters) as u64,
            _mm_extract_epi32::<2>(letters) as u32,
        );
    }

    /// The 12 letters of each draw, at the beginning of each half.
    #[target_feature(enable = "avx2")]
    fn two(first: u64, second: u64) -> __m256i {
        // Bytes 0 to 15 and 16 to 31 are of the first and of the second draw, once the middle quarters change places.
        let numbers = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(
            numbers(first),
            numbers(second),
        ));
        let low = _mm256_shuffle_epi8(vector(const { half(0) }), numbers);
        let high = _mm256_shuffle_epi8(vector(const { half(16) }), numbers);
        // The fifth bit of a number becomes the top bit of its byte, by which the blend chooses.
        _mm256_blendv_epi8(low, high, _mm256_slli_epi16::<3>(numbers))
    }

    /// The numbers of the 12 letters of a draw, each in 16 bits.
    #[target_feature(enable = "avx2")]
    fn numbers(draw: u64) -> __m256i {
        let windows = _mm256_shuffle_epi8(_mm256_set1_epi64x(draw as i64), vector(WINDOWS));
        _mm256_srli_epi16::<11>(_mm256_mullo_epi16(windows, vector(FACTORS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_the_definition() {
        for groups in 0..9 {
            let mut draws = Draws::of(3, groups);
            let mut words = draws;
            let mut expected = vec![[0; 12]; groups as usize];
            for letter in expected.iter_mut() {
                let word = words.next();
                *letter = std::array::from_fn(|i| LETTERS[(word >> (5 * i) & 31) as usize]);
            }
            let mut plain = vec![[0; 12]; groups as usize];
            fill_plain(&mut draws.clone(), &mut plain);
            assert_eq!(plain, expected);
            let mut best = vec![[0; 12]; groups as usize];
            fill(&mut draws, &mut best);
            assert_eq!(best, expected);
            assert_eq!(draws.next(), words.next(), "one draw a group");
        }
    }
}
