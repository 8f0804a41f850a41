//! The auctions with the most bids of the last ten seconds, said whenever they change.

use std::fmt::Write as _;

use pelton::prelude::*;

mod board;

use board::{Board, Item};

/// An event of the auction site, as far as it is read.
#[derive(Record)]
struct Event {
    ts: Timestamp,
    /// Null for events that are no bids.
    bid: Option<Bid>,
}

/// Somebody bids.
#[derive(Record)]
struct Bid {
    auction: i64,
}

/// The bids on an auction in the ten seconds before `end`.
#[derive(Record)]
struct Counted {
    auction: i64,
    bids: i64,
    end: Timestamp,
}

/// What is printed.
#[derive(Record)]
struct Line {
    line: String,
}

/// Event time from one generated event to the next: half a million events a second.
const STEP_US: i64 = 2;

/// Counts the bids of `events` generated events, or of the file `input`.
#[pelton::job]
pub fn hot_items(job: &mut Job, params: &Params) -> Result<()> {
    let counts = job
        .source::<Event>("events", source(params)?)
        .assign_timestamps_by(bounded(seconds(2)), Event::TS)
        .only::<Bid>("bids", Event::BID)
        .key_by(Bid::AUCTION)
        .window(sliding(seconds(10), seconds(1)))
        .columns::<Counted>("count", |w| {
            w.key(Counted::AUCTION);
            w.count(Counted::BIDS);
            w.end(Counted::END);
        });
    hottest(counts).sink("print", print());
    Ok(())
}

fn hottest(counts: Stream<Counted>) -> Stream<Line> {
    counts
        // Of the counts of a task and window, only its own best can be the best of all.
        .filter_with("may be hot", |_| {
            let best = board::Best::default();
            move |row| {
                best.admits(
                    row.end,
                    Item {
                        auction: row.auction,
                        bids: row.bids,
                    },
                )
            }
        })
        .key_by_fn("all together", |_| 0_i64)
        .process("hottest", Hottest::new)
}

fn source(params: &Params) -> Result<Connector> {
    let rate = params.get("rate");
    let events = params.get_or("events", 10_000_000_u64)?;
    match params.get("input").filter(|input| *input != "generator") {
        None => {
            let generator = generator::nexmark(events).option("step_us", STEP_US);
            Ok(rate
                .into_iter()
                .fold(generator, |g, rate| g.option("rate", rate)))
        }
        Some(_) if rate.is_some() => Err(Error::new(
            "parameter 'rate' is for generated events, not for a file: leave it out",
        )),
        Some(path) => Ok(files::json(path)),
    }
}

/// Waits for the end of each window, and speaks if the hottest items are others than before.
struct Hottest {
    board: ValueState<Board>,
}

impl Hottest {
    fn new(states: &mut States) -> Self {
        Self {
            board: states.value("board"),
        }
    }
}

impl KeyedProcess for Hottest {
    type Key = i64;
    type In = Counted;
    type Out = Line;

    fn process(&self, _: i64, row: CountedRef<'_>, cx: &mut Ctx, _: &mut Out<Line>) {
        let mut board = self.board.get().unwrap_or_default();
        if board.add(
            row.end,
            Item {
                auction: row.auction,
                bids: row.bids,
            },
        ) {
            // Counts have the time of their window's last millisecond: with that, all are here.
            cx.set_timer(row.end - millis(1));
        }
        self.board.set(board);
    }

    fn on_timer(&self, _: i64, time: Timestamp, _: &mut Ctx, out: &mut Out<Line>) {
        let mut board = self.board.get().unwrap_or_default();
        let end = time + millis(1);
        if let Some(items) = board.close(end) {
            out.emit(LineRef {
                line: &line(end, &items),
            });
        }
        self.board.set(board);
    }
}

/// `06:00:10  298200 (851 bids)  136200 (848 bids)  59400 (843 bids)`
fn line(end: Timestamp, items: &[Item]) -> String {
    let second = end.millis().div_euclid(1_000).rem_euclid(86_400);
    let mut line = format!(
        "{:02}:{:02}:{:02}",
        second / 3_600,
        second / 60 % 60,
        second % 60
    );
    for item in items {
        let _ = write!(line, "  {} ({} bids)", item.auction, item.bids);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::Harness;

    #[test]
    fn the_hottest_are_said_when_they_change() {
        let mut harness = Harness::new(hottest);
        for (second, auction, bids) in [(11, 1, 5), (10, 1, 5), (10, 2, 9), (11, 2, 6), (12, 3, 1)]
        {
            let end = Timestamp(second * 1_000);
            harness.push_at(end - millis(1), Counted { auction, bids, end });
        }
        harness.watermark(Timestamp(9_998));
        assert_eq!(harness.take().len(), 0);
        harness.watermark(Timestamp(20_000));
        let lines: Vec<_> = harness.take().into_iter().map(|l| l.line).collect();
        assert_eq!(
            lines,
            ["00:00:10  2 (9 bids)  1 (5 bids)", "00:00:12  3 (1 bids)"]
        );
    }

    #[test]
    fn a_line_says_when_and_what() {
        let items = [
            Item {
                auction: 1_200,
                bids: 767,
            },
            Item {
                auction: 7,
                bids: 1,
            },
        ];
        assert_eq!(
            line(Timestamp(1_709_964_010_000), &items),
            "06:00:10  1200 (767 bids)  7 (1 bids)"
        );
        assert_eq!(line(Timestamp(-1_000), &[]), "23:59:59");
    }
}
