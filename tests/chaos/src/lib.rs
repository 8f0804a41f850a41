//! The crash matrix: real jobs, killed at every named point and started again, must write what an undisturbed run writes.
//!
//! Needs: the binary `pelton-chaos`, the component `chaos.wasm`. Invariant: a point at which a run should have died, and
//! did not, fails the matrix, as a lost, doubled or displaced row does. Refuses: to look inside a run; it is a process, and
//! what it leaves on the disk.

pub mod case;
pub mod faults;
pub mod jobs;
pub mod matrix;
pub mod output;
pub mod pool;
pub mod run;
pub mod table;
