//! Functions without state.

use pelton::prelude::*;

use crate::Bid;

#[derive(Record)]
struct PriceExtra {
    price: i64,
    extra: String,
}

#[derive(Record, Debug, PartialEq)]
pub(crate) struct Converted {
    auction: i64,
    bidder: i64,
    euro: i64,
    c: i32,
}

#[derive(Record)]
struct Made {
    euro: i64,
    c: i32,
}

#[derive(Record)]
struct Euro {
    euro: i64,
}

/// A price in euros, and how many letters c there are; then a range of prices.
pub(crate) fn map_filter(bids: Stream<Bid>) -> Stream<Converted> {
    bids.view::<PriceExtra>()
        .with::<Converted, Made>("convert", |bid| Made {
            euro: bid.price * 908 / 1_000,
            c: count(bid.extra, b'c'),
        })
        .view::<Euro>()
        .filter("keep", |row| row.euro > 1_000_000 && row.euro < 50_000_000)
        .whole()
}

/// How often a byte stands in a text.
fn count(text: &str, byte: u8) -> i32 {
    // Sums of at most 255 ones fit in a byte each, so that the processor adds sixteen at a time.
    let parts = text.as_bytes().chunks(255);
    parts
        .map(|part| i32::from(part.iter().map(|b| u8::from(*b == byte)).sum::<u8>()))
        .sum()
}

#[derive(Record)]
struct Three {
    auction: i64,
    bidder: i64,
    price: i64,
}

#[derive(Record, Debug, PartialEq)]
pub(crate) struct Sum {
    sum: i64,
}

/// Three numbers in, one out: what it costs to cross the boundary.
pub(crate) fn boundary(bids: Stream<Bid>) -> Stream<Sum> {
    bids.view::<Three>().map("sum", |row| Sum {
        sum: row.auction.wrapping_add(row.bidder).wrapping_add(row.price),
    })
}

#[derive(Record)]
struct Four {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
}

#[derive(Record, Debug, PartialEq)]
pub(crate) struct Tagged {
    bid: i64,
    euro: i64,
    is_hot: bool,
    channel: String,
}

/// A record of four fields, one of them text, through a filter and a function that makes all fields anew.
pub(crate) fn filter_map(bids: Stream<Bid>) -> Stream<Tagged> {
    bids.view::<Four>()
        .filter("above", |bid| bid.price > 10_000)
        .map_into::<Tagged>("tag", |bid, tagged| {
            tagged.fill(TaggedRef {
                bid: bid.auction ^ bid.bidder,
                euro: bid.price * 908 / 1_000,
                is_hot: bid.auction % 100 == 0,
                channel: bid.channel,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::Harness;

    fn bid(price: i64) -> Bid {
        Bid {
            auction: 200,
            bidder: 3,
            price,
            channel: "Baidu".into(),
            extra: "coc".into(),
            ..Bid::default()
        }
    }

    #[test]
    fn prices_are_converted_and_kept_within_a_range() {
        let mut harness = Harness::new(map_filter);
        for price in [1_101_322, 1_101_323, 55_066_079, 55_066_080] {
            harness.push(bid(price));
        }
        let kept = |euro| Converted {
            auction: 200,
            bidder: 3,
            euro,
            c: 2,
        };
        assert_eq!(harness.take(), [kept(1_000_001), kept(49_999_999)]);
    }

    #[test]
    fn three_numbers_are_one() {
        let mut harness = Harness::new(boundary);
        harness.push(bid(5));
        assert_eq!(harness.take(), [Sum { sum: 208 }]);
    }

    #[test]
    fn all_fields_are_made_anew() {
        let mut harness = Harness::new(filter_map);
        harness.push(bid(10_000));
        harness.push(bid(20_000));
        assert_eq!(
            harness.take(),
            [Tagged {
                bid: 203,
                euro: 18_160,
                is_hot: true,
                channel: "Baidu".into()
            }]
        );
    }
}
