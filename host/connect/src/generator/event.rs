//! The three kinds of events and their columns: what each draw means.
//!
//! The content of an event is a pure function of the seed and its number. The draws of an event are sequential; those
//! of columns that nobody needs are skipped.

use std::hint::select_unpredictable;

use super::columns::{Ints, Text};
use super::draws::{COLD_COUNT, Channel, Draws, HOT_COUNT, NAME_MAX, URL_MAX};
use super::letters;

/// Numbers and rows of the events of one kind in a batch, in the order of the rows.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) rows: Vec<u32>,
    pub(super) numbers: Vec<u64>,
}

impl Events {
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.numbers.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.rows.iter().copied().zip(self.numbers.iter().copied())
    }
}

/// One column that can be made.
pub(super) enum Column<'a> {
    Ints(&'a mut Ints),
    Text(&'a mut Text),
    /// The event's own time.
    Time,
    /// Another time, as an integer.
    OtherTime(&'a mut Ints),
}

/// The columns of one kind of events, by name.
pub(super) trait Columns {
    /// In the order in which the data set is documented.
    const NAMES: &'static [&'static str];

    /// The column of a name.
    fn column(&mut self, name: &str) -> Option<Column<'_>>;

    /// Begins a batch of this many rows, of which `events` are of this kind.
    fn start(&mut self, rows: usize, events: usize) {
        for name in Self::NAMES {
            match self.column(name) {
                Some(Column::Ints(c) | Column::OtherTime(c)) => c.start(rows),
                Some(Column::Text(c)) => c.start(rows, events),
                Some(Column::Time) | None => {}
            }
        }
    }
}

const FIRST: [&str; 11] = [
    "Ada", "Bela", "Carla", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira",
];
const LAST: [&str; 9] = [
    "Adler", "Brandt", "Castro", "Dietz", "Evans", "Fabre", "Gruber", "Hansen", "Ito",
];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// The first id of persons and of auctions.
const FIRST_ID: u64 = 1_000;

pub(super) struct Persons {
    id: Ints,
    name: Text,
    email: Text,
    card: Text,
    city: Text,
    state: Text,
    extra: Text,
}

impl Default for Persons {
    fn default() -> Self {
        Self {
            id: Ints::default(),
            name: Text::new(14),
            email: Text::new(24),
            card: Text::new(20),
            city: Text::new(14),
            state: Text::new(2),
            extra: Text::new(150),
        }
    }
}

impl Columns for Persons {
    const NAMES: &'static [&'static str] = &[
        "id",
        "name",
        "emailAddress",
        "creditCard",
        "city",
        "state",
        "dateTime",
        "extra",
    ];

    fn column(&mut self, name: &str) -> Option<Column<'_>> {
        Some(match name {
            "id" => Column::Ints(&mut self.id),
            "name" => Column::Text(&mut self.name),
            "emailAddress" => Column::Text(&mut self.email),
            "creditCard" => Column::Text(&mut self.card),
            "city" => Column::Text(&mut self.city),
            "state" => Column::Text(&mut self.state),
            "dateTime" => Column::Time,
            "extra" => Column::Text(&mut self.extra),
            _ => return None,
        })
    }
}

impl Persons {
    pub(super) fn make(&mut self, seed: u64, events: &Events) {
        let texts = [
            &self.name,
            &self.email,
            &self.card,
            &self.city,
            &self.state,
            &self.extra,
        ];
        let any_text = texts.iter().any(|t| t.needed);
        for (row, number) in events.iter() {
            self.id.set(row, (FIRST_ID + number / 50) as i64);
            if any_text {
                self.texts(row, Draws::of(seed, number));
            }
        }
    }

    fn texts(&mut self, row: u32, mut draws: Draws) {
        let first = FIRST[draws.below::<11>() as usize];
        let last = LAST[draws.below::<9>() as usize];
        if self.name.needed {
            self.name.begin(row);
            for part in [first, " ", last] {
                self.name.push(part.as_bytes());
            }
            self.name.end();
        }
        self.email(row, &mut draws);
        self.card(row, &mut draws);
        let city = CITIES[draws.below::<10>() as usize];
        let state = STATES[draws.below::<6>() as usize];
        for (column, value) in [(&mut self.city, city), (&mut self.state, state)] {
            if column.needed {
                column.begin(row);
                column.push(value.as_bytes());
                column.end();
            }
        }
        if self.extra.needed {
            let used =
                8 + first.len() + 1 + last.len() + EMAIL_LEN + CARD_LEN + city.len() + state.len();
            self.extra.begin(row);
            let len = extra_len(&mut draws, 200, used);
            self.extra.push_letters(&mut draws, len);
            self.extra.end();
        }
    }

    fn email(&mut self, row: u32, draws: &mut Draws) {
        if !self.email.needed {
            return draws.skip(2);
        }
        self.email.begin(row);
        self.email.push_letters(draws, 7);
        self.email.push(b"@");
        self.email.push_letters(draws, 5);
        self.email.push(b".com");
        self.email.end();
    }

