//! q17: for each auction and day, its bids by rank of price, and the least, greatest, average and sum of prices. It changes
//! as bids come.

use pelton::prelude::*;

use crate::changes::tell;
use crate::counts::{Marks, Ranked, rank};
use crate::events::Event;
use crate::text;

#[derive(Record)]
struct Bid {
    auction: i64,
    price: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

#[derive(Record)]
struct Time {
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

#[derive(Record)]
struct Dated {
    auction: i64,
    price: i64,
    day: i64,
}

#[derive(Record)]
struct Day {
    day: i64,
}

/// The prices of a day.
#[derive(Record, Clone, Copy)]
struct Prices {
    bids: Ranked,
    min: i64,
    max: i64,
    sum: i64,
}

#[derive(Record, Debug, PartialEq)]
pub struct AuctionDay {
    auction: i64,
    day: String,
    total_bids: i64,
    rank1_bids: i64,
    rank2_bids: i64,
    rank3_bids: i64,
    min_price: i64,
    max_price: i64,
    avg_price: i64,
    sum_price: i64,
}

/// Builds the query.
pub fn q17(events: Stream<Event>) -> Stream<AuctionDay> {
    events
        .only::<Bid>("bids", Event::BID)
        .view::<Time>()
        .with::<Dated, Day>("day", |bid| Day {
            day: text::day_of(bid.date_time),
        })
        .key_by((Dated::AUCTION, Dated::DAY))
        .process("prices", |states| PricesOfDay {
            prices: states.value("prices"),
        })
}

struct PricesOfDay {
    prices: ValueState<Prices>,
}

impl KeyedProcess for PricesOfDay {
    type In = Dated;
    type Key = (i64, i64);
    type Out = AuctionDay;
    const TIMERS: bool = false;

    fn process(
        &self,
        (auction, day): (i64, i64),
        bid: DatedRef<'_>,
        cx: &mut Ctx,
        out: &mut Out<AuctionDay>,
    ) {
        let price = bid.price;
        let former = self.prices.get();
        let mut now = former.unwrap_or(Prices {
            bids: Ranked::default(),
            min: price,
            max: price,
            sum: 0,
        });
        now.bids.add(Marks::of(rank(price)));
        now.min = now.min.min(price);
        now.max = now.max.max(price);
        now.sum += price;
        self.prices.set(now);
        let day = text::date(day);
        tell(former.as_ref(), &now, cx, out, |prices| {
            row(auction, day.as_str(), prices)
        });
    }

    fn on_timer(
        &self,
        (auction, day): (i64, i64),
        _: Timestamp,
        _: &mut Ctx,
        out: &mut Out<AuctionDay>,
    ) {
        if let Some(prices) = self.prices.get() {
            out.emit(row(auction, text::date(day).as_str(), &prices));
        }
    }
}

fn row<'a>(auction: i64, day: &'a str, prices: &Prices) -> AuctionDayRef<'a> {
    let Prices {
        bids,
        min,
        max,
        sum,
    } = prices;
    AuctionDayRef {
        auction,
        day,
        total_bids: bids.total,
        rank1_bids: bids.rank1,
        rank2_bids: bids.rank2,
        rank3_bids: bids.rank3,
        min_price: *min,
        max_price: *max,
        avg_price: sum / bids.total.max(1),
        sum_price: *sum,
    }
}
