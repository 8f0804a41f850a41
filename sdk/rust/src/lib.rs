//! Pelton's guest SDK: a stream-processing job in Rust, compiled to one Wasm component.
//!
//! ```
//! use pelton::prelude::*;
//!
//! #[derive(Record)]
//! struct Line { text: String }
//!
//! #[derive(Record)]
//! struct Word { word: String, n: i64 }
//!
//! #[pelton::job]
//! fn word_count(job: &mut Job, params: &Params) -> Result<()> {
//!     job.source::<Line>("lines", files::lines(params.require("input")?))
//!         .flat_map("split", |line: LineRef, out: &mut Out<Word>| {
//!             for word in line.text.split_whitespace() {
//!                 out.emit(WordRef { word, n: 1 });
//!             }
//!         })
//!         .key_by(Word::WORD)
//!         .reduce("count", |so_far, word| Word { word: word.word.to_owned(), n: so_far.n + word.n })
//!         .sink("print", print());
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! The job function only says what the dataflow is; the host runs sources, sinks, windows, timers and state, and calls
//! the closures with columns of whole batches. Closures are `Fn`: what must be remembered is state.

extern crate self as pelton;

#[cfg(target_family = "wasm")]
mod alloc;
mod arithmetic;
#[doc(hidden)]
pub mod bindings;
mod column;
mod connectors;
mod digest;
mod draft;
mod error;
mod function;
mod gather;
mod host;
mod job;
mod key;
pub mod log;
mod metrics;
mod params;
mod place;
pub mod record;
pub mod runtime;
mod state;
mod stream;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;
pub mod unique;
#[doc(hidden)]
pub mod value;
mod window;
pub mod windows;

pub use arithmetic::{Number, Ordered};
pub use connectors::{Connector, blackhole, files, generator, print};
pub use error::{Error, Result};
pub use function::aggregate::{Aggregate, Window};
pub use function::keyed::Ctx;
pub use function::transform::{Filled, Slot};
pub use function::watermark::{WatermarkGenerator, WatermarkOut};
pub use function::{Columns, Open, Out, RowKind, SideTag};
pub use job::{Job, Sink};
pub use key::{Key, KeyFields, KeyValue};
pub use metrics::{Counter, Gauge};
pub use params::Params;
pub use pelton_macros::{Record, job};
pub use record::{Emit, Field, Nested, Record, RefOf};
pub use state::{
    AggregatingState, BroadcastCtx, BroadcastState, ListItems, ListMapState, ListState, MapState,
    OperatorListState, ReducingState, States, Ttl, ValueState,
};
pub use stream::{
    BroadcastProcess, BroadcastStreams, Changes, CoProcess, ConnectedStreams, IntervalJoin,
    JoinCtx, Keep, KeyedProcess, KeyedStream, KeyedTable, Order, Process, Stream, TableAggregate,
    WatermarkStrategy, asc, bounded, desc, generated, monotonous,
};
pub use time::{Date, Decimal, Duration, Timestamp, days, hours, millis, minutes, seconds};
pub use unique::UniqueSketch;
pub use value::{ListRef, Schema};
pub use window::{WindowColumns, WindowedStream, Windows, session, sliding, tumbling};

/// What a job needs, by one `use`.
pub mod prelude {
    pub use crate::{
        Aggregate, AggregatingState, BroadcastCtx, BroadcastProcess, BroadcastState, Changes,
        CoProcess, Columns, Connector, Counter, Ctx, Date, Decimal, Duration, Error, Field, Gauge,
        Job, Keep, KeyedProcess, KeyedStream, ListMapState, ListRef, ListState, MapState, Open,
        OperatorListState, Out, Params, Process, Record, ReducingState, RefOf, Result, RowKind,
        SideTag, Slot, States, Stream, TableAggregate, Timestamp, Ttl, ValueState, Window, asc,
        blackhole, bounded, days, desc, files, generated, generator, hours, log, millis, minutes,
        monotonous, print, seconds, session, sliding, tumbling, windows,
    };
}

#[cfg(test)]
mod tests;