    fn card(&mut self, row: u32, draws: &mut Draws) {
        if !self.card.needed {
            return draws.skip(4);
        }
        self.card.begin(row);
        for group in 0..4 {
            let number = draws.below::<10_000>();
            if group > 0 {
                self.card.push(b" ");
            }
            self.card
                .push(&[1_000, 100, 10, 1].map(|place| b'0' + (number / place % 10) as u8));
        }
        self.card.end();
    }
}

const EMAIL_LEN: usize = "1234567@12345.com".len();
const CARD_LEN: usize = "1234 1234 1234 1234".len();

pub(super) struct Auctions {
    id: Ints,
    item_name: Text,
    description: Text,
    initial_bid: Ints,
    reserve: Ints,
    expires: Ints,
    seller: Ints,
    category: Ints,
    extra: Text,
}

impl Default for Auctions {
    fn default() -> Self {
        Self {
            id: Ints::default(),
            item_name: Text::new(24),
            description: Text::new(72),
            initial_bid: Ints::default(),
            reserve: Ints::default(),
            expires: Ints::default(),
            seller: Ints::default(),
            category: Ints::default(),
            extra: Text::new(440),
        }
    }
}

impl Columns for Auctions {
    const NAMES: &'static [&'static str] = &[
        "id",
        "itemName",
        "description",
        "initialBid",
        "reserve",
        "dateTime",
        "expires",
        "seller",
        "category",
        "extra",
    ];

    fn column(&mut self, name: &str) -> Option<Column<'_>> {
        Some(match name {
            "id" => Column::Ints(&mut self.id),
            "itemName" => Column::Text(&mut self.item_name),
            "description" => Column::Text(&mut self.description),
            "initialBid" => Column::Ints(&mut self.initial_bid),
            "reserve" => Column::Ints(&mut self.reserve),
            "dateTime" => Column::Time,
            "expires" => Column::OtherTime(&mut self.expires),
            "seller" => Column::Ints(&mut self.seller),
            "category" => Column::Ints(&mut self.category),
            "extra" => Column::Text(&mut self.extra),
            _ => return None,
        })
    }
}

impl Auctions {
    /// `time` gives an event's time, `life` is the bound of an auction's life in milliseconds.
    pub(super) fn make(
        &mut self,
        seed: u64,
        events: &Events,
        life: u32,
        time: impl Fn(u64) -> i64,
    ) {
        let texts = self.item_name.needed
            || self.description.needed
            || self.reserve.needed
            || self.extra.needed;
        let numbers = self.seller.needed
            || self.category.needed
            || self.initial_bid.needed
            || self.expires.needed;
        for (row, number) in events.iter() {
            let epoch = number / 50;
            self.id
                .set(row, (FIRST_ID + epoch * 3 + (number % 50 - 1)) as i64);
            if !numbers && !texts {
                continue;
            }
            let mut draws = Draws::of(seed, number);
            let hot = draws.below::<4>() > 0;
            let seller = draws.bits_if(!hot);
            let seller = select_unpredictable(hot, epoch / 100 * 100, person_of(epoch, seller));
            self.seller.set(row, (FIRST_ID + seller) as i64);
            self.category.set(row, 10 + i64::from(draws.below::<5>()));
            let initial_bid = draws.price();
            self.initial_bid.set(row, initial_bid);
            let lives = draws.below_any(life);
            if self.expires.needed {
                self.expires.set(row, time(number) + 1 + i64::from(lives));
            }
            if texts {
                self.texts(row, initial_bid, &mut draws);
            }
        }
    }

    fn texts(&mut self, row: u32, initial_bid: i64, draws: &mut Draws) {
        let mut used = 48;
        for (column, lengths) in [(&mut self.item_name, 18), (&mut self.description, 98)] {
            let len = 3 + draws.below_any(lengths) as usize;
            used += len;
            if column.needed {
                column.begin(row);
                column.push_letters(draws, len);
                column.end();
            } else {
                draws.skip_letters(len);
            }
        }
        self.reserve.set(row, initial_bid + draws.price());
        if self.extra.needed {
            self.extra.begin(row);
            let len = extra_len(draws, 500, used);
            self.extra.push_letters(draws, len);
            self.extra.end();
        }
    }
}

pub(super) struct Bids {
    auction: Ints,
    bidder: Ints,
    price: Ints,
    channel: Text,
    url: Text,
    extra: Text,
    /// Of each bid, the draws that the texts are made from.
    draws: Vec<Draws>,
}

impl Default for Bids {
    fn default() -> Self {
        Self {
            auction: Ints::default(),
            bidder: Ints::default(),
            price: Ints::default(),
            channel: Text::new(NAME_MAX),
            url: Text::new(URL_MAX),
            extra: Text::new(BID_EXTRA_ROOM),
            draws: Vec::new(),
        }
    }
}

