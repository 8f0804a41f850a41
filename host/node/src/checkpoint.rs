//! Checkpoints of a job in this process: what is decided stands in [`folder`], what tasks write goes there by [`upload`],
//! and [`driver`] carries out what the coordinator in `control` says.
//! Needs: model's formats and its trait of stores; control's coordinator. Refuses: knowledge of what is in the state.

pub(crate) mod driver;
pub mod folder;
pub(crate) mod io;
pub mod points;
pub(crate) mod savepoint;
pub(crate) mod upload;
