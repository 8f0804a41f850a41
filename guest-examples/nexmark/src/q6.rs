//! q6: for each seller, at the winning bid of each of its auctions, in the order of those bids' times, the average price of
//! the last eleven.
//!
//! A bid has won when its auction has expired. Whoever averages also knows which auctions are open: a bid that is later than
//! the beginning of one of them waits, since an earlier one may still win there. So nothing is ever taken back.

use pelton::prelude::*;

use crate::contest::{Contest, Price, PriceRef, Terms, prices};
use crate::events::Event;

/// Winning bids of an average: the one at hand and those before.
const LAST: usize = 11;

#[derive(Record)]
struct Auction {
    id: i64,
    seller: i64,
    category: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    expires: Timestamp,
}

/// An auction begins, or is over.
#[derive(Record)]
struct Progress {
    seller: i64,
    auction: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    is_over: bool,
    /// The winning bid, when it is over.
    winner: Option<Sold>,
}

/// A winning bid.
#[derive(Record, Clone, PartialEq)]
struct Sold {
    time: Timestamp,
    auction: i64,
    price: i64,
}

#[derive(Record, Debug, PartialEq)]
pub struct SellerAverage {
    seller: i64,
    auction: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
    avg_price: i64,
}

/// Builds the query.
pub fn q6(events: Stream<Event>) -> Stream<SellerAverage> {
    let bids = prices(&events);
    let auctions = events.only::<Auction>("auctions", Event::AUCTION);
    let winning = auctions
        .key_by(Auction::ID)
        .connect(bids)
        .process("winning bids", |states| Winning(Contest::new(states)));
    averages(winning)
}

fn averages(winning: Stream<Progress>) -> Stream<SellerAverage> {
    winning
        .key_by(Progress::SELLER)
        .process("averages", |states| Averages {
            open: states.map("open"),
            sold: states.value("sold"),
            last: states.value("last"),
        })
}

struct Winning(Contest<Price>);

impl CoProcess for Winning {
    type Left = Auction;
    type Right = Price;
    type Key = i64;
    type Out = Progress;

    fn left(&self, auction: i64, row: AuctionRef<'_>, cx: &mut Ctx, out: &mut Out<Progress>) {
        let AuctionRef {
            seller,
            category,
            date_time,
            expires,
            ..
        } = row;
        let terms = Terms {
            seller,
            category,
            date_time,
            expires,
        };
        self.0.open(terms, |_, _, _| {});
        cx.set_timer(expires);
        out.emit(Progress {
            seller,
            auction,
            date_time,
            is_over: false,
            winner: None,
        });
    }

    fn right(&self, _: i64, bid: PriceRef<'_>, _: &mut Ctx, _: &mut Out<Progress>) {
        self.0.bid(bid, |_, _, _| {});
    }

    fn on_timer(&self, auction: i64, _: Timestamp, _: &mut Ctx, out: &mut Out<Progress>) {
        let Some((terms, lead)) = self.0.outcome() else {
            return;
        };
        let winner = lead.map(|lead| Sold {
            time: lead.time,
            auction,
            price: lead.price,
        });
        out.emit(Progress {
            seller: terms.seller,
            auction,
            date_time: terms.date_time,
            is_over: true,
            winner,
        });
    }
}

struct Averages {
    /// Auctions that are not over, and when they began.
    open: MapState<i64, Timestamp>,
    /// Winning bids that wait for auctions which may have earlier ones.
    sold: ValueState<Vec<Sold>>,
    /// The last prices, the latest at the end.
    last: ValueState<Vec<i64>>,
}

impl KeyedProcess for Averages {
    type In = Progress;
    type Key = i64;
    type Out = SellerAverage;

    fn process(&self, _: i64, row: ProgressRef<'_>, cx: &mut Ctx, _: &mut Out<SellerAverage>) {
        if !row.is_over {
            self.open.put(row.auction, row.date_time);
            return;
        }
        self.open.remove(row.auction);
        if let Some(winner) = row.winner {
            let mut sold = self.sold.get().unwrap_or_default();
            sold.push(winner.to_owned());
            self.sold.set(sold);
        }
        // Auctions that are offered elsewhere until then are known when the watermark is there.
        if let Some(time) = cx.event_time() {
            cx.set_timer(time);
        }
    }

