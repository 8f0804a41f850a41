//! One instance of a component behind its limits: memory, CPU time, output, log. What goes in and out of it.
//! Needs: wasmtime's store, convert, host. Invariant: after a trap the instance is dead and says so to every call.
//!
//! Calls run on the caller's thread and use at most a mebibyte of its stack for the guest's frames: the caller needs
//! 2 MiB or more.
//!
//! Inside: limits (what is counted), guest (the store and its exports), call (one call's arguments and answer),
//! trap (why a call stopped), task (the instance as the engine sees it).

pub(crate) mod call;
pub(crate) mod guest;
pub(crate) mod limits;
pub(crate) mod task;
pub(crate) mod trap;
