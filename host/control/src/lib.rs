//! The control plane: pure state machines. Decides what runs where; never does IO, never reads a clock.
//! Needs: `model`. Never sees `engine`: the two meet only as values of `model::protocol`.

pub mod checkpoint;
pub mod execution;
pub mod failover;
pub mod upgrade;
