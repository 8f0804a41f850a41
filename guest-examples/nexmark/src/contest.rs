//! The contest of an auction: which of its live bids wins. What q4, q6 and q9 have alike.
//!
//! A bid is live from the auction's `dateTime` to its `expires`, both included; the highest wins, the earliest of equals.
//! Bids may come before their auction; they wait for it. Once it is there, only the winner is kept.

use pelton::prelude::*;
use pelton::value::Item;

use crate::events::Event;

/// What is kept of an auction that has come.
#[derive(Record, Clone, Copy, Default)]
pub struct Terms {
    pub seller: i64,
    pub category: i64,
    #[record(name = "dateTime")]
    pub date_time: Timestamp,
    pub expires: Timestamp,
}

/// The winner so far.
#[derive(Record, Clone, Copy, Debug, PartialEq, Default)]
pub struct Lead {
    pub price: i64,
    pub time: Timestamp,
}

/// All of fixed width that is known of a contest: one value, so that it is read and written at once.
#[derive(Record, Clone, Copy, Default)]
struct Known {
    /// Whether the auction has come; until then bids wait.
    is_open: bool,
    terms: Terms,
    has_lead: bool,
    lead: Lead,
}

/// What tells bids apart.
pub trait Offer: Record + Item {
    /// Its price and its time.
    fn lead(row: RefOf<'_, Self>) -> Lead;
}

/// A bid as q4 and q6 see it.
#[derive(Record)]
pub struct Price {
    pub auction: i64,
    pub price: i64,
    #[record(name = "dateTime")]
    pub date_time: Timestamp,
}

impl Offer for Price {
    fn lead(row: PriceRef<'_>) -> Lead {
        Lead {
            price: row.price,
            time: row.date_time,
        }
    }
}

/// The prices bid, by auction.
pub fn prices(events: &Stream<Event>) -> KeyedStream<Price, Price, i64> {
    events
        .clone()
        .only::<Price>("bids", Event::BID)
        .key_by(Price::AUCTION)
}

/// The states of an auction's contest; its key is the auction.
pub struct Contest<B: Offer> {
    known: ValueState<Known>,
    waiting: Waiting<B>,
}

impl<B: Offer> Contest<B> {
    /// Declares the states.
    pub fn new(states: &mut States) -> Self {
        Self {
            known: states.value("contest"),
            waiting: Waiting::new(states),
        }
    }

    /// The auction is there: bids that have waited count. `wins` as in [`bid`](Self::bid).
    pub fn open(&self, terms: Terms, mut wins: impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>)) {
        let has_waiting = self.known.with(|known| known.is_some());
        let mut known = Known {
            is_open: true,
            terms,
            ..Known::default()
        };
        if has_waiting {
            for bid in self.waiting.take() {
                known.count::<B>(bid.lend(), &mut wins);
            }
        }
        self.known.set(known);
    }

    /// A bid. If it takes the lead, `wins` gets the auction's terms, who led before, and the bid.
    #[inline]
    pub fn bid(&self, bid: RefOf<'_, B>, mut wins: impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>)) {
        match self.known.get() {
            Some(mut known) if known.is_open => {
                if known.count::<B>(bid, &mut wins) {
                    self.known.set(known);
                }
            }
            known => {
                if known.is_none() {
                    self.known.set(Known::default());
                }
                self.waiting.add(bid);
            }
        }
    }

    /// The auction's terms and the winner.
    pub fn outcome(&self) -> Option<(Terms, Option<Lead>)> {
        let known = self.known.get().filter(|known| known.is_open)?;
        Some((known.terms, known.lead()))
    }
}

impl Known {
    fn lead(&self) -> Option<Lead> {
        self.has_lead.then_some(self.lead)
    }

    /// Whether the bid takes the lead.
    #[inline]
    fn count<B: Offer>(
        &mut self,
        bid: RefOf<'_, B>,
        wins: &mut impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>),
    ) -> bool {
        let own = B::lead(bid);
        if own.time < self.terms.date_time || own.time > self.terms.expires {
            return false;
        }
        let former = self.lead();
        let leads = former.is_none_or(|former| {
            own.price > former.price || own.price == former.price && own.time < former.time
        });
        if leads {
            (self.has_lead, self.lead) = (true, own);
            wins(&self.terms, former, bid);
        }
        leads
    }
}

/// Bids whose auction has not come. They are one value, not a list: mostly their auction comes soon, and a value that is gone
/// before the cache is written leaves no trace on the disk.
pub struct Waiting<B: Record + Item>(ValueState<Vec<B>>);

impl<B: Record + Item> Waiting<B> {
    /// Declares the state.
    pub fn new(states: &mut States) -> Self {
        Self(states.lazy_value("waiting"))
    }

    /// One more.
    pub fn add(&self, bid: RefOf<'_, B>) {
        self.0.update(Vec::new, |bids| bids.push(B::own(bid)));
    }

    /// All of them, in the order in which they came; none is left.
    pub fn take(&self) -> Vec<B> {
        let bids = self.0.get().unwrap_or_default();
        self.0.clear();
        bids
    }
}