impl Columns for Bids {
    const NAMES: &'static [&'static str] = &[
        "auction", "bidder", "price", "channel", "url", "dateTime", "extra",
    ];

    fn column(&mut self, name: &str) -> Option<Column<'_>> {
        Some(match name {
            "auction" => Column::Ints(&mut self.auction),
            "bidder" => Column::Ints(&mut self.bidder),
            "price" => Column::Ints(&mut self.price),
            "channel" => Column::Text(&mut self.channel),
            "url" => Column::Text(&mut self.url),
            "dateTime" => Column::Time,
            "extra" => Column::Text(&mut self.extra),
            _ => return None,
        })
    }
}

/// `extra` of a bid fills a record of 32 bytes up to about 100.
const BID_EXTRA: usize = 100 - 32;
/// Its letters in whole draws.
const BID_EXTRA_ROOM: usize = (BID_EXTRA + BID_EXTRA / 5).next_multiple_of(12);

impl Bids {
    pub(super) fn make(&mut self, seed: u64, events: &Events, channels: &[Channel]) {
        let texts = self.channel.needed || self.url.needed || self.extra.needed;
        if texts || self.auction.needed || self.bidder.needed || self.price.needed {
            self.draws.clear();
            self.numbers(seed, events, texts);
        }
        if self.channel.needed || self.url.needed {
            self.channels(events, channels);
        }
        if self.extra.needed {
            self.extras(events);
        }
    }

    fn numbers(&mut self, seed: u64, events: &Events, texts: bool) {
        let after_auction = texts || self.bidder.needed || self.price.needed;
        for (row, number) in events.iter() {
            let epoch = number / 50;
            let mut draws = Draws::of(seed, number);
            let hot = draws.below::<2>() > 0;
            let auction = draws.bits_if(!hot);
            let last = epoch * 3 + 2;
            let auction = select_unpredictable(hot, last / 100 * 100, auction_of(last, auction));
            self.auction.set(row, (FIRST_ID + auction) as i64);
            if !after_auction {
                continue;
            }
            let hot = draws.below::<4>() > 0;
            let bidder = draws.bits_if(!hot);
            let bidder = select_unpredictable(hot, epoch / 100 * 100 + 1, person_of(epoch, bidder));
            self.bidder.set(row, (FIRST_ID + bidder) as i64);
            if self.price.needed {
                self.price.set(row, draws.price());
            } else {
                draws.skip(2);
            }
            if texts {
                self.draws.push(draws);
            }
        }
    }

    fn channels(&mut self, events: &Events, channels: &[Channel]) {
        for (row, draws) in events.rows.iter().zip(&mut self.draws) {
            let mut draws = *draws;
            let hot = draws.below::<2>() > 0;
            let bits = draws.bits_if(true);
            let at = select_unpredictable(
                hot,
                bits % HOT_COUNT as u32,
                HOT_COUNT as u32 + bits % COLD_COUNT,
            );
            let Some(channel) = channels.get(at as usize) else {
                continue;
            };
            if self.channel.needed {
                self.channel.begin(*row);
                *self.channel.room() = channel.name;
                self.channel.advance(channel.name_len as usize);
                self.channel.end();
            }
            if self.url.needed {
                self.url.begin(*row);
                *self.url.room() = channel.url;
                self.url.advance(channel.url_len as usize);
                self.url.end();
            }
        }
    }

    fn extras(&mut self, events: &Events) {
        for (row, draws) in events.rows.iter().zip(&self.draws) {
            let mut draws = *draws;
            draws.skip(2);
            const DELTA: usize = BID_EXTRA / 5;
            let len = BID_EXTRA - DELTA + draws.below::<{ 2 * DELTA as u32 + 1 }>() as usize;
            self.extra.begin(*row);
            // The most draws that a text may need, whatever its length: a loop that ends early is not predicted.
            let room: &mut [u8; BID_EXTRA_ROOM] = self.extra.room();
            letters::fill(&mut draws, room.as_chunks_mut().0);
            self.extra.advance(len);
            self.extra.end();
        }
    }
}

/// One of the last thousand persons, or one of ten to come.
fn person_of(last: u64, bits: u32) -> u64 {
    let people = last + 1;
    let active = people.min(1_000);
    // The division by a constant is what nearly all events take.
    let pick = if active == 1_000 {
        bits % 1_010
    } else {
        bits % (active as u32 + 10)
    };
    people - active + u64::from(pick)
}

/// One of the last hundred auctions, or one of ten to come.
fn auction_of(last: u64, bits: u32) -> u64 {
    let least = last.saturating_sub(100);
    let range = last - least + 11;
    let pick = if range == 111 {
        bits % 111
    } else {
        bits % range as u32
    };
    least + u64::from(pick)
}

/// The letters that fill a record of `used` bytes up to about `target`.
fn extra_len(draws: &mut Draws, target: usize, used: usize) -> usize {
    let Some(missing) = target.checked_sub(used) else {
        return 0;
    };
    let delta = missing / 5;
    missing - delta + draws.below_any(2 * delta as u32 + 1) as usize
}
