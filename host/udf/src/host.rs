//! What a guest can call: one file for each interface of `wit/` that a component may import.
//! Needs: wasmtime's linker. Refuses: clocks, randomness, files, sockets.

pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod state;

use wasmtime::component::Linker;

use crate::sandbox::guest::State;

/// The interfaces that a component may import. `types` has no functions.
pub(crate) const GRANTED: [&str; 4] = ["log", "metrics", "state", "types"];

/// Links all of them, once for all instances.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    log::link(linker)?;
    metrics::link(linker)?;
    state::link(linker)
}
