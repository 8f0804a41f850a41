//! The one room that knows all others: settings, the command line, and how the rooms are plugged together.
//! Needs: every crate of the host. Refuses: rules of its own about data, state or time; those live below.

#[cfg(feature = "bench")]
mod bench;
mod build;
mod case;
pub mod checkpoint;
mod cli;
mod console;
mod embedded;
mod explain;
mod live;
pub mod local;
mod metrics;
mod process;
mod report;
mod settings;
mod signal;
pub mod state;
mod summary;
mod supervise;
mod wire_up;

pub use cli::{main, main_with};
