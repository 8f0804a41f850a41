//! General windows: any assigner, trigger, evictor and function, in the guest, over keyed state and timers.
//!
//! They follow Flink's window operator, a row and a timer at a time. What the host does itself (event-time windows with
//! their own trigger and an aggregate) is cheaper: [`WindowedStream`](crate::WindowedStream) comes here only for what the
//! host has not. Of a key's windows the host keeps what the trigger, the accumulator and the function remember, and the
//! windows' timers; rows are kept where the function or an evictor needs them all, in a list for each window.
//!
//! ```
//! use pelton::prelude::*;
//! use pelton::windows::{continuous, keep_last};
//!
//! #[derive(Record)]
//! struct Bid { item: i64, cents: i64 }
//!
//! /// Of each item and hour, every ten seconds, what the last hundred bids come to.
//! fn recent(bids: Stream<Bid>) -> Stream<Bid> {
//!     bids.key_by(Bid::ITEM)
//!         .window(tumbling(hours(1)))
//!         .trigger(continuous(seconds(10)))
//!         .evictor(keep_last(100))
//!         .process_with("recent", |item, _window, rows, _cx, out: &mut Out<Bid>| {
//!             out.emit(BidRef { item, cents: rows.iter().map(|bid| bid.cents).sum() });
//!         })
//! }
//! # fn main() {}
//! ```
//!
//! Needs: keyed state, timers. Refuses, before the job runs: sizes that cannot be; triggers, aggregates and per-window
//! state that cannot stand over windows that merge.

use crate::function::aggregate::Window;
use crate::time::Timestamp;

mod assigner;
mod core;
mod evictor;
mod function;
mod join;
mod logic;
mod merging;
mod record;
mod stream;
mod timers;
mod trigger;

pub use assigner::{
    DynamicSession, Global, ProcessingTime, WindowAssigner, by_clock, dynamic_session, global,
};
pub use evictor::{
    After, CountEvictor, DeltaEvictor, Evictor, EvictorCtx, TimeEvictor, afterwards, keep_last,
    keep_near, keep_time,
};
pub use function::{ProcessWindow, Rows, WindowCtx};
pub use join::{CoGrouped, Joined};
pub use merging::{Merge, merge_touching};
pub use record::{Element, Tagged, TaggedRef};
pub use stream::GeneralWindowedStream;
pub use trigger::{
    ContinuousClockTrigger, ContinuousTrigger, CountTrigger, DefaultTrigger, DeltaTrigger,
    EventTimeTrigger, Merged, NeverTrigger, ProcessingTimeTrigger, Purging, Trigger, TriggerCtx,
    TriggerResult, continuous, continuous_by_clock, delta, every, never, purging,
};

impl Window {
    /// The window of all rows of a key, which never ends.
    pub const GLOBAL: Self = Self {
        start: Timestamp(i64::MIN),
        end: Timestamp(i64::MAX),
    };

    /// Whether it is the window of all rows.
    #[must_use]
    pub fn is_global(self) -> bool {
        self == Self::GLOBAL
    }

    /// The last time that belongs to it: the event time of its results.
    #[must_use]
    pub fn max_timestamp(self) -> Timestamp {
        if self.is_global() {
            self.end
        } else {
            Timestamp(self.end.0.saturating_sub(1))
        }
    }
}

#[cfg(test)]
mod tests;
