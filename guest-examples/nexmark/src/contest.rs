//! The contest of an auction: which of its live bids wins. What q4, q6 and q9 have alike.
//!
//! A bid is live from the auction's `dateTime` to its `expires`, both included; the highest wins, the earliest of equals.
//! Bids may come before their auction; they wait for it. Once it is there, only the winner is kept.

use pelton::prelude::*;

use crate::events::Event;

/// What is kept of an auction that has come.
#[derive(Record, Clone, Copy)]
pub struct Terms {
    pub seller: i64,
    pub category: i64,
    #[record(name = "dateTime")]
    pub date_time: Timestamp,
    pub expires: Timestamp,
}

/// The winner so far.
#[derive(Record, Clone, Copy, Debug, PartialEq)]
pub struct Lead {
    pub price: i64,
    pub time: Timestamp,
}

/// What tells bids apart.
pub trait Offer: Record {
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
    terms: ValueState<Terms>,
    lead: ValueState<Lead>,
    waiting: ListState<B>,
}

impl<B: Offer> Contest<B> {
    /// Declares the states.
    pub fn new(states: &mut States) -> Self {
        Self {
            terms: states.value("terms"),
            lead: states.value("lead"),
            waiting: states.list("waiting"),
        }
    }

    /// The auction is there: bids that have waited count. `wins` as in [`bid`](Self::bid).
    pub fn open(&self, terms: Terms, mut wins: impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>)) {
        self.terms.set(terms);
        let waiting = self.waiting.get();
        if waiting.is_empty() {
            return;
        }
        self.waiting.clear();
        for bid in &waiting {
            self.count(&terms, bid.lend(), &mut wins);
        }
    }

    /// A bid. If it takes the lead, `wins` gets the auction's terms, who led before, and the bid.
    #[inline]
    pub fn bid(&self, bid: RefOf<'_, B>, mut wins: impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>)) {
        match self.terms.get() {
            Some(terms) => self.count(&terms, bid, &mut wins),
            None => self.waiting.add(B::own(bid)),
        }
    }

    /// The winner.
    pub fn lead(&self) -> Option<Lead> {
        self.lead.get()
    }

    /// What is known of the auction.
    pub fn terms(&self) -> Option<Terms> {
        self.terms.get()
    }

    #[inline]
    fn count(
        &self,
        terms: &Terms,
        bid: RefOf<'_, B>,
        wins: &mut impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>),
    ) {
        let own = B::lead(bid);
        if own.time < terms.date_time || own.time > terms.expires {
            return;
        }
        let former = self.lead.get();
        let leads = former.is_none_or(|former| {
            own.price > former.price || own.price == former.price && own.time < former.time
        });
        if leads {
            self.lead.set(own);
            wins(terms, former, bid);
        }
    }
}
