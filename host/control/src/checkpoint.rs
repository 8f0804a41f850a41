//! When checkpoints and savepoints begin, when they are complete, and what may be deleted after them.
//! Needs: model. Refuses: IO, clocks, chance; a driver carries out what [`Coordinator::step`] says and reports back.
//! Before that, [`Starting`] takes the term, likewise.
//!
//! A checkpoint's life: *triggered* at the sources that still run; *acknowledged* by each task, with what it has stored
//! (a task that has ended counts with its last record); *put* into the log, one at a time, create-only; with that it is
//! *complete*: all earlier ones that are under way are given up, sinks *commit* what it has, tasks hear of it, and the
//! oldest beyond those that are kept are deleted. What is uncertain is kept: a put that nobody knows the end of keeps its
//! objects until another entry stands under its number. (A put that arrives after even that entry was deleted leaves one
//! whose objects are gone. It is never the newest, and goes with the oldest of the next start.)

mod coordinator;
mod files;
mod log;
mod message;
mod pending;
mod settings;
mod start;

pub use coordinator::Coordinator;
pub use files::{shared_identity, shared_name};
pub use log::{Contents, Log};
pub use message::{Action, Completed, Ending, Event, Started, StartedTask, StoreOutcome};
pub use settings::{CheckpointSettings, Retention};
pub use start::{Asked, StartAction, StartEvent, Starting, Term};

#[cfg(test)]
mod tests;
