//! q11: each bidder's sessions, which end ten seconds after the last bid. The host's work alone.

use pelton::prelude::*;

use crate::events::Event;

#[derive(Record)]
struct Bidder {
    bidder: i64,
}

/// The bids of a session, or of another window.
#[derive(Record, Debug, PartialEq)]
pub struct Bids {
    pub bidder: i64,
    pub bid_count: i64,
    pub starttime: Timestamp,
    pub endtime: Timestamp,
}

/// Builds the query.
pub fn q11(events: Stream<Event>) -> Stream<Bids> {
    events
        .only::<Bidder>("bids", Event::BID)
        .key_by(Bidder::BIDDER)
        .window(session(seconds(10)))
        .columns::<Bids>("count", |w| {
            w.key(Bids::BIDDER);
            w.count(Bids::BID_COUNT);
            w.start(Bids::STARTTIME);
            w.end(Bids::ENDTIME);
        })
}
