//! Random numbers and the table made from them: SplitMix64, channels.
//!
//! The state of SplitMix64 only counts, so draws that nobody needs are skipped by one multiplication.

use std::hint::select_unpredictable;

use super::letters;

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
/// SplitMix64's output function.
pub(super) fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The draws of one event, from some draw on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws(u64);

impl Draws {
    /// From the first draw of an event.
    pub(super) fn of(seed: u64, number: u64) -> Self {
        Self(mix(seed ^ mix(number.wrapping_add(1))))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.skip(1);
        mix(self.0)
    }

    /// 31 random bits, without taking the draw.
    fn peek(self) -> u32 {
        (mix(self.0.wrapping_add(GAMMA)) >> 33) as u32
    }

    /// A number below `K`.
    pub(super) fn below<const K: u32>(&mut self) -> u32 {
        let bits = self.peek();
        self.skip(1);
        bits % K
    }

    /// A number below `k`, which must be above 0.
    pub(super) fn below_any(&mut self, k: u32) -> u32 {
        let bits = self.peek();
        self.skip(1);
        bits % k.max(1)
    }

    /// 31 random bits, of a draw that is taken only if `taken`: without a branch, since none could be predicted.
    pub(super) fn bits_if(&mut self, taken: bool) -> u32 {
        let bits = self.peek();
        self.0 = self.0.wrapping_add(select_unpredictable(taken, GAMMA, 0));
        bits
    }

    pub(super) fn skip(&mut self, draws: u64) {
        self.0 = self.0.wrapping_add(GAMMA.wrapping_mul(draws));
    }

    /// Two draws: a price in cents, from 100 to 99,990,000 or so, each order of magnitude as likely as another.
    pub(super) fn price(&mut self) -> i64 {
        const POWERS: [u64; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
        let power = POWERS[self.below::<6>() as usize];
        let mantissa = 1_000 + u64::from(self.below::<9_000>());
        (mantissa * power / 10) as i64
    }

    /// Passes over the draws of a text of this length.
    pub(super) fn skip_letters(&mut self, len: usize) {
        self.skip(len.div_ceil(12) as u64);
    }
}

/// Where a bid came from: a channel's name and address. Two thirds of a cache line pair, copied as they are.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Channel {
    pub(super) url: [u8; URL_MAX],
    pub(super) name: [u8; NAME_MAX],
    pub(super) url_len: u8,
    pub(super) name_len: u8,
}

pub(super) const URL_MAX: usize = 82;
pub(super) const NAME_MAX: usize = 12;
const _: () = assert!(
    size_of::<Channel>() == 96,
    "three of them in nine cache lines' halves"
);

/// The channels with a name of their own, which get half of the bids.
const HOT: [&str; HOT_COUNT] = ["Google", "Facebook", "Baidu", "Apple"];
pub(super) const HOT_COUNT: usize = 4;
pub(super) const COLD_COUNT: u32 = 10_000;

/// All channels: the hot ones, then the numbered ones.
pub(super) fn channels(seed: u64) -> Box<[Channel]> {
    let hot = (0i64..)
        .zip(HOT)
        .map(|(i, name)| Channel::new(name, &base_url(&mut draws_before(seed, 1 + i))));
    let cold = (0..i64::from(COLD_COUNT)).map(|c| {
        let mut draws = draws_before(seed, 100 + c);
        let mut url = base_url(&mut draws);
        if draws.below::<10>() > 0 {
            url += &format!("&channel_id={}", draws.below::<{ 1 << 30 }>());
        }
        Channel::new(&format!("channel-{c}"), &url)
    });
    hot.chain(cold).collect()
}

/// The draws of an event number below 0: those of the tables.
fn draws_before(seed: u64, distance: i64) -> Draws {
    Draws::of(seed, distance.wrapping_neg() as u64)
}

fn base_url(draws: &mut Draws) -> String {
    let mut five = || {
        let mut letters = [[0; 12]];
        letters::fill(draws, &mut letters);
        letters
            .iter()
            .flatten()
            .take(5)
            .map(|b| char::from(*b))
            .collect::<String>()
    };
    let (a, b, c) = (five(), five(), five());
    format!("https://shop.example.test/{a}/{b}/{c}/item.htm?query=1")
}

impl Channel {
    fn new(name: &str, url: &str) -> Self {
        let mut this = Self {
            url: [0; _],
            name: [0; _],
            url_len: url.len() as u8,
            name_len: name.len() as u8,
        };
        for (to, from) in this.url.iter_mut().zip(url.bytes()) {
            *to = from;
        }
        for (to, from) in this.name.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        this
    }
}