    fn on_timer(&self, seller: i64, now: Timestamp, _: &mut Ctx, out: &mut Out<SellerAverage>) {
        let mut sold = self.sold.get().unwrap_or_default();
        if sold.is_empty() {
            return;
        }
        sold.sort_unstable_by_key(|bid| (bid.time, bid.auction));
        let earliest = self.open.values().into_iter().min();
        // Auctions that began by now are known, later ones not yet: some task may be ahead.
        let settled = |bid: &Sold| bid.time <= now && earliest.is_none_or(|open| bid.time < open);
        let ready = sold.iter().take_while(|bid| settled(bid)).count();
        if ready == 0 {
            return;
        }
        let mut last = self.last.get().unwrap_or_default();
        for bid in sold.drain(..ready) {
            last.push(bid.price);
            if last.len() > LAST {
                last.remove(0);
            }
            out.emit(SellerAverage {
                seller,
                auction: bid.auction,
                date_time: bid.time,
                avg_price: last.iter().sum::<i64>() / last.len() as i64,
            });
        }
        self.last.set(last);
        self.sold.set(sold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::Harness;

    fn begins(harness: &mut Harness<Progress, SellerAverage>, auction: i64, at: i64) {
        let row = Progress {
            seller: 1,
            auction,
            date_time: Timestamp(at),
            is_over: false,
            winner: None,
        };
        harness.push_at(Timestamp(at), row);
    }

    fn ends(
        harness: &mut Harness<Progress, SellerAverage>,
        auction: i64,
        at: i64,
        sold: i64,
        price: i64,
    ) {
        let winner = Sold {
            time: Timestamp(sold),
            auction,
            price,
        };
        let row = Progress {
            seller: 1,
            auction,
            date_time: Timestamp(0),
            is_over: true,
            winner: Some(winner),
        };
        harness.push_at(Timestamp(at), row);
    }

    fn told(harness: &mut Harness<Progress, SellerAverage>) -> Vec<(i64, i64)> {
        let rows = harness.take();
        rows.iter().map(|r| (r.auction, r.avg_price)).collect()
    }

    #[test]
    fn winning_bids_are_averaged_in_the_order_of_their_times() {
        let mut harness = Harness::new(averages);
        begins(&mut harness, 1, 10);
        begins(&mut harness, 2, 20);
        ends(&mut harness, 2, 50, 30, 100);
        harness.watermark(Timestamp(60));
        assert_eq!(told(&mut harness), [], "the first may have sold earlier");
        ends(&mut harness, 1, 70, 25, 50);
        harness.watermark(Timestamp(70));
        assert_eq!(told(&mut harness), [(1, 50), (2, 75)]);
    }

    #[test]
    fn a_task_that_is_ahead_does_not_settle_a_bid() {
        let mut harness = Harness::new(averages);
        ends(&mut harness, 1, 40, 35, 10);
        ends(&mut harness, 2, 90, 85, 30);
        harness.watermark(Timestamp(50));
        assert_eq!(told(&mut harness), [(1, 10)]);
        // It began before the bid, and comes from a task that is behind.
        begins(&mut harness, 3, 60);
        harness.watermark(Timestamp(95));
        assert_eq!(told(&mut harness), []);
        ends(&mut harness, 3, 99, 80, 20);
        harness.watermark(Timestamp(99));
        assert_eq!(told(&mut harness), [(3, 15), (2, 20)]);
    }

    #[test]
    fn eleven_bids_count() {
        let mut harness = Harness::new(averages);
        for auction in 0..12 {
            ends(&mut harness, auction, 100 + auction, auction, auction * 11);
        }
        harness.watermark(Timestamp(1_000));
        let all = told(&mut harness);
        assert_eq!(all.get(10..), Some(&[(10, 55), (11, 66)][..]));
    }
}
