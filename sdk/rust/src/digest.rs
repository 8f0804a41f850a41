//! A digest of a job graph: each instance of a job must arrive at the same one.

use std::fmt::Write;

use crate::bindings::exports::pelton::job::graph::JobGraph;

/// FNV-1a with 64 bits over the graph's debug text, without its digest.
pub(crate) fn digest(graph: &JobGraph) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    // Writing into a hash cannot fail.
    let _ = write!(
        hash,
        "{:?}{:?}{:?}{:?}",
        graph.name, graph.operators, graph.edges, graph.params
    );
    hash.0
}

struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
