//! Users' functions in WebAssembly: compiled, sandboxed, metered, and seen by the engine as [`Functions`].
//! Needs: engine, model. The only crate with wasmtime. Invariant: nothing a guest returns is trusted.
//!
//! Inside: admit (what is refused unseen) <- runtime (engine, pool, cache) <- component (describe, instances)
//! <- sandbox (one instance and its calls) <- convert (columns both ways), host (what guests can call), graph, blame.
//!
//! [`Functions`]: pelton_engine::function::Functions

mod admit;
mod blame;
mod component;
mod convert;
mod graph;
mod host;
mod runtime;
mod sandbox;

pub use admit::{CONTRACT_VERSION, admit};
pub use component::{Component, Described, check_params};
pub use host::log::{LINE_BYTES_MAX, LogLevel, LogSink, NoLog};
pub use host::metrics::{METRIC_NAME_BYTES_MAX, METRICS_MAX};
pub use runtime::{GUEST_STACK_BYTES, Runtime, RuntimeSettings};
pub use sandbox::task::TaskContext;

#[cfg(test)]
mod tests;
