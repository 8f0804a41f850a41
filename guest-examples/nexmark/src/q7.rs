//! q7: in each window of ten seconds, the bids with the highest price, a bid at the window's very end included.
//!
//! A bid at the end of a window does not count for its highest price, which the next window's does; it is only among
//! the answers if its price is the highest.

use pelton::prelude::*;

use crate::best::Best;
use crate::events::Event;

const SIZE: Duration = seconds(10);

/// What is told of a bid.
#[derive(Record, Debug, PartialEq)]
pub struct Offer {
    auction: i64,
    price: i64,
    bidder: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
}

#[derive(Record)]
struct PriceTime {
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

/// An offer in a window.
#[derive(Record)]
struct Candidate {
    start: Timestamp,
    auction: i64,
    price: i64,
    bidder: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    extra: String,
}

/// What can still win in a window.
#[derive(Record, Default)]
struct Rivals {
    /// The highest price of a bid before the window's end; none yet: the least number.
    highest: i64,
    offers: Vec<Offer>,
}

/// Builds the query.
pub fn q7(events: Stream<Event>) -> Stream<Offer> {
    events
        .only::<Offer>("bids", Event::BID)
        .view::<PriceTime>()
        .filter_with("may win", |_| {
            let best = Best::new(SIZE.millis());
            move |bid| may_win(&best, bid)
        })
        // A step of the host's own ends the call: of the few bids that are left, all fields cross; of the others two.
        .select::<Offer>("candidates")
        .flat_map("windows", |bid: OfferRef<'_>, out: &mut Out<Candidate>| {
            let start = start_of(bid.date_time);
            let mut emit = |start| {
                let OfferRef {
                    auction,
                    price,
                    bidder,
                    date_time,
                    extra,
                } = bid;
                out.emit(CandidateRef {
                    start,
                    auction,
                    price,
                    bidder,
                    date_time,
                    extra,
                });
            };
            emit(start);
            if bid.date_time == start {
                emit(start - SIZE);
            }
        })
        .key_by(Candidate::START)
        .process("highest", Highest::new)
}

/// The start of the window that a time lies in.
fn start_of(time: Timestamp) -> Timestamp {
    Timestamp(time.millis() - time.millis().rem_euclid(SIZE.millis()))
}

#[inline]
fn may_win(best: &Best, bid: PriceTimeRef<'_>) -> bool {
    let start = start_of(bid.date_time);
    let before = bid.date_time == start && best.would_admit((start - SIZE).millis(), bid.price);
    best.admits(start.millis(), bid.price) || before
}

/// Holds the rivals of each window until it is over.
struct Highest {
    rivals: ValueState<Rivals>,
}

impl Highest {
    fn new(states: &mut States) -> Self {
        Self {
            rivals: states.value("rivals"),
        }
    }
}

impl KeyedProcess for Highest {
    type Key = Timestamp;
    type In = Candidate;
    type Out = Offer;

    fn process(&self, start: Timestamp, bid: CandidateRef<'_>, cx: &mut Ctx, _: &mut Out<Offer>) {
        let highest = self.rivals.with(|r| r.map(|r| r.highest));
        if highest.is_none() {
            // Not before its end: bids of that very moment belong to it, too.
            cx.set_timer(start + SIZE);
        }
        let highest = highest.unwrap_or(i64::MIN);
        if bid.price < highest {
            return;
        }
        let mut rivals = self.rivals.get().unwrap_or_else(|| Rivals {
            highest,
            offers: Vec::new(),
        });
        if bid.price > highest && bid.date_time < start + SIZE {
            rivals.highest = bid.price;
            rivals.offers.retain(|offer| offer.price >= bid.price);
        }
        let CandidateRef {
            auction,
            price,
            bidder,
            date_time,
            extra,
            ..
        } = bid;
        rivals.offers.push(Offer {
            auction,
            price,
            bidder,
            date_time,
            extra: extra.to_owned(),
        });
        self.rivals.set(rivals);
    }

    fn on_timer(&self, _: Timestamp, _: Timestamp, _: &mut Ctx, out: &mut Out<Offer>) {
        let Rivals { highest, offers } = self.rivals.get().unwrap_or_default();
        offers
            .iter()
            .filter(|offer| offer.price == highest)
            .for_each(|offer| out.emit(offer));
        self.rivals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Bid;
    use pelton::testing::Harness;

    /// The auctions that are answered to bids of (auction, price, milliseconds).
    fn winners(bids: &[(i64, i64, i64)]) -> Vec<i64> {
        let mut harness = Harness::new(q7);
        for (auction, price, ms) in bids.iter().copied() {
            let date_time = Timestamp(ms);
            let bid = Bid {
                auction,
                price,
                date_time,
                ..Bid::default()
            };
            harness.push_at(
                date_time,
                Event {
                    event_type: 2,
                    ts: date_time,
                    bid: Some(bid),
                    ..Event::default()
                },
            );
        }
        harness.watermark(Timestamp(1_000_000));
        assert!(harness.timers().is_empty());
        harness.take().iter().map(|offer| offer.auction).collect()
    }

    #[test]
    fn all_bids_of_the_highest_price_win() {
        assert_eq!(
            winners(&[(1, 5, 0), (2, 7, 1), (3, 6, 2), (4, 7, 9_999)]),
            [2, 4]
        );
        assert_eq!(
            winners(&[(1, 7, 0), (2, 5, 10_001)]),
            [1, 2],
            "each window has its own"
        );
    }

    #[test]
    fn a_bid_at_the_end_wins_with_the_highest_price_only() {
        assert_eq!(
            winners(&[(1, 7, 5_000), (2, 7, 10_000)]),
            [1, 2, 2],
            "in its own window, too"
        );
        assert_eq!(winners(&[(2, 7, 10_000), (1, 7, 5_000)]), [2, 1, 2]);
        assert_eq!(
            winners(&[(1, 7, 5_000), (2, 9, 10_000)]),
            [1, 2],
            "it is not the highest of the window before"
        );
        assert_eq!(winners(&[(2, 9, 10_000), (1, 7, 5_000)]), [1, 2]);
        assert_eq!(winners(&[(1, 7, 5_000), (2, 3, 10_000)]), [1, 2]);
        assert_eq!(
            winners(&[(2, 3, 10_000)]),
            [2],
            "a window without a bid of its own has no highest price"
        );
    }

    #[test]
    fn windows_before_1970_are_aligned_as_well() {
        assert_eq!(winners(&[(1, 7, -1), (2, 7, 0)]), [1, 2, 2]);
    }
}
