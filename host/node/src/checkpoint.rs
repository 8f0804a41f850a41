//! Checkpoints of a job in this process: what is decided stands in [`folder`], what tasks write goes there by [`upload`],
//! and [`driver`] carries out what the coordinator in `control` says.
//! Needs: model's formats and its trait of stores; control's coordinator. Refuses: knowledge of what is in the state.

pub(crate) mod door;
pub(crate) mod driver;
pub mod folder;
pub(crate) mod io;
pub(crate) mod json;
pub mod points;
pub(crate) mod read;
pub(crate) mod saved;
pub(crate) mod savepoint;
pub(crate) mod show;
pub(crate) mod takeover;
pub(crate) mod upload;
