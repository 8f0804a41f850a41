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
#[derive(Record, Clone, Copy, Debug, PartialEq, Default)]
pub struct Lead {
    pub price: i64,
    pub time: Timestamp,
}

/// All of fixed width that is known of a contest: one value, so that it is read and written at once.
#[derive(Record, Clone, Copy)]
struct Known {
    terms: Terms,
    has_lead: bool,
    lead: Lead,
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
    known: ValueState<Known>,
    waiting: ListState<B>,
}

impl<B: Offer> Contest<B> {
    /// Declares the states.
    pub fn new(states: &mut States) -> Self {
        Self {
            known: states.value("contest"),
            waiting: states.list("waiting"),
        }
    }

    /// The auction is there: bids that have waited count. `wins` as in [`bid`](Self::bid).
    pub fn open(&self, terms: Terms, mut wins: impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>)) {
        let mut known = Known {
            terms,
            has_lead: false,
            lead: Lead::default(),
        };
        let waiting = self.waiting.get();
        for bid in &waiting {
            known.count::<B>(bid.lend(), &mut wins);
        }
        self.known.set(known);
        if !waiting.is_empty() {
            self.waiting.clear();
        }
    }

    /// A bid. If it takes the lead, `wins` gets the auction's terms, who led before, and the bid.
    #[inline]
    pub fn bid(&self, bid: RefOf<'_, B>, mut wins: impl FnMut(&Terms, Option<Lead>, RefOf<'_, B>)) {
        match self.known.get() {
            None => self.waiting.add(B::own(bid)),
            Some(mut known) => {
                if known.count::<B>(bid, &mut wins) {
                    self.known.set(known);
                }
            }
        }
    }

    /// The auction's terms and the winner.
    pub fn outcome(&self) -> Option<(Terms, Option<Lead>)> {
        let known = self.known.get()?;
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
