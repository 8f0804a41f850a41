//! q18: the latest bid of each bidder on each auction. It changes as bids come.

use pelton::prelude::*;

use crate::events::{Bid, Event};

/// Builds the query. Of bids at the same time the one that came last is the latest.
pub fn q18(events: Stream<Event>) -> Stream<Bid> {
    events
        .only::<Bid>("bids", Event::BID)
        .key_by((Bid::AUCTION, Bid::BIDDER))
        .deduplicate("latest", Keep::Latest)
}
