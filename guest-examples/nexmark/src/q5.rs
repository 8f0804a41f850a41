//! q5: in each window of ten seconds, sliding by two, the auctions with the most bids.
//!
//! The host counts. Its results, one for each auction and window, pass a filter on the spot, that few of them pass, and
//! meet again by window.

use pelton::prelude::*;

use crate::best::Best;
use crate::events::Event;

const SIZE: Duration = seconds(10);
const SLIDE: Duration = seconds(2);

#[derive(Record)]
struct AuctionId {
    auction: i64,
}

/// The bids on an auction in a window.
#[derive(Record, Clone, Debug, PartialEq)]
pub struct Counted {
    auction: i64,
    num: i64,
    starttime: Timestamp,
    endtime: Timestamp,
}

#[derive(Record)]
struct NumStart {
    num: i64,
    starttime: Timestamp,
}

/// The leaders of a window so far.
#[derive(Record, Default)]
struct Leaders {
    num: i64,
    auctions: Vec<i64>,
}

impl Leaders {
    /// Takes a count into account that is at least theirs.
    fn add(&mut self, auction: i64, num: i64) {
        if num > self.num {
            self.num = num;
            self.auctions.clear();
        }
        self.auctions.push(auction);
    }
}

/// Builds the query.
pub fn q5(events: Stream<Event>) -> Stream<Counted> {
    leaders(counts(events))
}

/// The bids on each auction in each window: the host's work alone.
fn counts(events: Stream<Event>) -> Stream<Counted> {
    events
        .only::<AuctionId>("bids", Event::BID)
        .key_by(AuctionId::AUCTION)
        .window(sliding(SIZE, SLIDE))
        .columns::<Counted>("count", |w| {
            w.key(Counted::AUCTION);
            w.count(Counted::NUM);
            w.start(Counted::STARTTIME);
            w.end(Counted::ENDTIME);
        })
}

fn leaders(counts: Stream<Counted>) -> Stream<Counted> {
    counts
        .view::<NumStart>()
        .filter_with("may lead", |_| {
            let best = Best::new(SLIDE.millis());
            move |row| best.admits(row.starttime.millis(), row.num)
        })
        .whole()
        .key_by(Counted::STARTTIME)
        .process("leaders", Top::new)
}

/// Holds the leaders of each window until it is over.
struct Top {
    leaders: ValueState<Leaders>,
}

impl Top {
    fn new(states: &mut States) -> Self {
        Self {
            leaders: states.value("leaders"),
        }
    }
}

impl KeyedProcess for Top {
    type Key = Timestamp;
    type In = Counted;
    type Out = Counted;

    fn process(&self, start: Timestamp, row: CountedRef<'_>, cx: &mut Ctx, _: &mut Out<Counted>) {
        let known = self.leaders.with(|l| l.map(|l| l.num));
        if known.is_none() {
            // The counts of a window have the time of its last millisecond: with that, all are here.
            cx.set_timer(start + SIZE - millis(1));
        }
        if known.is_none_or(|num| row.num >= num) {
            let mut leaders = self.leaders.get().unwrap_or_default();
            leaders.add(row.auction, row.num);
            self.leaders.set(leaders);
        }
    }

    fn on_timer(&self, start: Timestamp, _: Timestamp, _: &mut Ctx, out: &mut Out<Counted>) {
        let leaders = self.leaders.get().unwrap_or_default();
        for auction in leaders.auctions {
            out.emit(Counted {
                auction,
                num: leaders.num,
                starttime: start,
                endtime: start + SIZE,
            });
        }
        self.leaders.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::Harness;

    fn count(auction: i64, num: i64, start: i64) -> Counted {
        Counted {
            auction,
            num,
            starttime: Timestamp(start),
            endtime: Timestamp(start) + SIZE,
        }
    }

    #[test]
    fn the_leaders_are_known_when_the_window_is_over() {
        let mut harness = Harness::new(leaders);
        for row in [
            count(1, 2, 0),
            count(9, 8, 2_000),
            count(2, 3, 0),
            count(3, 1, 0),
            count(4, 3, 0),
        ] {
            harness.push_at(row.endtime - millis(1), row);
        }
        harness.watermark(Timestamp(9_998));
        assert_eq!(harness.take(), []);
        harness.watermark(Timestamp(9_999));
        let time = Some(Timestamp(9_999));
        assert_eq!(
            harness.take_timed(),
            [(time, count(2, 3, 0)), (time, count(4, 3, 0))]
        );
        harness.watermark(Timestamp(11_999));
        assert_eq!(harness.take(), [count(9, 8, 2_000)]);
        assert!(harness.timers().is_empty());
        assert!(
            harness
                .state::<Leaders, _>("leaders", &Timestamp(0))
                .is_none(),
            "nothing is left behind"
        );
    }
}
