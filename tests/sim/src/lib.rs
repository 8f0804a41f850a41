//! A job, its checkpoints and its crashes in one thread, from one seed.
//!
//! Needs: the real coordinator and the real tasks. Simulated are the clock, the order in which things happen, the object
//! store, the sinks, and all that goes wrong. Invariant: the same seed gives the same trace. Refuses: files, threads, the
//! machine's clock.
//!
//! A seed decides on the job, the faults and their rates, the settings of checkpoints, and every delay. After some steps
//! the faults stop; then the job has to end, and what its sinks show has to be what they show without any fault.

pub mod chance;
pub mod compare;
pub mod connectors;
pub mod functions;
pub mod jobs;
pub mod message;
pub mod plan;
pub mod process;
pub mod run;
pub mod saved;
pub mod sim;
pub mod world;
