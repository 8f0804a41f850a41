//! The data plane: operators, state, timers, windows, shuffle and the task that drives them.
//! Needs: `model`. Refuses: async, clocks, threads, and every heavy technology; those reach it as traits.
//!
//! Inside: snapshot <- state <- timer <- operator <- operators/*, chain <- in_flight <- task; align, shuffle, connector <- task.

pub mod align;
pub mod build;
pub mod chain;
pub mod connector;
pub mod function;
pub mod in_flight;
pub mod operator;
pub mod operators;
pub mod shuffle;
pub mod snapshot;
pub mod splits;
pub mod state;
pub mod task;
pub mod timer;
